"""A model served by vLLM for as long as it is needed: a stand-in for vLLM, started as the real one is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support import vllm
from support.processes import alive, command_lines

from act_hf.errors import ACTError
from act_hf.models.vllm import KEY, vllm_server


TESTS = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def program(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", f"{vllm.install(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([TESTS, str(Path(TESTS).parent)]))
    monkeypatch.delenv(KEY, raising=False)


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "log.json"


def pids(log: Path) -> list[int]:
    return json.loads(log.read_text())["pids"]


def asked(url: str, key: str) -> int:
    """The status with which it answers."""
    body = json.dumps({"model": "some/model", "messages": [{"role": "user", "content": "hello"}]}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/chat/completions", body, headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_it_serves_those_who_have_the_key_and_is_gone_afterwards(log):
    with vllm_server("some/model", ["--log", str(log)]) as url:
        assert url.startswith("http://127.0.0.1:")
        assert asked(url, os.environ[KEY]) == 200
        assert asked(url, "guessed") == 401
        assert json.loads(log.read_text())["model"] == "some/model"
        assert all(alive(pid) for pid in pids(log))
    assert not any(alive(pid) for pid in pids(log))
    assert KEY not in os.environ


def test_a_key_of_the_users_own_is_left_as_it_was(monkeypatch):
    monkeypatch.setenv(KEY, "mine")
    with vllm_server("some/model"):
        assert os.environ[KEY] != "mine"
    assert os.environ[KEY] == "mine"


def test_an_error_in_the_block_stops_it(log):
    with pytest.raises(ZeroDivisionError), vllm_server("some/model", ["--log", str(log)]):
        raise ZeroDivisionError
    assert not any(alive(pid) for pid in pids(log))


def test_ctrl_c_stops_it(log):
    code = (
        f"import time; from act_hf.models.vllm import vllm_server\nwith vllm_server('m', ['--log', {str(log)!r}]):\n"
    )
    running = subprocess.Popen([sys.executable, "-c", code + " print('up', flush=True)\n time.sleep(600)"], stdout=-1)
    assert running.stdout.readline() == b"up\n"
    running.send_signal(signal.SIGINT)
    running.wait()
    assert not any(alive(pid) for pid in pids(log))


def test_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ACTError, match="there is no program vllm here: pip install vllm, or run in the image"):
        vllm_server("some/model").__enter__()


def test_one_that_ends_by_itself(log):
    with pytest.raises(ACTError, match="vllm ended with status 3 before it answered; what it said is above"):
        vllm_server("some/model", ["--log", str(log), "--end", "3"]).__enter__()
    assert not any(alive(pid) for pid in pids(log))
    assert KEY not in os.environ


def test_one_that_never_answers(log):
    with pytest.raises(ACTError, match="vllm did not answer in 3 seconds"):
        vllm_server("some/model", ["--log", str(log), "--stuck"], patience=3).__enter__()
    assert not any(str(log) in line for line in command_lines())  # it may not have come to writing it
