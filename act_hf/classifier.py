"""Train a text classifier on a reviewed data set, in one call."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    PrinterCallback,
    ProgressCallback,
    set_seed,
)

from act_hf.columns import class_names, require
from act_hf.errors import ACTError, one_line
from act_hf.models.embedded import model_source
from act_hf.models.weights import load_tokenizer
from act_hf.trainer import ACTConfig, ACTTrainer
from act_hf.training_set import text_column, to_evaluation, to_training


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import EvalPrediction

_DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3,
    "learning_rate": 5e-5,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 64,
    # Rows of similar length together: short texts would else be mostly padding.
    "train_sampling_strategy": "group_by_length",
    "save_strategy": "no",
    "report_to": "none",
    "dataloader_pin_memory": torch.cuda.is_available(),
}


def train_classifier(
    dataset: Dataset,
    base: str,
    output_dir: str | Path | None = None,
    *,
    mode: str = "act",
    text: str | None = None,
    evaluation: Dataset | None = None,
    label: str = "label",
    max_length: int = 128,
    trained_layers: int | None = None,
    seed: int = 0,
    **options: Any,
) -> ACTTrainer:
    """
    Fine-tunes a pretrained encoder on a reviewed data set, with the ACT loss.

    Args:
        dataset (`Dataset`): reviewed rows; see [`to_training`] for the columns that `mode` needs.
        base (`str`): `"minilm"` for the embedded one, or a Hub id or folder of a text encoder.
        output_dir (`str` or `Path`, *optional*): where the trained model and its tokenizer are saved. They are not by
            default.
        mode (`str`, *optional*, defaults to `"act"`): `"act"`, or a baseline: `"human"` or `"machine"` labels alone.
        text (`str`, *optional*): the column with the text; see [`text_column`].
        evaluation (`Dataset`, *optional*): rows with true labels. `trainer.evaluate()` then gives `eval_accuracy`.
        label (`str`, *optional*, defaults to `"label"`): the column of `evaluation` with the true labels, a
            `ClassLabel` with the same names in the same order, or text.
        max_length (`int`, *optional*, defaults to 128): tokens a row.
        trained_layers (`int`, *optional*): trains only the last so many layers and the head. Much faster on a CPU.
            Trains everything by default.
        seed (`int`, *optional*, defaults to 0): of the new head, the order of rows and dropout.
        options: anything that [`ACTConfig`] takes, such as `learning_rate`, `num_train_epochs`, `power`.

    Returns:
        [`ACTTrainer`]: trained; the model is `trainer.model`.

    Raises:
        ACTError: for a base that does not load, and for what [`to_training`] and [`ACTTrainer`] refuse.
    """
    require(dataset, [], stage="train")
    set_seed(seed)
    names = class_names(dataset, "act_human" if mode == "human" else "act_label")
    test = None if evaluation is None else _with_ids(evaluation, label, names)
    model, tokenizer = _load(base, names)
    if trained_layers is not None:
        _freeze(model, trained_layers)
    tokens: dict[str, Any] = {"text": text_column(dataset, text), "max_length": max_length}
    trainer = ACTTrainer(
        model,
        ACTConfig(str(output_dir or Path(tempfile.gettempdir()) / "act_hf"), seed=seed, **{**_DEFAULTS, **options}),
        train_dataset=to_training(dataset, tokenizer, mode=mode, **tokens),
        eval_dataset=None if test is None else to_evaluation(test, tokenizer, label=label, **tokens),
        processing_class=tokenizer,
        compute_metrics=_accuracy,
    )
    _quieten(trainer)
    trainer.train()
    if output_dir is not None:
        trainer.save_model(str(output_dir))
    return trainer


class _Bar(ProgressCallback):
    """The progress bar, without the dictionaries that it prints between."""

    def on_log(self, *args: Any, **options: Any) -> None:
        """Nothing."""


def _quieten(trainer: ACTTrainer) -> None:
    """The dictionaries of the `Trainer` are for logs, not for people."""
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(_Bar)


def _with_ids(evaluation: Dataset, column: str, names: list[str]) -> Dataset:
    """Rows whose true labels may have been text, as in a file without types, with the ids of the training set."""
    from datasets import ClassLabel

    require(evaluation, [column], stage="evaluation")
    if getattr(evaluation.features[column], "dtype", None) not in ("string", "large_string"):
        return evaluation
    unknown = sorted(set(evaluation.with_format(None)[column][:]) - {None, *names})
    if unknown:
        raise ACTError(f"evaluation: {unknown[0]!r} in column {column!r} is none of the labels {', '.join(names)}")
    encoded: Dataset = evaluation.cast_column(column, ClassLabel(names=names))
    return encoded


def _load(base: str, names: list[str]) -> tuple[Any, Any]:
    source = model_source(base)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    try:
        model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=len(names), **labels)
        return model, load_tokenizer(source)
    except Exception as error:  # whatever a broken file makes of itself
        raise ACTError(
            f"cannot load the base model {base!r}: {one_line(error)} (minilm, a Hub id, or a folder)"
        ) from error


def _freeze(model: Any, trained_layers: int) -> None:
    layers = next((part for part in model.base_model.modules() if isinstance(part, nn.ModuleList)), None)
    if layers is None or not 0 <= trained_layers <= len(layers):
        raise ACTError(f"trained_layers={trained_layers}: the base model has {len(layers or [])} layers")
    pooler = getattr(model.base_model, "pooler", None)
    for parameter in model.base_model.parameters():
        parameter.requires_grad = False
    for part in [*layers[len(layers) - trained_layers :], *([pooler] if pooler is not None else [])]:
        for parameter in part.parameters():
            parameter.requires_grad = True


def _accuracy(prediction: EvalPrediction) -> dict[str, float]:
    predicted = np.asarray(prediction.predictions).argmax(axis=-1)
    return {"accuracy": float((predicted == prediction.label_ids).mean())}
