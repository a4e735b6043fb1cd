"""The answers that docs/results.md begins with, put together from the cells."""

from collections.abc import Callable

import numpy as np
from paper.arms import ALONE, SAME
from paper.results import ACT, NAMED, Difference, SetResult
from paper.sets import PROTOCOLS
from paper.tables import SWEPT, best_order, waves_need


CLEAR = 2.0
"""Points below machine labels from which a loss is said to have collapsed."""


WEIGHTS = (
    "Both weigh a drawn row by 1/π, and without an audit the rows that the critic does not doubt have weights in the "
    "hundreds."
)
ADVICE = (
    "With the threshold rule the ACT loss *is* cross-entropy on corrected labels: start with that, and draw by a soft "
    "rule or with `mix` where an unbiased estimate of the rest is wanted."
)


def findings(results: list[SetResult]) -> str:
    """One item an answer; what was not measured is named."""
    parts = (_gaps, _named, _in_waves, _alone, _against_corrected, _soft, _exponential)
    parts += (_collapse, _collapse_long, _waves, _waves_best)
    missing = [name for name in PROTOCOLS if name not in {one.protocol.name for one in results}]
    lines = [part(results) for part in parts]
    lines += [f"**Not measured at all so far**: {', '.join(missing)}."] if missing else []
    return "\n".join(f"- {line}" for line in lines)


def _gaps(results: list[SetResult]) -> str:
    return _near(
        results,
        "The gap of the best ACT arm to all human labels is at or below the paper's",
        lambda one: (best := one.best_act()) and one.difference("human", best),
    )


def _named(results: list[SetResult]) -> str:
    return _near(
        results,
        f"With the arm named beforehand ({NAMED}) it is",
        lambda one: one.difference("human", NAMED),
    )


def _in_waves(results: list[SetResult]) -> str:
    return _near(
        results,
        "Labels corrected in five waves with the error model, and cross-entropy, are",
        lambda one: one.difference("human", "waves"),
    )


def _alone(results: list[SetResult]) -> str:
    def best(one: SetResult) -> Difference | None:
        found = [one.difference("human", f"{arm}, {ALONE}") for arm in SWEPT]
        return min((gap for gap in found if gap), key=lambda gap: gap.value, default=None)

    return _near(
        results,
        "With the first critic of each set alone instead of all fused, the better of that arm and corrected labels is",
        best,
    )


def _near(results: list[SetResult], claim: str, measure: Callable[[SetResult], Difference | None]) -> str:
    """On which sets a gap is at or below the paper's, of those where machine labels alone are not."""
    found = _sorted_by(
        [one for one in results if not one.idle],
        claim,
        measure,
        lambda one, found: found.value <= one.protocol.paper.gap,
        lambda one, found: f"{one.protocol.name} ({found.value:.2f} against {one.protocol.paper.gap:.2f})",
    )
    idle = [f"{one.protocol.name} ({gap.value:.2f})" for one in results if one.idle and (gap := measure(one))]
    if not idle:
        return found
    return (
        f"{found} It is on {', '.join(idle)} too, which says little: there machine labels alone are within that gap."
    )


def _exponential(results: list[SetResult]) -> str:
    """The paper's own order of its rules."""
    found = _sorted_by(
        results,
        "**The exponential rule** in the paper's plain form beats the normalised one, as in the paper, by more than "
        "chance",
        lambda one: one.difference("act exponential", "act normalised"),
        lambda one, found: found.low > 0,
        lambda one, found: f"{one.protocol.name} ({found.value:+.2f})",
    )
    return f"{found} {WEIGHTS}"


def _against_corrected(results: list[SetResult]) -> str:
    """Where the loss with a soft rule loses to plain labels that people corrected."""
    found = _sorted_by(
        results,
        "**Plainly corrected labels** (threshold, cross-entropy) beat the arm named beforehand by more than chance",
        lambda one: one.difference("corrected", NAMED),
        lambda one, found: found.low > 0,
        lambda one, found: f"{one.protocol.name} ({found.value:+.2f})",
    )
    return f"{found} {ADVICE}"


def _soft(results: list[SetResult]) -> str:
    """Where the loss is worth its weights."""

    def best(one: SetResult) -> Difference | None:
        found = [one.difference(arm, "corrected") for arm in ACT if arm not in SAME]
        return max((gap for gap in found if gap), key=lambda gap: gap.value, default=None)

    return _sorted_by(
        results,
        "The best of the six ACT arms with a soft rule beats plainly corrected labels by more than chance",
        best,
        lambda one, found: found.low > 0,
        lambda one, found: f"{one.protocol.name} ({found.value:+.2f})",
    )


def _collapse(results: list[SetResult]) -> str:
    return _collapsed(results, "The plain normalised loss", "")


def _collapse_long(results: list[SetResult]) -> str:
    return _collapsed(results, "Trained several times as long, it", ", long")


def _collapsed(results: list[SetResult], who: str, suffix: str) -> str:
    """Where the plain form is clearly below machine labels and human ones, and the non-negative form is not."""

    def held(one: SetResult) -> float:
        return one.mean(f"act normalised, non-negative{suffix}") - one.mean(f"machine{suffix}")

    def clear(one: SetResult, found: Difference) -> bool:
        below_human = one.mean(f"human{suffix}") - one.mean(f"act normalised{suffix}")
        return min(found.value, below_human) >= CLEAR and not found.low <= 0 and held(one) > -CLEAR

    return _sorted_by(
        results,
        f"{who} ends {CLEAR:.0f} points or more below machine labels, and below human ones, and its non-negative form "
        "does not",
        lambda one: one.difference(f"machine{suffix}", f"act normalised{suffix}"),
        clear,
        lambda one, found: f"{one.protocol.name} ({-found.value:+.2f}; non-negative {held(one):+.2f})",
    )


def _waves(results: list[SetResult]) -> str:
    return _fewer(
        results,
        "Five waves with the error model reach the label accuracy of one shot by the same fused critic with 70 % of "
        "its human share or less",
        lambda one: "corrected",
    )


def _waves_best(results: list[SetResult]) -> str:
    return _fewer(
        results,
        "Against the best of the orders for one shot (fused, one critic, cleanlab), known only afterwards, they do",
        best_order,
    )


def _fewer(results: list[SetResult], claim: str, order: Callable[[SetResult], str]) -> str:
    return _sorted_by(
        results,
        claim,
        lambda one: waves_need(one, order(one)),
        lambda one, share: share <= 0.7,
        lambda one, share: f"{one.protocol.name} ({'more' if np.isinf(share) else f'{100 * share:.0f} %'})",
    )


def _sorted_by(
    results: list[SetResult],
    claim: str,
    measure: Callable[[SetResult], Difference | float | None],
    holds: Callable[..., bool],
    shown: Callable[..., str],
) -> str:
    """On which sets a claim holds, on which it does not, and where it was not measured."""
    yes, no, unknown = [], [], []
    for one in results:
        found = measure(one)
        if found is None:
            unknown.append(one.protocol.name)
        else:
            (yes if holds(one, found) else no).append(shown(one, found))
    if not yes + no:
        return f"{claim}: not measured."
    parts = [f"{claim} on {len(yes)} of {len(yes) + len(no)}{': ' if yes else ''}{', '.join(yes)}."]
    parts += [f"Not on {', '.join(no)}."] if no else []
    parts += [f"Not measured: {', '.join(unknown)}."] if unknown else []
    return " ".join(parts)
