"""Recordings: what models answered earlier, read from the columns of a data set or from a table of answers."""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf import columns, prompts
from act_hf.errors import ACTError
from act_hf.task import image_bytes


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from datasets import Dataset

    from act_hf.task import Task

_NEEDED = ("row_id", "model", "label")
_OPTIONAL = ("split", "strategy", "answer", "confidence", "text")


@dataclass(frozen=True)
class Recording:
    """
    What was recorded for one row.

    Args:
        label (`int`, *optional*): the label's id; `None` where the reply named none.
        confidence (`float`, *optional*): the probability that the label is right, in [0, 1].
        rationale (`str`, *optional*): the model's reasoning.
        reply (`str`, *optional*): what it said, where the label is `None`.
    """

    label: int | None = None
    confidence: float | None = None
    rationale: str | None = None
    reply: str | None = None


def read_columns(
    dataset: Dataset, task: Task, *, label: str, confidence: str | None, rationale: str | None
) -> list[Recording | None]:
    """
    A recording for every row, `None` where there is none, from columns of the data set.

    Args:
        dataset (`Dataset`): N rows with the columns named.
        task ([`Task`]): what was labelled.
        label (`str`): the column of labels, as in [`label_ids`]. `None` is "no recorded answer".
        confidence, rationale (`str`, *optional*): columns of numbers in [0, 1] and of text.
    """
    named = [name for name in (label, confidence, rationale) if name]
    columns.require(dataset, [*task.columns, *named], stage="recorded answers")
    plain = dataset.with_format(None)
    nothing = [None] * len(dataset)
    sure = plain[confidence][:] if confidence else nothing
    said = plain[rationale][:] if rationale else nothing
    rows = zip(label_ids(plain, label, task), plain[label][:], sure, said, strict=True)
    return [None if reply is None else _recording(one, reply, number, text) for one, reply, number, text in rows]


def read_table(
    dataset: Dataset,
    annotations: Dataset | str | Path,
    *,
    model: str,
    strategy: str | None,
    split: str | None,
    on: str,
) -> tuple[str, list[Recording | None]]:
    """
    Which model answered and how, and its recording for every row of the data set; see [`Recorded.from_table`].

    Args:
        dataset (`Dataset`): N rows with the column `on`.
        annotations (`Dataset`, path or Hub id): one row an answer.
        model, strategy, split (`str`): whose answers, asked how, of which split.
        on (`str`): the data set's column that `row_id` is the value of.
    """
    columns.require(dataset, [on], stage="recorded answers")
    table = _table(annotations)
    kept = _chosen(table, model=model, strategy=strategy, split=split)
    by_id: dict[Any, Recording] = {}
    for i in kept:
        row_id, label = table["row_id"][i], table["label"][i]
        if row_id in by_id:
            raise ACTError(f"{model}: two recorded answers for the row {row_id!r}; say of which split")
        reply = table["answer"][i] or table["text"][i]
        by_id[row_id] = _recording(None if label == -1 else label, reply, table["confidence"][i], table["text"][i])
    recordings = [by_id.get(row_id) for row_id in dataset.with_format(None)[on][:]]
    if not any(recordings):
        raise ACTError(f"{model}: none of the {len(by_id)} row ids of its answers is in the column {on!r}")
    asked = table["strategy"][kept[0]]
    return f"{model}/{asked}" if asked else model, recordings


def by_content(
    dataset: Dataset, task: Task, recordings: Sequence[Recording | None], *, title: str
) -> dict[str, Recording]:
    """
    The recordings of N rows by the digest of what the task shows of a row.

    Rows with the same content have one recording, that of the first. Where others have another label, a warning says
    how many.
    """
    found: dict[str, Recording] = {}
    differing = 0
    for digest, one in zip(_digests(dataset, task), recordings, strict=True):
        if one is not None and found.setdefault(digest, one).label != one.label:
            differing += 1
    if differing:
        warnings.warn(
            f"{title}: {differing} rows have the content of an earlier row and another recorded label; the label of "
            "the first is used for all of them",
            stacklevel=3,
        )
    return found


