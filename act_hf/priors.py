"""A model's preference for each label whatever the row, and how to take it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from act_hf import columns, prompts
from act_hf.errors import ACTError
from act_hf.models.base import require_ability
from act_hf.task import problem_of


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from datasets import Dataset
    from numpy.typing import NDArray

    from act_hf.annotators import Annotator

CALIBRATIONS = ("none", "batch", "contextual")


def fit_prior(
    annotator: Annotator, dataset: Dataset, *, method: str = "batch", rows: int = 1000, batch_size: int = 64
) -> tuple[float, ...]:
    """
    The model's preference for each label whatever the row, to be given as `prior=`.

    - `"batch"`: the mean log-probability of each label over the rows (batch calibration, Zhou et al. 2023, arXiv
      2309.17249; the mean over log-probabilities, and over up to `rows` rows instead of one batch, is our choice).
      It presumes that no label is very rare: a label that is gets chosen too often.
    - `"contextual"`: the log of the mean probability of each label on rows that say nothing ("N/A", "[MASK]", "";
      contextual calibration, Zhao et al. 2021, arXiv 2102.09690).

    Args:
        annotator ([`Annotator`]): its model must be able to choose. Its answers are stored, so nothing is asked twice.
        dataset (`Dataset`): the rows to label.
        method (`str`): `"batch"` or `"contextual"`.
        rows (`int`, *optional*, defaults to 1000): rows used by `"batch"`, evenly spaced.
        batch_size (`int`, *optional*, defaults to 64): rows handed to the model at once.

    Returns:
        tuple of `float`: a log-probability a label.

    Raises:
        ACTError: for an unknown method, `"contextual"` for images, a model that cannot choose, or no row with content
            whose log-probabilities are all finite.
    """
    if method not in CALIBRATIONS[1:]:
        raise ACTError(f"calibration {method!r} is none of {', '.join(CALIBRATIONS)}")
    require_ability(annotator.model, "choose", purpose=f"calibration={method!r}")
    if method == "contextual" and annotator.task.image:
        raise ACTError("calibration='contextual' has no image that says nothing; use 'batch'")
    annotator.usage.calibrating = True
    try:
        if method == "contextual":
            asked = annotator.raw_logprobs(prompts.content_free(annotator.task))[0]
            logprobs = normalised_logprobs(_finite(asked, method))
            return tuple((_logsumexp(logprobs.T)[:, 0] - np.log(len(logprobs))).tolist())
        asked = np.concatenate(list(_asked_in_batches(annotator, dataset, rows, batch_size)))
        return tuple(normalised_logprobs(_finite(asked, method)).mean(axis=0).tolist())
    finally:
        annotator.usage.calibrating = False


def _asked_in_batches(
    annotator: Annotator, dataset: Dataset, rows: int, batch_size: int
) -> Iterator[NDArray[np.float64]]:
    """Asks for evenly spaced rows: a data set can be sorted, and its first ones like no others."""
    from datasets.utils import are_progress_bars_disabled
    from tqdm.auto import tqdm

    plain = columns.as_stored(dataset)
    kept = np.linspace(0, len(dataset) - 1, min(rows, len(dataset))).astype(int).tolist()
    with tqdm(total=len(kept), desc="calibrate", unit="rows", disable=are_progress_bars_disabled()) as bar:
        for start in range(0, len(kept), batch_size):
            batch = annotator.task.rows(plain[kept[start : start + batch_size]])
            yield annotator.raw_logprobs([row for row in batch if problem_of(row) is None])[0]
            bar.set_postfix(annotator.usage.facts(), refresh=False)
            bar.update(len(batch))


def _finite(logprobs: NDArray[np.float64], method: str) -> NDArray[np.float64]:
    """The rows that will get a label: one without must not spoil the prior of the others."""
    kept = logprobs[np.isfinite(logprobs).all(axis=1)]
    if len(kept) == 0:
        raise ACTError(f"calibration={method!r}: there is no row with content and a log-probability for every label")
    return kept


def normalised_logprobs(logprobs: NDArray[np.float64], prior: Sequence[float] | None = None) -> NDArray[np.float64]:
    """
    Log-probabilities `[rows, labels]` with `prior` taken out, each row normalised.

    A row in which one is not finite stays as it is.
    """
    shifted = logprobs if prior is None else logprobs - np.asarray(prior)
    with np.errstate(invalid="ignore"):
        normalised: NDArray[np.float64] = shifted - _logsumexp(shifted)
    return np.where(np.isfinite(logprobs).all(axis=-1, keepdims=True), normalised, logprobs)


def _logsumexp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.logaddexp.reduce(values, axis=-1, keepdims=True)
    return total
