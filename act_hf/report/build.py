"""From a data set with the columns of every stage so far to the numbers of its report."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.records import recorded_task, stage_records, unnamed
from act_hf.report.accuracy import agreement_of, estimates_of, finding_of, review_of, truth_of
from act_hf.report.critics import critics_of
from act_hf.report.doubtful import doubtful_rows, short
from act_hf.report.facts import METHODS, Cost, Design, Downstream, Report
from act_hf.report.notes import notes_on
from act_hf.report.rows import ReportRows, evenly


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset
    from numpy.typing import NDArray

    from act_hf.task import Task

    Floats = NDArray[np.float64]

_CORRECTIONS = 10
_REASONS = 5
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
        downstream (sequence of mappings, *optional*): one a trained model: `method` (the mode of [`to_training`]:
            the labels it learned from), `seed`, `accuracy` (in [0, 1], on test rows) and `rows` (trained on); where it
            is not the usual, `power` (λ, or how it was chosen) and `soft`. Runs that differ in the seed alone are one.
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
    rows = ReportRows.read(dataset, gold, task)
    review = review_of(dataset, rows)
    estimates = estimates_of(dataset, rows, review)
    basis, critics = critics_of(dataset, rows, review)
    failures = _failures(dataset)
    report = Report(
        title=title or "ACT: what the labels are worth",
        rows=len(dataset),
        failed=sum(count for _, count in failures),
        failures=tuple(failures[:_REASONS]),
        review=review,
        estimate=estimates.whole,
        no_estimate=estimates.why_not,
        by_label=estimates.by_label,
        waves=estimates.waves,
        agreement=agreement_of(dataset, estimates.whole, len(task.labels)),
        truth=truth_of(rows, review, gold),
        finding=finding_of(rows, review, estimates.whole),
        basis=basis,
        critics=critics,
        doubtful=doubtful_rows(dataset, rows, task),
        corrections=_corrections(rows),
        design=_design(dataset, rows),
        downstream=_downstream(downstream or ()),
        costs=tuple(_cost(record) for record in stage_records(dataset) if "usage" in record),
        task=task.to_dict(),
        records=tuple(unnamed(record) for record in stage_records(dataset)),
        notes=(),
    )
    return dataclasses.replace(report, notes=tuple(notes_on(report)))


def _corrections(rows: ReportRows) -> tuple[tuple[str | None, str, int], ...]:
    pairs = Counter(zip(rows.machine[rows.corrected], rows.human[rows.corrected], strict=True))
    return tuple((machine, human, count) for (machine, human), count in pairs.most_common(_CORRECTIONS))


def _design(dataset: Dataset, rows: ReportRows) -> Design | None:
    if rows.pi is None:
        return None
    made = stage_records(dataset, "sample")
    facts = {name: value for name, value in (made[-1] if made else {}).items() if name not in ("stage", "versions")}
    eps, possible = rows.eps.get(columns.ERROR_PROB, np.full(rows.pi.size, np.nan)), rows.pi[rows.pi > 0]
    order = np.argsort(eps, kind="stable")
    order = order[~np.isnan(eps[order])]
    kept = order[evenly(order.size, _DESIGN_POINTS)]
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
    kinds = dict.fromkeys((run["method"], _variant(run)) for run in runs)
    ordered = sorted(kinds, key=lambda kind: list(METHODS).index(kind[0]))
    return tuple(_group(kind, [run for run in runs if (run["method"], _variant(run)) == kind]) for kind in ordered)


def _variant(run: Mapping[str, Any]) -> str:
    power = run.get("power", 1)
    used = [] if power == 1 else [f"power {power:g}" if isinstance(power, int | float) else f"power by {power}"]
    return ", ".join([*used, *(["soft labels"] if run.get("soft") else [])])


def _group(kind: tuple[str, str], runs: Sequence[Mapping[str, Any]]) -> Downstream:
    accuracies, sizes = [float(run["accuracy"]) for run in runs], [int(run["rows"]) for run in runs]
    sd = float(np.std(accuracies, ddof=1)) if len(runs) > 1 else None
    size = (min(sizes), max(sizes))
    return Downstream(*kind, tuple(accuracies), float(np.mean(accuracies)), sd, len(runs), size)


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


def _failures(dataset: Dataset) -> list[tuple[str, int]]:
    if columns.FAILURE not in dataset.column_names:
        return []
    reasons = Counter(reason for reason in dataset[columns.FAILURE][:] if reason is not None)
    return [(short(reason), count) for reason, count in reasons.most_common()]
