"""Data sets to and from files: everything comes back, and nothing is half there."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, LargeList, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from act_hf.columns import FAILURE, HUMAN, LABEL, LABEL_PROBS, RESPONSES, SELECTED, column_features
from act_hf.errors import ACTError
from act_hf.files import check_replaceable, check_target, read_dataset, write_dataset, written_whole
from act_hf.records import add_record, recorded_task
from act_hf.task import Task


TARGETS = ("data", "data.parquet", "data.csv", "data.jsonl")
TASK = Task(labels=("=cmd", "2", "null", '"quoted"'), text="text")
STRANGE = [
    None,
    "",
    " ",
    "null",
    "None",
    "NA",
    "NaN",
    "007",
    "-1",
    "1e5",
    "true",
    "[1, 2]",
    '{"a": 1}',
    '"quoted"',
    '"',
    "'",
    "=1+1",
    "@x",
    "+",
    "\ttab",
    "a,b;c",
    "one\ntwo",
    "one\r\ntwo",
    "\r",
    "\n",
    "line\u2028para\u2029next\x85vt\x0bff\x0cfs\x1c",
    "ünï 😀 مرحبا",
    "\ufeffmark",
    "\x00",
]
TYPES = Features(
    {
        "text": Value("string"),
        "large": Value("large_string"),
        "whole": Value("int64"),
        "small": Value("uint8"),
        "real": Value("float64"),
        "flag": Value("bool"),
        "nothing": Value("null"),
        "words": List(Value("string")),
        "long": LargeList(Value("int32")),
        "nested": {"a": Value("string"), "b": List({"c": Value("float32"), "d": Value("string")})},
        **column_features(TASK),
    }
)


def every_type() -> Dataset:
    """A row for each strange text, with every value present, and every value missing."""
    full = {
        "whole": -(2**60),
        "small": 255,
        "real": -1e-300,
        "flag": False,
        "words": ["", '"', "a\u2028b", None],
        "long": [],
        "nested": {"a": "=1", "b": [{"c": 0.1, "d": None}]},
        LABEL_PROBS: [0.1, 0.2, 0.3, 0.4],
        HUMAN: 2,
        SELECTED: True,
        RESPONSES: [
            {"annotator": "@ann", "label": "=cmd", "comment": None},
            {"annotator": "", "label": "null", "comment": "=1"},
        ],
        "act_id": "12345678901234567890",
        "act_error_prob": 0.1,
    }
    empty = dict.fromkeys(TYPES) | {"nested": {"a": None, "b": []}}
    rows = [
        empty | full | {"text": text, "large": text, FAILURE: text, LABEL: i % 4} for i, text in enumerate(STRANGE)
    ]
    return Dataset.from_list([*rows, empty], features=TYPES)


def table(**values) -> Dataset:
    return Dataset.from_dict(values or {"text": ["a", "b"]})


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestThereAndBack:
    @pytest.mark.parametrize("target", TARGETS)
    def test_every_type(self, tmp_path, target):
        dataset = every_type()
        write_dataset(dataset, tmp_path / target)
        back = read_dataset(tmp_path / target)
        assert back.features == dataset.features
        for name in dataset.column_names:
            assert back[name][:] == dataset[name][:], name

    @pytest.mark.parametrize("target", TARGETS)
    def test_records(self, tmp_path, target):
        dataset = add_record(table(), "annotate", task=TASK.to_dict(), note="line\u2028end\n", prior=[0.1, None])
        dataset = add_record(dataset, "sample", seed=3)
        write_dataset(dataset, tmp_path / target)
        back = read_dataset(tmp_path / target)
        assert back.info.description == dataset.info.description
        assert recorded_task(back) == TASK

    @pytest.mark.parametrize("target", TARGETS)
    def test_a_second_trip_changes_nothing(self, tmp_path, target):
        write_dataset(every_type(), tmp_path / target)
        before = (tmp_path / target).read_bytes() if "." in target else None
        write_dataset(read_dataset(tmp_path / target), tmp_path / target, overwrite=True)
        assert read_dataset(tmp_path / target).to_dict() == every_type().to_dict()
        assert before is None or target.endswith("parquet") or (tmp_path / target).read_bytes() == before

    @settings(deadline=None, max_examples=40)
    @given(
        st.lists(
            st.tuples(
                st.none() | st.text(st.characters(exclude_categories=["Cs"])),
                st.none() | st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]))),
                st.none() | st.integers(0, 3),
                st.none() | st.floats(width=32, allow_nan=False),
            ),
            min_size=1,
            max_size=4,
        )
    )
    @pytest.mark.parametrize("target", TARGETS[2:])
    def test_any_values(self, tmp_path_factory, target, rows):
        kinds = {"t": Value("string"), "l": List(Value("string")), "y": TYPES[LABEL], "x": Value("float32")}
        values = {name: [row[i] for row in rows] for i, name in enumerate(kinds)}
        dataset = Dataset.from_dict(values, features=Features(kinds))
        path = tmp_path_factory.mktemp("any") / target
        write_dataset(dataset, path)
        assert read_dataset(path).to_dict() == dataset.to_dict()

    @pytest.mark.parametrize("target", ["data", "data.parquet", "data.jsonl"])
    def test_no_rows_are_no_data_set(self, tmp_path, target):
        write_dataset(every_type().select([]), tmp_path / target)
        with pytest.raises(ACTError, match=r"it has no rows|data.jsonl' is empty"):
            read_dataset(tmp_path / target)

    @pytest.mark.parametrize("target", TARGETS[:2])
    def test_images(self, tmp_path, target):
        pictures = {"image": [Picture.new("RGB", (2, 3), colour) for colour in ("red", "blue")]}
        write_dataset(Dataset.from_dict(pictures, features=Features({"image": Image()})), tmp_path / target)
        back = read_dataset(tmp_path / target)
        assert [row["image"].getpixel((0, 0)) for row in back] == [(255, 0, 0), (0, 0, 255)]

    @pytest.mark.parametrize(
        ("target", "none"), [("data", -1), ("data.parquet", -1), ("a.csv", None), ("a.jsonl", None)]
    )
    def test_minus_one_is_no_label(self, tmp_path, target, none):
        dataset = Dataset.from_dict({"y": [-1, 1]}, features=Features({"y": ClassLabel(names=["a", "b"])}))
        write_dataset(dataset, tmp_path / target)
        assert read_dataset(tmp_path / target)["y"][:] == [none, 1]

    def test_labels_are_written_by_name(self, tmp_path):
        write_dataset(every_type().select_columns([LABEL]).take(2), tmp_path / "data.jsonl")
        lines = (tmp_path / "data.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [{LABEL: "=cmd"}, {LABEL: "2"}]

    @pytest.mark.parametrize("start", list("=+-@\t\r\n＝＋－＠"))
    def test_no_cell_of_a_csv_file_is_a_formula(self, tmp_path, start):
        write_dataset(table(text=[f"{start}1+1"]), tmp_path / "data.csv")
        assert (tmp_path / "data.csv").read_bytes().decode().split("\r\n")[1].startswith('"""')


