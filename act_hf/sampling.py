"""Which rows a person reviews: rules (error probabilities, budget) -> inclusion probabilities, and the draw."""

from __future__ import annotations

import inspect
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from act_hf.columns import ERROR_PROB, FAILURE, HUMAN, PI, SELECTED, add_columns, require
from act_hf.errors import ACTError
from act_hf.records import add_record


if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Rule = Callable[..., Floats]

FAILURES = ("raise", "review", "skip")
# Sums of a million float32 probabilities are this exact, relatively; a sum this near to an integer is meant as one.
SUM_TOLERANCE = 1e-6
# Nearer to 1 than this and a row is certain: the cumulative sum of the draw could not tell the difference.
CERTAIN_TOLERANCE = 1e-8
# How exactly alpha is solved. Error probabilities are float32 and differ by more than this, except next to 0.
ALPHA_TOLERANCE = 1e-18


def resolve_budget(budget: int | float, rows: int) -> int:
    """
    The budget as a number of rows.

    Args:
        budget (`int` or `float`): an `int` is a number of rows in [0, N], a `float` a share of them in [0.0, 1.0]. So
            `1` is one row and `1.0` is all of them.
        rows (`int`): N.

    Returns:
        `int`: B in [0, N]; a share is rounded down.

    Raises:
        ACTError: for any other type, a negative value, NaN, a share above 1, or more rows than there are.
    """
    if isinstance(budget, bool) or not isinstance(budget, int | float | np.integer | np.floating):
        raise ACTError(f"budget {budget!r} is neither a number of rows (an integer) nor a share of them (0.0 to 1.0)")
    if math.isnan(budget) or budget < 0:
        raise ACTError(f"budget {budget} is not possible; give 0 to {rows} rows, or a share from 0.0 to 1.0")
    if isinstance(budget, int | np.integer):
        if budget > rows:
            raise ACTError(f"budget {budget} is more than the {rows} rows there are")
        return int(budget)
    if budget > 1:
        raise ACTError(_not_a_share(float(budget)))
    # 0.29 * 100 is 28.999999999999996
    return min(rows, math.floor(budget * rows + 1e-9))


def _not_a_share(budget: float) -> str:
    message = f"budget {budget} is a share above 1"
    if not math.isfinite(budget):
        return f"{message}; give a number of rows as an integer, or a share from 0.0 to 1.0"
    count = round(budget)
    return f"{message}; for {count} rows give the integer {count} (--budget {count}), for half of them 0.5"


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
    if not eps.any():
        return np.full_like(eps, count / max(1, eps.size))
    if not fill:
        clipped: Floats = np.minimum(1.0, count * (eps / eps.sum()))
        return clipped
    positive = eps > 0
    if count >= positive.sum():
        zeros = max(1, eps.size - int(positive.sum()))
        return np.where(positive, 1.0, (count - int(positive.sum())) / zeros)
    return _water_fill(eps, count)


def _water_fill(eps: Floats, count: int) -> Floats:
    """min(1, c·eps) that sums to `count`, where more than `count` values are positive."""
    ordered = np.sort(eps)[::-1]
    tail = np.cumsum(ordered[::-1])[::-1]
    # With the first k rows certain, c = (count - k) / tail[k]. The first k at which nobody else exceeds 1 is the one.
    k = int(np.argmax((count - np.arange(count + 1)) * ordered[: count + 1] <= tail[: count + 1]))
    # Dividing first keeps c from overflowing where all the probabilities are tiny.
    pi: Floats = np.minimum(1.0, (count - k) * (eps / tail[k]))
    if k:
        pi[eps >= ordered[k - 1]] = 1.0
    return pi


