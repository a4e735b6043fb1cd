"""The claims that docs/results.md begins with, set by set, from the cells."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from documents import table
from paper.arms import ALONE, SAME
from paper.results import ACT, NAMED, Difference, SetResult
from paper.sets import PROTOCOLS
from paper.tables import SWEPT, best_order, waves_need


CLEAR = 2.0
"""Points below machine labels from which a loss is said to have collapsed."""
FEWER = 0.7
"""Of the human share: what waves are to do with."""


@dataclass(frozen=True)
class Claim:
    """
    What is said of every set: what is measured (None: not), whether that is what the claim says, and how it is shown.
    `gap`: to human labels; where machine labels alone are within the paper's, it cannot tell and does not count.
    """

    text: str
    measure: Callable[[SetResult], Any]
    holds: Callable[[SetResult, Any], bool]
    shown: Callable[[SetResult, Any], str]
    gap: bool = False

    def row(self, results: list[SetResult]) -> list[str]:
        found = [(one, measured) for one in results if (measured := self.measure(one)) is not None]
        told = [self.holds(*pair) for pair in found if not self._idle(pair[0])]
        return [self.text, f"{sum(told)} of {len(told)}" if told else "–", *map(self._cell, results)]

    def _cell(self, one: SetResult) -> str:
        found = self.measure(one)
        if found is None:
            return "–"
        shown = self.shown(one, found)
        if self._idle(one):
            return f"({shown})"
        return f"**{shown}**" if self.holds(one, found) else shown

    def _idle(self, one: SetResult) -> bool:
        return self.gap and one.idle


def findings(results: list[SetResult]) -> str:
    """One row a claim, one column a set; what was not measured is named."""
    paper = ["*the paper's gap*", "", *(f"{one.protocol.paper.gap:.2f}" for one in results)]
    header = ["claim", "holds on", *(one.protocol.name for one in results)]
    made = table(header, [paper, *(claim.row(results) for claim in CLAIMS)])
    missing = [name for name in PROTOCOLS if name not in {one.protocol.name for one in results}]
    return f"{made}\n\nNot measured at all: {', '.join(missing)}." if missing else made


def _near(text: str, measure: Callable[[SetResult], Difference | None]) -> Claim:
    return Claim(text, measure, lambda one, gap: gap.value <= one.protocol.paper.gap, _points, gap=True)


def _beats(text: str, measure: Callable[[SetResult], Difference | None]) -> Claim:
    return Claim(text, measure, lambda one, found: found.low > 0, _signed)


def _points(one: SetResult, found: Difference) -> str:
    return f"{found.value:.2f}"


def _signed(one: SetResult, found: Difference) -> str:
    return f"{found.value:+.2f}"


def _gap_of_best(one: SetResult) -> Difference | None:
    best = one.best_act()
    return one.difference("human", best) if best else None


def _gap_alone(one: SetResult) -> Difference | None:
    found = [one.difference("human", f"{arm}, {ALONE}") for arm in SWEPT]
    return min((gap for gap in found if gap), key=lambda gap: gap.value, default=None)


def _best_soft(one: SetResult) -> Difference | None:
    found = [one.difference(arm, "corrected") for arm in ACT if arm not in SAME]
    return max((gap for gap in found if gap), key=lambda gap: gap.value, default=None)


def _collapses(text: str, suffix: str) -> Claim:
    """Where the plain form is clearly below machine labels and human ones, and the non-negative form is not."""

    def held(one: SetResult) -> float:
        return one.mean(f"act normalised, non-negative{suffix}") - one.mean(f"machine{suffix}")

    def clear(one: SetResult, found: Difference) -> bool:
        below_human = one.mean(f"human{suffix}") - one.mean(f"act normalised{suffix}")
        return min(found.value, below_human) >= CLEAR and not found.low <= 0 and held(one) > -CLEAR

    return Claim(
        text,
        lambda one: one.difference(f"machine{suffix}", f"act normalised{suffix}"),
        clear,
        lambda one, found: f"{-found.value:+.2f}; {held(one):+.2f}",
    )


def _fewer(text: str, order: Callable[[SetResult], str]) -> Claim:
    return Claim(
        text,
        lambda one: waves_need(one, order(one)),
        lambda one, share: share <= FEWER,
        lambda one, share: "more" if np.isinf(share) else f"{100 * share:.0f} %",
    )


CLAIMS = (
    _near("Gap of the best ACT arm: at or below the paper's", _gap_of_best),
    _near(f"The same for the arm named beforehand ({NAMED})", lambda one: one.difference("human", NAMED)),
    _near("The same for labels corrected in five waves, cross-entropy", lambda one: one.difference("human", "waves")),
    _near("The same with the first critic alone, the better of two arms", _gap_alone),
    _beats("Corrected labels beat the arm named beforehand", lambda one: one.difference("corrected", NAMED)),
    _beats("The best of six ACT arms with a soft rule beats corrected labels", _best_soft),
    _beats(
        "Exponential beats normalised in the plain form, as in the paper",
        lambda one: one.difference("act exponential", "act normalised"),
    ),
    _collapses("The plain normalised loss collapses; its non-negative form (second) does not", ""),
    _collapses("The same, trained several times as long", ", long"),
    _fewer(
        f"Share that waves need for one shot's label accuracy: {100 * FEWER:.0f} % or less", lambda one: "corrected"
    ),
    _fewer("The same against the best order for one shot, known only afterwards", best_order),
)
