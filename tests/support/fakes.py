"""Hand-written stand-ins: a model that answers from a queue or by a function, and counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from act_hf.models.base import Answer, ChatRequest, Request


Given = str | Sequence[float] | Answer
"""A reply in words, log-probabilities, or the whole answer."""


class FakeModel:
    """
    A model without weights.

    `FakeModel("spam", "ham")` answers with these in turn, `FakeModel(by=function)` with what the function makes of the
    request. Finished answers come in batches of `batch_size`; those made by a function come last request first, since
    a model may answer in any order. After `raise_after` batches it raises. `asked` holds what it has answered, `sizes`
    how many requests it was handed at a time. Each answer costs `cost`, and has a token a word.
    """

    def __init__(
        self,
        *queue: Given,
        by: Callable[[Any], Given] | None = None,
        abilities: Sequence[str] = ("chat", "choose", "score"),
        name: str = "fake",
        instructed: bool = True,
        batch_size: int = 4,
        raise_after: int | None = None,
        sleep: float = 0.0,
        cost: float | None = 0.0,
    ) -> None:
        self.queue = list(queue)
        self.by = by
        self.abilities = frozenset(abilities)
        self.name = name
        self.instructed = instructed
        self.batch_size = batch_size
        self.raise_after = raise_after
        self.sleep = sleep
        self.cost = cost
        self.asked: list[Request] = []
        self.sizes: list[int] = []
        self.batches = 0

    @property
    def calls(self) -> int:
        """How many requests it answered."""
        return len(self.asked)

    def answer(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        self.sizes.append(len(requests))
        positions = list(range(len(requests)))
        if self.by:
            positions.reverse()
        for start in range(0, len(positions), self.batch_size):
            if self.raise_after is not None and self.batches >= self.raise_after:
                raise RuntimeError("the fake model was told to break off")
            time.sleep(self.sleep)
            finished = {i: self._answer(requests[i]) for i in positions[start : start + self.batch_size]}
            self.asked += [requests[i] for i in finished]
            self.batches += 1
            yield finished

    def _answer(self, request: Request) -> Answer:
        given = self.by(request) if self.by else self.queue.pop(0)
        if isinstance(given, Answer):
            return given
        if isinstance(given, str):
            return Answer(text=given, tokens_in=10, tokens_out=2, seconds=0.5, cost=self.cost)
        exact = not isinstance(request, ChatRequest) and request.exact
        lengths = tuple(len(text.split()) for text in request.continuations) if exact else ()
        return Answer(logprobs=tuple(given), lengths=lengths, tokens_in=10, seconds=0.5, cost=self.cost)


def shown(request: Request) -> str:
    """The text of a request's last message."""
    return message_text(request, -1)


def message_text(request: Request, position: int) -> str:
    """The text of one of a request's messages."""
    content = request.messages[position]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def system(request: Request) -> str:
    """The instructions of a request."""
    return str(request.messages[0]["content"])


def by_text(request: Request) -> Given:
    """A different answer for every text, the same in every process: what an honest, odd model would do."""
    number = sum((i + 1) * byte for i, byte in enumerate(shown(request).encode()))
    if isinstance(request, ChatRequest) and request.choices:
        return request.choices[number % len(request.choices)]
    if isinstance(request, ChatRequest):
        return f"number {number}\nAnswer: {number % 100} %"
    return [-0.5 - (number * (i + 3) % 17) / 4 for i in range(len(request.continuations))]