def exponential(error_probs: ArrayLike, budget: int | float, *, beta: float = 20.0) -> Floats:
    """
    Exponential sampling (the ACT paper's rule π = 1/(1 + exp(−β(ε̂ − α)))): a threshold with a soft edge.

    The paper leaves β and α open. β is our own default: the edge, from π = 0.9 to 0.1, is 4.4/β = 0.22 wide. α is
    solved for the budget ([`solve_alpha`]). Rows far below α get a π so small that a correction there weighs
    thousands: `mix` in [`sample`] bounds it.

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
    shift = math.log(count / (eps.size - count)) / beta
    low, high = float(eps.min()) - shift, float(eps.max()) - shift
    # At a huge beta one float's distance is many logits, and rounding may have left high on the wrong side.
    while _logistic(eps, high, beta).sum() > count * (1 + 1e-12):
        high = math.nextafter(high, math.inf)
    while high - low > ALPHA_TOLERANCE and low < (middle := (low + high) / 2) < high:
        if _logistic(eps, middle, beta).sum() > count:
            low = middle
        else:
            high = middle
    return high


def _logistic(eps: Floats, alpha: float, beta: float) -> Floats:
    # exp may overflow to infinity on the way to a probability that is 0 in floating point
    with np.errstate(over="ignore"):
        pi: Floats = 1.0 / (1.0 + np.exp(-beta * (eps - alpha)))
    return pi


RULES: dict[str, Rule] = {"exponential": exponential, "threshold": threshold, "normalised": normalised}


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


def draw(pi: ArrayLike, *, seed: int) -> Bools:
    """
    Draws rows with given probabilities and a fixed number of them: systematic sampling on a random permutation.

    The rows are laid end to end in random order, each as long as its π, and every row hit by one of the points u, u +
    1, u + 2, … (u uniform) is taken. So every row is taken with its π exactly, π = 1 always and π = 0 never. When Σπ
    is an integer within 1e-6 of itself the number of rows is that integer; otherwise it is one of the two integers
    around Σπ, and so never above an integer budget that Σπ keeps.

    Args:
        pi (array of N `float` in [0, 1]): the probabilities.
        seed (`int`): the same π and seed draw the same rows.

    Returns:
        `np.ndarray` of N `bool`: δ.

    Raises:
        ACTError: for a probability outside [0, 1], naming its row.
    """
    pi = _probabilities(pi, "pi")
    rng = np.random.default_rng(seed)
    selected = pi >= 1 - CERTAIN_TOLERANCE
    order = rng.permutation(np.flatnonzero((pi > 0) & ~selected))
    if order.size:
        ends = np.cumsum(pi[order])
        points_before = np.ceil(ends - _start(float(ends[-1]), rng))
        selected[order] = np.diff(points_before, prepend=0.0) > 0
    return selected


def _start(total: float, rng: np.random.Generator) -> float:
    """u in (0, 1), kept from the values at which rounding in `total` would change the number of points below it."""
    excess = total - round(total)
    if abs(excess) > SUM_TOLERANCE * max(1.0, total):
        return float(rng.random())
    low, high = max(excess, 0.0), 1.0 + min(excess, 0.0)
    return low + (high - low) * float(rng.uniform(1e-7, 1 - 1e-7))


def sample(
    dataset: Dataset,
    *,
    budget: int | float,
    rule: str | Rule = "exponential",
    mix: float = 0.1,
    seed: int = 0,
    failures: Literal["raise", "review", "skip"] = "raise",
) -> Dataset:
    """
    Chooses the rows that a person reviews: adds `act_pi` and `act_selected`.

    Args:
        dataset (`Dataset`): N rows with `act_error_prob`, as written by `criticize`.
        budget (`int` or `float`): how many rows may be reviewed; an `int` counts them, a `float` is a share of N.
        rule (`str` or callable, *optional*, defaults to `"exponential"`): a name in `RULES`, or a function
            `(error_probs, budget) -> pi` such as `functools.partial(exponential, beta=50)`.
        mix (`float`, *optional*, defaults to 0.1): share of the budget spent on uniform sampling, in [0, 1]. Above 0,
            the accuracy of the rows nobody looked at can be estimated. The ACT paper has none (0).
        seed (`int`, *optional*, defaults to 0): of the draw.
        failures (`str`, *optional*, defaults to `"raise"`): what to do with rows that have an `act_failure` or no
            error probability. `"raise"` refuses; `"review"` has a person look at all of them (π = 1), out of the same
            budget; `"skip"` never draws them (π = 0): nothing estimated or trained with δ/π is unbiased for
            them, and an estimate says so in its `covers`.

    Returns:
        `Dataset`: with `act_pi` (float32, the very values the draw used) and `act_selected` (bool). At most B rows are
        selected, and exactly B where Σπ is B.

    Raises:
        ACTError: for rows reviewed already; a bad budget, rule, `mix` or `failures`; an error probability outside
            [0, 1] or NaN; failed rows with `failures="raise"`, or more of them than the budget with
            `failures="review"`.

    Example:

    ```python
    >>> drawn = sample(criticized, budget=0.2, mix=0.1)
    >>> drawn.filter(lambda row: row["act_selected"])
    ```
    """
    from datasets import Features, Value

    require(dataset, [ERROR_PROB], stage="sample")
    _refuse_reviewed(dataset)
    chosen = _named_rule(rule)
    eps, failed = _error_probs(dataset)
    count = resolve_budget(budget, len(dataset))
    usable, left = _set_aside(failed, count, failures)
    pi = np.where(failed & (failures == "review"), 1.0, 0.0)
    pi[usable] = mix_uniform(_checked_pi(chosen(eps[usable], left), left, int(usable.sum())), left, mix)
    stored = _float32_below(pi)
    selected = draw(stored, seed=seed)
    parameters = {
        **_parameters(chosen, eps[usable], left),
        "budget": count,
        "mix": mix,
        "seed": seed,
        "failures": failures,
        "failed": int(failed.sum()),
        "rows": len(dataset),
        "selected": int(selected.sum()),
    }
    values = {PI: stored.tolist(), SELECTED: selected.tolist()}
    drawn = add_columns(dataset, values, Features({PI: Value("float32"), SELECTED: Value("bool")}))
    return add_record(drawn, "sample", **parameters)


def _refuse_reviewed(dataset: Dataset) -> None:
    answered = sum(label is not None for label in dataset[HUMAN]) if HUMAN in dataset.column_names else 0
    if answered:
        raise ACTError(
            f"sample: {answered} rows have a human label already; a new draw would lose the {PI} that they were drawn "
            f"with. Sample the data set as it was before the review, or remove the column {HUMAN!r}"
        )


def _named_rule(rule: str | Rule) -> Rule:
    if callable(rule):
        return rule
    if rule not in RULES:
        raise ACTError(f"rule {rule!r} is unknown; the choices are {', '.join(map(repr, RULES))}, or a function")
    return RULES[rule]


def _error_probs(dataset: Dataset) -> tuple[Floats, Bools]:
    """Error probabilities, NaN where there is none, and which rows failed. NaN that is not `None` is an error."""
    names = [name for name in (ERROR_PROB, FAILURE) if name in dataset.column_names]
    table = dataset.select_columns(names).with_format("arrow")[:]
    failed = table[ERROR_PROB].is_null().to_numpy()
    eps = table[ERROR_PROB].to_numpy().astype(np.float64)
    _probabilities(eps[~failed], ERROR_PROB, rows=np.flatnonzero(~failed))
    if FAILURE in names:
        failed = failed | ~table[FAILURE].is_null().to_numpy()
    return eps, failed


def _set_aside(failed: Bools, count: int, failures: str) -> tuple[Bools, int]:
    """The rows that the rule sees, and the budget it has for them."""
    if failures not in FAILURES:
        raise ACTError(f"failures={failures!r} is unknown; the choices are {', '.join(map(repr, FAILURES))}")
    bad = int(failed.sum())
    if bad and failures == "raise":
        raise ACTError(
            f"sample: {bad} of {failed.size} rows have an {FAILURE} or no {ERROR_PROB}; run the failed stage again, "
            "or failures='review' to have a person look at them, or failures='skip' to leave them out"
        )
    if failures == "review":
        count -= bad
    if count < 0:
        raise ACTError(f"sample: {bad} failed rows to review are more than the budget of {count + bad} rows")
    return ~failed, min(count, failed.size - bad)


def _checked_pi(pi: ArrayLike, budget: int, rows: int) -> Floats:
    """What a rule returned, or an error: a rule may be the caller's own."""
    pi = _probabilities(pi, "the rule's pi")
    if pi.size != rows:
        raise ACTError(f"the rule returned {pi.size} probabilities for {rows} rows")
    if pi.sum() > budget * (1 + SUM_TOLERANCE) + SUM_TOLERANCE:
        raise ACTError(f"the rule's probabilities sum to {pi.sum():.6g}, above the budget of {budget} rows")
    return pi


