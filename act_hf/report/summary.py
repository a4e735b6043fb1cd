"""The report as lines for a terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from act_hf.errors import printable
from act_hf.report.facts import Share, interval, percent, shares_of


if TYPE_CHECKING:
    from collections.abc import Iterable

    from act_hf.report.facts import Report


def summary_lines(report: Report) -> list[str]:
    """Aligned lines of at most 100 columns."""
    blocks = (_accuracy_lines, _review_lines, _critic_lines, _downstream_lines, _cost_lines, _note_lines)
    lines = [report.title, *(line for block in blocks for line in block(report))]
    return [printable(line)[:100].rstrip() for line in lines]


def _simulated(report: Report) -> str:
    return " (simulated)" if report.review.simulated else ""


def _accuracy_lines(report: Report) -> Iterable[str]:
    estimate, truth, review = report.estimate, report.truth, report.review
    yield ""
    if estimate is None and truth is None:
        yield f"how many labels are right is not known: {report.no_estimate}"
        return
    against = f"true ({truth.column})" if truth else ""
    yield f"{'labels that are right':26}{'estimated from review':>28}    {against:>26}"
    after = ("so far" if review.state == "unfinished" else "after review") + _simulated(report)
    guesses = (None, None) if estimate is None else shares_of(estimate)
    known = (None, None) if truth is None else (truth.machine, truth.after)
    for name, guess, true in zip(("machine labels", after), guesses, known, strict=True):
        yield f"  {name:24}{_share(guess):>28}    {_share(true) if truth else '':>26}"
    if truth:
        yield f"  {'always the same label':24}{'':28}    {percent(truth.majority_share):>7}{'':19}"


def _share(share: Share | None) -> str:
    return "–" if share is None else f"{percent(share.value)} ({interval(share.low, share.high)})"


def _review_lines(report: Report) -> Iterable[str]:
    review, finding = report.review, report.finding
    if review.selected:
        who = f"; {review.simulated}" if review.simulated else ""
        yield ""
        yield f"{'reviewed':26}{review.answered:,} of {review.selected:,} rows drawn, {report.rows:,} in all{who}"
    if finding is not None:
        times = "" if finding.ratio is None else f", {finding.ratio:.2f} times as many"
        yield f"{'errors found' + _simulated(report):26}{finding.found:,}; at random {finding.at_random:.1f}{times}"
    if report.waves:
        waves = ", ".join(f"{wave.corrected:,} of {wave.drawn:,}" for wave in report.waves)
        yield f"{'by wave' + _simulated(report):26}{waves}"


def _critic_lines(report: Report) -> Iterable[str]:
    basis = report.basis
    if basis is None:
        return
    how = f"reviewed rows, weighted by 1/π: worth about {basis.effective:.0f} drawn at random"
    if basis.source == "gold":
        how = "gold labels"
    yield ""
    yield f"{'critic':42}{'AUROC':>9}{'ABS':>9}{'Brier':>9}{'ECE':>9}{f'recall at {basis.budget:,}':>22}"
    for critic in report.critics:
        figures = (critic.auroc, critic.abs, critic.brier, critic.ece)
        cells = "".join(f"{'–' if figure is None else f'{figure:.3f}':>9}" for figure in figures)
        yield f"  {critic.name[:39]:40}{cells}{percent(critic.recall):>22}"
    yield f"  by {basis.rows:,} rows ({how})"


def _downstream_lines(report: Report) -> Iterable[str]:
    if report.downstream:
        yield ""
        yield f"{'trained on labels of':24}{'test accuracy':>14}{'± sd':>8}{'seeds':>8}{'rows':>14}"
    for group in report.downstream:
        sd = "–" if group.sd is None else f"{100 * group.sd:.1f}"
        rows = " to ".join(f"{size:,}" for size in dict.fromkeys(group.rows))
        name = group.name + ("" if group.method in ("human", "machine") else _simulated(report))
        yield f"  {name:22}{percent(group.mean):>14}{sd:>8}{group.seeds:>8}{rows:>14}"


def _cost_lines(report: Report) -> Iterable[str]:
    if report.costs:
        yield ""
        yield f"{'cost':60}{'requests':>9}{'new':>8}{'tokens':>13}{'s':>9}"
    for cost in report.costs:
        name = f"{cost.stage}, {cost.strategy}: {cost.model}"[:57]
        tokens = cost.tokens_in + cost.tokens_out
        yield f"  {name:58}{cost.requests:>9,}{cost.calls:>8,}{tokens:>13,}{cost.seconds:>9,.1f}"


def _note_lines(report: Report) -> Iterable[str]:
    if report.notes:
        yield ""
    for note in report.notes:
        yield from textwrap.wrap(printable(note), 98, initial_indent="! ", subsequent_indent="  ")
