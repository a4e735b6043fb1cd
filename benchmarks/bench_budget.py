"""
Does a plan made from a small audit hold on recorded answers, and what does it cost? docs/budget.md is made of this.

    python benchmarks/bench_budget.py --data FOLDER     # some minutes, no network; writes the JSON and the picture
    python benchmarks/bench_budget.py --docs            # the table of docs/budget.md from the JSON

FOLDER has fashion_mnist/, tweet_sentiment/, emotion/ and imdb_llm/ as for bench_recorded.py. The critic is a
classifier trained, in five folds, on the *machine* labels: no true label goes into it. It sees words (or pixels) and
what other recorded models said. The review is simulated from the true labels.
"""

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Image, concatenate_datasets, disable_progress_bars
from documents import DOCS, table, write_tables
from machine import RESULTS, save_result

from act_hf.estimate import auroc
from act_hf.evidence import plan_rows
from act_hf.evidence.left import Evidence, allowed_errors
from act_hf.evidence.threshold import find_cut
from act_hf.sampling import draw


AUDITS, SEEDS, CONFIDENCE = (200, 400), 1000, 0.95
TARGETS = (0.8, 0.9, 0.95, 0.98, 0.99)
DRAWN = "fashion_mnist, GPT-4o-mini"
"""The set whose first audit is drawn in docs/budget.png."""


@dataclass(frozen=True)
class Slice:
    """Which rows, whose labels, and what the critic sees."""

    folder: str
    splits: tuple[str, ...]
    model: str
    strategy: str
    shown: str


SLICES = {
    "fashion_mnist, GPT-4o-mini": Slice("fashion_mnist", ("test",), "gpt-4o-mini", "cot", "image"),
    "tweet_sentiment, GPT-3.5": Slice("tweet_sentiment", ("test",), "gpt-3.5-turbo", "12_shot", "text"),
    "emotion, GPT-4": Slice("emotion", ("test",), "gpt-4", "zero_shot", "text"),
    "imdb_llm, GPT-4o-mini": Slice("imdb_llm", ("train", "test"), "gpt-4o-mini", "zero_shot", "text"),
}


def load(data: Path, one: Slice) -> tuple[np.ndarray, np.ndarray]:
    """The critic's error probabilities, and whether the machine label is wrong. Rows without a label are left out."""
    folder = data / one.folder
    rows = concatenate_datasets([Dataset.from_parquet(str(folder / f"{split}.parquet")) for split in one.splits])
    table = Dataset.from_parquet(str(folder / "annotations.parquet")).to_pandas()
    table = table[table["role"] == "annotator"]
    ids = rows["id"][:]
    said = {
        key: part.set_index("row_id")["label"].reindex(ids).fillna(-1).to_numpy(dtype=int)
        for key, part in table.groupby(["model", "strategy"])
    }
    machine = said.pop((one.model, one.strategy))
    kept = machine >= 0
    features = seen(rows, one.shown, list(said.values()))
    return doubts(features[kept], machine[kept]), (machine != np.array(rows["label"][:]))[kept]


def seen(rows: Dataset, column: str, others: list[np.ndarray]) -> Any:
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    if column == "image":
        images = rows.cast_column(column, Image())[column][:]
        small = [np.asarray(image.convert("L").resize((14, 14)), dtype=float).ravel() / 255 for image in images]
        return csr_matrix(np.array(small))
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit_transform(rows[column][:])
    votes = [np.eye(labels.max() + 2)[labels + 1] for labels in others]
    return hstack([words, *(csr_matrix(vote) for vote in votes)]).tocsr()


