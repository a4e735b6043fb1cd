"""Criticize: for every machine label, the probability that it is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns, prompts
from act_hf.annotators import Annotator
from act_hf.critics.strategies import STAGE, STRATEGIES, Claim, Verdict
from act_hf.errors import ACTError
from act_hf.models.asking import Usage, ask, rows_at_once
from act_hf.models.base import ChatRequest, Model, ScoreRequest, require_ability, require_model
from act_hf.models.deferred import asked_ahead
from act_hf.models.store import Store
from act_hf.priors import fit_prior
from act_hf.records import add_record, recorded_task, usage_facts
from act_hf.task import Row, Task, problem_of


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from datasets import Dataset, Features

    from act_hf.models.base import Answer


CALIBRATIONS = ("none", "batch", "contextual", "rank")


@dataclass
class Critic:
    """
    A batched callable for `Dataset.map`, `IterableDataset.map` or `ray.data.map_batches`.

    The paper's seven strategies (all prompts, the grades, the scale of the perplexity and the seventh are ours; the
    paper's are not published). All ask whether the label is *right*: the paper asks whether it is wrong, which small
    models answer upside down. Black box, for a model that can chat:

    - `"naive"`: asks for the probability that the label is right.
    - `"cot"`: the same after reasoning, which is kept as `act_critique`.
    - `"mc"`: asks for a grade out of five, each of which stands for a probability.
    - `"devil"`: reads the annotator's reasoning, argues against it first, then gives the probability.

    White box, for a model that gives probabilities:

    - `"logit"`: P(no) / (P(yes) + P(no)) on "is this label right?", over several spellings of each.
    - `"cot_logit"`: the same after the critic's own reasoning.
    - `"ppl"`: 1 - 1 / perplexity of answering "yes, the label is right".

    And beyond the paper:

    - `"likelihood"`: 1 - P(label), where P is the model's own distribution over the labels. It costs as much as
      annotating, and small models do better by it than by being asked. An [`EncoderModel`] will do.

    Args:
        task ([`Task`]): what was labelled.
        model ([`Model`]): who criticizes; a different one from the annotator does better.
        strategy (`str`, *optional*, defaults to `"likelihood"`): one of the above.
        store ([`Store`] or path, *optional*): where answers are kept; see [`Store`].
        prior (tuple of `float`, *optional*): for `"likelihood"`, as in [`Annotator`].
        suffix (`str`, *optional*): added to the names of the columns, for a second critic beside the first. What it
            fails on is then no failure of the row.
        max_tokens (`int`, *optional*): the longest reasoning or reply; 160 by default, 24 where no reasoning is asked
            for.
        usage ([`Usage`], *optional*): counts what is asked, and limits it.

    Raises:
        ACTError: for an unknown strategy, or a model that cannot do what it needs, before anything is asked.
    """

    task: Task
    model: Model
    strategy: str = "likelihood"
    store: Store | str | Path | None = None
    prior: tuple[float, ...] | None = None
    suffix: str = ""
    max_tokens: int | None = None
    usage: Usage = field(default_factory=Usage, repr=False)
    version: str = field(default=prompts.VERSION, init=False, repr=False)  # as in Annotator

    def __post_init__(self) -> None:
        require_model(self.model, stage="criticize")
        self.store = Store.of(self.store)
        if self.strategy not in STRATEGIES:
            raise ACTError(f"critic strategy {self.strategy!r} is none of {', '.join(STRATEGIES)}")
        strategy = STRATEGIES[self.strategy]
        if strategy.asks and not self.model.instructed:
            raise ACTError(
                f"the critic strategy {self.strategy!r} asks a question, but {self.model.name} takes no instructions; "
                "use strategy='likelihood' with it"
            )
        for ability in strategy.abilities:
            require_ability(self.model, ability, purpose=f"the critic strategy {self.strategy!r}")
        if self.task.image:
            require_ability(self.model, "image", purpose=f"the image column {self.task.image!r}")

    @property
    def longest_reply(self) -> int:
        """The longest reply, in tokens."""
        return self.max_tokens or STRATEGIES[self.strategy].max_tokens

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Annotated rows in; `act_error_prob`, `act_critique` and `act_failure` out. Rows without a label get none."""
        labels = batch[columns.LABEL]
        rationales = _optional(batch, columns.RATIONALE)
        rows = self.task.rows(batch)
        silent = [Verdict() if label is None else _unshown(row) for row, label in zip(rows, labels, strict=True)]
        whole = zip(rows, labels, rationales, silent, strict=True)
        claims = [Claim(row, label, rationale) for row, label, rationale, verdict in whole if verdict is None]
        judged = iter(STRATEGIES[self.strategy].judge(self, claims))
        verdicts = [verdict or next(judged) for verdict in silent]
        failures = _optional(batch, columns.FAILURE + self.suffix)
        return {
            columns.ERROR_PROB + self.suffix: [verdict.error_prob for verdict in verdicts],
            columns.CRITIQUE + self.suffix: [verdict.critique for verdict in verdicts],
            columns.FAILURE + self.suffix: [
                verdict.failure if earlier is None or earlier.startswith(STAGE) else earlier
                for earlier, verdict in zip(failures, verdicts, strict=True)
            ],
        }

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that it reads; those that act_hf adds only where they are there."""
        return (*self.task.columns, columns.LABEL, columns.RATIONALE, columns.FAILURE + self.suffix)

    @property
    def features(self) -> Features:
        """The columns that it makes, with their types."""
        from datasets import Features

        types = columns.column_features(self.task, (columns.ERROR_PROB, columns.CRITIQUE, columns.FAILURE))
        return Features({name + self.suffix: kind for name, kind in types.items()})

    def ask(self, requests: Sequence[ScoreRequest | ChatRequest]) -> list[Answer]:
        """The model's answers, kept in the store."""
        return ask(self.model, requests, store=Store.of(self.store), version=self.version, usage=self.usage)


