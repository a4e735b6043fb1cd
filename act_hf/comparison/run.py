"""Compare: annotators and critics on a slice with gold labels."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns
from act_hf.annotators import COLUMNS as LABELLED
from act_hf.annotators import Annotator, annotate
from act_hf.comparison.advice import notes_on, recommend
from act_hf.comparison.facts import PANEL, Comparison, Judge, Labeller, Took
from act_hf.comparison.measure import Doubts, Labels, Settings, measure
from act_hf.critics import Critic, criticize
from act_hf.critics.panel import shares_in_order
from act_hf.errors import ACTError
from act_hf.jobs import Job, job_of
from act_hf.models.asking import LimitReached
from act_hf.models.store import Store
from act_hf.records import stage_records
from act_hf.sampling import resolve_budget


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from datasets import Dataset
    from numpy.typing import NDArray

    from act_hf.jobs import Chosen
    from act_hf.task import Task

_FEWEST_IN_PANEL = 3
_FEWEST_BOOTSTRAPS = 100


def compare(
    dataset: Dataset,
    task: Task,
    *,
    annotators: Mapping[str, Chosen],
    critics: Mapping[str, Chosen] | None = None,
    gold: str = "label",
    panel: bool = True,
    shares: Mapping[str, float] | None = None,
    budgets: Sequence[int | float] = (0.1, 0.2),
    store: Store | str | Path | None = None,
    confidence: float = 0.95,
    bootstraps: int = 1000,
    seed: int = 0,
    max_calls: int | None = None,
    max_cost: float | None = None,
) -> Comparison:
    """
    Which model should annotate and which should criticize: every annotator labels the same rows once, every critic
    judges the labels of each, and a pair is recommended.

    A pair is as good as the labels it leads to: it is recommended by the accuracy once the first of `budgets` is spent
    on the most doubtful rows, by a reviewer who is always right. Of the pairs within one standard error of the best,
    the cheapest is taken. All that cannot be told apart from it are named beside it: on a small slice that is most of
    them, which is no proof that they are equal, so the price does not decide among all of these.

    A row that an annotator fails on counts as a wrong label. It is in no AUROC, and is reviewed first.

    Answers that are in the store cost what they cost when they were paid: prices that a model is given now are not
    those of what it answered before. Of models that cost nothing the quicker is the cheaper: by the clock, with as
    many requests in flight as a model takes (its `concurrency`).

    Args:
        dataset (`Dataset`): the slice, with the task's columns and `gold`. Rows without a gold label are left out.
            100 to 300 rows drawn at random tell something. Labels of an earlier run are not looked at.
        task ([`Task`]): what to label.
        annotators (mapping of `str` to [`Model`]): who labels, by the name to show. Instead of a model also several
            that label together (see [`Ensemble`]), or a tuple of either and a mapping of options of [`annotate`]:
            `strategy`, `calibration`, `max_tokens`, `batch_size`.
        critics (mapping of the same, *optional*): who criticizes: one model each, with options of [`criticize`]. A
            critic that is the annotator's own model is kept, and marked.
        gold (`str`, *optional*, defaults to `"label"`): the column with the right labels, a `ClassLabel` or text.
        panel (`bool`, *optional*, defaults to `True`): with three annotators or more, also the critic that is made of
            the other annotators' labels ([`act_hf.critics.raters.panel_error_probs`]). It asks for nothing more.
        shares (mapping of `str` to `float`, *optional*): for the panel, the true share of each label, where known.
            Without a panel they are refused.
        budgets (sequence of `int` or `float`, *optional*, defaults to `(0.1, 0.2)`): rows that may be reviewed, or
            shares of them. Pairs are ranked by the first: make it the one you will have.
        store ([`Store`] or path, *optional*): where answers are kept. What two stages ask alike is asked once, and a
            second run asks for nothing.
        confidence (`float`, *optional*, defaults to 0.95): of the intervals.
        bootstraps (`int`, *optional*, defaults to 1000): resamples of the rows, at least 100.
        seed (`int`, *optional*, defaults to 0): of the resamples.
        max_calls, max_cost (*optional*): the most requests, and US dollars, of all of it; see [`Usage`].

    Returns:
        [`Comparison`]: with `summary()`, `save(path)`, `plot()` and `to_dict()`.

    Raises:
        ACTError: before anything is asked: for an annotator or critic that cannot do what it is to do, an unknown
            option, shares that are none, and a gold column that is missing, shown to the models, empty, or has labels
            that the task has not.
        LimitReached: at a limit. What was answered is in the store, and the same call goes on from there.

    Example:

    ```python
    >>> made = compare(
    ...     rows, task, annotators={"gpt": gpt, "gpt cot": (gpt, {"strategy": "cot"})}, critics={"claude": claude}
    ... )
    >>> print(made.summary())
    >>> made.save("comparison.html")
    ```
    """
    truth, kept = _gold_labels(dataset, task, gold)
    settings = _settings(budgets, len(truth), confidence, bootstraps, seed)
    labellers = _jobs(Annotator, annotators, task)
    judges = _jobs(Critic, critics or {}, task)
    with_panel = panel and len(labellers) >= _FEWEST_IN_PANEL
    _check_names(labellers, judges, with_panel)
    known_shares = _known_shares(shares, task, with_panel)
    # Only what the task shows: labels of an earlier run are not in the way, and no model can be shown the gold.
    rows = dataset.with_format(None).select_columns(list(task.columns)).select(kept)
    runner = _Runner(task, Store.of(store), max_calls, max_cost)
    labels, doubts, copies = _run(runner, rows, labellers, judges)
    if with_panel:
        doubts += _panel(labels, labellers, len(task.labels), known_shares)
    measured = measure(truth, labels, doubts, settings)
    comparison = Comparison(
        gold=gold,
        rows=len(truth),
        skipped=len(dataset) - len(truth),
        majority=float(np.bincount(truth).max() / len(truth)),
        budgets=settings.budgets,
        annotators=tuple(sorted(measured.annotators, key=lambda row: -row.accuracy.value)),
        critics=tuple(sorted(measured.critics, key=lambda row: -row.after[0].value)),
        recommendation=recommend(measured, settings, len(truth)),
        calls=runner.calls,
        spent=runner.spent,
        confidence=confidence,
        bootstraps=bootstraps,
        seed=seed,
    )
    return notes_on(comparison, copies=copies)


def _run(
    runner: _Runner, rows: Dataset, labellers: Mapping[str, Job], judges: Mapping[str, Job]
) -> tuple[list[Labels], list[Doubts], int]:
    """What everybody gave, and how many rows are copies of another."""
    labels, doubts, copies = [], [], 0
    labelled = [(name, job, *runner.annotate(rows, name, job)) for name, job in labellers.items()]
    for annotator, job, made, given in labelled:
        labels.append(given)
        copies = len(rows) - len(set(made[columns.ID][:]))
        if (given.labels >= 0).any():
            for name, judge in judges.items():
                own = not judge.model_names.isdisjoint(job.model_names)
                doubts.append(runner.criticize(made, annotator, name, judge, own=own))
    return labels, doubts, copies


@dataclass
class _Runner:
    """Runs the stages one after the other, within limits on all of them together, and counts what is sent and paid."""

    task: Task
    store: Store
    max_calls: int | None = None
    max_cost: float | None = None
    calls: int = field(default=0, init=False)
    spent: float = field(default=0.0, init=False)

    def annotate(self, rows: Dataset, name: str, job: Job) -> tuple[Dataset, Labels]:
        """The labelled rows, and what there is to measure of them."""
        from datasets import concatenate_datasets

        with self._limited(f"annotators[{name!r}]") as left:
            made = annotate(rows, self.task, job.models, store=self.store, **job.options, **left)
        record = stage_records(made, "annotate")[-1]
        by = Labeller(name=name, **_asked(record), calibration=job.calibration, took=self._took(job, record))
        labels = np.array([-1 if label is None else label for label in made[columns.LABEL][:]], dtype=np.int64)
        sure = np.array([np.nan if probs is None else max(probs) for probs in made[columns.LABEL_PROBS][:]])
        # The rows as they were: a critic asks what an annotator asked only where no image was stored anew.
        labelled = concatenate_datasets([rows, made.select_columns(list(LABELLED))], axis=1)
        return labelled, Labels(by, labels, sure)

    def criticize(self, labelled: Dataset, annotator: str, name: str, job: Job, *, own: bool) -> Doubts:
        """What there is to measure of a critic of labelled rows; `own` is whether its model labelled them."""
        with self._limited(f"critics[{name!r}] of {annotator!r}") as left:
            (model,) = job.models
            made = criticize(labelled, model, task=self.task, store=self.store, **job.options, **left)
        record = stage_records(made, "criticize")[-1]
        by = Judge(
            annotator=annotator,
            critic=name,
            **_asked(record),
            calibration=job.calibration,
            self_critique=own,
            took=self._took(job, record),
        )
        values = [np.nan if value is None else value for value in made[columns.ERROR_PROB][:]]
        return Doubts(by, np.array(values, dtype=np.float64))

    @contextmanager
    def _limited(self, who: str) -> Iterator[dict[str, Any]]:
        """What is left of the limits, and the error of a limit said of the whole comparison."""
        calls = None if self.max_calls is None else max(0, self.max_calls - self.calls)
        cost = None if self.max_cost is None else max(0.0, self.max_cost - self.spent)
        try:
            yield {"max_calls": calls, "max_cost": cost}
        except LimitReached as error:
            whole = f"max_calls={self.max_calls}, max_cost={self.max_cost} for all of it"
            raise LimitReached(f"compare ({whole}) at {who}: {error}") from error

    def _took(self, job: Job, record: Mapping[str, Any]) -> Took:
        usage = record["usage"]
        self.calls += usage["calls"]
        self.spent += usage["spent"]
        counted = {name: usage[name] for name in ("requests", "calls", "tokens_in", "tokens_out", "cost")}
        # What a stage counts is how long its requests took, and many of them are in flight at a time.
        seconds = job.by_the_clock(usage["requests"], usage["seconds"])
        return Took(**counted, seconds=seconds, rows=record["rows"])


def _asked(record: Mapping[str, Any]) -> dict[str, str]:
    return {name: record[name] for name in ("model", "strategy")}


def _panel(
    labels: Sequence[Labels], jobs: Mapping[str, Job], n_labels: int, shares: Sequence[float] | None
) -> list[Doubts]:
    """The others' labels as a critic of each annotator's."""
    from act_hf.critics.raters import panel_error_probs

    doubts = []
    for one in labels:
        if not (one.labels >= 0).any():
            continue
        others = [other for other in labels if other is not one]
        votes = np.stack([other.labels for other in others], axis=1)
        judged = (one.labels >= 0) & (votes >= 0).any(axis=1)
        error_probs = np.full(one.labels.size, np.nan)
        if judged.any():
            sure = np.stack([other.confidences for other in others], axis=1)[judged]
            said = (one.labels[judged], votes[judged], n_labels)
            error_probs[judged] = panel_error_probs(*said, confidences=sure, shares=shares)[0]
        names = frozenset[str]().union(*(jobs[other.by.name].model_names for other in others))
        by = Judge(
            annotator=one.by.name,
            critic=PANEL,
            model=" + ".join(dict.fromkeys(other.by.model for other in others)),
            strategy=PANEL,
            calibration="none",
            self_critique=not names.isdisjoint(jobs[one.by.name].model_names),
            took=sum((other.by.took for other in others[1:]), others[0].by.took),
        )
        doubts.append(Doubts(by, error_probs))
    return doubts


def _gold_labels(dataset: Dataset, task: Task, gold: str) -> tuple[NDArray[np.int64], list[int]]:
    """The right labels as ids of the task's, and the rows that have one."""
    task.check(dataset, stage="compare")
    columns.require(dataset, [gold], stage="compare")
    if gold in task.columns:
        raise ACTError(f"compare: the gold column {gold!r} is one that the models are shown; name another")
    names = _names(dataset, gold)
    wrong = sorted({name for name in names if name is not None} - set(task.labels))
    if wrong:
        choices = ", ".join(task.labels)
        raise ACTError(f"compare: {wrong[0]!r} in the gold column {gold!r} is none of the labels {choices}")
    kept = [i for i, name in enumerate(names) if name is not None]
    if not kept:
        raise ACTError(f"compare: none of the {len(names)} rows has a gold label in {gold!r}")
    return np.array([task.labels.index(names[i] or "") for i in kept], dtype=np.int64), kept


