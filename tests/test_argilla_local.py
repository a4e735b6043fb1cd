"""A real Argilla server on this machine: what its search answers, what its page does, what it says of faults."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import argilla as rg
import pytest
import requests
from support.argilla_server import ENVIRONMENT, local_argilla, require_argilla, served
from support.argilla_ui import annotating
from support.command import act_hf, refused

from act_hf.errors import ACTError
from act_hf.review.argilla_local import LocalArgilla, setup
from act_hf.review.argilla_local.data import DataFolder


TEXTS = [
    "The tea was excellent.",
    "A dull film, and a long one.",
    "Ein Café in Zürich, 100% gut",
    "nothing to say about_it",
    "An excellent film about tea",
]
ERROR_PROBS = [0.1, 0.9, None, 0.5, 0.7]
SOURCES = ["shop", "cinema", "shop", "web", "cinema"]
SCORES = [0.9, 0.1, 0.8, None, 0.3]


def client(server):
    return rg.Argilla(api_url=server.url, api_key=server.owner_key)


def made(server, *, min_submitted=1, further=()):
    """A data set with the rows above, whose ids are 0, 1, ..."""
    connection = client(server)  # first: the SDK's fields ask for the newest one
    settings = rg.Settings(
        fields=[rg.TextField(name="text")],
        questions=[rg.LabelQuestion(name="label", labels=["good", "bad"]), *further],
        metadata=[rg.FloatMetadataProperty(name="error_prob"), rg.TermsMetadataProperty(name="source")],
        distribution=rg.TaskDistribution(min_submitted=min_submitted),
    )
    name = f"set-{secrets.token_hex(4)}"
    dataset = rg.Dataset(name=name, workspace=server.workspace, settings=settings, client=connection).create()
    dataset.records.log(
        [
            rg.Record(
                id=str(index),
                fields={"text": text},
                metadata={"source": source} | ({} if error_prob is None else {"error_prob": error_prob}),
                suggestions=[rg.Suggestion("label", "good" if index % 2 else "bad", score=score, agent="model")],
            )
            for index, (text, error_prob, source, score) in enumerate(
                zip(TEXTS, ERROR_PROBS, SOURCES, SCORES, strict=True)
            )
        ]
    )
    return dataset


def ask(server, method, path, *, key=None, **given):
    header = {"X-Argilla-Api-Key": key or server.owner_key}
    return requests.request(method, f"{server.url}/api/v1/{path}", headers=header, timeout=60, **given)


def found(server, dataset, *, key=None, offset=0, limit=50, **body):
    """The ids of the records that fit, in order; they are all there are unless fewer were asked for."""
    whose = "me/" if key else ""
    page = f"offset={offset}&limit={limit}"
    answer = ask(server, "POST", f"{whose}datasets/{dataset.id}/records/search?{page}", key=key, json=body)
    assert answer.status_code == 200, answer.text
    ids = [item["record"]["external_id"] for item in answer.json()["items"]]
    assert answer.json()["total"] == len(ids) or limit < len(TEXTS)
    return ids


def respond(server, dataset, index, name, status, label="good"):
    (record,) = [record for record in dataset.records if record.id == str(index)]
    body = {"values": {"label": {"value": label}}, "status": status}
    answer = ask(server, "POST", f"records/{record._server_id}/responses", key=server.annotators[name], json=body)
    assert answer.status_code == 201, answer.text


def by(entity, order, **scope):
    return [{"scope": {"entity": entity, **scope}, "order": order}]


def where(*filters):
    return {"and": [{"scope": {"entity": entity, **scope}, **rest} for entity, scope, rest in filters]}


def terms(*values):
    return {"type": "terms", "values": list(values)}


def between(**ends):
    return {"type": "range", **ends}


@pytest.fixture(scope="module")
def rows(argilla_server):
    """A data set that no test changes."""
    return made(argilla_server)


class TestSearch:
    """What the stand-in finds, by the requests that the SDK and the page make."""

    def test_the_sdk_lists_all_records_with_what_was_logged(self, rows):
        records = list(rows.records(with_suggestions=True))
        assert [record.id for record in records] == ["0", "1", "2", "3", "4"]
        assert [record.suggestions["label"].score for record in records] == SCORES

    @pytest.mark.parametrize(
        ("sort", "ids"),
        [
            (by("metadata", "desc", metadata_property="error_prob"), "14302"),
            (by("metadata", "asc", metadata_property="error_prob"), "03412"),
            (by("metadata", "asc", metadata_property="source"), "14023"),
            (by("suggestion", "desc", question="label", property="score"), "02413"),
            (by("suggestion", "asc", question="label", property="score"), "14203"),
            (by("suggestion", "asc", question="label", property="value"), "02413"),
            (by("record", "asc", property="inserted_at"), "01234"),
            (by("record", "desc", property="external_id"), "43210"),
            (
                by("metadata", "desc", metadata_property="source") + by("record", "desc", property="external_id"),
                "32041",
            ),
        ],
    )
    def test_it_sorts_and_what_has_no_value_comes_last(self, argilla_server, rows, sort, ids):
        assert found(argilla_server, rows, sort=sort) == list(ids)
        name = next(iter(argilla_server.annotators))
        assert found(argilla_server, rows, sort=sort, key=argilla_server.annotators[name]) == list(ids)

    @pytest.mark.parametrize(
        ("filters", "ids"),
        [
            ([("metadata", {"metadata_property": "error_prob"}, between(ge=0.5))], "134"),
            ([("metadata", {"metadata_property": "error_prob"}, between(ge=0.5, le=0.7))], "34"),
            ([("metadata", {"metadata_property": "error_prob"}, between(le=0.5))], "03"),
            ([("metadata", {"metadata_property": "source"}, terms("shop", "web"))], "023"),
            ([("suggestion", {"question": "label", "property": "score"}, between(le=0.3))], "14"),
            ([("suggestion", {"question": "label", "property": "value"}, terms("good"))], "13"),
            ([("suggestion", {"question": "label", "property": "agent"}, terms("model"))], "01234"),
            ([("suggestion", {"question": "label", "property": "agent"}, terms("another"))], ""),
            ([("record", {"property": "external_id"}, terms("1", "7"))], "1"),
            ([("record", {"property": "status"}, terms("pending"))], "01234"),
            ([("record", {"property": "status"}, terms("completed"))], ""),
            ([("record", {"property": "inserted_at"}, between(ge="2020-01-01T00:00:00Z"))], "01234"),
            ([("record", {"property": "inserted_at"}, between(le="2020-01-01T00:00:00+01:00"))], ""),
            (
                [
                    ("metadata", {"metadata_property": "source"}, terms("shop")),
                    ("metadata", {"metadata_property": "error_prob"}, between(ge=0)),
                ],
                "0",
            ),
        ],
    )
    def test_it_filters(self, argilla_server, rows, filters, ids):
        order = by("record", "asc", property="external_id")
        assert found(argilla_server, rows, filters=where(*filters), sort=order) == list(ids)

    @pytest.mark.parametrize(
        ("text", "ids"),
        [
            ("excellent", "04"),
            ("EXCELLENT tea", "04"),
            ("film tea", "4"),
            ('"dull film"', "1"),
            ('"film dull"', ""),
            ("zürich café", "2"),
            ("100%", "2"),
            ("%", "2"),
            ("about_it", "3"),
            ("'; drop table records; --", ""),
        ],
    )
    def test_it_finds_words(self, argilla_server, rows, text, ids):
        order = by("record", "asc", property="external_id")
        for query in ({"q": text}, {"q": text, "field": "text"}):
            assert found(argilla_server, rows, query={"text": query}, sort=order) == list(ids)

    def test_pages_make_up_the_whole_without_a_sort_too(self, argilla_server, rows):
        for key in argilla_server.annotators.values():
            pages = [found(argilla_server, rows, key=key, offset=start, limit=2) for start in (0, 2, 4)]
            assert [len(page) for page in pages] == [2, 2, 1]
            ids = [one for page in pages for one in page]
            assert ids == found(argilla_server, rows, key=key)
            assert sorted(ids) == ["0", "1", "2", "3", "4"]

    def test_the_range_and_the_terms_of_metadata_are_there_for_the_page(self, argilla_server, rows):
        properties = ask(argilla_server, "GET", f"me/datasets/{rows.id}/metadata-properties").json()["items"]
        metrics = {
            one["name"]: ask(argilla_server, "GET", f"metadata-properties/{one['id']}/metrics").json()
            for one in properties
        }
        assert metrics["error_prob"] == {"type": "float", "min": 0.1, "max": 0.9}
        assert metrics["source"]["total"] == 5
        assert {one["term"]: one["count"] for one in metrics["source"]["values"]} == {"shop": 2, "cinema": 2, "web": 1}

    def test_a_search_by_vectors_is_refused_in_words(self, argilla_server):
        connection = client(argilla_server)
        settings = rg.Settings(
            fields=[rg.TextField(name="text")],
            questions=[rg.LabelQuestion(name="label", labels=["good", "bad"])],
            vectors=[rg.VectorField(name="embedding", dimensions=2)],
        )
        name = f"set-{secrets.token_hex(4)}"
        dataset = rg.Dataset(name=name, workspace=argilla_server.workspace, settings=settings, client=connection)
        dataset.create()
        dataset.records.log([rg.Record(id="0", fields={"text": "tea"}, vectors={"embedding": [0.0, 1.0]})])
        body = {"query": {"vector": {"name": "embedding", "value": [0.5, 0.5]}}}
        answer = ask(argilla_server, "POST", f"datasets/{dataset.id}/records/search", json=body)
        if os.environ.get("ARGILLA_API_URL"):
            assert answer.status_code == 200  # a deployment has a search engine
        else:
            assert answer.status_code == 422
            assert "search by vectors" in answer.text


class TestQueue:
    """Who still has to answer what, and when a record is done."""

    def test_an_answer_leaves_the_queue_of_its_author_alone(self, argilla_server):
        dataset = made(argilla_server, min_submitted=2)
        ann, ben = argilla_server.annotators
        respond(argilla_server, dataset, 0, ann, "submitted")
        respond(argilla_server, dataset, 1, ann, "draft")
        respond(argilla_server, dataset, 2, ann, "discarded")
        queues = {
            (name, status): "".join(
                found(
                    argilla_server,
                    dataset,
                    key=argilla_server.annotators[name],
                    filters=where(("response", {"property": "status"}, terms(*status.split()))),
                    sort=by("record", "asc", property="external_id"),
                )
            )
            for name in (ann, ben)
            for status in ("pending", "submitted", "draft", "discarded", "pending draft")
        }
        assert [queues[ann, one] for one in ("pending", "submitted", "draft", "discarded")] == ["34", "0", "1", "2"]
        assert queues[ann, "pending draft"] == "134"
        assert queues[ben, "pending"] == queues[ben, "pending draft"] == "01234"
        assert queues[ben, "submitted"] == queues[ben, "draft"] == queues[ben, "discarded"] == ""

    def test_a_record_is_done_when_enough_people_answered(self, argilla_server):
        dataset = made(argilla_server, min_submitted=2)
        ann, ben = argilla_server.annotators
        respond(argilla_server, dataset, 0, ann, "submitted", "good")
        respond(argilla_server, dataset, 1, ann, "submitted", "bad")
        assert dataset.progress() == {"total": 5, "completed": 0, "pending": 5}
        respond(argilla_server, dataset, 0, ben, "submitted", "bad")
        assert dataset.progress() == {"total": 5, "completed": 1, "pending": 4}
        done = where(("record", {"property": "status"}, terms("completed")))
        assert found(argilla_server, dataset, filters=done) == ["0"]

    def test_the_progress_of_each_person_counts_their_own(self, argilla_server):
        dataset = made(argilla_server)
        ann, ben = argilla_server.annotators
        for index, status in enumerate(("submitted", "submitted", "draft", "discarded")):
            respond(argilla_server, dataset, index, ann, status)
        counts = {
            name: ask(argilla_server, "GET", f"me/datasets/{dataset.id}/metrics", key=key).json()["responses"]
            for name, key in argilla_server.annotators.items()
        }
        assert counts[ann] == {"total": 5, "submitted": 2, "draft": 1, "discarded": 1, "pending": 1}
        assert counts[ben] == {"total": 5, "submitted": 0, "draft": 0, "discarded": 0, "pending": 5}

    def test_records_are_found_by_what_was_answered(self, argilla_server):
        dataset = made(argilla_server)
        ann, ben = argilla_server.annotators
        respond(argilla_server, dataset, 3, ann, "submitted", "bad")
        respond(argilla_server, dataset, 4, ben, "submitted", "good")
        bad = where(("response", {"question": "label"}, terms("bad")))
        assert found(argilla_server, dataset, filters=bad) == ["3"]
        assert found(argilla_server, dataset, filters=bad, key=argilla_server.annotators[ben]) == []
        submitted = rg.Query(filter=("response.status", "==", "submitted"))
        assert [record.id for record in dataset.records(submitted)] == ["3", "4"]


class TestPage:
    """Argilla's own page in a browser, on the stand-in."""

    def test_the_most_doubtful_record_comes_first_and_a_key_answers_it(self, argilla_server):
        dataset = made(argilla_server)
        person = next(person for person in argilla_server.people if person.role == "annotator")
        with annotating(argilla_server.url, person) as page:
            page.open(dataset.id, sort="metadata.error_prob.desc")
            assert page.fields() == [TEXTS[1]]
            assert page.labels() == ["good", "bad"]
            assert page.suggestion() == ("good", 0.1)
            page.answer("2")  # with one question, the key submits
            assert page.fields() == [TEXTS[4]]
            page.answer("Enter")  # what is suggested
            assert page.fields() == [TEXTS[3]]
        assert answers(dataset) == {"1": ("bad", "submitted"), "4": ("bad", "submitted")}

    def test_with_several_questions_enter_submits(self, argilla_server):
        dataset = made(argilla_server, further=[rg.TextQuestion(name="why", required=False)])
        person = next(person for person in argilla_server.people if person.role == "annotator")
        with annotating(argilla_server.url, person) as page:
            page.open(dataset.id, sort="metadata.error_prob.desc")
            page.answer("2", "Enter")
            assert page.fields() == [TEXTS[4]]
        assert answers(dataset) == {"1": ("bad", "submitted")}

    def test_it_asks_nobody_but_the_server(self, argilla_server):
        if os.environ.get("ARGILLA_API_URL"):
            pytest.skip("a deployment's page is not ours")
        person = next(person for person in argilla_server.people if person.role == "owner")
        with annotating(argilla_server.url, person) as page:
            page.open(made(argilla_server).id)
            assert [address for address in page.asked if not address.startswith(argilla_server.url)] == []
            assert len(page.asked) > 10


