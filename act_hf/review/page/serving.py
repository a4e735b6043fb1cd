"""A review page, served from this machine."""

from __future__ import annotations

import secrets
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.review.page.app import build_app, import_gradio, look
from act_hf.review.page.database import SUFFIX, Database
from act_hf.review.page.guard import TOKEN, Guard
from act_hf.review.page.place import Page
from act_hf.review.page.view import Reviewing
from act_hf.review.places import push_review


if TYPE_CHECKING:
    from types import TracebackType

    import uvicorn
    from datasets import Dataset

LOOPBACK = "127.0.0.1"
LOOPBACKS = frozenset(("127.0.0.1", "localhost", "::1"))

_USUAL_PORT = 7860
"""Tried first where no port is given, so that the address mostly stays the same."""


class ServedPage:
    """
    A review page that is being served, by a thread of this process. Also a context manager that closes it.

    Attributes:
        url (`str`): the address to open, with the token.
        path (`Path`): the file.
    """

    def __init__(self, url: str, database: Database, server: uvicorn.Server, port: socket.socket) -> None:
        self.url, self.path = url, database.path
        self._database, self._server, self._port = database, server, port
        self._thread = threading.Thread(target=server.run, kwargs={"sockets": [port]}, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Serves until the process is told to stop, and closes."""
        try:
            # Waking up is what lets Ctrl-C through on every system.
            while self._thread.is_alive():
                self._thread.join(1.0)
        finally:
            self.close()

    def close(self) -> None:
        """Stops serving. Every answer is on disk already."""
        self._server.should_exit = True
        self._thread.join()
        self._port.close()
        self._database.close()

    def __enter__(self) -> ServedPage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        # What a notebook shows of the last line of a cell.
        return f"ServedPage of {self.path}: open {self.url}"


def serve_page(
    review: str | Path | Dataset,
    *,
    file: str | Path | None = None,
    annotator: str | None = None,
    per_row: int = 1,
    host: str = LOOPBACK,
    port: int | None = None,
    token: bool = True,
) -> ServedPage:
    """
    Serves the page on which people review, from a script or a notebook.

    Args:
        review (`str`, `Path` or `Dataset`): a review file (`.sqlite`), or sampled rows, which are pushed to `file`
            first.
        file (`str` or `Path`, *optional*): the review file of a data set.
        annotator (`str`, *optional*): who answers; people are asked for their name by default.
        per_row (`int`, *optional*, defaults to 1): how many people should answer each row.
        host (`str`, *optional*, defaults to `"127.0.0.1"`): the address to listen at. Others than this machine can
            reach the page only with another one.
        port (`int`, *optional*): 7860 by default, or a free one where that is in use.
        token (`bool`, *optional*, defaults to `True`): lets in only those who have the address with its token. Without
            one the page answers by IP address, the machine's name and `host` alone: a name of another site may point
            to it.

    Returns:
        [`ServedPage`]: `print(page.url)`, `page.wait()` in a script, `page.close()` at the end.

    Raises:
        ACTError: for a file that is missing, broken, read-only or of another task, a port in use, or where Gradio is
            not installed.

    Example:

    ```python
    >>> page = serve_page(drawn, file="to_review.sqlite", annotator="ann")
    >>> page.url
    >>> page.close()
    >>> reviewed = pull_review(drawn, "to_review.sqlite")
    ```
    """
    import_gradio()
    path = _pushed(review, file)
    listening = _listen(host, port)
    try:
        database = Database(path)
    except BaseException:
        listening.close()
        raise
    try:
        with database.writing():  # a file that cannot be written is better known now than at the first answer
            pass
        reviewing = Reviewing(database, annotator, per_row)
        number = listening.getsockname()[1]
        secret = secrets.token_urlsafe(24) if token else None
        server = _server(reviewing, secret, host, number)
    except BaseException:
        listening.close()
        database.close()
        raise
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{number}/" + (f"?{TOKEN}={secret}" if secret else "")
    return ServedPage(url, database, server, listening)


def _pushed(review: str | Path | Dataset, file: str | Path | None) -> str | Path:
    """The review file, with the rows of a data set in it."""
    if isinstance(review, str | Path):
        if Path(review).suffix != SUFFIX:
            raise ACTError(f"{str(review)!r} is no review file: give one ending in {SUFFIX}, or a Dataset and file=")
        return review
    if file is None:
        raise ACTError(
            f"serve_page: a data set needs file=, the review file ending in {SUFFIX} that keeps the answers"
        )
    push_review(review, Page(file))
    return file


def _listen(host: str, port: int | None) -> socket.socket:
    for wanted in (_USUAL_PORT, 0) if port is None else (port,):
        try:
            return socket.create_server((host, wanted), family=_family(host), backlog=256)
        except (OSError, OverflowError) as error:
            problem = error
    where = host if port is None else f"port {port} of {host}"
    reason = str(problem).partition(" (while")[0]  # Python adds the address
    raise ACTError(
        f"cannot listen at {where}: {reason}; give another --port or --host, or none: then one that is free is taken"
    ) from problem


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _server(reviewing: Reviewing, token: str | None, host: str, port: int) -> uvicorn.Server:
    import gradio
    import uvicorn
    from fastapi import FastAPI

    outer = FastAPI(openapi_url=None)
    options: dict[str, Any] = look()
    gradio.mount_gradio_app(outer, build_app(reviewing), path="/", server_name=host, server_port=port, **options)
    guarded = Guard(outer, token=token, cookie=f"act_hf_review_{port}", hosts=_names(host, token))
    # No access log: addresses hold the token. Pages keep a connection open for as long as they are.
    config = uvicorn.Config(
        guarded, log_level="error", access_log=False, lifespan="on", ws="none", timeout_graceful_shutdown=1
    )
    return uvicorn.Server(config)


def _names(host: str, token: str | None) -> frozenset[str] | None:
    """By which the page may be called: any, where the token keeps other sites out."""
    if host in LOOPBACKS:
        return LOOPBACKS
    machine = socket.gethostname().lower()
    return None if token else LOOPBACKS | {host.lower(), machine, f"{machine}.local"}
