"""Argilla's own search client in the path: an in-memory OpenSearch and a Redis. Runs in the server's environment."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator


@contextlib.contextmanager
def running(opensearch: str, redis: str) -> Iterator[None]:
    """Runs both until the block ends, and tells the server where they are. Before the server is imported."""
    with _ended(_start([opensearch, "-addr", "127.0.0.1:0"])) as search, _ended(_start([redis, "-"])) as queue:
        assert search.stdout is not None
        os.environ["ARGILLA_ELASTICSEARCH"] = json.loads(search.stdout.readline())["url"]
        os.environ["ARGILLA_REDIS_URL"] = _configure(queue)
        yield


def _start(command: list[str]) -> subprocess.Popen[str]:
    # In our process group: whoever kills that, kills them.
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603


def _configure(redis: subprocess.Popen[str]) -> str:
    """Its settings go in as a file would: a password on the command line is there for all to see."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    password = secrets.token_hex()
    assert redis.stdin is not None
    redis.stdin.write(f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\nlogfile /dev/null\n')
    redis.stdin.close()
    return f"redis://:{password}@127.0.0.1:{port}/0"


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def index_again() -> None:
    """What is in the database goes into the search engine, which was empty when it started."""
    from argilla_server.cli.search_engine.reindex import Reindexer
    from argilla_server.database import AsyncSessionLocal, async_engine
    from argilla_server.search_engine import get_search_engine

    async with AsyncSessionLocal() as db:
        async for engine in get_search_engine():
            async for dataset in Reindexer.reindex_datasets(db, engine):
                async for _ in Reindexer.reindex_dataset_records(db, engine, dataset):
                    pass
    await async_engine.dispose()  # its connections belong to this loop, and the server has one of its own
