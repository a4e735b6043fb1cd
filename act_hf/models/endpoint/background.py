"""One event loop in the background, so that blocking code keeps many requests in flight, in a notebook as anywhere."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from typing import Any


_PATIENCE = 5.0
"""Seconds that the end of the process waits for connections to close."""

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_pid = 0
_thread: threading.Thread | None = None
_inherited: list[asyncio.AbstractEventLoop | None] = []
_clients: weakref.WeakSet[Any] = weakref.WeakSet()


def background_loop() -> asyncio.AbstractEventLoop:
    """The running event loop of this process. It lives on a thread of its own and survives between calls."""
    global _loop, _pid, _thread
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop, _pid = asyncio.new_event_loop(), os.getpid()
            _thread = threading.Thread(target=_loop.run_forever, name="act_hf requests", daemon=True)
            _thread.start()
        return _loop


def close_with_process(client: Any) -> None:
    """Has `client`, which has an async `close()`, closed when the process ends or nobody uses it any more."""
    _clients.add(client)


def close_soon(client: Any, loop: asyncio.AbstractEventLoop, pid: int) -> None:
    """Closes `client`, which belongs to `loop` in process `pid`, without waiting for it."""
    # After a fork the sockets are the parent's too: only their owner says goodbye to the server.
    if pid == os.getpid() and loop.is_running():
        asyncio.run_coroutine_threadsafe(client.close(), loop)


@atexit.register
def _stop() -> None:
    global _loop
    if _loop is None or _pid != os.getpid() or _thread is None or _loop.is_closed():
        return
    loop, _loop = _loop, None
    with contextlib.suppress(Exception):  # a connection that cannot be closed must not delay the end
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(_PATIENCE)
    loop.call_soon_threadsafe(loop.stop)
    _thread.join(_PATIENCE)
    if not _thread.is_alive():
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(client.close() for client in _clients), return_exceptions=True)


def _after_fork() -> None:
    # The thread stayed in the parent, and the lock may have been held there. The loop is kept from being collected:
    # it would warn that it still runs.
    global _lock, _loop
    _lock = threading.Lock()
    _inherited.append(_loop)
    _loop = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
