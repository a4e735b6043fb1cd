"""What a server's errors mean: ask again, give up on the row, or stop. And how long to wait before asking again."""

from __future__ import annotations

import json
import logging
import random
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from act_hf.errors import ACTError, printable


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

T = TypeVar("T")

_AGAIN = {408, 409, 424, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
_CONGESTED = {429, 503, 504, 529}
_REFUSED = {400, 403, 413, 422}
"""Moderation answers 403. So do servers whose token does not allow the model, but these say the same for every row."""

_AT_FIRST = 4
"""Requests that may fail before a server that has never answered is taken for dead; of those it never got, one."""

_LONGEST_WAIT = 60.0
"""Seconds: a server that asks for more is asked again after this."""

_SAID = 200
"""Characters quoted of what a server says."""


class Again(Exception):
    """
    The server may answer when it is asked again.

    Args:
        reason (`str`): what happened, as the middle of a sentence.
        wait (`float`, *optional*): seconds that the server asked to wait.
        congested (`bool`): whether it had too much to do.
        sent (`bool`): whether the server has seen the request.
    """

    def __init__(self, reason: str, *, wait: float | None = None, congested: bool = False, sent: bool = True) -> None:
        super().__init__(reason)
        self.wait = wait
        self.congested = congested
        self.sent = sent


class Refused(Exception):
    """
    There is no answer for this row, and asking again would not change that.

    Args:
        reason (`str`): what the answer's `failure` says.
        sent (`bool`): whether the server has seen the request.
    """

    def __init__(self, reason: str, *, sent: bool = True) -> None:
        super().__init__(reason)
        self.sent = sent


@dataclass
class Breaker:
    """
    Notices that a server answers nobody, so that a job stops before every row has waited for nothing.

    Args:
        model (`str`): named in the error.
        patience (`int`): requests that may fail in a row, once the server has answered anything.
    """

    model: str
    patience: int
    _answered: bool = field(default=False, init=False)
    _silent: int = field(default=0, init=False)
    _refused: int = field(default=0, init=False)
    _reasons: set[str] = field(default_factory=set, init=False)

    def answered(self) -> None:
        """The server gave a reply."""
        self._answered = True
        self._silent = 0

    def gave_up(self, reason: str, *, sent: bool) -> None:
        """A request got no reply however often it was repeated. Raises [`ACTError`] when that is enough."""
        self._silent += 1
        first = _AT_FIRST if sent else 1
        if self._silent >= (self.patience if self._answered else min(first, self.patience)):
            failed, self._silent = self._silent, 0  # whoever tries again starts anew
            many = f"{failed} requests in a row got no answer" if failed > 1 else "a request got no answer"
            raise ACTError(
                f"{self.model} does not answer: {many} however often they were sent, the last one because {reason}. "
                "What was answered is kept; the same call goes on from there when the server is back"
            )

    def refused(self, reason: str) -> None:
        """The server refused a row. Raises [`ACTError`] when it has refused many in the same words and taken none."""
        if self._answered:
            return
        self._refused += 1
        self._reasons.add(reason)
        # Of different reasons at least one is about its row, and so may all of them be.
        if self._refused >= self.patience and len(self._reasons) == 1:
            refused, self._refused = self._refused, 0
            raise ACTError(
                f"{self.model} refused the first {refused} requests, all because {reason} (where that is about "
                "these rows and not about all of them, begin with others)"
            )


async def persist(send: Callable[[], Awaitable[T]], *, attempts: int) -> T:
    """What `send` returns, called up to `attempts` times as long as it raises [`Again`], with growing pauses."""
    try:
        return await send()
    except Again as problem:
        first: Again | None = problem
    # Only now, since a run of many requests that all succeed at once would pay for it with each.
    async for attempt in pauses(attempts):
        with attempt:
            if first is not None:
                earlier, first = first, None
                raise earlier
            return await send()
    raise AssertionError("the last attempt returns or raises")


def pauses(attempts: int) -> Any:
    """stamina's attempts, with growing pauses between them, as long as [`Again`] is raised."""
    import stamina

    # stamina logs every repeat. Without a handler Python would print each of them; who configured logging sees them.
    logging.getLogger("stamina").addHandler(_QUIET)
    return stamina.retry_context(
        on=pause, attempts=attempts, timeout=None, wait_initial=1.0, wait_max=30.0, wait_jitter=1.0
    )


_QUIET = logging.NullHandler()


def pause(error: Exception) -> bool | float:
    """Whether to ask again after `error`, or after how many seconds, where the server has said so."""
    if not isinstance(error, Again):
        return False
    # A second of jitter, so that all who were told the same do not come back at the same moment.
    return True if error.wait is None else min(error.wait, _LONGEST_WAIT) + random.random()  # noqa: S311


def diagnose(error: Exception, *, model: str, secret: str | None, timeout: float) -> Exception:
    """
    What `error`, raised by the client, means.

    Args:
        error (`Exception`): as raised.
        model (`str`): named in the message of an [`ACTError`].
        secret (`str`, *optional*): cut out of whatever the server says.
        timeout (`float`): seconds that were waited, for the message.

    Returns:
        `Exception`: [`Again`], [`Refused`], or an [`ACTError`]; `error` itself where it is none of the client's.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, TextGenerationError

    if isinstance(error, TextGenerationError) and isinstance(error.__cause__, HfHubHTTPError):
        error = error.__cause__
    if isinstance(error, HfHubHTTPError):
        return _by_status(error.response, model=model, secret=secret)
    if isinstance(error, TimeoutError):
        sent = not isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout)
        return Again(f"the server did not answer within {timeout:g} s", congested=True, sent=sent)
    if isinstance(error, OfflineModeIsEnabled):
        return ACTError(f"cannot reach {model}: HF_HUB_OFFLINE is set; unset it to use a model behind a server")
    if isinstance(error, httpx2.ConnectError | httpx2.PoolTimeout | httpx2.ProxyError):
        return Again(f"cannot connect to the server ({quote(str(error), secret)})", sent=False)
    if isinstance(error, httpx2.TransportError | httpx2.DecodingError):
        return Again(f"the connection broke ({quote(str(error) or type(error).__name__, secret)})")
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return Again("the server sent no whole JSON")
    if isinstance(error, UnicodeEncodeError):
        return Refused("the row's text cannot be sent: it is no whole Unicode", sent=False)
    if isinstance(error, ValueError) and not isinstance(error, ACTError):
        # The client's two words for JSON of another shape; its other complaints are about arguments.
        if str(error).startswith("Invalid"):
            return Again("the server sent no chat completion")
        return ACTError(f"cannot ask {model}: {quote(str(error), secret)}")
    if isinstance(error, httpx2.HTTPError | httpx2.InvalidURL):
        return ACTError(f"cannot ask {model}: {quote(str(error), secret)}")
    return error


def _by_status(response: Any, *, model: str, secret: str | None) -> Exception:
    status = response.status_code
    said = quote(_message(response), secret)
    answered = f"the server answered {status}" + (f": {said}" if said else "")
    if status in _AGAIN:
        wait = retry_after(response.headers)
        if wait is not None and wait > _LONGEST_WAIT:
            answered += f" (it asks to wait {wait:.0f} s; waited {_LONGEST_WAIT:.0f})"
        return Again(answered, wait=wait, congested=status in _CONGESTED)
    if status in _REFUSED:
        return Refused(answered)
    hints = {
        401: "; is token= (--api-key-env) the right one for this server?",
        402: "; nothing is left to pay with",
        404: "; is the model's name the one the server knows, and does base_url end as it should (mostly in /v1)?",
    }
    return ACTError(f"cannot use {model}: {answered}{hints.get(status, '')}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a `Retry-After`, which is a number or an HTTP date. `None` without a usable one."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def _message(response: Any) -> str:
    """What an error response says, wherever it says it."""
    try:
        return message_in(response.json()) or str(response.text)
    except Exception:  # no JSON, not read, or not even text
        try:
            return str(response.text)
        except Exception:
            return ""


def message_in(body: Any) -> str:
    """The error message in a JSON body, in the forms that servers use."""
    for key in ("error", "message", "detail"):
        value = body.get(key) if isinstance(body, dict) else None
        if isinstance(value, dict):
            return message_in({"message": value.get("message")}) or json.dumps(value, default=str)
        if value:
            return str(value)
    return ""


def quote(text: str, secret: str | None) -> str:
    """One printable line of at most [`_SAID`] characters, without the secret."""
    if secret:
        # As it is, and as a message quotes it, in which a quotation mark or a backslash is written as two signs.
        for form in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]):
            text = text.replace(form, "***")
    line = " ".join(printable(text).split())
    return line if len(line) <= _SAID else line[: _SAID - 1] + "…"
