"""The command line: every stage as a command, on a tiny random encoder where a model is needed."""

import contextlib
import csv
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from support.command import act_hf, good, refused
from support.weights import embedded, save_tiny_bert

from act_hf.cli import app, review
from act_hf.columns import ERROR_PROB, HUMAN, LABEL, PI, SELECTED, add_columns
from act_hf.files import read_dataset, write_dataset
from act_hf.models.embedded import minilm_path, smollm2_path
from act_hf.records import recorded_task
from act_hf.sampling import read_waves


TEXTS = ["fine nice", "great fine", "nice great", "fine fine", "awful poor", "poor sad", "sad awful", "sad sad"]
TRUTH = ["good"] * 4 + ["bad"] * 4
COMMANDS = [command.callback.__name__ for command in app.registered_commands]
COMMANDS += [f"review {command.name}" for command in review.registered_commands]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("tiny") / "tiny")


@pytest.fixture(scope="module")
def encoder(tiny) -> str:
    return f"encoder:{tiny}"


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny, encoder) -> Path:
    """A folder with the outputs of every stage."""
    folder = tmp_path_factory.mktemp("run")
    with (folder / "rows.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *zip(TEXTS, TRUTH, strict=True)])
    with contextlib.chdir(folder):
        good("annotate", "rows.csv", "labelled", "--text", "text", "--labels", "good,bad", "--model", encoder)
        good("criticize", "labelled", "doubted", "--model", encoder)
        good("sample", "doubted", "drawn", "--budget", "4", "--mix", "0.2")
        good("review", "simulate", "drawn", "reviewed", "--gold", "label")
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class TestStages:
    @pytest.mark.parametrize("ending", ["", ".parquet", ".csv", ".jsonl"])
    def test_from_rows_to_a_report(self, run, tiny, encoder, ending):
        a, b, c, d = (f"{name}{ending}" for name in "abcd")
        labels = ("--text", "text", "--labels", "good,bad", "--instruction", "Is it good?", "--language", "English")
        out = good("annotate", run / "rows.csv", a, *labels, "--model", encoder, "--calibration", "batch")
        assert re.fullmatch(rf"annotate: model tiny@\w+.*, rows 8, failed 0, .*\nwritten to {re.escape(a)}\n", out)
        assert recorded_task(read_dataset(a)).instruction == "Is it good?"
        good("criticize", a, b, "--model", encoder, "--strategy", "likelihood")
        assert f"selected 4\nwritten to {c}\n" in good("sample", b, c, "--budget", "50%", "--rule", "threshold")
        asked = good("review", "push", c, "sheet.csv")
        assert asked.startswith("4 rows to review in sheet.csv: fill in act_human, then act-hf review pull ")
        sheet = Path("sheet.csv").read_text(encoding="utf-8-sig").replace("good | bad,", "good | bad,bad")
        Path("sheet.csv").write_text(sheet)
        assert "answered 4" in good("review", "pull", c, "sheet.csv", d, "--annotator", "ann")
        reviewed = read_dataset(d)
        assert [label for label in reviewed[HUMAN] if label is not None] == [1] * 4
        training = ("--base", tiny, "--epochs", "1", "--evaluation", run / "rows.csv")
        out = good("train", d, "model", *training)
        assert re.match(r"accuracy on .*rows\.csv: [01]\.\d{4}; for the report: --result model/act_result.json\n", out)
        out = good("report", d, "report.html", "--gold", "label", "--result", "model/act_result.json")
        assert out.endswith("\nreport in report.html\n")
        assert "machine labels" in out
        assert Path("report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")

    @pytest.mark.parametrize("ending", ["", ".parquet", ".csv", ".jsonl"])
    def test_a_second_wave(self, run, ending):
        first, second, third = (f"{name}{ending}" for name in ("first", "second", "third"))
        good("review", "simulate", run / "drawn", first, "--gold", "label")
        said = good("sample", first, second, "--budget", "2", "--wave", "2", "--rule", "root", "--floor", "0.05")
        assert "rule root" in said
        assert "wave 2" in said
        waves = read_waves(read_dataset(second))
        assert [int((waves.drawn == wave).sum()) for wave in (1, 2)] == [4, 2]
        good("review", "simulate", second, third, "--gold", "label")
        assert sum(label is not None for label in read_dataset(third)[HUMAN]) == 6
        assert "the next wave of this data set is 2" in refused("sample", first, "x", "--budget", "1", "--wave", "4")
        assert "reviewed 6" in good("calibrate", third, f"fourth{ending}", "--method", "isotonic")
        assert "act_error_prob_raw" in read_dataset(f"fourth{ending}").column_names

    def test_who_answered_is_not_printed(self, run):
        good("review", "push", run / "drawn", "sheet.csv")
        sheet = Path("sheet.csv").read_text(encoding="utf-8-sig").replace("good | bad,", "good | bad,bad")
        Path("sheet.csv").write_text(sheet)
        assert "ann" not in good("review", "pull", run / "drawn", "sheet.csv", "out", "--annotator", "annegret")

    @pytest.mark.parametrize("ending", ["", ".csv", ".jsonl"])
    def test_a_second_person_and_nobodys_answers_are_overwritten(self, run, ending):
        both, again = f"both{ending}", f"again{ending}"
        for who, label in (("ann", "bad"), ("ben", "good")):
            good("review", "push", run / "drawn", f"{who}.csv")
            sheet = Path(f"{who}.csv").read_text(encoding="utf-8-sig").replace("good | bad,", f"good | bad,{label}")
            Path(f"{who}.csv").write_text(sheet)
        good("review", "pull", run / "drawn", "ann.csv", both, "--annotator", "ann")
        second = ("ben.csv", both, "--annotator", "ben", "--overwrite")
        said = refused("review", "pull", run / "drawn", *second)
        assert f"'{both}' holds 4 answers that would be gone; pull into what has them" in said
        good("review", "pull", both, *second)
        answers = [sorted(one["annotator"] for one in given) for given in read_dataset(both)["act_responses"] if given]
        assert answers == [["ann", "ben"]] * 4
        good("review", "pull", run / "drawn", "ann.csv", again, "--annotator", "ann")
        good("review", "pull", run / "drawn", "ann.csv", again, "--annotator", "ann", "--overwrite")

    def test_a_changed_answer_needs_replace(self, run):
        good("review", "push", run / "drawn", "sheet.jsonl")
        rows = Path("sheet.jsonl").read_text()
        Path("sheet.jsonl").write_text(rows.replace('"act_human": null', '"act_human": "bad"'))
        good("review", "pull", run / "drawn", "sheet.jsonl", "one")
        Path("sheet.jsonl").write_text(rows.replace('"act_human": null', '"act_human": "good"'))
        assert "(--replace) to change the answer" in refused("review", "pull", "one", "sheet.jsonl", "two")
        good("review", "pull", "one", "sheet.jsonl", "two", "--replace")

    def test_a_second_run_is_answered_from_the_store(self, run, encoder):
        labels = ("--text", "text", "--labels", "good,bad", "--model", encoder, "--store", "answers.sqlite")
        assert "8 calls, 0 from the store" in good("annotate", run / "rows.csv", "one", *labels)
        assert "0 calls, 8 from the store" in good("annotate", run / "rows.csv", "two", *labels)

    def test_a_second_critic_beside_the_first(self, run, encoder):
        good("criticize", run / "doubted", "two", "--model", encoder, "--suffix", "_two")
        assert {ERROR_PROB, f"{ERROR_PROB}_two"} <= set(read_dataset("two").column_names)

    @pytest.mark.parametrize("mode", ["act", "machine"])
    def test_training_without_evaluation(self, run, tiny, mode):
        out = good("train", run / "reviewed", "model", "--base", tiny, "--epochs", "1", "--mode", mode)
        assert out == "model in model\n"
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
            file.name for file in Path("model").iterdir()
        }

    @pytest.mark.parametrize("rule", ["gradients", "held_out"])
    def test_the_power_that_was_chosen_is_said_and_kept(self, run, tiny, rule):
        training = ("--base", tiny, "--epochs", "1", "--power", rule, "--evaluation", run / "rows.csv")
        out = good("train", run / "reviewed", "model", *training)
        said = re.match(rf"power (\d\.\d{{3}}), chosen by {rule}\n", out)
        assert json.loads(Path("model/act_result.json").read_text())["used_power"] == pytest.approx(
            float(said[1]), abs=6e-4
        )

    def test_a_power_and_soft_labels(self, run, tiny):
        training = ("train", run / "reviewed", "model", "--base", tiny, "--epochs", "1")
        assert good(*training, "--power", "0.5", "--soft") == "model in model\n"
        assert "power='much' is neither a number" in refused(*training, "--overwrite", "--power", "much")

    def test_only_the_last_layers(self, run, tiny):
        good("train", run / "reviewed", "model", "--base", tiny, "--epochs", "1", "--trained-layers", "1")
        said = refused("train", run / "reviewed", "other", "--base", tiny, "--trained-layers", "9")
        assert "trained_layers=9: the base model has 3 layers" in said
        assert not Path("other").exists()

    def test_what_is_read_is_not_changed(self, run, encoder):
        before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
        good("criticize", run / "labelled", "out", "--model", encoder)
        good("sample", run / "doubted", "drawn", "--budget", "1")
        assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before

    @pytest.mark.model
    def test_the_default_critic(self, run):
        embedded(minilm_path)
        good("criticize", run / "labelled", "out")
        assert all(0 <= value <= 1 for value in read_dataset("out")[ERROR_PROB])

    @pytest.mark.model
    def test_the_default_annotator(self):
        embedded(smollm2_path)
        Path("rows.csv").write_text("text\nfine nice\nsad\n")
        good("annotate", "rows.csv", "out", "--text", "text", "--labels", "good,bad")
        assert None not in read_dataset("out")[LABEL][:]


