"""Rules: error probabilities and a budget to the probability with which each row is reviewed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from act_hf.errors import ACTError
from act_hf.sampling.budget import probabilities, resolve_budget


if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Rule = Callable[..., Floats]

_EXACT = 1e-12
"""How near to the budget the exponential rule comes, relatively."""

_GLANCE = 100_000
"""Rows that say nearly where alpha is."""


def threshold(error_probs: ArrayLike, budget: int | float, *, ties: Literal["random", "strict"] = "random") -> Floats:
    """
    Thresholded sampling (the ACT paper's rule π = 1(ε̂ ≥ τ)): the rows with the highest error probabilities.

    The paper does not say how ties at τ are handled (critics that answer "0.8" tie a lot); both ways here are our own.

    Args:
        error_probs (array of N `float` in [0, 1]): ε̂.
        budget (`int` or `float`): B, see [`resolve_budget`].
        ties (`str`, *optional*, defaults to `"random"`): `"random"` gives every row of the group at τ the same share,
            so that Σπ = B; `"strict"` leaves the group out when it does not fit as a whole, so that π is 0 or 1 and
            Σπ ≤ B.

    Returns:
        `np.ndarray` of N `float`: π in [0, 1].

    Raises:
        ACTError: for a bad budget, error probability or `ties`.
    """
    if ties not in ("random", "strict"):
        raise ACTError(f"ties={ties!r} is unknown; the choices are 'random', 'strict'")
    eps, count = _checked(error_probs, budget)
    if count == 0:
        return np.zeros_like(eps)
    tau = np.partition(eps, eps.size - count)[eps.size - count]
    above, group = eps > tau, eps == tau
    share = (count - above.sum()) / group.sum()
    if ties == "strict" and share < 1:
        share = 0.0
    pi: Floats = np.where(group, share, above.astype(float))
    return pi


def normalised(error_probs: ArrayLike, budget: int | float, *, fill: bool = True) -> Floats:
    """
    Normalised sampling (prior work, a baseline of the ACT paper): π proportional to the error probability.

    B·ε̂/Σε̂ can exceed 1; clipping it there loses budget. With `fill` (our own choice) π = min(1, c·ε̂) with c such
    that Σπ = B. What is left once every row with ε̂ > 0 is certain is shared equally by the rows with ε̂ = 0.

    Args:
        error_probs (array of N `float` in [0, 1]): ε̂.
        budget (`int` or `float`): B, see [`resolve_budget`].
        fill (`bool`, *optional*, defaults to `True`): `False` clips, π = min(1, B·ε̂/Σε̂), and Σπ ≤ B.

    Returns:
        `np.ndarray` of N `float`: π in [0, 1].

    Raises:
        ACTError: for a bad budget or error probability.
    """
    eps, count = _checked(error_probs, budget)
    if fill or not eps.any():
        return proportional(eps, count)
    clipped: Floats = np.minimum(1.0, count * (eps / eps.sum()))
    return clipped


def root(error_probs: ArrayLike, budget: int | float) -> Floats:
    """
    Root sampling (beyond the paper): π proportional to the square root of the error probability.

    The variance of the ACT loss, and of an estimate made of the reviewed rows, is (1/N²) Σ gᵢ² (1/πᵢ − 1), where gᵢ is
    what a correction of row i changes. Under a budget it is smallest for πᵢ = min(1, c·√E[gᵢ²]) (Neyman allocation),
    and E[gᵢ²] is proportional to ε̂ᵢ when all corrections matter alike and the critic is calibrated.

    Args:
        error_probs (array of N `float` in [0, 1]): ε̂.
        budget (`int` or `float`): B, see [`resolve_budget`].

    Returns:
        `np.ndarray` of N `float`: π in [0, 1]; what is left once every row with ε̂ > 0 is certain goes to the others.

    Raises:
        ACTError: for a bad budget or error probability.
    """
    eps, count = _checked(error_probs, budget)
    return proportional(np.sqrt(eps), count)


def proportional(sizes: Floats, count: int) -> Floats:
    """
    π = min(1, c·size) with c such that Σπ = `count` (water-filling): what exceeds 1 goes to the other rows, and what
    is left once every row with a size is certain is shared equally by those without.

    Args:
        sizes (array of N `float`): 0 or more.
        count (`int`): B in [0, N].

    Returns:
        `np.ndarray` of N `float`: π in [0, 1].
    """
    positive = int(np.count_nonzero(sizes))
    if count >= positive:
        share = (count - positive) / max(1, sizes.size - positive)
        return np.where(sizes > 0, 1.0, share)
    ordered = np.sort(sizes)
    # tail[k] is what all but the k largest sum to. With these k certain, c = (count - k) / tail[k], and the first k at
    # which nobody else exceeds 1 is the one.
    tail = np.cumsum(ordered)[::-1][: count + 1]
    largest = ordered[::-1][: count + 1]
    k = int(np.argmax((count - np.arange(count + 1)) * largest <= tail))
    # Dividing first keeps c from overflowing where all the sizes are tiny; a row beside such ones is certain.
    with np.errstate(over="ignore"):
        pi: Floats = sizes / tail[k]
    pi *= count - k
    np.minimum(pi, 1.0, out=pi)
    if k:
        pi[sizes >= largest[k - 1]] = 1.0
    return pi


def exponential(error_probs: ArrayLike, budget: int | float, *, beta: float = 20.0) -> Floats:
    """
    Exponential sampling (the ACT paper's rule π = 1/(1 + exp(−β(ε̂ − α)))): a threshold with a soft edge.

    The paper leaves β and α open. β is our own default: the edge, from π = 0.9 to 0.1, is 4.4/β = 0.22 wide. That
    suits a critic whose error probabilities fill [0, 1]; for one that says 0.01 to 0.05 it is next to uniform, and
    [`solve_beta`] finds a β for any scale. α is solved for the budget ([`solve_alpha`]). Rows far below α get a π so
    small that a correction there weighs thousands: `mix` or `floor` in [`sample`] bounds it.

    Args:
        error_probs (array of N `float` in [0, 1]): ε̂.
        budget (`int` or `float`): B, see [`resolve_budget`].
        beta (`float`, *optional*, defaults to 20.0): steepness, above 0. Towards 0 the rule becomes uniform, towards
            infinity a threshold.

    Returns:
        `np.ndarray` of N `float`: π in [0, 1], Σπ ≤ B, and equal to B within rounding for β up to about 10⁹.

    Raises:
        ACTError: for a bad budget, error probability or `beta`.
    """
    eps, _ = _checked(error_probs, budget)
    return _logistic(eps, solve_alpha(eps, budget, beta=beta), beta)


def solve_alpha(error_probs: ArrayLike, budget: int | float, *, beta: float = 20.0) -> float:
    """
    The α of [`exponential`] at which Σπ is the budget, and never above it.

    Σπ falls strictly with α. At α = min ε̂ − L/β, L = logit(B/N), every π is at least B/N, at max ε̂ − L/β at most:
    the root lies between them and is found by bisection.

    Args:
        error_probs (array of N `float` in [0, 1]): ε̂.
        budget (`int` or `float`): B, see [`resolve_budget`].
        beta (`float`, *optional*, defaults to 20.0): steepness, above 0.

    Returns:
        `float`: α, in units of error probability; infinite for B = 0, minus infinite for B = N.

    Raises:
        ACTError: for a bad budget, error probability or `beta`.
    """
    eps, count = _checked(error_probs, budget)
    if not (math.isfinite(beta) and beta > 0):
        raise ACTError(f"beta={beta} is not a finite number above 0")
    if count in (0, eps.size):
        return -math.inf if count else math.inf
    if eps.size <= 2 * _GLANCE:
        return _solved(eps, count, beta, None)
    # A glance at some rows says nearly where it is, which spares passes over all of them.
    some = eps[:: eps.size // _GLANCE]
    return _solved(eps, count, beta, _solved(some, count / eps.size * some.size, beta, None))


def _solved(eps: Floats, count: float, beta: float, start: float | None) -> float:
    """Newton's method within a bracket that is halved whenever a step leaves it or gains too little."""
    shift = math.log(count / (eps.size - count)) / beta
    low, high = float(eps.min()) - shift, float(eps.max()) - shift
    # At a huge beta one float's distance is many logits, and rounding may have left high on the wrong side.
    while _logistic(eps, high, beta).sum() > count * (1 + _EXACT):
        high = math.nextafter(high, math.inf)
    alpha = start if start is not None and low < start < high else (low + high) / 2
    while low < alpha < high:
        pi = _logistic(eps, alpha, beta)
        excess, slope = pi.sum() - count, beta * (pi.sum() - pi @ pi)
        if abs(excess) <= _EXACT * count:
            return alpha
        before = high - low
        low, high = (alpha, high) if excess > 0 else (low, alpha)
        step = excess / slope if slope > 0 else math.inf
        newton = alpha + step
        alpha = newton if low < newton < high and abs(step) < before / 4 else (low + high) / 2
    return high


def _logistic(eps: Floats, alpha: float, beta: float) -> Floats:
    """In one array: there may be tens of millions of rows."""
    # exp may overflow to infinity on the way to a probability that is 0 in floating point
    with np.errstate(over="ignore"):
        pi: Floats = eps - alpha
        pi *= -beta
        np.exp(pi, out=pi)
        pi += 1.0
        np.reciprocal(pi, out=pi)
    return pi


def solve_beta(error_probs: ArrayLike, budget: int | float, *, keep: float = 0.95) -> float:
    """
    A β for [`exponential`] from how much finding may cost: the smallest one at which the errors that the critic
    expects among the reviewed rows, Σ π·ε̂, are `keep` of those of [`threshold`], the most there can be.

    The smaller β is, the more of the rows with a low ε̂ are drawn, and the better what the critic missed is estimated.
    Unlike a fixed β it does not depend on the scale of ε̂. (The paper does not say how it chose β; this is ours.)

    Args:
        error_probs (array of N `float` in [0, 1]): ε̂.
        budget (`int` or `float`): B, see [`resolve_budget`].
        keep (`float`, *optional*, defaults to 0.95): in (0, 1).

    Returns:
        `float`: β, to within a thousandth of itself. Where even a uniform draw keeps so much (all ε̂ about equal) it
            is the smallest one considered, which is as good as uniform.

    Raises:
        ACTError: for a bad budget, error probability or `keep`.
    """
    eps, count = _checked(error_probs, budget)
    if not 0 < keep < 1:
        raise ACTError(f"keep={keep} is not a share between 0 and 1, such as 0.95")
    wanted = keep * float(threshold(eps, count) @ eps)
    span = (float(np.ptp(eps)) if eps.size else 0.0) or 1.0
    low, high = 0.01 / span, 1e6 / span
    while high > low * 1.001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if exponential(eps, count, beta=middle) @ eps < wanted else (low, middle)
    return high


RULES: dict[str, Rule] = {
    "exponential": exponential,
    "threshold": threshold,
    "normalised": normalised,
    "root": root,
}


def mix_uniform(pi: ArrayLike, budget: int | float, mix: float) -> Floats:
    """
    A share `mix` of the budget spent on uniform sampling: (1 − m)·π + m·B/N.

    Every row can then be drawn, and no weight 1/π exceeds N/(m·B). It comes from active inference (Zrnic & Candès),
    not from the ACT paper.

    Args:
        pi (array of N `float` in [0, 1]): π of a rule.
        budget (`int` or `float`): B, see [`resolve_budget`].
        mix (`float`): m in [0, 1].

    Returns:
        `np.ndarray` of N `float`: π in [0, 1]; the sum stays where it was if that was B.

    Raises:
        ACTError: for a bad budget or `mix`.
    """
    if not 0 <= mix <= 1:
        raise ACTError(f"mix={mix} is not a share from 0 to 1")
    pi = np.asarray(pi, dtype=np.float64)
    if pi.size == 0 or mix == 0:
        return pi
    mixed: Floats = (1 - mix) * pi + mix * (resolve_budget(budget, pi.size) / pi.size)
    return mixed


def with_floor(rule: Rule, error_probs: ArrayLike, budget: int | float, floor: float) -> Floats:
    """
    π of a rule with a least value: f + (1 − f)·π', where π' is the rule's for a budget that leaves room for f.

    Unlike [`mix_uniform`] it leaves a row that is certain (π' = 1) certain, and its bound on the weights, 1/f, is said
    outright. Σπ = B where the rule spends its budget.

    Args:
        rule (callable): `(error_probs, budget) -> pi`.
        error_probs (array of N `float` in [0, 1]): ε̂.
        budget (`int` or `float`): B, see [`resolve_budget`].
        floor (`float`): the least π, in [0, B/N].

    Returns:
        `np.ndarray` of N `float`: π in [floor, 1].

    Raises:
        ACTError: for a floor that the budget does not pay for, and what the rule refuses.
    """
    eps, count = _checked(error_probs, budget)
    if not 0 <= floor <= count / max(1, eps.size):
        raise ACTError(
            f"floor={floor}: the least probability of {eps.size} rows is from 0 to budget / rows = "
            f"{count / max(1, eps.size):.4g}"
        )
    if floor in (0, 1) or count == eps.size:
        return rule(eps, count)
    left = math.floor((count - floor * eps.size) / (1 - floor) + 1e-9)
    # The rule is given whole rows; what that leaves over raises the floor a little.
    floor = (count - left) / (eps.size - left)
    pi: Floats = floor + (1 - floor) * rule(eps, left)
    return pi


def _checked(error_probs: ArrayLike, budget: int | float) -> tuple[Floats, int]:
    eps = probabilities(error_probs, "error_probs")
    return eps, resolve_budget(budget, eps.size)
