"""The data folder of a local server: its database, its log, and who may sign in."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from act_hf.errors import ACTError, printable
from act_hf.files import written_whole


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
        path (`Path`): the folder, made where it does not exist, for its owner alone.

    Raises:
        ACTError: where it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.log = self.path / "server.log"
        self.accounts = self.path / "accounts.json"
        self.temporary = self.path / "tmp"
        try:
            self.temporary.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise ACTError(f"cannot use {str(path)!r} as the data folder of a server: {error}") from error

    def lock(self) -> IO[str]:
        """
        The open lock file, which says who holds it.

        The lock is the open file's: the server inherits it, and it ends with the last process that has it, however
        that one ends.

        Raises:
            ACTError: where another server runs on this folder.
        """
        lock = (self.path / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = printable(lock.read().strip())
            lock.close()
            raise ACTError(
                f"{str(self.path)!r} is in use by the server {holder}; stop that one, or give another --home"
            ) from None
        lock.truncate(0)
        return lock

    def people(self) -> list[Person]:
        """
        Everybody who may sign in. Passwords and keys are made when they are first asked for.

        Raises:
            ACTError: where the file with them is damaged.
        """
        if not self.accounts.exists():
            self._write()
        try:
            people = json.loads(self.accounts.read_text(encoding="utf-8"))["people"]
            return [Person(**person) for person in people]
        except (OSError, ValueError, KeyError, TypeError):  # what it says is secret: the error is not shown
            raise ACTError(
                f"{str(self.accounts)!r} is damaged; remove it, and the next start makes new passwords and keys"
            ) from None

    def _write(self) -> None:
        people: list[dict[str, str]] = [
            {"username": name, "role": role, "password": secrets.token_urlsafe(12), "api_key": secrets.token_urlsafe()}
            for name, role in _PEOPLE.items()
        ]
        accounts: dict[str, Any] = {"workspace": WORKSPACE, "people": people}
        accounts["session_secret"] = secrets.token_hex()
        with written_whole(self.accounts, "the accounts") as unfinished:
            unfinished.touch(mode=0o600)  # before there is anything to read
            unfinished.write_text(json.dumps(accounts, indent=1) + "\n", encoding="utf-8")
