"""
What a user can get wrong. Each mistake is one line that names the value and the choices, with status 2, and leaves the
disk as it was: no new output, an old output unchanged, no temporary file.
"""

import contextlib
import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from support.command import good, refused
from support.weights import save_tiny_bert

from act_hf.columns import HUMAN, ID, LABEL, SELECTED
from act_hf.errors import ACTError
from act_hf.files import read_dataset, write_dataset
from act_hf.models import load_model
from act_hf.models.store import LAYOUT, Store
from act_hf.records import add_record, stage_records
from act_hf.sampling import resolve_budget


ROWS = [
    ("fine nice", "good"),
    ("great fine", "good"),
    ("awful poor", "bad"),
    ("poor sad", "bad"),
    ("fine nice", "good"),
]
TARGETS = ("data", "data.parquet", "data.csv", "data.jsonl")
LABELS = ("--text", "text", "--labels", "good,bad")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("tiny") / "tiny")


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny) -> Path:
    """A folder with the outputs of every stage. The last row, a copy of the first, is the only one not drawn."""
    folder = tmp_path_factory.mktemp("done")
    with (folder / "rows.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *ROWS])
    kinds = Features(
        {"text": Value("string"), "label": ClassLabel(names=["ugly", "good", "bad"]), "n": Value("int64")}
    )
    other = {"text": ["fine nice"] * 5, "label": [0, 1, 2, 0, 1], "n": list(range(5))}
    with contextlib.chdir(folder):
        write_dataset(Dataset.from_dict(other, features=kinds), "other")
        good("annotate", "rows.csv", "labelled", *LABELS, "--model", f"encoder:{tiny}")
        good("criticize", "labelled", "doubted", "--model", f"encoder:{tiny}")
        good("sample", "doubted", "drawn", "--budget", "4", "--rule", "threshold")
        drawn = read_dataset("drawn")
        chosen = drawn.remove_columns(SELECTED).add_column(SELECTED, [True] * 4 + [False])
        write_dataset(chosen, "drawn", overwrite=True)
        good("review", "push", "drawn", "sheet.csv")
        good("review", "simulate", "drawn", "reviewed", "--gold", "label")
    return folder


@pytest.fixture
def here(done, tmp_path, monkeypatch) -> Path:
    """A copy of it, to be spoiled."""
    shutil.copytree(done, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every file with its content and every folder, the hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused_untouched(here: Path, *arguments, old: str = "labelled") -> str:
    """
    What is said when OUT in `arguments` is a new name; and the same with --overwrite on a copy of `old`. Neither may
    change anything on the disk.
    """
    old_out = f"old{Path(old).suffix}"
    (shutil.copytree if Path(old).is_dir() else shutil.copy)(old, old_out)
    before = everything(here)
    said = refused(*(f"new{Path(old).suffix}" if part == "OUT" else part for part in arguments))
    assert everything(here) == before
    again = refused(*(old_out if part == "OUT" else part for part in arguments), "--overwrite")
    assert everything(here) == before
    assert again == said
    return said


class TestColumns:
    @pytest.mark.parametrize(
        ("command", "says"),
        [
            (
                "annotate rows.csv OUT --text sms --labels good,bad",
                "annotate: no column 'sms'; the data set has 'text', 'label'",
            ),
            (
                "annotate rows.csv OUT --text text --question q --labels a,b",
                "annotate: no column 'q'; the data set has",
            ),
            ("annotate rows.csv OUT --labels good,bad", "give text=, image= or question="),
            ("criticize rows.csv OUT", "criticize: no column 'act_label'; the data set has 'text', 'label'"),
            (
                "sample labelled OUT --budget 1",
                "sample: no column 'act_error_prob'; the data set has 'text', 'label', 'act_id'",
            ),
            (
                "review simulate drawn OUT --gold gold",
                "review: no column 'gold'; the data set has 'text', 'label', 'act_id'",
            ),
            ("review simulate doubted OUT --gold label", "review: no column 'act_selected'"),
        ],
    )
    def test_missing(self, here, command, says):
        assert says in refused_untouched(here, *command.split())

    @pytest.mark.parametrize(
        ("command", "old", "says"),
        [
            ("review push doubted OUT", "sheet.csv", "review push: no column 'act_selected'"),
            ("train drawn OUT", "model", "no column 'act_human'"),
            ("train rows.csv OUT", "model", "no column 'act_label'"),
            (
                "train reviewed OUT --text sms",
                "model",
                "no text column 'sms'; the columns with strings are 'text', 'label'",
            ),
            ("train reviewed OUT --text text --evaluation other --label gold", "model", "no column 'gold'"),
            ("report rows.csv OUT", "report.html", "report: no column 'act_label'; the data set has 'text', 'label'"),
            ("report reviewed OUT --gold gold", "report.html", "report: no column 'gold'; the data set has"),
        ],
    )
    def test_missing_where_another_kind_of_thing_is_written(self, here, tiny, command, old, says):
        shutil.copytree(tiny, "model")
        Path("report.html").write_text("the old one")
        base = ("--base", str(tiny)) if command.startswith("train") else ()
        assert says in refused_untouched(here, *command.split(), *base, old=old)

    @pytest.mark.parametrize(
        ("command", "says"),
        [
            (
                "annotate other OUT --text n --labels a,b",
                "annotate: column 'n' is Value('int64'), but the task needs a string",
            ),
            (
                "annotate other OUT --text label --labels a,b",
                "column 'label' is ClassLabel(names=['ugly', 'good', 'bad']",
            ),
            (
                "annotate other OUT --image text --labels a,b",
                "column 'text' is Value('string'), but the task needs an Image",
            ),
            ("annotate other OUT --text text --label-column n", "--label-column 'n' holds Value('int64'), not names"),
            (
                "review simulate drawn OUT --gold act_error_prob",
                "column 'act_error_prob' is Value('float32'), not a ClassLabel",
            ),
        ],
    )
    def test_of_another_type(self, here, command, says):
        assert says in refused_untouched(here, *command.split())

    def test_that_the_output_cannot_hold_is_said_before_the_model_is_asked(self, here):
        dated = (
            read_dataset("rows.csv").add_column("when", ["2026-01-01"] * 5).cast_column("when", Value("timestamp[s]"))
        )
        write_dataset(dated, "dated")
        write_dataset(read_dataset("labelled"), "labelled.csv")
        said = refused_untouched(here, "annotate", "dated", "OUT", *LABELS, "--model", "missing", old="labelled.csv")
        assert ".csv cannot hold column 'when' (Value('timestamp[s]')); write .parquet or a folder" in said


class TestLabels:
    def test_of_an_example(self, here):
        Path("solved.csv").write_text("text,label\nfine,ugly\n")
        said = refused_untouched(here, "annotate", "rows.csv", "OUT", *LABELS, "--examples", "solved.csv")
        assert "'ugly' is not a label of the task; the labels are good, bad" in said

    @pytest.mark.parametrize("kind", ["text", "ids"])
    def test_of_the_true_labels(self, here, kind):
        truth = ["good", "ugly", "bad", "bad", "good"]
        drawn = read_dataset("drawn").remove_columns("label").add_column("label", truth)
        if kind == "ids":
            drawn = drawn.cast_column("label", ClassLabel(names=["bad", "good", "ugly"]))
        write_dataset(drawn, "odd")
        said = refused_untouched(here, "review", "simulate", "odd", "OUT", "--gold", "label")
        assert "'ugly' is not a label of the task; the labels are good, bad" in said
        assert "'ugly' in column 'label' is none of the labels good, bad" in refused(
            "report", "odd", "report.html", "--gold", "label"
        )
        assert not Path("report.html").exists()

    def test_of_the_test_rows(self, here, tiny):
        Path("test.csv").write_text("text,label\nfine,ugly\n")
        shutil.copytree(tiny, "model")
        said = refused_untouched(
            here,
            "train",
            "reviewed",
            "OUT",
            "--base",
            str(tiny),
            "--text",
            "text",
            "--evaluation",
            "test.csv",
            old="model",
        )
        assert "evaluation: 'ugly' in column 'label' is none of the labels good, bad" in said

    def test_of_test_rows_in_another_order(self, here, tiny):
        names = ClassLabel(names=["bad", "good"])
        write_dataset(read_dataset("rows.csv").cast_column("label", names), "test")
        shutil.copytree(tiny, "model")
        arguments = ("train", "reviewed", "OUT", "--base", str(tiny), "--text", "text", "--evaluation", "test")
        said = refused_untouched(here, *arguments, old="model")
        assert "column 'label' has the labels ['bad', 'good'], but the training set has ['good', 'bad']" in said


class TestEmpty:
    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "b.csv", "b.parquet", "b.jsonl", "b", "c.csv", "c.jsonl"])
    def test_no_rows(self, here, name):
        (here / "a.csv").write_text("text,label\n")
        (here / "a.jsonl").write_text("\n")
        for target in ("b", "b.parquet", "b.csv", "b.jsonl"):
            write_dataset(Dataset.from_dict({"text": []}, features=Features({"text": Value("string")})), target)
        (here / "c.csv").touch()
        (here / "c.jsonl").touch()
        said = refused_untouched(here, "annotate", name, "OUT", *LABELS)
        assert any(words in said for words in ("it has no rows", "is empty (0 rows)", f"'{name}' is empty", "Empty"))

    def test_nothing_there(self, here):
        said = refused_untouched(here, "annotate", "missing", "OUT", *LABELS)
        assert said == "act-hf: no file or folder 'missing', and it is no Hub id (user/name) either"

    def test_nothing_selected(self, here):
        good("sample", "doubted", "nobody", "--budget", "0")
        said = refused_untouched(here, "review", "push", "nobody", "OUT", old="sheet.csv")
        assert said == "act-hf: review push: no row is selected"


