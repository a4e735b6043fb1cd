"""An endpoint asked by batch: its answers, what is written down, and what is sent."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from support.asked import answer_of, answers_of, chat, chats, score
from support.batch_server import BatchServer
from support.endpoint_job import TASK as EMOTIONS
from support.endpoint_job import rows
from support.fakes import by_text
from support.server import images_in, tops_of

from act_hf.annotators import annotate
from act_hf.columns import FAILURE, LABEL, LABEL_PROBS
from act_hf.critics import criticize
from act_hf.critics.panel import add_votes
from act_hf.errors import ACTError
from act_hf.models import load_model
from act_hf.models.asking import LimitReached
from act_hf.models.base import ChatRequest, Model
from act_hf.models.batch import BatchEndpoint
from act_hf.models.batch.lines import Result, read_results, request_line
from act_hf.models.deferred import Deferred, Submitted
from act_hf.models.endpoint import Endpoint
from act_hf.models.store import Store
from act_hf.records import stage_records
from act_hf.task import Task


TESTS = Path(__file__).parent
SECRET = "sk-act-0123456789"
EMOTION_WORDS = tops_of(EMOTIONS.labels)


@pytest.fixture(autouse=True)
def no_pauses(tmp_path, monkeypatch) -> Iterator[None]:
    """Repeats come at once, and what is kept is this test's alone."""
    monkeypatch.setenv("ACT_HF_HOME", str(tmp_path / "home"))
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as running:
        yield running


def batched(at: BatchServer, *, prices: Any = None, logprobs: bool = True, **options: Any) -> BatchEndpoint:
    endpoint = Endpoint("m", base_url=at.url, prices=prices, logprobs=logprobs, attempts=3)
    return BatchEndpoint(endpoint, **{"poll": (0.001, 0.001), **options})


def waiting_rows() -> int:
    """How many requests the journal still waits for."""
    with sqlite3.connect(Path(os.environ["ACT_HF_HOME"]) / "answers.sqlite.batches") as connection:
        return int(connection.execute("SELECT count(*) FROM waiting").fetchone()[0])


def columns_of(dataset: Dataset) -> dict[str, list[Any]]:
    return {name: dataset[name][:] for name in dataset.column_names}


