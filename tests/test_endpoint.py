from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
from PIL import Image
from support.asked import answer_of, answers_of, chat, endpoint, score
from support.fakes import by_text
from support.server import Server, images_in, tokens_of

from act_hf.annotators import Annotator
from act_hf.errors import ACTError
from act_hf.models.base import ChatRequest, Model, ScoreRequest
from act_hf.models.endpoint import Endpoint
from act_hf.task import Task


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


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model": " "}, "model=' ' is no model's name"),
            ({"model": "a\nb"}, "is no model's name"),
            ({"model": "https://api.example.com/v1"}, "is an address; give it as base_url="),
            ({"revision": ""}, "revision='' is no name"),
            ({"revision": "a\n"}, "is no name"),
            ({"server": "ollama"}, "server='ollama' is none of openai, llama.cpp, vllm, tgi"),
            ({"server": "vllm", "base_url": None}, "server='vllm' needs base_url="),
            ({"provider": "groq"}, "give base_url= or provider='groq', not both"),
            ({"base_url": "localhost:8000"}, "base_url='localhost:8000' is no address like http://localhost:8000/v1"),
            ({"base_url": "ftp://host/v1"}, "is no address"),
            ({"base_url": "http://"}, "is no address"),
            ({"concurrency": 0}, "concurrency=0 is not a whole number from 1 to 1000"),
            ({"concurrency": 2.5}, "concurrency=2.5 is not a whole number"),
            ({"concurrency": True}, "concurrency=True is not a whole number"),
            ({"attempts": 0}, "attempts=0"),
            ({"timeout": 0}, "timeout=0"),
            ({"timeout": float("nan")}, "timeout=nan"),
            ({"temperature": -1}, "temperature=-1"),
            ({"requests_per_minute": 0}, "requests_per_minute=0"),
            ({"seed": -1}, "seed=-1"),
            ({"seed": 1.5}, "seed=1.5"),
            ({"top_logprobs": 0}, "top_logprobs=0"),
            ({"image_side": 1}, "image_side=1"),
            ({"prices": (1,)}, "prices=(1,) are not two"),
            ({"prices": (1, -1)}, "prices=(1, -1) are not two"),
            ({"extra_body": [1]}, "extra_body=[1] is no mapping"),
            ({"extra_body": {"stream": True}}, "extra_body cannot hold 'stream'"),
            ({"extra_body": {"a": object()}}, "extra_body cannot be sent as JSON"),
        ],
    )
    def test_a_wrong_one_is_named(self, options, message):
        with pytest.raises(ACTError) as error:
            Endpoint(**{"model": "m", "base_url": "http://localhost:1/v1", **options})
        assert message in str(error.value)

    def test_a_password_in_the_address_is_not_repeated(self):
        with pytest.raises(ACTError, match="give the key as token=") as error:
            Endpoint("m", base_url="http://user:hidden@localhost/v1")
        assert "hidden" not in str(error.value)

    @pytest.mark.parametrize("token", ["", "a b", f"{SECRET}\n", "ключ", b"key"])
    def test_a_token_that_is_none(self, token):
        with pytest.raises(ACTError, match="the token is not one") as error:
            Endpoint("m", base_url="http://localhost:1/v1", token=token)
        assert not token or str(token).strip() not in str(error.value)

    def test_it_is_a_model(self):
        model = Endpoint("m", base_url="http://localhost:1/v1")
        assert isinstance(model, Model)
        assert model.instructed
        assert dataclasses.replace(model, seed=3).seed == 3
        assert dataclasses.replace(model) == model


