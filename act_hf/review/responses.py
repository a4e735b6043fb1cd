"""What people answered, merged into the data set by `act_id`. Every way of reviewing ends here."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.records import add_record, recorded_task


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from datasets import Dataset

    from act_hf.task import Task


@dataclass(frozen=True)
class Response:
    """
    One person's answer for one row.

    Args:
        act_id (`str`): the row.
        annotator (`str`): who answered.
        label (`str`): the label's name.
    """

    act_id: str
    annotator: str
    label: str


def merge_responses(
    dataset: Dataset, responses: Sequence[Response], *, source: str, simulated: bool = False, replace: bool = False
) -> Dataset:
    """
    The data set with `responses` in `act_responses`, and `act_human` resolved from all of them.

    A row's human label is the one that most people gave; on a tie it is empty. Rows with the same content share an
    `act_id`: the answer goes to each of them that was selected, and to no other, so that `act_pi` stays the
    probability with which a row has a human label. Nothing is changed unless everything is in order.

    Args:
        dataset (`Dataset`): sampled rows; answers that they have already are kept.
        responses (sequence of [`Response`]): new answers, at most one a person and row. The same answer again is none.
        source (`str`): where they come from, for the record.
        simulated (`bool`, *optional*, defaults to `False`): no person answered. Said wherever a result is shown.
        replace (`bool`, *optional*, defaults to `False`): lets people change an answer they gave before.

    Returns:
        `Dataset`: the same rows with `act_human` and `act_responses`. The machine label is untouched.

    Raises:
        ACTError: for a row that is unknown or was not selected, an unknown label, two answers by one person for one
            row, or a changed answer without `replace`.
    """
    columns.require(dataset, [columns.ID, columns.LABEL, columns.SELECTED], stage="review")
    dataset = dataset.with_format(None)
    task = recorded_task(dataset)
    check_ids(dataset, [response.act_id for response in responses])
    for response in responses:
        task.index(response.label)
    given = _by_row(responses)
    merged = [
        _with(earlier, given.get(act_id, {}) if selected else {}, act_id, replace=replace)
        for act_id, selected, earlier in zip(
            dataset[columns.ID][:], dataset[columns.SELECTED][:], _earlier(dataset, task), strict=True
        )
    ]
    human = [resolve(answers.values()) for answers in merged]
    values: dict[str, list[Any]] = {
        columns.HUMAN: [None if label is None else task.index(label) for label in human],
        columns.RESPONSES: [
            [{"annotator": annotator, "label": label} for annotator, label in answers.items()] for answers in merged
        ],
    }
    reviewed = columns.add_columns(dataset, values, columns.column_features(task, values))
    return add_record(
        reviewed,
        "review",
        source=source,
        simulated=simulated,
        annotators=sorted({response.annotator for response in responses}),
        responses=len(responses),
        selected=sum(dataset[columns.SELECTED][:]),
        answered=sum(label is not None for label in human),
        ties=sum(bool(answers) and label is None for answers, label in zip(merged, human, strict=True)),
    )


def resolve(labels: Iterable[str]) -> str | None:
    """The label given most often, or `None` for a tie or no answer."""
    top = Counter(labels).most_common(2)
    if not top or (len(top) == 2 and top[0][1] == top[1][1]):
        return None
    return top[0][0]


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


def _by_row(responses: Sequence[Response]) -> dict[str, dict[str, str]]:
    given: dict[str, dict[str, str]] = defaultdict(dict)
    twice = []
    for response in responses:
        if response.annotator in given[response.act_id]:
            twice.append(response.act_id)
        given[response.act_id][response.annotator] = response.label
    if twice:
        raise ACTError(
            f"review: more than one answer by the same person for the {_some(twice)}; keep one for each row"
        )
    return given


def _earlier(dataset: Dataset, task: Task) -> list[dict[str, str]]:
    """Everybody's answers so far. A human label that came in another way counts as somebody's."""
    nothing = [None] * len(dataset)
    given = dataset[columns.RESPONSES][:] if columns.RESPONSES in dataset.column_names else nothing
    human = dataset[columns.HUMAN][:] if columns.HUMAN in dataset.column_names else nothing
    return [
        {answer["annotator"]: answer["label"] for answer in answers or _somebody(label, task)}
        for answers, label in zip(given, human, strict=True)
    ]


def _somebody(label: int | None, task: Task) -> list[dict[str, str]]:
    return [] if label is None else [{"annotator": "unknown", "label": task.labels[label]}]


def _with(earlier: Mapping[str, str], given: Mapping[str, str], act_id: str, *, replace: bool) -> dict[str, str]:
    for annotator, label in given.items():
        if earlier.get(annotator, label) != label and not replace:
            raise ACTError(
                f"review: {annotator!r} answered {earlier[annotator]!r} for {act_id} before and {label!r} now; "
                "pass replace=True (--replace) to change the answer"
            )
    return {**earlier, **given}


def _some(ids: Sequence[str]) -> str:
    names = ", ".join(map(repr, dict.fromkeys(ids[:3])))
    return f"act_id {names}" if len(ids) == 1 else f"{len(ids)} act_ids ({names}{', …' if len(ids) > 3 else ''})"
