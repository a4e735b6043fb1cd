"""Sample: which rows of a data set a person reviews."""

from __future__ import annotations

import inspect
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from act_hf.columns import ERROR_PROB, FAILURE, HUMAN, PI, SELECTED, WAVE, WAVE_PI, add_columns, require
from act_hf.errors import ACTError
from act_hf.human_labels import has_human
from act_hf.records import add_record
from act_hf.sampling.budget import allocate, probabilities, resolve_budget
from act_hf.sampling.drawing import SUM_TOLERANCE, draw
from act_hf.sampling.rules import RULES, exponential, mix_uniform, solve_alpha, with_floor
from act_hf.sampling.waves import Waves, read_waves


if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset
    from numpy.typing import ArrayLike, NDArray

    from act_hf.sampling.rules import Rule

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

FAILURES = ("raise", "review", "skip")


def sample(
    dataset: Dataset,
    *,
    budget: int | float,
    rule: str | Rule = "exponential",
    mix: float = 0.1,
    floor: float = 0.0,
    groups: str | None = None,
    allocation: str | Mapping[Any, float] = "proportional",
    wave: int = 1,
    seed: int = 0,
    failures: Literal["raise", "review", "skip"] = "raise",
) -> Dataset:
    """
    Chooses the rows that a person reviews: adds `act_pi` and `act_selected`.

    Args:
        dataset (`Dataset`): N rows with `act_error_prob`, as written by `criticize`.
        budget (`int` or `float`): how many rows may be reviewed, in this wave; an `int` counts them, a `float` is a
            share of N.
        rule (`str` or callable, *optional*, defaults to `"exponential"`): a name in `RULES`, or a function
            `(error_probs, budget) -> pi` such as `functools.partial(exponential, beta=50)`.
        mix (`float`, *optional*, defaults to 0.1): share of the budget spent on uniform sampling, in [0, 1]. Above 0,
            the accuracy of the rows nobody looked at can be estimated. The ACT paper has none (0).
        floor (`float`, *optional*, defaults to 0.0): the least probability of a row, in [0, B/N]; see [`with_floor`].
        groups (`str`, *optional*): a column, such as `"act_label"`: each of its values gets a budget of its own,
            within which the rule chooses.
        allocation (`str` or mapping, *optional*, defaults to `"proportional"`): how `groups` share the budget:
            `"proportional"` to their rows, `"equal"`, by the `"errors"` that the critic expects (Σε̂), or a weight for
            each group by its name. A group never gets more than its rows.
        wave (`int`, *optional*, defaults to 1): with 2 or more, chooses further rows once the rows of the waves before
            are reviewed; see [`Waves`]. Criticize or calibrate again in between as you like.
        seed (`int`, *optional*, defaults to 0): of the draw.
        failures (`str`, *optional*, defaults to `"raise"`): what to do with rows that have an `act_failure` or no
            error probability. `"raise"` refuses; `"review"` has a person look at all of them (π = 1), out of the same
            budget; `"skip"` never draws them (π = 0): nothing estimated or trained with δ/π is unbiased for
            them, and an estimate says so in its `covers`.

    Returns:
        `Dataset`: with `act_pi` (float32, the very values the draw used) and `act_selected` (bool). At most B rows are
        selected, and exactly B where Σπ is B. From the second wave on also `act_wave` and `act_wave_pi`, and `act_pi`
        is that of all waves together ([`Waves`]).

    Raises:
        ACTError: for rows reviewed already, or a wave that does not follow; a bad budget, rule, `mix`, `floor`,
            `groups` or `failures`; an error probability outside [0, 1] or NaN; failed rows with `failures="raise"`, or
            more of them than the budget with `failures="review"`.

    Example:

    ```python
    >>> drawn = sample(criticized, budget=0.2, mix=0.1)
    >>> drawn.filter(lambda row: row["act_selected"])
    ```
    """
    require(dataset, [ERROR_PROB], stage="sample")
    earlier = _earlier_waves(dataset, wave)
    chosen = _named_rule(rule)
    eps, failed = _error_probs(dataset)
    open_ = np.ones(eps.size, dtype=bool) if earlier is None else ~earlier.selected
    count = _wave_budget(budget, eps.size, int(open_.sum()))
    usable, left = _set_aside(failed & open_, open_, count, failures)
    members = _members(dataset, groups, usable)
    budgets = _budgets(members, eps, left, allocation)
    pi = np.where(failed & open_ & (failures == "review"), 1.0, 0.0)
    selected = pi == 1
    for number, (rows, share) in enumerate(zip(members.values(), budgets, strict=True)):
        pi[rows] = _float32_below(_inclusion(chosen, eps[rows], share, mix, floor))
        # Every wave and group has chance of its own.
        chance = (seed, *([number] if groups else []), *([wave] if wave > 1 else []))
        selected[rows] = draw(pi[rows], seed=chance if len(chance) > 1 else seed)
    made = Waves.of(selected, pi) if earlier is None else earlier.followed_by(selected, pi)
    parameters = {
        **_parameters(chosen, eps[usable], left, alone=groups is None),
        "budget": count,
        "mix": mix,
        "floor": floor,
        "groups": groups,
        "allocation": None if groups is None else dict(zip(members, budgets, strict=True)),
        "wave": wave,
        "seed": seed,
        "failures": failures,
        "failed": int((failed & open_).sum()),
        "rows": len(dataset),
        "selected": int(selected.sum()),
    }
    return add_record(_with_waves(dataset, made), "sample", **parameters)


