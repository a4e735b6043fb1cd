"""From a few rows to all: a total with a range, by how a row's cost grows with its length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LEVEL = 0.9
"""The share of ranges that hold the truth."""

FEWEST = 5
"""Rows that a range can be made from."""


@dataclass(frozen=True)
class Range:
    """
    A number that is not known yet.

    Args:
        expected (`float`): the best guess.
        low, high (`float`): the 90 % range, at least 0.
    """

    expected: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: Range) -> Range:
        # End to end: parts measured on the same rows err in the same direction.
        return Range(self.expected + other.expected, self.low + other.low, self.high + other.high)

    def __truediv__(self, divisor: float) -> Range:
        return Range(self.expected / divisor, self.low / divisor, self.high / divisor)


def extrapolate(sizes: ArrayLike, values: ArrayLike, rest: ArrayLike) -> Range:
    r"""
    The total over rows of which only the sizes are known.

    A row costs something for the prompt and something for its length, so the estimate is the regression estimator
    M·(ȳ + b(X̄ - x̄)) (Cochran, Sampling Techniques, 7.1). The ratio estimator M·X̄·ȳ/x̄ presumes that a row without text
    costs nothing, and is off by a quarter where prompts are long. Its variance is

    $$ \frac{M^2}{n^2} \sum_i \frac{g_i^2 e_i^2}{(1 - h_i)^2} + M s^2, \quad g_i = 1 + n (X̄ - x̄)(x_i - x̄) / S_{xx} $$

    with residuals e divided by one minus their leverage h (HC3, MacKinnon and White 1985), since long rows are few and
    vary most, and M s² for the rows themselves. The range is by Student's t.

    Args:
        sizes (array `[n]`): the length of each row that was measured; at least [`FEWEST`].
        values (array `[n]`): what each of them took.
        rest (array `[M]`): the length of each row that was not. The measured rows should be drawn from all at random.

    Returns:
        [`Range`]: the total over `rest`.
    """
    x, y, beyond = (np.asarray(array, dtype=np.float64) for array in (sizes, values, rest))
    n, m = len(x), len(beyond)
    if m == 0:
        return Range()
    centred = x - x.mean()
    spread = float(centred @ centred)
    distance = float(beyond.mean() - x.mean())
    slope, per_spread = (float(centred @ y) / spread, centred / spread) if spread else (0.0, np.zeros(n))
    residuals = y - y.mean() - slope * centred
    # A row that alone has its length has leverage 1 and residual 0.
    leverage = np.minimum(1 / n + centred * per_spread, 1 - 1 / n)
    total = m * (float(y.mean()) + slope * distance)
    margin = _margin(residuals, 1 + n * distance * per_spread, leverage, m, n - (2 if spread else 1))
    return Range(max(0.0, total), max(0.0, total - margin), max(0.0, total + margin))


def _margin(
    residuals: NDArray[np.float64], weights: NDArray[np.float64], leverage: NDArray[np.float64], m: int, freedom: int
) -> float:
    from scipy.stats import t

    of_mean = float(np.sum((weights * residuals / (1 - leverage)) ** 2)) / len(residuals) ** 2
    of_a_row = float(residuals @ residuals) / freedom
    return float(t.ppf((1 + LEVEL) / 2, freedom)) * float(np.sqrt(m**2 * of_mean + m * of_a_row))
