"""
How long do π and the draw of ten million rows take, and how much memory?

    python benchmarks/bench_sampling.py               # two minutes on an idle machine
    python benchmarks/bench_sampling.py --rows 100000 # to try it: prints, and saves nothing

Each rule gives π for a tenth of the rows as budget, and the rows are drawn. Beside it, in turns: NumPy's sort of the
same array. Times are medians; memory is the peak of what is allocated meanwhile, in arrays of as many float64 as there
are rows, beyond the error probabilities themselves.
"""

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable
from statistics import median

import numpy as np
from machine import save_result

from act_hf.sampling import RULES, draw


ROWS = 10_000_000
ROUNDS = 5
AT_MOST = {"times_of_a_sort": 4.0, "arrays": 4.0}
"""What is required."""


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def arrays(work: Callable[[], object], rows: int) -> float:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / (8 * rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    rows = parser.parse_args().rows
    eps = np.random.default_rng(0).beta(0.5, 3, rows)
    budget = rows // 10

    def job(name: str) -> Callable[[], object]:
        return lambda: draw(RULES[name](eps, budget), seed=0)

    taken: dict[str, list[float]] = {name: [] for name in ("sort", *RULES)}
    for _ in range(ROUNDS):
        taken["sort"].append(seconds(lambda: np.sort(eps)))
        for name in RULES:
            taken[name].append(seconds(job(name)))
    sort = median(taken["sort"])
    rules = {
        name: {
            "seconds": round(median(taken[name]), 3),
            "times_of_a_sort": round(median(taken[name]) / sort, 2),
            "arrays": round(arrays(job(name), rows), 2),
            "drawn": int(draw(RULES[name](eps, budget), seed=0).sum()),
        }
        for name in RULES
    }
    met = all(rule[what] <= most for rule in rules.values() for what, most in AT_MOST.items())
    result = {"rows": rows, "budget": budget, "sort_seconds": round(sort, 3), "required": AT_MOST, "met": met}
    result["rules"] = rules
    if rows < ROWS:
        print(json.dumps(result, indent=1))
    else:
        save_result("sampling", result)


if __name__ == "__main__":
    main()
