"""From a reviewed data set to the rows that [`ACTTrainer`] trains on and is measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from act_hf.columns import HUMAN, LABEL, PI, PREFIX, SELECTED, add_columns, class_names, require
from act_hf.errors import ACTError
from act_hf.loss import MISSING
from act_hf.records import recorded_task, stage_records


if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasets import Dataset, Features
    from transformers import PreTrainedTokenizerBase

COLUMNS = (LABEL, HUMAN, SELECTED, PI)
GOLD = "labels"


def to_training(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    text: str | None = None,
    max_length: int = 128,
    mode: str = "act",
) -> Dataset:
    """
    A reviewed data set as [`ACTTrainer`] trains on it.

    A row without a machine label (it failed) that a person labelled counts as reviewed for certain: it is trained on
    that label with weight 1. One that nobody labelled is refused, in every mode that needs the machine label.

    Args:
        dataset (`Dataset`): N rows with the act columns that `mode` needs.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): turns `text` into the model's columns, unpadded, and only
            those stay. Without it the columns that do not belong to act_hf stay as they are (add a `with_transform`
            for images afterwards, with `remove_unused_columns=False`).
        text (`str`, *optional*): the column with the text; see [`text_column`].
        max_length (`int`, *optional*, defaults to 128): tokens a row, longer ones are cut.
        mode (`str`, *optional*, defaults to `"act"`): `"act"`; or a baseline through the same trainer: `"human"`
            (cross-entropy on `act_human`, which every row must have) or `"machine"` (on `act_label` alone).

    Returns:
        `Dataset`: N rows, in order, with the model's columns and, without a `None`, `act_label` (`ClassLabel`),
        `act_human` (int64, -100 where nobody looked), `act_selected` (bool) and `act_pi` (float32).

    Raises:
        ACTError: for an unknown mode or column, labels that are no `ClassLabel` or differ in their names, and, with
            their count, rows that have no machine label, no probability, or no human label where one is due.
    """
    if mode not in _MODES:
        raise ACTError(f"to_training: no mode {mode!r}; there are {', '.join(map(repr, _MODES))}")
    columns, values_of = _MODES[mode]
    require(dataset, columns, stage=f"to_training(mode={mode!r})")
    values = values_of(plain_columns(dataset, columns))
    features = _training_features(dataset, [name for name in columns if name in (LABEL, HUMAN)])
    return add_columns(_model_columns(dataset, tokenizer, text, max_length), values, features)


def to_evaluation(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    text: str | None = None,
    label: str = "label",
    max_length: int = 128,
) -> Dataset:
    """
    A data set with true labels as [`ACTTrainer`] evaluates on it: the same tokens as [`to_training`], and `labels`.

    Args:
        dataset (`Dataset`): N rows.
        tokenizer, text, max_length: as in [`to_training`].
        label (`str`, *optional*, defaults to `"label"`): the `ClassLabel` column with the true labels.

    Returns:
        `Dataset`: N rows with the model's columns and `labels`.

    Raises:
        ACTError: for a missing column, one that is no `ClassLabel`, and rows without a label.
    """
    class_names(dataset, label)
    gold = plain_columns(dataset, [label])[label]
    _refuse([value is None for value in gold], f"have no {label!r}; filter them out", stage="to_evaluation")
    kept = _model_columns(
        dataset.remove_columns([label]) if tokenizer is None else dataset, tokenizer, text, max_length
    )
    return add_columns(kept, {GOLD: gold}, {GOLD: dataset.features[label]})


def _act_values_of(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    machine, human, pi = rows[LABEL], rows[HUMAN], rows[PI]
    drawn = [bool(value) for value in rows[SELECTED]]
    lost = [m is None and h is None for m, h in zip(machine, human, strict=True)]
    waiting = [d and h is None for d, h in zip(drawn, human, strict=True)]
    unsampled = [m is not None and p is None for m, p in zip(machine, pi, strict=True)]
    _refuse(
        lost, f"have no {LABEL} (act_failure says why) and no {HUMAN}; annotate or review them, or filter them out"
    )
    _refuse(waiting, f"are selected but have no {HUMAN}; finish the review, since leaving them out biases the loss")
    _refuse(unsampled, f"have no {PI}; run sample() on them, or filter them out")
    return {
        LABEL: [h if m is None else m for m, h in zip(machine, human, strict=True)],
        HUMAN: [MISSING if h is None else h for h in human],
        SELECTED: [d or m is None for d, m in zip(drawn, machine, strict=True)],
        PI: [1.0 if m is None else p for p, m in zip(pi, machine, strict=True)],
    }


def _human_values_of(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    human = rows[HUMAN]
    _refuse([value is None for value in human], f"have no {HUMAN}, which mode='human' needs on every row")
    return {LABEL: human, HUMAN: human, SELECTED: [True] * len(human), PI: [1.0] * len(human)}


def _machine_values_of(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    machine = rows[LABEL]
    _refuse(
        [value is None for value in machine], f"have no {LABEL} (act_failure says why), which mode='machine' needs"
    )
    size = len(machine)
    return {LABEL: machine, HUMAN: [MISSING] * size, SELECTED: [False] * size, PI: [1.0] * size}


_MODES = {
    "act": (COLUMNS, _act_values_of),
    "human": ((HUMAN,), _human_values_of),
    "machine": ((LABEL,), _machine_values_of),
}


def _training_features(dataset: Dataset, labelled: list[str]) -> Features:
    from datasets import Features, Value

    names = [class_names(dataset, column) for column in labelled]
    if any(other != names[0] for other in names):
        raise ACTError(f"to_training: {LABEL} has the labels {names[0]}, but {HUMAN} has {names[-1]}")
    # -100 is none of the ids that a ClassLabel accepts.
    kinds = {HUMAN: Value("int64"), SELECTED: Value("bool"), PI: Value("float32")}
    return Features({LABEL: dataset.features[labelled[0]], **kinds})


def _model_columns(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase | None, text: str | None, max_length: int
) -> Dataset:
    if tokenizer is None:
        return dataset.remove_columns([name for name in dataset.column_names if name.startswith(PREFIX)])
    from datasets.fingerprint import generate_random_fingerprint

    column = text_column(dataset, text)

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


def text_column(dataset: Dataset, text: str | None = None) -> str:
    """
    The column to train on: `text`, or the one that the data set was annotated for, or the only one with strings.

    Raises:
        ACTError: when it is not there or not to be told, or the task has a question, which a text classifier would not
            see.
    """
    strings = [
        name
        for name, feature in dataset.features.items()
        if not name.startswith(PREFIX) and getattr(feature, "dtype", None) in ("string", "large_string")
    ]
    task = recorded_task(dataset) if stage_records(dataset, "annotate") else None
    if text is None and task and (task.question or task.image):
        raise ACTError(f"the task shows {', '.join(task.columns)}; name the one column with text to train on (text=)")
    told = text or (task.text if task else None)
    choices = [told] if told else ["text"] if "text" in strings else strings
    if len(choices) != 1 or choices[0] not in strings:
        asked = f"no text column {told!r}" if told else "which column is the text? Give text="
        raise ACTError(f"{asked}; the columns with strings are {', '.join(map(repr, strings)) or 'none'}")
    return choices[0]


def plain_columns(dataset: Any, columns: Iterable[str]) -> dict[str, list[Any]]:
    """Whole columns as lists, past any format or transform, without decoding the others."""
    rows: dict[str, list[Any]] = dataset.with_format(None).select_columns(list(columns))[:]
    return rows


def _refuse(bad: list[bool], problem: str, *, stage: str = "to_training") -> None:
    if any(bad):
        raise ACTError(f"{stage}: {sum(bad)} of {len(bad)} rows {problem}")
