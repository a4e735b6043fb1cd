"""A model in memory, shown images: one prompt with its pixels is read, then the replies branch off it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, one_line
from act_hf.images import prepared
from act_hf.models.base import Answer, ChatRequest, ScoreRequest
from act_hf.models.local.encoding import parts_of
from act_hf.models.local.loaded import warn_slow
from act_hf.models.local.packing import Tree, packed_scores, plain_scores


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL.Image import Image

    from act_hf.models.base import Message, Request
    from act_hf.models.local.loaded import Loaded, Tokens


class Unreadable(Exception):
    """A row that this model cannot read: a broken image, or too much of it."""


def sees_images(source: str) -> bool:
    """Whether the model of a Hub id or folder is an image-text-to-text one. Reads its `config.json` and no more."""
    from transformers import PreTrainedConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    config, _ = PreTrainedConfig.get_config_dict(source)
    kind = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(str(config.get("model_type")))
    # Some kinds come with and without eyes.
    return kind is not None and kind in (config.get("architectures") or [kind]) and "vision_config" in config


@dataclass
class Vision:
    """
    The image side of a model in memory.

    Args:
        loaded ([`Loaded`]): the model, with a processor in its encoding.
    """

    loaded: Loaded

    def __post_init__(self) -> None:
        self._packs: bool | None = None  # not known yet

    def answer(self, requests: Sequence[tuple[int, Request]], batch_size: int) -> Iterator[dict[int, Answer]]:
        """Answers requests that show images: scores one by one, replies `batch_size` at a time."""
        chats: dict[int, list[tuple[int, ChatRequest]]] = {}
        for i, request in requests:
            if isinstance(request, ScoreRequest):
                yield {i: self._score(request)}
            else:
                chats.setdefault(request.max_tokens, []).append((i, request))
        for limit, group in chats.items():
            for start in range(0, len(group), batch_size):
                yield from self._chat(group[start : start + batch_size], limit)

    def read(self, conversations: Sequence[Sequence[Message]], room: int) -> dict[str, Any]:
        """
        What the model reads of some conversations, padded on the left.

        Args:
            conversations (sequence of sequences of messages): all with images.
            room (`int`): tokens that have to fit in after the prompt.

        Raises:
            Unreadable: where an image is broken, or the row does not fit. It does not say which of several.
        """
        encoding, model = self.loaded.encoding, self.loaded.model
        texts = [encoding.render(messages) for messages in conversations]
        try:
            images = [[prepared(image).convert("RGB") for image in _images(messages)] for messages in conversations]
        except ACTError as error:
            raise Unreadable(str(error)) from error
        try:
            inputs = encoding.processor(
                text=texts,
                images=images,
                padding=True,
                padding_side="left",
                add_special_tokens=encoding.adds_special_tokens(texts[0]),
                return_tensors="pt",
            )
        except ValueError as error:  # an image of an odd shape
            raise Unreadable(f"the image cannot be read: {one_line(error)}") from error
        inputs = inputs.to(model.device, dtype=model.dtype)
        if failure := self.loaded.too_long(inputs["input_ids"].shape[1] + room):
            raise Unreadable(failure)
        return dict(inputs)

    def _chat(self, batch: list[tuple[int, ChatRequest]], limit: int) -> Iterator[dict[int, Answer]]:
        start = time.perf_counter()
        try:
            inputs = self.read([request.messages for _, request in batch], limit)
        except Unreadable as error:
            if len(batch) == 1:
                yield {batch[0][0]: Answer(failure=str(error), calls=0)}
                return
            for one in batch:  # to fail alone
                yield from self._chat([one], limit)
            return
        replies = self.loaded.replies(inputs, limit)
        seconds = (time.perf_counter() - start) / len(batch)
        tokens = inputs["attention_mask"].sum(dim=1).tolist()
        yield {
            i: Answer(text=text, tokens_in=tokens_in, tokens_out=tokens_out, seconds=seconds)
            for (i, _), (text, tokens_out), tokens_in in zip(batch, replies, tokens, strict=True)
        }

    def _score(self, request: ScoreRequest) -> Answer:
        start = time.perf_counter()
        branches = self.loaded.encoding.branches(request.continuations)
        lengths = tuple(len(branch) for branch in branches)
        try:
            inputs = self.read([request.messages], max(lengths))
        except Unreadable as error:
            return Answer(failure=str(error), calls=0)
        # Finding out how to score takes its time once and not for every row.
        stopped = time.perf_counter()
        self._find_out(inputs, branches)
        start += time.perf_counter() - stopped
        logprobs, read = self.score(inputs, branches)
        seconds = time.perf_counter() - start
        return Answer(logprobs=tuple(logprobs), lengths=lengths, tokens_in=read, seconds=seconds)

    def score(self, inputs: dict[str, Any], branches: tuple[Tokens, ...]) -> tuple[list[float], int]:
        """The log-probability of each branch after the one prompt of `inputs`, and the tokens read."""
        if self._find_out(inputs, branches):
            return self._score_tree(inputs, branches)
        return plain_scores(self.loaded.model, inputs, branches)

    def _find_out(self, inputs: dict[str, Any], branches: tuple[Tokens, ...]) -> bool:
        """Whether these can be scored in one pass. It is tried once, on the first that the model has all in sight."""
        if inputs["input_ids"].shape[1] + max(len(branch) for branch in branches) > self.loaded.window:
            return False
        if self._packs is None:
            self._packs = self._check(inputs, branches)
        return self._packs

    def _score_tree(self, inputs: dict[str, Any], branches: tuple[Tokens, ...]) -> tuple[list[float], int]:
        import torch
        from transformers import DynamicCache

        model, ids = self.loaded.model, inputs["input_ids"][0]
        cache = DynamicCache()
        with torch.inference_mode():
            model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        # The last token is read again, as the root of the tree: its logits predict the first token of every branch.
        cache.crop(-1)
        tree = Tree((int(ids[-1]),), branches)
        seen = len(ids) - 1
        (logprobs,) = packed_scores(model, cache, [tree], seen=seen, start=seen + self._shift)
        return logprobs, seen + len(tree)

    @property
    def _shift(self) -> int:
        # Models that number an image in rows and columns (M-RoPE) go on after it at a position of their own, which
        # they keep for generating.
        model = self.loaded.model
        deltas = getattr(getattr(model, "model", model), "rope_deltas", None)
        return 0 if deltas is None else int(deltas.flatten()[0])

    def _check(self, inputs: dict[str, Any], branches: tuple[Tokens, ...]) -> bool:
        """Whether branching off the first prompt gives what plain forward passes give; see [`Loaded.packs`]."""
        # Two branches of several tokens, whatever is asked for.
        a, b = branches[0][0], int(inputs["input_ids"][0, -1])
        probes = ((a, b, a, b), (b, a, b, a))
        try:
            packed, _ = self._score_tree(inputs, (*branches, *probes))
            plain, _ = plain_scores(self.loaded.model, inputs, probes)
            same = self.loaded.agree(packed[-2:], plain)
        except Exception:  # whatever such a model makes of a mask that it does not know
            same = False
        if not same:
            warn_slow(self.loaded.model, "images")
        return same


def _images(messages: Sequence[Message]) -> list[Image]:
    return [part["image"] for message in messages for part in parts_of(message["content"]) if part["type"] == "image"]
