"""The review page without a browser: its file, who is shown which row, what is pulled, and who is let in."""

import base64
import inspect
import io
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from PIL import Image as Picture
from support.command import good, refused
from support.pages import LABELS, Visitor, served, to_review
from support.reviews import reviewed

from act_hf.columns import HUMAN, LABEL, RESPONSES, SELECTED
from act_hf.errors import ACTError
from act_hf.files import read_dataset, write_dataset
from act_hf.records import stage_records
from act_hf.review.page.accuracy import reach_of
from act_hf.review.page.answers import LONGEST_COMMENT, Event, add_answer, person_name
from act_hf.review.page.app import look
from act_hf.review.page.content import SIDE, visible
from act_hf.review.page.database import LAYOUT, Database
from act_hf.review.page.place import Page, read_task
from act_hf.review.page.progress import read_progress
from act_hf.review.page.serving import serve_page
from act_hf.review.page.turns import LEASE, next_row
from act_hf.review.page.view import KEYS, Reviewing
from act_hf.review.places import Place, find_place, pull_review, push_review
from act_hf.review.rows import rows_to_review
from act_hf.review.status import review_status
from act_hf.task import Task


TEXTS = ("see you", "you won", "call me", "buy now")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "review.sqlite"


@pytest.fixture
def dataset():
    return to_review(TEXTS)


@pytest.fixture
def database(path, dataset):
    push_review(dataset, path)
    with_rows = Database(path, patience=0.1)
    yield with_rows
    with_rows.close()


@pytest.fixture
def ann(database) -> Visitor:
    return Visitor(database, "ann")


@pytest.fixture
def bob(database) -> Visitor:
    return Visitor(database, "bob")


def human(dataset) -> list[str | None]:
    return [None if label is None else LABELS[label] for label in dataset[HUMAN][:]]


def events(path: Path) -> list[tuple]:
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT person, kind, label FROM events ORDER BY number").fetchall()


class TestPush:
    def test_a_file_that_ends_so_is_a_page(self, path):
        place = find_place(path)
        assert isinstance(place, Page)
        assert isinstance(place, Place)
        assert place.final
        assert place.name == "page review.sqlite"
        assert f"act-hf review page {path}" in place.how
        with pytest.raises(ACTError, match=r"ends in .sqlite, not like 'review.db'"):
            Page("review.db")

    def test_what_is_shown_of_a_row(self, ann):
        ann.look()
        row = ann.view["row"]
        assert row["parts"] == [{"name": "sms", "kind": "text", "text": "see you"}]
        assert (row["label"], row["critique"], row["rationale"]) == (0, "too short", "it says so")
        assert row["error_prob"] == 1.0
        assert row["label_prob"] is None
        assert ann.ask("begin")["labels"][1] == {"name": "spam", "key": "2"}

    def test_the_most_doubtful_come_first_and_before_them_those_nobody_judged(self, path):
        push_review(to_review(TEXTS, doubt=[0.2, None, 0.9, 0.5]), path)
        ann = Visitor(Database(path), "ann")
        seen = [ann.look(), ann.answer(0), ann.answer(0), ann.answer(0), ann.answer(0)]
        assert seen == ["you won", "call me", "buy now", "see you", None]

    def test_a_probability_that_is_none_is_unknown(self, path):
        assert push_review(to_review(["a", "b"], doubt=[0.9, float("nan")]), path).new == 2
        ann = Visitor(Database(path), "ann")
        assert ann.look() == "b"
        assert ann.view["row"]["error_prob"] is None

    def test_pushing_twice_neither_doubles_nor_wipes(self, path, dataset, ann):
        ann.look()
        ann.answer(1)
        assert vars(push_review(dataset, path)) == {"new": 0, "there": 4}
        assert ann.look() == "you won"
        assert human(pull_review(dataset, path)) == ["spam", None, None, None]

    def test_a_further_wave_goes_among_the_rows_by_its_doubt(self, path, dataset, ann):
        more = to_review([*TEXTS, "new", "doubtful"], doubt=[1, 0.75, 0.5, 0.25, 0.1, 0.9])
        ann.look()
        ann.answer(0)
        assert vars(push_review(more, path)) == {"new": 2, "there": 4}
        ann.view = {}
        seen = [ann.look()]
        while seen[-1]:
            seen.append(ann.answer(0))
        assert seen == ["you won", "doubtful", "call me", "buy now", "new", None]

    def test_a_push_that_was_killed_is_completed_by_the_next(self, path):
        rows = to_review([f"row {number}" for number in range(200)])

        class Killed(Exception):
            pass

        class Cut:
            """The rows, until the process dies."""

            def __init__(self, rows):
                self.rows, self.task, self.design = rows, rows.task, rows.design

            def without(self, ids):
                return self

            def __len__(self):
                return len(self.rows)

            def __iter__(self):
                for number, row in enumerate(self.rows):
                    if number == 150:
                        raise Killed
                    yield row

        with pytest.raises(Killed):
            Page(path).push(Cut(rows_to_review(rows)))
        assert vars(push_review(rows, path)) == {"new": 72, "there": 128}

    def test_another_task(self, path, database, ann):
        ann.look()
        ann.answer(1)
        other = to_review(["x"], task=Task(labels=("ham", "eggs, fried"), text="body"))
        expected = "labels '-5', 'spam' there and 'eggs, fried' here; columns 'sms' there and 'body' here"
        with pytest.raises(ACTError, match=expected):
            push_review(other, path)
        with pytest.raises(ACTError, match="is of another task"):
            pull_review(other, path)
        assert events(path) == [("ann", "label", "spam")]

    def test_a_better_instruction_replaces_the_first(self, path, database):
        push_review(to_review(["new"], task=Task(labels=LABELS, text="sms", instruction="Is it unwanted?")), path)
        assert read_task(database).instruction == "Is it unwanted?"

    def test_ten_thousand_rows(self, path):
        texts = [f"row {number}" for number in range(10_000)]
        dataset = to_review(texts)
        assert push_review(dataset, path).new == 10_000
        database = Database(path)
        with database.writing() as connection:
            connection.executemany(
                "INSERT INTO events (key, row, person, kind, label, at) VALUES (?, ?, 'ann', 'label', 'ham', '')",
                [(str(number), number) for number in range(1, 10_000)],
            )
        ann = Visitor(database, "ann")
        assert ann.look() == "row 9999"
        assert ann.view["progress"]["done"] == 9_999
        assert ann.answer(1) is None
        assert Counter(human(pull_review(dataset, path))) == {"ham": 9_999, "spam": 1}


