"""
What published answers of strong models say about critics: docs/recorded.md is made of this.

    python benchmarks/bench_recorded.py --data FOLDER     # a few minutes, no model and no network; writes the JSON
    python benchmarks/bench_recorded.py --docs            # the tables of docs/recorded.md from the JSON

FOLDER has emotion/, irony/, vqa_rad/ and imdb_llm/, each with train.parquet, test.parquet and annotations.parquet.
Every recorded annotator is criticized by every other one (likelihood: does it agree?) and by the panel of all others.
"""

import argparse
import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Image, concatenate_datasets, disable_progress_bars
from documents import write_tables
from machine import RESULTS, save_result

from act_hf import Task
from act_hf.comparison import Comparison, compare
from act_hf.models.recorded import Recorded


CERTAINTY = 0.9
"""Of every recorded label: none came with a confidence. Any number above an even share gives the same order."""

SHORT = {"claude-3-5-sonnet-20240620": "claude-3.5-sonnet", "llama3.2-vision:11b": "llama3.2-vision"}
BOOTSTRAPS = 2000
SLICES_OF, SLICE_ROWS, SLICE_BOOTSTRAPS = 20, 200, 300
"""Random slices of each set, to see what so few gold labels tell."""

SAYS_NOTHING = {"curve", "took", "model", "strategy", "calibration", "undefined"}
"""What is the same for all recorded answers, or too long to keep."""

MANY = 8
"""With more annotators than this, slices take too long and say no more."""


@dataclass(frozen=True)
class Slice:
    """What is compared: a set, whose splits, and which of the recorded models."""

    folder: str
    splits: tuple[str, ...]
    shown: dict[str, str]
    instruction: str
    models: tuple[str, ...] = ()
    note: str = ""


SLICES = {
    "emotion": Slice("emotion", ("test",), {"text": "text"}, "Which emotion does the tweet express?"),
    "irony": Slice(
        "irony", ("test",), {"text": "text"}, "Is the tweet ironic?", models=("claude-3-5-sonnet-20240620", "gpt-4o")
    ),
    "irony, with weak models": Slice("irony", ("test",), {"text": "text"}, "Is the tweet ironic?"),
    "vqa_rad": Slice("vqa_rad", ("train", "test"), {"image": "image", "question": "question"}, "Answer the question."),
    "imdb_llm": Slice("imdb_llm", ("train", "test"), {"text": "text"}, "Is the review positive or negative?"),
}


def load(data: Path, one: Slice) -> tuple[Dataset, Task, Dataset]:
    folder = data / one.folder
    rows = concatenate_datasets([Dataset.from_parquet(str(folder / f"{split}.parquet")) for split in one.splits])
    if not isinstance(rows.features["label"], ClassLabel):
        names = json.loads((folder / "info.json").read_text())["label_names"]
        rows = rows.cast_column("label", ClassLabel(names=names))
    if "image" in one.shown and not isinstance(rows.features["image"], Image):
        rows = rows.cast_column("image", Image())
    task = Task.from_dataset(rows, instruction=one.instruction, **one.shown)
    return rows, task, Dataset.from_parquet(str(folder / "annotations.parquet"))


def recorded(rows: Dataset, task: Task, table: Dataset, one: Slice) -> dict[str, Recorded]:
    kept = zip(table["model"][:], table["strategy"][:], table["role"][:], table["split"][:], strict=True)
    found = dict.fromkeys(
        (model, strategy)
        for model, strategy, role, split in kept
        if role == "annotator" and split in one.splits and (not one.models or model in one.models)
    )
    asked: dict[str, list[str]] = {}
    for model, strategy in found:
        asked.setdefault(model, []).append(strategy)
    return {
        SHORT.get(model, model) + (f" {strategy}" if len(asked[model]) > 1 else ""): Recorded.from_table(
            rows, task, table, model=model, strategy=strategy, certainty=CERTAINTY
        )
        for model, strategy in found
    }


def trial(data: Path, name: str, one: Slice) -> dict[str, Any]:
    rows, task, table = load(data, one)
    models = recorded(rows, task, table, one)
    gold = rows["label"][:]
    shares = {label: gold.count(i) / len(gold) for i, label in enumerate(task.labels)}
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"store": Path(folder) / "answers.sqlite", "bootstraps": BOOTSTRAPS}
        made = compare(rows, task, annotators=models, critics=models, **options)
        known = compare(rows, task, annotators=models, shares=shares, **options)
        small = None if len(models) > MANY else on_slices(rows, task, models, made, options["store"])
    print(f"\n{name}\n{made.summary()}", flush=True)
    slim = made.to_dict()
    for row in (*slim["annotators"], *slim["critics"]):
        for key in SAYS_NOTHING & row.keys():
            row.pop(key)
    if len(models) > MANY:
        slim["critics"] = [row for row in slim["critics"] if row["critic"] == "panel" or row in best_others(slim)]
    with_shares = [
        {key: row[key] for key in ("annotator", "auroc", "abs", "ece", "after")} for row in known.to_dict()["critics"]
    ]
    made_of = {"set": name, "splits": one.splits, "comparison": slim, "panel_with_known_shares": with_shares}
    return made_of | {"small_slices": small}


