"""A set ready for its cells: what the critic says, and the data set as annotate and criticize would have left it."""

from dataclasses import dataclass

import numpy as np
from datasets import ClassLabel, Dataset, Features, List, Value
from paper.data import Source
from paper.features import Cache
from paper.protocol import Protocol, Rows
from paper.training import out_of_fold

from act_hf import Task
from act_hf.columns import ERROR_PROB
from act_hf.critics.fusion import fused
from act_hf.critics.panel import VOTE
from act_hf.records import add_record


OUT_OF_FOLD, FUSED = "out of fold", "fused"


@dataclass(frozen=True)
class Problem:
    """A set, the error probabilities of each critic by name, and `probs` `[N, K]`, the out-of-fold network's."""

    protocol: Protocol
    rows: Rows
    critics: dict[str, np.ndarray]
    probs: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        return self.rows.machine != self.rows.gold

    def budget(self, share: float) -> int:
        return round(share * len(self.rows.gold))


def prepared(protocol: Protocol, source: Source, cache: Cache) -> Problem:
    rows = protocol.load(source, cache).labelled().unseen()
    size = len(rows.gold)
    probs = cache.array(
        f"{protocol.name}-out-of-fold-{protocol.version()}{source.cut}",
        lambda: out_of_fold(rows.inputs, rows.machine, rows.classes, protocol.recipe),
    )
    critics = {**rows.signals, OUT_OF_FOLD: 1 - probs[np.arange(size), rows.machine]}
    joined = np.array([critics[name] for name in (*protocol.fused, OUT_OF_FOLD)])
    return Problem(protocol, rows, {**critics, FUSED: np.clip(fused(joined), 0, 1)}, probs)


def criticized(problem: Problem, error_probs: np.ndarray, *, details: bool = False) -> Dataset:
    """
    The pool with its labels and error probabilities; `details` adds what an error model learns from: each critic's own
    column beside the fused one, as `fuse` leaves them, the votes of a panel, and vectors.
    """
    rows = problem.rows
    names = [str(k) for k in range(rows.classes)]
    label, text = ClassLabel(names=names), Value("string")
    texts = rows.texts or [""] * len(rows.gold)
    values = {
        "act_id": [str(row) for row in range(len(rows.gold))],
        "gold": rows.gold.tolist(),
        "act_label": rows.machine.tolist(),
        "act_error_prob": error_probs.tolist(),
        "text": texts,
    }
    types = {"act_id": text, "gold": label, "act_label": label, "act_error_prob": Value("float32"), "text": text}
    if details:
        for voter, votes in enumerate(rows.votes.T):
            values[f"{VOTE}{voter}"] = [None if vote < 0 else int(vote) for vote in votes]
            types[f"{VOTE}{voter}"] = label
        for name in (*problem.protocol.fused, OUT_OF_FOLD):
            column = f"{ERROR_PROB}_{name.replace(' ', '_')}"
            values[column], types[column] = problem.critics[name].tolist(), Value("float32")
        values["embedding"] = list(rows.vectors.astype(np.float32))
        types["embedding"] = List(Value("float32"))
    made = Dataset.from_dict(values, features=Features(types))
    return add_record(
        made, "annotate", task=Task(labels=names, text="text").to_dict(), model=problem.protocol.annotator
    )