class TestPull:
    def test_every_answer_is_on_its_row(self, path, dataset, ann, bob):
        ann.look()
        bob.look()
        ann.answer(1, "obvious")
        bob.answer(2)
        pulled = pull_review(dataset, path)
        assert human(pulled) == ["spam", "-5", None, None]
        assert pulled[RESPONSES][0] == [{"annotator": "ann", "label": "spam", "comment": "obvious"}]
        assert pulled[LABEL][:] == dataset[LABEL][:]
        again = pull_review(pulled, path)
        assert again[:] == pulled[:]
        assert stage_records(again) == stage_records(pulled)

    def test_a_changed_answer_replaces_the_one_pulled_before(self, path, dataset, ann):
        ann.look()
        ann.answer(1)
        pulled = pull_review(dataset, path)
        ann.undo()
        ann.answer(0)
        assert human(pull_review(pulled, path)) == ["ham", None, None, None]

    def test_a_comment_that_was_cleared_is_gone_after_the_next_pull(self, path, dataset, ann):
        ann.look()
        ann.answer(1, "obvious")
        pulled = pull_review(dataset, path)
        ann.undo()
        ann.answer(1)
        assert pull_review(pulled, path)[RESPONSES][0] == [{"annotator": "ann", "label": "spam", "comment": None}]

    def test_an_answer_taken_back_after_a_pull_counts_until_there_is_another(self, path, dataset, ann):
        ann.look()
        for label in (1, 2):
            ann.answer(label)
        once = pull_review(dataset, path)
        ann.undo()
        assert pull_review(once, path) is once
        ann.answer(0)
        assert human(pull_review(once, path)) == ["spam", "ham", None, None]

    def test_what_was_not_answered_is_said(self, path, dataset, ann):
        ann.look()
        ann.skip()
        ann.answer(1)
        ann.answer(1)
        ann.undo()
        pulled = pull_review(dataset, path)
        assert human(pulled) == [None, "spam", None, None]
        left = stage_records(pulled, "review")[-1]["left"]
        assert left == ["ann skipped 1 row", "ann took back, without another answer, 1 row"]

    def test_nobody_answered(self, path, dataset, database):
        with pytest.raises(ACTError, match=r"nobody has answered in page review.sqlite yet"):
            pull_review(dataset, path)

    def test_the_data_set_was_changed_after_the_push(self, path, dataset, ann):
        ann.look()
        for _ in range(4):
            ann.answer(1)
        changed = to_review(["see you", "edited", "call me"], **{SELECTED: [True, True, False]})
        pulled = pull_review(changed, path)
        assert human(pulled) == ["spam", None, None]
        left = "3 answers for rows that are not selected in this data set; given for another one?"
        assert stage_records(pulled, "review")[-1]["left"] == [left]
        with pytest.raises(
            ACTError, match=r"no answer in page review.sqlite can be used: 4 answers for rows that are"
        ):
            pull_review(to_review(["something", "else"]), path)

    def test_no_file(self, path, dataset):
        with pytest.raises(ACTError, match=r"no review file .*act-hf review push DATASET"):
            pull_review(dataset, path)
        assert not path.exists()


