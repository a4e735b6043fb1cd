"""The history of a review file as lines of JSON, so that it can be kept elsewhere too, and read back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.review.page.answers import LABEL, SKIP, UNDO


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from act_hf.review.page.database import Database

Line = dict[str, Any]

_TEXTS = ("key", "act_id", "person", "kind", "at")
_OPTIONAL = {"label": str, "comment": str, "seconds": int | float}


def lines_after(database: Database, number: int) -> tuple[list[Line], int]:
    """The events after the one of that number (0: all), in order, and the number of the last event."""
    with database.reading() as connection:
        found = connection.execute(
            "SELECT events.number, key, act_id, person, kind, events.label, comment, seconds, at "
            "FROM events JOIN rows ON rows.number = events.row WHERE events.number > ? ORDER BY events.number",
            (number,),
        ).fetchall()
    names = ("key", "act_id", "person", "kind", "label", "comment", "seconds", "at")
    return [dict(zip(names, row[1:], strict=True)) for row in found], found[-1][0] if found else number


def written(lines: Iterable[Line]) -> str:
    """A line of JSON for each event."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def read(text: str, where: str) -> list[Line]:
    """
    The events in `text`.

    Args:
        text (`str`): as [`written`] made it.
        where (`str`): where it is from, for the message.

    Raises:
        ACTError: naming the first line that is none.
    """
    # Not splitlines(): JSON holds U+2028 and its like as they are.
    return [_event(line, f"line {number} of {where}") for number, line in enumerate(text.split("\n"), 1) if line]


def _event(text: str, where: str) -> Line:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise ACTError(f"{where} is no answer: {error}") from error
    if not isinstance(line, dict) or not _is_event(line):
        raise ACTError(f"{where} is no answer: it was changed by hand, or is of a newer version")
    return line


def _is_event(line: Line) -> bool:
    right = all(isinstance(line.get(name), str) for name in _TEXTS) and line["kind"] in (LABEL, SKIP, UNDO)
    right = right and (line["kind"] == LABEL) == (line.get("label") is not None)
    return right and all(line.get(name) is None or isinstance(line[name], kind) for name, kind in _OPTIONAL.items())


def add_lines(database: Database, lines: Iterable[Mapping[str, Any]]) -> int:
    """
    Adds events that the file does not have, as they were given.

    Args:
        database ([`Database`]): the file.
        lines (iterable of mappings): in any order; the later one of a person and row counts.

    Returns:
        `int`: how many were left out, since the file does not have their row.
    """
    left = 0
    with database.writing() as connection:
        rows = dict(connection.execute("SELECT act_id, number FROM rows"))
        for line in sorted(lines, key=lambda line: str(line["at"])):
            row = rows.get(line["act_id"])
            left += row is None
            said = [line.get(name) for name in ("label", "comment", "seconds")]
            if row is not None:
                connection.execute(
                    "INSERT OR IGNORE INTO events (key, row, person, kind, label, comment, seconds, at) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (line["key"], row, line["person"], line["kind"], *said, line["at"]),
                )
    return left