class TestAnswers:
    def test_are_those_of_the_endpoint_asked_directly(self):
        with BatchServer(tops=EMOTION_WORDS) as server:
            requests = [*chats(5), *(score(f"row {number}", *EMOTIONS.labels) for number in range(5))]
            direct = answers_of(Endpoint("m", base_url=server.url), requests)
            by_batch = answers_of(batched(server), requests)
        assert [(one.text, one.logprobs) for one in by_batch] == [(one.text, one.logprobs) for one in direct]
        assert all(one.failure is None and one.calls == 1 for one in by_batch)
        assert server.stats()["submitted"] == [10]

    def test_each_lands_on_its_request_in_whatever_order_they_come(self, server):
        requests = chats(50)
        assert [one.text for one in answers_of(batched(server), requests)] == [by_text(one) for one in requests]

    def test_equal_requests_are_submitted_once(self, server):
        first, second, other = answers_of(batched(server), [chat("a"), chat("a"), chat("b")])
        assert first == second != other
        assert server.stats()["submitted"] == [2]

    def test_what_tells_labels_apart_is_asked_for_at_once(self):
        words = ("joyful", "joyless")
        with BatchServer(say=lambda body: words[0]) as server:
            answer = answer_of(batched(server), score("row", *words))
        assert answer.logprobs[0] > answer.logprobs[1]
        body = server.submitted[0][0]["body"]
        assert (body["max_tokens"], body["logprobs"], body["top_logprobs"], body["temperature"]) == (5, True, 20, 0.0)

    def test_an_image_goes_as_a_data_uri(self, server):
        picture = Image.new("RGB", (24, 16), "red")
        content = [{"type": "text", "text": "what?"}, {"type": "image", "image": picture}]
        model = BatchEndpoint(Endpoint("m", base_url=server.url, images=True, image_side=16), poll=(0.001, 0.001))
        request = ChatRequest(({"role": "user", "content": content},))
        assert answer_of(model, request).failure is None
        (image,) = images_in(server.submitted[0][0]["body"])
        assert image.size == (16, 11)

    def test_a_line_is_what_the_endpoint_sends(self, server):
        endpoint = Endpoint("m", base_url=server.url, seed=3, temperature=0.5, extra_body={"user": "u", "seed": None})
        answer_of(endpoint, chat("hello", max_tokens=7))
        line = json.loads(request_line(endpoint, "k", chat("hello", max_tokens=7)))
        assert (line["custom_id"], line["method"], line["url"]) == ("k", "POST", "/v1/chat/completions")
        sent = {name: value for name, value in server.bodies[0].items() if name != "stream"}
        assert line["body"] == sent

    def test_a_line_is_one_line_to_everybody(self):
        line = request_line(Endpoint("m", base_url="http://a/v1"), "k", chat("a\u2028b\u0085c\nd ж"))
        assert len(line.decode().splitlines()) == 1
        assert json.loads(line)["body"]["messages"][-1]["content"] == "a\u2028b\u0085c\nd ж"

    def test_nothing_is_asked_again_of_the_other_way(self, tmp_path):
        with BatchServer(tops=EMOTION_WORDS) as server:
            direct = annotate(rows(20), EMOTIONS, Endpoint("m", base_url=server.url), store=tmp_path / "s")
            by_batch = annotate(rows(30), EMOTIONS, batched(server), store=tmp_path / "s")
            back = annotate(rows(30), EMOTIONS, Endpoint("m", base_url=server.url), store=tmp_path / "s")
        assert server.stats()["submitted"] == [10]
        assert server.requests == 20
        assert direct[LABEL][:] == by_batch[LABEL][:20]
        assert columns_of(back) == columns_of(by_batch)

    def test_it_is_a_model_that_answers_later(self, server):
        model = batched(server)
        assert isinstance(model, Model)
        assert isinstance(model, Deferred)
        assert not isinstance(model.endpoint, Deferred)
        assert model.name == model.endpoint.name == "m/openai"

    def test_a_pickle_has_no_token_and_works(self, server):
        model = BatchEndpoint(Endpoint("m", base_url=server.url, token=SECRET), poll=(0.001, 0.001))
        assert SECRET.encode() not in pickle.dumps(model)
        assert answer_of(pickle.loads(pickle.dumps(batched(server))), chat("a")).failure is None


class TestPrices:
    @pytest.mark.parametrize(
        ("endpoint", "prices"),
        [
            (Endpoint("gpt-4o-mini", base_url="https://api.openai.com/v1"), (0.075, 0.3)),  # as the package has it
            (Endpoint("llama-3.1-8b-instant", base_url="https://api.groq.com/openai/v1"), (0.025, 0.04)),  # half
            (Endpoint("gpt-4o-mini", base_url="https://api.openai.com/v1", prices=(2.0, 4.0)), (1.0, 2.0)),
            (Endpoint("m", base_url="http://localhost:1/v1"), None),
        ],
    )
    def test_half(self, endpoint, prices):
        assert BatchEndpoint(endpoint).prices == prices

    def test_an_answer_costs_half(self, server):
        direct = answer_of(Endpoint("m", base_url=server.url, prices=(1.0, 2.0)), chat("hello"))
        by_batch = answer_of(batched(server, prices=(1.0, 2.0)), chat("hello"))
        assert by_batch.cost == pytest.approx(direct.cost / 2)
        assert by_batch.cost > 0
        assert batched(server, prices=(4.0, 8.0)).cost_of(by_batch) == pytest.approx(by_batch.cost * 4)

    def test_no_answer_costs_more_than_its_bound(self, server):
        model = batched(server, prices=(1.0, 2.0))
        requests = [
            chat("ж" * 50, max_tokens=40),
            chat("plain words " * 20, max_tokens=3),
            score("row", "number", "x"),
        ]
        for request, answer in zip(requests, answers_of(model, requests), strict=True):
            assert 0 < answer.cost <= model.dearest(request)

    def test_the_bound_of_an_image_is_not_known(self, server):
        content = [{"type": "image", "image": Image.new("RGB", (8, 8))}]
        request = ChatRequest(({"role": "user", "content": content},))
        assert batched(server, prices=(1.0, 2.0)).dearest(request) is None
        assert batched(server).dearest(chat("a")) is None


