"""The data folder of a local server: its database, its log, and who may sign in."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from act_hf.errors import ACTError, printable
from act_hf.files import written_whole
from act_hf.review.argilla_local import locks


WORKSPACE = "argilla"

_PEOPLE = {"owner": "owner", "ann": "annotator", "ben": "annotator"}


@dataclass(frozen=True)
class Person:
    """Somebody who may sign in. What opens the door is not shown."""

    username: str
    role: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)


def default_folder() -> Path:
    """`argilla` in `$ACT_HF_HOME`, or in the user's data folder: what people answered is no cache."""
    import platformdirs

    return Path(os.environ.get("ACT_HF_HOME") or platformdirs.user_data_dir("act_hf")) / "argilla"


class DataFolder:
    """
    A folder that belongs to one server at a time.

    Args:
        path (`Path`): the folder. It is made when a server claims it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.log = self.path / "server.log"
        self.accounts = self.path / "accounts.json"
        self.temporary = self.path / "server.tmp"
        self._lock = self.path / "server.lock"

    def claim(self) -> IO[str]:
        """
        Takes the folder for a server, and makes what is missing.

        Returns:
            `IO[str]`: the open lock file, which says who has it. The lock is the open file's: the server inherits it,
            and it ends with the last process that holds it, however that one ends.

        Raises:
            ACTError: where another server runs on the folder, something else is in it, or it cannot be made.
        """
        try:
            self._make()
            lock = self._lock.open("a+")
        except OSError as error:
            raise ACTError(f"cannot use {str(self.path)!r} as the data folder of a server: {error}") from error
        try:
            locks.take(lock, wait=False)
        except BlockingIOError:
            lock.seek(0)
            holder = printable(lock.read().strip())
            lock.close()
            raise ACTError(
                f"{str(self.path)!r} is in use by the server {holder}; stop that one, or give another --home"
            ) from None
        lock.truncate(0)
        self._clear()
        if not self.accounts.exists():
            self._write_accounts()
        return lock

    def _make(self) -> None:
        """For its owner alone: the database holds the keys too."""
        if self.path.exists() and not self._lock.exists() and any(self.path.iterdir()):
            raise ACTError(f"{str(self.path)!r} holds something else; give a --home that is empty or not there yet")
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o700)

    def _clear(self) -> None:
        """A server leaves a copy of its pages behind."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir()

    def people(self) -> list[Person]:
        """
        Everybody who may sign in.

        Raises:
            ACTError: where no server was started on the folder yet, or the file is damaged.
        """
        try:
            people = json.loads(self.accounts.read_text(encoding="utf-8"))["people"]
            return [Person(**person) for person in people]
        except FileNotFoundError:
            raise ACTError(f"no server was started on {str(self.path)!r} yet: there are no accounts") from None
        except (OSError, ValueError, KeyError, TypeError):  # what it says is secret: the error is not shown
            raise ACTError(
                f"{str(self.accounts)!r} is damaged; remove it, and the next start makes new passwords and keys"
            ) from None

    def _write_accounts(self) -> None:
        people: list[dict[str, str]] = [
            {"username": name, "role": role, "password": secrets.token_urlsafe(12), "api_key": secrets.token_urlsafe()}
            for name, role in _PEOPLE.items()
        ]
        accounts: dict[str, Any] = {"workspace": WORKSPACE, "people": people}
        accounts["session_secret"] = secrets.token_hex()
        with written_whole(self.accounts, "the accounts") as unfinished:
            unfinished.touch(mode=0o600)  # before there is anything to read
            unfinished.write_text(json.dumps(accounts, indent=1) + "\n", encoding="utf-8")
