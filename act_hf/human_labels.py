"""The column `act_human` as it may come, from a file or another tool, in the terms of `act_label`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from act_hf.columns import HUMAN, LABEL, add_columns, class_names
from act_hf.errors import ACTError


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray


def with_human_ids(dataset: Dataset, labels: Sequence[str] | None = None) -> Dataset:
    """
    `dataset` with `act_human` as a `ClassLabel` of `labels`, and `None` where nobody looked.

    Args:
        dataset (`Dataset`): its `act_human`, if there is one, is a `ClassLabel` with its names in any order, or text.
            An empty text and -1, which is how some data sets write "no label", are none.
        labels (sequence of `str`, *optional*): by default those of `act_label`, so that the ids of both columns can be
            compared; where there is none, those of the column itself.

    Returns:
        `Dataset`: the data set itself where there is nothing to change.

    Raises:
        ACTError: for a name that is none of `labels`, and for numbers without names.
    """
    from datasets import ClassLabel, Features

    if HUMAN not in dataset.column_names:
        return dataset
    names = list(labels or class_names(dataset, LABEL if LABEL in dataset.column_names else HUMAN))
    kind = ClassLabel(names=names)
    if dataset.features[HUMAN] == kind and _none_below_zero(dataset):
        return dataset
    return add_columns(dataset, {HUMAN: _ids(dataset, names)}, Features({HUMAN: kind}))


def has_human(dataset: Dataset) -> NDArray[np.bool_]:
    """Which rows have a human label, whatever it is."""
    import numpy as np

    if HUMAN not in dataset.column_names:
        return np.zeros(len(dataset), dtype=bool)
    known: NDArray[np.bool_] = _said(dataset).is_valid().to_numpy()
    return known


def _none_below_zero(dataset: Dataset) -> bool:
    import pyarrow.compute as pc

    least = pc.min(_column(dataset)).as_py()
    return least is None or least >= 0


def _ids(dataset: Dataset, names: list[str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    said, choices = _said(dataset), ", ".join(names)
    if said.null_count == len(said):
        return pa.nulls(len(said), pa.int64())
    if not pa.types.is_large_string(said.type):
        raise ACTError(
            f"column {HUMAN!r} is {dataset.features[HUMAN]}, which does not say what its values stand for: use "
            f"dataset.cast_column({HUMAN!r}, ClassLabel(names=[...])) with the names in the order of the numbers. The "
            f"labels are {choices}"
        )
    ids = pc.index_in(said, value_set=pa.array(names, pa.large_string()))
    unknown = said.filter(pc.and_(said.is_valid(), ids.is_null()))
    if len(unknown):
        raise ACTError(f"{unknown[0].as_py()!r} in column {HUMAN!r} is none of the labels {choices}")
    return ids.cast(pa.int64())


def _said(dataset: Dataset) -> Any:
    """The names, or the numbers where there are no names; null where nobody looked."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import ClassLabel

    column, kind = _column(dataset), dataset.features[HUMAN]
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        column = pc.if_else(pc.less(column, 0), None, column)
    if isinstance(kind, ClassLabel):
        column = pc.take(pa.array(kind.names, pa.large_string()), column)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_string())
        column = pc.if_else(pc.equal(column, ""), None, column)
    return column


def _column(dataset: Dataset) -> Any:
    return dataset.select_columns([HUMAN]).with_format("arrow")[:][HUMAN]
