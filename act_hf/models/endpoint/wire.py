"""An endpoint at work in one process: its connections, what was learnt about its server, and what it is sent."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from act_hf.errors import ACTError
from act_hf.models.endpoint.background import background_loop, close_soon, close_with_process
from act_hf.models.endpoint.choosing import Step, read_steps
from act_hf.models.endpoint.flow import Gate
from act_hf.models.endpoint.prices import price_of
from act_hf.models.endpoint.retry import Again, Breaker, Refused, diagnose, message_in, persist, quote
from act_hf.models.endpoint.tally import Tally


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from act_hf.models.base import Message
    from act_hf.models.endpoint import Endpoint

T = TypeVar("T")

_CONNECTIONS = 20
"""Connections that a client keeps open when they are idle, and why there are several clients: with more in flight than
that, connections would be closed and opened all the time."""

_AT_LEAST = 16
"""Requests that may fail in a row, where the concurrency is less."""


@dataclass(frozen=True)
class Reply:
    """
    A chat completion, checked.

    Args:
        text (`str`, *optional*): what the model said.
        finish (`str`): why it ended: `"stop"`, `"length"`, ...
        steps (list of [`Step`], *optional*): its tokens; `None` where the server gave no log-probabilities.
        body (mapping): all that the server sent.
    """

    text: str | None
    finish: str
    steps: list[Step] | None
    body: Any


class Wire:
    """
    An [`Endpoint`] at work. Belongs to the process that made it, and to its background loop.

    Args:
        endpoint ([`Endpoint`]): the arguments.
        secret (`str`, *optional*): the token.
    """

    def __init__(self, endpoint: Endpoint, secret: str | None) -> None:
        self.endpoint = endpoint
        self.pid = os.getpid()
        self.loop = background_loop()
        self.gate = Gate(endpoint.concurrency)
        self.breaker = Breaker(endpoint.model, max(_AT_LEAST, endpoint.concurrency))
        self.gives_logprobs = False
        self.prices = endpoint.prices or price_of(
            endpoint.model, provider=endpoint.provider, base_url=endpoint.base_url
        )
        self.prompt: Callable[[Sequence[Message]], str] | None = None
        self.ambiguous: set[tuple[str, ...]] = set()
        self.numbers: dict[str, tuple[int, ...]] = {}
        self.lock = asyncio.Lock()
        self._secret = secret
        self._rate = _rate(endpoint.requests_per_minute)
        self._clients = [_client(endpoint, secret) for _ in range(-(-endpoint.concurrency // _CONNECTIONS))]
        self._turn = itertools.cycle(self._clients)
        for client in self._clients:
            close_with_process(client)
            weakref.finalize(self, close_soon, client, self.loop, self.pid).atexit = False

    async def ask(self, tally: Tally, send: Callable[[Any], Awaitable[Any]], read: Callable[[Any], T]) -> T:
        """
        One reply, asked for as often as it takes.

        Args:
            tally ([`Tally`]): counts what is sent.
            send (async function): takes a client and asks it.
            read (function): makes of the client's reply what is wanted, or raises [`Again`] or [`Refused`].

        Raises:
            Refused: when there is none for this row.
            ACTError: when there will be none for any row.
        """
        tries = 0

        async def once() -> T:
            nonlocal tries
            if self._rate is not None:
                await self._rate.acquire()
            async with self.gate.slot() as sent:
                tries += 1
                start = time.perf_counter()
                result, problem = await self._try(tally, send, read)
                if problem is None:
                    self.gate.succeeded(time.perf_counter() - start)
                elif isinstance(problem, Again) and problem.congested:
                    self.gate.congested(sent)
            if problem is not None:
                raise problem
            return result  # type: ignore[return-value]  # it is there when there is no problem

        try:
            reply = await persist(once, attempts=self.endpoint.attempts)
        except Again as problem:
            reason, sent = str(problem), problem.sent
        except Refused as problem:
            if problem.sent:
                self.breaker.refused(str(problem))
            raise
        else:
            self.breaker.answered()
            return reply
        self.breaker.gave_up(reason, sent=sent)
        raise Refused(f"no answer after {tries} {'try' if tries == 1 else 'tries'}: {reason}")

    async def _try(
        self, tally: Tally, send: Callable[[Any], Awaitable[Any]], read: Callable[[Any], T]
    ) -> tuple[T | None, Exception | None]:
        # Errors are returned: raised where they are caught they would carry the client's own, which may quote a token.
        start = time.perf_counter()
        seconds = self.endpoint.timeout
        try:
            # The client's timeout is for each piece of a reply: a server that trickles would never run into it.
            async with asyncio.timeout(seconds):
                result = read(await send(next(self._turn)))
        except Exception as error:
            problem = diagnose(error, model=self.endpoint.model, secret=self._secret, timeout=seconds)
            tally.calls += not isinstance(problem, Again | Refused) or problem.sent
            return None, problem
        tally.calls += 1
        tally.seconds += time.perf_counter() - start
        return result, None

    async def chat(
        self, tally: Tally, messages: Sequence[Message], *, max_tokens: int, body: dict[str, Any], **options: Any
    ) -> Reply:
        """One chat completion. `body` holds fields beyond what every server knows; those of `extra_body` win."""
        endpoint = self.endpoint

        async def send(client: Any) -> Any:
            return await client.chat_completion(
                messages=list(messages),
                model=endpoint.model,
                max_tokens=max_tokens,
                seed=endpoint.seed,
                extra_body={**body, **endpoint.extra_body},
                **options,
            )

        reply = await self.ask(tally, send, lambda completion: read_reply(completion, self._secret))
        meter(tally, reply)
        return reply

    def given(self, logprobs: T | None) -> T:
        """
        `logprobs`, unless there are none.

        Raises:
            ACTError: when the server has never given any.
            Refused: when it has.
        """
        if logprobs is None:
            if self.gives_logprobs:
                raise Refused("the reply has no log-probabilities")
            raise ACTError(
                f"{self.endpoint.model} gives no log-probabilities; pass logprobs=False and use a strategy that chats "
                "(naive, cot, mc, devil)"
            )
        self.gives_logprobs = True
        return logprobs

    async def generate(self, tally: Tally, prompt: str) -> list[tuple[str, float | None]]:
        """The tokens of a prompt with their log-probabilities, by TGI's own route."""

        async def send(client: Any) -> Any:
            return await client.text_generation(
                prompt, model=self.root, details=True, decoder_input_details=True, max_new_tokens=1, do_sample=False
            )

        details = await self.ask(tally, send, lambda output: _of(output, "details"))
        prefill = _of(details, "prefill")
        tokens = [(_of(token, "text"), _of(token, "logprob")) for token in prefill or [] if isinstance(token, dict)]
        tally.meter(len(tokens), _of(details, "generated_tokens"))
        return [
            (text, float(logprob) if isinstance(logprob, int | float) else None)
            for text, logprob in tokens
            if isinstance(text, str)
        ]

    async def tokenise(self, text: str) -> tuple[int, ...]:
        """
        The numbers of the tokens that llama.cpp makes of `text`; none where a letter is spread over several of them.
        Asked once for a text; nobody charges for it, and it counts in no tally.
        """
        async with self.lock:
            if text not in self.numbers:
                listed = await self.ask(Tally(), lambda _: self._post_text(text), lambda body: _of(body, "tokens"))
                whole = all(isinstance(_of(token, "piece"), str) for token in listed or [])
                self.numbers[text] = tuple(int(token["id"]) for token in listed or []) if whole else ()
        return self.numbers[text]

    async def _post_text(self, text: str) -> Any:
        from huggingface_hub import get_async_session, hf_raise_for_status

        headers = {"authorization": f"Bearer {self._secret}"} if self._secret else {}
        plain = {"content": text, "add_special": False, "parse_special": False, "with_pieces": True}
        async with get_async_session() as session:
            response = await session.post(f"{self.root}/tokenize", json=plain, headers=headers)
            hf_raise_for_status(response)
            return response.json()

    @property
    def root(self) -> str:
        """The server's address without the part that is OpenAI's."""
        address = (self.endpoint.base_url or "").rstrip("/")
        return address.removesuffix("/chat/completions").removesuffix("/v1").rstrip("/")


