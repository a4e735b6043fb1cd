"""What a classifier reads of a row: tokens, made once, or pixels, made when a batch is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf.columns import PREFIX
from act_hf.errors import ACTError
from act_hf.images import prepared
from act_hf.records import recorded_task, stage_records


if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasets import Dataset


@dataclass(frozen=True)
class Shown:
    """
    The columns that a classifier reads: a text, an image, or an image and a question about it.

    Args:
        text (`str`, *optional*): the column with the text, or the question.
        image (`str`, *optional*): the column with the image.
    """

    text: str | None = None
    image: str | None = None


def shown_columns(dataset: Dataset, *, text: str | None = None, image: str | None = None) -> Shown:
    """
    The columns to train on: those given, or those that the data set was annotated for, or the only one with strings.

    Raises:
        ACTError: when they are not there or not to be told, or the task shows more than a classifier reads.
    """
    task = recorded_task(dataset) if stage_records(dataset, "annotate") else None
    if image is None and text is None and task is not None:
        if task.text and task.question:
            raise ACTError(
                f"the task shows {', '.join(task.columns)}; name the one column with text to train on (text=)"
            )
        image, text = task.image, task.text or task.question
    if image is not None:
        _check_image(dataset, image)
    return Shown(_text_column(dataset, text) if text or image is None else None, image)


def model_inputs(dataset: Dataset, processor: Any, shown: Shown, *, max_length: int, kept: Iterable[str]) -> Dataset:
    """
    `dataset` as a model reads it.

    Text alone is turned into tokens at once and they are stored, unpadded. Images stay as they are and are decoded and
    turned into pixels whenever a batch is read, in the process that reads it: a transform (`Dataset.with_transform`)
    which keeps the columns `kept`.

    Args:
        dataset (`Dataset`): N rows.
        processor: a tokenizer, an image processor, or a processor of both, called as `transformers` has it.
        shown ([`Shown`]): the columns to read.
        max_length (`int`): tokens a row, longer texts are cut.
        kept (iterable of `str`): columns that go along with pixels.

    Returns:
        `Dataset`: N rows, in order.
    """
    if shown.image is None:
        return _tokens(dataset, processor, str(shown.text), max_length)
    return dataset.with_transform(_Pixels(processor, shown, max_length, tuple(kept)))


@dataclass(frozen=True)
class _Pixels:
    """A batch of rows to what the model takes. A class, so that it can be sent to the workers of a `DataLoader`."""

    processor: Any
    shown: Shown
    max_length: int
    kept: tuple[str, ...]

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, Any]:
        if self.shown.image not in batch:
            return batch  # one column was asked for, and it is another one
        # As the annotator and the reviewers saw it: upright, and 8 bits deep.
        if any(image is None for image in batch[self.shown.image]):
            raise ACTError(f"a row has no image in the column {self.shown.image!r}; filter such rows out")
        images = [prepared(image).convert("RGB") for image in batch[self.shown.image]]
        options: dict[str, Any] = {}
        if self.shown.text is not None:
            questions = [question or "" for question in batch[self.shown.text]]
            options = {"text": questions, "padding": True, "truncation": True, "max_length": self.max_length}
        made = self.processor(images=images, return_tensors="pt", **options)
        return {**made, **{name: batch[name] for name in self.kept if name in batch}}


def _tokens(dataset: Dataset, tokenizer: Any, column: str, max_length: int) -> Dataset:
    from datasets.fingerprint import generate_random_fingerprint

    def tokens(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = [value or "" for value in batch[column]]
        return dict(tokenizer(texts, truncation=True, max_length=max_length))

    return dataset.with_format(None).map(
        tokens,
        batched=True,
        remove_columns=dataset.column_names,
        desc="tokenize",
        # Tokenizing is quicker than finding out whether it was done before: that pickles the tokenizer.
        load_from_cache_file=False,
        new_fingerprint=generate_random_fingerprint(),
    )


def _text_column(dataset: Dataset, told: str | None) -> str:
    strings = [
        name
        for name, feature in dataset.features.items()
        if not name.startswith(PREFIX) and getattr(feature, "dtype", None) in ("string", "large_string")
    ]
    choices = [told] if told else ["text"] if "text" in strings else strings
    if len(choices) != 1 or choices[0] not in strings:
        asked = f"no text column {told!r}" if told else "which column is the text? Give text="
        raise ACTError(f"{asked}; the columns with strings are {', '.join(map(repr, strings)) or 'none'}")
    return choices[0]


def _check_image(dataset: Dataset, image: str) -> None:
    from datasets import Image

    images = [name for name, feature in dataset.features.items() if isinstance(feature, Image) and feature.decode]
    if image not in images:
        raise ACTError(
            f"no image column {image!r}; the columns with images are {', '.join(map(repr, images)) or 'none'}"
        )
