from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture
from support import annotating
from support.fakes import FakeModel, by_text

from act_hf.annotators import annotate
from act_hf.errors import ACTError
from act_hf.models.asking import Usage, ask
from act_hf.models.base import Answer, ChatRequest, ScoreRequest
from act_hf.models.store import LAYOUT, Store, home, request_key


TESTS = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(TESTS)}


def chat(text: str, **options) -> ChatRequest:
    return ChatRequest(({"role": "user", "content": text},), **options)


def score(text: str, *continuations: str, **options) -> ScoreRequest:
    return ScoreRequest(({"role": "user", "content": text},), continuations or ("a", "b"), **options)


NUMBERS = st.floats(min_value=0, allow_nan=False)
ANSWERS = st.builds(
    Answer,
    text=st.text(),
    logprobs=st.lists(st.floats(max_value=0, allow_nan=False)).map(tuple),
    lengths=st.lists(st.integers(0)).map(tuple),
    tokens_in=st.integers(0),
    tokens_out=st.integers(0),
    seconds=NUMBERS,
    cost=st.none() | NUMBERS,
    calls=st.integers(0),
    failure=st.none() | st.text(),
)


ANSWERED = {"text", "logprobs", "lengths", "tokens_in", "tokens_out", "seconds", "cost", "calls", "failure"}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "folder" / "answers.sqlite")


