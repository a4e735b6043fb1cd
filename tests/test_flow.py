from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from act_hf.models.base import Answer
from act_hf.models.endpoint.background import background_loop
from act_hf.models.endpoint.flow import Gate, stream


Job = Callable[[], Awaitable[Answer]]


def pending() -> int:
    """Tasks on the background loop."""

    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return asyncio.run_coroutine_threadsafe(count(), background_loop()).result(5)


def into(seen: dict[int, Answer], answers: Iterator[dict[int, Answer]]) -> None:
    """Stores what comes, until something is raised."""
    for finished in answers:
        seen.update(finished)


class Jobs:
    """Jobs that note when they start, and wait to be let go."""

    def __init__(self, count: int, *, gate: Gate | None = None, wait: bool = False) -> None:
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self.gate = gate
        self.go = threading.Event()
        if not wait:
            self.go.set()
        self.all: list[Job] = [self._job(number) for number in range(count)]

    def _job(self, number: int) -> Job:
        async def job() -> Answer:
            if self.gate is None:
                return await self._work(number)
            async with self.gate.slot():
                return await self._work(number)

        return job

    async def _work(self, number: int) -> Answer:
        self.started.append(number)
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        return Answer(text=str(number))


def succeed(gate: Gate, times: int) -> list[int]:
    """The limit after each success."""
    limits = []
    for _ in range(times):
        gate.succeeded(0.1)
        limits.append(gate.limit)
    return limits


class TestGate:
    def test_starts_low_and_doubles_with_every_window(self):
        gate = Gate(64)
        assert gate.limit == 16
        assert succeed(gate, 16) == [16] * 15 + [32]
        assert succeed(gate, 32) == [32] * 31 + [64]
        assert set(succeed(gate, 200)) == {64}

    def test_never_above_the_most(self):
        assert Gate(3).limit == 3
        gate = Gate(20)
        succeed(gate, 16)
        assert gate.limit == 20

    def test_after_congestion_it_grows_by_one(self):
        gate = Gate(8)
        gate.congested(0)
        assert gate.limit == 4
        assert succeed(gate, 4) == [4, 4, 4, 5]
        assert succeed(gate, 5) == [5, 5, 5, 5, 6]

    def test_what_was_sent_under_one_limit_halves_it_once(self):
        gate = Gate(8)

        async def overload() -> None:
            async with gate.slot() as a, gate.slot() as b, gate.slot() as c:
                for sent in (a, b, c):
                    gate.congested(sent)
            assert gate.limit == 4
            async with gate.slot() as later:
                gate.congested(later)
            gate.congested(c)

        asyncio.run(overload())
        assert gate.limit == 2

    @pytest.mark.parametrize(("seconds", "apart"), [(None, 0.0025), (0.02, 0.002), (0.2, 0.0025), (60.0, 0.0025)])
    def test_requests_are_sent_a_little_apart(self, seconds, apart):
        """As fast as 1.25 times what is answered, so that they come back apart too; and never much slower."""
        gate = Gate(8)
        if seconds is not None:
            gate.succeeded(seconds)
        times = []

        async def work() -> None:
            async with gate.slot():
                times.append(asyncio.get_running_loop().time())
                await asyncio.sleep(0.05)

        async def run() -> None:
            await asyncio.gather(*(work() for _ in range(8)))

        asyncio.run(run())
        # A clock that wakes late does not add up: the last one is due 7 steps after the first.
        assert 7 * apart - 1e-3 <= times[-1] - times[0]
        assert all(late - early > -1e-9 for early, late in itertools.pairwise(times))

    def test_never_below_one(self):
        gate = Gate(2)
        for sent in range(10):
            gate.congested(sent)
        assert gate.limit == 1

    def test_slots_are_never_more_than_the_limit(self):
        gate = Gate(3)
        most = 0

        async def work() -> None:
            nonlocal most
            async with gate.slot():
                most = max(most, gate.in_flight)
                await asyncio.sleep(0)

        async def run() -> None:
            await asyncio.gather(*(work() for _ in range(50)))

        asyncio.run(run())
        assert most == 3
        assert gate.in_flight == 0

    def test_a_cancelled_wait_passes_its_turn_on(self):
        gate = Gate(1)
        entered = []

        async def work(name: str) -> None:
            async with gate.slot():
                entered.append(name)
                await asyncio.sleep(0)

        async def run() -> None:
            async with gate.slot():
                waiting = [asyncio.create_task(work(name)) for name in "ab"]
                await asyncio.sleep(0)
            waiting[0].cancel()  # its turn has already been called
            await asyncio.wait(waiting, timeout=2)

        asyncio.run(run())
        assert entered == ["b"]

    def test_a_shrunken_gate_lets_nobody_in_until_enough_have_left(self):
        gate = Gate(4)

        async def run() -> None:
            async with gate.slot() as sent, gate.slot(), gate.slot():
                gate.congested(sent)
                late = asyncio.create_task(gate.slot().__aenter__())
                await asyncio.sleep(0.01)
                assert not late.done()
                late.cancel()

        asyncio.run(run())