def answers(dataset):
    return {
        record.id: (response.value, response.status.value)
        for record in dataset.records(with_responses=True)
        for response in record.responses
    }


class TestHandle:
    """Starting, stopping and what may go wrong. Each of these has a server of its own."""

    def test_after_kill_9_the_same_folder_and_port_have_everything_again(self, tmp_path):
        with local_argilla(tmp_path / "home") as server:
            dataset = made(server)
            respond(server, dataset, 0, "ann", "submitted")
            before = (server.url, server.owner_key, server.annotators, [record.id for record in dataset.records])
            process = server.process
            server.kill()
            assert process.returncode == -signal.SIGKILL
            with pytest.raises(requests.ConnectionError):
                ask(server, "GET", "version")
            server.start()
            dataset = client(server).datasets(dataset.name, workspace=server.workspace)
            assert before == (
                server.url,
                server.owner_key,
                server.annotators,
                [record.id for record in dataset.records],
            )
            assert dataset.progress()["completed"] == 1
            assert found(server, dataset, sort=by("metadata", "desc", metadata_property="error_prob"))[0] == "1"

    def test_what_opens_it_is_in_one_file_for_its_owner_alone(self, tmp_path):
        with local_argilla(tmp_path / "home") as server:
            made(server)
            assert server.data.accounts.stat().st_mode & 0o777 == 0o600
            assert server.data.path.stat().st_mode & 0o777 == 0o700
            said = server.data.log.read_text() + repr(server.data.people())
            said += Path(f"/proc/{server.process.pid}/cmdline").read_text()
            said += Path(f"/proc/{server.process.pid}/environ").read_text()
            for person in server.data.people():
                assert person.password not in said
                assert person.api_key not in said
                signed = {"username": person.username, "password": person.password}
                assert requests.post(f"{server.url}/api/v1/token", data=signed, timeout=60).status_code == 201
                assert ask(server, "GET", "me", key=person.api_key).json()["role"] == person.role

    def test_nothing_of_our_environment_reaches_the_server(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("ARGILLA_DATABASE_URL", "sqlite+aiosqlite:////nowhere/else.db")
        with local_argilla(tmp_path / "home") as server:
            assert "hf_secret" not in Path(f"/proc/{server.process.pid}/environ").read_text()
            assert (server.data.path / "argilla.db").exists()

    def test_a_second_server_on_the_folder_is_refused_and_the_first_goes_on(self, tmp_path):
        with local_argilla(tmp_path / "home") as server:
            made(server)
            with pytest.raises(ACTError, match=rf"is in use by the server at {server.url} \(process \d+\); stop"):
                local_argilla(tmp_path / "home").start()
            assert len(client(server).datasets) == 1

    def test_a_port_in_use_is_refused_and_the_folder_is_free_again(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ACTError, match=rf"cannot listen on port {port} of 127.0.0.1: .*in use"):
                local_argilla(tmp_path / "home", port=port).start()
        with local_argilla(tmp_path / "home", port=port) as server:
            assert ask(server, "GET", "version").json() == {"version": "2.8.0"}

    def test_a_server_that_cannot_start_shows_the_end_of_its_log(self, tmp_path):
        server = local_argilla(tmp_path / "home")
        with server:
            pass
        database = server.data.path / "argilla.db"
        kept = database.read_bytes()
        database.write_bytes(b"not a database" * 100)
        with pytest.raises(
            ACTError, match=r"ended with status 1; its log, .*server.log', ends with:\n(.*\n)+.*database"
        ):
            server.start()
        assert server.process is None
        database.write_bytes(kept)
        with server:
            assert ask(server, "GET", "me").json()["username"] == "owner"

    def test_new_accounts_replace_those_in_the_database(self, tmp_path):
        server = local_argilla(tmp_path / "home")
        with server:
            old = server.owner_key
        server.data.accounts.write_text("{")
        with pytest.raises(ACTError, match=r"accounts.json' is damaged; remove it"):
            server.start()
        server.data.accounts.unlink()
        with server:
            assert server.owner_key != old
            assert ask(server, "GET", "me", key=old).status_code == 401
            assert ask(server, "GET", "me").json()["username"] == "owner"

    def test_a_failure_with_the_accounts_shows_none_of_their_secrets(self, tmp_path):
        server = local_argilla(tmp_path / "home")
        with server:
            pass
        server.data.accounts.unlink()
        with contextlib.closing(sqlite3.connect(server.data.path / "argilla.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # nobody else can write
            with pytest.raises(ACTError, match="database is locked") as raised:
                server.start()
        said = str(raised.value) + server.data.log.read_text()
        assert "UPDATE users" in said
        assert not any(one.api_key in said or one.password in said for one in server.data.people())

    def test_the_server_ends_with_whoever_started_it(self, tmp_path):
        require_argilla()
        script = (
            "import os, sys\n"
            "from act_hf.review.argilla_local import LocalArgilla\n"
            "server = LocalArgilla(sys.argv[1], environment=sys.argv[2]).start()\n"
            "print(server.url, flush=True)\n"
            "os.kill(os.getpid(), 9)\n"
        )
        command = [sys.executable, "-c", script, tmp_path / "home", ENVIRONMENT]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        assert ended.returncode == -signal.SIGKILL
        assert free(tmp_path / "home")
        with pytest.raises(requests.ConnectionError):
            requests.get(ended.stdout.strip(), timeout=60)

    def test_jobs_run(self, tmp_path):
        with local_argilla(tmp_path / "home") as server, receiver() as (address, received):
            body = {"url": address, "events": ["dataset.created"], "description": "a test"}
            assert ask(server, "POST", "webhooks", json=body).status_code == 201
            dataset = made(server)
            deadline = time.monotonic() + 60
            while not received and time.monotonic() < deadline:
                time.sleep(0.05)
            assert received[0]["data"]["name"] == dataset.name


def free(home):
    """Whether no process holds the folder any more, in time for a busy machine."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(ACTError), DataFolder(home).claim():
            return True
        time.sleep(0.1)
    return False


@contextlib.contextmanager
def receiver():
    """A server that takes what is posted to it."""
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


class TestWithoutAServer:
    """Mistakes that are found before anything is started."""

    def test_a_folder_with_something_else_in_it_is_left_alone(self, tmp_path):
        (tmp_path / "tmp").mkdir()
        (tmp_path / "tmp" / "thesis.txt").write_text("two years of work")
        mode = tmp_path.stat().st_mode
        with pytest.raises(ACTError, match="holds something else; give a --home that is empty or not there yet"):
            DataFolder(tmp_path).claim()
        assert tmp_path.stat().st_mode == mode
        assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["tmp", "tmp/thesis.txt"]

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ACTError, match=r"cannot use .*file/home' as the data folder"):
            DataFolder(tmp_path / "file" / "home").claim()

    def test_keys_before_the_first_start(self, tmp_path):
        with pytest.raises(ACTError, match=r"no server was started on .* yet"):
            _ = LocalArgilla(tmp_path / "home").owner_key
        assert not (tmp_path / "home").exists()

    def test_an_environment_that_is_not_there(self, tmp_path):
        with pytest.raises(ACTError, match=r"is not installed in .*; install it with: act-hf review argilla --setup"):
            LocalArgilla(tmp_path / "home", environment=tmp_path / "none").start()
        assert not (tmp_path / "home").exists()

    def test_a_system_without_its_locks_is_told_which_have_them(self, tmp_path):
        """In a process of its own: Windows has no fcntl to import."""
        program = (
            "import sys; sys.modules['fcntl'] = None\n"
            "from act_hf.review.argilla_local import LocalArgilla, setup\n"
            "from act_hf.review.argilla_local.data import DataFolder\n"
            "from pathlib import Path\n"
            "for start in (lambda: setup(print), DataFolder(Path(sys.argv[1])).claim):\n"
            "    try: start()\n"
            "    except Exception as error: print(type(error).__name__, error)\n"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "home")]
        kept = os.environ | {"ACT_HF_HOME": str(tmp_path)}
        said = subprocess.run(command, env=kept, capture_output=True, text=True, check=True).stdout
        assert said.count("ACTError the local Argilla server needs Linux or macOS; elsewhere use docs/") == 2

    def test_an_unknown_engine(self, tmp_path):
        with pytest.raises(ACTError, match="engine 'solr' is none of sql, opensearch"):
            LocalArgilla(tmp_path / "home", engine="solr")

    def test_an_installation_that_fails_says_why_and_leaves_nothing(self, tmp_path, monkeypatch):
        for name, value in {"ACT_HF_HOME": tmp_path, "PIP_NO_INDEX": 1, "PIP_CONFIG_FILE": os.devnull}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        said = []
        with pytest.raises(
            ACTError, match=r"cannot install the Argilla server; the last that pip said:(.*\n)+.*argilla-server==2.8.0"
        ):
            setup(said.append)
        assert len(said) == 1
        assert "580 MB" in said[0]
        assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


class TestCommand:
    """`act-hf review argilla`."""

    def test_it_has_to_be_told_what_to_do(self):
        assert "give --local to start a server on this machine, or --setup" in refused("review", "argilla")

    def test_it_serves_until_ctrl_c_and_shows_no_secret(self, tmp_path):
        require_argilla()
        command = [
            sys.executable,
            "-m",
            "act_hf.cli",
            "review",
            "argilla",
            "--local",
            "--port",
            "0",
            "--home",
            tmp_path,
        ]
        kept = os.environ | {"ACT_HF_HOME": str(ENVIRONMENT.parent)}
        with subprocess.Popen(command, env=kept, stdout=subprocess.PIPE, text=True) as process:
            said = "".join(iter(process.stdout.readline, "  docker compose -f docs/argilla-compose.yml up -d\n"))
            url = said.partition("Argilla is ready: ")[2].split()[0]
            assert requests.get(f"{url}/api/v1/version", timeout=60).json() == {"version": "2.8.0"}
            people = DataFolder(tmp_path).people()
            process.send_signal(signal.SIGINT)
            said += process.stdout.read()
        assert process.returncode == 0
        assert "sign in as         owner, ann, ben" in said
        assert f"{tmp_path}/accounts.json (only you can read it)" in said
        assert "its search is substituted by the SQL database" in said
        assert said.endswith("stopped; the same command goes on with the same data\n")
        assert not any(secret in said for person in people for secret in (person.password, person.api_key))
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=60)

    def test_setup_where_it_is_installed_says_where(self, monkeypatch):
        require_argilla()
        monkeypatch.setenv("ACT_HF_HOME", str(ENVIRONMENT.parent))
        assert act_hf("review", "argilla", "--setup").out == f"the Argilla server is installed in {ENVIRONMENT}\n"


class TestSupport:
    """What the tests are given."""

    def test_a_deployment_gets_people_of_its_own_and_is_left_as_it_was(self, argilla_server, monkeypatch, tmp_path):
        monkeypatch.setenv("ARGILLA_API_URL", argilla_server.url)
        monkeypatch.setenv("ARGILLA_API_KEY", argilla_server.owner_key)
        before = [ask(argilla_server, "GET", what).json() for what in ("users", "workspaces", "me/datasets")]
        with served(tmp_path) as server:
            dataset = made(server)
            respond(server, dataset, 0, next(iter(server.annotators)), "submitted")
            assert len(server.annotators) == 2
        after = [ask(argilla_server, "GET", what).json() for what in ("users", "workspaces", "me/datasets")]
        assert after == before


class TestOwnSearch:
    """Argilla's own search client, on an in-memory OpenSearch: the stand-in is not better than the real one."""

    def test_it_finds_what_the_stand_in_finds(self, tmp_path):
        require_argilla()
        server = LocalArgilla(tmp_path / "home", engine="opensearch", environment=ENVIRONMENT)
        try:
            server.start()
        except ACTError as error:
            if "engine 'opensearch' needs" not in str(error):
                raise
            pytest.skip(str(error))  # optional in CI too
        with contextlib.closing(contextlib.ExitStack()) as stack:
            stack.callback(server.stop)
            dataset = made(server)
            sort = by("metadata", "desc", metadata_property="error_prob")
            doubtful = where(("metadata", {"metadata_property": "error_prob"}, between(ge=0.5)))
            assert found(server, dataset, sort=sort) == list("14302")
            assert found(server, dataset, sort=sort, filters=doubtful) == list("143")
            assert found(server, dataset, query={"text": {"q": "excellent"}}, sort=sort) == list("40")
            server.kill()
            server.start()  # the index was in memory; it is made again
            assert found(server, dataset, sort=sort) == list("14302")
