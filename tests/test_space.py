"""The review page as a Space: every answer is in the data set on the Hub in the end, whatever happens to the Space."""

from __future__ import annotations

import json
import re
import signal
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, load_dataset
from support import hub_jobs as jobs
from support.fakes import FakeModel, by_text
from support.hub import USERS, HubServer, broken
from support.hub_client import HubClient
from support.space import APP, Space

from act_hf.columns import HUMAN, ID, RESPONSES, SELECTED
from act_hf.critics import criticize
from act_hf.errors import ACTError
from act_hf.records import stage_records
from act_hf.review.page.database import Database
from act_hf.review.page.history import add_lines, lines_after, read, written
from act_hf.review.page.on_hub import HubPage
from act_hf.review.places import Pushed, find_place, pull_review, push_review
from act_hf.sampling import sample
from act_hf.task import Task


TOKEN, READ, *_ = USERS
ROOT = APP.parents[2]


def drawn(count: int = 12, *, budget: int = 8, task: Task = jobs.TASK) -> Dataset:
    critic = FakeModel(by=by_text, name="quiet-model")
    doubted = criticize(jobs.labelled(count, task), critic, strategy="logit", store=":memory:")
    return sample(doubted, budget=budget, mix=0.5, seed=7)


def push(dataset: Dataset, where: str, **options) -> Pushed:
    from act_hf.hub.faults import hub_api

    hub_api.cache_clear()
    return push_review(dataset, where, **options)


def pull(dataset: Dataset, where: str) -> Dataset:
    return jobs.in_memory(pull_review(dataset, where))


def answers(review: str) -> list[dict]:
    """What everybody's `load_dataset` gives."""
    return list(load_dataset(review, data_files="answers/*.jsonl", split="train"))


def run_example(review: str) -> None:
    """What the how-to says of `user/tickets-review`."""
    how_to = (ROOT / "docs" / "how-to" / "hub.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", how_to, flags=re.DOTALL)
    exec(example.replace("user/tickets-review", review), {})


class Review:
    """A review on the Hub, and what a test does with it."""

    def __init__(self, hub: HubServer, client: HubClient, name: str) -> None:
        self.hub, self.client, self.id = hub, client, f"ann/{name}"

    def push(self, dataset: Dataset, **options) -> Pushed:
        return self.client(push, dataset, f"hf://{self.id}", token=TOKEN, **options)

    def pull(self, dataset: Dataset) -> Dataset:
        return self.client(pull, dataset, f"hf://{self.id}", token=TOKEN)

    def space(self, folder: Path, **more: str) -> Space:
        """A Space on it, that hands answers over when it is stopped."""
        known = {"HF_ENDPOINT": self.hub.url, "HF_TOKEN": TOKEN, "ACT_HF_REVIEW": self.id, "ACT_HF_MINUTES": "60"}
        return Space(folder, known | more)

    @property
    def kept(self) -> list[dict]:
        """The lines that the Hub has."""
        tree = self.hub.repo(self.id).tree("main")
        files = [file.data.decode() for path, file in sorted(tree.items()) if path.startswith("answers/")]
        return [json.loads(line) for text in files for line in text.splitlines()]

    def until(self, holds: Callable[[list[dict]], bool]) -> None:
        """Waits for what the Hub is given in the background; the test's own time limit is the only one."""
        while not holds(self.kept):
            time.sleep(0.1)


@pytest.fixture
def review(hub, client, request) -> Review:
    return Review(hub, client, f"review-{abs(hash(request.node.name))}")


def human(dataset: Dataset) -> dict[str, str]:
    names = dataset.features[HUMAN].names
    return {row[ID]: names[row[HUMAN]] for row in dataset if row[HUMAN] is not None}