class TestArguments:
    @pytest.mark.parametrize(
        ("endpoint", "options", "message"),
        [
            ({"base_url": None}, {}, "behind a Hugging Face provider, and these take no batches; give the provider's"),
            ({"server": "vllm"}, {}, "server='vllm' has no batch routes; leave out server="),
            ({"base_url": "http://a/v1?x=1"}, {}, "base_url has a query"),
            ({}, {"max_requests": 0}, "max_requests=0 is not a whole number from 1 to 10,000,000"),
            ({}, {"max_bytes": 10}, "max_bytes=10 is not a whole number from 1,000"),
            ({}, {"retries": -1}, "retries=-1 is not a whole number from 0 to 100"),
            ({}, {"retries": True}, "retries=True is not"),
            ({}, {"poll": 5}, "poll=5 are not two numbers of seconds"),
            ({}, {"poll": (5, 1)}, r"poll=\(5, 1\) are not two numbers"),
            ({}, {"window": " "}, "window=' ' is no time such as '24h'"),
        ],
    )
    def test_what_will_not_do(self, endpoint, options, message):
        with pytest.raises(ACTError, match=message):
            BatchEndpoint(Endpoint("m", **{"base_url": "http://a/v1", **endpoint}), **options)

    def test_load_model(self, tmp_path):
        made = load_model("m", base_url="http://a/v1", batch=True, wait=False, journal=tmp_path / "j", images=True)
        assert isinstance(made, BatchEndpoint)
        assert (made.wait, made.journal, made.endpoint.images) == (False, tmp_path / "j", True)

    def test_load_model_needs_a_server(self):
        with pytest.raises(ACTError, match=r"^batch: for a model behind a server; say which, with base_url="):
            load_model("minilm", batch=True)

    def test_what_takes_several_requests_a_row_is_refused_at_once(self, server):
        with pytest.raises(ACTError, match=r"an exact score takes a request for every reply; use another strategy"):
            batched(server).answer([score("a", "b", "c", exact=True)])
        assert server.files == {}

    def test_ppl_is_refused_at_once(self, server, tmp_path):
        labelled = Dataset.from_dict({"text": ["a"], "act_label": ["joy"]})
        labelled = labelled.cast_column("act_label", ClassLabel(names=list(EMOTIONS.labels)))
        with pytest.raises(ACTError, match="strategy 'ppl' needs a model that can give the log-probability"):
            criticize(labelled, batched(server), strategy="ppl", task=EMOTIONS, store=tmp_path / "s")
        assert server.files == {}

    def test_choosing_without_logprobs_is_refused_at_once(self, server):
        with pytest.raises(ACTError, match="needs a model that can say how probable"):
            batched(server, logprobs=False).answer([score("a", "b", "c")])


class TestSizes:
    def test_by_requests(self, server):
        answers_of(batched(server, max_requests=4), chats(10))
        assert server.stats()["submitted"] == [4, 4, 2]

    def test_by_bytes(self, server):
        answers = answers_of(batched(server, max_bytes=1_000), chats(10))
        assert not any(answer.failure for answer in answers)
        assert max(map(len, server.files.values())) > 0
        uploaded = [server.files[batch.file] for batch in server.batches.values()]
        assert len(uploaded) > 2
        assert max(map(len, uploaded)) <= 1_000

    def test_a_row_that_no_file_holds_fails_alone(self, server):
        large, small = answers_of(batched(server, max_bytes=1_000), [chat("x" * 1_000), chat("a")])
        assert large.failure.startswith("the row takes 1,")
        assert large.failure.endswith(" bytes, and a batch's file holds 1,000")
        assert (large.calls, small.failure) == (0, None)

    def test_text_that_cannot_be_sent_fails_its_row_alone(self, server):
        bad, good = answers_of(batched(server), [chat("half a sign: \ud83d"), chat("b")])
        assert bad.failure == "the row's text cannot be sent: it is no whole Unicode"
        assert good.failure is None

    def test_all_batches_are_submitted_before_any_is_waited_for(self, tmp_path):
        # Rows in memory are bounded, and still no batch waits for another one.
        with BatchServer(tops=EMOTION_WORDS, hold=True) as server:
            model = batched(server, max_requests=8, wait=False)
            with pytest.raises(Submitted, match=r"batch_1 \(validating, 0 of 8\), batch_2 .*batch_4"):
                annotate(rows(30), EMOTIONS, model, store=tmp_path / "s")
            assert server.stats()["submitted"] == [8, 8, 8, 6]

    def test_images_are_handed_over_in_smaller_parts(self, tmp_path):
        task = Task(("sad", "great"), image="image")
        pictures = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in range(5)]
        features = Features({"image": ImageFeature(), "text": Value("string")})
        dataset = Dataset.from_dict({"image": pictures, "text": list("abcde")}, features=features)
        with BatchServer(tops=tops_of(task.labels)) as server:
            model = BatchEndpoint(
                Endpoint("m", base_url=server.url, images=True), max_requests=100, poll=(0.001, 0.001)
            )
            labelled = annotate(dataset, task, model, store=tmp_path / "s")
        assert labelled[FAILURE][:] == [None] * 5
        assert server.stats()["submitted"] == [2, 2, 1]  # 100 rows of text, or 2 images


