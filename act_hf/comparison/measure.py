"""From labels and error probabilities to the figures of a comparison: arrays in, plain values out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from act_hf.comparison.facts import AnnotatorRow, CriticRow, Estimate
from act_hf.comparison.resampling import Differences, Ranking, differences, resampled, score_interval
from act_hf.estimate import aqg, auroc, error_curve, recall_at, reliability, wilson


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from act_hf.comparison.facts import Judge, Labeller

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Ints = NDArray[np.int64]
    Draws = Mapping[str, Floats]

_CURVE_POINTS = 100


@dataclass(frozen=True)
class Labels:
    """
    What an annotator gave.

    Args:
        by ([`Labeller`]): the annotator.
        labels (array of N `int`): the labels; -1 where it failed.
        confidences (array of N `float`): their probabilities by the annotator; NaN where it gave none.
    """

    by: Labeller
    labels: Ints
    confidences: Floats


@dataclass(frozen=True)
class Doubts:
    """
    What a critic gave for an annotator's labels.

    Args:
        by ([`Judge`]): the critic.
        error_probs (array of N `float`): ε̂; NaN where there is none.
    """

    by: Judge
    error_probs: Floats


@dataclass(frozen=True)
class Settings:
    """
    How figures are made.

    Args:
        budgets (tuple of `int`): rows reviewed.
        confidence (`float`): of the intervals.
        bootstraps (`int`): resamples of the rows.
        seed (`int`): of the resamples.
    """

    budgets: tuple[int, ...]
    confidence: float
    bootstraps: int
    seed: int


@dataclass(frozen=True)
class Measured:
    """
    The figures.

    Args:
        annotators (list of [`AnnotatorRow`]), critics (list of [`CriticRow`]): in the order they were given.
        between ([`Differences`]): between the accuracies of the annotators.
        pairs ([`Differences`], *optional*): between those of the pairs after the first budget; none without critics.
    """

    annotators: list[AnnotatorRow]
    critics: list[CriticRow]
    between: Differences
    pairs: Differences | None


def measure(gold: Ints, labels: Sequence[Labels], doubts: Sequence[Doubts], settings: Settings) -> Measured:
    """
    Measures everybody on the same rows, and by the same resamples of them.

    Args:
        gold (array of N `int`): the right labels.
        labels (sequence of [`Labels`]): the annotators.
        doubts (sequence of [`Doubts`]): the critics of each.
        settings ([`Settings`]): how.
    """
    labellers = {one.by.name: _Labelled(one, one.labels != gold) for one in labels}
    pairs = [_Pair(one, labellers[one.by.annotator]) for one in doubts]
    drawn = _drawn([*labellers.values(), *pairs], len(gold), settings)
    by_name, by_pair = dict(zip(labellers, drawn, strict=False)), drawn[len(labellers) :]
    accuracies = [one.accuracy for one in labellers.values()]
    between = _apart(accuracies, [draws["accuracy"] for draws in by_name.values()], len(gold), settings)
    annotators = [_annotator_row(one, between, i, settings) for i, one in enumerate(labellers.values())]
    if not pairs:
        return Measured(annotators, [], between, None)
    first = settings.budgets[0]
    after = [pair.after(first) for pair in pairs]
    standing = _apart(after, [draws[f"after {first}"] for draws in by_pair], len(gold), settings)
    critics = [
        _critic_row(pair, draws, by_name[pair.given.by.annotator]["random"], standing, i, settings)
        for i, (pair, draws) in enumerate(zip(pairs, by_pair, strict=True))
    ]
    return Measured(annotators, critics, between, standing)


@dataclass(frozen=True)
class _Labelled:
    given: Labels
    wrong: Bools

    @property
    def accuracy(self) -> float:
        return 1 - float(self.wrong.mean())

    @cached_property
    def failed(self) -> Bools:
        return self.given.labels < 0

    @cached_property
    def queue(self) -> Floats:
        """What rows are reviewed by without a critic: those without a label come first, the others in any order."""
        return np.where(self.failed, 1.0, 0.0)

    @cached_property
    def _reviewed(self) -> Ranking:
        return Ranking(self.queue, self.wrong)

    def at_random(self, budget: int) -> float:
        """The accuracy after review without a critic."""
        return self.accuracy + aqg(self.queue, self.wrong, budget)

    def figures(self, counts: Floats, settings: Settings) -> dict[str, Floats]:
        """The figures of some resamples."""
        random = self._reviewed.after(counts, settings.budgets[0])
        return {"accuracy": 1 - counts @ self.wrong / self.wrong.size, "random": random}


@dataclass(frozen=True)
class _Pair:
    given: Doubts
    labelled: _Labelled

    @cached_property
    def known(self) -> Bools:
        known: Bools = ~self.labelled.failed & ~np.isnan(self.given.error_probs)
        return known

    @cached_property
    def queue(self) -> Floats:
        """What rows are reviewed by: those without an error probability come first, as `failures="review"` has it."""
        return np.where(self.known, self.given.error_probs, 2.0)

    @cached_property
    def doubts(self) -> Floats:
        return self.given.error_probs[self.known]

    @cached_property
    def errors(self) -> Bools:
        return self.labelled.wrong[self.known]

    @cached_property
    def few(self) -> int:
        """How many errors or right labels, whichever are rarer."""
        return int(min(self.errors.sum(), (~self.errors).sum()))

    @cached_property
    def _judged(self) -> Ranking:
        return Ranking(self.doubts, self.errors)

    @cached_property
    def _reviewed(self) -> Ranking:
        return Ranking(self.queue, self.labelled.wrong)

    def after(self, budget: int) -> float:
        """The accuracy after review."""
        return self.labelled.accuracy + aqg(self.queue, self.labelled.wrong, budget)

    def figures(self, counts: Floats, settings: Settings) -> dict[str, Floats]:
        """The figures of some resamples."""
        made = {f"after {budget}": self._reviewed.after(counts, budget) for budget in settings.budgets}
        return made | {"auroc": self._judged.auroc(counts[:, self.known])} if self.few else made


def _drawn(everybody: Sequence[_Labelled | _Pair], rows: int, settings: Settings) -> list[Draws]:
    """Everybody's figures of every resample."""
    parts = [
        [one.figures(counts, settings) for one in everybody]
        for counts in resampled(rows, settings.bootstraps, settings.seed)
    ]
    return [
        {name: np.concatenate([part[name] for part in own]) for name in own[0]} for own in zip(*parts, strict=True)
    ]


