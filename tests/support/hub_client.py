"""
The client of a Hub, in a process of its own: it reads `HF_ENDPOINT` when it is imported, and the tests' process has
imported it long before, for the real Hub.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest


class HubClient:
    """
    A process that uses a Hub.

    Args:
        folder (`Path`): its `HF_HOME`.
        url (`str`, *optional*): of the Hub; the real one by default.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        settings = {"HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        with pytest.MonkeyPatch.context() as patch:  # a spawned process takes the environment as it is now
            for name, value in (settings | ({"HF_ENDPOINT": url} if url else {})).items():
                patch.setenv(name, value)
            if url:
                patch.delenv("HF_TOKEN", raising=False)
            self.pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
            self.pool.submit(os.getpid).result()

    def __call__(self, use: Callable[..., Any], *arguments: Any, token: str | None = None, **options: Any) -> Any:
        """What `use(*arguments, **options)` gives in that process, with `token` as `HF_TOKEN`."""
        return self.pool.submit(_with_token, token, use, arguments, options).result()

    def close(self) -> None:
        self.pool.shutdown()


def _with_token(token: str | None, use: Callable[..., Any], arguments: Any, options: Any) -> Any:
    if token is None:
        return use(*arguments, **options)
    os.environ["HF_TOKEN"] = token
    try:
        return use(*arguments, **options)
    finally:
        del os.environ["HF_TOKEN"]


def killed_when_hanging(use: Callable[..., Any], *arguments: Any) -> bool:
    """Runs `use` in a fork, which is killed when the Hub leaves a request of it without an answer; whether it was."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            use(*arguments)
            status = 0
        finally:
            os._exit(status)
    while not _hanging():
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            assert status == 0
            return False
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def _hanging() -> bool:
    with urllib.request.urlopen(f"{os.environ['HF_ENDPOINT']}/_stub/log") as answer:
        return bool(json.load(answer)["hanging"])
