"""How right the labels are: what the review says, label by label and wave by wave, and what gold labels say."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.estimate import (
    AccuracyEstimate,
    Person,
    accuracy_by_group,
    estimate_accuracy,
    krippendorff_alpha,
    people,
    reviewer_error_rate,
    with_reviewer_error,
)
from act_hf.records import stage_records
from act_hf.report.facts import Agreement, Finding, LabelAccuracy, Review, Share, Truth, Wave, shares_of
from act_hf.report.rows import ReportRows
from act_hf.review.responses import labels_given
from act_hf.sampling import Waves, read_waves
from act_hf.sampling.waves import rows_gone


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset
    from numpy.typing import NDArray


def review_of(dataset: Dataset, rows: ReportRows) -> Review:
    """How far the review is."""
    selected, answered = int(rows.selected.sum()), int(rows.reviewed.sum())
    made = stage_records(dataset, "review")
    simulated = [
        str(record.get("source") or record.get("annotator") or "simulated")
        for record in made
        if record.get("simulated")
    ]
    return Review(
        state="none" if not answered else "finished" if answered == selected else "unfinished",
        selected=selected,
        answered=answered,
        corrected=int((rows.reviewed & rows.corrected).sum()),
        beyond=int((rows.answered & ~rows.selected).sum()),
        tied=_tied(dataset, rows),
        recorded=bool(made),
        simulated=simulated[-1] if simulated else None,
        people=len(simulated) < len(made),
    )


def _tied(dataset: Dataset, rows: ReportRows) -> int:
    if columns.RESPONSES not in dataset.column_names:
        return 0
    asked = np.array([bool(answers) for answers in dataset[columns.RESPONSES][:]])
    return int((asked & rows.selected & ~rows.answered).sum())


def agreement_of(dataset: Dataset, estimate: AccuracyEstimate | None, labels: int) -> Agreement | None:
    """How far people agree, and what that does to an estimate that takes them to be right."""
    if columns.RESPONSES not in dataset.column_names:
        return None
    given = [labels_given(answers) for answers in dataset[columns.RESPONSES][:]]
    pairs = [pair for answers in given for pair in combinations(answers.values(), 2)]
    if not pairs:
        return None
    disagreeing = sum(one != other for one, other in pairs)
    rate = Share(*reviewer_error_rate(disagreeing, len(pairs), labels))
    told = estimate is not None and rate.value < 1 - 1 / labels
    corrected = with_reviewer_error(estimate, rate.value, labels) if estimate is not None and told else None
    return Agreement(
        len(pairs), disagreeing, rate, corrected, alpha=krippendorff_alpha(given), people=_numbered(given, labels)
    )


def _numbered(given: Sequence[Mapping[str, str]], labels: int) -> tuple[Person, ...]:
    """A report may go further than the names of those who worked on it."""
    busiest = sorted(people(given, labels), key=lambda person: -person.answers)
    return tuple(dataclasses.replace(person, name=f"person {n}") for n, person in enumerate(busiest, 1))


@dataclass(frozen=True)
class Estimates:
    """
    What the reviewed rows say of all.

    Args:
        whole ([`AccuracyEstimate`], *optional*): of all rows.
        why_not (`str`, *optional*): why there is none.
        by_label (tuple of [`LabelAccuracy`]): by machine label, the most frequent first.
        waves (tuple of [`Wave`]): where there are several.
    """

    whole: AccuracyEstimate | None
    why_not: str | None
    by_label: tuple[LabelAccuracy, ...] = ()
    waves: tuple[Wave, ...] = ()


def estimates_of(dataset: Dataset, rows: ReportRows, review: Review) -> Estimates:
    """What the reviewed rows say of all, or why they say nothing yet."""
    if rows.pi is None:
        return Estimates(None, "no rows have been drawn for review yet")
    if review.state == "none":
        return Estimates(None, f"the {review.selected} rows drawn for review have no human label yet")
    if review.state == "unfinished":
        return Estimates(None, f"review unfinished: {review.answered} of {review.selected} rows answered")
    if gone := rows_gone(dataset):
        return Estimates(None, gone)
    try:
        return _estimates(dataset, rows)
    except ACTError as error:
        return Estimates(None, str(error))


def _estimates(dataset: Dataset, rows: ReportRows) -> Estimates:
    eps = rows.eps.get(columns.critic_column(dataset), np.full(len(dataset), np.nan))
    waves = read_waves(dataset)
    labels = np.array(["" if name is None else name for name in rows.machine])
    arrays = eps, waves.drawn_in, waves.pi, rows.corrected
    return Estimates(
        whole=estimate_accuracy(*arrays),
        why_not=None,
        by_label=_by_label(rows, labels, accuracy_by_group(*arrays, labels)),
        waves=_waves(waves, rows) if waves.count > 1 else (),
    )


def _by_label(
    rows: ReportRows, labels: NDArray[np.str_], estimates: Mapping[str, AccuracyEstimate | None]
) -> tuple[LabelAccuracy, ...]:
    made = []
    for name, estimate in estimates.items():
        own, reviewed = labels == name, (labels == name) & rows.reviewed
        before, after = (None, None) if estimate is None else shares_of(estimate)
        truth = None if rows.gold is None else Share.of(~rows.wrong[own])
        counts = int(own.sum()), int(reviewed.sum()), int((reviewed & rows.corrected).sum())
        made.append(LabelAccuracy(name or None, *counts, before, after, truth))
    return tuple(sorted(made, key=lambda one: -one.rows))


def _waves(waves: Waves, rows: ReportRows) -> tuple[Wave, ...]:
    return tuple(Wave(int(own.sum()), int((own & rows.corrected).sum())) for own in waves.drawn_in.T)


def truth_of(rows: ReportRows, review: Review, column: str | None) -> Truth | None:
    """How right the labels are by the gold column."""
    if rows.gold is None or column is None:
        return None
    final = np.where(rows.answered, rows.human, rows.machine)
    majority, most = Counter(rows.gold.tolist()).most_common(1)[0]
    people = rows.answered if review.simulated is None else np.zeros_like(rows.answered)
    return Truth(
        column=column,
        errors=int(rows.wrong.sum()),
        machine=Share.of(~rows.wrong),
        after=Share.of(final == rows.gold) if rows.answered.any() else None,
        reviewer=Share.of((rows.human == rows.gold)[people]) if people.any() else None,
        majority=majority,
        majority_share=most / rows.gold.size,
    )


def finding_of(rows: ReportRows, review: Review, estimate: AccuracyEstimate | None) -> Finding | None:
    """What this draw found, against a random one."""
    if rows.gold is not None:
        source, rate = "gold", float(rows.wrong.mean())
    elif estimate is not None and estimate.covers == 1:
        source, rate = "review", 1 - estimate.machine
    else:
        return None
    if not review.answered:
        return None
    found, at_random = int(rows.wrong[rows.reviewed].sum()), review.answered * rate
    return Finding(review.answered, found, at_random, found / at_random if at_random else None, source)
