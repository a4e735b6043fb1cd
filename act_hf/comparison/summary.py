"""The comparison as lines for a terminal."""

from __future__ import annotations

import textwrap
from itertools import count
from typing import TYPE_CHECKING

from act_hf.comparison.advice import dollars
from act_hf.errors import printable
from act_hf.report.facts import interval, percent


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from act_hf.comparison.facts import AnnotatorRow, Comparison, CriticRow, Estimate

WIDTH = 100
SHOWN = 30
"""Pairs; the page and `to_dict()` have them all."""

BUDGETS = 2
"""Budgets; the same."""


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
    header = f"{'right labels':>24}{'wrong':>7}{'failed':>8}{'tokens a row':>14}{'cost a row':>12}{'s / row':>8}"
    yield f"{'annotator':27}{header}"
    short = short_names((row.name for row in comparison.annotators), 24)
    for row in comparison.annotators:
        yield _annotator_line(row, short[row.name])
    yield f"  {'always the same label':25}{percent(comparison.majority):>7}"


def _annotator_line(row: AnnotatorRow, name: str) -> str:
    took = row.took
    amounts = f"{took.tokens / took.rows:>14,.0f}{dollars(took.cost_per_row):>12}{took.seconds_per_row:>8.2g}"
    return f"{_tie(row.tied)}{name:25}{_shares(row.accuracy):>24}{row.errors:>7}{row.failed:>8}{amounts}"


def _critic_lines(comparison: Comparison) -> Iterable[str]:
    if not comparison.critics:
        return
    reviewed = f"with {_listed(comparison.budgets[:BUDGETS])} reviewed"
    annotators = short_names((row.annotator for row in comparison.critics), 14)
    critics = short_names((row.critic for row in comparison.critics), 11)
    yield ""
    yield f"{f'right labels {reviewed}':>{WIDTH}}"
    yield f"{'annotator + critic':32}{'AUROC':>17}{'ABS':>6}{'ECE':>6}{'recall':>7}"
    for row in comparison.critics[:SHOWN]:
        yield _critic_line(row, annotators[row.annotator], critics[row.critic])
    if len(comparison.critics) > SHOWN:
        yield f"  and {len(comparison.critics) - SHOWN} pairs more"
    short = short_names((row.name for row in comparison.annotators), 44)
    for labeller in comparison.annotators:
        name = f"{short[labeller.name]} + review at random"
        yield f"  {name:66}{percent(labeller.at_random[0]):>7}{'':17}{_second(labeller.at_random)}"
    if len(comparison.budgets) > BUDGETS:
        yield f"  not shown: with {_listed(comparison.budgets[BUDGETS:])} reviewed; save() and to_dict() have all"


def _critic_line(row: CriticRow, annotator: str, critic: str) -> str:
    name = f"{annotator} + {critic}{'*' if row.self_critique else ''}"
    score = row.auroc
    shown = "–" if score is None else f"{score.value:.2f} {f'({score.low:.2f}–{score.high:.2f})':11}"
    figures = f"{_figure(row.abs.value if row.abs else None):>6}{_figure(row.ece):>6}{_figure(row.recall):>7}"
    after = f"{_shares(row.after[0])}{_second([one.value for one in row.after])}"
    return f"{_tie(row.tied)}{name:30}{shown:>17}{figures}{after}"


def _listed(budgets: Sequence[int]) -> str:
    return ", ".join(f"{budget:,}" for budget in budgets)


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


def short_names(names: Iterable[str], length: int) -> dict[str, str]:
    """
    Names in at most `length` letters, so that no two become one.

    Of a long name the beginning and the end are kept; of names that are alike there, what tells them apart.

    Args:
        names (iterable of `str`): names that are shown together.
        length (`int`): at least 8.
    """
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        alike.setdefault(_shortened(printable(name), length), []).append(name)
    made = {same[0]: look for look, same in alike.items() if len(same) == 1}
    for same in alike.values():
        if len(same) > 1:
            made.update(_told_apart(same, length, made))
    return made


def _told_apart(names: Sequence[str], length: int, taken: Mapping[str, str]) -> dict[str, str]:
    """Different looks for names that look the same, none of them taken."""
    others = set(taken.values())
    for looks in _looks([printable(name) for name in names], length):
        if len(set(looks)) == len(looks) and others.isdisjoint(looks):
            return dict(zip(names, looks, strict=True))
    raise AssertionError("numbers never run out")


def _looks(names: Sequence[str], length: int) -> Iterator[list[str]]:
    """Ways to shorten some names, the best first."""
    for head in _heads(length):
        if all(_keeps_numbers(name, length, head) for name in names):
            yield [_cut(name, length, head) for name in names]
    differ = next((i for i, signs in enumerate(zip(*names, strict=False)) if len(set(signs)) > 1), 0)
    start = max(0, differ - 2)
    while _splits(names[0], start):
        start -= 1
    yield [f"…{name[start:][: length - 2]}…" for name in names]
    for first in count(1):
        marks = [f"…{number}" for number in range(first, first + len(names))]
        yield [name[: length - len(mark)] + mark for name, mark in zip(names, marks, strict=True)]


def _shortened(name: str, length: int) -> str:
    """A name by itself."""
    heads = (head for head in _heads(length) if _keeps_numbers(name, length, head))
    return _cut(name, length, next(heads, length // 2))


def _heads(length: int) -> list[int]:
    """How many letters may stay at the beginning, those first that leave as many at the end."""
    return sorted(range(1, length - 1), key=lambda head: abs(head - length // 2))


def _cut(name: str, length: int, head: int) -> str:
    """Its first letters, so many, and its last."""
    return name if len(name) <= length else f"{name[:head]}…{name[head + 1 - length :]}"


def _keeps_numbers(name: str, length: int, head: int) -> bool:
    """Whether no number is cut in two, as 70B would become 0B."""
    return len(name) <= length or not (_splits(name, head) or _splits(name, len(name) + head + 1 - length))


def _splits(name: str, place: int) -> bool:
    """Whether there is a number on both sides of a place."""
    return 0 < place < len(name) and name[place - 1].isdigit() and name[place].isdigit()