def _float32_below(pi: Floats) -> NDArray[np.float32]:
    """The nearest float32 not above: rounded up, a million rows could sum to more than the budget."""
    stored = pi.astype(np.float32)
    return np.where(stored > pi, np.nextafter(stored, np.float32(0)), stored)


def _parameters(rule: Rule, eps: Floats, budget: int) -> dict[str, Any]:
    """The rule's name and the values of its options, with the alpha that [`exponential`] solved for."""
    function = rule.func if isinstance(rule, partial) else rule
    options = {
        name: option.default
        for name, option in inspect.signature(rule).parameters.items()
        if option.kind is option.KEYWORD_ONLY and option.default is not option.empty
    }
    if function is exponential and eps.size:
        options["alpha"] = solve_alpha(eps, budget, **options)
    return {"rule": getattr(function, "__name__", type(function).__name__), **options}


def _checked(error_probs: ArrayLike, budget: int | float) -> tuple[Floats, int]:
    eps = _probabilities(error_probs, "error_probs")
    return eps, resolve_budget(budget, eps.size)


def _probabilities(values: ArrayLike, name: str, *, rows: NDArray[np.int64] | None = None) -> Floats:
    """`values` as one-dimensional float64 in [0, 1]; `rows` are their numbers, where they are part of something."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ACTError(f"{name} has shape {array.shape}; one probability a row is needed")
    bad = np.flatnonzero(~((array >= 0) & (array <= 1)))
    if bad.size:
        row = bad[0] if rows is None else rows[bad[0]]
        raise ACTError(f"{name} of row {row} is {array[bad[0]]}, not a probability in [0, 1]")
    return array
