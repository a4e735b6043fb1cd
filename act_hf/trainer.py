"""A `transformers` Trainer with the ACT loss."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from act_hf.columns import LABEL
from act_hf.errors import ACTError
from act_hf.loss import LossWeights, act_loss, check_options, check_rows, loss_weights
from act_hf.training_set import COLUMNS, GOLD, plain_columns


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor, nn
    from transformers.trainer_utils import TrainOutput

logger = logging.getLogger(__name__)


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

    The training set has the columns `act_label` (soft or not), `act_human`, `act_selected` and `act_pi` as
    [`to_training`] leaves them; `labels` in it are not looked at. Pass the tokenizer as `processing_class` to have
    batches padded. Of a data set with a transform (`Dataset.with_transform`) no columns are removed.

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

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        # What a transform makes of a row reaches the model; it may read columns that the model does not know.
        return dataset if dataset.format["type"] == "custom" else super()._remove_unused_columns(dataset, description)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        # In order: transformers groups by length here too, and predictions would come in another order than the rows.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

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
        rows = plain_columns(dataset, COLUMNS)
        gaps = [name for name in COLUMNS if None in rows[name]]
        if gaps:
            raise ACTError(f"ACTTrainer: empty cells in {', '.join(gaps)}; run to_training(dataset, tokenizer) first")
        self._check_values(*(torch.tensor(rows[name]) for name in COLUMNS))

    def _check_values(self, machine: Tensor, human: Tensor, selected: Tensor, pi: Tensor) -> None:
        classes = getattr(getattr(self.model, "config", None), "num_labels", None)
        check_rows(machine, human, selected, pi, rows=len(machine), classes=classes)
        use, corrected = (self.args.power, human != machine) if machine.ndim == 1 else self._soft(machine, human)
        weights = loss_weights(
            selected.numpy(), pi.numpy(), np.asarray(corrected), np.asarray(use), max_weight=self.args.max_weight
        )
        self._warn(weights, rows=len(machine))

    def _soft(self, machine: Tensor, human: Tensor) -> tuple[Tensor, Tensor]:
        """How much each soft machine label is used, and how much of it is on other classes than the human one."""
        agreed = machine.gather(1, human.clamp(min=0)[:, None])[:, 0]
        return self.args.power * machine.sum(dim=1).clamp(max=1), (1 - agreed).clamp(min=0)

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
        trained, model = _names(self.train_dataset, LABEL), self._model_names()
        sets = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"eval": self.eval_dataset}
        for name, dataset in sets.items():
            gold = _names(dataset, GOLD) or _names(dataset, "label")
            if trained and gold and gold != trained:
                raise ACTError(f"ACTTrainer: the {name} set has the labels {gold}, but {LABEL} has {trained}")
            # A model may have other names for the same classes, but not the same ones in another order.
            if not trained and gold and gold != model and sorted(gold) == sorted(model):
                raise ACTError(f"ACTTrainer: the {name} set has the labels {gold}, but the model's config has {model}")

    def _model_names(self) -> list[str]:
        """What the model calls its classes; soft labels have no names."""
        names = getattr(getattr(self.model, "config", None), "id2label", None) or {}
        return [name for _, name in sorted(names.items())]


@lru_cache
def _warn_once(message: str) -> None:
    """Several seeds on the same rows are one reason to warn."""
    logger.warning(message)


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
