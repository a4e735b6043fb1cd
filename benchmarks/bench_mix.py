"""
What each sampling rule finds on the quickstart's rows, with and without a uniform audit: docs/log.md.

    python benchmarks/bench_mix.py

20 draws each of 100 of 400 rows: errors found, and the 95 % interval of the machine labels' accuracy.
"""

import os


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import tempfile
from pathlib import Path

import numpy as np
from machine import save_result

from act_hf.estimate import estimate_accuracy
from act_hf.quickstart import GOLD, label_and_criticize, load_sample
from act_hf.sampling import RULES, sample


BUDGET = 100
DRAWS = 20


def drawn(dataset, rule: str, mix: float) -> dict:
    wrong = np.array(dataset[GOLD][:]) != np.array(dataset["act_label"][:])
    error_probs = np.array(dataset["act_error_prob"][:])
    found, intervals = [], []
    for seed in range(DRAWS):
        draw = sample(dataset, budget=BUDGET, rule=rule, mix=mix, seed=seed)
        selected, pi = np.array(draw["act_selected"][:]), np.array(draw["act_pi"][:])
        found.append(int((wrong & selected).sum()))
        if pi.min() > 0:
            estimate = estimate_accuracy(error_probs, selected, pi, wrong)
            intervals.append((estimate.machine_low, estimate.machine_high))
    interval = np.mean(intervals, axis=0).round(4).tolist() if intervals else None
    return {"found": float(np.mean(found)), "sd": float(np.std(found, ddof=1)), "mean_interval": interval}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = label_and_criticize(load_sample("pool"), Path(folder) / "answers.sqlite", threads=os.cpu_count())
    cells = {f"{rule}, mix {mix}": drawn(dataset, rule, mix) for rule in RULES for mix in (0.0, 0.1, 0.2)}
    for name, cell in cells.items():
        print(name, cell)
    save_result("mix", {"budget": BUDGET, "draws": DRAWS, "cells": cells})


if __name__ == "__main__":
    main()
