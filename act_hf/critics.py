"""Criticize: for every machine label, the probability that it is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns, prompts
from act_hf.annotators import Annotator, fit_prior, normalised_probs
from act_hf.errors import ACTError
from act_hf.models.base import ChatRequest, Model, ScoreRequest, require_ability
from act_hf.models.store import Store, Usage, ask
from act_hf.records import add_record, recorded_task, usage_facts
from act_hf.task import Row, Task


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from datasets import Dataset, Features

    from act_hf.models.base import Answer, Message


_STAGE = "criticize:"
"""How our failures begin: those of an earlier run are replaced, those of other stages are kept."""


@dataclass(frozen=True)
class Verdict:
    """What a critic says of one label: the probability that it is wrong and why, or why it says nothing."""

    error_prob: float | None = None
    critique: str | None = None
    failure: str | None = None


@dataclass
class Critic:
    """
    A batched callable for `Dataset.map`, `IterableDataset.map` or `ray.data.map_batches`.

    Strategies of the paper (the prompts are ours; the paper's are not published):

    - `"naive"`: asks for the probability that the label is wrong. Needs a model that can chat.
    - `"cot"`: the same after reasoning, which is kept as `act_critique`. Needs a model that can chat.
    - `"logit"`: P(yes) / (P(yes) + P(no)) on "is this label wrong?", over several spellings of each. Needs a model
      that can score.

    And beyond the paper:

    - `"likelihood"`: 1 - P(label), where P is the model's own distribution over the labels. It costs as much as
      annotating, and small models do better by it than by being asked. Needs a model that can score; an
      [`EncoderModel`] will do.

    Args:
        task ([`Task`]): what was labelled.
        model ([`Model`]): who criticizes; a different one from the annotator does better.
        strategy (`str`, *optional*, defaults to `"likelihood"`): one of the above.
        store ([`Store`] or path, *optional*): where answers are kept; see [`Store`].
        prior (tuple of `float`, *optional*): for `"likelihood"`, as in [`Annotator`].
        suffix (`str`, *optional*): added to the names of the columns, for a second critic beside the first. What it
            fails on is then no failure of the row.
        max_tokens (`int`, *optional*, defaults to 160): the longest reasoning or reply.

    Raises:
        ACTError: for an unknown strategy, or a model that cannot do what it needs, before anything is asked.
    """

    task: Task
    model: Model
    strategy: str = "likelihood"
    store: Store | str | Path | None = None
    prior: tuple[float, ...] | None = None
    suffix: str = ""
    max_tokens: int = 160
    version: str = field(default=prompts.VERSION, init=False, repr=False)  # as in Annotator
    usage: Usage = field(default_factory=Usage, init=False, repr=False)

    def __post_init__(self) -> None:
        self.store = Store.of(self.store)
        if self.strategy not in STRATEGIES:
            raise ACTError(f"critic strategy {self.strategy!r} is none of {', '.join(STRATEGIES)}")
        ability, instructed, _ = STRATEGIES[self.strategy]
        require_ability(self.model, ability, purpose=f"the critic strategy {self.strategy!r}")
        if instructed and not self.model.instructed:
            raise ACTError(
                f"the critic strategy {self.strategy!r} asks a question, but {self.model.name} takes no instructions; "
                "use strategy='likelihood' with it"
            )

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Annotated rows in; `act_error_prob`, `act_critique` and `act_failure` out. Rows without a label get none."""
        labels = batch[columns.LABEL]
        rows = self.task.rows(batch)
        labelled = [(row, label) for row, label in zip(rows, labels, strict=True) if label is not None]
        _, _, judge = STRATEGIES[self.strategy]
        judged = iter(judge(self, [row for row, _ in labelled], [label for _, label in labelled]))
        verdicts = [Verdict() if label is None else next(judged) for label in labels]
        failures = batch.get(columns.FAILURE + self.suffix) or [None] * len(labels)
        return {
            columns.ERROR_PROB + self.suffix: [verdict.error_prob for verdict in verdicts],
            columns.CRITIQUE + self.suffix: [verdict.critique for verdict in verdicts],
            columns.FAILURE + self.suffix: [
                verdict.failure if earlier is None or earlier.startswith(_STAGE) else earlier
                for earlier, verdict in zip(failures, verdicts, strict=True)
            ],
        }

    @property
    def features(self) -> Features:
        """The columns that it makes, with their types."""
        from datasets import Features

        types = columns.column_features(self.task, (columns.ERROR_PROB, columns.CRITIQUE, columns.FAILURE))
        return Features({name + self.suffix: kind for name, kind in types.items()})

    def ask(self, requests: Sequence[ScoreRequest | ChatRequest]) -> list[Answer]:
        """The model's answers, kept in the store."""
        return ask(self.model, requests, store=Store.of(self.store), version=self.version, usage=self.usage)


def _logit(critic: Critic, rows: Sequence[Row], labels: Sequence[int]) -> list[Verdict]:
    spellings = prompts.YES + prompts.NO
    asked = [prompts.criticize_logit(critic.task, row, label) for row, label in zip(rows, labels, strict=True)]
    answers = critic.ask([ScoreRequest(messages, spellings) for messages in asked])
    return [_failed(answer) or _yes_or_no(answer.logprobs) for answer in answers]


def _yes_or_no(logprobs: Sequence[float]) -> Verdict:
    if not np.isfinite(np.max(logprobs)):  # all impossible, or one of them no number
        return Verdict(failure=f"{_STAGE} the model gave {list(logprobs)} for the spellings of yes and no")
    yes = np.logaddexp.reduce(logprobs[: len(prompts.YES)])
    no = np.logaddexp.reduce(logprobs[len(prompts.YES) :])
    error_prob = float(1 / (1 + np.exp(np.clip(no - yes, -700, 700))))
    return Verdict(error_prob, f'asked "is the label wrong?": yes {error_prob:.0%}, no {1 - error_prob:.0%}')


def _likelihood(critic: Critic, rows: Sequence[Row], labels: Sequence[int]) -> list[Verdict]:
    instructed = critic.model.instructed
    answers = critic.ask([prompts.label_request(critic.task, row, instructed=instructed) for row in rows])
    return [
        _failed(answer) or _likely(critic.task, normalised_probs(np.array([answer.logprobs]), critic.prior)[0], label)
        for answer, label in zip(answers, labels, strict=True)
    ]


def _likely(task: Task, probs: Any, label: int) -> Verdict:
    if not np.isfinite(probs).all():
        return Verdict(failure=f"{_STAGE} the model gave label probabilities {probs.tolist()}")
    best = int(probs.argmax())
    other = "" if best == label else f', and {probs[best]:.0%} to "{task.words[best]}"'
    return Verdict(float(1 - probs[label]), f'gives {probs[label]:.0%} to "{task.words[label]}"{other}')


def _naive(critic: Critic, rows: Sequence[Row], labels: Sequence[int]) -> list[Verdict]:
    return _verbalised(critic, rows, labels, prompts.criticize_naive)


def _cot(critic: Critic, rows: Sequence[Row], labels: Sequence[int]) -> list[Verdict]:
    return _verbalised(critic, rows, labels, prompts.criticize_cot)


def _verbalised(
    critic: Critic, rows: Sequence[Row], labels: Sequence[int], asks: Callable[..., tuple[Message, ...]]
) -> list[Verdict]:
    asked = [asks(critic.task, row, label) for row, label in zip(rows, labels, strict=True)]
    replies = critic.ask([ChatRequest(messages, critic.max_tokens) for messages in asked])
    return [_failed(reply) or _stated(reply.text) for reply in replies]


def _failed(answer: Answer) -> Verdict | None:
    return Verdict(failure=f"{_STAGE} {answer.failure}") if answer.failure else None


def _stated(reply: str) -> Verdict:
    error_prob = prompts.parse_probability(reply)
    if error_prob is None:
        return Verdict(critique=reply, failure=f"{_STAGE} no single probability in the reply {reply[:200]!r}")
    return Verdict(error_prob, reply)


STRATEGIES: dict[str, tuple[str, bool, Callable[[Critic, Sequence[Row], Sequence[int]], list[Verdict]]]] = {
    "naive": ("chat", True, _naive),
    "cot": ("chat", True, _cot),
    "logit": ("score", True, _logit),
    "likelihood": ("score", False, _likelihood),
}
"""Name to: the ability it needs, whether it asks a question, and what judges rows and labels."""


def criticize(
    dataset: Dataset,
    model: Model,
    *,
    strategy: str = "likelihood",
    task: Task | None = None,
    calibration: str = "none",
    suffix: str = "",
    store: Store | str | Path | None = None,
    batch_size: int = 64,
    max_tokens: int = 160,
) -> Dataset:
    """
    Adds the probability that each machine label is wrong.

    Args:
        dataset (`Dataset`): has `act_label` and the task's columns.
        model ([`Model`]): who criticizes.
        strategy (`str`, *optional*, defaults to `"likelihood"`): see [`Critic`].
        task ([`Task`], *optional*): defaults to the one the data set was annotated for.
        calibration (`str`, *optional*, defaults to `"none"`): for `"likelihood"`, as in [`annotate`].
        suffix (`str`, *optional*): added to the names of the columns, for a second critic beside the first. Only
            `act_error_prob` without a suffix is sampled by, and only a failure without one is a failure of the row.
        store ([`Store`] or path, *optional*): where answers are kept. A second run asks for nothing again.
        batch_size (`int`, *optional*, defaults to 64): rows handed to the model at once.
        max_tokens (`int`, *optional*, defaults to 160): the longest reasoning or reply.

    Returns:
        `Dataset`: the same rows with `act_error_prob` in [0, 1] and `act_critique`; both replaced where they were.

    Raises:
        ACTError: for a data set that was not annotated, or for other labels than the task's, or a model that cannot
            do it.
    """
    columns.require(dataset, [columns.LABEL], stage="criticize")
    task = task or recorded_task(dataset)
    task.check(dataset, stage="criticize")
    names = columns.class_names(dataset, columns.LABEL)
    if names != list(task.labels):
        raise ACTError(f"criticize: {columns.LABEL} has the labels {names}, but the task has {list(task.labels)}")
    critic = Critic(task, model, strategy, store, suffix=suffix, max_tokens=max_tokens)
    if calibration != "none":
        critic.prior = _fit_prior(critic, dataset, calibration, batch_size)
    criticized = columns.map_columns(
        dataset, critic, critic.features, batch_size=batch_size, progress=f"criticize ({strategy})"
    )
    return add_record(
        criticized,
        "criticize",
        model=model.name,
        strategy=strategy,
        suffix=suffix,
        prompts=prompts.VERSION,
        calibration=calibration,
        prior=critic.prior,
        rows=len(criticized),
        failed=columns.count_failed(criticized, columns.FAILURE + suffix),
        usage=usage_facts(critic.usage),
    )


def _fit_prior(critic: Critic, dataset: Dataset, calibration: str, batch_size: int) -> tuple[float, ...]:
    if critic.strategy != "likelihood":
        raise ACTError(f"calibration={calibration!r} is for strategy='likelihood', not {critic.strategy!r}")
    annotator = Annotator(critic.task, critic.model, store=critic.store)
    prior = fit_prior(annotator, dataset, method=calibration, batch_size=batch_size)
    critic.usage = annotator.usage
    return prior
