"""From a request to what a server is sent, and from what it says to an answer."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.images import data_uri
from act_hf.models.base import ChatRequest
from act_hf.models.endpoint.choosing import alike, walk
from act_hf.models.endpoint.forcing import scorable, score_reply, single_tokens
from act_hf.models.endpoint.retry import Refused
from act_hf.models.endpoint.tally import Tally
from act_hf.models.local.encoding import has_image


if TYPE_CHECKING:
    from collections.abc import Sequence

    from act_hf.models.base import Answer, Message, Request, ScoreRequest
    from act_hf.models.endpoint.choosing import Spread, Step
    from act_hf.models.endpoint.wire import Reply, Wire

_ENDED = ("stop", "eos_token")
"""How servers say that the model came to its end, TGI the latter."""


async def answer_request(wire: Wire, request: Request) -> Answer:
    """
    The answer to one request, whatever it takes.

    Raises:
        ACTError: when the server cannot be used. What concerns this row only is the answer's `failure`.
    """
    tally = Tally()
    try:
        messages = await _in_time(request.messages, side=wire.endpoint.image_side)
        if isinstance(request, ChatRequest):
            given = await _chat(wire, tally, messages, request)
        elif request.exact:
            scores = [await score_reply(wire, tally, messages, reply) for reply in request.continuations]
            given = {"logprobs": tuple(s for s, _ in scores), "lengths": tuple(length for _, length in scores)}
        else:
            given = {"logprobs": await _choose(wire, tally, messages, request)}
    except Refused as problem:
        return tally.answer(wire.prices, failure=str(problem))
    return tally.answer(wire.prices, **given)


async def _in_time(messages: Sequence[Message], *, side: int) -> list[Message]:
    if not has_image(messages):
        return wire_messages(messages, side=side)
    # In a thread: a large image takes long, and meanwhile other requests want to be sent.
    return await asyncio.to_thread(wire_messages, messages, side=side)


def wire_messages(messages: Sequence[Message], *, side: int) -> list[Message]:
    """
    The messages as OpenAI's chat API takes them: images as data URIs.

    Raises:
        Refused: for an image that cannot be read.
    """
    return [{**message, "content": _content(message["content"], side)} for message in messages]


def _content(content: Any, side: int) -> Any:
    return content if isinstance(content, str) else [_part(part, side) for part in content]


def _part(part: Any, side: int) -> Any:
    if part["type"] != "image":
        return part
    try:
        return {"type": "image_url", "image_url": {"url": data_uri(part["image"], side=side)}}
    except ACTError as error:
        raise Refused(str(error)) from None


async def _chat(wire: Wire, tally: Tally, messages: list[Message], request: ChatRequest) -> dict[str, Any]:
    body = holding_to(request.choices, wire.endpoint.server) if request.choices else {}
    reply = await wire.chat(
        tally, messages, max_tokens=request.max_tokens, body=body, temperature=wire.endpoint.temperature
    )
    return {"text": text_of(reply)}


def text_of(reply: Reply) -> str:
    """What the model said. Raises [`Refused`] when it gave no text."""
    if reply.text is None:
        raise Refused(f"the model gave no text (it ended with {reply.finish!r})")
    return reply.text


def holding_to(choices: Sequence[str], server: str) -> dict[str, Any]:
    """The fields that hold a reply to one of `choices`; none for a server that has no such field."""
    if server == "llama.cpp":
        return {"grammar": "root ::= " + " | ".join(map(_gbnf, choices))}
    if server == "vllm":  # `guided_choice` before version 0.11
        return {"structured_outputs": {"choice": list(choices)}}
    if server == "tgi":
        return {"response_format": {"type": "regex", "value": "(" + "|".join(map(re.escape, choices)) + ")"}}
    return {}


def _gbnf(text: str) -> str:
    """A text as a literal of llama.cpp's grammars."""
    signs = []
    for sign in text:
        if sign in '"\\':
            signs.append("\\" + sign)
        elif sign.isprintable():
            signs.append(sign)
        else:
            signs.append(f"\\U{ord(sign):08x}")
    return '"' + "".join(signs) + '"'


async def _choose(wire: Wire, tally: Tally, messages: list[Message], request: ScoreRequest) -> tuple[float, ...]:
    """
    Log-probabilities right in proportion to each other, with one call where the first token tells the replies apart.

    Where it does not, a server that can score is asked for the replies in question, one call each; any other for a
    longer reply, which tells apart what the model leans to. Where the model would rather say something else, the first
    token of a reply says little about the rest, or a reply that was not listed may matter: then a server that can
    score is asked for all of them. (SmolLM2 on eight intents is right in 61 % of the rows by whole replies, and in
    43 % by first tokens: docs/log.md.) That is decided row by row, and a weak model comes to it in nearly every row, a
    strong one in hardly any; the scores of the two kinds differ by what the rest of a reply has.
    """
    replies = request.continuations
    spread = await _spread(wire, tally, messages, replies, further=replies in wire.ambiguous)
    telling = spread.complete and (spread.likely or await single_tokens(wire, replies))
    if telling and not spread.undecided:
        return spread.logprobs()
    if await scorable(wire, messages, replies):
        among = spread.undecided if telling else range(len(replies))
        exact = {position: (await score_reply(wire, tally, messages, replies[position]))[0] for position in among}
        if not telling:
            return tuple(exact.values())
        spread.settle(exact)
    elif spread.undecided and replies not in wire.ambiguous:
        wire.ambiguous.add(replies)  # the next rows are asked for the longer reply at once
        spread = await _spread(wire, tally, messages, replies, further=True)
    return logprobs_of(spread, replies)


def logprobs_of(spread: Spread, replies: Sequence[str]) -> tuple[float, ...]:
    """The log-probabilities in a spread over `replies`. Raises [`Refused`] when none of them was listed."""
    if not spread.found:
        some = ", ".join(repr(reply) for reply in replies[:4]) + (", ..." if len(replies) > 4 else "")
        raise Refused(f"none of the replies {some} is among the most probable ones; these are {spread.instead}")
    return spread.logprobs()


async def _spread(
    wire: Wire, tally: Tally, messages: list[Message], replies: tuple[str, ...], *, further: bool
) -> Spread:
    endpoint = wire.endpoint
    reply = await wire.chat(
        tally,
        messages,
        max_tokens=telling_tokens(replies) if further else 1,
        body={},
        logprobs=True,
        top_logprobs=endpoint.listed,
        temperature=0.0,
    )
    return spread_of(wire.given(reply.steps), reply, replies)


def telling_tokens(replies: Sequence[str]) -> int:
    """How many tokens tell `replies` apart, however they are cut into tokens."""
    # Tokens have at least a byte: after those that two replies share, the next one tells them apart. One more, since
    # the first may be white space.
    return alike(replies) + 2


def spread_of(steps: Sequence[Step], reply: Reply, replies: Sequence[str]) -> Spread:
    """How the steps of a reply spread over `replies`. Raises [`Refused`] when there are none."""
    if not steps:
        raise Refused("the model said nothing")
    return walk(steps, replies, ended=reply.finish in _ENDED)
