"""From a reviewed data set to the rows that [`ACTTrainer`] trains on and is measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from act_hf.columns import HUMAN, LABEL, LABEL_PROBS, PI, PREFIX, SELECTED, add_columns, class_names, require
from act_hf.errors import ACTError
from act_hf.human_labels import with_human_ids
from act_hf.inputs import Shown, model_inputs, shown_columns
from act_hf.loss import MISSING


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from datasets import Dataset, Features
    from transformers import PreTrainedTokenizerBase, ProcessorMixin
    from transformers.image_processing_utils import BaseImageProcessor

    Processor = PreTrainedTokenizerBase | BaseImageProcessor | ProcessorMixin
    Rows = dict[str, list[Any]]
    Filled = tuple[list[int] | None, Rows]  # which rows, in which order (all of them: None), and their four columns

COLUMNS = (LABEL, HUMAN, SELECTED, PI)
GOLD = "labels"


def to_training(
    dataset: Dataset,
    processor: Processor | None = None,
    *,
    text: str | None = None,
    image: str | None = None,
    max_length: int = 128,
    mode: str = "act",
    soft: bool = False,
) -> Dataset:
    """
    A reviewed data set as [`ACTTrainer`] trains on it.

    A row without a machine label (it failed) that a person labelled counts as reviewed for certain: it is trained on
    that label with weight 1. One that nobody labelled is refused, in every mode that needs the machine label.

    Every mode is a way to fill the four columns, so all of them go through the same trainer and the same loss:

    | mode | trained on | weight of a row |
    |---|---|---|
    | `"act"` | both labels of all rows | the ACT loss |
    | `"human"` | `act_human`, which every row must have | 1 |
    | `"machine"` | `act_label` alone, also where people looked | 1 |
    | `"reviewed"` | `act_human` of the selected rows, the others are dropped | 1/π |
    | `"corrected"` | `act_human` where there is one, else `act_label` | 1 |
    | `"mixed"` | `act_label` of all rows, then a copy of each row with an `act_human`, with that label | 1 |

    All but `"act"` are baselines. `"reviewed"` is what `power=0` means, without the forward passes over rows that
    weigh nothing: n rows with weights 1/π, whose sum is N on average, so its loss and gradient are N/n times those of
    `power=0`. (Adam does not see the scale; `max_grad_norm` does.)

    Args:
        dataset (`Dataset`): N rows with the act columns that `mode` needs.
        processor (*optional*): what turns `text` and `image` into the model's columns, of which only those stay. A
            tokenizer makes tokens at once, unpadded. An image processor, or a processor of images and questions, is
            applied whenever a batch is read: no pixels are stored. Without it the columns that do not belong to act_hf
            stay as they are (augmentation is a `with_transform` of yours, which returns the four columns too).
        text (`str`, *optional*): the column with the text, or the question about the image.
        image (`str`, *optional*): the column with the image. Without `text` and `image` the columns are those that the
            data set was annotated for, or the only one with strings.
        max_length (`int`, *optional*, defaults to 128): tokens a row, longer ones are cut.
        mode (`str`, *optional*, defaults to `"act"`): one of the table above.
        soft (`bool`, *optional*, defaults to `False`): takes `act_label_probs` for the machine label, in the modes
            `"act"` and `"machine"`: a distribution over the classes says more than its largest entry. The loss stays
            unbiased without `non_negative`, which acts on confirmed rows too then: part of their label is on others.

    Returns:
        `Dataset`: the rows, in order (`"mixed"`: followed by the copies), with the model's columns and, without a
        `None`, `act_label` (`ClassLabel`; a list of float32, one a class, for `soft` and `"reviewed"`, where it is all
        0), `act_human` (int64, -100 where nobody looked), `act_selected` (bool) and `act_pi` (float32).

    Raises:
        ACTError: for an unknown mode or column, `soft` in another mode, an `act_label` that is no `ClassLabel`, an
            `act_human` with other names or without names, and, with their count, rows that have no machine label, no
            probability, or no human label where one is due.
    """
    from datasets import Features, Value

    if mode not in _MODES:
        raise ACTError(f"to_training: no mode {mode!r}; there are {', '.join(map(repr, _MODES))}")
    columns, fill = _MODES[mode]
    if soft and mode not in _SOFT_MODES:
        raise ACTError(f"to_training: mode {mode!r} has no soft labels; soft=True is for {' and '.join(_SOFT_MODES)}")
    needed = (*columns, LABEL_PROBS) if soft else columns
    require(dataset, needed, stage=f"to_training(mode={mode!r})")
    dataset = with_human_ids(dataset) if HUMAN in columns else dataset
    names = class_names(dataset, LABEL if LABEL in columns else HUMAN)
    rows = plain_columns(dataset, needed)
    kept, values = fill(_softened(rows) if soft else rows)
    kind = _machine_kind(values, names)
    chosen = dataset if kept is None else dataset.select(kept)
    # -100 is none of the ids that a ClassLabel accepts.
    kinds = {LABEL: kind, HUMAN: Value("int64"), SELECTED: Value("bool"), PI: Value("float32")}
    shown = None if processor is None else shown_columns(dataset, text=text, image=image)
    return _with_values(chosen, values, Features(kinds), processor, shown, max_length)


def to_evaluation(
    dataset: Dataset,
    processor: Processor | None = None,
    *,
    text: str | None = None,
    image: str | None = None,
    label: str = "label",
    max_length: int = 128,
) -> Dataset:
    """
    A data set with true labels as [`ACTTrainer`] evaluates on it: the same tokens as [`to_training`], and `labels`.

    Args:
        dataset (`Dataset`): N rows.
        processor, text, image, max_length: as in [`to_training`].
        label (`str`, *optional*, defaults to `"label"`): the `ClassLabel` column with the true labels.

    Returns:
        `Dataset`: N rows with the model's columns and `labels`.

    Raises:
        ACTError: for a missing column, one that is no `ClassLabel`, and rows without a label.
    """
    from datasets import Features

    class_names(dataset, label)
    gold = plain_columns(dataset, [label])[label]
    _refuse([value is None for value in gold], f"have no {label!r}; filter them out", stage="to_evaluation")
    shown = None if processor is None else shown_columns(dataset, text=text, image=image)
    rest, feature = dataset.remove_columns([label]), Features({GOLD: dataset.features[label]})
    return _with_values(rest, {GOLD: gold}, feature, processor, shown, max_length)


def _act(rows: Rows) -> Filled:
    machine, human, pi = rows[LABEL], rows[HUMAN], rows[PI]
    drawn = [bool(value) for value in rows[SELECTED]]
    waiting = [d and h is None for d, h in zip(drawn, human, strict=True)]
    unsampled = [m is not None and p is None for m, p in zip(machine, pi, strict=True)]
    _best_known(rows)
    _refuse(waiting, f"are selected but have no {HUMAN}; finish the review, since leaving them out biases the loss")
    _refuse(unsampled, f"have no {PI}; run sample() on them, or filter them out")
    return None, {
        LABEL: [h if m is None else m for m, h in zip(machine, human, strict=True)],
        HUMAN: [MISSING if h is None else h for h in human],
        SELECTED: [d or m is None for d, m in zip(drawn, machine, strict=True)],
        PI: [1.0 if m is None else p for p, m in zip(pi, machine, strict=True)],
    }


def _human(rows: Rows) -> Filled:
    _refuse([value is None for value in rows[HUMAN]], f"have no {HUMAN}, which mode='human' needs on every row")
    return None, _certain(rows[HUMAN])


def _machine(rows: Rows) -> Filled:
    machine = rows[LABEL]
    _refuse(
        [value is None for value in machine], f"have no {LABEL} (act_failure says why), which mode='machine' needs"
    )
    size = len(machine)
    return None, {LABEL: machine, HUMAN: [MISSING] * size, SELECTED: [False] * size, PI: [1.0] * size}


def _reviewed(rows: Rows) -> Filled:
    _, values = _act(rows)
    kept = [row for row, drawn in enumerate(values[SELECTED]) if drawn]
    if not kept:
        raise ACTError(f"to_training: mode='reviewed' trains on the rows that people reviewed, and none is {SELECTED}")
    # A machine label that says nothing: whatever λ is, the row weighs 1/π.
    return kept, {name: [None if name == LABEL else column[row] for row in kept] for name, column in values.items()}


def _corrected(rows: Rows) -> Filled:
    return None, _certain(_best_known(rows))


def _mixed(rows: Rows) -> Filled:
    _best_known(rows)
    said = [(row, label) for name in (LABEL, HUMAN) for row, label in enumerate(rows[name]) if label is not None]
    return [row for row, _ in said], _certain([label for _, label in said])


def _certain(labels: list[Any]) -> Rows:
    """Labels taken as they are: plain cross-entropy, whatever λ is."""
    return {LABEL: labels, HUMAN: labels, SELECTED: [True] * len(labels), PI: [1.0] * len(labels)}


def _best_known(rows: Rows) -> list[Any]:
    labels = [m if h is None else h for m, h in zip(rows[LABEL], rows[HUMAN], strict=True)]
    lost = [label is None for label in labels]
    _refuse(
        lost, f"have no {LABEL} (act_failure says why) and no {HUMAN}; annotate or review them, or filter them out"
    )
    return labels


_MODES: dict[str, tuple[tuple[str, ...], Callable[[Rows], Filled]]] = {
    "act": (COLUMNS, _act),
    "human": ((HUMAN,), _human),
    "machine": ((LABEL,), _machine),
    "reviewed": (COLUMNS, _reviewed),
    "corrected": ((LABEL, HUMAN), _corrected),
    "mixed": ((LABEL, HUMAN), _mixed),
}
MODES = tuple(_MODES)
_SOFT_MODES = ("act", "machine")


def _softened(rows: Rows) -> Rows:
    """The columns with the distribution of each machine label in its place."""
    probs = rows.pop(LABEL_PROBS)
    unsure = [m is not None and p is None for m, p in zip(rows[LABEL], probs, strict=True)]
    _refuse(unsure, f"have no {LABEL_PROBS}, which soft=True needs; annotate with a model that gives probabilities")
    return {**rows, LABEL: [None if m is None else p for m, p in zip(rows[LABEL], probs, strict=True)]}


def _machine_kind(values: Rows, names: list[str]) -> Any:
    """The type of the machine labels. Where any of them is not a class, all become a number a class, in `values`."""
    from datasets import ClassLabel, List, Value

    if all(isinstance(label, int) for label in values[LABEL]):
        return ClassLabel(names=names)
    values[LABEL] = [_over_classes(label, len(names)) for label in values[LABEL]]
    return List(Value("float32"))


def _over_classes(label: int | list[float] | None, classes: int) -> list[float]:
    if isinstance(label, list):
        return label
    return [float(label == number) for number in range(classes)]


def _with_values(
    dataset: Dataset, values: Rows, features: Features, processor: Processor | None, shown: Shown | None, length: int
) -> Dataset:
    """The columns that the model reads, and `values` beside them."""
    if processor is None or shown is None:
        ours = [name for name in dataset.column_names if name.startswith(PREFIX)]
        return add_columns(dataset.remove_columns(ours), values, features)
    if shown.image is None:
        tokens = model_inputs(dataset, processor, shown, max_length=length, kept=values)
        return add_columns(tokens, values, features)
    read = [name for name in (shown.image, shown.text) if name]
    rows = add_columns(dataset.with_format(None).select_columns(read), values, features)
    return model_inputs(rows, processor, shown, max_length=length, kept=values)


def plain_columns(dataset: Any, columns: Iterable[str]) -> dict[str, list[Any]]:
    """Whole columns as lists, past any format or transform, without decoding the others."""
    rows: dict[str, list[Any]] = dataset.with_format(None).select_columns(list(columns))[:]
    return rows


def _refuse(bad: list[bool], problem: str, *, stage: str = "to_training") -> None:
    if any(bad):
        raise ACTError(f"{stage}: {sum(bad)} of {len(bad)} rows {problem}")
