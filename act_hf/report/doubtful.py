"""The rows that the critic doubts most, as they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns
from act_hf.report.facts import DoubtfulRow
from act_hf.report.rows import ReportRows


if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset

    from act_hf.task import Task

DOUBTFUL = 12
"""Rows shown, the most doubtful first."""

_LONGEST = 600


def doubtful_rows(dataset: Dataset, rows: ReportRows, task: Task) -> tuple[DoubtfulRow, ...]:
    """The rows with the highest error probability, and what is known of them."""
    eps = rows.eps.get(columns.ERROR_PROB)
    if eps is None:
        return ()
    order = np.argsort(-eps, kind="stable")  # NaN, no error probability, comes last
    chosen = order[~np.isnan(eps[order])][:DOUBTFUL]
    wanted = (*task.columns, columns.CRITIQUE, columns.LABEL_PROBS)
    # An image is not shown, so it is not decoded either.
    kept = [name for name in wanted if name in dataset.column_names and name != task.image]
    contents = dataset.select_columns(kept).select(chosen) if kept else [{} for _ in chosen]
    return tuple(
        _doubtful_row(content, int(number), rows, task) for number, content in zip(chosen, contents, strict=True)
    )


def _doubtful_row(content: Mapping[str, Any], number: int, rows: ReportRows, task: Task) -> DoubtfulRow:
    label, probs = rows.machine[number], content.get(columns.LABEL_PROBS)
    known = label in task.labels and probs is not None and len(probs) == len(task.labels)
    shown = ((name, "[image]" if name == task.image else short(content.get(name))) for name in task.columns)
    critique = content.get(columns.CRITIQUE)
    return DoubtfulRow(
        number=number,
        shown=tuple(shown),
        label=label,
        label_prob=float(probs[task.index(label)]) if known and probs is not None else None,
        error_prob=float(rows.eps[columns.ERROR_PROB][number]),
        critique=None if critique is None else short(critique),
        human=rows.human[number],
        gold=None if rows.gold is None else rows.gold[number],
    )


def short(value: Any) -> str:
    """A value as text that is not too long to show."""
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " […]"
