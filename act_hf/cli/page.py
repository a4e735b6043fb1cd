"""The page on which people review, served from this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from act_hf.cli.options import DATA, Split
from act_hf.cli.shared import read_input, say
from act_hf.errors import ACTError
from act_hf.review.page.database import SUFFIX


if TYPE_CHECKING:
    from act_hf.review.page.serving import ServedPage


def page(
    source: Annotated[
        str,
        typer.Argument(
            metavar="REVIEW", help=f"A review file ({SUFFIX}), or the sampled data set, which is pushed first: {DATA}."
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Option(help=f"The review file of a data set. Default: its name with -review{SUFFIX}, beside it."),
    ] = None,
    annotator: Annotated[
        str | None, typer.Option(help="Who answers. Default: people are asked for their name.")
    ] = None,
    per_row: Annotated[
        int, typer.Option(help="How many people should answer each row. Two at once get different rows.", min=1)
    ] = 1,
    port: Annotated[
        int | None, typer.Option(help="Default: 7860, or a free one where that is in use.", min=0, max=65535)
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 lets others on the network in.")
    ] = "127.0.0.1",
    no_token: Annotated[
        bool,
        typer.Option("--no-token", help="Let in everybody who reaches the port, without the token in the address."),
    ] = False,
    split: Split = None,
) -> None:
    """
    Review in the browser: one row at a time, the most doubtful first, a key a label.

    Every answer is on disk before the next row is shown. Stop with Ctrl-C at any time: the same command goes on.
    Nothing leaves this machine. Several people can answer at once, under their names.
    """
    from act_hf.review.page.serving import LOOPBACKS, serve_page

    path = _review_file(source, file, split)
    with serve_page(path, annotator=annotator, per_row=per_row, host=host, port=port, token=not no_token) as served:
        say(f"review {path} at {served.url}")
        if no_token:
            say("warning: without a token, everybody who reaches this port reads the rows and answers")
        elif host not in LOOPBACKS:
            say("warning: others can reach this; the token goes through the network unencrypted")
        _wait(served)
    pulled = "DATASET" if source == str(path) else source
    say(f"every answer is in {path}; take them back with: act-hf review pull {pulled} {path} OUTPUT")


def _review_file(source: str, file: Path | None, split: str | None) -> Path:
    """The review file, with the rows of a data set in it."""
    from act_hf.review.page.place import Page
    from act_hf.review.places import push_review

    if source.endswith(SUFFIX):
        if file is not None:
            raise ACTError(f"--file is the review file of a data set, and {source!r} is a review file itself")
        return Path(source)
    path = file or _beside(source)
    done = push_review(read_input(source, split), Page(path))
    say(f"{done.new} rows to review in {path}" + (f" ({done.there} more were there)" if done.there else ""))
    return path


def _beside(source: str) -> Path:
    path = Path(source)
    folder = path.parent if path.exists() else Path()  # what is on the Hub has no place beside it
    name = path.stem if path.is_file() else path.name.replace(":", "-")  # not a sign for a file on every system
    return folder / f"{name}-review{SUFFIX}"


def _wait(served: ServedPage) -> None:
    try:
        say("Ctrl-C stops it")  # here, since whoever reads it may press it at once
        served.wait()
    except KeyboardInterrupt:
        say("")