def doubts(features: Any, machine: np.ndarray) -> np.ndarray:
    """One minus the probability that a classifier fitted to the other rows' machine labels gives to the label."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    labels = np.unique(machine, return_inverse=True)[1]
    model = LogisticRegression(max_iter=300)
    probs = cross_val_predict(model, features, labels, cv=5, method="predict_proba")
    return np.clip(1 - probs[np.arange(labels.size), labels], 0, 1)


def trial(name: str, eps: np.ndarray, errors: np.ndarray) -> dict[str, Any]:
    right = 1 - float(errors.mean())
    made = {"set": name, "rows": errors.size, "machine": right, "auroc": auroc(eps, errors)}
    plans = [
        plans_of(eps, errors, target, audit)
        for target in TARGETS
        if target > right
        for audit in AUDITS
        if errors.size >= 3 * audit
    ]
    if name == DRAWN:
        picture(eps, errors)
    print(f"{name}: {made['rows']} rows, {right:.3f} right, AUROC {made['auroc']:.3f}", flush=True)
    return made | {"plans": plans}


def plans_of(eps: np.ndarray, errors: np.ndarray, target: float, audit: int) -> dict[str, Any]:
    rows, allowed = errors.size, allowed_errors(target, errors.size)
    found: dict[str, list[float]] = {
        name: [] for name in ("asked", "at_random", "oracle", "reached", "after", "blind")
    }
    pi = np.full(rows, audit / rows)
    for seed in range(SEEDS):
        selected = draw(pi, seed=seed)
        cut = find_cut(Evidence.of(eps, selected, pi, errors), allowed, 1 - CONFIDENCE)
        order = np.random.default_rng(seed).random(rows)
        blindly = find_cut(Evidence.of(order, selected, pi, errors), allowed, 1 - CONFIDENCE)
        kept = ~selected if cut.threshold is None else ~selected & (eps < cut.threshold)
        left = int((errors & kept).sum())
        found["asked"].append(audit + cut.rows)
        found["at_random"].append(audit + blindly.rows)
        found["oracle"].append(audit + oracle(eps, errors, selected, allowed))
        found["reached"].append(left <= allowed)
        found["after"].append(1 - left / rows)
        found["blind"].append(int(kept.sum()) <= allowed)
    return {"target": target, "audit": audit, **{name: float(np.mean(values)) for name, values in found.items()}}


def picture(eps: np.ndarray, errors: np.ndarray) -> None:
    """One plan, as a user sees it."""
    pi = np.full(errors.size, 400 / errors.size)
    plan = plan_rows(eps, draw(pi, seed=0), pi, errors, target=0.95, confidence=CONFIDENCE)
    dataclasses.replace(plan, simulated=True).plot(DOCS / "budget.png")


def oracle(eps: np.ndarray, errors: np.ndarray, selected: np.ndarray, allowed: int) -> int:
    """The fewest further rows in the same order, for who knows where the errors are; ties as a whole, as in a plan."""
    open_eps, open_errors = eps[~selected], errors[~selected]
    values, group = np.unique(open_eps, return_inverse=True)
    left = np.cumsum(np.bincount(group, weights=open_errors))
    kept = int(np.searchsorted(left, allowed, side="right"))
    return int((group >= kept).sum()) if kept < values.size else 0


# docs/budget.md


HEADER = [
    "set",
    "rows",
    "right by machine",
    "critic's AUROC",
    "target",
    "audit",
    "rows to review, audit included",
    "in random order",
    "with the errors known",
    "right after, mean",
    "target reached",
]


def plans_table(result: dict[str, Any]) -> str:
    rows = [cells(one, plan) for one in result["sets"] for plan in one["plans"]]
    reached = [100 * plan["reached"] for one in result["sets"] for plan in one["plans"]]
    spread = f"reached in {np.mean(reached):.1f} % on average, in {min(reached):.1f} % at least"
    said = f"Over these {len(reached)} lines the target was {spread} (each of {result['seeds']:,} audits)."
    return f"{table(HEADER, rows)}\n\n{said}"


def cells(one: dict[str, Any], plan: dict[str, Any]) -> list[str]:
    return [
        one["set"],
        f"{one['rows']:,}",
        f"{100 * one['machine']:.1f} %",
        f"{one['auroc']:.2f}",
        f"{100 * plan['target']:g} %",
        str(plan["audit"]),
        *(f"{plan[name]:,.0f}" for name in ("asked", "at_random", "oracle")),
        f"{100 * plan['after']:.1f} %",
        f"{100 * plan['reached']:.1f} %",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with the sets")
    parser.add_argument("--docs", action="store_true", help="write the table of docs/budget.md")
    given = parser.parse_args()
    if not (given.data or given.docs):
        parser.error("give --data FOLDER to measure, --docs to write the table, or both")
    disable_progress_bars()
    if given.data:
        trials = [trial(name, *load(given.data, one)) for name, one in SLICES.items()]
        save_result("budget", {"seeds": SEEDS, "confidence": CONFIDENCE, "sets": trials})
    if given.docs:
        result = json.loads((RESULTS / "budget.json").read_text(encoding="utf-8"))
        write_tables("budget.md", {"plans": plans_table(result)})


if __name__ == "__main__":
    main()
