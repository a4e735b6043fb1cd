"""The real Ray with two workers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Picture
from support.fakes import FakeModel, by_text
from support.mortal import TASK, Mortal, paid_again
from support.server import Server, tops_of
from support.weights import save_tiny_bert

from act_hf.annotators import Annotator, annotate
from act_hf.critics import Critic, criticize
from act_hf.ensemble import Ensemble
from act_hf.errors import ACTError
from act_hf.files import read_dataset
from act_hf.models.asking import LimitReached, Usage
from act_hf.models.base import Answer
from act_hf.models.endpoint import Endpoint
from act_hf.models.store import Store
from act_hf.ray_data import map_with_ray
from act_hf.records import stage_records
from act_hf.streams import annotate_stream
from act_hf.task import Task


pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def two_cores():
    """Ray started once, as a user would who has a cluster."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not os.environ.get("CI"):
        pytest.importorskip("ray", reason="many workers need Ray: pip install -e '.[ray]'")
    import ray

    # What the workers need: tests/support, and the variable that docs/ray.md names.
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ACT_HF_API_KEY": "a-key"}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": variables},
    )
    yield
    ray.shutdown()


def model(**options) -> FakeModel:
    return FakeModel(by=by_text, batch_size=64, **options)


def rows(count: int) -> Dataset:
    texts = [f"row number {i}" if i % 50 else "" for i in range(count)]
    types = Features({"t": Value("string"), "gold": ClassLabel(names=["x", "y"]), "n": Value("int32")})
    values = {"t": texts, "gold": [i % 2 for i in range(count)], "n": list(range(count))}
    return Dataset.from_dict(values, features=types)


def facts(dataset: Dataset) -> dict:
    record = stage_records(dataset)[-1]
    return {name: value for name, value in record.items() if name != "workers"}


def test_twenty_thousand_rows_are_those_of_one_process(tmp_path):
    one, many = tmp_path / "one", tmp_path / "many"
    dataset = rows(20_000)
    labelled = map_with_ray(dataset, Annotator(TASK, model(), store=many))
    expected = annotate(dataset, TASK, model(), store=one)
    assert labelled.features == expected.features
    assert labelled[:] == expected[:]
    assert facts(labelled) == facts(expected)
    assert stage_records(labelled)[-1]["workers"] == 2
    assert len(Store(many)) == len(Store(one))


def test_doubts_are_those_of_one_process(tmp_path):
    one, many = tmp_path / "one", tmp_path / "many"
    labelled = annotate(rows(1000), TASK, model(), store=one)
    doubted = map_with_ray(labelled, Critic(TASK, model(), "logit", store=many))
    expected = criticize(labelled, model(), strategy="logit", store=one)
    assert doubted.features == expected.features
    assert doubted[:] == expected[:]
    assert facts(doubted) == facts(expected)


def test_a_killed_worker_costs_what_was_in_flight(tmp_path):
    dataset = rows(2000)
    mortal = Mortal(tmp_path, ["row number 777"])
    labelled = map_with_ray(dataset, Annotator(TASK, mortal, store=tmp_path / "store"))
    assert mortal.deaths() == 1
    assert 0 < paid_again(tmp_path) <= mortal.batch_size
    assert labelled[:] == annotate(dataset, TASK, Mortal(tmp_path), store=tmp_path / "store")[:]


def test_many_workers_at_one_server(tmp_path):
    dataset = rows(300)
    with Server(tops=tops_of(TASK.words)) as server:
        served = Endpoint("m", base_url=server.url, concurrency=8)
        labelled = map_with_ray(dataset, Annotator(TASK, served, store=tmp_path / "store"), batch_size=20)
        assert sum(server.seen.values()) == len(server.seen) == 294
        assert labelled["act_label"][:] == annotate(dataset, TASK, served, store=tmp_path / "store")["act_label"][:]
        assert sum(server.seen.values()) == 294


def test_from_shards_to_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    stream = rows(500).to_iterable_dataset(num_shards=3)
    folder = annotate_stream(stream, TASK, model(), tmp_path / "labelled", store=tmp_path / "s", rows_per_shard=200)
    out = tmp_path / "doubted.parquet"
    doubted = map_with_ray(folder, Critic(TASK, model(), store=tmp_path / "s", suffix="_b"), workers=1, to=out)
    assert read_dataset(out)[:] == doubted[:]
    assert read_dataset(out).features["gold"] == ClassLabel(names=["x", "y"])
    assert [record["stage"] for record in stage_records(read_dataset(out))] == ["annotate", "criticize"]
    assert doubted[:] == criticize(read_dataset(folder), model(), store=tmp_path / "s", suffix="_b")[:]
    with pytest.raises(ACTError, match=r"doubted\.parquet' exists"):
        map_with_ray(folder, Critic(TASK, model(), store=tmp_path / "s"), to=out)