class TestTurns:
    def test_two_people_get_different_rows(self, ann, bob):
        assert [ann.look(), bob.look()] == ["see you", "you won"]
        assert [ann.look(), bob.look()] == ["see you", "you won"]  # after loading the page again
        assert [ann.answer(0), bob.answer(0)] == ["call me", "buy now"]

    def test_two_people_a_row(self, database):
        ann, bob, cid = (Visitor(database, name, per_row=2) for name in ("ann", "bob", "cid"))
        assert [ann.look(), bob.look(), cid.look()] == ["see you", "see you", "you won"]
        ann.answer(0)
        assert ann.view["progress"]["done"] == 0
        bob.answer(1)
        assert bob.view["progress"]["done"] == 1
        assert cid.look() == "you won"

    def test_two_tabs_of_one_person(self, database, ann):
        other = Visitor(database, "ann", tab="another")
        assert [ann.look(), other.look()] == ["see you", "you won"]
        ann.answer(0)
        ann.answer(0)
        assert ann.answer(0) == "you won"  # the other tab may be closed
        assert ann.answer(0) is None
        assert other.answer(1) is None
        assert [event[2] for event in events(database.path)] == ["ham"] * 4 + ["spam"]

    def test_a_row_is_kept_for_some_minutes(self, database):
        rows = [next_row(database, name, name, now=0) for name in ("ann", "bob")]
        assert rows == [1, 2]
        assert next_row(database, "cid", "cid", now=LEASE - 1) == 3
        assert next_row(database, "dan", "dan", now=LEASE + 1) == 1

    def test_both_answers_count_where_both_answer_all_the_same(self, path, dataset, database, ann, bob):
        ann.look()
        bob.ask("next")
        bob.view = ann.view
        ann.answer(0)
        bob.answer(1)
        assert pull_review(dataset, path)[RESPONSES][0] == [
            {"annotator": "ann", "label": "ham", "comment": None},
            {"annotator": "bob", "label": "spam", "comment": None},
        ]

    def test_the_last_rows_are_with_others(self, ann, bob):
        ann.look()
        for _ in range(3):
            ann.answer(0)
        assert bob.look() is None
        assert bob.view["waiting"]
        ann.answer(0)
        bob.look()
        assert not bob.view["waiting"]


class TestUndo:
    def test_the_row_comes_back_with_what_was_said(self, ann):
        ann.look()
        ann.answer(2, "hm")
        assert ann.undo() == "see you"
        assert (ann.view["row"]["said"], ann.view["row"]["comment"]) == (2, "hm")
        assert ann.look() == "see you"
        assert ann.answer(1) == "you won"

    def test_as_far_back_as_one_likes_and_no_further(self, ann):
        ann.look()
        ann.answer(0)
        ann.skip()
        assert [ann.undo(), ann.undo(), ann.undo()] == ["you won", "see you", "see you"]

    def test_only_of_oneself(self, ann, bob):
        ann.look()
        bob.look()
        ann.answer(0)
        assert bob.undo() == "you won"

    def test_after_the_server_was_started_again(self, path, database, ann):
        ann.look()
        ann.answer(2)
        database.close()
        again = Visitor(Database(path), "ann")
        assert again.look() == "you won"
        assert again.undo() == "see you"

    def test_nothing_is_ever_deleted(self, path, database, ann):
        ann.look()
        ann.answer(2)
        ann.undo()
        ann.answer(1)
        history = [("ann", "label", "-5"), ("ann", "undo", None), ("ann", "label", "spam")]
        assert events(path) == history
        for statement in ("DELETE FROM events", "UPDATE events SET label = 'ham' WHERE label IS NOT NULL"):
            with pytest.raises(ACTError, match="answers are never"), database.writing() as connection:
                connection.execute(statement)
        assert events(path) == history

    def test_sent_twice_is_done_once(self, path, ann):
        ann.look()
        first = ann.view["row"]["id"]
        ann.answer(0)
        ann.answer(0)
        for _ in range(2):
            ann.ask("label", row=first, label=0, seconds=1.0, key="the same")
            ann.ask("undo", key="and the same")
        assert Counter(kind for _, kind, _ in events(path)) == {"label": 3, "undo": 1}

    def test_skipped_rows_come_again_when_they_are_asked_for(self, ann):
        ann.look()
        ann.skip()
        for _ in range(3):
            ann.answer(0)
        assert ann.view["row"] is None
        assert ann.view["progress"]["skipped"] == 1
        assert ann.text(ann.ask("again")) == "see you"
        assert ann.answer(0) is None


