from __future__ import annotations

import asyncio
import json
from email.utils import formatdate
from time import time
from typing import Any

import httpx2
import pytest
import stamina
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, OfflineModeIsEnabled, OverloadedError

from act_hf.errors import ACTError
from act_hf.models.endpoint.retry import Again, Breaker, Refused, diagnose, pause, persist, quote, retry_after


SECRET = "sk-0123456789"


def answered(status: int, body: Any = "", headers: dict[str, str] | None = None) -> HfHubHTTPError:
    """What the client raises for an answer with that status."""
    text = body if isinstance(body, str) else json.dumps(body)
    request = httpx2.Request("POST", "http://127.0.0.1/v1")
    return HfHubHTTPError("no", response=httpx2.Response(status, text=text, headers=headers, request=request))


def judged(error: Exception) -> Exception:
    return diagnose(error, model="m", secret=SECRET, timeout=12.0)


class TestDiagnosis:
    @pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
    def test_asked_again(self, status):
        error = judged(answered(status, {"error": {"message": "busy"}}))
        assert isinstance(error, Again)
        assert str(error) == f"the server answered {status}: busy"
        assert error.congested == (status in (429, 503, 504, 529))

    @pytest.mark.parametrize("status", [400, 403, 413, 422])
    def test_only_this_row(self, status):
        error = judged(answered(status, {"detail": "too long"}))
        assert isinstance(error, Refused)
        assert str(error) == f"the server answered {status}: too long"

    @pytest.mark.parametrize("status", [401, 402, 404, 405, 410, 501])
    def test_no_row_at_all(self, status):
        error = judged(answered(status, {"message": "no such thing"}))
        assert isinstance(error, ACTError)
        assert str(error).startswith(f"cannot use m: the server answered {status}: no such thing")

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"error": "plain"}, "plain"),
            ({"error": {"code": 7}}, '{"code": 7}'),
            ({"error": {"message": {"a": 1}}}, '{"a": 1}'),
            ([1], "[1]"),
            ("<html>\n  bad gateway </html>", "<html> bad gateway </html>"),
            ("", ""),
        ],
    )
    def test_what_the_server_says_wherever_it_says_it(self, body, said):
        assert str(judged(answered(500, body))) == "the server answered 500" + (f": {said}" if said else "")

    def test_it_is_one_short_printable_line_without_the_token(self):
        message = f"key {SECRET}\x1b[31m\r\nsecond line {'x' * 500}"
        for status in (400, 401, 500):
            said = str(judged(answered(status, {"error": {"message": message}})))
            assert SECRET not in said
            assert said.isprintable()
            assert len(said) < 300
            assert "key *** [31m second line" in said

    @pytest.mark.parametrize("secret", [SECRET, "a'b\"c", "a\\b", "a\\'\"b"])
    def test_the_token_is_cut_out_however_it_is_quoted(self, secret):
        for said in (secret, repr(secret), repr(secret.encode()), json.dumps({"key": secret}), f"{secret} {secret!r}"):
            assert "***" in quote(said, secret)
            assert secret not in quote(said, secret)
            assert repr(secret)[1:-1] not in quote(said, secret)
            assert json.dumps(secret)[1:-1] not in quote(said, secret)

    def test_connections(self):
        refused = judged(httpx2.ConnectError("All connection attempts failed"))
        assert isinstance(refused, Again)
        assert not refused.sent
        broken = judged(httpx2.RemoteProtocolError("peer closed"))
        assert isinstance(broken, Again)
        assert broken.sent
        assert not broken.congested

    def test_timeouts(self):
        for error in (TimeoutError(), InferenceTimeoutError("late")):
            late = judged(error)
            assert isinstance(late, Again)
            assert late.congested
            assert late.sent
            assert str(late) == "the server did not answer within 12 s"
        never_sent = InferenceTimeoutError("late")
        never_sent.__cause__ = httpx2.ConnectTimeout("late")
        assert judged(never_sent).sent is False  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        "error", [json.JSONDecodeError("no", "", 0), UnicodeDecodeError("utf-8", b"", 0, 1, "no"), RecursionError()]
    )
    def test_no_json(self, error):
        assert isinstance(judged(error), Again)

    def test_json_of_another_shape(self):
        assert isinstance(judged(ValueError("Invalid data type: <class 'int'>")), Again)

    def test_the_clients_own_complaints_stop(self):
        error = judged(ValueError("Provider 'nobody' not supported. Available values: 'auto', 'groq'"))
        assert isinstance(error, ACTError)
        assert "'auto', 'groq'" in str(error)

    def test_offline(self):
        assert "HF_HUB_OFFLINE" in str(judged(OfflineModeIsEnabled("no")))

    def test_tgi_errors_are_their_status(self):
        error = OverloadedError("busy")
        error.__cause__ = answered(429)
        assert judged(error).congested  # type: ignore[attr-defined]

    def test_mistakes_of_ours_stay_what_they_are(self):
        for error in (KeyError("x"), ACTError("x"), Again("x"), Refused("x")):
            assert judged(error) is error


