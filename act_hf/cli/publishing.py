"""A data set, and the model trained on it, for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from act_hf.cli.options import Input, Overwrite, Split
from act_hf.cli.shared import read_input, say


def publish(
    source: Input,
    target: Annotated[str, typer.Argument(metavar="OUTPUT", help="hf://user/name[@branch][:configuration].")],
    model: Annotated[
        Path | None,
        typer.Option(help="The folder of a model trained on it, which becomes the model user/name with a link to it."),
    ] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="As a pull request; nothing is replaced.")] = False,
    public: Annotated[
        bool, typer.Option("--public", help="Everybody may read it, and the names of those who reviewed.")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="The branch; made where it is not there.")] = None,
    config_name: Annotated[str | None, typer.Option(help="The configuration of the data set.")] = None,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """
    Push a data set to the Hub, with a card that says how its labels were made; and a model.

    Each is one commit: the old one is there, or the new one. What others wrote in a card stays.
    """
    from dataclasses import replace

    from act_hf.hub import parse_address
    from act_hf.hub.models import check_model_push, model_files, push_model
    from act_hf.hub.pushing import push_dataset

    address = parse_address(target).given(revision=revision, config=config_name)
    options: dict[str, Any] = {"private": not public, "create_pr": create_pr, "overwrite": overwrite}
    trained = replace(address, config=None)
    dataset = read_input(source, split)
    if model is not None:  # before the data set is there without it
        model_files(model)
        check_model_push(trained, **options)
    say(f"data set: {push_dataset(dataset, address, **options)}")
    if model is not None:
        say(f"model: {push_model(model, trained, dataset=str(address), **options)}")
