"""What is labelled: which columns a model or a person sees, and the labels to choose from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf.columns import class_names, require, require_names
from act_hf.errors import ACTError, one_line


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset, Features


_ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is turned."""

Row = dict[str, Any]
"""The columns of a row that the task shows, by name."""


@dataclass(frozen=True)
class Example:
    """
    A solved row shown to the model before the row it has to label (few-shot).

    Args:
        label (`str`): one of the task's labels.
        text (`str`, *optional*): what the task's text column would hold.
        question (`str`, *optional*): what the task's question column would hold.
        rationale (`str`, *optional*): reasoning that ends in the label; shown only where the model is asked to reason.
    """

    label: str
    text: str | None = None
    question: str | None = None
    rationale: str | None = None


@dataclass(frozen=True)
class Task:
    """
    What is labelled. At least one of `text`, `image` and `question` names a column.

    Args:
        labels (sequence of `str`): the label names, at least two, in the order of the `ClassLabel` ids.
        text (`str`, *optional*): the column with the text to label.
        image (`str`, *optional*): the column with the image to label.
        question (`str`, *optional*): the column with a question about the text or image.
        instruction (`str`): what has to be decided, in one or two sentences.
        words (sequence of `str`, *optional*): the label as a model reads and writes it, one a label. Defaults to the
            label names with `_` as a space, which small models handle much better.
        sentences (sequence of `str`, *optional*): a sentence a label that a typical row could be. An encoder compares
            rows with them. Defaults to `words`.
        examples (sequence of [`Example`]): solved rows, shown in this order.
        language (`str`, *optional*): the language of the rows, where the model should be told.

    Raises:
        ACTError: for fewer than two labels, a label twice, one that is no text, no column, or an example whose label
            is not in `labels`.

    Example:

    ```python
    >>> Task(labels=["ham", "spam"], text="sms", instruction="Is this text message spam?")
    ```
    """

    labels: tuple[str, ...]
    text: str | None = None
    image: str | None = None
    question: str | None = None
    instruction: str = "Choose the label that fits best."
    words: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    language: str | None = None

    def __post_init__(self) -> None:
        for name in ("labels", "words", "sentences", "examples"):
            values = getattr(self, name)
            if isinstance(values, str):
                raise ACTError(f"task.{name} is a list, not the text {values!r}")
            object.__setattr__(self, name, tuple(values))
        self._check_texts("labels")
        if not self.words:
            object.__setattr__(self, "words", tuple(label.replace("_", " ").strip() for label in self.labels))
        if not self.sentences:
            object.__setattr__(self, "sentences", self.words)
        self._check()

    def _check_texts(self, name: str) -> None:
        for value in getattr(self, name):
            if not isinstance(value, str) or not value.strip():
                raise ACTError(f"task.{name}: {value!r} is no text that a model could answer with")

    def _check(self) -> None:
        for name in ("words", "sentences"):
            self._check_texts(name)
        if len(self.labels) < 2:
            raise ACTError(f"a task needs at least two labels, not {list(self.labels)}")
        for name in ("labels", "words"):
            values = [value.casefold() if name == "words" else value for value in getattr(self, name)]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ACTError(f"task.{name}: {twice[0]!r} stands for more than one label; every label needs its own")
        for name in ("words", "sentences"):
            if len(getattr(self, name)) != len(self.labels):
                raise ACTError(f"task.{name} has {len(getattr(self, name))} entries for {len(self.labels)} labels")
        if not self.columns:
            raise ACTError("a task shows at least one column: give text=, image= or question=")
        for example in self.examples:
            self.index(example.label)

    @classmethod
    def from_dataset(cls, dataset: Dataset, *, label: str = "label", **options: Any) -> Task:
        """
        The task whose labels are those of a `ClassLabel` column.

        Args:
            dataset (`Dataset`): has the column `label` and the columns named in `options`.
            label (`str`, *optional*, defaults to `"label"`): the `ClassLabel` column. Only its names are read.
            options: the other arguments of [`Task`].

        Raises:
            ACTError: for a missing column or one that is not a `ClassLabel`.
        """
        task = cls(labels=tuple(class_names(dataset, label)), **options)
        require(dataset, task.columns, stage="task")
        return task

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns a model or a person sees, in the order they are shown."""
        return tuple(name for name in (self.image, self.text, self.question) if name)

    def index(self, label: str) -> int:
        """The id of a label name. Raises [`ACTError`] naming the choices when it is none of them."""
        try:
            return self.labels.index(label)
        except ValueError:
            raise ACTError(f"{label!r} is not a label of the task; the labels are {', '.join(self.labels)}") from None

    def check(self, dataset: Dataset, *, stage: str) -> None:
        """Raises [`ACTError`] unless `dataset` has rows and the task's columns with the types they need."""
        require(dataset, self.columns, stage=stage)
        self.check_features(dataset.features, stage=stage)

    def check_features(self, features: Features, *, stage: str) -> None:
        """Raises [`ACTError`] unless there are the task's columns, with the types they need."""
        from datasets import Image, Value

        require_names(features, self.columns, stage=stage)
        for name in self.columns:
            feature = features[name]
            if name == self.image:
                fits = isinstance(feature, Image) and feature.decode
            else:
                fits = isinstance(feature, Value) and feature.dtype in ("string", "large_string")
            if not fits:
                wanted = "an Image with decode=True" if name == self.image else "a string"
                raise ACTError(f"{stage}: column {name!r} is {feature}, but the task needs {wanted}")

    def rows(self, batch: Mapping[str, list[Any]]) -> list[Row]:
        """
        A batch, as `Dataset.map` hands it over, as one [`Row`] a row.

        Images may come decoded or as `{"bytes": ..., "path": ...}`. One that cannot be read becomes an [`Unreadable`].
        """
        opened = {self.image: [_opened(value) for value in batch[self.image]]} if self.image else {}
        values = (opened.get(name, batch[name]) for name in self.columns)
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*values, strict=True)]

    def row_id(self, row: Mapping[str, Any]) -> str:
        """
        The `act_id` of a row: a hash of what is shown of it. Rows with the same content have the same id.

        Args:
            row (mapping of `str` to value): has the task's columns.

        Returns:
            `str`: the letter r and 19 hexadecimal digits. All digits, or digits and an e, would be a number to a
            spreadsheet, which rounds it.
        """
        digest = hashlib.sha256()
        for name in self.columns:
            value = row[name]
            data = image_bytes(value) if name == self.image and value is not None else str(value or "").encode()
            digest.update(f"{len(name)}:{name}={len(data)}:".encode() + data)
        return f"r{digest.hexdigest()[:19]}"

    def to_dict(self) -> dict[str, Any]:
        """The task as plain values, for a record or a file. [`Task.from_dict`] reads it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Task:
        """
        The task written by [`Task.to_dict`].

        Raises:
            ACTError: naming a field that a task or an example does not have, or one that it needs.
        """
        _check_fields(cls, values, "a task", needs="labels")
        examples: Sequence[Mapping[str, Any]] = values.get("examples", ())
        for example in examples:
            _check_fields(Example, example, "an example", needs="label")
        return cls(**{**values, "examples": tuple(Example(**example) for example in examples)})


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read: why, and its file."""

    reason: str
    data: bytes