class TestProgress:
    def test_counts(self, database, ann, bob):
        ann.look()
        bob.look()
        ann.answer(0)
        bob.answer(1)
        ann.skip()
        progress = read_progress(database, "ann")
        assert (progress.rows, progress.done, progress.answered, progress.skipped, progress.left) == (4, 2, 1, 1, 1)
        assert (progress.judged, progress.confirmed) == (2, 1)

    def test_the_time_left_comes_from_the_median_and_not_too_early(self, path):
        push_review(to_review([str(number) for number in range(9)]), path)
        database = Database(path)
        ann = Visitor(database, "ann")
        ann.look()
        for seconds in (2, 3, 1000, 2, 3):
            assert ann.view["progress"]["seconds"] is None
            ann.ask("label", row=ann.view["row"]["id"], label=0, seconds=seconds)
        assert ann.view["progress"]["seconds"] == 3
        assert ann.view["progress"]["left"] == 4

    def test_the_accuracy_that_is_still_possible_is_that_of_the_status(self, path):
        dataset = reviewed(but=60)
        push_review(dataset, path)
        ann, bob = (Visitor(Database(path), name, per_row=2) for name in ("ann", "bob"))
        ann.look()
        for number in range(40):
            ann.answer(int(number % 3 == 0))
        bob.look()
        bob.answer(0)  # ann said 1: a tie, and nobody knows
        bob.answer(0)
        known = review_status(dataset, path)
        assert known.ties == 1
        # It is told less often where it takes longer, as on a busy machine: the test's own time limit is the only one.
        while ann.view["progress"]["accuracy"] != [known.reach.low, known.reach.high]:
            time.sleep(0.05)
            ann.ask("next")

    def test_nothing_is_said_of_the_accuracy_where_rows_are_gone(self, path):
        push_review(reviewed(but=60).select(range(399)), path)
        ann = Visitor(Database(path), "ann")
        ann.look()
        ann.answer(0)
        assert reach_of(Database(path)) is None

    def test_a_further_push_brings_the_draw_of_now(self, path):
        first, later = reviewed(but=60), reviewed(budget=80, but=80)
        for dataset in (first, later):
            push_review(dataset, path)
            ann = Visitor(Database(path), "ann")
            ann.look()
            ann.answer(0)
            known = review_status(dataset, path).reach
            assert reach_of(Database(path)) == known

    def test_rows_without_a_machine_label_confirm_nothing(self, path):
        push_review(to_review(["a", "b"], machine=[None, 1]), path)
        ann = Visitor(Database(path), "ann")
        ann.look()
        assert ann.view["row"]["label"] is None
        ann.answer(0)
        ann.answer(1)
        assert (ann.view["progress"]["judged"], ann.view["progress"]["confirmed"]) == (1, 1)


