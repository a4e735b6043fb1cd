"""
How many of the errors do people find, when they look at as many rows as there are errors?

    pip install cleanlab xgboost
    python benchmarks/bench_waves.py --data FOLDER     # about an hour on two cores; no network
    python benchmarks/bench_waves.py --data FOLDER --fewer    # one shot against waves with 70 % of its rows, only
    python benchmarks/bench_waves.py --docs            # the tables of docs/statistics.md from the JSON

On every set of recorded annotations (pools.py), at the ideal budget B* = number of errors, over seeds: one shot of the
threshold rule, the same in waves with recalibration or with the error model in between (all through act_hf.sample,
simulate_review and act_hf.calibrate: the reviewer is simulated from the true labels, and always right), and beside
them random rows, cleanlab, CDI, and a critic that knows. Texts are seen as words and as sentence embeddings by the
embedded MiniLM, images as 50 principal components; cleanlab sees the same embeddings.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from baselines import cdi_selection, cleanlab_order, out_of_fold
from datasets import ClassLabel, Dataset, Features, List, Value, disable_progress_bars
from documents import table, write_tables
from machine import RESULTS, save_result
from pools import Pool, fashion_pool, recorded_pools

from act_hf import EncoderModel, Task, calibrate, sample
from act_hf.critics.panel import VOTE
from act_hf.errors import ACTError
from act_hf.models.embedded import minilm_path
from act_hf.records import add_record
from act_hf.review.simulated import simulate_review


SEEDS, SEEDS_OF_LARGE, LARGE = 10, 3, 5000
MIX = 0.1
WAVES = {
    "one shot": {"waves": 1, "mix": 0.0},
    "one shot, a tenth at random": {"waves": 1},
    "5 waves, recalibrated": {"waves": 5, "method": "logistic"},
    "5 waves, error model": {"waves": 5, "method": "model"},
    "10 waves, error model": {"waves": 10, "method": "model"},
}
FEWER = 0.7
SEEDS_OF_FEWER = 5
OTHERS = ("random", "cleanlab", "CDI", "perfect")


def embeddings(pool: Pool, cache: Path) -> np.ndarray | None:
    """`[N, D]`; kept in the folder, since they take a minute."""
    if pool.pixels is not None:
        from sklearn.decomposition import PCA

        return PCA(50, random_state=0).fit_transform(pool.pixels)
    if pool.texts is None:
        return None
    path = cache / f"{pool.name.replace(' ', '_')}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        encoder, order = EncoderModel(minilm_path(), max_length=128), np.argsort([len(text) for text in pool.texts])
        parts = [
            encoder.embed([pool.texts[i] for i in rows])[0] for rows in np.array_split(order, len(order) // 32 + 1)
        ]
        vectors = np.empty((pool.rows, parts[0].shape[1]), dtype=np.float32)
        vectors[order] = np.concatenate(parts)
        np.save(path, vectors)
    return np.load(path)


def criticized(pool: Pool, vectors: np.ndarray | None) -> Dataset:
    """The pool as annotate and criticize would have left it."""
    names = [str(k) for k in range(pool.classes)]
    label = ClassLabel(names=names)
    values = {
        "act_id": [str(row) for row in range(pool.rows)],
        "gold": pool.gold.tolist(),
        "act_label": pool.machine.tolist(),
        "act_error_prob": pool.error_probs.tolist(),
        "text": pool.texts or [""] * pool.rows,
    }
    types = {
        "act_id": Value("string"),
        "gold": label,
        "act_label": label,
        "act_error_prob": Value("float32"),
        "text": Value("string"),
    }
    for voter, votes in enumerate(pool.votes.T):
        values[f"{VOTE}{voter}"] = [None if vote < 0 else int(vote) for vote in votes]
        types[f"{VOTE}{voter}"] = label
    if vectors is not None:
        values["embedding"] = list(vectors.astype(np.float32))
        types["embedding"] = List(Value("float32"))
    task = Task(labels=names, text="text")
    made = Dataset.from_dict(values, features=Features(types))
    return add_record(made, "annotate", task=task.to_dict(), model=pool.annotator)


def found_in_waves(rows: Dataset, budget: int, seed: int, *, waves: int, method: str = "", mix: float = MIX) -> int:
    """Errors found when the budget is spent in equal waves of the threshold rule."""
    sizes = np.diff(np.linspace(0, budget, waves + 1).round().astype(int)).tolist()
    for wave, size in enumerate(sizes, start=1):
        drawn = sample(rows, budget=size, rule="threshold", mix=mix, wave=wave, seed=seed)
        rows = simulate_review(drawn, gold="gold")
        if wave < waves:
            rows = recalibrated(rows, method, seed)
    wrong = np.array(rows["gold"][:]) != np.array(rows["act_label"][:])
    return int(wrong[np.array(rows["act_selected"][:])].sum())


def recalibrated(rows: Dataset, method: str, seed: int) -> Dataset:
    extra = ["embedding"] if method == "model" and "embedding" in rows.column_names else []
    words = bool(any(rows["text"][:1]))
    try:
        return calibrate(rows, method=method, features=extra, words=words, seed=seed)
    except ACTError as error:
        if "review more" not in str(error):
            raise
        return rows  # too few errors, or too few right labels, to learn from


def of_others(pool: Pool, vectors: np.ndarray | None, budget: int, seeds: range) -> dict[str, list[float]]:
    """Errors found by each of `OTHERS`, by seed; of random rows and of a critic that knows, what is to be expected."""
    found: dict[str, list[float]] = {"random": [budget * budget / pool.rows], "perfect": [float(budget)]}
    found["CDI"] = [
        float(pool.wrong[cdi_selection(1 - pool.error_probs, pool.wrong, budget, seed)].sum()) for seed in seeds
    ]
    if vectors is not None and np.bincount(pool.machine)[np.unique(pool.machine)].min() >= 5:
        dense = np.unique(pool.machine, return_inverse=True)[1]
        orders = [cleanlab_order(out_of_fold(vectors, dense, seed), dense) for seed in seeds]
        found["cleanlab"] = [float(pool.wrong[order[:budget]].sum()) for order in orders]
    return found


def with_critic(pool: Pool, cache: Path) -> tuple[Pool, np.ndarray | None]:
    """The pool and its vectors; where no other model's answer is recorded, a classifier is the critic."""
    disable_progress_bars()
    vectors = embeddings(pool, cache)
    if np.isnan(pool.error_probs).any():
        probs = out_of_fold(vectors, pool.machine, 0)
        error_probs = 1 - probs[np.arange(pool.rows), pool.machine]
        pool = replace(pool, error_probs=error_probs, critic="classifier on the machine labels")
    return pool, vectors


