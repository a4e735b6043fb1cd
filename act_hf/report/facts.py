"""The numbers of a report: plain values, each with what it means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf.errors import ACTError
from act_hf.estimate import AccuracyEstimate, Person, wilson
from act_hf.files import written_whole


if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]


ENDINGS = (".html", ".htm")

METHODS = {
    "human": "human labels in every row",
    "machine": "machine labels alone",
    "reviewed": "human labels of the reviewed rows alone, weighted by 1/π",
    "corrected": "machine labels, the reviewed rows corrected",
    "mixed": "machine labels, and the reviewed rows' human labels beside them",
    "act": "ACT: machine labels, some reviewed",
}
"""What a model may have been trained on, in the order shown: the modes of `to_training`."""


def percent(share: float | None) -> str:
    """A share as a percentage, or a dash."""
    return "–" if share is None else f"{100 * share:.1f}\u00a0%"


def interval(low: float, high: float) -> str:
    """An interval of shares as percentages."""
    return f"{100 * low:.1f} to {100 * high:.1f}\u00a0%"


@dataclass(frozen=True)
class Share:
    """
    A share with its 95 % interval.

    Args:
        value (`float`): in [0, 1].
        low (`float`): lower bound.
        high (`float`): upper bound.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, counted: Bools) -> Share:
        """The share of true values, with its Wilson interval."""
        k, n = int(counted.sum()), counted.size
        return cls(k / n, *wilson(k, n))


def shares_of(estimate: AccuracyEstimate) -> tuple[Share, Share]:
    """How many machine labels are right, and how many labels after review."""
    return (
        Share(estimate.machine, estimate.machine_low, estimate.machine_high),
        Share(estimate.after, estimate.after_low, estimate.after_high),
    )


@dataclass(frozen=True)
class Review:
    """
    How far the review is.

    Args:
        state (`str`): `"none"`, `"unfinished"` or `"finished"`: whether the rows that were drawn have a human label.
        selected (`int`): rows drawn.
        answered (`int`): rows drawn that have a human label.
        corrected (`int`): those whose human label differs from the machine label.
        beyond (`int`): rows with a human label that were not drawn. Nothing is estimated from them.
        tied (`int`): rows drawn whose answers are tied, so that they have no human label.
        recorded (`bool`): whether a record says who reviewed.
        simulated (`str`, *optional*): what stood in for a person, where nobody looked.
        people (`bool`): whether people reviewed, beside a simulation or without.
    """

    state: str
    selected: int
    answered: int
    corrected: int
    beyond: int
    tied: int
    recorded: bool
    simulated: str | None
    people: bool


@dataclass(frozen=True)
class Truth:
    """
    How right the labels are by the gold column. A row without a label counts as wrong.

    Args:
        column (`str`): the gold column.
        errors (`int`): rows whose machine label is wrong.
        machine ([`Share`]): machine labels that are right.
        after ([`Share`], *optional*): labels that are right once human labels replace machine labels.
        reviewer ([`Share`], *optional*): human labels that are right; none when the reviewer was simulated.
        majority (`str`): the most frequent gold label.
        majority_share (`float`): how right that label would be everywhere.
    """

    column: str
    errors: int
    machine: Share
    after: Share | None
    reviewer: Share | None
    majority: str
    majority_share: float


@dataclass(frozen=True)
class LabelAccuracy:
    """
    The rows with one machine label.

    Args:
        label (`str`, *optional*): the machine label; `None` for rows without one.
        rows (`int`): how many have it.
        reviewed (`int`): of these, drawn and answered.
        corrected (`int`): of these, with another human label.
        estimate ([`Share`], *optional*): how often the label is right, from the reviewed rows; none without any. Each
            interval holds by itself with 95 %, not all of them at once.
        after ([`Share`], *optional*): the same after review.
        truth ([`Share`], *optional*): how often it is right by the gold column.
    """

    label: str | None
    rows: int
    reviewed: int
    corrected: int
    estimate: Share | None
    after: Share | None
    truth: Share | None


