"""Several signals of error joined into one, and one repaired, without knowing any right label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns
from act_hf.critics.critic import claimed_task
from act_hf.critics.strategies import STAGE, Verdict
from act_hf.errors import ACTError
from act_hf.records import add_record


if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset
    from numpy.typing import ArrayLike, NDArray

    from act_hf.task import Task

    Floats = NDArray[np.float64]

CONFIDENCE = "confidence"
"""The name of the annotator's own signal: 1 - `act_label_probs` of its label."""

_SURE = 1e-3
"""A mean of log-odds must not hang on how many nines a model gave: they count as if no surer than this."""


def centred(error_probs: ArrayLike, labels: ArrayLike, n_labels: int, *, strength: float = 10.0) -> Floats:
    """
    Error probabilities without the critic's preference for some labels: the mean log-odds of each label are moved to
    the mean of all.

    For ε̂ in row i with label k, logit ε̂ᵢ' = logit ε̂ᵢ - (mₖ - m)·nₖ / (nₖ + strength), where m is the mean log-odds of
    all rows and mₖ that of the nₖ rows labelled k. The order of the rows of one label does not change.

    It is batch calibration (Zhou et al. 2023, arXiv 2309.17249) carried over from labels to their error probabilities;
    that, the shrinkage for rare labels, and log-odds counted in the means as no further out than those of 0.001 and
    0.999, are ours. It presumes that the labels are about equally often wrong: where one really is wrong more often,
    that is taken out too.

    Args:
        error_probs (array of N `float` in [0, 1]): ε̂; NaN where there is none.
        labels (array of N `int`): the machine labels, in [0, n_labels); -1 where there is none.
        n_labels (`int`): how many labels there are.
        strength (`float`, *optional*, defaults to 10): rows of a label at which half of its preference is taken out.

    Returns:
        array of N `float` in [0, 1]; NaN where it was NaN.

    Raises:
        ACTError: for arrays that do not fit each other, or a value out of range.
    """
    eps, chosen = _probabilities(error_probs), np.asarray(labels)
    if chosen.shape != eps.shape or (chosen.size and not -1 <= chosen.min() <= chosen.max() < n_labels):
        raise ACTError(f"centring {eps.size} error probabilities needs as many labels, from 0 to {n_labels - 1} or -1")
    if strength < 0:
        raise ACTError(f"strength={strength} is negative")
    known = ~np.isnan(eps) & (chosen >= 0)
    log_odds = _logit(np.clip(eps[known], _SURE, 1 - _SURE))
    rows = np.bincount(chosen[known], minlength=n_labels)
    sums = np.bincount(chosen[known], weights=log_odds, minlength=n_labels)
    shift = (sums - rows * log_odds.mean()) / np.maximum(rows + strength, 1e-12) if rows.any() else np.zeros(n_labels)
    moved = eps.copy()
    moved[known] = _expit(_logit(eps[known]) - shift[chosen[known]])
    return moved


def ranked(error_probs: ArrayLike) -> Floats:
    """
    Error probabilities of which only the order is kept: evenly spaced in (0, 1), equal ones sharing their mid-rank.

    Args:
        error_probs (array of N `float`): any score that is higher for more suspect rows; NaN where there is none.

    Returns:
        array of N `float`: (mid-rank - 1/2) / n for the n rows that have a score; NaN for the others.
    """
    from scipy.stats import rankdata

    scores = np.asarray(error_probs, dtype=np.float64)
    known = ~np.isnan(scores)
    quantiles = np.full(scores.shape, np.nan)
    quantiles[known] = (rankdata(scores[known]) - 0.5) / max(1, known.sum())
    return quantiles


