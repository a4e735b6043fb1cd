"""What an error model may look at: every critic's word, the annotator's confidence, the label, and the row itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.records import recorded_task, stage_records


if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_EDGE = 1e-4
"""Probabilities of 0 and 1 have no log-odds; these are what stands for them."""


def error_features(dataset: Dataset, main: str, extra: Sequence[str], *, words: bool) -> Any:
    """
    Args:
        dataset (`Dataset`): N criticized rows.
        main (`str`): the column with the main critic's error probability as it gave it.
        extra (sequence of `str`): further columns with a number, or a list of numbers, in every row.
        words (`bool`): whether the words of the task's texts are among them.

    Returns:
        A sparse matrix `[N, D]`. Dense columns have mean 0 and standard deviation 1; a missing value is the mean.

    Raises:
        ACTError: for a column of something else.
    """
    from scipy.sparse import csr_array, hstack

    plain = dataset.with_format(None)
    dense = [*_critics(plain, main), *_confidence(plain), *(_numbers(plain, name) for name in extra)]
    parts = [csr_array(_standard(np.column_stack(dense))), csr_array(_one_hot(plain[columns.LABEL][:]))]
    texts = _texts(plain) if words else None
    if texts is not None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(min_df=2, max_features=20_000, sublinear_tf=True)
        parts += [csr_array(vectorizer.fit_transform(texts))] if any(texts) else []
    return hstack(parts).tocsr()


def log_odds(probs: Floats) -> Floats:
    """The log-odds of N probabilities; NaN stays."""
    clipped = np.clip(probs, _EDGE, 1 - _EDGE)
    odds: Floats = np.log(clipped / (1 - clipped))
    return odds


def _critics(dataset: Dataset, main: str) -> list[Floats]:
    """The log-odds of every critic's error probability. The calibrated one is made of them."""
    names = [name for name in dataset.column_names if name.startswith(columns.ERROR_PROB)]
    left_out = {columns.ERROR_PROB, columns.RAW_ERROR_PROB} - {main}
    return [log_odds(_numbers(dataset, name)) for name in names if name not in left_out]


def _confidence(dataset: Dataset) -> list[Floats]:
    if columns.LABEL_PROBS not in dataset.column_names:
        return []
    probs = dataset[columns.LABEL_PROBS][:]
    best = np.array([max(row) if row else np.nan for row in probs], dtype=np.float64)
    return [] if np.isnan(best).all() else [log_odds(best)]


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
    with np.errstate(invalid="ignore"):
        known = ~np.isnan(values)
        mean = np.where(known, values, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
        centred = np.where(known, values - mean, 0.0)
        spread = np.sqrt((centred**2).sum(axis=0) / np.maximum(1, known.sum(axis=0)))
    standard: Floats = centred / np.where(spread > 0, spread, 1)
    return standard


def _one_hot(labels: list[int | None]) -> Floats:
    hot = np.zeros((len(labels), max((label for label in labels if label is not None), default=0) + 1))
    for row, label in enumerate(labels):
        if label is not None:
            hot[row, label] = 1
    return hot


def _texts(dataset: Dataset) -> list[str] | None:
    if not stage_records(dataset, "annotate"):
        return None
    task = recorded_task(dataset)
    shown = [name for name in (task.text, task.question) if name and name in dataset.column_names]
    if not shown:
        return None
    return [" ".join(str(part or "") for part in parts) for parts in zip(*(dataset[n][:] for n in shown), strict=True)]
