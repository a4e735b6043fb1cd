"""How good the critics of a set are: against the pool's true labels, with intervals over rows."""

import numpy as np
from paper.problem import Problem

from act_hf.estimate import auroc, recall_at, reliability


BOOTSTRAPS, LARGE = 1000, 5000
"""A fifth of the resamples for larger pools, whose intervals are narrow."""


def judged(problem: Problem) -> dict[str, dict]:
    """AUROC, ABS, recall at the ideal budget B* (as many rows as errors), and the expected calibration error."""
    return {name: figures(error_probs, problem.wrong) for name, error_probs in problem.critics.items()}


def figures(error_probs: np.ndarray, wrong: np.ndarray) -> dict:
    """Each with a 95 % bootstrap interval over rows."""
    made = {
        "auroc": auroc,
        "abs": lambda eps, errors: 2 * auroc(eps, errors) - 1,
        "recall": recall_at,
        "ece": lambda eps, errors: reliability(eps, errors).expected_calibration_error,
    }
    random, size = np.random.default_rng(0), wrong.size
    draws = [random.integers(size, size=size) for _ in range(BOOTSTRAPS if size < LARGE else BOOTSTRAPS // 5)]
    draws = [rows for rows in draws if 0 < wrong[rows].sum() < size]
    found = {}
    for name, measure in made.items():
        values = [measure(error_probs[rows], wrong[rows]) for rows in draws]
        low, high = np.quantile(values, (0.025, 0.975))
        found[name] = [round(float(value), 4) for value in (measure(error_probs, wrong), low, high)]
    return found
