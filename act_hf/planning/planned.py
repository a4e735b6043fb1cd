"""What is left to do for a run, and what that will take."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from act_hf.errors import printable
from act_hf.planning.extrapolation import Range


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class PlannedStage:
    """
    What is left to do for one stage.

    Args:
        stage (`str`): `"annotate"` or `"criticize"`.
        model (`str`): the model's name.
        strategy (`str`): how it is asked.
        rows (`int`): different rows that are left to ask about, those of the pilot that the model failed on included.
        stored (`int`): different rows whose answers are in the store, those of the pilot included.
        calls ([`Range`]): requests to send.
        tokens_in, tokens_out ([`Range`]): tokens to read and write.
        cost ([`Range`], *optional*): US dollars, at the prices of now; `None` where the price is not known.
        seconds ([`Range`]): by the clock. A guess without a range where the pilot was too few batches to tell.
        failures (tuple of `str`): why pilot rows failed, one a row.
    """

    stage: str
    model: str
    strategy: str
    rows: int
    stored: int
    calls: Range
    tokens_in: Range
    tokens_out: Range
    cost: Range | None
    seconds: Range
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """
    What is left to do for a run, after its pilot.

    Args:
        rows (`int`): rows of the data set.
        different (`int`): those with content, equal ones counted once.
        pilot (`int`): rows of the pilot.
        calls (`int`): requests sent for the pilot just now; fewer where its answers were in the store.
        spent (`float`): US dollars paid for them, as far as prices are known.
        stages (tuple of [`PlannedStage`]): the annotator, then each critic.
    """

    rows: int
    different: int
    pilot: int
    calls: int
    spent: float
    stages: tuple[PlannedStage, ...]

    @property
    def requests(self) -> Range:
        """Requests left to send. Like the others, a sum over the stages whose range is end to end."""
        return _sum([stage.calls for stage in self.stages])

    @property
    def tokens(self) -> Range:
        """Tokens left to read and write."""
        return _sum([stage.tokens_in + stage.tokens_out for stage in self.stages])

    @property
    def seconds(self) -> Range:
        """Seconds left, by the clock: one stage after the other."""
        return _sum([stage.seconds for stage in self.stages])

    @property
    def cost(self) -> Range | None:
        """US dollars left to pay; `None` where a price is not known."""
        costs = [stage.cost for stage in self.stages]
        known = [cost for cost in costs if cost is not None]
        return _sum(known) if len(known) == len(costs) else None

    def summary(self) -> str:
        """The plan as lines of at most 100 columns, for a terminal."""
        lines = (textwrap.wrap(printable(line), 100, subsequent_indent="    ") or [""] for line in _lines(self))
        return "\n".join(part for line in lines for part in line)


def _sum(ranges: Sequence[Range]) -> Range:
    return reduce(add, ranges, Range())


def _lines(plan: Plan) -> Iterator[str]:
    asked = f"{plan.calls:,} requests sent, ${plan.spent:.4f} spent"
    yield f"plan for {plan.rows:,} rows, {plan.different:,} of them different; pilot of {plan.pilot}: {asked}"
    yield ""
    yield _line("left to do", "model", "strategy", "requests", "tokens", "cost", "time")
    for stage in plan.stages:
        tokens = stage.tokens_in + stage.tokens_out
        yield _line(
            stage.stage, stage.model, stage.strategy, *_amounts(stage.calls, tokens, stage.cost, stage.seconds)
        )
    if len(plan.stages) > 1:
        yield _line("all", "", "", *_amounts(plan.requests, plan.tokens, plan.cost, plan.seconds))
    yield from _notes(plan)


def _line(stage: str, model: str, strategy: str, requests: str, tokens: str, cost: str, time: str) -> str:
    shown = model if len(model) <= 20 else f"{model[:19]}…"
    return f"{stage:10} {shown:20} {strategy:10} {requests:>9} {tokens:>7}  {cost:19} {time}"


def _amounts(calls: Range, tokens: Range, cost: Range | None, seconds: Range) -> tuple[str, str, str, str]:
    return f"{calls.expected:,.0f}", _short(tokens.expected), _dollars(cost), _duration(seconds)


def _notes(plan: Plan) -> Iterator[str]:
    yield ""
    yield "In brackets: 90 % ranges. They know nothing of what the pilot did not meet."
    for stage in plan.stages:
        if stage.stored > plan.pilot:
            yield f"{_who(stage)}: {stage.stored:,} rows cost nothing, as stored or asked by an earlier stage"
        if stage.cost is None:
            yield f"{_who(stage)}: the price is not known; give prices= (--price-in, --price-out)"
    for stage in plan.stages:
        if stage.failures:
            yield f"warning: {len(stage.failures)} of the {plan.pilot} rows of the pilot failed ({_who(stage)}):"
            for reason, times in Counter(stage.failures).most_common(5):
                yield f"  {times} x {' '.join(reason.split())[:300]}"


def _who(stage: PlannedStage) -> str:
    return f"{stage.stage} by {stage.model}, {stage.strategy}"


def _short(number: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"


def _dollars(cost: Range | None) -> str:
    if cost is None:
        return "unknown"
    if cost.high == 0:
        return "free"
    largest = cost.high if cost.known else cost.expected
    digits = 4 if largest < 0.1 else 2 if largest < 1000 else 0
    shown = f"${cost.expected:,.{digits}f}"
    return f"{shown} ({cost.low:,.{digits}f}–{cost.high:,.{digits}f})" if cost.known else shown


def _duration(seconds: Range) -> str:
    units = ((86400.0, "days", 1), (3600.0, "h", 1), (60.0, "min", 0), (1.0, "s", 0))
    size, unit, digits = next((one for one in units if seconds.expected >= 1.5 * one[0]), units[-1])
    scaled = seconds / size
    shown = f"{scaled.expected:.{digits}f} {unit}"
    return f"{shown} ({scaled.low:.{digits}f}–{scaled.high:.{digits}f})" if scaled.known and scaled.high else shown
