"""Several people's answers for a row become one label, or none where they are tied."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAJORITY, DAWID_SKENE = "majority", "dawid_skene"
METHODS = (MAJORITY, DAWID_SKENE)


def resolve_answers(answers: Sequence[Mapping[str, str]], method: str = MAJORITY) -> list[str | None]:
    """
    One label for each row.

    `majority` takes the label that most people gave. `dawid_skene` weighs people by how often they are right, which is
    estimated from all rows together (the one-coin form of Dawid and Skene 1979, as in Zhang et al. 2014: one error
    rate a person; crowd-kit fits it). It never takes a label that nobody gave for the row.

    Args:
        answers (sequence of N mappings of annotator to label): everybody's answers for each row.
        method (`str`, *optional*, defaults to `"majority"`): one of `METHODS`.

    Returns:
        `list` of N `str` or `None`: `None` for a tie, or no answer.

    Raises:
        ACTError: for another method, or where `dawid_skene` needs a package that is not installed.
    """
    if method not in METHODS:
        raise ACTError(f"resolve={method!r}: answers are resolved by {' or '.join(METHODS)}")
    disputed = any(len(set(given.values())) > 1 for given in answers)
    if method == MAJORITY or not disputed:
        return [majority(given.values()) for given in answers]
    return _by_reliability(answers)


def majority(labels: Iterable[str]) -> str | None:
    """The label given most often, or `None` for a tie or no answer."""
    return _highest(Counter(labels))


def _highest(score: Mapping[str, float]) -> str | None:
    """The label with the highest score, unless another one has as much."""
    ranked = sorted(score.items(), key=lambda item: -item[1])
    if not ranked or (len(ranked) > 1 and ranked[1][1] >= ranked[0][1] - _SAME):
        return None
    return ranked[0][0]


_SAME = 1e-6
"""Probabilities that differ by less are a tie: the fit is not more exact than that."""


def _by_reliability(answers: Sequence[Mapping[str, str]]) -> list[str | None]:
    try:
        import pandas
        from crowdkit.aggregation import OneCoinDawidSkene
    except ModuleNotFoundError as error:
        raise ACTError("resolve='dawid_skene' needs crowd-kit: pip install crowd-kit") from error

    table = pandas.DataFrame(
        [(row, who, label) for row, given in enumerate(answers) for who, label in given.items()],
        columns=["task", "worker", "label"],
    )
    probs = OneCoinDawidSkene(n_iter=100).fit_predict_proba(table)
    return [
        _highest({label: float(probs.at[row, label]) for label in set(given.values())}) if given else None
        for row, given in enumerate(answers)
    ]