def _earlier_waves(dataset: Dataset, wave: int) -> Waves | None:
    """The waves before this one, all of whose rows are answered; `None` where this is the first."""
    human = has_human(dataset)
    done = read_waves(dataset) if PI in dataset.column_names and human.any() else None
    if done and done.count > 1 and not human[done.drawn == done.count].any():
        done = done.without_last()  # nobody has looked at its rows yet: they can be drawn anew
    following = done.count + 1 if done else 1
    if wave == following:
        waiting = int((done.selected & ~human).sum()) if done else 0
        if waiting:
            raise ACTError(
                f"sample: {waiting} selected rows have no {HUMAN}; finish the review of wave {wave - 1} first"
            )
        return done
    if wave == 1:
        raise ACTError(
            f"sample: {human.sum()} rows have a human label already; a new draw would lose the {PI} that they were "
            f"drawn with. For further rows give wave={following} (--wave {following}); to begin anew sample the data "
            f"set as it was before the review, or remove the column {HUMAN!r}"
        )
    raise ACTError(f"sample: wave={wave} does not follow; the next wave of this data set is {following}")


def _wave_budget(budget: int | float, rows: int, left: int) -> int:
    count = resolve_budget(budget, rows)
    if count > left:
        raise ACTError(f"sample: the budget of {count} rows is more than the {left} rows that nobody has reviewed")
    return count


def _members(dataset: Dataset, groups: str | None, usable: Bools) -> dict[Any, NDArray[np.int64]]:
    """The rows of each group by its name; one group where there are none."""
    from datasets import ClassLabel

    if groups is None:
        return {None: np.flatnonzero(usable)}
    require(dataset, [groups], stage="sample")
    feature, values = dataset.features[groups], dataset.with_format(None)[groups][:]
    if any(isinstance(value, list | dict) for value in values[:1]):
        raise ACTError(f"sample: groups={groups!r} is a column of {feature}; groups are told by text or numbers")
    found: dict[Any, list[int]] = {}
    for row in np.flatnonzero(usable):
        found.setdefault(values[row], []).append(int(row))
    names = feature.names if isinstance(feature, ClassLabel) else None
    ordered = sorted(found.items(), key=lambda item: str(item[0]))
    return {str(names[key] if names and key is not None else key): np.array(rows) for key, rows in ordered}


def _budgets(
    members: Mapping[Any, NDArray[np.int64]], eps: Floats, budget: int, allocation: str | Mapping[Any, float]
) -> list[int]:
    sizes = [len(rows) for rows in members.values()]
    if isinstance(allocation, str):
        ways = {"proportional": sizes, "equal": [1] * len(sizes), "errors": [eps[r].sum() for r in members.values()]}
        if allocation not in ways:
            raise ACTError(f"allocation={allocation!r} is unknown; the choices are {', '.join(map(repr, ways))}")
        weights = ways[allocation]
    else:
        unknown = [name for name in allocation if name not in members]
        if unknown or not all(weight >= 0 for weight in allocation.values()):
            raise ACTError(
                f"allocation={dict(allocation)!r}: a weight of 0 or more for each of {', '.join(map(str, members))}"
            )
        weights = [allocation.get(name, 0.0) for name in members]
    return [int(share) for share in allocate(budget, sizes, weights)]


