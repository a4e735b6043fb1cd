"""`act-hf`: every stage as a command. Each reads a data set, adds columns, and writes it."""

from __future__ import annotations

import io
import os
import sys

import typer

from act_hf.cli import argilla, people
from act_hf.cli.choice import calibrate, sample
from act_hf.cli.forecast import compare, plan
from act_hf.cli.goals import budget, stop
from act_hf.cli.labels import annotate, criticize
from act_hf.cli.page import page
from act_hf.cli.publishing import publish
from act_hf.cli.results import report, train
from act_hf.cli.several import fuse, panel
from act_hf.cli.shared import complain
from act_hf.cli.start import quickstart
from act_hf.errors import ACTError


MISTAKE, LIMIT, STOPPED = 2, 3, 130
"""Exit statuses: of a mistake by the user; at `--max-calls` or `--max-cost`, or with `--no-wait`; after Ctrl-C."""

app = typer.Typer(
    name="act-hf",
    help="A human-quality labelled data set out of a model-labelled one, for a fraction of the human work.",
    epilog="Start with: act-hf quickstart. Exit status: 1 where stop says no, 2 for a mistake, 3 at --max-calls or "
    "--max-cost and with --no-wait, 130 after Ctrl-C; after the last two, the same command goes on from there.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
review = typer.Typer(help="Hand rows to people, and take their answers back.", no_args_is_help=True)

# In the order of the work, and each with a line that can be copied.
for _panel, _command, _example in (
    ("Try it", quickstart, "--out act_quickstart"),
    (
        "Label",
        plan,
        "reviews.csv --text review --labels good,bad --annotator smollm2:naive:batch --critic minilm --pilot 20",
    ),
    (
        "Label",
        compare,
        "tested.csv --gold label --text review --annotator smollm2 --annotator smollm2:naive:batch --critic minilm",
    ),
    (
        "Label",
        annotate,
        "reviews.csv labelled --text review --labels good,bad --instruction 'Is it a good review?' "
        "--calibration batch",
    ),
    ("Label", criticize, "labelled doubted --model minilm --strategy likelihood"),
    ("Label", panel, "labelled doubted --model Qwen/Qwen2.5-0.5B-Instruct --model minilm"),
    ("Label", fuse, "doubted fused --signal _logit --signal _minilm --signal confidence"),
    ("Review", sample, "doubted drawn --budget 10% --mix 0.1"),
    ("Review", budget, "audited --target 0.98 --confidence 0.95 --plot budget.png"),
    ("Review", calibrate, "reviewed calibrated --method logistic"),
    ("Review", stop, "reviewed --target 0.98"),
    ("Use", train, "reviewed model --base minilm --evaluation test.parquet"),
    ("Use", report, "reviewed report.html --gold label --result model/act_result.json"),
    ("Use", publish, "reviewed hf://user/reviews --model model"),
):
    _name = _command.__name__
    app.command(epilog=f"Example: act-hf {_name} {_example}", rich_help_panel=_panel)(_command)

app.add_typer(review, name="review", rich_help_panel="Review")
for _command, _example in (
    (page, "drawn"),
    (people.push, "drawn to_review.csv"),
    (people.status, "drawn to_review.csv"),
    (people.pull, "drawn to_review.csv reviewed --annotator ann"),
    (people.simulate, "drawn reviewed --gold label"),
    (argilla.argilla, "--local"),
):
    _name = _command.__name__
    review.command(_name, epilog=f"Example: act-hf review {_name} {_example}")(_command)


def main() -> None:
    """Runs `act-hf`. A mistake is one line and exit status 2; a stopped run is 3 or 130 and can be resumed."""
    run(app)


def run(commands: typer.Typer) -> None:
    """Runs commands, ours or those of a script, with the messages and exit statuses of [`main`]."""
    # Waiting threads sleep instead of spinning; else a thread for every core collapses when anything else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _quiet()
    try:
        commands()
    except ACTError as error:
        sys.exit(complain(str(error), _status(error)))
    except ModuleNotFoundError as error:
        message = f"{error}; install what this command needs: pip install -e '.[train,plot]'"
        sys.exit(complain(message, MISTAKE))
    except SystemExit as end:
        if end.code == STOPPED:  # what typer makes of Ctrl-C
            complain("stopped; every answer so far is kept: the same command goes on from there", STOPPED)
        raise


def _status(error: ACTError) -> int:
    from act_hf.models.asking import LimitReached
    from act_hf.models.deferred import Submitted

    return LIMIT if isinstance(error, LimitReached | Submitted) else MISTAKE


def _quiet() -> None:
    """Leaves the terminal to what a user can act on."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal or pipe that has no ε̂ shows the rest
