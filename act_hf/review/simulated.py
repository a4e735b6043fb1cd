"""A simulated reviewer, for trying out the rest where the true labels are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.review.responses import Response, merge_responses


if TYPE_CHECKING:
    from datasets import Dataset


def simulate_review(dataset: Dataset, *, gold: str) -> Dataset:
    """
    Answers every selected row from a held-back column, as a person who is always right would.

    The record and the annotator's name say that it was simulated, and so does every report made from it.

    Args:
        dataset (`Dataset`): sampled rows.
        gold (`str`): the `ClassLabel` column with the true labels; its names are the task's.

    Returns:
        `Dataset`: as from [`merge_responses`].

    Raises:
        ACTError: for a missing column, one that is not a `ClassLabel`, or a selected row without a true label.
    """
    columns.require(dataset, [columns.ID, columns.SELECTED, gold], stage="review")
    names = columns.class_names(dataset, gold)
    annotator = f"simulated from column {gold!r}"
    dataset = dataset.with_format(None)
    rows = zip(*(dataset[name][:] for name in (columns.ID, columns.SELECTED, gold)), strict=True)
    answers = {act_id: label for act_id, selected, label in rows if selected}
    unknown = sum(label is None or label < 0 for label in answers.values())  # -1 is how some data sets write "none"
    if unknown:
        raise ACTError(f"review: {unknown} of the selected rows have no {gold!r}, so no answer can be simulated")
    responses = [Response(act_id, annotator, names[label]) for act_id, label in answers.items()]
    return merge_responses(dataset, responses, source=annotator, simulated=True)