class TestDuplicates:
    """Allowed: one id, one question to the model, one line for people, whose answer goes to the copies drawn."""

    def test_how_they_are_treated(self, here, tiny):
        out = good("annotate", "rows.csv", "out", *LABELS, "--model", f"encoder:{tiny}", "--store", "new.sqlite")
        assert "rows 5, failed 0, 4 calls, 0 from the store" in out
        labelled = read_dataset("out")
        assert len(labelled) == 5
        assert (labelled[ID][0], labelled[LABEL][0]) == (labelled[ID][4], labelled[LABEL][4])
        assert len(set(labelled[ID])) == 4

    def test_people_are_asked_once_and_answer_for_every_copy_that_was_drawn(self, here):
        good("sample", "doubted", "all", "--budget", "1.0")
        assert good("review", "push", "all", "all.csv").startswith("4 rows to review")
        rewrite("all.csv", lambda row: row | {HUMAN: "bad"})
        good("review", "pull", "all", "all.csv", "one")
        assert read_dataset("one")[HUMAN][:] == [1] * 5
        rewrite("sheet.csv", lambda row: row | {HUMAN: "bad"})
        good("review", "pull", "drawn", "sheet.csv", "two")
        assert read_dataset("two")[HUMAN][:] == [1, 1, 1, 1, None]


