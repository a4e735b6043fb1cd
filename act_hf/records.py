"""What each stage did, kept with the data set: model, parameters, counts, cost, library versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.task import Task


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from datasets import Dataset, IterableDataset

    from act_hf.models.asking import Usage

# A data set's description is the one free text that survives map, select, save and load. Records are lines of it.
_MARK = "act_hf: "

_LIBRARIES = ("act_hf", "datasets", "transformers", "torch")


def add_record(dataset: Dataset, stage: str, **facts: Any) -> Dataset:
    """
    `dataset` with one more record.

    Args:
        dataset (`Dataset`): what the stage made. Not changed.
        stage (`str`): `"annotate"`, `"vote"`, `"criticize"`, `"sample"` or `"review"`.
        facts: what there is to say about it, as values that JSON can hold.

    Returns:
        `Dataset`: the same rows.
    """
    return with_records(dataset, [*stage_records(dataset), record_of(stage, **facts)])


def record_of(stage: str, **facts: Any) -> dict[str, Any]:
    """A record, with the versions of the libraries; see [`add_record`]."""
    return {"stage": stage, **facts, "versions": library_versions()}


def stage_records(dataset: Dataset | IterableDataset, stage: str | None = None) -> list[dict[str, Any]]:
    """The records of `dataset` in the order they were made: all of them, or those of one stage."""
    # Not splitlines(): JSON holds U+2028 and its like as they are.
    lines = (dataset.info.description or "").split("\n")
    found = [record for line in lines if (record := _read(line)) is not None]
    return [record for record in found if stage in (None, record["stage"])]


def _read(line: str) -> dict[str, Any] | None:
    """The record in a line, or `None`: anybody's description may have a line that begins like ours."""
    try:
        record = json.loads(line.removeprefix(_MARK)) if line.startswith(_MARK) else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and "stage" in record else None


def with_records(dataset: Dataset, kept: list[dict[str, Any]]) -> Dataset:
    """`dataset` with exactly these records, and the rest of its description."""
    copy = dataset.select(range(len(dataset)))  # a data set's info is shared by reference; this one is ours to change
    copy.info.description = describe(dataset.info.description or "", kept)
    return copy


def describe(description: str, kept: Iterable[dict[str, Any]]) -> str:
    """A description with exactly these records, and the rest of what it says."""
    others = [line for line in description.split("\n") if _read(line) is None] if description else []
    return "\n".join([*others, *(_MARK + json.dumps(record, ensure_ascii=False) for record in kept)])


def recorded_task(dataset: Dataset | IterableDataset) -> Task:
    """The task that `dataset` was annotated for. Raises [`ACTError`] when it was not annotated."""
    made = stage_records(dataset, "annotate")
    if not made:
        raise ACTError("the data set has no record of an annotate stage: annotate it first, or pass task=")
    return Task.from_dict(made[-1]["task"])


def unnamed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with people counted instead of named: who reviewed is nobody else's business."""
    named = record.get("annotators")
    if record.get("simulated") or not isinstance(named, list):
        return dict(record)
    return {**record, "annotators": len(named)}


def usage_facts(usage: Usage) -> dict[str, Any]:
    """A [`Usage`] as values for a record."""
    names = ("requests", "calls", "tokens_in", "tokens_out", "seconds", "cost", "spent")
    values = {name: getattr(usage, name) for name in names}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}


def joined_usage(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What [`usage_facts`] says of several parts of a run together."""
    total: dict[str, Any] = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        summed = None if None in values else sum(values)
        total[name] = round(summed, 6) if isinstance(summed, float) else summed
    return total


def library_versions() -> dict[str, str]:
    """The versions of what does the work."""
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # an extra that is not installed
            versions[name] = importlib.metadata.version(name)
    return versions
