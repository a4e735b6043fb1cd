"""The data model: every column that act_hf adds to a `datasets.Dataset`, declared once."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy as np
    from datasets import Dataset, Features
    from numpy.typing import NDArray
    from tqdm.auto import tqdm

    from act_hf.models.asking import Usage
    from act_hf.task import Task

ID = "act_id"
LABEL = "act_label"
LABEL_PROBS = "act_label_probs"
RATIONALE = "act_rationale"
ERROR_PROB = "act_error_prob"
RAW_ERROR_PROB = "act_error_prob_raw"
CRITIQUE = "act_critique"
PI = "act_pi"
SELECTED = "act_selected"
WAVE = "act_wave"
WAVE_PI = "act_wave_pi"
HUMAN = "act_human"
RESPONSES = "act_responses"
FAILURE = "act_failure"

PREFIX = "act_"


def column_features(task: Task, names: Iterable[str] | None = None) -> Features:
    """
    The type of each column of the table in docs/concepts.md.

    Args:
        task ([`Task`]): gives the label names.
        names (iterable of `str`, *optional*): the columns wanted; all by default.

    Returns:
        `datasets.Features`: one entry a column. Labels are nullable `ClassLabel`s: `None` is "no label".
    """
    from datasets import ClassLabel, Features, List, Value

    label = ClassLabel(names=list(task.labels))
    types = Features(
        {
            ID: Value("string"),
            LABEL: label,
            LABEL_PROBS: List(Value("float32")),
            RATIONALE: Value("string"),
            ERROR_PROB: Value("float32"),
            RAW_ERROR_PROB: Value("float32"),
            CRITIQUE: Value("string"),
            PI: Value("float32"),
            SELECTED: Value("bool"),
            WAVE: Value("int32"),
            WAVE_PI: List(Value("float32")),
            HUMAN: label,
            RESPONSES: List({name: Value("string") for name in ("annotator", "label", "comment")}),
            FAILURE: Value("string"),
        }
    )
    return types if names is None else Features({name: types[name] for name in names})


def require(dataset: Dataset, columns: Iterable[str], *, stage: str) -> None:
    """
    Raises unless the data set has rows and every one of `columns`.

    Args:
        dataset (`Dataset`): what is about to be processed.
        columns (iterable of `str`): the column names needed.
        stage (`str`): the stage that is about to run, for the message.

    Raises:
        ACTError: naming the missing columns and the ones present, saying that there are no rows, or that it is no
            `Dataset`.
    """
    _require_dataset(dataset, stage)
    require_names(dataset.column_names, columns, stage=stage)
    if len(dataset) == 0:
        raise ACTError(f"{stage}: the data set is empty (0 rows)")


def _require_dataset(dataset: object, stage: str) -> None:
    """What else people have at hand where a `Dataset` is meant."""
    from datasets import Dataset, DatasetDict, IterableDataset

    if isinstance(dataset, IterableDataset):
        streams = ", ".join(f"{name}_stream" for name in ("annotate", "criticize", "sample"))
        raise ACTError(f"{stage}: this is a stream (IterableDataset), for which there are {streams}")
    if isinstance(dataset, DatasetDict):
        raise ACTError(f"{stage}: these are several splits (DatasetDict); take one of {_quoted(list(dataset))}")
    if not isinstance(dataset, Dataset):
        raise ACTError(f"{stage}: needs a datasets.Dataset, not a {type(dataset).__name__}; see Dataset.from_pandas")


def require_names(there: Iterable[str], columns: Iterable[str], *, stage: str) -> None:
    """Raises [`ACTError`] naming those of `columns` that are not `there`."""
    there = list(there)
    missing = [name for name in columns if name not in there]
    if missing:
        raise ACTError(f"{stage}: no column {_quoted(missing)}; the data set has {_quoted(there)}")


def class_names(dataset: Dataset, column: str) -> list[str]:
    """
    The label names of a `ClassLabel` column.

    Raises:
        ACTError: when the column is of another type.
    """
    require(dataset, [column], stage="labels")
    return feature_names(dataset.features, column)


def feature_names(features: Features, column: str) -> list[str]:
    """As [`class_names`], of columns whose types are known."""
    from datasets import ClassLabel

    feature = features[column]
    if not isinstance(feature, ClassLabel):
        raise ACTError(
            f"column {column!r} is {feature}, not a ClassLabel; give the label names yourself "
            f"(Task(labels=[...])), or dataset.class_encode_column({column!r})"
        )
    return list(feature.names)


def numbers(dataset: Dataset, column: str) -> NDArray[np.float64]:
    """A column of numbers or class labels as float64, NaN where there is no value."""
    table = dataset.select_columns([column]).with_format("arrow")[:]
    values: NDArray[np.float64] = table[column].to_numpy().astype("float64")
    return values


def critic_column(dataset: Dataset) -> str:
    """The column with what the critic itself said; answers of people have gone into a calibrated one."""
    return RAW_ERROR_PROB if RAW_ERROR_PROB in dataset.column_names else ERROR_PROB


def forget_raw(dataset: Dataset) -> Dataset:
    """`dataset` without what a calibration kept: the critic that it was of has been replaced."""
    return dataset.remove_columns([RAW_ERROR_PROB]) if RAW_ERROR_PROB in dataset.column_names else dataset


def add_columns(dataset: Dataset, values: dict[str, list[Any]], features: Features) -> Dataset:
    """
    `dataset` with the columns of `values` added, or replaced where they exist, typed as in `features`.

    Args:
        dataset (`Dataset`): N rows.
        values (`dict` of `str` to `list`): N values a column; class labels as integers.
        features (`datasets.Features`): the types of at least those columns.

    Returns:
        `Dataset`: the same rows, in the same order.
    """
    from datasets import Dataset, Features

    return joined(dataset, Dataset.from_dict(values, features=Features({name: features[name] for name in values})))


def joined(dataset: Dataset, added: Dataset) -> Dataset:
    """The columns of both, in the order and format of `dataset`; those of `added` replace its own."""
    from datasets import concatenate_datasets

    new = [name for name in added.column_names if name not in dataset.column_names]
    kept = dataset.with_format(None).remove_columns([name for name in added.column_names if name not in new])
    joined: Dataset = concatenate_datasets([kept, added], axis=1, split=dataset.split).select_columns(
        [*dataset.column_names, *new]
    )
    formatted: Dataset = joined.with_format(dataset.format["type"], **dataset.format["format_kwargs"])
    return formatted


def map_columns(
    dataset: Dataset,
    stage: Callable[[Mapping[str, list[Any]]], dict[str, list[Any]]],
    features: Features,
    *,
    batch_size: int,
    progress: str,
    usage: Usage | None = None,
) -> Dataset:
    """
    `dataset.map(stage)` with the types of the new columns declared, as they must be: a column that begins with a
    thousand `None`s would get no type. The columns of `dataset` are left as they are: `map` would encode images anew,
    and a JPEG that is encoded twice is another image, with another `act_id`. `datasets`' own cache is left out, since
    the store remembers what was paid, and its own bar, since ours says what was paid.

    Args:
        dataset (`Dataset`): N rows.
        stage (callable): a batch of columns to a batch of new columns.
        features (`datasets.Features`): the columns that `stage` makes.
        batch_size (`int`): rows handed to `stage` at once.
        progress (`str`): what the progress bar says.
        usage ([`Usage`], *optional*): shown beside it.
    """
    from datasets.fingerprint import generate_random_fingerprint

    with show_progress(len(dataset), progress, usage) as bar:

        def counted(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
            bar.begin(len(next(iter(batch.values()))))
            made = stage(batch)
            bar.end()
            return made

        made = as_stored(dataset).map(
            counted,
            batched=True,
            batch_size=batch_size,
            remove_columns=dataset.column_names,
            features=features,
            load_from_cache_file=False,
            new_fingerprint=generate_random_fingerprint(),
        )
    return joined(dataset, made)


def as_stored(dataset: Dataset) -> Dataset:
    """
    `dataset` as a stage reads it: plain lists, whatever format the caller reads rows in, and images as their bytes, so
    that one that is broken is a row that fails; see [`Task.rows`].
    """
    from datasets import Image

    plain: Dataset = dataset.with_format(None)
    for name, feature in plain.features.items():
        if isinstance(feature, Image) and feature.decode:
            plain = plain.cast_column(name, Image(decode=False))
    return plain


class Bar:
    """A bar over rows with calls and cost beside it. It moves while a batch is asked about, which can take minutes."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self.bar = bar
        self._before = self._rows = 0
        self._drawn = 0.0

    def begin(self, rows: int) -> None:
        """So many rows are being asked about."""
        self._rows = rows

    def show(self, usage: Usage) -> None:
        """Moves the bar to how much of them is answered."""
        # Of a stage that asks several times the first one moves the bar.
        self.bar.n = max(self.bar.n, self._before + int(usage.share * self._rows))
        now = time.monotonic()
        due = now - self._drawn > self.bar.mininterval  # not for every answer
        self.bar.set_postfix(usage.facts(), refresh=due)
        self._drawn = now if due else self._drawn

    def end(self) -> None:
        """They are done."""
        self._before += self._rows
        self.bar.update(self._before - self.bar.n)


@contextmanager
def show_progress(rows: int | None, title: str, usage: Usage | None) -> Iterator[Bar]:
    """The bar, in place of the one that `datasets` would show."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from tqdm.auto import tqdm

    hidden = are_progress_bars_disabled()
    with tqdm(total=rows, desc=title, unit="rows", disable=hidden) as drawn:
        bar = Bar(drawn)
        if usage and not hidden:
            usage.listener = bar.show
        try:
            disable_progress_bars()
            yield bar
        finally:
            if not hidden:
                enable_progress_bars()
            if usage:
                usage.listener = None


def count_failed(dataset: Dataset, column: str = FAILURE) -> int:
    """How many rows have an `act_failure`."""
    failures = dataset.with_format("arrow")[column][:]
    return len(failures) - int(failures.null_count)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