def trial(pool: Pool, cache: Path) -> dict:
    started = time.perf_counter()
    pool, vectors = with_critic(pool, cache)
    rows, budget = criticized(pool, vectors), int(pool.wrong.sum())
    seeds = range(SEEDS if pool.rows < LARGE else SEEDS_OF_LARGE)
    found = of_others(pool, vectors, budget, seeds)
    for name, options in WAVES.items():
        found[name] = [float(found_in_waves(rows, budget, seed, **options)) for seed in seeds]
        print(pool.name, name, f"{np.mean(found[name]) / budget:.1%}", flush=True)
    return recalled(pool, found, len(seeds), started)


def trial_of_fewer(pool: Pool, cache: Path) -> dict:
    """One shot with as many rows as there are errors, and waves with `FEWER` of that."""
    started = time.perf_counter()
    pool, vectors = with_critic(pool, cache)
    rows, budget = criticized(pool, vectors), int(pool.wrong.sum())
    seeds = range(SEEDS_OF_FEWER if pool.rows < LARGE else SEEDS_OF_LARGE)
    budgets = {"one shot": budget, "5 waves, error model": round(FEWER * budget)}
    found = {
        name: [float(found_in_waves(rows, size, seed, **WAVES[name])) for seed in seeds]
        for name, size in budgets.items()
    }
    print(pool.name, {name: f"{np.mean(values) / budget:.1%}" for name, values in found.items()}, flush=True)
    return recalled(pool, found, len(seeds), started)


def recalled(pool: Pool, found: dict[str, list[float]], seeds: int, started: float) -> dict:
    budget = int(pool.wrong.sum())
    shares = {name: [round(value / budget, 5) for value in values] for name, values in found.items()}
    return pool.facts() | {"seeds": seeds, "seconds": round(time.perf_counter() - started), "recall": shares}


