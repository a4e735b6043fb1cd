"""People err too: how often, from where two of them disagree, and what that does to an accuracy."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from act_hf.errors import ACTError
from act_hf.estimate.intervals import wilson


if TYPE_CHECKING:
    from act_hf.estimate.accuracy import AccuracyEstimate


def reviewer_error_rate(
    disagreeing: int, pairs: int, labels: int, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """
    How often a reviewer is wrong, from rows that two of them answered.

    Two reviewers who are wrong with the probability r, independently and with each wrong label as often, disagree with
    the probability 2r − r²·K/(K − 1), which is solved for r. Rows that both get wrong because they are hard make r too
    small: it is a lower bound then.

    Args:
        disagreeing (`int`): pairs of answers that differ.
        pairs (`int`): pairs of answers to the same row, at least 1.
        labels (`int`): K, at least 2.
        confidence (`float`, *optional*, defaults to 0.95): of the bounds, in (0, 1).

    Returns:
        `tuple` of three `float`: r in [0, 1 − 1/K], its lower and its upper bound (from the Wilson interval).

    Raises:
        ACTError: for counts that do not fit, or fewer than two labels.
    """
    if labels < 2:
        raise ACTError(f"{labels} labels: two people can only disagree about two or more")
    bounds = wilson(disagreeing, pairs, confidence=confidence)
    rate, low, high = (_rate(share, labels) for share in (disagreeing / pairs, *bounds))
    return rate, low, high


def _rate(disagreement: float, labels: int) -> float:
    worst = 1 - 1 / labels  # answers by chance
    a = labels / (labels - 1)
    return (1 - math.sqrt(max(0.0, 1 - a * disagreement))) / a if disagreement < worst else worst


def with_reviewer_error(estimate: AccuracyEstimate, rate: float, labels: int) -> AccuracyEstimate:
    """
    An accuracy when reviewers are wrong with a known probability.

    A reviewer then calls a right machine label wrong with the probability r, and a wrong one right with r/(K − 1).
    What was observed is corrected for that (Rogan and Gladen 1978), and the reviewed rows carry human labels of which
    the share r is wrong. The bounds move in the same way; that r itself is estimated does not widen them.

    Args:
        estimate ([`AccuracyEstimate`]): as if reviewers were always right.
        rate (`float`): r, in [0, 1 − 1/K); see [`reviewer_error_rate`].
        labels (`int`): K, at least 2.

    Returns:
        [`AccuracyEstimate`]: the same with other shares.

    Raises:
        ACTError: for a rate out of range: answers by chance tell nothing.
    """
    if labels < 2 or not 0 <= rate < 1 - 1 / labels:
        raise ACTError(f"a reviewer's error rate of {rate} is not in [0, 1 - 1/K), K = {labels} labels")
    told = 1 - rate - rate / (labels - 1)
    n, left = estimate.rows, estimate.rows - estimate.reviewed

    def truly(flagged: float) -> float:
        """Share of errors among rows of which reviewers would call a share wrong."""
        return min(1.0, max(0.0, (flagged - rate) / told))

    def after(accuracy: float) -> float:
        flagged = (1 - accuracy) * n / left if left else 0.0
        return 1 - (truly(flagged) * left + rate * estimate.reviewed) / n

    return dataclasses.replace(
        estimate,
        machine=1 - truly(1 - estimate.machine),
        machine_low=1 - truly(1 - estimate.machine_low),
        machine_high=1 - truly(1 - estimate.machine_high),
        after=after(estimate.after),
        after_low=after(estimate.after_low),
        after_high=after(estimate.after_high),
    )
