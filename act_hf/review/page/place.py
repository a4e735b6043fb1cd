"""The page as a place to review: a file `*.sqlite` that rows are pushed to and answers pulled from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from act_hf.errors import ACTError
from act_hf.records import recorded_task
from act_hf.review.page.answers import not_answered, responses
from act_hf.review.page.content import stored
from act_hf.review.page.database import SUFFIX, Database
from act_hf.review.places import Pulled, Pushed
from act_hf.task import Task


if TYPE_CHECKING:
    import sqlite3

    from datasets import Dataset

    from act_hf.review.page.content import Stored
    from act_hf.review.reach import Design
    from act_hf.review.rows import ReviewRows

_TASK = "task"
DESIGN = "design"
"""What the table `about` has; see [`act_hf.review.reach.Design`]."""

_BATCH = 64
"""Rows written at once: a push of thousands of images must not keep those waiting who answer."""


@dataclass(frozen=True)
class Page:
    """
    Review on a page in the browser, served from this machine by `act-hf review page`.

    The file holds the rows to show, and every answer, skip and undo that anybody ever gave.

    Args:
        path (`str` or `Path`): ends in `.sqlite`.

    Raises:
        ACTError: for another ending.
    """

    path: str | Path

    def __post_init__(self) -> None:
        if Path(self.path).suffix != SUFFIX:
            raise ACTError(f"the file of a review page ends in {SUFFIX}, not like {Path(self.path).name!r}")

    @property
    def name(self) -> str:
        """For records."""
        return f"page {Path(self.path).name}"

    @property
    def final(self) -> bool:
        """On the page only a person themselves changes an answer."""
        return True

    @property
    def how(self) -> str:
        """What people do."""
        return f"serve it with act-hf review page {self.path}"

    def push(self, rows: ReviewRows) -> Pushed:
        """
        Adds the rows that the file does not have yet. It is made where there is none; people may be answering.

        Raises:
            ACTError: for a file of another task or program, and one that cannot be written.
        """
        from tqdm.auto import tqdm

        database = Database(self.path, create=True)
        try:
            _keep_task(database, rows.task)
            _keep_design(database, rows.design)
            new = rows.without(_ids(database))
            batch: list[Stored] = []
            for row in tqdm(
                new, total=len(new), desc="push", unit="rows", disable=None if len(new) > _BATCH else True
            ):
                batch.append(stored(row, rows.task))
                if len(batch) == _BATCH:
                    _add(database, batch)
                    batch = []
            _add(database, batch)
        finally:
            database.close()
        return Pushed(new=len(new), there=len(rows) - len(new))

    def pull(self, dataset: Dataset) -> Pulled:
        """
        Everybody's answers so far; people may be at it meanwhile.

        Raises:
            ACTError: for a missing file, one of another task or program, or one that cannot be read.
        """
        database = Database(self.path)
        try:
            check_same(_where(database), read_task(database), recorded_task(dataset))
            return Pulled(responses(database), tuple(not_answered(database)))
        finally:
            database.close()


def read_task(database: Database) -> Task:
    """
    The task that the rows of a review file belong to.

    Raises:
        ACTError: when nothing was pushed to it.
    """
    with database.reading() as connection:
        found = connection.execute("SELECT value FROM about WHERE name = ?", (_TASK,)).fetchone()
    if found is None:
        raise ACTError(f"nothing was pushed to {str(database.path)!r} yet: act-hf review push DATASET {database.path}")
    return Task.from_dict(json.loads(found[0]))


def _keep_task(database: Database, task: Task) -> None:
    """Writes the task down. Of the same task, the newest instruction is shown."""
    with database.reading() as connection:
        there = connection.execute("SELECT 1 FROM about WHERE name = ?", (_TASK,)).fetchone()
    if there:
        check_same(_where(database), read_task(database), task)
    with database.writing() as connection:
        value = json.dumps(task.to_dict(), ensure_ascii=False)
        connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (_TASK, value))


def _keep_design(database: Database, design: Design | None) -> None:
    """Writes down how the rows were drawn, as the last push has it."""
    with database.writing() as connection:
        connection.execute("DELETE FROM about WHERE name = ?", (DESIGN,))
        if design is not None:
            connection.execute("INSERT INTO about VALUES (?, ?)", (DESIGN, design.to_bytes()))


def _where(database: Database) -> str:
    return f"the review file {str(database.path)!r}"


def check_same(where: str, there: Task, wanted: Task) -> None:
    """
    Raises [`ACTError`] unless an answer given there means the same in the data set.

    Args:
        where (`str`): what the answers are in, for the message.
        there ([`Task`]): that of the rows there.
        wanted ([`Task`]): that of the data set.
    """
    differ = [
        f"{what} {_quoted(set(old) - set(new)) or 'none'} there and {_quoted(set(new) - set(old)) or 'none'} here"
        for what, old, new in (("labels", there.labels, wanted.labels), ("columns", there.columns, wanted.columns))
        if set(old) != set(new)
    ]
    if differ:
        raise ACTError(f"{where} is of another task: of what differs, {'; '.join(differ)}; give another name")


def _quoted(names: set[str]) -> str:
    shown = [repr(name) for name in sorted(names)]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def _ids(database: Database) -> set[str]:
    with database.reading() as connection:
        return {act_id for (act_id,) in connection.execute("SELECT act_id FROM rows")}


def _add(database: Database, batch: list[Stored]) -> None:
    with database.writing() as connection:
        for row in batch:
            _add_row(connection, row)


def _add_row(connection: sqlite3.Connection, row: Stored) -> None:
    """Adds a row, unless another push has done so meanwhile."""
    made = connection.execute(
        "INSERT INTO rows (act_id, doubt, label, details) VALUES (?, ?, ?, ?) ON CONFLICT (act_id) DO NOTHING",
        (row.act_id, row.doubt, row.label, row.details),
    )
    if made.rowcount and row.image:
        connection.execute("INSERT INTO images VALUES (?, ?, ?)", (made.lastrowid, *row.image))
