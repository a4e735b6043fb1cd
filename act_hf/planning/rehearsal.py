"""A stage run on known answers alone: what they took, and which rows it would still have to ask about."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from act_hf import columns, prompts
from act_hf.annotators import Annotator
from act_hf.critics import Critic
from act_hf.critics.strategies import STRATEGIES
from act_hf.ensemble import Ensemble
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
    """
    A [`Usage`] of one model that counts the calls of known answers too, and has their cost at the prices of now.

    Args:
        model ([`Model`], *optional*): whose answers. One with a method `cost_of` says with it what they cost now.
        clocked (`set` of `float`): the times on the answers. A model that answers in batches splits a batch's time
            evenly, so two answers with the very same one are of one batch.
    """

    model: Model | None = None
    clocked: set[float] = field(default_factory=set, init=False)

    def paid(self, kind: str, answers: Collection[Answer]) -> None:
        """Nothing is paid for what was known."""

    def used(self, answers: Collection[Answer]) -> None:
        """As [`Usage.used`]."""
        super().used([replace(answer, cost=_cost_now(self.model, answer)) for answer in answers])
        self.calls += sum(answer.calls for answer in answers)
        self.clocked.update(answer.seconds for answer in answers if answer.seconds)


def _cost_now(model: Model | None, answer: Answer) -> float | None:
    cost_of = getattr(model, "cost_of", None)
    cost: float | None = cost_of(answer) if cost_of else None
    return answer.cost if cost is None else cost  # what was paid is the best guess where there is no price now


class Witness:
    """
    A model whose answers are kept for a rehearsal, those included that no store keeps: the failures.

    Args:
        model ([`Model`]): who answers.
        heard (`dict` of `str` to [`Answer`]): where its answers are kept, by key.
    """

    def __init__(self, model: Model, heard: dict[str, Answer]) -> None:
        self.model = model
        self.name = model.name
        self.abilities = model.abilities
        self.instructed = model.instructed
        self.heard = heard

    def answer(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        """What the model answers."""
        answers = self.model.answer(requests)
        try:
            for finished in answers:
                self.heard.update({_key(self.name, requests[number]): answer for number, answer in finished.items()})
                yield finished
        finally:
            # A model that has requests in flight is told when nobody waits for them any more.
            if isinstance(answers, Generator):
                answers.close()


class Understudy:
    """
    Stands in for a model and says only what was heard of it, since all else that is known is in the store.

    Args:
        model ([`Model`]): whom it stands in for.
        heard (mapping of `str` to [`Answer`], *optional*): its answers that are not in the store, by key.

    Attributes:
        missing (`set` of `str`): the keys of what it was asked.
    """

    def __init__(self, model: Model, heard: Mapping[str, Answer] | None = None) -> None:
        self.name = model.name
        self.abilities = model.abilities
        self.instructed = model.instructed
        self.heard = heard or {}
        self.missing: set[str] = set()

    def answer(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        """What was heard, and a failure for every other request. Failures are not stored."""
        keys = [_key(self.name, request) for request in requests]
        self.missing.update(keys)
        unknown = Answer(calls=0, failure="it is not in the store")
        yield {number: self.heard.get(key, unknown) for number, key in enumerate(keys)}


def _key(model: str, request: Request) -> str:
    return request_key(model, prompts.VERSION, request)


@dataclass(frozen=True)
class Rehearsed:
    """
    A stage that was run on a batch without asking its model anything.

    Args:
        stage ([`Annotator`], [`Ensemble`] or [`Critic`]): the stage.
        batch (mapping of `str` to `list`): the rows.
        made (`dict` of `str` to `list`): the columns that it made. Rows whose answers are not in the store failed.
        taken (list of [`Taken`]): what the answers of each model took.
        missing (`set` of `str`): keys of what was not in the store.
    """

    stage: Stage
    batch: Batch
    made: dict[str, list[Any]]
    taken: list[Taken]
    missing: set[str]

    def answered(self, promised: Collection[str] = ()) -> list[bool]:
        """For each row, whether nothing is left to ask but what is `promised`: keys of what will be asked anyway."""
        rows = len(next(iter(self.batch.values())))
        missing = self.missing.difference(promised)
        # Mostly a run is all there or not begun. Only where it is not does this take a closer look.
        if not missing:
            return [True] * rows
        if rows == 1 or len(missing) == sum(taken.requests for taken in self.taken):
            return [False] * rows
        halves = (rehearse(self.stage, half) for half in _parts(self.batch, -(-rows // 2)))
        return [there for half in halves for there in half.answered(promised)]


def rehearse(stage: Stage, batch: Batch, heard: Mapping[str, Answer] | None = None) -> Rehearsed:
    """Runs `stage` on rows that it would ask about, each different, without asking its model anything."""
    understudies = [Understudy(member.model, heard) for member in members_of(stage)]
    taken = [Taken(model=member.model) for member in members_of(stage)]
    parts = [{"model": model, "usage": usage} for model, usage in zip(understudies, taken, strict=True)]
    made = _recast(stage, parts)(batch)
    return Rehearsed(stage, batch, made, taken, set().union(*(understudy.missing for understudy in understudies)))


def witnessed(stage: Stage, heard: dict[str, Answer]) -> Stage:
    """The same stage, whose models' answers are kept in `heard`."""
    return _recast(stage, [{"model": Witness(member.model, heard)} for member in members_of(stage)])


def _recast(stage: Stage, parts: Sequence[dict[str, Any]]) -> Stage:
    """The same stage with something else in each of its members."""
    members = [replace(member, **part) for member, part in zip(members_of(stage), parts, strict=True)]
    return Ensemble(tuple(members)) if isinstance(stage, Ensemble) else members[0]


def members_of(stage: Stage) -> tuple[Any, ...]:
    """Who asks: the annotators of an ensemble, or the stage itself."""
    return stage.members if isinstance(stage, Ensemble) else (stage,)


def usages(stage: Stage, batch: Batch, heard: Mapping[str, Answer]) -> list[list[Taken]]:
    """For each model of a stage, what the answers about each row took: those in the store, and those just `heard`."""
    rows = [rehearse(stage, row, heard).taken for row in _parts(batch, 1)]
    return [list(member) for member in zip(*rows, strict=True)]


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
