"""Endpoint: a model behind a server, on huggingface_hub's client."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from act_hf.errors import ACTError
from act_hf.models.base import ScoreRequest, require_ability
from act_hf.models.weights import weights_fingerprint


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from act_hf.models.base import Answer, Request
    from act_hf.models.endpoint.wire import Wire

SERVERS = {
    "openai": "what every OpenAI-style server understands",
    "llama.cpp": "grammars: replies held to the labels, exact scores",
    "vllm": "structured outputs and the prompt's log-probabilities: replies held to the labels, exact scores",
    "tgi": "a regex: replies held to the labels; exact scores where tokenizer= is given",
}
"""What an endpoint's server may be, and what that adds."""

_OURS = ("messages", "model", "stream", "n")
_lock = threading.Lock()

_LISTED, _TGI_LISTS, _LLAMA_LISTS = 20, 5, 1000
"""The most probable tokens that servers list: most of them, TGI, and llama.cpp (any number, so this is ours)."""

_LEFT_OUT = "$"
"""What stands in a pickle where a token was. No environment variable has an empty name."""


@dataclass
class Endpoint:
    """
    A model behind a server: a Hugging Face provider, or any server that speaks OpenAI's chat completions (vLLM,
    llama.cpp, SGLang, Ollama, TGI, OpenAI itself). Requests are sent concurrently, as many at once as the server
    bears, and repeated where that may help. Connects on first use; pickles as its arguments, but without the token.

    A row that the server refuses (400, 413, 422, or 403 as moderation does) fails alone. A server that has answered
    nothing, and has refused the first 16 requests (or `concurrency`, where that is more) in the same words, stops the
    job, as does any other refusal (401, 402, 404, ...).

    > Parameters that say which model

    Args:
        model (`str`): the model as the server or the provider knows it. Answers are stored under this name and not
            under an address, so two servers that know different models by the same name share them, unless
            `revision` tells the models apart.
        base_url (`str`, *optional*): the server's address, as `"http://localhost:8000/v1"`. Without one, a Hugging
            Face provider is used.
        provider (`str`, *optional*): a Hugging Face provider, as `"together"`. Without one, Hugging Face chooses.
        server (`str`, *optional*, defaults to `"openai"`): what the server understands beyond the common part:
            `"openai"` (nothing), `"llama.cpp"`, `"vllm"` or `"tgi"`.
        token (`str`, *optional*): the API key, or `"$NAME"` for the one in the environment variable NAME, which also
            works in other processes: a key as such is never in a pickle. Without one, a Hugging Face provider gets the
            token of `hf auth login`, and any other server none.
        revision (`str`, *optional*): part of the model's name, to tell apart models that servers know by the same one.
            It is not sent.

    > Parameters that say what it can do

    Args:
        logprobs (`bool`, *optional*, defaults to `True`): whether it gives log-probabilities.
        top_logprobs (`int`, *optional*): the most probable tokens asked for. Defaults to 20, as many servers allow no
            more (some only 5), and to 1000 for llama.cpp, which allows any number.
        images (`bool`, *optional*, defaults to `False`): whether the model sees images.
        image_side (`int`, *optional*, defaults to 1024): pixels of an image's longer side at most.
        tokenizer (`str`, *optional*): a Hub id or folder with the model's tokenizer, with which TGI's prompts are made
            for exact scores.

    > Parameters that change the answers

    Args:
        temperature (`float`, *optional*, defaults to 0): of chat replies; scores are taken at 0.
        seed (`int`, *optional*): sent with every request.
        extra_body (mapping, *optional*): fields sent with every request. They win over ours; `None` leaves one out.

    > Parameters that say how it is asked

    Args:
        concurrency (`int`, *optional*, defaults to 32): most requests in flight. Starts at 16 at most, and follows
            what the server bears.
        requests_per_minute (`float`, *optional*): most requests sent.
        timeout (`float`, *optional*, defaults to 120): seconds for a request.
        attempts (`int`, *optional*, defaults to 6): how often a request is sent before its row fails.
        prices (tuple of two `float`, *optional*): US dollars per million tokens read, and written. Defaults to what
            the package `genai-prices` knows for the provider or the address.

    Raises:
        ACTError: for a wrong argument; while answering, when the server cannot be used or does not answer.
    """

    model: str
    base_url: str | None = None
    provider: str | None = None
    server: str = "openai"
    token: str | None = field(default=None, repr=False)
    revision: str | None = None
    logprobs: bool = True
    top_logprobs: int | None = None
    images: bool = False
    image_side: int = 1024
    tokenizer: str | None = None
    temperature: float = 0.0
    seed: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    concurrency: int = 32
    requests_per_minute: float | None = None
    timeout: float = 120.0
    attempts: int = 6
    prices: tuple[float, float] | None = None
    instructed: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        self._wire: Wire | None = None
        _check_place(self)
        _check_numbers(self)
        _check_body(self.extra_body)
        if self.token is not None and not _is_token(self.token):
            raise ACTError(f"the token is not one: {_WHY_NOT}")

    def __getstate__(self) -> dict[str, Any]:
        arguments = {argument.name: getattr(self, argument.name) for argument in fields(self)}
        named = self.token is None or self.token.startswith("$")
        return arguments if named else {**arguments, "token": _LEFT_OUT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _wire=None)

    def __copy__(self) -> Endpoint:
        return replace(self)  # not by way of a pickle's state, which has no token

    def __deepcopy__(self, memo: dict[int, Any]) -> Endpoint:
        return replace(self, extra_body=deepcopy(self.extra_body, memo))

    @property
    def listed(self) -> int:
        """How many of the most probable tokens are asked for."""
        if self.server == "tgi":
            return min(_TGI_LISTS, self.top_logprobs or _TGI_LISTS)
        return self.top_logprobs or (_LLAMA_LISTS if self.server == "llama.cpp" else _LISTED)

    @property
    def name(self) -> str:
        """The model and what changes its answers; no address, no token."""
        changes = [f"{self.model}@{self.provider}" if self.provider else self.model, self.server]
        if self.revision is not None:
            changes.append(f"rev-{self.revision}")
        if self.listed != (_TGI_LISTS if self.server == "tgi" else _LISTED):
            changes.append(f"top{self.listed}")
        if self.images:
            changes.append(f"side{self.image_side}")
        if self.tokenizer:
            changes.append(f"by-{self._tokenizer_name}")
        if self.temperature:
            changes.append(f"t{self.temperature:g}")
        if self.seed is not None:
            changes.append(f"seed{self.seed}")
        if self.extra_body:
            body = json.dumps(dict(self.extra_body), sort_keys=True)
            changes.append(f"body-{hashlib.sha256(body.encode()).hexdigest()[:8]}")
        return "/".join(changes)

    @cached_property
    def _tokenizer_name(self) -> str:
        path = Path(self.tokenizer or "")
        return f"{path.name}@{weights_fingerprint(path)}" if path.exists() else str(self.tokenizer)

    @property
    def abilities(self) -> frozenset[str]:
        """What it can do, by its arguments: nothing is asked for it."""
        able = {"chat"}
        if self.logprobs:
            able.add("choose")
            if self.server in ("llama.cpp", "vllm") or (self.server == "tgi" and self.tokenizer):
                able.add("score")
        return frozenset(able | {"image"} if self.images else able)

    def cost_of(self, answer: Answer) -> float | None:
        """What an answer costs at the prices of now, whatever was paid for it; `None` where its tokens or the prices
        are not known."""
        from act_hf.models.endpoint.tally import Tally

        # Tokens that no server told are 0, which no prompt has.
        metered = answer.cost is not None or answer.failure is not None or answer.tokens_in > 0
        tally = Tally(tokens_in=answer.tokens_in, tokens_out=answer.tokens_out, metered=metered)
        return tally.answer(self._prices).cost

    @property
    def _prices(self) -> tuple[float, float] | None:
        return self.prices or self._listed_prices

    @cached_property
    def _listed_prices(self) -> tuple[float, float] | None:
        from act_hf.models.endpoint.prices import price_of

        return price_of(self.model, provider=self.provider, base_url=self.base_url)

    def answer(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        """
        Answers concurrently, in a background thread; see [`Model.answer`].

        After a crash at most `concurrency` of the requests are paid again, as long as every yield is stored before the
        next one is asked for.
        """
        from act_hf.models.endpoint.dialogue import answer_request
        from act_hf.models.endpoint.flow import stream
        from act_hf.models.local.encoding import has_image

        for request in requests:
            require_ability(self, request.ability, purpose="this request")
            if has_image(request.messages):
                require_ability(self, "image", purpose="a task with an image column")
        asks_logprobs = any(isinstance(request, ScoreRequest) for request in requests)
        wire = self._connect(template=asks_logprobs)
        return stream(
            [partial(answer_request, wire, request) for request in requests],
            gate=wire.gate,
            # A server that gives no log-probabilities is found out with the first request, not with all of them.
            proven=lambda: wire.gives_logprobs or not asks_logprobs,
        )

    def _connect(self, *, template: bool) -> Wire:
        from act_hf.models.endpoint.forcing import chat_template
        from act_hf.models.endpoint.wire import Wire

        with _lock:
            # Connections and their loop are of one process. A forked one makes its own.
            if self._wire is None or self._wire.pid != os.getpid() or self._wire.loop.is_closed():
                self._wire = Wire(self, self.secret())
            if template and self._wire.prompt is None and self.server == "tgi" and self.tokenizer:
                self._wire.prompt = chat_template(self.tokenizer)
            return self._wire

    def secret(self) -> str | None:
        """The token itself. Raises [`ACTError`] where it is named and not there."""
        if self.token == _LEFT_OUT:
            raise ACTError(
                f"this copy of {self.model} comes out of a pickle, as in another process, and a token is in none; "
                'give it as token="$NAME" for an environment variable NAME that every process has'
            )
        if self.token is None or not self.token.startswith("$"):
            return self.token
        secret = os.environ.get(self.token[1:], "").strip()
        if not secret:
            raise ACTError(f"token={self.token!r}: the environment variable {self.token[1:]} is not set")
        if not _is_token(secret):
            raise ACTError(f"token={self.token!r}: what {self.token[1:]} holds is no token: {_WHY_NOT}")
        return secret


_WHY_NOT = "it is empty, or has more in it than the visible characters of ASCII"


def _is_token(token: Any) -> bool:
    return isinstance(token, str) and token != "" and token.isascii() and token.isprintable() and " " not in token


def _check_place(endpoint: Endpoint) -> None:
    model, base_url = endpoint.model, endpoint.base_url
    if not isinstance(model, str) or not model.strip() or not model.isprintable():
        raise ACTError(f"model={model!r} is no model's name")
    if "://" in model:
        raise ACTError(f"model={model!r} is an address; give it as base_url=, and the model's name as model=")
    revision = endpoint.revision
    if revision is not None and not (isinstance(revision, str) and revision.strip() and revision.isprintable()):
        raise ACTError(f"revision={revision!r} is no name")
    if endpoint.server not in SERVERS:
        raise ACTError(f"server={endpoint.server!r} is none of {', '.join(SERVERS)}")
    if base_url is None:
        if endpoint.server != "openai":
            raise ACTError(f"server={endpoint.server!r} needs base_url=, the server's address")
        return
    if endpoint.provider is not None:
        raise ACTError(f"give base_url= or provider={endpoint.provider!r}, not both")
    parts = urlsplit(base_url)
    if parts.username or parts.password:
        raise ACTError("base_url has a user name or password in it; give the key as token=")
    if parts.scheme not in ("http", "https") or not parts.hostname or not base_url.isprintable() or " " in base_url:
        raise ACTError(f"base_url={base_url!r} is no address like http://localhost:8000/v1")


def _check_numbers(endpoint: Endpoint) -> None:
    bounds = {
        "concurrency": (1, 1000),
        "attempts": (1, 100),
        "top_logprobs": (1, 1000),
        "image_side": (16, 16384),
        "timeout": (0.001, 86400.0),
        "temperature": (0.0, 10.0),
        "requests_per_minute": (0.001, 1e9),
        "seed": (0, 2**63 - 1),
    }
    for name, (least, most) in bounds.items():
        value = getattr(endpoint, name)
        if value is None and name in ("requests_per_minute", "seed", "top_logprobs"):
            continue
        whole = isinstance(least, int)
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not number or not least <= value <= most:
            raise ACTError(f"{name}={value!r} is not {'a whole' if whole else 'a'} number from {least:g} to {most:g}")
    if endpoint.prices is not None:
        prices = tuple(endpoint.prices)
        if len(prices) != 2 or not all(isinstance(price, int | float) and price >= 0 for price in prices):
            raise ACTError(f"prices={endpoint.prices!r} are not two: dollars per million tokens read, and written")
        endpoint.prices = (float(prices[0]), float(prices[1]))


def _check_body(extra_body: Mapping[str, Any]) -> None:
    if not isinstance(extra_body, Mapping):
        raise ACTError(f"extra_body={extra_body!r} is no mapping of field to value")
    for field_name in _OURS:
        if field_name in extra_body:
            raise ACTError(f"extra_body cannot hold {field_name!r}, which is not the caller's to set")
    try:
        json.dumps(dict(extra_body))
    except (TypeError, ValueError) as error:
        raise ACTError(f"extra_body cannot be sent as JSON: {error}") from error
