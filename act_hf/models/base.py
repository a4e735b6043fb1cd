"""What a model is: a name and some abilities. Whoever writes their own has the same rights as ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Message = dict[str, Any]
"""`{"role": "system" | "user" | "assistant", "content": ...}`, as in every chat API. The content is text, or a list of
parts `{"type": "text", "text": str}` and `{"type": "image", "image": PIL.Image}`. The last message is the user's."""

ABILITIES = {
    "chat": "reply in words",
    "choose": "say how probable each of some replies is",
    "score": "give the log-probability of a reply, token by token",
    "image": "see images",
}
"""What a model may be able to do. Whoever can `score` can also `choose`, and lists both."""


@dataclass(frozen=True)
class ChatRequest:
    """
    Asks for a reply in words.

    Args:
        messages (tuple of messages): the conversation so far.
        max_tokens (`int`): the longest reply, in tokens.
        shared (`int`): how many of the first messages are the same for every row of the task, so that an engine can
            read them once. It changes no answer.
        choices (tuple of `str`): where it is not empty, the reply has to be one of these. A model that can hold itself
            to them (by a grammar) does; from any other the reply can still be anything.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 256
    choices: tuple[str, ...] = ()
    shared: int = 0

    @property
    def ability(self) -> str:
        """What a model needs to answer it."""
        return "chat"


@dataclass(frozen=True)
class ScoreRequest:
    """
    Asks how probable each of some replies is.

    Args:
        messages (tuple of messages): the conversation so far.
        continuations (tuple of `str`): the replies, word for word.
        shared (`int`): as in [`ChatRequest`].
        exact (`bool`): whether the log-probability of every token of every reply is needed (for a perplexity). Where
            not, it is enough that the probabilities are right in proportion to each other.
    """

    messages: tuple[Message, ...]
    continuations: tuple[str, ...]
    exact: bool = False
    shared: int = 0

    @property
    def ability(self) -> str:
        """What a model needs to answer it."""
        return "score" if self.exact else "choose"


Request = ChatRequest | ScoreRequest


@dataclass(frozen=True)
class Answer:
    """
    What a model gave for one request, and what it took.

    Args:
        text (`str`): the reply to a [`ChatRequest`].
        logprobs (tuple of `float`): for a [`ScoreRequest`], the natural log-probability of each continuation.
        lengths (tuple of `int`): for an exact [`ScoreRequest`], the tokens of each continuation.
        tokens_in (`int`): tokens read. A prefix shared by several requests is counted where it was read.
        tokens_out (`int`): tokens written.
        seconds (`float`): time the model spent; a batch's time is split evenly over its requests.
        cost (`float`, *optional*): US dollars; `None` where the price is not known.
        calls (`int`): requests sent for it, those that had to be repeated included.
        failure (`str`, *optional*): why there is no answer. The row fails alone, and the request is not stored, so the
            next run asks again.
    """

    text: str = ""
    logprobs: tuple[float, ...] = ()
    lengths: tuple[int, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    cost: float | None = 0.0
    calls: int = 1
    failure: str | None = None


@runtime_checkable
class Model(Protocol):
    """
    Where answers come from.

    Attributes:
        name (`str`): says which weights answered and how; part of the key under which an answer is stored, so two
            models that can answer differently need different names. Never holds a token or an address.
        abilities (`frozenset` of `str`): some of [`ABILITIES`]. Known without asking the model anything.
        instructed (`bool`): whether the model follows instructions. One that does not (an encoder) is shown the row
            and nothing else.

    A model that answers several requests at a time may say how many with an attribute `concurrency` (`int`): it is
    then handed enough rows at once. `rows_at_once` (`int`) says directly how many rows of text that are. A model whose
    answers take hours is a [`Deferred`] too (act_hf/models/deferred.py).
    """

    @property
    def name(self) -> str:
        """The model's identity."""

    @property
    def abilities(self) -> frozenset[str]:
        """What it can do."""

    @property
    def instructed(self) -> bool:
        """Whether it reads instructions."""

    def answer(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        """
        Answers `requests` in whatever order suits the model.

        Yields:
            `dict` of `int` to [`Answer`]: the requests just finished, by position. Each is stored before the next is
            asked for, so a model yields as often as it has something worth keeping.
        """


def require_model(model: object, *, stage: str) -> None:
    """Raises [`ACTError`] for the name of a model in place of one."""
    if isinstance(model, str):
        raise ACTError(f"{stage}: {model!r} is the name of a model, not one; load_model({model!r}) makes it")


def require_ability(model: Model, ability: str, *, purpose: str) -> None:
    """Raises [`ACTError`] when `model` cannot do what `purpose` needs, before anything is asked of it."""
    if ability not in model.abilities:
        has = " and ".join(ABILITIES[name] for name in ABILITIES if name in model.abilities) or "do nothing"
        raise ACTError(f"{purpose} needs a model that can {ABILITIES[ability]}, but {model.name} can only {has}")
