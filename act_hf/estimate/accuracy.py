"""How accurate the labels are, before and after review, with an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from act_hf.errors import ACTError
from act_hf.estimate.checks import check_confidence, same_length
from act_hf.estimate.intervals import clopper_pearson
from act_hf.sampling.waves import Waves


if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]


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

    With several waves each of them makes such an estimate of the rows that nobody had reviewed before it. The mean of
    these, weighted by the least π of each, is taken, and their variances add up; see [`Waves`]. A wave that
    could not have drawn every row is left out of the mean where another one could.

    Args:
        error_probs (array of N `float` in [0, 1]): ε̂. NaN is allowed where π is 0 or 1. With several waves, best as
            it was before the first of them: nothing may depend on a wave's own answers.
        selected (array of N, or `[N, K]` for K waves, of `bool`): δ, the rows that were drawn and reviewed.
        pi (array of N, or `[N, K]`, of `float` in [0, 1]): the π the draw used.
        errors (array of N `bool`): whether the machine label is wrong; read only where `selected`.
        confidence (`float`, *optional*, defaults to 0.95): in (0, 1).

    Returns:
        [`AccuracyEstimate`]: shares of the N rows. The bounds never contradict what the reviewed rows show.

    Raises:
        ACTError: for arrays that do not fit together, no reviewed row, a reviewed row without an answer or with π = 0,
            a row with π = 1 that was not reviewed, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    eps, waves, wrong = _review(error_probs, selected, pi, errors)
    critic, rate = _scaled_critic(eps, waves, wrong)
    known, never, part = _parts(critic, rate, waves, wrong)
    low, high = part.interval(confidence)
    errors_now = np.array([known + part.total + critic[never].sum(), known + high + never.sum(), known + low])
    found = wrong[waves.selected].sum()
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
        reviewed=int(waves.selected.sum()),
        found=int(found),
        covers=1 - float(never.mean()),
        effective=part.effective,
        confidence=confidence,
    )


def accuracy_by_group(
    error_probs: ArrayLike,
    selected: ArrayLike,
    pi: ArrayLike,
    errors: ArrayLike,
    groups: ArrayLike,
    *,
    confidence: float = 0.95,
) -> dict[str, AccuracyEstimate | None]:
    """
    [`estimate_accuracy`] of each group of rows, such as those with the same machine label.

    Each interval holds for its group with the given confidence, not for all groups at once.

    Args:
        error_probs, selected, pi, errors, confidence: as in [`estimate_accuracy`].
        groups (array of N): the group of each row.

    Returns:
        `dict` of `str` to [`AccuracyEstimate`], *optional*: `None` for a group of which nobody has reviewed a row.

    Raises:
        ACTError: as [`estimate_accuracy`].
    """
    _review(error_probs, selected, pi, errors)
    eps, chosen, chance, wrong = (np.asarray(values) for values in (error_probs, selected, pi, errors))
    names = np.asarray(groups).astype(str)
    found: dict[str, AccuracyEstimate | None] = {}
    for name in np.unique(names):
        rows = names == name
        parts = eps[rows], chosen[rows], chance[rows], wrong[rows]
        found[str(name)] = estimate_accuracy(*parts, confidence=confidence) if chosen[rows].any() else None
    return found


@dataclass(frozen=True)
class _Part:
    """The number of errors among the rows that may or may not have been drawn."""

    rows: int
    total: float
    effective: float
    least: float
    most: float

    def interval(self, confidence: float) -> tuple[float, float]:
        if self.rows == 0:
            return 0.0, 0.0
        low, high = clopper_pearson(self.total / self.rows, self.effective, confidence)
        return min(max(low * self.rows, self.least), self.total), max(min(high * self.rows, self.most), self.total)


def _parts(critic: Floats, rate: float, waves: Waves, wrong: Floats) -> tuple[float, Bools, _Part]:
    """The errors that are known for certain, the rows that could never be drawn, and the rest."""
    telling = waves.telling or [waves.count]
    first = telling[0]
    pi = waves.pi[:, first - 1]
    never = waves.open_in(first) & (pi == 0)
    rest = waves.open_in(first) & (pi > 0) & (pi < 1)
    known = float(wrong[~rest & ~never].sum())
    reviewed = rest & waves.selected
    drawn, rows = int(reviewed.sum()), int(rest.sum())
    if rows == 0:
        return known, never, _Part(0, 0.0, math.inf, 0.0, 0.0)
    # Nothing is impossible: a row of which the critic is sure still has a variance.
    floor = 0.5 / (drawn + 1)
    predicted = np.clip((critic + rate) / 2, floor, 1 - floor)
    shares = waves.shares[[wave - 1 for wave in telling]]
    shares = shares / shares.sum() if shares.any() else np.full(len(telling), 1 / len(telling))
    seen = [_of_wave(wave, predicted, waves, wrong) for wave in telling]
    total = float(shares @ [errors for errors, _ in seen]) - known
    variance = float(shares**2 @ [spread for _, spread in seen])
    least = float(wrong[reviewed].sum())
    most = rows - (drawn - least)
    mean = float(predicted[rest].mean())
    effective = mean * (1 - mean) * rows**2 / variance if variance else math.inf
    return known, never, _Part(rows, min(max(total, least), most), effective, least, most)


def _of_wave(wave: int, predicted: Floats, waves: Waves, wrong: Floats) -> tuple[float, float]:
    """What a wave says of the number of errors that could be drawn in it or were known before, and its variance."""
    left, pi = waves.open_in(wave), waves.pi[:, wave - 1]
    open_ = left & (pi > 0) & (pi < 1)
    known = float(wrong[~open_ & waves.selected & (waves.drawn <= wave)].sum())
    chosen, chance = open_ & (waves.drawn == wave), pi[open_]
    m = predicted[open_]
    expected = float((m * (1 - m) * (1 - chance) / chance).sum())
    if not chosen.any():
        return known + float(m.sum()), expected
    weight, gap = 1 / pi[chosen], wrong[chosen] - predicted[chosen]
    mean_gap = float((weight * gap).sum() / weight.sum())
    scale = open_.sum() / weight.sum()
    sampled = _hajek_variance(scale * weight * (gap - mean_gap), pi[chosen])
    return known + float(m.sum() + open_.sum() * mean_gap), max(sampled, expected)


def _hajek_variance(expanded: Floats, pi: Floats) -> float:
    """Variance of the sum of n values already divided by π, for a draw of fixed size; 0 where n < 2 tells nothing."""
    n = expanded.size
    if n < 2:
        return 0.0
    free = 1 - pi
    centre = (free * expanded).sum() / free.sum()
    return float(n / (n - 1) * (free * (expanded - centre) ** 2).sum())


def _scaled_critic(eps: Floats, waves: Waves, wrong: Floats) -> tuple[Floats, float]:
    """The critic's ε̂, scaled to the share of errors (which stands in where the critic is silent), and that share."""
    chosen, pi = waves.selected, waves.combined
    weight = 1 / pi[chosen]
    rate = float((weight * wrong[chosen]).sum() / weight.sum())
    heard = chosen & ~np.isnan(eps)
    mean = float((eps[heard] / pi[heard]).sum() / max(1e-12, (1 / pi[heard]).sum()))
    if mean <= 0:
        return np.full_like(eps, rate), rate
    return np.where(np.isnan(eps), rate, np.clip(eps * (rate / mean), 0, 1)), rate


