"""A `transformers` Trainer with the ACT loss, and the way from an annotated data set to what it trains on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainingArguments

from act_hf.columns import HUMAN, LABEL, PI, PREFIX, SELECTED, add_columns, class_names, require
from act_hf.errors import ACTError
from act_hf.loss import MISSING, LossWeights, act_loss, check_options, check_rows, loss_weights


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from datasets import Dataset, Features
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase
    from transformers.trainer_utils import TrainOutput

logger = logging.getLogger(__name__)

COLUMNS = (LABEL, HUMAN, SELECTED, PI)
GOLD = "labels"


@dataclass
class ACTConfig(TrainingArguments):
    """
    `transformers.TrainingArguments` and what the ACT loss adds to them.

    Args:
        power (`float`, *optional*, defaults to 1.0): λ in [0, 1], how much the machine labels are used.
        non_negative (`bool`, *optional*, defaults to `True`): keeps the loss of each row at 0 or above. On, because
            training on a soft sampling rule (normalised, exponential, root) collapses without it; with the threshold
            rule every π is 0 or 1, no weight is negative and it changes nothing.
        max_weight (`float`, *optional*): clips δ/π.

    Raises:
        ACTError: for a `power` or `max_weight` out of range, or label smoothing, which the ACT loss does not have.
    """

    power: float = field(default=1.0, metadata={"help": "Use of the machine labels (lambda), in [0, 1]."})
    non_negative: bool = field(default=True, metadata={"help": "Keep the loss of each row at 0 or above."})
    max_weight: float | None = field(default=None, metadata={"help": "Clip 1/pi at this value."})

    def __post_init__(self) -> None:
        check_options(self.power, self.max_weight)
        if self.label_smoothing_factor:
            raise ACTError(
                f"label_smoothing_factor={self.label_smoothing_factor}: the ACT loss has no label smoothing"
            )
        super().__post_init__()  # type: ignore[no-untyped-call]


class ACTTrainer(Trainer):
    """
    A `transformers.Trainer` that trains with the ACT loss and evaluates with cross-entropy on `labels`.

    The training set has the columns `act_label`, `act_human`, `act_selected` and `act_pi` as [`to_training`] leaves
    them; `labels` in it are not looked at. Pass the tokenizer as `processing_class` to have batches padded.

    A step's loss is the sum over its rows divided by their number across all accumulated micro-batches and all
    processes, so the gradient does not depend on how a batch is split.

    Args:
        model (`PreTrainedModel` or `nn.Module`, *optional*): returns `logits` of shape `[rows, classes]`.
        args ([`ACTConfig`], *optional*): defaults to `ACTConfig()`.
        options: the other arguments of `transformers.Trainer`, by keyword.

    Raises:
        ACTError: for `args` of another type, or a `compute_loss_func`; in `train`, for a training set without the four
            columns or with values the loss is not defined on, and for an evaluation set with other label names.

    Example:

    ```python
    >>> trainer = ACTTrainer(model, ACTConfig("out"), train_dataset=to_training(dataset, tokenizer),
    ...                      eval_dataset=to_evaluation(test, tokenizer), processing_class=tokenizer)
    >>> trainer.train()
    ```
    """

    args: ACTConfig
    loss_is_scaled_for_ga = True  # get_batch_samples counts the whole accumulated batch

    def __init__(self, model: nn.Module | None = None, args: TrainingArguments | None = None, **options: Any) -> None:
        args = ACTConfig() if args is None else args
        if not isinstance(args, ACTConfig):
            raise ACTError(
                f"ACTTrainer: args is a {type(args).__name__}; give an ACTConfig, which has power and the rest"
            )
        if options.get("compute_loss_func") is not None:
            raise ACTError("ACTTrainer: it has a loss of its own; for compute_loss_func use transformers.Trainer")
        super().__init__(model, args, **options)
        # A model whose forward takes no labels still gets an eval_loss, since the loss is computed here.
        self.label_names = self.label_names or [GOLD]

    def train(self, *args: Any, **options: Any) -> TrainOutput:
        """Checks the training set, warns about its weights, and trains: see `transformers.Trainer.train`."""
        self._check_training_set()
        self._check_label_names()
        return super().train(*args, **options)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """
        The ACT loss of a micro-batch while training, cross-entropy on `labels` while evaluating.

        Args:
            model (`nn.Module`): whether it is in training mode decides which loss.
            inputs (`dict`): a batch; not changed.
            return_outputs (`bool`, *optional*, defaults to `False`): also returns what the model returned.
            num_items_in_batch (`Tensor` or `int`, *optional*): rows of the whole step, as counted by
                `get_batch_samples`. Without it this micro-batch is taken for the whole step of this process.

        Returns:
            `Tensor` or `tuple`: a scalar, with the outputs where they are asked for.

        Raises:
            ACTError: when a batch to train on lacks an act column.
        """
        outputs = model(**_without(inputs, (*COLUMNS, GOLD)))
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
        loss: Tensor
        if model.training:
            # DDP averages over processes what has to be summed over them.
            rows = len(logits) * self.accelerator.num_processes if num_items_in_batch is None else num_items_in_batch
            loss = self._act_loss(logits, _act_values(inputs)) / rows * self.accelerator.num_processes
        else:
            loss = torch.nn.functional.cross_entropy(logits.float(), inputs[GOLD])
        if not return_outputs:
            return loss
        # Of a tuple the Trainer takes the first element for the loss and drops it.
        return loss, outputs if isinstance(outputs, Mapping) else (loss, *outputs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The micro-batches of the next step, and its number of rows over all of them and all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        rows = torch.tensor(sum(len(_act_values(batch)[LABEL]) for batch in batches), device=device)
        return batches, self.accelerator.gather(rows).sum()

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Tensor | Any], *args: Any, **options: Any
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """One evaluation step: see `transformers.Trainer.prediction_step`. Act columns do not reach the model."""
        return super().prediction_step(model, _without(inputs, COLUMNS), *args, **options)

    def _set_signature_columns_if_needed(self) -> None:
        # Otherwise remove_unused_columns drops them without a word.
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            known: list[str] = self._signature_columns or []
            self._signature_columns = [*dict.fromkeys([*known, *COLUMNS, GOLD])]  # type: ignore[assignment]

    def _act_loss(self, logits: Tensor, values: dict[str, Tensor]) -> Tensor:
        return act_loss(
            logits,
            *(values[name] for name in COLUMNS),
            power=self.args.power,
            non_negative=self.args.non_negative,
            max_weight=self.args.max_weight,
            reduction="sum",
        )

    def _check_training_set(self) -> None:
        dataset: Any = self.train_dataset
        if getattr(dataset, "column_names", None) is None:
            return  # a torch Dataset: each batch is checked instead
        _require_columns(dataset.column_names, "the training set")
        if not hasattr(dataset, "__len__"):
            return  # a stream, likewise
        rows = _plain(dataset, COLUMNS)
        gaps = [name for name in COLUMNS if None in rows[name]]
        if gaps:
            raise ACTError(f"ACTTrainer: empty cells in {', '.join(gaps)}; run to_training(dataset, tokenizer) first")
        self._check_values(*(torch.tensor(rows[name]) for name in COLUMNS))

    def _check_values(self, machine: Tensor, human: Tensor, selected: Tensor, pi: Tensor) -> None:
        classes = getattr(getattr(self.model, "config", None), "num_labels", None)
        check_rows(machine, human, selected, pi, rows=len(machine), classes=classes)
        # Soft machine labels have no one label to differ from: each reviewed row counts as corrected.
        corrected = human != machine if machine.ndim == 1 else torch.ones_like(selected)
        arrays = (selected.numpy(), pi.numpy(), corrected.numpy())
        self._warn(loss_weights(*arrays, self.args.power, max_weight=self.args.max_weight), rows=len(machine))

    def _warn(self, weights: LossWeights, *, rows: int) -> None:
        unbounded = weights.negative_share > 0.1 and not self.args.non_negative
        heavy = weights.largest > 10
        if not (unbounded or heavy) or not self.is_world_process_zero():
            return
        clip = "max_weight=10 (clips 1/pi, for some bias), " if heavy else ""
        guard = "non_negative=True (without it a flexible model can collapse), " if unbounded else ""
        _warn_once(
            f"The ACT loss weighs this training set unevenly: largest weight {weights.largest:.1f}, "
            f"{weights.negative_share:.0%} of all weight negative, effective sample size {weights.effective_rows:.0f} "
            f"of {rows} rows; pi = 0 on {weights.unreachable} of them (nobody could review those: their machine label "
            f"is believed). Consider {guard}{clip}and for the next draw a larger mix or the threshold rule."
        )

    def _check_label_names(self) -> None:
        """Both sets hold ids: with the names in another order the evaluation would be wrong without a sign of it."""
        trained = _names(self.train_dataset, LABEL)
        sets = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"eval": self.eval_dataset}
        for name, dataset in sets.items():
            gold = _names(dataset, GOLD) or _names(dataset, "label")
            if trained and gold and gold != trained:
                raise ACTError(f"ACTTrainer: the {name} set has the labels {gold}, but {LABEL} has {trained}")


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
        text (`str`, *optional*): the column with the text. Defaults to `"text"`, or the only column with strings.
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
    values = values_of(_plain(dataset, columns))
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
    gold = _plain(dataset, [label])[label]
    _refuse([value is None for value in gold], f"have no {label!r}; filter them out", stage="to_evaluation")
    kept = _model_columns(
        dataset.remove_columns([label]) if tokenizer is None else dataset, tokenizer, text, max_length
    )
    return add_columns(kept, {GOLD: gold}, {GOLD: dataset.features[label]})


@lru_cache
def _warn_once(message: str) -> None:
    """Several seeds on the same rows are one reason to warn."""
    logger.warning(message)


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
    column = _text_column(dataset, text)

    def tokens(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = [value or "" for value in batch[column]]
        return dict(tokenizer(texts, truncation=True, max_length=max_length))

    return dataset.with_format(None).map(tokens, batched=True, remove_columns=dataset.column_names, desc="tokenize")


def _text_column(dataset: Dataset, text: str | None) -> str:
    strings = [
        name
        for name, feature in dataset.features.items()
        if not name.startswith(PREFIX) and getattr(feature, "dtype", None) in ("string", "large_string")
    ]
    choices = [text] if text else ["text"] if "text" in strings else strings
    if len(choices) != 1 or choices[0] not in strings:
        asked = f"no text column {text!r}" if text else "which column is the text? Give text="
        raise ACTError(f"{asked}; the columns with strings are {', '.join(map(repr, strings)) or 'none'}")
    return choices[0]


def _plain(dataset: Any, columns: Iterable[str]) -> dict[str, list[Any]]:
    """Whole columns as lists, past any format or transform, without decoding the others."""
    rows: dict[str, list[Any]] = dataset.with_format(None).select_columns(list(columns))[:]
    return rows


def _names(dataset: Any, column: str) -> list[str] | None:
    feature = (getattr(dataset, "features", None) or {}).get(column)
    return getattr(feature, "names", None)


def _act_values(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    _require_columns(batch, "a batch to train on")
    return {name: batch[name] for name in COLUMNS}


def _require_columns(names: Iterable[str], where: str) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ACTError(f"ACTTrainer: {where} has no {', '.join(missing)}; run to_training(dataset, tokenizer) first")


def _without(inputs: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name not in names}


def _refuse(bad: list[bool], problem: str, *, stage: str = "to_training") -> None:
    if any(bad):
        raise ACTError(f"{stage}: {sum(bad)} of {len(bad)} rows {problem}")
