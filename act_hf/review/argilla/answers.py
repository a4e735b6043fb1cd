"""What people submitted in Argilla, read from the records one page after the other, while people are at it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.review.argilla.schema import COMMENT, LABEL
from act_hf.review.places import Pulled
from act_hf.review.responses import Response


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from uuid import UUID

SUBMITTED = "submitted"

_TRIES = 5


@dataclass(frozen=True)
class Answered:
    """
    What is kept of a record: images would not fit into memory.

    Args:
        id (`UUID`): the server's own.
        act_id (`str`): whatever the record was given as its id.
        responses (`tuple`): of the SDK's kind, whatever their status.
    """

    id: UUID
    act_id: str
    responses: tuple[Any, ...]


def read_all(page: Callable[[int], list[Answered]], *, size: int, begin: Callable[[], None]) -> list[Answered]:
    """
    All records.

    Argilla gives them by number, in the order in which they came. Where one is deleted meanwhile, those behind move
    up, and the next page would begin too late. So each page begins with the last record of the one before; where that
    is not so, all is read again.

    Args:
        page (`Callable`): gives up to `size` records from a number on.
        size (`int`): at least 2.
        begin (`Callable`): called whenever reading starts.

    Raises:
        ACTError: where records are deleted all the time.
    """
    for _ in range(_TRIES):
        begin()
        read = _read_once(page, size)
        if read is not None:
            return read
    raise ACTError("rows are being deleted in Argilla while they are read; pull again when that is done")


def _read_once(page: Callable[[int], list[Answered]], size: int) -> list[Answered] | None:
    read = page(0)
    more = len(read) == size
    while more:
        new = page(len(read) - 1)
        if not new or new[0].id != read[-1].id:
            return None
        read += new[1:]
        more = len(new) == size
    # Records that came at the same moment have no order of their own: pages may repeat one, and leave out another.
    return read if len({record.id for record in read}) == len(read) else None


def pulled(records: Iterable[Answered], people: Mapping[str, str]) -> Pulled:
    """
    The submitted answers, and in notes what else is there.

    Args:
        records (iterable of [`Answered`]): each once.
        people (mapping of `str` to `str`): names by the ids of users. Answers of others are left: under another
            name, somebody whose answers were pulled before would count as two people.
    """
    taken: list[Response] = []
    left: Counter[str] = Counter()
    for record in records:
        for response in record.responses:
            answer, reason = _read(response, record.act_id, people)
            if answer is None:
                left[reason] += 1
            else:
                taken.append(answer)
    return Pulled(taken, tuple(f"{count} {reason}" for reason, count in sorted(left.items())))


def _read(response: Any, act_id: str, people: Mapping[str, str]) -> tuple[Response | None, str]:
    """The answer, or why it is none."""
    status = str(response.status.value)
    if status != SUBMITTED:
        return None, "drafts, not submitted" if status == "draft" else f"{status} by people, no answer"
    values = response.values or {}
    label, comment = (values.get(name, {}).get("value") for name in (LABEL, COMMENT))
    if not isinstance(label, str):
        return None, "submitted without a label"
    who = people.get(str(response.user_id))
    if who is None:
        return None, "answers by people who are not in the workspace any more; an owner's key gives their names"
    said = comment.strip() if isinstance(comment, str) else ""
    return Response(act_id, who, label, said), ""
