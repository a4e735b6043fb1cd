"""From labels and error probabilities to the figures of a comparison: arrays in, plain values out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from act_hf.comparison.facts import AnnotatorRow, CriticRow, Estimate, Took
from act_hf.comparison.resampling import Differences, Ranking, differences, resampled, score_interval
from act_hf.estimate import aqg, auroc, error_curve, recall_at, reliability, wilson


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Ints = NDArray[np.int64]

_CURVE_POINTS = 100


@dataclass(frozen=True)
class Labels:
    """
    What an annotator gave.

    Args:
        name, model, strategy, calibration (`str`): as in [`AnnotatorRow`].
        labels (array of N `int`): the labels; -1 where it failed.
        confidences (array of N `float`): their probabilities by the annotator; NaN where it gave none.
        took ([`Took`]): what it took.
    """

    name: str
    model: str
    strategy: str
    calibration: str
    labels: Ints
    confidences: Floats
    took: Took


@dataclass(frozen=True)
class Doubts:
    """
    What a critic gave for an annotator's labels.

    Args:
        annotator, critic, model, strategy, calibration (`str`), self_critique (`bool`): as in [`CriticRow`].
        error_probs (array of N `float`): ε̂; NaN where there is none.
        took ([`Took`]): what it took.
    """

    annotator: str
    critic: str
    model: str
    strategy: str
    calibration: str
    self_critique: bool
    error_probs: Floats
    took: Took


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
    labellers = {one.name: _Labeller(one, one.labels != gold) for one in labels}
    pairs = [_Pair(one, labellers[one.annotator]) for one in doubts]
    _draw([*labellers.values(), *pairs], len(gold), settings)
    accuracies = [1 - float(labeller.wrong.mean()) for labeller in labellers.values()]
    drawn = np.stack([labeller.draws["accuracy"] for labeller in labellers.values()], axis=1)
    # One more row could have told two of them apart by 1/N.
    least, confidence = 1 / len(gold) ** 2, settings.confidence
    between = differences(accuracies, drawn, least=least, confidence=confidence)
    best = int(np.argmax(accuracies))
    annotators = [
        _annotator_row(labeller, between, (best, i), settings) for i, labeller in enumerate(labellers.values())
    ]
    if not pairs:
        return Measured(annotators, [], between, None)
    first = settings.budgets[0]
    after = [pair.after(first) for pair in pairs]
    drawn = np.stack([pair.draws[f"after {first}"] for pair in pairs], axis=1)
    standing = differences(after, drawn, least=least, confidence=confidence)
    equal = _best_aurocs(pairs, confidence)
    best = int(np.argmax(after))
    critics = [_critic_row(pair, standing, (best, i), equal[i], settings) for i, pair in enumerate(pairs)]
    return Measured(annotators, critics, between, standing)


@dataclass(frozen=True)
class _Labeller:
    given: Labels
    wrong: Bools

    @cached_property
    def draws(self) -> dict[str, Floats]:
        return {}

    @cached_property
    def failed(self) -> Bools:
        return self.given.labels < 0

    @cached_property
    def at_random(self) -> Ranking:
        """Rows without a label first, the others in any order."""
        return Ranking(np.where(self.failed, 1.0, 0.0), self.wrong)

    def figures(self, counts: Floats, settings: Settings) -> dict[str, Floats]:
        """The figures of some resamples."""
        random = self.at_random.after(counts, settings.budgets[0])
        return {"accuracy": 1 - counts @ self.wrong / self.wrong.size, "random": random}


@dataclass(frozen=True)
class _Pair:
    given: Doubts
    labeller: _Labeller

    @cached_property
    def draws(self) -> dict[str, Floats]:
        return {}

    @cached_property
    def known(self) -> Bools:
        known: Bools = ~self.labeller.failed & ~np.isnan(self.given.error_probs)
        return known

    @cached_property
    def queue(self) -> Floats:
        """What rows are reviewed by: those without an error probability come first, as `failures="review"` has it."""
        return np.where(self.known, self.given.error_probs, 2.0)

    @cached_property
    def errors(self) -> Bools:
        return self.labeller.wrong[self.known]

    @cached_property
    def few(self) -> int:
        """How many errors or right labels, whichever are rarer."""
        return int(min(self.errors.sum(), (~self.errors).sum()))

    @cached_property
    def _judged(self) -> Ranking:
        return Ranking(self.given.error_probs[self.known], self.errors)

    @cached_property
    def _reviewed(self) -> Ranking:
        return Ranking(self.queue, self.labeller.wrong)

    def after(self, budget: int) -> float:
        """The accuracy after review."""
        return 1 - float(self.labeller.wrong.mean()) + aqg(self.queue, self.labeller.wrong, budget)

    def figures(self, counts: Floats, settings: Settings) -> dict[str, Floats]:
        """The figures of some resamples."""
        made = {f"after {budget}": self._reviewed.after(counts, budget) for budget in settings.budgets}
        return made | {"auroc": self._judged.auroc(counts[:, self.known])} if self.few else made


def _draw(everybody: Sequence[_Labeller | _Pair], rows: int, settings: Settings) -> None:
    """Adds to everybody's `draws` the figures of every resample."""
    parts: list[dict[str, list[Floats]]] = [{} for _ in everybody]
    for counts in resampled(rows, settings.bootstraps, settings.seed):
        for one, kept in zip(everybody, parts, strict=True):
            for name, figures in one.figures(counts, settings).items():
                kept.setdefault(name, []).append(figures)
    for one, kept in zip(everybody, parts, strict=True):
        one.draws.update({name: np.concatenate(figures) for name, figures in kept.items()})


