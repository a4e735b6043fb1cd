"""The accuracy that the answers on a page leave possible, told while people answer."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from act_hf.errors import ACTError
from act_hf.review.page.answers import responses
from act_hf.review.page.place import DESIGN
from act_hf.review.reach import Design
from act_hf.review.resolving import majority


if TYPE_CHECKING:
    from act_hf.review.page.database import Database
    from act_hf.review.reach import Reach

_SHARE = 20
"""The estimate may take one part in so many of the time: with millions of rows it takes seconds, and is then told
less often. Nobody waits for it."""


class RunningAccuracy:
    """
    What [`Design.reach`] says of the answers in a review file, worked out beside the review.

    Args:
        database ([`Database`]): the file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._again_at = 0.0
        self._last: Reach | None = None

    def now(self) -> Reach | None:
        """What is known just now; `None` where nothing is. Starts to work out the next one where it is time."""
        if time.monotonic() >= self._again_at and self._lock.acquire(blocking=False):
            threading.Thread(target=self._work, daemon=True).start()
        return self._last

    def _work(self) -> None:
        began = time.monotonic()
        try:
            self._last = reach_of(self._database)
        except ACTError:  # the file cannot be read just now: whoever answers is told so
            self._last = None
        finally:
            self._again_at = time.monotonic() + _SHARE * (time.monotonic() - began)
            self._lock.release()


def reach_of(database: Database) -> Reach | None:
    """What the answers in the file leave possible; `None` where nothing can be said."""
    with database.reading() as connection:
        found = connection.execute("SELECT value FROM about WHERE name = ?", (DESIGN,)).fetchone()
    if found is None:
        return None
    said: defaultdict[str, list[str]] = defaultdict(list)
    for response in responses(database):
        said[response.act_id].append(response.label)
    labels = {act_id: majority(given) for act_id, given in said.items()}
    try:
        return Design.from_bytes(found[0]).reach({act_id: label for act_id, label in labels.items() if label})
    except ACTError:
        return None
