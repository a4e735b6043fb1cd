"""A real Argilla server for the tests: one started here, or a deployment that the environment names."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from act_hf.review.argilla_local import LocalArgilla
from act_hf.review.argilla_local.data import Person
from act_hf.review.argilla_local.environment import SETUP, folder, is_ready


ENVIRONMENT = folder()
"""The user's, found before a test session moves ACT_HF_HOME to a temporary folder."""


@dataclass
class ArgillaServer:
    """Where it is and who may come in. Everybody is in `workspace`; data sets need names of their own."""

    url: str
    owner_key: str = field(repr=False)
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
    name = f"act-hf-{secrets.token_hex(4)}"
    with requests.Session() as session:
        session.headers["X-Argilla-Api-Key"] = owner_key

        def ask(method: str, path: str, **given):
            answer = session.request(method, f"{url}/api/v1/{path}", timeout=60, **given)
            answer.raise_for_status()
            return answer.json() if answer.content else {}

        workspace = ask("POST", "workspaces", json={"name": name})["id"]
        users, people = [], []
        try:
            for short in ("ann", "ben"):
                about = {"username": f"{short}-{name}", "role": "annotator", "password": secrets.token_urlsafe(12)}
                user = ask("POST", "users", json={**about, "first_name": short})
                users.append(user["id"])
                ask("POST", f"workspaces/{workspace}/users", json={"user_id": user["id"]})
                people.append(Person(**about, api_key=user["api_key"]))
            yield ArgillaServer(url, owner_key, name, people)
        finally:
            for dataset in ask("GET", "me/datasets", params={"workspace_id": workspace})["items"]:
                ask("DELETE", f"datasets/{dataset['id']}")
            for user in users:
                ask("DELETE", f"users/{user}")
            ask("DELETE", f"workspaces/{workspace}")
