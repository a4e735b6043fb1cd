"""Plan a review: how many rows people must look at to reach a target, from a small audit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf.evidence.bounds import audit_size
from act_hf.evidence.facts import Point, ReviewPlan
from act_hf.evidence.left import Evidence, allowed_errors, check_goal
from act_hf.evidence.reading import read_review
from act_hf.evidence.target import look_share
from act_hf.evidence.threshold import find_cut, not_above


if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import ArrayLike, NDArray

    Bools = NDArray[np.bool_]

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the rows that nobody has looked at: where the curve is read off."""


def plan_review(dataset: Dataset, *, target: float = 0.98, confidence: float = 0.95) -> ReviewPlan:
    """
    How many rows people must look at, so that the share `target` of all labels is right.

    Made for an audit: a criticized data set of which a few hundred rows were drawn uniformly (`sample(..., mix=1)`)
    and reviewed. It works from any finished review; with other draws it is approximate, and says so.

    The rows are ordered by the critic's ε̂, and all from a threshold on are reviewed. The audited rows below it bound
    the errors that stay. A plan from a uniform audit is wrong in at most 1 − `confidence` of audits, whatever the
    critic is worth, as long as reviewers are right; a bad critic makes it ask for more rows. The other way round, the
    threshold is the highest below which machine labels can be kept unseen, with at most (1 − `target`) N errors.
    After "PAC labels" (arXiv 2506.10908); the exact form for counts of errors is ours, see
    [`act_hf.evidence.left.Evidence`].

    The order is `act_error_prob_raw` where there is one: a critic fitted to the audit's answers has seen what it is
    about to be judged by. Rows without an error probability, or with an `act_failure`, count as wrong until they are
    reviewed, and are reviewed first.

    Args:
        dataset (`Dataset`): criticized, sampled and reviewed; a wave that is not finished does not count.
        target (`float`, *optional*, defaults to 0.98): share of all the rows' labels that should be right after
            review, in (0, 1).
        confidence (`float`, *optional*, defaults to 0.95): in (0.5, 1). It is for one plan made from one audit; to ask
            again after every wave there is [`check_target`].

    Returns:
        [`ReviewPlan`]: with `summary()`, `plot(path)` and `to_dict()`.

    Raises:
        ACTError: for a missing column, an unfinished first wave, a target outside (0, 1), or a confidence outside
            (0.5, 1).

    Example:

    ```python
    >>> audit = sample(criticized, budget=400, mix=1.0)
    >>> audit = pull_review(audit, "reviewed.csv")
    >>> print(plan_review(audit, target=0.98).summary())
    ```
    """
    check_goal(target, confidence)
    review = read_review(dataset, stage="budget")
    more: dict[str, Any] = {"waiting": review.waiting, "column": review.column, "simulated": review.simulated}
    return dataclasses.replace(_plan(review.evidence, target, confidence), **more)


def plan_rows(
    error_probs: ArrayLike,
    selected: ArrayLike,
    pi: ArrayLike,
    errors: ArrayLike,
    *,
    target: float = 0.98,
    confidence: float = 0.95,
) -> ReviewPlan:
    """
    [`plan_review`] of arrays.

    Args:
        error_probs (array of N `float` in [0, 1]): ε̂, NaN for rows without; fitted to none of the answers.
        selected (array of N, or `[N, K]` for K waves, of `bool`): δ, the rows that were drawn and reviewed.
        pi (array of N, or `[N, K]`, of `float` in [0, 1]): the π the draw used.
        errors (array of N `bool`): whether the machine label is wrong; read only where `selected`.
        target, confidence: as in [`plan_review`].

    Returns:
        [`ReviewPlan`].

    Raises:
        ACTError: for arrays that do not fit together, or values out of range.
    """
    check_goal(target, confidence)
    return _plan(Evidence.of(error_probs, selected, pi, errors), target, confidence)


def _plan(evidence: Evidence, target: float, confidence: float) -> ReviewPlan:
    rows, tail = evidence.order.size, 1 - confidence
    allowed = allowed_errors(target, rows)
    cut, looks = find_cut(evidence, allowed, tail), len(evidence.chances)
    from_ = np.inf if cut.threshold is None else cut.threshold
    open_, scored = ~evidence.done, np.isfinite(evidence.order)
    last = open_ & (evidence.order < from_) if cut.rows else open_
    return ReviewPlan(
        rows=rows,
        reviewed=int(evidence.done.sum()),
        found=int(evidence.wrong.sum()),
        waiting=0,
        target=target,
        confidence=confidence,
        further=cut.rows,
        threshold=from_ if np.isfinite(from_) else None,
        unscored=int((open_ & ~scored).sum()) if cut.rows else 0,
        kept=int(last.sum()),
        blind=int(last.sum()) <= allowed,
        expected=_point(evidence, cut.rows, last, tail),
        curve=_curve(evidence, tail),
        audited=evidence.worth,
        audit_needed=audit_size(rows, allowed, tail),
        unknown=int((evidence.unknown & open_).sum()),
        waves=evidence.waves.count,
        looks=looks,
        until_stop=find_cut(evidence, allowed, look_share(tail, looks)).rows if looks > 1 else None,
        exact=evidence.exact,
        column="error_probs",
        simulated=False,
    )


def _curve(evidence: Evidence, tail: float) -> tuple[Point, ...]:
    """What a number of further rows buys. A point is where a group of rows with equal ε̂ ends, next to each share."""
    open_ = ~evidence.done
    values, sizes = np.unique(evidence.order[open_], return_counts=True)
    budgets = np.append(np.cumsum(sizes[::-1])[::-1], 0)  # with everything from the k-th value on
    wanted = {int(np.abs(budgets - share * budgets[0]).argmin()) for share in SHARES}
    bounds = np.append(values, np.inf)
    points = []
    for place in sorted(wanted, reverse=True):
        kept = open_ if place == values.size else open_ & (evidence.order < bounds[place])
        points.append(_point(evidence, int(budgets[place]), kept, tail))
    return tuple(points)


def _point(evidence: Evidence, budget: int, kept: Bools, tail: float) -> Point:
    """What is right once everything but `kept` is reviewed."""
    rows, open_ = evidence.order.size, ~evidence.done
    left, now = (evidence.left(not_above(evidence, which), tail) for which in (kept, open_))
    at_random = now.errors * (1 - budget / max(1, int(open_.sum())))
    expected = float(np.minimum(evidence.order[kept], 1.0).sum())
    return Point(budget, *(1 - errors / rows for errors in (left.errors, left.high, left.low, at_random, expected)))
