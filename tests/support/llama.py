"""A real OpenAI-style server on a real model: llama.cpp's, from a package. `python llama.py MODEL.gguf PORT KEY`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


SLOTS = 4
"""Requests answered at a time."""

_READY = "ready"


@dataclass
class Llama:
    """Where it is and what opens it."""

    base_url: str
    key: str


@contextlib.contextmanager
def serve(model: Path, *, threads: int = 1, slots: int = SLOTS, context: int = 2048) -> Iterator[Llama]:
    """Runs the server in a process of its own until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = secrets.token_hex(8)  # without one, any page in a browser could ask it
    command = [sys.executable, __file__, str(model), str(port), key, str(threads), str(slots), str(context)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert _READY in line, f"the llama.cpp server did not start: {line!r}"
            yield Llama(f"http://127.0.0.1:{port}/v1", key)
        finally:
            process.kill()


def require_llama() -> None:
    """Skips where the server's package is not installed, but never in CI."""
    if importlib.util.find_spec("xllamacpp"):
        return
    reason = "the real server needs xllamacpp: pip install xllamacpp"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason}; in CI it has to be there")
    pytest.skip(reason)


def main() -> None:
    from xllamacpp import CommonParams, Server

    model, port, key, threads, slots, context = sys.argv[1:]
    params = CommonParams()
    params.model.path = model
    params.port = int(port)
    params.api_keys = [key]
    params.n_parallel = int(slots)
    params.n_ctx = int(slots) * int(context)
    params.cpuparams.n_threads = int(threads)
    params.cpuparams_batch.n_threads = int(threads)
    server = Server(params)
    print(_READY, server.listening_address, flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # a killed test run leaves no server behind
        time.sleep(1)


if __name__ == "__main__":
    main()