class TestBudget:
    @pytest.mark.parametrize(
        ("budget", "says"),
        [
            ("-1", "budget -1 is not possible; give 0 to 5 rows, or a share from 0.0 to 1.0"),
            ("6", "budget 6 is more than the 5 rows there are"),
            ("-10%", "--budget '-10%' is no share of the rows; give 0% to 100%, or a number of rows (200)"),
            ("200%", "--budget '200%' is no share of the rows"),
            ("2.0", "budget 2.0 is a share above 1; for 2 rows give the integer 2 (--budget 2), for half of them 0.5"),
            ("a third", "--budget 'a third' is neither a number of rows (200) nor a share (0.1 or 10%)"),
        ],
    )
    def test_out_of_range_or_mixed_up(self, here, budget, says):
        assert says in refused_untouched(here, "sample", "doubted", "OUT", "--budget", budget)

    def test_one_row_and_all_rows(self):
        assert (resolve_budget(1, 5), resolve_budget(1.0, 5)) == (1, 5)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (("--rule", "magic"), "rule 'magic' is unknown; the choices are 'exponential', 'threshold', 'normalised'"),
            (("--mix", "2"), "mix=2.0 is not a share from 0 to 1"),
            (("--failures", "ignore"), "failures='ignore' is unknown; the choices are 'raise', 'review', 'skip'"),
        ],
    )
    def test_the_other_choices(self, here, options, says):
        assert says in refused_untouched(here, "sample", "doubted", "OUT", "--budget", "1", *options)


