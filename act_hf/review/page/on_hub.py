"""The page in a Space as a place to review: a data set on the Hub with the rows to show and everybody's answers."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.files import read_dataset, written_whole
from act_hf.hub import Address, parse_address
from act_hf.records import recorded_task, stage_records, with_records
from act_hf.review.page.database import Database
from act_hf.review.page.history import add_lines, read
from act_hf.review.page.place import Page, check_same
from act_hf.review.places import Pulled, Pushed
from act_hf.review.rows import ReviewRows


if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasets import Dataset

    from act_hf.hub.repository import Snapshot
    from act_hf.review.page.history import Line

ROWS = "rows"
"""The configuration with the rows to show."""

ANSWERS = "answers"
"""The folder with a file of answers for each time that a Space was started."""


@dataclass(frozen=True)
class OnHub:
    """
    What a review data set holds.

    Args:
        rows (`Dataset`): to show.
        lines (`list` of `dict`): everybody's answers; see [`act_hf.review.page.history`].
    """

    rows: Dataset
    lines: list[Line]


@dataclass(frozen=True)
class HubPage:
    """
    Review on the page in a Space. The rows to show and all answers are in a data set on the Hub, which is private.

    Args:
        where (`str`): `hf://user/name`, or `user/name`.

    Raises:
        ACTError: for another form, or a configuration.
    """

    where: str

    def __post_init__(self) -> None:
        if self.address.config is not None:
            raise ACTError(f"{self.where!r}: a review has no configurations; leave out :{self.address.config}")

    @property
    def address(self) -> Address:
        """Of the data set."""
        return parse_address(self.where)

    @property
    def name(self) -> str:
        """For records."""
        return f"page {self.address}"

    @property
    def final(self) -> bool:
        """On the page only a person themselves changes an answer."""
        return True

    @property
    def how(self) -> str:
        """What people do."""
        return f"answer in a Space with ACT_HF_REVIEW={self.address.id}"

    def push(self, rows: ReviewRows) -> Pushed:
        """
        Adds the rows that are not there yet, in one commit. A Space that is running shows them when it is restarted.

        Raises:
            ACTError: for a data set of another task, or a public one, and for what the Hub refuses.
        """
        from act_hf.hub.pushing import push_dataset

        there = _rows(self.address)
        new = rows
        if there is not None:
            check_same(f"the review {str(self.address)!r}", recorded_task(there), rows.task)
            new = rows.without(set(there[columns.ID][:]))
        if len(new):
            push_dataset(_joined(there, _to_show(new)), replace(self.address, config=ROWS), overwrite=True)
        return Pushed(new=len(new), there=len(rows) - len(new))

    def pull(self, dataset: Dataset) -> Pulled:
        """
        Everybody's answers so far, as far as Spaces have handed them over.

        Raises:
            ACTError: where nothing was pushed, for another task, and for what the Hub refuses.
        """
        found = fetch(self.address)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "review.sqlite"
            left = write_file(file, found.rows, found.lines)
            there = Page(file).pull(dataset)
        lost = (f"{left} answers, skips and undos for rows that are not in {self.address} any more",) if left else ()
        return Pulled(there.responses, there.notes + lost)


def fetch(address: Address) -> OnHub:
    """Reads a review at one commit. Raises [`ACTError`] where nothing was pushed to it."""
    here = _snapshot(address)
    rows = None if here is None else _rows_at(address, here)
    if here is None or rows is None:
        raise ACTError(f"nothing was pushed to {str(address)!r} yet: act-hf review push DATASET {address}")
    return OnHub(rows, _lines_at(address, here))


def write_file(path: Path, rows: Dataset, lines: Iterable[Line]) -> int:
    """
    Makes a review file, or one anew, of rows and answers.

    Returns:
        `int`: how many answers were left out, since they are for other rows.
    """
    with written_whole(path, "the review file") as file:
        Page(file).push(ReviewRows(rows, list(range(len(rows)))))
        database = Database(file)
        try:
            return add_lines(database, lines)
        finally:
            database.close()


def _snapshot(address: Address) -> Snapshot | None:
    from act_hf.hub.repository import Repository

    repository = Repository(address)
    return None if repository.private() is None else repository.snapshot_if_there()


def _rows(address: Address) -> Dataset | None:
    here = _snapshot(address)
    return None if here is None else _rows_at(address, here)


def _rows_at(address: Address, here: Snapshot) -> Dataset | None:
    if not any(path.startswith(f"{ROWS}/") for path in here.files):
        return None
    return read_dataset(str(replace(address, revision=here.commit, config=ROWS)))


def _lines_at(address: Address, here: Snapshot) -> list[Line]:
    from huggingface_hub import hf_hub_download

    from act_hf.hub.faults import explained

    lines: list[Line] = []
    for name in sorted(here.files):
        if name.startswith(f"{ANSWERS}/") and name.endswith(".jsonl"):
            with explained("cannot read", address):
                path = hf_hub_download(address.id, name, repo_type="dataset", revision=here.commit)
            lines += read(Path(path).read_text(encoding="utf-8"), f"{name!r} of {str(address)!r}")
    return lines


def _to_show(rows: ReviewRows) -> Dataset:
    """Without the probabilities of the draw: of the rows drawn alone, nothing can be estimated by them."""
    drawn = [name for name in (columns.PI, columns.WAVE) if name in rows.dataset.column_names]
    shown: Dataset = rows.dataset.remove_columns(drawn)
    return shown


def _joined(there: Dataset | None, new: Dataset) -> Dataset:
    from datasets import concatenate_datasets

    # A further wave may have columns that the first has not; where they are missing, they are empty.
    return new if there is None else with_records(concatenate_datasets([there, new]), stage_records(new))
