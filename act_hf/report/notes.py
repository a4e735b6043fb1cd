"""What has to be known before the figures of a report are believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from act_hf.report.facts import interval, percent, shares_of


if TYPE_CHECKING:
    from collections.abc import Iterable

    from act_hf.report.facts import Report


def notes_on(report: Report) -> Iterable[str]:
    """What has to be known before the figures are believed."""
    review, estimate = report.review, report.estimate
    if review.simulated is not None:
        who = "Not only people reviewed: some" if review.people else "No person reviewed: the"
        yield (
            f"{who} human labels are {review.simulated}. Every figure after review, and every error "
            "found, shows what such a reviewer would reach; a person also makes mistakes."
        )
    elif not review.recorded and review.answered + review.beyond:
        yield "No record says who gave the human labels."
    if review.state == "unfinished":
        yield (
            f"Review unfinished: {review.answered} of {review.selected} rows answered. No accuracy is estimated until "
            "all are, because the rows answered first are no fair sample."
        )
    if review.tied:
        yield f"The answers to {review.tied} of the rows drawn are tied: no human label until someone decides."
    if review.state == "finished" and report.no_estimate:
        yield f"No accuracy is estimated: {report.no_estimate}."
    if estimate is not None and estimate.covers < 1:
        yield (
            f"Only {percent(estimate.covers)} of the rows could be drawn at all (π above 0). Nothing was measured on "
            "the others: the estimates take the critic's word for them, and the intervals allow for all of them to be "
            "right or wrong. mix=0.1 to 0.2 at the sample stage gives every row that did not fail a chance."
        )
    if estimate is not None and estimate.effective < 10:
        yield (
            f"The intervals are wide: about the rows that were not certain to be drawn, the review tells as much as "
            f"{estimate.effective:.1f} rows drawn at random. More reviewed rows help, and so does mix=0.1 to 0.2."
        )
    yield from _agreement(report)
    if review.beyond:
        yield f"{review.beyond} rows have a human label although they were not drawn; nothing is estimated from them."
    if report.failed:
        yield f"{report.failed} of {report.rows} rows failed; a row without a label counts as wrong."


def _agreement(report: Report) -> Iterable[str]:
    agreement = report.agreement
    if agreement is None:
        return
    rate = agreement.error_rate
    alpha = "" if agreement.alpha is None else f" (Krippendorff's α {agreement.alpha:.2f})"
    said = (
        f"Of {agreement.pairs} pairs of answers to the same row {agreement.disagreeing} differ{alpha}: if people err "
        f"independently, one is wrong in {percent(rate.value)} of the rows ({interval(rate.low, rate.high)})."
    )
    if agreement.estimate is not None:
        before, after = (
            f"{percent(one.value)} ({interval(one.low, one.high)})" for one in shares_of(agreement.estimate)
        )
        said += f" Corrected for that, {before} of the machine labels are right, and {after} after review."
    yield said
