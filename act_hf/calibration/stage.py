"""Calibrate: error probabilities that mean what they say, learnt from the rows that people have reviewed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns
from act_hf.calibration.features import error_features, log_odds
from act_hf.calibration.fitting import error_model, isotonic, logistic
from act_hf.errors import ACTError
from act_hf.human_labels import with_human_ids
from act_hf.records import add_record, stage_records
from act_hf.sampling.waves import read_waves


if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

METHODS = ("logistic", "isotonic", "model")


def calibrate(
    dataset: Dataset, *, method: str = "logistic", features: Sequence[str] = (), words: bool = True, seed: int = 0
) -> Dataset:
    """
    Fits ε̂ on the reviewed rows: `act_error_prob` is replaced, and what it was stays as `act_error_prob_raw`.

    Every reviewed row counts with the weight 1/π, so that a critic is fitted to all rows and not to the doubtful ones
    that were drawn. What a reviewed row gets is predicted from the other ones (in five folds), so that what is
    measured on them afterwards is honest. Run again after more review: it always starts from the raw column.

    All three methods are the project's choice; the paper does not calibrate.

    Args:
        dataset (`Dataset`): sampled rows of which some are reviewed.
        method (`str`, *optional*, defaults to `"logistic"`): `"logistic"` fits a line to the log-odds (Platt 1999),
            which 20 reviewed rows can bear; `"isotonic"` a rising staircase (Zadrozny and Elkan 2002), for some
            hundreds; `"model"` an error model: a ridge logistic regression on the log-odds of every critic's column,
            the annotator's confidence, who of a panel disagrees, the machine label, the words of the row, `features`,
            and what a classifier that has learnt the machine labels from these two says. The critic is penalised
            least, so that few reviewed rows leave its order as it is.
        features (sequence of `str`, *optional*): for `"model"`: further columns with a number, or a list of numbers of
            one length, such as an embedding.
        words (`bool`, *optional*, defaults to `True`): for `"model"`: whether it sees the words of the task's texts.
        seed (`int`, *optional*, defaults to 0): of the folds.

    Returns:
        `Dataset`: the same rows. Those without an error probability have none afterwards either, but with `"model"`
        all rows that have a machine label.

    Raises:
        ACTError: for a missing column, an unknown method, or reviewed rows that are all right or all wrong: at least
            two of each are needed.

    Example:

    ```python
    >>> reviewed = calibrate(reviewed)
    >>> more = sample(reviewed, budget=100, wave=2)
    ```
    """
    if method not in METHODS:
        raise ACTError(f"calibrate: method {method!r} is none of {', '.join(METHODS)}")
    needed = [columns.ERROR_PROB, columns.LABEL, columns.HUMAN, columns.PI, columns.SELECTED, *features]
    columns.require(dataset, needed, stage="calibrate")
    dataset = with_human_ids(dataset)
    source = columns.critic_column(dataset)
    raw = columns.numbers(dataset, source)
    labels, human = (columns.numbers(dataset, name) for name in (columns.LABEL, columns.HUMAN))
    inputs: Any = log_odds(raw)[:, None]
    usable, fit = ~np.isnan(labels) & ~np.isnan(raw), isotonic if method == "isotonic" else logistic
    if method == "model":
        inputs, doubts = error_features(dataset, source, features, words=words)
        usable, fit = ~np.isnan(labels), partial(error_model, doubts=doubts)
    waves = read_waves(dataset)
    reviewed = usable & waves.selected & ~np.isnan(human)
    wrong = labels != human
    _check_both(wrong[reviewed])
    fitted = np.full(raw.size, np.nan)
    learnt = wrong[reviewed], 1 / waves.combined[reviewed], seed
    fitted[usable] = fit(inputs[np.flatnonzero(usable)], reviewed[usable], *learnt)
    values = {
        columns.ERROR_PROB: _nullable(fitted),
        columns.RAW_ERROR_PROB: _nullable(raw),
    }
    calibrated = columns.add_columns(dataset, values, _types())
    facts = {"method": method, "features": list(features), "words": words and method == "model", "seed": seed}
    return add_record(calibrated, "calibrate", **facts, reviewed=int(reviewed.sum()), critic=_critic(dataset))


def _check_both(wrong: Bools) -> None:
    bad, good = int(wrong.sum()), int((~wrong).sum())
    if min(bad, good) < 2:
        raise ACTError(
            f"calibrate: of {wrong.size} reviewed rows {bad} are wrong and {good} right; review more, until there are "
            "at least two of each"
        )


def _nullable(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _types() -> Any:
    from datasets import Features, Value

    return Features({name: Value("float32") for name in (columns.ERROR_PROB, columns.RAW_ERROR_PROB)})


def _critic(dataset: Dataset) -> str | None:
    """Whose error probabilities these are."""
    main = [record for record in stage_records(dataset) if record["stage"] == "criticize" and not record.get("suffix")]
    return f"{main[-1].get('model')} {main[-1].get('strategy')}" if main else None
