"""The pictures of a comparison, and its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from act_hf.comparison.advice import dollars
from act_hf.comparison.facts import PANEL
from act_hf.comparison.summary import short_names
from act_hf.report.facts import percent
from act_hf.report.page import render
from act_hf.report.plots import COLOURS, GREY, MARKERS, STYLES, Picture, as_picture, as_written, new_figure, new_panels


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from act_hf.comparison.facts import Comparison, CriticRow

WIDTH = 6.4
LONGEST = 30
"""Letters of a name; the table has all of it."""

CURVES = 4
"""Pairs whose accuracy is drawn against the budget."""

SHOWN = 40
"""Pairs whose AUROC is drawn."""

_FAR = 0.15
"""What lies further off is told in words, so that it does not squeeze the rest."""


def accuracy_plot(comparison: Comparison, figure: Figure | SubFigure) -> str:
    """Each annotator's accuracy with its interval; returns what the picture shows."""
    (axes,) = new_panels(figure)
    for place, row in enumerate(comparison.annotators):
        _dot(axes, row.accuracy, place, colour=COLOURS[0], marker="o", filled=row.tied, scale=100)
    majority = f"always the most frequent label: {percent(comparison.majority)}"
    if comparison.majority > min(row.accuracy.low for row in comparison.annotators) - _FAR:
        axes.axvline(100 * comparison.majority, color=GREY, linestyle=":", linewidth=1.2)
        majority = f"dotted: {majority}"
    short = _short(row.name for row in comparison.annotators)
    _names(axes, [short[row.name] for row in comparison.annotators])
    axes.set(xlabel="labels that are right (%)")
    axes.set_title(_title(comparison, "Annotators"), loc="left", fontsize=10)
    said = f"hollow: below the best by more than noise. {majority[0].upper()}{majority[1:]}."
    _remark(figure, said)
    return f"Accuracy of each annotator with its interval; {said}"


def auroc_plot(comparison: Comparison, figure: Figure | SubFigure) -> str:
    """Each critic's AUROC with its interval, below the annotator that it criticizes."""
    (axes,) = new_panels(figure)
    short = _short([*(row.annotator for row in comparison.critics), *(row.critic for row in comparison.critics)])
    kinds = sorted({row.critic for row in comparison.critics}, key=lambda name: (name != PANEL, name))
    names: list[str] = []
    heads = []
    for rows in _groups(comparison):
        heads.append(len(names))
        names.append(short[rows[0].annotator])
        for row in rows:
            if row.auroc is None:
                axes.text(0.5, len(names), "not defined", va="center", ha="center", fontsize=8, color=GREY)
            else:
                look = _look(kinds.index(row.critic))
                _dot(axes, row.auroc, len(names), filled=row.tied, scale=1, **look)
            names.append(short[row.critic])
    _names(axes, names)
    for head in heads:
        axes.get_yticklabels()[head].set_fontweight("bold")
        axes.axhline(head, color="white", linewidth=3, zorder=0.6)  # no line of the grid beside a name alone
    axes.tick_params(axis="y", length=0)
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2)
    lowest = min([row.auroc.low for row in comparison.critics if row.auroc], default=0.4)
    axes.set(xlabel="AUROC", xlim=(min(0.45, lowest - 0.02), 1.01))
    axes.set_title(_title(comparison, "Critics of each annotator"), loc="left", fontsize=10)
    said = "how often a wrong label is doubted more than a right one. Dotted: a coin.\nHollow: the pair's labels are, "
    said += "after review, behind the best pair's by more than noise."
    if len(comparison.critics) > SHOWN:
        said += f"\nOf {len(comparison.critics)} pairs the best {SHOWN} after review are shown."
    _remark(figure, said)
    return f"AUROC of each critic with its interval, by annotator: {said}".replace("\n", " ")


