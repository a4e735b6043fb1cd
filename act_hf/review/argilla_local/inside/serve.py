"""Runs the Argilla server on a socket that is open already. Started by `LocalArgilla`, in the server's environment."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def main() -> None:
    """Makes or updates the database, puts the people in, and serves until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=Path, required=True)
    parser.add_argument("--socket", type=int, required=True, help="number of the open file")
    parser.add_argument("--opensearch", help="the program, for Argilla's own search client instead of the stand-in")
    parser.add_argument("--redis", help="the program, with --opensearch")
    given = parser.parse_args()
    accounts = json.loads(given.accounts.read_text(encoding="utf-8"))
    os.environ["ARGILLA_AUTH_SECRET_KEY"] = accounts["session_secret"]  # people stay signed in over a restart
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # until the server takes it, so that what is open is closed
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    with _search(given.opensearch, given.redis):
        _prepare(accounts)
        _serve(given.socket)


def _stop_with_parent() -> None:
    """Nothing is ever written to our input: it ends when whoever started us is gone, be it by kill -9."""
    while os.read(0, 1024):  # not sys.stdin, whose lock would be held when Python ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _search(opensearch: str | None, redis: str | None) -> Iterator[None]:
    """What the server searches with. All of it before the server is imported, which looks for it then."""
    if opensearch and redis:
        import own_search

        os.environ["ARGILLA_SEARCH_ENGINE"] = "opensearch"
        with own_search.running(opensearch, redis):
            yield
        return
    os.environ["ARGILLA_SEARCH_ENGINE"] = "sql"
    import loop_queue

    loop_queue.install()
    import sql_search  # noqa: F401  # registers itself

    yield


def _prepare(accounts: dict[str, Any]) -> None:
    from alembic.command import upgrade
    from alembic.config import Config
    from people import settle

    config = Config()  # not the server's file, which silences every logger there is
    config.set_main_option("script_location", "argilla_server:alembic")
    upgrade(config, "head")
    asyncio.run(settle(accounts["workspace"], accounts["people"]))
    if os.environ["ARGILLA_SEARCH_ENGINE"] != "sql":
        from own_search import index_again

        asyncio.run(index_again())


def _serve(number: int) -> None:
    import uvicorn
    from argilla_server import app

    config = uvicorn.Config(_Enclosed(app), access_log=False, log_level="warning", timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=number)])


class _Enclosed:
    """The app, whose pages may ask nobody but this server: for fonts, or for a picture that a row names."""

    POLICY = (b"content-security-policy", b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:")

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Callable[..., Any]) -> None:
        async def sending(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], self.POLICY]}
            await send(message)

        await self.app(scope, receive, sending)


if __name__ == "__main__":
    main()
