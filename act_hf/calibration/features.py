"""What an error model may look at: every critic's word, the annotator's confidence, the label, and the row itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns
from act_hf.critics.panel import VOTE
from act_hf.errors import ACTError
from act_hf.models.recordings import label_ids
from act_hf.records import recorded_task, stage_records


if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TRUST, HINT = 5.0, 2.5
"""How far the critic's column, and the imitator's, are spread beside the others: the further, the less the penalty
that keeps an error model simple holds them down. Ours, by measuring (docs/statistics.md)."""

FOLDS = 5

_EDGE = 1e-4
"""Probabilities of 0 and 1 have no log-odds; these are what stands for them."""


def error_features(dataset: Dataset, main: str, extra: Sequence[str], *, words: bool) -> tuple[Any, int]:
    """
    What is known of each row, the signals of doubt first: each is higher where the label is more likely to be wrong.

    Args:
        dataset (`Dataset`): N criticized rows.
        main (`str`): the column with the main critic's error probability as it gave it.
        extra (sequence of `str`): further columns with a number, or a list of numbers, in every row.
        words (`bool`): whether the words of the task's texts are among them.

    Returns:
        `tuple`: a sparse matrix `[N, D]`, and how many of its first columns are signals of doubt. The first column is
        the critic's log-odds, with mean 0 and the standard deviation `TRUST`. Then, where there is something to learn
        from (words or `extra`), the log-odds of [`imitator_doubt`], with the standard deviation `HINT`; the other
        critics, the annotator's confidence, and who of a panel disagrees. Every signal but these two has mean 0 and
        the standard deviation 1, or 1/√D where it has D numbers; a missing value is the mean. A row's words have norm
        1.

    Raises:
        ACTError: for a column of something else.
    """
    from scipy.sparse import csr_array, hstack

    plain = dataset.with_format(None)
    content = [csr_array(_standard(_numbers(plain, name))) for name in extra] + (_words(plain) if words else [])
    labels = [-1 if label is None else label for label in plain[columns.LABEL][:]]
    doubts = [TRUST * _standard(log_odds(_numbers(plain, main)))]
    if content:
        doubt = imitator_doubt(hstack(content).tocsr(), np.array(labels))
        doubts.append(HINT * _standard(log_odds(doubt)))
    doubts += [_standard(one) for one in (*_critics(plain, main), *_confidence(plain), *_dissent(plain))]
    dense = csr_array(np.hstack([*doubts, _one_hot(labels)]))
    return hstack([dense, *content]).tocsr(), len(doubts)


def imitator_doubt(content: Any, labels: NDArray[np.int64]) -> Floats:
    """
    What a classifier that has learnt the machine labels of other rows says against the label of each row. Its label is
    no better than those it learnt from, but where it disagrees, a label is more often wrong (confident learning,
    Northcutt et al. 2021).

    Args:
        content (sparse matrix `[N, D]`): of what the rows hold.
        labels (array of N `int`): the machine labels; -1 where there is none.

    Returns:
        `np.ndarray` of N `float`: 1 - its probability of the label, in [0, 1]; NaN where there is no label.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold

    doubt, known = np.full(labels.size, np.nan), np.flatnonzero(labels >= 0)
    if known.size < FOLDS:
        return doubt
    for kept, held in KFold(FOLDS, shuffle=True, random_state=0).split(known):
        learnt, asked = known[kept], known[held]
        if np.unique(labels[learnt]).size < 2:
            continue
        model = LogisticRegression(max_iter=1000).fit(content[learnt], labels[learnt])
        said = np.zeros((asked.size, labels.max() + 1))
        said[:, model.classes_] = model.predict_proba(content[asked])
        doubt[asked] = 1 - said[np.arange(asked.size), labels[asked]]
    return doubt


def log_odds(probs: Floats) -> Floats:
    """The log-odds of N probabilities; NaN stays."""
    clipped = np.clip(probs, _EDGE, 1 - _EDGE)
    odds: Floats = np.log(clipped / (1 - clipped))
    return odds


def _critics(dataset: Dataset, main: str) -> list[Floats]:
    """The log-odds of the other critics' error probabilities."""
    names = [name for name in dataset.column_names if name.startswith(columns.ERROR_PROB)]
    left_out = {columns.ERROR_PROB, columns.RAW_ERROR_PROB, main}
    return [log_odds(_numbers(dataset, name)) for name in names if name not in left_out]


def _confidence(dataset: Dataset) -> list[Floats]:
    """The log-odds against the annotator's own label."""
    if columns.LABEL_PROBS not in dataset.column_names:
        return []
    probs = dataset[columns.LABEL_PROBS][:]
    best = np.array([max(row) if row else np.nan for row in probs], dtype=np.float64)
    return [] if np.isnan(best).all() else [-log_odds(best)]


def _dissent(dataset: Dataset) -> list[Floats]:
    """Who of a panel gave another label: 1 or 0."""
    ballots = [name for name in dataset.column_names if name.startswith(VOTE)]
    if not ballots:
        return []
    task = recorded_task(dataset)
    labels, *said = (np.array(label_ids(dataset, name, task), dtype=np.float64) for name in (columns.LABEL, *ballots))
    return [np.where(np.isnan(votes), np.nan, votes != labels) for votes in said]


def _numbers(dataset: Dataset, column: str) -> Floats:
    """A column of numbers, or of lists of as many numbers, with NaN where there is none."""
    values = dataset[column][:]
    width = next((len(value) for value in values if isinstance(value, list)), None)
    filled = [[np.nan] * width if value is None and width else value for value in values]
    try:
        return np.array(filled, dtype=np.float64)
    except (TypeError, ValueError):
        raise ACTError(
            f"calibrate: the column {column!r} ({dataset.features[column]}) is neither a number in every row nor a "
            "list of as many numbers"
        ) from None


def _standard(values: Floats) -> Floats:
    """N numbers, or N rows of D, as `[N, 1]` or `[N, D]`: as far spread whatever D is."""
    values = values.reshape(len(values), -1)
    with np.errstate(invalid="ignore"):
        known = ~np.isnan(values)
        mean = np.where(known, values, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
        centred = np.where(known, values - mean, 0.0)
        spread = np.sqrt((centred**2).sum(axis=0) / np.maximum(1, known.sum(axis=0)))
    standard: Floats = centred / np.where(spread > 0, spread, 1) / np.sqrt(values.shape[1])
    return standard


def _one_hot(labels: list[int]) -> Floats:
    """A row without a label, -1, has no 1."""
    hot: Floats = np.eye(max(labels) + 2)[labels][:, :-1]
    return hot


def _words(dataset: Dataset) -> list[Any]:
    """The weighted words of each row as a sparse matrix; none where the task shows no text."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = _texts(dataset)
    if texts is None or not any(text.strip() for text in texts):
        return []
    try:
        return [TfidfVectorizer(min_df=2, max_features=20_000, sublinear_tf=True).fit_transform(texts)]
    except ValueError:  # no word is in two rows
        return []


def _texts(dataset: Dataset) -> list[str] | None:
    if not stage_records(dataset, "annotate"):
        return None
    task = recorded_task(dataset)
    shown = [name for name in (task.text, task.question) if name and name in dataset.column_names]
    if not shown:
        return None
    return [" ".join(str(part or "") for part in parts) for parts in zip(*(dataset[n][:] for n in shown), strict=True)]