class TestSpace:
    def test_answers_are_on_the_hub_and_a_fresh_space_sees_them(self, review, tmp_path):
        rows = drawn()
        assert review.push(rows) == Pushed(new=8)
        with review.space(tmp_path / "one", ACT_HF_MINUTES="0.005") as space:
            given = space.answer(3)
            review.until(lambda kept: len(kept) == 3)  # by itself
            given |= space.answer(1, label=2)
            space.ask("skip", row=space.ask("next")["row"]["id"], comment="unclear", seconds=2)
        assert len(review.kept) == 5  # as it was stopped
        with review.space(tmp_path / "two") as fresh:
            seen = fresh.ask("next")
            assert (seen["progress"]["answered"], seen["progress"]["skipped"], seen["progress"]["left"]) == (4, 1, 3)
            assert seen["row"]["id"] not in given
            assert fresh.ask("again")["progress"]["skipped"] == 0
            given |= fresh.answer(4, label=0)
            assert fresh.ask("next")["row"] is None
        pulled = review.pull(rows)
        assert human(pulled) == {act_id: jobs.TASK.labels[label] for act_id, label in given.items()}
        assert {answer["annotator"] for row in pulled for answer in row[RESPONSES] or ()} == {"ann"}
        assert stage_records(pulled, "review")[-1]["source"] == f"page hf://{review.id}"

    def test_what_is_on_the_hub_loads(self, review, tmp_path):
        rows = drawn()
        review.push(rows)
        with review.space(tmp_path) as space:
            given = space.answer(2)
        there = review.client(jobs.loaded, review.id, "rows", token=TOKEN)["train"]
        assert set(there[ID][:]) == {row[ID] for row in rows if row[SELECTED]}
        assert {name: rows.features[name] for name in there.column_names} == dict(there.features)
        review.client(run_example, review.id, token=TOKEN)
        lines = review.client(answers, review.id, token=TOKEN)
        assert {line["act_id"]: line["label"] for line in lines} == dict.fromkeys(given, "angry")
        assert {line["person"] for line in lines} == {"ann"}

    def test_killed_it_goes_on_from_its_disk(self, review, tmp_path):
        review.push(drawn())
        with review.space(tmp_path) as space:
            given = space.answer(3)
            space.stop(signal.SIGKILL)
        assert review.kept == []
        with review.space(tmp_path) as space:
            assert space.ask("next")["progress"]["answered"] == 3
            undone = space.ask("undo")["row"]["id"]
            assert undone in given
        assert [line["kind"] for line in review.kept] == ["label"] * 3 + ["undo"]
        with review.space(tmp_path) as space:
            assert space.ask("next")["progress"]["answered"] == 2
        assert len(review.kept) == 4  # and nothing twice

    def test_two_spaces_at_once_lose_nothing(self, review, tmp_path):
        rows = drawn()
        review.push(rows)
        with review.space(tmp_path / "one") as one, review.space(tmp_path / "two") as two:
            one.answer(4, "ann")
            two.answer(3, "bob", label=2)
        assert len(review.kept) == len({line["key"] for line in review.kept}) == 7
        assert sum(len(row[RESPONSES] or ()) for row in review.pull(rows)) == 7

    def test_a_push_that_breaks_is_made_again(self, review, tmp_path):
        review.push(drawn())
        with review.space(tmp_path, ACT_HF_MINUTES="0.005") as space:
            with broken(review.hub, 1):
                space.answer(2)
                while review.hub.log == []:
                    time.sleep(0.05)
            review.until(lambda kept: len(kept) == 2)

    def test_the_token_is_nowhere(self, review, tmp_path):
        review.push(drawn())
        with review.space(tmp_path) as space:
            space.answer(1)
        files = [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
        assert files == []
        assert not any(
            TOKEN.encode() in file.data
            for commit in review.hub.repo(review.id).commits.values()
            for file in commit.values()
        )


class TestWaves:
    def test_a_push_adds_what_is_new(self, review, tmp_path):
        first = drawn()
        assert review.push(first) == Pushed(new=8)
        commits = len(review.hub.repo(review.id).commits)
        assert review.push(first) == Pushed(new=0, there=8)
        assert len(review.hub.repo(review.id).commits) == commits
        with review.space(tmp_path / "one") as space:
            given = space.answer(8)
        reviewed = review.pull(first)
        second = sample(reviewed, budget=3, mix=1.0, wave=2)
        assert review.push(second) == Pushed(new=3)
        with review.space(tmp_path / "two") as space:
            assert space.ask("next")["progress"]["rows"] == 11
            assert not set(space.answer(3)) & set(given)
        assert len(human(review.pull(second))) == 11

    def test_pictures(self, review, tmp_path):
        from PIL import Image as Picture

        task = Task(labels=("calm", "angry", "odd"), image="photo")
        rows = Dataset.from_dict({"photo": [Picture.new("RGB", (8, 8), (9 * n, 0, 0)) for n in range(4)]})
        from act_hf.annotators import annotate

        model = FakeModel(by=by_text, name="eyes", abilities=("chat", "choose", "image"))
        labelled = annotate(rows, task, model, store=":memory:")
        review.push(sample(criticize(labelled, model, strategy="logit", store=":memory:"), budget=4))
        with review.space(tmp_path) as space:
            (part,) = space.ask("next")["row"]["parts"]
            assert part["source"].startswith("data:image/")
            space.answer(4)
        assert len(review.kept) == 4


class TestRefused:
    def test_a_public_space(self, review, tmp_path):
        review.push(drawn())
        for id, private in (("ann/open", False), ("ann/closed", True)):
            review.hub.put(id, {}, private=private, kind="spaces")
        status, said = review.space(tmp_path, SPACE_ID="ann/open").ended()
        assert status == 1
        assert said.startswith("the Space 'ann/open' is public, so everybody would read the rows and could answer")
        with review.space(tmp_path, SPACE_ID="ann/closed") as space:
            space.answer(1)
        with review.space(tmp_path, SPACE_ID="ann/open", ACT_HF_PUBLIC="yes") as space:
            space.answer(1)

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"ACT_HF_REVIEW": ""}, "set the variable ACT_HF_REVIEW to the data set with the rows"),
            ({"ACT_HF_REVIEW": "ann/nothing"}, "nothing was pushed to 'hf://ann/nothing' yet"),
            ({"ACT_HF_REVIEW": "nothing"}, "'nothing' is no address on the Hub"),
            ({"HF_TOKEN": READ}, "the token may only read; make one with write access"),
            ({"ACT_HF_PER_ROW": "0"}, "at least 1 has to answer each row"),
        ],
    )
    def test_settings(self, review, tmp_path, settings, said):
        review.push(drawn())
        status, last = review.space(tmp_path, **settings).ended()
        assert status == 1
        assert said in last

    def test_a_public_data_set(self, review):
        review.hub.put(review.id, {"README.md": b"# open\n"})
        with pytest.raises(ACTError, match="is there and public, so everybody would read what is pushed"):
            review.push(drawn())
        assert list(review.hub.repo(review.id).tree("main")) == ["README.md"]

    def test_another_task(self, review):
        review.push(drawn())
        other = Task(labels=("calm", "angry", "loud"), text="text")
        there = (
            f"the review 'hf://{review.id}' is of another task: of what differs, labels 'odd' there and 'loud' here"
        )
        with pytest.raises(ACTError, match=there):
            review.push(drawn(task=other))
        with pytest.raises(ACTError, match="nobody has answered"):
            review.pull(drawn())

    def test_nothing_there(self, review):
        with pytest.raises(ACTError, match=r"nothing was pushed to .* yet: act-hf review push DATASET hf://ann/"):
            review.pull(drawn())

    def test_a_line_that_somebody_changed(self, review, tmp_path):
        review.push(drawn())
        with review.space(tmp_path) as space:
            space.answer(1)
        review.hub.put(review.id, {"answers/by-hand.jsonl": b'{"label": 1}\n'})
        with pytest.raises(ACTError, match=r"line 1 of 'answers/by-hand\.jsonl' of .* is no answer: it was changed"):
            review.pull(drawn())

    def test_answers_for_rows_that_are_gone_are_told(self, review, tmp_path):
        review.push(drawn())
        with review.space(tmp_path) as space:
            space.answer(1)
        (known,) = review.kept
        gone = {**known, "key": "of another row", "act_id": "0" * 16}
        review.hub.put(review.id, {"answers/earlier.jsonl": written([gone]).encode()})
        told = stage_records(review.pull(drawn()), "review")[-1]
        assert told["responses"] == 1
        assert told["left"] == [f"1 answers, skips and undos for rows that are not in hf://{review.id} any more"]


