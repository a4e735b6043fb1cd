"""`act_human` as another tool may have written it: every stage reads it by name."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import ClassLabel, Value

from act_hf import build_report, calibrate, check_target, plan_review, pull_review, push_review, review_status
from act_hf.cli.results import _without_lost_rows
from act_hf.columns import HUMAN, LABEL
from act_hf.errors import ACTError
from act_hf.human_labels import has_human, with_human_ids
from act_hf.review.argilla.place import waiting_ids
from act_hf.sampling import sample
from act_hf.trained import training_facts
from act_hf.training_set import to_training
from tests.support.reviews import reviewed


LABELS = ["right", "other"]  # as the task has them; not in the order of the alphabet


def by_hand(values, feature=None, *, but=0):
    dataset = reviewed(but=but).remove_columns(HUMAN)
    return dataset.add_column(HUMAN, values, feature=feature)


def names(but=0):
    return [None if label is None else LABELS[label] for label in reviewed(but=but)[HUMAN][:]]


def ids(order, none=None, but=0):
    return [none if name is None else order.index(name) for name in names(but)]


SORTED = ClassLabel(names=sorted(LABELS))
FORMS = {
    "sorted": lambda but: by_hand(ids(sorted(LABELS), but=but), SORTED, but=but),
    "encoded": lambda but: by_hand(names(but), but=but).class_encode_column(HUMAN),
    "minus": lambda but: by_hand(ids(LABELS, -1, but), ClassLabel(names=LABELS), but=but),
    "sorted_minus": lambda but: by_hand(ids(sorted(LABELS), -1, but), SORTED, but=but),
    "text": lambda but: by_hand(names(but), but=but),
    "large_text": lambda but: by_hand(names(but), Value("large_string"), but=but),
    "empty_text": lambda but: by_hand([name or "" for name in names(but)], but=but),
}


def pulled(dataset, folder):
    """The names after a pull of one new answer."""
    sheet = folder / "sheet.csv"
    push_review(dataset, sheet)
    head, row, *rest = sheet.read_text().splitlines()
    cells = dict(zip(head.split(","), row.split(","), strict=True)) | {HUMAN: "right"}
    sheet.write_text("\n".join([head, ",".join(cells.values()), *rest]) + "\n")
    after = pull_review(dataset, sheet)
    return [
        after.features[HUMAN].names,
        after[HUMAN][:],
        [row and [one["label"] for one in row] for row in after["act_responses"][:]],
    ]


def trained(dataset, mode):
    rows = to_training(dataset, mode=mode)
    return [rows[LABEL][:], rows[HUMAN][:], rows.features[LABEL]]


READERS = {
    "pull": (5, pulled),
    "status": (5, lambda dataset, _: review_status(dataset)),
    "waiting": (5, lambda dataset, _: waiting_ids(dataset)),
    "check_target": (0, lambda dataset, _: check_target(dataset, target=0.9)),
    "plan_review": (0, lambda dataset, _: plan_review(dataset, target=0.9)),
    "calibrate": (5, lambda dataset, _: calibrate(dataset)["act_error_prob"][:]),
    "sample": (0, lambda dataset, _: sample(dataset, budget=20, wave=2)["act_selected"][:]),
    "report": (5, lambda dataset, _: build_report(dataset).summary()),
    "act": (0, lambda dataset, _: trained(dataset, "act")),
    "corrected": (5, lambda dataset, _: trained(dataset, "corrected")),
    "human": (0, lambda dataset, _: trained(dataset.filter(lambda row: row["act_selected"]), "human")),
    "facts": (5, lambda dataset, _: training_facts(dataset)["human"]),
    "lost": (5, lambda dataset, _: len(_without_lost_rows(dataset.remove_columns(LABEL)))),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", FORMS)
def test_the_same_labels_in_another_form_give_the_same(reader, form, tmp_path):
    but, read = READERS[reader]
    (tmp_path / "own").mkdir()
    assert read(FORMS[form](but), tmp_path) == read(reviewed(but=but), tmp_path / "own")


ASKED = {name: reader for name, reader in READERS.items() if name not in ("sample", "facts", "lost")}


@pytest.mark.parametrize("reader", ASKED)
@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda but: by_hand(ids(LABELS, but=but), but=but), r"'act_human' is Value\('int64'\).*ClassLabel\(names="),
        (
            lambda but: by_hand([name and name.upper() for name in names(but)], but=but),
            "'RIGHT|OTHER' in column 'act_human' is none of the labels right, other",
        ),
        (
            lambda but: by_hand(ids(LABELS, but=but), ClassLabel(names=["right", "wrong"]), but=but),
            "'wrong' in column 'act_human' is none of the labels right, other",
        ),
    ],
    ids=["numbers", "text", "names"],
)
def test_what_names_no_label_is_refused(reader, form, message, tmp_path):
    but, read = ASKED[reader]
    with pytest.raises(ACTError, match=message):
        read(form(but), tmp_path)


def test_a_column_in_order_costs_nothing():
    dataset = reviewed()
    assert with_human_ids(dataset) is dataset
    bare = dataset.remove_columns(HUMAN)
    assert with_human_ids(bare) is bare
    assert not has_human(bare).any()


@pytest.mark.parametrize("kind", ["null", "int64", "string"])
def test_an_empty_column_is_nobody(kind):
    dataset = by_hand([None] * 400, Value(kind))
    assert with_human_ids(dataset)[HUMAN][:] == [None] * 400
    assert not has_human(dataset).any()


def test_rows_picked_and_a_format_stay():
    dataset = FORMS["text"](0).select(range(399, -1, -1)).with_format("numpy", columns=["act_pi"])
    after = with_human_ids(dataset)
    assert after.format["type"] == "numpy"
    assert after.with_format(None)[HUMAN][:] == reviewed()[HUMAN][::-1]
    assert np.array_equal(has_human(after), has_human(dataset))
