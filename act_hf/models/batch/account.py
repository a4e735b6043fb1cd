"""The batch routes of a server: files up and down, and batches made, looked at and cancelled."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from act_hf.errors import ACTError
from act_hf.models.endpoint.retry import Again, Refused, diagnose, message_in, pauses, quote


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from act_hf.models.endpoint import Endpoint

T = TypeVar("T")

ROUTE = "/v1/chat/completions"
MARK = "act_hf"
"""The key under which a batch's metadata has the hash of what is in it."""

ENDED = ("completed", "failed", "expired", "cancelled")
"""How a batch can end. Every other state, known or not, is waited for."""

_PAGE, _PAGES = 100, 20
_RECENT = 3 * 86400
"""Seconds: a batch that was lost track of is not looked for further back."""


class Silent(ACTError):
    """A server did not answer, however often it was asked."""


@dataclass(frozen=True)
class State:
    """
    How it stands with a batch, as far as the server has said so in a form that can be read.

    Args:
        id (`str`): the batch.
        status (`str`): one of [`ENDED`], or `"validating"`, `"in_progress"`, `"finalizing"`, `"cancelling"`, ...
        done, failed, total (`int`): requests.
        files (tuple of `str`): the ids of the files with results: of those that were answered, then of the others.
        errors (tuple of `str`): why it failed as a whole, a line each.
        limited (`bool`): whether that was because too much was waiting already.
        mark (`str`): what its metadata says under [`MARK`].
        created (`float`): when it was made, in seconds of the epoch; 0 where that is not said.
    """

    id: str
    status: str
    done: int = 0
    failed: int = 0
    total: int = 0
    files: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    limited: bool = False
    mark: str = ""
    created: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


class Account:
    """
    What a token can do with batches at a server.

    Args:
        endpoint ([`Endpoint`]): the server, and how patiently it is asked.
        secret (`str`, *optional*): the token.
        root (`str`): the address, up to and with `/v1`.
    """

    def __init__(self, endpoint: Endpoint, secret: str | None, root: str) -> None:
        self.root = root
        self._endpoint = endpoint
        self.secret = secret
        self._headers = {"authorization": f"Bearer {secret}"} if secret else {}

    def upload(self, requests: BinaryIO) -> str:
        """Sends a file of requests. Returns its id."""

        def send(client: Any) -> Any:
            requests.seek(0)
            sent = {"file": ("requests.jsonl", requests, "application/jsonl")}
            return self._send("POST", "/files", data={"purpose": "batch"}, files=sent)(client)

        return self._ask(send, lambda response: _id(response.json()))

    def create(self, file: str, mark: str, *, window: str, adopt: Callable[[], State | None]) -> State:
        """
        Submits a file of requests. Where the connection breaks, the server may have taken it all the same: `adopt`
        says whether it has, before it is asked again.
        """
        body = {"input_file_id": file, "endpoint": ROUTE, "completion_window": window, "metadata": {MARK: mark}}
        for attempt in self._attempts():
            with attempt:
                made = adopt() if attempt.num > 1 else None
                if made is None:
                    made = self._once(self._send("POST", "/batches", json=body), self._state)
                return made
        raise AssertionError("the last attempt returns or raises")

    def look(self, id: str) -> State:
        """How it stands with a batch. Raises [`Silent`] when the server does not say."""
        unknown = (
            f"the journal has {id} as submitted to this server, which does not know it; was that with another token? "
            "To pay for its requests once more, give another journal= (--store)"
        )
        return self._ask(self._send("GET", f"/batches/{id}"), self._state, unknown=unknown)

    def cancel(self, id: str) -> State:
        """Asks for a batch to be cancelled."""
        return self._ask(self._send("POST", f"/batches/{id}/cancel"), self._state)

    def recent(self) -> Iterator[State]:
        """The batches of the last days, the newest first."""
        after = ""
        for _ in range(_PAGES):
            asked = self._send("GET", f"/batches?limit={_PAGE}" + (f"&after={after}" if after else ""))
            page = self._ask(asked, lambda response: response.json())
            listed = page.get("data") if isinstance(page, dict) else None
            states = [read_state(entry, self.secret) for entry in listed or [] if isinstance(entry, dict)]
            yield from (state for state in states if state.id)
            if not states or not page.get("has_more") or 0 < states[-1].created < time.time() - _RECENT:
                return
            after = states[-1].id

    def download(self, file: str, results: BinaryIO) -> None:
        """Writes a file of results, in place of what `results` holds."""

        def send(client: Any) -> Any:
            address = f"{self.root}/files/{file}/content"
            with client.stream("GET", address, headers=self._headers, timeout=self._endpoint.timeout) as response:
                if response.status_code >= 400:
                    response.read()
                    return response
                results.seek(0)
                results.truncate()
                results.writelines(response.iter_bytes())
            return response

        self._ask(send, lambda response: None)

    def said(self, text: str) -> str:
        """What the server says, as one printable line without the token."""
        return quote(text, self.secret)

    def _send(self, method: str, path: str, **more: Any) -> Callable[[Any], Any]:
        options = {"headers": self._headers, "timeout": self._endpoint.timeout, **more}
        return lambda client: client.request(method, self.root + path, **options)

    def _state(self, response: Any) -> State:
        return read_state(response.json(), self.secret, sure=True)

    def _ask(self, send: Callable[[Any], Any], read: Callable[[Any], T], *, unknown: str | None = None) -> T:
        for attempt in self._attempts():
            with attempt:
                return self._once(send, read, unknown=unknown)
        raise AssertionError("the last attempt returns or raises")

    def _attempts(self) -> Iterator[Any]:
        """The attempts, after the last of which a server that does not answer is a [`Silent`] one."""
        try:
            yield from pauses(self._endpoint.attempts)
        except Again as problem:
            reason = str(problem)
        else:
            return
        raise Silent(
            f"{self._endpoint.model} does not answer, however often it is asked, because {reason}. What was submitted "
            "is written down; the same call goes on from there when the server is back"
        )

    def _once(self, send: Callable[[Any], Any], read: Callable[[Any], T], *, unknown: str | None = None) -> T:
        result, problem = self._try(send, read, unknown)
        if isinstance(problem, Refused):
            raise ACTError(f"cannot use {self._endpoint.model} by batch: {problem}")
        if problem is not None:
            raise problem
        return result  # type: ignore[return-value]  # it is there when there is no problem

    def _try(
        self, send: Callable[[Any], Any], read: Callable[[Any], T], unknown: str | None
    ) -> tuple[T | None, Exception | None]:
        # Errors are returned: raised where they are caught they would carry the client's own, which may quote a token.
        from huggingface_hub import get_session, hf_raise_for_status

        model = self._endpoint.model
        try:
            response = send(get_session())
            if response.status_code in (404, 405):
                return None, self._not_there(response, unknown)
            hf_raise_for_status(response)
            return read(response), None
        except Exception as error:
            return None, diagnose(error, model=model, secret=self.secret, timeout=self._endpoint.timeout)

    def _not_there(self, response: Any, unknown: str | None) -> ACTError:
        try:
            said = self.said(message_in(response.json()))
        except ValueError:  # no JSON
            said = ""
        hint = unknown or (
            "does this server have OpenAI's batch routes (/files and /batches)? Leave out batch=True (--batch) to ask "
            "at once"
        )
        answered = f"the server answered {response.status_code}" + (f": {said}" if said else "")
        return ACTError(f"cannot use {self._endpoint.model} by batch: {answered}; {hint}")


