"""The numbers of a comparison: plain values, each with what it means."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.files import written_whole


if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".html", ".png")

PANEL = "panel"
"""The critic made of the other annotators' labels."""


@dataclass(frozen=True)
class Estimate:
    """
    A figure with its interval.

    Args:
        value (`float`): the figure, on these rows.
        low, high (`float`): the bounds for rows like these.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Took:
    """
    What something took on all the rows, whenever it was paid.

    Args:
        requests (`int`): different requests, answered by the model or from the store.
        calls (`int`): those sent in this run, repeats included.
        tokens_in, tokens_out (`int`): tokens read and written.
        cost (`float`, *optional*): US dollars, at the prices of when it was paid; `None` where a price is not known.
        seconds (`float`): time by the clock, with as many requests in flight as the model takes.
        rows (`int`): N, to divide by.
    """

    requests: int
    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    seconds: float
    rows: int

    def __add__(self, other: Took) -> Took:
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Took(
            self.requests + other.requests,
            self.calls + other.calls,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            cost,
            self.seconds + other.seconds,
            self.rows,
        )

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.tokens_in + self.tokens_out

    @property
    def seconds_per_row(self) -> float:
        """Time by the clock for a row."""
        return self.seconds / self.rows

    @property
    def cost_per_row(self) -> float | None:
        """US dollars a row."""
        return None if self.cost is None else self.cost / self.rows


@dataclass(frozen=True, kw_only=True)
class Labeller:
    """
    Who labelled.

    Args:
        name (`str`): as it was called.
        model (`str`): the model's name, or several joined by ` + `.
        strategy (`str`): how it was asked.
        calibration (`str`): what was done about its preferences.
        took ([`Took`]): what it took.
    """

    name: str
    model: str
    strategy: str
    calibration: str
    took: Took


@dataclass(frozen=True, kw_only=True)
class AnnotatorRow(Labeller):
    """
    One annotator, and how right it is.

    Args:
        accuracy ([`Estimate`]): share of the rows whose label is right, with its Wilson interval. A row on which it
            failed counts as wrong.
        errors (`int`): rows whose label is wrong, failed ones included.
        failed (`int`): rows without a label.
        behind ([`Estimate`]): the best annotator's accuracy less its own, paired; of all annotators at once.
        tied (`bool`): whether it cannot be told apart from the best annotator, or is it.
        at_random (tuple of `float`): for each budget, the accuracy after that many rows are reviewed: those without a
            label, then others at random. What a critic has to beat.
    """

    accuracy: Estimate
    errors: int
    failed: int
    behind: Estimate
    tied: bool
    at_random: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """
    Who criticized whom.

    Args:
        annotator, critic (`str`): as they were called.
        model (`str`): the critic's model; for the panel, the other annotators.
        strategy (`str`): how it was asked.
        calibration (`str`): what was done about its preferences.
        self_critique (`bool`): whether the same model labelled and criticized, however it was asked.
        took ([`Took`]): what the critic took, without the annotator. For the panel: what the other annotators took.
    """

    annotator: str
    critic: str
    model: str
    strategy: str
    calibration: str
    self_critique: bool
    took: Took

    @property
    def pair(self) -> tuple[str, str]:
        """Annotator and critic."""
        return self.annotator, self.critic


@dataclass(frozen=True, kw_only=True)
class CriticRow(Judge):
    """
    One critic of one annotator, and how well it finds errors.

    Args:
        rows (`int`): rows with a label and an error probability, on which AUROC to recall are measured.
        errors (`int`): those of them whose label is wrong.
        failed (`int`): rows with a label on which the critic failed.
        auroc, abs ([`Estimate`], *optional*): see [`act_hf.estimate`]; none where `undefined` says why.
        undefined (`str`, *optional*): why there is no AUROC.
        ece, brier (`float`, *optional*): calibration, see [`act_hf.estimate.Reliability`].
        recall (`float`, *optional*): share of the errors among the B* most doubtful rows, B* being their number.
        after (tuple of [`Estimate`]): for each budget, the accuracy once that many rows are reviewed by somebody who
            is always right: those without a label or an error probability, then the most doubtful.
        gain ([`Estimate`]): accuracy after the first budget, less that of reviewing at random (paired).
        behind ([`Estimate`]): the best pair's accuracy after the first budget less its own; of all pairs at once.
        tied (`bool`): whether it cannot be told apart from the best pair, or is it.
        curve (tuple of pairs of `float`): share of the rows reviewed, and accuracy then; thinned out.
    """

    rows: int
    errors: int
    failed: int
    auroc: Estimate | None
    abs: Estimate | None
    undefined: str | None
    ece: float | None
    brier: float | None
    recall: float | None
    after: tuple[Estimate, ...]
    gain: Estimate
    behind: Estimate
    tied: bool
    curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Recommendation:
    """
    Whom to take.

    Args:
        annotator (`str`): who should label.
        critic (`str`, *optional*): who should criticize; `None` where no critic was compared.
        why (`str`): the reason in words, with what is tied with it.
        tied (tuple): the pairs (annotator, critic) that cannot be told apart from it, the best first.
    """

    annotator: str
    critic: str | None
    why: str
    tied: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Comparison:
    """
    Annotators and critics measured on the same rows, made by [`compare`]. All are plain values.

    Args:
        gold (`str`): the column with the right labels.
        rows (`int`): rows compared on.
        skipped (`int`): rows left out because they have no gold label.
        majority (`float`): share of the most frequent gold label: what an annotator has to beat.
        budgets (tuple of `int`): rows reviewed, one an entry of `after`.
        annotators (tuple of [`AnnotatorRow`]): the most accurate first.
        critics (tuple of [`CriticRow`]): by the accuracy after the first budget, the best first.
        recommendation ([`Recommendation`]): whom to take.
        calls (`int`): requests sent for all this.
        spent (`float`): US dollars paid for it, as far as prices are known.
        confidence (`float`): of the intervals.
        bootstraps, seed (`int`): resamples, and the seed they are drawn with.
        notes (tuple of `str`): what has to be known before the figures are believed.
    """

    gold: str
    rows: int
    skipped: int
    majority: float
    budgets: tuple[int, ...]
    annotators: tuple[AnnotatorRow, ...]
    critics: tuple[CriticRow, ...]
    recommendation: Recommendation
    calls: int
    spent: float
    confidence: float
    bootstraps: int
    seed: int
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """The comparison for a terminal: aligned lines of at most 100 columns."""
        from act_hf.comparison.summary import summary_lines

        return "\n".join(summary_lines(self))

    def plot(self) -> Figure:
        """
        All the pictures in one `matplotlib` figure: accuracy, AUROC, and accuracy after review.

        Raises:
            ACTError: when matplotlib is not installed.
        """
        from act_hf.comparison.plots import whole_figure

        return whole_figure(self)

    def save(self, path: str | Path) -> Path:
        """
        Writes the comparison as a page that needs nothing else (`.html`), or its pictures alone (`.png`).

        Args:
            path (`str` or `Path`): the file, replaced in one step when it exists.

        Returns:
            `Path`: the file.

        Raises:
            ACTError: for another ending, when matplotlib is not installed, or the file cannot be written.
        """
        from act_hf.comparison.plots import render_page
        from act_hf.report.plots import png

        path = Path(path)
        if path.suffix not in ENDINGS:
            raise ACTError(f"a comparison is saved as {' or '.join(ENDINGS)}, not as {path.name!r}")
        made = png(self.plot()) if path.suffix == ".png" else render_page(self).encode("utf-8", "replace")
        with written_whole(path, "the comparison") as unfinished:
            unfinished.write_bytes(made)
        return path

    def to_dict(self) -> dict[str, Any]:
        """The comparison as values that JSON can hold."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]
