"""A plan for a review: plain values, each with what it means."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.files import written_whole
from act_hf.report.facts import interval, percent


if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Point:
    """
    What a number of further rows buys.

    Args:
        budget (`int`): rows to review further, the most doubted first.
        accuracy (`float`): share of all labels that are right then, estimated.
        low, high (`float`): bounds of it, each with the plan's confidence, for this point alone.
        at_random (`float`): the same when as many rows are reviewed in random order, estimated.
        critic (`float`): what the critic itself expects: one minus the ε̂ that are left.
    """

    budget: int
    accuracy: float
    low: float
    high: float
    at_random: float
    critic: float


@dataclass(frozen=True, kw_only=True)
class ReviewPlan:
    """
    How many rows people must look at to reach a target, made by [`plan_review`]. All are plain values.

    Args:
        rows (`int`): N.
        reviewed (`int`): rows that have a human label.
        found (`int`): those whose machine label was wrong.
        waiting (`int`): rows of an unfinished wave without an answer; some may be among those to review.
        target (`float`): share of all labels that should be right.
        confidence (`float`): of the guarantee, and of each bound.
        further (`int`): rows to review; 0 where the target is reached.
        threshold (`float`, *optional*): the ε̂ from which on they are reviewed; `None` where no row with an ε̂ is.
        unscored (`int`): those of them without an ε̂.
        kept (`int`): rows whose machine label stays without anybody having looked.
        blind (`bool`): whether the audit tells nothing: the rows kept are so few that all of them may be wrong.
        expected ([`Point`]): what to expect then.
        curve (tuple of [`Point`]): what other numbers of rows buy.
        audited (`float`): rows drawn uniformly, or as many as would tell as much.
        audit_needed (`int`): the fewest rows of a uniform audit that could show the target, if it finds no error.
        unknown (`int`): rows without a human label that could not have been drawn; taken as wrong.
        waves (`int`): complete waves that this rests on.
        looks (`int`): those of them with a random draw.
        until_stop (`int`, *optional*): rows to review until [`check_target`] calls the target reached, which shares
            the confidence out over its looks; `None` where there was one look at most.
        exact (`bool`): whether the guarantee is exact (one uniform draw) or approximate.
        column (`str`): what orders the rows.
        simulated (`bool`): whether the review was simulated.
    """

    rows: int
    reviewed: int
    found: int
    waiting: int
    target: float
    confidence: float
    further: int
    threshold: float | None
    unscored: int
    kept: int
    blind: bool
    expected: Point
    curve: tuple[Point, ...]
    audited: float
    audit_needed: int
    unknown: int
    waves: int
    looks: int
    until_stop: int | None
    exact: bool
    column: str
    simulated: bool

    @property
    def total(self) -> int:
        """Rows reviewed in all."""
        return self.reviewed + self.further

    @property
    def points(self) -> list[Point]:
        """The curve and the plan's own point, the fewest rows first."""
        by_budget = {point.budget: point for point in (*self.curve, self.expected)}
        return [by_budget[budget] for budget in sorted(by_budget)]

    @property
    def guarantee(self) -> str:
        """What holds once the rows are reviewed, in a sentence."""
        about = "" if self.exact else "about "
        sure = f"with {about}{100 * self.confidence:g} % confidence, if the reviewers are right"
        goal = f"at least {100 * self.target:g} % of all {self.rows:,} labels are right"
        if not self.further:
            return f"As it is, {goal}, {sure}."
        return f"Once they are reviewed, {goal}, {sure}."

    def summary(self) -> str:
        """The plan for a terminal: lines of at most 100 columns."""
        return "\n".join(_lines(self))

    def plot(self, path: str | Path) -> Path:
        """
        Writes what a number of rows buys as a picture.

        Args:
            path (`str` or `Path`): a `.png` file, replaced in one step when it exists.

        Returns:
            `Path`: the file.

        Raises:
            ACTError: for another ending, when matplotlib is not installed, or the file cannot be written.
        """
        from act_hf.evidence.plots import plan_figure
        from act_hf.report.plots import png

        path = Path(path)
        check_picture(path)
        made = png(plan_figure(self))
        with written_whole(path, "the picture") as unfinished:
            unfinished.write_bytes(made)
        return path

    def to_dict(self) -> dict[str, Any]:
        """The plan as values that JSON can hold."""
        more = {"total": self.total, "guarantee": self.guarantee}
        return json.loads(json.dumps(dataclasses.asdict(self) | more))  # type: ignore[no-any-return]


