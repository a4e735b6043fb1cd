"""The environment that the Argilla server runs in: made once, in the user's cache folder, apart from ours."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from act_hf.errors import ACTError, printable
from act_hf.models.store import home
from act_hf.review.argilla_local import locks


if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
SIZE = "580 MB"
SETUP = "act-hf review argilla --setup"

_READY = ".ready"


def folder() -> Path:
    """Where the environment is, or will be. Another Python or other requirements make another one."""
    made_of = f"{sys.version_info[:2]} {REQUIREMENTS.read_text(encoding='utf-8')}"
    return home() / f"argilla-server-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"


def is_ready(environment: Path | None = None) -> bool:
    """Whether the environment is there and whole."""
    environment = environment or folder()
    # A Python that was removed since leaves a link to nowhere.
    return (environment / _READY).exists() and (environment / "bin" / "python").exists()


def python(environment: Path | None = None) -> Path:
    """
    The Python of the server's environment.

    Args:
        environment (`Path`, *optional*): where it is, if not in [`folder`].

    Raises:
        ACTError: where the environment was not made.
    """
    environment = environment or folder()
    if not is_ready(environment):
        raise ACTError(f"the Argilla server is not installed in {str(environment)!r}; install it with: {SETUP}")
    return environment / "bin" / "python"


def setup(say: Callable[[str], None]) -> Path:
    """
    Makes the environment where it is missing: a virtual environment, and pip with the requirements beside this file.

    Args:
        say (`Callable`): is given a line about what is being done, before anything that takes long.

    Returns:
        `Path`: where it is.

    Raises:
        ACTError: where it cannot be made. What was made so far is removed.
    """
    environment = folder()
    with _alone(environment, say):
        if is_ready(environment):
            return environment
        say(f"installing the Argilla server in {environment} ({SIZE}, once; it is kept apart from act_hf)")
        try:
            _run([sys.executable, "-m", "venv", "--clear", str(environment)])
            pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
            _run([*pip, "install", "--quiet", "--requirement", str(REQUIREMENTS)])
        except BaseException:
            shutil.rmtree(environment, ignore_errors=True)
            raise
        (environment / _READY).touch()  # last: its being there means that all is there
    return environment


@contextmanager
def _alone(environment: Path, say: Callable[[str], None]) -> Iterator[None]:
    """One process makes an environment, and the others wait for it."""
    environment.parent.mkdir(parents=True, exist_ok=True)
    with environment.with_suffix(".lock").open("w") as lock:
        try:
            locks.take(lock, wait=False)
        except BlockingIOError:
            say("another process is installing the Argilla server; waiting for it")
            locks.take(lock, wait=True)
        yield


def _run(command: list[str]) -> None:
    # What steers this Python must not steer the other one.
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(  # noqa: S603  # a command of ours
        command, env=kept, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        end = "\n".join(printable(line) for line in done.stdout.splitlines()[-10:])
        raise ACTError(f"cannot install the Argilla server; the last that {command[2]} said:\n{end}")