def _review(
    error_probs: ArrayLike, selected: ArrayLike, pi: ArrayLike, errors: ArrayLike
) -> tuple[Floats, Waves, Floats]:
    """The arrays of [`estimate_accuracy`], checked; errors are NaN where nobody looked."""
    eps = np.asarray(error_probs, dtype=np.float64)
    waves = Waves.of(selected, pi)
    probs, chosen = waves.pi, waves.selected
    same_length(chosen, eps, "selected")
    wrong = np.where(chosen, same_length(errors, eps, "errors"), np.nan)
    left = np.column_stack([waves.open_in(wave + 1) for wave in range(waves.count)])
    drawn = waves.drawn_in
    open_ = (left & (probs > 0) & (probs < 1)).any(axis=1)
    _refuse(~((probs >= 0) & (probs <= 1)).all(axis=1), "has a pi outside [0, 1]")
    _refuse(~((eps >= 0) & (eps <= 1)) & (open_ | ~np.isnan(eps)), "has no error probability in [0, 1]")
    _refuse((drawn & (probs == 0)).any(axis=1), "was reviewed although its pi is 0")
    _refuse((left & ~drawn & (probs == 1)).any(axis=1), "was not reviewed although its pi is 1")
    _refuse(chosen & ~((wrong == 0) | (wrong == 1)), "was drawn but has no answer; finish the review first")
    if not chosen.any():
        raise ACTError(f"estimate: none of the {eps.size} rows is reviewed")
    return eps, waves, wrong


def _refuse(bad: ArrayLike, what: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        more = f" (and {rows.size - 1} more)" if rows.size > 1 else ""
        raise ACTError(f"estimate: row {rows[0]} {what}{more}")
