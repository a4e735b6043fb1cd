"""From a request to its line of a batch file, and from a line of results to an answer. No network here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf.models.base import ChatRequest
from act_hf.models.batch.account import ROUTE
from act_hf.models.endpoint.dialogue import logprobs_of, spread_of, telling_tokens, text_of, wire_messages
from act_hf.models.endpoint.retry import Again, Refused, message_in, quote
from act_hf.models.endpoint.tally import Tally
from act_hf.models.endpoint.wire import meter, read_reply


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from act_hf.models.base import Answer, Request
    from act_hf.models.endpoint import Endpoint

NO_LOGPROBS = "the reply has no log-probabilities"

_FINAL = {400, 401, 402, 403, 404, 413, 422}
"""What a server answers to a request that it would refuse again."""


def request_line(endpoint: Endpoint, key: str, request: Request) -> bytes:
    """
    A line of a batch file: what [`Endpoint`] would send, under the request's key.

    Raises:
        Refused: for a row that cannot be sent.
    """
    line = {"custom_id": key, "method": "POST", "url": ROUTE, "body": _body(endpoint, request)}
    text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
    for sign in "\x85\u2028\u2029":  # legal in JSON, and the end of a line to some who read it
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        raise Refused("the row's text cannot be sent: it is no whole Unicode", sent=False) from None


def _body(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": wire_messages(request.messages, side=endpoint.image_side),
        "seed": endpoint.seed,
    }
    if isinstance(request, ChatRequest):
        body |= {"max_tokens": request.max_tokens, "temperature": endpoint.temperature}
    else:
        # Nobody can be asked once more a moment later, so the first question has to tell the replies apart.
        body |= {"max_tokens": telling_tokens(request.continuations), "temperature": 0.0}
        body |= {"logprobs": True, "top_logprobs": endpoint.listed}
    return {name: value for name, value in {**body, **endpoint.extra_body}.items() if value is not None}


def most_tokens(request: Request) -> tuple[int, int] | None:
    """No fewer tokens than a request reads and writes: a token has at least a byte. `None` where it shows images."""
    read = 0
    for message in request.messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if any(part["type"] != "text" for part in parts):
            return None
        read += 16 + sum(len(part["text"].encode(errors="replace")) for part in parts)
    asks = isinstance(request, ChatRequest)
    return read, request.max_tokens if asks else telling_tokens(request.continuations)  # type: ignore[union-attr]


@dataclass(frozen=True)
class Result:
    """
    A line of a file with results.

    Args:
        key (`str`): of the request.
        completion: what was answered, where something was.
        problem (`str`, *optional*): why nothing was, in the server's words.
        final (`bool`): whether asking again would not change that.
    """

    key: str
    completion: Any = None
    problem: str | None = None
    final: bool = False


def read_results(files: Iterable[BinaryIO], secret: str | None) -> Iterator[Result]:
    """The results in files of them. A line that is none, as where a file is cut off, is left out."""
    for file in files:
        file.seek(0)
        for line in file:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict) and isinstance(entry.get("custom_id"), str):
                yield _result(entry, secret)


def _result(entry: dict[str, Any], secret: str | None) -> Result:
    key, error, response = entry["custom_id"], entry.get("error"), entry.get("response")
    status = response.get("status_code") if isinstance(response, dict) else None
    body = response.get("body") if isinstance(response, dict) else None
    if status == 200 and not error:
        return Result(key, completion=body)
    said = quote(message_in({"error": error}) or message_in(body), secret)
    answered = f"the server answered {status}" if isinstance(status, int) else "the server gave no answer"
    return Result(key, problem=answered + (f": {said}" if said else ""), final=status in _FINAL)


def whole(file: BinaryIO) -> bool:
    """Whether a file of results ends where a line ends."""
    file.seek(0)
    last = b""
    for line in file:
        last = line
    if not last or last.endswith(b"\n"):
        return True
    try:
        json.loads(last)
    except (ValueError, RecursionError):
        return False
    return True


def read_answer(
    result: Result,
    request: Request,
    *,
    prices: tuple[float, float] | None,
    calls: int,
    secret: str | None,
) -> Answer:
    """
    The answer that a result is. One that cannot be read is a failure: asking once more would not change it.

    Raises:
        Again: when it is none, and may be one the next time.
        Refused: when it is none, and never will be.
    """
    if result.problem is not None:
        raise Refused(result.problem) if result.final else Again(result.problem)
    reply = read_reply(result.completion, secret)
    tally = Tally(calls=calls)
    meter(tally, reply)
    try:
        if isinstance(request, ChatRequest):
            return tally.answer(prices, text=text_of(reply))
        if reply.steps is None:
            raise Refused(NO_LOGPROBS)
        replies = request.continuations
        return tally.answer(prices, logprobs=logprobs_of(spread_of(reply.steps, reply, replies), replies))
    except Refused as problem:
        return tally.answer(prices, failure=str(problem))
