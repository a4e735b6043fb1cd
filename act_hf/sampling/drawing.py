"""The draw: which rows are reviewed, given the probability of each."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from act_hf.sampling.budget import probabilities


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

# Sums of a million float32 probabilities are this exact, relatively; a sum this near to an integer is meant as one.
SUM_TOLERANCE = 1e-6
# Nearer to 1 than this and a row is certain: the cumulative sum of the draw could not tell the difference.
CERTAIN_TOLERANCE = 1e-8

_TAILS = 0.5 * 0.25 ** np.arange(1, 12)
_EDGES = np.concatenate([[0.0], _TAILS[::-1], [0.5], 1 - _TAILS, [1.0]])
"""Between two of these, probabilities are about equal: a factor of four in π, or in 1 − π."""


def draw(pi: ArrayLike, *, seed: int | Sequence[int]) -> Bools:
    """
    Draws rows with given probabilities and a fixed number of them: systematic sampling, in random order among rows
    with about the same probability.

    The rows are laid end to end, each as long as its π, and every row hit by one of the points u, u + 1, u + 2, … (u
    uniform) is taken. So every row is taken with its π exactly, π = 1 always and π = 0 never. When Σπ is an integer
    within 1e-6 of itself the number of rows is that integer; otherwise it is one of the two integers around Σπ, and so
    never above an integer budget that Σπ keeps.

    Rows lie from small to large π, those within a factor of four in π (or in 1 − π) in random order: so of each such
    group as many are taken as are to be expected, give or take one. In a wholly random order they are not: rows with π
    near 1 are nearly as long as the step between two points, and as soon as the points fall between them, none of the
    other rows is hit (of 7 rows to be audited beside 64 nearly certain ones, none was in 8 % of all draws). Among a
    dozen rows some pairs never come together, and variances worked out from π alone are approximations.

    Args:
        pi (array of N `float` in [0, 1]): the probabilities.
        seed (`int` or sequence of `int`): the same π and seed draw the same rows.

    Returns:
        `np.ndarray` of N `bool`: δ.

    Raises:
        ACTError: for a probability outside [0, 1], naming its row.
    """
    pi = probabilities(pi, "pi")
    rng = np.random.default_rng(seed)
    selected = pi >= 1 - CERTAIN_TOLERANCE
    order = _order(pi, rng)
    if order.size:
        # One array all the way: there may be tens of millions of rows.
        points = pi[order]
        np.cumsum(points, out=points)
        points -= _start(float(points[-1]), rng)
        np.ceil(points, out=points)  # the number of points before the end of each row
        hit = np.empty(order.size, dtype=bool)
        hit[0] = points[0] > 0
        np.greater(points[1:], points[:-1], out=hit[1:])
        selected[order] = hit
    return selected


def _order(pi: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """The rows that are neither certain nor impossible, by groups of about the same π, at random within each."""
    order = np.empty(int(((pi > 0) & (pi < 1 - CERTAIN_TOLERANCE)).sum()), dtype=np.int64)
    end = 0
    for low, high in pairwise(_EDGES):
        group = np.flatnonzero((pi > low) & (pi <= high) & (pi < 1 - CERTAIN_TOLERANCE))
        rng.shuffle(group)
        start, end = end, end + group.size
        order[start:end] = group
    return order


def _start(total: float, rng: np.random.Generator) -> float:
    """u in (0, 1), kept from the values at which rounding in `total` would change the number of points below it."""
    excess = total - round(total)
    if abs(excess) > SUM_TOLERANCE * max(1.0, total):
        return float(rng.random())
    low, high = max(excess, 0.0), 1.0 + min(excess, 0.0)
    return low + (high - low) * float(rng.uniform(1e-7, 1 - 1e-7))