class TestStore:
    def test_gives_back_what_was_put(self, store):
        answers = {
            "a": Answer(text="line\nü \u2028 €", tokens_in=3, tokens_out=4, seconds=0.1),
            "b": Answer(logprobs=(-0.1, -1e-300, -math.inf, 1 / 3)),
        }
        store.put(answers, model="m")
        assert store.get(["a", "b", "c"]) == answers
        assert len(store) == 2
        store.close()
        assert store.get(["b"]) == {"b": answers["b"]}  # opens again
        assert Store(store.path).get(["a"]) == {"a": answers["a"]}

    def test_keeps_what_is_not_a_number(self, store):
        store.put({"a": Answer(logprobs=(math.nan,))}, model="m")
        assert math.isnan(store.get(["a"])["a"].logprobs[0])

    @settings(max_examples=100, deadline=None)
    @given(ANSWERS)
    def test_every_field_to_the_last_bit(self, answer):
        assert {field.name for field in dataclasses.fields(Answer)} == ANSWERED
        store = Store(":memory:")
        store.put({"k": answer}, model="m")
        (read,) = store.get(["k"]).values()
        assert read == answer
        assert [type(value) for value in vars(read).values()] == [type(value) for value in vars(answer).values()]

    @pytest.mark.parametrize("half", ["\ud800", "a\udfffb"])
    def test_half_a_character(self, store, half):
        store.put({"k": Answer(text=half)}, model="m")
        assert store.get(["k"])["k"].text == half

    @pytest.mark.parametrize(
        ("answer", "written"),
        [
            (Answer(), "{}"),
            (Answer(text="x"), '{"text": "x"}'),
            (Answer(cost=None), '{"cost": null}'),
            (Answer(calls=2, cost=0.5), '{"cost": 0.5, "calls": 2}'),
            (
                Answer(logprobs=(-1.0,), lengths=(3,), tokens_in=9),
                '{"logprobs": [-1.0], "lengths": [3], "tokens_in": 9}',
            ),
        ],
    )
    def test_only_what_is_set_is_written(self, store, answer, written):
        store.put({"k": answer}, model="m")
        assert [text for (text,) in store.connection.execute("SELECT answer FROM answers")] == [written]

    def test_many_keys_at_once(self, store):
        answers = {str(i): Answer(text=str(i)) for i in range(2500)}
        store.put(answers, model="m")
        assert store.get([*answers, "more"]) == answers
        assert store.get([]) == {}

    def test_a_later_answer_replaces(self, store):
        for text in "ab":
            store.put({"k": Answer(text=text)}, model="m")
        assert store.get(["k"])["k"].text == "b"
        assert len(store) == 1

    def test_all_of_a_batch_or_nothing(self, store):
        with pytest.raises(ACTError, match="cannot use the store"):
            store.put({"a": Answer(), "b": Answer(), None: Answer()}, model="m")
        assert len(store) == 0
        store.put({"a": Answer()}, model="m")  # and it can still be used
        assert len(Store(store.path)) == 1

    def test_where_it_is(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ACT_HF_HOME", str(tmp_path))
        assert home() == tmp_path
        assert Store().path == tmp_path / "answers.sqlite"
        monkeypatch.setenv("ACT_HF_HOME", "")
        assert home().name == "act_hf"

    def test_of(self, store, tmp_path):
        assert Store.of(store) is store
        assert Store.of(tmp_path / "x").path == Store.of(str(tmp_path / "x")).path == tmp_path / "x"
        assert Store.of(None).path == Store().path

    def test_nothing_is_made_before_it_is_used(self, store):
        pickle.dumps(store)
        assert not store.path.parent.exists()

    def test_pickles_without_its_connection(self, store):
        store.put({"k": Answer(text="x")}, model="m")
        copy = pickle.loads(pickle.dumps(store))
        assert copy._connection is None
        assert copy.get(["k"])["k"].text == "x"
        assert copy.connection is not store.connection
        assert len(pickle.dumps(store)) < 500


class TestAnswersOfEarlierVersions:
    """What was paid for once is read for ever."""

    def put(self, store: Store, written: str) -> None:
        store.connection.execute("INSERT INTO answers VALUES ('k', 'm', ?)", (written,))

    @pytest.mark.parametrize(
        ("written", "answer"),
        [
            (
                '{"text": "spam", "logprobs": [], "tokens_in": 10, "tokens_out": 2, "seconds": 0.5, "failure": null}',
                Answer(text="spam", tokens_in=10, tokens_out=2, seconds=0.5),
            ),
            (
                '{"text": "", "logprobs": [-0.5, -Infinity], "tokens_in": 10, "tokens_out": 0, "seconds": 0.0, '
                '"failure": null}',
                Answer(logprobs=(-0.5, -math.inf), tokens_in=10),
            ),
        ],
    )
    def test_all_fields_spelled_out(self, store, written, answer):
        self.put(store, written)
        assert store.get(["k"]) == {"k": answer}
        read = store.get(["k"])["k"]
        assert (read.lengths, read.cost, read.calls) == ((), 0.0, 1)

    def test_written_by_code_of_that_time(self, store):
        answer = Answer(text="ü", logprobs=(-1.5, -2.5), tokens_in=3, tokens_out=4, seconds=0.25)
        names = ("text", "logprobs", "tokens_in", "tokens_out", "seconds", "failure")
        self.put(store, json.dumps({name: getattr(answer, name) for name in names}))
        assert store.get(["k"]) == {"k": answer}


class TestOtherFiles:
    def test_another_layout(self, store):
        store.put({"k": Answer()}, model="m")
        store.connection.execute(f"PRAGMA user_version = {LAYOUT + 1}")
        store.close()
        before = store.path.read_bytes()
        with pytest.raises(ACTError, match=rf"layout {LAYOUT + 1}.* reads layout {LAYOUT}; give another path"):
            Store(store.path).get(["k"])
        assert store.path.read_bytes() == before
        assert [file.name for file in store.path.parent.iterdir()] == [store.path.name]

    @pytest.mark.parametrize("version", [0, LAYOUT])
    def test_somebody_elses_database(self, tmp_path, version):
        path = tmp_path / "other.sqlite"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE cookies (value)")
            connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        before = path.read_bytes()
        with pytest.raises(ACTError, match=r"other.sqlite' is an SQLite file of something else"):
            Store(path).get(["k"])
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["other.sqlite"]

    def test_no_database(self, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("some notes\n" * 100)
        with pytest.raises(ACTError, match=r"cannot open the store .*notes.txt': file is not a database"):
            Store(path).get(["k"])
        assert path.read_text() == "some notes\n" * 100

    def test_a_folder_or_a_path_through_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        for path in (tmp_path, tmp_path / "file" / "answers.sqlite"):
            with pytest.raises(ACTError, match="cannot open the store"):
                Store(path).get(["k"])

    def test_an_empty_file_becomes_one(self, tmp_path):
        (tmp_path / "new").touch()
        Store(tmp_path / "new").put({"k": Answer()}, model="m")
        assert len(Store(tmp_path / "new")) == 1


class TestKey:
    base = chat("hello", max_tokens=7)

    def test_is_the_same_for_the_same(self):
        assert request_key("m", "1", self.base) == request_key("m", "1", chat("hello", max_tokens=7))
        swapped = ChatRequest(({"content": "hello", "role": "user"},), max_tokens=7)
        assert request_key("m", "1", self.base) == request_key("m", "1", swapped)

    def test_does_not_change_between_versions(self):
        # What people paid for is filed under it.
        assert request_key("m", "1", self.base) == "acf59af1e3a857cc800e9de8e22c57b391fa8f1d726be34a1f3444a6cf210ef4"
        assert (
            request_key("m", "1", score("hello", "a", "b"))
            == "bba4e95f190020ca2f70c47800f1637f67b6911ff6322c5243b704163c05bef0"
        )
        assert (
            self.picture_key(Picture.new("RGB", (2, 2), (1, 2, 3)))
            == "087d3e1a25816195d49c419a001814533a5718e2b8132bbc43e952c145133ee6"
        )

    def test_is_the_same_in_every_process(self):
        program = (
            "from act_hf.models.base import ChatRequest\n"
            "from act_hf.models.store import request_key\n"
            "request = ChatRequest(({'role': 'user', 'content': 'hello'},), max_tokens=7)\n"
            "print(request_key('m', '1', request))"
        )
        for seed in "01":
            environment = {**ENVIRONMENT, "PYTHONHASHSEED": seed}
            run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
            assert run.stdout.decode().strip() == request_key("m", "1", self.base)

    @pytest.mark.parametrize("request_", [chat("hello"), score("hello"), score("hello", exact=True)])
    def test_how_much_is_shared_is_not_part_of_it(self, request_):
        keys = {request_key("m", "1", dataclasses.replace(request_, shared=shared)) for shared in (0, 1, 5)}
        assert len(keys) == 1

    def test_changes_with_everything_that_was_asked(self):
        hello = {"role": "user", "content": "hello"}
        keys = [
            request_key("m", "1", self.base),
            request_key("n", "1", self.base),
            request_key("m", "2", self.base),
            request_key("m", "1", chat("hello ", max_tokens=7)),
            request_key("m", "1", chat("hello", max_tokens=8)),
            request_key("m", "1", ChatRequest(({**hello, "role": "system"},), 7)),
            request_key("m", "1", ChatRequest((hello, hello), 7)),
            request_key("m", "1", score("hello", "a", "b")),
            request_key("m", "1", score("hello", "b", "a")),
            request_key("m", "1", score("hello", "a")),
            request_key("m", "1", score("hello", "ab")),
            request_key("m", "1", score("hello", "ab", exact=True)),
            request_key("m", "1", chat("hello", max_tokens=7, choices=("a", "b"))),
            request_key("m", "1", chat("hello", max_tokens=7, choices=("b", "a"))),
            request_key("m", "1", chat("hello", max_tokens=7, choices=("ab",))),
        ]
        assert len(set(keys)) == len(keys)

    def picture_key(self, image) -> str:
        parts = [{"type": "image", "image": image}, {"type": "text", "text": "hello"}]
        return request_key("m", "1", ChatRequest(({"role": "user", "content": parts},)))

    def test_changes_with_the_pixels(self):
        new = Picture.new
        one, other = new("P", (2, 2)), new("P", (2, 2))
        one.putpalette([0] * 768)
        other.putpalette([9] * 768)
        different = [new("RGB", (2, 3)), new("RGB", (3, 2)), new("RGB", (2, 3), 1), new("L", (2, 3)), one, other, None]
        assert len({self.picture_key(image) for image in different}) == len(different)
        assert self.picture_key(new("RGB", (2, 3))) == self.picture_key(different[0])

    def test_holds_no_text_of_a_row(self, store):
        secret = "my card number is 1234"
        requests = [chat(secret), score(secret, "first label", "second label")]
        ask(FakeModel(by=by_text), requests, store=store, version="1", usage=Usage())
        store.close()
        data = b"".join(file.read_bytes() for file in store.path.parent.iterdir())
        assert b"fake" in data  # the model's name is there to read
        assert b"1234" not in data
        assert b"label" not in data


def start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *map(str, arguments)], env=ENVIRONMENT, stderr=subprocess.PIPE)