class TestModel:
    @pytest.mark.parametrize(
        ("model", "says"),
        [
            ("missing.gguf", "no model file 'missing.gguf'"),
            ("empty", "cannot load the model 'empty': "),
            ("encoder:empty", "cannot load the encoder 'empty': "),
            ("encoder:broken", "cannot load the encoder 'broken': "),
            ("broken.gguf", "cannot load the model 'broken.gguf': "),
            ("tiny", "cannot load the model 'tiny': "),
        ],
    )
    @pytest.mark.parametrize("stage", ["annotate", "criticize"])
    def test_one_that_does_not_load(self, here, tiny, stage, model, says):
        Path("empty").mkdir()
        shutil.copytree(tiny, "tiny")
        shutil.copytree(tiny, "broken")
        Path("broken/model.safetensors").write_bytes(b"\x00" * 64)
        Path("broken.gguf").write_bytes(b"GGUF\x00")
        source, options = ("rows.csv", LABELS) if stage == "annotate" else ("labelled", ())
        assert says in refused_untouched(here, stage, source, "OUT", *options, "--model", model)

    def test_one_that_is_not_on_the_hub(self, here):
        """In a process of its own: whether there is a network is decided once, when the client is imported."""
        before = everything(here)
        command = [
            sys.executable,
            "-m",
            "act_hf.cli",
            "annotate",
            "rows.csv",
            "out",
            *LABELS,
            "--model",
            "nobody/nothing",
        ]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith("act-hf: cannot load the model 'nobody/nothing': ")
        assert ended.stderr.count("\n") == 1
        assert everything(here) == before

    @pytest.mark.parametrize("base", ["missing", "empty", "broken"])
    def test_a_base_that_does_not_load(self, here, tiny, base):
        Path("empty").mkdir()
        shutil.copytree(tiny, "broken")
        Path("broken/config.json").write_text("{")
        shutil.copytree(tiny, "model")
        said = refused_untouched(
            here, "train", "reviewed", "OUT", "--text", "text", "--base", f"./{base}", old="model"
        )
        assert f"cannot load the base model './{base}': " in said
        assert "(a text encoder: minilm, a Hub id, or a folder)" in said

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--strategy", "cot"), "needs a model that can reply in words"),
            (("--strategy", "wise"), "annotator strategy 'wise' is none of naive, cot"),
            (("--calibration", "magic"), "calibration 'magic' is none of none, batch, contextual"),
        ],
    )
    def test_one_that_cannot_do_it(self, here, tiny, arguments, says):
        said = refused_untouched(
            here, "annotate", "rows.csv", "OUT", *LABELS, "--model", f"encoder:{tiny}", *arguments
        )
        assert says in said

    def test_a_critic_that_cannot_be_asked(self, here, tiny):
        arguments = ("criticize", "labelled", "OUT", "--model", f"encoder:{tiny}", "--strategy")
        assert "use strategy='likelihood' with it" in refused_untouched(here, *arguments, "logit")
        shutil.rmtree("old")
        said = refused_untouched(here, *arguments, "wise")
        assert "critic strategy 'wise' is none of naive, cot, mc, devil, logit, cot_logit, ppl, likelihood" in said

    def test_labels_are_never_overwritten(self, here, tiny):
        said = refused_untouched(here, "annotate", "labelled", "OUT", *LABELS, "--model", f"encoder:{tiny}")
        assert "the data set has 'act_label' already; machine labels are never overwritten" in said

    def test_from_python_the_weights_are_missed_when_they_are_needed(self, tmp_path):
        model = load_model(str(tmp_path / "missing.gguf"))
        with pytest.raises(ACTError, match="no model file"):
            list(model.answer([]) if model.name else [])


