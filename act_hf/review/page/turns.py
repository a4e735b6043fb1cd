"""Whose turn is which row: the most doubtful one that a person has not answered and nobody else has before them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from act_hf.review.page.answers import LABEL, UNDO


if TYPE_CHECKING:
    import sqlite3

    from act_hf.review.page.database import Database

LEASE = 600.0
"""Seconds for which a row that one person has before them is not shown to another."""

# Rows that are open to a person: neither answered nor skipped by them, and with fewer answers than are wanted.
_OPEN = """
    SELECT number FROM rows
    WHERE NOT EXISTS (SELECT 1 FROM latest WHERE row = number AND person = :person AND kind != :undo)
    AND (SELECT count(*) FROM latest WHERE row = number AND kind = :label) + {others} < :per_row
    {more}
    ORDER BY doubt DESC, number LIMIT 1
"""
_FREE = _OPEN.format(
    others="(SELECT count(*) FROM leases WHERE row = number AND page != :page)",
    more="AND NOT EXISTS (SELECT 1 FROM leases WHERE row = number AND page != :page AND person = :person)",
)
# In another tab of the same person, who may have closed it.
_OWN = _OPEN.format(
    others="0", more="AND EXISTS (SELECT 1 FROM leases WHERE row = number AND page != :page AND person = :person)"
)
_ANY = _OPEN.format(others="0", more="")


def next_row(database: Database, person: str, page: str, *, per_row: int = 1, now: float | None = None) -> int | None:
    """
    The row that a person should see next, which is theirs for `LEASE` seconds.

    Args:
        database ([`Database`]): the file.
        person (`str`): who asks.
        page (`str`): which of their open pages asks; another one gets another row.
        per_row (`int`, *optional*, defaults to 1): how many people should answer each row.
        now (`float`, *optional*): seconds since the epoch.

    Returns:
        `int`, *optional*: the row's number; `None` where nothing is left for them just now.
    """
    now = time.time() if now is None else now
    asked: dict[str, Any] = {"person": person, "page": page, "per_row": per_row, "undo": UNDO, "label": LABEL}
    with database.writing() as connection:
        connection.execute("DELETE FROM leases WHERE until <= ?", (now,))
        row = _held(connection, asked) or _first(connection, _FREE, asked) or _first(connection, _OWN, asked)
        _lease(connection, row, person, page, now)
    return row


def hold_row(database: Database, row: int, person: str, page: str, *, now: float | None = None) -> None:
    """Makes `row` the one that a person has before them."""
    with database.writing() as connection:
        _lease(connection, row, person, page, time.time() if now is None else now)


def is_waiting(database: Database, person: str, *, per_row: int = 1) -> bool:
    """Whether rows are open to a person, though others may have them before them just now."""
    asked: dict[str, Any] = {"person": person, "per_row": per_row, "undo": UNDO, "label": LABEL}
    with database.reading() as connection:
        return _first(connection, _ANY, asked) is not None


def _held(connection: sqlite3.Connection, asked: dict[str, Any]) -> int | None:
    """What the page has before it already, unless it is answered: after loading it again, say."""
    found = connection.execute(
        "SELECT row FROM leases WHERE page = :page AND person = :person AND NOT EXISTS "
        "(SELECT 1 FROM latest WHERE latest.row = leases.row AND person = :person AND kind != :undo)",
        asked,
    ).fetchone()
    return int(found[0]) if found else None


def _first(connection: sqlite3.Connection, query: str, asked: dict[str, Any]) -> int | None:
    found = connection.execute(query, asked).fetchone()
    return int(found[0]) if found else None


def _lease(connection: sqlite3.Connection, row: int | None, person: str, page: str, now: float) -> None:
    connection.execute("DELETE FROM leases WHERE page = ? OR (row = ? AND person = ?)", (page, row, person))
    if row is not None:
        connection.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", (page, row, person, now + LEASE))
