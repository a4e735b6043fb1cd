"""How a model is asked: each question once, within limits, and counted."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from act_hf.errors import ACTError
from act_hf.models.base import Answer
from act_hf.models.deferred import Deferred
from act_hf.models.store import request_key


if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from act_hf.models.base import Model, Request
    from act_hf.models.store import Store
    from act_hf.task import Task


_NOT_YET = Answer(calls=0, failure="not answered yet")
"""Stands for an answer while all rows are looked through ahead. It is in no column and not stored."""


class LimitReached(ACTError):
    """A stage stopped at `max_calls` or `max_cost`. What was answered is in the store."""


@dataclass
class _Kind:
    """What was learnt of requests of a kind: the same model asked for the same ability."""

    requests: int = 0
    calls: int = 0
    dearest: float | None = None

    @property
    def calls_each(self) -> int:
        """Sent for one of ours. The mean, since one that was repeated says nothing of the others."""
        return max(1, round(self.calls / self.requests))


@dataclass
class Usage:
    """
    What a stage asked for, and how much it may.

    Args:
        max_calls (`int`, *optional*): most requests sent in this run. A model that sends several for one of ours (to
            score several replies) is known after the first, which goes alone; only repeats after faults can pass it.
        max_cost (`float`, *optional*): most US dollars spent in this run. Requests are sent in groups that will not
            pass it if none costs more than the dearest of its kind so far (the same model asked for the same ability),
            so the first of each kind goes alone. A model that is asked by batch says the most that each can cost
            instead, until some are answered.
        requests (`int`): requests made, answered by the model or from the store; equal ones of a batch count once, and
            those made to calibrate do not count.
        calls (`int`): requests sent in this run, those repeated after a fault included.
        tokens_in, tokens_out (`int`): tokens read and written for the answers, whenever they were paid.
        seconds (`float`): time the model spent on the answers, whenever that was.
        cost (`float`, *optional*): US dollars for the answers, whenever they were paid; `None` where a price is not
            known.
        spent (`float`): US dollars paid in this run, as far as prices are known.
        share (`float`): how much of what is being asked now is answered, in [0, 1].
        waiting (`int`): requests that were submitted, or held back by a limit, in this round over all rows.

    Raises:
        ACTError: for a negative limit.
    """

    max_calls: int | None = None
    max_cost: float | None = None
    requests: int = field(default=0, init=False)
    calls: int = field(default=0, init=False)
    tokens_in: int = field(default=0, init=False)
    tokens_out: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    cost: float | None = field(default=0.0, init=False)
    spent: float = field(default=0.0, init=False)
    share: float = field(default=0.0, init=False, repr=False, compare=False)
    calibrating: bool = field(default=False, init=False, repr=False, compare=False)
    ahead: bool = field(default=False, init=False, repr=False, compare=False)
    waiting: int = field(default=0, init=False, repr=False, compare=False)
    _promised: tuple[int, float] = field(default=(0, 0.0), init=False, repr=False, compare=False)
    listener: Callable[[Usage], None] | None = field(default=None, init=False, repr=False, compare=False)
    _kinds: dict[str, _Kind] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("max_calls", "max_cost"):
            limit = getattr(self, name)
            if limit is not None and not limit >= 0:
                raise ACTError(f"{name}={limit!r} is no limit; give a number of at least 0, or None")

    def __reduce__(self) -> tuple[type[Usage], tuple[int | None, float | None]]:
        # What was counted stays where it was counted: a stage pickles, and hashes, the same before and after use.
        return Usage, (self.max_calls, self.max_cost)

    def paid(self, kind: str, answers: Collection[Answer]) -> None:
        """Counts what has just been answered to requests of a kind."""
        seen = self._kinds.setdefault(kind, _Kind())
        for answer in answers:
            self.calls += answer.calls
            self.spent += answer.cost or 0.0
            seen.requests += 1
            seen.calls += answer.calls
            if answer.cost or not answer.failure:  # a fault that cost nothing says nothing of the price
                seen.dearest = max(seen.dearest or 0.0, answer.cost or 0.0)
        if self.listener:
            self.listener(self)

    def used(self, answers: Collection[Answer]) -> None:
        """Counts the answers of a batch, wherever they came from."""
        if self.calibrating or self.ahead:
            return
        self.requests += len(answers)
        for answer in answers:
            self.tokens_in += answer.tokens_in
            self.tokens_out += answer.tokens_out
            self.seconds += answer.seconds
            self.cost = None if self.cost is None or answer.cost is None else self.cost + answer.cost

    def facts(self) -> dict[str, str]:
        """What to show beside a progress bar."""
        shown = {"calls": f"{self.calls:,}"}
        return shown | {"cost": f"${self.spent:.4f}"} if self.spent else shown

    @contextmanager
    def looking_ahead(self) -> Iterator[None]:
        """A round over all rows, in which what can be answered later is submitted and not waited for."""
        self.ahead, self.waiting, self._promised = True, 0, (0, 0.0)
        try:
            yield
        finally:
            self.ahead, self._promised = False, (0, 0.0)

    def promise(self, kind: str, bounds: Sequence[float | None]) -> None:
        """Counts requests of a kind that were submitted and not answered, each with the most it can cost."""
        dearest = self._kinds.get(kind, _Kind()).dearest
        cost = sum(dearest if dearest is not None else bound or 0.0 for bound in bounds)
        self._promised = (self._promised[0] + len(bounds), self._promised[1] + cost)
        self.waiting += len(bounds)

    def affordable(self, kind: str, bounds: Iterable[float | None] | None = None) -> int | None:
        """
        How many requests of a kind can be sent now; `None` for any number. `bounds` are the most that each can cost,
        for a model that knows; it is asked once for all.
        """
        seen = self._kinds.get(kind, _Kind())
        allowed = []
        if self.max_calls is not None:
            left = self.max_calls - self.calls - self._promised[0]
            together = left if bounds is not None else min(1, left)
            allowed.append(left // seen.calls_each if seen.requests else together)
        if self.max_cost is not None:
            money = self.max_cost - self.spent - self._promised[1]
            if seen.dearest is None and bounds is not None:
                allowed.append(_how_many(money, bounds))
            elif seen.dearest is None:
                allowed.append(1 if money > 0 else 0)
            elif seen.dearest > 0:
                allowed.append(int(money / seen.dearest + 1e-9))  # three times 0.1 is 0.3
        return max(0, min(allowed)) if allowed else None


def _how_many(money: float, bounds: Iterable[float | None]) -> int:
    """How many of the first fit into `money`."""
    count = 0
    for bound in bounds:
        if bound is None:
            break
        money -= bound
        if money < -1e-9:
            break
        count += 1
    return count


def ask(model: Model, requests: Sequence[Request], *, store: Store, version: str, usage: Usage) -> list[Answer]:
    """
    An answer for every request: from the store where it was asked before, else from the model.

    Args:
        model ([`Model`]): answers what is not stored.
        requests (sequence of N requests): equal ones are asked once.
        store ([`Store`]): where the answers are, and go.
        version (`str`): version of the prompts, part of the key.
        usage ([`Usage`]): counts what was asked, and says how much may be.

    Returns:
        `list` of N [`Answer`]s, in the order of `requests`.

    Raises:
        LimitReached: when the limits of `usage` allow no more requests.
    """
    keys = [request_key(model.name, version, request) for request in requests]
    answers = store.get(list(dict.fromkeys(keys)))
    missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in answers}
    kind = " ".join([model.name, *sorted({request.ability for request in missing.values()})])
    for part in _affordable_parts(model, missing, kind, usage, store):
        for finished in _answers(model, [missing[key] for key in part], ahead=usage.ahead):
            batch = {part[position]: answer for position, answer in finished.items()}
            store.put({key: answer for key, answer in batch.items() if answer.failure is None}, model=model.name)
            answers.update(batch)
            usage.share = len(answers) / len(set(keys))
            usage.paid(kind, batch.values())
            _check_price(model, batch.values(), usage)
        if isinstance(model, Deferred) and usage.ahead:
            later = [missing[key] for key in part if key not in answers]
            usage.promise(kind, [model.dearest(request) for request in later])
    unanswered = missing.keys() - answers.keys()
    if unanswered and not (isinstance(model, Deferred) and usage.ahead):
        raise ACTError(f"{model.name} left {len(unanswered)} of {len(missing)} requests unanswered")
    answers.update(dict.fromkeys(unanswered, _NOT_YET))
    usage.used(answers.values())
    return [answers[key] for key in keys]


def _answers(model: Model, requests: Sequence[Request], *, ahead: bool) -> Iterator[dict[int, Answer]]:
    """What the model answers; a model that has requests in flight is told when nobody waits for them any more."""
    answers = model.submit(requests) if ahead and isinstance(model, Deferred) else model.answer(requests)
    try:
        yield from answers
    finally:
        if isinstance(answers, Generator):
            answers.close()


def _affordable_parts(
    model: Model, missing: Mapping[str, Request], kind: str, usage: Usage, store: Store
) -> Iterator[list[str]]:
    left = iter(missing)
    remaining = len(missing)
    while remaining:
        affordable = usage.affordable(kind, _bounds(model, missing, remaining, usage))
        if affordable == 0 and usage.ahead and usage.waiting:
            usage.waiting += remaining  # what they cost is known when others have been answered
            return
        if affordable == 0:
            limits = {"max_calls": usage.max_calls, "max_cost": usage.max_cost}
            said = " and ".join(f"{name}={limit}" for name, limit in limits.items() if limit is not None)
            raise LimitReached(
                f"stopped at {said}: {usage.calls} calls sent, ${usage.spent:.4f} spent. What was answered is kept in "
                f"{str(store.path)!r}; the same call with a higher limit goes on from there"
            )
        part = list(islice(left, affordable))
        remaining -= len(part)
        yield part


def _bounds(
    model: Model, missing: Mapping[str, Request], remaining: int, usage: Usage
) -> Iterator[float | None] | None:
    """The most that each of the last `remaining` requests can cost, where all are submitted at once."""
    if not isinstance(model, Deferred):
        return None
    last = islice(missing.values(), len(missing) - remaining, None)
    if usage.max_cost is not None and model.dearest(next(iter(missing.values()))) is None:
        raise ACTError(
            f"max_cost={usage.max_cost} needs to know what a request by batch can cost before it is submitted, and "
            f"for {model.name} the price is not known, or it shows images; give prices= (--price-in and --price-out), "
            "or max_calls= instead"
        )
    return map(model.dearest, last)


def _check_price(model: Model, answers: Collection[Answer], usage: Usage) -> None:
    if usage.max_cost is not None and any(answer.cost is None for answer in answers):
        raise ACTError(
            f"max_cost={usage.max_cost} needs to know what answers cost, and for {model.name} the price or the number "
            "of tokens is not known; give prices= (--price-in and --price-out), or max_calls= instead"
        )


_TEXTS_AN_IMAGE = 50
"""Rows of text that take about as much memory as an image."""


def rows_at_once(model: Model, task: Task) -> int:
    """
    How many rows to hand over at once. A model that has many requests in flight is idle at the end of each batch,
    until the last of them is answered, so it gets large ones; images take memory, so there are fewer of them.
    """
    most = getattr(model, "rows_at_once", None)
    if most is not None:  # it says how many itself
        return max(1, int(most) // (_TEXTS_AN_IMAGE if task.image else 1))
    concurrency = int(getattr(model, "concurrency", 0))
    return max(64, concurrency * (8 if task.image else 128))