def _opened(value: Any) -> Any:
    from datasets import Image

    if not isinstance(value, dict):
        return value
    try:
        image = Image().decode_example(value)
        image.load()
    except Exception as error:  # whatever a broken file makes of itself
        return Unreadable(one_line(error), value.get("bytes") or str(value.get("path")).encode())
    return image


def problem_of(row: Row) -> str | None:
    """Why a row cannot be shown to a model, or `None`."""
    for value in row.values():
        if isinstance(value, Unreadable):
            return f"the image cannot be read: {value.reason}"
    empty = all(value is None or (isinstance(value, str) and not value.strip()) for value in row.values())
    return "the row is empty" if empty else None


def image_bytes(image: Any) -> bytes:
    """
    Pixels with mode and size, and how they are to be seen where that is said beside them: the same picture has the
    same id whatever file it came from.
    """
    if isinstance(image, Unreadable):
        return b"unreadable " + image.data
    beside = {"orientation": image.getexif().get(_ORIENTATION, 1), "transparency": image.info.get("transparency")}
    said = "".join(f" {name} {value}" for name, value in beside.items() if value not in (None, 1))
    if image.mode in ("P", "PA"):  # these pixels are numbers of colours, and the colours are elsewhere
        image = image.convert("RGBA")
    return f"{image.mode}{image.size}{said}".encode() + bytes(image.tobytes())


def _check_fields(kind: type[Any], values: Mapping[str, Any], what: str, *, needs: str) -> None:
    known = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ACTError(f"{what} has no field {unknown[0]!r}; it has {', '.join(sorted(known))}")
    if needs not in values:
        raise ACTError(f"{what} needs the field {needs!r}; there is {', '.join(sorted(values)) or 'none'}")
