"""The panel critic: the probability that a label is wrong, from the labels that other models gave."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from act_hf import columns, prompts
from act_hf.annotators import COLUMNS as LABELLED
from act_hf.annotators import Annotator
from act_hf.critics.critic import claimed_task
from act_hf.critics.fusion import add_verdicts
from act_hf.critics.raters import DEPENDENCE, panel_error_probs
from act_hf.critics.strategies import STAGE, Verdict
from act_hf.errors import ACTError
from act_hf.models.asking import Usage, rows_at_once
from act_hf.models.deferred import asked_ahead
from act_hf.models.recordings import label_ids
from act_hf.records import add_record, stage_records, usage_facts


if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from datasets import Dataset
    from numpy.typing import NDArray

    from act_hf.models.base import Model
    from act_hf.models.store import Store
    from act_hf.task import Task

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

VOTE = "act_vote_"
CONFIDENCE = "act_confidence_"
"""What the columns of a panel begin with; the voter's name follows."""


def criticize_panel(
    dataset: Dataset,
    votes: Mapping[str, str] | Sequence[str] | None = None,
    *,
    confidences: Mapping[str, str] | None = None,
    shares: Mapping[str, float] | None = None,
    dependence: float = DEPENDENCE,
    task: Task | None = None,
    suffix: str = "",
) -> Dataset:
    """
    Adds the probability that each machine label is wrong, from the labels that other models gave; nothing is asked.

    Args:
        dataset (`Dataset`): has `act_label` and a column of labels for each voter; [`add_votes`] makes them.
        votes (mapping of `str` to `str`, or sequence of `str`, *optional*): the voters' names and their columns (a
            `ClassLabel`, label ids, or text; `None` or -1 is no vote). Defaults to the columns that [`add_votes`]
            made, with their confidences.
        confidences (mapping of `str` to `str`, *optional*): the columns with the confidence of some voters' labels.
        shares (mapping of `str` to `float`, *optional*): the true share of each label, as 50 rows labelled at random
            tell it well enough: of all the options this one helps most.
        dependence (`float`, *optional*, defaults to 0.8): see [`panel_error_probs`].
        task ([`Task`], *optional*): defaults to the one the data set was annotated for.
        suffix (`str`, *optional*): as in [`criticize`].

    Returns:
        `Dataset`: the same rows with `act_error_prob`, `act_critique`, and `act_failure` where nobody else labels.

    Raises:
        ACTError: for a data set that was not annotated, a missing column, no voters, or a label of another task.
    """
    task = claimed_task(dataset, task)
    voters, sure = _voters(dataset, votes, confidences)
    labels, said, confidence = _read(dataset.with_format(None), task, voters, sure)
    known, known_shares = labels >= 0, None if shares is None else shares_in_order(shares, task)
    error_probs = np.full(len(labels), np.nan)
    error_probs[known], accuracies = panel_error_probs(
        labels[known],
        said[known],
        len(task.labels),
        confidences=confidence[known],
        shares=known_shares,
        dependence=dependence,
    )
    rows = zip(labels.tolist(), said.tolist(), error_probs.tolist(), strict=True)
    verdicts = [_verdict(task, tuple(voters), *row) for row in rows]
    return add_record(
        criticized := add_verdicts(dataset, task, verdicts, suffix=suffix),
        "criticize",
        model=" + ".join(voters),
        strategy="panel",
        suffix=suffix,
        votes=voters,
        confidences=sure,
        shares=shares and dict(shares),
        dependence=dependence,
        accuracies=dict(zip([columns.LABEL, *voters], _rounded(accuracies), strict=True)),
        rows=len(criticized),
        failed=columns.count_failed(criticized, columns.FAILURE + suffix),
    )


def _verdict(task: Task, voters: Sequence[str], label: int, votes: Sequence[int], error_prob: float) -> Verdict:
    if label < 0:
        return Verdict()
    said: dict[int, list[str]] = {}
    for voter, vote in zip(voters, votes, strict=True):
        if vote >= 0:
            said.setdefault(vote, []).append(voter)
    if not said:
        return Verdict(failure=f"{STAGE} no other model labelled this row")
    parts = [_speech(task, vote, names) for vote, names in sorted(said.items(), key=lambda item: -len(item[1]))]
    return Verdict(error_prob, f'{", ".join(parts)}: {error_prob:.0%} that "{task.words[label]}" is wrong')


def _speech(task: Task, vote: int, names: Sequence[str]) -> str:
    who = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f'{who} {"says" if len(names) == 1 else "say"} "{task.words[vote]}"'


def _voters(
    dataset: Dataset, votes: Mapping[str, str] | Sequence[str] | None, confidences: Mapping[str, str] | None
) -> tuple[dict[str, str], dict[str, str]]:
    """The columns of the labels and of the confidences, by the voter's name."""
    sure = dict(confidences or {})
    if votes is None:
        names = dataset.column_names
        voters = {name.removeprefix(VOTE): name for name in names if name.startswith(VOTE)}
        sure = {name: CONFIDENCE + name for name in voters if CONFIDENCE + name in names} | sure
    else:
        voters = dict(votes) if isinstance(votes, Mapping) else {column: column for column in votes}
    if not voters:
        raise ACTError(
            "criticize: a panel needs voters; make columns of labels with add_votes, or name them in votes="
        )
    if columns.LABEL in voters.values():
        raise ACTError(f"criticize: {columns.LABEL!r} is what the panel judges; it is no vote")
    unknown = sorted(set(sure) - set(voters))
    if unknown:
        raise ACTError(f"criticize: confidences of {unknown[0]!r}, who is none of the voters {', '.join(voters)}")
    columns.require(dataset, [*voters.values(), *sure.values()], stage="criticize")
    return voters, sure


