"""What was submitted, written down before anybody waits for it, so that no crash pays for it twice."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

_LAYOUT = 1
_PATIENCE = 60
"""Seconds to wait for another process that is writing."""

_TABLES = (
    "CREATE TABLE batches (number INTEGER PRIMARY KEY, place TEXT NOT NULL, model TEXT NOT NULL, digest TEXT NOT NULL,"
    " attempt INTEGER NOT NULL, requests INTEGER NOT NULL, beside INTEGER NOT NULL, at REAL NOT NULL, id TEXT)",
    # One row for each request that was submitted and whose result was not taken.
    "CREATE TABLE waiting (key TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (key, number)) WITHOUT ROWID",
    "CREATE INDEX waiting_of_batch ON waiting (number)",
)


@dataclass(frozen=True)
class Entry:
    """
    A batch in the journal.

    Args:
        number (`int`): its number there.
        digest (`str`): a hash of its keys, which the server keeps too.
        attempt (`int`): 1, or more where its requests had failed in earlier ones.
        requests (`int`): how many were submitted.
        beside (`int`): how many other batches were open at that server when it was submitted.
        id (`str`, *optional*): as the server knows it; `None` where the process died before it was written.
        keys (tuple of `str`): those of its requests that were looked for and not taken.
    """

    number: int
    digest: str
    attempt: int
    requests: int
    beside: int
    id: str | None
    keys: tuple[str, ...] = ()


class Journal:
    """
    The batches that were submitted and not taken, in one SQLite file: ids, keys (hashes of what was asked) and the
    server's address. No token, and nothing of what a row says.

    Args:
        path (`Path`): the file, made with its folder when it does not exist.

    Raises:
        ACTError: for a file that is no such journal, or cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, place: str) -> list[Entry]:
        """The batches at `place` that were not wholly taken, without their keys."""
        query = "SELECT number FROM batches WHERE place = ? AND number IN (SELECT number FROM waiting) ORDER BY number"
        with self._using() as connection:
            numbers = [number for (number,) in connection.execute(query, (place,))]
            return [self._entry(connection, number, ()) for number in numbers]

    def holding(self, keys: Sequence[str], place: str) -> list[Entry]:
        """The batches at `place` with any of `keys` still to be taken, in the order in which they were submitted."""
        found: dict[int, list[str]] = {}
        with self._using() as connection:
            for start in range(0, len(keys), 500):  # SQLite bounds the number of placeholders
                part = keys[start : start + 500]
                marks = ",".join("?" * len(part))
                rows = connection.execute(
                    "SELECT key, number FROM waiting JOIN batches USING (number) "  # noqa: S608
                    f"WHERE place = ? AND key IN ({marks})",
                    (place, *part),
                )
                for key, number in rows:
                    found.setdefault(number, []).append(key)
            return [self._entry(connection, number, found[number]) for number in sorted(found)]

    def known(self, ids: Collection[str], place: str) -> set[str]:
        """Which of `ids` are in the journal, taken or not."""
        with self._using() as connection:
            rows = connection.execute("SELECT id FROM batches WHERE place = ? AND id IS NOT NULL", (place,))
            return {id for (id,) in rows} & set(ids)

    def intend(self, keys: Collection[str], *, place: str, model: str, digest: str, attempt: int) -> Entry:
        """Writes that a batch is about to be submitted."""
        with self._using() as connection:
            beside = "SELECT count(DISTINCT number) FROM waiting JOIN batches USING (number) WHERE place = ?"
            (others,) = connection.execute(beside, (place,)).fetchone()
            cursor = connection.execute(
                "INSERT INTO batches (place, model, digest, attempt, requests, beside, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (place, model, digest, attempt, len(keys), others, time.time()),
            )
            number = int(cursor.lastrowid or 0)
            _expect(connection, number, keys)
            return self._entry(connection, number, list(keys))

    def submitted(self, entry: Entry, id: str) -> None:
        """Writes under which id the server knows a batch."""
        with self._using() as connection:
            connection.execute("UPDATE batches SET id = ? WHERE number = ?", (id, entry.number))
            _expect(connection, entry.number, entry.keys)  # another process may have taken it for lost meanwhile

    def taken(self, entry: Entry, keys: Collection[str]) -> None:
        """Writes that nothing more is expected of these requests of a batch. Its id stays known."""
        with self._using() as connection:
            connection.executemany(
                "DELETE FROM waiting WHERE key = ? AND number = ?", [(key, entry.number) for key in keys]
            )

    def drop(self, entry: Entry) -> None:
        """Writes that nothing at all is expected of a batch."""
        with self._using() as connection:
            connection.execute("DELETE FROM waiting WHERE number = ?", (entry.number,))

    def _entry(self, connection: sqlite3.Connection, number: int, keys: Sequence[str]) -> Entry:
        query = "SELECT digest, attempt, requests, beside, id FROM batches WHERE number = ?"
        digest, attempt, requests, beside, id = connection.execute(query, (number,)).fetchone()
        return Entry(number, digest, attempt, requests, beside, id, tuple(keys))

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """The file for one transaction: all of it is written, or nothing."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous=FULL")  # what is submitted costs money: a power cut counts
                connection.execute("BEGIN IMMEDIATE")
                with connection:  # commits, or rolls back what fails
                    self._check_layout(connection)
                    yield connection
        except (sqlite3.Error, OSError) as error:
            raise ACTError(f"cannot use the journal of batches {str(self.path)!r}: {error}") from error

    def _check_layout(self, connection: sqlite3.Connection) -> None:
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if layout == 0 and not tables:
            for table in _TABLES:
                connection.execute(table)
            connection.execute(f"PRAGMA user_version = {_LAYOUT}")
        elif not {"batches", "waiting"} <= tables:
            raise ACTError(f"{str(self.path)!r} is an SQLite file of something else, not a journal of batches")
        elif layout != _LAYOUT:
            raise ACTError(
                f"the journal of batches {str(self.path)!r} has layout {layout}, but this version of act_hf reads "
                f"layout {_LAYOUT}; use the version that wrote it until its batches are taken"
            )


def _expect(connection: sqlite3.Connection, number: int, keys: Collection[str]) -> None:
    connection.executemany("INSERT OR IGNORE INTO waiting VALUES (?, ?)", [(key, number) for key in keys])
