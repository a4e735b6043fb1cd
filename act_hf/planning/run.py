"""Plan: what a run will take, before anyone pays for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns
from act_hf.annotators import Annotator
from act_hf.critics.critic import Critic, claimed_task
from act_hf.critics.strategies import STAGE
from act_hf.ensemble import Ensemble
from act_hf.errors import ACTError
from act_hf.jobs import job_of
from act_hf.models.asking import Usage, rows_at_once
from act_hf.models.store import Store
from act_hf.planning.extrapolation import FEWEST, Range, extrapolate, guess
from act_hf.planning.planned import Plan, PlannedStage
from act_hf.planning.rehearsal import Stage, Taken, Understudy, members_of, stored_rows, usages, witnessed
from act_hf.priors import fit_prior
from act_hf.task import problem_of


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from datasets import Dataset
    from numpy.typing import NDArray

    from act_hf.jobs import Chosen
    from act_hf.models.base import Answer, Model
    from act_hf.task import Row, Task

_BATCH = 512


def plan(
    dataset: Dataset,
    task: Task | None = None,
    *,
    annotator: Chosen | None = None,
    critics: Sequence[Chosen] = (),
    pilot: int = 20,
    store: Store | str | Path | None = None,
    seed: int = 0,
    max_calls: int | None = None,
    max_cost: float | None = None,
) -> Plan:
    """
    What it will take to annotate and criticize `dataset`, from a pilot: the stages are run on a few random rows, and
    what these took is extrapolated by the length of each row ([`extrapolate`]). An answer costs what its tokens cost
    now, where the model says so (it has a method `cost_of`, as an [`Endpoint`] has), else what was paid for it.

    The pilot asks what the run will ask, and its answers are kept in the store, so they cost nothing again. One
    exception: with `calibration="batch"` a label is final only when up to 1000 rows are known, so a critic that is
    shown a label may be asked about a pilot row again. Rows whose answers are in the store already cost nothing; where
    that depends on a label that is not known yet, they are counted as if they were not there. Rows that the model
    fails on cost what the failures cost: the run is taken to fail on as many of the rest, and asks again about those
    of the pilot.

    Not in a range: requests for which the pilot had no example, as those repeated after a bad reply where no reply of
    the pilot was bad; the second try that `calibration="batch"` gives rows that failed; and a server that becomes
    slower.

    Args:
        dataset (`Dataset`): has the task's columns; without `annotator`, also `act_label`.
        task ([`Task`], *optional*): what to label; without `annotator`, by default the one it was labelled for.
        annotator ([`Model`] or several, or tuple of that and a mapping, *optional*): who labels, with options as of
            [`annotate`]: `strategy`, `calibration`, `max_tokens`, `batch_size`. Without one, `dataset` is labelled
            already.
        critics (sequence of [`Model`], or tuples of one and a mapping): who criticizes, with options as of
            [`criticize`].
        pilot (`int`, *optional*, defaults to 20): rows of the pilot, at least 5; drawn from the different ones.
        store ([`Store`] or path, *optional*): where answers are kept: the one of the run.
        seed (`int`, *optional*, defaults to 0): of the draw.
        max_calls, max_cost (*optional*): limits of the pilot; see [`Usage`].

    Returns:
        [`Plan`]: what is left to do.

    Raises:
        ACTError: for what [`annotate`] and [`criticize`] refuse, for no model, and when all pilot rows fail.
        LimitReached: when the pilot reaches a limit.

    Example:

    ```python
    >>> planned = plan(rows, task, annotator=(gpt, {"strategy": "cot"}), critics=[(claude, {"strategy": "logit"})])
    >>> print(planned.summary())
    ```
    """
    if pilot < FEWEST:
        raise ACTError(f"pilot={pilot} rows are too few for a range; give at least {FEWEST}")
    usage = Usage(max_calls, max_cost)
    stages = _stages(dataset, task, annotator, critics, Store.of(store), usage)
    shown = stages[0].members[0].task
    known = {*shown.columns, *([] if annotator is not None else [columns.LABEL, columns.RATIONALE])}
    plain = dataset.with_format(None).select_columns([name for name in dataset.column_names if name in known])
    positions, sizes = _different_rows(plain, shown)
    drawn = np.isin(np.arange(len(positions)), np.random.default_rng(seed).permutation(len(positions))[:pilot])
    pilots = _run_pilot(stages, plain, plain.select(positions[drawn]))
    # Among all: rows of the pilot that failed are not stored, and will be asked about again.
    left = _left_to_ask(stages, plain.select(positions))
    planned = [
        _planned(stage, ran, sizes[drawn], sizes[open_rows], len(positions))
        for stage, ran, open_rows in zip(stages, pilots, left, strict=True)
    ]
    return Plan(len(dataset), len(positions), int(drawn.sum()), usage.calls, usage.spent, tuple(planned))


@dataclass(frozen=True)
class _Stage:
    asks: Stage
    calibration: str
    batch_size: int

    @property
    def members(self) -> tuple[Any, ...]:
        return members_of(self.asks)

    @property
    def name(self) -> str:
        return "criticize" if isinstance(self.asks, Critic) else "annotate"


def _stages(
    dataset: Dataset,
    task: Task | None,
    annotator: Chosen | None,
    critics: Sequence[Chosen],
    store: Store,
    usage: Usage,
) -> list[_Stage]:
    """The stages of the run, after all the checks that it would make."""
    if annotator is None:
        task = claimed_task(dataset, task)
    elif task is None:
        raise ACTError("plan: an annotator needs a task to label for; pass task=")
    elif columns.LABEL in dataset.column_names:
        raise ACTError(f"plan: the data set has {columns.LABEL!r} already; plan its critics, without annotator=")
    task.check(dataset, stage="plan")
    stages = [] if annotator is None else [_stage(Annotator, annotator, task, store, usage)]
    stages += [_stage(Critic, critic, task, store, usage) for critic in critics]
    if not stages:
        raise ACTError("plan: nobody to ask; pass annotator= or critics=")
    return stages


def _stage(kind: type[Annotator | Critic], chosen: Chosen, task: Task, store: Store, usage: Usage) -> _Stage:
    job = job_of(kind, chosen, task, place="plan: the annotator" if kind is Annotator else "plan: a critic")
    members = job.members(task, store=store, usage=usage)
    batch_size = job.options.get("batch_size") or max(rows_at_once(model, task) for model in job.models)
    return _Stage(members[0] if len(members) == 1 else Ensemble(members), job.calibration, batch_size)


def _different_rows(plain: Dataset, task: Task) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each different row that would be asked about is first, and how long it is."""
    found: dict[str, tuple[int, int]] = {}
    for start in range(0, len(plain), _BATCH):
        batch = plain[start : start + _BATCH]
        labels = batch.get(columns.LABEL)
        for number, row in enumerate(task.rows(batch)):
            if problem_of(row) is None and (labels is None or labels[number] is not None):
                found.setdefault(task.row_id(row), (start + number, _size(task, row)))
    if not found:
        raise ACTError("plan: there is no row to ask about: all are empty, or have no label")
    numbers, sizes = np.array(list(found.values()), dtype=np.int64).T
    return numbers, sizes