def on_slices(
    rows: Dataset, task: Task, models: dict[str, Recorded], whole: Comparison, store: Path
) -> dict[str, Any]:
    """What comparisons on small random slices of the set say, against the one on all of it."""
    truth = {row.pair: row for row in whole.critics}
    best = whole.critics[0]
    held: dict[str, list[bool]] = {"panel": [], "alone": []}
    shift, widths, lost, kept, tied = [], [], [], [], []
    for seed in range(SLICES_OF):
        drawn = rows.shuffle(seed=seed).select(range(SLICE_ROWS))
        made = compare(drawn, task, annotators=models, critics=models, store=store, bootstraps=SLICE_BOOTSTRAPS)
        for row in made.critics:
            if row.auroc and not (row.self_critique and row.critic != "panel"):
                real = truth[row.pair].auroc.value
                held["panel" if row.critic == "panel" else "alone"].append(row.auroc.low <= real <= row.auroc.high)
                widths.append(row.auroc.high - row.auroc.low)
                shift += [row.auroc.value - real] if row.critic == "panel" else []
        chosen = made.recommendation
        lost.append(best.after[0].value - truth[chosen.annotator, chosen.critic].after[0].value)
        kept.append(best.pair in [(chosen.annotator, chosen.critic), *chosen.tied])
        tied.append(len(chosen.tied))
    return {
        "slices": SLICES_OF,
        "rows": SLICE_ROWS,
        "panel_held": float(np.mean(held["panel"])),
        "panel_shift": float(np.mean(shift)),
        "alone_held": float(np.mean(held["alone"])),
        "width": float(np.mean(widths)),
        "accuracy_lost": [float(value) for value in lost],
        "best_among_tied": float(np.mean(kept)),
        "tied": float(np.mean(tied)),
        "pairs": len(truth),
    }


# docs/recorded.md


def tables(result: dict[str, Any]) -> dict[str, str]:
    """What stands between the marks of docs/recorded.md, by name."""
    made = {one["set"]: "\n\n".join((errors_table(one), review_table(one))) for one in result["sets"]}
    return made | {"small slices": slices_table(result)}


def slices_table(result: dict[str, Any]) -> str:
    lines = [
        "| set | pairs | other model: AUROC held | panel: AUROC held | panel: AUROC less that on all rows | "
        "mean width | points lost: mean, most | best pair taken or tied | tied, mean |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in result["sets"]:
        small = one["small_slices"]
        if small:
            lost = [100 * value for value in small["accuracy_lost"]]
            cells = [
                one["set"],
                str(small["pairs"]),
                f"{100 * small['alone_held']:.0f} %",
                f"{100 * small['panel_held']:.0f} %",
                f"{small['panel_shift']:+.2f}",
                f"{small['width']:.2f}",
                f"{np.mean(lost):.1f}, {max(lost):.1f}",
                f"{100 * small['best_among_tied']:.0f} %",
                f"{small['tied']:.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def errors_table(one: dict[str, Any]) -> str:
    lines = [
        "| annotator | right | wrong / judged | panel: AUROC | panel: ABS | panel, shares known: AUROC | "
        "best other model alone: AUROC | ",
        "|---|---|---|---|---|---|---|",
    ]
    made = one["comparison"]
    known = {row["annotator"]: row for row in one["panel_with_known_shares"]}
    for row in made["annotators"]:
        mine = [critic for critic in made["critics"] if critic["annotator"] == row["name"]]
        panel = next(critic for critic in mine if critic["critic"] == "panel")
        best = best_other(mine)
        cells = [
            row["name"],
            percent(row["accuracy"]),
            f"{panel['errors']} / {panel['rows']}",
            bounds(panel["auroc"]),
            bounds(panel["abs"]),
            bounds(known[row["name"]]["auroc"]),
            f"{best['critic']}: {bounds(best['auroc'])}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(line.rstrip() for line in lines)


def best_other(critics: list[dict[str, Any]]) -> dict[str, Any]:
    """The critic with the best AUROC of another model, alone."""
    others = [one for one in critics if one["critic"] != "panel" and not one["self_critique"]]
    return max(others, key=lambda one: one["auroc"]["value"])


def review_table(one: dict[str, Any]) -> str:
    made = one["comparison"]
    budgets = made["budgets"]
    reviewed = [f"{budget} of {made['rows']} reviewed" for budget in budgets]
    at_random = [f"{budget} at random" for budget in budgets]
    lines = [
        f"| {' | '.join(['annotator + panel', 'before', *reviewed, *at_random])} |",
        "|---|" + "---|" * (1 + 2 * len(budgets)),
    ]
    for row in made["annotators"]:
        panel = next(one for one in made["critics"] if (one["annotator"], one["critic"]) == (row["name"], "panel"))
        cells = [row["name"], f"{100 * row['accuracy']['value']:.1f} %", *(percent(share) for share in panel["after"])]
        cells += [f"{100 * share:.1f} %" for share in row["at_random"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def best_others(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """[`best_other`] of every annotator."""
    critics = comparison["critics"]
    return [
        best_other([one for one in critics if one["annotator"] == row["name"]]) for row in comparison["annotators"]
    ]


def percent(share: dict[str, float]) -> str:
    return f"{100 * share['value']:.1f} % ({100 * share['low']:.1f}–{100 * share['high']:.1f})"


def bounds(figure: dict[str, float]) -> str:
    return f"{figure['value']:.2f} ({figure['low']:.2f}–{figure['high']:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with the sets")
    parser.add_argument("--docs", action="store_true", help="write the tables of docs/recorded.md")
    given = parser.parse_args()
    if not (given.data or given.docs):
        parser.error("give --data FOLDER to measure, --docs to write the tables, or both")
    disable_progress_bars()
    if given.data:
        # Rows with the same content get one answer: what the notes of the comparison count as copies.
        warnings.filterwarnings("ignore", message=".*have the content of an earlier row")
        trials = [trial(given.data, name, one) for name, one in SLICES.items()]
        save_result("recorded", {"certainty": CERTAINTY, "bootstraps": BOOTSTRAPS, "sets": trials})
    if given.docs:
        write_tables("recorded.md", tables(json.loads((RESULTS / "recorded.json").read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
