"""The file of a review page: SQLite, so that every answer is on disk before the next row is shown."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from act_hf.errors import ACTError
from act_hf.models.store import use_wal


if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".sqlite"

APPLICATION = 0x41435452
"""`ACTR`, in the file's header: an SQLite file without it belongs to another program."""

LAYOUT = 1
"""Version of the tables below, kept in the file as SQLite's `user_version`."""

_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- What is shown, and how doubtful it is: 2 where no critic judged it.
CREATE TABLE rows (
    number INTEGER PRIMARY KEY,
    act_id TEXT NOT NULL UNIQUE,
    doubt REAL NOT NULL,
    label TEXT,
    details TEXT NOT NULL
);
CREATE INDEX rows_by_doubt ON rows (doubt DESC, number);
CREATE TABLE images (row INTEGER PRIMARY KEY REFERENCES rows, kind TEXT NOT NULL, data BLOB NOT NULL);

-- Every answer, skip and undo, in order. Nothing in here is changed or deleted.
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    row INTEGER NOT NULL REFERENCES rows,
    person TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('label', 'skip', 'undo')),
    label TEXT CHECK ((label IS NOT NULL) = (kind = 'label')),
    comment TEXT,
    seconds REAL,
    at TEXT NOT NULL
);
CREATE INDEX events_by_person ON events (person, number);
CREATE TRIGGER events_stay BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'answers are never deleted'); END;
CREATE TRIGGER events_stand BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'answers are never changed'); END;

-- The last event of each person and row, which is what counts.
CREATE TABLE latest (
    row INTEGER NOT NULL, person TEXT NOT NULL, event INTEGER NOT NULL, kind TEXT NOT NULL,
    PRIMARY KEY (row, person)
) WITHOUT ROWID;
CREATE INDEX latest_by_person ON latest (person, kind, event);
CREATE TRIGGER events_count AFTER INSERT ON events BEGIN
    DELETE FROM latest WHERE row = NEW.row AND person = NEW.person;
    INSERT INTO latest VALUES (NEW.row, NEW.person, NEW.number, NEW.kind);
END;

-- Who has which row before them just now: an open page holds at most one.
CREATE TABLE leases (page TEXT PRIMARY KEY, row INTEGER NOT NULL, person TEXT NOT NULL, until REAL NOT NULL)
WITHOUT ROWID;
CREATE INDEX leases_by_row ON leases (row);
"""


class Database:
    """
    An open review file. Safe against being killed at any moment, and for several processes and threads at once.

    Args:
        path (`str` or `Path`): the file.
        create (`bool`, *optional*, defaults to `False`): makes the file where there is none.
        patience (`float`, *optional*, defaults to 10): seconds to wait for another process that is writing, which is
            what a person waits.

    Raises:
        ACTError: for a missing file, a file of another program, or one that a newer version wrote.
    """

    def __init__(self, path: str | Path, *, create: bool = False, patience: float = 10.0) -> None:
        self.path, self.patience = Path(path), patience
        self._lock = threading.RLock()
        if not create and not self.path.exists():
            raise ACTError(
                f"no review file {str(path)!r}; make it with: act-hf review push DATASET {path}, "
                "or give a data set: act-hf review page DATASET"
            )
        with self._saying("open"):
            self.connection = self._open()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=self.patience, isolation_level=None, check_same_thread=False)
        try:
            self._check_layout(connection)
            use_wal(connection, patience=self.patience)
            # The next row is shown when this answer is on disk, and a power cut does not undo it.
            connection.execute("PRAGMA synchronous=FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_layout(self, connection: sqlite3.Connection) -> None:
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == 0 and layout == 0 and tables == 0:
            self._make(connection)
        elif application != APPLICATION:
            raise ACTError(f"{str(self.path)!r} is an SQLite file of another program, not one of a review page")
        elif layout != LAYOUT:
            raise ACTError(
                f"the review file {str(self.path)!r} has layout {layout}, and this version of act_hf reads layout "
                f"{LAYOUT}; use the version that wrote it"
            )

    def _make(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection):
            # Another process may have made it meanwhile.
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _statements(_TABLES):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {LAYOUT}")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The file, for one thread at a time."""
        with self._lock, self._saying("read"):
            yield self.connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The file, for this process alone. At the end of the block, all that was written is on disk, or none."""
        with self._lock, self._saying("write"), _transaction(self.connection):
            yield self.connection

    @contextmanager
    def _saying(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ACTError(f"cannot {what} the review file {str(self.path)!r}: {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:
        text = str(error)
        if "locked" in text:
            return f"{text}: another program has held it for {self.patience:g} seconds; close it and try again"
        if "readonly" in text:
            return f"{text}: give yourself the right to write the file and its folder"
        return text

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self.connection.close()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back itself where the disk is full
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """`executescript` would commit first, so that a killed process could leave half of the tables."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