def _size(task: Task, row: Row) -> int:
    # Bytes: closer to tokens than letters are, where rows are written in several scripts.
    return sum(len(str(row[name] or "").encode()) for name in (task.text, task.question) if name)


@dataclass(frozen=True)
class _Ran:
    taken: list[list[Taken]]  # by member, then by row
    failures: tuple[str, ...]


def _run_pilot(stages: Sequence[_Stage], plain: Dataset, pilot: Dataset) -> list[_Ran]:
    """Runs the stages on the rows of the pilot."""
    batch = pilot[:]
    ran = []
    for stage in stages:
        for member in stage.members:
            _calibrate(stage, member, plain, pilot)
        heard: dict[str, Answer] = {}
        made = witnessed(stage.asks, heard)(batch)
        failures = _failures(stage.asks, made)
        asked = len(pilot) - batch.get(columns.LABEL, []).count(None)
        if failures and len(failures) == asked:
            raise ACTError(f"plan: all {asked} rows of the pilot failed: {failures[0]}")
        ran.append(_Ran(usages(stage.asks, batch, heard), failures))
        if not isinstance(stage.asks, Critic):
            batch = batch | made
    return ran


def _failures(asks: Stage, made: Mapping[str, list[str | None]]) -> tuple[str, ...]:
    if not isinstance(asks, Critic):
        return tuple(failure for failure in made[columns.FAILURE] if failure)
    return tuple(failure for failure in made[columns.FAILURE + asks.suffix] if failure and failure.startswith(STAGE))


