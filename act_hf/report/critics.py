"""How far each critic can be believed, by gold labels or by the reviewed rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from act_hf import columns
from act_hf.estimate import error_curve, reliability
from act_hf.records import stage_records
from act_hf.report.facts import Basis, CriticScore, Review
from act_hf.report.rows import ReportRows, evenly, present
from act_hf.sampling import threshold


if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]


_CURVE_POINTS = 200


def critics_of(dataset: Dataset, rows: ReportRows, review: Review) -> tuple[Basis | None, tuple[CriticScore, ...]]:
    """
    All critics that say anything are compared on the same rows: those with a machine label of which each of them says
    something.
    """
    eps = {column: values for column, values in rows.eps.items() if not np.isnan(values).all()}
    if not eps:
        return None, ()
    usable = present(rows.machine) & ~np.isnan(np.stack(list(eps.values()))).any(axis=0)
    judged, weights = _judged(rows, review, usable)
    names = _critic_names(dataset)
    basis = _basis(rows, review, judged, weights)
    scores = [_curve(rows, column, names.get(column, column), usable) for column in eps]
    if basis is not None:
        scores = [_scored(score, rows, usable, judged, weights, basis.budget) for score in scores]
    return basis, tuple(scores)


def _judged(rows: ReportRows, review: Review, usable: Bools) -> tuple[Bools, Floats]:
    """The rows whose errors are known, and the weight of every row."""
    if rows.gold is not None:
        return usable, np.ones(usable.size)
    # The rows answered first are no sample of the rows drawn: an unfinished review judges nobody.
    if rows.pi is None or review.state != "finished":
        return np.zeros_like(usable), np.ones(usable.size)
    judged = usable & rows.reviewed & (rows.pi > 0)
    return judged, 1 / np.where(judged, rows.pi, 1.0)


def _basis(rows: ReportRows, review: Review, judged: Bools, weights: Floats) -> Basis | None:
    if not judged.any():
        return None
    errors, w = int(rows.wrong[judged].sum()), weights[judged]
    return Basis(
        source="review" if rows.gold is None else "gold",
        rows=int(judged.sum()),
        errors=errors,
        effective=float(w.sum() ** 2 / (w**2).sum()),
        budget=review.selected or errors,
    )


def _curve(rows: ReportRows, column: str, name: str, usable: Bools) -> CriticScore:
    eps = rows.eps[column][usable]
    if rows.gold is not None:
        budgets, found = error_curve(eps, rows.wrong[usable])
    else:
        budgets, found = np.arange(eps.size + 1), np.append(0.0, np.cumsum(-np.sort(-eps)))
    kept = evenly(budgets.size, _CURVE_POINTS)
    return CriticScore(column, name, tuple(budgets[kept].astype(float).tolist()), tuple(found[kept].tolist()))


def _scored(
    score: CriticScore, rows: ReportRows, usable: Bools, judged: Bools, weights: Floats, budget: int
) -> CriticScore:
    eps = rows.eps[score.column]
    w, wrong = weights[judged], rows.wrong[judged]
    means = reliability(eps[judged], wrong, weights=w, bins=_bins(wrong.size))
    both = 0 < wrong.sum() < wrong.size
    area = _weighted_auroc(eps[judged], wrong, w) if both else None
    top = np.zeros(eps.size)  # the share of each row that is reviewed when the most doubtful come first
    top[usable] = threshold(eps[usable], min(budget, int(usable.sum())))
    return dataclasses.replace(
        score,
        predicted=tuple(means.predicted.tolist()),
        observed=tuple(means.observed.tolist()),
        auroc=area,
        abs=None if area is None else 2 * area - 1,
        brier=means.brier,
        ece=means.expected_calibration_error,
        recall=float((w * wrong * top[judged]).sum() / (w * wrong).sum()) if wrong.any() else None,
    )


def _bins(rows: int) -> int:
    """As many as leave about 20 rows in each: with fewer, chance alone looks like a badly calibrated critic."""
    return min(10, max(2, rows // 20))


def _weighted_auroc(eps: Floats, wrong: Bools, weights: Floats) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(wrong, eps, sample_weight=weights))


def _critic_names(dataset: Dataset) -> dict[str, str]:
    names = {
        columns.ERROR_PROB + str(record.get("suffix", "")): f"{record.get('strategy')}: {record.get('model')}"
        for record in stage_records(dataset, "criticize")
    }
    calibrated = stage_records(dataset, "calibrate")
    if calibrated and columns.RAW_ERROR_PROB in dataset.column_names:
        critic = names.get(columns.ERROR_PROB, "the critic")
        names[columns.RAW_ERROR_PROB] = f"as given, {critic}"
        names[columns.ERROR_PROB] = f"calibrated ({calibrated[-1].get('method')}), {critic}"
    return names
