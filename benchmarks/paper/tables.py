"""The tables of docs/results.md, from the cells."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from documents import table
from machine import RESULTS
from paper.arms import ALONE, SWEEP
from paper.problem import FUSED
from paper.results import ACT, NAMED, Difference, SetResult


ARMS = ("human", "machine", *ACT, "corrected", "waves", "cleanlab", "cdi", "random")
IN_PAPER = {
    "human": "human",
    "machine": "machine",
    "act normalised": "normalised",
    "act exponential": "exponential",
    "act threshold": "threshold",
}
NOT_YET = "*Not measured yet.*"
SHARES = (0.25, 0.5, 0.7, 1.0, 1.5, 2.0)
"""Of the paper's human share."""


def sets_table(results: list[SetResult]) -> str:
    rows = []
    for one in results:
        protocol, facts = one.protocol, one.facts
        wrong = 100 * facts["errors"] / facts["rows"]
        cells = [f"{facts['rows']:,}: {protocol.annotator}", f"{wrong:.1f} %", protocol.critic]
        cells += [f"{facts['measured_on']:,}", protocol.backbone, str(protocol.seeds)]
        rows.append([one.protocol.name, *cells])
    header = ["set", "pool and annotator", "wrong", "critic", "rows measured on", "trained", "seeds"]
    return table(header, rows)


def main_table(results: list[SetResult], share: float = 1.0) -> str:
    """Ours, and in square brackets the paper's where it has the arm."""
    results = [one for one in results if any(one.values(arm, share).size for arm in ARMS)]
    if not results:
        return NOT_YET
    rows = []
    for arm in ARMS:
        at = 1.0 if arm in ("human", "machine") else share
        cells = [_with_paper(one, arm, at, shown=share == 1) for one in results]
        if any(cell != "–" for cell in cells):
            rows.append([arm, *cells])
    shares = ["*share reviewed, %*", *(f"{one.protocol.paper.share * share:.2f}" for one in results)]
    return table(["trained on", *(one.protocol.name for one in results)], [shares, *rows])


def _with_paper(one: SetResult, arm: str, share: float, *, shown: bool) -> str:
    if not one.values(arm, share).size:
        return "–"
    ours = f"{one.mean(arm, share):.2f} ± {one.spread(arm, share):.2f}{_few(one, arm, share)}".replace(" ± nan", "")
    named = IN_PAPER.get(arm) if shown else None
    return f"{ours} [{getattr(one.protocol.paper, named):.2f}]" if named else ours


def _few(one: SetResult, arm: str, share: float = 1.0) -> str:
    """The number of seeds, where it is not yet the set's."""
    count = one.values(arm, share).size
    return f" ({count})" if count < one.protocol.seeds else ""


def gaps_table(results: list[SetResult]) -> str:
    rows = []
    for one in results:
        best = one.best_act()
        found = one.difference("human", best) if best else None
        if found is None:
            rows.append([one.protocol.name, f"{one.protocol.paper.gap:.2f}", *["not measured"] * 6])
            continue
        others = [one.difference("human", arm) for arm in (NAMED, "corrected", "machine")]
        rows.append(
            [
                one.protocol.name,
                f"{one.protocol.paper.gap:.2f}",
                f"{found} ({best})",
                *("not measured" if other is None else str(other) for other in others),
                _closed(one, best),
                _verdict(one, found),
            ]
        )
    header = [
        "set",
        "paper",
        "best ACT arm",
        NAMED,
        "corrected labels",
        "machine labels",
        "way closed",
        "at or below the paper's?",
    ]
    return table(header, rows)


def _closed(one: SetResult, arm: str) -> str:
    """The paper's beside it."""
    share = one.closed(arm)
    return f"{'–' if share is None else f'{100 * share:.0f} %'} [{100 * one.protocol.paper.closed:.0f} %]"


def _verdict(one: SetResult, found: Difference) -> str:
    paper = one.protocol.paper.gap
    if one.idle:
        return "yes, but so are machine labels alone"
    if np.isnan(found.low):
        return f"{'yes' if found.value <= paper else 'no'}, by two seeds"
    if found.high <= paper:
        return "yes, with its whole interval"
    if found.value <= paper:
        return "yes, but the interval goes above"
    return "no; the paper's lies in the interval" if found.low <= paper else "no"


def collapse_table(results: list[SetResult]) -> str:
    header = [
        "set",
        "epochs",
        "human",
        "machine",
        "normalised",
        "normalised, non-negative",
        "exponential",
        "corrected",
        "loss of normalised",
    ]
    rows = []
    for one in results:
        for suffix, times in (("", 1), (", long", one.protocol.long)):
            arms = (
                "human",
                "machine",
                "act normalised",
                "act normalised, non-negative",
                "act exponential",
                "corrected",
            )
            if not one.values(f"act normalised{suffix}").size:
                continue
            cells = [_with_paper(one, f"{arm}{suffix}", 1.0, shown=False) for arm in arms]
            loss = one.mean(f"act normalised{suffix}", what="last_loss")
            rows.append([one.protocol.name, str(times * one.protocol.recipe.epochs), *cells, f"{loss:.3g}"])
    return table(header, rows)


def waves_table(results: list[SetResult]) -> str:
    """Label accuracy: at which part of the share waves reach what one shot reaches at the whole of it."""
    rows = []
    for one in results:
        best = best_order(one)
        against = [waves_need(one, arm) for arm in ("corrected", best)]
        if against[0] is None:
            continue
        at = [("random", 1), ("corrected", 1), (best, 1), ("waves", 0.7), ("waves", 1)]
        values = [one.mean(arm, share, "labels_right") for arm, share in at]
        shown = ["–" if np.isnan(value) else f"{value:.2f}" for value in values]
        shown[2] += f" ({ORDERS[best]})"
        needed = ["more than was tried" if np.isinf(share) else f"{100 * share:.0f} %" for share in against]
        rows.append([one.protocol.name, *shown, *needed])
    header = ["set", "random", "one shot, fused", "best one shot", "waves, 70 % of it", "waves, as many"]
    return table([*header, "share that waves need for the fused one shot", "for the best one shot"], rows)


