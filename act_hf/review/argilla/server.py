"""The way to an Argilla server: address and key, patience with a short outage, and what its errors mean."""

from __future__ import annotations

import json
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from act_hf.errors import ACTError, printable


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import argilla

T = TypeVar("T")

URL, KEY = "ARGILLA_API_URL", "ARGILLA_API_KEY"
LOCAL = "http://localhost:6900"

_WAIT = 180
"""Seconds until a request that is not answered has failed: a server on a busy machine takes a minute for a batch."""
_CONFLICT, _TOO_MANY, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 409, 429, 401, 403, 404
_LONGEST = 300
"""Characters of what a server says that are shown."""


def address(url: str | None) -> str:
    """
    Where the server is, without a slash at the end.

    Args:
        url (`str`, *optional*): defaults to `$ARGILLA_API_URL`, and that to the port of Argilla's own on this machine.

    Raises:
        ACTError: for what is no address, or one with a password in it.
    """
    given = (url or os.environ.get(URL) or LOCAL).strip().rstrip("/")
    try:
        parts = urlsplit(given)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        signed = parts.username is not None or parts.password is not None
    except ValueError:
        fits, signed = False, "@" in given
    if signed:
        raise ACTError("the address of Argilla has a name or password in it; leave it out, and give an API key")
    if not fits:
        raise ACTError(
            f"{(url or given)!r} is no address of an Argilla server; give one like {LOCAL} (${URL}, --api-url)"
        )
    return given


def secret(key: str | None) -> str:
    """
    The API key.

    Args:
        key (`str`, *optional*): the key, or `"$NAME"` for the one in the environment variable NAME. Defaults to
            `"$ARGILLA_API_KEY"`.

    Raises:
        ACTError: where there is none, or what cannot be one.
    """
    given = (key or f"${KEY}").strip()
    if not given.startswith("$"):
        return _checked(given)
    found = os.environ.get(given[1:], "").strip()
    if not found:
        # Only our own name is repeated: another one may be a key that was given by mistake.
        variable = f"the environment variable {KEY}" if given == f"${KEY}" else "an environment variable of that name"
        raise ACTError(f"there is no Argilla API key in {variable}; copy it there from 'My settings' in Argilla")
    return _checked(found)


def _checked(key: str) -> str:
    """A header takes no other signs, and who refuses them there repeats the key in the message."""
    if not all("!" <= sign <= "~" for sign in key):
        raise ACTError(
            "the Argilla API key has a blank, a line end or a sign that no key has; copy it again, alone, from "
            "'My settings' in Argilla"
        )
    return key


@contextmanager
def connected(url: str, key: str) -> Iterator[argilla.Argilla]:
    """
    A client of the server at `url`. The user's own default client stays what it was.

    Raises:
        ACTError: for whatever Argilla or the network objects to, also while the client is used.
    """
    try:
        import argilla
    except ModuleNotFoundError as error:
        raise ACTError(f"review in Argilla needs its SDK: pip install 'act_hf[argilla]' ({error})") from error

    before = argilla.Argilla._default_client
    client = None
    try:
        client = _client(url, key)
        yield client
    except ACTError:
        raise
    except Exception as error:
        meaning = _meaning(error, url, client)
        if meaning is None:
            raise
        raise meaning from error
    finally:
        argilla.Argilla._set_default(before)  # the newest client makes itself everybody's


def _client(url: str, key: str) -> argilla.Argilla:
    import argilla
    import httpx

    handlers = list(logging.root.handlers)
    try:
        # No retries of a connection that is refused: who waits for a server that is down waits for nothing.
        timeout: Any = httpx.Timeout(_WAIT, connect=10)
        client = argilla.Argilla(api_url=url, api_key=key, timeout=timeout, retries=0)
    finally:
        # The SDK's first message has Python print the messages of all libraries.
        for added in [handler for handler in logging.root.handlers if handler not in handlers]:
            logging.root.removeHandler(added)
    _ = client.me  # kept by the client: whose key it is
    return client


def persist(call: Callable[[], T], *, patience: float) -> T:
    """
    What `call` returns, called again for up to `patience` seconds where the server is not to be reached, has too much
    to do, or somebody else was faster. So `call` must be one that can be made twice.
    """
    import stamina

    logging.getLogger("stamina").addHandler(_QUIET)  # else Python prints every repeat
    for attempt in stamina.retry_context(
        on=_passes, attempts=None, timeout=patience, wait_initial=0.5, wait_max=5.0, wait_jitter=0.5
    ):
        with attempt:
            return call()
    raise AssertionError("the last attempt returns or raises")


_QUIET = logging.NullHandler()


def _passes(error: Exception) -> bool:
    """Whether an error may be gone in a moment."""
    import httpx

    cause = _cause(error)
    status = _status(cause)
    return isinstance(cause, httpx.TransportError) or status in (_CONFLICT, _TOO_MANY) or status >= 500


def _cause(error: BaseException) -> BaseException:
    """The error of the network or of the server's API, which the SDK wraps in errors that say less."""
    import httpx
    from argilla._exceptions import ArgillaAPIError

    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ArgillaAPIError | httpx.HTTPError):
            return found
        found = found.__cause__
    return error


def _status(error: BaseException) -> int:
    """The status with which the server refused; 0 for another error."""
    return int(getattr(error, "status_code", 0) or getattr(getattr(error, "response", None), "status_code", 0))


def _meaning(error: Exception, url: str, client: argilla.Argilla | None) -> ACTError | None:
    """What an error says to a user; `None` for one that is neither Argilla's nor the network's."""
    import httpx
    from argilla._exceptions import ArgillaError

    cause = _cause(error)
    if isinstance(cause, httpx.TransportError):
        return ACTError(
            f"Argilla at {url} does not answer: {_shown(cause)}; is it running? What was done so far is kept: the "
            f"same command goes on from there. The address is ${URL} (--api-url)"
        )
    status = _status(cause)
    if status == _UNAUTHORIZED:
        return ACTError(f"Argilla at {url} does not know this API key; copy it again from 'My settings' there")
    if status == _FORBIDDEN and client is not None:
        role = client.me.role.value
        who = "an owner" if role == "admin" else "an owner, or of an admin who is in the workspace"
        return ACTError(f"Argilla does not let {client.me.username!r} ({role}) do this; take the API key of {who}")
    foreign = client is None and (isinstance(cause, ValueError) or status == _NOT_FOUND)
    if foreign or isinstance(cause, json.JSONDecodeError):  # some page, or nothing of that name
        return ACTError(f"what answers at {url} is no Argilla server (2.x); the address is ${URL} (--api-url)")
    if isinstance(cause, ArgillaError) or status:
        return ACTError(f"Argilla at {url} refuses: {_shown(cause)}")
    return None


def _shown(error: BaseException) -> str:
    said = printable(" ".join(str(error).split())) or type(error).__name__
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
