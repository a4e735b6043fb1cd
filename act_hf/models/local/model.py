"""LocalModel: a causal language model in this process, on transformers, with eyes where it has them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, one_line
from act_hf.models.base import ChatRequest
from act_hf.models.local.encoding import Encoding, has_image, text_of
from act_hf.models.local.gguf import dequantised
from act_hf.models.local.loaded import Loaded
from act_hf.models.local.vision import Vision, sees_images
from act_hf.models.weights import load_tokenizer, torch_device, use_threads, weights_fingerprint


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from act_hf.models.base import Answer, Request

_ALWAYS = frozenset({"chat", "choose", "score"})


@dataclass
class LocalModel:
    """
    A causal language model loaded with transformers, or an image-text-to-text one. Loads on first use; pickles as its
    arguments.

    What the requests of a call share (the instructions, the examples) is read once, for scores and for replies. Scores
    are those of one plain forward pass per reply, to rounding; replies are greedy. Where an architecture cannot be
    scored in packs, or a row is longer than its sliding window, that many plain passes are what it takes: the same,
    slowly. A warning says so for an architecture.

    Args:
        source (`str` or `Path`): a Hub id, a folder, or a `.gguf` file (dequantised once and kept).
        dtype (`str`, *optional*, defaults to `"auto"`): `"float32"`, `"bfloat16"`, `"float16"`. `"auto"` is float32 on
            a CPU, where a row's answer then depends on its neighbours in the batch by less than 1e-4, else bfloat16.
            On a CPU with AVX-512 BF16, bfloat16 is about 2.5 times as fast, but moves SmolLM2's probabilities by 0.005
            on average and by up to 0.05, and a row's neighbours move them as much.
        device (`str`, *optional*, defaults to `"auto"`): a torch device; `"auto"` takes a GPU where there is one.
        batch_tokens (`int`, *optional*): tokens scored in one forward pass. Defaults to 256 on a CPU, where more is
            not faster, and to 2048 elsewhere. An image is scored by itself.
        batch_size (`int`, *optional*, defaults to 16): replies generated at once.
        threads (`int`, *optional*): CPU threads. Defaults to `OMP_NUM_THREADS`, else to one less than there are cores.

    Raises:
        ACTError: on first use, when the model does not load, or cannot do what is asked.
    """

    source: str | Path
    dtype: str = "auto"
    device: str = "auto"
    batch_tokens: int | None = None
    batch_size: int = 16
    threads: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        made = ("_loaded", "_vision", "_torch_dtype", "_torch_device", "name", "abilities")
        return {key: value for key, value in vars(self).items() if key not in made}

    @property
    def instructed(self) -> bool:
        """It follows instructions: a model without a chat template does not load."""
        return True

    @cached_property
    def abilities(self) -> frozenset[str]:
        """What it can do. Reads the model's `config.json`, not its weights."""
        if Path(self.source).suffix == ".gguf":
            return _ALWAYS
        try:
            return _ALWAYS | {"image"} if sees_images(str(self.source)) else _ALWAYS
        except Exception as error:  # whatever a broken file makes of itself
            raise self._cannot_load(error) from error

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
        return torch_device(self.device)

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
    def _loaded(self) -> Loaded:
        use_threads(self._torch_device, self.threads)
        path = Path(self.source)
        if path.suffix == ".gguf" and not path.is_file():
            raise ACTError(f"no model file {str(path)!r}")
        sees = "image" in self.abilities
        try:
            folder = dequantised(path, self._torch_dtype) if path.suffix == ".gguf" else path
            model = _load_model(str(folder), sees, self._torch_dtype).to(self._torch_device).eval()
            return Loaded(path.name, model, _load_encoding(str(folder), sees))
        except Exception as error:  # whatever a broken file makes of itself
            raise self._cannot_load(error) from error

    def _cannot_load(self, error: Exception) -> ACTError:
        return ACTError(
            f"cannot load the model {str(self.source)!r}: {one_line(error)} "
            "(a model is a Hub id, a folder with config.json, or a .gguf file)"
        )

    @cached_property
    def _vision(self) -> Vision:
        return Vision(self._loaded)

    def answer(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        """Answers in batches of similar length; see [`Model.answer`]."""
        showing = [(i, request) for i, request in enumerate(requests) if has_image(request.messages)]
        if showing and "image" not in self.abilities:
            for message in showing[0][1].messages:
                text_of(message["content"], reader="LocalModel")
        shown = {i for i, _ in showing}
        texts = [(i, request) for i, request in enumerate(requests) if i not in shown]
        chats = [(i, request) for i, request in texts if isinstance(request, ChatRequest)]
        scores = [(i, request) for i, request in texts if not isinstance(request, ChatRequest)]
        if chats:
            yield from self._loaded.chat(chats, self.batch_size)
        if scores:
            yield from self._loaded.score(scores, self._pack_tokens)
        if showing:
            yield from self._vision.answer(showing, self.batch_size)

    @property
    def _pack_tokens(self) -> int:
        return self.batch_tokens or (256 if self._torch_device.type == "cpu" else 2048)


def _load_model(source: str, sees: bool, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    return kind.from_pretrained(source, dtype=dtype)


def _load_encoding(source: str, sees: bool) -> Encoding:
    from transformers import AutoProcessor

    tokenizer = load_tokenizer(source)
    processor: Any = AutoProcessor.from_pretrained(source) if sees else None  # type: ignore[no-untyped-call]
    if processor is not None:
        # The processor may have added tokens to its own.
        tokenizer, template = processor.tokenizer, tokenizer.chat_template
        processor.chat_template = processor.chat_template or template
    if not (processor or tokenizer).chat_template:
        raise ValueError("its tokenizer has no chat template, so it cannot be instructed")
    return Encoding(tokenizer, processor)