def fused(signals: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """
    Several signals of error as one.

    Rows are ordered by the weighted sum of the signals' normal scores, Φ⁻¹ of their mid-rank quantiles (van der
    Waerden scores), over the root of the sum of the squared weights of the signals that the row has (Stouffer's method
    of joining z values). So only the order that each signal brings matters, one that is over-confident or on another
    scale weighs no more, and a row that lacks some signals is neither favoured nor hidden.

    The values are the weighted mean of the signals' own values at that quantile (quantile averaging, Vincent 1912), so
    the scale is an average of the scales. One signal alone comes back as it was. Several that err independently know
    more together than that scale says. That it is this join and not another is our choice, by measuring several.

    Args:
        signals (array `[S, N]` of `float` in [0, 1]): S error probabilities for each row; NaN where there is none.
        weights (array of S `float`, *optional*): of each signal; not negative, one positive. Equal by default.

    Returns:
        array of N `float` in [0, 1]; NaN for a row that has no signal.

    Raises:
        ACTError: for arrays that do not fit each other, a value that is no probability, or bad weights.
    """
    values = _probabilities(signals)
    if values.ndim != 2 or not values.size:
        raise ACTError(f"signals are an array [signals, rows], not {values.shape}")
    heavy = _checked_weights(weights, len(values))
    values, heavy = values[heavy > 0], heavy[heavy > 0]
    quantiles = np.stack([ranked(signal) for signal in values])
    place = ranked(_joint_scores(quantiles, heavy))
    joined: Floats = np.clip(_values_at(place, values, heavy), 0.0, 1.0)
    return joined


def _values_at(place: Floats, signals: Floats, weights: Floats) -> Floats:
    """The weighted mean of the quantile functions of the signals `[S, N]`, at the places `[N]` in (0, 1)."""
    known = [signal[~np.isnan(signal)] for signal in signals]
    means = np.zeros(place.shape)  # NaN where the place is
    total = sum(weight for values, weight in zip(known, weights, strict=True) if values.size)
    for values, weight in zip(known, weights, strict=True):
        if values.size:
            at = (np.arange(values.size) + 0.5) / values.size
            means += weight / total * np.interp(place, at, np.sort(values))
    return np.where(np.isnan(place), np.nan, means)


def _joint_scores(quantiles: Floats, weights: Floats) -> Floats:
    """What the rows are ordered by, from the quantiles `[S, N]` of their signals: Σ w z / √Σ w² over those it has."""
    from scipy.special import ndtri

    known = ~np.isnan(quantiles)
    scores = np.where(known, ndtri(np.where(known, quantiles, 0.5)), 0.0)
    with np.errstate(invalid="ignore"):  # a row without any signal
        joint: Floats = (weights @ scores) / np.sqrt(weights**2 @ known)
    # Sums in another order differ in the last digits, and rows that tie must go on to do so.
    return np.round(joint, 9)


def fuse(
    dataset: Dataset,
    signals: Sequence[str],
    *,
    weights: Sequence[float] | None = None,
    centre: bool = False,
    task: Task | None = None,
    suffix: str = "",
) -> Dataset:
    """
    Joins the error probabilities of several critics into one; see [`fused`].

    Give every critic a suffix of its own, and this one none: only `act_error_prob` without a suffix is sampled by.
    Join critics that are about equally good: one that is much better does better alone, and [`compare`] tells.

    Args:
        dataset (`Dataset`): has `act_label` and the signals.
        signals (sequence of `str`): critics by their suffix, other columns of error probabilities by their name, and
            `"confidence"` for 1 - the annotator's probability of its label.
        weights (sequence of `float`, *optional*): of each signal; equal by default.
        centre (`bool`, *optional*, defaults to `False`): take each signal's preference for some labels out first; see
            [`centred`].
        task ([`Task`], *optional*): defaults to the one the data set was annotated for.
        suffix (`str`, *optional*): as in [`criticize`].

    Returns:
        `Dataset`: the same rows with `act_error_prob` in [0, 1], `act_critique`, which says what each signal says, and
        `act_failure` for a labelled row that has no signal.

    Raises:
        ACTError: for a data set that was not annotated, a missing column, or a signal that would be overwritten.
    """
    task = claimed_task(dataset, task)
    names = [_column(dataset, signal) for signal in signals]
    made = columns.ERROR_PROB + suffix
    if not names or made in names or len(set(names)) < len(names):
        raise ACTError(
            f"fuse: the signals {list(signals)} must be different ones, and none of them {made!r}, which is made of "
            "them; give each critic a suffix of its own"
        )
    plain = dataset.with_format(None)
    labels = np.array([-1 if label is None else label for label in plain[columns.LABEL][:]])
    values = np.stack([_read(plain, name, labels) for name in names])
    silent = [signal for signal, found in zip(signals, values, strict=True) if np.isnan(found).all()]
    if silent:
        raise ACTError(f"fuse: the signal {silent[0]!r} has no value in any row; leave it out")
    if centre:
        values = np.stack([centred(signal, labels, len(task.labels)) for signal in values])
    joined = fused(values, weights)
    rows = zip(labels.tolist(), joined.tolist(), values.T.tolist(), strict=True)
    verdicts = [_verdict(label, value, dict(zip(signals, said, strict=True))) for label, value, said in rows]
    return add_record(
        criticized := add_verdicts(dataset, task, verdicts, suffix=suffix),
        "criticize",
        model=" + ".join(names),
        strategy="fused",
        suffix=suffix,
        signals=names,
        weights=None if weights is None else list(weights),
        centre=centre,
        rows=len(criticized),
        failed=columns.count_failed(criticized, columns.FAILURE + suffix),
    )


def add_verdicts(dataset: Dataset, task: Task, verdicts: Sequence[Verdict], *, suffix: str = "") -> Dataset:
    """
    `dataset` with a [`Verdict`] a row in the columns of a critic.

    What another stage failed on stays in `act_failure`; what an earlier critic did is replaced.

    Args:
        dataset (`Dataset`): N rows.
        task ([`Task`]): what was labelled.
        verdicts (sequence of N [`Verdict`]s): empty ones for rows without a label.
        suffix (`str`, *optional*): added to the names of the columns.
    """
    from datasets import Features

    failure = columns.FAILURE + suffix
    plain = dataset.with_format(None)
    earlier = plain[failure][:] if failure in plain.column_names else [None] * len(plain)
    values: dict[str, list[Any]] = {
        columns.ERROR_PROB: [verdict.error_prob for verdict in verdicts],
        columns.CRITIQUE: [verdict.critique for verdict in verdicts],
        columns.FAILURE: [
            verdict.failure if before is None or before.startswith(STAGE) else before
            for before, verdict in zip(earlier, verdicts, strict=True)
        ],
    }
    types = columns.column_features(task, values)
    features = Features({name + suffix: types[name] for name in values})
    if not suffix:
        dataset = columns.forget_raw(dataset)
    return columns.add_columns(dataset, {name + suffix: values[name] for name in values}, features)


def _verdict(label: int, error_prob: float, said: dict[str, float]) -> Verdict:
    if label < 0:
        return Verdict()
    if np.isnan(error_prob):
        return Verdict(failure=f"{STAGE} none of the signals {', '.join(said)} has a value for this row")
    heard = (
        f"{value:.0%} by {name.strip('_') or 'the critic'}" for name, value in said.items() if not np.isnan(value)
    )
    return Verdict(error_prob, f"wrong: {', '.join(heard)}")


def _column(dataset: Dataset, signal: str) -> str:
    """The column that a signal's name means."""
    name = columns.LABEL_PROBS if signal == CONFIDENCE else columns.ERROR_PROB + signal
    name = name if name in dataset.column_names else signal
    columns.require(dataset, [name], stage="fuse")
    return name


def _read(dataset: Dataset, name: str, labels: NDArray[np.int64]) -> Floats:
    """A signal as an array, NaN where it has no value or there is no label."""
    values = dataset[name][:]
    if name == columns.LABEL_PROBS:
        pairs = zip(values, labels.tolist(), strict=True)
        values = [None if probs is None or label < 0 else max(0.0, 1 - probs[label]) for probs, label in pairs]
    return np.where(labels >= 0, np.array(values, dtype=np.float64), np.nan)


def _probabilities(values: ArrayLike) -> Floats:
    eps = np.array(values, dtype=np.float64)
    outside = eps[~((eps >= 0) & (eps <= 1)) & ~np.isnan(eps)]
    if outside.size:
        raise ACTError(f"error probabilities are from 0 to 1, not {outside[0]}")
    return eps


def _checked_weights(weights: ArrayLike | None, signals: int) -> Floats:
    if weights is None:
        return np.ones(signals)
    heavy = np.asarray(weights, dtype=np.float64)
    if heavy.shape != (signals,) or not (np.isfinite(heavy).all() and (heavy >= 0).all() and heavy.any()):
        raise ACTError(f"weights are {signals} numbers, none negative and one positive, not {heavy.tolist()}")
    return heavy


def _logit(eps: Floats) -> Floats:
    with np.errstate(divide="ignore"):  # a probability of 0 or 1 stays one
        return np.asarray(np.log(eps) - np.log1p(-eps))


def _expit(log_odds: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-log_odds)))