class TestStages:
    def test_reasoning_takes_two_batches(self, tmp_path):
        def say(body):
            return "joy" if body.get("logprobs") else f"thinking of {len(str(body['messages']))}"

        with BatchServer(say=say) as server:
            labelled = annotate(
                rows(30), EMOTIONS, batched(server, max_requests=10), strategy="cot", store=tmp_path / "s"
            )
        assert labelled[FAILURE][:] == [None] * 30
        assert server.stats()["submitted"] == [10] * 6
        assert [one[0]["body"].get("logprobs") for one in server.submitted] == [None] * 3 + [True] * 3

    def test_a_bad_reply_is_asked_about_once_more(self, tmp_path):
        with BatchServer(say=lambda body: "eh" if len(body["messages"]) < 4 else "joy", logprobs=False) as server:
            labelled = annotate(rows(5), EMOTIONS, batched(server, logprobs=False), store=tmp_path / "s")
        assert labelled[LABEL][:] == [1] * 5
        assert server.stats()["submitted"] == [5, 5]

    def test_calibration_waits_for_no_batch_of_its_own(self, tmp_path):
        with BatchServer(tops=EMOTION_WORDS) as server:
            labelled = annotate(rows(20), EMOTIONS, batched(server), calibration="batch", store=tmp_path / "s")
            assert server.stats()["submitted"] == [20]
            annotate(rows(20), EMOTIONS, batched(server), calibration="contextual", store=tmp_path / "s")
        assert server.stats()["submitted"] == [20, 3]
        assert len(labelled[LABEL_PROBS][0]) == 4

    def test_criticize(self, tmp_path):
        with BatchServer(tops=EMOTION_WORDS) as server:
            labelled = annotate(rows(20), EMOTIONS, batched(server), store=tmp_path / "s")
            doubted = criticize(labelled, batched(server), strategy="likelihood", store=tmp_path / "s")
            assert server.stats()["submitted"] == [20]
            server.tops, server.say = None, lambda body: "Answer: 30 %"
            doubted = criticize(doubted, batched(server), strategy="naive", suffix="_n", store=tmp_path / "s")
        assert doubted["act_error_prob_n"][:] == pytest.approx([0.7] * 20)
        assert server.stats()["submitted"] == [20, 20]

    def test_a_panel_is_submitted_whole(self, tmp_path):
        with BatchServer(tops=EMOTION_WORDS) as server:
            voters = {
                name: BatchEndpoint(Endpoint("m", base_url=server.url, revision=name), wait=False) for name in "ab"
            }
            with pytest.raises(Submitted, match=r"batch_1 .* from there; m .*batch_2|batch_1 .*batch_2"):
                add_votes(rows(5), EMOTIONS, voters, store=tmp_path / "s")
            assert server.stats()["submitted"] == [5, 5]

    def test_two_models_label_together(self, tmp_path):
        with BatchServer(tops=EMOTION_WORDS) as server:
            one = batched(server)
            other = BatchEndpoint(Endpoint("m", base_url=server.url, revision="2"), poll=(0.001, 0.001))
            labelled = annotate(rows(5), EMOTIONS, [one, other], store=tmp_path / "s")
        assert labelled[FAILURE][:] == [None] * 5
        assert server.stats()["submitted"] == [5, 5]

    def test_what_was_used_is_recorded(self, tmp_path):
        with BatchServer(tops=EMOTION_WORDS) as server:
            labelled = annotate(rows(5), EMOTIONS, batched(server, prices=(1.0, 1.0)), store=tmp_path / "s")
        usage = stage_records(labelled)[-1]["usage"]
        assert (usage["requests"], usage["calls"]) == (5, 5)
        assert usage["cost"] == usage["spent"] > 0