class TestLabelNames:
    @pytest.fixture
    def typed(self):
        values = {"text": ["fine"] * 3, "kind": [0, 1, 0], "word": ["yes", None, "no"], "number": [1, 2, 3]}
        kinds = {"text": Value("string"), "kind": ClassLabel(names=["z", "a"]), "word": Value("string")}
        write_dataset(Dataset.from_dict(values, features=Features({**kinds, "number": Value("int64")})), "typed")
        return "typed"

    @pytest.mark.parametrize(
        ("options", "names"),
        [
            (("--labels", "good,bad"), ("good", "bad")),
            (("--labels", " very good , bad,"), ("very good", "bad")),
            (("--labels", 'billing, "a, b",5" disk'), ("billing", "a, b", '5" disk')),
            (("--label-column", "kind"), ("z", "a")),
            (("--label-column", "word"), ("no", "yes")),
        ],
    )
    def test_where_they_come_from(self, typed, encoder, options, names):
        good("annotate", typed, "out", "--text", "text", "--model", encoder, *options)
        assert tuple(read_dataset("out").features[LABEL].names) == names

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ((), "give either --labels a,b,c or --label-column NAME"),
            (("--labels", "a,b", "--label-column", "kind"), "give either"),
            (("--labels", "a"), "a task needs at least two labels, not ['a']"),
            (("--labels", 'a,"b,c'), """--labels 'a,"b,c': the quotes do not fit (unexpected end of data)"""),
            (("--labels", "a,b,a"), "'a' stands for more than one label"),
            (("--label-column", "number"), "--label-column 'number' holds Value('int64'), not names"),
            (("--label-column", "king"), "no column 'king'; the data set has 'text', 'kind', 'word', 'number'"),
        ],
    )
    def test_what_will_not_do(self, typed, encoder, options, says):
        assert says in refused("annotate", typed, "out", "--text", "text", "--model", encoder, *options)
        assert not Path("out").exists()


