"""How much review a target takes, and whether it is reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from act_hf.cli.options import Input, Split
from act_hf.cli.shared import read_input, say


if TYPE_CHECKING:
    from collections.abc import Mapping

Target = Annotated[float, typer.Option(help="Share of all the labels that should be right, such as 0.98.")]
Json = Annotated[Path | None, typer.Option("--json", help="A .json file to write the figures to.")]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace the files where they exist.")]


def budget(
    source: Input,
    target: Target = 0.98,
    confidence: Annotated[float, typer.Option(help="How sure to be of it.")] = 0.95,
    plot: Annotated[Path | None, typer.Option(help="A .png file to draw what any number of rows buys.")] = None,
    figures: Json = None,
    split: Split = None,
    overwrite: Replace = False,
) -> None:
    """
    Say how many rows people must look at to reach a target, from a small audit.

    INPUT is an audit: criticized rows of which a few hundred were drawn uniformly (sample --mix 1) and reviewed. The
    plan holds whatever the critic is worth; a bad critic makes it ask for more rows. What labelling costs: plan.
    """
    from act_hf.evidence import plan_review
    from act_hf.evidence.facts import check_picture
    from act_hf.files import check_replaceable

    if plot is not None:
        check_picture(plot)
    for file in (plot, figures):
        if file is not None:
            check_replaceable(file, overwrite=overwrite)
    made = plan_review(read_input(source, split), target=target, confidence=confidence)
    say(made.summary())
    if plot is not None:
        say(f"\npicture in {made.plot(plot)}")
    _save(made.to_dict(), figures)


def stop(
    source: Input,
    target: Target = 0.98,
    confidence: Annotated[float, typer.Option(help="How sure to be of it, over all looks together.")] = 0.95,
    looks: Annotated[
        int | None,
        typer.Option(help="The most waves with a random draw there will be, where that is fixed beforehand.", min=1),
    ] = None,
    figures: Json = None,
    split: Split = None,
    overwrite: Replace = False,
) -> None:
    """
    Say whether the target is reached: exit status 0 if that is shown, 1 if not.

    Ask after every wave, or in the midst of one: the confidence is shared out over the looks. With --looks 1 it
    confirms a plan of budget by the audit that the plan was made from.
    """
    from act_hf.evidence import check_target
    from act_hf.files import check_replaceable

    if figures is not None:
        check_replaceable(figures, overwrite=overwrite)
    made = check_target(read_input(source, split), target=target, confidence=confidence, looks=looks)
    say(made.summary())
    _save(made.to_dict(), figures)
    if not made.reached:
        raise typer.Exit(1)


def _save(figures: Mapping[str, Any], path: Path | None) -> None:
    from act_hf.files import written_whole

    if path is None:
        return
    with written_whole(path, "the figures") as unfinished:
        unfinished.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    say(f"figures in {path}")
