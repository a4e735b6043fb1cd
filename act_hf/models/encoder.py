"""EncoderModel: a sentence encoder as a model that can only choose."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, one_line
from act_hf.models.base import Answer, ScoreRequest, require_ability
from act_hf.models.local.encoding import text_of
from act_hf.models.weights import load_tokenizer, torch_device, use_threads, weights_fingerprint


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from act_hf.models.base import Request


@dataclass
class EncoderModel:
    """
    A sentence encoder (mean pooling, as the sentence-transformers models use). It reads the row and a sentence per
    label; the score of a label is the cosine of the two, sharpened and normalised over the labels:
    `log_softmax(scale · cos)`. Loads on first use; pickles as its arguments.

    Args:
        source (`str` or `Path`): a Hub id or a folder.
        scale (`float`, *optional*, defaults to 20): the inverse temperature; 20 is what these encoders are trained
            with (Reimers and Gurevych 2019, MultipleNegativesRankingLoss).
        batch_size (`int`, *optional*, defaults to 32): texts encoded at once.
        max_length (`int`, *optional*, defaults to 256): tokens read of a text; the rest is cut off.
        device (`str`, *optional*, defaults to `"auto"`): a torch device; `"auto"` takes a GPU where there is one.
        threads (`int`, *optional*): CPU threads, of the whole process. By default left as they are.

    Raises:
        ACTError: on first use, when the model does not load, or is asked to chat, for exact log-probabilities, or to
            look at an image.
    """

    source: str | Path
    scale: float = 20.0
    batch_size: int = 32
    max_length: int = 256
    device: str = "auto"
    threads: int | None = None
    abilities: frozenset[str] = field(default=frozenset({"choose"}), init=False)
    instructed: bool = field(default=False, init=False)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_loaded", "name", "_sentences")}

    @cached_property
    def name(self) -> str:
        """Which weights, which scale, and how much of a text they see."""
        path = Path(self.source)
        if path.exists():
            identity = f"{path.parent.name if path.name == 'model' else path.name}@{weights_fingerprint(path)}"
        else:
            identity = f"{self.source}@{getattr(self._loaded[0].config, '_commit_hash', None) or 'unknown'}"
        return f"{identity}/cos*{self.scale:g}/{self.max_length}"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModel

        device = torch_device(self.device)
        if self.threads:  # else as they are: the threads are those of the whole process
            use_threads(device, self.threads)
        try:
            model: Any = AutoModel.from_pretrained(str(self.source)).to(device).eval()
            return model, load_tokenizer(str(self.source))
        except Exception as error:  # whatever a broken file makes of itself
            raise ACTError(f"cannot load the encoder {str(self.source)!r}: {one_line(error)}") from error

    @cached_property
    def _sentences(self) -> dict[tuple[str, ...], torch.Tensor]:
        return {}

    def answer(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        """Scores in batches of similar length; see [`Model.answer`]."""
        for request in requests:
            require_ability(self, request.ability, purpose="this request")
        scores = [(i, request) for i, request in enumerate(requests) if isinstance(request, ScoreRequest)]
        scores.sort(key=lambda item: len(_text(item[1])))
        for start in range(0, len(scores), self.batch_size):
            yield self._score_batch(scores[start : start + self.batch_size])

    def _score_batch(self, batch: list[tuple[int, ScoreRequest]]) -> dict[int, Answer]:
        # Before the clock starts: loading, and reading the labels, take their time once and not for every row.
        sentences = [self._sentence_vectors(request.continuations) for _, request in batch]
        start = time.perf_counter()
        texts, tokens = self.embed([_text(request) for _, request in batch])
        answers = {}
        for position, (i, _) in enumerate(batch):
            cosines = texts[position] @ sentences[position].T
            logprobs = (self.scale * cosines).log_softmax(dim=-1)
            answers[i] = (tuple(logprobs.tolist()), tokens[position])
        seconds = (time.perf_counter() - start) / len(batch)
        return {i: Answer(logprobs=values, tokens_in=count, seconds=seconds) for i, (values, count) in answers.items()}

    def _sentence_vectors(self, sentences: tuple[str, ...]) -> torch.Tensor:
        if sentences not in self._sentences:
            self._sentences[sentences] = self.embed(sentences)[0]
        return self._sentences[sentences]

    def embed(self, texts: Sequence[str]) -> tuple[torch.Tensor, list[int]]:
        """
        The texts as unit vectors.

        Args:
            texts (sequence of N `str`).

        Returns:
            `tuple`: a float32 tensor `[N, hidden]` of norm 1 on the CPU, and the number of tokens read of each text.
        """
        import torch

        model, tokenizer = self._loaded
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        batch = batch.to(model.device)
        with torch.inference_mode():
            hidden = model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.nn.functional.normalize(mean, dim=-1).cpu(), batch["attention_mask"].sum(dim=1).tolist()


def _text(request: ScoreRequest) -> str:
    return text_of(request.messages[-1]["content"], reader="EncoderModel")