RED = "\x1b[31mX,\x1b[31mX"


class TestWhatIsPrinted:
    def test_a_label_cannot_write_to_the_terminal(self, encoder):
        said = refused(
            "annotate", rows_file(), "out", "--text", "text", "--model", encoder, "--labels", "\x1b[31mX,\x1b[31mX"
        )
        assert "\x1b" not in said

    def test_a_column_cannot_either(self):
        Dataset.from_dict({"\x1b[31mred": ["a"]}).to_json("odd.jsonl")
        assert "\x1b" not in refused("sample", "odd.jsonl", "out", "--budget", "1")


class TestSkippedRows:
    def test_rows_that_nobody_labelled_are_left_out_of_the_training_and_it_is_said(self, run, tiny):
        reviewed = read_dataset(run / "reviewed")
        lost = add_columns(
            reviewed,
            {LABEL: [None, *reviewed[LABEL][1:]], HUMAN: [None, *reviewed[HUMAN][1:]], PI: [0.0, *reviewed[PI][1:]]}
            | {SELECTED: [False, *reviewed[SELECTED][1:]]},
            reviewed.features,
        )
        write_dataset(lost, "lost")
        assert "1 of 8 rows have no label by machine or person and are left out" in good(
            "train", "lost", "model", "--base", tiny, "--epochs", "1"
        )