class TestStore:
    @pytest.fixture(params=["newer", "text", "other", "folder"])
    def store(self, request, here) -> tuple[str, str]:
        if request.param == "newer":
            with contextlib.closing(Store("store").connection) as connection:
                connection.execute(f"PRAGMA user_version = {LAYOUT + 1}")
                connection.execute("PRAGMA journal_mode=DELETE")
            return (
                "store",
                f"the store 'store' has layout {LAYOUT + 1}, but this version of act_hf reads layout {LAYOUT}",
            )
        if request.param == "text":
            Path("store").write_text("my notes, " * 1000)
            return "store", "cannot open the store 'store': file is not a database"
        if request.param == "other":
            with contextlib.closing(sqlite3.connect("store")) as connection:
                connection.execute("CREATE TABLE songs (title TEXT)")
            return "store", "'store' is an SQLite file of something else, not a store of act_hf"
        Path("store").mkdir()
        return "store", "cannot open the store 'store': "

    @pytest.mark.parametrize("stage", ["annotate", "criticize"])
    def test_one_that_is_not_ours_is_named_and_kept(self, here, tiny, store, stage):
        path, says = store
        source, options = ("rows.csv", LABELS) if stage == "annotate" else ("labelled", ())
        arguments = (stage, source, "OUT", *options, "--model", f"encoder:{tiny}", "--store", path)
        assert says in refused_untouched(here, *arguments)


def rewrite(path: str, change, *, encoding: str = "utf-8-sig") -> None:
    """The review file as a person leaves it."""
    with open(path, encoding="utf-8-sig", newline="") as stream:
        rows = [change(row) for row in csv.DictReader(stream)]
    with open(path, "w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


class TestReviewFile:
    def pull(self, here, change) -> str:
        rewrite("sheet.csv", lambda row: change(row | {HUMAN: "good"}))
        return refused_untouched(here, "review", "pull", "drawn", "sheet.csv", "OUT", old="reviewed")

    def test_unknown_ids(self, here):
        said = self.pull(here, lambda row: row | ({ID: "nobody"} if row["text"] == "poor sad" else {}))
        assert said == (
            "act-hf: review: no row of the data set has the act_id 'nobody'; were these answers given for another one?"
        )

    def test_ids_of_rows_that_were_not_drawn(self, here):
        idle = read_dataset("drawn")
        write_dataset(idle.remove_columns(SELECTED).add_column(SELECTED, [True, False, True, True, False]), "less")
        rewrite("sheet.csv", lambda row: row | {HUMAN: "good"})
        said = refused_untouched(here, "review", "pull", "less", "sheet.csv", "OUT", old="reviewed")
        assert said == f"act-hf: review: answers for rows that were not selected, with the act_id '{idle[ID][1]}'"

    def test_unknown_labels(self, here):
        said = self.pull(here, lambda row: row | {HUMAN: "goood"} if row["text"] == "poor sad" else row)
        (row,) = (row for row in read_dataset("drawn") if row["text"] == "poor sad")
        assert said == (
            f"act-hf: 'sheet.csv': 'goood' of act_id {row[ID]} is not a label of the task; the labels are good, bad"
        )

    def test_unknown_labels_all_at_once(self, here):
        said = self.pull(here, lambda row: row | {HUMAN: "goood"})
        assert "'goood' of act_id " in said
        assert ", 1 more are not labels of the task; the labels are good, bad" in said

    def test_the_same_id_twice(self, here):
        first = read_dataset("drawn")[ID][0]
        texts = {row["text"]: row for row in read_dataset("drawn")}
        said = self.pull(here, lambda row: row | {ID: first, "text": texts["fine nice"]["text"]})
        assert said == f"act-hf: 'sheet.csv': 1 act_ids more than once by the same person, such as {first}"

    def test_an_edited_text(self, here):
        said = self.pull(here, lambda row: row | ({"text": "poor bad"} if row["text"] == "poor sad" else {}))
        drawn = {row["text"]: row[ID] for row in read_dataset("drawn")}
        assert said == (
            f"act-hf: 'sheet.csv': the column 'text' of act_id {drawn['poor sad']} was edited, so its answer may not "
            "be about the row; put back 'poor sad', or remove the column"
        )

    def test_no_answer_at_all(self, here):
        said = self.pull(here, lambda row: row | {HUMAN: " "})
        assert said == "act-hf: review pull: nobody has answered in table sheet.csv yet; fill in act_human"

    @pytest.mark.parametrize("column", [ID, HUMAN])
    def test_a_column_that_was_removed(self, here, column):
        said = self.pull(here, lambda row: {key: value for key, value in row.items() if key != column})
        assert said == f"act-hf: 'sheet.csv' has no column '{column}'; it needs act_id and act_human"

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "the review file 'sheet.csv' has no rows"),
            (b"act_id,act_human\r\n", "the review file 'sheet.csv' has no rows"),
            (b"act_id,act_human\r\n\xff\xfe,good\r\n", "the review file 'sheet.csv' is not UTF-8"),
            (b'{"act_id": "x"}', "has no rows"),
            (None, "cannot read the review file 'sheet.csv': "),
        ],
    )
    def test_another_file(self, here, content, says):
        Path("sheet.csv").unlink() if content is None else Path("sheet.csv").write_bytes(content)
        assert says in refused_untouched(here, "review", "pull", "drawn", "sheet.csv", "OUT", old="reviewed")

    def test_broken_jsonl(self, here):
        Path("sheet.jsonl").write_text('{"act_id": "x", \n')
        said = refused_untouched(here, "review", "pull", "drawn", "sheet.jsonl", "OUT", old="reviewed")
        assert "cannot read the review file 'sheet.jsonl': " in said

    def test_answers_in_it_are_not_thrown_away(self, here):
        rewrite("sheet.csv", lambda row: row | {HUMAN: "good"})
        before = everything(here)
        assert "0 rows to review in sheet.csv (4 more were there)" in good("review", "push", "drawn", "sheet.csv")
        assert everything(here) == before


