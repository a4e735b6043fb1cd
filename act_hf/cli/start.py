"""The whole job on an example."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from act_hf.cli.shared import say, threads


def quickstart(
    out: Annotated[Path, typer.Option(help="The folder for the report, the data and the model.")] = Path(
        "act_quickstart"
    ),
    rows: Annotated[int | None, typer.Option(min=20, help="Take only so many of the 400 rows, for a look.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Classifiers trained for each kind of label.")] = 5,
) -> None:
    """Run the whole job on 400 real rows with two small real models: no account, no server, about three minutes."""
    from act_hf.quickstart import run_quickstart

    report = run_quickstart(out, rows=rows, seeds=seeds, threads=threads())
    say(report.summary())
    say(_next_steps(out))


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
