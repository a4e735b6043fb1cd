"""How far a review is: rows to go, who answered what, how far people agree, and what can be said of the accuracy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.human_labels import with_human_ids
from act_hf.records import recorded_task
from act_hf.review.places import find_place, takeable
from act_hf.review.reach import Design, Reach
from act_hf.review.responses import labels_given, merge_responses


if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

    from act_hf.estimate.agreement import Person
    from act_hf.review.places import Place


@dataclass(frozen=True)
class ReviewStatus:
    """
    How far a review is.

    Args:
        selected (`int`): rows drawn for review; those with the same content once each.
        answered (`int`): of these, with a human label.
        ties (`int`): with answers, but no label: people disagree.
        corrected (`int`): answered with another label than the machine's.
        people (`list` of [`Person`]): by name.
        pairs (`int`): pairs of answers to the same row.
        alpha (`float`, *optional*): Krippendorff's α.
        reach ([`Reach`], *optional*): of the accuracy.
        why_not (`str`, *optional*): why there is none.
        notes (`list` of `str`): what lies at the place and was not taken, and what it says of itself.
    """

    selected: int
    answered: int
    ties: int
    corrected: int
    people: list[Person]
    pairs: int
    alpha: float | None
    reach: Reach | None
    why_not: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Rows to go, ties included."""
        return self.selected - self.answered

    def summary(self) -> str:
        """The same in a few lines."""
        return "\n".join([*self._progress(), *self._people(), *self._accuracy(), *self.notes])

    def _progress(self) -> list[str]:
        ties = f", {self.ties} of them with a tie" if self.ties else ""
        share = f" ({self.answered / self.selected:.0%})" if self.selected else ""
        lines = [f"{self.answered} of {self.selected} rows answered{share}, {self.left} to go{ties}"]
        if self.answered:
            lines.append(f"{self.corrected} of the {self.answered} machine labels were wrong")
        return lines

    def _people(self) -> list[str]:
        lines = [_told(person) for person in self.people]
        if self.alpha is not None:
            lines.append(f"agreement: Krippendorff's α {self.alpha:.2f} over {self.pairs} pairs of answers")
        return lines

    def _accuracy(self) -> list[str]:
        if self.reach is None:
            return [f"accuracy: nothing can be said yet: {self.why_not}"]
        reach = self.reach
        return [
            f"accuracy of the machine labels: {_range(reach.low, reach.high)}, "
            f"of all labels after the review: {_range(reach.low_after, reach.high_after)} (95 %{self._supposed()})"
        ]

    def _supposed(self) -> str:
        """What the bounds stand on, while rows are to go."""
        if not self.left:
            return ""
        settled = "; a row with one answer counts as settled" if self.pairs else ""  # several people answer a row
        return f", whatever the answers to the rows to go{settled}"


def review_status(dataset: Dataset, place: str | Path | Place | None = None) -> ReviewStatus:
    """
    How far a review is, without changing anything.

    Args:
        dataset (`Dataset`): sampled rows.
        place (`str`, `Path` or [`Place`], *optional*): where people are at it, as for [`push_review`]. Without one,
            what was pulled into the data set so far.

    Returns:
        [`ReviewStatus`].

    Raises:
        ACTError: for rows that were not sampled, and a place that cannot be read.
    """
    from act_hf.estimate.agreement import krippendorff_alpha, people

    columns.require(dataset, [columns.ID, columns.LABEL, columns.SELECTED], stage="review status")
    now, notes = _with_answers(with_human_ids(dataset.with_format(None)), place)
    rows = _selected_rows(now)
    human = [row[columns.HUMAN] for row in rows]
    given = [labels_given(row[columns.RESPONSES]) for row in rows]
    reach, why_not = _reach(now)
    return ReviewStatus(
        selected=len(rows),
        answered=sum(label is not None for label in human),
        ties=sum(label is None and bool(answers) for label, answers in zip(human, given, strict=True)),
        corrected=sum(row[columns.HUMAN] not in (None, row[columns.LABEL]) for row in rows),
        people=people(given, len(recorded_task(dataset).labels)),
        pairs=sum(len(answers) * (len(answers) - 1) // 2 for answers in given),
        alpha=krippendorff_alpha(given),
        reach=reach,
        why_not=why_not,
        notes=notes,
    )


def _with_answers(dataset: Dataset, place: str | Path | Place | None) -> tuple[Dataset, list[str]]:
    """The data set as a pull would leave it."""
    if place is None:
        return dataset, []
    found = find_place(place)
    taken, notes = takeable(dataset, found.pull(dataset))
    merged = merge_responses(dataset, taken, source=found.name, replace=True) if taken else dataset
    return merged, [*notes, *_own_words(found)]


def _own_words(place: Place) -> list[str]:
    """What a place that counts itself says of its progress."""
    progress = getattr(place, "progress", None)
    return [str(progress())] if progress else []


def _selected_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """The selected rows without their texts, one of each content."""
    there = [name for name in (columns.HUMAN, columns.RESPONSES) if name in dataset.column_names]
    wanted = dataset.select_columns([columns.ID, columns.SELECTED, columns.LABEL, *there])
    empty = {columns.HUMAN: None, columns.RESPONSES: None}
    rows: dict[str, dict[str, Any]] = {}
    for row in wanted:
        # A copy that a further wave drew gets the answers of the first at the next pull.
        known = rows.get(row[columns.ID], empty)
        if row[columns.SELECTED] and known[columns.HUMAN] is None and not known[columns.RESPONSES]:
            rows[row[columns.ID]] = {**empty, **row}
    return list(rows.values())


def _reach(dataset: Dataset) -> tuple[Reach | None, str | None]:
    try:
        return Design.of(dataset).reach({}), None
    except ACTError as error:
        return None, str(error)


def _told(person: Person) -> str:
    line = f"{person.name}: {person.answers} answers"
    if person.error_rate is None:
        return line
    rate, low, high = person.error_rate
    whose = "wrong in" if person.own else "wrong, together with those who share rows, in"
    return f"{line}, {whose} {rate:.0%} ({low:.0%} to {high:.0%})"


def _range(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f} %"
