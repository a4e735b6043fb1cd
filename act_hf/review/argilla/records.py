"""A row as a record of Argilla, and rows in batches that a request can carry."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.images import data_uri
from act_hf.review.argilla.schema import ERROR_PROB, IMAGE, LABEL, PI, REASONS, WAVE, shown_columns
from act_hf.task import Unreadable


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import argilla

    from act_hf.review.rows import ReviewRow
    from act_hf.task import Task

MOST = 128
"""Records in a request: a second or two of a small server's time."""
HEAVIEST = 8_000_000
"""Characters in a request, unless one record has more."""

_IMAGE_BYTES = 3_700_000
"""Of a picture: with base64 a third more, and Argilla takes 5,000,000 characters."""
_NOT_IN_AGENT = re.compile(r"[^a-zA-Z0-9\-_:./ ]+")
_LONGEST_AGENT = 200


def record_of(row: ReviewRow, task: Task, *, agent: str | None) -> argilla.Record:
    """
    A row as a record, whose id is the `act_id`.

    Args:
        row ([`ReviewRow`]): what there is to show.
        task ([`Task`]): what its columns are.
        agent (`str`, *optional*): who said the machine label, in the signs that Argilla takes.
    """
    import argilla as rg

    known = {ERROR_PROB: row.error_prob, PI: row.pi, WAVE: row.wave}
    known = {name: value for name, value in known.items() if value is not None}
    suggestions = []
    if row.label is not None:
        suggestions = [rg.Suggestion(LABEL, row.label, score=_score(row), agent=agent, type="model")]
    return rg.Record(
        id=row.act_id,
        fields=_fields(row, task),
        metadata=known,
        suggestions=suggestions,
    )


def _fields(row: ReviewRow, task: Task) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    reasons: dict[str, str | None] = {}
    for name, column in shown_columns(task).items():
        value = row.shown[column]
        if name == IMAGE:
            fields[name], reasons["The image cannot be shown"] = _picture(value)
        else:
            fields[name] = escaped(str(value or ""))
    reasons |= {"What the critic said": row.critique, "Why the machine chose its label": row.rationale}
    told = "".join(folded(title, text) for title, text in reasons.items() if text)
    if told:
        fields[REASONS] = told
    return fields


def _picture(image: Any) -> tuple[str | None, str | None]:
    """A picture as Argilla takes it, or why there is none: then a person can but discard the row."""
    if image is None:
        return None, "There is none."
    if isinstance(image, Unreadable):
        return None, image.reason
    try:
        return data_uri(image, most=_IMAGE_BYTES), None
    except ACTError as error:
        return None, str(error)


def escaped(text: str) -> str:
    """
    Text as a text field shows it. Argilla's page takes what is in such a field for HTML, where it would run with the
    rights of whoever looks at it.
    """
    return html.escape(_storable(text), quote=False)


def _storable(text: str) -> str:
    """PostgreSQL keeps every character but one."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def folded(title: str, text: str) -> str:
    """
    Text that shows when its title is clicked, as Markdown. Of the text itself nothing is Markdown or HTML: every sign
    of it that is no letter, digit or space is a character reference, and a line end a `<br>`, so that it stays within
    one block of HTML.
    """
    shown = "".join(_reference(sign) for sign in _storable("\n".join(text.splitlines())))
    return f"<details><summary>{title}</summary>{shown}</details>"


def _reference(sign: str) -> str:
    if sign == "\n":
        return "<br>"
    return sign if sign.isalnum() or sign == " " else f"&#{ord(sign)};"


def _score(row: ReviewRow) -> float | None:
    """How sure the machine label is: by who gave it, else by who doubted it."""
    sure = row.label_prob
    if sure is None and row.error_prob is not None:
        sure = 1 - row.error_prob
    return None if sure is None else round(sure, 4)


def agent_of(model: str | None) -> str | None:
    """The name of a model in the signs that Argilla takes; `None` where nothing is left of it."""
    name = " ".join(_NOT_IN_AGENT.sub(" ", model or "").split())[:_LONGEST_AGENT]
    return name if any(sign.isascii() and sign.isalnum() for sign in name) else None


def batches(records: Iterable[argilla.Record]) -> Iterator[list[argilla.Record]]:
    """Records in lists of up to `MOST`, and of up to `HEAVIEST` characters unless one alone has more."""
    batch: list[argilla.Record] = []
    weight = 0
    for record in records:
        own = sum(len(value) for value in record.fields.values() if isinstance(value, str))
        if batch and (len(batch) == MOST or weight + own > HEAVIEST):
            yield batch
            batch, weight = [], 0
        batch.append(record)
        weight += own
    if batch:
        yield batch
