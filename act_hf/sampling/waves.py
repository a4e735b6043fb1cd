"""Waves of review: what was drawn when and with which probability, and what that makes a correction weigh."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from act_hf.columns import PI, SELECTED, WAVE, WAVE_PI, require
from act_hf.errors import ACTError
from act_hf.records import stage_records


if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Waves:
    """
    The design of K waves over N rows.

    In wave k every row that was not drawn before is drawn with a probability π_k that may depend on all answers so
    far. Given these, the estimate that wave k alone makes of a total, what was known before it plus Σ δ/π_k over the
    rest, is unbiased. So is the mean of the K estimates, with weights that do not depend on the answers: here the
    least π of each wave, which `mix` or `floor` sets. It makes the largest weight of any row as small as can be, and a
    wave that audits little counts little. (Estimates from successive waves are a martingale, so their variances
    add up, as in active testing, Kossen et al. 2021, and adaptive two-wave designs.) That mean gives a row drawn in
    wave j the weight

        1 / π = s_j / π_j + Σ_{k > j} s_k,    s_k the share of wave k,

    and the ACT loss with that π is unbiased over all waves. A wave that could not have drawn every row that was left
    (π_k = 0, as with the threshold rule and `mix` 0) has no such estimate: where another one has, its share is 0, and
    the rows it drew weigh 1, so that their human label simply takes the place of the machine label. All of this is the
    project's choice; the paper has one wave.

    Args:
        drawn (array of N `int`): the wave in which a row was drawn, from 1; 0 for a row that was not.
        pi (array `[N, K]` of `float` in [0, 1]): with which probability in each wave; 0 once a row was drawn.
    """

    drawn: Ints
    pi: Floats

    @classmethod
    def of(cls, selected: ArrayLike, pi: ArrayLike) -> Waves:
        """From δ and π, each of N values for one wave, or `[N, K]`."""
        chosen, chance = np.asarray(selected, dtype=bool), np.asarray(pi, dtype=np.float64)
        if chosen.shape != chance.shape or chosen.ndim not in (1, 2):
            raise ACTError(f"selected has shape {chosen.shape} and pi {chance.shape}; both are [N], or [N, waves]")
        chosen, chance = (values.reshape(len(values), -1) for values in (chosen, chance))
        if (chosen.sum(axis=1) > 1).any():
            raise ACTError(f"row {np.argmax(chosen.sum(axis=1) > 1)} was drawn in more than one wave")
        return cls(np.where(chosen.any(axis=1), chosen.argmax(axis=1) + 1, 0), chance)

    @property
    def count(self) -> int:
        """K."""
        return int(self.pi.shape[1])

    @cached_property
    def selected(self) -> Bools:
        """δ: the rows drawn in any wave."""
        return self.drawn > 0

    @cached_property
    def drawn_in(self) -> Bools:
        """δ of each wave: `[N, K]`."""
        chosen: Bools = self.drawn[:, None] == np.arange(1, self.count + 1)
        return chosen

    @cached_property
    def shares(self) -> Floats:
        """The weight of each wave, by its least π; K values that sum to 1. By the rows it drew where none tells."""
        told = np.zeros(self.count)
        for wave in self.telling:
            told[wave - 1] = self.pi[self.open_in(wave), wave - 1].min()
        told = told if self.telling else self.pi.sum(axis=0)
        total = told.sum()
        return told / total if total else np.full(self.count, 1 / self.count)

    @cached_property
    def telling(self) -> list[int]:
        """The waves, from 1, that could have drawn each row that was left."""
        return [
            wave
            for wave in range(1, self.count + 1)
            if not (self.open_in(wave) & (self.pi[:, wave - 1] == 0)).any() and self.open_in(wave).any()
        ]

    def open_in(self, wave: int) -> Bools:
        """The rows that were not drawn before `wave`."""
        open_: Bools = (self.drawn == 0) | (self.drawn >= wave)
        return open_

    @cached_property
    def combined(self) -> Floats:
        """
        π over all waves: 1 / weight for a row that was drawn, and for one that was not, the probability that it would
        have been by now.
        """
        if self.count == 1:
            return self.pi[:, 0]
        rows = np.flatnonzero(self.selected)
        wave = self.drawn[rows] - 1
        later = np.append(np.cumsum(self.shares[::-1])[::-1][1:], 0.0)
        with np.errstate(divide="ignore"):  # a row that was certain
            combined: Floats = -np.expm1(np.log1p(-self.pi).sum(axis=1))  # exact where π is tiny, too
        # At least 1 for a row of a wave that does not tell; in the others it is more anyway.
        combined[rows] = 1 / np.maximum(1.0, self.shares[wave] / self.pi[rows, wave] + later[wave])
        return combined

    def without_last(self) -> Waves:
        """With one wave less."""
        return Waves(np.where(self.drawn == self.count, 0, self.drawn), self.pi[:, :-1])

    def followed_by(self, selected: Bools, pi: Floats) -> Waves:
        """With one more wave."""
        return Waves(np.where(selected, self.count + 1, self.drawn), np.column_stack([self.pi, pi]))


def rows_gone(dataset: Dataset) -> str | None:
    """What is amiss where rows were removed since the last draw; else `None`."""
    drawn_from = [record.get("rows", len(dataset)) for record in stage_records(dataset, "sample")]
    if not drawn_from or drawn_from[-1] == len(dataset):
        return None
    return f"the rows were drawn from {drawn_from[-1]} rows, of which {len(dataset)} are left"


def read_waves(dataset: Dataset) -> Waves:
    """
    The waves that a data set was sampled in.

    Raises:
        ACTError: for a data set that was not sampled, or has a row without a probability.
    """
    require(dataset, [PI, SELECTED], stage="waves")
    several = WAVE_PI in dataset.column_names
    table = dataset.select_columns([WAVE, WAVE_PI] if several else [PI, SELECTED]).with_format("arrow")[:]
    missing = table[WAVE_PI if several else PI].is_null().to_numpy()
    if missing.any():
        raise ACTError(f"waves: {missing.sum()} of {missing.size} rows have no {PI}; sample them, or filter them out")
    if not several:
        return Waves.of(table[SELECTED].to_numpy(), table[PI].to_numpy())
    drawn = table[WAVE].fill_null(0).to_numpy().astype(np.int64)
    return Waves(drawn, np.array(table[WAVE_PI].to_pylist(), dtype=np.float64).reshape(len(drawn), -1))
