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
    `needs_errors`: a set where machine labels alone are within the paper's gap cannot tell, and does not count.
    """

    text: str
    measure: Callable[[SetResult], Any]
    holds: Callable[[SetResult, Any], bool]
    shown: Callable[[SetResult, Any], str]
    needs_errors: bool = False

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
        return self.needs_errors and one.idle


def findings(results: list[SetResult]) -> str:
    """One row a claim, one column a set; what was not measured is named."""
    paper = ["*the paper's gap*", "", *(f"{one.protocol.paper.gap:.2f}" for one in results)]
    header = ["claim", "holds on", *(one.protocol.name for one in results)]
    made = table(header, [paper, *(claim.row(results) for claim in CLAIMS)])
    missing = [name for name in PROTOCOLS if name not in {one.protocol.name for one in results}]
    return f"{made}\n\nMeasured with fewer than two seeds: {', '.join(missing)}." if missing else made


def _near(text: str, measure: Callable[[SetResult], Difference | None]) -> Claim:
    return Claim(text, measure, lambda one, gap: gap.value <= one.protocol.paper.gap, _points, needs_errors=True)


def _beats(text: str, first: str, second: str) -> Claim:
    return _gains(text, lambda one: one.difference(first, second))


def _gains(text: str, measure: Callable[[SetResult], Difference | None]) -> Claim:
    return Claim(text, measure, lambda one, found: found.low > 0, _signed, needs_errors=True)


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
    return max(found, key=lambda gain: gain.value) if all(found) else None


def _closed(text: str) -> Claim:
    """Of the way from machine to human labels, where there is one to go."""

    def measure(one: SetResult) -> float | None:
        best = one.best_act()
        return one.closed(best) if best else None

    return Claim(
        text,
        measure,
        lambda one, share: share >= one.protocol.paper.closed,
        lambda one, share: f"{100 * share:.0f} [{100 * one.protocol.paper.closed:.0f}] %",
        needs_errors=True,
    )


def _collapses(text: str, suffix: str) -> Claim:
    """Where the plain form is clearly below machine labels and human ones, and the non-negative form is not."""

    def held(one: SetResult) -> float:
        return one.mean(f"act normalised, non-negative{suffix}") - one.mean(f"machine{suffix}")

    def clear(one: SetResult, found: Difference) -> bool:
        below_human = one.mean(f"human{suffix}") - one.mean(f"act normalised{suffix}")
        return min(found.value, below_human) >= CLEAR and found.low > 0 and held(one) > -CLEAR

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
    _near(f"Gap of the arm named beforehand ({NAMED})", lambda one: one.difference("human", NAMED)),
    _near("Gap of corrected labels", lambda one: one.difference("human", "corrected")),
    _near("Gap of labels corrected in waves", lambda one: one.difference("human", "waves")),
    _near("Gap with the first critic alone, the better of two arms", _gap_alone),
    _closed("Way from machine to human labels that the best ACT arm goes: at least the paper's"),
    _beats("Corrected labels beat the arm named beforehand", "corrected", NAMED),
    _gains("The best of the six ACT arms with a soft rule beats corrected labels", _best_soft),
    _beats("Corrected labels beat random review", "corrected", "random"),
    _beats("Corrected labels beat cleanlab's order", "corrected", "cleanlab"),
    _beats("Waves beat one shot", "waves", "corrected"),
    _beats("Exponential beats normalised in the plain form, as in the paper", "act exponential", "act normalised"),
    _collapses("The plain normalised loss collapses, its non-negative form does not: both against machine labels", ""),
    _collapses("The same, trained several times as long", ", long"),
    _fewer("Share of the rows with which waves match one shot's labels: 70 % or less", lambda one: "corrected"),
    _fewer("The same against the best order for one shot, known only afterwards", best_order),
)
