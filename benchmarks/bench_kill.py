"""
`kill -9` at random moments of a job behind a server: what is paid twice, what is lost?

    python benchmarks/bench_kill.py    # five minutes

For each of 20 trials: a new store, 2,000 rows, 32 requests in flight; the process is killed after a random number of
requests and started again. The server (tests/support/server.py, 50 ms an answer) counts what it was asked.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import save_result


TESTS = Path(__file__).parent.parent / "tests"
sys.path.insert(0, str(TESTS))

from support.endpoint_job import TASK, stats  # noqa: E402


ROWS = 2000
IN_FLIGHT = 32
TRIALS = 20
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(TESTS), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def start_server(latency: float) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, "-m", "support.server", "--latency", str(latency), "--words", ",".join(TASK.words)]
    server = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    url = server.stdout.readline().split()[-1]
    return server, url


def start_job(url: str, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "support.endpoint_job", url, str(folder / "answers.sqlite")]
    command += [str(folder / "columns.json"), str(ROWS), str(IN_FLIGHT)]
    return subprocess.Popen(command, env=ENVIRONMENT)


def finished(url: str, folder: Path) -> dict:
    """Runs the job to its end."""
    assert start_job(url, folder).wait() == 0
    return json.loads((folder / "columns.json").read_text())


def trial(url: str, expected: dict, moment: int) -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = stats(url)["seen"]
        job = start_job(url, folder)
        while stats(url)["seen"] - before < moment and job.poll() is None:
            time.sleep(0.002)
        job.kill()
        job.wait()
        with sqlite3.connect(folder / "answers.sqlite") as store:
            (sound,) = store.execute("PRAGMA integrity_check").fetchone()
            (kept,) = store.execute("SELECT count(*) FROM answers").fetchone()
        columns = finished(url, folder)
        paid_again = stats(url)["seen"] - before - ROWS
        return {"moment": moment, "kept": kept, "paid_again": paid_again, "same": columns == expected, "store": sound}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=TRIALS)
    given = parser.parse_args()
    server, url = start_server(0.05)
    try:
        with tempfile.TemporaryDirectory() as folder:
            expected = finished(url, Path(folder))
        assert not any(expected["act_failure"])
        moments = np.random.default_rng(0).choice(np.arange(1, ROWS), given.trials, replace=False).tolist()
        trials = []
        for moment in moments:
            trials.append(trial(url, expected, moment))
            print(trials[-1], flush=True)
    finally:
        server.kill()
    most = max(trial["paid_again"] for trial in trials)
    assert most <= IN_FLIGHT
    assert all(trial["same"] and trial["store"] == "ok" for trial in trials)
    save_result("kill", {"rows": ROWS, "in_flight": IN_FLIGHT, "most_paid_again": most, "trials": trials})


if __name__ == "__main__":
    main()
