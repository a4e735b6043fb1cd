"""The rows that people look at: each content once, the most doubtful first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.human_labels import with_human_ids
from act_hf.records import recorded_task, stage_records


if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

    from act_hf.review.reach import Design
    from act_hf.task import Task


@dataclass(frozen=True)
class ReviewRow:
    """
    What there is to show of a row.

    Args:
        act_id (`str`): the key under which its answer comes back.
        shown (`dict` of `str` to value): the task's columns; images as `PIL.Image.Image`, or [`Unreadable`] where the
            file is broken.
        label (`str`, *optional*): the machine label; `None` where the row failed.
        label_prob (`float`, *optional*): the annotator's probability of it, in [0, 1].
        error_prob (`float`, *optional*): ε̂, in [0, 1]; `None` where no critic judged the row.
        pi (`float`, *optional*): π, in [0, 1].
        wave (`int`): in which wave it was drawn, from 1.
        rationale (`str`, *optional*): the annotator's reasoning.
        critique (`str`, *optional*): the critic's.
    """

    act_id: str
    shown: dict[str, Any]
    label: str | None = None
    label_prob: float | None = None
    error_prob: float | None = None
    pi: float | None = None
    wave: int = 1
    rationale: str | None = None
    critique: str | None = None


class ReviewRows:
    """
    The rows to review, read from the data set one at a time: iterate, as often as you like.

    Args:
        dataset (`Dataset`): sampled rows.
        numbers (`list` of `int`): which of them, in the order in which people should see them.
        whole (`Dataset`, *optional*): all rows, also those not drawn; `dataset` by default.

    Attributes:
        task ([`Task`]): what is labelled.
        annotator (`str`, *optional*): the model that gave the machine labels.
        dataset (`Dataset`): the rows with what is shown of them, and the records.
        columns (`frozenset` of `str`): which of the columns that a row may lack are there.
    """

    def __init__(self, dataset: Dataset, numbers: list[int], whole: Dataset | None = None) -> None:
        self._whole = dataset if whole is None else whole
        self.task: Task = recorded_task(dataset)
        self.annotator: str | None = stage_records(dataset, "annotate")[-1].get("model")
        optional = (
            columns.LABEL_PROBS,
            columns.ERROR_PROB,
            columns.PI,
            columns.WAVE,
            columns.RATIONALE,
            columns.CRITIQUE,
        )
        there = [name for name in optional if name in dataset.column_names]
        self.columns = frozenset(there)
        wanted = [columns.ID, *self.task.columns, columns.LABEL, *there]
        self.dataset: Dataset = dataset.select_columns(wanted).select(numbers)
        self._rows = columns.as_stored(self.dataset)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[ReviewRow]:
        for row in self._rows:
            yield self._read(row)

    @property
    def ids(self) -> list[str]:
        """The `act_id` of each, in order."""
        ids: list[str] = self._rows[columns.ID][:]
        return ids

    @property
    def design(self) -> Design | None:
        """How all rows of the data set were drawn, for estimates on the way; `None` where none can be made."""
        from act_hf.review.reach import Design

        try:
            return Design.of(self._whole)
        except ACTError:
            return None

    def without(self, ids: set[str]) -> ReviewRows:
        """Those that are not in `ids`."""
        left = [number for number, act_id in enumerate(self.ids) if act_id not in ids]
        return ReviewRows(self.dataset, left, self._whole)

    def _read(self, row: dict[str, Any]) -> ReviewRow:
        label, probs = row[columns.LABEL], row.get(columns.LABEL_PROBS)
        return ReviewRow(
            act_id=row[columns.ID],
            shown=self.task.rows({name: [row[name]] for name in self.task.columns})[0],
            label=None if label is None else self.task.labels[label],
            label_prob=None if label is None or not probs else _known(probs[label]),
            error_prob=_known(row.get(columns.ERROR_PROB)),
            pi=_known(row.get(columns.PI)),
            wave=row.get(columns.WAVE) or 1,
            rationale=row.get(columns.RATIONALE) or None,
            critique=row.get(columns.CRITIQUE) or None,
        )


def _known(number: float | None) -> float | None:
    """A model or a rule of one's own may write NaN for "I do not know"."""
    return None if number is None or math.isnan(number) else number


def rows_to_review(dataset: Dataset, *, wave: int | None = None, answered: bool = False) -> ReviewRows:
    """
    The selected rows that people have yet to look at, the most doubtful first.

    A row that no critic judged has no error probability, and comes before all others. Rows with the same content come
    once, as the one of them that is most doubtful.

    Args:
        dataset (`Dataset`): sampled rows.
        wave (`int`, *optional*): only those drawn in this wave; all by default.
        answered (`bool`, *optional*, defaults to `False`): those that have a human label, too, for a second opinion.

    Returns:
        [`ReviewRows`].

    Raises:
        ACTError: for rows that were not sampled, a wave that was not drawn, or nothing to look at.
    """
    import numpy as np

    columns.require(dataset, [columns.ID, columns.LABEL, columns.SELECTED], stage="review push")
    task = recorded_task(dataset)
    columns.require(dataset, task.columns, stage="review push")
    dataset = with_human_ids(dataset)
    chosen = np.array(dataset.with_format(None)[columns.SELECTED][:], dtype=bool)
    if not chosen.any():
        raise ACTError("review push: no row is selected")
    if wave is not None:
        chosen &= _in_wave(dataset, wave)
    numbers = _each_once(dataset, np.flatnonzero(chosen))
    done = set() if answered else _answered(dataset, chosen)
    ids = dataset.with_format(None)[columns.ID][:]
    left = [number for number in numbers if ids[number] not in done]
    if not left:
        raise ACTError(
            f"review push: all {len(numbers)} rows have a human label; "
            "answered=True (--answered) shows them again, for a second opinion"
        )
    return ReviewRows(dataset, left)


def _in_wave(dataset: Dataset, wave: int) -> NDArray[np.bool_]:
    import numpy as np

    drawn = columns.numbers(dataset, columns.WAVE) if columns.WAVE in dataset.column_names else np.ones(len(dataset))
    own: NDArray[np.bool_] = drawn == wave
    if not own.any():
        waves = sorted({int(number) for number in drawn[drawn > 0]})
        raise ACTError(f"review push: no row was drawn in wave {wave}; there is {', '.join(map(str, waves))}")
    return own


def _each_once(dataset: Dataset, numbers: NDArray[np.intp]) -> list[int]:
    """The most doubtful row of each content, the most doubtful first."""
    import numpy as np

    plain = dataset.with_format(None)
    doubt = np.ones(len(dataset))
    if columns.ERROR_PROB in dataset.column_names:
        doubt = np.nan_to_num(columns.numbers(dataset, columns.ERROR_PROB), nan=np.inf)
    ids = plain[columns.ID][:]
    first: dict[str, int] = {}
    for number in numbers[np.argsort(-doubt[numbers], kind="stable")].tolist():
        first.setdefault(ids[number], number)
    return list(first.values())


def _answered(dataset: Dataset, chosen: NDArray[np.bool_]) -> set[str]:
    if columns.HUMAN not in dataset.column_names:
        return set()
    plain = dataset.with_format(None)
    rows = zip(plain[columns.ID][:], plain[columns.HUMAN][:], chosen, strict=True)
    # A copy that was drawn after the other was answered gets its answers at the next pull: nobody is asked again.
    return {act_id for act_id, label, own in rows if own and label is not None}