def rows_file() -> str:
    Dataset.from_dict({"text": ["fine"]}).to_json("rows.jsonl")
    return "rows.jsonl"


class TestExamples:
    def annotate(self, run, encoder, lines, end=good):
        Path("solved.csv").write_text("\n".join(lines))
        options = ("--text", "text", "--labels", "good,bad", "--model", encoder, "--examples", "solved.csv")
        return end("annotate", run / "rows.csv", "out", *options)

    def test_they_are_shown_in_their_order(self, run, encoder):
        self.annotate(run, encoder, ["label,text", "bad,sad", "good,fine"])
        shown = recorded_task(read_dataset("out")).examples
        assert [(example.label, example.text) for example in shown] == [("bad", "sad"), ("good", "fine")]

    @pytest.mark.parametrize(
        ("lines", "says"),
        [
            (["label,text", "ugly,sad"], "'ugly' is not a label of the task; the labels are good, bad"),
            (["label,sms", "bad,sad"], "--examples: no column 'text'; the data set has 'label', 'sms'"),
            (["text,kind", "bad,sad"], "--examples: no column 'label'"),
            (["label,text"], "solved.csv': it has no rows"),
        ],
    )
    def test_what_will_not_do(self, run, encoder, lines, says):
        assert says in self.annotate(run, encoder, lines, refused)
        assert not Path("out").exists()


class TestBudget:
    @pytest.mark.parametrize(
        ("budget", "rows"),
        [
            ("3", 3),
            ("0", 0),
            ("8", 8),
            ("1", 1),
            ("1.0", 8),
            ("0.25", 2),
            ("25%", 2),
            (" 100 % ", 8),
            ("0%", 0),
            ("+2", 2),
        ],
    )
    def test_rows_and_shares(self, run, budget, rows):
        said = good("sample", run / "doubted", "out", "--budget", budget)
        assert "inf" not in said
        assert ("! no row is selected: there is nothing to review" in said) == (rows == 0)
        drawn = read_dataset("out")
        assert sum(drawn[SELECTED]) == rows
        assert sum(drawn[PI]) == pytest.approx(rows)

    @pytest.mark.parametrize(
        ("budget", "says"),
        [
            ("abc", "--budget 'abc' is neither a number of rows (200) nor a share (0.1 or 10%)"),
            ("", "--budget '' is neither"),
            ("1,5", "--budget '1,5' is neither"),
            ("²", "--budget '²' is neither"),
            ("-5", "budget -5 is not possible; give 0 to 8 rows, or a share from 0.0 to 1.0"),
            ("-0.5", "budget -0.5 is not possible"),
            ("9", "budget 9 is more than the 8 rows there are"),
            ("500%", "--budget '500%' is no share of the rows; give 0% to 100%, or a number of rows (200)"),
            ("-5%", "--budget '-5%' is no share"),
            ("nan%", "--budget 'nan%' is no share"),
            ("20.0", "budget 20.0 is a share above 1; for 20 rows give the integer 20 (--budget 20)"),
            ("nan", "budget nan is not possible"),
            ("inf", "budget inf is a share above 1"),
        ],
    )
    def test_what_will_not_do(self, run, budget, says):
        assert says in refused("sample", run / "doubted", "out", "--budget", budget)
        assert not Path("out").exists()


