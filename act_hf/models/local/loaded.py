"""A model in memory, asked in text: what is shared is read once, what differs is read together."""

from __future__ import annotations

import copy
import time
import warnings
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from act_hf.models.base import Answer
from act_hf.models.local.packing import Tree, packed_scores, packs, plain_scores, tokens_read


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from act_hf.models.base import ChatRequest, ScoreRequest
    from act_hf.models.local.encoding import Encoding

Tokens = tuple[int, ...]

_PREFIXES_KEPT = 4


@dataclass
class Loaded:
    """
    A causal language model, its tokenizer, and the keys and values of the prefixes it read last.

    Args:
        name (`str`): what it is called in a failure.
        model: the weights.
        encoding ([`Encoding`]): how it reads a conversation.
    """

    name: str
    model: Any
    encoding: Encoding
    prefixes: OrderedDict[Tokens, Any] = field(default_factory=OrderedDict)

    @property
    def limit(self) -> int:
        """The longest sequence in tokens that the model reads."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 10**9)

    @property
    def window(self) -> int:
        """The longest sequence in tokens in which the model has all of it in sight. Only such a one can be packed."""
        config = self.model.config.get_text_config()
        layers = getattr(config, "layer_types", None) or ["sliding_attention"]
        spans: list[int | None] = [self.limit]
        spans += [getattr(config, "sliding_window", None)] if "sliding_attention" in layers else []
        spans += [getattr(config, "attention_chunk_size", None)] if "chunked_attention" in layers else []
        return min(span for span in spans if span)

    def too_long(self, tokens: int) -> str | None:
        """Why a row of so many tokens cannot be read; `None` where it can."""
        return f"the row takes {tokens} tokens, but {self.name} reads {self.limit}" if tokens > self.limit else None

    # Scoring

    def score(self, requests: Iterable[tuple[int, ScoreRequest]], pack_tokens: int) -> Iterator[dict[int, Answer]]:
        """Scores in packs of up to `pack_tokens` tokens, those with the same prefix together."""
        groups: OrderedDict[Tokens, list[tuple[int, Tree]]] = OrderedDict()
        alone: list[tuple[int, Tokens, Tree]] = []
        for i, request in requests:
            prefix, tree = self.encoding.tree(request)
            length = len(prefix) + tree.depth
            if failure := self.too_long(length):
                yield {i: Answer(failure=failure, calls=0)}
            elif self.packs and length <= self.window:
                groups.setdefault(prefix, []).append((i, tree))
            else:
                alone.append((i, prefix, tree))
        for prefix, trees in groups.items():
            for pack in packs(trees, pack_tokens):
                yield self._score_pack(prefix, pack)
        for i, prefix, tree in alone:
            yield {i: self._score_alone(prefix, tree)}

    def _score_pack(self, prefix: Tokens, pack: list[tuple[int, Tree]]) -> dict[int, Answer]:
        start = time.perf_counter()
        logprobs, read = self.score_trees(prefix, [tree for _, tree in pack])
        seconds = (time.perf_counter() - start) / len(pack)
        # The prefix is counted with the row for which it was read.
        reads = [len(tree) + (read if position == 0 else 0) for position, (_, tree) in enumerate(pack)]
        return {
            i: _scored(values, tree, count, seconds)
            for (i, tree), values, count in zip(pack, logprobs, reads, strict=True)
        }

    def _score_alone(self, prefix: Tokens, tree: Tree) -> Answer:
        start = time.perf_counter()
        logprobs, read = self.score_plainly(prefix + tree.prompt, tree)
        return _scored(logprobs, tree, read, time.perf_counter() - start)

    def score_trees(self, prefix: Tokens, trees: Sequence[Tree]) -> tuple[list[list[float]], int]:
        """The log-probability of each branch of each tree after `prefix`, and the prefix tokens read for it."""
        cache, read = self.take_prefix(prefix)
        logprobs = packed_scores(self.model, cache, trees, seen=len(prefix), start=len(prefix))
        self.give_prefix(prefix, cache, tokens_read(trees))
        return logprobs, read

    def score_plainly(self, prompt: Tokens, tree: Tree) -> tuple[list[float], int]:
        """The log-probability of each branch of `tree` after `prompt` without packing, and the tokens read."""
        return plain_scores(self.model, {"input_ids": self._tensor([prompt])}, tree.branches)

    @cached_property
    def packs(self) -> bool:
        """
        Whether a pack gives what plain forward passes give. It is tried once.

        Packing needs attention that follows the mask and positions that are told. A model with a recurrent state, or
        with positions of its own counting, would score something else without a word; it is then scored one reply at a
        time.
        """
        special = self.encoding.tokenizer.added_tokens_decoder
        a, b, c, d, e, f, g, h, *_ = [i for i in range(len(special) + 8) if i not in special]
        prefix, trees = (a, b), [Tree((c, d, e), ((f, g), (h,))), Tree((d, f), ((g, h, c), (a, b, g, e)))]
        try:
            packed = self.score_trees(prefix, trees)[0][1]
            plain = self.score_plainly(prefix + trees[1].prompt, trees[1])[0]
            same = self.agree(packed, plain)
        except Exception:  # whatever such a model makes of a mask that it does not know
            same = False
        self.prefixes.pop(prefix, None)
        if not same:
            warn_slow(self.model, "text")
        return same

    def agree(self, packed: Sequence[float], plain: Sequence[float]) -> bool:
        """Whether two computations of the same log-probabilities differ by no more than rounding does."""
        import torch

        tolerance = 0.01 if self.model.dtype == torch.float32 else 0.5  # bfloat16 was seen to differ by 0.3
        return all(abs(left - right) < tolerance for left, right in zip(packed, plain, strict=True))

    # The keys and values of a prefix

    def take_prefix(self, prefix: Tokens) -> tuple[Any, int]:
        """
        The keys and values of `prefix`, and how many tokens had to be read for them now.

        They are taken out, and given back by [`give_prefix`] when they are as they were: a forward pass that is broken
        off halfway leaves them longer, and whoever used them next would silently score something else.
        """
        import torch
        from transformers import DynamicCache

        if prefix in self.prefixes:
            return self.prefixes.pop(prefix), 0
        cache = DynamicCache()
        if prefix:
            with torch.inference_mode():
                self.model(input_ids=self._tensor([prefix]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache, len(prefix)

    def give_prefix(self, prefix: Tokens, cache: Any, read: int) -> None:
        """Takes back the keys and values of `prefix`, after `read` tokens were read on top of them."""
        cache.crop(-read)
        self.prefixes[prefix] = cache
        if len(self.prefixes) > _PREFIXES_KEPT:
            self.prefixes.popitem(last=False)

    # Generating

    def chat(self, requests: Iterable[tuple[int, ChatRequest]], batch_size: int) -> Iterator[dict[int, Answer]]:
        """Replies in batches of similar length, those with the same prefix together."""
        prompts: list[tuple[int, int, Tokens, Tokens]] = []
        for i, request in requests:
            prefix, rest = self.encoding.split(request)
            if failure := self.too_long(len(prefix) + len(rest) + request.max_tokens):
                yield {i: Answer(failure=failure, calls=0)}
            else:
                prompts.append((i, request.max_tokens, prefix, rest))
        for (limit, prefix), group in self._chat_groups(prompts).items():
            group.sort(key=lambda prompt: len(prompt[1]))
            for start in range(0, len(group), batch_size):
                yield self._chat_batch(prefix, group[start : start + batch_size], limit)

    def _chat_groups(
        self, prompts: Sequence[tuple[int, int, Tokens, Tokens]]
    ) -> dict[tuple[int, Tokens], list[tuple[int, Tokens]]]:
        """The prompts by length of reply and shared prefix. A prefix of one prompt alone is shared with nobody."""
        counts: dict[Tokens, int] = {}
        for _, _, prefix, _ in prompts:
            counts[prefix] = counts.get(prefix, 0) + 1
        groups: dict[tuple[int, Tokens], list[tuple[int, Tokens]]] = {}
        for i, limit, prefix, rest in prompts:
            whole = len(prefix) + len(rest) + limit
            shared = self._shares and whole <= self.window and (counts[prefix] > 1 or prefix in self.prefixes)
            key, item = ((limit, prefix), (i, rest)) if shared else ((limit, ()), (i, prefix + rest))
            groups.setdefault(key, []).append(item)
        return groups

    @property
    def _shares(self) -> bool:
        # A model that sees images may hold on to the last one's positions when it goes on from a prefix.
        return self.encoding.processor is None and self.packs

    def _chat_batch(self, prefix: Tokens, batch: list[tuple[int, Tokens]], limit: int) -> dict[int, Answer]:
        start = time.perf_counter()
        replies, read = self.generate(prefix, [rest for _, rest in batch], limit)
        seconds = (time.perf_counter() - start) / len(batch)
        tokens = [len(rest) + (read if position == 0 else 0) for position, (_, rest) in enumerate(batch)]
        return {
            i: Answer(text=text, tokens_in=tokens_in, tokens_out=tokens_out, seconds=seconds)
            for (i, _), (text, tokens_out), tokens_in in zip(batch, replies, tokens, strict=True)
        }

    def generate(self, prefix: Tokens, prompts: Sequence[Tokens], limit: int) -> tuple[list[tuple[str, int]], int]:
        """
        The greedy reply to each prompt after `prefix`.

        Args:
            prefix (tuple of `int`): what all prompts share. It is read once.
            prompts (sequence of tuples of `int`): the rest of each.
            limit (`int`): the longest reply, in tokens.

        Returns:
            `tuple`: each reply with its length, and the prefix tokens read for it.
        """
        width = max(len(prompt) for prompt in prompts)
        # The padding stands between the prefix and the prompts. Hidden by the mask it takes no position.
        ids = [[*prefix, *[self.pad] * (width - len(prompt)), *prompt] for prompt in prompts]
        mask = [[1] * len(prefix) + [0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        shared: dict[str, Any] = {}
        read = 0
        if prefix:
            cache, read = self.take_prefix(prefix)
            shared["past_key_values"] = copy.deepcopy(cache)
            shared["past_key_values"].batch_repeat_interleave(len(prompts))
            self.give_prefix(prefix, cache, 0)
        inputs = {"input_ids": self._tensor(ids), "attention_mask": self._tensor(mask)}
        return self.replies({**inputs, **shared}, limit), read

    def replies(self, inputs: dict[str, Any], limit: int) -> list[tuple[str, int]]:
        """The greedy reply to each of a batch of prompts, padded on the left, with its length in tokens."""
        import torch

        with torch.inference_mode():
            output = self.model.generate(**inputs, max_new_tokens=limit, do_sample=False, pad_token_id=self.pad)
        written = [reply[reply != self.pad] for reply in output[:, inputs["input_ids"].shape[1] :].cpu()]
        decode = self.encoding.tokenizer.decode
        return [(decode(reply, skip_special_tokens=True).strip(), len(reply)) for reply in written]

    @property
    def pad(self) -> int:
        """The token that fills up a batch."""
        tokenizer = self.encoding.tokenizer
        return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)

    def _tensor(self, rows: Sequence[Sequence[int]]) -> Any:
        import torch

        return torch.tensor(rows, device=self.model.device)


def _scored(logprobs: Sequence[float], tree: Tree, read: int, seconds: float) -> Answer:
    lengths = tuple(len(branch) for branch in tree.branches)
    return Answer(logprobs=tuple(logprobs), lengths=lengths, tokens_in=read, seconds=seconds)


def warn_slow(model: Any, what: str) -> None:
    """Says once that a model takes a forward pass for every reply that it scores."""
    warnings.warn(
        f"{type(model).__name__} does not give the same for {what} in a pack as alone, so it scores one reply at a "
        "time: slowly",
        stacklevel=2,
    )