class TestFile:
    def test_of_another_program(self, path):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE notes (text)")
        with pytest.raises(ACTError, match="is an SQLite file of another program"):
            push_review(to_review(["a"]), path)
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]

    def test_no_sqlite_at_all(self, path):
        path.write_text("act_id,act_human\n" * 50)
        with pytest.raises(ACTError, match=r"cannot open the review file .*file is not a database"):
            Database(path)
        assert path.read_text().startswith("act_id")

    def test_of_a_newer_version(self, path, database):
        with database.writing() as connection:
            connection.execute(f"PRAGMA user_version = {LAYOUT + 1}")
        with pytest.raises(
            ACTError, match=f"has layout {LAYOUT + 1}, and this version of act_hf reads layout {LAYOUT}"
        ):
            Database(path)

    def test_nothing_was_pushed(self, path):
        with pytest.raises(ACTError, match=r"nothing was pushed to .* yet: act-hf review push"):
            Reviewing(Database(path, create=True))

    def test_locked(self, path, ann):
        ann.look()
        row = ann.view["row"]["id"]
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        error = ann.ask("label", row=row, label=0, seconds=1)["error"]
        assert error.endswith(
            "database is locked: another program has held it for 0.1 seconds; close it and try again"
        )
        other.execute("ROLLBACK")
        assert events(path) == []
        assert ann.look() == "see you"

    def test_read_only(self, path, ann, database):
        ann.look()
        row = ann.view["row"]["id"]
        # Root may write any file, so SQLite is told what it would find out.
        database.connection.execute("PRAGMA query_only = ON")
        error = ann.ask("label", row=row, label=0, seconds=1)["error"]
        assert "attempt to write a readonly database: give yourself the right to write the file" in error
        assert events(path) == []

    def test_the_disk_is_full(self, path, ann, database):
        ann.look()
        (pages,) = database.connection.execute("PRAGMA page_count").fetchone()
        database.connection.execute(f"PRAGMA max_page_count = {pages}")
        row = ann.view["row"]["id"]
        error = ann.ask("label", row=row, label=0, seconds=1, comment="x" * LONGEST_COMMENT)["error"]
        assert "cannot write the review file" in error
        assert "database or disk is full" in error
        assert events(path) == []
        database.connection.execute("PRAGMA max_page_count = 1000000")
        ann.look()
        ann.answer(1)
        assert events(path) == [("ann", "label", "spam")]

    def test_a_folder_that_cannot_be(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ACTError, match="cannot open the review file"):
            push_review(to_review(["a"]), tmp_path / "file" / "review.sqlite")

    def test_many_processes_on_one_file(self, path, tmp_path):
        """Each answers until nothing is left: all rows are answered, each by one."""
        texts = [f"row {number}" for number in range(120)]
        dataset = to_review(texts)
        write_dataset(dataset, tmp_path / "drawn")
        script = textwrap.dedent("""
            import sys
            from support.pages import Visitor
            from act_hf.files import read_dataset
            from act_hf.review.page.database import Database
            from act_hf.review.places import push_review
            push_review(read_dataset(sys.argv[1]), sys.argv[2])
            me = Visitor(Database(sys.argv[2]), sys.argv[3])
            shown = me.look()
            while shown:
                shown = me.answer(int(shown.split()[1]) % 3)
        """)
        run = [sys.executable, "-c", script, str(tmp_path / "drawn"), str(path)]
        here = str(Path(__file__).parent)
        both = [subprocess.Popen([*run, name], cwd=here, stderr=subprocess.PIPE, text=True) for name in ("ann", "bob")]
        for process in both:
            _, errors = process.communicate()
            assert process.returncode == 0, errors
        pulled = pull_review(dataset, path)
        assert human(pulled) == [LABELS[number % 3] for number in range(120)]
        assert len(events(path)) == 120
        assert {len(given) for given in pulled[RESPONSES]} == {1}


class TestContent:
    def test_what_cannot_be_seen_is_made_visible(self):
        assert visible("a\u202egnp.exe") == "a⟦U+202E⟧gnp.exe"
        assert visible("\x1b[31mred\x00\x7f\x85") == "␛[31mred␀␡⟦U+0085⟧"
        assert visible("\ufeffa\u200bb") == "⟦U+FEFF⟧a⟦U+200B⟧b"

    @pytest.mark.parametrize("text", ["one\n\ttwo", "👩‍👩‍👧 family", "می‌خواهم", "שלום", "é"])
    def test_what_people_write_stays(self, text):
        assert visible(text) == text

    def test_line_ends_of_all_systems(self):
        assert visible("a\r\nb\rc") == "a\nb␍c"

    def test_a_megabyte_of_text(self, path):
        text = "word " * 200_000 + "end"
        push_review(to_review([text]), path)
        assert Visitor(Database(path), "ann").look() == text

    def test_no_text(self, path):
        push_review(to_review([None]), path)
        assert Visitor(Database(path), "ann").look() == ""


