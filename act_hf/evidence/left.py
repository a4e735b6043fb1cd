"""The errors that a review leaves: what its random draws say of the rows that nobody has looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from act_hf.errors import ACTError
from act_hf.estimate import estimate_accuracy
from act_hf.estimate.checks import same_length
from act_hf.evidence.bounds import chance_of_so_few, least_unseen, most_unseen
from act_hf.sampling.waves import Waves


if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Left:
    """
    Errors among rows that nobody has looked at, in rows.

    Args:
        errors (`float`): the estimate.
        low, high (`float`): its bounds.
    """

    errors: float
    low: float
    high: float


@dataclass(frozen=True)
class Evidence:
    """
    A review as evidence of the errors that are left among the rows below a threshold of the critic.

    A row is *left* while it has no human label; a row that was reviewed is right. Rows that no random draw could have
    taken (π = 0) are unknown, and the bounds take those that are left as wrong.

    **Exact.** Where one wave alone was drawn at random, and uniformly, the audited errors below the threshold are a
    uniform sample of those errors, and the hypergeometric distribution bounds the ones that it did not see. That bound
    serves *every* threshold at once ([`few_left`]), so a threshold may be chosen by it. The reason is the order: go
    through the errors from the least doubted one up until more than m were not seen. Whether the audit had found at
    most c by then is decided there and nowhere else, and has the probability that the bound was computed for. It needs
    an order that was fixed before the audit was read. (Fixed-sequence testing, as in PAC labels, arXiv 2506.10908,
    which bounds the error for a general loss; the exact form for counts of errors is ours.)

    **Approximate.** Otherwise the errors below a threshold are estimated by [`estimate_accuracy`], and its interval is
    as good as it is there.

    Args:
        order (array of N `float`): the critic's ε̂ as it was before the review was read; infinite for rows without.
        waves ([`Waves`]): the waves that are reviewed completely.
        wrong (array of N `bool`): rows whose machine label a person found wrong.
        done (array of N `bool`): rows with a human label, those of an unfinished wave included.
        proper (`bool`, *optional*, defaults to `True`): whether the draw was one of all rows, not of groups each with
            its budget, and the order older than the answers. Otherwise nothing is exact.
    """

    order: Floats
    waves: Waves
    wrong: Bools
    done: Bools
    proper: bool = True

    @classmethod
    def of(cls, error_probs: ArrayLike, selected: ArrayLike, pi: ArrayLike, errors: ArrayLike) -> Evidence:
        """
        From arrays, all of whose waves are complete.

        Args:
            error_probs (array of N `float` in [0, 1]): ε̂, NaN where there is none.
            selected (array of N, or `[N, K]` for K waves, of `bool`): δ, the rows that were drawn and reviewed.
            pi (array of N, or `[N, K]`, of `float` in [0, 1]): the π the draw used.
            errors (array of N `bool`): whether the machine label is wrong; read only where `selected`.

        Raises:
            ACTError: for arrays that do not fit together or values out of range.
        """
        eps = np.asarray(error_probs, dtype=np.float64)
        waves = Waves.of(selected, pi)
        chosen = waves.selected
        same_length(chosen, eps, "selected")
        wrong = same_length(errors, eps, "errors")
        _refuse(~np.isnan(eps) & ~((eps >= 0) & (eps <= 1)), "has no error probability in [0, 1]")
        _refuse((~((waves.pi >= 0) & (waves.pi <= 1))).any(axis=1), "has a pi outside [0, 1]")
        _refuse(chosen & ~((wrong == 0) | (wrong == 1)), "was drawn but has no answer")
        return cls(np.where(np.isnan(eps), np.inf, eps), waves, chosen & (wrong == 1), chosen)

    @cached_property
    def chances(self) -> list[int]:
        """The waves, from 1, that drew some rows at random."""
        return [wave for wave in range(1, self.waves.count + 1) if self._open(wave).any()]

    @cached_property
    def exact(self) -> bool:
        """Whether the bounds are exact: one proper uniform draw, or none at all."""
        if not self.proper:
            return False
        if len(self.chances) != 1:
            return not self.chances
        wave = self.chances[0]
        pi = self.waves.pi[self._open(wave), wave - 1]
        return bool(np.isclose(pi.min(), pi.max(), rtol=1e-6))

    @cached_property
    def worth(self) -> float:
        """As many rows drawn uniformly would tell as much."""
        if self.exact:
            return float(self._audit.sum())
        return estimate_accuracy(*self._drawable()).effective

    @cached_property
    def unknown(self) -> Bools:
        """Rows that no random draw could have taken, and that were not reviewed by the last one either."""
        possible = np.zeros(self.order.size, dtype=bool)
        for wave in self.chances:
            possible |= self._open(wave)
        last = self.chances[-1] if self.chances else self.waves.count
        # What a later wave reviewed stays unknown here: which rows it took may depend on what the draw had shown.
        return ~possible & ~(self.waves.selected & (self.waves.drawn <= last))

    def few_left(self, below: Bools, allowed: int, tail: float) -> bool:
        """Whether it is shown that at most `allowed` of the rows of `below` are left with an error."""
        if int((below & ~self.done).sum()) <= allowed:
            return True
        if not self.exact:
            return self.left(below, tail).high <= allowed
        unseen = allowed - int((self.unknown & below).sum())
        found = int(self.wrong[self._audit & below].sum())
        return unseen >= 0 and bool(chance_of_so_few(found, unseen + 1, *self._size) <= tail)

    def left(self, below: Bools, tail: float) -> Left:
        """
        The errors left among the rows of `below`, with bounds for this set alone.

        Args:
            below (array of N `bool`): rows, such as those below a threshold.
            tail (`float`): how often each bound may be wrong, in (0, 0.5).
        """
        open_ = below & ~self.done
        unknown = self.unknown & open_
        doubted = float(np.minimum(self.order[unknown], 1.0).sum())
        if self.exact:
            errors, low, high = self._exactly(below, tail)
        else:
            errors, low, high = self._about(below, tail)
        most = float(open_.sum())
        high = min(high + float(unknown.sum()), most)
        return Left(min(max(errors, 0.0) + doubted, high), min(max(low, 0.0), high), high)

    def _exactly(self, below: Bools, tail: float) -> tuple[float, float, float]:
        drawn, rows = self._size
        found = int(self.wrong[self._audit & below].sum())
        if not drawn:
            return 0.0, 0.0, float(rows)
        low, high = (float(bound(found, drawn, rows, tail)) for bound in (least_unseen, most_unseen))
        # What other waves have corrected since was not seen by the audit either.
        since = float(self.wrong[~self._audit & self._audited & below].sum())
        return found * (rows - drawn) / drawn - since, low - since, high

    def _about(self, below: Bools, tail: float) -> tuple[float, float, float]:
        told = estimate_accuracy(*self._drawable(below), confidence=1 - 2 * tail)
        rows = told.rows
        found = float((self.wrong & self.done & below & ~self.unknown).sum())
        errors, low, high = (
            rows * (1 - share) - found for share in (told.machine, told.machine_high, told.machine_low)
        )
        return errors, low, high

    def _drawable(self, below: Bools | None = None) -> tuple[Floats, Bools, Floats, Bools]:
        """What [`estimate_accuracy`] needs to count the errors below a threshold among the rows that may be drawn."""
        part = np.ones(self.order.size, dtype=bool) if below is None else below
        kept = ~self.unknown
        # Above the threshold nothing is counted, and the critic is told so.
        eps = np.where(part, np.minimum(self.order, 1.0), 0.0)
        return eps[kept], self.waves.drawn_in[kept], self.waves.pi[kept], (self.wrong & part)[kept]

    @cached_property
    def _audited(self) -> Bools:
        """The rows that the one random draw was made from."""
        if not self.chances:
            return np.zeros(self.order.size, dtype=bool)
        return self._open(self.chances[0])

    @cached_property
    def _audit(self) -> Bools:
        """The rows that it drew."""
        drawn: Bools = self._audited & (self.waves.drawn == (self.chances[0] if self.chances else -1))
        return drawn

    @cached_property
    def _size(self) -> tuple[int, int]:
        """Rows that it drew, and rows that it was made from."""
        return int(self._audit.sum()), int(self._audited.sum())

    def _open(self, wave: int) -> Bools:
        """Rows that a wave may or may not have drawn."""
        pi = self.waves.pi[:, wave - 1]
        open_: Bools = self.waves.open_in(wave) & (pi > 0) & (pi < 1)
        return open_


def allowed_errors(target: float, rows: int) -> int:
    """
    How many labels of `rows` may be wrong at a target accuracy.

    Raises:
        ACTError: for a target outside (0, 1).
    """
    if not 0 < target < 1:
        raise ACTError(f"target={target} is not between 0 and 1, such as 0.98")
    return rows - math.ceil(target * rows - 1e-9)


def check_goal(target: float, confidence: float) -> None:
    """Raises [`ACTError`] for a target outside (0, 1), or a confidence outside (0.5, 1)."""
    allowed_errors(target, 1)
    if not 0.5 < confidence < 1:
        raise ACTError(f"confidence={confidence} is not between 0.5 and 1, such as 0.95")


def _refuse(bad: ArrayLike, what: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        more = f" (and {rows.size - 1} more)" if rows.size > 1 else ""
        raise ACTError(f"evidence: row {rows[0]} {what}{more}")
