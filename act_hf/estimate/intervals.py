"""Intervals of a share."""

from __future__ import annotations

import math

from act_hf.errors import ACTError
from act_hf.estimate.checks import check_confidence


def wilson(k: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """
    The Wilson score interval of a share, for n rows drawn alike of which all are known.

    Args:
        k (`int`): rows that count, in [0, n].
        n (`int`): rows, at least 1.
        confidence (`float`, *optional*, defaults to 0.95): in (0, 1).

    Returns:
        `tuple` of two `float`: lower and upper bound in [0, 1].

    Raises:
        ACTError: for k outside [0, n], no rows, or a confidence outside (0, 1).
    """
    from scipy.stats import norm

    check_confidence(confidence)
    if n < 1 or not 0 <= k <= n:
        raise ACTError(f"{k} of {n} rows is not a share")
    z2 = float(norm.ppf((1 + confidence) / 2)) ** 2
    center = (k + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (k * (n - k) / n + z2 / 4)) / (n + z2)
    # At the ends the bound is 0 or 1 exactly; rounding would miss it.
    return (0.0 if k == 0 else center - half), (1.0 if k == n else center + half)


def clopper_pearson(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """
    The exact binomial interval of a share.

    Args:
        share (`float`): in [0, 1].
        n (`float`): rows, which need not be whole: an effective number will do.
        confidence (`float`, *optional*, defaults to 0.95): in (0, 1).

    Returns:
        `tuple` of two `float`: lower and upper bound in [0, 1].
    """
    from scipy.stats import beta

    tail, k = (1 - confidence) / 2, share * n
    low = float(beta.ppf(tail, k, n - k + 1)) if k > 0 else 0.0
    high = float(beta.ppf(1 - tail, k + 1, n - k)) if n - k > 0 else 1.0
    # With next to no effective rows the quantile underflows to NaN: nothing is known.
    return (0.0 if math.isnan(low) else low), (1.0 if math.isnan(high) else high)
