"""A data set as evidence: which rows were drawn with which probability, and what people said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.evidence.left import Evidence
from act_hf.human_labels import with_human_ids
from act_hf.records import stage_records
from act_hf.sampling.waves import Waves, read_waves, rows_gone


if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Reviewed:
    """
    A reviewed data set.

    Args:
        evidence ([`Evidence`]): of its complete waves.
        column (`str`): the critic's column that orders the rows.
        waiting (`int`): rows of an unfinished wave without an answer.
        simulated (`bool`): whether answers were simulated.
    """

    evidence: Evidence
    column: str
    waiting: int
    simulated: bool


def read_review(dataset: Dataset, *, stage: str) -> Reviewed:
    """
    Reads what the columns say.

    Args:
        dataset (`Dataset`): criticized, sampled and at least in part reviewed.
        stage (`str`): who asks, for the messages.

    Raises:
        ACTError: for a missing column, no answer, rows that are not those that the draw was made from, or a first
            wave that is not finished.
    """
    _check(dataset, stage)
    dataset = with_human_ids(dataset)
    # Not what `calibrate` made of it: the order must not depend on the answers that it is judged by.
    column = columns.critic_column(dataset)
    order = columns.numbers(dataset, column)
    order[np.isnan(order) | _failed(dataset)] = np.inf
    labels, human = (columns.numbers(dataset, name) for name in (columns.LABEL, columns.HUMAN))
    waves = read_waves(dataset)
    done = waves.selected & ~np.isnan(human)
    waiting = int((waves.selected & ~done).sum())
    return Reviewed(
        evidence=Evidence(order, _complete(waves, done, stage), done & (labels != human), done, _proper(dataset)),
        column=column,
        waiting=waiting,
        simulated=any(record.get("simulated") for record in stage_records(dataset, "review")),
    )


def _check(dataset: Dataset, stage: str) -> None:
    steps = {
        columns.LABEL: "annotate",
        columns.ERROR_PROB: "criticize",
        columns.PI: "sample",
        columns.SELECTED: "sample",
        columns.HUMAN: "review",
    }
    for name, step in steps.items():
        if name not in dataset.column_names:
            raise ACTError(f"{stage}: no column {name!r}: {step} the rows first; an audit is sample with mix=1")
    columns.require(dataset, steps, stage=stage)
    if gone := rows_gone(dataset):
        raise ACTError(f"{stage}: {gone}")


def _proper(dataset: Dataset) -> bool:
    """Whether no draw was made in groups, and no critic has spoken since people answered."""
    made = stage_records(dataset)
    reviews = [number for number, record in enumerate(made) if record["stage"] == "review"]
    since = made[reviews[0] :] if reviews else []
    judged_again = any(record["stage"] == "criticize" and not record.get("suffix") for record in since)
    return not judged_again and not any(record.get("groups") for record in stage_records(dataset, "sample"))


def _failed(dataset: Dataset) -> Bools:
    """Rows on which a stage failed: wrong until somebody has looked."""
    if columns.FAILURE not in dataset.column_names:
        return np.zeros(len(dataset), dtype=bool)
    table = dataset.select_columns([columns.FAILURE]).with_format("arrow")[:]
    failed: Bools = ~table[columns.FAILURE].is_null().to_numpy()
    return failed


def _complete(waves: Waves, done: Bools, stage: str) -> Waves:
    """The waves all of whose rows are answered: all, or all but the last."""
    if done[waves.selected].all() and done.any():
        return waves
    earlier = waves.without_last() if waves.count > 1 else waves
    drawn, answered = int(earlier.selected.sum()), int((earlier.selected & done).sum())
    if waves.count == 1 or answered < drawn:
        which = "" if waves.count == 1 else f" in the waves before wave {waves.count}"
        raise ACTError(
            f"{stage}: {answered} of the {drawn} rows drawn{which} have a human label; finish the review first. The "
            "rows answered first are no sample of the others, and a tie between people leaves a row open"
        )
    return earlier
