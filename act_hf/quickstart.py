"""The main job on the embedded default: real rows, two small real models, no account and no server."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from tqdm.auto import tqdm
from transformers.utils.logging import disable_progress_bar

from act_hf.annotators import annotate
from act_hf.classifier import train_classifier
from act_hf.columns import HUMAN, add_columns
from act_hf.critics import criticize
from act_hf.files import write_dataset, written_whole
from act_hf.models import load_model
from act_hf.report import build_report
from act_hf.review.places import push_review
from act_hf.review.simulated import simulate_review
from act_hf.review.table import Table, count_answers
from act_hf.sampling import sample
from act_hf.task import Example, Task


if TYPE_CHECKING:
    from datasets import Dataset

    from act_hf.report import Report

GOLD = "label"
BUDGET = 0.25
# A fifth of the budget is a uniform audit. It finds fewer errors than the critic's choice, and says how many are left.
MIX = 0.2
SEEDS = 5

# Settings that fit three minutes on two cores: the last two of six layers, two epochs.
TRAINING: dict[str, Any] = {
    "max_length": 64,
    "trained_layers": 2,
    "num_train_epochs": 2,
    "learning_rate": 5e-4,
    "per_device_train_batch_size": 8,
    "disable_tqdm": True,
}


def load_sample(part: str) -> Dataset:
    """A part of the sample that ships with the package: `"pool"`, `"examples"` or `"test"`."""
    from datasets import Dataset

    with as_file(files("act_hf") / "quickstart_data" / f"{part}.parquet") as path:
        loaded: Dataset = Dataset.from_parquet(str(path), keep_in_memory=True)
    return loaded


def sample_task() -> Task:
    """The task of the sample, with one example an intent."""
    examples = load_sample("examples")
    names = examples.features[GOLD].names
    return Task.from_dataset(
        examples,
        label=GOLD,
        text="text",
        instruction="Choose the topic of the customer query to a bank.",
        examples=[Example(names[row[GOLD]], text=row["text"]) for row in examples],
    )


def label_and_criticize(pool: Dataset, store: Path, *, threads: int | None = None) -> Dataset:
    """SmolLM2 annotates; its own yes/no answer and MiniLM's label distribution criticize."""
    smollm2, minilm = load_model("smollm2", threads=threads), load_model("minilm", threads=threads)
    labelled = annotate(pool, sample_task(), smollm2, calibration="batch", store=store)
    doubted = criticize(labelled, smollm2, strategy="logit", suffix="_logit", store=store)
    return criticize(doubted, minilm, strategy="likelihood", store=store)


def downstream(reviewed: Dataset, folder: Path, *, seeds: int = SEEDS) -> list[dict[str, Any]]:
    """
    Test accuracy of the same classifier trained on all true labels, on the machine's, and with the ACT loss.

    Returns:
        `list` of `dict`: a result a method and seed. The ACT model of seed 0 is kept in `folder`.
    """
    quiet = are_progress_bars_disabled()
    disable_progress_bars()  # a bar for tokenizing, thirty times
    test = load_sample("test")
    # The order does not matter to the accuracy, and rows of similar length need less padding.
    test = test.select(sorted(range(len(test)), key=[len(text) for text in test["text"]].__getitem__))
    everyone = add_columns(reviewed, {HUMAN: reviewed[GOLD]}, {HUMAN: reviewed.features[HUMAN]})
    runs = [(method, seed) for seed in range(seeds) for method in ("human", "machine", "act")]
    results = []
    for method, seed in tqdm(runs, desc="train", unit="model"):
        kept = folder / "model" if (method, seed) == ("act", 0) else None
        rows = everyone if method == "human" else reviewed
        trainer = train_classifier(
            rows, "minilm", kept, mode=method, evaluation=test, label=GOLD, seed=seed, **TRAINING
        )
        accuracy = trainer.evaluate()["eval_accuracy"]
        results.append({"method": method, "seed": seed, "accuracy": accuracy, "rows": len(rows)})
    if not quiet:
        enable_progress_bars()
    return results


def run_quickstart(out: Path, *, rows: int | None = None, seeds: int = SEEDS, threads: int | None = None) -> Report:
    """
    Walks the sample through every room.

    Args:
        out (`Path`): gets `answers.sqlite` (a second run asks for nothing again), `data` (the data set with every
            column), `review.csv` (what a person would fill in), `model`, `downstream.json` and `report.html`.
        rows (`int`, *optional*): takes only the first so many rows, for a quick look. All 400 by default.
        seeds (`int`, *optional*, defaults to 5): classifiers trained a method.
        threads (`int`, *optional*): CPU threads; see [`LocalModel`].

    Returns:
        [`Report`]: what the page shows.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar for each time weights are loaded
    pool = load_sample("pool")
    criticized = label_and_criticize(pool.take(rows or len(pool)), out / "answers.sqlite", threads=threads)
    drawn = sample(criticized, budget=BUDGET, mix=MIX)
    _push(drawn, out / "review.csv")
    reviewed = simulate_review(drawn, gold=GOLD)
    write_dataset(reviewed, out / "data", overwrite=True)
    results = downstream(reviewed, out, seeds=seeds)
    with written_whole(out / "downstream.json") as unfinished:
        unfinished.write_text(json.dumps(results, indent=1), encoding="utf-8")
    report = build_report(reviewed, gold=GOLD, downstream=results, title="act_hf quickstart")
    report.save(out / "report.html")
    return report


def _push(drawn: Dataset, path: Path) -> None:
    """Writes the review file anew, unless somebody has tried it out and answered."""
    if not (path.exists() and count_answers(path)):
        push_review(drawn, Table(path, overwrite=True))