def figures(sets: list[dict]) -> dict:
    """The mean over the sets, with an interval over seeds, and what each method has above one shot and cleanlab."""
    complete = [one for one in sets if "cleanlab" in one["recall"]]
    return {
        "all sets": {name: mean_of(sets, name) for name in [*WAVES, "random", "CDI", "perfect"]},
        "sets with texts or images": {name: mean_of(complete, name) for name in [*WAVES, *OTHERS]},
        "above one shot": {name: mean_of(sets, name, "one shot") for name in WAVES if name != "one shot"},
        "above cleanlab": {name: mean_of(complete, name, "cleanlab") for name in WAVES},
    }


def mean_of(sets: list[dict], name: str, above: str = "") -> list[float]:
    """Mean recall over the sets, and a 95 % interval for the randomness of the seeds (normal, sets are fixed)."""
    means, variances = [], []
    for one in sets:
        for sign, method in ((1, name), (-1, above)):
            if method:
                values = np.array(one["recall"][method])
                means.append(sign * values.mean())
                variances.append(values.var(ddof=1) / values.size if values.size > 1 else 0.0)
    mean, error = sum(means) / len(sets), 1.96 * np.sqrt(sum(variances)) / len(sets)
    return [round(float(value), 4) for value in (mean, mean - error, mean + error)]


# docs/statistics.md


def waves_table(result: dict) -> str:
    shown = ["random", "cleanlab", "CDI", *WAVES]
    rows = [
        [
            one["set"],
            f"{one['errors']} / {one['rows']}",
            one["critic"],
            *(recall(one["recall"].get(name)) for name in shown),
        ]
        for one in result["sets"]
    ]
    for title in ("all sets", "sets with texts or images"):
        means = result["means"][title]
        rows.append([f"**mean, {title}**", "", "", *(interval(means.get(name)) for name in shown)])
    return table(["set", "wrong / rows", "critic", *shown], rows)


def fewer_table(result: dict) -> str:
    rows = []
    for one in result["sets"]:
        whole, fewer = (one["recall"][name] for name in ("one shot", "5 waves, error model"))
        verdict = "yes" if np.mean(fewer) >= np.mean(whole) else "no"
        rows.append([one["set"], f"{one['errors']} / {one['rows']}", recall(whole), recall(fewer), verdict])
    header = ["set", "wrong / rows", "one shot, B* rows", "5 waves, error model, 70 % of B*", "at least as many?"]
    return table(header, rows)


def recall(values: list[float] | None) -> str:
    if values is None:
        return "–"
    spread = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{100 * np.mean(values):.1f} ± {100 * spread:.1f}" if spread else f"{100 * np.mean(values):.1f}"


def interval(bounds: list[float] | None) -> str:
    return "–" if bounds is None else f"**{100 * bounds[0]:.1f}** ± {50 * (bounds[2] - bounds[1]):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with the sets")
    parser.add_argument("--cache", type=Path, default=Path("act_embeddings"), help="where embeddings are kept")
    parser.add_argument("--only", default="", help="sets whose name begins so, to try it: prints, saves nothing")
    parser.add_argument("--fewer", action="store_true", help="one shot against waves with 70 %% of its rows, only")
    parser.add_argument("--docs", action="store_true", help="write the tables of docs/statistics.md")
    given = parser.parse_args()
    if not (given.data or given.docs):
        parser.error("give --data FOLDER to measure, --docs to write the tables, or both")
    if given.data:
        pools = [*recorded_pools(given.data), fashion_pool(given.data)]
        pools = [pool for pool in pools if pool.name.startswith(given.only)]
        # The large ones first, so that neither worker waits for the other at the end.
        pools.sort(key=lambda pool: -pool.rows)
        with ProcessPoolExecutor(2) as workers:
            measure = partial(trial_of_fewer if given.fewer else trial, cache=given.cache)
            sets = sorted(workers.map(measure, pools), key=lambda one: one["set"])
        result = {"mix": MIX, "sets": sets}
        if not given.fewer:
            result["means"] = figures(sets)
            print(json.dumps(result["means"], indent=1))
        if not given.only:
            save_result("waves_fewer" if given.fewer else "waves", result)
    if given.docs:
        results = [json.loads((RESULTS / f"{name}.json").read_text("utf-8")) for name in ("waves", "waves_fewer")]
        write_tables("statistics.md", {"waves": waves_table(results[0]), "fewer": fewer_table(results[1])})


if __name__ == "__main__":
    main()
