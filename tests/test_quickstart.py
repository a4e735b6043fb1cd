"""The main job on the embedded models: resumed after `kill -9`, and over a kept store."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.weights import embedded

from act_hf.columns import CRITIQUE, ERROR_PROB, ID, LABEL, LABEL_PROBS, PI, SELECTED
from act_hf.models.embedded import minilm_path, smollm2_path
from act_hf.quickstart import label_and_criticize, load_sample, run_quickstart, sample_task


pytestmark = pytest.mark.model

ROWS = 64

# Annotates, and writes down the size of every batch before it is handed over to be stored.
WORKER = """
import sys
from pathlib import Path
from act_hf.models import local
from act_hf.quickstart import label_and_criticize, load_sample

class Counted(local.LocalModel):
    def answer(self, requests):
        for finished in super().answer(requests):
            with open(sys.argv[2], "a") as log:
                print(len(finished), file=log, flush=True)
            yield finished

local.LocalModel = Counted
label_and_criticize(load_sample("pool").take(int(sys.argv[3])), Path(sys.argv[1]), threads=1)
"""


@pytest.fixture(scope="module", autouse=True)
def _weights():
    embedded(smollm2_path)
    embedded(minilm_path)


def stored(path: Path) -> int:
    """How many answers the file holds, as another process sees it."""
    if not path.exists():
        return 0
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'answers'").fetchone()[0]
        return connection.execute("SELECT count(*) FROM answers").fetchone()[0] if tables else 0


def start(store: Path, log: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(store), str(log), str(ROWS)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_until(there, process: subprocess.Popen, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert process.poll() is None, "the worker ended before it could be killed"
        assert time.monotonic() < end, "the worker is stuck"
        time.sleep(0.02)


def test_killed_while_annotating_it_repeats_at_most_one_batch_and_ends_the_same(tmp_path):
    store, log = tmp_path / "killed.sqlite", tmp_path / "batches"
    process = start(store, log)
    wait_until(lambda: 10 <= stored(store) < ROWS, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    batches = [int(line) for line in log.read_text().split()]
    kept = stored(store)
    assert kept < ROWS, "it was killed too late to show anything"
    assert sum(batches) - kept <= max(batches)

    pool = load_sample("pool").take(ROWS)
    resumed = label_and_criticize(pool, store, threads=1)
    assert len(set(resumed[ID])) * 3 == stored(store)  # nothing asked twice, nothing missing
    whole = label_and_criticize(pool, tmp_path / "whole.sqlite", threads=1)
    for name in (ID, LABEL, LABEL_PROBS, ERROR_PROB, CRITIQUE, ERROR_PROB + "_logit"):
        assert resumed[name] == whole[name], name


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart")
    return out, [run_quickstart(out, rows=ROWS, seeds=1, threads=1) for _ in range(2)]


def test_the_second_run_asks_for_nothing(runs):
    _, (first, second) = runs
    assert sum(cost.calls for cost in first.costs) > 0
    assert [cost.calls for cost in second.costs] == [0, 0, 0]
    assert [cost.requests for cost in second.costs] == [cost.requests for cost in first.costs]


def test_both_runs_say_the_same(runs):
    _, (first, second) = runs
    assert (first.truth, first.estimate, first.finding, first.critics) == (
        second.truth,
        second.estimate,
        second.finding,
        second.critics,
    )
    assert first.downstream == second.downstream


def test_everything_it_promises_is_there(runs):
    from datasets import load_from_disk
    from transformers import AutoModelForSequenceClassification

    out, (report, _) = runs
    assert {file.name for file in out.iterdir()} >= {"report.html", "review.csv", "data", "model", "downstream.json"}
    data = load_from_disk(str(out / "data"))
    assert {PI, SELECTED, "act_human", "act_responses"} <= set(data.column_names)
    assert len(json.loads((out / "downstream.json").read_text())) == 3
    model = AutoModelForSequenceClassification.from_pretrained(out / "model")
    assert list(model.config.id2label.values()) == list(sample_task().labels)
    assert "simulated" in report.summary()
    assert "simulated" in (out / "report.html").read_text(encoding="utf-8")


def test_no_test_row_is_in_the_pool_or_the_examples():
    seen = set(load_sample("pool")["text"]) | set(load_sample("examples")["text"])
    assert not seen & set(load_sample("test")["text"])