class TestOutput:
    @pytest.mark.parametrize(
        "command",
        [
            "annotate rows.csv OUT --text text --labels good,bad",
            "criticize labelled OUT",
            "sample doubted OUT --budget 1",
            "review pull drawn sheet.csv OUT",
            "review simulate drawn OUT --gold label",
        ],
    )
    @pytest.mark.parametrize(
        ("out", "says"),
        [
            ("labelled", "'labelled' exists; give another name, or --overwrite to replace it"),
            ("out.xlsx", "a data set is written to .parquet, .csv, .jsonl, a folder, or hf://user/name"),
        ],
    )
    def test_one_that_cannot_be_is_said_before_anything_is_read(self, here, command, out, says):
        before = everything(here)
        assert says in refused(
            *(out if part == "OUT" else part for part in command.replace("rows", "missing").split())
        )
        assert everything(here) == before

    @pytest.mark.parametrize(
        ("command", "out"),
        [
            ("sample doubted OUT --budget 1", "rows.csv/out.csv"),
            ("report reviewed OUT", "rows.csv/out.html"),
            ("review push drawn OUT", "rows.csv/out.csv"),
        ],
    )
    def test_a_file_in_place_of_the_folder(self, here, command, out):
        before = everything(here)
        said = refused(*(out if part == "OUT" else part for part in command.split()))
        assert said.startswith("act-hf: cannot write the ")
        assert repr(out) in said
        assert everything(here) == before

    @pytest.mark.parametrize("out", ["rows.csv", "page"])
    def test_a_report_in_place_of_rows(self, here, out):
        before = everything(here)
        said = refused("report", "reviewed", out, "--overwrite")
        assert said == f"act-hf: a report is saved as .html or .htm, not as '{out}'"
        assert everything(here) == before


# Writes to a fresh copy of each folder, once for each thing that writing does to the disk, and is killed before it.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path

import datasets, pandas, pyarrow.parquet  # once, not in every child

from act_hf.files import read_dataset, write_dataset

root = Path(sys.argv[1])

def killed_at(number, folder):
    count = 0
    def hook(event, arguments):
        nonlocal count
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (changes or writes) and str(folder) in str(arguments[0]):
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
    return hook

