"""Rows out to people and answers back, by whatever way a spreadsheet or a person mangles the file in between."""

import csv
import io
import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from act_hf.columns import (
    CRITIQUE,
    ERROR_PROB,
    HUMAN,
    ID,
    LABEL,
    PI,
    RESPONSES,
    SELECTED,
    WAVE,
    add_columns,
    column_features,
)
from act_hf.errors import ACTError
from act_hf.records import add_record, stage_records
from act_hf.review.places import pull_review, push_review
from act_hf.review.resolving import majority
from act_hf.review.responses import Response, merge_responses
from act_hf.review.rows import rows_to_review
from act_hf.review.simulated import simulate_review
from act_hf.review.status import review_status
from act_hf.review.table import ANNOTATOR, CHOICES, COMMENT, Table
from act_hf.task import Task


LABELS = ("ham", "spam", "-5")
TASK = Task(labels=LABELS, text="sms")
TEXTS = ("see you", "you won", "call me", "see you", "buy now", "ok")
TRUTH = (0, 1, 0, 0, 1, 0)
MACHINE = (1, 1, 0, 1, None, 0)
DOUBT = (0.9, 0.25, 0.5, 0.9, None, 0.1)
CHOSEN = (True, True, False, False, True, True)


def drawn(texts=TEXTS, *, task=TASK, chosen=None, gold=TRUTH, **changes) -> Dataset:
    """Rows as `sample` leaves them; the first and the fourth have the same content, and one of them was drawn."""
    rows = len(texts)
    shown = Features({"sms": Value("string"), "truth": ClassLabel(names=list(LABELS))})
    dataset = Dataset.from_dict({"sms": texts, "truth": (list(gold) * rows)[:rows]}, features=shown)
    values = {
        ID: [task.row_id({"sms": text}) for text in texts],
        LABEL: (list(MACHINE) * rows)[:rows],
        ERROR_PROB: (list(DOUBT) * rows)[:rows],
        CRITIQUE: ["because"] * rows,
        PI: [0.5] * rows,
        SELECTED: list(chosen) if chosen else (list(CHOSEN) * rows)[:rows],
        **changes,
    }
    return add_record(add_columns(dataset, values, column_features(task, values)), "annotate", task=task.to_dict())


def act_id(text: str) -> str:
    return TASK.row_id({"sms": text})


def read(path) -> list[dict]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