class TestImages:
    TASK = Task(labels=("yes", "no"), image="photo", question="question")

    def push(self, path, images, **more):
        dataset = to_review(
            [f"is it {number}?" for number in range(len(images))], task=self.TASK, images=images, **more
        )
        push_review(dataset, path)
        return dataset

    def shown(self, path):
        ann = Visitor(Database(path), "ann")
        ann.look()
        return ann.view["row"]["parts"]

    def test_an_image_and_a_question_about_it(self, path):
        self.push(path, [Picture.new("RGB", (40, 30), "red")])
        image, question = self.shown(path)
        assert image["source"].startswith("data:image/jpeg;base64,")
        assert question == {"name": "question", "kind": "question", "text": "is it 0?"}

    def test_an_image_that_is_too_large_is_made_smaller(self, path):
        self.push(path, [Picture.effect_noise((5000, 100), 90)])
        data = base64.b64decode(self.shown(path)[0]["source"].partition(",")[2])
        assert Picture.open(io.BytesIO(data)).size == (SIDE, 32)

    def test_a_broken_image_says_so_and_the_others_are_there(self, path):
        dataset = self.push(path, [{"bytes": b"GIF89a broken", "path": None}, Picture.new("L", (9, 9))])
        ann = Visitor(Database(path), "ann")
        ann.look()
        assert ann.view["row"]["parts"][0]["problem"].startswith("the image cannot be read: ")
        ann.ask("label", row=ann.view["row"]["id"], label=0, seconds=1)
        assert "source" in ann.view["row"]["parts"][0]
        assert pull_review(dataset, path)[HUMAN][:] == [0, None]

    def test_no_image(self, path):
        self.push(path, [None])
        assert self.shown(path)[0]["problem"] == "there is no image"


class TestRequests:
    """What a browser, or somebody who says to be one, may send."""

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            (None, "the page asked for ''"),
            ([], "the page asked for ''"),
            ({"do": "drop"}, "the page asked for 'drop'"),
            ({"do": 1}, "the page sent do as int, not as text"),
            ({"do": "next", "person": " "}, "'' is no name"),
            ({"do": "next", "person": "a\x1bb"}, "is no name"),
            ({"do": "next", "person": "a" * 81}, "is no name: give 1 to 80"),
            ({"do": "label", "label": 3}, "there is no label number 3"),
            ({"do": "label", "label": -1}, "there is no label number -1"),
            ({"do": "label", "label": 0.5}, "there is no label number 0.5"),
            ({"do": "label", "label": True}, "the page sent label as bool"),
            ({"do": "label", "label": "ham"}, "the page sent label as str"),
            ({"do": "label", "label": float("nan")}, "there is no label number nan"),
            ({"do": "label", "label": 0, "name": "spam"}, "the labels are in another order"),
            ({"do": "label", "label": 0, "row": "r0"}, "the review file has no row 'r0'"),
            ({"do": "label", "label": 0, "seconds": "x"}, "the page sent seconds as str"),
            ({"do": "label", "label": 0, "key": ""}, "the page sent no key"),
            ({"do": "undo", "key": ""}, "the page sent no key"),
            ({"do": "skip", "comment": "x" * 10_001}, "a comment has at most 10,000 characters, not 10,001"),
        ],
    )
    def test_what_makes_no_sense_changes_nothing(self, path, database, request_, message):
        if isinstance(request_, dict):
            request_ = {"person": "ann", "page": "tab", "key": "k", "row": "r0", "seconds": 1, **request_}
        assert message in Reviewing(database).ask(request_)["error"]
        assert events(path) == []

    @pytest.mark.parametrize(
        ("sent", "kept"),
        [("cut \ud83d", "cut \ufffd"), ("\ude00 cut", "\ufffd cut"), ("whole \U0001f600", "whole \U0001f600")],
    )
    def test_half_of_a_sign_loses_no_answer(self, path, dataset, ann, sent, kept):
        """JavaScript counts an emoji as two, and may cut between them."""
        ann.look()
        ann.answer(0, sent)
        assert [one["comment"] for given in pull_review(dataset, path)[RESPONSES] for one in given] == [kept]

    def test_seconds_are_bounded(self, path, database, ann):
        for seconds in (-5, 1e300):
            ann.look()
            ann.ask("label", row=ann.view["row"]["id"], label=0, seconds=seconds)
        with database.reading() as connection:
            assert connection.execute("SELECT seconds FROM events").fetchall() == [(0.0,), (86400.0,)]

    def test_a_name_is_one_person_however_it_is_typed(self):
        assert person_name("  Zoe\u0308   B ") == person_name("Zoë B")

    def test_a_name_given_at_the_start_is_everybodys(self, path, database):
        reviewing = Reviewing(database, annotator="ann")
        view = reviewing.ask({"do": "next", "person": "mallory", "page": "tab"})
        assert view["person"] == "ann"

    def test_at_least_one_person_a_row(self, database):
        with pytest.raises(ACTError, match="0 people a row"):
            Reviewing(database, per_row=0)

    def test_every_label_has_a_key_that_is_no_command_or_none_has(self, tmp_path):
        assert set(KEYS).isdisjoint("ucsr0")
        for count, keys in ((len(KEYS), list(KEYS)), (500, [None] * 500)):
            task = Task(labels=tuple(f"<b>label, {number}: 😀" for number in range(count)), text="sms")
            path = tmp_path / f"{count}.sqlite"
            push_review(to_review(["a"], task=task), path)
            ann = Visitor(Database(path), "ann")
            assert [label["key"] for label in ann.ask("begin")["labels"]] == keys
            ann.look()
            ann.answer(count - 1)
            assert events(path) == [("ann", "label", task.labels[-1])]

    def test_an_unknown_row_is_refused_by_the_file_too(self, database):
        with pytest.raises(ACTError, match="has no row"):
            add_answer(database, Event("k", "nothing", "ann", "ham"))


