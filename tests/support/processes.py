"""What anybody on a machine can see of its processes."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


PROC = Path("/proc")


def command_lines() -> set[str]:
    """The command lines of all processes."""
    if not PROC.is_dir():
        return set(
            subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True).stdout.splitlines()
        )
    found = set()
    for process in PROC.glob("[0-9]*"):
        try:
            found.add((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it has ended
            continue
    return found


def alive(pid: int) -> bool:
    """Whether there is such a process; one that has ended and was not waited for is none."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def watched() -> Iterator[set[str]]:
    """The command lines of everything that runs while the block does."""
    seen: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            seen.update(command_lines())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()