def write(path, rows, *, fields=None, encoding="utf-8", **options) -> None:
    """The file as another program saves it."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding=encoding)
        return
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, fields or list(rows[0]), extrasaction="ignore", **options)
        writer.writeheader()
        writer.writerows(rows)


def answered(path, **answers) -> None:
    """Fills in `act_human`: by text in `answers`, else "ham"."""
    write(path, [row | {HUMAN: answers.get(row["sms"], answers.get("other", "ham"))} for row in read(path)])


def push_table(dataset: Dataset, path, *, overwrite=False, **options) -> int:
    return push_review(dataset, Table(path, overwrite=overwrite), **options).new


def pull_table(dataset: Dataset, path, *, annotator="reviewer", **options) -> Dataset:
    return pull_review(dataset, Table(path, annotator=annotator), **options)


def human(dataset: Dataset) -> list[str | None]:
    return [None if label is None else LABELS[label] for label in dataset[HUMAN]]


@pytest.fixture(params=[".csv", ".jsonl"])
def path(request, tmp_path):
    return tmp_path / f"review{request.param}"


@pytest.fixture
def sheet(tmp_path):
    return tmp_path / "review.csv"


class TestPush:
    def test_what_a_person_sees(self, path):
        assert push_table(drawn(), path) == 4
        rows = read(path)
        assert list(rows[0]) == [ID, "sms", LABEL, ERROR_PROB, CRITIQUE, CHOICES, HUMAN]
        assert {row[CHOICES] for row in rows} == {"ham | spam | -5"}
        assert {row[HUMAN] or None for row in rows} == {None}

    def test_the_most_doubtful_come_first_and_before_them_those_nobody_judged(self, path):
        push_table(drawn(), path)
        assert [row["sms"] for row in read(path)] == ["buy now", "see you", "you won", "ok"]
        assert [row[LABEL] or None for row in read(path)] == [None, "spam", "spam", "ham"]

    def test_the_truth_is_not_shown(self, path):
        push_table(drawn(), path)
        assert not any("truth" in row for row in read(path))

    def test_a_content_that_was_drawn_twice_is_asked_once(self, path):
        assert push_table(drawn(chosen=[True] * 6), path) == 5
        assert sorted(row["sms"] for row in read(path)).count("see you") == 1

    def test_without_a_critic(self, path):
        push_table(drawn().remove_columns([ERROR_PROB, CRITIQUE]), path)
        assert [row["sms"] for row in read(path)] == ["see you", "you won", "buy now", "ok"]

    def test_a_format_of_the_data_set_does_not_matter(self, path, tmp_path):
        push_table(drawn().with_format("numpy"), path)
        push_table(drawn(), tmp_path / f"plain{path.suffix}")
        assert path.read_bytes() == (tmp_path / f"plain{path.suffix}").read_bytes()

    @pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
    def test_no_cell_is_a_formula(self, sheet, start):
        nasty = f'{start}HYPERLINK("http://evil";"x")'
        push_table(drawn([nasty, "fine"], chosen=[True, True], **{CRITIQUE: [nasty, "fine"]}), sheet)
        cells = [cell for row in read(sheet) for cell in row.values()]
        assert [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n", "＝") and cell] == []
        answered(sheet)
        assert human(pull_table(drawn([nasty, "fine"], chosen=[True, True]), sheet)) == ["ham", "ham"]

    @pytest.mark.parametrize("text", ["007", "1e5", "1/2", "12.5.", "3:30", "50 %", "2026-01-01", "1,5"])
    def test_no_text_is_taken_for_a_number(self, sheet, text):
        push_table(drawn([text, "2 nice"], chosen=[True, True]), sheet)
        assert sorted(row["sms"] for row in read(sheet)) == sorted([f"'{text}", "2 nice"])
        answered(sheet)
        assert human(pull_table(drawn([text, "2 nice"], chosen=[True, True]), sheet)) == ["ham", "ham"]

    def test_a_megabyte_of_numbers_is_a_text_at_once(self, sheet):
        text = "1" * 1_000_000 + "x"
        push_table(drawn([text], chosen=[True]), sheet)
        assert text in sheet.read_text(encoding="utf-8-sig")

    def test_no_id_is_taken_for_a_number(self, sheet):
        """One in about 4,000 ids has no letter, or only an e in the middle: Excel saves 1.2E+19 for it."""
        ids = ["12345678901234567890", "1234567890e123456789", "12345678901234567abc"]
        dataset = drawn(["a", "b", "c"], chosen=[True] * 3, **{ID: ids})
        push_table(dataset, sheet)
        assert {row[ID] for row in read(sheet)} == {f"'{ids[0]}", f"'{ids[1]}", ids[2]}
        answered(sheet)
        assert human(pull_table(dataset, sheet)) == ["ham"] * 3
        write(sheet, [row | {ID: row[ID].removeprefix("'")} for row in read(sheet)])
        assert human(pull_table(dataset, sheet)) == ["ham"] * 3

    def test_a_label_that_looks_like_a_formula_can_be_answered_either_way(self, sheet):
        push_table(drawn(), sheet)
        answered(sheet, other="-5", ok="'-5")
        assert human(pull_table(drawn(), sheet)) == ["-5", "-5", None, None, "-5", "-5"]

    def test_jsonl_is_not_escaped(self, tmp_path):
        push_table(drawn(["=1"], chosen=[True]), tmp_path / "review.jsonl")
        assert read(tmp_path / "review.jsonl")[0]["sms"] == "=1"

    def test_excel_is_told_that_it_is_utf_8(self, sheet):
        push_table(drawn(["grüße 😀"], chosen=[True]), sheet)
        assert sheet.read_bytes().startswith(b"\xef\xbb\xbf")

    def test_a_file_with_answers_in_it_is_kept(self, path):
        push_table(drawn(), path)
        answered(path)
        before = path.read_bytes()
        assert push_table(drawn(), path) == 0
        assert path.read_bytes() == before
        push_table(drawn(), path, overwrite=True)
        assert path.read_bytes() != before
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_a_further_wave_goes_below_the_answers_that_are_there(self, path):
        first = drawn(**{WAVE: [1, 1, None, None, None, None]}, chosen=[True, True, False, False, False, False])
        push_table(first, path)
        answered(path)
        second = drawn(**{WAVE: [1, 1, None, None, 2, 2]})
        done = push_review(second, Table(path))
        assert (done.new, done.there) == (2, 2)
        assert [row["sms"] for row in read(path)] == ["see you", "you won", "buy now", "ok"]
        assert [row[HUMAN] or None for row in read(path)] == ["ham", "ham", None, None]
        assert human(pull_table(second, path)) == ["ham", "ham", None, None, None, None]

    def test_what_a_spreadsheet_made_of_the_file_stays(self, sheet):
        first = drawn(["=1+1", "two"], chosen=[True, False])
        push_table(first, sheet)
        write(sheet, [row | {HUMAN: "spam", "notes": "=mine"} for row in read(sheet)], delimiter=";")
        both = drawn(["=1+1", "two"], chosen=[True, True])
        push_table(both, sheet)
        assert [(row["sms"], row["notes"]) for row in read(sheet)] == [("'=1+1", "=mine"), ("two", "")]
        assert human(pull_table(both, sheet)) == ["spam", None]

    def test_one_wave(self, path):
        dataset = drawn(**{WAVE: [1, 1, None, None, 2, 2]})
        assert push_table(dataset, path, wave=2) == 2
        assert [row["sms"] for row in read(path)] == ["buy now", "ok"]
        with pytest.raises(ACTError, match="no row was drawn in wave 3; there is 1, 2"):
            push_table(dataset, path, wave=3)

    def test_people_are_not_asked_again_unless_that_is_meant(self, path):
        labelled = drawn(**{HUMAN: [1, None, 1, None, None, None]})
        assert push_table(labelled, path) == 3
        assert push_table(labelled, path, answered=True) == 1
        with pytest.raises(ACTError, match="all 4 rows have a human label; answered=True"):
            push_table(drawn(**{HUMAN: [0] * 6}), path)

    def test_of_two_copies_the_more_doubtful_is_shown(self, path):
        push_table(drawn(["a", "a"], chosen=[True, True], **{ERROR_PROB: [0.1, 0.7], LABEL: [0, 1]}), path)
        assert [(row[LABEL], float(row[ERROR_PROB])) for row in read(path)] == [("spam", 0.7)]

    @pytest.mark.parametrize(
        ("dataset", "says"),
        [
            (drawn(chosen=[False] * 6), "no row is selected"),
            (drawn().remove_columns([SELECTED]), "no column 'act_selected'"),
            (drawn().select([]), "0 rows"),
            (drawn().remove_columns(["sms"]), "review push: no column 'sms'"),
            (drawn().select(range(2)).with_format(None).remove_columns([ID]), "no column 'act_id'"),
        ],
    )
    def test_what_cannot_be_pushed(self, path, dataset, says):
        with pytest.raises(ACTError, match=says):
            push_table(dataset, path)
        assert list(path.parent.iterdir()) == []

    def test_images_do_not_fit(self, path):
        picture = Dataset.from_dict({"i": [Picture.new("RGB", (2, 2))]}, features=Features({"i": Image()}))
        task = Task(labels=LABELS, image="i")
        values = {ID: ["x"], LABEL: [0], SELECTED: [True]}
        dataset = add_columns(picture, values, column_features(task, values))
        with pytest.raises(ACTError, match="cannot show the images of column 'i'"):
            push_table(add_record(dataset, "annotate", task=task.to_dict()), path)

    def test_other_endings(self, tmp_path):
        with pytest.raises(ACTError, match=r"ends in .csv or .jsonl, not '.xlsx'"):
            push_table(drawn(), tmp_path / "review.xlsx")

    def test_a_folder_in_the_way(self, path):
        path.mkdir()
        with pytest.raises(ACTError, match="cannot write the review file"):
            push_table(drawn(), path, overwrite=True)
        assert list(path.iterdir()) == []
        assert list(path.parent.iterdir()) == [path]


class TestPull:
    def test_there_and_back(self, path):
        push_table(drawn(), path)
        answered(path, **{"buy now": "spam", "see you": "-5"})
        pulled = pull_table(drawn(), path, annotator="ann")
        assert human(pulled) == ["-5", "ham", None, None, "spam", "ham"]
        assert pulled[RESPONSES][0] == [{"annotator": "ann", "label": "-5", "comment": None}]
        assert pulled[RESPONSES][2] == []
        assert pulled.features[HUMAN] == pulled.features[LABEL]

    def test_everything_else_stays(self, path):
        push_table(drawn(), path)
        answered(path)
        pulled = pull_table(drawn(), path)
        for name in drawn().column_names:
            assert pulled[name][:] == drawn()[name][:], name

    def test_the_copy_that_was_not_drawn_gets_no_answer(self, path):
        push_table(drawn(), path)
        answered(path)
        assert human(pull_table(drawn(), path))[3] is None

    def test_every_copy_that_was_drawn_gets_the_answer(self, path):
        everything = drawn(chosen=[True] * 6)
        push_table(everything, path)
        answered(path, **{"see you": "spam"})
        assert human(pull_table(everything, path)) == ["spam", "ham", "ham", "spam", "ham", "ham"]

    def test_a_copy_that_a_further_wave_draws_gets_the_answers_given_before(self, path):
        """It is not asked again, so that nothing else could give it a label."""
        first = merge_responses(drawn(), [Response(act_id("see you"), "ann", "spam", "sure")], source="test")
        later = [True, True, False, True, True, True]
        second = first.remove_columns(SELECTED).add_column(SELECTED, later)
        status = review_status(second)
        assert (status.selected, status.answered) == (4, 1)
        push_table(second, path)
        assert "see you" not in [row["sms"] for row in read(path)]
        answered(path)
        both = pull_table(second, path)
        assert human(both) == ["spam", "ham", None, "spam", "ham", "ham"]
        assert both[RESPONSES][3] == both[RESPONSES][0]

    def test_partly_answered(self, path):
        push_table(drawn(), path)
        answered(path, other="", ok="spam")
        assert human(pull_table(drawn(), path)) == [None, None, None, None, None, "spam"]

    def test_the_rest_later(self, path):
        push_table(drawn(), path)
        answered(path, other="", ok="spam")
        first = pull_table(drawn(), path)
        answered(path, other="ham", ok="")
        assert human(pull_table(first, path)) == ["ham", "ham", None, None, "ham", "spam"]

    def test_twice_is_once(self, path):
        push_table(drawn(), path)
        answered(path)
        once = pull_table(drawn(), path)
        assert pull_table(once, path) is once

    def test_comments(self, path):
        push_table(drawn(), path)
        write(path, [row | {HUMAN: "ham", COMMENT: "hard" if row["sms"] == "ok" else ""} for row in read(path)])
        once = pull_table(drawn(), path)
        assert [answers[0]["comment"] for answers in once[RESPONSES] if answers] == [None, None, None, "hard"]
        commented = read(path)
        write(path, [{ID: row[ID], HUMAN: row[HUMAN]} for row in commented])
        assert pull_table(once, path).to_dict() == once.to_dict()
        write(path, [row | {COMMENT: ""} for row in commented])
        assert [answers[0]["comment"] for answers in pull_table(once, path)[RESPONSES] if answers] == [None] * 4

    def test_a_comment_is_to_the_answer_that_it_came_with(self):
        said = Response(act_id("ok"), "ann", "ham", "surely ham")
        once = merge_responses(drawn(), [said], source="test")
        changed = merge_responses(once, [Response(said.act_id, "ann", "spam")], source="test", replace=True)
        assert changed[RESPONSES][5] == [{"annotator": "ann", "label": "spam", "comment": None}]

    def test_the_way_of_resolving_is_kept_where_it_changes_no_label(self):
        said = [Response(act_id("ok"), "ann", "ham")]
        once = merge_responses(drawn(), said, source="test")
        weighed = merge_responses(once, said, source="test", resolve="dawid_skene")
        assert stage_records(weighed, "review")[-1]["resolve"] == "dawid_skene"
        assert merge_responses(weighed, said, source="test").info.description == weighed.info.description

    def test_answers_are_still_there_after_another_push(self, path):
        push_table(drawn(), path)
        answered(path)
        once = pull_table(drawn(), path)
        push_table(once, path, overwrite=True, answered=True)
        answered(path, other="", ok="ham")
        assert human(pull_table(once, path)) == human(once)

    def test_a_changed_answer_has_to_be_meant(self, path):
        push_table(drawn(), path)
        answered(path)
        once = pull_table(drawn(), path)
        answered(path, ok="spam")
        with pytest.raises(ACTError, match=f"'reviewer' answered 'ham' for {act_id('ok')} before and 'spam' now"):
            pull_table(once, path)
        assert human(pull_table(once, path, replace=True))[5] == "spam"

    def test_several_people_in_one_file(self, path):
        push_table(drawn(), path)
        people = [("ann", "ham"), ("bob", "spam"), ("eve", "spam")]
        write(path, [row | {ANNOTATOR: who, HUMAN: label} for row in read(path) for who, label in people])
        pulled = pull_table(drawn(), path)
        assert human(pulled) == ["spam", "spam", None, None, "spam", "spam"]
        assert pulled[RESPONSES][0] == [{"annotator": who, "label": label, "comment": None} for who, label in people]

    def test_a_line_that_does_not_say_who_is_by_the_one_given(self, path):
        push_table(drawn(), path)
        write(path, [row | {ANNOTATOR: None, HUMAN: "ham"} for row in read(path)])
        assert pull_table(drawn(), path, annotator="ann")[RESPONSES][0][0]["annotator"] == "ann"

    def test_a_tie_leaves_the_row_open_until_a_third_person_decides(self, path):
        dataset = drawn()
        for who, label, resolved in (("ann", "ham", "ham"), ("bob", "spam", None), ("eve", "spam", "spam")):
            push_table(dataset, path, overwrite=True, answered=True)
            answered(path, other=label)
            dataset = pull_table(dataset, path, annotator=who)
            assert human(dataset) == [resolved, resolved, None, None, resolved, resolved]

    def test_a_human_label_that_came_in_another_way_is_kept_and_counted(self, path):
        labelled = drawn(**{HUMAN: [1, None, 1, None, None, None]})
        push_table(labelled, path, answered=True)
        answered(path, **{"see you": "", "other": "ham"})
        pulled = pull_table(labelled, path)
        assert human(pulled) == ["spam", "ham", "spam", None, "ham", "ham"]
        answered(path, **{"see you": "ham", "other": ""})
        assert human(pull_table(labelled, path))[0] is None  # two people, two labels

    def test_numbers_and_truth_values_of_jsonl_are_answers(self, tmp_path):
        path, task = tmp_path / "review.jsonl", Task(labels=("0", "1"), text="sms")
        dataset = drawn(["a", "b"], task=task, chosen=[True, True], **{LABEL: [0, 1]})
        push_table(dataset, path)
        write(path, [row | {HUMAN: 0} for row in read(path)])
        assert pull_table(dataset, path)[HUMAN] == [0, 0]

    def test_jsonl_without_the_empty_values(self, tmp_path):
        path = tmp_path / "review.jsonl"
        push_table(drawn(), path)
        rows = [{key: value for key, value in row.items() if value is not None} for row in read(path)]
        write(path, [rows[0] | {HUMAN: "spam"}, *rows[1:]])
        assert human(pull_table(drawn(), path))[4] == "spam"

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=4))
    @pytest.mark.parametrize("ending", [".csv", ".jsonl"])
    def test_any_text_comes_back(self, tmp_path_factory, ending, texts):
        path = tmp_path_factory.mktemp("any") / f"review{ending}"
        dataset = drawn(texts, chosen=[True] * len(texts))
        push_table(dataset, path)
        answered(path)
        assert human(pull_table(dataset, path)) == ["ham"] * len(texts)

    def test_a_very_long_text(self, path):
        dataset = drawn(["x" * 200_000], chosen=[True])
        push_table(dataset, path)
        content = path.read_text(encoding="utf-8-sig")
        assert "x" * 200_000 in content
        path.write_text(content.replace(": null", ': "ham"') if path.suffix == ".jsonl" else f"{content.strip()}ham")
        assert human(pull_table(dataset, path)) == ["ham"]


class TestSavedBySpreadsheets:
    @pytest.fixture
    def rows(self, sheet):
        texts = ["a, b; c", 'say "hi"', "two\nlines", "=1+1", "grüße 😀 \u2028 end", " blanks "]
        self.dataset = drawn(texts, chosen=[True] * 6)
        push_table(self.dataset, sheet)
        return [row | {HUMAN: "spam"} for row in read(sheet)]

    def pulled(self, sheet):
        return human(pull_table(self.dataset, sheet))

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("lineterminator", ["\r\n", "\n"])
    def test_separators_marks_and_line_ends(self, sheet, rows, encoding, delimiter, lineterminator):
        write(sheet, rows, encoding=encoding, delimiter=delimiter, lineterminator=lineterminator)
        assert self.pulled(sheet) == ["spam"] * 6

    def test_every_cell_quoted(self, sheet, rows):
        write(sheet, rows, quoting=csv.QUOTE_ALL)
        assert self.pulled(sheet) == ["spam"] * 6

    @pytest.mark.parametrize("fields", [(ID, HUMAN), (HUMAN, "sms", ID), (ID, HUMAN, CHOICES)])
    def test_columns_removed_and_moved(self, sheet, rows, fields):
        write(sheet, rows, fields=fields)
        assert self.pulled(sheet) == ["spam"] * 6

    def test_rows_in_another_order_and_columns_added(self, sheet, rows):
        write(sheet, [row | {"notes": 'hm; well, "so"'} for row in reversed(rows)])
        assert self.pulled(sheet) == ["spam"] * 6

    def test_line_ends_within_a_cell_and_blanks_at_the_end(self, sheet, rows):
        write(sheet, [row | {"sms": row["sms"].replace("\n", "\r\n").rstrip(), HUMAN: " spam  "} for row in rows])
        assert self.pulled(sheet) == ["spam"] * 6

    def test_the_apostrophe_dropped(self, sheet, rows):
        write(sheet, [row | {"sms": row["sms"].removeprefix("'")} for row in rows])
        assert self.pulled(sheet) == ["spam"] * 6

    def test_empty_lines_at_the_end(self, sheet, rows):
        write(sheet, [*rows, {}, {}])
        assert self.pulled(sheet) == ["spam"] * 6

    def test_more_cells_than_the_header_has(self, sheet, rows):
        """A row that lost the quotes around its text: each cell behind it is under the name of the one before."""
        write(sheet, rows)
        sheet.write_text(sheet.read_text(encoding="utf-8").replace('"a, b; c"', "a, b; c"), encoding="utf-8")
        says = f"the row of act_id '{act_id('a, b; c')}' has more cells than the header, with 'spam'"
        with pytest.raises(ACTError, match=says):
            self.pulled(sheet)
        with pytest.raises(ACTError, match=says):
            push_table(self.dataset, sheet)

    def test_empty_cells_at_the_end(self, sheet, rows):
        write(sheet, rows)
        wider = sheet.read_text(encoding="utf-8").replace(",spam\n", ",spam,, \n")
        sheet.write_text(wider, encoding="utf-8")
        assert push_table(drawn(["new"], chosen=[True]), sheet) == 1
        sheet.write_text(wider, encoding="utf-8")
        assert self.pulled(sheet) == ["spam"] * 6

    def test_capitals(self, sheet, rows):
        write(sheet, [row | {HUMAN: "SPAM"} for row in rows])
        assert self.pulled(sheet) == ["spam"] * 6

    def test_a_spreadsheet_that_makes_true_TRUE(self, sheet):
        task = Task(labels=("true", "false"), text="sms")
        dataset = drawn(["a", "b"], task=task, chosen=[True, True], **{LABEL: [0, 1]})
        push_table(dataset, sheet)
        answered(sheet, a="TRUE", b="FALSE")
        assert pull_table(dataset, sheet)[HUMAN] == [0, 1]

    def test_labels_that_differ_in_case_alone_are_never_mixed_up(self, sheet):
        task = Task(labels=("US", "us"), words=("the country", "we"), text="sms")
        dataset = drawn(["a", "b"], task=task, chosen=[True, True], **{LABEL: [0, 1]})
        push_table(dataset, sheet)
        answered(sheet, a="us", b="US")
        assert pull_table(dataset, sheet)[HUMAN] == [1, 0]
        answered(sheet, a="Us", b="US")
        with pytest.raises(ACTError, match=r"'Us' of act_id \w+ is not a label of the task; the labels are US, us"):
            pull_table(dataset, sheet)

    def test_another_encoding_is_named(self, sheet, rows):
        sheet.write_bytes("act_id,act_human\nx,grün\n".encode("cp1252"))
        with pytest.raises(ACTError, match="is not UTF-8; save it as 'CSV UTF-8'"):
            self.pulled(sheet)


class TestMerge:
    def responses(self, *labels, who="ann"):
        return [Response(act_id(text), who, label) for text, label in labels]

    def merged(self, *labels, dataset=None, **options):
        return merge_responses(dataset or drawn(), self.responses(*labels), source="test", **options)

    def test_the_record(self):
        made = self.merged(("ok", "ham"), ("you won", "spam"))
        line = made.info.description.split("\n")[-1]
        record = json.loads(line.partition(": ")[2])
        expected = {
            "stage": "review",
            "source": "test",
            "simulated": False,
            "annotators": ["ann"],
            "responses": 2,
            "selected": 4,
            "answered": 2,
            "ties": 0,
        }
        assert {key: record[key] for key in expected} == expected

    @pytest.mark.parametrize(
        ("labels", "says"),
        [
            ([("never seen", "ham")], f"no row of the data set has the act_id '{act_id('never seen')}'"),
            ([("call me", "ham")], f"not selected, with the act_id '{act_id('call me')}'"),
            ([("ok", "eggs")], "'eggs' is not a label of the task; the labels are ham, spam, -5"),
            (
                [("ok", "ham"), ("ok", "ham")],
                f"more than one answer by the same person for the act_id '{act_id('ok')}'",
            ),
            ([("ok", "ham"), ("ok", "spam")], "more than one answer by the same person"),
            ([(text, "ham") for text in "abcde"], r"the 5 act_ids \('\w+', '\w+', '\w+', …\)"),
        ],
    )
    def test_what_is_refused(self, labels, says):
        with pytest.raises(ACTError, match=says):
            self.merged(*labels)

    def test_one_bad_answer_and_nothing_is_taken(self):
        dataset = self.merged(("ok", "ham"))
        before = dataset.to_dict()
        with pytest.raises(ACTError):
            self.merged(("you won", "ham"), ("see you", "eggs"), dataset=dataset)
        assert dataset.to_dict() == before

    def test_a_data_set_that_nobody_annotated(self):
        bare = drawn()
        bare.info.description = ""
        with pytest.raises(ACTError, match="no record of an annotate stage"):
            self.merged(("ok", "ham"), dataset=bare)

    def test_a_data_set_in_a_format(self):
        formatted = self.merged(("ok", "spam"), dataset=drawn().with_format("numpy"))
        assert human(formatted.with_format(None)) == [None] * 5 + ["spam"]

    @given(st.lists(st.sampled_from(LABELS), max_size=6))
    def test_the_majority(self, labels):
        counts = [labels.count(name) for name in LABELS]
        alone = counts.count(max(counts)) == 1
        assert majority(labels) == (LABELS[int(np.argmax(counts))] if alone else None)


class TestSeveral:
    def test_how_answers_are_resolved_is_remembered_also_where_it_changes_no_label(self):
        once = merge_responses(drawn(), [Response(act_id("ok"), "ann", "ham")], source="test")
        weighed = merge_responses(once, [], source="test", resolve="dawid_skene")
        assert stage_records(weighed, "review")[-1]["resolve"] == "dawid_skene"
        later = merge_responses(weighed, [Response(act_id("ok"), "bob", "ham")], source="test")
        assert stage_records(later, "review")[-1]["resolve"] == "dawid_skene"
        assert merge_responses(later, [], source="test") is later

    def test_a_critic_that_does_not_know(self):
        rows = list(rows_to_review(drawn(**{ERROR_PROB: [float("nan"), 0.25, 0.5, 0.9, None, 0.1]})))
        assert [row.error_prob for row in rows] == [None, None, 0.25, pytest.approx(0.1)]


class TestEveryLineIsChecked:
    """Also those without an answer: a file for another data set, or one pasted together, is not half right."""

    def test_an_unknown_id_without_an_answer(self, sheet):
        push_table(drawn(), sheet)
        answered(sheet)
        write(sheet, [*read(sheet), read(sheet)[0] | {ID: "r123", HUMAN: ""}])
        with pytest.raises(ACTError, match="no row of the data set has the act_id 'r123'"):
            pull_table(drawn(), sheet)

    def test_a_second_line_without_an_answer(self, sheet):
        push_table(drawn(), sheet)
        answered(sheet)
        write(sheet, [*read(sheet), read(sheet)[0] | {HUMAN: ""}])
        with pytest.raises(ACTError, match="1 act_ids more than once by the same person"):
            pull_table(drawn(), sheet)

    def test_an_answer_without_an_id(self, sheet):
        push_table(drawn(), sheet)
        write(sheet, [row | {ID: "", HUMAN: "ham"} for row in read(sheet)[:1]])
        with pytest.raises(ACTError, match="no row of the data set"):
            pull_table(drawn(), sheet)


class TestSimulate:
    def test_it_answers_what_was_drawn_and_says_so(self):
        made = simulate_review(drawn(), gold="truth")
        assert human(made) == ["ham", "spam", None, None, "spam", "ham"]
        assert made[RESPONSES][0] == [{"annotator": "simulated from column 'truth'", "label": "ham", "comment": None}]
        record = json.loads(made.info.description.split("\n")[-1].partition(": ")[2])
        assert record["simulated"] is True
        assert record["source"] == "simulated from column 'truth'"

    def test_copies_with_different_truths_get_the_one_that_most_have(self):
        dataset = drawn(["a", "a", "a"], chosen=[True] * 3, gold=[1, 0, 1], **{LABEL: [0] * 3})
        assert human(simulate_review(dataset, gold="truth")) == ["spam"] * 3

    def test_label_names_in_another_order(self):
        other = ClassLabel(names=["-5", "spam", "ham"])
        dataset = drawn().cast_column("truth", Value("int64"))
        dataset = add_columns(dataset, {"truth": [2, 1, 2, 2, 1, 0]}, Features({"truth": other}))
        assert human(simulate_review(dataset, gold="truth")) == ["ham", "spam", None, None, "spam", "-5"]

    @pytest.mark.parametrize("kind", ["string", "large_string"])
    def test_truth_as_text(self, kind):
        texts = ["spam", "ham", "eggs", None, "-5", "ham"]
        dataset = drawn().remove_columns("truth").add_column("truth", texts, feature=Value(kind))
        assert human(simulate_review(dataset, gold="truth")) == ["spam", "ham", None, None, "-5", "ham"]

    @pytest.mark.parametrize("nothing", [None, -1])
    def test_a_row_without_truth(self, nothing):
        with pytest.raises(ACTError, match="1 of the selected rows have no 'truth'"):
            simulate_review(drawn(gold=[nothing, 1, 0, 0, 1, 0]), gold="truth")
        unselected = simulate_review(drawn(gold=[0, 1, nothing, 0, 1, 0]), gold="truth")
        assert human(unselected)[2] is None

    @pytest.mark.parametrize(
        ("gold", "says"),
        [("gold", "no column 'gold'; the data set has"), (PI, "not a ClassLabel"), ("sms", "is not a label")],
    )
    def test_columns_that_will_not_do(self, gold, says):
        with pytest.raises(ACTError, match=says):
            simulate_review(drawn(), gold=gold)

    def test_a_truth_that_is_no_label(self):
        dataset = drawn().cast_column("truth", ClassLabel(names=["eggs", "spam", "-5"]))
        with pytest.raises(ACTError, match="'eggs' is not a label of the task"):
            simulate_review(dataset, gold="truth")
