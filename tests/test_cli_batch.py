"""`--batch` and `--no-wait`: the commands that ask a server by batch."""

import csv
import re
from pathlib import Path

import pytest
from support.batch_server import BatchServer
from support.command import act_hf, good, refused

from act_hf.cli.options import KEY, ServerOptions
from act_hf.columns import ERROR_PROB, FAILURE
from act_hf.files import read_dataset
from act_hf.models.batch import BatchEndpoint
from act_hf.models.batch.model import JOURNAL
from act_hf.models.store import Store


TASK = ("--text", "text", "--labels", "good,bad")
ANNOTATE = ("annotate", "rows.csv", "labelled", *TASK, "--model", "m")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """rows.csv here, a store for the test alone, and no key of whoever runs it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACT_HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(KEY, raising=False)
    with open("rows.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([("text",), *((f"row {i} fine",) for i in range(12))])
    return tmp_path


@pytest.fixture
def server():
    def says(body):
        return "I doubt it.\nAnswer: 40 %" if "probability" in str(body["messages"]) else "good"

    with BatchServer(say=says, logprobs=False, key="s3cret") as server:
        yield server


def at(server, *more: str) -> tuple[str, ...]:
    return ("--base-url", server.url, "--no-logprobs", "--batch", *more)


def finish(server) -> None:
    """Every batch is about to end."""
    for batch in server.batches.values():
        if batch.status in ("validating", "in_progress"):
            batch.status = "finalizing"


class TestNoWait:
    def test_submits_ends_with_3_and_the_same_command_goes_on(self, server, monkeypatch):
        monkeypatch.setenv(KEY, "s3cret")
        command = (*ANNOTATE, *at(server, "--no-wait"))
        for status in ("validating", "in_progress"):
            ended = act_hf(*command)
            assert (ended.status, ended.out) == (3, "")
            assert ended.err == (
                f"act-hf: m was asked by batch: batch_1 ({status}, 0 of 12); the same call takes what has ended\n"
            )
            assert not Path("labelled").exists()
        finish(server)
        assert re.match(r"annotate: model m/openai, .*failed 0, 12 calls, 0 from the store", good(*command))
        doubt = ("criticize", "labelled", "doubted", "--model", "m", "--strategy", "naive", *at(server, "--no-wait"))
        assert act_hf(*doubt).status == 3
        finish(server)
        assert "12 calls, 0 from the store" in good(*doubt)
        assert read_dataset("doubted")[ERROR_PROB][:] == pytest.approx([0.6] * 12)
        assert server.stats()["submitted"] == [12, 12]
        assert server.requests == 0
        assert {header.get("authorization") for header in server.headers} == {"Bearer s3cret"}

    def test_a_panel(self, server, monkeypatch):
        monkeypatch.setenv(KEY, "s3cret")
        act_hf(*ANNOTATE, *at(server, "--no-wait"))
        finish(server)
        good(*ANNOTATE, *at(server))
        panel = ("panel", "labelled", "doubted", "--model", "m", "--strategy", "cot", *at(server, "--no-wait"))
        assert act_hf(*panel).status == 3
        finish(server)
        good(*panel)
        assert read_dataset("doubted")[FAILURE][:] == [None] * 12

    def test_what_was_submitted_is_written_beside_the_store(self, server, monkeypatch):
        monkeypatch.setenv(KEY, "s3cret")
        assert act_hf(*ANNOTATE, *at(server, "--no-wait"), "--store", "kept/answers").status == 3
        assert {path.name for path in Path("kept").iterdir()} >= {"answers", "answers.batches"}
        assert not Path("home").exists()
        assert act_hf(*ANNOTATE, *at(server, "--no-wait")).status == 3
        assert Store().path.with_name(JOURNAL).exists()
        assert Store().path.name + ".batches" == JOURNAL

    def test_smaller_batches(self, server, monkeypatch):
        monkeypatch.setenv(KEY, "s3cret")
        assert act_hf(*ANNOTATE, *at(server, "--no-wait", "--batch-requests", "5")).status == 3
        assert server.stats()["submitted"] == [5, 5, 2]


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--batch",), "batch: for a model behind a server; say which, with base_url= (--base-url)"),
            (("--batch", "--provider", "together"), "batch: m is behind a Hugging Face provider, and these take no"),
            (("--batch", "--base-url", "http://a/v1", "--server", "vllm"), "server='vllm' has no batch routes; leave"),
            (("--no-wait", "--base-url", "http://a/v1"), "--no-wait is for a server that is asked by batch; give --b"),
            (("--batch-requests", "5"), "--batch-requests is for a server that is asked by batch; give --batch too"),
        ],
    )
    def test_what_will_not_do(self, options, said):
        assert said in refused(*ANNOTATE, *options)
        assert not Path("labelled").exists()

    def test_the_wrong_key_is_not_shown(self, server, monkeypatch):
        monkeypatch.setenv("MINE", "n0t-it")
        said = refused(*ANNOTATE, *at(server), "--api-key-env", "MINE")
        assert "cannot use m: the server answered 401" in said
        assert "n0t-it" not in said

    @pytest.mark.parametrize("command", [("plan", "--annotator"), ("compare", "--gold", "text", "--annotator")])
    def test_a_look_at_a_few_rows_does_not_take_a_day(self, server, command):
        name, *options = command
        said = refused(name, "rows.csv", *TASK, *options, "m", *at(server))
        assert "plan and compare ask a few rows, and by batch that takes up to a day; leave out --batch here" in said
        assert server.files == {}


def test_each_option_reaches_the_model():
    options = ServerOptions(
        base_url="http://a/v1", batch=True, no_wait=True, batch_requests=7, price_in=1, price_out=2
    )
    made = options.load("m", Path("kept/answers"))
    assert isinstance(made, BatchEndpoint)
    assert (made.wait, made.max_requests, made.journal) == (False, 7, Path("kept/answers.batches"))
    assert made.prices == (0.5, 1.0)
    assert ServerOptions(base_url="http://a/v1", batch=True).load("m").wait