class TestNotWaiting:
    def test_submits_once_and_takes_what_has_ended(self, tmp_path):
        with BatchServer(tops=EMOTION_WORDS) as server:
            model = batched(server, wait=False)
            states = []
            for _ in range(3):
                with pytest.raises(
                    Submitted, match=r"m was asked by batch: batch_1 \(.*\); the same call takes"
                ) as said:
                    annotate(rows(20), EMOTIONS, model, store=tmp_path / "s")
                states.append(str(said.value).split("(")[1].split(",")[0])
            labelled = annotate(rows(20), EMOTIONS, model, store=tmp_path / "s")
        assert states == ["validating", "in_progress", "finalizing"]
        assert server.stats()["submitted"] == [20]
        assert labelled[FAILURE][:] == [None] * 20
        assert waiting_rows() == 0

    def test_many_batches_are_not_all_named(self, server):
        with pytest.raises(Submitted, match=r"batch_10 \(validating, 0 of 1\) and 2 more; the same"):
            answers_of(batched(server, wait=False, max_requests=1), chats(12))

    def test_what_has_ended_is_kept_while_others_run(self, server, tmp_path):
        model = batched(server, wait=False, max_requests=5, logprobs=False)
        store = Store(tmp_path / "s")
        with pytest.raises(Submitted):
            annotate(rows(10), EMOTIONS, model, store=store)
        server.batches["batch_1"].status = "finalizing"
        with pytest.raises(Submitted) as said:
            annotate(rows(10), EMOTIONS, model, store=store)
        assert "batch_1" not in str(said.value)
        assert "batch_2" in str(said.value)
        assert len(store) == 5


class TestKilled:
    """The process dies, and the same call goes on."""

    def job(self, server: BatchServer, tmp_path: Path, count: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "support.batch_job", server.url, str(tmp_path / "store")]
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        environment = {**os.environ, "PYTHONPATH": path, "HF_HOME": str(tmp_path / "hf")}
        return subprocess.Popen([*command, str(tmp_path / "out.json"), str(count)], env=environment, cwd=tmp_path)

    def kill_when(self, job: subprocess.Popen[bytes], ready: Any) -> None:
        deadline = time.monotonic() + 120
        while not ready():
            assert job.poll() is None, "the job ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(job.pid, signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL

    def test_after_the_submit(self, tmp_path):
        with BatchServer(tops=EMOTION_WORDS, hold=True) as server:
            self.kill_when(self.job(server, tmp_path, 500), lambda: server.looks > 3)
            assert server.stats()["submitted"] == [500]
            server.hold = False
            assert self.job(server, tmp_path, 500).wait(120) == 0
            assert server.stats()["submitted"] == [500]
            assert server.requests == 0
            made = json.loads((tmp_path / "out.json").read_text())
            direct = annotate(rows(500), EMOTIONS, Endpoint("m", base_url=server.url), store=tmp_path / "direct")
        assert made == columns_of(direct)
        assert len(set(made[LABEL])) == 4
        assert made[FAILURE] == [None] * 500

    def test_between_the_servers_answer_and_our_note_of_it(self, tmp_path):
        """The server has the batch, and the process dies before it knows its id."""
        answer, release = _gate()

        class Slow(BatchServer):
            async def _create(self, request):
                response = await super()._create(request)
                await answer(self)
                return response

        with Slow(tops=EMOTION_WORDS) as server:
            self.kill_when(self.job(server, tmp_path, 20), lambda: bool(server.submitted))
            release()
            assert self.job(server, tmp_path, 20).wait(120) == 0
            assert server.stats()["submitted"] == [20]
            assert json.loads((tmp_path / "out.json").read_text())[FAILURE] == [None] * 20

    def test_before_the_server_had_it(self, server):
        model = batched(server, wait=False)
        server.broken = ["POST batches 400"]
        with pytest.raises(ACTError, match="cannot use m by batch: the server answered 400: not now"):
            answers_of(model, chats(5))
        assert waiting_rows() == 5  # written down before it was sent
        assert not any(answer.failure for answer in answers_of(batched(server), chats(5)))
        assert server.stats()["submitted"] == [5]
        assert waiting_rows() == 0

    def test_a_lost_journal_is_made_up_for_by_the_servers_list(self, server, tmp_path):
        with pytest.raises(Submitted):
            answers_of(batched(server, wait=False, journal=tmp_path / "one"), chats(5))
        server.page = 1
        with pytest.raises(Submitted):  # a newer batch of others stands before it in the list
            answers_of(batched(server, wait=False, journal=tmp_path / "one"), chats(6)[5:])
        assert not any(answer.failure for answer in answers_of(batched(server, journal=tmp_path / "two"), chats(5)))
        assert server.stats()["submitted"] == [5, 1]

    def test_an_answer_that_was_not_stored_is_taken_again(self, server):
        answers = batched(server).answer(chats(5))
        finished = next(one for one in answers if one)
        assert len(finished) == 5
        answers.close()  # as if the process had died before it stored them
        assert waiting_rows() == 5
        assert len(answers_of(batched(server), chats(5))) == 5
        assert server.stats()["submitted"] == [5]
        assert waiting_rows() == 0


