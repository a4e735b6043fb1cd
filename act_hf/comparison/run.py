"""Compare: annotators and critics on a slice with gold labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from act_hf import columns
from act_hf.annotators import Annotator
from act_hf.comparison.advice import notes_on, recommend
from act_hf.comparison.facts import Comparison
from act_hf.comparison.measure import Doubts, Labels, Settings, measure
from act_hf.comparison.runner import PANEL, Job, Runner, jobs_of
from act_hf.critics import Critic
from act_hf.errors import ACTError
from act_hf.models.store import Store
from act_hf.sampling import resolve_budget


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from datasets import Dataset
    from numpy.typing import NDArray

    from act_hf.comparison.runner import Chosen
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
            the other annotators' labels ([`act_hf.raters.panel_error_probs`]). It asks for nothing more.
        shares (mapping of `str` to `float`, *optional*): for the panel, the true share of each label, where known.
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
            option, and a gold column that is missing, shown to the models, empty, or has labels that the task has not.
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
    labellers = jobs_of(Annotator, annotators, task)
    judges = jobs_of(Critic, critics or {}, task)
    with_panel = panel and len(labellers) >= _FEWEST_IN_PANEL
    _check_names(labellers, judges, with_panel)
    # Only what the task shows: labels of an earlier run are not in the way, and no model can be shown the gold.
    rows = dataset.with_format(None).select_columns(list(task.columns)).select(kept)
    runner = Runner(task, Store.of(store), max_calls, max_cost)
    labels, doubts, copies = _run(runner, rows, labellers, judges)
    if with_panel:
        doubts += _panel(labels, task, shares)
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
    runner: Runner, rows: Dataset, labellers: Sequence[Job], judges: Sequence[Job]
) -> tuple[list[Labels], list[Doubts], int]:
    """What everybody gave, and how many rows are copies of another."""
    labels, doubts, copies = [], [], 0
    labelled = [(job, *runner.annotate(rows, job)) for job in labellers]
    for annotator, made, given in labelled:
        labels.append(given)
        copies = len(rows) - len(set(made[columns.ID][:]))
        if (given.labels >= 0).any():
            doubts += [runner.criticize(made, annotator, judge) for judge in judges]
    return labels, doubts, copies


def _panel(labels: Sequence[Labels], task: Task, shares: Mapping[str, float] | None) -> list[Doubts]:
    """The others' labels as a critic of each annotator's."""
    from act_hf.raters import panel_error_probs

    for name in shares or ():
        task.index(name)
    known_shares = None if shares is None else [shares.get(name, 0.0) for name in task.labels]
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
            said = (one.labels[judged], votes[judged], len(task.labels))
            error_probs[judged] = panel_error_probs(*said, confidences=sure, shares=known_shares)[0]
        doubts.append(
            Doubts(
                annotator=one.name,
                critic=PANEL,
                model=" + ".join(dict.fromkeys(other.model for other in others)),
                strategy=PANEL,
                calibration="none",
                self_critique=any(other.model == one.model for other in others),
                error_probs=error_probs,
                took=sum((other.took for other in others[1:]), others[0].took),
            )
        )
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


def _check_names(labellers: Sequence[Job], judges: Sequence[Job], with_panel: bool) -> None:
    if not labellers:
        raise ACTError("compare: nobody to compare; give annotators={name: model}")
    if with_panel and any(job.name == PANEL for job in judges):
        raise ACTError(f"compare: a critic cannot be called {PANEL!r} with panel=True; give it another name")
