"""
Does the 95 % interval of the accuracy hold the truth, and how wide is it beside a plain random audit's?

    python benchmarks/bench_coverage.py --data FOLDER     # some minutes on two cores; no model, no network
    python benchmarks/bench_coverage.py --docs            # the table of docs/statistics.md from the JSON

On each set of recorded annotations (pools.py), 1,000 seeded draws at budgets of 2, 5, 10 and 20 % of the rows, by each
rule with the default mix, and by a plain random audit of the same size with its own exact (Clopper-Pearson) interval.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from documents import table, write_tables
from machine import RESULTS, save_result
from pools import Pool, recorded_pools

from act_hf.estimate import clopper_pearson, estimate_accuracy
from act_hf.sampling import RULES, draw, mix_uniform


BUDGETS = (0.02, 0.05, 0.10, 0.20)
DRAWS = 1000
MIX = 0.1
"""The default of act_hf.sample."""


def trial(pool: Pool, rule: str, budget: float, draws: int) -> dict:
    """How often the interval held, its mean width, and the mean error of the estimate, beside a plain audit."""
    count = int(budget * pool.rows)
    pi = mix_uniform(RULES[rule](pool.error_probs, count), count, MIX)
    truth = 1 - pool.wrong.mean()
    found = np.array([_estimate(pool, pi, seed) for seed in range(draws)])
    held = (found[:, 1] <= truth) & (truth <= found[:, 2])
    return {
        "rule": rule,
        "budget": budget,
        "reviewed": count,
        "coverage": float(held.mean()),
        "missed_low": float((found[:, 2] < truth).mean()),
        "missed_high": float((found[:, 1] > truth).mean()),
        "width": float((found[:, 2] - found[:, 1]).mean()),
        "bias": float(found[:, 0].mean() - truth),
        "rmse": float(np.sqrt(((found[:, 0] - truth) ** 2).mean())),
    }


def _estimate(pool: Pool, pi: np.ndarray, seed: int) -> tuple[float, float, float]:
    selected = draw(pi, seed=seed)
    made = estimate_accuracy(pool.error_probs, selected, pi, pool.wrong)
    return made.machine, made.machine_low, made.machine_high


def plain_audit(pool: Pool, budget: float, draws: int) -> dict:
    """A simple random sample and its exact interval, as one would make without this package."""
    count, truth = int(budget * pool.rows), 1 - pool.wrong.mean()
    right = np.array([_right(pool, count, seed) for seed in range(draws)])
    bounds = {k: clopper_pearson(k / count, count, 0.95) for k in np.unique(right).tolist()}
    low, high = np.array([bounds[k] for k in right.tolist()]).T
    return {
        "rule": "random audit",
        "budget": budget,
        "reviewed": count,
        "coverage": float(((low <= truth) & (truth <= high)).mean()),
        "width": float((high - low).mean()),
        "rmse": float(np.sqrt(((right / count - truth) ** 2).mean())),
    }


def _right(pool: Pool, count: int, seed: int) -> int:
    rows = np.random.default_rng(seed).choice(pool.rows, count, replace=False)
    return int((~pool.wrong[rows]).sum())


def cells_of(pool: Pool, draws: int) -> dict:
    cells = []
    for budget in BUDGETS:
        plain = plain_audit(pool, budget, draws)
        for rule in RULES:
            cell = trial(pool, rule, budget, draws)
            cells.append(cell | {"width_to_audit": cell["width"] / plain["width"]})
        cells.append(plain)
    print(
        pool.name,
        [(c["rule"], c["budget"], c["coverage"], round(c.get("width_to_audit", 1), 2)) for c in cells],
        flush=True,
    )
    return pool.facts() | {"cells": cells}


# docs/statistics.md


def tables(result: dict) -> dict[str, str]:
    return {"coverage": coverage_table(result), "width": width_table(result)}


def coverage_table(result: dict) -> str:
    """By rule and budget: the mean over the sets of how often the interval held, and the least and most of a set."""
    rows = []
    for rule in [*RULES, "random audit"]:
        held = [[cell["coverage"] for cell in of_rule(result, rule, budget)] for budget in BUDGETS]
        cells = [f"{np.mean(one):.1%} ({min(one):.1%}–{max(one):.1%})" for one in held]
        rows.append([rule, *cells])
    return table(["rule", *(f"{budget:.0%} reviewed" for budget in BUDGETS)], rows)


def width_table(result: dict) -> str:
    """By set and rule: the mean width of the interval at 10 %, over that of a plain random audit of the same size."""
    rows = []
    for one in result["sets"]:
        at = {cell["rule"]: cell for cell in one["cells"] if cell["budget"] == 0.10}
        points = [f"{at[rule]['width_to_audit']:.2f}" for rule in RULES]
        audit = f"± {50 * at['random audit']['width']:.1f}"
        rows.append(
            [one["set"], str(one["rows"]), f"{one['errors'] / one['rows']:.1%}", one["critic"], audit, *points]
        )
    mean = [
        f"{np.exp(np.mean([np.log(c['width_to_audit']) for c in of_rule(result, rule, 0.10)])):.2f}" for rule in RULES
    ]
    rows.append(["geometric mean", "", "", "", "", *mean])
    return table(["set", "rows", "wrong", "critic", "random audit, points", *RULES], rows)


def of_rule(result: dict, rule: str, budget: float) -> list[dict]:
    cells = [cell for one in result["sets"] for cell in one["cells"]]
    return [cell for cell in cells if (cell["rule"], cell["budget"]) == (rule, budget)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with the sets")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of each cell; fewer for a quick look")
    parser.add_argument("--docs", action="store_true", help="write the tables of docs/statistics.md")
    given = parser.parse_args()
    if not (given.data or given.docs):
        parser.error("give --data FOLDER to measure, --docs to write the tables, or both")
    if given.data:
        with ProcessPoolExecutor(2) as workers:
            sets = list(workers.map(partial(cells_of, draws=given.draws), recorded_pools(given.data)))
        save_result("coverage", {"draws": given.draws, "mix": MIX, "confidence": 0.95, "sets": sets})
    if given.docs:
        write_tables("statistics.md", tables(json.loads((RESULTS / "coverage.json").read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
