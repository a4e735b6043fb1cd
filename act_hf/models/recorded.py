"""Recorded: published annotations of any model as a model, so that they run through every stage unchanged."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from act_hf import prompts
from act_hf.errors import ACTError
from act_hf.models.base import Answer, ChatRequest, require_ability
from act_hf.models.recordings import (
    Recording,
    by_content,
    check_label,
    content_digest,
    read_columns,
    read_table,
)


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from datasets import Dataset

    from act_hf.models.base import Request
    from act_hf.task import Task

_SUREST = 1 - 1e-4
"""No label gets a probability of 1: what is left for the others has a logarithm."""


@dataclass
class Recorded:
    """
    A model that answers from answers recorded earlier. Like an encoder it is shown the row and nothing else, and finds
    what was recorded for it by its content. It costs nothing, holds digests of the rows and not the rows, and pickles.

    It chats: the reply is the recorded reasoning and a last line `Answer: LABEL`. And it chooses, as a likelihood
    critic must and an annotator whose labels have probabilities, when there are confidences or `certainty` is given:
    the recorded label has that probability, and the others share the rest evenly. The recorded label stays the most
    probable one: a confidence that is not above an even share counts as just above it. All this is our choice; what a
    model said of one label says nothing about the others.

    Make one with [`Recorded.from_columns`] or [`Recorded.from_table`].

    Args:
        title (`str`): which model answered, and how it was asked: the first part of `name`.
        task ([`Task`]): the task whose labels and columns the recordings are of.
        recordings (mapping of `str` to [`Recording`]): by the [`content_digest`] of a row.
        certainty (`float`, *optional*): the probability of a label that was recorded without a confidence.
        model (`str`, *optional*): which model answered, however it was asked; the title by default.
        name (`str`): the title, and a digest of all that was recorded.

    Raises:
        ACTError: for a label that is not one of the task's, a certainty or confidence that is no probability, or
            confidences for some labels only and no `certainty` for the others.
    """

    title: str
    task: Task
    recordings: Mapping[str, Recording] = field(repr=False)
    certainty: float | None = None
    model: str = ""
    name: str = field(init=False)
    abilities: frozenset[str] = field(init=False, repr=False)
    instructed: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        self.model = self.model or self.title
        _check_probability(self.certainty, "certainty")
        labelled = [one for one in self.recordings.values() if one.label is not None]
        for one in labelled:
            check_label(one.label or 0, self.task)
            _check_probability(one.confidence, f"{self.title}: a confidence")
        unknown = sum(one.confidence is None for one in labelled)
        if self.certainty is None and 0 < unknown < len(labelled):
            raise ACTError(
                f"{self.title}: {unknown} of {len(labelled)} recorded labels have no confidence; say with certainty= "
                "how probable those are, or leave the confidences out"
            )
        chooses = self.certainty is not None or unknown < len(labelled)
        able = {"chat": True, "choose": chooses, "image": self.task.image is not None}
        self.abilities = frozenset(ability for ability, has in able.items() if has)
        self.name = f"{self.title} recorded@{self._digest()}"

    def _digest(self) -> str:
        """Of all that an answer depends on: other recordings are another model."""
        recorded = [(key, *astuple(one)) for key, one in sorted(self.recordings.items())]
        said = json.dumps([recorded, self.task.words, self.certainty])
        return hashlib.sha256(said.encode()).hexdigest()[:8]

    @classmethod
    def from_columns(
        cls,
        dataset: Dataset,
        task: Task,
        *,
        label: str,
        confidence: str | None = None,
        rationale: str | None = None,
        name: str | None = None,
        certainty: float | None = None,
    ) -> Recorded:
        """
        Answers that are columns of the data set they belong to.

        Rows with the same content get the first one's answer; a warning says how many had another label.

        Args:
            dataset (`Dataset`): has the task's columns and the ones named here.
            task ([`Task`]): what was labelled.
            label (`str`): the column of labels: a `ClassLabel`, ids in the order of the task's labels, or text, which
                is read as a model's reply is. `None` is "no recorded answer"; -1, and text that names no label, is
                "recorded as unparsed".
            confidence (`str`, *optional*): a column of probabilities that the label is right.
            rationale (`str`, *optional*): a column with the reasoning.
            name (`str`, *optional*): which model answered. Defaults to the label's column.
            certainty (`float`, *optional*): see [`Recorded`].

        Raises:
            ACTError: for a missing column, or a label that is not one of the task's.
        """
        title = name or label
        recordings = read_columns(dataset, task, label=label, confidence=confidence, rationale=rationale)
        return cls(title, task, by_content(dataset, task, recordings, title=title), certainty)

    @classmethod
    def from_table(
        cls,
        dataset: Dataset,
        task: Task,
        annotations: Dataset | str | Path,
        *,
        model: str,
        strategy: str | None = None,
        split: str | None = None,
        on: str = "id",
        certainty: float | None = None,
    ) -> Recorded:
        """
        Answers that are a table of their own, one row an answer, of one or more models.

        Rows with the same content get the first one's answer; a warning says how many had another label.

        Args:
            dataset (`Dataset`): has the task's columns and the column `on`.
            task ([`Task`]): what was labelled.
            annotations (`Dataset`, path or Hub id): has the columns `row_id`, `model` and `label` (an id in the order
                of the task's labels, -1 for a reply that named none), and may have `split`, `strategy`, `answer` (the
                reply), `confidence` and `text` (the reasoning).
            model (`str`): whose answers.
            strategy (`str`, *optional*): asked how. Needed when several were recorded for the model.
            split (`str`, *optional*): of which split. Needed when splits share row ids.
            on (`str`, *optional*, defaults to `"id"`): the data set's column that `row_id` is the value of.
            certainty (`float`, *optional*): see [`Recorded`].

        Raises:
            ACTError: for a model, strategy or split that was not recorded, naming those that were; for a missing
                column, two answers to one row, or no row in common.
        """
        title, recordings = read_table(dataset, annotations, model=model, strategy=strategy, split=split, on=on)
        return cls(title, task, by_content(dataset, task, recordings, title=title), certainty, model)

    def answer(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        """Looks up all rows at once; see [`Model.answer`]."""
        for request in requests:
            require_ability(self, request.ability, purpose="this request")
        yield {i: self._answer(request) for i, request in enumerate(requests)}

    def _answer(self, request: Request) -> Answer:
        found = self.recordings.get(content_digest(request.messages[-1]["content"]))
        if found is None:
            return Answer(failure="no recorded answer")
        if found.label is None:
            return Answer(failure=f"recorded as unparsed: {(found.reply or '')[:200]!r}")
        if isinstance(request, ChatRequest):
            line = f"{prompts.ANSWER} {self.task.words[found.label]}"
            return Answer(text=f"{found.rationale}\n{line}" if found.rationale else line)
        if request.continuations != self.task.sentences:
            raise ACTError(f"{self.name} knows the labels of its own task only, not {list(request.continuations)}")
        sure = self.certainty if found.confidence is None else found.confidence
        assert sure is not None, "a model that can choose has one for every label"
        return Answer(logprobs=_logprobs(found.label, sure, len(self.task.labels)))


def _logprobs(label: int, sure: float, labels: int) -> tuple[float, ...]:
    sure = min(max(sure, 1.01 / labels), _SUREST)
    logprobs = np.full(labels, np.log((1 - sure) / (labels - 1)))
    logprobs[label] = np.log(sure)
    return tuple(logprobs.tolist())


def _check_probability(value: float | None, what: str) -> None:
    if value is not None and not 0 <= value <= 1:
        raise ACTError(f"{what} is a probability from 0 to 1, not {value}")