def _optional(batch: Mapping[str, list[Any]], name: str) -> list[Any]:
    values = batch.get(name)
    return [None] * len(batch[columns.LABEL]) if values is None else values


def criticize(
    dataset: Dataset,
    model: Model,
    *,
    strategy: str = "likelihood",
    task: Task | None = None,
    calibration: str = "none",
    suffix: str = "",
    store: Store | str | Path | None = None,
    batch_size: int | None = None,
    max_tokens: int | None = None,
    max_calls: int | None = None,
    max_cost: float | None = None,
) -> Dataset:
    """
    Adds the probability that each machine label is wrong.

    Args:
        dataset (`Dataset`): has `act_label` and the task's columns.
        model ([`Model`]): who criticizes.
        strategy (`str`, *optional*, defaults to `"likelihood"`): see [`Critic`].
        task ([`Task`], *optional*): defaults to the one the data set was annotated for.
        calibration (`str`, *optional*, defaults to `"none"`): what to do about a critic that likes some labels, or
            some numbers, whatever the row. `"batch"`: for `"likelihood"` as in [`annotate`], for the others the mean
            log-odds of each label are moved to the mean of all ([`centred`]). `"contextual"`: for `"likelihood"`, as
            in [`annotate`]. `"rank"`: only the order is kept, and becomes evenly spaced ([`ranked`]).
        suffix (`str`, *optional*): added to the names of the columns, for a second critic beside the first. Only
            `act_error_prob` without a suffix is sampled by, and only a failure without one is a failure of the row.
        store ([`Store`] or path, *optional*): where answers are kept. A second run asks for nothing again.
        batch_size (`int`, *optional*): as in [`annotate`].
        max_tokens (`int`, *optional*): the longest reasoning or reply; see [`Critic`].
        max_calls, max_cost (*optional*): the most requests, and US dollars, of this run; see [`Usage`].

    Returns:
        `Dataset`: the same rows with `act_error_prob` in [0, 1] and `act_critique`; both replaced where they were.

    Raises:
        ACTError: for a data set that was not annotated, or for other labels than the task's, or a model that cannot
            do it.
        LimitReached: at a limit. What was answered is in the store, and the same call goes on from there.
        Submitted: by a [`BatchEndpoint`] that is not to wait; the same call goes on from there too.
    """
    task = claimed_task(dataset, task)
    usage = Usage(max_calls, max_cost)
    critic = Critic(task, model, strategy, store, suffix=suffix, max_tokens=max_tokens, usage=usage)
    check_calibration(strategy, calibration)
    rows = batch_size or rows_at_once(model, task)
    with asked_ahead(dataset, critic, [model], usage=usage, batch_size=rows):
        if strategy == "likelihood" and calibration in ("batch", "contextual"):
            annotator = Annotator(task, model, store=critic.store, usage=usage)
            critic.prior = fit_prior(annotator, dataset, method=calibration, batch_size=rows)
        criticized = columns.map_columns(
            dataset, critic, critic.features, batch_size=rows, progress=f"criticize ({strategy})", usage=usage
        )
    if calibration == "rank" or (calibration == "batch" and strategy != "likelihood"):
        criticized = _recalibrated(criticized, critic, calibration)
    if not suffix:
        criticized = columns.forget_raw(criticized)
    return add_record(
        criticized,
        "criticize",
        **criticize_facts(model, strategy, calibration, suffix),
        prior=critic.prior,
        rows=len(criticized),
        failed=columns.count_failed(criticized, columns.FAILURE + suffix),
        usage=usage_facts(usage),
    )