def _best_aurocs(pairs: Sequence[_Pair], confidence: float) -> list[bool]:
    """Of each pair, whether its AUROC cannot be told apart from the best of the same annotator."""
    equal = [False] * len(pairs)
    for name in dict.fromkeys(pair.given.annotator for pair in pairs):
        mine = [i for i, pair in enumerate(pairs) if pair.given.annotator == name and pair.few]
        if not mine:
            continue
        scores = [auroc(pairs[i].given.error_probs[pairs[i].known], pairs[i].errors) for i in mine]
        drawn = np.stack([pairs[i].draws["auroc"] for i in mine], axis=1)
        # One more error for each of two critics, ranked by a coin.
        least = 0.5 / (min(pairs[i].few for i in mine) + 2) ** 2
        gaps = differences(scores, drawn, least=least, confidence=confidence)
        best = int(np.argmax(scores))
        for place, i in enumerate(mine):
            equal[i] = not gaps.apart(best, place)
    return equal


def _annotator_row(
    labeller: _Labeller, between: Differences, best_and_own: tuple[int, int], settings: Settings
) -> AnnotatorRow:
    given, wrong, rows = labeller.given, labeller.wrong, labeller.wrong.size
    right = rows - int(wrong.sum())
    queue = np.where(labeller.failed, 1.0, 0.0)
    return AnnotatorRow(
        name=given.name,
        model=given.model,
        strategy=given.strategy,
        calibration=given.calibration,
        accuracy=Estimate(right / rows, *wilson(right, rows, confidence=settings.confidence)),
        errors=rows - right,
        failed=int(labeller.failed.sum()),
        behind=between.between(*best_and_own),
        tied=not between.apart(*best_and_own),
        at_random=tuple(right / rows + aqg(queue, wrong, budget) for budget in settings.budgets),
        took=given.took,
    )


def _critic_row(
    pair: _Pair, standing: Differences, best_and_own: tuple[int, int], best_auroc: bool, settings: Settings
) -> CriticRow:
    given, labeller, rows, confidence = pair.given, pair.labeller, pair.queue.size, settings.confidence
    doubts, errors = given.error_probs[pair.known], pair.errors
    meant = reliability(doubts, errors) if errors.size else None
    score = _auroc(pair, confidence)
    return CriticRow(
        annotator=given.annotator,
        critic=given.critic,
        model=given.model,
        strategy=given.strategy,
        calibration=given.calibration,
        self_critique=given.self_critique,
        rows=errors.size,
        errors=int(errors.sum()),
        failed=int((~labeller.failed & ~pair.known).sum()),
        auroc=score,
        abs=Estimate(*(2 * bound - 1 for bound in (score.value, score.low, score.high))) if score else None,
        undefined=None if score else _undefined(errors),
        best_auroc=best_auroc,
        ece=meant.expected_calibration_error if meant else None,
        brier=meant.brier if meant else None,
        recall=recall_at(doubts, errors) if errors.any() else None,
        after=tuple(
            score_interval(pair.after(one), pair.draws[f"after {one}"], few=rows, rows=rows, confidence=confidence)
            for one in settings.budgets
        ),
        gain=_gain(pair, settings),
        behind=standing.between(*best_and_own),
        tied=not standing.apart(*best_and_own),
        curve=_curve(pair),
        took=given.took,
    )


def _auroc(pair: _Pair, confidence: float) -> Estimate | None:
    if not pair.few:
        return None
    value = auroc(pair.given.error_probs[pair.known], pair.errors)
    return score_interval(value, pair.draws["auroc"], few=pair.few, rows=pair.errors.size, confidence=confidence)


def _undefined(errors: Bools) -> str:
    if not errors.size:
        return "no row has an error probability"
    return f"{'all' if errors.all() else 'none'} of the {errors.size} labels it judged are wrong"


def _gain(pair: _Pair, settings: Settings) -> Estimate:
    """What the critic adds to reviewing at random."""
    first, labeller = settings.budgets[0], pair.labeller
    random = 1 - float(labeller.wrong.mean()) + aqg(np.where(labeller.failed, 1.0, 0.0), labeller.wrong, first)
    drawn = np.stack([pair.draws[f"after {first}"], labeller.draws["random"]], axis=1)
    least = 1 / labeller.wrong.size**2
    gaps = differences([pair.after(first), random], drawn, least=least, confidence=settings.confidence)
    return gaps.between(0, 1)


def _curve(pair: _Pair) -> tuple[tuple[float, float], ...]:
    budgets, found = error_curve(pair.queue, pair.labeller.wrong)
    rows = pair.queue.size
    kept = np.unique(np.linspace(0, rows, _CURVE_POINTS + 1).round().astype(int))
    after = 1 - (found[-1] - found[kept]) / rows
    return tuple(zip((budgets[kept] / rows).tolist(), after.tolist(), strict=True))