def _look(kind: int) -> dict[str, str]:
    """The same for a critic wherever it is: colours first, then other marks."""
    return {
        "colour": COLOURS[kind % len(COLOURS)],
        "marker": MARKERS[(kind + kind // len(COLOURS)) % len(MARKERS)],
    }


def review_plot(comparison: Comparison, figure: Figure | SubFigure) -> str:
    """Accuracy after review against the rows reviewed, for the best pairs."""
    (axes,) = new_panels(figure)
    budgets = [100 * budget / comparison.rows for budget in comparison.budgets]
    shown = _shown_pairs(comparison)
    short = _short([*(row.annotator for row in shown), *(row.critic for row in shown)])
    for number, row in enumerate(shown):
        bars = f", with {100 * comparison.confidence:g} % intervals" if number == 0 else ""
        label = f"{short[row.annotator]} + {short[row.critic]}{bars}"
        points = [[100 * value for value in values] for values in zip(*row.curve, strict=True)]
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number % len(STYLES)]}
        axes.plot(*points, label=label, linewidth=2, **style)
        if number == 0:
            axes.errorbar(
                budgets,
                [100 * one.value for one in row.after],
                yerr=_bars(row.after, 100),
                fmt="none",
                ecolor=COLOURS[0],
                capsize=4,
                linewidth=1.4,
            )
    best = next(one for one in comparison.annotators if one.name == shown[0].annotator)
    start, failed = 100 * best.accuracy.value, 100 * best.failed / comparison.rows
    random = f"{short[best.name]}, reviewed at random"
    axes.plot([0, failed, 100], [start, start + failed, 100], color=GREY, linestyle=":", linewidth=1.5, label=random)
    end = min(100.0, max(40.0, 2.5 * max(budgets)))
    axes.set(xlabel="rows reviewed, the most doubtful first (%)", ylabel="labels that are right (%)", xlim=(0, end))
    axes.set_ylim(None, 100.5)
    axes.set_title("The best pairs, as review goes on", loc="left", fontsize=10)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", frameon=False, fontsize=8.5)
    return "Accuracy against the share of the rows reviewed, for the best pairs and for review at random."


def pictures(comparison: Comparison) -> dict[str, Picture]:
    """Every picture that there are numbers for, by name."""
    made = {}
    for name, (draw, height) in _wanted(comparison).items():
        figure = new_figure(height, width=WIDTH)
        made[name] = as_picture(figure, draw(comparison, figure))
    return made


def render_page(comparison: Comparison) -> str:
    """The comparison as one HTML page."""
    template = "comparison/comparison.html.jinja"
    return render(template, comparison=comparison, pictures=pictures(comparison), dollars=dollars)


def whole_figure(comparison: Comparison) -> Figure:
    """All of them below each other."""
    wanted = _wanted(comparison)
    heights = [height for _, height in wanted.values()]
    figure = new_figure(sum(heights), width=WIDTH)
    parts = figure.subfigures(len(wanted), 1, height_ratios=heights, squeeze=False)[:, 0]
    for (draw, _), part in zip(wanted.values(), parts, strict=True):
        draw(comparison, part)
    return figure


def _wanted(comparison: Comparison) -> dict[str, tuple[Callable[[Comparison, Figure | SubFigure], str], float]]:
    """How each picture is drawn, and how high it is."""
    wanted: dict[str, tuple[Callable[[Comparison, Figure | SubFigure], str], float]] = {
        "accuracy": (accuracy_plot, 1.4 + 0.28 * len(comparison.annotators))
    }
    if comparison.critics:
        groups = _groups(comparison)
        lines = sum(len(group) for group in groups) + len(groups)
        wanted["auroc"] = (auroc_plot, 1.5 + 0.22 * lines)
        wanted["review"] = (review_plot, 3.9 + 0.2 * len(_shown_pairs(comparison)))
    return wanted


def _groups(comparison: Comparison) -> list[list[CriticRow]]:
    """The pairs by annotator, the best critic first; of many, the best pairs."""
    kept = comparison.critics[:SHOWN]
    by_annotator = [[row for row in kept if row.annotator == one.name] for one in comparison.annotators]
    ordered = [sorted(rows, key=lambda row: -row.auroc.value if row.auroc else 0.0) for rows in by_annotator]
    return [rows for rows in ordered if rows]


def _shown_pairs(comparison: Comparison) -> list[CriticRow]:
    """The recommended pair, then the best of the others."""
    made = comparison.recommendation
    chosen = [row for row in comparison.critics if row.pair == (made.annotator, made.critic)]
    return [*chosen, *(row for row in comparison.critics if row not in chosen)][:CURVES]


def _dot(axes: Axes, figure: Any, place: int, *, colour: str, marker: str, filled: bool, scale: int) -> None:
    axes.errorbar(
        scale * figure.value,
        place,
        xerr=_bars([figure], scale),
        fmt=marker,
        color=colour,
        markerfacecolor=colour if filled else "white",
        markersize=6,
        capsize=3,
        linewidth=1.6,
    )


def _bars(figures: Any, scale: int) -> list[list[float]]:
    """The distances to the bounds."""
    return [
        [scale * (one.value - one.low) for one in figures],
        [scale * (one.high - one.value) for one in figures],
    ]


def _names(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _title(comparison: Comparison, what: str) -> str:
    return f"{what}, with {100 * comparison.confidence:g} % intervals"


def _remark(figure: Figure | SubFigure, text: str) -> None:
    figure.supxlabel(text[0].upper() + text[1:], fontsize=8, color=GREY, x=0.01, ha="left")


def _short(names: Iterable[str]) -> dict[str, str]:
    return {name: as_written(short) for name, short in short_names(names, LONGEST).items()}
