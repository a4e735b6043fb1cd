"""The picture of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from act_hf.report.plots import COLOURS, GREY, new_figure, new_panels


if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from act_hf.evidence.facts import ReviewPlan


def plan_figure(plan: ReviewPlan) -> Figure:
    """Accuracy against the rows reviewed: in the critic's order with bounds, at random, and as it expects."""
    figure = new_figure(4.4)
    (axes,) = new_panels(figure)
    curve = plan.points
    rows = [plan.reviewed + point.budget for point in curve]
    low, high = ([100 * bound for bound in bounds] for bounds in zip(*((p.low, p.high) for p in curve), strict=True))
    label = f"{100 * plan.confidence:g} % bounds, for each point alone"
    axes.fill_between(rows, low, high, color=COLOURS[5], alpha=0.35, linewidth=0, label=label)
    axes.plot(rows, [100 * p.accuracy for p in curve], color=COLOURS[0], linewidth=2, label="the most doubted first")
    axes.plot(rows, [100 * p.at_random for p in curve], color=GREY, linestyle=":", label="in random order")
    says = [100 * p.critic for p in curve]
    axes.plot(rows, says, color=COLOURS[1], linestyle="--", linewidth=1.5, label="what the critic says")
    axes.axhline(100 * plan.target, color="black", linewidth=0.8)
    goal = f"the plan: {plan.total:,} rows for {100 * plan.target:g} %"
    axes.plot([plan.total], [100 * plan.target], "*", color="black", markersize=12, label=goal, clip_on=False)
    simulated = " (simulated)" if plan.simulated else ""
    axes.set(xlabel=f"rows reviewed{simulated}, of {plan.rows:,}", ylabel="labels that are right (%)")
    axes.set_xlim(0, plan.rows)
    axes.set_ylim(None, 100.5)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", frameon=False)
    return figure
