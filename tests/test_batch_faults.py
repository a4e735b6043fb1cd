"""What goes wrong with batches: what is said, what is left, and what is paid."""

from __future__ import annotations

import json
import os
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
from support.asked import answers_of, chats, score
from support.batch_server import BatchServer
from support.endpoint_job import TASK as EMOTIONS
from support.endpoint_job import rows
from support.fakes import by_text
from support.server import tops_of

from act_hf.annotators import annotate
from act_hf.columns import FAILURE
from act_hf.errors import ACTError
from act_hf.models.base import Answer
from act_hf.models.batch import BatchEndpoint
from act_hf.models.batch.account import read_state
from act_hf.models.deferred import Submitted
from act_hf.models.endpoint import Endpoint
from act_hf.models.endpoint.retry import Again


SECRET = "sk-act-0123456789"


@pytest.fixture(autouse=True)
def no_pauses(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("ACT_HF_HOME", str(tmp_path / "home"))
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


def batched(at: BatchServer, *, token: str | None = None, logprobs: bool = True, **options: Any) -> BatchEndpoint:
    endpoint = Endpoint("m", base_url=at.url, token=token, logprobs=logprobs, attempts=3)
    return BatchEndpoint(endpoint, **{"poll": (0.001, 0.001), **options})


def waiting_rows() -> int:
    with sqlite3.connect(Path(os.environ["ACT_HF_HOME"]) / "answers.sqlite.batches") as connection:
        return int(connection.execute("SELECT count(*) FROM waiting").fetchone()[0])


def said(answers: list[Answer]) -> list[str | None]:
    return [answer.failure for answer in answers]


def tenth(status: int, *, times: int = 100):
    """Fails every tenth of [`rows`] or [`chats`] as often as that."""

    def fail(text: str, submitted: int) -> tuple[int, str] | None:
        number = int("".join(filter(str.isdigit, text.split("feels")[0])) or 1)
        return (status, "it is\novercast \x07") if number % 10 == 0 and submitted <= times else None

    return fail


class TestFailedRows:
    def test_a_tenth_that_fails_once_goes_into_one_smaller_batch(self, tmp_path):
        with BatchServer(tops=tops_of(EMOTIONS.labels), fail=tenth(500, times=1)) as server:
            labelled = annotate(rows(500), EMOTIONS, batched(server), store=tmp_path / "s")
            direct = annotate(rows(500), EMOTIONS, Endpoint("m", base_url=server.url), store=tmp_path / "direct")
        assert server.stats()["submitted"] == [500, 50]
        assert {name: labelled[name][:] for name in labelled.column_names} == {
            name: direct[name][:] for name in direct.column_names
        }
        assert waiting_rows() == 0

    def test_a_tenth_that_always_fails_is_marked_in_the_servers_words(self, tmp_path):
        with BatchServer(tops=tops_of(EMOTIONS.labels), fail=tenth(503)) as server:
            labelled = annotate(rows(200), EMOTIONS, batched(server), store=tmp_path / "s")
            assert server.stats()["submitted"] == [200, 20, 20]  # at first, and twice more
            failures = labelled[FAILURE][:]
            assert {i for i, failure in enumerate(failures) if failure} == set(range(0, 200, 10))
            assert set(failures) == {None, "annotate: the server answered 503: it is overcast"}
            assert waiting_rows() == 0
            server.fail = None  # the next run asks for those alone
            labelled = annotate(rows(200), EMOTIONS, batched(server), store=tmp_path / "s")
        assert server.stats()["submitted"] == [200, 20, 20, 20]
        assert labelled[FAILURE][:] == [None] * 200

    def test_in_several_parts_too(self, tmp_path):
        with BatchServer(tops=tops_of(EMOTIONS.labels), fail=tenth(503)) as server:
            labelled = annotate(rows(40), EMOTIONS, batched(server, max_requests=20), store=tmp_path / "s")
        assert server.stats()["submitted"] == [20, 20, 2, 2, 2, 2]
        assert sum(failure is not None for failure in labelled[FAILURE][:]) == 4

    def test_without_retries_they_are_marked_at_once(self):
        with BatchServer(fail=tenth(500)) as server:
            answers = answers_of(batched(server, retries=0), chats(20))
        assert server.stats()["submitted"] == [20]
        assert said(answers)[:10] == ["the server answered 500: it is overcast"] + [None] * 9

    def test_a_refused_one_is_not_asked_again(self):
        with BatchServer(fail=tenth(400)) as server:
            answers = answers_of(batched(server), chats(20))
        assert server.stats()["submitted"] == [20]
        assert [i for i, failure in enumerate(said(answers)) if failure] == [0, 10]
        assert (answers[0].calls, answers[0].cost, answers[1].calls) == (1, None, 1)

    def test_calls_count_every_time_a_row_was_submitted(self):
        with BatchServer(fail=tenth(500, times=2)) as server:
            answers = answers_of(batched(server), chats(11))
        assert [answer.calls for answer in answers] == [3] + [1] * 9 + [3]
        assert sum(answer.calls for answer in answers) == sum(server.stats()["submitted"])

    def test_the_tries_are_counted_over_runs_that_do_not_wait(self, tmp_path):
        with BatchServer(tops=tops_of(EMOTIONS.labels), fail=tenth(500)) as server:
            for _ in range(2 * 3):  # two batches, each of which is three looks from its end
                with pytest.raises(Submitted):
                    annotate(rows(20), EMOTIONS, batched(server, wait=False, retries=1), store=tmp_path / "s")
            labelled = annotate(rows(20), EMOTIONS, batched(server, wait=False, retries=1), store=tmp_path / "s")
        assert server.stats()["submitted"] == [20, 2]
        assert sum(failure is not None for failure in labelled[FAILURE][:]) == 2

    def test_all_refused_alike_is_said_of_all(self, tmp_path):
        with (
            BatchServer(fail=lambda text, times: (404, "The model `m` does not exist.")) as server,
            pytest.raises(ACTError) as error,
        ):
            annotate(rows(20), EMOTIONS, batched(server), store=tmp_path / "s")
        assert str(error.value) == (
            "m answered none of the 20 requests of batch_1, all because the server answered 404: The model `m` does "
            "not exist."
        )
        assert waiting_rows() == 0

    def test_no_logprobs_is_said_of_all(self, tmp_path):
        with (
            BatchServer(logprobs=False) as server,
            pytest.raises(ACTError, match=r"m gives no log-probabilities by batch; pass logprobs=False \(--no-logp"),
        ):
            annotate(rows(20), EMOTIONS, batched(server), store=tmp_path / "s")
        assert waiting_rows() == 0

    def test_labels_that_are_not_among_the_most_probable_tokens_fail_their_row(self):
        with BatchServer(say=lambda body: "zzz") as server:
            (answer,) = answers_of(batched(server), [score("row", "joy", "anger")])
        assert answer.failure.startswith("none of the replies 'joy', 'anger' is among the most probable ones")
        assert answer.tokens_in > 0  # it was paid for
        assert server.stats()["submitted"] == [1]


class TestEnds:
    def test_expired_keeps_what_is_finished_and_asks_for_the_rest(self, tmp_path):
        with BatchServer(tops=tops_of(EMOTIONS.labels), ends=["expired"]) as server:
            labelled = annotate(rows(20), EMOTIONS, batched(server), store=tmp_path / "s")
        assert server.stats()["submitted"] == [20, 10]
        assert labelled[FAILURE][:] == [None] * 20

    def test_expired_again_and_again_is_marked(self):
        with BatchServer(ends=["expired"] * 3) as server:
            answers = answers_of(batched(server), chats(20))
        assert server.stats()["submitted"] == [20, 10, 5]
        words = "the server gave no answer: This request could not be executed before the window expired."
        assert [failure for failure in said(answers) if failure] == [words] * 3

    def test_cancelled_while_it_waits_keeps_what_is_finished_and_stops(self, tmp_path):
        with BatchServer(tops=tops_of(EMOTIONS.labels), ends=["cancelled", "cancelled"]) as server:
            model = batched(server, max_requests=10)
            with pytest.raises(ACTError, match=r"batch_1 of m was cancelled with 5 of 10 requests answered"):
                annotate(rows(20), EMOTIONS, model, store=tmp_path / "s")
            labelled = annotate(rows(20), EMOTIONS, model, store=tmp_path / "s")
        assert server.stats()["submitted"] == [10, 10, 5, 5]
        assert labelled[FAILURE][:] == [None] * 20

    def test_what_was_cancelled_before_is_made_up_for(self, tmp_path):
        with BatchServer(tops=tops_of(EMOTIONS.labels), hold=True) as server:
            model = batched(server, wait=False)
            with pytest.raises(Submitted):
                annotate(rows(20), EMOTIONS, model, store=tmp_path / "s")
            assert model.cancel() == ["batch_1"]
            with pytest.raises(Submitted, match=r"asked by batch: batch_2 \(validating, 0 of 10\)"):
                annotate(rows(20), EMOTIONS, model, store=tmp_path / "s")
            server.hold = False
            labelled = annotate(rows(20), EMOTIONS, batched(server), store=tmp_path / "s")
            assert model.cancel() == []
        assert server.stats()["submitted"] == [20, 10]
        assert labelled[FAILURE][:] == [None] * 20

    def test_of_many_that_failed_together_one_is_complained_of(self, tmp_path):
        errors = [{"code": "billing_hard_limit_reached", "message": "Billing hard limit has been reached."}]
        with BatchServer(tops=tops_of(EMOTIONS.labels), ends=["failed"] * 3, errors=errors) as server:
            with pytest.raises(ACTError, match=r"nothing of batch_1 of m: Billing hard limit has been reached\."):
                annotate(rows(15), EMOTIONS, batched(server, max_requests=5), store=tmp_path / "s")
            assert waiting_rows() == 0
            labelled = annotate(rows(15), EMOTIONS, batched(server, max_requests=5), store=tmp_path / "s")
        assert server.stats()["submitted"] == [5] * 6
        assert labelled[FAILURE][:] == [None] * 15

    def test_a_batch_that_failed_says_why_and_is_submitted_anew(self, tmp_path):
        errors = [
            {"code": "invalid_json_line", "message": "This line is\nnot parseable.", "line": 3},
            {"code": "mismatched_model"},
        ]
        with BatchServer(tops=tops_of(EMOTIONS.labels), ends=["failed"], errors=errors) as server:
            with pytest.raises(ACTError) as error:
                annotate(rows(20), EMOTIONS, batched(server), store=tmp_path / "s")
            assert str(error.value) == (
                "the server took nothing of batch_1 of m: line 3: This line is not parseable.; mismatched_model. The "
                "same call submits it again"
            )
            assert waiting_rows() == 0
            annotate(rows(20), EMOTIONS, batched(server), store=tmp_path / "s")
        assert server.stats()["submitted"] == [20, 20]

    def test_without_a_reason(self):
        with (
            BatchServer(ends=["failed"]) as server,
            pytest.raises(ACTError, match="batch_1 of m: it does not say"),
        ):
            answers_of(batched(server), chats(2))

    def test_too_much_at_once_is_submitted_again_when_others_have_ended(self, tmp_path):
        errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached for m."}]
        ends = ["completed", "failed", "failed", "completed", "failed", "completed"]
        with BatchServer(tops=tops_of(EMOTIONS.labels), ends=ends, errors=errors) as server:
            labelled = annotate(rows(15), EMOTIONS, batched(server, max_requests=5), store=tmp_path / "s")
        assert labelled[FAILURE][:] == [None] * 15
        assert server.stats()["submitted"] == [5] * 6

    def test_too_much_in_one_batch_stops(self):
        errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached for m."}]
        with (
            BatchServer(ends=["failed"], errors=errors) as server,
            pytest.raises(ACTError, match=r"limit reached for m\.; give a smaller max_requests= \(--batch-req"),
        ):
            answers_of(batched(server), chats(5))
        assert server.stats()["submitted"] == [5]

    def test_no_files_at_all(self):
        with BatchServer(spoil=lambda lines: []) as server:
            answers = answers_of(batched(server), chats(5))
        assert said(answers) == ["the batch's files have no result for it"] * 5
        assert server.stats()["submitted"] == [5, 5, 5]


class TestFiles:
    def test_a_download_that_is_cut_is_repeated(self):
        with BatchServer(broken=["GET content cut"]) as server:
            answers = answers_of(batched(server), chats(20))
        assert [answer.text for answer in answers] == [by_text(request) for request in chats(20)]
        assert server.stats()["submitted"] == [20]

    def test_of_a_file_that_is_cut_the_rest_is_asked_again(self):
        def cut(lines: list[bytes]) -> list[bytes]:
            return [*lines[:12], lines[12][:30]] if len(lines) == 20 else lines

        with BatchServer(spoil=cut) as server:
            answers = answers_of(batched(server), chats(20))
        assert [answer.text for answer in answers] == [by_text(request) for request in chats(20)]
        assert server.stats()["submitted"] == [20, 8]

    def test_a_request_that_nobody_made_is_left_out_and_said(self):
        stranger = {"custom_id": "f" * 64, "response": {"status_code": 200, "body": {"choices": []}}}
        with (
            BatchServer(spoil=lambda lines: [json.dumps(stranger).encode() + b"\n", *lines]) as server,
            pytest.warns(UserWarning, match="1 results in the files of batch_1 are of no request that was in it"),
        ):
            answers = answers_of(batched(server), chats(5))
        assert [answer.text for answer in answers] == [by_text(request) for request in chats(5)]

    def test_of_two_results_for_a_request_the_first_answer_counts(self):
        def twice(lines: list[bytes]) -> list[bytes]:
            other = json.loads(lines[0])
            other["response"]["body"]["choices"][0]["message"]["content"] = "something else"
            failed = {**other, "response": {"status_code": 400, "body": {"error": "no"}}}
            return [json.dumps(failed).encode() + b"\n", *lines, json.dumps(other).encode() + b"\n"]

        with BatchServer(spoil=twice) as server, warnings.catch_warnings():
            warnings.simplefilter("error")
            answers = answers_of(batched(server), chats(5))
        assert [answer.text for answer in answers] == [by_text(request) for request in chats(5)]

    def test_a_reply_without_a_message_is_asked_for_again(self):
        with BatchServer(say=lambda body: {"error": {"message": "upstream fell over"}}) as server:
            answers = answers_of(batched(server, retries=1), chats(2))
        assert said(answers) == ["the server sent a reply without a message: upstream fell over"] * 2
        assert server.stats()["submitted"] == [2, 2]


class TestServer:
    @pytest.mark.parametrize(
        "fault",
        [
            "POST files 429",
            "POST files lost",
            "POST batches 500",
            "POST batches odd",
            "GET batches 429",
            "GET batches odd",
            "GET list 503",
            "GET content 502",
        ],
    )
    def test_is_asked_again(self, fault):
        with BatchServer(broken=[fault]) as server:
            answers = answers_of(batched(server), chats(5))
            assert server.broken == []
        assert said(answers) == [None] * 5
        assert len(server.submitted) == 1

    def test_a_batch_whose_answer_was_lost_is_not_made_twice(self):
        with BatchServer(broken=["POST batches lost"]) as server:
            answers = answers_of(batched(server), chats(5))
        assert said(answers) == [None] * 5
        assert server.stats()["submitted"] == [5]

    def test_looks_that_get_no_answer_do_not_end_the_wait(self):
        with BatchServer(broken=["GET batches 503"] * 10) as server:  # three tries a look
            answers = answers_of(batched(server), chats(5))
        assert said(answers) == [None] * 5

    def test_a_server_that_is_gone_for_long_does(self):
        with BatchServer(broken=["GET batches 503"] * 3 * 30) as server:
            with pytest.raises(ACTError, match=r"m does not answer, .* 503: not now\. What was submitted is wr"):
                answers_of(batched(server), chats(5))
            assert waiting_rows() == 5
            assert said(answers_of(batched(server), chats(5))) == [None] * 5
        assert server.stats()["submitted"] == [5]

    def test_nobody_listens(self):
        with BatchServer() as gone:
            pass
        with pytest.raises(ACTError, match="m does not answer, however often it is asked, because cannot connect"):
            answers_of(batched(gone), chats(5))

    def test_the_wrong_key(self):
        with (
            BatchServer(key="right") as server,
            pytest.raises(ACTError, match=r"the server answered 401: .*\*\*\*; is token= \(--api-key-env\)") as error,
        ):
            answers_of(batched(server, token=SECRET), chats(5))
        assert SECRET not in str(error.value)
        context = error.value
        while context is not None:
            assert SECRET not in repr(context)
            context = context.__context__

    def test_a_server_without_batch_routes(self):
        from support.server import Server

        with (
            Server() as server,
            pytest.raises(ACTError, match=r"answered 404.*does this server have OpenAI's batch"),
        ):
            answers_of(batched(server), chats(5))

    def test_a_batch_that_the_server_does_not_know_is_not_paid_for_again(self):
        with BatchServer() as server:
            with pytest.raises(Submitted):
                answers_of(batched(server, wait=False), chats(5))
            server.batches.clear()
            with pytest.raises(ACTError, match=r"the journal has batch_1 as submitted to this server, which does"):
                answers_of(batched(server), chats(5))
        assert server.stats()["submitted"] == [5]
        assert waiting_rows() == 5

    def test_offline_is_said(self, monkeypatch):
        with BatchServer() as server:
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
            with pytest.raises(ACTError, match="HF_HUB_OFFLINE is set"):
                answers_of(batched(server), chats(5))


class TestStates:
    @pytest.mark.parametrize(
        "body",
        [None, [], "x", {}, {"id": 3, "status": "completed"}, {"id": "../x", "status": "completed"}, {"id": "a"}],
    )
    def test_what_is_none_is_asked_for_again(self, body):
        with pytest.raises(Again, match="the server said nothing of a batch"):
            read_state(body, None, sure=True)
        assert read_state(body, None).id == ""

    def test_what_is_odd_in_one_is_left_out(self):
        odd = {
            "id": "b",
            "status": "COMPLETED",
            "output_file_id": "/etc/passwd",
            "error_file_id": None,
            "errors": {"data": [3, {"message": f"key {SECRET} \x1b"}]},
            "request_counts": {"total": "3", "completed": -1},
            "metadata": [1],
            "created_at": "now",
        }
        state = read_state(odd, SECRET)
        assert (state.status, state.ended, state.files, state.errors) == ("completed", True, (), ("key ***",))
        assert (state.total, state.done, state.mark, state.created) == (0, 0, "", 0.0)

    def test_an_unknown_state_is_waited_for(self):
        assert not read_state({"id": "b", "status": "queued"}, None).ended
