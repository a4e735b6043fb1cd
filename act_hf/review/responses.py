"""What people answered, merged into the data set by `act_id`. Every way of reviewing ends here."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.human_labels import with_human_ids
from act_hf.records import add_record, recorded_task, stage_records
from act_hf.review.resolving import MAJORITY, resolve_answers


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from datasets import Dataset

    from act_hf.task import Task

Answer = dict[str, str | None]
"""One person's answer in `act_responses`: annotator, label, comment."""


@dataclass(frozen=True)
class Response:
    """
    One person's answer for one row.

    Args:
        act_id (`str`): the row.
        annotator (`str`): who answered.
        label (`str`): the label's name.
        comment (`str`, *optional*): what they had to say about it; `""` for nothing. With `None`, for a place that
            does not say, the comment that was there stays, to the same answer.
    """

    act_id: str
    annotator: str
    label: str
    comment: str | None = None


def merge_responses(
    dataset: Dataset,
    responses: Sequence[Response],
    *,
    source: str,
    simulated: bool = False,
    replace: bool = False,
    resolve: str | None = None,
    left: Sequence[str] = (),
) -> Dataset:
    """
    The data set with `responses` in `act_responses`, and `act_human` resolved from all of them.

    Rows with the same content share an `act_id`: the answer goes to each of them that was selected, and to no other,
    so that `act_pi` stays the probability with which a row has a human label; one that a further wave draws gets the
    answers that were given before. Nothing is changed unless everything is in order.

    Args:
        dataset (`Dataset`): sampled rows; answers that they have already are kept.
        responses (sequence of [`Response`]): new answers, at most one a person and row. The same answer again is none.
        source (`str`): where they come from, for the record.
        simulated (`bool`, *optional*, defaults to `False`): no person answered. Said wherever a result is shown.
        replace (`bool`, *optional*, defaults to `False`): lets people change an answer they gave before.
        resolve (`str`, *optional*): how several answers become one: `"majority"` (the label that most people gave) or
            `"dawid_skene"` (people who are right more often count for more); see [`resolve_answers`]. A tie leaves the
            row open. By default as the last time, and the majority at first.
        left (sequence of `str`): what was not taken and why, for the record.

    Returns:
        `Dataset`: the same rows with `act_human` and `act_responses`. The machine label is untouched. The data set
        itself where this changes nothing.

    Raises:
        ACTError: for a row that is unknown or was not selected, an unknown label, also in `act_human`, two answers by
            one person for one row, or a changed answer without `replace`.
    """
    columns.require(dataset, [columns.ID, columns.LABEL, columns.SELECTED], stage="review")
    task = recorded_task(dataset)
    as_given, dataset = dataset, with_human_ids(dataset.with_format(None), task.labels)
    check_ids(dataset, [response.act_id for response in responses])
    for response in responses:
        task.index(response.label)
    given = _by_row(responses)
    earlier = _shared(dataset, _earlier(dataset, task))
    merged = [
        _with(known, given.get(act_id, {}) if selected else {}, act_id, replace=replace)
        for act_id, selected, known in zip(dataset[columns.ID][:], dataset[columns.SELECTED][:], earlier, strict=True)
    ]
    method = resolve or _last_method(dataset)
    human = resolve_answers([labels_given(answers.values()) for answers in merged], len(task.labels), method)
    values: dict[str, list[Any]] = {
        columns.HUMAN: [None if label is None else task.index(label) for label in human],
        columns.RESPONSES: [list(answers.values()) for answers in merged],
    }
    same = all(name in dataset.column_names and dataset[name][:] == values[name] for name in values)
    if same and method == _last_method(dataset):  # the record keeps how the next answers are resolved
        return as_given
    reviewed = columns.add_columns(dataset, values, columns.column_features(task, values))
    return add_record(
        reviewed,
        "review",
        source=source,
        simulated=simulated,
        annotators=sorted({response.annotator for response in responses}),
        resolve=method,
        responses=len(responses),
        selected=sum(dataset[columns.SELECTED][:]),
        answered=sum(label is not None for label in human),
        ties=sum(bool(answers) and label is None for answers, label in zip(merged, human, strict=True)),
        **({"left": list(left)} if left else {}),
    )