class TestOverwrite:
    @pytest.mark.parametrize(
        "command",
        [
            "annotate rows.csv OUT --text text --labels good,bad --model ENCODER",
            "criticize labelled OUT --model ENCODER",
            "sample doubted OUT --budget 2",
            "review simulate drawn OUT --gold label",
            "train reviewed OUT --base TINY --epochs 1",
            "report reviewed OUT.html",
        ],
    )
    def test_an_output_is_replaced_only_where_it_is_asked_for(self, run, tmp_path, tiny, command):
        names = {"OUT": str(tmp_path / "out"), "ENCODER": f"encoder:{tiny}", "TINY": str(tiny)}
        arguments = [re.sub("OUT|ENCODER|TINY", lambda found: names[found[0]], part) for part in shlex.split(command)]
        with contextlib.chdir(run):
            good(*arguments)
            out = next(tmp_path.iterdir())
            before = {file: file.stat().st_mtime_ns for file in [out, *out.rglob("*")]}
            assert "exists" in refused(*arguments)
            assert {file: file.stat().st_mtime_ns for file in [out, *out.rglob("*")]} == before
            good(*arguments, "--overwrite")
        assert out.stat().st_mtime_ns > before[out]
        assert list(tmp_path.iterdir()) == [out]

    def test_a_folder_that_is_no_model_is_not_replaced_by_one(self, run, tiny):
        Path("precious").mkdir()
        Path("precious/thesis.tex").write_text("mine")
        said = refused("train", run / "reviewed", "precious", "--base", tiny, "--overwrite")
        assert "'precious' has other files in it and no config.json, so it is not replaced" in said
        assert Path("precious/thesis.tex").read_text() == "mine"


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_an_example_of_itself_that_it_understands(self, command):
        text = " ".join(good(*command.split(), "--help").split())
        assert f"Example: act-hf {command} " in text
        example = text.partition("Example: ")[2]
        for option in re.findall(r"(--[a-z-]+)", example):
            assert text.count(option) > example.count(option), f"{option} is no option of {command}"

    @pytest.mark.parametrize("command", COMMANDS)
    def test_the_example_in_the_help_would_run(self, command):
        """Up to where it looks for files: the line is understood, and the file named in it is missed."""
        epilogs = {c.callback.__name__: c.epilog for c in app.registered_commands}
        epilogs |= {f"review {c.name}": c.epilog for c in review.registered_commands}
        arguments = shlex.split(epilogs[command].removeprefix("Example: act-hf "))
        if command not in ("quickstart", "review argilla"):  # these need no data, and would start
            assert f"no file or folder '{self.first_input(arguments, command)}'" in refused(*arguments)

    def first_input(self, arguments, command):
        # train looks for the test rows first
        return arguments[-1] if command == "train" else arguments[len(command.split())]

    def test_without_arguments_there_is_help(self):
        ended = act_hf()
        assert (ended.status, "quickstart" in ended.out + ended.err) == (2, True)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["sample", "a", "b", "--nope"], "No such option"),
            (["smaple"], "No such command"),
            (["sample", "a", "b"], "Missing option"),
            (["sample", "a"], "Missing argument"),
            (["sample", "a", "b", "--budget", "1", "--mix", "much"], "'--mix'"),
            (["quickstart", "--seeds", "0"], "'--seeds'"),
        ],
    )
    def test_what_is_misspelled_is_named(self, arguments, says):
        ended = act_hf(*arguments)
        assert (ended.status, ended.out) == (2, "")
        assert says in ended.err
        assert "Traceback" not in ended.err


