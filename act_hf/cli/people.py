"""Handing rows to people, and taking their answers back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from act_hf.cli.options import Input, Output, Overwrite, Split, in_panel, key_in
from act_hf.cli.shared import finish, open_dataset, read_input, say
from act_hf.errors import ACTError
from act_hf.hub import HUB
from act_hf.review.places import ARGILLA
from act_hf.review.table import FORMATS


if TYPE_CHECKING:
    from datasets import Dataset

    from act_hf.review.places import Place as ReviewPlace

_PLACE = (
    f"a .csv or .jsonl file to fill in, a .sqlite file for act-hf review page, {HUB}user/name for a Space, or "
    f"{ARGILLA}WORKSPACE/NAME on a server"
)

Place = Annotated[str, typer.Argument(metavar="PLACE", help=f"Where people review: {_PLACE}.")]
ApiUrl = Annotated[
    str | None, in_panel("Argilla", "The server's address. Default: $ARGILLA_API_URL, or http://localhost:6900.")
]
ApiKeyEnv = Annotated[
    str | None, in_panel("Argilla", "The environment variable with the API key. Default: ARGILLA_API_KEY.")
]


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
    min_submitted: Annotated[
        int | None, in_panel("Argilla", "How many people have to answer a row. Default: 1, or as it is.", min=1)
    ] = None,
    assign: Annotated[
        str | None, in_panel("Argilla", "Users, with commas between them, who are let into the workspace to answer.")
    ] = None,
    new_workspace: Annotated[
        bool, in_panel("Argilla", "Make the workspace where it is missing.", "--new-workspace")
    ] = False,
    api_url: ApiUrl = None,
    api_key_env: ApiKeyEnv = None,
) -> None:
    """Hand the chosen rows to people, the most doubtful first. Again, it adds what is new and keeps all answers."""
    from act_hf.review.places import push_review

    argilla = {"min_submitted": min_submitted, "assign": _names(assign), "new_workspace": new_workspace}
    found = _find(place, {"overwrite": overwrite}, argilla | {"api_url": api_url, "api_key_env": api_key_env})
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
            help="An answer changed since the last pull replaces the earlier one, or is an error. Default: an error "
            "in a table, else replaced.",
        ),
    ] = None,
    resolve: Annotated[
        str | None, typer.Option(help="Several answers become one by majority (the default) or dawid_skene.")
    ] = None,
    split: Split = None,
    overwrite: Overwrite = False,
    api_url: ApiUrl = None,
    api_key_env: ApiKeyEnv = None,
) -> None:
    """Take the answers back into the data set."""
    from act_hf.review.places import pull_review

    dataset = open_dataset(source, split, target, overwrite)
    found = _find(place, {"annotator": annotator}, {"api_url": api_url, "api_key_env": api_key_env})
    pulled = pull_review(dataset, found, replace=replace, resolve=resolve)
    if overwrite and Path(target).exists():
        _check_kept(target, pulled)
    finish(pulled, target, overwrite)


def status(
    source: Input,
    place: Annotated[
        str | None,
        typer.Argument(metavar="[PLACE]", help=f"Where people are at it: {_PLACE}. Default: what was pulled."),
    ] = None,
    split: Split = None,
    api_url: ApiUrl = None,
    api_key_env: ApiKeyEnv = None,
) -> None:
    """Say how far the review is: rows to go, who answered what, agreement, and the accuracy that is still possible."""
    from act_hf.review.status import review_status

    found = _find(place, {}, {"api_url": api_url, "api_key_env": api_key_env}) if place else None
    say(review_status(read_input(source, split), found).summary())


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


def _check_kept(target: str, pulled: Dataset) -> None:
    """What is overwritten may hold answers that are nowhere else: another person's, pulled before."""
    lost = _answers(read_input(target, None)) - _answers(pulled)
    if lost:
        raise ACTError(
            f"{target!r} holds {len(lost)} answers that would be gone; pull into what has them (act-hf review pull "
            f"{target} PLACE {target} --overwrite), or give another OUTPUT"
        )


def _answers(dataset: Dataset) -> set[tuple[str, str]]:
    """Which row each person has answered."""
    from act_hf.columns import ID, RESPONSES

    if not {ID, RESPONSES} <= set(dataset.column_names):
        return set()
    rows = zip(dataset[ID][:], dataset[RESPONSES][:], strict=True)
    return {(act_id, one["annotator"]) for act_id, given in rows for one in given or ()}


def _find(place: str, table: dict[str, Any], argilla: dict[str, Any]) -> ReviewPlace:
    """The place, with the options that were given for its kind; one for another kind would have no meaning."""
    from act_hf.review.places import find_place

    there = place.startswith(ARGILLA)
    kinds = (
        (f"a table ({', '.join(FORMATS)})", place.endswith(FORMATS) and not there, table),
        (f"{ARGILLA}NAME", there, argilla),
    )
    for kind, own, options in kinds:
        given = [name for name, value in options.items() if value]
        if given and not own:
            raise ACTError(f"--{given[0].replace('_', '-')} is for {kind}, not for {place!r}")
    options = {name: value for name, value in (argilla if there else table).items() if value}
    if "api_key_env" in options:
        options["api_key"] = key_in(options.pop("api_key_env"))
    return find_place(place, **options)


def _names(listed: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (listed or "").split(",") if name.strip())
