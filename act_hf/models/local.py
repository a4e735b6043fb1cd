"""LocalModel: a causal language model in this process, on transformers."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.models.base import Answer, ChatRequest, ScoreRequest
from act_hf.models.gguf import dequantised
from act_hf.models.packing import Layout, Tree, packs
from act_hf.models.weights import load_tokenizer, one_line, weights_fingerprint


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from act_hf.models.base import Message, Request

_PREFIXES_KEPT = 4


@dataclass
class LocalModel:
    """
    A causal language model loaded with transformers. Loads on first use; pickles as its arguments.

    Args:
        source (`str` or `Path`): a Hub id, a folder, or a `.gguf` file (dequantised once and kept).
        dtype (`str`, *optional*, defaults to `"auto"`): `"float32"`, `"bfloat16"`, `"float16"`; `"auto"` is float32 on
            a CPU, where a row's answer then depends on its neighbours in the batch by less than 1e-4, else bfloat16.
        device (`str`, *optional*, defaults to `"auto"`): a torch device; `"auto"` takes a GPU where there is one.
        batch_tokens (`int`, *optional*, defaults to 512): tokens scored in one forward pass. More is faster on a GPU.
        batch_size (`int`, *optional*, defaults to 16): replies generated at once.
        threads (`int`, *optional*): CPU threads. Defaults to one less than there are cores: a thread for every core
            collapses as soon as anything else runs.

    Raises:
        ACTError: on first use, when the model does not load, or cannot do what is asked.
    """

    source: str | Path
    dtype: str = "auto"
    device: str = "auto"
    batch_tokens: int = 512
    batch_size: int = 16
    threads: int | None = None
    abilities: frozenset[str] = field(default=frozenset({"chat", "score"}), init=False)
    instructed: bool = field(default=True, init=False)

    def __getstate__(self) -> dict[str, Any]:
        loaded = ("_loaded", "_torch_dtype", "_torch_device", "name")
        return {key: value for key, value in vars(self).items() if key not in loaded}

    @cached_property
    def name(self) -> str:
        """Which weights and which arithmetic: `stem@fingerprint/dtype` for files, `id@commit/dtype` for the Hub."""
        path = Path(self.source)
        if path.exists():
            identity = f"{path.stem if path.is_file() else path.name}@{weights_fingerprint(path)}"
        else:
            identity = f"{self.source}@{getattr(self._loaded.model.config, '_commit_hash', None) or 'unknown'}"
        return f"{identity}/{str(self._torch_dtype).split('.')[-1]}"

    @cached_property
    def _torch_device(self) -> torch.device:
        import torch

        if self.device != "auto":
            try:
                return torch.device(self.device)
            except RuntimeError as error:
                raise ACTError(f"device {self.device!r} is none of torch's: {one_line(error)}") from error
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _torch_dtype(self) -> torch.dtype:
        import torch

        if self.dtype == "auto":
            return torch.float32 if self._torch_device.type == "cpu" else torch.bfloat16
        known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
        if self.dtype not in known:
            raise ACTError(f"dtype {self.dtype!r} is none of auto, {', '.join(known)}")
        return known[self.dtype]

    @cached_property
    def _loaded(self) -> _Loaded:
        import torch

        if self._torch_device.type == "cpu":
            torch.set_num_threads(self.threads or max(1, (os.cpu_count() or 2) - 1))
        path = Path(self.source)
        if path.suffix == ".gguf" and not path.is_file():
            raise ACTError(f"no model file {str(path)!r}")
        try:
            folder = dequantised(path, self._torch_dtype) if path.suffix == ".gguf" else path
            return _load(str(folder), self._torch_dtype, self._torch_device)
        except Exception as error:  # whatever a broken file makes of itself
            raise ACTError(
                f"cannot load the model {str(self.source)!r}: {one_line(error)} "
                "(a model is a Hub id, a folder with config.json, or a .gguf file)"
            ) from error

    def answer(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        """Answers in batches of similar length; see [`Model.answer`]."""
        chats = [(i, request) for i, request in enumerate(requests) if isinstance(request, ChatRequest)]
        scores = [(i, request) for i, request in enumerate(requests) if isinstance(request, ScoreRequest)]
        if chats:
            yield from self._chat(chats)
        if scores:
            yield from self._score(scores)

    def _chat(self, requests: Sequence[tuple[int, ChatRequest]]) -> Iterator[dict[int, Answer]]:
        encoded = [(request.max_tokens, self._loaded.encode(request.messages), i) for i, request in requests]
        yield {i: self._too_long(len(ids) + limit) for limit, ids, i in encoded if len(ids) + limit > self._limit}
        fitting = [prompt for prompt in encoded if prompt[0] + len(prompt[1]) <= self._limit]
        prompts = sorted(fitting, key=lambda prompt: (prompt[0], len(prompt[1])))
        while prompts:
            limit = prompts[0][0]
            batch = [prompt for prompt in prompts[: self.batch_size] if prompt[0] == limit]
            prompts = prompts[len(batch) :]
            start = time.perf_counter()
            replies = self._loaded.generate([ids for _, ids, _ in batch], limit)
            seconds = (time.perf_counter() - start) / len(batch)
            yield {
                i: Answer(text=text, tokens_in=len(ids), tokens_out=count, seconds=seconds)
                for (_, ids, i), (text, count) in zip(batch, replies, strict=True)
            }

    def _score(self, requests: Sequence[tuple[int, ScoreRequest]]) -> Iterator[dict[int, Answer]]:
        self._loaded.check_packing()
        encoded = [(i, *self._loaded.tree(request)) for i, request in requests]
        groups: OrderedDict[tuple[int, ...], list[tuple[int, Tree]]] = OrderedDict()
        for i, prefix, tree in encoded:
            if len(prefix) + tree.depth > self._limit:
                yield {i: self._too_long(len(prefix) + tree.depth)}
            else:
                groups.setdefault(prefix, []).append((i, tree))
        for prefix, trees in groups.items():
            for pack in packs(trees, self.batch_tokens):
                yield self._score_pack(prefix, pack)

    def _score_pack(self, prefix: tuple[int, ...], pack: list[tuple[int, Tree]]) -> dict[int, Answer]:
        start = time.perf_counter()
        logprobs, read = self._loaded.score_pack(prefix, [tree for _, tree in pack])
        seconds = (time.perf_counter() - start) / len(pack)
        # The prefix is counted with the row for which it was read.
        tokens = [len(tree) + (read if position == 0 else 0) for position, (_, tree) in enumerate(pack)]
        return {
            i: Answer(logprobs=tuple(values), tokens_in=count, seconds=seconds)
            for (i, _), values, count in zip(pack, logprobs, tokens, strict=True)
        }

    @property
    def _limit(self) -> int:
        return self._loaded.limit

    def _too_long(self, tokens: int) -> Answer:
        return Answer(failure=f"the row takes {tokens} tokens, but {Path(self.source).name} reads {self._limit}")


def _load(source: str, dtype: torch.dtype, device: torch.device) -> _Loaded:
    from transformers import AutoModelForCausalLM

    # The model first: what it says of a folder that is none is plainer.
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    model = model.to(device).eval()
    tokenizer = load_tokenizer(source)
    if not tokenizer.chat_template:
        raise ValueError("its tokenizer has no chat template, so it cannot be instructed")
    return _Loaded(model, tokenizer)


@dataclass
class _Loaded:
    """Weights and tokenizer in memory. Everything here is in tokens."""

    model: Any
    tokenizer: Any
    prefixes: OrderedDict[tuple[int, ...], Any] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        # Special or not: templates also use added tokens that are only added (<|assistant|>).
        tokens = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.content.strip()}
        self._special = sorted(tokens, key=len, reverse=True)
        self._packs = False  # not known yet

    @property
    def limit(self) -> int:
        """The longest sequence in tokens that the model reads with all of it in sight."""
        config = self.model.config.get_text_config()
        sliding = "sliding_attention" in (getattr(config, "layer_types", None) or [])
        return int(config.sliding_window if sliding else getattr(config, "max_position_embeddings", None) or 10**9)

    @property
    def _cannot_score(self) -> str:
        return f"{type(self.model).__name__} cannot score here"

    def check_packing(self) -> None:
        """
        Raises [`ACTError`] once and for all where a pack does not give what a plain forward pass gives.

        Packing needs attention that follows the mask and positions that are told. A model with a recurrent state, or
        with positions of its own counting, would score something else without a word.
        """
        if self._packs:
            return
        import torch

        trees = [Tree((5, 6, 7), ((8, 9), (10,))), Tree((11, 6), ((12, 13, 14),))]
        try:
            packed = self.score_pack((3, 4), trees)[0][1][0]
        except Exception as error:  # whatever such a model makes of a mask that it does not know
            raise ACTError(f"{self._cannot_score}: {one_line(error)}; use strategies that chat") from error
        finally:
            self.prefixes.clear()
        with torch.inference_mode():
            ids = torch.tensor([[3, 4, 11, 6, 12, 13, 14]], device=self.model.device)
            steps = self.model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(dim=-1)
        plain = sum(steps[3 + i, token].item() for i, token in enumerate((12, 13, 14)))
        if not abs(packed - plain) < (0.01 if self.model.dtype == torch.float32 else 1.0):
            raise ACTError(
                f"{self._cannot_score}: in a pack it gives {packed:.3f} where a plain forward pass gives {plain:.3f}, "
                "so its attention does not follow the mask; use strategies that chat"
            )
        self._packs = True

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The tokens of a conversation, up to where the reply (or the rest of the assistant's message) begins."""
        return self._encode(messages, reply=True)

    def _encode(self, messages: Sequence[Message], *, reply: bool) -> tuple[int, ...]:
        continues = reply and messages[-1]["role"] == "assistant"
        text: str = self.tokenizer.apply_chat_template(
            [{**message, "content": self._defused(message["content"])} for message in messages],
            tokenize=False,
            add_generation_prompt=reply and not continues,
            continue_final_message=continues,
        )
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _defused(self, content: Any) -> str:
        """Text without any added token, so that a row cannot end its own message in a template made of them."""
        if not isinstance(content, str):
            raise ACTError("LocalModel reads text only; use a model that sees images for a task with an image column")
        for token in self._special:
            content = content.replace(token, f"{token[0]} {token[1:]}" if len(token) > 1 else " ")
        return str(content)

    def tree(self, request: ScoreRequest) -> tuple[tuple[int, ...], Tree]:
        """
        The request as a shared prefix and a tree.

        The prefix is everything before the last message. It depends on the request alone, not on its neighbours, so a
        request gets the same arithmetic in whatever company it comes.
        """
        prompt = self.encode(request.messages)
        shared = self._encode(request.messages[:-1], reply=False) if len(request.messages) > 1 else ()
        # At least one token stays outside: its logits predict the first token of every continuation.
        length = min(_common(shared, prompt), len(prompt) - 1)
        branches = tuple(
            tuple(self.tokenizer(text, add_special_tokens=False).input_ids) for text in request.continuations
        )
        if not all(branches):
            raise ACTError("an empty continuation cannot be scored")
        return prompt[:length], Tree(prompt[length:], branches)

    def take_prefix(self, prefix: tuple[int, ...]) -> tuple[Any, int]:
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
                ids = torch.tensor([prefix], device=self.model.device)
                self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache, len(prefix)

    def give_prefix(self, prefix: tuple[int, ...], cache: Any, read: int) -> None:
        """Takes back the keys and values of `prefix`, after `read` tokens were read on top of them."""
        cache.crop(-read)
        self.prefixes[prefix] = cache
        if len(self.prefixes) > _PREFIXES_KEPT:
            self.prefixes.popitem(last=False)

    def score_pack(self, prefix: tuple[int, ...], trees: Sequence[Tree]) -> tuple[list[list[float]], int]:
        """
        Scores several trees in one forward pass over one sequence, without padding and without copying the prefix.

        Every token sees the prefix, its own prompt and its own branch, by the attention mask, at the position that it
        would have alone.

        Returns:
            `tuple`: the log-probability of each branch of each tree, and the prefix tokens read for it.
        """
        import torch

        cache, read = self.take_prefix(prefix)
        layout = Layout.of(trees, start=len(prefix))
        device = self.model.device
        with torch.inference_mode():
            logits = self.model(
                input_ids=torch.tensor([layout.ids], device=device),
                position_ids=torch.tensor([layout.positions], device=device),
                attention_mask=layout.mask(len(prefix), self.model.dtype, device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=torch.tensor(layout.read_at, device=device),
            ).logits[0]
            self.give_prefix(prefix, cache, len(layout.ids))
            rows = torch.tensor(layout.step_rows, device=device)
            tokens = torch.tensor(layout.step_tokens, device=device)
            # Picking before normalising: a table of log-probabilities for every step would be steps x vocabulary.
            normaliser = torch.logsumexp(logits.float(), dim=-1)
            steps = (logits[rows, tokens].float() - normaliser[rows]).tolist()
        sums = iter(steps)
        return [[sum(next(sums) for _ in branch) for branch in tree.branches] for tree in trees], read

    def generate(self, prompts: Sequence[tuple[int, ...]], limit: int) -> list[tuple[str, int]]:
        """The greedy reply to each prompt, at most `limit` tokens, with its length."""
        import torch

        width = max(len(prompt) for prompt in prompts)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                max_new_tokens=limit,
                do_sample=False,
                pad_token_id=pad,
            )
        replies = [reply[reply != pad] for reply in output[:, width:].cpu()]
        return [(self.tokenizer.decode(reply, skip_special_tokens=True).strip(), len(reply)) for reply in replies]


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    length = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        length += 1
    return length