@dataclass(frozen=True)
class Agreement:
    """
    How far people who answered the same rows agree.

    Args:
        pairs (`int`): pairs of answers to the same row.
        disagreeing (`int`): of these, with different labels.
        error_rate ([`Share`]): how often one of them is wrong; see [`act_hf.estimate.reviewer_error_rate`].
        estimate ([`AccuracyEstimate`], *optional*): corrected for that; none without an estimate, or where they agree
            no more than chance would.
        alpha (`float`, *optional*): Krippendorff's α; none where everybody always gave the same label.
        people (tuple of [`Person`]): by number of answers, with numbers for names.
    """

    pairs: int
    disagreeing: int
    error_rate: Share
    estimate: AccuracyEstimate | None
    alpha: float | None
    people: tuple[Person, ...]


@dataclass(frozen=True)
class Wave:
    """
    One wave of the review.

    Args:
        drawn (`int`): rows drawn in it.
        corrected (`int`): of these, with another human label.
    """

    drawn: int
    corrected: int


@dataclass(frozen=True)
class Finding:
    """
    Errors found in this draw, against a random one of equal size.

    Args:
        reviewed (`int`): rows drawn and answered.
        found (`int`): those whose machine label is wrong: by the gold column, or else by the human label.
        at_random (`float`): how many to expect among as many rows drawn at random.
        ratio (`float`, *optional*): `found / at_random`; none when there is nothing to find.
        source (`str`): where the share of errors comes from, `"gold"` or `"review"` (estimated).
    """

    reviewed: int
    found: int
    at_random: float
    ratio: float | None
    source: str


@dataclass(frozen=True)
class Basis:
    """
    The rows that the critics are judged by.

    Args:
        source (`str`): `"gold"`, all rows; or `"review"`, the reviewed rows weighted by 1/π.
        rows (`int`): how many they are.
        errors (`int`): those whose machine label is wrong.
        effective (`float`): as many rows of equal weight would tell as much (Kish).
        budget (`int`): where the recall is read off: the rows drawn, or else the number of errors.
    """

    source: str
    rows: int
    errors: int
    effective: float
    budget: int


@dataclass(frozen=True)
class CriticScore:
    """
    One critic. What cannot be told from the rows at hand is `None` or empty.

    Args:
        column (`str`): its error probabilities.
        name (`str`): its strategy and model.
        budgets (tuple of `float`): rows reviewed, the most doubtful first; thinned out for large data sets.
        found (tuple of `float`): errors found by then: measured with a gold column, else the sum of ε̂, what the critic
            expects.
        predicted, observed (tuple of `float`): see [`act_hf.estimate.Reliability`]; bins of about 20 rows or more.
        auroc, abs, brier, ece (`float`, *optional*): see [`act_hf.estimate`].
        recall (`float`, *optional*): share of the errors among the `Basis.budget` most doubtful rows.
    """

    column: str
    name: str
    budgets: tuple[float, ...]
    found: tuple[float, ...]
    predicted: tuple[float, ...] = ()
    observed: tuple[float, ...] = ()
    auroc: float | None = None
    abs: float | None = None
    brier: float | None = None
    ece: float | None = None
    recall: float | None = None


@dataclass(frozen=True)
class Design:
    """
    How rows were drawn.

    Args:
        facts (`dict`): rule, parameters, budget, mix, seed, as recorded; empty without a record.
        rows (`int`): N.
        selected (`int`): rows drawn.
        never (`int`): rows with π = 0.
        pi_low, pi_high (`float`): smallest π above 0, and largest π.
        points (tuple): (ε̂, π, drawn) of rows, thinned out for large data sets.
        histogram (tuple of two tuples of `int`): rows, and rows drawn, in equal bins of ε̂ from 0 to 1.
    """

    facts: dict[str, Any]
    rows: int
    selected: int
    never: int
    pi_low: float
    pi_high: float
    points: tuple[tuple[float, float, bool], ...]
    histogram: tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class DoubtfulRow:
    """
    A row of which the critic is doubtful.

    Args:
        number (`int`): its place in the data set.
        shown (tuple of pairs of `str`): the task's columns and what they hold.
        label (`str`, *optional*): the machine label.
        label_prob (`float`, *optional*): the machine's probability of it.
        error_prob (`float`): ε̂.
        critique (`str`, *optional*): the critic's words.
        human (`str`, *optional*): the human label.
        gold (`str`, *optional*): the gold label.
    """

    number: int
    shown: tuple[tuple[str, str], ...]
    label: str | None
    label_prob: float | None
    error_prob: float
    critique: str | None
    human: str | None
    gold: str | None

    @property
    def corrected(self) -> bool:
        """Whether a person gave another label."""
        return self.human is not None and self.human != self.label


