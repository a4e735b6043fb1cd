"""From a few rows to all: a total with a range, by how a row's cost grows with its length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LEVEL = 0.9
"""The share of ranges that hold the truth."""

FEWEST = 5
"""Measurements that a range can be made from."""


@dataclass(frozen=True)
class Range:
    """
    A number that is not known yet.

    Args:
        expected (`float`): the best guess.
        low, high (`float`): the 90 % range, at least 0. From 0 to infinity where nothing is known of it.
    """

    expected: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @property
    def known(self) -> bool:
        """Whether there is a range, and not the best guess alone."""
        return math.isfinite(self.high)

    def __add__(self, other: Range) -> Range:
        # End to end: parts measured on the same rows err in the same direction.
        return Range(self.expected + other.expected, self.low + other.low, self.high + other.high)

    def __truediv__(self, divisor: float) -> Range:
        return Range(self.expected / divisor, self.low / divisor, self.high / divisor)


def guess(expected: float) -> Range:
    """A number of which nothing but the best guess is known."""
    return Range(expected, 0.0, math.inf)


def extrapolate(sizes: ArrayLike, values: ArrayLike, rest: ArrayLike, together: ArrayLike | None = None) -> Range:
    r"""
    The total over rows of which only the sizes are known.

    A row costs something for the prompt and something for its length, so the estimate is the regression estimator
    M·(ȳ + b(X̄ - x̄)) (Cochran, Sampling Techniques, 7.1). The ratio estimator M·X̄·ȳ/x̄ presumes that a row without text
    costs nothing, and is off by a quarter where prompts are long. Its variance is

    $$ \frac{M^2}{n^2} \sum_i \frac{w_i^2 g_i^2 e_i^2}{(1 - h_i)^2} + M s^2, \quad
       g_i = 1 + n (X̄ - x̄)(x_i - x̄) / S_{xx} $$

    with residuals e divided by one minus their leverage h (HC3, MacKinnon and White 1985), since long rows are few and
    vary most, and M s² for the rows themselves. The range is by Student's t.

    Rows that were measured together are one measurement i, of the mean of its w rows, and not w of them that happen
    to agree; otherwise w is 1.

    Args:
        sizes (array `[n]`): the length of each row that was measured.
        values (array `[n]`): what each of them took.
        rest (array `[M]`): the length of each row that was not. The measured rows should be drawn from all at random.
        together (array `[n]`, *optional*): a number for each measured row, the same for those measured together.

    Returns:
        [`Range`]: the total over `rest`. A guess by the mean where there are fewer than [`FEWEST`] measurements.
    """
    beyond = np.asarray(rest, dtype=np.float64)
    x, y, w = _measurements(sizes, values, together)
    n, m = float(w.sum()), len(beyond)
    if m == 0:
        return Range()
    mean_x, mean_y = float(w @ x) / n, float(w @ y) / n
    if len(x) < FEWEST:
        return guess(m * mean_y) if mean_y else Range()
    centred = x - mean_x
    spread = float(w @ centred**2)
    distance = float(beyond.mean()) - mean_x
    slope, per_spread = (float(w @ (centred * y)) / spread, centred / spread) if spread else (0.0, np.zeros(len(x)))
    residuals = y - mean_y - slope * centred
    # A measurement that alone has its length has leverage 1 and residual 0.
    leverage = np.minimum(w * (1 / n + centred * per_spread), 1 - 1 / len(x))
    influence = w * (1 + n * distance * per_spread) / (1 - leverage)
    of_mean = float(np.sum((influence * residuals) ** 2)) / n**2
    freedom = len(x) - (2 if spread else 1)
    of_a_row = float(w @ residuals**2) / freedom
    total = m * (mean_y + slope * distance)
    margin = _student(freedom) * float(np.sqrt(m**2 * of_mean + m * of_a_row))
    return Range(max(0.0, total), max(0.0, total - margin), max(0.0, total + margin))


def _measurements(
    sizes: ArrayLike, values: ArrayLike, together: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The mean length, the mean value and the number of rows of each measurement."""
    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if together is None:
        return x, y, np.ones(len(x))
    _, measurement = np.unique(np.asarray(together), return_inverse=True)
    rows = np.bincount(measurement).astype(np.float64)
    return np.bincount(measurement, x) / rows, np.bincount(measurement, y) / rows, rows


def _student(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, freedom))
