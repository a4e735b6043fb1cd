"""The review page in a Space: answers are on its disk at once, and every minute in a data set on the Hub."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import CommitScheduler

from act_hf.errors import ACTError
from act_hf.hub import parse_address
from act_hf.hub.faults import explained, hub_api
from act_hf.hub.repository import Repository
from act_hf.review.page.app import build_app, look
from act_hf.review.page.database import SUFFIX, Database
from act_hf.review.page.history import lines_after, written
from act_hf.review.page.on_hub import ANSWERS, HubPage, fetch, write_file
from act_hf.review.page.view import Reviewing


if TYPE_CHECKING:
    from collections.abc import Iterable

    from huggingface_hub import CommitInfo

    from act_hf.hub import Address

EVERY = 1.0
"""Minutes between two commits, where there is something new."""


class Keeper(CommitScheduler):
    """
    Hands answers over to the Hub: regularly, and when the process ends. Each has a file of its own there, so that
    several Spaces on one review do not overwrite each other's answers.

    Args:
        address ([`Address`]): the data set.
        database ([`Database`]): where the answers are.
        kept (iterable of `str`): the keys of those that the Hub has.
        every (`float`, *optional*, defaults to 1): minutes between two commits.
    """

    def __init__(self, address: Address, database: Database, kept: Iterable[str], *, every: float = EVERY) -> None:
        self._database, self._kept, self._last = database, frozenset(kept), 0
        folder = Path(tempfile.mkdtemp(prefix="act_hf_answers_"))
        self._file = folder / f"{uuid.uuid4().hex}.jsonl"
        with explained("cannot keep answers in", address):
            super().__init__(
                repo_id=address.id,
                repo_type="dataset",
                revision=address.revision,
                folder_path=folder,
                path_in_repo=ANSWERS,
                every=every,
                private=True,
                hf_api=hub_api(),
            )

    def push_to_hub(self) -> CommitInfo | None:
        """What is done regularly."""
        with self.lock:
            lines, self._last = lines_after(self._database, self._last)
            new = [line for line in lines if line["key"] not in self._kept]
            if new:
                with self._file.open("a", encoding="utf-8") as stream:
                    stream.write(written(new))
        return super().push_to_hub()


def open_review(
    review: str, folder: str | Path, *, per_row: int = 1, every: float = EVERY
) -> tuple[Reviewing, Keeper]:
    """
    The review in a data set on the Hub, ready to be shown, with all answers that are there or were left in `folder`.

    Args:
        review (`str`): the data set, as `user/name`.
        folder (`str` or `Path`): for the file with rows and answers. Best on a disk that outlives a restart of the
            Space: on another one, a crash costs the answers since the last commit.
        per_row (`int`, *optional*, defaults to 1): how many people should answer each row.
        every (`float`, *optional*, defaults to 1): minutes between two commits.

    Returns:
        [`Reviewing`], and the [`Keeper`] of its answers.

    Raises:
        ACTError: where nothing was pushed to the data set, or the token may not write to it.
    """
    address = HubPage(review).address
    found = fetch(address)
    Repository(address).check_token()  # the scheduler would find out at its first commit, and only say so in a log
    path = Path(folder) / f"{address.id.replace('/', '--')}{SUFFIX}"
    lines = {line["key"]: line for line in [*_left_in(path), *found.lines]}
    write_file(path, found.rows, lines.values())
    database = Database(path)
    kept = {line["key"] for line in found.lines}
    return Reviewing(database, per_row=per_row), Keeper(address, database, kept, every=every)


def _left_in(path: Path) -> list[dict[str, object]]:
    """The answers in the file of a Space that ran before."""
    if not path.exists():
        return []
    database = Database(path)
    try:
        return lines_after(database, 0)[0]
    finally:
        database.close()


def check_private(space: str) -> None:
    """Raises [`ACTError`] where everybody could open the Space `user/name`, and so read the rows and answer."""
    with explained("cannot look up the Space", parse_address(space), kind="Space"):
        found = hub_api().repo_info(space, repo_type="space")
    if not found.private:
        raise ACTError(
            f"the Space {space!r} is public, so everybody would read the rows and could answer; make it private in "
            "its settings, or set the variable ACT_HF_PUBLIC to yes if that is meant"
        )


def serve_space(
    review: str, folder: str | Path, *, space: str | None = None, per_row: int = 1, every: float = EVERY
) -> None:
    """
    Serves the page until the process ends. Arguments and errors as [`open_review`] and [`check_private`] have them.
    """
    if space is not None:
        check_private(space)
    reviewing, _ = open_review(review, folder, per_row=per_row, every=every)
    build_app(reviewing).launch(**look())
