"""Doubt from several models: a panel of annotators, or several critics joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from act_hf.cli.options import (
    Input,
    Limits,
    Output,
    Overwrite,
    ServerOptions,
    Split,
    StorePath,
    Suffix,
    in_panel,
    spread,
)
from act_hf.cli.shared import finish, open_dataset
from act_hf.errors import ACTError


if TYPE_CHECKING:
    from pathlib import Path

    from act_hf.models.base import Model


@spread
def panel(
    *,
    source: Input,
    target: Output,
    model: Annotated[
        list[str] | None,
        in_panel("Model", "A model that labels the rows too, as in annotate --model. Once for each.", "--model"),
    ] = None,
    vote: Annotated[
        list[str] | None,
        in_panel("Model", "Instead of --model: a column with the labels of another model. Once for each.", "--vote"),
    ] = None,
    strategy: Annotated[str, in_panel("Model", "How the models are asked: naive or cot.")] = "naive",
    shares: Annotated[
        str | None,
        typer.Option(
            help="The true share of each label, where it is known, as good=0.8,bad=0.2. It helps where models lean "
            "the same way."
        ),
    ] = None,
    server: ServerOptions,
    limits: Limits,
    suffix: Suffix = "",
    store: StorePath = None,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """
    Estimate how doubtful each label is from the labels that other models give.

    It takes the labels of --model, which are asked for now, or those in the columns --vote, where nothing is asked.
    Without either, the votes that INPUT has from an earlier run.
    """
    from act_hf.critics.panel import CONFIDENCE, VOTE, add_votes, criticize_panel
    from act_hf.records import recorded_task

    if model and vote:
        raise ACTError("give --model, to ask for labels now, or --vote, for labels that are there, not both")
    dataset = open_dataset(source, split, target, overwrite)
    options: dict[str, Any] = {"strategy": strategy, "store": store} | limits.given()
    voters: Any = vote
    if model:
        models = _by_name(model, server, store)
        dataset = add_votes(dataset, recorded_task(dataset), models, **options)
        voters = {name: VOTE + name for name in models}  # and no vote that was there before
    confidences = {name: CONFIDENCE + name for name in voters or () if CONFIDENCE + name in dataset.column_names}
    criticized = criticize_panel(dataset, voters, confidences=confidences, shares=_shares(shares), suffix=suffix)
    finish(criticized, target, overwrite, stages=2 if model else 1)


def _by_name(models: list[str], server: ServerOptions, store: Path | None) -> dict[str, Model]:
    """The models by the last part of their names, where that tells them apart."""
    last = [name.rstrip("/").rpartition("/")[2] for name in models]
    names = last if len(set(last)) == len(last) else models
    return {name: server.load_mixed(model, store) for name, model in zip(names, models, strict=True)}


def _shares(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    shares = {}
    for part in text.split(","):
        label, _, share = part.rpartition("=")
        try:
            shares[label.strip()] = float(share)
        except ValueError:
            raise ACTError(f"--shares {part!r} is no label with its share, such as good=0.8") from None
    return shares


def fuse(
    source: Input,
    target: Output,
    signal: Annotated[
        list[str],
        typer.Option(
            help="A critic by its --suffix, another column of error probabilities by its name, or confidence: the "
            "annotator's own. Once for each."
        ),
    ],
    weight: Annotated[
        list[float] | None, typer.Option(help="Of each --signal, in the same order. Equal where none is given.")
    ] = None,
    centre: Annotated[
        bool, typer.Option("--centre", help="Take each signal's preference for some labels out first.")
    ] = False,
    suffix: Suffix = "",
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """
    Join the error probabilities of several critics into one. Nothing is asked.

    Give each critic a --suffix of its own, and the joined one none: rows are sampled by that.
    """
    from act_hf.critics.fusion import fuse as run

    dataset = open_dataset(source, split, target, overwrite)
    finish(run(dataset, signal, weights=weight, centre=centre, suffix=suffix), target, overwrite)