class TestPlainFiles:
    def test_csv(self, tmp_path):
        (tmp_path / "a.csv").write_text('text,n\n"one, two\nthree",1\nNA,2\nNone,3\n,4\n', encoding="utf-8-sig")
        assert read_dataset(tmp_path / "a.csv").to_dict() == {
            "text": ["one, two\nthree", "NA", "None", None],
            "n": [1, 2, 3, 4],
        }

    def test_jsonl(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"text": "a\u2028b"}\n{"text": null}\n', encoding="utf-8")
        assert read_dataset(tmp_path / "a.jsonl")["text"][:] == ["a\u2028b", None]

    def test_parquet_with_its_own_types(self, tmp_path):
        dataset = every_type().select_columns(["text", LABEL, RESPONSES])
        dataset.to_parquet(tmp_path / "a.parquet")
        back = read_dataset(tmp_path / "a.parquet")
        assert (back.features, back.to_dict()) == (dataset.features, dataset.to_dict())

    @pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
    def test_a_file_changed_at_the_same_time_is_read_again(self, tmp_path, ending):
        """On some disks times are whole seconds, and `datasets` would take its copy of the old file."""
        path = tmp_path / f"a.{ending}"
        for text in ("old", "new"):
            getattr(table(text=[text]), f"to_{ending.replace('l', '')}")(path)
            os.utime(path, (1_000_000_000, 1_000_000_000))
            assert read_dataset(path)["text"][:] == [text]

    def test_nothing_is_kept_of_what_was_read(self, tmp_path):
        (tmp_path / "a.csv").write_text("text\nx\n")
        read_dataset(tmp_path / "a.csv")
        assert files_in(tmp_path) == ["a.csv"]

    def test_without_the_small_file_beside_it_types_are_those_of_the_format(self, tmp_path):
        for target in TARGETS[1:]:
            write_dataset(add_record(every_type(), "sample"), tmp_path / target)
            (tmp_path / f"{target}.act.json").unlink()
            back = read_dataset(tmp_path / target)
            assert back.column_names == every_type().column_names
            with pytest.raises(ACTError, match="no record of an annotate stage"):
                recorded_task(back)

    @pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
    def test_another_file_under_the_same_name_is_not_read_with_the_old_types(self, tmp_path, ending):
        path = tmp_path / f"a.{ending}"
        write_dataset(table(), path)
        getattr(table(sms=["x"]), f"to_{ending.replace('l', '')}")(path)
        with pytest.raises(ACTError, match=r"not those in 'a.\w+.act.json' \('sms', 'text'\)"):
            read_dataset(path)

    def test_rows_may_be_removed_from_a_written_file(self, tmp_path):
        write_dataset(every_type(), tmp_path / "a.jsonl")
        lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").split("\n")
        (tmp_path / "a.jsonl").write_text("\n".join(lines[3:5]), encoding="utf-8")
        assert read_dataset(tmp_path / "a.jsonl")["text"][:] == STRANGE[3:5]

    def test_a_mark_and_other_line_ends_do_no_harm(self, tmp_path):
        write_dataset(table(), tmp_path / "a.csv")
        text = (tmp_path / "a.csv").read_bytes().decode().replace("\r\n", "\n")
        (tmp_path / "a.csv").write_bytes(text.encode("utf-8-sig"))
        assert read_dataset(tmp_path / "a.csv").to_dict() == table().to_dict()