class TestResults:
    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (None, "No such file"),
            ("{", "--result 'result.json': "),
            ("[1]", "holds no result of act-hf train --evaluation"),
            ('{"method": "act"}', "downstream entry 0 has no 'seed'"),
            (
                '{"method": "magic", "seed": 0, "rows": 1, "accuracy": 1}',
                "method 'magic' is none of human, machine, reviewed, corrected, mixed, act",
            ),
            ('{"method": "act", "seed": 0, "rows": 1, "accuracy": "high"}', "accuracy 'high' is not in [0, 1]"),
        ],
    )
    def test_what_will_not_do(self, run, content, says):
        if content is not None:
            Path("result.json").write_text(content)
        assert says in refused("report", run / "reviewed", "report.html", "--result", "result.json")
        assert not Path("report.html").exists()

    def test_several(self, run):
        for seed in (0, 1):
            result = {"method": "act", "seed": seed, "rows": 8, "accuracy": 0.5 + seed / 4}
            Path(f"{seed}.json").write_text(json.dumps(result))
        assert "62.5" in good("report", run / "reviewed", "report.html", "--result", "0.json", "--result", "1.json")


def process(*arguments, environment=None, **options) -> subprocess.Popen:
    """`act-hf` as a user starts it: with progress bars, and its output in pipes."""
    hidden = ("HF_DATASETS_DISABLE_PROGRESS_BARS", "FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS")
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | (environment or {})
    command = [sys.executable, "-m", "act_hf.cli", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


class TestProcess:
    def test_output_in_a_pipe_is_clean_and_progress_goes_elsewhere(self, run, encoder):
        labels = ("--text", "text", "--labels", "good,bad", "--model", encoder)
        started = process("annotate", run / "rows.csv", "out", *labels)
        out, err = started.communicate(timeout=100)
        assert started.returncode == 0, err
        assert len(out.splitlines()) == 2
        assert all(character.isprintable() or character == "\n" for character in out)
        assert "annotate: 100%" in err

    def test_a_pipe_that_knows_no_greek(self, run):
        started = process("report", run / "drawn", "report.html", environment={"PYTHONIOENCODING": "ascii"})
        out, err = started.communicate(timeout=100)
        assert started.returncode == 0, err
        assert "report in report.html" in out

    def test_ctrl_c_says_that_nothing_is_lost_and_the_same_command_goes_on(self, encoder):
        rows = 3000
        write_dataset(Dataset.from_dict({"text": [f"fine {i}" for i in range(rows)]}), "rows.parquet")
        options = ("--text", "text", "--labels", "good,bad", "--model", encoder, "--store", "answers.sqlite")
        command = ("annotate", "rows.parquet", "out", *options, "--batch-size", "16")
        # A shell may have told its background jobs to ignore Ctrl-C.
        started = process(*command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        deadline = time.monotonic() + 100
        while stored("answers.sqlite") < 16:
            assert started.poll() is None, started.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=100)
        assert started.returncode == 130, err
        assert out == ""
        said = "act-hf: stopped; every answer so far is kept: the same command goes on from there"
        assert err.rstrip().splitlines()[-1] == said
        assert "Traceback" not in err
        kept = stored("answers.sqlite")
        assert 0 < kept < rows
        assert sorted(path.name.split("-")[0] for path in Path().iterdir() if "out" in path.name) == []
        assert f"{rows - kept} calls, {kept} from the store" in good(*command)


def stored(path: str) -> int:
    """How many answers another process has stored."""
    if not Path(path).exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'answers'").fetchone()[0]:
            return 0
        return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
