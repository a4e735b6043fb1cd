"""`act-hf`: every stage as a command. Each reads a data set, adds columns, and writes it."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from act_hf.errors import ACTError, printable


if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset


app = typer.Typer(
    name="act-hf",
    help="A human-quality labelled data set out of a model-labelled one, for a fraction of the human work.",
    epilog="Start with: act-hf quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
review = typer.Typer(help="Hand rows to people, and take their answers back.", no_args_is_help=True)
app.add_typer(review, name="review")

STOPPED = 130
"""The exit status after Ctrl-C."""

_DATA = "a folder, a .parquet, .csv or .jsonl file, or a Hub id (user/name)"
_OUT = "a folder, a .parquet, .csv or .jsonl file, or hf://user/name"

Input = Annotated[str, typer.Argument(metavar="INPUT", help=f"The data set: {_DATA}.")]
Output = Annotated[str, typer.Argument(metavar="OUTPUT", help=f"Where it goes: {_OUT}.")]
Split = Annotated[str | None, typer.Option(help="Which split of INPUT, where it has several.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT where it exists.")]
StorePath = Annotated[
    Path | None,
    typer.Option("--store", help="The file that keeps every answer; a run over it pays for nothing twice."),
]
ModelName = Annotated[
    str,
    typer.Option("--model", help="smollm2, minilm, encoder:ID, or a Hub id, folder or .gguf file of a chat model."),
]
Calibration = Annotated[
    str, typer.Option(help="none, batch or contextual: take out the model's preference for labels.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Rows handed to the model at once.")]
Gold = Annotated[str | None, typer.Option(help="A column with the true labels, where there is one.")]


@app.command(epilog="Example: act-hf quickstart --out act_quickstart")
def quickstart(
    out: Annotated[Path, typer.Option(help="The folder for the report, the data and the model.")] = Path(
        "act_quickstart"
    ),
    rows: Annotated[int | None, typer.Option(min=20, help="Take only so many of the 400 rows, for a look.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Classifiers trained for each kind of label.")] = 5,
) -> None:
    """Run the whole job on 400 real rows with two small real models: no account, no server, about three minutes."""
    from act_hf.quickstart import run_quickstart

    report = run_quickstart(out, rows=rows, seeds=seeds, threads=_threads())
    _say(report.summary())
    _say(_next_steps(out))


@app.command(
    epilog="Example: act-hf annotate reviews.csv labelled --text review --labels good,bad --instruction 'Is it a good "
    "review?' --calibration batch"
)
def annotate(
    source: Input,
    target: Output,
    text: Annotated[str | None, typer.Option(help="The column with the text.")] = None,
    question: Annotated[str | None, typer.Option(help="The column with a question about it.")] = None,
    image: Annotated[str | None, typer.Option(help="The column with the image.")] = None,
    labels: Annotated[str | None, typer.Option(help="The label names, with commas between them.")] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Instead of --labels: a column whose names or values are the labels.")
    ] = None,
    instruction: Annotated[str | None, typer.Option(help="What has to be decided, in a sentence.")] = None,
    examples: Annotated[
        str | None, typer.Option(help=f"Solved rows to show the model, with a column 'label': {_DATA}.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="The language of the rows.")] = None,
    model: ModelName = "smollm2",
    strategy: Annotated[str, typer.Option(help="naive (the label alone) or cot (reasoning first).")] = "naive",
    calibration: Calibration = "none",
    store: StorePath = None,
    batch_size: BatchSize = 64,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Give every row a machine label."""
    from act_hf.annotators import annotate as run
    from act_hf.task import Task

    dataset = _open(source, split, target, overwrite)
    shown = {"text": text, "question": question, "image": image, "language": language}
    if instruction:
        shown["instruction"] = instruction
    names = _label_names(dataset, labels, label_column)
    task = Task(labels=names, **shown, examples=_examples(examples, shown))  # type: ignore[arg-type]
    task.check(dataset, stage="annotate")
    options: dict[str, Any] = {"strategy": strategy, "calibration": calibration, "store": store}
    _finish(run(dataset, task, _model(model), batch_size=batch_size, **options), target, overwrite)


