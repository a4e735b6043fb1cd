"""What people said on a review page: events that are only ever added. The last one of a person and row counts."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from act_hf.errors import ACTError
from act_hf.review.responses import Response


if TYPE_CHECKING:
    import sqlite3

    from act_hf.review.page.database import Database

LABEL, SKIP, UNDO = "label", "skip", "undo"

LONGEST_NAME = 80
LONGEST_COMMENT = 10_000
"""Characters: what a person writes is bounded, whoever sends it."""

_SLOWEST = 24 * 3600.0


@dataclass(frozen=True)
class Event:
    """
    Something that a person did with a row.

    Args:
        key (`str`): of this one event: sent again, it is known already.
        act_id (`str`): the row.
        person (`str`): who; see [`person_name`].
        label (`str`, *optional*): the answer; `None` for a skip.
        comment (`str`, *optional*): what they had to say.
        seconds (`float`, *optional*): from when they saw the row.
    """

    key: str
    act_id: str
    person: str
    label: str | None = None
    comment: str | None = None
    seconds: float | None = None


def person_name(text: str) -> str:
    """
    The name under which a person answers, without what differs to a computer only.

    Raises:
        ACTError: for none, or one that is too long or has unprintable characters.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise ACTError(f"{name[:LONGEST_NAME]!r} is no name: give 1 to {LONGEST_NAME} printable characters")
    return name


def add_answer(database: Database, event: Event) -> None:
    """
    Writes an answer or a skip. When it returns, it is on disk.

    Raises:
        ACTError: for a row that the file does not have, a comment that is too long, or a file that cannot be written.
    """
    if event.comment and len(event.comment) > LONGEST_COMMENT:
        raise ACTError(f"a comment has at most {LONGEST_COMMENT:,} characters, not {len(event.comment):,}")
    with database.writing() as connection:
        found = connection.execute("SELECT number FROM rows WHERE act_id = ?", (event.act_id,)).fetchone()
        if found is None:
            raise ACTError(f"the review file has no row {event.act_id[:40]!r}; load the page again")
        kind = SKIP if event.label is None else LABEL
        _add(connection, event.key, found[0], event.person, kind, event)


def undo(database: Database, person: str, key: str) -> int | None:
    """
    Takes back the last answer or skip of a person that counts. It stays in the history.

    Returns:
        `int`, *optional*: the number of the row; `None` where there is nothing to take back.
    """
    with database.writing() as connection:
        again = connection.execute("SELECT row FROM events WHERE key = ?", (key,)).fetchone()
        last = (
            again
            or connection.execute(
                "SELECT row FROM latest WHERE person = ? AND kind != ? ORDER BY event DESC LIMIT 1", (person, UNDO)
            ).fetchone()
        )
        if last is None:
            return None
        _add(connection, key, last[0], person, UNDO)
        return int(last[0])


def reopen_skipped(database: Database, person: str, key: str) -> int:
    """Takes back all skips of a person, so that the rows come again. Returns how many."""
    with database.writing() as connection:
        rows = connection.execute("SELECT row FROM latest WHERE person = ? AND kind = ?", (person, SKIP)).fetchall()
        for (row,) in rows:
            _add(connection, f"{key}-{row}", row, person, UNDO)
        return len(rows)


def _add(
    connection: sqlite3.Connection, key: str, row: int, person: str, kind: str, event: Event | None = None
) -> None:
    if connection.execute("SELECT 1 FROM events WHERE key = ?", (key,)).fetchone():
        return
    said = (event.label, event.comment or None, _seconds(event.seconds)) if event else (None, None, None)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    connection.execute(
        "INSERT INTO events (key, row, person, kind, label, comment, seconds, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (key, row, person, kind, *said, now),
    )


def _seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(min(max(seconds, 0.0), _SLOWEST), 3)


def before(database: Database, row: int, person: str) -> tuple[str | None, str | None]:
    """The label and the comment that a person gave a row last, also where they took it back."""
    with database.reading() as connection:
        found = connection.execute(
            "SELECT label, comment FROM events WHERE row = ? AND person = ? AND kind != ? "
            "ORDER BY number DESC LIMIT 1",
            (row, person, UNDO),
        ).fetchone()
    return found or (None, None)


def responses(database: Database) -> list[Response]:
    """Everybody's answers that count."""
    with database.reading() as connection:
        rows = connection.execute(
            "SELECT act_id, events.person, events.label, coalesce(comment, '') FROM latest "
            "JOIN events ON events.number = latest.event JOIN rows ON rows.number = latest.row "
            "WHERE latest.kind = ? ORDER BY latest.event",
            (LABEL,),
        ).fetchall()
    return [Response(*row) for row in rows]


def not_answered(database: Database) -> list[str]:
    """A line for each person who skipped rows, or took answers back and gave no other."""
    with database.reading() as connection:
        found = connection.execute("SELECT person, kind FROM latest WHERE kind != ?", (LABEL,)).fetchall()
    said = {SKIP: "skipped", UNDO: "took back, without another answer,"}
    return [
        f"{person} {said[kind]} {count} {'row' if count == 1 else 'rows'}"
        for (person, kind), count in sorted(Counter(found).items())
    ]