@dataclass(frozen=True)
class Downstream:
    """
    Test accuracy of models trained on one kind of label.

    Args:
        method (`str`): a key of `METHODS`.
        variant (`str`): what else differs from the usual: the power, soft labels; mostly empty.
        accuracies (tuple of `float`): one a seed.
        mean (`float`): their mean.
        sd (`float`, *optional*): their standard deviation (n − 1); none for one seed.
        seeds (`int`): how many.
        rows (tuple of `int`): fewest and most rows trained on.
    """

    method: str
    variant: str
    accuracies: tuple[float, ...]
    mean: float
    sd: float | None
    seeds: int
    rows: tuple[int, int]

    @property
    def name(self) -> str:
        """Method and variant."""
        return f"{self.method}, {self.variant}" if self.variant else self.method


@dataclass(frozen=True)
class Cost:
    """What one stage asked of its model: see [`act_hf.models.store.Usage`]. `stored` answers were paid for earlier."""

    stage: str
    model: str
    strategy: str
    requests: int
    calls: int
    stored: int
    tokens_in: int
    tokens_out: int
    seconds: float
    seconds_per_row: float


@dataclass(frozen=True)
class Report:
    """
    The numbers of a run, made by [`build_report`]. All are plain values.

    Args:
        title (`str`): heads the page.
        rows (`int`): N.
        failed (`int`): rows with an `act_failure`.
        failures (tuple of pairs): the most frequent reasons, and how often.
        review ([`Review`]): how far the review is.
        estimate ([`AccuracyEstimate`], *optional*): from the reviewed rows alone.
        no_estimate (`str`, *optional*): why there is none.
        by_label (tuple of [`LabelAccuracy`]): by machine label, the most frequent first; empty without an estimate.
        waves (tuple of [`Wave`]): where rows were drawn in several.
        agreement ([`Agreement`], *optional*): where several people answered the same rows.
        truth ([`Truth`], *optional*): by the gold column.
        finding ([`Finding`], *optional*): errors found in this draw.
        basis ([`Basis`], *optional*): the rows that the critics are judged by.
        critics (tuple of [`CriticScore`]): the main critic first.
        doubtful (tuple of [`DoubtfulRow`]): the most doubtful rows.
        corrections (tuple): (machine label, human label, rows), the most frequent first.
        design ([`Design`], *optional*): how rows were drawn.
        downstream (tuple of [`Downstream`]): models trained on the labels.
        costs (tuple of [`Cost`]): one a stage that asked a model.
        task (`dict`): see [`Task.to_dict`].
        records (tuple of `dict`): what each stage recorded; of people only how many they are.
        notes (tuple of `str`): what has to be known before the figures are believed.
    """

    title: str
    rows: int
    failed: int
    failures: tuple[tuple[str, int], ...]
    review: Review
    estimate: AccuracyEstimate | None
    no_estimate: str | None
    by_label: tuple[LabelAccuracy, ...]
    waves: tuple[Wave, ...]
    agreement: Agreement | None
    truth: Truth | None
    finding: Finding | None
    basis: Basis | None
    critics: tuple[CriticScore, ...]
    doubtful: tuple[DoubtfulRow, ...]
    corrections: tuple[tuple[str | None, str, int], ...]
    design: Design | None
    downstream: tuple[Downstream, ...]
    costs: tuple[Cost, ...]
    task: dict[str, Any]
    records: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]

    def save(self, path: str | Path) -> Path:
        """
        Writes the report as one HTML page that needs nothing else: no script, no request, pictures inside.

        Args:
            path (`str` or `Path`): the `.html` file, replaced in one step when it exists.

        Returns:
            `Path`: the file.

        Raises:
            ACTError: for another ending, when matplotlib is not installed, or the file cannot be written.
        """
        from act_hf.report.page import render_page

        path = Path(path)
        if path.suffix not in ENDINGS:
            raise ACTError(f"a report is saved as {' or '.join(ENDINGS)}, not as {path.name!r}")
        page = render_page(self)
        with written_whole(path, "the report") as unfinished:
            unfinished.write_bytes(page.encode("utf-8", "replace"))
        return path

    def summary(self) -> str:
        """The report for a terminal: aligned lines of at most 100 columns."""
        from act_hf.report.summary import summary_lines

        return "\n".join(summary_lines(self))
