"""How well a critic orders the rows: errors found by budget, AQG, recall, AUROC and ABS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from act_hf.errors import ACTError
from act_hf.estimate.checks import errors_of, scores_and_errors
from act_hf.sampling.budget import resolve_budget


if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


def error_curve(error_probs: ArrayLike, errors: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    """
    How many machine errors are found when rows are reviewed from the highest error probability down.

    Rows with equal error probability are reviewed in random order: the curve is the expected number.

    Args:
        error_probs (array of N `float`): ε̂; any score that is higher for more suspect rows.
        errors (array of N `bool`): whether the machine label is wrong.

    Returns:
        `tuple` of two `np.ndarray` of N + 1: the budgets 0 to N, and the errors found at each, in [0, number of
        errors].

    Raises:
        ACTError: for arrays of different length, or a value that is missing.
    """
    eps, wrong = scores_and_errors(error_probs, errors)
    values, first = np.unique(-eps, return_inverse=True)
    sizes = np.bincount(first, minlength=values.size)
    found = np.bincount(first, weights=wrong, minlength=values.size)
    budgets = np.arange(eps.size + 1)
    return budgets, np.interp(budgets, np.append(0, np.cumsum(sizes)), np.append(0, np.cumsum(found)))


def perfect_curve(errors: ArrayLike) -> Floats:
    """The [`error_curve`] of a critic that puts every error first: min(B, number of errors), for B from 0 to N."""
    wrong = errors_of(errors)
    curve: Floats = np.minimum(np.arange(wrong.size + 1), wrong.sum())
    return curve


def random_curve(errors: ArrayLike) -> Floats:
    """The expected [`error_curve`] of reviewing rows at random: B times the share of errors, for B from 0 to N."""
    wrong = errors_of(errors)
    return np.linspace(0.0, wrong.sum(), wrong.size + 1)


def aqg(error_probs: ArrayLike, errors: ArrayLike, budget: int | float) -> float:
    """
    Annotation quality gain AQG(B): accuracy after the B most suspect rows are corrected, minus machine accuracy.

    The name is the ACT paper's, the formula the project's: errors found / N, for a reviewer who is always right.

    Args:
        error_probs (array of N `float`): ε̂.
        errors (array of N `bool`): whether the machine label is wrong.
        budget (`int` or `float`): B, a number of rows or a share of them.

    Returns:
        `float`: in [0, error rate].

    Raises:
        ACTError: for a bad budget or bad arrays.
    """
    _, found = error_curve(error_probs, errors)
    rows = found.size - 1
    return float(found[resolve_budget(budget, rows)] / max(1, rows))


def recall_at(error_probs: ArrayLike, errors: ArrayLike, budget: int | float | None = None) -> float:
    """
    Share of all the machine errors that are among the B most suspect rows.

    Args:
        error_probs (array of N `float`): ε̂.
        errors (array of N `bool`): whether the machine label is wrong.
        budget (`int` or `float`, *optional*): B. Defaults to the ideal budget B*, the number of errors.

    Returns:
        `float`: in [0, 1].

    Raises:
        ACTError: for a bad budget or bad arrays, or when there is no error to find.
    """
    budgets, found = error_curve(error_probs, errors)
    if not found[-1]:
        raise ACTError("recall needs at least one machine error; there is none in these rows")
    return float(found[resolve_budget(round(found[-1]) if budget is None else budget, int(budgets[-1]))] / found[-1])


def auroc(error_probs: ArrayLike, errors: ArrayLike) -> float:
    """
    Probability that a wrong row has a higher error probability than a right one, ties counting half.

    Args:
        error_probs (array of N `float`): ε̂.
        errors (array of N `bool`): whether the machine label is wrong.

    Returns:
        `float`: in [0, 1]; 0.5 is a random critic.

    Raises:
        ACTError: for bad arrays, or when all rows are right or all are wrong.
    """
    from scipy.stats import rankdata

    eps, wrong = scores_and_errors(error_probs, errors)
    bad, good = wrong.sum(), (1 - wrong).sum()
    if not (bad and good):
        raise ACTError(f"AUROC needs right and wrong machine labels; {bad:.0f} of {wrong.size} rows are wrong")
    return float(((rankdata(eps) * wrong).sum() - bad * (bad + 1) / 2) / (bad * good))


def abs_score(error_probs: ArrayLike, errors: ArrayLike) -> float:
    """
    Critic score ABS: the area under AQG over all budgets, scaled so that a random critic is 0 and a perfect one 1.

    The name is the ACT paper's; its formula is not public, and this definition is the project's own. It equals
    2·AUROC − 1 exactly, ties included.

    Args:
        error_probs (array of N `float`): ε̂.
        errors (array of N `bool`): whether the machine label is wrong.

    Returns:
        `float`: in [-1, 1]; negative is worse than chance.

    Raises:
        ACTError: for bad arrays, or when all rows are right or all are wrong.
    """
    return 2 * auroc(error_probs, errors) - 1
