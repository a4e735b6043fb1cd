"""A model that vLLM serves on this machine, for as long as it is needed."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEY = "VLLM_API_KEY"
"""The environment variable from which vLLM reads its key: everybody on a machine sees a command line."""

LOOPBACK = "127.0.0.1"

PATIENCE = 3600.0
"""Seconds until the model must have been downloaded and loaded."""

_LAST_WORD = 30.0
_EVERY = 0.5


@contextmanager
def vllm_server(model: str, options: Sequence[str] = (), *, patience: float = PATIENCE) -> Iterator[str]:
    """
    Starts `vllm serve`, waits until it answers, and stops it at the end of the block.

    Only this machine reaches it, and only with the key that is in the environment variable `VLLM_API_KEY` meanwhile.

    Args:
        model (`str`): a Hub id or a folder.
        options (sequence of `str`, *optional*): further ones for `vllm serve`, such as `["--max-model-len", "8192"]`.
        patience (`float`, *optional*, defaults to 3600): seconds to wait for it.

    Yields:
        `str`: its address, for `Endpoint(model, base_url=..., server="vllm", token="$VLLM_API_KEY")`.

    Raises:
        ACTError: where there is no vLLM, it ends by itself, or does not answer in time.
    """
    program = shutil.which("vllm")
    if program is None:
        raise ACTError("there is no program vllm here: pip install vllm, or run in the image vllm/vllm-openai")
    port = _free_port()
    before, os.environ[KEY] = os.environ.get(KEY), secrets.token_urlsafe(24)
    # In a group of its own, so that its workers, who hold the GPU, end with it.
    server = subprocess.Popen(  # noqa: S603
        [program, "serve", model, "--host", LOOPBACK, "--port", str(port), *options], start_new_session=True
    )
    try:
        _wait(server, f"http://{LOOPBACK}:{port}/health", patience)
        yield f"http://{LOOPBACK}:{port}/v1"
    finally:
        _stop(server)
        del os.environ[KEY]
        os.environ.update({} if before is None else {KEY: before})


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def _wait(server: subprocess.Popen[bytes], health: str, patience: float) -> None:
    until = time.monotonic() + patience
    while not _answers(health):
        if server.poll() is not None:
            raise ACTError(f"vllm ended with status {server.returncode} before it answered; what it said is above")
        if time.monotonic() > until:
            raise ACTError(f"vllm did not answer in {patience:.0f} seconds; what it said is above")
        time.sleep(_EVERY)


def _answers(health: str) -> bool:
    try:
        with urllib.request.urlopen(health, timeout=10) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):  # not listening yet, or loading
        return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, sign)
        except ProcessLookupError:  # the whole group is gone
            break
        try:
            server.wait(_LAST_WORD)
        except subprocess.TimeoutExpired:
            continue
    server.wait()
