"""From reviewed rows to error probabilities of all rows: a line, a staircase, or an error model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf.calibration.features import FOLDS, log_odds


if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Fit = Callable[[Any, Bools, Floats], Callable[[Any], Floats]]

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""What C of the error model is chosen from: the smaller, the more it keeps to the critic."""


def logistic(inputs: Any, rows: Bools, truth: Bools, weights: Floats, seed: int) -> Floats:
    """A line through the log-odds: `[N, 1]` inputs to N error probabilities; see [`error_model`] for the rest."""
    return _with_held_out(_line, inputs, rows, truth, weights, seed)


def isotonic(inputs: Any, rows: Bools, truth: Bools, weights: Floats, seed: int) -> Floats:
    """A rising staircase over the log-odds: `[N, 1]` inputs to N error probabilities; see [`error_model`]."""
    return _with_held_out(_stairs, inputs, rows, truth, weights, seed)


def error_model(inputs: Any, rows: Bools, truth: Bools, weights: Floats, seed: int) -> Floats:
    """
    A ridge logistic regression, with the strength of its penalty chosen by cross-validation.

    The order of the rows is learnt without the weights: it looks at what decided the draw, so they would add nothing
    but noise. The scale is then fitted with them, as [`logistic`] does, to what the model says of unseen rows.

    Args:
        inputs (array or sparse matrix `[N, D]`): see [`error_features`].
        rows (array of N `bool`): the R rows to learn from.
        truth (array of R `bool`): whether their labels are wrong; at least two of each.
        weights (array of R `float`): of these rows, above 0.
        seed (`int`): of the folds.

    Returns:
        `np.ndarray` of N `float` in (0, 1). That of a row learnt from is predicted from the other ones.
    """
    equal = np.ones(truth.size)
    fit = partial(_line, penalty=_best_penalty(inputs[np.flatnonzero(rows)], truth, seed))
    scores = log_odds(_with_held_out(fit, inputs, rows, truth, equal, seed))[:, None]
    return _line(scores[rows], truth, weights)(scores)


def _with_held_out(fit: Fit, inputs: Any, rows: Bools, truth: Bools, weights: Floats, seed: int) -> Floats:
    """What a fit to all R rows says of the others, and of each of the R a fit to four fifths without it."""
    learnt = np.flatnonzero(rows)
    found = fit(inputs[learnt], truth, weights)(inputs)
    for kept, held in _folds(truth, seed).split(learnt, truth):
        found[learnt[held]] = fit(inputs[learnt[kept]], truth[kept], weights[kept])(inputs[learnt[held]])
    return found


def _line(inputs: Any, truth: Bools, weights: Floats, penalty: float = 1.0) -> Callable[[Any], Floats]:
    from sklearn.linear_model import LogisticRegression

    line = LogisticRegression(C=penalty, max_iter=1000)
    line.fit(inputs, truth, sample_weight=weights / weights.mean())
    least = _least(truth)
    return lambda rows: np.clip(line.predict_proba(rows)[:, 1], least, 1 - least)


def _stairs(inputs: Any, truth: Bools, weights: Floats) -> Callable[[Any], Floats]:
    from sklearn.isotonic import IsotonicRegression

    least = _least(truth)
    stairs = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
    stairs.fit(inputs[:, 0], truth, sample_weight=weights)
    return lambda rows: np.asarray(stairs.predict(rows[:, 0]), dtype=np.float64)


def _least(truth: Bools) -> float:
    """No fit says 0 or 1 after so few rows."""
    return 1 / (truth.size + 2)


def _best_penalty(inputs: Any, truth: Bools, seed: int) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    model, choices = LogisticRegression(max_iter=1000), {"C": PENALTIES}
    search = GridSearchCV(model, choices, scoring="neg_log_loss", cv=_folds(truth, seed), refit=False)
    search.fit(inputs, truth)
    return float(search.best_params_["C"])


def _folds(truth: Bools, seed: int) -> Any:
    from sklearn.model_selection import StratifiedKFold

    folds = min(FOLDS, int(truth.sum()), int((~truth).sum()))
    return StratifiedKFold(folds, shuffle=True, random_state=seed)