class TestStream:
    def test_every_job_is_answered_by_position(self):
        answers = {}
        for finished in stream(Jobs(100).all, gate=Gate(8)):
            answers.update(finished)
        assert answers == {number: Answer(text=str(number)) for number in range(100)}
        assert pending() == 0

    def test_nothing_to_do(self):
        assert list(stream([], gate=Gate(8))) == []

    def test_a_job_is_held_until_its_answer_is_stored(self):
        jobs = Jobs(40)
        answers = stream(jobs.all, gate=Gate(4))
        stored = 0
        for finished in answers:
            time.sleep(0.002)
            assert len(jobs.started) <= stored + 4
            stored += len(finished)
        assert stored == 40

    def test_what_has_piled_up_comes_at_once(self):
        jobs = Jobs(8, wait=True)
        answers = stream(jobs.all, gate=Gate(8))
        threading.Timer(0.05, jobs.go.set).start()
        first = next(answers)
        time.sleep(0.05)
        assert len(first) + len(next(answers, {})) == 8

    def test_an_error_is_raised_after_what_is_finished(self):
        jobs = Jobs(3)

        async def fail() -> Answer:
            while len(jobs.started) < 3:
                await asyncio.sleep(0)
            raise RuntimeError("a mistake")

        seen: dict[int, Answer] = {}
        with pytest.raises(RuntimeError, match="a mistake"):
            into(seen, stream([*jobs.all, fail, *Jobs(1000).all], gate=Gate(4)))
        assert {0, 1, 2} <= seen.keys()
        assert len(seen) < 100
        assert pending() == 0

    def test_what_finished_at_the_same_moment_as_an_error_is_yielded(self):
        running, all_running = 0, asyncio.Event()

        async def together() -> None:
            nonlocal running
            running += 1
            if running == 8:
                all_running.set()
            await all_running.wait()

        async def work() -> Answer:
            await together()
            return Answer()

        async def fail() -> Answer:
            await together()
            raise RuntimeError("nothing is left to pay with")

        seen: dict[int, Answer] = {}
        with pytest.raises(RuntimeError, match="nothing is left"):
            into(seen, stream([fail] + [work] * 7, gate=Gate(8)))
        assert seen.keys() == set(range(1, 8))

    def test_what_finished_after_an_error_and_before_it_was_noticed_is_yielded(self):
        jobs = Jobs(3, wait=True)

        async def fail() -> Answer:
            raise RuntimeError("a mistake")

        async def work() -> Answer:
            return Answer()

        answers = stream([work, fail, *jobs.all], gate=Gate(8))
        seen = next(answers)
        if seen.keys() == {0}:
            time.sleep(0.05)  # by now the error waits
        jobs.go.set()
        time.sleep(0.05)
        with pytest.raises(RuntimeError, match="a mistake"):
            into(seen, answers)
        assert seen.keys() >= {0} | {2 + number for number in jobs.started} - {2 + number for number in jobs.cancelled}
        assert pending() == 0

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("limit", [1, 4])
    def test_a_job_that_is_cancelled_from_inside_is_an_error(self, limit):
        async def cancelled() -> Answer:
            raise asyncio.CancelledError

        first, *rest = Jobs(3).all
        seen: dict[int, Answer] = {}
        with pytest.raises(RuntimeError, match="a request was cancelled"):
            into(seen, stream([first, cancelled, *rest], gate=Gate(limit)))
        assert 0 in seen
        assert pending() == 0

    def test_closing_cancels_what_is_in_flight(self):
        jobs = Jobs(10, wait=True)
        answers = stream([*Jobs(1).all, *jobs.all], gate=Gate(4))
        next(answers)
        while len(jobs.started) < 3:
            time.sleep(0.001)
        answers.close()
        assert sorted(jobs.cancelled) == sorted(jobs.started)
        assert pending() == 0

    def test_an_iterator_that_nobody_keeps_is_closed(self):
        jobs = Jobs(10, wait=True)
        next(stream([*Jobs(1).all, *jobs.all], gate=Gate(4)))
        assert len(jobs.cancelled) == len(jobs.started)

    def test_until_proven_one_at_a_time(self):
        running = finished = 0
        together = []

        async def work() -> Answer:
            nonlocal running, finished
            running += 1
            await asyncio.sleep(0.001)
            together.append(running)
            running -= 1
            finished += 1
            return Answer()

        assert sum(map(len, stream([work] * 20, gate=Gate(8), proven=lambda: finished >= 3))) == 20
        assert together[:3] == [1, 1, 1]
        assert max(together) > 1

    def test_an_error_of_the_first_one_stops_before_the_second(self):
        jobs = Jobs(5)

        async def fail() -> Answer:
            raise RuntimeError("no log-probabilities")

        with pytest.raises(RuntimeError):
            list(stream([fail, *jobs.all], gate=Gate(8), proven=lambda: False))
        assert jobs.started == []

    def test_one_that_is_put_aside_does_not_stop_another(self):
        # An iterator in which nobody is interested any more, but which somebody keeps, holds no slot in flight.
        gate = Gate(4)
        aside = stream(Jobs(20, gate=gate).all, gate=gate)
        next(aside)
        assert sum(map(len, stream(Jobs(20, gate=gate).all, gate=gate))) == 20
        assert sum(map(len, aside)) > 0

    def test_two_threads_share_a_gate(self):
        gate = Gate(4)
        most = 0

        async def work() -> Answer:
            nonlocal most
            async with gate.slot():
                most = max(most, gate.in_flight)
                await asyncio.sleep(0.001)
            return Answer()

        counts: list[int] = []
        threads = [
            threading.Thread(target=lambda: counts.append(sum(map(len, stream([work] * 50, gate=gate)))))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert counts == [50, 50, 50]
        assert most <= 4


class TestPlace:
    def test_works_inside_a_running_loop(self):
        async def notebook() -> int:
            return sum(map(len, stream(Jobs(20).all, gate=Gate(4))))

        assert asyncio.run(notebook()) == 20

    def test_all_calls_share_one_thread(self):
        list(stream(Jobs(2).all, gate=Gate(4)))
        before = background_loop(), threading.active_count()
        list(stream(Jobs(2).all, gate=Gate(4)))
        assert (background_loop(), threading.active_count()) == before

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_process_gets_a_loop_of_its_own(self):
        list(stream(Jobs(2).all, gate=Gate(4)))
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if sum(map(len, stream(Jobs(20).all, gate=Gate(4)))) == 20 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a thread")
class TestInterrupt:
    @pytest.fixture(autouse=True)
    def in_main_thread(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            pytest.skip("signals reach the main thread only")
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    def test_it_ends_the_wait_and_cancels_the_rest(self):
        jobs = Jobs(20, wait=True)
        seen: dict[int, Answer] = {}

        async def interrupt() -> Answer:
            while len(seen) < 2:  # the first two are stored, and the main thread waits for more
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return Answer(text="finished as it came")

        with pytest.raises(KeyboardInterrupt):
            into(seen, stream([*Jobs(2).all, interrupt, *jobs.all], gate=Gate(8)))
        assert seen.keys() == {0, 1, 2}
        assert pending() == 0
        assert len(jobs.cancelled) == len(jobs.started) > 0
