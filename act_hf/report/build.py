"""From a data set with the columns of every stage so far to the numbers of its report."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.estimate import AccuracyEstimate, error_curve, estimate_accuracy, reliability
from act_hf.records import recorded_task, stage_records
from act_hf.report.facts import (
    Basis,
    Cost,
    CriticScore,
    Design,
    DoubtfulRow,
    Downstream,
    Finding,
    Report,
    Review,
    Share,
    Truth,
)
from act_hf.report.notes import notes_on
from act_hf.sampling import read_waves, threshold


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset
    from numpy.typing import NDArray

    from act_hf.task import Task

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Names = NDArray[np.object_]

METHODS = ("human", "machine", "act")
DOUBTFUL = 12
"""Rows shown, the most doubtful first."""

_CORRECTIONS = 10
_REASONS = 5
_LONGEST = 600
_CURVE_POINTS = 200
_DESIGN_POINTS = 1500
_HISTOGRAM_BINS = 20


def build_report(
    dataset: Dataset,
    *,
    gold: str | None = None,
    downstream: Sequence[Mapping[str, Any]] | None = None,
    title: str | None = None,
    task: Task | None = None,
) -> Report:
    """
    The numbers of a run: whatever can be told from the columns that are there, and no more.

    Args:
        dataset (`Dataset`): has `act_label`; the other columns as far as the run has come.
        gold (`str`, *optional*): a column with the right labels (`ClassLabel` or string), in every row.
        downstream (sequence of mappings, *optional*): one a trained model: `method` (`"human"`, `"machine"` or
            `"act"`: the labels it learned from), `seed`, `accuracy` (in [0, 1], on test rows) and `rows` (trained on).
        title (`str`, *optional*): heads the page.
        task ([`Task`], *optional*): defaults to the one the data set was annotated for.

    Returns:
        [`Report`]: with `save(path)` and `summary()`.

    Raises:
        ACTError: for a data set without machine labels, a gold column that is missing, incomplete or has labels that
            the task has not, or `downstream` entries that are not as described.

    Example:

    ```python
    >>> report = build_report(reviewed, gold="label")
    >>> print(report.summary())
    >>> report.save("report.html")
    ```
    """
    columns.require(dataset, [columns.LABEL], stage="report")
    task = task or recorded_task(dataset)
    dataset = dataset.with_format(None)
    rows = _Rows.read(dataset, gold, task)
    review = _review(dataset, rows)
    estimate, no_estimate = _estimate(dataset, rows, review)
    basis, critics = _critics(dataset, rows, review)
    failures = _failures(dataset)
    report = Report(
        title=title or "ACT: what the labels are worth",
        rows=len(dataset),
        failed=sum(count for _, count in failures),
        failures=tuple(failures[:_REASONS]),
        review=review,
        estimate=estimate,
        no_estimate=no_estimate,
        truth=_truth(rows, review, gold),
        finding=_finding(rows, review, estimate),
        basis=basis,
        critics=critics,
        doubtful=_doubtful(dataset, rows, task),
        corrections=_corrections(rows),
        design=_design(dataset, rows),
        downstream=_downstream(downstream or ()),
        costs=tuple(_cost(record) for record in stage_records(dataset) if "usage" in record),
        task=task.to_dict(),
        records=tuple(_unnamed(record) for record in stage_records(dataset)),
        notes=(),
    )
    return dataclasses.replace(report, notes=tuple(notes_on(report)))


@dataclass(frozen=True)
class _Rows:
    """The columns that the figures are made of, as arrays. Labels by name, `None` where there is none."""

    machine: Names
    human: Names
    gold: Names | None
    pi: Floats | None
    selected: Bools
    eps: dict[str, Floats]

    @classmethod
    def read(cls, dataset: Dataset, gold: str | None, task: Task) -> _Rows:
        nobody = np.full(len(dataset), None, dtype=object)
        has_human, sampled = columns.HUMAN in dataset.column_names, columns.PI in dataset.column_names
        if sampled:
            columns.require(dataset, [columns.SELECTED], stage="report")
        return cls(
            machine=_names(dataset, columns.LABEL),
            human=_names(dataset, columns.HUMAN) if has_human else nobody,
            gold=None if gold is None else _gold(dataset, gold, task),
            pi=columns.numbers(dataset, columns.PI) if sampled else None,
            selected=columns.numbers(dataset, columns.SELECTED).astype(bool)
            if sampled
            else np.zeros(len(dataset), bool),
            eps={name: columns.numbers(dataset, name) for name in _critic_columns(dataset)},
        )

    @property
    def answered(self) -> Bools:
        return _present(self.human)

    @property
    def reviewed(self) -> Bools:
        """Rows drawn and answered."""
        return self.selected & self.answered

    @property
    def corrected(self) -> Bools:
        corrected: Bools = self.answered & (self.human != self.machine)
        return corrected

    @property
    def wrong(self) -> Bools:
        """Rows whose machine label is wrong: by the gold label, or else, where a person answered, by theirs."""
        wrong: Bools = self.corrected if self.gold is None else self.machine != self.gold
        return wrong


def _names(dataset: Dataset, column: str) -> Names:
    from datasets import ClassLabel

    feature, values = dataset.features[column], dataset[column][:]
    if isinstance(feature, ClassLabel):  # -1 is how `datasets` writes "no label"
        values = [None if value is None or value < 0 else feature.names[value] for value in values]
    names = np.empty(len(values), dtype=object)
    names[:] = values
    return names


def _gold(dataset: Dataset, column: str, task: Task) -> Names:
    columns.require(dataset, [column], stage="report")
    names = _names(dataset, column)
    missing = int((~_present(names)).sum())
    if missing:
        raise ACTError(f"report: the gold column {column!r} is empty in {missing} of {names.size} rows")
    for name in set(names.tolist()) - set(task.labels):
        raise ACTError(f"report: {name!r} in column {column!r} is none of the labels {', '.join(task.labels)}")
    return names


def _critic_columns(dataset: Dataset) -> list[str]:
    """The main critic's column first, then those with a suffix."""
    kinds = {name: getattr(kind, "dtype", "") for name, kind in dataset.features.items()}
    found = [name for name, kind in kinds.items() if name.startswith(columns.ERROR_PROB) and kind.startswith("float")]
    return sorted(found)


