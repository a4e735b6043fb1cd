"""Reviewed data whose errors are known: arrays, and data sets."""

from __future__ import annotations

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value

from act_hf.records import add_record
from act_hf.sampling import read_waves, sample
from act_hf.task import Task


KINDS = ("good", "useless", "adversarial")
LEAN = {"good": 2.5, "useless": 0.0, "adversarial": -2.5}
LABEL = ClassLabel(names=["right", "other"])


def population(kind: str, rows: int, rate: float, seed) -> tuple[np.ndarray, np.ndarray]:
    """A critic of AUROC 0.96, 0.5 or 0.04, not calibrated, and the errors."""
    rng = np.random.default_rng(seed)
    errors = rng.random(rows) < rate
    return 1 / (1 + np.exp(1.5 - rng.normal(size=rows) - LEAN[kind] * errors)), errors


def criticized(kind: str, rows: int, rate: float, seed: int = 0, *, failed: int = 0) -> Dataset:
    """The machine says `right` everywhere; the first rows have no error probability where some failed."""
    eps, errors = population(kind, rows, rate, seed)
    values = [None if row < failed else float(value) for row, value in enumerate(eps.astype(np.float32))]
    features = Features({"act_label": LABEL, "gold": LABEL, "act_error_prob": Value("float32"), "act_human": LABEL})
    columns = {"act_label": [0] * rows, "gold": errors.astype(int).tolist(), "act_human": [None] * rows}
    return Dataset.from_dict({**columns, "act_error_prob": values}, features=features)


def answered(dataset: Dataset, *, but: int = 0) -> Dataset:
    """With the true label of every row drawn, but for some of the last wave."""
    waves = read_waves(dataset)
    last = np.flatnonzero(waves.drawn == waves.count)
    known = waves.selected.copy()
    known[last[last.size - but :]] = False
    human = [gold if row_known else None for row_known, gold in zip(known, dataset["gold"][:], strict=True)]
    return dataset.remove_columns("act_human").add_column("act_human", human, feature=LABEL)


def audited(kind: str = "good", rows: int = 2000, rate: float = 0.2, *, budget: int = 300, failed: int = 0) -> Dataset:
    """Reviewed in a uniform audit."""
    dataset = criticized(kind, rows, rate, failed=failed)
    return answered(sample(dataset, budget=budget, mix=1.0, failures="skip"))


def accuracy(dataset: Dataset) -> float:
    """Share of the rows whose label is right, the human one where there is one."""
    table = zip(dataset["act_human"][:], dataset["act_label"][:], dataset["gold"][:], strict=True)
    return float(np.mean([(label if human is None else human) == gold for human, label, gold in table]))


TASK = Task(labels=("right", "other"), text="text")


def reviewed(*, rows: int = 400, budget: int = 60, but: int = 0, mix: float = 0.3, seed: int = 0) -> Dataset:
    """Rows with texts as people leave them: all but some of the rows drawn are answered."""
    dataset = criticized("good", rows, 0.3, seed=seed)
    texts = [f"row {number}" for number in range(rows)]
    dataset = dataset.add_column("text", texts).add_column("act_id", [TASK.row_id({"text": text}) for text in texts])
    drawn = sample(add_record(dataset, "annotate", task=TASK.to_dict()), budget=budget, mix=mix, seed=seed)
    return answered(drawn, but=but)
