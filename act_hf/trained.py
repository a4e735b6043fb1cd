"""What a trained model has learned from, kept in its folder: what a model card is made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, one_line
from act_hf.records import library_versions, stage_records, unnamed


if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from datasets import Dataset

FACTS = "act_training.json"


def training_facts(dataset: Dataset, **facts: Any) -> dict[str, Any]:
    """
    The facts of a training.

    Args:
        dataset (`Dataset`): what was trained on.
        facts: what else there is to say about it, as values that JSON can hold.
    """
    from act_hf.columns import HUMAN
    from act_hf.human_labels import has_human

    human = int(has_human(dataset).sum()) if HUMAN in dataset.column_names else None
    records = [unnamed(record) for record in stage_records(dataset)]
    return {**facts, "rows": len(dataset), "human": human, "records": records, "versions": library_versions()}


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Keeps the facts with a model, beside those that are there."""
    known = read_facts(folder) or {}
    (folder / FACTS).write_text(json.dumps({**known, **facts}, ensure_ascii=False, indent=1), encoding="utf-8")


def read_facts(folder: Path) -> dict[str, Any] | None:
    """The facts that are kept with a model; `None` where there are none. Raises [`ACTError`] for a broken file."""
    path = folder / FACTS
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ACTError(f"{str(path)!r} cannot be read: {one_line(error)}") from error
    if not isinstance(facts, dict):
        raise ACTError(f"{str(path)!r} cannot be read: it holds no facts of a training")
    return facts
