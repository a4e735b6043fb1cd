"""What comes of it: a model, and a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from act_hf.cli.models import check_model_target, evaluated_on, model_folder, on_hub
from act_hf.cli.options import DATA, Gold, Input, Overwrite, Split
from act_hf.cli.shared import say
from act_hf.errors import ACTError
from act_hf.hub import HUB


if TYPE_CHECKING:
    from datasets import Dataset


def train(
    source: Input,
    target: Annotated[
        str, typer.Argument(metavar="OUTPUT", help="The folder for the model, or hf://user/name for the Hub.")
    ],
    base: Annotated[
        str, typer.Option(help="minilm, or a Hub id or folder: a text encoder, or an image model.")
    ] = "minilm",
    mode: Annotated[
        str, typer.Option(help="act, or a baseline: human, machine, reviewed, corrected or mixed labels.")
    ] = "act",
    soft: Annotated[
        bool, typer.Option("--soft", help="Machine labels as probabilities, where there are some.")
    ] = False,
    power: Annotated[
        str, typer.Option(help="Use of the machine labels, 0 to 1; or how to choose it: gradients or held_out.")
    ] = "1",
    text: Annotated[str | None, typer.Option(help="The column with the text, or the question.")] = None,
    image: Annotated[str | None, typer.Option(help="The column with the image.")] = None,
    evaluation: Annotated[str | None, typer.Option(help=f"Rows with true labels: {DATA}.")] = None,
    label: Annotated[str, typer.Option(help="The column of --evaluation with the true labels.")] = "label",
    epochs: Annotated[float, typer.Option(help="Times through the rows.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="The largest step size.")] = 5e-5,
    max_length: Annotated[int, typer.Option(help="Tokens of a text that are read; the rest is cut off.", min=1)] = 128,
    trained_layers: Annotated[
        int | None, typer.Option(help="Train only the last so many layers: much faster on a CPU.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the new head, the order of rows and dropout.")] = 0,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a classifier of texts or images on machine and human labels together, with the ACT loss."""
    from act_hf.classifier import train_classifier
    from act_hf.files import read_dataset
    from act_hf.records import stage_records
    from act_hf.trained import write_facts

    check_model_target(target, overwrite=overwrite)
    test = read_dataset(evaluation) if evaluation else None
    options: dict[str, Any] = {"num_train_epochs": epochs, "learning_rate": learning_rate, "seed": seed}
    options |= {"trained_layers": trained_layers, "mode": mode, "text": text, "evaluation": test, "label": label}
    options |= {"image": image, "soft": soft, "power": _power(power), "max_length": max_length}
    dataset = read_dataset(source, split=split)
    dataset = _without_lost_rows(dataset)
    with model_folder(target, overwrite=overwrite) as folder:
        trainer = train_classifier(dataset, base, folder, **options)
        facts: dict[str, Any] = {"source": on_hub(source)}
        if test is not None and evaluation is not None:
            accuracy = trainer.evaluate()["eval_accuracy"]
            result = {"method": mode, "seed": seed, "rows": len(dataset), "accuracy": accuracy}
            result |= {"power": options["power"], "used_power": trainer.args.power, "soft": soft}
            (folder / "act_result.json").write_text(json.dumps(result), encoding="utf-8")
            facts["evaluations"] = [evaluated_on(evaluation, accuracy, len(test))]
        write_facts(folder, facts)
    if isinstance(options["power"], str):
        say(f"power {trainer.args.power:.3f}, chosen by {power}")
    if test is not None:
        simulated = any(record["simulated"] for record in stage_records(dataset, "review"))
        by = " (reviewed by a simulation)" if simulated and mode != "machine" else ""
        file = "" if target.startswith(HUB) else f"; for the report: --result {target}/act_result.json"
        say(f"accuracy on {evaluation}: {accuracy:.4f}{by}{file}")
    say(f"model in {target}")


def report(
    source: Input,
    file: Annotated[Path, typer.Argument(help="The .html file to write.")],
    gold: Gold = None,
    result: Annotated[list[Path] | None, typer.Option(help="An act_result.json of train; once for each.")] = None,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the run as one page with plots, and print what it says."""
    from act_hf.files import check_replaceable, read_dataset
    from act_hf.report import build_report
    from act_hf.report.facts import ENDINGS

    if file.suffix not in ENDINGS:
        raise ACTError(f"a report is saved as {' or '.join(ENDINGS)}, not as {file.name!r}")
    check_replaceable(file, overwrite=overwrite)
    made = build_report(read_dataset(source, split=split), gold=gold, downstream=_results(result or []))
    made.save(file)
    say(made.summary())
    say(f"\nreport in {file}")


def _without_lost_rows(dataset: Dataset) -> Dataset:
    """Rows that have no label by machine or person (they failed and were skipped) cannot be trained on."""
    from act_hf.columns import HUMAN, LABEL
    from act_hf.human_labels import has_human

    if not {LABEL, HUMAN} & set(dataset.column_names):
        return dataset  # what is missing is said by the training
    machine = dataset[LABEL][:] if LABEL in dataset.column_names else [None] * len(dataset)
    labels = enumerate(zip(machine, has_human(dataset), strict=True))
    known = [number for number, (label, human) in labels if human or label is not None]
    if len(known) < len(dataset):
        say(f"{len(dataset) - len(known)} of {len(dataset)} rows have no label by machine or person and are left out")
        return dataset.select(known)
    return dataset


def _power(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _results(paths: list[Path]) -> list[dict[str, Any]] | None:
    results = []
    for path in paths:
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ACTError(f"--result {str(path)!r}: {error}") from error
        if not isinstance(result, dict):
            raise ACTError(f"--result {str(path)!r} holds no result of act-hf train --evaluation")
        results.append(result)
    return results or None