def _gate() -> tuple[Any, Any]:
    """An async function that waits until the other one, called from a thread, was called."""
    import asyncio
    import threading

    event = threading.Event()

    async def answer(_: Any) -> None:
        while not event.is_set():
            await asyncio.sleep(0.01)

    return answer, event.set


class TestJournal:
    def test_it_holds_neither_token_nor_rows(self, server, monkeypatch, tmp_path):
        monkeypatch.setenv("MY_KEY", SECRET)
        server.key = SECRET
        endpoint = Endpoint("m", base_url=server.url, token="$MY_KEY")
        with pytest.raises(Submitted):
            answers_of(BatchEndpoint(endpoint, wait=False, journal=tmp_path / "j"), [chat("a private row")])
        kept = b"".join(path.read_bytes() for path in tmp_path.glob("j*"))
        assert SECRET.encode() not in kept
        assert b"private" not in kept
        assert b"batch_1" in kept
        assert {header.get("authorization") for header in server.headers} == {f"Bearer {SECRET}"}

    def test_a_file_of_something_else(self, server, tmp_path):
        (tmp_path / "text").write_text("not SQLite, and long enough to be sure of it" * 100)
        with pytest.raises(ACTError, match=r"cannot use the journal of batches '.*text': file is not a database"):
            answers_of(batched(server, journal=tmp_path / "text"), chats(2))
        Store(tmp_path / "store").put({}, model="m")
        with pytest.raises(ACTError, match="is an SQLite file of something else, not a journal of batches"):
            answers_of(batched(server, journal=tmp_path / "store"), chats(2))
        with sqlite3.connect(tmp_path / "newer") as connection:
            connection.execute("CREATE TABLE batches (a)")
            connection.execute("CREATE TABLE waiting (a)")
            connection.execute("PRAGMA user_version = 9")
        with pytest.raises(ACTError, match="has layout 9, but this version of act_hf reads layout 1"):
            answers_of(batched(server, journal=tmp_path / "newer"), chats(2))
        assert server.files == {}

    def test_another_server_is_another_account(self, server):
        with pytest.raises(Submitted):
            answers_of(batched(server, wait=False), chats(5))
        with BatchServer() as other:
            answers_of(batched(other), chats(5))
            assert other.stats()["submitted"] == [5]
        assert server.stats()["submitted"] == [5]