def content_digest(content: Any) -> str:
    """What stands for a row's content, as [`act_hf.prompts.content`] makes it: text, or a list of parts."""
    digest = hashlib.sha256()
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        data = part["text"].encode() if part["type"] == "text" else image_bytes(part["image"])
        digest.update(f"{part['type']}:{len(data)}:".encode() + data)
    return digest.hexdigest()[:32]


def label_ids(dataset: Dataset, column: str, task: Task) -> list[int | None]:
    """
    A column of labels as ids of the task's labels; `None` for no label, -1, or text that names none.

    Args:
        dataset (`Dataset`): N rows with the column: a `ClassLabel` (its names are matched), whole numbers (ids in the
            order of the task's labels), or text, which is read as a model's reply is.
        column (`str`): its name.
        task ([`Task`]): has the labels.

    Raises:
        ACTError: for a column of another type, or a label that is not one of the task's.
    """
    from datasets import ClassLabel, Value

    columns.require(dataset, [column], stage="labels")
    feature, values = dataset.features[column], dataset.with_format(None)[column][:]
    if isinstance(feature, ClassLabel):
        used = {one for one in values if one is not None and one >= 0}
        ids = {one: task.index(feature.names[one]) for one in used}
        return [ids.get(one) for one in values]
    if isinstance(feature, Value) and feature.dtype in ("string", "large_string"):
        return [None if text is None else prompts.parse_label(task, text) for text in values]
    if not (isinstance(feature, Value) and feature.dtype.startswith(("int", "uint"))):
        raise ACTError(f"column {column!r} is {feature}; labels are a ClassLabel, whole numbers or text")
    for one in sorted(set(values) - {None, -1}):
        check_label(one, task)
    return [None if one == -1 else one for one in values]


def check_label(label: int, task: Task) -> None:
    """Raises [`ACTError`] unless `label` is the id of one of the task's labels."""
    if not 0 <= label < len(task.labels):
        raise ACTError(f"{label} is not the id of a label; the task has {len(task.labels)}: {', '.join(task.labels)}")


def _recording(label: int | None, reply: Any, confidence: Any, rationale: str | None) -> Recording:
    if label is None:
        return Recording(reply=str(reply or ""), rationale=rationale or None)
    return Recording(label, _number(confidence), rationale or None)


def _number(confidence: Any) -> float | None:
    try:
        value = None if confidence is None else float(confidence)
    except (TypeError, ValueError):
        raise ACTError(f"a confidence is a number from 0 to 1, not {confidence!r}") from None
    return None if value is None or math.isnan(value) else value  # a table made by pandas has NaN for nothing


def _digests(dataset: Dataset, task: Task) -> Iterator[str]:
    for batch in dataset.with_format(None).select_columns(list(task.columns)).iter(batch_size=64):
        for row in task.rows(batch):
            yield content_digest(prompts.content(task, row))


def _table(annotations: Dataset | str | Path) -> dict[str, list[Any]]:
    """The table's columns; one that need not be there and is not is all `None`."""
    from datasets import Dataset

    from act_hf.files import read_dataset

    dataset = annotations if isinstance(annotations, Dataset) else read_dataset(annotations)
    columns.require(dataset, _NEEDED, stage="the table of recorded answers")
    plain = dataset.with_format(None)
    nothing = [None] * len(dataset)
    return {name: plain[name][:] if name in dataset.column_names else nothing for name in (*_NEEDED, *_OPTIONAL)}


def _chosen(table: Mapping[str, list[Any]], *, model: str, strategy: str | None, split: str | None) -> list[int]:
    """The rows of the table that are meant."""
    kept = _matching(table, "model", model, range(len(table["model"])))
    if split is not None:
        kept = _matching(table, "split", split, kept)
    if strategy is None and len({table["strategy"][i] for i in kept}) == 1:
        return kept
    return _matching(table, "strategy", strategy, kept)


def _matching(table: Mapping[str, list[Any]], column: str, wanted: str | None, among: Iterable[int]) -> list[int]:
    among = list(among)
    kept = [i for i in among if table[column][i] == wanted]
    if not kept:
        choices = ", ".join(sorted({repr(table[column][i]) for i in among}))
        raise ACTError(f"recorded answers: the {column} {wanted!r} is none of {choices}")
    return kept