@app.command(epilog="Example: act-hf criticize labelled doubted --model minilm --strategy likelihood")
def criticize(
    source: Input,
    target: Output,
    model: ModelName = "minilm",
    strategy: Annotated[str, typer.Option(help="naive, cot, logit or likelihood.")] = "likelihood",
    calibration: Calibration = "none",
    suffix: Annotated[str, typer.Option(help="Added to the columns' names, for a second critic.")] = "",
    store: StorePath = None,
    batch_size: BatchSize = 64,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Estimate for every machine label the probability that it is wrong."""
    from act_hf.critics import criticize as run

    dataset = _open(source, split, target, overwrite)
    options: dict[str, Any] = {"strategy": strategy, "calibration": calibration, "suffix": suffix, "store": store}
    _finish(run(dataset, _model(model), batch_size=batch_size, **options), target, overwrite)


@app.command(epilog="Example: act-hf sample doubted drawn --budget 10% --mix 0.1")
def sample(
    source: Input,
    target: Output,
    budget: Annotated[str, typer.Option(help="How many rows people look at: a number (200) or a share (0.1 or 10%).")],
    rule: Annotated[str, typer.Option(help="exponential, threshold or normalised.")] = "exponential",
    mix: Annotated[float, typer.Option(help="Share of the budget drawn uniformly, which the estimates need.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    failures: Annotated[str, typer.Option(help="raise, review or skip: what to do with rows that failed.")] = "raise",
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Choose the rows that people look at."""
    from act_hf.sampling import sample as run

    dataset = _open(source, split, target, overwrite)
    options: dict[str, Any] = {"rule": rule, "mix": mix, "seed": seed, "failures": failures}
    _finish(run(dataset, budget=_budget(budget), **options), target, overwrite)


@review.command("push", epilog="Example: act-hf review push drawn to_review.csv")
def review_push(
    source: Input,
    file: Annotated[Path, typer.Argument(help="The .csv or .jsonl file for people to fill in.")],
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the chosen rows to a file with an empty column act_human."""
    from act_hf.files import read_dataset
    from act_hf.review.table import push_table

    rows = push_table(read_dataset(source, split=split), file, overwrite=overwrite)
    _say(f"{rows} rows to review in {file}: fill in act_human, then act-hf review pull {source} {file} OUTPUT")


@review.command("pull", epilog="Example: act-hf review pull drawn to_review.csv reviewed --annotator ann")
def review_pull(
    source: Input,
    file: Annotated[Path, typer.Argument(help="The file that people filled in.")],
    target: Output,
    annotator: Annotated[str, typer.Option(help="Who answered, where the file does not say.")] = "reviewer",
    replace: Annotated[bool, typer.Option("--replace", help="Let people change answers they gave before.")] = False,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Take the answers back into the data set."""
    from act_hf.review.table import pull_table

    dataset = _open(source, split, target, overwrite)
    _finish(pull_table(dataset, file, annotator=annotator, replace=replace), target, overwrite)


@review.command("simulate", epilog="Example: act-hf review simulate drawn reviewed --gold label")
def review_simulate(
    source: Input,
    target: Output,
    gold: Annotated[str, typer.Option(help="The column with the true labels.")],
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Answer from a column of true labels instead of asking people. Reports say that it was simulated."""
    from act_hf.review.simulated import simulate_review

    dataset = _open(source, split, target, overwrite)
    _finish(simulate_review(dataset, gold=gold), target, overwrite)


@app.command(epilog="Example: act-hf train reviewed model --base minilm --evaluation test.parquet")
def train(
    source: Input,
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The folder for the model.")],
    base: Annotated[str, typer.Option(help="minilm, or a Hub id or folder of a text encoder.")] = "minilm",
    mode: Annotated[str, typer.Option(help="act, or a baseline: human or machine labels alone.")] = "act",
    text: Annotated[str | None, typer.Option(help="The column with the text.")] = None,
    evaluation: Annotated[str | None, typer.Option(help=f"Rows with true labels: {_DATA}.")] = None,
    label: Annotated[str, typer.Option(help="The column of --evaluation with the true labels.")] = "label",
    epochs: Annotated[float, typer.Option(help="Times through the rows.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="The largest step size.")] = 5e-5,
    trained_layers: Annotated[
        int | None, typer.Option(help="Train only the last so many layers: much faster on a CPU.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the new head, the order of rows and dropout.")] = 0,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a text classifier on machine and human labels together, with the ACT loss."""
    from act_hf.classifier import train_classifier
    from act_hf.files import check_replaceable, read_dataset, written_whole
    from act_hf.records import stage_records

    check_replaceable(target, overwrite=overwrite, sign="config.json")
    test = read_dataset(evaluation) if evaluation else None
    options: dict[str, Any] = {"num_train_epochs": epochs, "learning_rate": learning_rate, "seed": seed}
    options |= {"trained_layers": trained_layers, "mode": mode, "text": text, "evaluation": test, "label": label}
    dataset = read_dataset(source, split=split)
    dataset = _without_lost_rows(dataset)
    with written_whole(target, "the model") as folder:
        trainer = train_classifier(dataset, base, folder, **options)
        if test is not None:
            accuracy = trainer.evaluate()["eval_accuracy"]
            result = {"method": mode, "seed": seed, "rows": len(dataset), "accuracy": accuracy}
            (folder / "act_result.json").write_text(json.dumps(result), encoding="utf-8")
    if test is not None:
        simulated = any(record["simulated"] for record in stage_records(dataset, "review"))
        by = " (reviewed by a simulation)" if simulated and mode != "machine" else ""
        _say(f"accuracy on {evaluation}: {accuracy:.4f}{by}; for the report: --result {target}/act_result.json")
    _say(f"model in {target}")


@app.command(epilog="Example: act-hf report reviewed report.html --gold label --result model/act_result.json")
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

    check_replaceable(file, overwrite=overwrite)
    made = build_report(read_dataset(source, split=split), gold=gold, downstream=_results(result or []))
    made.save(file)
    _say(made.summary())
    _say(f"\nreport in {file}")


def main() -> None:
    """Runs `act-hf`. A mistake is one line and exit status 2; a stopped run is 130 and can be resumed."""
    # Waiting threads sleep instead of spinning; else a thread for every core collapses when anything else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _quiet()
    try:
        app()
    except ACTError as error:
        sys.exit(_complain(str(error), 2))
    except ModuleNotFoundError as error:
        sys.exit(_complain(f"{error}; install what this command needs: pip install -e '.[train,plot]'", 2))
    except SystemExit as end:
        if end.code == STOPPED:  # what typer makes of Ctrl-C
            _complain("stopped; every answer so far is kept: the same command goes on from there", STOPPED)
        raise


def _say(text: str) -> None:
    """Prints lines without what could move the cursor or colour the terminal: labels and file names are not ours."""
    print("\n".join(printable(line) for line in text.split("\n")))


def _complain(message: str, status: int) -> int:
    print(f"act-hf: {printable(' '.join(message.split()))}", file=sys.stderr)
    return status


def _quiet() -> None:
    """Leaves the terminal to what a user can act on."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal or pipe that has no ε̂ shows the rest


def _open(source: str, split: str | None, target: str, overwrite: bool) -> Dataset:
    from datasets import disable_caching

    from act_hf.files import check_target, read_dataset

    check_target(target, overwrite=overwrite)
    disable_caching()  # else `map` leaves files in the folder that it reads
    dataset = read_dataset(source, split=split)
    check_target(target, overwrite=overwrite, features=dataset.features)
    return dataset


def _finish(dataset: Dataset, target: str, overwrite: bool) -> None:
    from act_hf.files import write_dataset
    from act_hf.records import stage_records

    write_dataset(dataset, target, overwrite=overwrite)
    record = stage_records(dataset)[-1]
    hidden = ("stage", "task", "versions", "prior", "usage", "annotators")
    facts = [f"{name} {value}" for name, value in record.items() if name not in hidden and value not in (None, "")]
    usage = record.get("usage")
    if usage:
        facts.append(f"{usage['calls']} calls, {usage['requests'] - usage['calls']} from the store")
        facts.append(f"{usage['tokens_in'] + usage['tokens_out']} tokens, {usage['seconds']:.0f} s of the model")
    _say(f"{record['stage']}: {', '.join(facts)}\nwritten to {target}")


def _without_lost_rows(dataset: Dataset) -> Dataset:
    """Rows that have no label by machine or person (they failed and were skipped) cannot be trained on."""
    from act_hf.columns import HUMAN, LABEL

    labels = [dataset[name][:] for name in (LABEL, HUMAN) if name in dataset.column_names]
    known = [number for number, row in enumerate(zip(*labels, strict=True)) if any(label is not None for label in row)]
    if labels and len(known) < len(dataset):
        _say(f"{len(dataset) - len(known)} of {len(dataset)} rows have no label by machine or person and are left out")
        return dataset.select(known)
    return dataset


def _model(name: str) -> Any:
    from act_hf.models import load_model

    return load_model(name, threads=_threads())


def _threads() -> int | None:
    """Every core, since waiting threads sleep here; or as many as the user gives to OpenMP."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else os.cpu_count()


def _label_names(dataset: Dataset, labels: str | None, column: str | None) -> Sequence[str]:
    from act_hf.columns import class_names, require

    if (labels is None) == (column is None):
        raise ACTError("give either --labels a,b,c or --label-column NAME")
    if labels is not None:
        return [name.strip() for name in labels.split(",") if name.strip()]
    assert column is not None
    require(dataset, [column], stage="annotate")
    if getattr(dataset.features[column], "dtype", None) in ("string", "large_string"):
        return sorted({value for value in dataset[column][:] if value})
    if not hasattr(dataset.features[column], "names"):
        kind = dataset.features[column]
        raise ACTError(f"--label-column {column!r} holds {kind}, not names; give --labels a,b,c instead")
    return class_names(dataset, column)


def _examples(source: str | None, shown: dict[str, str | None]) -> list[Any]:
    from act_hf.columns import require
    from act_hf.files import read_dataset
    from act_hf.task import Example

    if source is None:
        return []
    solved = read_dataset(source)
    names = {part: shown[part] for part in ("text", "question") if shown[part]}
    require(solved, ["label", *(name for name in names.values() if name)], stage="--examples")
    kind = solved.features["label"]
    spelled = kind.int2str if hasattr(kind, "int2str") else str
    parts = [{part: row[name] for part, name in names.items()} for row in solved]
    return [Example(spelled(row["label"]), **part) for row, part in zip(solved, parts, strict=True)]


def _budget(text: str) -> int | float:
    plain = text.strip()
    try:
        number = float(plain.removesuffix("%"))
    except ValueError:
        raise ACTError(f"--budget {text!r} is neither a number of rows (200) nor a share (0.1 or 10%)") from None
    if plain.endswith("%"):
        if not 0 <= number <= 100:
            raise ACTError(f"--budget {text!r} is no share of the rows; give 0% to 100%, or a number of rows (200)")
        return number / 100
    return int(plain) if plain.lstrip("+-").isdecimal() else number


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


def _next_steps(out: Path) -> str:
    # As it was called: in a virtual environment that is not active, plain act-hf would not be found.
    command = "act-hf" if shutil.which("act-hf") else sys.argv[0]
    return f"""
The report:          {out / "report.html"}
What people get:     {out / "review.csv"}  (here the answers were simulated from the true labels)
The data set:        {out / "data"}  (datasets.load_from_disk)
The trained model:   {out / "model"}

The same on your own data:
  {command} annotate mine.csv labelled --text TEXT --labels a,b,c --instruction 'What to decide.' --calibration batch
  {command} criticize labelled doubted
  {command} sample doubted drawn --budget 10%
  {command} review push drawn to_review.csv        # people fill in act_human
  {command} review pull drawn to_review.csv reviewed
  {command} train reviewed model
  {command} report reviewed report.html
With a stronger model: annotate --model and criticize --model take any chat model, as a Hub id, folder or .gguf file.
"""


if __name__ == "__main__":
    main()
