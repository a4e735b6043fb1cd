"""What a uniform audit says of the errors that it did not see: exact, by the hypergeometric distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]


def chance_of_so_few(found: ArrayLike, unseen: ArrayLike, drawn: int, rows: int) -> Floats:
    """
    How probable it is that an audit finds at most `found` errors where there are `found + unseen`.

    Args:
        found (array of `int`): errors among the audited rows.
        unseen (array of `int`): errors among the others.
        drawn (`int`): rows audited, drawn uniformly without replacement.
        rows (`int`): rows they were drawn from.

    Returns:
        array of `float` in [0, 1]: 0 where there are not so many rows. Falls with `unseen`, rises with `found`.
    """
    from scipy.stats import hypergeom

    few, more = np.asarray(found, dtype=np.int64), np.asarray(unseen, dtype=np.int64)
    possible = more <= rows - drawn
    chance = hypergeom.cdf(few, rows, np.where(possible, few + more, few), drawn)
    told: Floats = np.where(possible, chance, 0.0)
    return told


def most_unseen(found: ArrayLike, drawn: int, rows: int, tail: float) -> Ints:
    """The upper bound on the errors that an audit did not see, wrong in at most the share `tail` of audits."""
    few = np.asarray(found, dtype=np.int64)
    return _last(lambda unseen: chance_of_so_few(few, unseen, drawn, rows) > tail, few.shape, rows - drawn)


def least_unseen(found: ArrayLike, drawn: int, rows: int, tail: float) -> Ints:
    """The lower bound on the errors that an audit did not see, wrong in at most the share `tail` of audits."""
    from scipy.stats import hypergeom

    few = np.asarray(found, dtype=np.int64)

    def excluded(unseen: Ints) -> Bools:
        told: Bools = hypergeom.sf(few - 1, rows, few + unseen - 1, drawn) <= tail
        return told

    return _last(excluded, few.shape, rows - drawn)


def audit_size(rows: int, allowed: int, tail: float) -> int:
    """
    The fewest rows of a uniform audit that finds no error and so shows that at most `allowed` are left.

    About ln(1 / tail) / (allowed / rows) of a large data set: the rule of three.

    Args:
        rows (`int`): rows to draw from.
        allowed (`int`): errors that may be left, 0 or more.
        tail (`float`): the share of audits that may be wrong, in (0, 1).

    Returns:
        `int`: in [0, rows].
    """
    few, many = -1, max(0, rows - allowed)
    while many - few > 1:
        middle = (few + many) // 2
        enough = chance_of_so_few(0, allowed + 1, middle, rows) <= tail
        few, many = (few, middle) if enough else (middle, many)
    return many


def _last(holds: Callable[[Ints], Bools], shape: tuple[int, ...], most: int) -> Ints:
    """The largest number up to `most` for which something holds that holds up to there; 0 where it never does."""
    low, high = np.zeros(shape, dtype=np.int64), np.full(shape, most, dtype=np.int64)
    while (low < high).any():
        middle = (low + high + 1) // 2
        held = holds(middle)
        low, high = np.where(held, middle, low), np.where(held, high, middle - 1)
    return low