def read_reply(completion: Any, secret: str | None) -> Reply:
    """
    What is in a chat completion. `secret` is cut out of whatever the server says.

    Raises:
        Again: when it is none.
    """
    choices = _of(completion, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = _of(choice, "message")
    if not isinstance(message, dict):
        said = quote(message_in(completion), secret)
        raise Again("the server sent a reply without a message" + (f": {said}" if said else ""))
    text = message.get("content")
    content = _of(_of(choice, "logprobs"), "content")
    return Reply(
        text=text if isinstance(text, str) else None,
        finish=quote(str(_of(choice, "finish_reason")), secret),
        steps=read_steps(content) if isinstance(content, list) else None,
        body=completion,
    )


def meter(tally: Tally, reply: Reply) -> None:
    """Adds the tokens that the server says `reply` took."""
    usage = _of(reply.body, "usage")
    tally.meter(_of(usage, "prompt_tokens"), _of(usage, "completion_tokens"))


def _of(value: Any, name: str) -> Any:
    """A field of what a server sent, which can be anything."""
    return value.get(name) if isinstance(value, dict) else None


def _rate(requests_per_minute: float | None) -> Any:
    if requests_per_minute is None:
        return None
    from aiolimiter import AsyncLimiter

    # One at a time, evenly: a whole minute's worth at once is what rate limits are against.
    return AsyncLimiter(1, 60.0 / requests_per_minute)


def _client(endpoint: Endpoint, secret: str | None) -> Any:
    from huggingface_hub import AsyncInferenceClient

    if endpoint.base_url is None:
        return AsyncInferenceClient(provider=endpoint.provider, token=secret, timeout=endpoint.timeout)  # type: ignore[arg-type]
    # Without a token the client would send the user's Hugging Face token to whoever has this address. It leaves out
    # headers that are None.
    headers: Any = None if secret else {"authorization": None}
    return AsyncInferenceClient(base_url=endpoint.base_url, api_key=secret, timeout=endpoint.timeout, headers=headers)
