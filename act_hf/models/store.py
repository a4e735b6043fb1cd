"""Never pay twice: every answer is on disk before it is used, under a key made of what was asked."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.models.base import Answer
from act_hf.task import image_bytes


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from act_hf.models.base import Request

LAYOUT = 1
"""Version of the table below, kept in the file as SQLite's `user_version`."""

_PATIENCE = 60.0
"""Seconds to wait for other processes that are writing. Each of them takes milliseconds."""

_UNSET = vars(Answer())

_TABLE = "CREATE TABLE answers (key TEXT PRIMARY KEY, model TEXT NOT NULL, answer TEXT NOT NULL) WITHOUT ROWID"


def home() -> Path:
    """The folder for what is kept between runs: `ACT_HF_HOME`, or the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("ACT_HF_HOME") or platformdirs.user_cache_dir("act_hf"))


class Store:
    """
    Answers by key in one SQLite file. Safe against being killed at any moment, and for several processes at once.

    Args:
        path (`str` or `Path`, *optional*): the file, made with its folder when it does not exist. Defaults to
            `answers.sqlite` in [`home`]. On a disk of this machine: processes on several machines need a store each,
            which [`Store.merge`] brings together.
        patience (`float`, *optional*, defaults to 60.0): seconds to wait for other processes that are writing.

    Raises:
        ACTError: for a file that is no such store, or one written by another version, or one that another process
            holds for longer than `patience`.
    """

    def __init__(self, path: str | Path | None = None, *, patience: float = _PATIENCE) -> None:
        self.path = Path(path) if path is not None else home() / "answers.sqlite"
        self.patience = patience
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    @classmethod
    def of(cls, store: Store | str | Path | None) -> Store:
        """`store` itself, or the one at that path."""
        return store if isinstance(store, Store) else cls(store)

    def __getstate__(self) -> dict[str, Any]:
        # A connection belongs to its process; another one opens its own.
        return {"path": self.path, "patience": self.patience}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], patience=state["patience"])  # type: ignore[misc]

    @property
    def connection(self) -> sqlite3.Connection:
        """The open file. Opening checks that it is ours."""
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=self.patience, isolation_level=None, check_same_thread=False
            )
            try:
                self._check_layout(connection)
                use_wal(connection, patience=self.patience)
                # In WAL mode NORMAL survives a killed process; only a power cut can lose the last commits.
                connection.execute("PRAGMA synchronous=NORMAL")
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise ACTError(f"cannot open the store {str(self.path)!r}: {self._reason(error)}") from error
        return connection

    def _check_layout(self, connection: sqlite3.Connection) -> None:
        with connection:  # commits, or rolls back what fails
            connection.execute("BEGIN IMMEDIATE")
            (layout,) = connection.execute("PRAGMA user_version").fetchone()
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if layout == 0 and not tables:
                connection.execute(_TABLE)
                connection.execute(f"PRAGMA user_version = {LAYOUT}")
            elif layout in (0, LAYOUT) and "answers" not in tables:
                raise ACTError(f"{str(self.path)!r} is an SQLite file of something else, not a store of act_hf")
            elif layout != LAYOUT:
                raise ACTError(
                    f"the store {str(self.path)!r} has layout {layout}, but this version of act_hf reads layout "
                    f"{LAYOUT}; give another path to start a new one, or use the version that wrote it"
                )

    def get(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The stored answers among `keys`."""
        found = {}
        for start in range(0, len(keys), 500):  # SQLite bounds the number of placeholders
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            with self._using() as connection:
                rows = connection.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", part).fetchall()  # noqa: S608
            found.update({key: _read(answer) for key, answer in rows})
        return found

    def put(self, answers: Mapping[str, Answer], *, model: str) -> None:
        """Writes `answers` in one transaction: after it, or after a crash, all of them are there or none."""
        rows = [(key, model, _written(answer)) for key, answer in answers.items()]
        with self._using() as connection, connection:  # the second one commits, or rolls back what fails
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """The open file, for one thread at a time."""
        with self._lock:
            try:
                yield self.connection
            except sqlite3.Error as error:
                raise ACTError(f"cannot use the store {str(self.path)!r}: {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:
        """What went wrong, in words that tell what to do."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return str(error)
        return (
            f"another process has been writing to it for {self.patience:g} s; see what holds the file, or give "
            "this run a store of its own"
        )

    def merge(self, *others: Store | str | Path) -> int:
        """
        Takes the answers of other stores, such as those of workers on other machines. What is there stays.

        Args:
            others ([`Store`] or path): the stores. Not changed.

        Returns:
            `int`: how many answers were new.
        """
        before = len(self)
        for other in map(Store.of, others):
            if not other.path.is_file():
                raise ACTError(f"there is no store {str(other.path)!r}")
            other.connection  # noqa: B018  # opening checks that it is one
            other.close()
            with self._using() as connection:
                connection.execute("ATTACH ? AS other", [str(other.path)])
                try:
                    connection.execute("INSERT OR IGNORE INTO answers SELECT * FROM other.answers")
                finally:
                    connection.execute("DETACH other")
        return len(self) - before

    def __len__(self) -> int:
        with self._using() as connection:
            (count,) = connection.execute("SELECT count(*) FROM answers").fetchone()
        return int(count)

    def close(self) -> None:
        """Closes the file. The next use opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def use_wal(connection: sqlite3.Connection, *, patience: float) -> None:
    """
    Lets people read an SQLite file while somebody writes it.

    Args:
        connection (`sqlite3.Connection`): of the file, outside a transaction.
        patience (`float`): seconds to wait for other processes that open the file.
    """
    # The switch needs the file for itself, and SQLite waits for a lock but not for that: another process that opens
    # the new file at the same moment is reason to try again.
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def request_key(model: str, version: str, request: Request) -> str:
    """The key of a request: a hash of the model's name, the prompts' version and everything that was asked."""
    # Not dataclasses.asdict(), which copies every message. How many of them are shared is not asked.
    asked = {name: value for name, value in vars(request).items() if name != "shared"}
    text = json.dumps([model, version, request.ability, asked], sort_keys=True, default=_image_digest)
    return hashlib.sha256(text.encode()).hexdigest()


def _image_digest(value: Any) -> str:
    # The only thing in a message that JSON cannot hold is an image.
    return "image " + hashlib.sha256(image_bytes(value)).hexdigest()


def _written(answer: Answer) -> str:
    return json.dumps({name: value for name, value in vars(answer).items() if value != _UNSET[name]})


def _read(answer: str) -> Answer:
    values: dict[str, Any] = json.loads(answer)
    for name in values.keys() & {"logprobs", "lengths"}:
        values[name] = tuple(values[name])
    return Answer(**values)
