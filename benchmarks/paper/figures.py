"""The figures of docs/results.md, from the cells."""

import io
from collections.abc import Callable

import numpy as np
from paper.arms import CURVE, SWEEP
from paper.problem import FUSED
from paper.results import NAMED, SetResult
from paper.tables import SHARES
from PIL import Image

from act_hf.report.plots import COLOURS, GREY, MARKERS, new_figure, png


SHOWN = {
    "act exponential, non-negative": "ACT exponential, non-negative",
    "corrected": "corrected, one shot",
    "waves": "corrected, five waves",
    "random": "corrected, random rows",
}


def gaps(results: list[SetResult]):
    """Human CE minus each of a few arms, one row a set, with the paper's gap."""
    arms = {"machine": "machine labels", NAMED: SHOWN[NAMED], "corrected": "corrected labels"}
    figure = new_figure(1.2 + 0.62 * len(results), width=7.2)
    axes = _plain(figure.subplots())
    for place, one in enumerate(results):
        for number, arm in enumerate(arms):
            found = one.difference("human", arm)
            if found is None:
                continue
            at, colour = place + 0.22 * (number - 1), COLOURS[(1, 0, 2)[number]]
            axes.plot([found.low, found.high], [at, at], color=colour, linewidth=2, alpha=0.5)
            axes.plot(found.value, at, MARKERS[number], color=colour, markersize=7, label=arms[arm])
        ends, gap = [place - 0.4, place + 0.4], one.protocol.paper.gap
        axes.plot([gap, gap], ends, color="black", linewidth=2, label="the paper's best ACT arm")
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(results)), [one.protocol.name for one in results])
    axes.set(xlabel="points of test accuracy below all human labels", ylim=(len(results) - 0.5, -0.5))
    _legend(figure, axes, columns=2)
    return figure


def curves(results: list[SetResult]):
    """Test accuracy against the share that people review."""

    def draw(axes, one: SetResult) -> None:
        for arm, colour in (("human", "black"), ("machine", GREY)):
            if one.values(arm).size:
                axes.axhline(one.mean(arm), color=colour, linewidth=1.2, linestyle=":", label=f"{arm} labels")
        for number, arm in enumerate(CURVE):
            points = [
                (100 * share * one.protocol.share, one.mean(arm, share), one.spread(arm, share))
                for share in SHARES
                if one.values(arm, share).size
            ]
            if points:
                x, y, spread = (np.array(values) for values in zip(*points, strict=True))
                style = {"color": COLOURS[number], "marker": MARKERS[number], "markersize": 4}
                axes.plot(x, y, label=SHOWN[arm], linewidth=1.8, **style)
                axes.fill_between(x, y - spread, y + spread, color=COLOURS[number], alpha=0.12, linewidth=0)

    return _small(_over_budgets(results), draw, "rows reviewed by people (%)", "test accuracy (%)")


def _over_budgets(results: list[SetResult]) -> list[SetResult]:
    return [one for one in results if any(one.values("corrected", share).size for share in SHARES if share != 1)]


def collapse(results: list[SetResult]):
    """The plain normalised loss and its non-negative form, trained as always and several times as long."""
    arms = ("machine", "act normalised", "act normalised, non-negative", "corrected", "act exponential")
    names = (
        "machine labels",
        "ACT normalised, plain",
        "ACT normalised, non-negative",
        "corrected labels",
        "ACT exponential, plain",
    )
    shown = [one for one in results if one.values("act normalised, long").size]

    def draw(axes, one: SetResult) -> None:
        for number, (arm, name) in enumerate(zip(arms, names, strict=True)):
            ends = [one.mean(f"{arm}{suffix}") - one.mean(f"human{suffix}") for suffix in ("", ", long")]
            style = {"color": (GREY, *COLOURS[1::-1], *COLOURS[2:4])[number], "marker": MARKERS[number]}
            axes.plot([0, 1], ends, label=name, linewidth=1.8, **style)
        axes.axhline(0, color="black", linewidth=1, linestyle=":")
        epochs = one.protocol.recipe.epochs
        axes.set_xticks([0, 1], [f"{epochs}", f"{epochs * one.protocol.long}"])
        axes.set_xlim(-0.3, 1.3)

    return _small(shown, draw, "epochs", "points from all human labels")


