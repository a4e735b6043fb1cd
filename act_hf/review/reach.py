"""What can be said of the accuracy while a review goes on: what the rest of the answers can still make of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.estimate import estimate_accuracy
from act_hf.human_labels import with_human_ids
from act_hf.records import recorded_task
from act_hf.sampling import Waves, read_waves
from act_hf.sampling.waves import rows_gone


if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Reach:
    """
    The accuracy that the answers so far leave possible.

    The rows that are left are taken as all wrong for the lower end, and as all right for the upper one: the most
    doubtful rows are answered first, so those answered say nothing of them.

    Args:
        low, high (`float`): shares in [0, 1], between which the 95 % interval of the finished review will be,
            whatever the answers to the rows that are left.
        low_after, high_after (`float`): the same for the labels after the review, to 0.2 points: that interval is
            widest in between.
    """

    low: float
    high: float
    low_after: float
    high_after: float


@dataclass(frozen=True)
class Design:
    """
    What the accuracy is estimated from, of N rows: how they were drawn, and which answers are known.

    Args:
        eps (array of N `float`): what the critic said; NaN for a row that nobody judged.
        drawn (array of N `int`): the wave in which a row was drawn, 0 for none.
        pi (array `[N, K]` of `float`): π in each of K waves.
        wrong (array of N `bool`): the machine label of a row that is answered is wrong.
        open (array of `int`): the rows that were drawn and have no human label.
        ids (array of `str`): the `act_id` of each of these.
        labels (array of `str`): their machine labels; empty for a row that failed.
    """

    eps: NDArray[np.float64]
    drawn: NDArray[np.int64]
    pi: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    open: NDArray[np.int64]
    ids: NDArray[np.str_]
    labels: NDArray[np.str_]

    @classmethod
    def of(cls, dataset: Dataset) -> Design:
        """
        Of a data set.

        Raises:
            ACTError: for rows that were not sampled, or are gone since.
        """
        if gone := rows_gone(dataset):
            raise ACTError(gone)
        dataset = with_human_ids(dataset)
        waves, size = read_waves(dataset), len(dataset)
        critic = columns.critic_column(dataset)
        there = critic in dataset.column_names
        nobody = columns.HUMAN not in dataset.column_names
        human = np.full(size, np.nan) if nobody else columns.numbers(dataset, columns.HUMAN)
        machine = columns.numbers(dataset, columns.LABEL)
        open_ = np.flatnonzero(waves.selected & np.isnan(human))
        names = ["", *recorded_task(dataset).labels]
        plain = dataset.with_format(None).select_columns([columns.ID]).select(open_)
        return cls(
            eps=columns.numbers(dataset, critic) if there else np.full(size, np.nan),
            drawn=waves.drawn,
            pi=waves.pi,
            wrong=~np.isnan(human) & (human != machine),
            open=open_,
            ids=np.array(plain[columns.ID][:], dtype=str),
            labels=np.array([names[0 if np.isnan(one) else int(one) + 1] for one in machine[open_]], dtype=str),
        )

    def reach(self, answers: Mapping[str, str]) -> Reach:
        """
        What the accuracy can be.

        Args:
            answers (mapping of `act_id` to label): of rows that were open.

        Raises:
            ACTError: where nothing can be estimated, also when all rows are answered.
        """
        said = [answers.get(act_id) for act_id in self.ids.tolist()]
        left = np.array([label is None for label in said], dtype=bool)
        if left.size and left.all() and self.open.size == int((self.drawn > 0).sum()):
            raise ACTError("nobody has answered")
        wrong, worst = self.wrong.copy(), self.wrong.copy()
        wrong[self.open] = [label not in (None, own) for label, own in zip(said, self.labels.tolist(), strict=True)]
        worst[self.open] = wrong[self.open] | left
        waves = Waves(self.drawn, self.pi)
        low = estimate_accuracy(self.eps, waves.drawn_in, waves.pi, worst)
        high = estimate_accuracy(self.eps, waves.drawn_in, waves.pi, wrong)
        # A row that is answered "wrong" is corrected: what is left after the review hangs on it the other way round.
        return Reach(
            low.machine_low,
            high.machine_high,
            min(low.after_low, high.after_low),
            max(low.after_high, high.after_high),
        )

    def to_bytes(self) -> bytes:
        """As a file of NumPy's."""
        file = io.BytesIO()
        np.savez_compressed(file, **vars(self))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Design:
        """What [`Design.to_bytes`] wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})
