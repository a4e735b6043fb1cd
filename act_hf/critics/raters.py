"""Raters that disagree: how probable it is that one of them is wrong, without knowing the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

DEPENDENCE = 0.8
"""How much of a further voter's evidence is a repetition: see [`panel_error_probs`]. Our choice (docs/log.md)."""

_ITERATIONS, _TOLERANCE = 200, 1e-6
_SMOOTHING, _LEAST, _PRESUMED = 0.2, 10.0, 0.7
_THIRDS = 3


def panel_error_probs(
    labels: ArrayLike,
    votes: ArrayLike,
    n_labels: int,
    *,
    confidences: ArrayLike | None = None,
    shares: ArrayLike | None = None,
    dependence: float = DEPENDENCE,
) -> tuple[Floats, Floats]:
    """
    The probability that each label is wrong, given what other models said. No gold label is needed, and no training.

    The model is that of Dawid and Skene (1979, Applied Statistics 28), fitted by EM: row i has an unknown true label
    z_i, and rater r, the annotator being one of them, says v with the probability P_r(v | z_i), independently of the
    other raters. Then ε̂_i = 1 - P(z_i = label_i | all that was said of row i). What is ours:

    - P_r is smoothed towards a rater who is right in 70 % of the rows, as if it had labelled a fifth of the rows more
      (a Dirichlet prior; at least 10 rows a label).
    - The share of each label is not estimated with the rest, since errors that raters have in common then pull it
      along. Given `shares`, it is those, which is better where the voters lean the same way, and elsewhere about the
      same. Otherwise it is proportional to the square root of the share among the votes: half way, in log-odds, from
      equal shares.
    - Raters are not independent: models share training data and mistakes, and taken at its word the posterior is far
      too sure. The evidence of the R raters of a row enters with the exponent 1 / (1 + (R - 1)·`dependence`), the
      effective number of raters with that correlation over their number (Kish 1965).
    - A rater with confidences has a P_r for each third of them.

    The panel sees only where raters differ. What all get wrong alike it takes to be right, and a majority that errs
    together outvotes the others.

    Args:
        labels (array of N `int`): the annotator's labels, in [0, n_labels).
        votes (array `[N, M]` of `int`): those of the M others; -1 is no vote.
        n_labels (`int`): K, at least 2.
        confidences (array `[N, M]` of `float`, *optional*): how sure each vote is, on any scale; NaN is not known.
        shares (array of K `float`, *optional*): the true share of each label, from a random audit (50 rows are nearly
            as good as all) or from how the rows were collected; positive, summing to 1.
        dependence (`float`, *optional*, defaults to 0.8): in [0, 1]; 0 takes the raters to be independent, 1 takes
            all of them to be worth one.

    Returns:
        `tuple`: ε̂, an array of N `float` in [0, 1]; and the accuracy that the fit ascribes to each rater, an array of
        1 + M `float` in [0, 1] of which the first is the annotator's, NaN for one who never voted.

    Raises:
        ACTError: for arrays that do not fit each other, or a label, share or dependence out of range.
    """
    said = _said(labels, votes, n_labels)
    if not 0 <= dependence <= 1:
        raise ACTError(f"dependence={dependence} is not from 0 to 1")
    evidence = _Evidence.of(said, _levels(said, confidences), n_labels)
    shown = evidence.vote_shares()
    log_shares = np.log(_checked_shares(shares, n_labels)) if shares is not None else _presumed_shares(shown)
    truth = _fitted(evidence, shown, log_shares, dependence)
    rows = np.arange(len(said))
    error_probs = np.clip(1 - truth[rows, said[:, 0]], 0.0, 1.0)
    return error_probs, _accuracies(said, truth)


