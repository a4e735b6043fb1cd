"""
Every critic strategy with small real models: docs/critics.md is made of this.

    python benchmarks/bench_critics.py --data data --weights weights --store critics.sqlite   # hours; resumes

Qwen2.5-Coder-1.5B annotates 300 rows each of TweetEval's emotion and irony. Itself (self), Qwen2.5-Coder-0.5B, SmolLM2
and, by likelihood, MiniLM (cross) criticize, as given, centred per label, and fused. `--weights` is a folder with the
files qwen15.gguf and qwen05.gguf; `--data` one with emotion/test.parquet and irony/test.parquet, else the Hub.
"""

import argparse
import os


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, load_dataset
from machine import save_result

from act_hf import EncoderModel, LocalModel, Model, Task, annotate, criticize
from act_hf.estimate import auroc
from act_hf.models.embedded import minilm_path, smollm2_path
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
        labelled, model, strategy=strategy, calibration=calibration, store=store, max_tokens=longest, batch_size=ROWS
    )
    return column(made, "act_error_prob"), stage_records(made, "criticize")[-1]


def trial(name: str, data: Path | None, critics: dict[str, Model], strategies: tuple[str, ...], store: Path) -> dict:
    from act_hf.fusion import fused

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
                values, record = judged(labelled, model, strategy, calibration, store)
                signals[f"{critic} {strategy} {calibration}"] = values
                seconds = record["usage"]["seconds"] / ROWS
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with emotion/ and irony/ instead of the Hub")
    parser.add_argument("--weights", type=Path, required=True, help="a folder with qwen15.gguf and qwen05.gguf")
    parser.add_argument("--store", type=Path, default=Path("critics.sqlite"), help="where answers are kept")
    parser.add_argument("--scored", action="store_true", help="only the strategies that need no generated text")
    given = parser.parse_args()
    strategies = SCORED if given.scored else (*SCORED, *SPOKEN)
    critics = models(given.weights)
    trials = [trial(name, given.data, critics, strategies, given.store) for name in INSTRUCTIONS]
    save_result("critics", {"annotator": "Qwen 1.5B", "longest": LONGEST, "bootstraps": BOOTSTRAPS, "sets": trials})


if __name__ == "__main__":
    main()
