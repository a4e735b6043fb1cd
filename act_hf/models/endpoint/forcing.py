"""
The log-probability of a given reply, token by token, from servers that can be made to tell it.

Every server is led to the tokens that its own tokenizer makes of the reply. A grammar of characters alone is not
enough: greedy decoding under it takes the most probable beginning at each step ("a", "n", "ge", "r"), which is another
and far less probable way to write the same word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, one_line, printable
from act_hf.models.endpoint.retry import Refused
from act_hf.models.local.encoding import parts_of


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from act_hf.models.base import Message
    from act_hf.models.endpoint.tally import Tally
    from act_hf.models.endpoint.wire import Wire


async def score_reply(wire: Wire, tally: Tally, messages: Sequence[Message], reply: str) -> tuple[float, int]:
    """
    The natural log-probability of `reply` as the answer to `messages`, and its number of tokens. The end of the reply
    is not part of it.

    Raises:
        Refused: when this row cannot be scored.
    """
    if not reply.strip():
        raise ACTError(f"an empty continuation ({reply!r}) cannot be scored")
    if wire.endpoint.server == "llama.cpp":
        return await _by_grammar(wire, tally, messages, reply)
    if wire.endpoint.server == "vllm":
        return await _by_prompt(wire, tally, messages, reply)
    return await _by_prefill(wire, tally, messages, reply)


async def scorable(wire: Wire, messages: Sequence[Message], replies: Sequence[str]) -> bool:
    """Whether all of `replies` to `messages` can be scored by this server."""
    if "score" not in wire.endpoint.abilities or (wire.endpoint.server == "tgi" and _shows_images(messages)):
        return False
    return wire.endpoint.server != "llama.cpp" or all([await wire.tokenise(reply) for reply in replies])


async def single_tokens(wire: Wire, replies: Sequence[str]) -> bool:
    """Whether each of `replies` is known to be one token of this server's model."""
    if wire.endpoint.server != "llama.cpp":
        return False
    return all([len(await wire.tokenise(reply)) == 1 for reply in replies])


async def _by_grammar(wire: Wire, tally: Tally, messages: Sequence[Message], reply: str) -> tuple[float, int]:
    """
    llama.cpp: a grammar of token numbers, which allows one path.

    Checked with xllamacpp 2026.10 on SmolLM2: a chosen token's own log-probability is the one before the grammar, at
    any temperature, also where the token is not among `top_logprobs`; `max_tokens` ends the reply before its stop
    token. A token that is part of a letter breaks the grammar, and is not listed either. Builds without token numbers
    in grammars answer 400.
    """
    numbers = await wire.tokenise(reply)
    if not numbers:
        raise ACTError(f"llama.cpp cannot score {reply!r}, since its tokens are not made of whole letters")
    grammar = "root ::= " + " ".join(f"<[{number}]>" for number in numbers)
    got = await wire.chat(
        tally,
        messages,
        max_tokens=len(numbers),
        body={"grammar": grammar},
        logprobs=True,
        top_logprobs=1,  # with 0 there are none at all
        temperature=0.0,
    )
    steps = wire.given(got.steps)
    written = b"".join(step.token for step in steps).decode(errors="replace")
    if len(steps) != len(numbers) or _dense(written) != _dense(reply):
        raise Refused(f"the server wrote {printable(written)!r} where its grammar left only {reply!r}")
    return sum(step.logprob for step in steps), len(steps)


async def _by_prompt(wire: Wire, tally: Tally, messages: Sequence[Message], reply: str) -> tuple[float, int]:
    """
    vLLM: the reply as the unfinished last message, and the log-probabilities of the prompt.

    A forced choice does not do here: vLLM masks the logits before it takes its "raw" log-probabilities, and every
    forced token has 0.
    """
    got = await wire.chat(
        tally,
        [*messages, {"role": "assistant", "content": reply}],
        max_tokens=1,
        body={"prompt_logprobs": 0, "add_generation_prompt": False, "continue_final_message": True},
        temperature=0.0,
    )
    listed = got.body.get("prompt_logprobs")
    return _tail([_first(entry) for entry in wire.given(listed if isinstance(listed, list) else None)], reply)


def _first(entry: Any) -> tuple[str, float | None]:
    """The token of a prompt, which vLLM puts before the ones it could have been."""
    token = next(iter(entry.values()), None) if isinstance(entry, dict) else None
    if not isinstance(token, dict) or not isinstance(token.get("logprob"), int | float):
        return "", None
    return str(token.get("decoded_token") or ""), float(token["logprob"])


async def _by_prefill(wire: Wire, tally: Tally, messages: Sequence[Message], reply: str) -> tuple[float, int]:
    """TGI: prompt and reply in one text, and the log-probabilities of what was read of it."""
    if _shows_images(messages):
        raise ACTError('server="tgi" scores text only; use a strategy that chats for a task with an image column')
    assert wire.prompt is not None  # the ability to score comes with a tokenizer
    tokens = await wire.generate(tally, wire.prompt(messages) + reply)
    return _tail(wire.given(tokens or None), reply)


def _shows_images(messages: Sequence[Message]) -> bool:
    return any(part["type"] != "text" for message in messages for part in parts_of(message["content"]))


def _tail(tokens: Sequence[tuple[str, float | None]], reply: str) -> tuple[float, int]:
    """Sums up the last tokens, those that spell the reply."""
    # White space is left out: tokenizers put it before a word, into it, or lose it when they decode a single token.
    wanted = _dense(reply)
    spelled, total = "", 0.0
    for count, (text, logprob) in enumerate(reversed(tokens), start=1):
        if logprob is None:
            break
        spelled = _dense(text) + spelled
        total += logprob
        if len(spelled) >= len(wanted):
            if spelled.endswith(wanted):
                return total, count
            break
    raise Refused(f"{reply!r} is not at the end of the prompt that the server read")


def _dense(text: str) -> str:
    return "".join(text.replace("▁", " ").split())


def chat_template(source: str) -> Callable[[Sequence[Message]], str]:
    """
    The function that makes a prompt of messages, by the chat template of the tokenizer at `source`.

    Raises:
        ACTError: when there is no tokenizer, or it has no chat template.
    """
    from act_hf.models.local.encoding import Encoding
    from act_hf.models.weights import load_tokenizer

    try:
        tokenizer = load_tokenizer(source)
    except Exception as error:  # whatever a broken file makes of itself
        raise ACTError(f"cannot load the tokenizer {source!r}: {one_line(error)}") from error
    if not tokenizer.chat_template:
        raise ACTError(f"the tokenizer {source!r} has no chat template")
    encoding = Encoding(tokenizer)
    # The server puts the first token there itself.
    first: str = tokenizer.bos_token if tokenizer("a").input_ids[0] == tokenizer.bos_token_id else ""
    return lambda messages: encoding.render(messages).removeprefix(first)
