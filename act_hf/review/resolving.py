"""Several people's answers for a row become one label, or none where they are tied."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAJORITY, DAWID_SKENE = "majority", "dawid_skene"
METHODS = (MAJORITY, DAWID_SKENE)

_SAME = 1e-6
"""Scores that differ by less are a tie: the fit is not more exact than that."""


def resolve_answers(answers: Sequence[Mapping[str, str]], labels: int, method: str = MAJORITY) -> list[str | None]:
    """
    One label for each row.

    `majority` takes the label that most people gave. `dawid_skene` is the one-coin model of Dawid and Skene (1979):
    each person is wrong with a probability r of their own, with each wrong label as often, so that the most probable
    label is the one with the largest sum of log((1 − r)(K − 1) / r) over those who gave it. The r come from the rows
    that several people answered (see [`act_hf.estimate.people`]). How frequent a label is has no say, and people who
    cannot be told apart count the same: two who disagree stay tied. (Fitted by expectation maximisation with the
    labels' frequencies, as libraries do it, the model gives such ties to the more frequent label.)

    Args:
        answers (sequence of N mappings of annotator to label): everybody's answers for each row.
        labels (`int`): K, at least 2.
        method (`str`, *optional*, defaults to `"majority"`): one of `METHODS`.

    Returns:
        `list` of N `str` or `None`: a label that somebody gave for the row; `None` for a tie, or no answer.

    Raises:
        ACTError: for another method.
    """
    if method not in METHODS:
        raise ACTError(f"resolve={method!r}: answers are resolved by {' or '.join(METHODS)}")
    disputed = any(len(set(given.values())) > 1 for given in answers)
    if method == MAJORITY or not disputed:
        return [majority(given.values()) for given in answers]
    from act_hf.estimate.agreement import error_rates

    weights = {who: _weight(rate, labels) for who, rate in error_rates(answers, labels).items()}
    return [_weighed(given, weights) for given in answers]


def majority(labels: Iterable[str]) -> str | None:
    """The label given most often, or `None` for a tie or no answer."""
    return _highest(Counter(labels))


def _weighed(given: Mapping[str, str], weights: Mapping[str, float]) -> str | None:
    score: dict[str, float] = {}
    for who, label in given.items():
        score[label] = score.get(label, 0.0) + weights.get(who, 1.0)
    return _highest(score)


def _weight(rate: float, labels: int) -> float:
    """What a vote counts. Nobody is never wrong: a few hundred rows do not tell."""
    rate = max(rate, 1e-3)
    return math.log((1 - rate) * (labels - 1) / rate)


def _highest(score: Mapping[str, float]) -> str | None:
    """The label with the highest score, unless another one has as much."""
    ranked = sorted(score.items(), key=lambda item: -item[1])
    if not ranked or (len(ranked) > 1 and ranked[1][1] >= ranked[0][1] - _SAME):
        return None
    return ranked[0][0]