class TestSplits:
    @pytest.fixture
    def splits(self, tmp_path):
        parts = {"train": table(text=["a"]), "test": table(text=["b"])}
        DatasetDict(parts).save_to_disk(tmp_path / "splits")
        return tmp_path / "splits"

    def test_the_one_that_is_named(self, splits):
        assert read_dataset(splits, split="test")["text"][:] == ["b"]

    @pytest.mark.parametrize("split", [None, "dev"])
    def test_the_choices_are_named(self, splits, split):
        with pytest.raises(ACTError, match=r"has the splits train, test; choose one with --split"):
            read_dataset(splits, split=split)

    def test_an_only_split_needs_no_name(self, tmp_path):
        DatasetDict({"dev": table()}).save_to_disk(tmp_path / "one")
        assert len(read_dataset(tmp_path / "one")) == 2

    def test_a_folder_of_one_table_has_none(self, tmp_path):
        table().save_to_disk(tmp_path / "plain")
        with pytest.raises(ACTError, match="has no split 'dev'; leave out --split"):
            read_dataset(tmp_path / "plain", split="dev")

    def test_a_file_has_none(self, tmp_path):
        write_dataset(table(), tmp_path / "a.csv")
        with pytest.raises(ACTError, match="is a file, which has no split 'train'; leave out --split"):
            read_dataset(tmp_path / "a.csv", split="train")


