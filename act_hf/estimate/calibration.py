"""Whether error probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from act_hf.errors import ACTError
from act_hf.estimate.checks import same_length, scores_and_errors


if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """
    Whether error probabilities mean what they say: see [`reliability`].

    Args:
        predicted (array of `float`): mean error probability of each bin, ascending.
        observed (array of `float`): share of the rows of each bin that are wrong.
        count (array of `int`): rows in each bin.
        expected_calibration_error (`float`): mean distance of the two, bins weighted by their rows; in [0, 1].
        brier (`float`): mean squared distance of error probability and error; in [0, 1].
    """

    predicted: Floats
    observed: Floats
    count: NDArray[np.int64]
    expected_calibration_error: float
    brier: float


def reliability(
    error_probs: ArrayLike, errors: ArrayLike, *, weights: ArrayLike | None = None, bins: int = 10
) -> Reliability:
    """
    Compares error probabilities with observed errors, in bins of about equal size.

    Rows with equal error probability share a bin, so there may be fewer bins than asked for.

    Args:
        error_probs (array of N `float` in [0, 1]): ε̂.
        errors (array of N `bool`): whether the machine label is wrong.
        weights (array of N `float`, *optional*): positive weight of each row; 1/π for rows drawn with probability π.
        bins (`int`, *optional*, defaults to 10): at most this many.

    Returns:
        [`Reliability`]: the bins that have rows, the expected calibration error and the Brier score.

    Raises:
        ACTError: for bad arrays, no rows, or fewer than one bin.
    """
    eps, wrong = scores_and_errors(error_probs, errors)
    w = np.ones_like(eps) if weights is None else same_length(weights, eps, "weights")
    if bins < 1 or eps.size == 0 or not (w > 0).all():
        raise ACTError(f"reliability needs rows, positive weights and bins >= 1; got {eps.size} rows, bins={bins}")
    bin_of = _equal_bins(eps, bins)
    total = np.bincount(bin_of, weights=w)
    predicted = np.bincount(bin_of, weights=w * eps) / total
    observed = np.bincount(bin_of, weights=w * wrong) / total
    calibration = float((total * np.abs(predicted - observed)).sum() / total.sum())
    brier = float((w * (eps - wrong) ** 2).sum() / w.sum())
    return Reliability(predicted, observed, np.bincount(bin_of), calibration, brier)


def _equal_bins(values: Floats, bins: int) -> NDArray[np.int64]:
    """The bin of each value by its mid-rank, numbered without gaps."""
    from scipy.stats import rankdata

    wanted = np.floor((rankdata(values) - 0.5) / values.size * bins)
    numbered: NDArray[np.int64] = np.unique(wanted, return_inverse=True)[1]
    return numbered