def test_several_models_and_images(tmp_path):
    pictures = [Picture.new("RGB", (8, 6), (i, 0, 0)) for i in range(12)]
    types = Features({"image": Image(), "t": Value("string")})
    dataset = Dataset.from_dict({"image": pictures, "t": ["what?"] * 12}, features=types)
    task = Task(labels=["a", "b", "c"], image="image", question="t")
    seeing = ("choose", "image")

    def stage(store) -> Ensemble:
        members = [Annotator(task, model(name=name, abilities=seeing), store=store) for name in ("one", "two")]
        return Ensemble(tuple(members))

    labelled = map_with_ray(dataset, stage(tmp_path / "many"), batch_size=3)
    expected = annotate(dataset, task, [member.model for member in stage(None).members], store=tmp_path / "one")
    assert labelled.features == expected.features
    assert labelled.remove_columns("image")[:] == expected.remove_columns("image")[:]
    assert facts(labelled) == facts(expected)


def test_the_page_of_the_documentation(tmp_path, monkeypatch):
    """As printed, with a server of ours, a small model, and no GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACT_HF_API_KEY", "a-key")
    shown = (Path(__file__).parent.parent / "docs" / "ray.md").read_text(encoding="utf-8")
    examples = "\n".join(re.findall(r"```python\n(.*?)```", shown, flags=re.DOTALL))
    tiny = save_tiny_bert(tmp_path / "tiny")
    Store("machine1.sqlite").put({"a": Answer()}, model="m")
    Store("machine2.sqlite").put({"b": Answer()}, model="m")
    with Server(tops=tops_of(TASK.words)) as server:
        here = {
            "http://localhost:8000/v1": server.url,
            "Qwen/Qwen2.5-7B-Instruct": "m",
            'LocalModel("Qwen/Qwen2.5-1.5B-Instruct", dtype="bfloat16"), "logit"': f"EncoderModel({str(tiny)!r})",
            "import Critic, LocalModel": "import Critic, EncoderModel",
            "workers=8, gpus_per_worker=1": "workers=2",
        }
        for printed, ours in here.items():
            assert printed in examples
            examples = examples.replace(printed, ours)
        monkeypatch.setenv("ACT_HF_HOME", str(tmp_path / "home"))
        known = {"task": TASK, "rows": rows(20)}
        exec(examples, known)
    assert known["labelled"]["act_failure"][1:] == [None] * 19
    assert read_dataset("doubted")["act_error_prob"][1:] == known["doubted"]["act_error_prob"][1:]
    assert len(Store("all.sqlite")) == 2


class TestMistakes:
    def test_a_worker_that_cannot_open_its_store_says_why(self, tmp_path):
        (tmp_path / "store").write_text("no database, whatever its name says, and long enough to be read as one")
        with pytest.raises(ACTError, match="cannot open the store"):
            map_with_ray(rows(100), Annotator(TASK, model(), store=tmp_path / "store"))

    def test_a_limit(self, tmp_path):
        stage = Annotator(TASK, model(), store=tmp_path / "store", usage=Usage(max_calls=10))
        with pytest.raises(LimitReached, match="max_calls=10"):
            map_with_ray(rows(400), stage)
        assert len(Store(tmp_path / "store")) <= 20  # of each of two workers

    @pytest.mark.parametrize(
        ("dataset", "workers", "says"),
        [
            (rows(5), 0, "workers=0 is no number"),
            (rows(5).remove_columns("t"), 2, "annotate: no column 't'"),
            (rows(5).add_column("act_label", [0] * 5), 2, "has 'act_label' already"),
            (rows(5).to_iterable_dataset(), 2, "this is a stream"),
            (rows(0), 2, "empty"),
        ],
    )
    def test_refused_before_anything_is_asked(self, dataset, workers, says, tmp_path):
        with pytest.raises(ACTError, match=says):
            map_with_ray(dataset, Annotator(TASK, model(), store=tmp_path / "store"), workers=workers)
        assert not (tmp_path / "store").exists()

    def test_no_gpu(self, tmp_path):
        """In a process of its own, which starts Ray for the call."""
        code = (
            "from support.mortal import TASK, Mortal\n"
            "from support.fakes import FakeModel\n"
            "from act_hf import Annotator, map_with_ray\n"
            "from datasets import Dataset\n"
            "stage = Annotator(TASK, FakeModel(), store='store')\n"
            "map_with_ray(Dataset.from_dict({'t': ['a']}), stage, gpus_per_worker=1000)\n"
        )
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert "ACTError: gpus_per_worker=1000: this machine has too few GPUs" in ended.stderr
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_not_annotated(self, tmp_path):
        with pytest.raises(ACTError, match="no column 'act_label'"):
            map_with_ray(rows(5), Critic(TASK, model(), store=tmp_path / "store"))