def _present(names: Names) -> Bools:
    return np.array([name is not None for name in names], dtype=bool)


def _review(dataset: Dataset, rows: _Rows) -> Review:
    selected, answered = int(rows.selected.sum()), int(rows.reviewed.sum())
    made = stage_records(dataset, "review")
    simulated = [
        str(record.get("source") or record.get("annotator") or "simulated")
        for record in made
        if record.get("simulated")
    ]
    return Review(
        state="none" if not answered else "finished" if answered == selected else "unfinished",
        selected=selected,
        answered=answered,
        corrected=int((rows.reviewed & rows.corrected).sum()),
        beyond=int((rows.answered & ~rows.selected).sum()),
        tied=_tied(dataset, rows),
        recorded=bool(made),
        simulated=simulated[-1] if simulated else None,
        people=len(simulated) < len(made),
    )


def _tied(dataset: Dataset, rows: _Rows) -> int:
    if columns.RESPONSES not in dataset.column_names:
        return 0
    asked = np.array([bool(answers) for answers in dataset[columns.RESPONSES][:]])
    return int((asked & rows.selected & ~rows.answered).sum())


def _estimate(dataset: Dataset, rows: _Rows, review: Review) -> tuple[AccuracyEstimate | None, str | None]:
    if rows.pi is None:
        return None, "no rows have been drawn for review yet"
    if review.state == "none":
        return None, f"the {review.selected} rows drawn for review have no human label yet"
    if review.state == "unfinished":
        return None, f"review unfinished: {review.answered} of {review.selected} rows answered"
    drawn_from = [record.get("rows", len(dataset)) for record in stage_records(dataset, "sample")]
    if drawn_from and drawn_from[-1] != len(dataset):
        return None, f"the rows were drawn from {drawn_from[-1]} rows, of which {len(dataset)} are left"
    eps = rows.eps.get(columns.ERROR_PROB, np.full(len(dataset), np.nan))
    try:
        # What nobody's answers went into yet: a calibrated ε̂ has seen those of the waves before.
        eps = rows.eps.get(columns.RAW_ERROR_PROB, eps)
        waves = read_waves(dataset)
        drawn = np.column_stack([waves.drawn == wave + 1 for wave in range(waves.count)])
        return estimate_accuracy(eps, drawn, waves.pi, rows.corrected), None
    except ACTError as error:
        return None, str(error)