def _unshown(row: Row) -> Verdict | None:
    problem = problem_of(row)
    return Verdict(failure=f"{STAGE} {problem}") if problem else None


def claimed_task(dataset: Dataset, task: Task | None) -> Task:
    """The task that `dataset` was labelled for, or `task`, after checking that they fit each other."""
    columns.require(dataset, [columns.LABEL], stage="criticize")
    task = task or recorded_task(dataset)
    task.check(dataset, stage="criticize")
    check_labels(task, columns.class_names(dataset, columns.LABEL))
    return task


def check_labels(task: Task, names: list[str]) -> None:
    """Raises [`ACTError`] unless the machine labels are those of the task."""
    if names != list(task.labels):
        raise ACTError(f"criticize: {columns.LABEL} has the labels {names}, but the task has {list(task.labels)}")


def criticize_facts(model: Model, strategy: str, calibration: str, suffix: str) -> dict[str, Any]:
    """What the record says of how labels were criticized, whatever came of it."""
    return {
        "model": model.name,
        "strategy": strategy,
        "suffix": suffix,
        "prompts": prompts.VERSION,
        "calibration": calibration,
    }


def check_calibration(strategy: str, calibration: str) -> None:
    """Raises [`ACTError`] for a calibration that there is not, or not for that strategy."""
    if calibration not in CALIBRATIONS:
        raise ACTError(f"calibration {calibration!r} is none of {', '.join(CALIBRATIONS)}")
    if calibration == "contextual" and strategy != "likelihood":
        raise ACTError(f"calibration='contextual' is for strategy='likelihood', not {strategy!r}; use 'batch'")


def _recalibrated(dataset: Dataset, critic: Critic, calibration: str) -> Dataset:
    """The same with a column of error probabilities that needed all of them to be known."""
    from act_hf.critics.fusion import centred, ranked

    name = columns.ERROR_PROB + critic.suffix
    plain = dataset.with_format(None)
    error_probs = np.array([np.nan if value is None else value for value in plain[name][:]], dtype=np.float64)
    if calibration == "rank":
        moved = ranked(error_probs)
    else:
        labels = np.array([-1 if label is None else label for label in plain[columns.LABEL][:]])
        moved = centred(error_probs, labels, len(critic.task.labels))
    values = [None if np.isnan(value) else float(value) for value in moved]
    recalibrated = columns.add_columns(plain, {name: values}, critic.features).select_columns(dataset.column_names)
    formatted: Dataset = recalibrated.with_format(dataset.format["type"], **dataset.format["format_kwargs"])
    return formatted
