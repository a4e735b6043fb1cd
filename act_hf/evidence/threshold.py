"""The threshold above which rows are reviewed, so that few enough errors are left below it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from numpy.typing import NDArray

    from act_hf.evidence.left import Evidence

    Bools = NDArray[np.bool_]

STEPS = 100
"""Thresholds tried where each takes an estimate of its own."""


@dataclass(frozen=True)
class Cut:
    """
    Which rows to review further.

    Args:
        threshold (`float`, *optional*): every row with at least this ε̂, and every one without any; `None` for no row.
        rows (`int`): how many these are, without those reviewed already.
    """

    threshold: float | None
    rows: int


def find_cut(evidence: Evidence, allowed: int, tail: float) -> Cut:
    """
    The fewest rows to review, the most doubted first, after which at most `allowed` errors are shown to be left.

    Tried from reviewing everything towards reviewing nothing, and ended at the first threshold for which it is not
    shown. So the one that is taken is wrong in at most the share `tail` of audits, though it was chosen by the same
    audit; see [`Evidence`]. Rows with equal ε̂ are reviewed together.

    Args:
        evidence ([`Evidence`]): of the review so far.
        allowed (`int`): errors that may be left.
        tail (`float`): in (0, 0.5).
    """
    open_ = ~evidence.done
    values = np.unique(evidence.order[open_])
    kept = _last_shown(evidence, values, allowed, tail)
    if kept == values.size:
        return Cut(None, 0)
    above = evidence.order >= values[kept]
    return Cut(float(values[kept]), int((open_ & above).sum()))


def not_above(evidence: Evidence, kept: Bools) -> Bools:
    """The rows up to the most doubted one of `kept`: none where nothing is kept."""
    under: Bools = evidence.order <= evidence.order[kept].max(initial=-np.inf)
    return under


def _last_shown(evidence: Evidence, values: NDArray[np.float64], allowed: int, tail: float) -> int:
    """How many of the values, from the lowest, may be kept; at 0 everything is reviewed."""

    def shown(kept: int) -> bool:
        under = evidence.order <= (values[kept - 1] if kept else -np.inf)
        return evidence.few_left(under, allowed, tail)

    if not evidence.exact:
        grid = np.unique(np.linspace(0, values.size, STEPS + 1).astype(int))
        failed = next((place for place, kept in enumerate(grid) if not shown(int(kept))), grid.size)
        return int(grid[max(0, failed - 1)])
    # The exact bound only rises with the threshold, so the end can be found by halving.
    low, high = 0, values.size
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if shown(middle) else (low, middle - 1)
    return low
