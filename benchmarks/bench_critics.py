"""
Every critic strategy with small real models: docs/critics.md is made of this.

    python benchmarks/bench_critics.py --data data --weights weights --store critics.sqlite   # two hours
    python benchmarks/bench_critics.py --docs      # the tables from the JSON

Qwen2.5-Coder-1.5B annotates 300 rows each of TweetEval's emotion and irony. Itself (self), Qwen2.5-Coder-0.5B, SmolLM2
and, by likelihood, MiniLM (cross) criticize, as given, centred per label, and fused. `--weights` is a folder with the
files qwen15.gguf and qwen05.gguf; `--data` one with emotion/test.parquet and irony/test.parquet, else the Hub.

Every finished critic is kept in benchmarks/results/critics_SET.json with its error probabilities, so a run that was
broken off goes on after the last one, and within it from the store. Seconds are CPU time over the number of threads,
so that they mean something on a machine that does other work.
"""

import argparse
import json
import os
import time


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, load_dataset
from documents import write_tables
from machine import RESULTS, save_result

from act_hf import EncoderModel, LocalModel, Model, Task, annotate, criticize
from act_hf.estimate import auroc
from act_hf.models.embedded import minilm_path, smollm2_path
from act_hf.prompts import VERSION
from act_hf.records import stage_records


ROWS = 300
BOOTSTRAPS = 2000
INSTRUCTIONS = {
    "emotion": "Which emotion does the tweet express?",
    "irony": "Is the tweet ironic, or does it mean what it says?",
}
WORDS = {"emotion": (), "irony": ("sincere", "ironic")}
SENTENCES = {
    "emotion": (
        "I am so angry about this.",
        "I am happy and full of joy.",
        "I am hopeful about what comes.",
        "I am sad.",
    ),
    "irony": (
        "A sincere statement that means what it says.",
        "An ironic, sarcastic statement. Yeah, great, just what I needed.",
    ),
}
SCORED = ("likelihood", "logit", "ppl")
SPOKEN = ("mc", "naive", "cot", "cot_logit", "devil")
ORDER = (
    *((critic, strategy) for critic in ("Qwen 1.5B", "Qwen 0.5B", "SmolLM2") for strategy in (*SCORED, *SPOKEN)),
    ("MiniLM", "likelihood"),
)
LONGEST = {"naive": 12, "mc": 8, "cot": 80, "cot_logit": 80, "devil": 80}
"""Tokens of a reply."""


def load(name: str, data: Path | None) -> tuple[Dataset, Task]:
    if data:
        rows = Dataset.from_parquet(str(data / name / "test.parquet"))
    else:
        rows = load_dataset("cardiffnlp/tweet_eval", name, split="test")
    task = Task.from_dataset(
        rows, text="text", instruction=INSTRUCTIONS[name], words=WORDS[name], sentences=SENTENCES[name]
    )
    return rows.shuffle(seed=0).select(range(ROWS)), task


def models(weights: Path) -> dict[str, Model]:
    options: dict[str, Any] = {"dtype": "bfloat16", "threads": os.cpu_count(), "batch_size": 64}
    return {
        "Qwen 1.5B": LocalModel(weights / "qwen15.gguf", **options),
        "Qwen 0.5B": LocalModel(weights / "qwen05.gguf", **options),
        "SmolLM2": LocalModel(smollm2_path(), **options),
        "MiniLM": EncoderModel(minilm_path()),
    }


def interval(error_probs: np.ndarray, wrong: np.ndarray) -> dict[str, Any]:
    """AUROC and ABS over the rows that have an error probability, with percentile bootstrap intervals over rows."""
    known = ~np.isnan(error_probs)
    values, errors = error_probs[known], wrong[known]
    random = np.random.default_rng(0)
    draws = []
    while len(draws) < BOOTSTRAPS:
        rows = random.integers(len(values), size=len(values))
        if 0 < errors[rows].sum() < len(rows):
            draws.append(auroc(values[rows], errors[rows]))
    low, high = np.quantile(draws, (0.025, 0.975))
    score = float(auroc(values, errors))
    return {
        "auroc": score,
        "auroc_interval": [float(low), float(high)],
        "abs": 2 * score - 1,
        "abs_interval": [float(2 * low - 1), float(2 * high - 1)],
        "rows": int(known.sum()),
    }


