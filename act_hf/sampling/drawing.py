"""The draw: which rows are reviewed, given the probability of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from act_hf.sampling.budget import probabilities


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Bools = NDArray[np.bool_]

# Sums of a million float32 probabilities are this exact, relatively; a sum this near to an integer is meant as one.
SUM_TOLERANCE = 1e-6
# Nearer to 1 than this and a row is certain: the cumulative sum of the draw could not tell the difference.
CERTAIN_TOLERANCE = 1e-8


def draw(pi: ArrayLike, *, seed: int | Sequence[int]) -> Bools:
    """
    Draws rows with given probabilities and a fixed number of them: systematic sampling on a random permutation.

    The rows are laid end to end in random order, each as long as its π, and every row hit by one of the points u, u +
    1, u + 2, … (u uniform) is taken. So every row is taken with its π exactly, π = 1 always and π = 0 never. When Σπ
    is an integer within 1e-6 of itself the number of rows is that integer; otherwise it is one of the two integers
    around Σπ, and so never above an integer budget that Σπ keeps.

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
    order = np.flatnonzero((pi > 0) & ~selected)
    rng.shuffle(order)
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


def _start(total: float, rng: np.random.Generator) -> float:
    """u in (0, 1), kept from the values at which rounding in `total` would change the number of points below it."""
    excess = total - round(total)
    if abs(excess) > SUM_TOLERANCE * max(1.0, total):
        return float(rng.random())
    low, high = max(excess, 0.0), 1.0 + min(excess, 0.0)
    return low + (high - low) * float(rng.uniform(1e-7, 1 - 1e-7))