class TestLimits:
    def test_calls(self, tmp_path):
        with BatchServer(tops=EMOTION_WORDS) as server:
            with pytest.raises(LimitReached, match=r"stopped at max_calls=12: 12 calls sent"):
                annotate(rows(20), EMOTIONS, batched(server, max_requests=5), store=tmp_path / "s", max_calls=12)
            assert server.stats()["submitted"] == [5, 5, 2]
            labelled = annotate(rows(20), EMOTIONS, batched(server), store=tmp_path / "s", max_calls=12)
        assert server.stats()["submitted"] == [5, 5, 2, 8]
        assert labelled[FAILURE][:] == [None] * 20

    def test_the_cap_holds_before_anything_is_submitted(self, tmp_path):
        with BatchServer(tops=EMOTION_WORDS) as server:
            model = batched(server, prices=(1.0, 1.0))
            with pytest.raises(LimitReached, match=r"stopped at max_cost=1e-06: 0 calls sent"):
                annotate(rows(20), EMOTIONS, model, store=tmp_path / "s", max_cost=1e-6)
            assert server.files == {}

    def test_what_is_submitted_can_never_pass_the_cap(self, tmp_path):
        with BatchServer(tops=EMOTION_WORDS, hold=True) as server:
            model = batched(server, prices=(1.0, 1.0), max_requests=6, wait=False)
            # A first look: what one row can cost at most.
            with pytest.raises(Submitted):
                annotate(rows(1), EMOTIONS, model, store=tmp_path / "s")
            (line,) = server.submitted[0]
            most = (sum(16 + len(one["content"]) for one in line["body"]["messages"]) + 2) * 0.5e-6
            with pytest.raises(Submitted):
                annotate(rows(20), EMOTIONS, model, store=tmp_path / "s", max_cost=10.5 * most)
            assert sum(server.stats()["submitted"]) in (9, 10)  # rows differ by a sign or two

    def test_when_some_are_answered_the_rest_is_known_better(self, tmp_path):
        with BatchServer(tops=EMOTION_WORDS) as server:
            labelled = annotate(rows(40), EMOTIONS, batched(server, prices=(1.0, 1.0)), store=tmp_path / "a")
            spent = stage_records(labelled)[-1]["usage"]["spent"]
            labelled = annotate(
                rows(40), EMOTIONS, batched(server, prices=(1.0, 1.0)), store=tmp_path / "b", max_cost=1.3 * spent
            )
        first, *others = server.stats()["submitted"][1:]
        assert labelled[FAILURE][:] == [None] * 40
        assert 0 < first < 40
        assert first + sum(others) == 40
        assert stage_records(labelled)[-1]["usage"]["spent"] <= 1.3 * spent

    def test_a_cap_needs_a_price(self, server, tmp_path):
        with pytest.raises(ACTError, match=r"max_cost=1.0 needs to know what a request by batch can cost before"):
            annotate(rows(5), EMOTIONS, batched(server), store=tmp_path / "s", max_cost=1.0)
        assert server.files == {}


def results(entry: dict[str, Any]) -> list[Result]:
    return list(read_results([io.BytesIO(json.dumps(entry).encode())], SECRET))


class TestResults:
    def test_what_is_no_result_is_left_out(self):
        good = {"custom_id": "a", "response": {"status_code": 200, "body": {"choices": []}}, "error": None}
        lines = [b"not JSON", b"[1]", b'{"custom_id": 3}', json.dumps(good).encode(), b'{"custom_id": "b", "respo']
        assert [one.key for one in read_results([io.BytesIO(b"\n".join(lines))], None)] == ["a"]

    @pytest.mark.parametrize(
        "entry",
        [
            {},
            {"response": None},
            {"response": {"status_code": "200"}},
            {"response": {"status_code": 500, "body": "no"}},
            {"error": "gone"},
            {"error": {"message": {"a": 1}}, "response": [1]},
        ],
    )
    def test_any_json_at_all_is_a_problem(self, entry):
        (result,) = results({"custom_id": "a", **entry})
        assert result.problem.isprintable()
        assert not result.final

    def test_the_servers_words_are_printable_and_without_the_token(self):
        error = {"message": f"bad \x1b[31m key {SECRET}\nnow"}
        (result,) = results({"custom_id": "a", "error": error})
        assert result.problem == "the server gave no answer: bad [31m key *** now"
