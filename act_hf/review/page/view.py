"""What the page shows, as plain values. The browser sets them as text; nothing in them is ever markup."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.images import as_uri
from act_hf.review.page.accuracy import RunningAccuracy
from act_hf.review.page.answers import Event, add_answer, before, person_name, reopen_skipped, undo
from act_hf.review.page.content import visible
from act_hf.review.page.place import read_task
from act_hf.review.page.progress import read_progress
from act_hf.review.page.turns import hold_row, is_waiting, next_row


if TYPE_CHECKING:
    from act_hf.review.page.database import Database

KEYS = "123456789abdefghijklmnopqtvwxyz"
"""The keys of the first labels: c, r, s and u are commands. With more labels than keys, people type to find one."""

_KNOWN = ("begin", "next", "label", "skip", "undo", "again")

View = dict[str, Any]


class Reviewing:
    """
    A review that is going on: what open pages ask, and what they are shown.

    Args:
        database ([`Database`]): the file.
        annotator (`str`, *optional*): who answers on every page; people are asked for their name by default.
        per_row (`int`, *optional*, defaults to 1): how many people should answer each row.

    Raises:
        ACTError: for a file that nothing was pushed to, no name, or fewer than one person a row.
    """

    def __init__(self, database: Database, annotator: str | None = None, per_row: int = 1) -> None:
        if per_row < 1:
            raise ACTError(f"{per_row} people a row: at least 1 has to answer each row")
        self.database, self.per_row = database, per_row
        self.annotator = None if annotator is None else person_name(annotator)
        self._task = read_task(database)
        self._accuracy = RunningAccuracy(database)

    def ask(self, request: Any) -> View:
        """
        What an open page asks: `begin`, `next`, `label`, `skip`, `undo` or `again`. Answers are on disk when this
        returns. A request that makes no sense, or a file that fails, is an `error`, and the page stays where it is.
        """
        try:
            return self._answer(_Asked(request))
        except ACTError as error:
            return {"error": visible(str(error))}

    def _answer(self, asked: _Asked) -> View:
        doing = asked.text("do")
        if doing not in _KNOWN:
            raise ACTError(f"the page asked for {doing!r}, which is unknown; load it again")
        if doing == "begin":
            return self._begin()
        person, page = self.annotator or person_name(asked.text("person")), asked.text("page")
        row: int | None = None
        if doing in ("label", "skip"):
            add_answer(self.database, self._event(asked, person, labelled=doing == "label"))
        elif doing == "undo":
            row = undo(self.database, person, asked.key())
        elif doing == "again":
            reopen_skipped(self.database, person, asked.key())
        if row is not None:
            hold_row(self.database, row, person, page)
        return self._show(row or next_row(self.database, person, page, per_row=self.per_row), person)

    def _event(self, asked: _Asked, person: str, *, labelled: bool) -> Event:
        labels = self._task.labels
        number = asked.number("label") if labelled else None
        if number is not None and not (0 <= number < len(labels) and number == int(number)):
            raise ACTError(f"there is no label number {number}; load the page again")
        # A page that was open when the review was served anew, with the labels in another order.
        if number is not None and asked.text("name") not in ("", visible(labels[int(number)])):
            raise ACTError("the labels are in another order since this page was opened; load it again")
        return Event(
            key=asked.key(),
            act_id=asked.text("row"),
            person=person,
            label=None if number is None else labels[int(number)],
            comment=asked.text("comment").strip(),
            seconds=asked.number("seconds"),
        )

    def _begin(self) -> View:
        task = self._task
        with_keys = len(task.labels) <= len(KEYS)
        return {
            "instruction": visible(task.instruction),
            "labels": [
                {"name": visible(name), "key": KEYS[number] if with_keys else None}
                for number, name in enumerate(task.labels)
            ],
            "person": self.annotator,
            "per_row": self.per_row,
            "file": visible(self.database.path.name),
        }

    def _show(self, row: int | None, person: str) -> View:
        progress = asdict(read_progress(self.database, person, per_row=self.per_row))
        reach = self._accuracy.now()
        progress["accuracy"] = None if reach is None else [reach.low, reach.high]
        if row is None:
            waiting = is_waiting(self.database, person, per_row=self.per_row)
            return {"row": None, "waiting": waiting, "progress": progress, "person": person}
        return {"row": self._row(row, person), "progress": progress, "person": person}

    def _row(self, number: int, person: str) -> View:
        with self.database.reading() as connection:
            act_id, label, text = connection.execute(
                "SELECT act_id, label, details FROM rows WHERE number = ?", (number,)
            ).fetchone()
            image = connection.execute("SELECT kind, data FROM images WHERE row = ?", (number,)).fetchone()
        details = json.loads(text)
        said, comment = before(self.database, number, person)
        return {
            "id": act_id,
            "parts": [_part(part, image) for part in details["parts"]],
            "label": self._number(label),
            "label_prob": details["label_prob"],
            "error_prob": details["error_prob"],
            "critique": visible(details["critique"] or ""),
            "rationale": visible(details["rationale"] or ""),
            "said": self._number(said),
            "comment": comment or "",
        }

    def _number(self, label: str | None) -> int | None:
        return self._task.labels.index(label) if label in self._task.labels else None


def _part(part: Mapping[str, str], image: tuple[str, bytes] | None) -> dict[str, str]:
    shown = {"name": visible(part["name"]), "kind": part["kind"]}
    if "problem" in part:
        return shown | {"problem": visible(part["problem"])}
    if part["kind"] == "image":
        return shown | ({"source": as_uri(*image)} if image else {"problem": "there is no image"})
    return shown | {"text": visible(part["text"])}


class _Asked:
    """A request of a browser, which may hold anything."""

    def __init__(self, request: Any) -> None:
        self.values: Mapping[str, Any] = request if isinstance(request, Mapping) else {}

    def text(self, name: str) -> str:
        value = self.values.get(name, "")
        if not isinstance(value, str):
            raise ACTError(f"the page sent {name} as {type(value).__name__}, not as text; load it again")
        # Half of a pair that makes one sign, as a browser can send, is no text that a file could keep.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def key(self) -> str:
        """Of this one event. Two with the same one would count once, and so would two without."""
        key = self.text("key")
        if not key:
            raise ACTError("the page sent no key with what was done; load it again")
        return key

    def number(self, name: str) -> float:
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ACTError(f"the page sent {name} as {type(value).__name__}, not as a number; load it again")
        return value
