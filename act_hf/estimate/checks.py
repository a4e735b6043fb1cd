"""What every estimate asks of its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


def scores_and_errors(error_probs: ArrayLike, errors: ArrayLike) -> tuple[Floats, Floats]:
    """Both as float64 of one length, without gaps."""
    wrong = errors_of(errors)
    eps = same_length(error_probs, wrong, "error_probs")
    if np.isnan(eps).any():
        raise ACTError(f"row {np.flatnonzero(np.isnan(eps))[0]} has no error probability")
    return eps, wrong


def errors_of(errors: ArrayLike) -> Floats:
    """0 or 1 for each row."""
    wrong = np.asarray(errors, dtype=np.float64)
    bad = np.flatnonzero(~((wrong == 0) | (wrong == 1)))
    if wrong.ndim != 1 or bad.size:
        what = f"row {bad[0]} is {wrong[bad[0]]}" if wrong.ndim == 1 else f"the shape is {wrong.shape}"
        raise ACTError(f"errors are one True or False a row; {what}")
    return wrong


def same_length(values: ArrayLike, other: Floats, name: str) -> Floats:
    """`values` as float64, one for each row."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != other.shape or array.ndim != 1:
        raise ACTError(f"{name} has shape {array.shape}, the rows {other.shape}; one value a row is needed")
    return array


def check_confidence(confidence: float) -> None:
    """Raises unless it is between 0 and 1."""
    if not 0 < confidence < 1:
        raise ACTError(f"confidence={confidence} is not between 0 and 1, such as 0.95")
