"""What a model is: a name and up to two abilities. Whoever writes their own has the same rights as ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Message = dict[str, Any]
"""`{"role": "system" | "user" | "assistant", "content": str}`, as in every chat API. A last message by the assistant
is continued, not answered."""


@dataclass(frozen=True)
class ChatRequest:
    """
    Asks for a reply in words.

    Args:
        messages (tuple of messages): the conversation so far.
        max_tokens (`int`): the longest reply, in tokens.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 256

    ability: ClassVar[str] = "chat"


@dataclass(frozen=True)
class ScoreRequest:
    """
    Asks how probable each of some continuations is.

    Args:
        messages (tuple of messages): the conversation so far.
        continuations (tuple of `str`): the replies to score, word for word.
    """

    messages: tuple[Message, ...]
    continuations: tuple[str, ...]

    ability: ClassVar[str] = "score"


Request = ChatRequest | ScoreRequest


@dataclass(frozen=True)
class Answer:
    """
    What a model gave for one request, and what it took.

    Args:
        text (`str`): the reply to a [`ChatRequest`].
        logprobs (tuple of `float`): for a [`ScoreRequest`], the natural log-probability of each continuation.
        tokens_in (`int`): tokens read. A prefix shared by several requests is counted where it was read.
        tokens_out (`int`): tokens written.
        seconds (`float`): time the model spent; a batch's time is split evenly over its requests.
        failure (`str`, *optional*): why there is no answer. The row fails alone, and the request is not stored, so the
            next run asks again.
    """

    text: str = ""
    logprobs: tuple[float, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    failure: str | None = None


@runtime_checkable
class Model(Protocol):
    """
    Where answers come from.

    Attributes:
        name (`str`): says which weights answered and how; part of the key under which an answer is stored, so two
            models that can answer differently need different names. Never holds a token or an address.
        abilities (`frozenset` of `str`): `"chat"`, `"score"` or both.
        instructed (`bool`): whether the model follows instructions. One that does not (an encoder) is shown the row
            and nothing else.
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


def require_ability(model: Model, ability: str, *, purpose: str) -> None:
    """Raises [`ACTError`] when `model` cannot do what `purpose` needs, before anything is asked of it."""
    if ability not in model.abilities:
        has = " and ".join(sorted(model.abilities)) or "nothing"
        raise ACTError(f"{purpose} needs a model that can {ability}, but {model.name} can only {has}")
