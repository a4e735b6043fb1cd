"""Train a classifier on a reviewed data set, in one call."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForVisualQuestionAnswering,
    AutoProcessor,
    PrinterCallback,
    ProgressCallback,
    set_seed,
)

from act_hf.columns import class_names, require
from act_hf.errors import ACTError, one_line
from act_hf.human_labels import with_human_ids
from act_hf.inputs import Shown, shown_columns
from act_hf.models.embedded import model_source
from act_hf.models.weights import load_tokenizer
from act_hf.power import power_from_gradients, power_from_held_out
from act_hf.trained import training_facts, write_facts
from act_hf.trainer import ACTConfig, ACTTrainer
from act_hf.training_set import COLUMNS, plain_columns, to_evaluation, to_training


if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset
    from transformers import EvalPrediction

logger = logging.getLogger(__name__)

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


_IMAGE_DEFAULTS = {"train_sampling_strategy": "random"}  # pixels have no length to group by
_PILOT: dict[str, Any] = {
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "report_to": "none",
    "push_to_hub": False,
}
"""A training that only serves to choose λ leaves nothing behind."""

POWER_RULES = ("gradients", "held_out")


def train_classifier(
    dataset: Dataset,
    base: str,
    output_dir: str | Path | None = None,
    *,
    mode: str = "act",
    soft: bool = False,
    power: float | str = 1.0,
    text: str | None = None,
    image: str | None = None,
    evaluation: Dataset | None = None,
    label: str = "label",
    max_length: int = 128,
    trained_layers: int | None = None,
    seed: int = 0,
    **options: Any,
) -> ACTTrainer:
    """
    Fine-tunes a pretrained model on a reviewed data set, with the ACT loss.

    What the data set was annotated for decides the kind: a text (`AutoModelForSequenceClassification`), an image
    (`AutoModelForImageClassification`), or an image and a question about it (`AutoModelForVisualQuestionAnswering`,
    ViLT in transformers, with an output a label). For images, augmentation is yours: see [`to_training`].

    Args:
        dataset (`Dataset`): reviewed rows; see [`to_training`] for the columns that `mode` needs.
        base (`str`): a Hub id or folder of a model of that kind, or `"minilm"`, the embedded one for text.
        output_dir (`str` or `Path`, *optional*): where the trained model and its tokenizer or processor are saved,
            with what it was trained on (`act_training.json`), which [`push_model`] makes a card of. They are not by
            default.
        mode (`str`, *optional*, defaults to `"act"`): `"act"`, or a baseline: `"human"`, `"machine"`, `"reviewed"`,
            `"corrected"` or `"mixed"`; see [`to_training`].
        soft (`bool`, *optional*, defaults to `False`): takes `act_label_probs` for the machine label.
        power (`float` or `str`, *optional*, defaults to 1.0): λ in [0, 1], how much the machine labels are used; or
            how to choose it for mode `"act"`. `"gradients"`: the one with which the gradient varies least
            ([`power_from_gradients`]), by a pilot, a model trained for an epoch at most with λ = 1, since the logits
            of an untrained head say nothing about the rows. `"held_out"`: the best of 0, 0.5 and 1 on reviewed rows
            left out of the training ([`power_from_held_out`]), which takes nine trainings more. What was chosen is
            `trainer.args.power`.
        text (`str`, *optional*): the column with the text, or the question; see [`to_training`].
        image (`str`, *optional*): the column with the image.
        evaluation (`Dataset`, *optional*): rows with true labels. `trainer.evaluate()` then gives `eval_accuracy`.
        label (`str`, *optional*, defaults to `"label"`): the column of `evaluation` with the true labels, a
            `ClassLabel` with the same names in the same order, or text.
        max_length (`int`, *optional*, defaults to 128): tokens a row, or as many as the model reads if that is less.
        trained_layers (`int`, *optional*): trains only the last so many layers and the head. Much faster on a CPU.
            Trains everything by default.
        seed (`int`, *optional*, defaults to 0): of the new head, the order of rows and dropout.
        options: anything else that [`ACTConfig`] takes, such as `learning_rate`, `num_train_epochs`, `non_negative`.

    Returns:
        [`ACTTrainer`]: trained; the model is `trainer.model`.

    Raises:
        ACTError: for a base that does not load, an unknown rule for `power` or one in a baseline, and for what
            [`to_training`] and [`ACTTrainer`] refuse.
    """
    require(dataset, [], stage="train")
    _check_rule(power, mode)
    dataset = dataset if mode == "machine" else with_human_ids(dataset)
    names = class_names(dataset, "act_human" if mode == "human" else "act_label")
    test = None if evaluation is None else _with_ids(evaluation, label, names)
    shown = shown_columns(dataset, text=text, image=image)
    model, processor = _load(base, names, shown, trained_layers, seed)
    length = min(max_length, getattr(model.config, "max_position_embeddings", max_length))
    read: dict[str, Any] = {"text": shown.text, "image": shown.image, "max_length": length}
    rows = to_training(dataset, processor, mode=mode, soft=soft, **read)
    settings = {**_DEFAULTS, **(_IMAGE_DEFAULTS if shown.image else {}), **options, "seed": seed}
    settings["output_dir"] = str(output_dir or Path(tempfile.gettempdir()) / "act_hf")
    measured = None if test is None else to_evaluation(test, processor, label=label, **read)

    def trained(model: Any, rows: Dataset, use: float, measured: Dataset | None, **other: Any) -> ACTTrainer:
        config = ACTConfig(**{**settings, **other, "power": use})
        trainer = ACTTrainer(
            model,
            config,
            train_dataset=rows,
            eval_dataset=measured,
            processing_class=processor,
            compute_metrics=_accuracy,
        )
        _quieten(trainer)
        trainer.train()
        return trainer

    def pilot(rows: Dataset, use: float, **other: Any) -> ACTTrainer:
        with tempfile.TemporaryDirectory() as folder:
            quiet = {**_PILOT, "output_dir": folder, **other}
            return trained(_load(base, names, shown, trained_layers, seed)[0], rows, use, None, **quiet)

    chosen = _chosen_power(power, rows, pilot, settings)
    trainer = trained(model, rows, chosen, measured)
    if output_dir is not None:
        trainer.save_model(str(output_dir))
        _keep_facts(Path(output_dir), dataset, trainer, base=base, mode=mode, soft=soft, shown=shown, labels=names)
    return trainer


def _keep_facts(folder: Path, dataset: Dataset, trainer: ACTTrainer, *, base: str, shown: Shown, **said: Any) -> None:
    # A path would say who trained it, and where.
    facts = {
        "base": Path(base).name if Path(base).exists() else base,
        "text": shown.text,
        "image": shown.image,
        **said,
    }
    facts |= {"seed": trainer.args.seed, "power": trainer.args.power, "evaluations": []}
    write_facts(folder, training_facts(dataset, **facts))


def _check_rule(power: float | str, mode: str) -> None:
    if isinstance(power, str) and power not in POWER_RULES:
        raise ACTError(f"power={power!r} is neither a number in [0, 1] nor one of {', '.join(map(repr, POWER_RULES))}")
    if mode != "act" and power != 1:
        raise ACTError(f"power={power!r} is the lambda of mode 'act'; the baseline {mode!r} has none")


def _chosen_power(
    power: float | str, rows: Dataset, pilot: Callable[..., ACTTrainer], settings: dict[str, Any]
) -> float:
    if not isinstance(power, str):
        return power
    columns = plain_columns(rows, COLUMNS)
    machine, human, selected, pi = (torch.tensor(columns[name]) for name in COLUMNS)
    if power == "gradients":
        epochs = min(1, settings["num_train_epochs"])
        logits = _logits(pilot(rows, 1.0, num_train_epochs=epochs, max_steps=-1), rows)
        chosen = power_from_gradients(logits, machine, human, selected, pi)
    else:

        def losses(use: float, training: Any, held_out: Any) -> Any:
            logits = _logits(pilot(rows.select(training), use), rows.select(held_out))
            return cross_entropy(logits, human[held_out], reduction="none").numpy()

        chosen = power_from_held_out(losses, selected.numpy(), pi.numpy(), seed=settings["seed"])
    logger.info("power %.3f, chosen by %r", chosen, power)
    return chosen


def _logits(trainer: ACTTrainer, rows: Dataset) -> torch.Tensor:
    return torch.tensor(trainer.predict(rows).predictions)


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
        known = getattr(evaluation.features[column], "names", names)
        if known != names:
            raise ACTError(f"evaluation: column {column!r} has the labels {known}, but the training set has {names}")
        return evaluation
    unknown = sorted(set(evaluation.with_format(None)[column][:]) - {None, *names})
    if unknown:
        raise ACTError(f"evaluation: {unknown[0]!r} in column {column!r} is none of the labels {', '.join(names)}")
    encoded: Dataset = evaluation.cast_column(column, ClassLabel(names=names))
    return encoded


def _load(base: str, names: list[str], shown: Shown, trained_layers: int | None, seed: int) -> tuple[Any, Any]:
    """A model with a new head, the same for the same seed, and what prepares its input."""
    set_seed(seed)
    kind, factory, load_processor, options = _kind(shown)
    source = model_source(base)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    try:
        model = factory.from_pretrained(source, num_labels=len(names), **labels, **options)
        processor = load_processor(source)
    except Exception as error:  # whatever a broken file makes of itself
        raise ACTError(f"cannot load the base model {base!r}: {one_line(error)} ({kind})") from error
    if trained_layers is not None:
        _freeze(model, trained_layers)
    return model, processor


def _kind(shown: Shown) -> tuple[str, Any, Callable[[str], Any], dict[str, Any]]:
    """What the base model has to be, the classes that load it and its processor, and how."""
    if shown.image is None:
        return "a text encoder: minilm, a Hub id, or a folder", AutoModelForSequenceClassification, load_tokenizer, {}
    # Nearly every model of images comes with a head for other labels.
    options = {"ignore_mismatched_sizes": True}
    if shown.text is None:
        image = "an image classifier: a Hub id or a folder"
        return image, AutoModelForImageClassification, AutoImageProcessor.from_pretrained, options
    both = "a model of images and questions, such as ViLT: a Hub id or a folder"
    return both, AutoModelForVisualQuestionAnswering, AutoProcessor.from_pretrained, options


def _freeze(model: Any, trained_layers: int) -> None:
    name, layers = next(((n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList)), ("", None))
    # Some models (CLIP) name no base model: then it is the part with the layers, and the head stays out of it.
    body = model.base_model if model.base_model is not model else model.get_submodule(name.partition(".")[0])
    if layers is None or not 0 <= trained_layers <= len(layers):
        raise ACTError(f"trained_layers={trained_layers}: the base model has {len(layers or [])} layers")
    pooler = getattr(body, "pooler", None)
    for parameter in body.parameters():
        parameter.requires_grad = False
    for part in [*layers[len(layers) - trained_layers :], *([pooler] if pooler is not None else [])]:
        for parameter in part.parameters():
            parameter.requires_grad = True


def _accuracy(prediction: EvalPrediction) -> dict[str, float]:
    predicted = np.asarray(prediction.predictions).argmax(axis=-1)
    return {"accuracy": float((predicted == prediction.label_ids).mean())}