def _truth(rows: _Rows, review: Review, column: str | None) -> Truth | None:
    if rows.gold is None or column is None:
        return None
    final = np.where(rows.answered, rows.human, rows.machine)
    majority, most = Counter(rows.gold.tolist()).most_common(1)[0]
    people = rows.answered if review.simulated is None else np.zeros_like(rows.answered)
    return Truth(
        column=column,
        errors=int(rows.wrong.sum()),
        machine=Share.of(~rows.wrong),
        after=Share.of(final == rows.gold) if rows.answered.any() else None,
        reviewer=Share.of((rows.human == rows.gold)[people]) if people.any() else None,
        majority=majority,
        majority_share=most / rows.gold.size,
    )


def _finding(rows: _Rows, review: Review, estimate: AccuracyEstimate | None) -> Finding | None:
    if rows.gold is not None:
        source, rate = "gold", float(rows.wrong.mean())
    elif estimate is not None and estimate.covers == 1:
        source, rate = "review", 1 - estimate.machine
    else:
        return None
    if not review.answered:
        return None
    found, at_random = int(rows.wrong[rows.reviewed].sum()), review.answered * rate
    return Finding(review.answered, found, at_random, found / at_random if at_random else None, source)


def _critics(dataset: Dataset, rows: _Rows, review: Review) -> tuple[Basis | None, tuple[CriticScore, ...]]:
    """All critics are compared on the same rows: those with a machine label of which every critic says something."""
    if not rows.eps:
        return None, ()
    usable = _present(rows.machine) & ~np.isnan(np.stack(list(rows.eps.values()))).any(axis=0)
    judged, weights = _judged(rows, review, usable)
    names = _critic_names(dataset)
    basis = _basis(rows, review, judged, weights)
    scores = [_curve(rows, column, names.get(column, column), usable) for column in rows.eps]
    if basis is not None:
        scores = [_scored(score, rows, usable, judged, weights, basis.budget) for score in scores]
    return basis, tuple(scores)


def _judged(rows: _Rows, review: Review, usable: Bools) -> tuple[Bools, Floats]:
    """The rows whose errors are known, and the weight of every row."""
    if rows.gold is not None:
        return usable, np.ones(usable.size)
    # The rows answered first are no sample of the rows drawn: an unfinished review judges nobody.
    if rows.pi is None or review.state != "finished":
        return np.zeros_like(usable), np.ones(usable.size)
    judged = usable & rows.reviewed & (rows.pi > 0)
    return judged, 1 / np.where(judged, rows.pi, 1.0)


def _basis(rows: _Rows, review: Review, judged: Bools, weights: Floats) -> Basis | None:
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


def _curve(rows: _Rows, column: str, name: str, usable: Bools) -> CriticScore:
    eps = rows.eps[column][usable]
    if rows.gold is not None:
        budgets, found = error_curve(eps, rows.wrong[usable])
    else:
        budgets, found = np.arange(eps.size + 1), np.append(0.0, np.cumsum(-np.sort(-eps)))
    kept = _evenly(budgets.size, _CURVE_POINTS)
    return CriticScore(column, name, tuple(budgets[kept].astype(float).tolist()), tuple(found[kept].tolist()))


