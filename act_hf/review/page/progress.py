"""How far a review on the page is, and how long it will take."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from act_hf.review.page.answers import LABEL, SKIP, UNDO


if TYPE_CHECKING:
    from act_hf.review.page.database import Database

_RECENT = 50
_ENOUGH = 5
"""The time left is told from so many of a person's last rows, and not before there are so many."""

_COUNT = "SELECT count(*) FROM ({})"
_DONE = "SELECT row FROM latest WHERE kind = :label GROUP BY row HAVING count(*) >= :per_row"
_OWN = "SELECT row FROM latest WHERE person = :person AND kind != :undo"


@dataclass(frozen=True)
class Progress:
    """
    How far a review is.

    Args:
        rows (`int`): in the file.
        done (`int`): that have as many answers as are wanted.
        answered (`int`): by the person.
        skipped (`int`): by the person.
        left (`int`): that are open to the person.
        seconds (`float`, *optional*): the person's median for a row; `None` until there are enough.
        judged (`int`): answers, of everybody, for rows that have a machine label.
        confirmed (`int`): of these, that are the machine label.
    """

    rows: int
    done: int
    answered: int
    skipped: int
    left: int
    seconds: float | None
    judged: int
    confirmed: int


def read_progress(database: Database, person: str, *, per_row: int = 1) -> Progress:
    """How far the review is, for a person and for everybody."""
    with database.reading() as connection:
        (rows,) = connection.execute("SELECT count(*) FROM rows").fetchone()
        asked = {"person": person, "label": LABEL, "undo": UNDO, "per_row": per_row}
        (done,) = connection.execute(_COUNT.format(_DONE), asked).fetchone()
        (closed,) = connection.execute(_COUNT.format(f"{_DONE} UNION {_OWN}"), asked).fetchone()
        own = dict(
            connection.execute(
                "SELECT kind, count(*) FROM latest WHERE person = ? GROUP BY kind", (person,)
            ).fetchall()
        )
        times = connection.execute(
            "SELECT seconds FROM events WHERE person = ? AND seconds IS NOT NULL ORDER BY number DESC LIMIT ?",
            (person, _RECENT),
        ).fetchall()
        judged, confirmed = connection.execute(
            "SELECT count(*), total(events.label = rows.label) FROM latest "
            "JOIN events ON events.number = latest.event JOIN rows ON rows.number = latest.row "
            "WHERE latest.kind = ? AND rows.label IS NOT NULL",
            (LABEL,),
        ).fetchone()
    seconds = statistics.median(value for (value,) in times) if len(times) >= _ENOUGH else None
    return Progress(rows, done, own.get(LABEL, 0), own.get(SKIP, 0), rows - closed, seconds, judged, int(confirmed))
