"""A stage run on the store alone: what its answers took, and which rows it would still have to ask about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from act_hf import columns, prompts
from act_hf.annotators import Annotator
from act_hf.critics import Critic
from act_hf.ensemble import Ensemble
from act_hf.judges import STRATEGIES
from act_hf.models.asking import Usage
from act_hf.models.base import Answer
from act_hf.models.store import request_key


if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from act_hf.models.base import Model, Request

    Batch = Mapping[str, list[Any]]

Stage = Annotator | Ensemble | Critic


@dataclass
class Taken(Usage):
    """A [`Usage`] that counts the calls of stored answers too."""

    def used(self, answers: Collection[Answer]) -> None:
        """As [`Usage.used`]."""
        super().used(answers)
        self.calls += sum(answer.calls for answer in answers)


class Understudy:
    """
    Stands in for a model and leaves everything unanswered, since all it knows is in the store.

    Args:
        model ([`Model`]): whom it stands in for.

    Attributes:
        missing (`set` of `str`): the keys of what it was asked.
    """

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.abilities = model.abilities
        self.instructed = model.instructed
        self.missing: set[str] = set()

    def answer(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        """A failure for every request. Failures are not stored."""
        self.missing.update(request_key(self.name, prompts.VERSION, request) for request in requests)
        yield {number: Answer(calls=0, failure="it is not in the store") for number in range(len(requests))}


@dataclass(frozen=True)
class Rehearsed:
    """
    A stage that was run on a batch without asking its model anything.

    Args:
        stage ([`Annotator`], [`Ensemble`] or [`Critic`]): the stage.
        batch (mapping of `str` to `list`): the rows.
        made (`dict` of `str` to `list`): the columns that it made. Rows whose answers are not in the store failed.
        usage ([`Usage`]): what the answers took.
        missing (`set` of `str`): keys of what was not in the store.
    """

    stage: Stage
    batch: Batch
    made: dict[str, list[Any]]
    usage: Usage
    missing: set[str]

    def answered(self, promised: Collection[str] = ()) -> list[bool]:
        """For each row, whether nothing is left to ask but what is `promised`: keys of what will be asked anyway."""
        rows = len(next(iter(self.batch.values())))
        missing = self.missing.difference(promised)
        # Mostly a run is all there or not begun. Only where it is not does this take a closer look.
        if not missing:
            return [True] * rows
        if rows == 1 or len(missing) == self.usage.requests:
            return [False] * rows
        halves = (rehearse(self.stage, half) for half in _parts(self.batch, -(-rows // 2)))
        return [there for half in halves for there in half.answered(promised)]


def rehearse(stage: Stage, batch: Batch) -> Rehearsed:
    """Runs `stage` on rows that it would ask about, each different, without asking its model anything."""
    usage = Taken()
    understudies = [Understudy(member.model) for member in members_of(stage)]
    rehearsing = [
        replace(member, model=understudy, usage=usage)
        for member, understudy in zip(members_of(stage), understudies, strict=True)
    ]
    made = Ensemble(tuple(rehearsing))(batch) if isinstance(stage, Ensemble) else rehearsing[0](batch)
    return Rehearsed(stage, batch, made, usage, set().union(*(understudy.missing for understudy in understudies)))


def members_of(stage: Stage) -> tuple[Any, ...]:
    """Who asks: the annotators of an ensemble, or the stage itself."""
    return stage.members if isinstance(stage, Ensemble) else (stage,)


def usages(stage: Stage, batch: Batch) -> list[Usage]:
    """What the stored answers about each row took."""
    return [rehearse(stage, row).usage for row in _parts(batch, 1)]


def stored_rows(stages: Sequence[Stage], batch: Batch) -> Iterator[list[bool]]:
    """
    For each stage, for each row of a batch: whether its answers are in the store, or will be by an earlier stage.

    Args:
        stages (sequence of [`Annotator`] and [`Critic`]): the annotator first, where there is one.
        batch (mapping of `str` to `list`): different rows with content; with their labels where nobody annotates.
    """
    labelled = [True] * len(next(iter(batch.values())))
    promised: set[str] = set()
    for stage in stages:
        if not isinstance(stage, Critic):
            rehearsed = rehearse(stage, batch)
            labelled = there = rehearsed.answered()
            batch = {**batch, **rehearsed.made}
        else:
            rehearsed, shown = _claims(stage, batch, labelled)
            found = dict(zip(shown, rehearsed.answered(promised), strict=True))
            # A row that failed for good is not criticized; one that has no label yet will be.
            there = [found.get(number, known) for number, known in enumerate(labelled)]
        promised |= rehearsed.missing
        yield there


def _claims(critic: Critic, batch: Batch, labelled: Sequence[bool]) -> tuple[Rehearsed, list[int]]:
    """What is known of the rows that have a label, and which these are."""
    labels = batch[columns.LABEL]
    if not STRATEGIES[critic.strategy].asks:  # the same question whatever the label
        labels = [label if there else 0 for label, there in zip(labels, labelled, strict=True)]
    shown = [number for number, label in enumerate(labels) if label is not None]
    claimed = {**batch, columns.LABEL: labels}
    return rehearse(critic, {name: [values[i] for i in shown] for name, values in claimed.items()}), shown


def _parts(batch: Batch, size: int) -> Iterator[dict[str, list[Any]]]:
    rows = len(next(iter(batch.values())))
    for start in range(0, rows, size):
        yield {name: values[start : start + size] for name, values in batch.items()}