def stored(path: Path) -> int:
    try:
        return len(Store(path)) if path.exists() else 0
    except (ACTError, sqlite3.Error):
        return 0  # just being made


def test_killing_loses_only_what_was_in_flight(store, tmp_path):
    count, in_flight = 64, 4
    process = start(TESTS / "support" / "annotating.py", store.path, count, 0.05)
    deadline = time.monotonic() + 60
    while stored(store.path) < 20 and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(store)
    assert 20 <= kept <= count - in_flight
    assert kept % in_flight == 0  # whole batches

    dataset = annotating.rows(count)
    model = FakeModel(by=by_text, name="slow")
    resumed = annotate(dataset, annotating.TASK, model, store=store, batch_size=16)
    assert model.calls == count - kept
    untouched = annotate(dataset, annotating.TASK, FakeModel(by=by_text, name="slow"), store=tmp_path / "new.sqlite")
    assert resumed.to_dict() == untouched.to_dict()
    assert len(set(resumed["act_label"])) == 3
    assert len(store) == count


WRITER = """
import sys, time
from act_hf.models.base import Answer
from act_hf.models.store import Store

path, begin, number = sys.argv[1], float(sys.argv[2]), sys.argv[3]
store = Store(path)
time.sleep(max(0, begin - time.time()))
for i in range(60):
    store.put({f"{number}-{i}": Answer(text="x" * 200), f"both-{i}": Answer(text="same")}, model="m")
    assert len(store.get([f"{number}-{i}", f"both-{i}"])) == 2
"""