def check_picture(path: Path) -> None:
    """Raises [`ACTError`] for a file that a plan cannot be drawn to."""
    if path.suffix != ".png":
        raise ACTError(f"a plan is drawn as .png, not as {path.name!r}")


def _lines(plan: ReviewPlan) -> Iterator[str]:
    simulated = " (simulated)" if plan.simulated else ""
    yield f"{plan.reviewed:,} of {plan.rows:,} rows are reviewed{simulated}; {plan.found:,} of their labels were wrong"
    yield ""
    for text in (_what(plan), plan.guarantee, *_notes(plan)):
        yield from textwrap.wrap(text, 98)
    yield ""
    level = f"{100 * plan.confidence:g} % bounds"
    yield f"{'further rows':>14}{'labels right':>16}{level:>20}{'in random order':>19}{'the critic says':>19}"
    for point in plan.points:
        mark = "  <- the plan" if point.budget == plan.further else ""
        bounds = interval(point.low, point.high)
        shares = f"{percent(point.accuracy):>16}{bounds:>20}{percent(point.at_random):>19}{percent(point.critic):>19}"
        yield f"{point.budget:>14,}{shares}{mark}"


def _what(plan: ReviewPlan) -> str:
    if not plan.further:
        return "No further row needs a look."
    which = []
    if plan.threshold is not None:
        which.append(f"those whose {plan.column} is {plan.threshold:.4g} or more")
    if plan.unscored:
        which.append(f"the {plan.unscored:,} without any (failed)")
    return f"Review {plan.further:,} rows further ({plan.total:,} in all): {', and '.join(which)}."


def _notes(plan: ReviewPlan) -> Iterator[str]:
    if plan.waiting:
        yield f"! {plan.waiting:,} drawn rows wait for an answer: their wave counts when it is finished."
    elif plan.further:
        options = f"--wave {plan.waves + 1} --rule threshold --mix 0 --budget {plan.further}"
        yield f"(act-hf sample INPUT OUTPUT {options}{' --failures review' if plan.unscored else ''})"
    if plan.until_stop is not None and plan.until_stop > plan.further:
        yield (
            f"! stop asks for more, about {plan.until_stop:,} further rows: it shares the confidence out over its "
            f"looks, one for each wave drawn at random ({plan.looks} so far), and this plan takes all for itself; see "
            f"act-hf stop INPUT --target {plan.target:g}."
        )
    if plan.further and plan.blind:
        yield (
            f"! The audit is too small for this target: it is worth {plan.audited:,.0f} rows drawn uniformly, and "
            f"{plan.audit_needed:,} that show no error are the least to keep any more rows unseen."
            if plan.audited < plan.audit_needed
            else "! The critic is of no help here: the audit found errors among the rows that it doubts least."
        )
    if plan.unknown:
        yield f"! {plan.unknown:,} rows could not be drawn (pi = 0): they count as wrong until they are reviewed."
    if not plan.exact:
        yield (
            "! Approximate. Exact is one uniform draw of all rows (sample --mix 1, without --groups), ordered by a "
            "critic that had spoken before people answered."
        )
    if plan.column.endswith("_raw") and plan.further:
        yield (
            f"! {plan.column} orders the rows, as it was before calibrate; sample orders by act_error_prob. Take the "
            "data set as it was before."
        )
