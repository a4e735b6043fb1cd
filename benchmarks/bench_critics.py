"""
Every critic strategy with small real models: docs/critics.md is made of this.

    python benchmarks/bench_critics.py --data data --weights weights --store critics.sqlite   # two hours
    python benchmarks/bench_critics.py --docs      # the tables from the JSON
    python benchmarks/bench_critics.py --sets irony ...   # one set only, to try it: prints, and saves nothing

Qwen2.5-Coder-1.5B annotates 300 rows each of TweetEval's emotion and irony. Itself (self), Qwen2.5-Coder-0.5B, SmolLM2
and, by likelihood, MiniLM (cross) criticize, as given, centred per label, and fused. `--weights` is a folder with the
files qwen15.gguf and qwen05.gguf; `--data` one with emotion/test.parquet and irony/test.parquet, else the Hub.

A run that was broken off goes on from the store. Seconds are CPU time over the number of threads, so that they mean
something on a machine that does other work, and are kept beside the store.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, load_dataset
from machine import RESULTS, save_result

from act_hf import EncoderModel, LocalModel, Model, Task, annotate, criticize
from act_hf.estimate import auroc
from act_hf.models.embedded import minilm_path, smollm2_path
from act_hf.records import stage_records


DOCS = Path(__file__).parents[1] / "docs" / "critics.md"
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


def column(dataset: Dataset, name: str) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in dataset[name][:]], dtype=float)


def judged(labelled: Dataset, model: Model, strategy: str, calibration: str, store: Path) -> tuple[np.ndarray, dict]:
    longest = LONGEST.get(strategy)
    made = criticize(
        labelled, model, strategy=strategy, calibration=calibration, store=store, max_tokens=longest, batch_size=64
    )
    return column(made, "act_error_prob"), stage_records(made, "criticize")[-1]


class Clock:
    """CPU seconds by name, kept in a file, so that a run that goes on from the store still knows them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    @contextmanager
    def counts(self, name: str) -> Iterator[None]:
        before = time.process_time()
        yield
        spent = (time.process_time() - before) / (os.cpu_count() or 1)
        self.seconds[name] = self.seconds.get(name, 0.0) + spent
        self.path.write_text(json.dumps(self.seconds, indent=1))


def trial(name: str, data: Path | None, critics: dict[str, Model], strategies: tuple[str, ...], store: Path) -> dict:
    from act_hf.critics.fusion import fused

    clock = Clock(store.with_suffix(".seconds.json"))
    rows, task = load(name, data)
    labelled = annotate(rows, task, critics["Qwen 1.5B"], calibration="batch", store=store)
    gold = np.array(rows["label"][:])
    wrong = np.array(labelled["act_label"][:]) != gold
    probs = np.array(labelled["act_label_probs"][:])
    signals = {"confidence": 1 - probs.max(axis=1)}
    results = [
        {
            "critic": "Qwen 1.5B",
            "strategy": "confidence",
            "calibration": "batch",
            **interval(signals["confidence"], wrong),
        }
    ]
    for critic, model in critics.items():
        for strategy in strategies if "chat" in model.abilities else ("likelihood",):
            for calibration in ("none", "batch"):
                with clock.counts(f"{name} {critic} {strategy} {calibration}"):
                    values, record = judged(labelled, model, strategy, calibration, store)
                signals[f"{critic} {strategy} {calibration}"] = values
                # The one that is centred is answered from the store.
                seconds = clock.seconds[f"{name} {critic} {strategy} none"] / ROWS
                said = {"critic": critic, "strategy": strategy, "calibration": calibration, "seconds_per_row": seconds}
                results.append({**said, "failed": record["failed"], **interval(values, wrong)})
                print(name, results[-1], flush=True)
    for title, names in joins(signals).items():
        values = fused(np.array([signals[name] for name in names]))
        results.append({"critic": title, "strategy": "fused", "signals": names, **interval(values, wrong)})
    majority = float(np.bincount(gold).max() / ROWS)
    return {"set": name, "accuracy": float(1 - wrong.mean()), "majority": majority, "critics": results}


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


def write_docs(result: dict[str, Any]) -> None:
    """Replaces what stands between the marks of each set."""
    text = DOCS.read_text(encoding="utf-8")
    for one in result["sets"]:
        begin, end = f"<!-- begin {one['set']} -->", f"<!-- end {one['set']} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{tables(one)}\n{end}{rest.split(end)[1]}"
    DOCS.write_text(text, encoding="utf-8")
    print(f"tables written to {DOCS}")


def tables(one: dict[str, Any]) -> str:
    rows = one["critics"]
    lines = [
        f"Right: {one['accuracy']:.1%} of {ROWS} labels (always the most frequent label: {one['majority']:.1%}).\n",
        "| critic | strategy | AUROC as given | AUROC centred | ABS as given | ABS centred | failed | seconds a row |",
        "|---|---|---|---|---|---|---|---|",
    ]
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
    parser.add_argument("--weights", type=Path, help="a folder with qwen15.gguf and qwen05.gguf")
    parser.add_argument("--store", type=Path, default=Path("critics.sqlite"), help="where answers are kept")
    parser.add_argument("--docs", action="store_true", help="write the tables of docs/critics.md")
    parser.add_argument("--sets", nargs="+", choices=INSTRUCTIONS, help="these only, without saving the result")
    given = parser.parse_args()
    if not (given.weights or given.docs):
        parser.error("give --weights FOLDER to measure, --docs to write the tables, or both")
    if given.weights:
        critics = models(given.weights)
        names = given.sets or INSTRUCTIONS
        trials = [trial(name, given.data, critics, (*SCORED, *SPOKEN), given.store) for name in names]
        if given.sets:
            return
        save_result(
            "critics", {"annotator": "Qwen 1.5B", "longest": LONGEST, "bootstraps": BOOTSTRAPS, "sets": trials}
        )
    if given.docs:
        write_docs(json.loads((RESULTS / "critics.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
