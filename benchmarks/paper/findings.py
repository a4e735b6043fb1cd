"""The answers that docs/results.md begins with, put together from the cells."""

from collections.abc import Callable

from paper.arms import ALONE
from paper.results import NAMED, Difference, SetResult
from paper.sets import PROTOCOLS
from paper.tables import waves_need


CLEAR = 2.0
"""Points below machine labels from which a loss is said to have collapsed."""


ADVICE = (
    "With the threshold rule the ACT loss *is* cross-entropy on corrected labels: train with that, and draw by a soft "
    "rule or with `mix` where an unbiased estimate of the rest is wanted."
)


def findings(results: list[SetResult]) -> str:
    """One item an answer; what was not measured is named."""
    parts = (_gaps, _named, _alone, _against_corrected, _collapse, _collapse_long, _waves)
    missing = [name for name in PROTOCOLS if name not in {one.protocol.name for one in results}]
    lines = [part(results) for part in parts]
    lines += [f"**Not measured at all so far**: {', '.join(missing)}."] if missing else []
    return "\n".join(f"- {line}" for line in lines)


def _gaps(results: list[SetResult]) -> str:
    return _sorted_by(
        results,
        "The gap of the best ACT arm to all human labels is at or below the paper's",
        lambda one: (best := one.best_act()) and one.difference("human", best),
        lambda one, found: found.value <= one.protocol.paper.gap,
        lambda one, found: f"{one.protocol.name} ({found.value:.2f} against {one.protocol.paper.gap:.2f})",
    )


def _named(results: list[SetResult]) -> str:
    return _sorted_by(
        results,
        f"With the arm named beforehand ({NAMED}) it is",
        lambda one: one.difference("human", NAMED),
        lambda one, found: found.value <= one.protocol.paper.gap,
        lambda one, found: f"{one.protocol.name} ({found.value:.2f})",
    )


def _alone(results: list[SetResult]) -> str:
    def best(one: SetResult) -> Difference | None:
        found = [one.difference("human", f"{arm}, {ALONE}") for arm in ("corrected", NAMED)]
        return min((gap for gap in found if gap), key=lambda gap: gap.value, default=None)

    return _sorted_by(
        results,
        "With the most independent critic alone, instead of all signals fused, the better of the exponential arm and "
        "the threshold is at or below the paper's gap",
        best,
        lambda one, found: found.value <= one.protocol.paper.gap,
        lambda one, found: f"{one.protocol.name} ({found.value:.2f})",
    )


def _against_corrected(results: list[SetResult]) -> str:
    """Where the loss with a soft rule loses to plain labels that people corrected."""
    found = _sorted_by(
        results,
        "**Plainly corrected labels** (threshold, cross-entropy) beat that arm by more than chance",
        lambda one: one.difference("corrected", NAMED),
        lambda one, found: found.low > 0,
        lambda one, found: f"{one.protocol.name} ({found.value:+.2f})",
    )
    return f"{found} {ADVICE}"


def _collapse(results: list[SetResult]) -> str:
    return _collapsed(results, "The plain normalised loss", "")


def _collapse_long(results: list[SetResult]) -> str:
    return _collapsed(results, "Trained several times as long, it", ", long")


def _collapsed(results: list[SetResult], who: str, suffix: str) -> str:
    """Where the plain form is clearly below machine labels, and the non-negative one is not."""

    def held(one: SetResult) -> float:
        return one.mean(f"act normalised, non-negative{suffix}") - one.mean(f"machine{suffix}")

    return _sorted_by(
        results,
        f"{who} ends {CLEAR:.0f} points or more below machine labels and its non-negative form does not",
        lambda one: one.difference(f"machine{suffix}", f"act normalised{suffix}"),
        lambda one, found: found.value >= CLEAR and held(one) > -CLEAR,
        lambda one, found: f"{one.protocol.name} ({-found.value:+.2f}; non-negative {held(one):+.2f})",
    )


def _waves(results: list[SetResult]) -> str:
    return _sorted_by(
        results,
        "Five waves with the error model reach the label accuracy of one shot with 70 % of its human share or less",
        waves_need,
        lambda one, share: share <= 0.7,
        lambda one, share: f"{one.protocol.name} ({100 * share:.0f} %)",
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
    parts = [f"{claim} on {len(yes)} of {len(yes) + len(no)}: {', '.join(yes) or 'none'}."]
    parts += [f"Not on {', '.join(no)}."] if no else []
    parts += [f"Not measured: {', '.join(unknown)}."] if unknown else []
    return " ".join(parts)