def test_processes_writing_at_once(store):
    begin = time.time() + 1
    processes = [start("-c", WRITER, store.path, begin, number) for number in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    assert len(store) == 4 * 60
    assert all(answer.text == "same" for answer in store.get([f"both-{i}" for i in range(60)]).values())


OPENER = """
import sys, time
from act_hf.models.base import Answer
from act_hf.models.store import Store

folder, begin = sys.argv[1], float(sys.argv[2])
for i in range(40):
    time.sleep(max(0, begin + i / 50 - time.time()))
    Store(f"{folder}/{i}.sqlite").put({"k": Answer()}, model="m")
"""


def test_processes_making_the_same_file_at_once(tmp_path):
    begin = time.time() + 1
    processes = [start("-c", OPENER, tmp_path, begin) for _ in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    for i in range(40):
        assert len(Store(tmp_path / f"{i}.sqlite")) == 1


def test_threads_share_a_store(tmp_path):
    store = Store(tmp_path / "answers.sqlite")

    def write(thread: int) -> None:
        for i in range(50):
            store.put({f"{thread} {i}": Answer(text=str(i))}, model="m")
            assert store.get([f"{thread} {i}"])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert len(store) == 200


class TestManyWorkers:
    def test_whoever_holds_it_too_long_is_told_of_in_words(self, store):
        store.put({"a": Answer(text="a")}, model="m")
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        hasty = Store(store.path, patience=0.1)
        with pytest.raises(ACTError, match=r"another process has been writing to it for 0\.1 s"):
            hasty.put({"b": Answer(text="b")}, model="m")
        other.execute("COMMIT")
        other.close()
        hasty.put({"b": Answer(text="b")}, model="m")
        assert len(store) == 2
        assert pickle.loads(pickle.dumps(hasty)).patience == 0.1

    def test_eight_processes_write_at_once_and_one_is_killed(self, tmp_path):
        path = tmp_path / "store"
        code = (
            "import os, sys\n"
            "from act_hf.models.base import Answer\n"
            "from act_hf.models.store import Store\n"
            "store, worker = Store(sys.argv[1]), int(sys.argv[2])\n"
            "for batch in range(40):\n"
            "    keys = [f'{(worker % 4)}-{batch}-{i}' for i in range(16)]\n"  # each key is asked for by two workers
            "    known = store.get(keys)\n"
            "    store.put({key: Answer(text=key) for key in keys if key not in known}, model='m')\n"
            "    if worker == 7 and batch == 20:\n"
            "        store.connection.execute('BEGIN IMMEDIATE')\n"  # holds the lock when it dies
            "        os.kill(os.getpid(), 9)\n"
        )
        workers = [
            subprocess.Popen([sys.executable, "-c", code, str(path), str(worker)], env=ENVIRONMENT, stderr=-1)
            for worker in range(8)
        ]
        said = [worker.communicate()[1].decode() for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * 7 + [-9], said
        assert len(Store(path)) == 4 * 40 * 16
        with sqlite3.connect(path) as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def test_stores_of_other_machines_are_merged(self, store, tmp_path):
        store.put({"a": Answer(text="mine")}, model="m")
        for name in ("b", "c"):
            Store(tmp_path / name).put({"a": Answer(text="theirs"), name: Answer(text=name)}, model="m")
        assert store.merge(tmp_path / "b", Store(tmp_path / "c")) == 2
        assert {key: answer.text for key, answer in store.get(["a", "b", "c"]).items()} == {
            "a": "mine",
            "b": "b",
            "c": "c",
        }
        assert store.merge(tmp_path / "b") == 0

    def test_what_cannot_be_merged(self, store, tmp_path):
        with pytest.raises(ACTError, match="there is no store"):
            store.merge(tmp_path / "nothing")
        assert not (tmp_path / "nothing").exists()
        with sqlite3.connect(tmp_path / "other") as file:
            file.execute("CREATE TABLE cats (name TEXT)")
        with pytest.raises(ACTError, match="something else"):
            store.merge(tmp_path / "other")
        assert len(store) == 0
