"""Has models label and criticize for a comparison, each within what is left of its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns
from act_hf.annotators import COLUMNS as LABELLED
from act_hf.annotators import Annotator, annotate
from act_hf.comparison.facts import Took
from act_hf.comparison.measure import Doubts, Labels
from act_hf.critics import Critic, criticize
from act_hf.critics import check_calibration as check_critics_calibration
from act_hf.errors import ACTError
from act_hf.models.asking import LimitReached
from act_hf.models.base import Model, require_ability
from act_hf.priors import CALIBRATIONS
from act_hf.records import stage_records


if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasets import Dataset

    from act_hf.models.store import Store
    from act_hf.task import Task

Chosen = Model | Sequence[Model] | tuple[Model | Sequence[Model], Mapping[str, Any]]
"""A model, several that label together, or either with options."""

OPTIONS = ("strategy", "calibration", "max_tokens", "batch_size")
"""What may be said of how a model is asked; the rest is the same for all."""

PANEL = "panel"
"""The critic made of the other annotators' labels."""


@dataclass(frozen=True)
class Job:
    """
    An annotator or a critic.

    Args:
        name (`str`): what it is called.
        models (tuple of [`Model`]): one, or several that label together.
        options (`dict`): how it is asked.
    """

    name: str
    models: tuple[Model, ...]
    options: Mapping[str, Any]

    @property
    def calibration(self) -> str:
        """What is done about its preferences."""
        return str(self.options.get("calibration", "none"))

    @property
    def model_names(self) -> frozenset[str]:
        """Whose answers these are."""
        return frozenset(model.name for model in self.models)


def jobs_of(kind: type[Annotator | Critic], chosen: Mapping[str, Chosen], task: Task) -> list[Job]:
    """
    The annotators or critics that were given, checked as far as they can be before anything is asked.

    Args:
        kind (type): [`Annotator`] or [`Critic`].
        chosen (mapping of `str` to [`Chosen`]): them by name.
        task ([`Task`]): what is labelled.

    Raises:
        ACTError: naming who cannot do what it is to do, or what is no model or option.
    """
    jobs = [_job(kind, name, one) for name, one in chosen.items()]
    for job in jobs:
        try:
            _check(kind, job, task)
        except ACTError as error:
            raise ACTError(f"{_place(kind, job.name)}: {error}") from error
    return jobs


def _place(kind: type[Annotator | Critic], name: str) -> str:
    return f"compare: {'annotators' if kind is Annotator else 'critics'}[{name!r}]"


def _job(kind: type[Annotator | Critic], name: str, chosen: Chosen) -> Job:
    place = _place(kind, name)
    options: Mapping[str, Any] = {}
    if isinstance(chosen, tuple) and len(chosen) == 2 and isinstance(chosen[1], Mapping):
        chosen, options = chosen
    models = tuple(chosen) if isinstance(chosen, list | tuple) else (chosen,)
    for model in models:
        if not isinstance(model, Model):
            raise ACTError(f"{place} is {model!r}, not a model; load_model() makes one of a name")
    if not models or (kind is Critic and len(models) > 1):
        raise ACTError(f"{place} has {len(models)} models; give one")
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise ACTError(f"{place} has the option {unknown[0]!r}; the options are {', '.join(OPTIONS)}")
    return Job(str(name), models, dict(options))


def _check(kind: type[Annotator | Critic], job: Job, task: Task) -> None:
    """What the stage would refuse, before an earlier one is paid."""
    own = {name: value for name, value in job.options.items() if name in ("strategy", "max_tokens")}
    for model in job.models:
        asks = kind(task, model, **own)
        if isinstance(asks, Critic):
            check_critics_calibration(asks.strategy, job.calibration)
        elif job.calibration not in CALIBRATIONS:
            raise ACTError(f"calibration {job.calibration!r} is none of {', '.join(CALIBRATIONS)}")
        elif job.calibration != "none" or len(job.models) > 1:
            require_ability(model, "choose", purpose="calibration, or labelling together,")


@dataclass
class Runner:
    """
    Runs the stages one after the other, within limits on all of them together.

    Args:
        task ([`Task`]): what is labelled.
        store ([`Store`]): where answers are kept.
        max_calls, max_cost (*optional*): the limits.
        calls (`int`): requests sent.
        spent (`float`): US dollars paid.
    """

    task: Task
    store: Store
    max_calls: int | None = None
    max_cost: float | None = None
    calls: int = field(default=0, init=False)
    spent: float = field(default=0.0, init=False)

    def annotate(self, rows: Dataset, job: Job) -> tuple[Dataset, Labels]:
        """The labelled rows, and what there is to measure of them."""
        from datasets import concatenate_datasets

        with self._limited(f"annotators[{job.name!r}]") as left:
            made = annotate(rows, self.task, job.models, store=self.store, **job.options, **left)
        record = stage_records(made, "annotate")[-1]
        labels = np.array([-1 if label is None else label for label in made[columns.LABEL][:]], dtype=np.int64)
        sure = np.array([np.nan if probs is None else max(probs) for probs in made[columns.LABEL_PROBS][:]])
        took = self._took(record)
        # The rows as they were: a critic asks what an annotator asked only where no image was stored anew.
        labelled = concatenate_datasets([rows, made.select_columns(list(LABELLED))], axis=1)
        return labelled, Labels(job.name, record["model"], record["strategy"], job.calibration, labels, sure, took)

    def criticize(self, labelled: Dataset, annotator: Job, job: Job) -> Doubts:
        """What there is to measure of a critic of labelled rows."""
        with self._limited(f"critics[{job.name!r}] of {annotator.name!r}") as left:
            (model,) = job.models
            made = criticize(labelled, model, task=self.task, store=self.store, **job.options, **left)
        record = stage_records(made, "criticize")[-1]
        values = [np.nan if value is None else value for value in made[columns.ERROR_PROB][:]]
        return Doubts(
            annotator=annotator.name,
            critic=job.name,
            model=record["model"],
            strategy=record["strategy"],
            calibration=job.calibration,
            self_critique=model.name in annotator.model_names,
            error_probs=np.array(values, dtype=np.float64),
            took=self._took(record),
        )

    @contextmanager
    def _limited(self, who: str) -> Iterator[dict[str, Any]]:
        """What is left of the limits, and the error of a limit said of the whole comparison."""
        calls = None if self.max_calls is None else max(0, self.max_calls - self.calls)
        cost = None if self.max_cost is None else max(0.0, self.max_cost - self.spent)
        try:
            yield {"max_calls": calls, "max_cost": cost}
        except LimitReached as error:
            whole = f"max_calls={self.max_calls}, max_cost={self.max_cost} for all of it"
            raise LimitReached(f"compare ({whole}) at {who}: {error}") from error

    def _took(self, record: Mapping[str, Any]) -> Took:
        usage = record["usage"]
        self.calls += usage["calls"]
        self.spent += usage["spent"]
        names = ("requests", "calls", "tokens_in", "tokens_out", "cost", "seconds")
        return Took(**{name: usage[name] for name in names}, rows=record["rows"])
