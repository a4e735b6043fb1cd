"""From reviewed rows to error probabilities of all rows: a line, a staircase, or an error model."""

from __future__ import annotations

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

_LEAST_SLOPE = 0.02


def logistic(inputs: Any, rows: Bools, truth: Bools, weights: Floats, seed: int) -> Floats:
    """A line through the log-odds: `[N, 1]` inputs to N error probabilities; see [`error_model`] for the rest."""
    return _with_held_out(_rising_line, inputs, rows, truth, weights, seed)


def isotonic(inputs: Any, rows: Bools, truth: Bools, weights: Floats, seed: int) -> Floats:
    """A rising staircase over the log-odds: `[N, 1]` inputs to N error probabilities; see [`error_model`]."""
    return _with_held_out(_stairs, inputs, rows, truth, weights, seed)


def error_model(inputs: Any, rows: Bools, truth: Bools, weights: Floats, seed: int, *, doubts: int) -> Floats:
    """
    A ridge logistic regression in which signals of doubt can only raise the error probability; the strength of its
    penalty is chosen by cross-validation.

    The order of the rows is learnt without the weights: it looks at what decided the draw, so they would add nothing
    but noise. The scale is then fitted with them, as [`logistic`] does, to what the model says of unseen rows.

    Args:
        inputs (sparse matrix `[N, D]`): see [`error_features`].
        rows (array of N `bool`): the R rows to learn from.
        truth (array of R `bool`): whether their labels are wrong; at least two of each.
        weights (array of R `float`): of these rows, above 0.
        seed (`int`): of the folds.
        doubts (`int`): how many of the first columns are signals of doubt.

    Returns:
        `np.ndarray` of N `float` in (0, 1). That of a row learnt from is predicted from the other ones.
    """
    penalty = _best_penalty(inputs[np.flatnonzero(rows)], truth, seed, doubts)

    def fit(inputs: Any, truth: Bools, _: Floats) -> Callable[[Any], Floats]:
        return _ridge(inputs, truth, penalty, doubts)

    scores = log_odds(_with_held_out(fit, inputs, rows, truth, weights, seed))[:, None]
    return _with_held_out(_rising_line, scores, rows, truth, weights, seed)


def _with_held_out(fit: Fit, inputs: Any, rows: Bools, truth: Bools, weights: Floats, seed: int) -> Floats:
    """What a fit to all R rows says of the others, and of each of the R a fit to four fifths without it."""
    learnt = np.flatnonzero(rows)
    found = fit(inputs[learnt], truth, weights)(inputs)
    for kept, held in _folds(truth, seed).split(learnt, truth):
        found[learnt[held]] = fit(inputs[learnt[kept]], truth[kept], weights[kept])(inputs[learnt[held]])
    return found


def _ridge(inputs: Any, truth: Bools, penalty: float, doubts: int) -> Callable[[Any], Floats]:
    """Logistic regression as in scikit-learn (C = `penalty`), which has no bounds on the signs of coefficients."""
    from scipy.optimize import minimize
    from scipy.special import expit

    signs, width = np.where(truth, 1.0, -1.0), inputs.shape[1]

    def loss(at: Floats) -> tuple[float, Floats]:
        slope, start = at[:-1], at[-1]
        margin = signs * (inputs @ slope + start)
        pull = -penalty * signs * expit(-margin)
        value = penalty * np.logaddexp(0, -margin).sum() + slope @ slope / 2
        return float(value), np.append(inputs.T @ pull + slope, pull.sum())

    bounds = [(_LEAST_SLOPE, None)] + [(0.0, None)] * (doubts - 1) + [(None, None)] * (width - doubts + 1)
    found = minimize(
        loss, np.zeros(width + 1), jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 1000}
    ).x
    return lambda rows: np.asarray(expit(rows @ found[:-1] + found[-1]), dtype=np.float64)


def _rising_line(inputs: Any, truth: Bools, weights: Floats) -> Callable[[Any], Floats]:
    """
    A line through log-odds that rises. Where a few rows of great weight make it fall, they are believed about how many
    labels are wrong, but not that the doubted ones are the right ones: the line is then nearly level.
    """
    from scipy.special import expit
    from sklearn.linear_model import LogisticRegression

    line = LogisticRegression(max_iter=1000).fit(inputs, truth, sample_weight=weights / weights.mean())
    slope, start = float(line.coef_[0, 0]), float(line.intercept_[0])
    if slope < _LEAST_SLOPE:
        share, middle = (np.average([values], axis=1, weights=weights) for values in (truth, inputs[:, 0]))
        slope, start = _LEAST_SLOPE, float((log_odds(share) - _LEAST_SLOPE * middle)[0])
    return lambda rows: _modest(expit(start + slope * rows[:, 0]), truth)


def _stairs(inputs: Any, truth: Bools, weights: Floats) -> Callable[[Any], Floats]:
    from sklearn.isotonic import IsotonicRegression

    stairs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    stairs.fit(inputs[:, 0], truth, sample_weight=weights)
    return lambda rows: _modest(stairs.predict(rows[:, 0]), truth)


def _modest(probs: Floats, truth: Bools) -> Floats:
    """No fit says 0 or 1 after so few rows. Nothing is cut off, so that the order stays."""
    least = 1 / (truth.size + 2)
    modest: Floats = least + (1 - 2 * least) * probs
    return modest


def _best_penalty(inputs: Any, truth: Bools, seed: int, doubts: int) -> float:
    """The penalty with the least log loss on rows left out."""
    losses = np.zeros(len(PENALTIES))
    for kept, held in _folds(truth, seed).split(inputs, truth):
        for place, penalty in enumerate(PENALTIES):
            said = _modest(_ridge(inputs[kept], truth[kept], penalty, doubts)(inputs[held]), truth[kept])
            losses[place] -= np.log(np.where(truth[held], said, 1 - said)).sum()
    return PENALTIES[int(np.argmin(losses))]


def _folds(truth: Bools, seed: int) -> Any:
    from sklearn.model_selection import StratifiedKFold

    folds = min(FOLDS, int(truth.sum()), int((~truth).sum()))
    return StratifiedKFold(folds, shuffle=True, random_state=seed)
