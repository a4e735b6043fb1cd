"""Trained models on the Hub, and `act-hf` with addresses on it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from support import hub_jobs as jobs
from support.hub import USERS, broken
from support.weights import save_tiny_bert

from act_hf.classifier import train_classifier
from act_hf.errors import ACTError
from act_hf.hub.address import Address
from act_hf.hub.merging import read_metadata
from act_hf.hub.model_card import model_metadata, model_section
from act_hf.hub.models import push_model
from act_hf.trained import FACTS, read_facts


WRITE, READ, BOB, FINE = USERS
BY_HAND = b"""---
license: mit
model-index:
- name: theirs
  results:
  - task:
      type: text-classification
    dataset:
      name: other
      type: a/other
    metrics:
    - type: f1
      value: 0.5
---
# Mine

By hand.
"""

ABOUT = {
    "base": "minilm",
    "mode": "act",
    "rows": 400,
    "human": 100,
    "labels": ["a", "<b>"],
    "text": "text",
    "records": [
        {"stage": "review", "simulated": True},
        {"stage": "annotate", "model": "[x](y)", "strategy": "cot"},
    ],
    "evaluations": [{"dataset": "ann/test", "on_hub": True, "split": "test", "value": 0.9, "rows": 200}],
    "versions": {"act_hf": "0"},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return str(save_tiny_bert(tmp_path_factory.mktemp("base") / "tiny-bert"))


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny) -> Path:
    """Trained on rows that people reviewed, with what a training leaves beside the model."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    train_classifier(jobs.reviewed(), tiny, folder, num_train_epochs=1, disable_tqdm=True)
    (folder / "checkpoint-1").mkdir()
    (folder / "checkpoint-1" / "model.safetensors").write_bytes(b"old")
    (folder / "runs").mkdir()
    (folder / "runs" / "events").write_bytes(b"")
    (folder / ".cache").write_bytes(b"")
    return folder


def push(folder: Path, target: str, **options) -> str:
    jobs.hub_api.cache_clear()
    return push_model(folder, target, **options)


def says_of(id: str, texts: list[str]) -> list[str]:
    from transformers import pipeline

    return [one["label"] for one in pipeline("text-classification", model=id)(texts)]


def files(hub, id, kind="models") -> dict[str, bytes]:
    return {path: file.data for path, file in hub.repo(id, kind).tree("main").items()}


class TestFacts:
    def test_they_are_kept_with_the_model(self, model):
        facts = read_facts(model)
        assert facts["base"] == "tiny-bert"  # and not the folder it lies in
        assert (facts["mode"], facts["seed"], facts["rows"], facts["human"]) == ("act", 0, 12, 6)
        assert facts["labels"] == ["calm", "angry", "odd"]
        assert [record["stage"] for record in facts["records"]] == ["annotate", "criticize", "sample", "review"]
        assert facts["records"][-1]["annotators"] == 3
        assert "example.org" not in (model / FACTS).read_text()

    @pytest.mark.parametrize("content", ["{", "[1]"])
    def test_a_broken_file(self, tmp_path, content):
        assert read_facts(tmp_path) is None
        (tmp_path / FACTS).write_text(content)
        with pytest.raises(ACTError, match=f"{FACTS}' cannot be read: "):
            read_facts(tmp_path)