def waves(results: list[SetResult]):
    """How many labels are right, against the share reviewed: one shot, and waves with an error model."""

    def draw(axes, one: SetResult) -> None:
        for number, arm in ((1, "corrected"), (2, "waves"), (3, "random")):
            points = [(0.0, one.mean("machine", what="labels_right"))]
            points += [
                (100 * share * one.protocol.share, one.mean(arm, share, "labels_right"))
                for share in SHARES
                if one.values(arm, share).size
            ]
            x, y = zip(*points, strict=True)
            axes.plot(
                x, y, label=SHOWN[arm], color=COLOURS[number], marker=MARKERS[number], markersize=4, linewidth=1.8
            )
        if one.values("corrected").size:
            target = one.mean("corrected", what="labels_right")
            axes.axhline(target, color=GREY, linewidth=1, linestyle=":")

    return _small(_over_budgets(results), draw, "rows reviewed by people (%)", "labels that are right (%)")


def sweep(results: list[SetResult]):
    """The gap of the named arm by the AUROC of a simulated critic, and where the real critic is."""

    def draw(axes, one: SetResult) -> None:
        for number, (arm, name) in enumerate(((NAMED, SHOWN[NAMED]), ("corrected", "corrected, one shot"))):
            points = [(auroc, one.sweep_gap(auroc, arm)) for auroc in SWEEP]
            points = [(auroc, gap) for auroc, gap in points if gap is not None]
            if points:
                x, y = zip(*points, strict=True)
                style = {"color": COLOURS[number], "marker": MARKERS[number], "markersize": 4}
                axes.plot(x, y, label=f"{name}, simulated critic", linewidth=1.8, **style)
            real = one.difference("human", arm)
            if real is not None:
                auroc = one.facts["critics"][FUSED]["auroc"][0]
                axes.plot(auroc, real.value, "*", color=COLOURS[number], markersize=11, label=f"{name}, our critic")
        axes.axhline(one.protocol.paper.gap, color="black", linewidth=1, linestyle=":", label="the paper's gap")

    swept = [one for one in results if any(one.sweep_gap(auroc) is not None for auroc in SWEEP)]
    return _small(swept, draw, "AUROC of the critic", "points below all human labels")


def _small(results: list[SetResult], draw: Callable, x: str, y: str):
    """One panel a set."""
    columns = min(4, max(1, len(results)))
    lines = max(1, -(-len(results) // columns))
    figure = new_figure(0.9 + 2.1 * lines, width=2.2 * columns + 0.4)
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, one in zip(panels, results, strict=False):
        draw(_plain(axes), one)
        axes.set_title(one.protocol.name, fontsize=10)
        axes.tick_params(labelsize=8)
    for axes in panels[len(results) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(results) - columns) : len(results)]:
        axes.set_xlabel(x, fontsize=9)
    for axes in panels[: len(results) : columns]:
        axes.set_ylabel(y, fontsize=9)
    _legend(figure, *panels[: len(results)], columns=3 if columns > 2 else 1)
    return figure


def _plain(axes):
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def _legend(figure, *panels, columns: int) -> None:
    """Each name once, below."""
    handles = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    where = {"loc": "outside lower left", "ncols": columns, "frameon": False, "fontsize": 8.5}
    figure.legend(handles.values(), handles.keys(), **where)


FIGURES = {"gaps": gaps, "curves": curves, "collapse": collapse, "waves": waves, "sweep": sweep}


def figures(results: list[SetResult]) -> dict[str, bytes]:
    """PNGs by name, in few colours: ten panels stay small."""
    return {name: _few_colours(png(draw(results))) for name, draw in FIGURES.items()}


def _few_colours(data: bytes) -> bytes:
    made = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").quantize(128).save(made, "PNG", optimize=True)
    return made.getvalue()