def _read(
    dataset: Dataset, task: Task, voters: Mapping[str, str], sure: Mapping[str, str]
) -> tuple[Ints, Ints, Floats]:
    """The labels `[N]` and votes `[N, M]`, -1 where there is none, and the confidences `[N, M]`, NaN where unknown."""
    coded = (label_ids(dataset, column, task) for column in (columns.LABEL, *voters.values()))
    labels, *said = ([-1 if one is None else one for one in ids] for ids in coded)
    unknown = [None] * len(dataset)
    found = [dataset[sure[name]][:] if name in sure else unknown for name in voters]
    return np.array(labels), np.array(said).T, np.array(found, dtype=np.float64).T


def shares_in_order(shares: Mapping[str, float], task: Task) -> list[float]:
    """The shares in the order of the task's labels. Raises [`ACTError`] for a name that is none of them."""
    for name in shares:
        task.index(name)
    return [shares.get(name, 0.0) for name in task.labels]


def _rounded(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 4) for value in values]


def add_votes(
    dataset: Dataset,
    task: Task,
    models: Mapping[str, Model],
    *,
    strategy: str = "naive",
    store: Store | str | Path | None = None,
    batch_size: int | None = None,
    max_tokens: int = 160,
    max_calls: int | None = None,
    max_cost: float | None = None,
) -> Dataset:
    """
    Adds the labels of other models, for [`criticize_panel`].

    Args:
        dataset (`Dataset`): has the task's columns.
        task ([`Task`]): what to label.
        models (mapping of `str` to [`Model`]): who votes, by a short name. Answers recorded earlier are a
            [`Recorded`].
        strategy (`str`, *optional*, defaults to `"naive"`): see [`Annotator`].
        store, batch_size, max_tokens, max_calls, max_cost (*optional*): as in [`annotate`]; the limits hold for all
            models together.

    Returns:
        `Dataset`: the same rows with `act_vote_NAME` for every model, `None` where it gave no label, and
        `act_confidence_NAME`, the probability of that label, for one that gives probabilities.

    Raises:
        ACTError: for no models, a data set that does not fit the task, or a model that cannot do it.
        LimitReached: at a limit. What was answered is in the store, and the same call goes on from there.
    """
    task.check(dataset, stage="votes")
    if not models:
        raise ACTError("a panel needs at least one model")
    usage = Usage(max_calls, max_cost)
    annotators = {
        name: Annotator(task, model, strategy, store, max_tokens=max_tokens, usage=usage)
        for name, model in models.items()
    }
    _warn_of_annotators(dataset, models)
    shown, failed = dataset.select_columns(list(task.columns)), {}
    with asked_ahead(
        shown,
        lambda batch: [annotator(batch) for annotator in annotators.values()],
        list(models.values()),
        usage=usage,
        batch_size=batch_size or max(rows_at_once(model, task) for model in models.values()),
    ):
        for name, annotator in annotators.items():
            labelled = _labelled(shown, annotator, batch_size, progress=f"vote ({name})")
            dataset = _with_ballots(dataset, labelled, name, probable=annotator.chooses)
            failed[name] = columns.count_failed(labelled)
    return add_record(
        dataset,
        "vote",
        task=task.to_dict(),
        model=" + ".join(model.name for model in models.values()),
        strategy=strategy,
        prompts=prompts.VERSION,
        rows=len(dataset),
        failed=failed,
        usage=usage_facts(usage),
    )


def _warn_of_annotators(dataset: Dataset, models: Mapping[str, Model]) -> None:
    made = stage_records(dataset, "annotate")
    asked = made[-1]["model"].split(" + ") if made else []
    for name, model in models.items():
        if model.name in asked:
            warnings.warn(
                f"{name} annotated these rows itself: its vote is no second opinion, and makes labels look better",
                stacklevel=3,
            )


def _labelled(dataset: Dataset, annotator: Annotator, batch_size: int | None, *, progress: str) -> Dataset:
    features = columns.column_features(annotator.task, LABELLED)
    rows = batch_size or rows_at_once(annotator.model, annotator.task)
    return columns.map_columns(dataset, annotator, features, batch_size=rows, progress=progress, usage=annotator.usage)


def _with_ballots(dataset: Dataset, labelled: Dataset, name: str, *, probable: bool) -> Dataset:
    """`dataset` with what a model labelled as that voter's columns."""
    from datasets import Features, Value

    if CONFIDENCE + name in dataset.column_names and not probable:
        dataset = dataset.remove_columns(CONFIDENCE + name)  # of an earlier voter of that name
    plain = labelled.with_format(None)
    values = {VOTE + name: plain[columns.LABEL][:]}
    types = Features({VOTE + name: labelled.features[columns.LABEL], CONFIDENCE + name: Value("float32")})
    if probable:
        values[CONFIDENCE + name] = [None if probs is None else max(probs) for probs in plain[columns.LABEL_PROBS][:]]
    return columns.add_columns(dataset, values, types)