class TestPushed:
    def test_it_loads_and_says_what_it_is(self, hub, client, model):
        page = client(push, model, "hf://ann/model", dataset="hf://ann/rows:act", token=WRITE)
        assert page.endswith("/ann/model")
        assert set(client(says_of, "ann/model", ["a", "b"], token=WRITE)) <= {"calm", "angry", "odd"}
        held = files(hub, "ann/model")
        assert {"config.json", "model.safetensors", "README.md", FACTS} <= set(held)
        assert not [path for path in held if re.search(r"training_args|checkpoint|runs|^\.cache", path)]
        assert hub.repo("ann/model", "models").private
        metadata = read_metadata(held["README.md"].decode(), "x")
        assert metadata["datasets"] == ["ann/rows"]
        assert metadata["pipeline_tag"] == "text-classification"
        assert "model-index" not in metadata
        assert "[ann/rows](https://huggingface.co/datasets/ann/rows)" in held["README.md"].decode()

    def test_lines_of_others_stay_and_old_weights_go(self, hub, client, model):
        old = {
            "README.md": BY_HAND,
            "pytorch_model.bin": b"old",
            "model-00001-of-00002.safetensors": b"old",
            "x": b"1",
        }
        hub.put("ann/mine", {**old, "config.json": b"{}"}, private=True, kind="models")
        for _ in range(2):
            client(push, model, "hf://ann/mine", overwrite=True, token=WRITE)
            held = files(hub, "ann/mine")
            rest = iter(held["README.md"].decode().splitlines())
            assert all(line in rest for line in BY_HAND.decode().splitlines())
            assert [path for path in held if path.endswith((".safetensors", ".bin"))] == ["model.safetensors"]
            assert held["x"] == b"1"
        assert held["README.md"].decode().count("<!-- act_hf: begin model") == 1

    def test_as_a_pull_request(self, hub, client, model):
        hub.put("ann/asked", {"config.json": b"{}"}, private=True, kind="models")
        page = client(push, model, "hf://ann/asked", create_pr=True, token=WRITE)
        assert page.endswith("/ann/asked/discussions/1")
        assert set(files(hub, "ann/asked")) == {"config.json"}
        assert "model.safetensors" in hub.repo("ann/asked", "models").tree("refs/pr/1")

    def test_interrupted_at_every_request(self, hub, client, model):
        at = 0
        while True:
            at += 1
            hub.objects.clear()
            with broken(hub, at):
                said = client(tried, model, f"hf://ann/half{at}", token=WRITE)
            if len(hub.log) < at:
                break
            repo = hub.repos.get(("models", f"ann/half{at}"))
            there = set() if repo is None else set(repo.tree("main")) - {".gitattributes"}
            assert ({"config.json", "model.safetensors", "README.md"} <= there) if said is None else not there
            client(push, model, f"hf://ann/half{at}", overwrite=True, token=WRITE)
        assert at > 12

    @pytest.mark.parametrize(
        ("target", "options", "token", "says"),
        [
            ("hf://ann/no", {}, None, "there is no token"),
            ("hf://ann/no", {}, READ, "the token may only read"),
            ("hf://ann/no", {}, BOB, "the token is that of 'bob'"),
            ("hf://ann/no", {}, FINE, "the token may not write there"),
            ("hf://ann/no:config", {}, WRITE, "a model has no configurations; leave out :config"),
            ("hf://ann/taken", {}, WRITE, "'hf://ann/taken' exists; give another name, or --overwrite"),
            ("hf://ann/taken", {"overwrite": True, "private": False}, WRITE, "is there and private"),
        ],
    )
    def test_refused(self, hub, client, model, target, options, token, says):
        hub.put("ann/taken", {"config.json": b"{}"}, private=True, kind="models")
        before = set(hub.repos), files(hub, "ann/taken")
        with pytest.raises(ACTError, match=says):
            client(push, model, target, token=token, **options)
        assert (set(hub.repos), files(hub, "ann/taken")) == before

    def test_no_model(self, tmp_path):
        with pytest.raises(ACTError, match=r"is no folder with a trained model: it has no config\.json"):
            push_model(tmp_path, "hf://ann/no")

    def test_facts_that_are_none(self, hub, client, model, tmp_path):
        shutil.copytree(model, tmp_path / "model")
        (tmp_path / "model" / FACTS).write_text('{"records": 7, "evaluations": [{}]}')
        with pytest.raises(ACTError, match="the facts of the training that are kept with the model cannot be read"):
            client(push, tmp_path / "model", "hf://ann/odd", token=WRITE)
        assert "config.json" not in files(hub, "ann/odd")


def tried(folder: Path, target: str) -> str | None:
    try:
        push(folder, target)
    except ACTError as error:
        return str(error)
    return None


