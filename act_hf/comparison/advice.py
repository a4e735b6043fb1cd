"""Whom to take, and what has to be known before the figures are believed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from act_hf.comparison.facts import PANEL, Recommendation
from act_hf.report.facts import percent


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from act_hf.comparison.facts import Comparison, CriticRow, Took
    from act_hf.comparison.measure import Measured, Settings
    from act_hf.comparison.resampling import Differences

FEW_ERRORS = 30
"""With fewer errors than this an AUROC is hardly more than a guess."""

_CHEAPER = 0.9
_MANY = 6
_NAMED = 5


def recommend(measured: Measured, settings: Settings, rows: int) -> Recommendation:
    """
    The pair with the best accuracy after review, or a cheaper one within one standard error of it (paired). Without
    critics, the annotator of whom that is true before review.

    One standard error is the rule of Breiman et al. (1984, Classification and Regression Trees, 3.4.3). The cheapest
    of all that cannot be told apart from the best would be another rule: on a small slice that is nearly everybody,
    and a pair would be taken for no better reason than that the slice is small.
    """
    standing = measured.pairs
    if standing is None:
        return _recommend_annotator(measured)
    critics = measured.critics
    prices = [_took(measured, row) for row in critics]
    best = int(np.argmax(standing.values))
    near = [i for i in range(len(critics)) if standing.near(best, i)]
    chosen = _cheapest(best, near, prices, standing.values.tolist())
    tied = _tied_with(chosen, standing)
    row = critics[chosen]
    labeller = next(one for one in measured.annotators if one.name == row.annotator)
    why = [
        f"{percent(row.after[0].value)} of the labels are right once the {settings.budgets[0]:,} most doubtful "
        f"of {rows:,} rows are reviewed; {percent(labeller.accuracy.value)} before, and "
        f"{percent(labeller.at_random[0])} when as many are reviewed at random.",
        _by_price(_pair(critics[best]), prices[chosen], prices[best]) if chosen != best else "",
        _not_told_apart([_pair(critics[i]) for i in tied], len(critics), "pairs"),
        _against_chance(row),
    ]
    return Recommendation(row.annotator, row.critic, " ".join(filter(None, why)), tuple(critics[i].pair for i in tied))


def _recommend_annotator(measured: Measured) -> Recommendation:
    rows, between = measured.annotators, measured.between
    best = int(np.argmax(between.values))
    near = [i for i in range(len(rows)) if between.near(best, i)]
    prices = [row.took for row in rows]
    chosen = _cheapest(best, near, prices, between.values.tolist())
    tied = _tied_with(chosen, between)
    why = [
        f"{percent(rows[chosen].accuracy.value)} of its labels are right. No critic was compared.",
        _by_price(rows[best].name, prices[chosen], prices[best]) if chosen != best else "",
        _not_told_apart([rows[i].name for i in tied], len(rows), "annotators"),
    ]
    names = tuple((rows[i].name, None) for i in tied)
    return Recommendation(rows[chosen].name, None, " ".join(filter(None, why)), names)


def _took(measured: Measured, row: CriticRow) -> Took:
    """What annotator and critic take together."""
    return next(one.took for one in measured.annotators if one.name == row.annotator) + row.took


def _cheapest(best: int, near: Sequence[int], prices: Sequence[Took], values: Sequence[float]) -> int:
    """The best of those that are about as cheap as the cheapest, if that saves a tenth or more; else the best."""
    paid = [_price(prices[i], prices[best]) for i in near]
    own = _price(prices[best], prices[best])
    if own is None or any(price is None for price in paid):
        return best
    known = dict(zip(near, [price or 0.0 for price in paid], strict=True))
    least = min(known.values())
    if least > _CHEAPER * own or own == 0:
        return best
    return max((i for i in near if known[i] * _CHEAPER <= least), key=lambda i: values[i])


def _price(took: Took, best: Took) -> float | None:
    """Dollars; seconds by the clock where the best costs nothing, and neither does this one."""
    if took.cost is None or best.cost is None:
        return None
    return took.seconds if best.cost == 0 and took.cost == 0 else took.cost if best.cost else float("inf")


def _by_price(best: str, chosen: Took, other: Took) -> str:
    if other.cost:
        saved = f"{dollars(chosen.cost_per_row)} instead of {dollars(other.cost_per_row)} a row"
    else:
        saved = f"{chosen.seconds_per_row:.2g} instead of {other.seconds_per_row:.2g} s a row"
    return f"{best} is ahead by no more than one standard error and costs more ({saved})."


def _not_told_apart(names: Sequence[str], all_of_them: int, what: str) -> str:
    if all_of_them == 1:
        return "Nothing else was compared with it."
    if not names:
        return f"It is better than all other {what} by more than noise."
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    shown = ", ".join(names[:_NAMED])
    return f"Within noise of it ({len(names)} of {all_of_them - 1} other {what}): {shown}{more}."


def _against_chance(row: CriticRow) -> str:
    if row.gain.low <= 0:
        return "This slice does not show that the critic does better than reviewing at random."
    return ""


def _pair(row: CriticRow) -> str:
    return f"{row.annotator} + {row.critic}"


def _tied_with(chosen: int, gaps: Differences) -> list[int]:
    """Who cannot be told apart from the chosen one, the best first."""
    tied = [i for i in range(gaps.values.size) if i != chosen and not gaps.apart(chosen, i)]
    return sorted(tied, key=lambda i: -gaps.values[i])


def dollars(cost: float | None) -> str:
    """A price."""
    return "unknown" if cost is None else "free" if cost == 0 else f"${cost:.2g}"


def notes_on(comparison: Comparison, *, copies: int) -> Comparison:
    """The same with what has to be known before the figures are believed."""
    notes = [*_about_rows(comparison, copies), *_about_errors(comparison), *_about_figures(comparison)]
    return dataclasses.replace(comparison, notes=tuple(notes))


def _about_rows(comparison: Comparison, copies: int) -> Iterable[str]:
    if comparison.skipped:
        yield (
            f"{comparison.skipped} of {comparison.rows + comparison.skipped} rows have no gold label in "
            f"{comparison.gold!r} and were left out."
        )
    if copies:
        yield (
            f"{copies} rows are copies of another. The intervals take every row for one drawn by itself, and are a "
            "little too narrow."
        )
    failed = {row.name: row.failed for row in comparison.annotators if row.failed}
    if failed:
        yield (
            f"Without a label: {_counted(failed)} of {comparison.rows:,} rows. These count as wrong, are in no AUROC, "
            "and are reviewed first."
        )
    silent = {_pair(row): row.failed for row in comparison.critics if row.failed}
    if silent:
        yield (
            f"Labelled, but without an error probability: {_counted(silent)} rows. These are not in the AUROC of that "
            "pair, and are reviewed first."
        )


def _counted(counts: Mapping[str, int]) -> str:
    """How many of each, the most first."""
    most = sorted(counts.items(), key=lambda item: -item[1])
    more = f" and {len(most) - _NAMED} more," if len(most) > _NAMED else ""
    return ", ".join(f"{name} {count}" for name, count in most[:_NAMED]) + more


def _about_errors(comparison: Comparison) -> Iterable[str]:
    judged = [row for row in comparison.critics if row.auroc is not None]
    few = {row.annotator: row.errors for row in judged if row.errors < FEW_ERRORS}
    if few:
        wide = max(row.auroc.high - row.auroc.low for row in judged if row.auroc and row.annotator in few)
        yield (
            f"Few errors to be found in the labels by {_counted(few)}: an AUROC may then be off by {wide / 2:.2f} and "
            f"more. {FEW_ERRORS} errors or more make for steadier figures; that takes more rows."
        )
    undefined: dict[str, list[str]] = {}
    for row in comparison.critics:
        if row.undefined:
            undefined.setdefault(row.undefined, []).append(_pair(row))
    for why, pairs in undefined.items():
        more = f" and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
        yield f"No AUROC for {', '.join(pairs[:_NAMED])}{more}: {why}."


def _about_figures(comparison: Comparison) -> Iterable[str]:
    rows = comparison.annotators
    if rows and rows[0].accuracy.high < comparison.majority:
        yield (
            f"Always answering the most frequent gold label would be right in {percent(comparison.majority)} of the "
            "rows: more than any annotator."
        )
    everything = [*(row.took for row in comparison.annotators), *(row.took for row in comparison.critics)]
    if any(took.cost is None for took in everything):
        yield "Not all prices are known, so they decided nothing; give prices= to the models."
    if any(row.self_critique for row in comparison.critics):
        yield "* The model that labelled is the critic, or on the panel. Models repeat mistakes of their own."
    if any(row.strategy == PANEL for row in comparison.critics):
        yield (
            "The panel learns how good each annotator is from the rows that it judges. On more rows it is another "
            "critic, as a rule a better one, which its intervals do not allow for."
        )
    if len(comparison.critics) > _MANY:
        best = comparison.critics[0]
        yield (
            f"The best of {len(comparison.critics)} pairs looks better than it is, because it was picked for looking "
            f"so: expect rather less than its {percent(best.after[0].value)} on other rows."
        )
