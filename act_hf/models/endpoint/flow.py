"""How requests flow: as many at once as the server bears, and none further ahead than its answers are stored."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from act_hf.models.endpoint.background import background_loop


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from act_hf.models.base import Answer

    Job = Callable[[], Awaitable[Answer]]
    _Item = tuple[int, Answer] | BaseException | None  # finished, failed, or all of them finished

_START = 16
_APART = 0.0025
"""Most seconds between one request and the next. About what the client takes for one: sent all at once, requests are
answered all at once; each then waits until all are read, and the slots stand empty meanwhile (docs/log.md)."""

_HASTE = 1.25
"""How much faster than they are answered requests may be sent."""

_MEMORY = 0.1
"""Weight of the last request in what is remembered of how long they take."""

_TICK = 1.0
"""Seconds between looks at the keyboard: on Windows Ctrl-C does not end a wait."""

_PATIENCE = 10.0
"""Seconds to wait for requests that are being cancelled."""


class Gate:
    """
    How many requests may be in flight, learnt from how the server takes them, as TCP does it: the limit doubles with
    every `limit` successes until the first sign of congestion (slow start, Jacobson 1988), then grows by one; a sign
    of congestion halves it (additive increase and multiplicative decrease, Chiu and Jain 1989). Requests are sent a
    little apart, at most `_HASTE` times as fast as they are answered (pacing, Aggarwal, Savage and Anderson 2000).
    Belongs to one event loop.

    Args:
        most (`int`): the limit is never above it.

    Attributes:
        limit (`int`): requests that may be in flight now.
        in_flight (`int`): requests that are.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = min(_START, most)
        self.in_flight = 0
        self._successes = 0
        self._halved = 0
        self._seconds = 0.0
        self._next = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[int]:
        """A place in flight, as soon as there is one; gives what [`Gate.congested`] wants to know."""
        while self.in_flight >= self.limit:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake()  # the turn may have been given to this one, which does not take it
                raise
        self.in_flight += 1
        try:
            await self._keep_apart()
            yield self._halved
        finally:
            self.in_flight -= 1
            self._wake()

    def _wake(self) -> None:
        free = self.limit - self.in_flight
        while self._waiting and free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    async def _keep_apart(self) -> None:
        now = asyncio.get_running_loop().time()
        apart = self._seconds / (_HASTE * self.limit) if self._seconds else _APART
        wait = self._next - now
        self._next = max(now, self._next) + min(_APART, apart)
        if wait > 0:
            await asyncio.sleep(wait)

    def succeeded(self, seconds: float) -> None:
        """The server took a request, which lasted so long."""
        self._seconds += (seconds - self._seconds) * (_MEMORY if self._seconds else 1.0)
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = 0
            self.limit = min(self.most, self.limit + 1 if self._halved else self.limit * 2)

    def congested(self, sent: int) -> None:
        """
        The server was overloaded.

        Args:
            sent (`int`): what [`Gate.slot`] gave when the request was sent. All that was sent under one limit halves
                it once: those behind the first one say nothing new.
        """
        if sent == self._halved:
            self._halved += 1
            self._successes = 0
            self.limit = max(1, self.limit // 2)


class _Run:
    """One call of [`stream`]: what the event loop does for the thread that waits."""

    def __init__(self, jobs: Sequence[Job], gate: Gate, proven: Callable[[], bool]) -> None:
        self.jobs = jobs
        self.gate = gate
        self.proven = proven
        # Of the thread that waits.
        self.answers: dict[int, Answer] = {}
        self.error: BaseException | None = None
        self.done = False
        # Between that thread and the loop.
        self.finished: deque[_Item] = deque()
        self.arrived = threading.Event()
        # Of the loop.
        self._fresh: list[_Item] = []
        self._held = 0
        self._failed = False
        self._stored = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._send_all())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def stored(self, count: int) -> None:
        self._held -= count
        self._stored.set()

    def _finish(self, item: _Item) -> None:
        # All that is finished in one turn of the loop goes over at once: waking the other thread takes long.
        if not self._fresh:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._fresh.append(item)

    def _hand_over(self) -> None:
        self.finished.extend(self._fresh)
        self._fresh = []
        self.arrived.set()

    async def _send_all(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        try:
            for position, job in enumerate(self.jobs):
                # What is finished and not yet stored would be paid again after a crash, like what is in flight.
                while self._held >= self.gate.limit:
                    self._stored.clear()
                    await self._stored.wait()
                if self._failed:
                    return
                self._held += 1
                task = asyncio.create_task(self._send(position, job))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                if not self.proven():
                    await asyncio.wait([task])
            if tasks:
                await asyncio.wait(tasks)
            self._finish(None)
        except Exception as error:  # a mistake of ours: whoever waits has to hear of it
            self._finish(error)
        finally:
            left = list(tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _send(self, position: int, job: Job) -> None:
        try:
            self._finish((position, await job()))
        except asyncio.CancelledError:  # from inside: once we cancel ourselves, nobody listens any more
            self._fail(RuntimeError("a request was cancelled"))
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        self._finish(error)

    def take(self, *, wait: bool) -> None:
        """Sorts out what has finished: into answers, the first error, and whether that was the end."""
        while wait and not self.finished:
            self.arrived.wait(_TICK)
            self.arrived.clear()
        while self.finished:
            item = self.finished[0]  # and off only when it is noted: Ctrl-C may come at any moment
            if item is None:
                self.done = True
            elif isinstance(item, BaseException):
                self.error = self.error or item
            else:
                self.answers[item[0]] = item[1]
            self.finished.popleft()


def stream(
    jobs: Sequence[Job],
    *,
    gate: Gate,
    proven: Callable[[], bool] = lambda: True,
) -> Iterator[dict[int, Answer]]:
    """
    Runs `jobs` on the background loop and yields what they return, as it comes.

    At most `gate.limit` jobs are between being started and being stored, where stored means that the caller has come
    back for more after the yield with it.

    Args:
        jobs (sequence of async functions): each takes a [`Gate.slot`] for whatever it sends.
        gate ([`Gate`]): the limit; may be shared by several calls.
        proven (function, *optional*): as long as it gives `False`, one job runs at a time.

    Yields:
        `dict` of `int` to [`Answer`]: the jobs just finished, by position. An exception in a job, or a
        `KeyboardInterrupt` while waiting, cancels what is in flight, and is raised after all that had finished until
        then has been yielded. What is in flight is cancelled too when the iterator is closed.
    """
    loop = background_loop()
    run = _Run(jobs, gate, proven)
    loop.call_soon_threadsafe(run.start)

    def stop() -> None:
        if loop.is_running():  # at the end of the process the loop may be gone, and everything with it
            asyncio.run_coroutine_threadsafe(run.stop(), loop).result(_PATIENCE)

    try:
        while not run.done:
            try:
                run.take(wait=True)
            except KeyboardInterrupt as interrupt:
                run.error = interrupt
            if run.error is not None:
                stop()
                run.take(wait=False)
            if run.answers:
                answers, run.answers = run.answers, {}
                yield answers
                loop.call_soon_threadsafe(run.stored, len(answers))
            if run.error is not None:
                raise run.error
    finally:
        stop()
