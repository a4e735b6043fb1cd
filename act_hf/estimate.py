"""What the numbers mean: how good a critic is, and how accurate the labels are before and after review."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from act_hf.errors import ACTError
from act_hf.sampling import resolve_budget


if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]


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
    eps, wrong = _scores_and_errors(error_probs, errors)
    values, first = np.unique(-eps, return_inverse=True)
    sizes = np.bincount(first, minlength=values.size)
    found = np.bincount(first, weights=wrong, minlength=values.size)
    budgets = np.arange(eps.size + 1)
    return budgets, np.interp(budgets, np.append(0, np.cumsum(sizes)), np.append(0, np.cumsum(found)))


def perfect_curve(errors: ArrayLike) -> Floats:
    """The [`error_curve`] of a critic that puts every error first: min(B, number of errors), for B from 0 to N."""
    wrong = _errors(errors)
    curve: Floats = np.minimum(np.arange(wrong.size + 1), wrong.sum())
    return curve


def random_curve(errors: ArrayLike) -> Floats:
    """The expected [`error_curve`] of reviewing rows at random: B times the share of errors, for B from 0 to N."""
    wrong = _errors(errors)
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

    eps, wrong = _scores_and_errors(error_probs, errors)
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


@dataclass(frozen=True)
class Reliability:
    """
    Whether error probabilities mean what they say: see [`reliability`].

    Args:
        predicted (array of `float`): mean error probability of each bin, ascending.
        observed (array of `float`): share of the rows of each bin that are wrong.
        count (array of `int`): rows in each bin.
        expected_calibration_error (`float`): mean distance of the two, bins weighted by their rows; in [0, 1].
        brier (`float`): mean squared distance of error probability and error; in [0, 1].
    """

    predicted: Floats
    observed: Floats
    count: NDArray[np.int64]
    expected_calibration_error: float
    brier: float


def reliability(
    error_probs: ArrayLike, errors: ArrayLike, *, weights: ArrayLike | None = None, bins: int = 10
) -> Reliability:
    """
    Compares error probabilities with observed errors, in bins of about equal size.

    Rows with equal error probability share a bin, so there may be fewer bins than asked for.

    Args:
        error_probs (array of N `float` in [0, 1]): ε̂.
        errors (array of N `bool`): whether the machine label is wrong.
        weights (array of N `float`, *optional*): positive weight of each row; 1/π for rows drawn with probability π.
        bins (`int`, *optional*, defaults to 10): at most this many.

    Returns:
        [`Reliability`]: the bins that have rows, the expected calibration error and the Brier score.

    Raises:
        ACTError: for bad arrays, no rows, or fewer than one bin.
    """
    eps, wrong = _scores_and_errors(error_probs, errors)
    w = np.ones_like(eps) if weights is None else _same_length(weights, eps, "weights")
    if bins < 1 or eps.size == 0 or not (w > 0).all():
        raise ACTError(f"reliability needs rows, positive weights and bins >= 1; got {eps.size} rows, bins={bins}")
    bin_of = _equal_bins(eps, bins)
    total = np.bincount(bin_of, weights=w)
    predicted = np.bincount(bin_of, weights=w * eps) / total
    observed = np.bincount(bin_of, weights=w * wrong) / total
    calibration = float((total * np.abs(predicted - observed)).sum() / total.sum())
    brier = float((w * (eps - wrong) ** 2).sum() / w.sum())
    return Reliability(predicted, observed, np.bincount(bin_of), calibration, brier)


def _equal_bins(values: Floats, bins: int) -> NDArray[np.int64]:
    """The bin of each value by its mid-rank, numbered without gaps."""
    from scipy.stats import rankdata

    wanted = np.floor((rankdata(values) - 0.5) / values.size * bins)
    numbered: NDArray[np.int64] = np.unique(wanted, return_inverse=True)[1]
    return numbered


def wilson(k: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """
    The Wilson score interval of a share, for n rows drawn alike of which all are known.

    Args:
        k (`int`): rows that count, in [0, n].
        n (`int`): rows, at least 1.
        confidence (`float`, *optional*, defaults to 0.95): in (0, 1).

    Returns:
        `tuple` of two `float`: lower and upper bound in [0, 1].

    Raises:
        ACTError: for k outside [0, n], no rows, or a confidence outside (0, 1).
    """
    from scipy.stats import norm

    _check_confidence(confidence)
    if n < 1 or not 0 <= k <= n:
        raise ACTError(f"{k} of {n} rows is not a share")
    z2 = float(norm.ppf((1 + confidence) / 2)) ** 2
    center = (k + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (k * (n - k) / n + z2 / 4)) / (n + z2)
    # At the ends the bound is 0 or 1 exactly; rounding would miss it.
    return (0.0 if k == 0 else center - half), (1.0 if k == n else center + half)


@dataclass(frozen=True)
class AccuracyEstimate:
    """
    Accuracy of all N labels, from the reviewed rows: see [`estimate_accuracy`]. All shares are in [0, 1].

    Args:
        machine (`float`): accuracy of the machine labels.
        machine_low (`float`): lower bound.
        machine_high (`float`): upper bound.
        after (`float`): accuracy once the reviewed rows carry their human label.
        after_low (`float`): lower bound.
        after_high (`float`): upper bound.
        rows (`int`): N.
        reviewed (`int`): reviewed rows.
        found (`int`): reviewed rows whose machine label was wrong.
        covers (`float`): share of the rows that could have been drawn (π > 0). Below 1 the bounds take every other row
            as right or as wrong, and the point estimates rest on the critic's word for them.
        effective (`float`): as many rows drawn uniformly would tell as much about the rows that were not certain to be
            drawn; infinite when there is none. Below about 10, review more rows or use a larger `mix`.
        confidence (`float`): of the bounds.
    """

    machine: float
    machine_low: float
    machine_high: float
    after: float
    after_low: float
    after_high: float
    rows: int
    reviewed: int
    found: int
    covers: float
    effective: float
    confidence: float


def estimate_accuracy(
    error_probs: ArrayLike, selected: ArrayLike, pi: ArrayLike, errors: ArrayLike, *, confidence: float = 0.95
) -> AccuracyEstimate:
    """
    Accuracy of all the machine labels, and of all the labels after review, with an interval.

    The number of errors is estimated by a difference estimator: what a working prediction m says of every row, plus
    the reviewed rows' differences from it, weighted by 1/π (the form of the ACT loss and of AIPW),

        Σ mᵢ + (N / Σδᵢ/πᵢ) · Σ δᵢ/πᵢ (eᵢ − mᵢ),

    over the rows that were not certain (0 < π < 1); rows with π = 1 are counted. m is the mean of the share of errors
    and of the critic scaled to that share: half the trust, because a critic that is sure and wrong would otherwise
    make the interval too narrow. The weights are normalised (Hájek), so that one row with a tiny π cannot
    claim more errors than there are rows.

    The variance is the larger of two: the design-based one of the reviewed rows (Hájek's approximation for a fixed
    number of draws, terms (1 − π)), and the one to expect from m over *all* rows, Σ m(1 − m)(1 − π)/π. The first alone
    is blind to rows with a small π that happened not to be drawn, and covers as little as half the time under a soft
    rule without `mix`. The interval is the exact (Clopper-Pearson) one for the effective number of rows that has this
    variance (Korn & Graubard 1998): it stays honest when no error, or hardly a row, was seen. All of this is the
    project's choice; the ACT paper gives no interval.

    Args:
        error_probs (array of N `float` in [0, 1]): ε̂. NaN is allowed where π is 0 or 1.
        selected (array of N `bool`): δ, the rows that were drawn and reviewed.
        pi (array of N `float` in [0, 1]): the π the draw used.
        errors (array of N `bool`): whether the machine label is wrong; read only where `selected`.
        confidence (`float`, *optional*, defaults to 0.95): in (0, 1).

    Returns:
        [`AccuracyEstimate`]: shares of the N rows. The bounds never contradict what the reviewed rows show.

    Raises:
        ACTError: for arrays that do not fit together, no reviewed row, a reviewed row without an answer or with π = 0,
            a row with π = 1 that was not reviewed, or a confidence outside (0, 1).
    """
    _check_confidence(confidence)
    eps, chosen, pi, wrong = _review(error_probs, selected, pi, errors)
    critic, rate = _scaled_critic(eps, chosen, pi, wrong)
    open_, never = (pi > 0) & (pi < 1), pi == 0
    known = wrong[pi == 1].sum()
    part = _Part.of((critic[open_] + rate) / 2, chosen[open_], pi[open_], wrong[open_])
    low, high = part.interval(confidence)
    errors_now = np.array([known + part.total + critic[never].sum(), known + high + never.sum(), known + low])
    found = wrong[chosen].sum()
    machine, machine_low, machine_high = (float(x) for x in np.clip(1 - errors_now / eps.size, 0, 1))
    after, after_low, after_high = (float(x) for x in np.clip(1 - (errors_now - found) / eps.size, 0, 1))
    return AccuracyEstimate(
        machine=machine,
        machine_low=machine_low,
        machine_high=machine_high,
        after=after,
        after_low=after_low,
        after_high=after_high,
        rows=eps.size,
        reviewed=int(chosen.sum()),
        found=int(found),
        covers=1 - float(never.mean()),
        effective=part.effective,
        confidence=confidence,
    )


@dataclass(frozen=True)
class _Part:
    """The number of errors among the rows that may or may not have been drawn."""

    rows: int
    total: float
    effective: float
    least: float
    most: float

    @classmethod
    def of(cls, predicted: Floats, chosen: Bools, pi: Floats, wrong: Floats) -> _Part:
        rows, drawn = pi.size, int(chosen.sum())
        least = float(wrong[chosen].sum())
        most = rows - (drawn - least)
        if rows == 0:
            return cls(0, 0.0, math.inf, 0.0, 0.0)
        # Nothing is impossible: a row of which the critic is sure still has a variance.
        floor = 0.5 / (drawn + 1)
        m = np.clip(predicted, floor, 1 - floor)
        weight, gap = 1 / pi[chosen], wrong[chosen] - m[chosen]
        mean_gap = float((weight * gap).sum() / weight.sum()) if drawn else 0.0
        total = min(max(float(m.sum()) + rows * mean_gap, least), most)
        scale = rows / weight.sum() if drawn else 0.0
        sampled = _hajek_variance(scale * weight * (gap - mean_gap), pi[chosen])
        expected = float((m * (1 - m) * (1 - pi) / pi).sum())
        spread = float(m.mean() * (1 - m.mean())) * rows**2
        return cls(rows, total, spread / max(sampled, expected), least, most)

    def interval(self, confidence: float) -> tuple[float, float]:
        if self.rows == 0:
            return 0.0, 0.0
        low, high = _clopper_pearson(self.total / self.rows, self.effective, confidence)
        return min(max(low * self.rows, self.least), self.total), max(min(high * self.rows, self.most), self.total)


def _hajek_variance(expanded: Floats, pi: Floats) -> float:
    """Variance of the sum of n values already divided by π, for a draw of fixed size; 0 where n < 2 tells nothing."""
    n = expanded.size
    if n < 2:
        return 0.0
    free = 1 - pi
    centre = (free * expanded).sum() / free.sum()
    return float(n / (n - 1) * (free * (expanded - centre) ** 2).sum())


def _clopper_pearson(share: float, n: float, confidence: float) -> tuple[float, float]:
    """The exact binomial interval, for n that need not be whole."""
    from scipy.stats import beta

    tail, k = (1 - confidence) / 2, share * n
    low = float(beta.ppf(tail, k, n - k + 1)) if k > 0 else 0.0
    high = float(beta.ppf(1 - tail, k + 1, n - k)) if n - k > 0 else 1.0
    # With next to no effective rows the quantile underflows to NaN: nothing is known.
    return (0.0 if math.isnan(low) else low), (1.0 if math.isnan(high) else high)


def _scaled_critic(eps: Floats, chosen: Bools, pi: Floats, wrong: Floats) -> tuple[Floats, float]:
    """The critic's ε̂, scaled to the share of errors (which stands in where the critic is silent), and that share."""
    weight = 1 / pi[chosen]
    rate = float((weight * wrong[chosen]).sum() / weight.sum())
    heard = chosen & ~np.isnan(eps)
    mean = float((eps[heard] / pi[heard]).sum() / max(1e-12, (1 / pi[heard]).sum()))
    if mean <= 0:
        return np.full_like(eps, rate), rate
    return np.where(np.isnan(eps), rate, np.clip(eps * (rate / mean), 0, 1)), rate


