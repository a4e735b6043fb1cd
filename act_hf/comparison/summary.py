"""The comparison as lines for a terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from act_hf.comparison.advice import dollars
from act_hf.errors import printable
from act_hf.report.facts import interval, percent


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from act_hf.comparison.facts import AnnotatorRow, Comparison, CriticRow, Estimate

WIDTH = 100
SHOWN = 30
"""Pairs; the page and `to_dict()` have them all."""


def summary_lines(comparison: Comparison) -> list[str]:
    """Aligned lines of at most 100 columns."""
    blocks = (_heading, _annotator_lines, _critic_lines, _recommendation_lines, _note_lines)
    lines = [line for block in blocks for line in block(comparison)]
    return [printable(line)[:WIDTH].rstrip() for line in lines]


def _heading(comparison: Comparison) -> Iterable[str]:
    yield (
        f"compared on {comparison.rows:,} rows with the gold labels of {comparison.gold!r}; "
        f"{100 * comparison.confidence:g} % intervals; = within noise of the best"
    )
    yield f"{comparison.calls:,} requests sent for it, ${comparison.spent:.4f} spent"


def _annotator_lines(comparison: Comparison) -> Iterable[str]:
    yield ""
    header = f"{'right labels':>24}{'wrong':>7}{'failed':>8}{'tokens a row':>14}{'cost a row':>12}{'s a row':>8}"
    yield f"{'annotator':27}{header}"
    for row in comparison.annotators:
        yield _annotator_line(row)
    yield f"  {'always the same label':25}{percent(comparison.majority):>7}"


def _annotator_line(row: AnnotatorRow) -> str:
    took = row.took
    amounts = f"{took.tokens / took.rows:>14,.0f}{dollars(took.cost_per_row):>12}{took.seconds_per_row:>8.2g}"
    name = f"{_tie(row.tied)}{shortened(row.name, 24):25}"
    return f"{name}{_shares(row.accuracy):>24}{row.errors:>7}{row.failed:>8}{amounts}"


def _critic_lines(comparison: Comparison) -> Iterable[str]:
    if not comparison.critics:
        return
    reviewed = "with " + ", ".join(f"{budget:,}" for budget in comparison.budgets[:2]) + " reviewed"
    yield ""
    yield f"{f'right labels {reviewed}':>{WIDTH}}"
    yield f"{'annotator + critic':32}{'AUROC':>17}{'ABS':>6}{'ECE':>6}{'recall':>7}"
    for row in comparison.critics[:SHOWN]:
        yield _critic_line(row)
    if len(comparison.critics) > SHOWN:
        yield f"  and {len(comparison.critics) - SHOWN} pairs more"
    for labeller in comparison.annotators:
        name = shortened(f"{labeller.name} + review at random", 64)
        yield f"  {name:66}{percent(labeller.at_random[0]):>7}{'':17}{_second(labeller.at_random)}"


def _critic_line(row: CriticRow) -> str:
    own = "*" if row.self_critique else ""
    name = f"{shortened(row.annotator, 14)} + {shortened(row.critic, 12 - len(own))}{own}"
    score = row.auroc
    shown = "–" if score is None else f"{score.value:.2f} {f'({score.low:.2f}–{score.high:.2f})':11}"
    figures = f"{_figure(row.abs.value if row.abs else None):>6}{_figure(row.ece):>6}{_figure(row.recall):>7}"
    after = f"{_shares(row.after[0])}{_second([one.value for one in row.after])}"
    return f"{_tie(row.tied)}{name:30}{shown:>17}{figures}{after}"


def _second(shares: Sequence[float]) -> str:
    return f"{percent(shares[1]):>8}" if len(shares) > 1 else ""


def _recommendation_lines(comparison: Comparison) -> Iterable[str]:
    made = comparison.recommendation
    critic = f", {made.critic} criticizes" if made.critic else ""
    yield ""
    text = f"recommended: {made.annotator} annotates{critic}. {made.why}"
    yield from textwrap.wrap(printable(text.replace("\u00a0", " ")), WIDTH - 2, subsequent_indent="  ")


def _note_lines(comparison: Comparison) -> Iterable[str]:
    if comparison.notes:
        yield ""
    for note in comparison.notes:
        yield from textwrap.wrap(printable(note), WIDTH - 2, initial_indent="! ", subsequent_indent="  ")


def _tie(tied: bool) -> str:
    return "= " if tied else "  "


def _shares(share: Estimate) -> str:
    return f"{percent(share.value):>7} {f'({interval(share.low, share.high)})':>16}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def shortened(name: str, length: int) -> str:
    """A name of at most `length` letters: of a long one its beginning and its end, which tell names apart."""
    tail = (length - 1) // 2
    return name if len(name) <= length else f"{name[: length - 1 - tail]}…{name[len(name) - tail :]}"
