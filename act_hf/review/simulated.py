"""A simulated reviewer, for trying out the rest where the true labels are known."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.review.responses import Response, merge_responses


if TYPE_CHECKING:
    from datasets import Dataset


def simulate_review(dataset: Dataset, *, gold: str) -> Dataset:
    """
    Answers every selected row from a held-back column, as a person who is always right would. Copies of a row get one
    answer, the true label that most of those selected have.

    The record and the annotator's name say that it was simulated, and so does every report made from it.

    Args:
        dataset (`Dataset`): sampled rows.
        gold (`str`): the column with the true labels, a `ClassLabel` or text; its names are the task's.

    Returns:
        `Dataset`: as from [`merge_responses`].

    Raises:
        ACTError: for a missing column, one of another type, a selected row without a true label, or a true label that
            the task has not.
    """
    columns.require(dataset, [columns.ID, columns.SELECTED, gold], stage="review")
    annotator = f"simulated from column {gold!r}"
    dataset = dataset.with_format(None)
    rows = zip(dataset[columns.ID][:], dataset[columns.SELECTED][:], _names(dataset, gold), strict=True)
    answers: dict[str, list[str | None]] = defaultdict(list)
    for act_id, selected, name in rows:
        if selected:
            answers[act_id].append(name)
    # A person sees a row once, whatever its copies are labelled: the label that most of them have.
    named = {act_id: Counter(names).most_common(1)[0][0] for act_id, names in answers.items()}
    responses = [Response(act_id, annotator, name) for act_id, name in named.items() if name]
    unknown = len(answers) - len(responses)
    if unknown:
        raise ACTError(f"review: {unknown} of the selected rows have no {gold!r}, so no answer can be simulated")
    return merge_responses(dataset, responses, source=annotator, simulated=True)


def _names(dataset: Dataset, column: str) -> list[str | None]:
    values = dataset[column][:]
    if getattr(dataset.features[column], "dtype", None) in ("string", "large_string"):
        return values  # type: ignore[no-any-return]
    names = columns.class_names(dataset, column)
    # -1 is how some data sets write "no label".
    return [None if value is None or value < 0 else names[value] for value in values]