class TestWaiting:
    def test_retry_after(self):
        assert retry_after({"retry-after": "7"}) == 7
        assert retry_after({"retry-after": "0.5"}) == 0.5
        assert retry_after({"retry-after": formatdate(time() + 20, usegmt=True)}) == pytest.approx(20, abs=3)
        assert retry_after({"retry-after": formatdate(time() - 20, usegmt=True)}) == 0
        for nothing in ("", "soon", "nan", "inf", "-"):
            assert retry_after({"retry-after": nothing}) is None
        assert retry_after({}) is None

    def test_it_is_honoured_with_jitter_up_to_a_minute(self):
        assert 7 <= pause(Again("no", wait=7)) <= 8
        assert 60 <= pause(Again("no", wait=3600)) <= 61
        assert pause(Again("no")) is True
        assert pause(Refused("no")) is False
        assert pause(KeyError("no")) is False

    def test_a_longer_wish_is_told(self):
        error = judged(answered(429, "slow", {"Retry-After": "3600"}))
        assert str(error) == "the server answered 429: slow (it asks to wait 3600 s; waited 60)"

    def test_persists_as_long_as_it_may_help(self):
        tries = []

        async def send() -> int:
            tries.append(1)
            if len(tries) < 3:
                raise Again("not yet")
            return 7

        with stamina.set_testing(True, attempts=100, cap=True):
            assert asyncio.run(persist(send, attempts=5)) == 7
            assert len(tries) == 3
            tries.clear()
            with pytest.raises(Again):
                asyncio.run(persist(send, attempts=2))
        assert len(tries) == 2

    def test_repeats_are_not_printed(self, capfd):
        async def send() -> None:
            raise Again("no")

        with stamina.set_testing(True, attempts=3), pytest.raises(Again):
            asyncio.run(persist(send, attempts=3))
        assert capfd.readouterr().err == ""


class TestBreaker:
    def test_a_server_that_was_never_there(self):
        with pytest.raises(ACTError, match=r"m does not answer: a request got no answer .* because it is not there"):
            Breaker("m", 16).gave_up("it is not there", sent=False)

    def test_a_server_that_never_answered(self):
        breaker = Breaker("m", 16)
        for _ in range(3):
            breaker.gave_up("503", sent=True)
        with pytest.raises(ACTError, match="m does not answer: 4 requests in a row"):
            breaker.gave_up("503", sent=True)

    def test_a_server_that_stopped_answering(self):
        breaker = Breaker("m", 16)
        breaker.answered()
        for _ in range(15):
            breaker.gave_up("503", sent=False)
        breaker.answered()
        for _ in range(15):
            breaker.gave_up("503", sent=False)
        with pytest.raises(ACTError, match="16 requests in a row"):
            breaker.gave_up("503", sent=True)
        for _ in range(15):  # whoever goes on after that starts anew
            breaker.gave_up("503", sent=True)
        with pytest.raises(ACTError, match="16 requests in a row"):
            breaker.gave_up("503", sent=True)

    def test_a_server_that_takes_nothing(self):
        breaker = Breaker("m", 16)
        for _ in range(2):  # whoever goes on after that starts anew
            for _ in range(15):
                breaker.refused("400")
            with pytest.raises(ACTError, match=r"m refused the first 16 requests, all because 400 \(where that is"):
                breaker.refused("400")

    def test_a_server_that_refuses_each_row_for_its_own_reason(self):
        breaker = Breaker("m", 16)
        for number in range(100):
            breaker.refused(f"400: the row takes {9000 + number % 3} tokens")

    def test_rows_it_refuses_now_and_then(self):
        breaker = Breaker("m", 16)
        breaker.answered()
        for _ in range(100):
            breaker.refused("400")