def _review(
    error_probs: ArrayLike, selected: ArrayLike, pi: ArrayLike, errors: ArrayLike
) -> tuple[Floats, Bools, Floats, Floats]:
    """The four arrays of [`estimate_accuracy`], checked; errors are NaN where nobody looked."""
    eps = np.asarray(error_probs, dtype=np.float64)
    chosen = _same_length(selected, eps, "selected").astype(bool)
    probs = _same_length(pi, eps, "pi")
    wrong = np.where(chosen, _same_length(errors, eps, "errors"), np.nan)
    open_ = (probs > 0) & (probs < 1)
    _refuse(~((probs >= 0) & (probs <= 1)), "has a pi outside [0, 1]")
    _refuse(~((eps >= 0) & (eps <= 1)) & (open_ | ~np.isnan(eps)), "has no error probability in [0, 1]")
    _refuse(chosen & (probs == 0), "was reviewed although its pi is 0")
    _refuse(~chosen & (probs == 1), "was not reviewed although its pi is 1")
    _refuse(chosen & ~((wrong == 0) | (wrong == 1)), "was drawn but has no answer; finish the review first")
    if not chosen.any():
        raise ACTError(f"estimate: none of the {eps.size} rows is reviewed")
    return eps, chosen, probs, wrong


def _refuse(bad: Bools, what: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        more = f" (and {rows.size - 1} more)" if rows.size > 1 else ""
        raise ACTError(f"estimate: row {rows[0]} {what}{more}")


def _scores_and_errors(error_probs: ArrayLike, errors: ArrayLike) -> tuple[Floats, Floats]:
    wrong = _errors(errors)
    eps = _same_length(error_probs, wrong, "error_probs")
    if np.isnan(eps).any():
        raise ACTError(f"row {np.flatnonzero(np.isnan(eps))[0]} has no error probability")
    return eps, wrong


def _errors(errors: ArrayLike) -> Floats:
    wrong = np.asarray(errors, dtype=np.float64)
    bad = np.flatnonzero(~((wrong == 0) | (wrong == 1)))
    if wrong.ndim != 1 or bad.size:
        what = f"row {bad[0]} is {wrong[bad[0]]}" if wrong.ndim == 1 else f"the shape is {wrong.shape}"
        raise ACTError(f"errors are one True or False a row; {what}")
    return wrong


def _same_length(values: ArrayLike, other: Floats, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != other.shape or array.ndim != 1:
        raise ACTError(f"{name} has shape {array.shape}, the rows {other.shape}; one value a row is needed")
    return array


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ACTError(f"confidence={confidence} is not between 0 and 1, such as 0.95")
