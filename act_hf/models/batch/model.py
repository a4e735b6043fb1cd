"""BatchEndpoint: an endpoint asked by batch, on OpenAI's routes."""

from __future__ import annotations

import hashlib
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from act_hf.errors import ACTError
from act_hf.models.base import ScoreRequest, require_ability
from act_hf.models.batch.account import Account
from act_hf.models.batch.collecting import collect
from act_hf.models.batch.journal import Journal
from act_hf.models.batch.lines import most_tokens, request_line
from act_hf.models.batch.waiting import told, wait_for
from act_hf.models.deferred import Submitted
from act_hf.models.endpoint.prices import price_of
from act_hf.models.endpoint.retry import Refused
from act_hf.models.endpoint.tally import Tally
from act_hf.models.store import home, request_key


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import BinaryIO

    from act_hf.models.base import Answer, Request
    from act_hf.models.batch.account import State
    from act_hf.models.batch.journal import Entry
    from act_hf.models.endpoint import Endpoint

JOURNAL = "answers.sqlite.batches"
"""The journal's file beside the store that is used where none is named."""

_HALF = 0.5

_VOID = ("failed", "cancelling", "cancelled")
"""States of a batch that nobody would take up again."""


@dataclass
class BatchEndpoint:
    """
    An [`Endpoint`] asked by batch: for half the price, within a day. The requests go up as files, on the routes that
    OpenAI calls Batch API and others have taken over (`/v1/files`, `/v1/batches`); the results come back as files.

    Answers are stored under the same keys as those of the endpoint asked directly, so going from one to the other asks
    for nothing again. What is submitted is written down in a journal before it is waited for. After a crash the same
    call finds its batches there, or by a mark at the server, and submits nothing again. Two processes at once with the
    same rows both submit them.

    Each request is asked once: replies in words, and labels by their first tokens where the server gives
    log-probabilities. A strategy that asks in two steps (cot with probabilities, a question more after a reply that
    names no label) takes two batches, one after the other. Exact scores (ppl) are not to be had.

    Args:
        endpoint ([`Endpoint`]): the model, its server (`base_url`, `server="openai"`) and its token. Its `prices` are
            the normal ones, of which half is counted.
        wait (`bool`, *optional*, defaults to `True`): whether to wait for the results. If not, what is not there yet
            raises [`Submitted`] once everything is submitted.
        retries (`int`, *optional*, defaults to 2): how often requests that failed, expired or are in no file of
            results go into a further, smaller batch before their rows fail. One that the server refused (400, 403,
            ...) does not.
        max_requests (`int`, *optional*, defaults to 50,000): most requests in a batch, and rows of text in memory.
        max_bytes (`int`, *optional*, defaults to 200,000,000): most bytes of a file of requests.
        window (`str`, *optional*, defaults to `"24h"`): the time that the server is given.
        poll (tuple of two `float`, *optional*, defaults to `(5, 120)`): seconds between one look at the batches and
            the next, at first and at most.
        journal (`str` or `Path`, *optional*): the file of what was submitted. Defaults to `answers.sqlite.batches`
            beside the store that is used where none is named ([`home`]).

    Raises:
        ACTError: for a wrong argument; while answering, when the server cannot be used, a batch fails as a whole, or
            it is cancelled meanwhile.
        Submitted: with `wait=False`.
    """

    endpoint: Endpoint
    wait: bool = True
    retries: int = 2
    max_requests: int = 50_000
    max_bytes: int = 200_000_000
    window: str = "24h"
    poll: tuple[float, float] = (5.0, 120.0)
    journal: str | Path | None = None
    instructed: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        self._pending: dict[str, State] = {}
        self._watched: set[str] = set()
        self._failed: dict[str, Answer] = {}
        _check(self)

    def __getstate__(self) -> dict[str, Any]:
        return {argument.name: getattr(self, argument.name) for argument in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _pending={}, _watched=set(), _failed={})

    @property
    def name(self) -> str:
        """That of the endpoint: a batch is another way to the same answers."""
        return self.endpoint.name

    @property
    def model(self) -> str:
        """The model as the server knows it."""
        return self.endpoint.model

    @property
    def abilities(self) -> frozenset[str]:
        """The endpoint's, without exact scores."""
        return self.endpoint.abilities - {"score"}

    @property
    def rows_at_once(self) -> int:
        """Rows of text handed over at a time: what a file holds."""
        return self.max_requests

    @cached_property
    def prices(self) -> tuple[float, float] | None:
        """US dollars per million tokens read, and written, by batch; `None` where they are not known."""
        if self.endpoint.prices:
            return _half(self.endpoint.prices)
        place: dict[str, Any] = {"base_url": self.endpoint.base_url}
        normal, by_batch = price_of(self.model, **place), price_of(self.model, **place, batch=True)
        return _half(normal) if normal and by_batch == normal else by_batch

    def cost_of(self, answer: Answer) -> float | None:
        """What an answer costs by batch at the prices of now; `None` where its tokens or the prices are not known."""
        metered = answer.cost is not None or answer.failure is not None or answer.tokens_in > 0
        return (
            Tally(tokens_in=answer.tokens_in, tokens_out=answer.tokens_out, metered=metered).answer(self.prices).cost
        )

    def dearest(self, request: Request) -> float | None:
        """No less US dollars than a request will cost; `None` where the price is not known, or it shows an image."""
        prices, tokens = self.prices, most_tokens(request)
        return None if prices is None or tokens is None else (tokens[0] * prices[0] + tokens[1] * prices[1]) / 1e6

    def answer(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        """Submits, waits, and answers; see [`Model.answer`]."""
        for request in requests:
            _check_request(self, request)
        return self._answers(requests)

    def _answers(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        left = dict(enumerate(requests))
        known = dict(self._failed)
        try:
            while left:
                positions = list(left)
                for finished in self.submit([left[position] for position in positions]):
                    answers = {positions[i]: answer for i, answer in finished.items()}
                    left = {position: request for position, request in left.items() if position not in answers}
                    yield answers
                self.settle()
        finally:
            self.forget()
            self._failed = known

    def submit(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        """Submits what was not submitted yet, and waits for nothing; see [`Deferred.submit`]."""
        asked: dict[str, Request] = {}
        positions: dict[str, list[int]] = defaultdict(list)
        for position, request in enumerate(requests):
            _check_request(self, request)
            key = request_key(self.name, "", request)
            asked[key] = request
            positions[key].append(position)
        for answers in self._by_key(asked):
            self._failed |= {key: answer for key, answer in answers.items() if answer.failure is not None}
            yield {position: answer for key, answer in answers.items() for position in positions[key]}

    def _by_key(self, asked: Mapping[str, Request]) -> Iterator[dict[str, Answer]]:
        known = {key: self._failed[key] for key in asked if key in self._failed}
        yield known
        left = {key: 1 for key in asked if key not in known}  # the attempt that is next
        journal, account, place = self._journal(), self._account(), _root(self.endpoint)
        for entry in journal.holding(list(left), place):
            found = entry if entry.id else self._lost(journal, account, entry)
            if found is None:
                continue
            state = account.look(str(found.id))
            if not state.ended:
                self._pending[state.id] = state
                left = {key: attempt for key, attempt in left.items() if key not in found.keys}
                continue
            requests = {key: asked[key] for key in found.keys if key in left}
            # Two processes may have submitted the same: one answer will do.
            journal.taken(found, [key for key in found.keys if key not in left])
            cancelled = state.status == "cancelled"
            watched = state.id in self._watched
            for answers, again in collect(self, account, journal, found, state, requests, watched=watched):
                for key in answers:
                    left.pop(key, None)
                left |= dict.fromkeys(again, found.attempt + (not cancelled))
                yield answers
        yield from self._send(journal, account, {key: (asked[key], attempt) for key, attempt in left.items()})

    def _lost(self, journal: Journal, account: Account, entry: Entry) -> Entry | None:
        """A batch of which only the intention is written down, where the server has it; else it is forgotten."""
        state = _marked(account, journal, entry.digest, _root(self.endpoint))
        if state is None:
            journal.drop(entry)
            return None
        journal.submitted(entry, state.id)
        return replace(entry, id=state.id)

    def _send(
        self, journal: Journal, account: Account, left: Mapping[str, tuple[Request, int]]
    ) -> Iterator[dict[str, Answer]]:
        refused: dict[str, Answer] = {}
        for attempt in sorted({attempt for _, attempt in left.values()}):
            these = {key: request for key, (request, number) in left.items() if number == attempt}
            for file, keys in self._files(these, refused):
                state = self._submit_file(journal, account, file, keys, attempt)
                self._pending[state.id] = state
        yield refused

    def _files(
        self, requests: Mapping[str, Request], refused: dict[str, Answer]
    ) -> Iterator[tuple[BinaryIO, list[str]]]:
        """Files of requests that a batch may have, one at a time. Rows that cannot be sent go into `refused`."""
        # A file without a name: when the process is killed, no rows are left lying about.
        with tempfile.TemporaryFile() as file:
            keys: list[str] = []
            for key, request in requests.items():
                try:
                    line = self._line(key, request)
                except Refused as problem:
                    refused[key] = Tally().answer(self.prices, failure=str(problem))
                    continue
                if keys and (len(keys) == self.max_requests or file.tell() + len(line) > self.max_bytes):
                    yield file, keys
                    file.seek(0)
                    file.truncate()
                    keys = []
                file.write(line)
                keys.append(key)
            if keys:
                yield file, keys

    def _line(self, key: str, request: Request) -> bytes:
        line = request_line(self.endpoint, key, request)
        if len(line) > self.max_bytes:
            raise Refused(
                f"the row takes {len(line):,} bytes, and a batch's file holds {self.max_bytes:,}", sent=False
            )
        return line

    def _submit_file(
        self, journal: Journal, account: Account, requests: BinaryIO, keys: list[str], attempt: int
    ) -> State:
        place = _root(self.endpoint)
        digest = hashlib.sha256("\n".join([*sorted(keys), str(attempt)]).encode()).hexdigest()
        # A journal can be lost, and the mark at the server is not.
        state = _marked(account, journal, digest, place)
        entry = journal.intend(keys, place=place, model=self.name, digest=digest, attempt=attempt)
        if state is None:
            file = account.upload(requests)
            state = account.create(
                file, digest, window=self.window, adopt=lambda: _marked(account, journal, digest, place)
            )
        journal.submitted(entry, state.id)
        return state

    def settle(self) -> None:
        """Waits until everything that was submitted has ended; see [`Deferred.settle`]."""
        pending, self._pending = self._pending, {}
        if pending and not self.wait:
            said = told(pending.values())
            raise Submitted(f"{self.model} was asked by batch: {said}; the same call takes what has ended")
        if pending:
            self._watched |= pending.keys()
            wait_for(self._account(), pending, poll=self.poll)

    def forget(self) -> None:
        """Forgets what it knew of this call; see [`Deferred.forget`]."""
        self._failed, self._pending, self._watched = {}, {}, set()

    def cancel(self) -> list[str]:
        """
        Cancels every batch at this server that is in the journal and was not taken. What was answered by then is paid
        for, and the next call with these rows takes it.

        Returns:
            `list` of `str`: the ids of the batches that had not ended.
        """
        account = self._account()
        known = [entry.id for entry in self._journal().open(account.root) if entry.id]
        running = [id for id in known if not account.look(id).ended]
        for id in running:
            account.cancel(id)
        return running

    def _account(self) -> Account:
        return Account(self.endpoint, self.endpoint.secret(), _root(self.endpoint))

    def _journal(self) -> Journal:
        return Journal(Path(self.journal) if self.journal is not None else home() / JOURNAL)


def _marked(account: Account, journal: Journal, digest: str, place: str) -> State | None:
    """A batch at the server with this in it that the journal does not know and that can still give results."""
    found = {state.id: state for state in account.recent() if state.mark == digest and state.status not in _VOID}
    known = journal.known(list(found), place)
    return next((state for id, state in found.items() if id not in known), None)


def _half(prices: tuple[float, float]) -> tuple[float, float]:
    return prices[0] * _HALF, prices[1] * _HALF


def _root(endpoint: Endpoint) -> str:
    """The address of the routes, which the journal holds too."""
    address = (endpoint.base_url or "").rstrip("/")
    return address.removesuffix("/chat/completions").removesuffix("/v1").rstrip("/") + "/v1"


def _check(model: BatchEndpoint) -> None:
    endpoint = model.endpoint
    if endpoint.base_url is None:
        raise ACTError(
            f"batch: {endpoint.model} is behind a Hugging Face provider, and these take no batches; give the "
            "provider's own address as base_url= (--base-url), or leave out batch=True (--batch)"
        )
    if endpoint.server != "openai":
        raise ACTError(
            f"batch: server={endpoint.server!r} has no batch routes; leave out server= for one that has OpenAI's, or "
            "batch=True (--batch) to ask at once"
        )
    if urlsplit(endpoint.base_url).query:
        raise ACTError("batch: base_url has a query (?...) in it, which batches cannot be asked with")
    bounds = {"retries": (0, 100), "max_requests": (1, 10_000_000), "max_bytes": (1_000, 10**12)}
    for name, (least, most) in bounds.items():
        value = getattr(model, name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ACTError(f"{name}={value!r} is not a whole number from {least:,} to {most:,}")
    poll = model.poll
    pair = isinstance(poll, tuple | list) and len(poll) == 2 and all(isinstance(one, int | float) for one in poll)
    if not pair or not 0 < poll[0] <= poll[1]:
        raise ACTError(f"poll={poll!r} are not two numbers of seconds: between looks at first, and at most")
    if not isinstance(model.window, str) or not model.window.strip():
        raise ACTError(f"window={model.window!r} is no time such as '24h'")


def _check_request(model: BatchEndpoint, request: Request) -> None:
    from act_hf.models.local.encoding import has_image

    if isinstance(request, ScoreRequest) and request.exact:
        raise ACTError(
            "by batch each row is asked once, and an exact score takes a request for every reply; use another "
            "strategy (logit or likelihood instead of ppl), or leave out batch=True (--batch)"
        )
    require_ability(model, request.ability, purpose="this request")
    if has_image(request.messages):
        require_ability(model, "image", purpose="a task with an image column")
