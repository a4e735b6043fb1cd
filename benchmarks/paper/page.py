"""docs/results.md: its tables from the cells, its figures beside it."""

from itertools import pairwise

import numpy as np
from documents import DOCS, table, write_tables
from paper.arms import SWEEP
from paper.figures import figures
from paper.results import ACT, NAMED, SetResult, all_results


PAGE = "results.md"
ARMS = ("human", "machine", *ACT, "corrected", "waves", "cleanlab", "cdi", "random")
IN_PAPER = {
    "human": "human",
    "machine": "machine",
    "act normalised": "normalised",
    "act exponential": "exponential",
    "act threshold": "threshold",
}
WAVE_SHARES = (0.25, 0.5, 0.7, 1.0, 1.5, 2.0)


def write_page() -> None:
    results = all_results()
    for name, data in figures(results).items():
        (DOCS / f"results_{name}.png").write_bytes(data)
    made = {
        "sets": sets_table(results),
        "main": main_table(results),
        "half": main_table(results, share=0.5),
        "gaps": gaps_table(results),
        "collapse": collapse_table(results),
        "waves": waves_table(results),
        "critics": critics_table(results),
        "sweep": sweep_table(results),
    }
    write_tables(PAGE, made)


def sets_table(results: list[SetResult]) -> str:
    rows = []
    for one in results:
        protocol, facts = one.protocol, one.facts
        wrong = 100 * facts["errors"] / facts["rows"]
        cells = [f"{facts['rows']:,}: {protocol.annotator}", f"{wrong:.1f} %", protocol.critic]
        cells += [f"{facts['measured_on']:,}", protocol.backbone, f"{len(one.values('human'))}"]
        rows.append([one.protocol.name, *cells])
    header = ["set", "pool and annotator", "wrong", "critic", "rows measured on", "trained", "seeds"]
    return table(header, rows)


def main_table(results: list[SetResult], share: float = 1.0) -> str:
    """Ours, and in brackets the paper's where it has the arm."""
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
    ours = f"{one.mean(arm, share):.2f} ± {one.spread(arm, share):.2f}".replace(" ± nan", "")
    named = IN_PAPER.get(arm) if shown else None
    return f"{ours} [{getattr(one.protocol.paper, named):.2f}]" if named else ours


def gaps_table(results: list[SetResult]) -> str:
    rows = []
    for one in results:
        best = one.best_act()
        found = one.difference("human", best) if best else None
        if found is None:
            rows.append([one.protocol.name, f"{one.protocol.paper.gap:.2f}", *["not measured"] * 5])
            continue
        others = [one.difference("human", arm) for arm in (NAMED, "corrected", "machine")]
        rows.append(
            [
                one.protocol.name,
                f"{one.protocol.paper.gap:.2f}",
                f"{found} ({best})",
                *("not measured" if other is None else str(other) for other in others),
                _verdict(one, found),
            ]
        )
    header = ["set", "paper", "best ACT arm", NAMED, "corrected labels", "machine labels", "at or below the paper's?"]
    return table(header, rows)


def _verdict(one: SetResult, found: object) -> str:
    paper = one.protocol.paper.gap
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
            cells = [_with_paper(one, f"{arm}{suffix}", 1.0, shown=False) for arm in arms]
            if all(cell == "–" for cell in cells):
                continue
            loss = one.mean(f"act normalised{suffix}", what="last_loss")
            rows.append([one.protocol.name, str(times * one.protocol.recipe.epochs), *cells, f"{loss:.3g}"])
    return table(header, rows)


def waves_table(results: list[SetResult]) -> str:
    """Label accuracy: at which part of the share waves reach what one shot reaches at the whole of it."""
    rows = []
    for one in results:
        target = one.mean("corrected", what="labels_right")
        shares, reached = curve(one, "waves", "labels_right")
        if np.isnan(target) or len(shares) < 2:
            continue
        needed = needed_share(shares, reached, target)
        at = one.mean("waves", 0.7, "labels_right")
        cells = [f"{one.mean('random', what='labels_right'):.2f}", f"{target:.2f}", f"{at:.2f}"]
        cells += [
            f"{one.mean('waves', what='labels_right'):.2f}",
            "above 200 %" if needed is None else f"{100 * needed:.0f} %",
        ]
        rows.append([one.protocol.name, *cells, "yes" if needed is not None and needed <= 0.7 else "no"])
    header = [
        "set",
        "random",
        "one shot",
        "waves, 70 % of its share",
        "waves, the same share",
        "share that waves need",
        "70 % or less?",
    ]
    return table(header, rows)


def curve(one: SetResult, arm: str, what: str) -> tuple[list[float], list[float]]:
    """Shares of the paper's share, ascending, and the mean at each; at none the machine's labels."""
    shares = [share for share in WAVE_SHARES if one.values(arm, share).size]
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
    rows = []
    for one in results:
        for name, found in one.facts["critics"].items():
            figures = [
                f"{v:.2f} ({low:.2f} to {high:.2f})"
                for v, low, high in (found[key] for key in ("auroc", "abs", "recall", "ece"))
            ]
            rows.append([one.protocol.name, name, *figures])
    return table(["set", "critic", "AUROC", "ABS", "errors found in B* rows", "calibration error"], rows)


def sweep_table(results: list[SetResult]) -> str:
    rows = []
    for one in results:
        gaps = [one.sweep_gap(auroc) for auroc in SWEEP]
        if all(gap is None for gap in gaps):
            continue
        needed = one.needed_auroc()
        shown = ["–" if gap is None else f"{gap:.2f}" for gap in gaps]
        real = one.facts["critics"]["fused"]["auroc"][0]
        rows.append(
            [
                one.protocol.name,
                f"{one.protocol.paper.gap:.2f}",
                *shown,
                "none" if needed is None else f"{needed:.2f}",
                f"{real:.2f}",
            ]
        )
    return table(["set", "paper's gap", *(f"AUROC {a:.2f}" for a in SWEEP), "AUROC needed", "our critic's"], rows)