def _calibrate(stage: _Stage, member: Annotator | Critic, plain: Dataset, pilot: Dataset) -> None:
    """Takes the prior of the run where it can be known, else that of the pilot."""
    method = stage.calibration
    if isinstance(member, Critic):
        if method == "contextual":  # the only one that asks for more than the rows
            own = Annotator(member.task, member.model, store=member.store, usage=member.usage)
            member.prior = fit_prior(own, plain, method=method)
    elif method == "batch":
        member.prior = _stored_prior(member, plain, stage.batch_size) or fit_prior(member, pilot, method=method)
    elif method != "none":
        member.prior = fit_prior(member, plain, method=method)


def _stored_prior(annotator: Annotator, plain: Dataset, batch_size: int) -> tuple[float, ...] | None:
    """The prior of the run, if all that it is made of is in the store."""
    understudy = Understudy(annotator.model)
    try:
        prior = fit_prior(
            replace(annotator, model=understudy, usage=Usage()), plain, method="batch", batch_size=batch_size
        )
    except ACTError:  # not one row of it is
        return None
    return None if understudy.missing else prior


def _left_to_ask(stages: Sequence[_Stage], different: Dataset) -> list[NDArray[np.bool_]]:
    """For each stage, which rows have answers that are not in the store."""
    from datasets.utils import are_progress_bars_disabled
    from tqdm.auto import tqdm

    left: list[list[bool]] = [[] for _ in stages]
    with tqdm(total=len(different), desc="look up", unit="rows", disable=are_progress_bars_disabled()) as bar:
        for start in range(0, len(different), _BATCH):
            batch = different[start : start + _BATCH]
            for open_rows, there in zip(left, stored_rows([stage.asks for stage in stages], batch), strict=True):
                open_rows += [not one for one in there]
                bar.n = len(open_rows)
            bar.refresh()
    return [np.array(open_rows, dtype=bool) for open_rows in left]


def _planned(
    stage: _Stage, ran: _Ran, sizes: NDArray[np.int64], rest: NDArray[np.int64], different: int
) -> PlannedStage:
    def total(name: str) -> Range:
        by_row = zip(*ran.taken, strict=True)
        return extrapolate(sizes, [sum(getattr(taken, name) for taken in row) for row in by_row], rest)

    models = [member.model for member in stage.members]
    unknown = any(taken.cost is None for member in ran.taken for taken in member)
    cost = Range() if not len(rest) else None if unknown else total("cost")
    by_member = zip(models, ran.taken, strict=True)
    return PlannedStage(
        stage=stage.name,
        model=" + ".join(model.name for model in models),
        strategy=stage.members[0].strategy,
        rows=len(rest),
        stored=different - len(rest),
        calls=total("calls"),
        tokens_in=total("tokens_in"),
        tokens_out=total("tokens_out"),
        cost=cost,
        # Several models answer one after the other.
        seconds=sum((_by_the_clock(model, taken, sizes, rest) for model, taken in by_member), start=Range()),
        failures=ran.failures,
    )


def _by_the_clock(model: Model, taken: Sequence[Taken], sizes: NDArray[np.int64], rest: NDArray[np.int64]) -> Range:
    calls = extrapolate(sizes, [row.calls for row in taken], rest)
    batches = _batches(taken)
    seconds = extrapolate(sizes, [row.seconds for row in taken], rest, together=batches)
    # Rows that nothing was asked about (their label is missing) are no measurement of how long an answer takes.
    if 0 < len({batch for batch, row in zip(batches, taken, strict=True) if row.clocked}) < FEWEST:
        seconds = guess(seconds.expected) if len(rest) else seconds
    parallel = seconds / min(getattr(model, "concurrency", 1), max(1.0, calls.expected))
    rate = getattr(model, "requests_per_minute", None)
    slowest = calls / (rate / 60) if rate else Range()
    return Range(*(max(getattr(parallel, end), getattr(slowest, end)) for end in ("expected", "low", "high")))


def _batches(taken: Sequence[Taken]) -> list[int]:
    """For each row, the first one that it shares a batch with, itself or by way of others."""
    first = list(range(len(taken)))
    for number, row in enumerate(taken):
        joined = {number, *(first[i] for i in range(number) if row.clocked & taken[i].clocked)}
        first = [min(joined) if one in joined else one for one in first]
    return first