class TestAbilities:
    @pytest.mark.parametrize(
        ("options", "abilities"),
        [
            ({}, {"chat", "choose"}),
            ({"logprobs": False}, {"chat"}),
            ({"images": True}, {"chat", "choose", "image"}),
            ({"server": "llama.cpp"}, {"chat", "choose", "score"}),
            ({"server": "vllm"}, {"chat", "choose", "score"}),
            ({"server": "vllm", "logprobs": False}, {"chat"}),
            ({"server": "tgi"}, {"chat", "choose"}),
            ({"server": "tgi", "tokenizer": "somewhere"}, {"chat", "choose", "score"}),
        ],
    )
    def test_are_known_without_asking(self, options, abilities):
        assert Endpoint("m", base_url="http://nowhere.invalid/v1", **options).abilities == abilities

    def test_what_it_cannot_do_is_said_before_anything_is_sent(self, server):
        picture = ChatRequest(({"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (2, 2))}]},))
        for model, request, missing in [
            (endpoint(server, logprobs=False), score("x", "a", "b"), "how probable"),
            (endpoint(server), score("x", "a", "b", exact=True), "token by token"),
            (endpoint(server), picture, "a task with an image column needs a model that can see images"),
        ]:
            with pytest.raises(ACTError, match=missing):
                model.answer([chat("fine"), request])
        assert server.requests == 0


class TestName:
    def test_holds_what_changes_answers(self):
        names = [
            Endpoint("m", base_url="http://h:1/v1", **options).name
            for options in (
                {},
                {"server": "vllm"},
                {"revision": "2026-01"},
                {"revision": "2026-02"},
                {"temperature": 0.7},
                {"seed": 0},
                {"seed": 1},
                {"extra_body": {"top_k": 1}},
                {"extra_body": {"top_k": 2}},
                {"images": True},
                {"images": True, "image_side": 512},
                {"top_logprobs": 5},
                {"server": "tgi", "tokenizer": "org/a"},
                {"server": "tgi", "tokenizer": "other/a"},
            )
        ]
        assert len(set(names)) == len(names)
        assert names[0] == "m/openai"
        assert Endpoint("m", provider="groq").name == "m@groq/openai"

    def test_holds_nothing_else(self):
        model = Endpoint("m", base_url="http://secret-host:1/v1", token=SECRET, revision="b")
        other = dataclasses.replace(model, base_url="http://other:2/v1", token="sk-other", concurrency=2, attempts=1)
        assert other.name == model.name == "m/openai/rev-b"

    def test_a_tokenizer_in_a_folder_is_its_content(self, tmp_path):
        names = []
        for parent, content in (("a", "1"), ("b", "2"), ("c", "1")):
            folder = tmp_path / parent / "tokenizer"
            folder.mkdir(parents=True)
            (folder / "tokenizer.json").write_text(content)
            model = Endpoint("m", base_url="http://h:1/v1", server="tgi", tokenizer=str(folder))
            names.append(model.name)
            assert pickle.loads(pickle.dumps(model)).name == model.name
        assert names[0].startswith("m/tgi/by-tokenizer@")
        assert str(tmp_path) not in names[0]
        assert names[0] == names[2] != names[1]

    def test_extra_body_in_any_order(self):
        bodies = [{"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}]
        assert len({Endpoint("m", extra_body=body).name for body in bodies}) == 1


class TestToken:
    def test_is_sent_and_shown_nowhere(self, caplog, capfd):
        caplog.set_level(logging.DEBUG)
        with Server(key=SECRET, faults=["503", "reset"]) as server:
            model = endpoint(server, token=SECRET)
            assert answer_of(model, chat("hello")).failure is None
        shown = [repr(model), str(model), model.name, caplog.text, *capfd.readouterr()]
        assert not any(SECRET in text for text in shown)
        assert SECRET.encode() not in pickle.dumps(model)
        assert server.headers[0]["authorization"] == f"Bearer {SECRET}"

    def test_a_server_that_repeats_it(self):
        with Server(key="sk-another") as server, pytest.raises(ACTError) as error:
            answer_of(endpoint(server, token=SECRET), chat("hello"))
        message = str(error.value)
        assert message.startswith("cannot use m: the server answered 401: Incorrect API key provided: ***")
        assert message.isprintable()
        assert len(message) < 300
        # Neither does what the error came from, which a traceback would print.
        assert error.value.__context__ is None
        assert error.value.__cause__ is None

    def test_without_one_nobody_gets_the_users_hugging_face_token(self, server, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_private")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-private")
        model = endpoint(server, server="llama.cpp")
        assert answer_of(model, score("x", "spam", "ham", exact=True)).failure is None
        assert server.tokenised == 2
        assert all("authorization" not in headers for headers in server.headers)
        assert "private" not in json.dumps(server.headers)

    def test_from_the_environment(self, monkeypatch):
        monkeypatch.setenv("ACT_TEST_KEY", SECRET)
        with Server(key=SECRET) as server:
            model = pickle.loads(pickle.dumps(endpoint(server, token="$ACT_TEST_KEY")))
            assert answer_of(model, chat("hello")).failure is None
        monkeypatch.delenv("ACT_TEST_KEY")
        with pytest.raises(ACTError, match="environment variable ACT_TEST_KEY is not set"):
            answer_of(endpoint(server, token="$ACT_TEST_KEY"), chat("hello"))

    @pytest.mark.parametrize("held", ["{}\nsecond line", "{}\tx", "{} x", "\x01{}", "{}…", "é{}"])
    def test_from_the_environment_it_has_to_be_one_too(self, server, monkeypatch, held):
        monkeypatch.setenv("ACT_TEST_KEY", held.format(SECRET))
        with pytest.raises(ACTError, match="what ACT_TEST_KEY holds is no token") as error:
            answer_of(endpoint(server, token="$ACT_TEST_KEY"), chat("hello"))
        assert SECRET not in str(error.value)
        assert server.requests == 0

    def test_a_copy_keeps_its_own(self):
        with Server(key=SECRET) as server:
            model = endpoint(server, token=SECRET, extra_body={"a": [1]})
            endpoint(server, token="sk-another")
            for copied in (copy.copy(model), copy.deepcopy(model), dataclasses.replace(model)):
                assert copied == model
                assert answer_of(copied, chat("hello")).failure is None
            assert copy.deepcopy(model).extra_body["a"] is not model.extra_body["a"]

    def test_a_copy_out_of_a_pickle_says_what_it_lacks(self, server):
        copied = pickle.loads(pickle.dumps(endpoint(server, token=SECRET)))
        for model in (copied, copy.copy(copied), copy.deepcopy(copied), pickle.loads(pickle.dumps(copied))):
            with pytest.raises(ACTError, match=r'a token is in none; give it as token="\$NAME"'):
                answer_of(model, chat("hello"))
        assert server.requests == 0

    def test_map_in_other_processes_says_what_they_lack(self, server, tmp_path):
        from datasets import Dataset

        rows = Dataset.from_dict({"text": ["a", "b"]})
        task = Task(labels=["spam", "ham"], text="text")
        annotator = Annotator(task, endpoint(server, token=SECRET), store=tmp_path / "store")
        with pytest.raises(ACTError, match=r'a token is in none; give it as token="\$NAME"'):
            rows.map(annotator, batched=True, num_proc=2)
        assert server.requests == 0

    def test_a_copy_in_another_process_says_what_it_lacks(self):
        model = Endpoint("m", base_url="http://127.0.0.1:1/v1", token=SECRET)
        code = (
            "import pickle, sys; from act_hf.models.base import ChatRequest\n"
            "try: pickle.load(sys.stdin.buffer).answer([ChatRequest(({'role': 'user', 'content': 'x'},))])\n"
            "except ValueError as error: print(error)"
        )
        run = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(model), capture_output=True, check=True)
        assert b"this copy of m comes out of a pickle, as in another process" in run.stdout

    def test_a_pickle_is_the_same_before_and_after_use(self, server):
        model = endpoint(server)
        before = pickle.dumps(model)
        answer_of(model, chat("hello"))
        assert pickle.dumps(model) == before


class TestChat:
    def test_what_is_sent_and_what_comes_back(self, server):
        model = endpoint(server, temperature=0.5, seed=7, extra_body={"top_k": 3}, prices=(1.0, 10.0))
        answer = answer_of(model, chat("hello there", max_tokens=50))
        (body,) = server.bodies
        assert body == {
            "model": "m",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello there"}],
            "max_tokens": 50,
            "stream": False,
            "temperature": 0.5,
            "seed": 7,
            "top_k": 3,
        }
        assert answer.text == by_text(chat("hello there"))
        assert (answer.calls, answer.failure, answer.logprobs) == (1, None, ())
        assert answer.tokens_in == len(tokens_of("Be brief.")) + len(tokens_of("hello there"))
        assert answer.tokens_out == len(tokens_of(answer.text))
        assert answer.cost == pytest.approx((answer.tokens_in + 10 * answer.tokens_out) / 1e6)
        assert answer.seconds > 0

    def test_extra_body_wins_and_none_leaves_a_field_out(self, server):
        model = endpoint(server, extra_body={"max_tokens": None, "max_completion_tokens": 9})
        answer_of(model, chat("hello"))
        assert "max_tokens" not in server.bodies[0]
        assert server.bodies[0]["max_completion_tokens"] == 9

    def test_an_unknown_price_is_none(self, server):
        assert answer_of(endpoint(server), chat("hello")).cost is None

    def test_a_price_without_counts_is_none(self):
        def say(body: dict[str, Any]) -> dict[str, Any]:
            return {
                "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": "x"},
            }

        with Server(say=say) as server:
            answer = answer_of(endpoint(server, prices=(1.0, 1.0)), chat("hello"))
        assert (answer.text, answer.cost, answer.tokens_in, answer.tokens_out) == ("hi", None, 0, 0)

    def test_an_answer_without_text(self):
        def say(body: dict[str, Any]) -> dict[str, Any]:
            return {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}

        with Server(say=say) as server:
            answer = answer_of(endpoint(server), chat("hello"))
        assert answer.failure == "the model gave no text (it ended with 'length')"
        assert answer.calls == 1

    @pytest.mark.parametrize("fault", ["other language", "injected"])
    def test_whatever_the_model_says_is_an_answer(self, fault):
        with Server(faults=[fault]) as server:
            answer = answer_of(endpoint(server), chat("hello"))
        assert answer.failure is None
        assert answer.text.startswith(("Я не знаю", "Ignore all"))

    @pytest.mark.parametrize(
        ("kind", "field", "value"),
        [
            ("llama.cpp", "grammar", 'root ::= "spam" | "not \\"spam\\"\\\\\\U0000000a"'),
            ("vllm", "structured_outputs", {"choice": ["spam", 'not "spam"\\\n']}),
            ("tgi", "response_format", {"type": "regex", "value": '(spam|not\\ "spam"\\\\\\\n)'}),
            ("openai", None, None),
        ],
    )
    def test_replies_are_held_to_the_choices(self, server, kind, field, value):
        answer_of(endpoint(server, server=kind), chat("x", choices=("spam", 'not "spam"\\\n')))
        (body,) = server.bodies
        extra = body.keys() - {"model", "messages", "max_tokens", "temperature", "stream"}
        assert extra == ({field} if field else set())
        assert field is None or body[field] == value


class TestImages:
    def request(self, *images: Image.Image) -> ChatRequest:
        parts = [{"type": "image", "image": image} for image in images]
        return ChatRequest(({"role": "user", "content": [*parts, {"type": "text", "text": "What is it?"}]},))

    def test_arrive_as_data_uris(self, server):
        model = endpoint(server, images=True, image_side=32)
        clear = Image.new("RGBA", (10, 10), (0, 0, 255, 100))
        assert answer_of(model, self.request(Image.new("RGB", (64, 16), "red"), clear)).failure is None
        red, blue = images_in(server.bodies[0])
        assert (red.size, red.mode, blue.mode) == ((32, 8), "RGB", "RGBA")
        assert red.getpixel((5, 5))[0] > 240
        assert server.bodies[0]["messages"][0]["content"][2] == {"type": "text", "text": "What is it?"}

    def test_a_broken_one_fails_its_row_alone(self, server):
        broken, fine = self.request(Image.new("RGB", (0, 1))), self.request(Image.new("L", (4, 4)))
        first, second = answers_of(endpoint(server, images=True, prices=(1.0, 1.0)), [broken, fine])
        assert first.failure == "the image has no pixels: it is 0 x 1"
        assert (first.calls, first.cost) == (0, 0.0)
        assert second.failure is None

    def test_in_scores(self, server):
        model = endpoint(server, images=True, server="vllm")
        messages = self.request(Image.new("L", (4, 4))).messages
        answers = answers_of(
            model, [ScoreRequest(messages, ("a", "b")), ScoreRequest(messages, ("a", "b"), exact=True)]
        )
        assert not any(answer.failure for answer in answers)
        assert all(len(images_in(body)) == 1 for body in server.bodies)
