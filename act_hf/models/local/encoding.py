"""Conversations as tokens: through the model's chat template, in which a row can neither open nor close anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from act_hf.errors import ACTError, one_line
from act_hf.models.local.packing import Tree


if TYPE_CHECKING:
    from collections.abc import Sequence

    from act_hf.models.base import Message, Request, ScoreRequest


def parts_of(content: Any) -> list[dict[str, Any]]:
    """The content of a message as a list of parts."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def has_image(messages: Sequence[Message]) -> bool:
    """Whether a conversation shows an image."""
    return any(part["type"] == "image" for message in messages for part in parts_of(message["content"]))


def text_of(content: Any, *, reader: str) -> str:
    """The text of a message for `reader`, which reads nothing else."""
    parts = parts_of(content)
    if any(part["type"] != "text" for part in parts):
        raise ACTError(f"{reader} reads text only; use a model that sees images for a task with an image column")
    return "\n".join(part["text"] for part in parts)


@dataclass
class Encoding:
    """
    A model's tokenizer and chat template.

    Args:
        tokenizer: the tokenizer.
        processor (*optional*): the processor of a model that sees images, whose template takes messages in parts.
    """

    tokenizer: Any
    processor: Any = None

    def __post_init__(self) -> None:
        # Special or not: templates also use added tokens that are only added (<|assistant|>), and processors put an
        # image in the place of a placeholder.
        tokens = {token.content for token in self.tokenizer.added_tokens_decoder.values()}
        named = vars(self.processor) if self.processor is not None else {}
        tokens |= {value for name, value in named.items() if name.endswith(("_token", "_tag")) and value}
        self.control = sorted((token for token in tokens if token.strip()), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, self.control)) or r"(?!)")
        # What the requests of a task have in common is encoded once.
        self._shared = lru_cache(maxsize=16)(self._encode_shared)
        self._branches = lru_cache(maxsize=16)(self._encode_branches)

    def render(self, messages: Sequence[Message], *, reply: bool = True) -> str:
        """A conversation as text, up to where the reply begins, or only to the end of the last message."""
        shown = [{"role": message["role"], "content": self._shown(message["content"])} for message in messages]
        template = self.tokenizer if self.processor is None else self.processor
        try:
            return str(template.apply_chat_template(shown, tokenize=False, add_generation_prompt=reply))
        except TemplateError as error:
            raise ACTError(f"the model's chat template refuses the conversation: {one_line(error)}") from error

    def encode(self, messages: Sequence[Message], *, reply: bool = True) -> tuple[int, ...]:
        """The tokens of a conversation without images."""
        text = self.render(messages, reply=reply)
        return self._tokens(text, add_special_tokens=self.adds_special_tokens(text))

    def adds_special_tokens(self, text: str) -> bool:
        """Whether a rendered conversation still lacks its first token: some processors leave it to their tokenizer."""
        first = self.tokenizer.bos_token
        return self.processor is not None and not (first and text.startswith(first))

    def split(self, request: Request) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """
        The tokens of a conversation in two: what is shared with others (where the request does not say, everything
        before the last message), and the rest.

        Where the first part ends depends on the request alone, not on its neighbours, so it gets the same arithmetic
        in whatever company it comes. The rest is at least one token, whose logits predict the next.
        """
        messages = request.messages
        prompt = self.encode(messages)
        before = tuple(
            (message["role"], tuple(part["text"] for part in parts_of(message["content"])))
            for message in messages[:-1][: request.shared or None]
        )
        length = min(_common(self._shared(before), prompt), len(prompt) - 1)
        return prompt[:length], prompt[length:]

    def tree(self, request: ScoreRequest) -> tuple[tuple[int, ...], Tree]:
        """A request as a prefix that others may share, and a tree."""
        prefix, rest = self.split(request)
        return prefix, Tree(rest, self.branches(request.continuations))

    def branches(self, continuations: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        """The tokens of each continuation."""
        return self._branches(continuations)

    def _encode_branches(self, continuations: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        branches = tuple(self._tokens(text) for text in continuations)
        if not all(branches):
            raise ACTError("an empty continuation cannot be scored")
        return branches

    def _encode_shared(self, messages: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[int, ...]:
        parts = [
            {"role": role, "content": [{"type": "text", "text": text} for text in texts]} for role, texts in messages
        ]
        try:
            return self.encode(parts, reply=False) if parts else ()
        except ACTError:  # a template that wants to see a question: then nothing is shared
            return ()

    def _tokens(self, text: str, *, add_special_tokens: bool = False) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=add_special_tokens).input_ids)

    def _shown(self, content: Any) -> Any:
        if self.processor is None:
            return self._defused(text_of(content, reader="LocalModel"))
        return [
            {"type": "image"} if part["type"] == "image" else {"type": "text", "text": self._defused(part["text"])}
            for part in parts_of(content)
        ]

    def _defused(self, text: str) -> str:
        """Text without any control token, so that a row cannot end its own message in a template made of them."""
        while self._control.search(text):  # breaking one can leave another, which overlapped with it
            text = self._control.sub(_broken, text)
        return text


def _broken(token: re.Match[str]) -> str:
    """A control token with a blank behind its first sign, or nothing of it where it is but one sign."""
    start = len(token[0]) - len(token[0].lstrip()) + 1
    return f"{token[0][:start]} {token[0][start:]}" if token[0][start:].strip() else " "


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    length = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        length += 1
    return length
