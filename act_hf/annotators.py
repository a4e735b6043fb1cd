"""Annotate: a machine label for every row, with its probability where the model gives one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns, prompts
from act_hf.errors import ACTError
from act_hf.models.asking import Usage, ask, rows_at_once
from act_hf.models.base import Answer, ChatRequest, Model, ScoreRequest, require_ability, require_model
from act_hf.models.deferred import asked_ahead
from act_hf.models.store import Store
from act_hf.priors import fit_prior, normalised_logprobs
from act_hf.records import add_record, usage_facts
from act_hf.task import Row, Task, problem_of


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from datasets import Dataset, Features
    from numpy.typing import NDArray

    from act_hf.ensemble import Ensemble


STRATEGIES = ("naive", "cot")
COLUMNS = (columns.ID, columns.LABEL, columns.LABEL_PROBS, columns.RATIONALE, columns.FAILURE)


@dataclass(frozen=True)
class Labelled:
    """What a model said of one row: a label with its probabilities and reasoning, or why there is none."""

    label: int | None = None
    probs: list[float] | None = None
    rationale: str | None = None
    failure: str | None = None


@dataclass
class Annotator:
    """
    A batched callable for `Dataset.map`, `IterableDataset.map` or `ray.data.map_batches`.

    Where the model can choose, the label is the most probable one and its probabilities are kept; where it can only
    chat, the reply is parsed. A reply that names no label is asked about once more, and then becomes `act_failure`.

    Args:
        task ([`Task`]): what to label.
        model ([`Model`]): who labels.
        strategy (`str`, *optional*, defaults to `"naive"`): `"naive"` asks for the label, `"cot"` for reasoning first
            (the paper's two annotator promptings).
        store ([`Store`] or path, *optional*): where answers are kept; see [`Store`].
        prior (tuple of `float`, *optional*): a log-probability a label, subtracted from the model's before they are
            normalised; [`fit_prior`] makes one. Needs a model that can choose.
        max_tokens (`int`, *optional*, defaults to 160): the longest reasoning or reply.
        usage ([`Usage`], *optional*): counts what is asked, and limits it.

    Raises:
        ACTError: for an unknown strategy, or a model that cannot do what it needs, before anything is asked.
    """

    task: Task
    model: Model
    strategy: str = "naive"
    store: Store | str | Path | None = None
    prior: tuple[float, ...] | None = None
    max_tokens: int = 160
    usage: Usage = field(default_factory=Usage, repr=False)
    # `datasets` hashes it where the object is mapped directly: its cache must not outlive a change of prompts.
    version: str = field(default=prompts.VERSION, init=False, repr=False)

    def __post_init__(self) -> None:
        require_model(self.model, stage="annotate")
        self.store = Store.of(self.store)
        if self.strategy not in STRATEGIES:
            raise ACTError(f"annotator strategy {self.strategy!r} is none of {', '.join(STRATEGIES)}")
        if self.strategy == "cot" or not self.chooses:
            require_ability(self.model, "chat", purpose=f"the annotator strategy {self.strategy!r}")
        if self.prior is not None:
            require_ability(self.model, "choose", purpose="calibrating label probabilities")
        if self.task.image:
            require_ability(self.model, "image", purpose=f"the image column {self.task.image!r}")

    @property
    def chooses(self) -> bool:
        """Whether labels come with probabilities."""
        return "choose" in self.model.abilities

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return self.task.columns

    @property
    def features(self) -> Features:
        """The columns that it makes, with their types."""
        return columns.column_features(self.task, COLUMNS)

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Rows with the task's columns in; `act_id`, the label columns and `act_failure` out."""
        return labelled_columns(self.task, batch, self.label)

    def label(self, rows: Sequence[Row]) -> list[Labelled]:
        """Labels rows that have content."""
        if not self.chooses:
            return self._parse(rows)
        logprobs, partial = self.label_logprobs(rows)
        return [choose(values, said) for values, said in zip(logprobs, partial, strict=True)]

    def label_logprobs(self, rows: Sequence[Row]) -> tuple[NDArray[np.float64], list[Labelled]]:
        """
        The log-probability of every label, with the prior taken out and normalised.

        Returns:
            `tuple`: a float64 array `[rows, labels]`, NaN where the model failed, and for each row the reasoning that
            led there or the failure.
        """
        logprobs, partial = self.raw_logprobs(rows)
        return normalised_logprobs(logprobs, self.prior), partial

    def raw_logprobs(self, rows: Sequence[Row]) -> tuple[NDArray[np.float64], list[Labelled]]:
        """As [`Annotator.label_logprobs`], as the model gave them."""
        replies = self._ask(self._chat_requests(rows)) if self.strategy == "cot" else [Answer()] * len(rows)
        pairs = zip(rows, replies, strict=True)
        asked = iter(self._ask([self._score_request(row, reply) for row, reply in pairs if not reply.failure]))
        answers = [reply if reply.failure else next(asked) for reply in replies]
        unknown = (np.nan,) * len(self.task.labels)
        logprobs = [unknown if answer.failure else answer.logprobs for answer in answers]
        partial = [
            Labelled(rationale=self._rationale(reply), failure=answer.failure)
            for reply, answer in zip(replies, answers, strict=True)
        ]
        return np.array(logprobs, dtype=np.float64).reshape(len(rows), len(self.task.labels)), partial

    def _chat_requests(self, rows: Sequence[Row]) -> list[ChatRequest]:
        request = prompts.rationale_request if self.strategy == "cot" else prompts.annotate_request
        instructed = self.model.instructed
        return [request(self.task, row, instructed=instructed, max_tokens=self.max_tokens) for row in rows]

    def _rationale(self, reply: Answer) -> str | None:
        return prompts.reasoning(reply.text) if self.strategy == "cot" else None

    def _score_request(self, row: Row, reply: Answer) -> ScoreRequest:
        if self.strategy == "cot" and self.model.instructed:
            return prompts.conclude_request(self.task, row, prompts.reasoning(reply.text))
        return prompts.label_request(self.task, row, instructed=self.model.instructed)

    def _parse(self, rows: Sequence[Row]) -> list[Labelled]:
        requests = self._chat_requests(rows)
        replies = self._ask(requests)
        labels = [self._read(row, reply) for row, reply in zip(rows, replies, strict=True)]
        unread = [
            i for i, label in enumerate(labels) if label is None and not replies[i].failure and self.model.instructed
        ]
        repairs = self._ask([prompts.repair_label(self.task, requests[i], replies[i].text) for i in unread])
        for i, repair in zip(unread, repairs, strict=True):
            labels[i] = self._read(rows[i], repair)
        return [self._labelled(label, reply) for label, reply in zip(labels, replies, strict=True)]

    def _read(self, row: Row, reply: Answer) -> int | None:
        return None if reply.failure else prompts.parse_label(self.task, reply.text, row)

    def _labelled(self, label: int | None, reply: Answer) -> Labelled:
        if label is None:
            reason = reply.failure or f"no single label in the reply {reply.text[:200]!r}"
            return Labelled(rationale=self._rationale(reply), failure=f"annotate: {reason}")
        return Labelled(label, None, self._rationale(reply))

    def _ask(self, requests: Sequence[ScoreRequest | ChatRequest]) -> list[Answer]:
        return ask(self.model, requests, store=Store.of(self.store), version=self.version, usage=self.usage)


def labelled_columns(
    task: Task, batch: Mapping[str, list[Any]], label: Callable[[Sequence[Row]], list[Labelled]]
) -> dict[str, list[Any]]:
    """The columns of a labelled batch; `label` is shown the rows that can be shown."""
    rows = task.rows(batch)
    problems = [problem_of(row) for row in rows]
    remaining = iter(label([row for row, problem in zip(rows, problems, strict=True) if problem is None]))
    results = [
        next(remaining) if problem is None else Labelled(failure=f"annotate: {problem}") for problem in problems
    ]
    return {
        columns.ID: [task.row_id(row) for row in rows],
        columns.LABEL: [result.label for result in results],
        columns.LABEL_PROBS: [result.probs for result in results],
        columns.RATIONALE: [result.rationale for result in results],
        columns.FAILURE: [result.failure for result in results],
    }


def choose(logprobs: NDArray[np.float64], said: Labelled) -> Labelled:
    """The most probable label of a row, given the normalised log-probability of each."""
    if said.failure or not np.isfinite(logprobs).all():
        reason = said.failure or f"the model gave {logprobs.tolist()}"
        return Labelled(rationale=said.rationale, failure=f"annotate: {reason}")
    probs = np.exp(logprobs)
    return Labelled(int(probs.argmax()), probs.tolist(), said.rationale)


def annotate(
    dataset: Dataset,
    task: Task,
    model: Model | Sequence[Model],
    *,
    strategy: str = "naive",
    calibration: str = "none",
    store: Store | str | Path | None = None,
    batch_size: int | None = None,
    max_tokens: int = 160,
    max_calls: int | None = None,
    max_cost: float | None = None,
) -> Dataset:
    """
    Adds a machine label to every row.

    Rows with the same content are asked once and get the same label and the same `act_id`.

    Args:
        dataset (`Dataset`): has the task's columns, and no `act_label` yet.
        task ([`Task`]): what to label.
        model ([`Model`] or sequence of them): who labels; of several that can choose, the mean of their
            log-probabilities decides (see [`Ensemble`]).
        strategy (`str`, *optional*, defaults to `"naive"`): see [`Annotator`].
        calibration (`str`, *optional*, defaults to `"none"`): `"batch"` or `"contextual"` take out the model's
            preference for some labels whatever the row; see [`fit_prior`]. Small models need it.
        store ([`Store`] or path, *optional*): where answers are kept. A second run asks for nothing again.
        batch_size (`int`, *optional*): rows handed to the model at once; by default 64, or enough to keep an
            [`Endpoint`] busy (128 times its concurrency, 8 times where there are images).
        max_tokens (`int`, *optional*, defaults to 160): the longest reasoning or reply.
        max_calls, max_cost (*optional*): the most requests, and US dollars, of this run; see [`Usage`].

    Returns:
        `Dataset`: the same rows with `act_id`, `act_label`, `act_label_probs`, `act_rationale`, `act_failure`.

    Raises:
        ACTError: for a data set that does not fit the task or is labelled already, or a model that cannot do it.
        LimitReached: at a limit. What was answered is in the store, and the same call goes on from there.
        Submitted: by a [`BatchEndpoint`] that is not to wait; the same call goes on from there too.
    """
    task.check(dataset, stage="annotate")
    if columns.LABEL in dataset.column_names:
        raise ACTError(f"annotate: the data set has {columns.LABEL!r} already; machine labels are never overwritten")
    usage = Usage(max_calls, max_cost)
    models = models_of(model)
    annotator, members = annotator_of(task, models, strategy, store, max_tokens=max_tokens, usage=usage)
    rows = batch_size or max(rows_at_once(one, task) for one in models)
    with asked_ahead(dataset, annotator, models, usage=usage, batch_size=rows):
        if calibration != "none":
            for member in members:
                member.prior = fit_prior(member, dataset, method=calibration, batch_size=rows)
        annotated = columns.map_columns(
            dataset, annotator, annotator.features, batch_size=rows, progress="annotate", usage=usage
        )
    return add_record(
        annotated,
        "annotate",
        **annotate_facts(task, models, strategy, calibration),
        prior=members[0].prior if len(members) == 1 else [member.prior for member in members],
        rows=len(annotated),
        failed=columns.count_failed(annotated),
        usage=usage_facts(usage),
    )


def models_of(model: Model | Sequence[Model]) -> tuple[Model, ...]:
    """One model or several, as several."""
    return tuple(model) if isinstance(model, Sequence) and not isinstance(model, str) else (model,)


def annotator_of(
    task: Task,
    models: Sequence[Model],
    strategy: str,
    store: Store | str | Path | None,
    *,
    max_tokens: int,
    usage: Usage,
) -> tuple[Annotator | Ensemble, tuple[Annotator, ...]]:
    """The stage that labels with `models`, and the annotator of each of them."""
    from act_hf.ensemble import Ensemble

    members = tuple(Annotator(task, one, strategy, store, max_tokens=max_tokens, usage=usage) for one in models)
    return members[0] if len(members) == 1 else Ensemble(members), members


def annotate_facts(task: Task, models: Sequence[Model], strategy: str, calibration: str) -> dict[str, Any]:
    """What the record says of how rows were labelled, whatever came of it."""
    return {
        "task": task.to_dict(),
        "model": " + ".join(one.name for one in models),
        "strategy": strategy,
        "prompts": prompts.VERSION,
        "calibration": calibration,
    }