@dataclass(frozen=True)
class _Evidence:
    """
    Who said what: `votes` is a sparse matrix `[N, V·K]` with a 1 where voice v said label k of row n. A voice is a
    rater, or a rater at one of its levels of confidence.
    """

    votes: Any
    labels: int

    @classmethod
    def of(cls, said: Ints, levels: Ints, labels: int) -> _Evidence:
        from scipy.sparse import csr_array

        rows, raters = np.nonzero(said >= 0)
        voices = np.unique(raters * (_THIRDS + 1) + levels[rows, raters], return_inverse=True)[1]
        columns = voices * labels + said[rows, raters]
        ones = np.ones(rows.size)
        return cls(csr_array((ones, (rows, columns)), shape=(len(said), (int(voices.max()) + 1) * labels)), labels)

    def vote_shares(self) -> Floats:
        """`[N, K]`: the share of each label among what was said of a row."""
        counts = self.votes @ np.tile(np.eye(self.labels), (self.votes.shape[1] // self.labels, 1))
        shares: Floats = counts / counts.sum(axis=1, keepdims=True)
        return shares

    def log_confusions(self, truth: Floats) -> Floats:
        """`[V·K, K]`: log P_v(said | true), given the probability `[N, K]` of each true label."""
        counts = (self.votes.T @ truth).reshape(-1, self.labels, self.labels)
        presumed = np.full((self.labels, self.labels), (1 - _PRESUMED) / (self.labels - 1))
        np.fill_diagonal(presumed, _PRESUMED)
        rows = np.maximum(_LEAST, _SMOOTHING * counts.sum(axis=(1, 2)) / self.labels)
        smoothed = counts + rows[:, None, None] * presumed
        logs: Floats = np.log(smoothed / smoothed.sum(axis=1, keepdims=True))
        return logs.reshape(-1, self.labels)


def _fitted(evidence: _Evidence, start: Floats, log_shares: Floats, dependence: float) -> Floats:
    """`[N, K]`: the probability of each true label."""
    truth = start
    for _ in range(_ITERATIONS):
        before, truth = truth, _softmax(log_shares + evidence.votes @ evidence.log_confusions(truth))
        if np.abs(truth - before).max() < _TOLERANCE:
            break
    raters = evidence.votes.sum(axis=1)
    exponents = 1 / (1 + (raters - 1) * dependence)
    return _softmax(log_shares + exponents[:, None] * (evidence.votes @ evidence.log_confusions(truth)))


def _softmax(logits: Floats) -> Floats:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs: Floats = odds / odds.sum(axis=1, keepdims=True)
    return probs


def _presumed_shares(vote_shares: Floats) -> Floats:
    """The logarithm of shares that are half way, in log-odds, from equal ones to those among the votes."""
    rows, labels = vote_shares.shape
    logs: Floats = np.log((vote_shares.sum(axis=0) + 1) / (rows + labels)) / 2
    return logs - float(np.logaddexp.reduce(logs))


def _accuracies(said: Ints, truth: Floats) -> Floats:
    agreed = np.take_along_axis(truth, np.maximum(said, 0), axis=1) * (said >= 0)
    voted = (said >= 0).sum(axis=0)
    return np.where(voted > 0, agreed.sum(axis=0) / np.maximum(voted, 1), np.nan)


def _said(labels: ArrayLike, votes: ArrayLike, n_labels: int) -> Ints:
    """`[N, 1 + M]`: the label and the votes, checked."""
    own, others = np.asarray(labels), np.asarray(votes)
    if own.ndim != 1 or others.ndim != 2 or len(own) != len(others) or len(own) == 0:
        raise ACTError(f"a panel needs N labels and [N, M] votes, not {own.shape} and {others.shape}")
    if n_labels < 2:
        raise ACTError(f"a panel needs at least two labels, not {n_labels}")
    said = np.column_stack([own, others]).astype(np.int64)
    if said[:, 0].min() < 0 or said.min() < -1 or said.max() >= n_labels:
        raise ACTError(f"labels are from 0 to {n_labels - 1}, and -1 is no vote; there are {np.unique(said).tolist()}")
    return said


def _levels(said: Ints, confidences: ArrayLike | None) -> Ints:
    """`[N, 1 + M]`: the third of its rater's confidences that a vote is in, from 0; 3 where it has none."""
    from scipy.stats import rankdata

    levels = np.full(said.shape, _THIRDS)
    if confidences is None:
        return levels
    sure = np.asarray(confidences, dtype=np.float64)
    if sure.shape != said[:, 1:].shape:
        raise ACTError(f"confidences are {sure.shape}, but the votes are {said[:, 1:].shape}")
    for rater in range(sure.shape[1]):
        known = np.flatnonzero((said[:, rater + 1] >= 0) & ~np.isnan(sure[:, rater]))
        ranks = (rankdata(sure[known, rater]) - 0.5) / max(1, known.size)
        levels[known, rater + 1] = np.minimum(_THIRDS * ranks, _THIRDS - 1)
    return levels


def _checked_shares(shares: ArrayLike, n_labels: int) -> Floats:
    values = np.asarray(shares, dtype=np.float64)
    if values.shape != (n_labels,) or not (values > 0).all() or not np.isclose(values.sum(), 1, atol=1e-3):
        raise ACTError(f"shares are {n_labels} positive numbers that sum to 1, not {np.round(values, 4).tolist()}")
    return values