def read_state(body: Any, secret: str | None, *, sure: bool = False) -> State:
    """
    The state in what a server says of a batch, which can be anything.

    Raises:
        Again: where `sure` is asked for and it says nothing of a batch.
    """
    id = body.get("id") if isinstance(body, dict) else None
    status = body.get("status") if isinstance(body, dict) else None
    if not _is_id(id) or not isinstance(status, str):
        if sure:
            raise Again("the server said nothing of a batch")
        return State("", "")
    counts, metadata, errors = (body.get(name) for name in ("request_counts", "metadata", "errors"))
    listed = errors.get("data") if isinstance(errors, dict) else errors
    found = [error for error in listed if isinstance(error, dict)] if isinstance(listed, list) else []
    created = body.get("created_at")
    return State(
        id=str(id),
        status=quote(status.lower(), secret),
        done=_count(counts, "completed"),
        failed=_count(counts, "failed"),
        total=_count(counts, "total"),
        files=tuple(file for name in ("output_file_id", "error_file_id") if _is_id(file := body.get(name))),
        errors=tuple(quote(_told(error), secret) for error in found),
        limited=any(error.get("code") == "token_limit_exceeded" for error in found),
        mark=str(metadata.get(MARK, "")) if isinstance(metadata, dict) else "",
        created=float(created) if isinstance(created, int | float) else 0.0,
    )


def _told(error: dict[str, Any]) -> str:
    line = f"line {error['line']}: " if error.get("line") is not None else ""
    return line + str(error.get("message") or error.get("code") or json.dumps(error, default=str))


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0


def _is_id(value: Any) -> bool:
    """Whether it can be part of an address as it is: it comes from outside."""
    return isinstance(value, str) and len(value) <= 200 and bool(re.fullmatch(r"[\w:-][\w.:-]*", value, re.ASCII))


def _id(body: Any) -> str:
    id = body.get("id") if isinstance(body, dict) else None
    if not _is_id(id):
        raise Again("the server gave the file no id")
    return str(id)
