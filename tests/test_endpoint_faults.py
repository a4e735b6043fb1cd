from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
from aiohttp import web
from support.asked import answer_of, answers_of, chat, chats, endpoint, score
from support.fakes import by_text
from support.server import HARMLESS_AGAIN, Server

from act_hf.errors import ACTError
from act_hf.models.base import Answer, ChatRequest
from act_hf.models.endpoint import Endpoint
from act_hf.models.endpoint.background import background_loop
from act_hf.models.store import Store


TESTS = Path(__file__).parent
SECRET = "sk-act-0123456789"


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """Repeats come at once."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


class Refusing(Server):
    """A server that refuses some rows, and says why."""

    def reason(self, prompt: str) -> tuple[int, str]:
        return 403, "flagged"

    def _wrong(self, request: web.Request, body: dict[str, Any], prompt: str) -> web.Response | None:
        if self.refuse not in prompt:
            return super()._wrong(request, body, prompt)
        status, message = self.reason(prompt)
        return web.json_response({"error": {"message": message}}, status=status)


class TestFaults:
    @pytest.mark.parametrize("fault", HARMLESS_AGAIN)
    def test_is_asked_again(self, fault):
        with Server(faults=[fault, fault]) as server:
            answer = answer_of(endpoint(server), chat("hello"))
        assert answer.failure is None
        assert answer.text == by_text(chat("hello"))
        assert answer.calls == server.requests == 3

    def test_a_slow_answer_is_asked_again(self):
        with Server(faults=["slow"], slow=3) as server:
            answer = answer_of(endpoint(server, timeout=0.5), chat("hello"))
        assert answer.failure is None
        assert answer.calls == server.requests == 2

    def test_a_server_that_trickles_is_late_too(self):
        with Server(faults=["trickle"], slow=3) as server:
            answer = answer_of(endpoint(server, timeout=0.2, attempts=1), chat("hello"))
        assert answer.failure == "no answer after 1 try: the server did not answer within 0.2 s"

    @pytest.mark.parametrize("fault", HARMLESS_AGAIN)
    def test_after_all_attempts_the_row_fails_alone(self, fault):
        with Server(faults=[fault] * 3) as server:
            model = endpoint(server, attempts=3, concurrency=1)
            first, second = answers_of(model, [chat("a"), chat("b")])
        assert first.failure is not None
        assert first.failure.startswith("no answer after 3 tries: ")
        assert first.failure.isprintable()
        assert (first.calls, second.calls, second.failure) == (3, 1, None)

    def test_what_the_server_said_last_is_told(self):
        with Server(faults=["reset", "503"]) as server:
            answer = answer_of(endpoint(server, attempts=2), chat("hello"))
        assert answer.failure == "no answer after 2 tries: the server answered 503: not now"

    def test_a_refused_row_fails_alone_and_at_once(self, server):
        first, second = answers_of(endpoint(server, prices=(1.0, 1.0)), [chat("refuse me"), chat("b")])
        assert first.failure == "the server answered 400: This model's maximum context length is 8 tokens."
        assert (first.calls, first.cost) == (1, 0.0)
        assert second.failure is None

    def test_text_that_cannot_be_sent_fails_its_row_alone(self, server):
        first, second = answers_of(endpoint(server), [chat("half a sign: \ud83d"), chat("b")])
        assert first.failure == "the row's text cannot be sent: it is no whole Unicode"
        assert (first.calls, second.failure) == (0, None)

    def test_a_server_that_refuses_everything_is_left_alone(self, server):
        with pytest.raises(ACTError, match=r"m refused the first 16 requests, .* maximum context"):
            answers_of(endpoint(server, concurrency=4), [chat(f"refuse me {number}") for number in range(200)])
        assert server.requests < 16 + 4

    def test_rows_that_are_refused_for_their_own_sake_never_stop_a_job(self):
        class Counting(Refusing):
            def reason(self, prompt):
                return 400, f"{prompt} has {len(prompt)} tokens, and 8 are the most"

        with Counting() as server:
            answers = answers_of(
                endpoint(server), [*(chat(f"refuse me {number}") for number in range(100)), *chats(5)]
            )
        assert [answer.failure is None for answer in answers] == [False] * 100 + [True] * 5

    def test_moderation_fails_its_row_alone_even_the_first(self):
        with Refusing(latency=0.02) as server:  # a refusal comes sooner than an answer
            first, *others, last = answers_of(
                endpoint(server), [chat("refuse me first"), *chats(20), chat("refuse me last")]
            )
        assert first.failure == last.failure == "the server answered 403: flagged"
        assert not any(answer.failure for answer in others)

    def test_a_token_that_does_not_allow_the_model_stops(self):
        with Refusing(refuse="") as server, pytest.raises(ACTError, match=r"m refused the first 16 .* 403: flagged"):
            answers_of(endpoint(server, concurrency=4), chats(200))
        assert server.requests < 16 + 4

    def test_a_wrong_model_stops_at_once(self, server):
        with pytest.raises(ACTError, match="cannot use other: the server answered 404: The model `other` does not"):
            answers_of(Endpoint("other", base_url=server.url), chats(100))
        assert server.requests <= 16

    def test_a_wrong_address_stops_at_once(self, server):
        with pytest.raises(ACTError, match="does base_url end as it should"):
            answers_of(Endpoint("m", base_url=server.url + "/v2"), chats(100))

    def test_nobody_listens(self):
        with Server() as gone:
            pass
        with pytest.raises(ACTError, match=r"m does not answer: .* cannot connect to the server") as error:
            answers_of(endpoint(gone), chats(100))
        assert "What was answered is kept" in str(error.value)

    def test_a_server_that_goes_away(self):
        seen: dict[int, Answer] = {}

        def store(model: Endpoint, server: Server) -> None:
            for finished in model.answer(chats(2000)):
                seen.update(finished)
                if len(seen) > 40:
                    server.rate = 1.0

        with Server(kinds=["503"]) as server, pytest.raises(ACTError, match="16 requests in a row got no answer"):
            store(endpoint(server, concurrency=8, attempts=2), server)
        given = [answer for answer in seen.values() if answer.failure is None]
        assert 40 < len(given) == server.delivered.total()

    def test_offline_is_said(self, server, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(ACTError, match="HF_HUB_OFFLINE is set"):
            answers_of(endpoint(server), chats(10))

    def test_an_unknown_provider(self):
        with pytest.raises(ACTError, match=r"Provider 'nobody' not supported. Available values: 'auto'"):
            answers_of(Endpoint("m", provider="nobody", token="hf_x"), chats(10))

    def test_no_token_for_hugging_face(self, monkeypatch):
        monkeypatch.setattr("huggingface_hub.inference._providers._common.get_token", lambda: None)
        with pytest.raises(ACTError, match=r"must provide an api_key .* log in with `hf auth login`"):
            answers_of(Endpoint("m"), chats(10))

    @pytest.mark.parametrize(
        "said",
        [
            [],
            {"choices": "abc"},
            {"choices": [1]},
            {"choices": [{"message": "x"}]},
            {"choices": None},
            {"error": "no"},
            {"choices": [{"message": {"content": ["x"]}}]},
            {"choices": [{"message": {"content": "ok"}, "logprobs": [1], "finish_reason": {}}], "usage": [1]},
            {"choices": [{"message": {"content": "ok"}, "logprobs": {"content": [{"token": 3}]}}], "usage": {"a": 1}},
        ],
    )
    def test_any_json_at_all_is_an_answer_or_a_failure(self, said):
        class Odd(Server):
            def complete(self, body: dict[str, Any]) -> Any:
                return said

        with Odd(rate=0) as server:
            model = endpoint(server, attempts=2)
            answer = answer_of(model, chat("hello"))
            assert (answer.text == "ok") == (answer.failure is None)
            model._wire.gives_logprobs = True  # type: ignore[union-attr]  # as after another row
            assert answer_of(model, score("hello", "a", "b")).failure is not None

    def test_thirty_per_cent_of_faults(self):
        with Server(rate=0.3, seed=1, retry_after="0") as server:
            model = endpoint(server, prices=(1.0, 1.0))
            requests = [*chats(200), *(score(f"text {number}", "number", "other") for number in range(100))]
            answers = answers_of(model, requests)
        assert sum(answer.calls for answer in answers) == server.requests
        assert server.most_in_flight <= 32
        given = [answer for answer in answers if answer.failure is None]
        assert len(given) > 290
        assert all(
            answer.text == by_text(r) for answer, r in zip(answers[:200], requests, strict=False) if answer in given
        )

    def test_faults_change_no_answer(self):
        with Server() as server:
            plain = answers_of(endpoint(server), chats(60))
            assert set(server.delivered.values()) == {1}
        with Server(rate=0.5, seed=2, retry_after="0") as server:
            shaken = answers_of(endpoint(server, attempts=30), chats(60))
        assert [answer.text for answer in plain] == [answer.text for answer in shaken]
        assert not any(answer.failure for answer in shaken)
        assert server.delivered.keys() == server.seen.keys() == {f"text {number}" for number in range(60)}
        assert sum(answer.calls for answer in shaken) == server.requests > 60


class TestFlow:
    def test_never_more_in_flight_than_allowed(self):
        with Server(latency=0.005) as server:
            answers_of(endpoint(server, concurrency=5), chats(60))
        assert server.most_in_flight <= 5

    def test_it_finds_what_the_server_bears(self):
        with Server(latency=0.005, most=6) as server:
            model = endpoint(server, attempts=100)
            answers = answers_of(model, chats(300))
        assert not any(answer.failure for answer in answers)
        assert sum(answer.calls for answer in answers) == server.requests
        # 32 at once would have been refused again and again.
        assert server.requests < 300 * 1.4
        # Requests are sent apart, so that fewer than the limit are in flight: it may well be above 6, but not where
        # it began.
        assert model._wire.gate.limit < 32  # type: ignore[union-attr]

    def test_what_it_has_learnt_and_its_connections_are_kept(self, server):
        model = endpoint(server)
        answers_of(model, chats(100))
        limit, connections = model._wire.gate.limit, len(server.connections)  # type: ignore[union-attr]
        answers_of(model, chats(3))
        assert model._wire.gate.limit >= limit > 8  # type: ignore[union-attr]
        assert len(server.connections) == connections <= 40

    def test_every_slot_is_held_until_the_answer_is_stored(self, server):
        stored = 0
        for finished in endpoint(server, concurrency=4).answer(chats(40)):
            time.sleep(0.005)
            assert server.requests <= stored + 4
            stored += len(finished)

    def test_a_limit_by_the_minute(self, server):
        start = time.monotonic()
        answers_of(endpoint(server, requests_per_minute=1200), chats(6))
        assert time.monotonic() - start > 0.2  # five pauses of 50 ms

    def test_inside_a_running_loop(self, server):
        async def notebook() -> list[Answer]:
            return answers_of(endpoint(server), chats(20))

        assert len(asyncio.run(notebook())) == 20

    def test_closing_leaves_nothing_behind(self, caplog):
        async def tasks() -> list[str]:
            return [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]

        with Server(latency=0.2) as server:
            answers = endpoint(server).answer([chat("first"), *chats(50)])
            next(answers)
            answers.close()
            assert asyncio.run_coroutine_threadsafe(tasks(), background_loop()).result(5) == []
            seen = server.requests
            time.sleep(0.05)
            assert server.requests == seen < 30
        assert "destroyed" not in caplog.text

    def test_an_error_of_ours_comes_after_what_is_finished(self, server):
        bad = ChatRequest(({"role": "user", "content": [{"type": "image"}]},))
        seen: dict[int, Answer] = {}

        def store() -> None:
            for finished in endpoint(server, images=True, concurrency=1).answer([*chats(5), bad, *chats(50)]):
                seen.update(finished)

        with pytest.raises(KeyError):
            store()
        assert {0, 1, 2, 3, 4} <= seen.keys()

    @pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
    def test_a_forked_process_connects_on_its_own(self):
        with Server(key=SECRET) as server:
            model = endpoint(server, token=SECRET)
            answers_of(model, chats(10))
            fork = multiprocessing.get_context("fork")
            receiver, sender = fork.Pipe()
            child = fork.Process(target=lambda: sender.send(len(answers_of(model, chats(10)))))
            child.start()
            assert receiver.poll(20)
            assert receiver.recv() == 10
            child.join(20)
            assert child.exitcode == 0
            assert len(answers_of(model, chats(10))) == 10


def child(code: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A process that runs `code` after the imports that it needs."""
    imports = (
        "import sys, os\n"
        "from act_hf.models.base import ChatRequest\n"
        "from act_hf.models.endpoint import Endpoint\n"
        "from act_hf.models.store import Store\n"
        "requests = [ChatRequest(({'role': 'user', 'content': f'text {i}'},)) for i in range(5000)]\n"
    )
    return subprocess.Popen(
        [sys.executable, *options.pop("flags", ()), "-c", imports + code, *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
        **options,
    )


class TestEnd:
    def test_killed_it_pays_again_for_no_more_than_was_in_flight(self, tmp_path):
        code = (
            "store = Store(sys.argv[2])\n"
            "for done in Endpoint('m', base_url=sys.argv[1], concurrency=16).answer(requests):\n"
            "    store.put({str(i): answer for i, answer in done.items()}, model='m')\n"
            "    print(len(done), flush=True)\n"
        )
        with Server(latency=0.002) as server:
            process = child(code, server.url, str(tmp_path / "answers.sqlite"))
            assert process.stdout is not None
            stored = 0
            while stored < 200:
                stored += int(process.stdout.readline())
            process.kill()
            process.communicate()
            paid = server.requests
        kept = len(Store(tmp_path / "answers.sqlite").get([str(number) for number in range(5000)]))
        assert kept >= 200
        assert paid - kept <= 16

    def test_a_process_ends_at_once_and_in_silence(self):
        code = (
            "model = Endpoint('m', base_url=sys.argv[1])\n"
            "answers = model.answer(requests)\n"
            "print(len(next(answers)) > 0)\n"  # and the rest is left in flight, held by a global
        )
        with Server(latency=0.02) as server:
            process = child(code, server.url, flags=["-W", "error"])
            start = time.monotonic()
            out, err = process.communicate(timeout=30)
        assert (out, err, process.returncode) == ("True\n", "", 0)
        assert time.monotonic() - start < 10

    @pytest.mark.skipif(os.name != "posix", reason="sends a signal")
    def test_interrupted_it_stores_what_is_finished(self, tmp_path):
        code = (
            "import signal\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a test run in the background ignores it
            "got = 0\n"
            "try:\n"
            "    for done in Endpoint('m', base_url=sys.argv[1]).answer(requests):\n"
            "        got += len(done); print(got, flush=True)\n"
            "except KeyboardInterrupt:\n"
            "    print('interrupted')\n"
        )
        with Server(latency=0.02) as server:
            process = child(code, server.url, flags=["-W", "error"])
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(2)
            out, err = process.communicate(timeout=30)
        assert out.splitlines()[-1] == "interrupted"
        assert err == ""


def test_the_server_serves_as_a_process():
    process = subprocess.Popen(
        [sys.executable, "-m", "support.server", "--latency", "0.001"], cwd=TESTS, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert len(answers_of(Endpoint("m", base_url=url), chats(20))) == 20
    finally:
        process.kill()
        process.communicate()