def killed(before, target, number):
    folder = root / "after" / before.name / str(number)
    shutil.copytree(before, folder)
    child = os.fork()
    if child == 0:
        rows = read_dataset(root / "new")
        sys.addaudithook(killed_at(number, folder))
        write_dataset(rows, folder / target, overwrite=True)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0

for before in (root / "before").iterdir():
    number = 0
    while killed(before, before.name.partition(" ")[2], number):
        number += 1
"""


def version(number: int) -> Dataset:
    values = {"text": [f"row {number}", "=1", None], "label": [number, None, 0]}
    kinds = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b", "c"])})
    dataset = Dataset.from_dict(values, features=kinds)
    return add_record(dataset, "sample", seed=number)


def seeds(path: Path) -> tuple[int, int]:
    """Which version the rows are of, and which the records."""
    dataset = read_dataset(path)
    number = int(dataset["text"][0].removeprefix("row "))
    assert (dataset.to_dict(), dataset.features) == (version(number).to_dict(), version(number).features)
    return number, stage_records(dataset)[-1]["seed"]


@pytest.fixture(scope="module")
def after(tmp_path_factory):
    """For each target, with and without an old version: what a folder looks like, killed at each moment."""
    root = tmp_path_factory.mktemp("killed")
    write_dataset(version(2), root / "new")
    for target in TARGETS:
        write_dataset(version(1), root / "before" / f"old {target}" / target)
        (root / "before" / f"new {target}").mkdir()
    environment = {**os.environ, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    subprocess.run([sys.executable, "-c", KILLED, str(root)], env=environment, check=True, timeout=200)
    return root / "after"


class TestInterruptedWrite:
    """
    Killed with -9 at any moment, a write leaves the old data set whole, the new one whole, or none. What it leaves
    besides is a hidden folder `.NAME.xxxxxxxx` (or a small `NAME.act.json` without its data set): no command takes it
    for an output, a later run does not trip over it.
    """

    @pytest.mark.parametrize("target", TARGETS)
    @pytest.mark.parametrize("old", ["old", "new"])
    def test_a_data_set(self, after, target, old):
        moments = sorted((after / f"{old} {target}").iterdir(), key=lambda moment: int(moment.name))
        states = [seeds(moment / target) if (moment / target).exists() else None for moment in moments]
        before = (1, 1) if old == "old" else None
        assert len(states) > 4
        assert (states[0], states[-1]) == (before, (2, 2))
        assert set(states) <= {before, None, (2, 2)}
        for moment in moments:
            seen = {path.name for path in moment.iterdir() if not path.name.startswith(f".{target}.")}
            assert seen <= {target, f"{target}.act.json"}
            write_dataset(version(2), moment / target, overwrite=True)
            assert seeds(moment / target) == (2, 2)

    @pytest.mark.parametrize("ending", ["csv", "jsonl"])
    def test_a_review_file(self, tmp_path, done, ending):
        """Here the moment is not chosen: it is killed as soon as the unfinished file is seen."""
        path = tmp_path / f"sheet.{ending}"
        script = f"""
import sys
from pathlib import Path
from act_hf.files import read_dataset
from act_hf.review.places import push_review
from act_hf.review.table import Table
rows = read_dataset({str(done / "drawn")!r})
print("ready", flush=True)
while True:
    push_review(rows, Table({str(path)!r}, overwrite=True))
"""
        good("review", "push", done / "drawn", path)
        whole = path.read_bytes()
        started = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        try:
            assert started.stdout.readline() == "ready\n"
            while not list(tmp_path.glob(".sheet.*")):
                assert started.poll() is None
        finally:
            started.kill()
            started.communicate()
        assert path.read_bytes() == whole
        assert {file.name.startswith(".sheet.") for file in tmp_path.iterdir() if file != path} <= {True}
        good("review", "push", done / "drawn", path, "--overwrite")
        assert path.read_bytes() == whole


def test_a_message_is_one_line_whatever_is_in_it(done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused("annotate", done / "rows.csv", "out", "--text", "two\nlines", "--labels", "a,b")
    assert "no column 'two\\nlines'" in said
    Path("odd.jsonl").write_text(json.dumps({"two\nlines": "x"}))
    refused("annotate", "odd.jsonl", "out", *LABELS)