def _last_method(dataset: Dataset) -> str:
    made = stage_records(dataset, "review")
    return str(made[-1].get("resolve", MAJORITY)) if made else MAJORITY


def labels_given(answers: Iterable[Answer] | None) -> dict[str, str]:
    """What each person answered, from a cell of `act_responses`."""
    return {str(answer["annotator"]): str(answer["label"]) for answer in answers or ()}


def check_ids(dataset: Dataset, ids: Sequence[str]) -> None:
    """Raises [`ACTError`] unless every one of `ids` is the `act_id` of a row that was selected."""
    selected: dict[str, bool] = defaultdict(bool)
    for act_id, chosen in zip(dataset[columns.ID][:], dataset[columns.SELECTED][:], strict=True):
        selected[act_id] |= chosen
    unknown = [act_id for act_id in ids if act_id not in selected]
    if unknown:
        raise ACTError(
            f"review: no row of the data set has the {_some(unknown)}; were these answers given for another one?"
        )
    idle = [act_id for act_id in ids if not selected[act_id]]
    if idle:
        raise ACTError(f"review: answers for rows that were not selected, with the {_some(idle)}")


def _by_row(responses: Sequence[Response]) -> dict[str, dict[str, Response]]:
    given: dict[str, dict[str, Response]] = defaultdict(dict)
    twice = []
    for response in responses:
        if response.annotator in given[response.act_id]:
            twice.append(response.act_id)
        given[response.act_id][response.annotator] = response
    if twice:
        raise ACTError(
            f"review: more than one answer by the same person for the {_some(twice)}; keep one for each row"
        )
    return given


def _earlier(dataset: Dataset, task: Task) -> list[dict[str, Answer]]:
    """Everybody's answers so far. A human label that came in another way counts as somebody's."""
    nothing = [None] * len(dataset)
    given = dataset[columns.RESPONSES][:] if columns.RESPONSES in dataset.column_names else nothing
    human = dataset[columns.HUMAN][:] if columns.HUMAN in dataset.column_names else nothing
    return [
        {one["annotator"]: _answer(**one) for one in answers or _somebody(label, task)}
        for answers, label in zip(given, human, strict=True)
    ]


def _shared(dataset: Dataset, earlier: list[dict[str, Answer]]) -> list[dict[str, Answer]]:
    """A row that was drawn has the answers of its copies that were, too: a wave may draw one after they were given."""
    rows = list(zip(dataset[columns.ID][:], dataset[columns.SELECTED][:], earlier, strict=True))
    known: dict[str, dict[str, Answer]] = defaultdict(dict)
    for act_id, selected, own in rows:
        if selected:
            known[act_id] |= own
    return [known[act_id] | own if selected else own for act_id, selected, own in rows]


def _somebody(label: int | None, task: Task) -> list[dict[str, str]]:
    return [] if label is None else [{"annotator": "unknown", "label": task.labels[label]}]


def _answer(annotator: str, label: str, comment: str | None = None) -> Answer:
    return {"annotator": annotator, "label": label, "comment": comment or None}


def _with(
    earlier: Mapping[str, Answer], given: Mapping[str, Response], act_id: str, *, replace: bool
) -> dict[str, Answer]:
    merged = dict(earlier)
    for annotator, response in given.items():
        before = earlier.get(annotator, _answer(annotator, response.label))
        same = before["label"] == response.label
        if not same and not replace:
            raise ACTError(
                f"review: {annotator!r} answered {before['label']!r} for {act_id} before and {response.label!r} now; "
                "pass replace=True (--replace) to change the answer"
            )
        # A file without a column of comments says nothing against the comment that was there, to the same answer.
        comment = before["comment"] if same and response.comment is None else response.comment
        merged[annotator] = _answer(annotator, response.label, comment)
    return merged


def _some(ids: Sequence[str]) -> str:
    names = ", ".join(map(repr, dict.fromkeys(ids[:3])))
    return f"act_id {names}" if len(ids) == 1 else f"{len(ids)} act_ids ({names}{', …' if len(ids) > 3 else ''})"