def _names(dataset: Dataset, column: str) -> list[str | None]:
    """A column of labels as names; `None` where there is none."""
    values = dataset.with_format(None)[column][:]
    if getattr(dataset.features[column], "dtype", None) in ("string", "large_string"):
        return [value or None for value in values]
    names = columns.class_names(dataset, column)
    # -1 is how some data sets write "no label".
    return [None if value is None or value < 0 else names[value] for value in values]


def _settings(budgets: Sequence[int | float], rows: int, confidence: float, bootstraps: int, seed: int) -> Settings:
    if not budgets:
        raise ACTError("compare: give at least one budget, such as budgets=(0.1,)")
    if not 0 < confidence < 1:
        raise ACTError(f"confidence={confidence} is not between 0 and 1, such as 0.95")
    if bootstraps < _FEWEST_BOOTSTRAPS:
        raise ACTError(f"bootstraps={bootstraps} are too few for an interval; give at least {_FEWEST_BOOTSTRAPS}")
    return Settings(tuple(resolve_budget(one, rows) for one in budgets), confidence, bootstraps, seed)


def _jobs(kind: type[Annotator | Critic], chosen: Mapping[str, Chosen], task: Task) -> dict[str, Job]:
    """Who was given, by name."""
    what = "annotators" if kind is Annotator else "critics"
    return {str(name): job_of(kind, one, task, place=f"compare: {what}[{name!r}]") for name, one in chosen.items()}


def _check_names(labellers: Mapping[str, Job], judges: Mapping[str, Job], with_panel: bool) -> None:
    if not labellers:
        raise ACTError("compare: nobody to compare; give annotators={name: model}")
    if with_panel and PANEL in judges:
        raise ACTError(f"compare: a critic cannot be called {PANEL!r} with panel=True; give it another name")


def _known_shares(shares: Mapping[str, float] | None, task: Task, with_panel: bool) -> list[float] | None:
    """The shares in the order of the labels."""
    if shares is None:
        return None
    if not with_panel:
        raise ACTError(
            f"compare: shares are for the panel, which takes panel=True and {_FEWEST_IN_PANEL} annotators or more"
        )
    ordered = shares_in_order(shares, task)
    if not all(share > 0 for share in ordered) or not np.isclose(sum(ordered), 1, atol=1e-3):
        said = ", ".join(f"{name} {share:g}" for name, share in zip(task.labels, ordered, strict=True))
        raise ACTError(f"compare: shares are positive for every label and sum to 1, not {said}")
    return ordered