class TestServing:
    @pytest.fixture
    def page(self, path, dataset):
        push_review(dataset, path)
        with serve_page(path, port=0) as page:
            yield page

    @pytest.mark.parametrize(
        "where",
        ["", "config", "theme.css", "gradio_api/info", "gradio_api/heartbeat/x", "static/img/logo.svg", "docs"],
    )
    def test_nothing_without_the_token(self, page, where):
        base = page.url.partition("?")[0]
        for query in ("", "?token=", "?token=wrong", "?token=%ff%fe"):
            answer = httpx.get(base + where + query)
            assert answer.status_code == 401
            assert answer.text.startswith("This page needs its whole address, with the token")

    def test_no_answer_is_taken_without_the_token(self, page, path):
        base = page.url.partition("?")[0]
        body = {"session_hash": "x", "component_id": 1, "fn_name": "ask", "data": {"do": "begin"}}
        assert httpx.post(f"{base}gradio_api/component_server/", json=body).status_code == 401
        with httpx.Client(cookies={f"act_hf_review_{page.url.split(':')[2].split('/')[0]}": "wrong"}) as client:
            assert client.post(f"{base}gradio_api/component_server/", json=body).status_code == 401

    def test_the_token_opens_it_and_does_not_stay_in_the_address(self, page):
        with httpx.Client(follow_redirects=True) as client:
            answer = client.get(page.url)
            assert answer.status_code == 200
            assert "token" not in str(answer.url)
            cookie = answer.history[0].headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            assert page.url.partition("=")[2] not in answer.text

    @pytest.mark.parametrize("foreign", ['seen={"a": 1}', "a[b]=1", "flag", "path=/x", 'x="un', "n\xe4=1"])
    def test_cookies_of_other_programs_on_this_machine_lock_nobody_out(self, page, foreign):
        entered = httpx.get(page.url).headers["set-cookie"].partition(";")[0]
        for cookies in (f"{foreign}; {entered}", f"{entered}; {foreign}"):
            assert httpx.get(page.url.partition("?")[0], headers={"cookie": cookies.encode()}).status_code == 200

    def test_other_sites_get_nothing(self, page):
        with httpx.Client(follow_redirects=True) as client:
            client.get(page.url)
            base = page.url.partition("?")[0]
            for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"host": "evil.example"}):
                assert client.get(base, headers=headers).status_code == 403

    def test_without_a_token_other_sites_get_nothing_either(self, path, dataset):
        push_review(dataset, path)
        with serve_page(path, port=0, token=False) as page:
            assert "token" not in page.url
            assert httpx.get(page.url).status_code == 200
            assert httpx.get(page.url, headers={"host": "evil.example"}).status_code == 403
            assert httpx.post(page.url, headers={"origin": "https://evil.example"}).status_code == 403

    def test_without_a_token_other_machines_get_in_and_other_sites_do_not(self, path, dataset):
        """A site whose name points here is the page's own to a browser: Host and Origin are alike."""
        push_review(dataset, path)
        with serve_page(path, host="0.0.0.0", port=0, token=False) as page:
            port = page.url.split(":")[2].strip("/")
            local = f"http://127.0.0.1:{port}/"
            for host, status in {
                "192.168.1.5": 200,
                "[fe80::1]": 200,
                socket.gethostname(): 200,
                f"{socket.gethostname()}.local": 200,
                "evil.example": 403,
                "192.168.1.5.evil.example": 403,
                "[evil": 403,
                "": 403,
            }.items():
                headers = {"host": f"{host}:{port}", "origin": f"http://{host}:{port}"}
                assert httpx.get(local, headers=headers).status_code == status, host

    def test_a_data_set_is_pushed_first(self, path, dataset):
        with serve_page(dataset, file=path, port=0, annotator="ann") as page:
            assert page.path == path
            assert page.url in repr(page)
        with pytest.raises(ACTError, match="a data set needs file="):
            serve_page(dataset)
        with pytest.raises(ACTError, match=r"'drawn.csv' is no review file"):
            serve_page("drawn.csv")

    def test_a_port_in_use(self, path, dataset):
        push_review(dataset, path)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(
                ACTError, match=rf"cannot listen at port {port} of 127.0.0.1: .*in use; give another --port"
            ):
                serve_page(path, port=port)

    def test_an_address_of_another_machine(self, path, dataset):
        push_review(dataset, path)
        with pytest.raises(ACTError, match=r"cannot listen at 203.0.113.1: .*give another --port or --host"):
            serve_page(path, host="203.0.113.1")

    def test_a_space_launches_with_the_same_options(self):
        """Where Gradio serves the app itself, it has to know each of them."""
        import gradio

        for takes in (gradio.Blocks.launch, gradio.mount_gradio_app):
            assert set(look()) <= set(inspect.signature(takes).parameters)

    def test_a_file_that_cannot_be_used_is_known_before_it_is_served(self, tmp_path, path, dataset):
        with pytest.raises(ACTError, match="no review file"):
            serve_page(tmp_path / "none.sqlite")
        push_review(dataset, path)
        with pytest.raises(ACTError, match="is no name"):
            serve_page(path, port=0, annotator="")

    def test_gradio_is_an_extra(self, path, dataset, monkeypatch):
        push_review(dataset, path)
        monkeypatch.setitem(sys.modules, "gradio", None)
        with pytest.raises(ACTError, match=r"the review page needs Gradio: pip install 'gradio>=6.31'"):
            serve_page(path)


