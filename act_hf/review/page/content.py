"""What a row looks like in the file of a review page, and to the people who read it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.images import encoded
from act_hf.task import Unreadable


if TYPE_CHECKING:
    from act_hf.review.rows import ReviewRow
    from act_hf.task import Task

UNJUDGED = 2.0
"""How doubtful a row is that no critic judged: before all others."""

SIDE = 1600
"""Pixels of the longer side of an image at most: what fills a large screen."""

_MOST = 2_000_000
"""Bytes of an image at most."""


@dataclass(frozen=True)
class Stored:
    """
    A row as the file holds it.

    Args:
        act_id (`str`): its key.
        doubt (`float`): ε̂, or `UNJUDGED`; the higher come first.
        label (`str`, *optional*): the machine label.
        details (`str`): everything else that is shown, as JSON.
        image (`tuple` of `str` and `bytes`, *optional*): `"jpeg"` or `"png"`, and the file.
    """

    act_id: str
    doubt: float
    label: str | None
    details: str
    image: tuple[str, bytes] | None


def stored(row: ReviewRow, task: Task) -> Stored:
    """A row to review as the file holds it. An image that cannot be shown becomes a line that says why."""
    parts: list[dict[str, str]] = []
    image = None
    for name, value in row.shown.items():
        kind = "image" if name == task.image else "question" if name == task.question else "text"
        part = {"name": name, "kind": kind}
        if kind == "image":
            image, problem = _image(value)
            part |= {"problem": problem} if problem else {}
        else:
            part["text"] = str(value or "")
        parts.append(part)
    details = {
        "parts": parts,
        "label_prob": _known(row.label_prob),
        "error_prob": _known(row.error_prob),
        "rationale": row.rationale,
        "critique": row.critique,
    }
    judged = _known(row.error_prob)
    doubt = UNJUDGED if judged is None else judged
    return Stored(row.act_id, doubt, row.label, json.dumps(details, ensure_ascii=False), image)


def _known(prob: float | None) -> float | None:
    """Neither SQLite nor JSON has a NaN."""
    return None if prob is None or math.isnan(prob) else prob


def _image(value: Any) -> tuple[tuple[str, bytes] | None, str | None]:
    """The file to show, or why there is none."""
    if value is None:
        return None, "there is no image"
    if isinstance(value, Unreadable):
        return None, f"the image cannot be read: {value.reason}"
    try:
        return encoded(value, side=SIDE, most=_MOST), None
    except ACTError as error:
        return None, str(error)


_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


def visible(text: str) -> str:
    """
    `text` with signs in place of what cannot be seen, or would turn round what follows it: a reviewer judges what is
    there, and a row cannot pretend to be another. Line ends, tabs and the joiners of scripts and emoji stay.
    """
    return _HIDDEN.sub(_sign, text.replace("\r\n", "\n"))


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode has a picture of each
    return "\u2421" if code == 0x7F else f"⟦U+{code:04X}⟧"