def _apart(shares: Sequence[float], drawn: Sequence[Floats], rows: int, settings: Settings) -> Differences:
    """How shares of the rows differ."""
    # One more row could have told two of them apart by 1/N.
    return differences(shares, np.stack(drawn, axis=1), least=1 / rows**2, confidence=settings.confidence)


def _annotator_row(labelled: _Labelled, between: Differences, own: int, settings: Settings) -> AnnotatorRow:
    rows, errors = labelled.wrong.size, int(labelled.wrong.sum())
    bounds = wilson(rows - errors, rows, confidence=settings.confidence)
    return AnnotatorRow(
        **vars(labelled.given.by),
        accuracy=Estimate((rows - errors) / rows, *bounds),
        errors=errors,
        failed=int(labelled.failed.sum()),
        behind=between.between(between.best, own),
        tied=not between.apart(between.best, own),
        at_random=tuple(labelled.at_random(budget) for budget in settings.budgets),
    )


def _critic_row(
    pair: _Pair, draws: Draws, random: Floats, standing: Differences, own: int, settings: Settings
) -> CriticRow:
    doubts, errors, rows = pair.doubts, pair.errors, pair.queue.size
    meant = reliability(doubts, errors) if errors.size else None
    score = _auroc(pair, draws, settings.confidence)
    return CriticRow(
        **vars(pair.given.by),
        rows=errors.size,
        errors=int(errors.sum()),
        failed=int((~pair.labelled.failed & ~pair.known).sum()),
        auroc=score,
        abs=Estimate(*(2 * bound - 1 for bound in (score.value, score.low, score.high))) if score else None,
        undefined=None if score else _undefined(errors),
        ece=meant.expected_calibration_error if meant else None,
        brier=meant.brier if meant else None,
        recall=recall_at(doubts, errors) if errors.any() else None,
        after=tuple(
            score_interval(pair.after(one), draws[f"after {one}"], few=rows, rows=rows, confidence=settings.confidence)
            for one in settings.budgets
        ),
        gain=_gain(pair, draws, random, settings),
        behind=standing.between(standing.best, own),
        tied=not standing.apart(standing.best, own),
        curve=_curve(pair),
    )


def _auroc(pair: _Pair, draws: Draws, confidence: float) -> Estimate | None:
    if not pair.few:
        return None
    value = auroc(pair.doubts, pair.errors)
    return score_interval(value, draws["auroc"], few=pair.few, rows=pair.errors.size, confidence=confidence)


def _undefined(errors: Bools) -> str:
    if not errors.size:
        return "no row has an error probability"
    return f"{'all' if errors.all() else 'none'} of the {errors.size} labels it judged are wrong"


def _gain(pair: _Pair, draws: Draws, random: Floats, settings: Settings) -> Estimate:
    """What the critic adds to reviewing at random."""
    first = settings.budgets[0]
    values = [pair.after(first), pair.labelled.at_random(first)]
    return _apart(values, [draws[f"after {first}"], random], pair.queue.size, settings).between(0, 1)


def _curve(pair: _Pair) -> tuple[tuple[float, float], ...]:
    budgets, found = error_curve(pair.queue, pair.labelled.wrong)
    rows = pair.queue.size
    kept = np.unique(np.linspace(0, rows, _CURVE_POINTS + 1).round().astype(int))
    after = 1 - (found[-1] - found[kept]) / rows
    return tuple(zip((budgets[kept] / rows).tolist(), after.tolist(), strict=True))
