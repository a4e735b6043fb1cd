"""The pictures of a report, and what all pictures have in common: numbers in, PNG data URIs with a description out."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, printable


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from act_hf.report.facts import Report

# Okabe & Ito (2008): told apart by colour-blind readers. The line styles tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#767676"
# Small in inches, so that the lettering can still be read when a telephone shrinks the picture.
WIDTH = 5.6
DPI = 200


@dataclass(frozen=True)
class Picture:
    """
    A picture for a page.

    Args:
        uri (`str`): the PNG itself, as a `data:` URI.
        alt (`str`): what it shows, for those who do not see it.
    """

    uri: str
    alt: str


def curve_plot(report: Report) -> Picture:
    """Errors found against rows reviewed, one line a critic, between random review and a perfect critic."""
    figure, (axes,) = _figure(4.4)
    basis, measured = report.basis, report.truth is not None
    for number, critic in enumerate(report.critics):
        axes.plot(critic.budgets, critic.found, label=_text(critic.name), **_line(number))
    if basis is not None and measured:
        axes.plot([0, basis.rows], [0, basis.errors], color=GREY, linestyle=":", label="random review")
        perfect = ([0, basis.errors, basis.rows], [0, basis.errors, basis.errors])
        axes.plot(*perfect, color="black", linewidth=1, linestyle=(0, (1, 1)), label="perfect critic")
    if report.design is not None:
        drawn = report.design.selected
        axes.axvline(drawn, color=GREY, linewidth=1, label=f"rows drawn for review: {drawn:,}")
    if report.finding is not None:
        at = ([report.finding.reviewed], [report.finding.found])
        axes.plot(*at, "*", color="black", markersize=12, label="found in this review")
    height = "machine errors found" if measured else "machine errors the critic expects"
    axes.set(xlabel="rows reviewed, the most doubtful first", ylabel=height, xlim=(0, None), ylim=(0, None))
    _legend_below(figure, axes)
    return as_picture(figure, f"Line plot: {height}, against the rows reviewed, for each critic.")


def reliability_plot(report: Report) -> Picture:
    """Share of labels that were wrong against the error probability that the critic gave them."""
    figure, (axes,) = _figure(4.2)
    axes.plot([0, 100], [0, 100], color=GREY, linestyle=":", label="a critic that means what it says")
    for number, critic in enumerate(report.critics):
        points = [[100 * value for value in values] for values in (critic.predicted, critic.observed)]
        axes.plot(*points, label=_text(critic.name), marker=MARKERS[number % len(MARKERS)], **_line(number))
    axes.set(xlabel="error probability the critic gave (%)", ylabel="labels that were wrong (%)")
    axes.set(xlim=(-2, 102), ylim=(-2, 102))
    _legend_below(figure, axes)
    return as_picture(
        figure, "Plot of the share of wrong labels against the critic's error probability, with the ideal diagonal."
    )


def design_plot(report: Report) -> Picture:
    """How likely each row was to be drawn, and how many were, by error probability."""
    design = report.design
    if design is None:
        raise ACTError("the data set was not sampled: there is no design to plot")
    figure, (above, below) = _figure(4.6, panels=2)
    for drawn, colour, marker, name in ((False, COLOURS[5], "o", "not drawn"), (True, COLOURS[1], "^", "drawn")):
        eps, pi = ([point[axis] for point in design.points if point[2] == drawn] for axis in (0, 1))
        above.scatter(eps, pi, s=14, color=colour, marker=marker, label=name, alpha=0.8, linewidths=0)
    above.set(ylabel="probability of\nbeing drawn (π)", ylim=(-0.04, 1.04))
    rows, drawn_rows = design.histogram
    edges = [number / len(rows) for number in range(len(rows))]
    below.bar(edges, rows, width=1 / len(rows), align="edge", color=COLOURS[5], edgecolor="white")
    below.bar(edges, drawn_rows, width=1 / len(rows), align="edge", color=COLOURS[1], edgecolor="white", hatch="//")
    below.set(xlabel="error probability the critic gave", ylabel="rows", xlim=(-0.02, 1.02))
    _legend_below(figure, above)
    return as_picture(
        figure,
        "Two plots by error probability: the probability of being drawn, and the number of rows, drawn and not.",
    )


def downstream_plot(report: Report) -> Picture:
    """Test accuracy of the models trained on each kind of label: mean, standard deviation, and every run."""
    figure, (axes,) = _figure(0.9 + 0.55 * len(report.downstream))
    for place, group in enumerate(report.downstream):
        mark, colour = MARKERS[place % len(MARKERS)], COLOURS[place % len(COLOURS)]
        axes.plot(
            [100 * value for value in group.accuracies], [place + 0.25] * group.seeds, "|", color=GREY, markersize=9
        )
        spread = None if group.sd is None else 100 * group.sd
        axes.errorbar(
            100 * group.mean, place, xerr=spread, fmt=mark, color=colour, capsize=5, markersize=8, linewidth=2
        )
    axes.set_yticks(
        range(len(report.downstream)),
        [
            as_written(group.name.replace("act", "ACT", 1) if group.method == "act" else group.name)
            for group in report.downstream
        ],
    )
    axes.set(xlabel="test accuracy (%)", ylim=(len(report.downstream) - 0.4, -0.5))
    return as_picture(
        figure, "Test accuracy by training labels: mean with standard deviation. The table has the figures."
    )


def pictures(report: Report) -> dict[str, Picture]:
    """Every picture that the report has numbers for, by name."""
    wanted = {
        "curve": (curve_plot, report.critics),
        "reliability": (reliability_plot, any(critic.predicted for critic in report.critics)),
        "design": (design_plot, report.design is not None and report.design.points),
        "downstream": (downstream_plot, report.downstream),
    }
    return {name: draw(report) for name, (draw, there) in wanted.items() if there}


def new_figure(height: float, *, width: float = WIDTH) -> Figure:
    """A figure of its own, with no global state behind it; in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ACTError("the pictures need matplotlib: pip install act_hf[plot]") from error
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def new_panels(figure: Figure | SubFigure, panels: int = 1) -> list[Axes]:
    """The axes of a figure, from top to bottom."""
    axes: list[Axes] = list(figure.subplots(panels, sharex=True, squeeze=False)[:, 0])
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e6e6e6", linewidth=0.6)
        panel.set_axisbelow(True)
    return axes


def as_written(text: str) -> str:
    """A name as matplotlib writes it: `$` starts no formula."""
    return printable(text).replace("$", r"\$")


def as_picture(figure: Figure, alt: str) -> Picture:
    """The figure with what it shows in words."""
    return Picture("data:image/png;base64," + base64.b64encode(png(figure)).decode(), alt)


def png(figure: Figure) -> bytes:
    """The figure as a PNG."""
    data = io.BytesIO()
    figure.savefig(data, format="png", facecolor="white")
    return data.getvalue()


def _figure(height: float, *, panels: int = 1) -> tuple[Figure, list[Axes]]:
    figure = new_figure(height)
    return figure, new_panels(figure, panels)


def _line(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number % len(STYLES)], "linewidth": 2}


def _text(name: str) -> str:
    """A critic's name, not too long for the legend."""
    return as_written(name if len(name) <= 52 else name[:51] + "…")


def _legend_below(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", frameon=False, markerscale=1.3)
