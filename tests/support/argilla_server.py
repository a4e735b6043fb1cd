"""A real Argilla server for the tests: one started here, or a deployment that the environment names."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from act_hf.review.argilla_local import LocalArgilla
from act_hf.review.argilla_local.data import Person
from act_hf.review.argilla_local.environment import SETUP, folder, is_ready


ENVIRONMENT = folder()
"""The user's, found before a test session moves ACT_HF_HOME to a temporary folder."""


@dataclass
class ArgillaServer:
    """Where it is and who may come in. Everybody is in `workspace`; data sets need names of their own."""

    url: str
    owner_key: str
    workspace: str
    people: list[Person]

    @property
    def annotators(self) -> dict[str, str]:
        """Their API keys, by name."""
        return {person.username: person.api_key for person in self.people if person.role == "annotator"}


@contextlib.contextmanager
def served(home: Path) -> Iterator[ArgillaServer]:
    """The deployment at ARGILLA_API_URL with the owner's ARGILLA_API_KEY; else a local one on the folder `home`."""
    if os.environ.get("ARGILLA_API_URL") and os.environ.get("ARGILLA_API_KEY"):
        with _deployed(os.environ["ARGILLA_API_URL"].rstrip("/"), os.environ["ARGILLA_API_KEY"]) as server:
            yield server
        return
    with local_argilla(home) as local:
        yield ArgillaServer(local.url, local.owner_key, local.workspace, local.data.people())


def local_argilla(home: Path, *, port: int = 0) -> LocalArgilla:
    """A server of the test's own, not started yet."""
    require_argilla()
    return LocalArgilla(home, port=port, environment=ENVIRONMENT)


def require_argilla() -> None:
    """Skips where the server is not installed, but never in CI."""
    if is_ready(ENVIRONMENT):
        return
    reason = f"the Argilla server is not installed: {SETUP}"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason}; in CI it has to be there")
    pytest.skip(reason)


@contextlib.contextmanager
def _deployed(url: str, owner_key: str) -> Iterator[ArgillaServer]:
    """A workspace and two annotators of this session's own, which are gone afterwards."""
    import argilla as rg

    client = rg.Argilla(api_url=url, api_key=owner_key)
    name = f"act-hf-{secrets.token_hex(4)}"
    workspace = rg.Workspace(name=name, client=client).create()
    users = []
    try:
        people = []
        for short in ("ann", "ben"):
            password = secrets.token_urlsafe(12)
            made = {"username": f"{short}-{name}", "role": "annotator", "password": password}
            users.append(rg.User(**made, client=client).create())
            workspace.add_user(users[-1])
            people.append(Person(**made, api_key=users[-1].api_key))
        yield ArgillaServer(url, owner_key, name, people)
    finally:
        for dataset in workspace.datasets:
            dataset.delete()
        for user in users:
            user.delete()
        workspace.delete()
