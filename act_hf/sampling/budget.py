"""How many rows people review: a number or a share, and how it is split between groups of rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


def resolve_budget(budget: int | float, rows: int) -> int:
    """
    The budget as a number of rows.

    Args:
        budget (`int` or `float`): an `int` is a number of rows in [0, N], a `float` a share of them in [0.0, 1.0]. So
            `1` is one row and `1.0` is all of them.
        rows (`int`): N.

    Returns:
        `int`: B in [0, N]; a share is rounded down.

    Raises:
        ACTError: for any other type, a negative value, NaN, a share above 1, or more rows than there are.
    """
    if isinstance(budget, bool) or not isinstance(budget, int | float | np.integer | np.floating):
        raise ACTError(f"budget {budget!r} is neither a number of rows (an integer) nor a share of them (0.0 to 1.0)")
    if math.isnan(budget) or budget < 0:
        raise ACTError(f"budget {budget} is not possible; give 0 to {rows} rows, or a share from 0.0 to 1.0")
    if isinstance(budget, int | np.integer):
        if budget > rows:
            raise ACTError(f"budget {budget} is more than the {rows} rows there are")
        return int(budget)
    if budget > 1:
        raise ACTError(_not_a_share(float(budget)))
    # 0.29 * 100 is 28.999999999999996
    return min(rows, math.floor(budget * rows + 1e-9))


def _not_a_share(budget: float) -> str:
    message = f"budget {budget} is a share above 1"
    if not math.isfinite(budget):
        return f"{message}; give a number of rows as an integer, or a share from 0.0 to 1.0"
    count = round(budget)
    return f"{message}; for {count} rows give the integer {count} (--budget {count}), for half of them 0.5"


def allocate(budget: int, sizes: ArrayLike, weights: ArrayLike) -> NDArray[np.int64]:
    """
    A budget split between groups of rows in proportion to weights, in whole rows (largest remainder), never more than
    a group has: what it cannot take goes to the others.

    Args:
        budget (`int`): rows, at most the sum of `sizes`.
        sizes (array of G `int`): the rows of each group.
        weights (array of G `float`): 0 or more. Groups without weight get what the others cannot take.

    Returns:
        `np.ndarray` of G `int`: sums to the budget.
    """
    size, weight = np.asarray(sizes, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    quota = np.zeros(size.size)
    while (left := budget - quota.sum()) > 0 and (open_ := quota < size).any():
        usual = np.where(open_, weight, 0.0)
        usual = usual if usual.any() else np.where(open_, size, 0.0)
        raised = quota + left * usual / usual.sum()
        full = raised > size
        quota = np.where(full, size, quota) if full.any() else raised
    whole = np.floor(quota + 1e-9)
    remainders = np.where(whole < size, quota - whole, -1.0)
    whole[np.argsort(-remainders, kind="stable")[: budget - int(whole.sum())]] += 1
    return whole.astype(np.int64)


def probabilities(values: ArrayLike, name: str, *, rows: NDArray[np.int64] | None = None) -> Floats:
    """`values` as one-dimensional float64 in [0, 1]; `rows` are their numbers, where they are part of something."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ACTError(f"{name} has shape {array.shape}; one probability a row is needed")
    bad = np.flatnonzero(~((array >= 0) & (array <= 1)))
    if bad.size:
        row = bad[0] if rows is None else rows[bad[0]]
        raise ACTError(f"{name} of row {row} is {array[bad[0]]}, not a probability in [0, 1]")
    return array
