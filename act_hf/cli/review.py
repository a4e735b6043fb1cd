"""Handing rows to people, and taking their answers back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from act_hf.cli.options import Input, Output, Overwrite, Split
from act_hf.cli.shared import finish, open_dataset, read_input, say
from act_hf.errors import ACTError
from act_hf.review.table import FORMATS


_PLACE = "a .csv or .jsonl file to fill in, or a .sqlite file for act-hf review page"

Place = Annotated[str, typer.Argument(metavar="PLACE", help=f"Where people review: {_PLACE}.")]


def push(
    source: Input,
    place: Place,
    wave: Annotated[int | None, typer.Option(help="Only the rows drawn in this wave. Default: all.", min=1)] = None,
    answered: Annotated[
        bool, typer.Option("--answered", help="Rows that have a human label, too, for a second opinion.")
    ] = False,
    split: Split = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="A file is written anew, and the answers in it are gone.")
    ] = False,
) -> None:
    """Hand the chosen rows to people, the most doubtful first. Again, it adds what is new and keeps all answers."""
    from act_hf.review.places import find_place, push_review

    found = find_place(place, **_table(place, overwrite=overwrite))
    done = push_review(read_input(source, split), found, wave=wave, answered=answered)
    there = f" ({done.there} more were there)" if done.there else ""
    say(f"{done.new} rows to review in {place}{there}: {found.how}, then act-hf review pull {source} {place} OUTPUT")


def pull(
    source: Input,
    place: Place,
    target: Output,
    annotator: Annotated[
        str | None, typer.Option(help="Who answered, where a table does not say. Default: reviewer.")
    ] = None,
    replace: Annotated[
        bool | None,
        typer.Option(
            "--replace/--keep",
            help="Whether an answer that a person changed since the last pull counts. Default: not in a table.",
        ),
    ] = None,
    resolve: Annotated[
        str | None, typer.Option(help="Several answers become one by majority (the default) or dawid_skene.")
    ] = None,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Take the answers back into the data set."""
    from act_hf.review.places import find_place, pull_review

    dataset = open_dataset(source, split, target, overwrite)
    found = find_place(place, **_table(place, annotator=annotator))
    finish(pull_review(dataset, found, replace=replace, resolve=resolve), target, overwrite)


def simulate(
    source: Input,
    target: Output,
    gold: Annotated[str, typer.Option(help="The column with the true labels.")],
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Answer from a column of true labels instead of asking people. Reports say that it was simulated."""
    from act_hf.review.simulated import simulate_review

    dataset = open_dataset(source, split, target, overwrite)
    finish(simulate_review(dataset, gold=gold), target, overwrite)


def _table(place: str, **options: Any) -> dict[str, Any]:
    """What was asked of a table; of another place it would have no meaning."""
    given = {name: value for name, value in options.items() if value}
    if given and not place.endswith(FORMATS):
        raise ACTError(f"--{next(iter(given))} is for a table ({', '.join(FORMATS)}), not for {place!r}")
    return given
