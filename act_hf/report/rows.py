"""The columns that the figures of a report are made of, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.human_labels import with_human_ids


if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray

    from act_hf.task import Task

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Names = NDArray[np.object_]


@dataclass(frozen=True)
class ReportRows:
    """The columns that the figures are made of, as arrays. Labels by name, `None` where there is none."""

    machine: Names
    human: Names
    gold: Names | None
    pi: Floats | None
    selected: Bools
    eps: dict[str, Floats]

    @classmethod
    def read(cls, dataset: Dataset, gold: str | None, task: Task) -> ReportRows:
        """From the columns that are there."""
        dataset = with_human_ids(dataset, task.labels)
        nobody = np.full(len(dataset), None, dtype=object)
        has_human, sampled = columns.HUMAN in dataset.column_names, columns.PI in dataset.column_names
        if sampled:
            columns.require(dataset, [columns.SELECTED], stage="report")
        return cls(
            machine=names_of(dataset, columns.LABEL),
            human=names_of(dataset, columns.HUMAN) if has_human else nobody,
            gold=None if gold is None else _gold(dataset, gold, task),
            pi=columns.numbers(dataset, columns.PI) if sampled else None,
            selected=columns.numbers(dataset, columns.SELECTED).astype(bool)
            if sampled
            else np.zeros(len(dataset), bool),
            eps={name: columns.numbers(dataset, name) for name in critic_columns(dataset)},
        )

    @property
    def answered(self) -> Bools:
        """Rows with a human label, drawn or not."""
        return present(self.human)

    @property
    def reviewed(self) -> Bools:
        """Rows drawn and answered."""
        return self.selected & self.answered

    @property
    def corrected(self) -> Bools:
        """Rows with a human label that is not the machine label."""
        corrected: Bools = self.answered & (self.human != self.machine)
        return corrected

    @property
    def wrong(self) -> Bools:
        """Rows whose machine label is wrong: by the gold label, or else, where a person answered, by theirs."""
        wrong: Bools = self.corrected if self.gold is None else self.machine != self.gold
        return wrong


def names_of(dataset: Dataset, column: str) -> Names:
    """The labels of a column by name."""
    from datasets import ClassLabel

    feature, values = dataset.features[column], dataset[column][:]
    if isinstance(feature, ClassLabel):  # -1 is how `datasets` writes "no label"
        values = [None if value is None or value < 0 else feature.names[value] for value in values]
    names = np.empty(len(values), dtype=object)
    names[:] = values
    return names


def _gold(dataset: Dataset, column: str, task: Task) -> Names:
    columns.require(dataset, [column], stage="report")
    names = names_of(dataset, column)
    missing = int((~present(names)).sum())
    if missing:
        raise ACTError(f"report: the gold column {column!r} is empty in {missing} of {names.size} rows")
    for name in set(names.tolist()) - set(task.labels):
        raise ACTError(f"report: {name!r} in column {column!r} is none of the labels {', '.join(task.labels)}")
    return names


def critic_columns(dataset: Dataset) -> list[str]:
    """The main critic's column first, then those with a suffix."""
    kinds = {name: getattr(kind, "dtype", "") for name, kind in dataset.features.items()}
    found = [name for name, kind in kinds.items() if name.startswith(columns.ERROR_PROB) and kind.startswith("float")]
    return sorted(found)


def present(names: Names) -> Bools:
    """Which rows have a label."""
    return np.array([name is not None for name in names], dtype=bool)


def evenly(size: int, most: int) -> NDArray[np.int64]:
    """At most `most` places, evenly spaced, the first and the last among them."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(np.int64))