class TestCommand:
    def test_push_page_pull(self, tmp_path, path):
        write_dataset(to_review(TEXTS), tmp_path / "drawn")
        said = good("review", "push", tmp_path / "drawn", path)
        assert f"4 rows to review in {path}: serve it with act-hf review page {path}" in said
        with served(path, "--port", 0, "--annotator", "ann") as page:
            ann = Visitor(Database(path), "ann")
            ann.look()
            ann.answer(2)
            assert f"act-hf review pull DATASET {path} OUTPUT" in page.stop()
            assert page.process.returncode == 0
        assert "annotators" not in good("review", "pull", tmp_path / "drawn", path, tmp_path / "reviewed")
        assert human(read_dataset(tmp_path / "reviewed")) == ["-5", None, None, None]

    def test_a_data_set_and_its_file_beside_it(self, tmp_path):
        write_dataset(to_review(TEXTS), tmp_path / "drawn.parquet")
        with served(tmp_path / "drawn.parquet", "--port", 0, "--no-token", "--per-row", 2) as page:
            said = "".join(page.said)
            beside = tmp_path / "drawn-review.sqlite"
            assert f"4 rows to review in {beside}" in said
            assert "warning: without a token" in said
            assert f"act-hf review pull {tmp_path / 'drawn.parquet'} {beside} OUTPUT" in page.stop()
        assert beside.exists()

    def test_nobody_else_reaches_this_machine_by_any_of_its_names(self, path, dataset):
        push_review(dataset, path)
        with served(path, "--port", 0, "--host", "localhost") as page:
            assert "warning" not in page.stop() + "".join(page.said)

    def test_mistakes(self, tmp_path, path):
        assert "no review file" in refused("review", "page", path)
        assert not path.exists()
        write_dataset(to_review(TEXTS), tmp_path / "drawn")
        good("review", "push", tmp_path / "drawn", path)
        assert "--file is the review file of a data set" in refused("review", "page", path, "--file", "x.sqlite")
        assert "ends in .sqlite" in refused("review", "page", tmp_path / "drawn", "--file", "x.db")
        assert "--overwrite is for a table" in refused("review", "push", tmp_path / "drawn", path, "--overwrite")