class TestUnreadable:
    @pytest.mark.parametrize("name", ["missing", "missing.csv", "a/b/c", "./missing", "/missing", "user/name.csv"])
    def test_nothing_there(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ACTError, match=f"no file or folder '{name}', and it is no Hub id"):
            read_dataset(name)

    def test_the_hub_is_asked_for_what_is_not_here(self, tmp_path):
        """In a process of its own: whether there is a network is decided once, when the client is imported."""
        write_dataset(table(), tmp_path / "user" / "name")
        script = """
from act_hf.files import read_dataset, write_dataset
print(len(read_dataset("user/name")))
for use in (
    lambda: read_dataset("hf://user/name"),
    lambda: read_dataset("nobody/nothing", split="train"),
    lambda: write_dataset(read_dataset("user/name"), "hf://nobody/nothing"),
):
    try:
        use()
    except ValueError as error:
        print(type(error).__name__, error)
"""
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_TOKEN": "none"}
        command = [sys.executable, "-c", script]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        found, missing, elsewhere, pushed = result.stdout.splitlines()
        assert found == "2"  # the folder comes first
        assert missing.startswith("ACTError cannot read the data set 'hf://user/name': ")
        assert elsewhere.startswith("ACTError cannot read the data set 'hf://nobody/nothing': ")
        assert pushed.startswith("ACTError cannot push to 'hf://nobody/nothing': HF_HUB_OFFLINE is set")

    def test_a_folder_that_is_here_is_no_user_of_the_hub(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("runs").mkdir()
        with pytest.raises(ACTError, match="no file or folder 'runs/labelled'"):
            read_dataset("runs/labelled")

    @pytest.mark.parametrize("content", ["", '{"text": ', '{"text": "a"}\n[1]\n'])
    def test_broken_jsonl(self, tmp_path, content):
        (tmp_path / "a.jsonl").write_text(content)
        with pytest.raises(ACTError, match=r"a\.jsonl' is empty|cannot read the data set '.*a\.jsonl': \w+"):
            read_dataset(tmp_path / "a.jsonl")

    def test_broken_csv(self, tmp_path):
        (tmp_path / "a.csv").write_text("text,n\na,1\nb,2,3,4\n")
        with pytest.raises(ACTError, match=r"cannot read the data set '.*a\.csv': .*line 3"):
            read_dataset(tmp_path / "a.csv")

    @pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl"])
    def test_no_text_at_all(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"\x89PNG\xff\xfe\x00\x01\n\xff\n")
        with pytest.raises(ACTError, match=f"cannot read the data set '.*{name}': "):
            read_dataset(tmp_path / name)

    def test_a_broken_small_file(self, tmp_path):
        write_dataset(table(), tmp_path / "a.csv")
        (tmp_path / "a.csv.act.json").write_text("{")
        with pytest.raises(ACTError, match=r"cannot read the data set '.*a\.csv'"):
            read_dataset(tmp_path / "a.csv")

    def test_a_label_that_is_none(self, tmp_path):
        write_dataset(every_type().select_columns([LABEL]), tmp_path / "a.jsonl")
        (tmp_path / "a.jsonl").write_text(json.dumps({LABEL: "eggs"}))
        with pytest.raises(ACTError, match="Invalid string class label eggs"):
            read_dataset(tmp_path / "a.jsonl")

    @pytest.mark.parametrize("name", ["notes.txt", "a.xlsx"])
    def test_other_endings(self, tmp_path, name):
        (tmp_path / name).write_text("text\nx\n")
        with pytest.raises(ACTError, match=r"a data set is a folder, a Hub id, or a file ending in .parquet, .csv"):
            read_dataset(tmp_path / name)

    def test_a_folder_of_something_else(self, tmp_path):
        (tmp_path / "x").write_text("")
        with pytest.raises(ACTError, match="cannot read the data set"):
            read_dataset(tmp_path)


class TestWrite:
    @pytest.mark.parametrize("target", TARGETS)
    def test_what_is_there_is_kept(self, tmp_path, target):
        write_dataset(table(), tmp_path / target)
        with pytest.raises(ACTError, match=f"{target}' exists; give another name, or --overwrite"):
            write_dataset(table(text=["new"]), tmp_path / target)
        assert read_dataset(tmp_path / target).to_dict() == table().to_dict()

    @pytest.mark.parametrize("target", TARGETS)
    def test_what_is_there_is_replaced_as_a_whole(self, tmp_path, target):
        write_dataset(add_record(every_type(), "sample", seed=1), tmp_path / target)
        names = files_in(tmp_path)
        write_dataset(table(), tmp_path / target, overwrite=True)
        back = read_dataset(tmp_path / target)
        assert (back.to_dict(), back.info.description or "") == (table().to_dict(), "")
        assert files_in(tmp_path) == names

    def test_a_folder_may_be_replaced_by_what_was_read_from_it(self, tmp_path):
        write_dataset(table(), tmp_path / "data")
        longer = read_dataset(tmp_path / "data").map(lambda row: {"n": len(row["text"])})
        write_dataset(longer, tmp_path / "data", overwrite=True)
        assert read_dataset(tmp_path / "data")["n"][:] == [1, 1]

    @pytest.mark.parametrize("target", ["data.txt", "data.CSV", "data.json", "v1.2"])
    def test_unknown_endings(self, tmp_path, target):
        with pytest.raises(ACTError, match=r"a data set is written to .parquet, .csv, .jsonl, a folder, or hf://"):
            write_dataset(table(), tmp_path / target)
        assert files_in(tmp_path) == []

    @pytest.mark.parametrize("target", TARGETS[2:])
    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (Value("timestamp[s]"), datetime(2026, 1, 1)),
            (Value("binary"), b"x"),
            (Image(), Picture.new("RGB", (2, 2))),
            (List({"when": Value("date32")}), [{"when": datetime(2026, 1, 1).date()}]),
        ],
    )
    def test_columns_that_a_format_cannot_hold(self, tmp_path, target, kind, value):
        dataset = Dataset.from_dict(
            {"text": ["a"], "odd": [value]}, features=Features({"text": Value("string"), "odd": kind})
        )
        says = f"{Path(target).suffix} cannot hold column 'odd' .*; write .parquet or a folder"
        with pytest.raises(ACTError, match=says):
            check_target(tmp_path / target, overwrite=False, features=dataset.features)
        with pytest.raises(ACTError, match=says):
            write_dataset(dataset, tmp_path / target)
        assert files_in(tmp_path) == []
        write_dataset(dataset, tmp_path / "data")

    @pytest.mark.parametrize("target", TARGETS)
    def test_a_file_in_place_of_the_folder(self, tmp_path, target):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(ACTError, match=r"cannot write the data set .*/file/"):
            write_dataset(table(), tmp_path / "file" / target)
        assert (tmp_path / "file").read_text() == "mine"
        assert files_in(tmp_path) == ["file"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
    @pytest.mark.parametrize("target", TARGETS)
    def test_a_folder_that_may_not_be_written(self, tmp_path, target):
        tmp_path.chmod(0o500)
        with pytest.raises(ACTError, match=r"cannot write the data set .*Permission denied"):
            write_dataset(table(), tmp_path / target)
        assert files_in(tmp_path) == []

    @pytest.mark.parametrize("target", TARGETS)
    def test_new_folders_are_made(self, tmp_path, target):
        write_dataset(table(), tmp_path / "new" / "er" / target)
        assert len(read_dataset(tmp_path / "new" / "er" / target)) == 2


class TestOverwriteCostsNobodyTheirFiles:
    @pytest.mark.parametrize("folder", ["precious", "."])
    def test_a_folder_with_other_things(self, tmp_path, monkeypatch, folder):
        monkeypatch.chdir(tmp_path)
        Path(folder).mkdir(exist_ok=True)
        (Path(folder) / "thesis.tex").write_text("mine")
        with pytest.raises(
            ACTError, match=rf"{folder}' has other files in it and no state.json, so it is not replaced"
        ):
            write_dataset(table(), folder, overwrite=True)
        assert (Path(folder) / "thesis.tex").read_text() == "mine"

    def test_the_other_splits(self, tmp_path):
        DatasetDict({"train": table(), "test": table()}).save_to_disk(tmp_path / "splits")
        with pytest.raises(ACTError, match="is not replaced"):
            write_dataset(table(), tmp_path / "splits", overwrite=True)
        assert len(read_dataset(tmp_path / "splits", split="test")) == 2

    def test_an_empty_folder_is_taken(self, tmp_path):
        (tmp_path / "data").mkdir()
        write_dataset(table(), tmp_path / "data", overwrite=True)
        assert len(read_dataset(tmp_path / "data")) == 2

    def test_a_file_where_a_folder_is_to_be_and_the_other_way_round(self, tmp_path):
        (tmp_path / "data").write_text("mine")
        (tmp_path / "data.csv").mkdir()
        with pytest.raises(ACTError, match=r"'.*data' is a file, and a folder is to be written"):
            write_dataset(table(), tmp_path / "data", overwrite=True)
        with pytest.raises(ACTError, match=r"'.*data\.csv' is a folder, and a file is to be written"):
            write_dataset(table(), tmp_path / "data.csv", overwrite=True)
        assert (tmp_path / "data").read_text() == "mine"
        with pytest.raises(ACTError, match="is a folder, and a file"):
            check_replaceable(tmp_path / "data.csv", overwrite=True)


class TestWrittenWhole:
    def test_an_error_leaves_the_old_file_and_nothing_else(self, tmp_path):
        def write_half(path):
            path.write_text("half")
            raise RuntimeError("no more")

        (tmp_path / "a").write_text("old")
        with pytest.raises(RuntimeError, match="no more"), written_whole(tmp_path / "a") as unfinished:
            write_half(unfinished)
        assert (tmp_path / "a").read_text() == "old"
        assert files_in(tmp_path) == ["a"]

    def test_while_it_is_written_the_old_one_is_there(self, tmp_path):
        (tmp_path / "a").write_text("old")
        with written_whole(tmp_path / "a") as unfinished:
            unfinished.write_text("new")
            assert (tmp_path / "a").read_text() == "old"
            assert unfinished.suffix == (tmp_path / "a").suffix
        assert (tmp_path / "a").read_text() == "new"

    def test_a_folder_that_cannot_be_replaced_stays(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "old").touch()
        with pytest.raises(ACTError, match="cannot write the model"), written_whole(tmp_path / "a", "the model"):
            pass  # nothing was written, so there is nothing to put in its place
        assert files_in(tmp_path / "a") == ["old"]

    def test_files_are_as_readable_as_any_other(self, tmp_path):
        with written_whole(tmp_path / "a") as unfinished:
            unfinished.write_text("")
        (tmp_path / "b").write_text("")
        assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
