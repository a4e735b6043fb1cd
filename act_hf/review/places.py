"""Where people review: rows are pushed to a place, and answers pulled from it. Whoever writes their own has the same
rights as ours."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.hub.address import HUB
from act_hf.records import recorded_task
from act_hf.review.responses import Response, merge_responses
from act_hf.review.rows import ReviewRows, rows_to_review


if TYPE_CHECKING:
    from datasets import Dataset


ARGILLA = "argilla:"


@dataclass(frozen=True)
class Pushed:
    """
    What a push did.

    Args:
        new (`int`): rows that were not there before.
        there (`int`): rows that were, and are as they were, with everybody's answers.
    """

    new: int
    there: int = 0


@dataclass(frozen=True)
class Pulled:
    """
    What is to be had at a place.

    Args:
        responses (`list` of [`Response`]): everybody's answers, at most one a person and row.
        notes (`tuple` of `str`): what was left there and why, a line each: drafts, rows that are gone.
    """

    responses: list[Response]
    notes: tuple[str, ...] = ()


@runtime_checkable
class Place(Protocol):
    """
    Where people review rows: a file for a spreadsheet, a page, a server.

    Attributes:
        name (`str`): for records and messages. Holds no key and no address with one.
        final (`bool`): whether an answer that a person changes there replaces the one pulled before. Where it is
            false, as for a file that anybody may edit, the one who pulls has to say so.
        how (`str`): what people do there, for the line after a push.
    """

    @property
    def name(self) -> str:
        """What the place is called."""

    @property
    def final(self) -> bool:
        """Whether people change their own answers there."""

    @property
    def how(self) -> str:
        """What people do there."""

    def push(self, rows: ReviewRows) -> Pushed:
        """Adds the rows that are not there yet. Neither rows nor answers that are there are lost or doubled."""

    def pull(self, dataset: Dataset) -> Pulled:
        """Everything answered so far; people may be at it meanwhile. Changes nothing there."""


def find_place(where: str | Path | Place, **options: Any) -> Place:
    """
    The place that `where` names.

    Args:
        where (`str`, `Path` or [`Place`]): a `.csv` or `.jsonl` file to fill in ([`Table`]), a `.sqlite` file for the
            page in the browser ([`Page`]), `hf://user/name` for the page in a Space ([`HubPage`]), `argilla:NAME` or
            `argilla:WORKSPACE/NAME` ([`Argilla`]), or a place, which is returned as it is.
        options: for the class of the place.

    Raises:
        ACTError: for another name.
    """
    if not isinstance(where, str | Path):
        return where
    if str(where).startswith(ARGILLA):
        from act_hf.review.argilla import Argilla

        first, slash, rest = str(where).removeprefix(ARGILLA).partition("/")
        return Argilla(rest, first, **options) if slash else Argilla(first, **options)
    if str(where).startswith(HUB):
        from act_hf.review.page.on_hub import HubPage

        return HubPage(str(where), **options)
    from act_hf.review.page.database import SUFFIX
    from act_hf.review.page.place import Page
    from act_hf.review.table import FORMATS, Table

    if Path(where).suffix in FORMATS:
        return Table(where, **options)
    if Path(where).suffix == SUFFIX:
        return Page(where, **options)
    raise ACTError(
        f"{str(where)!r} is no place to review: give a file ending in {' or '.join(FORMATS)} (a table to fill in), or "
        f"in {SUFFIX} (a page in the browser), {HUB}user/name (the page in a Space), or {ARGILLA}WORKSPACE/NAME (an "
        "Argilla server)"
    )


def push_review(
    dataset: Dataset, place: str | Path | Place, *, wave: int | None = None, answered: bool = False
) -> Pushed:
    """
    Hands the selected rows to people, the most doubtful first.

    A push adds and never removes: pushing again, or a further wave, leaves the rows and answers that are there.

    Args:
        dataset (`Dataset`): sampled rows.
        place (`str`, `Path` or [`Place`]): as for [`find_place`].
        wave (`int`, *optional*): only the rows drawn in this wave; all by default.
        answered (`bool`, *optional*, defaults to `False`): rows that have a human label, too, for a second opinion.

    Returns:
        [`Pushed`].

    Raises:
        ACTError: for nothing to review, and for whatever the place cannot take, in which case nothing or only a part
            of the rows is there and the same push again completes it.
    """
    rows = rows_to_review(dataset, wave=wave, answered=answered)
    return find_place(place).push(rows)


def pull_review(
    dataset: Dataset,
    place: str | Path | Place,
    *,
    replace: bool | None = None,
    resolve: str | None = None,
) -> Dataset:
    """
    Takes people's answers back into the data set: `act_responses`, and `act_human` resolved from all of them.

    Pulling again takes what is new. A person's answer is replaced only by a later one of the same person.

    Args:
        dataset (`Dataset`): the rows that were pushed.
        place (`str`, `Path` or [`Place`]): as for [`find_place`].
        replace (`bool`, *optional*): whether an answer that a person changed since the last pull replaces the earlier
            one; an error where not. By default as the place has it: yes on the page and in Argilla, no in a table.
        resolve (`str`, *optional*): `"majority"` or `"dawid_skene"`; see [`merge_responses`].

    Returns:
        `Dataset`: the same rows; the data set itself where nothing is new.

    Raises:
        ACTError: for a place that cannot be read, no answer at all, answers of which none is for a row of this data
            set, and what [`merge_responses`] refuses.
    """
    columns.require(dataset, [columns.ID, columns.LABEL, columns.SELECTED], stage="review pull")
    found = find_place(place)
    pulled = found.pull(dataset)
    if not pulled.responses:
        raise ACTError(
            "; ".join([f"review pull: nobody has answered in {found.name} yet; {found.how}", *pulled.notes])
        )
    taken, notes = takeable(dataset, pulled)
    if not taken:
        raise ACTError(f"review pull: no answer in {found.name} can be used: {'; '.join(notes)}")
    return merge_responses(
        dataset,
        taken,
        source=found.name,
        replace=found.final if replace is None else replace,
        resolve=resolve,
        left=notes,
    )


def takeable(dataset: Dataset, pulled: Pulled) -> tuple[list[Response], list[str]]:
    """The answers that belong to `dataset`, and a line for every kind of thing that stays at the place."""
    plain = dataset.with_format(None)
    selected = {act_id for act_id, own in zip(plain[columns.ID][:], plain[columns.SELECTED][:], strict=True) if own}
    labels = set(recorded_task(dataset).labels)
    own = [response for response in pulled.responses if response.act_id in selected]
    foreign = len(pulled.responses) - len(own)
    notes = list(pulled.notes)
    if foreign:
        notes.append(f"{foreign} answers for rows that are not selected in this data set; given for another one?")
    unknown = Counter(response.label for response in own if response.label not in labels)
    notes += [f"{count} answers {label[:80]!r}, which is no label of the task" for label, count in unknown.items()]
    return [response for response in own if response.label in labels], notes