class TestCard:
    def test_the_section(self):
        said = model_section(ABOUT, Address("ann/m"), "ann/rows")
        assert "| rows | 400, 100 of them with a human label |" in said
        assert r"| accuracy on ann/test | 90.0 % (95 % interval 85.1 to 93.4 %, 200 rows) |" in said.replace(
            "\u00a0", " "
        )
        assert "The human labels were **simulated**" in said
        assert r"| classes | a, \<b\> |" in said
        assert r"| machine labels by | \[x\](y), strategy cot |" in said

    def test_the_results(self):
        known = {"tags": ["mine"], "library_name": "theirs"}
        made = model_metadata(known, ABOUT, Address("ann/m"), "ann/rows")
        assert made["tags"] == ["mine", "act_hf"]
        assert "library_name" not in made
        assert made["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
        result = made["model-index"][0]["results"][0]
        assert result["dataset"] == {"name": "ann/test", "type": "ann/test", "split": "test"}
        assert result["metrics"] == [{"type": "accuracy", "value": 0.9, "name": "Accuracy"}]

    def test_results_of_others_stay_and_ours_are_replaced(self):
        known = read_metadata(BY_HAND.decode(), "x")
        once = {**known, **model_metadata(known, ABOUT, Address("ann/m"), None)}
        better = {**ABOUT, "evaluations": [{**ABOUT["evaluations"][0], "value": 0.95}]}
        twice = model_metadata(once, better, Address("ann/m"), None)["model-index"]
        assert twice[0]["name"] == "theirs"
        values = [result["metrics"][0]["value"] for result in twice[0]["results"]]
        assert values == [0.5, 0.95]

    @pytest.mark.parametrize(
        ("shown", "category"),
        [
            ({"text": "t"}, "text-classification"),
            ({"image": "i"}, "image-classification"),
            ({"text": "q", "image": "i"}, "visual-question-answering"),
        ],
    )
    def test_the_kind_of_task(self, shown, category):
        facts = {"image": None, "text": None, **shown}
        assert model_metadata({}, facts, Address("a/b"), None)["pipeline_tag"] == category

    def test_a_model_of_nobody_knows_what(self):
        said = model_section({}, Address("ann/m"), None)
        assert "None" not in said
        assert "|  |" not in said


class TestCommands:
    """Stages that have only ids on the Hub between them."""

    def good(self, client, *arguments) -> str:
        status, out, err = client(jobs.command, *arguments, token=WRITE)
        assert status == 0, err
        assert not [token for token in USERS if token in out + err]
        return out

    def refused(self, client, *arguments, token=WRITE) -> str:
        status, out, err = client(jobs.command, *arguments, token=token)
        assert (status, out) == (2, ""), err
        assert not [token for token in USERS if token in err]
        return err.splitlines()[-1]

    def test_from_rows_to_a_model(self, hub, client, tiny):
        client(
            jobs.push,
            jobs.reviewed().remove_columns(["act_human", "act_responses"]),
            "hf://ann/all:drawn",
            token=WRITE,
        )
        said = self.good(client, "review", "simulate", "hf://ann/all:drawn", "hf://ann/all:seen", "--gold", "gold")
        assert "written to hf://ann/all:seen" in said
        training = ("--base", tiny, "--epochs", "1", "--evaluation", "ann/all:seen", "--label", "gold")
        said = self.good(client, "train", "ann/all:seen", "hf://ann/all", *training)
        assert re.search(
            r"accuracy on ann/all:seen: 0\.\d+ \(reviewed by a simulation\)\nmodel in hf://ann/all\n", said
        )
        metadata = read_metadata(files(hub, "ann/all")["README.md"].decode(), "x")
        assert metadata["datasets"] == ["ann/all"]
        result = metadata["model-index"][0]["results"][0]
        assert result["dataset"] == {"name": "ann/all", "type": "ann/all", "config": "seen"}
        assert json.loads(files(hub, "ann/all")["act_result.json"])["method"] == "act"

    def test_a_model_that_cannot_be_pushed_is_kept(self, hub, client, tiny, tmp_path):
        rows = str(tmp_path / "rows")
        jobs.reviewed().save_to_disk(rows)
        hub.break_at(None)
        client(jobs.command, "train", rows, "hf://ann/counted", "--base", tiny, "--epochs", "1", token=WRITE)
        requests = len(hub.log)
        with broken(hub, requests):  # the commit
            said = self.refused(client, "train", rows, "hf://ann/lost", "--base", tiny, "--epochs", "1")
        kept = Path(re.search("The model is kept in '(.*)'; act_hf.push_model pushes it", said)[1])
        assert "README.md" not in files(hub, "ann/lost")
        client(push, kept, "hf://ann/lost", token=WRITE)
        assert "config.json" in files(hub, "ann/lost")
        shutil.rmtree(kept.parent)

    def test_publish_rows_and_a_model(self, hub, client, model, tmp_path):
        rows = str(tmp_path / "rows")
        jobs.reviewed().save_to_disk(rows)
        said = self.good(client, "publish", rows, "hf://ann/both", "--model", str(model), "--config-name", "act")
        assert re.fullmatch(r"data set: http\S+/datasets/ann/both\nmodel: http\S+/ann/both\n", said)
        assert client(jobs.loaded, "ann/both", "act", token=WRITE)["train"].features == jobs.reviewed().features
        assert read_metadata(files(hub, "ann/both")["README.md"].decode(), "x")["datasets"] == ["ann/both"]
        fewer = str(tmp_path / "fewer")
        jobs.reviewed(8).save_to_disk(fewer)
        said = self.good(client, "publish", fewer, "hf://ann/both:act", "--create-pr")
        assert said.endswith("/datasets/ann/both/discussions/1\n")
        self.good(client, "publish", rows, "hf://ann/both@draft:act", "--overwrite")
        self.good(client, "publish", rows, "hf://ann/shown", "--public", "--revision", "v1")
        assert not hub.repo("ann/shown").private
        assert "data/train-00000-of-00001.parquet" in hub.repo("ann/shown").tree("v1")
        assert "data/train-00000-of-00001.parquet" not in hub.repo("ann/shown").tree("main")

    def test_refused_before_anything_is_pushed_or_trained(self, hub, client, tmp_path):
        client(jobs.push, jobs.rows(), "hf://ann/busy", token=WRITE)
        nowhere, rows = str(tmp_path / "nowhere"), str(tmp_path / "rows")
        jobs.reviewed().save_to_disk(rows)
        assert "exists, with the split" in self.refused(client, "sample", nowhere, "hf://ann/busy", "--budget", "3")
        assert "may only read" in self.refused(client, "train", nowhere, "hf://ann/new", token=READ)
        assert "exists, with the split 'train'" in self.refused(client, "publish", rows, "hf://ann/busy")
        assert "there is no token" in self.refused(client, "publish", rows, "hf://ann/new", token="")
        said = self.refused(client, "publish", rows, "hf://ann/new", "--model", nowhere)
        assert "is no folder with a trained model" in said
        assert "is no address on the Hub" in self.refused(client, "publish", rows, "here")
        said = self.refused(client, "publish", rows, "hf://ann/x@a", "--revision", "b")
        assert "names the revision 'a', and 'b' was given beside it; say one" in said
        assert ("models", "ann/new") not in hub.repos
        assert ("datasets", "ann/new") not in hub.repos
