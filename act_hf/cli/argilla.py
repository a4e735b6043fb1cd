"""A real Argilla server to try the review with, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from act_hf.cli.shared import say
from act_hf.errors import ACTError


if TYPE_CHECKING:
    from act_hf.review.argilla_local import LocalArgilla

PORT = 6900
"""Argilla's own."""


def argilla(
    local: Annotated[bool, typer.Option("--local", help="Start a server on this machine, until Ctrl-C.")] = False,
    setup: Annotated[bool, typer.Option("--setup", help="Only install the server, where it is missing.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where it listens, on loopback; 0 is any.")] = PORT,
    home: Annotated[
        Path | None,
        typer.Option(help="The folder with its data, log and accounts. Default: one in $ACT_HF_HOME, or of the user."),
    ] = None,
) -> None:
    """
    Start a real Argilla server on this machine, without docker, to try the review with.

    The first time, the server is installed (580 MB) in an environment of its own. Its search is a stand-in: a team
    deploys Argilla's own images, see docs/argilla-compose.yml.
    """
    if not local and not setup:
        raise ACTError("review argilla: give --local to start a server on this machine, or --setup to install it only")
    from act_hf.review.argilla_local import LocalArgilla
    from act_hf.review.argilla_local import setup as install

    where = install(say)
    if setup:
        say(f"the Argilla server is installed in {where}")
    if local:
        _serve(LocalArgilla(home, port=port))


def _serve(server: LocalArgilla) -> None:
    say("starting the Argilla server")
    try:
        with server:
            say(_welcome(server))
            sys.stdout.flush()  # whoever reads a pipe would not see it otherwise
            status = server.wait()
    except KeyboardInterrupt:
        say("stopped; the same command goes on with the same data")
        return
    raise ACTError(f"the Argilla server ended with status {status}; its log is {server.data.log}")


def _welcome(server: LocalArgilla) -> str:
    names = ", ".join(person.username for person in server.data.people())
    return f"""\
Argilla is ready: {server.url} (Ctrl-C stops it)
  sign in as         {names}; all are in the workspace {server.workspace}
  passwords, keys    {server.data.accounts} (only you can read it)
  data and log       {server.data.path}
This is for trying out. The server and its page are Argilla's; its search is substituted by the SQL database, and it
can be reached from this machine alone. A team should deploy Argilla's own images:
  docker compose -f docs/argilla-compose.yml up -d"""