def _scored(
    score: CriticScore, rows: _Rows, usable: Bools, judged: Bools, weights: Floats, budget: int
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
    made = stage_records(dataset, "criticize")
    return {
        columns.ERROR_PROB + str(record.get("suffix", "")): f"{record.get('strategy')}: {record.get('model')}"
        for record in made
    }


def _doubtful(dataset: Dataset, rows: _Rows, task: Task) -> tuple[DoubtfulRow, ...]:
    eps = rows.eps.get(columns.ERROR_PROB)
    if eps is None:
        return ()
    order = np.argsort(-eps, kind="stable")  # NaN, no error probability, comes last
    chosen = order[~np.isnan(eps[order])][:DOUBTFUL]
    wanted = (*task.columns, columns.CRITIQUE, columns.LABEL_PROBS)
    # An image is not shown, so it is not decoded either.
    kept = [name for name in wanted if name in dataset.column_names and name != task.image]
    contents = dataset.select_columns(kept).select(chosen) if kept else [{} for _ in chosen]
    return tuple(
        _doubtful_row(content, int(number), rows, task) for number, content in zip(chosen, contents, strict=True)
    )


def _doubtful_row(content: Mapping[str, Any], number: int, rows: _Rows, task: Task) -> DoubtfulRow:
    label, probs = rows.machine[number], content.get(columns.LABEL_PROBS)
    known = label in task.labels and probs is not None and len(probs) == len(task.labels)
    shown = ((name, "[image]" if name == task.image else _short(content.get(name))) for name in task.columns)
    critique = content.get(columns.CRITIQUE)
    return DoubtfulRow(
        number=number,
        shown=tuple(shown),
        label=label,
        label_prob=float(probs[task.index(label)]) if known and probs is not None else None,
        error_prob=float(rows.eps[columns.ERROR_PROB][number]),
        critique=None if critique is None else _short(critique),
        human=rows.human[number],
        gold=None if rows.gold is None else rows.gold[number],
    )


def _corrections(rows: _Rows) -> tuple[tuple[str | None, str, int], ...]:
    pairs = Counter(zip(rows.machine[rows.corrected], rows.human[rows.corrected], strict=True))
    return tuple((machine, human, count) for (machine, human), count in pairs.most_common(_CORRECTIONS))


def _design(dataset: Dataset, rows: _Rows) -> Design | None:
    if rows.pi is None:
        return None
    made = stage_records(dataset, "sample")
    facts = {name: value for name, value in (made[-1] if made else {}).items() if name not in ("stage", "versions")}
    eps, possible = rows.eps.get(columns.ERROR_PROB, np.full(rows.pi.size, np.nan)), rows.pi[rows.pi > 0]
    order = np.argsort(eps, kind="stable")
    order = order[~np.isnan(eps[order])]
    kept = order[_evenly(order.size, _DESIGN_POINTS)]
    return Design(
        facts=facts,
        rows=rows.pi.size,
        selected=int(rows.selected.sum()),
        never=rows.pi.size - possible.size,
        pi_low=float(possible.min()) if possible.size else 0.0,
        pi_high=float(rows.pi.max()),
        points=tuple(zip(*(values[kept].tolist() for values in (eps, rows.pi, rows.selected)), strict=True)),
        histogram=(_histogram(eps[order]), _histogram(eps[order][rows.selected[order]])),
    )


def _histogram(values: Floats) -> tuple[int, ...]:
    return tuple(np.histogram(values, bins=_HISTOGRAM_BINS, range=(0, 1))[0].tolist())


def _downstream(runs: Sequence[Mapping[str, Any]]) -> tuple[Downstream, ...]:
    for number, run in enumerate(runs):
        missing = [name for name in ("method", "seed", "accuracy", "rows") if name not in run]
        if missing:
            raise ACTError(f"downstream entry {number} has no {missing[0]!r}; it has {', '.join(map(repr, run))}")
        if run["method"] not in METHODS:
            raise ACTError(f"downstream entry {number}: method {run['method']!r} is none of {', '.join(METHODS)}")
        if not isinstance(run["accuracy"], int | float) or not 0 <= run["accuracy"] <= 1:
            raise ACTError(f"downstream entry {number}: accuracy {run['accuracy']!r} is not in [0, 1]")
    groups = ([run for run in runs if run["method"] == method] for method in METHODS)
    return tuple(_group(group) for group in groups if group)


def _group(runs: Sequence[Mapping[str, Any]]) -> Downstream:
    accuracies, sizes = [float(run["accuracy"]) for run in runs], [int(run["rows"]) for run in runs]
    sd = float(np.std(accuracies, ddof=1)) if len(runs) > 1 else None
    size = (min(sizes), max(sizes))
    return Downstream(runs[0]["method"], tuple(accuracies), float(np.mean(accuracies)), sd, len(runs), size)


def _cost(record: Mapping[str, Any]) -> Cost:
    usage, rows = record["usage"], record.get("rows") or 0
    return Cost(
        stage=record["stage"],
        model=str(record.get("model")),
        strategy=str(record.get("strategy")),
        requests=usage["requests"],
        calls=usage["calls"],
        stored=usage["requests"] - usage["calls"],
        tokens_in=usage["tokens_in"],
        tokens_out=usage["tokens_out"],
        seconds=usage["seconds"],
        seconds_per_row=usage["seconds"] / max(1, rows),
    )


def _unnamed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A report is passed around; who reviewed is nobody else's business."""
    named = record.get("annotators")
    if record.get("simulated") or not isinstance(named, list):
        return dict(record)
    return {**record, "annotators": len(named)}


def _failures(dataset: Dataset) -> list[tuple[str, int]]:
    if columns.FAILURE not in dataset.column_names:
        return []
    reasons = Counter(reason for reason in dataset[columns.FAILURE][:] if reason is not None)
    return [(_short(reason), count) for reason, count in reasons.most_common()]


def _evenly(size: int, most: int) -> NDArray[np.int64]:
    """At most `most` places, evenly spaced, the first and the last among them."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(np.int64))


def _short(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " […]"