class TestPlace:
    def test_it_is_found_by_its_address(self):
        place = find_place("hf://ann/review")
        assert isinstance(place, HubPage)
        assert place.name == "page hf://ann/review"
        assert place.how == "answer in a Space with ACT_HF_REVIEW=ann/review"

    def test_it_has_no_configurations(self):
        with pytest.raises(ACTError, match="a review has no configurations; leave out :small"):
            find_place("hf://ann/review:small")


def event(**changes) -> dict:
    known = {"key": "k", "act_id": "a", "person": "ann", "kind": "label", "label": "calm", "at": "2026-01-01T00:00"}
    return {**known, "comment": None, "seconds": 1.5, **changes}


class TestHistory:
    def test_lines_come_back(self):
        lines = [event(comment="one\ntwo \u2028 three"), event(key="l", kind="skip", label=None, seconds=None)]
        assert read(written(lines), "here") == lines

    @pytest.mark.parametrize(
        "text",
        [
            "no json",
            "[]",
            json.dumps(event(kind="other")),
            json.dumps(event(label=None)),
            json.dumps(event(kind="skip")),
            json.dumps(event(label=1)),
            json.dumps(event(seconds="1")),
            json.dumps({name: value for name, value in event().items() if name != "person"}),
        ],
    )
    def test_what_is_none(self, text):
        with pytest.raises(ACTError, match="line 2 of here is no answer"):
            read(written([event()]) + text, "here")

    def test_in_any_order_and_twice(self, tmp_path):
        rows = drawn()
        push_review(rows, tmp_path / "review.sqlite")
        one = next(row[ID] for row in rows if row[SELECTED])
        database = Database(tmp_path / "review.sqlite")
        later = event(key="b", act_id=one, label="odd", at="2026-01-02T00:00")
        lines = [later, event(key="a", act_id=one), event(key="c", act_id="unknown")]
        assert add_lines(database, lines) == 1
        assert add_lines(database, lines) == 1
        assert [line["key"] for line in lines_after(database, 0)[0]] == ["a", "b"]
        assert lines_after(database, 2) == ([], 2)
        database.close()
        assert human(pull_review(rows, tmp_path / "review.sqlite")) == {one: "odd"}


class TestFolder:
    """What is pushed as a Space."""

    def test_its_head(self):
        head = yaml.safe_load((APP.parent / "README.md").read_text(encoding="utf-8").split("---")[1])
        assert head["sdk"] == "gradio"
        assert (APP.parent / head["app_file"]).exists()
        assert f"gradio>={head['sdk_version'].rpartition('.')[0]}" in self.needed()

    def test_it_installs_what_act_hf_needs_for_the_page(self):
        lines = (APP.parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if not line.startswith("#")] == self.needed()

    def needed(self) -> list[str]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return [*project["dependencies"], *project["optional-dependencies"]["page"]]

    def test_its_settings_are_those_of_the_app(self):
        read_me, app = (APP.parent / "README.md").read_text(), APP.read_text()
        for name in ("ACT_HF_REVIEW", "ACT_HF_PER_ROW", "ACT_HF_MINUTES", "ACT_HF_PUBLIC"):
            assert f"`{name}`" in read_me
            assert name in app