class Cells:
    """What is measured of a set so far, kept in a file: its labels' errors, and of each critic what it said."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = RESULTS / f"critics_{name}.json"
        self.kept: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def keep(self, part: str, value: Any) -> None:
        self.kept[part] = value
        self.path.write_text(json.dumps(self.kept) + "\n", encoding="utf-8")


def label(cells: Cells, rows: Dataset, task: Task, model: Model, store: Path) -> Dataset:
    labelled = annotate(rows, task, model, calibration="batch", store=store)
    gold, said = np.array(rows["label"][:]), np.array(labelled["act_label"][:])
    confidence = np.array(labelled["act_label_probs"][:]).max(axis=1)
    facts = {
        "wrong": (said != gold).astype(int).tolist(),
        "labels": said.tolist(),
        "doubt": np.round(1 - confidence, 6).tolist(),
        "majority": float(np.bincount(gold).max() / ROWS),
        "prompts": VERSION,
    }
    cells.keep("annotator", facts)
    return labelled


def judge(cells: Cells, labelled: Dataset, critic: str, model: Model, strategy: str, store: Path) -> None:
    """Criticizes, unless it is done."""
    if f"{critic} {strategy}" in cells.kept:
        return
    seconds = store.with_suffix(".seconds.json")
    spent = json.loads(seconds.read_text()) if seconds.exists() else {}
    key, before = f"{cells.name} {critic} {strategy} none", time.process_time()
    options: dict[str, Any] = {"strategy": strategy, "store": store, "max_tokens": LONGEST.get(strategy)}
    try:
        made = criticize(labelled, model, batch_size=64, **options)
    finally:  # of what was broken off the answers are in the store, and the seconds here
        spent[key] = spent.get(key, 0.0) + (time.process_time() - before) / (os.cpu_count() or 1)
        seconds.write_text(json.dumps(spent, indent=1))
    # Not the same as centring what is given, for a likelihood: there the labels' priors are taken out.
    batch = criticize(labelled, model, calibration="batch", batch_size=64, **options)
    said = {
        kind: [None if value is None else round(value, 6) for value in found["act_error_prob"][:]]
        for kind, found in (("none", made), ("batch", batch))
    }
    failed = stage_records(made, "criticize")[-1]["failed"]
    cells.keep(f"{critic} {strategy}", {**said, "failed": failed, "seconds_per_row": spent[key] / ROWS})
    print(cells.name, critic, strategy, "done", flush=True)


def measure(names: list[str], data: Path | None, weights: Path, store: Path) -> None:
    critics = models(weights)
    for name in names:
        cells, (rows, task) = Cells(name), load(name, data)
        labelled = label(cells, rows, task, critics["Qwen 1.5B"], store)
        for critic, model in critics.items():
            for strategy in (*SCORED, *SPOKEN) if "chat" in model.abilities else ("likelihood",):
                judge(cells, labelled, critic, model, strategy, store)


# From what was kept to the figures


def floats(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def summary(name: str, kept: dict[str, Any]) -> dict[str, Any]:
    """The figures of one set; signals are joined once all are there."""
    from act_hf.critics.fusion import fused

    annotator = kept["annotator"]
    wrong = np.array(annotator["wrong"], dtype=bool)
    signals = {"confidence": floats(annotator["doubt"])}
    given = {"critic": "Qwen 1.5B", "strategy": "confidence", "calibration": "batch"}
    results = [{**given, **interval(signals["confidence"], wrong)}]
    for critic, strategy in ORDER:
        cell = kept.get(f"{critic} {strategy}")
        if cell is None:
            continue
        for calibration in ("none", "batch"):
            values = signals[f"{critic} {strategy} {calibration}"] = floats(cell[calibration])
            said = {"critic": critic, "strategy": strategy, "calibration": calibration}
            said |= {"seconds_per_row": cell["seconds_per_row"], "failed": cell["failed"]}
            results.append({**said, **interval(values, wrong)})
    missing = [f"{critic} {strategy}" for critic, strategy in ORDER if f"{critic} {strategy}" not in kept]
    for title, names in ({} if missing else joins(signals)).items():
        values = fused(np.array([signals[one] for one in names]))
        results.append({"critic": title, "strategy": "fused", "signals": names, **interval(values, wrong)})
    accuracy = float(1 - wrong.mean())
    return {
        "set": name,
        "accuracy": accuracy,
        "majority": annotator["majority"],
        "missing": missing,
        "critics": results,
    }


def joins(signals: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """Which signals are fused: chosen before the results were seen."""
    ends = {name: name.split()[-2:] for name in signals}
    likely = [name for name, end in ends.items() if end == ["likelihood", "batch"]]
    crossed = [name for name in likely if not name.startswith("Qwen 1.5B")]
    small = [name for name in signals if name.startswith(("Qwen 0.5B", "SmolLM2")) and ends[name][-1] == "batch"]
    return {
        "likelihood of the other models": crossed,
        "likelihood of all models": likely,
        "confidence and likelihood of the other models": ["confidence", *crossed],
        "all strategies of the small models": small,
        "everything": ["confidence", *(name for name, end in ends.items() if end[-1] == "batch")],
    }


# docs/critics.md


def tables(one: dict[str, Any]) -> str:
    rows = one["critics"]
    lines = [
        f"Right: {one['accuracy']:.1%} of {ROWS} labels (always the most frequent label: {one['majority']:.1%}).\n",
        "| critic | strategy | AUROC as given | AUROC centred | ABS as given | ABS centred | failed | seconds a row |",
        "|---|---|---|---|---|---|---|---|",
    ]
    if one["missing"]:
        lines.insert(0, f"**Not measured yet**: {', '.join(one['missing'])}; signals are joined once all are.\n")
    given = {(row["critic"], row["strategy"]): row for row in rows if row.get("calibration") == "none"}
    centred = {(row["critic"], row["strategy"]): row for row in rows if row.get("calibration") == "batch"}
    for (critic, strategy), row in given.items():
        moved = centred[critic, strategy]
        kind = "self" if critic == "Qwen 1.5B" else "cross"
        cells = [f"{critic} ({kind})", strategy, _cell(row, "auroc"), _cell(moved, "auroc"), _cell(row, "abs")]
        cells += [_cell(moved, "abs"), str(row["failed"]), f"{row['seconds_per_row']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["\n| without another question, or joined | AUROC | ABS |", "|---|---|---|"]
    for row in rows:
        if row["strategy"] in ("confidence", "fused"):
            title = "the annotator's own confidence" if row["strategy"] == "confidence" else f"fused: {row['critic']}"
            lines.append(f"| {title} | {_cell(row, 'auroc')} | {_cell(row, 'abs')} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_interval"]
    return f"{row[name]:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with emotion/ and irony/ instead of the Hub")
    parser.add_argument("--weights", type=Path, help="a folder with qwen15.gguf and qwen05.gguf, to measure")
    parser.add_argument("--store", type=Path, default=Path("critics.sqlite"), help="where answers are kept")
    parser.add_argument("--docs", action="store_true", help="write the tables of docs/critics.md")
    parser.add_argument("--sets", nargs="+", choices=INSTRUCTIONS, help="measure these only")
    given = parser.parse_args()
    if given.weights:
        measure(given.sets or list(INSTRUCTIONS), given.data, given.weights, given.store)
    sets = [summary(name, Cells(name).kept) for name in INSTRUCTIONS]
    save_result("critics", {"annotator": "Qwen 1.5B", "longest": LONGEST, "bootstraps": BOOTSTRAPS, "sets": sets})
    if given.docs:
        result = json.loads((RESULTS / "critics.json").read_text(encoding="utf-8"))
        write_tables("critics.md", {one["set"]: tables(one) for one in result["sets"]})


if __name__ == "__main__":
    main()
