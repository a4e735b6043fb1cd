"""Cells: one trained network each, kept as a line of JSON as soon as it is finished."""

import base64
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from datasets import Dataset
from paper.arms import ARMS, Arm, label_accuracy, reviewed, training_labels
from paper.problem import Problem
from paper.training import fit, probabilities

from act_hf.columns import SELECTED


KEPT_ROWS = 10_000
"""Up to so many rows to measure on, the main table keeps which were right: intervals over rows come of that."""


@dataclass(frozen=True)
class Cell:
    arm: str
    share: float
    seed: int

    @property
    def key(self) -> tuple[str, float, int]:
        return self.arm, self.share, self.seed


class CellFile:
    """`SET.jsonl`. Written by one process; a line that a kill left unfinished is dropped."""

    def __init__(self, path: Path, version: str) -> None:
        self.path, self.version = path, version

    def lines(self) -> Iterator[dict]:
        """The cells of this version of the protocol."""
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                cell = json.loads(line)
            except json.JSONDecodeError:
                continue
            if cell["version"] == self.version:
                yield cell

    def done(self) -> set[tuple[str, float, int]]:
        return {(cell["arm"], cell["share"], cell["seed"]) for cell in self.lines()}

    def clean(self) -> None:
        """Only the whole lines of this version stay."""
        kept = "".join(json.dumps(cell) + "\n" for cell in self.lines())
        part = self.path.with_suffix(".part")
        part.write_text(kept, encoding="utf-8")
        part.replace(self.path)

    def add(self, cell: dict) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(cell) + "\n")
            file.flush()
            os.fsync(file.fileno())


def trained(problem: Problem, answered: Dataset, arm: Arm, seed: int) -> tuple[np.ndarray, float]:
    """What a network on the set's vectors or pixels predicts, and the loss of its last epoch."""
    rows, recipe = problem.rows, problem.protocol.recipe
    if arm.long:
        recipe = replace(recipe, epochs=problem.protocol.long * recipe.epochs)
    labels = training_labels(answered, arm.mode)
    network, loss = fit(rows.inputs, labels, rows.classes, recipe, seed=seed, non_negative=arm.non_negative)
    return probabilities(network, rows.test_inputs).argmax(axis=1), loss


def tuned(problem: Problem, answered: Dataset, arm: Arm, seed: int) -> tuple[np.ndarray, float]:
    """What a fine-tuned encoder predicts, and its mean loss."""
    from datasets import disable_progress_bars

    from act_hf import train_classifier

    disable_progress_bars()
    rows, tuning = problem.rows, problem.protocol.tuning
    label = answered.features["gold"]
    # By length, as training takes them: each batch is as long as its longest.
    order = np.argsort([len(text) for text in rows.test_texts], kind="stable")
    tests = Dataset.from_dict({"text": rows.test_texts[order].tolist(), "label": rows.test_gold[order].tolist()})
    trainer = train_classifier(
        answered,
        tuning.base,
        mode=arm.mode,
        text="text",
        evaluation=tests.cast_column("label", label),
        seed=seed,
        num_train_epochs=tuning.epochs,
        learning_rate=tuning.rate,
        non_negative=arm.non_negative,
        disable_tqdm=True,
    )
    predicted = np.empty_like(rows.test_gold)
    predicted[order] = trainer.predict(trainer.eval_dataset).predictions.argmax(axis=1)
    return predicted, trainer.state.log_history[-1]["train_loss"]


def measured(problem: Problem, cell: Cell) -> dict:
    """Draws, reviews, trains and measures."""
    started, arm, protocol, rows = time.process_time(), ARMS[cell.arm], problem.protocol, problem.rows
    answered = reviewed(problem, arm, cell.share * protocol.share, cell.seed)
    predicted, loss = (tuned if protocol.tuning else trained)(problem, answered, arm, cell.seed)
    right = predicted == rows.test_gold
    kept = cell.share == 1 and not arm.long and "simulated" not in arm.critic and right.size <= KEPT_ROWS
    return {
        "arm": cell.arm,
        "share": cell.share,
        "seed": cell.seed,
        "version": protocol.version(),
        "accuracy": round(100 * float(right.mean()), 3),
        "labels_right": round(100 * label_accuracy(answered, arm.mode), 3),
        "reviewed": 0 if arm.mode == "machine" else int(np.sum(answered[SELECTED][:])),
        "last_loss": float(f"{loss:.4g}"),
        "seconds": round(time.process_time() - started, 1),
        **({"right": base64.b64encode(np.packbits(right)).decode()} if kept else {}),
    }
