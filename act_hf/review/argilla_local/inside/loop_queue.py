"""What stands in for Redis and its workers: jobs run on the server's own loop. Runs in the server's environment."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import redis
import rq
from fakeredis import FakeRedis
from rq.job import JobStatus


LOGGER = logging.getLogger("argilla")


class LoopQueue(rq.Queue):  # type: ignore[misc]  # the server is not installed where this is checked
    """
    Runs a job as soon as it is enqueued, on the event loop of whoever enqueues it.

    The server's jobs are coroutines over its pool of connections, which belongs to that loop.
    """

    running: set[asyncio.Task[None]] = set()  # noqa: RUF012  # of all queues: a task that nobody holds may vanish

    def enqueue_job(self, job: Any, pipeline: Any = None, at_front: bool = False) -> Any:
        job.origin = self.name
        job.save()
        job.set_status(JobStatus.QUEUED)
        task = asyncio.get_running_loop().create_task(self._run(job))
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return job

    async def _run(self, job: Any) -> None:
        job.set_status(JobStatus.STARTED)
        try:
            await job.func(*job.args, **job.kwargs)
        except Exception:  # a job fails alone, as it does in a worker
            LOGGER.exception("the job %s failed", job.func_name)
            job.set_status(JobStatus.FAILED)
        else:
            job.set_status(JobStatus.FINISHED)


def install() -> None:
    """Before the server is imported, which makes its connection and its queues then, by these two names."""
    redis.from_url = lambda *_, **__: FakeRedis()
    rq.Queue = LoopQueue