ORDERS = {"corrected": "fused", f"corrected, {ALONE}": "one critic", "cleanlab": "cleanlab"}
"""Ways to order the rows once and for all."""


def best_order(one: SetResult) -> str:
    """The one that finds the most errors; which that is, is known only afterwards."""
    there = [arm for arm in ORDERS if one.values(arm).size]
    return max(there, key=lambda arm: one.mean(arm, what="labels_right"), default="corrected")


def waves_need(one: SetResult, arm: str) -> float | None:
    """The part of the paper's share with which waves reach one shot: infinite if none, None if not measured."""
    target = one.mean(arm, what="labels_right")
    shares, reached = curve(one, "waves", "labels_right")
    if np.isnan(target) or len(shares) < 3:
        return None
    needed = needed_share(shares, reached, target)
    return np.inf if needed is None else needed


def curve(one: SetResult, arm: str, what: str) -> tuple[list[float], list[float]]:
    """Shares of the paper's share, ascending, and the mean at each; at none the machine's labels."""
    shares = [share for share in SHARES if one.values(arm, share).size]
    start = [(0.0, one.mean("machine", what=what))] if one.values("machine").size else []
    points = [*start, *((share, one.mean(arm, share, what)) for share in shares)]
    return [share for share, _ in points], [value for _, value in points]


def needed_share(shares: list[float], reached: list[float], target: float) -> float | None:
    """Where the line through the points first comes to the target."""
    for (left, low), (right, high) in pairwise(zip(shares, reached, strict=True)):
        if high >= target:
            return left + (right - left) * (target - low) / (high - low) if high > low else right
    return None


def critics_table(results: list[SetResult]) -> str:
    """Where an encoder is trained, the critics are those of the same set without."""
    sets = [one for one in results if one.protocol.tuning is None]
    rows = [
        [one.protocol.name, name, *_figures(found)] for one in sets for name, found in one.facts["critics"].items()
    ]
    return table(["set", "critic", *FIGURES_OF_CRITIC], rows)


FIGURES_OF_CRITIC = ("AUROC", "ABS", "errors found in B* rows", "calibration error")


def local_critics_table(path: Path = RESULTS / "paper" / "local_critics.json") -> str:
    """What bench_paper_critics.py has measured so far."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rows = [
        [*title.split(" | "), f"{found['errors']} / {found['rows']}", *_figures(found)]
        for title, found in kept.items()
    ]
    if not rows:
        return NOT_YET
    return table(["set", "annotator", "critic", "wrong / judged", *FIGURES_OF_CRITIC], rows)


def _figures(found: dict) -> list[str]:
    return [
        f"{value:.2f} ({low:.2f} to {high:.2f})"
        for value, low, high in (found[key] for key in ("auroc", "abs", "recall", "ece"))
    ]


def sweep_table(results: list[SetResult]) -> str:
    """The gap of the two arms by the AUROC of a simulated critic."""
    rows = []
    for one in results:
        for arm in SWEPT:
            gaps = [one.sweep_gap(auroc, arm) for auroc in SWEEP]
            if all(gap is None for gap in gaps):
                continue
            cells = [one.protocol.name, f"{one.protocol.paper.gap:.2f}", arm]
            few = [_few(one, f"{arm}, simulated {auroc:.2f}") for auroc in SWEEP]
            cells += ["–" if gap is None else f"{gap:.2f}{less}" for gap, less in zip(gaps, few, strict=True)]
            rows.append([*cells, _needed(one, arm), f"{_auroc(one, FUSED):.2f}"])
    return table(["set", "paper's gap", "arm", *(f"{a:.2f}" for a in SWEEP), "AUROC needed", "our critic's"], rows)


def _needed(one: SetResult, arm: str) -> str:
    if one.idle:
        return "none: machine labels alone are there"
    needed, facts = one.needed_auroc(arm), one.facts
    if needed is None:
        # Whoever finds every error has the human labels.
        perfect = ": 0.00 with a perfect critic" if facts["errors"] <= one.protocol.share * facts["rows"] else ""
        return f"above {SWEEP[-1]:.2f}{perfect}"
    lowest = next(auroc for auroc in SWEEP if one.sweep_gap(auroc, arm) is not None)
    return f"at most {needed:.2f}" if needed == lowest else f"{needed:.2f}"


SWEPT = (NAMED, "corrected")
"""Arms with other critics than the fused one."""


def alone_table(results: list[SetResult]) -> str:
    """What the first critic that a set names is worth without the signals that are fused with it."""
    rows = []
    for one in results:
        found = [one.difference("human", f"{arm}{critic}") for arm in SWEPT for critic in ("", f", {ALONE}")]
        if found[1] is None:
            continue
        first = one.protocol.fused[0]
        cells = [one.protocol.name, f"{one.protocol.paper.gap:.2f}", first]
        cells += [f"{_auroc(one, FUSED):.2f}", f"{_auroc(one, first):.2f}"]
        rows.append([*cells, *("–" if gap is None else str(gap) for gap in found)])
    if not rows:
        return NOT_YET
    gaps = [f"{arm}: {critic}" for arm in SWEPT for critic in ("fused", "alone")]
    return table(["set", "paper's gap", "critic", "AUROC fused", "AUROC alone", *gaps], rows)


def _auroc(one: SetResult, critic: str) -> float:
    return one.facts["critics"][critic]["auroc"][0]
