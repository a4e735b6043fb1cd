"""A lock on an open file, that ends with the last process that has the file open."""

from __future__ import annotations

from typing import IO

from act_hf.errors import ACTError


def take(file: IO[str], *, wait: bool) -> None:
    """
    Locks a file against other processes.

    Args:
        file (`IO[str]`): an open file.
        wait (`bool`): for the process that has the lock.

    Raises:
        BlockingIOError: where another process has it, and is not waited for.
        ACTError: on a system that has no such locks.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        raise ACTError(
            "the local Argilla server needs Linux or macOS; elsewhere use docs/argilla-compose.yml"
        ) from None
    fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
