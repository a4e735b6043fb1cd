"""Is the target reached? Asked during the review, as often as one likes."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.evidence.left import Evidence, Left, allowed_errors, check_goal
from act_hf.evidence.reading import read_review
from act_hf.evidence.threshold import find_cut, not_above
from act_hf.report.facts import interval, percent


if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class TargetCheck:
    """
    Whether a target is reached, made by [`check_target`]. All are plain values.

    Args:
        state (`str`): `"reached"` or `"not reached"` where that is shown, else `"cannot tell"`.
        rows (`int`): N.
        reviewed (`int`): rows that have a human label.
        found (`int`): those whose machine label was wrong.
        waiting (`int`): rows of an unfinished wave without an answer.
        target (`float`): share of all labels that should be right.
        confidence (`float`): of all the looks together.
        look (`int`): waves with a random draw that are complete: the number of this look.
        level (`float`): the confidence that this look has to itself; of the bounds.
        accuracy (`float`): share of all labels that are right now, estimated.
        low, high (`float`): bounds of it.
        further (`int`): rows to review further, the most doubted first, until the target is shown to be reached.
        audited (`float`): rows drawn uniformly, or as many as would tell as much.
        exact (`bool`): whether the bounds are exact (one uniform draw) or approximate.
        simulated (`bool`): whether the review was simulated.
    """

    state: str
    rows: int
    reviewed: int
    found: int
    waiting: int
    target: float
    confidence: float
    look: int
    level: float
    accuracy: float
    low: float
    high: float
    further: int
    audited: float
    exact: bool
    simulated: bool

    @property
    def reached(self) -> bool:
        """Whether people can stop."""
        return self.state == "reached"

    def summary(self) -> str:
        """The answer for a terminal: lines of at most 100 columns."""
        return "\n".join(part for line in _lines(self) for part in textwrap.wrap(line, 98))

    def to_dict(self) -> dict[str, Any]:
        """The answer as values that JSON can hold."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]


def check_target(
    dataset: Dataset, *, target: float = 0.98, confidence: float = 0.95, looks: int | None = None
) -> TargetCheck:
    """
    Whether the share `target` of all labels is right by now. May be asked at any time of a review, after every wave.

    The errors left are bounded below the threshold from which on every row is reviewed, as in [`plan_review`].
    Whoever looks after every wave has several chances of a lucky one: look k, after the k-th wave with a random
    draw, may be wrong with the probability (1 − `confidence`) / (k (k + 1)) only, and all the looks there ever are
    with 1 − `confidence` (the union bound). Waves without chance in them (`rule="threshold"`, `mix=0`) bring no new
    evidence and are no new look: they only move the threshold.

    A wave that is not finished is no sample. What was corrected in it counts, its draw does not.

    Args:
        dataset (`Dataset`): criticized, sampled, and reviewed at least through its first wave.
        target (`float`, *optional*, defaults to 0.98): share of the labels, in (0, 1).
        confidence (`float`, *optional*, defaults to 0.95): of all looks together, in (0.5, 1).
        looks (`int`, *optional*): the most waves with a random draw there will be, said beforehand: each look then has
            (1 − `confidence`) / `looks`. With 1 a plan that was followed is confirmed by the audit it was made of.

    Returns:
        [`TargetCheck`]: with `reached`, `summary()` and `to_dict()`.

    Raises:
        ACTError: for a missing column, an unfinished first wave, a target outside (0, 1), a confidence outside (0.5,
            1), or more waves than `looks`.

    Example:

    ```python
    >>> check = check_target(reviewed, target=0.98)
    >>> while not check.reached:
    ...     ...
    ```
    """
    check_goal(target, confidence)
    review = read_review(dataset, stage="stop")
    evidence, look = review.evidence, len(review.evidence.chances)
    tail = look_share(1 - confidence, look, looks)
    allowed = allowed_errors(target, len(dataset))
    left = evidence.left(not_above(evidence, ~evidence.done), tail)
    accuracy, low, high = (1 - errors / len(dataset) for errors in (left.errors, left.high, left.low))
    return TargetCheck(
        state=_state(evidence, left, allowed, tail),
        rows=len(dataset),
        reviewed=int(evidence.done.sum()),
        found=int(evidence.wrong.sum()),
        waiting=review.waiting,
        target=target,
        confidence=confidence,
        look=look,
        level=1 - tail,
        accuracy=accuracy,
        low=low,
        high=high,
        further=find_cut(evidence, allowed, tail).rows,
        audited=evidence.worth,
        exact=evidence.exact,
        simulated=review.simulated,
    )


def look_share(error: float, look: int, looks: int | None = None) -> float:
    """
    What look k may spend of the probability to be wrong: error / (k (k + 1)), or an equal part of a known number.

    Raises:
        ACTError: for more looks than were announced.
    """
    number = max(1, look)
    if looks is None:
        return error / (number * (number + 1))
    if looks < number:
        raise ACTError(f"stop: looks={looks}, but {look} waves with a random draw are reviewed already")
    return error / looks


def is_reached(evidence: Evidence, allowed: int, tail: float) -> bool:
    """Whether it is shown that at most `allowed` errors are left in all."""
    return evidence.few_left(not_above(evidence, ~evidence.done), allowed, tail)


def _state(evidence: Evidence, left: Left, allowed: int, tail: float) -> str:
    if is_reached(evidence, allowed, tail):
        return "reached"
    return "not reached" if left.low > allowed else "cannot tell"


def _lines(check: TargetCheck) -> Iterator[str]:
    simulated = " (simulated)" if check.simulated else ""
    goal = f"{100 * check.target:g} % of the {check.rows:,} labels right"
    told = {"reached": "Reached", "not reached": "Not yet", "cannot tell": "Not shown yet"}[check.state]
    about = "" if check.exact else "about "
    yield f"{told}: {goal}, with {about}{100 * check.confidence:g} % confidence over all looks"
    bounds = f"{interval(check.low, check.high)}, each bound at {100 * check.level:.4g} %"
    yield f"estimated {percent(check.accuracy)} ({bounds}; look {check.look})"
    waiting = f"; {check.waiting:,} drawn rows wait for an answer" if check.waiting else ""
    yield f"{check.reviewed:,} rows reviewed{simulated}, {check.found:,} labels were wrong{waiting}"
    if check.state == "reached":
        return
    yield f"shown after about {check.further:,} further rows, the most doubted first"
