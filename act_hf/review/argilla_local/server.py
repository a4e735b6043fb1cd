"""A real Argilla server on this machine's loopback, for trying out, for notebooks and for tests."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from act_hf.errors import ACTError, printable
from act_hf.review.argilla_local import environment
from act_hf.review.argilla_local.data import WORKSPACE, DataFolder, default_folder


if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

HOST = "127.0.0.1"
ENGINES = ("sql", "opensearch")

_PROGRAM = Path(__file__).parent / "inside" / "serve.py"
_PATIENCE = 180
"""Seconds until a server that does not answer has failed: the machine may be busy."""
_FAREWELL = 15
"""Seconds to end in, when asked to."""


class LocalArgilla:
    """
    An Argilla server in a process of its own, as a context manager.

    The server and its page are Argilla's. The search is answered from the server's SQL database, and background jobs
    run in the server itself. A team should deploy Argilla's own images instead.

    Args:
        home (`str` or `Path`, *optional*): the data folder. The same folder has the same data and accounts again.
            Defaults to a folder of the user's.
        port (`int`, *optional*, defaults to 0): where to listen; 0 is any free one.
        engine (`str`, *optional*, defaults to `"sql"`): `"sql"`, or `"opensearch"` for Argilla's own search client on
            an in-memory OpenSearch, and a Redis. Needs the package osmem-server here, and a redis-server. That
            OpenSearch refuses single answers (which are saved all the same), so it is for checking what was pushed.
        environment (`str` or `Path`, *optional*): the environment that the server is installed in. Defaults to the one
            that `act-hf review argilla --setup` makes.

    Raises:
        ACTError: when starting: where the server is not installed, the folder or the port is in use, or the server
            does not answer; the last is said with the end of its log.
    """

    def __init__(
        self,
        home: str | Path | None = None,
        *,
        port: int = 0,
        engine: str = "sql",
        environment: str | Path | None = None,
    ) -> None:
        if engine not in ENGINES:
            raise ACTError(f"engine {engine!r} is none of {', '.join(ENGINES)}")
        self.engine = engine
        self.data = DataFolder(Path(home) if home is not None else default_folder())
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self._environment = Path(environment) if environment is not None else None

    @property
    def url(self) -> str:
        """The address, for the SDK and for a browser."""
        return f"http://{HOST}:{self.port}"

    @property
    def workspace(self) -> str:
        """The workspace that everybody is in."""
        return WORKSPACE

    @property
    def owner_key(self) -> str:
        """The API key of the owner."""
        return next(person.api_key for person in self.data.people() if person.role == "owner")

    @property
    def annotators(self) -> dict[str, str]:
        """The API keys of the annotators, by name."""
        return {person.username: person.api_key for person in self.data.people() if person.role == "annotator"}

    def start(self) -> Self:
        """Starts the server and waits until it answers."""
        python = environment.python(self._environment)
        with self.data.claim() as lock, _listening(self.port) as listener:
            self.data.people()  # where they are damaged, now is the time to say so
            self.port = listener.getsockname()[1]
            read_from = self.data.log.stat().st_size if self.data.log.exists() else 0
            self.process = self._spawn(python, lock.fileno(), listener.fileno())
            lock.write(f"at {self.url} (process {self.process.pid})")
        try:
            self._wait(read_from)
        except BaseException:
            self.kill()
            raise
        return self

    def _spawn(self, python: Path, lock: int, listener: int) -> subprocess.Popen[bytes]:
        # It inherits the lock and the port, and what we hold of them is closed: they are free when it ends.
        command = [str(python), str(_PROGRAM), "--accounts", str(self.data.accounts), "--socket", str(listener)]
        command += [] if self.engine == "sql" else search_programs()
        with self.data.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  # a command of ours
                command,
                cwd=self.data.path,
                env=self._variables(),
                stdin=subprocess.PIPE,  # closed when we end, and it ends then
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock, listener),
                process_group=0,
                umask=0o077,
            )

    def _variables(self) -> dict[str, str]:
        """Nothing of ours but where programs are: no key, and no address that it could send anything to."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
        return kept | {
            "ARGILLA_HOME_PATH": str(self.data.path),
            "ARGILLA_DATABASE_URL": "sqlite+aiosqlite:///argilla.db?check_same_thread=False",
            "ARGILLA_CORS_ORIGINS": "[]",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PYTHONNOUSERSITE": "1",
            "TMPDIR": str(self.data.temporary),
        }

    def _wait(self, read_from: int) -> None:
        assert self.process is not None
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                happened = f"ended with status {ended}" if ended is not None else f"is silent after {_PATIENCE} s"
                raise ACTError(
                    f"the Argilla server {happened}; its log, {str(self.data.log)!r}, ends with:\n"
                    f"{self._end_of_log(read_from)}"
                )
            time.sleep(0.2)

    def _answers(self) -> bool:
        # Not urllib: a proxy must not be asked about this machine.
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/api/v1/version")
            return "version" in json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()

    def _end_of_log(self, read_from: int) -> str:
        said = self.data.log.read_bytes()[read_from:].decode(errors="replace")
        return "\n".join(printable(line) for line in said.splitlines()[-20:])

    def wait(self) -> int:
        """Waits until the server ends by itself, and gives its exit status."""
        assert self.process is not None
        return self.process.wait()

    def stop(self) -> None:
        """Asks the server to end, and sees to it."""
        self._signal(signal.SIGTERM)
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_FAREWELL)
        self.kill()

    def kill(self) -> None:
        """`kill -9` of the server and of all it started."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process = None

    def _signal(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def search_programs() -> list[str]:
    """
    The options that name an in-memory OpenSearch and a Redis.

    Raises:
        ACTError: where one of them is missing.
    """
    package, redis = importlib.util.find_spec("osmem_server"), shutil.which("redis-server")
    if package is None or package.origin is None or redis is None:
        missing = (
            "redis-server (apt-get install redis-server)" if package else "osmem-server (pip install osmem-server)"
        )
        raise ACTError(f"engine 'opensearch' needs {missing}")
    return ["--opensearch", str(Path(package.origin).parent / "bin" / "osmem-server"), "--redis", redis]


def _listening(port: int) -> socket.socket:
    """The port is ours from here on, so that nobody takes it while the server is loading."""
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise ACTError(
            f"cannot listen on port {port} of {HOST}: {error}; give another --port, or 0 for any"
        ) from error