def _inclusion(rule: Rule, eps: Floats, budget: int, mix: float, floor: float) -> Floats:
    def checked(eps: Floats, budget: int) -> Floats:
        return _checked_pi(rule(eps, budget), budget, eps.size)

    return mix_uniform(with_floor(checked, eps, budget, floor), budget, mix)


def _with_waves(dataset: Dataset, waves: Waves) -> Dataset:
    from datasets import Features, List, Value

    values: dict[str, list[Any]] = {
        PI: waves.combined.astype(np.float32).tolist(),
        SELECTED: waves.selected.tolist(),
    }
    types = {PI: Value("float32"), SELECTED: Value("bool")}
    if waves.count > 1:
        values[WAVE] = [wave or None for wave in waves.drawn.tolist()]
        values[WAVE_PI] = waves.pi.astype(np.float32).tolist()
        types |= {WAVE: Value("int32"), WAVE_PI: List(Value("float32"))}
    else:
        dataset = dataset.remove_columns([name for name in (WAVE, WAVE_PI) if name in dataset.column_names])
    return add_columns(dataset, values, Features(types))


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
    probabilities(eps[~failed], ERROR_PROB, rows=np.flatnonzero(~failed))
    if FAILURE in names:
        failed = failed | ~table[FAILURE].is_null().to_numpy()
    return eps, failed


def _set_aside(failed: Bools, open_: Bools, count: int, failures: str) -> tuple[Bools, int]:
    """The rows that the rule sees, of those that are open, and the budget it has for them."""
    if failures not in FAILURES:
        raise ACTError(f"failures={failures!r} is unknown; the choices are {', '.join(map(repr, FAILURES))}")
    bad = int(failed.sum())
    if bad and failures == "raise":
        raise ACTError(
            f"sample: {bad} of {failed.size} rows have an {FAILURE}, which says why, or no {ERROR_PROB}; run the "
            "failed stage again, or have a person look at them with failures='review' (--failures review), or leave "
            "them out with failures='skip'"
        )
    if failures == "review":
        count -= bad
    if count < 0:
        raise ACTError(f"sample: {bad} failed rows to review are more than the budget of {count + bad} rows")
    usable = open_ & ~failed
    return usable, min(count, int(usable.sum()))


def _checked_pi(pi: ArrayLike, budget: int, rows: int) -> Floats:
    """What a rule returned, or an error: a rule may be the caller's own."""
    pi = probabilities(pi, "the rule's pi")
    if pi.size != rows:
        raise ACTError(f"the rule returned {pi.size} probabilities for {rows} rows")
    if pi.sum() > budget * (1 + SUM_TOLERANCE) + SUM_TOLERANCE:
        raise ACTError(f"the rule's probabilities sum to {pi.sum():.6g}, above the budget of {budget} rows")
    return pi


def _float32_below(pi: Floats) -> NDArray[np.float32]:
    """The nearest float32 not above: rounded up, a million rows could sum to more than the budget."""
    stored = pi.astype(np.float32)
    return np.where(stored > pi, np.nextafter(stored, np.float32(0)), stored)


def _parameters(rule: Rule, eps: Floats, budget: int, *, alone: bool) -> dict[str, Any]:
    """The rule's name and the values of its options, with the alpha that [`exponential`] solved for if it is one."""
    function = rule.func if isinstance(rule, partial) else rule
    options = {
        name: option.default
        for name, option in inspect.signature(rule).parameters.items()
        if option.kind is option.KEYWORD_ONLY and option.default is not option.empty
    }
    if function is exponential and eps.size and alone:
        alpha = solve_alpha(eps, budget, **options)
        options["alpha"] = alpha if math.isfinite(alpha) else None  # JSON has no infinity
    return {"rule": getattr(function, "__name__", type(function).__name__), **options}
