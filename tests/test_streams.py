"""Streams to folders of shards: the same rows as in memory, whole shards, and on from where a run was."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import filelock
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, IterableDataset, Value, load_dataset
from PIL import Image as Picture
from support import mortal
from support.command import good, refused
from support.fakes import FakeModel, by_text
from support.mortal import TASK, paid_again
from support.weights import save_tiny_bert

from act_hf.annotators import annotate
from act_hf.critics import criticize
from act_hf.errors import ACTError
from act_hf.files import read_dataset, write_dataset
from act_hf.models.asking import LimitReached
from act_hf.models.batch import BatchEndpoint
from act_hf.models.endpoint import Endpoint
from act_hf.models.store import Store
from act_hf.records import stage_records
from act_hf.review.simulated import simulate_review
from act_hf.sampling import sample
from act_hf.streams import annotate_stream, criticize_stream, read_stream, sample_stream
from act_hf.task import Task


TESTS = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Where the test is; `files` holds the source in several files, one of them empty."""
    monkeypatch.chdir(tmp_path)
    # Read when datasets was imported: each test gets its own cache of Arrow files.
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "files").mkdir()
    start = 0
    for number, count in enumerate((700, 1, 0, 1234, 65)):
        write_source(Path("files") / f"{number}.parquet", start, count)
        start += count
    return tmp_path


TYPES = Features({"t": Value("string"), "gold": ClassLabel(names=["x", "y"])})


def write_source(path: Path, start: int, count: int, *, text: str = "row number {}") -> None:
    numbers = range(start, start + count)
    texts = [text.format(i) if i % 50 else "" for i in numbers]
    Dataset.from_dict({"t": texts, "gold": [i % 2 for i in numbers]}, features=TYPES).to_parquet(str(path))


def source() -> IterableDataset:
    return mortal.source(Path())


def whole() -> Dataset:
    return Dataset.from_parquet([str(path) for path in sorted(Path("files").glob("*.parquet"))])


def model(**options) -> FakeModel:
    return FakeModel(by=by_text, batch_size=64, **options)


def labelled(asked: FakeModel | None = None, **options) -> Path:
    return annotate_stream(source(), TASK, asked or model(), "labelled", store="s", rows_per_shard=400, **options)


def facts(dataset) -> list[dict]:
    return stage_records(dataset)


def shards(path: str | Path) -> list[str]:
    return sorted(file.name for file in Path(path).iterdir())


class TestTheSameAsInMemory:
    def test_annotated_criticized_and_sampled(self):
        labelled()
        criticize_stream("labelled", model(), "doubted", strategy="logit", store="s", rows_per_shard=1500)
        sample_stream("doubted", "drawn", budget=0.1, seed=3, failures="review")
        expected = annotate(whole(), TASK, model(), store="t")
        expected = criticize(expected, model(), strategy="logit", store="t")
        expected = sample(expected, budget=0.1, seed=3, failures="review")
        got = read_dataset("drawn")
        assert got.features == expected.features
        assert got[:] == expected[:]
        assert facts(got) == facts(expected)
        assert len(got) == 2000
        assert shards("labelled") == ["act.json", *(f"shard-{i:05d}.parquet" for i in range(5))]
        assert shards("drawn") == ["act.json", "shard-00000.parquet", "shard-00001.parquet"]

    def test_read_memory_mapped_and_as_a_stream_and_by_anybody(self):
        labelled()
        mapped, stream = read_dataset("labelled"), read_stream("labelled")
        assert mapped.cache_files  # Arrow files, not memory
        assert stream.features == mapped.features
        assert stage_records(stream) == stage_records(mapped)
        assert [row["act_label"] for row in stream] == mapped["act_label"][:]
        anybody = load_dataset("labelled", split="train")
        assert anybody.features == mapped.features
        assert anybody[:] == mapped[:]

    @pytest.mark.parametrize("rows_per_shard", [1, 7, 999, 1000, 2000, 2001, 3500])
    def test_shards_of_any_size(self, rows_per_shard):
        Path("files/0.parquet").unlink()
        Path("files/3.parquet").unlink()
        write_source(Path("files/5.parquet"), 0, 1 if rows_per_shard == 1 else 1934)
        annotate_stream(source(), TASK, model(), "out", store="s", rows_per_shard=rows_per_shard)
        assert read_dataset("out")["t"][:] == whole()["t"][:]
        size = rows_per_shard if rows_per_shard < 1000 else rows_per_shard // 1000 * 1000
        counts = [pq.read_metadata(path).num_rows for path in sorted(Path("out").glob("*.parquet"))]
        assert set(counts[:-1]) <= {size}
        assert 0 < counts[-1] <= size

    @pytest.mark.parametrize("batch_size", [1, 33, 64, 5000])
    def test_batches_of_any_size(self, batch_size):
        asked = model()
        annotate_stream(source(), TASK, asked, "out", store="s", rows_per_shard=1100, batch_size=batch_size)
        assert max(asked.sizes) <= min(batch_size, 1000)
        assert read_dataset("out")[:] == annotate(whole(), TASK, model(), store="s")[:]

    def test_a_generator_without_types(self):
        stream = IterableDataset.from_generator(lambda: iter([{"t": "a", "n": 1}, {"t": "b", "n": None}]))
        annotate_stream(stream, TASK, model(), "out", store="s")
        assert read_dataset("out")["n"][:] == [1, None]

    @pytest.mark.parametrize("change", ["filter", "map", "map with types"])
    def test_rows_made_one_by_one_with_nothing_in_some(self, change):
        types = Features({"t": Value("string"), "n": Value("int32")})
        rows = Dataset.from_dict({"t": ["a", "b", "c"], "n": [1, None, 3]}, features=types).to_iterable_dataset()
        changed = {
            "filter": lambda: rows.filter(lambda row: row["t"] != "c"),
            "map": lambda: rows.map(lambda row: {"t": row["t"] + "!"}),
            "map with types": lambda: rows.map(lambda row: {"t": row["t"] + "!"}, features=types),
        }[change]()
        annotate_stream(changed, TASK, model(), "out", store="s")
        assert read_dataset("out")["n"][:2] == [1, None]

    def test_csv_and_jsonl(self):
        Path("rows.csv").write_text("t,n\nNA,1\nb,2\n")
        Path("rows.jsonl").write_text('{"t": "a"}\n{"t": "b"}\n')
        annotate_stream("rows.csv", TASK, model(), "from_csv", store="s")
        annotate_stream("rows.jsonl", TASK, model(), "from_jsonl", store="s")
        assert read_dataset("from_csv")["t"][:] == ["NA", "b"]
        assert read_dataset("from_jsonl")["t"][:] == ["a", "b"]

    @pytest.mark.parametrize("name", ["one", "one.csv", "one.jsonl", "one.parquet"])
    def test_what_stages_wrote_whole(self, name):
        write_dataset(annotate(whole().select(range(30)), TASK, model(), store="s"), name)
        criticize_stream(name, model(), "doubted", store="s")
        assert [record["stage"] for record in stage_records(read_dataset("doubted"))] == ["annotate", "criticize"]
        assert read_dataset("doubted")[:] == criticize(read_dataset(name), model(), store="s")[:]

    def test_images_stay_as_they_are(self):
        for i in range(5):
            Picture.new("RGB", (8, 6), (i, 0, 0)).save(f"{i}.jpg")
        Path("broken.jpg").write_bytes(b"\xff\xd8 no picture")
        paths = [*(f"{i}.jpg" for i in range(5)), "broken.jpg"]
        rows = Dataset.from_dict({"image": paths}, features=Features({"image": Image()}))
        task = Task(labels=["a", "b", "c"], image="image")
        seeing = model(abilities=("choose", "image"))
        annotate_stream(rows.to_iterable_dataset(), task, seeing, "out", store="s", rows_per_shard=4)
        got = read_dataset("out").cast_column("image", Image(decode=False))
        assert [one["bytes"] for one in got["image"][:]] == [Path(path).read_bytes() for path in paths]
        assert got["act_id"][:] == annotate(rows, task, seeing, store="s")["act_id"][:]
        assert got["act_failure"][:5] == [None] * 5
        assert "the image cannot be read" in got["act_failure"][5]

    def test_several_models(self):
        several = [model(name="one"), model(name="two")]
        annotate_stream(source(), TASK, several, "out", store="s")
        expected = annotate(whole(), TASK, several, store="s")
        assert read_dataset("out")[:] == expected[:]
        assert stage_records(read_dataset("out"))[-1]["model"] == "one + two"

    def test_a_later_critic_beside_the_first(self):
        labelled()
        criticize_stream("labelled", model(), "once", store="s")
        criticize_stream("once", model(), "twice", strategy="logit", suffix="_b", store="s")
        expected = annotate(whole(), TASK, model(), store="s")
        expected = criticize(expected, model(), store="s")
        expected = criticize(expected, model(), strategy="logit", suffix="_b", store="s")
        assert read_dataset("twice")[:] == expected[:]

    def test_waves(self):
        labelled()
        criticize_stream("labelled", model(), "doubted", store="s")
        sample_stream("doubted", "drawn", budget=100, failures="skip")
        reviewed = simulate_review(read_dataset("drawn"), gold="act_label")
        write_shards_of(reviewed, "reviewed")
        sample_stream("reviewed", "drawn2", budget=50, wave=2, failures="skip", groups="gold")
        expected = sample(reviewed, budget=50, wave=2, failures="skip", groups="gold")
        assert read_dataset("drawn2").features == expected.features
        assert read_dataset("drawn2")[:] == expected[:]


@pytest.mark.model
def test_the_page_of_the_documentation(smollm2, minilm, folder):
    shown = (TESTS.parent / "docs" / "streams.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", shown, flags=re.DOTALL)
    task = Task(labels=["x", "y"], text="text")
    Path("tickets").mkdir()
    Dataset.from_dict({"text": [f"text {i}" for i in range(100)]}).to_parquet("tickets/0.parquet")
    known = {"task": task}
    exec(example, known)
    assert sum(known["drawn"]["act_selected"][:]) == 1


class TestCommandLine:
    LABELS = ("--text", "t", "--labels", "x,y", "--stream", "--rows-per-shard", "900")

    @pytest.fixture
    def tiny(self, tmp_path) -> str:
        Path("files/3.parquet").unlink()
        return f"encoder:{save_tiny_bert(tmp_path / 'tiny')}"

    def test_every_stage(self, tiny):
        write_dataset(whole(), "whole.parquet")
        said = good("annotate", "whole.parquet", "labelled", *self.LABELS, "--model", tiny)
        assert "rows 766" in said
        assert "written to labelled, in 1 shards" in said
        good("criticize", "labelled", "doubted", "--stream", "--model", tiny)
        good("sample", "doubted", "drawn", "--stream", "--budget", "10%", "--failures", "skip")
        good("annotate", "whole.parquet", "labelled2", *self.LABELS[:4], "--model", tiny)
        good("criticize", "labelled2", "doubted2", "--model", tiny)
        good("sample", "doubted2", "drawn2", "--budget", "10%", "--failures", "skip")
        assert read_dataset("drawn")[:] == read_dataset("drawn2")[:]
        said = good("sample", "doubted", "none", "--stream", "--budget", "0", "--failures", "skip")
        assert "! no row is selected: there is nothing to review (the budget is 0 of " in said
        good("review", "push", "drawn", "sheet.csv")
        good("report", "drawn", "report.html")
        assert "0 calls" in good("annotate", "whole.parquet", "labelled", *self.LABELS, "--model", tiny)

    def test_label_column(self, tiny):
        good(
            "annotate", "files/0.parquet", "out", "--text", "t", "--label-column", "gold", "--stream", "--model", tiny
        )
        assert read_dataset("out").features["act_label"].names == ["x", "y"]

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("annotate", "files/0.parquet", "out.csv", *LABELS), "--stream writes a folder of parquet shards, not"),
            (("annotate", "files/0.parquet", "hf://me/out", *LABELS), "--stream writes a folder of parquet shards"),
            (("annotate", "nothing.csv", "out", *LABELS), "no file or folder 'nothing.csv'"),
            (("criticize", "files/0.parquet", "out", "--stream"), "no column 'act_label'"),
            (("sample", "files", "out", "--budget", "1", "--stream"), "'files' is no folder of shards"),
            (("sample", "nothing", "out", "--budget", "1", "--stream"), "'nothing' is no folder of shards"),
        ],
    )
    def test_mistakes(self, tiny, arguments, says):
        given = (*arguments, "--model", tiny) if arguments[0] != "sample" else arguments
        assert says in refused(*given)
        assert not Path("out").exists()


def write_shards_of(dataset: Dataset, name: str) -> None:
    """A reviewed data set as shards."""
    from act_hf.streams.shards import shard_path, shard_writer, write_manifest

    with shard_writer(shard_path(Path(name), 0), dataset.features) as writer:
        writer.write(dataset.with_format("arrow")[:])
        writer.finish()
    write_manifest(Path(name), dataset.features, stage_records(dataset), [len(dataset)])


class TestLabelPriors:
    def test_batch_calibration_takes_rows_from_the_whole_stream(self):
        # Sorted: a prior of the first thousand rows would be another one.
        def by_half(request):
            late = int(request.messages[-1]["content"].split("row number ")[-1].split()[0]) >= 1000
            return [-0.1, -3, -3] if late else [-3, -0.1, -3]

        asked = FakeModel(by=by_half, batch_size=64)
        annotate_stream(source(), TASK, asked, "out", store="s", calibration="batch")
        prior = stage_records(read_dataset("out"))[-1]["prior"]
        assert abs(prior[0] - prior[1]) < 0.3
        assert asked.calls == 1960  # those asked for the prior are in the store

    def test_kept_when_a_run_goes_on(self):
        labelled(calibration="batch")
        before = read_dataset("labelled")
        (last := sorted(Path("labelled").glob("*.parquet"))[-1]).unlink()
        Store("s").close()
        Path("labelled/act.json").unlink()
        labelled(calibration="batch")
        assert last.exists()
        assert read_dataset("labelled")[:] == before[:]
        assert stage_records(read_dataset("labelled"))[-1]["prior"] == stage_records(before)[-1]["prior"]

    def test_contextual_as_in_memory(self):
        labelled(calibration="contextual")
        assert read_dataset("labelled")[:] == annotate(whole(), TASK, model(), store="t", calibration="contextual")[:]
        criticize_stream("labelled", model(), "doubted", store="s", calibration="contextual")
        expected = criticize(read_dataset("labelled"), model(), store="s", calibration="contextual")
        assert read_dataset("doubted")[:] == expected[:]

    @pytest.mark.parametrize(("strategy", "calibration"), [("logit", "batch"), ("likelihood", "rank")])
    def test_what_a_stream_cannot_do(self, strategy, calibration):
        labelled()
        with pytest.raises(ACTError, match=f"calibration='{calibration}' .* all rows at once"):
            criticize_stream("labelled", model(), "doubted", strategy=strategy, calibration=calibration, store="s")
        assert not Path("doubted").exists()


class TestGoingOn:
    def test_killed_twice(self, folder):
        expected = annotate(whole(), TASK, model(name="mortal"), store="t")
        command = [sys.executable, "-m", "support.mortal", str(folder)]
        ended = [subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False) for _ in range(3)]
        assert [one.returncode for one in ended] == [-9, -9, 0], ended[-1].stderr.decode()[-3000:]
        assert 0 < paid_again(folder) <= 2 * 8
        assert read_dataset("out")[:] == expected[:]
        assert shards("out") == ["act.json", *(f"shard-{i:05d}.parquet" for i in range(5))]

    def test_a_stopped_run_goes_on_at_the_right_row(self):
        asked = model()
        with pytest.raises(LimitReached):
            labelled(asked, max_calls=1000)
        assert shards("labelled") == ["shard-00000.parquet", "shard-00001.parquet"]
        with pytest.raises(ACTError, match="'labelled' is not finished: 2 shards are there"):
            read_dataset("labelled")
        labelled(asked)
        assert asked.calls == 1960
        assert read_dataset("labelled")[:] == annotate(whole(), TASK, model(), store="s")[:]
        record = stage_records(read_dataset("labelled"))[-1]
        assert record["rows"] == 2000
        assert record["failed"] == 40
        assert record["usage"]["requests"] == 1960

    def test_a_finished_run_asks_nothing_and_changes_no_shard(self):
        labelled()
        before = {path.name: path.stat().st_ino for path in Path("labelled").glob("*.parquet")}
        asked = model()
        labelled(asked)
        assert asked.calls == 0
        assert {path.name: path.stat().st_ino for path in Path("labelled").glob("*.parquet")} == before

    @pytest.mark.parametrize("change", ["map", "filter", "shard", "skip", "shuffle", "generator"])
    def test_whatever_the_stream_is_made_of(self, change):
        def rows(shards):
            for start in shards:
                yield from ({"t": f"row {i}"} for i in range(start, start + 300))

        changed = {
            "map": lambda: source().map(lambda batch: {"t": [f"{t}!" for t in batch["t"]]}, batched=True),
            "filter": lambda: source().filter(lambda row: row["t"].endswith(("1", "7", "8"))),
            "shard": lambda: source().shard(num_shards=2, index=1),
            "skip": lambda: source().skip(13).take(1500),
            "shuffle": lambda: source().shuffle(seed=5, buffer_size=333),
            "generator": lambda: IterableDataset.from_generator(rows, gen_kwargs={"shards": [0, 300, 600]}),
        }[change]
        options = {"store": "s", "rows_per_shard": 150}
        annotate_stream(changed(), TASK, model(), "whole", **options)
        with pytest.raises(LimitReached):
            annotate_stream(changed(), TASK, model(), "out", store="other", rows_per_shard=150, max_calls=400)
        assert len(shards("out")) == 2
        annotate_stream(changed(), TASK, model(), "out", **options)
        assert read_dataset("out")[:] == read_dataset("whole")[:]

    def test_a_missing_shard_is_written_again_alone(self):
        labelled()
        before = read_dataset("labelled")[:]
        Path("labelled/shard-00002.parquet").unlink()
        with pytest.raises(ACTError, match=r"shard-00002.parquet' is missing; run the stage that wrote it again"):
            read_dataset("labelled")
        with pytest.raises(ACTError, match=r"shard-00002.parquet' is missing"):
            read_stream("labelled")
        with pytest.raises(ACTError, match=r"shard-00002.parquet' is missing"):
            sample_stream("labelled", "drawn", budget=10)
        asked = model()
        labelled(asked)
        assert asked.calls == 0
        assert read_dataset("labelled")[:] == before

    def test_a_broken_shard_is_told_and_left(self):
        labelled()
        before = read_dataset("labelled")[:]
        broken = Path("labelled/shard-00001.parquet")
        broken.write_bytes(broken.read_bytes()[:-7])
        for again in (lambda: read_dataset("labelled"), labelled):
            with pytest.raises(ACTError, match=r"shard-00001.parquet' is broken .*; remove it"):
                again()
        assert broken.exists()
        broken.unlink()
        labelled()
        assert read_dataset("labelled")[:] == before

    def test_damage_within_a_shard(self):
        labelled()
        broken = Path("labelled/shard-00001.parquet")
        data = bytearray(broken.read_bytes())
        data[4:4000] = bytes(3996)
        broken.write_bytes(data)
        with pytest.raises(ACTError, match="cannot read the shards in 'labelled'"):
            read_dataset("labelled")
        with pytest.raises(ACTError, match="cannot read the source after row"):
            criticize_stream("labelled", model(), "doubted", store="s")
        assert not Path("doubted").exists()

    def test_damage_where_the_draw_reads(self):
        labelled()
        criticize_stream("labelled", model(), "doubted", store="s")
        broken = Path("doubted/shard-00000.parquet")
        group = pq.read_metadata(broken).row_group(0)
        parts = [group.column(number) for number in range(group.num_columns)]
        (start,) = [part for part in parts if part.path_in_schema == "act_error_prob"]
        data = bytearray(broken.read_bytes())
        at = start.dictionary_page_offset or start.data_page_offset
        data[at : at + start.total_compressed_size] = bytes(start.total_compressed_size)
        broken.write_bytes(data)
        with pytest.raises(ACTError, match=r"shard-00000.parquet' is broken .*; remove it"):
            sample_stream("doubted", "drawn", budget=10, failures="skip")
        assert not Path("drawn").exists()

    def test_a_shard_too_many_or_of_other_rows(self):
        labelled()
        write_source(Path("labelled/shard-00007.parquet"), 0, 3)
        with pytest.raises(ACTError, match=r"'shard-00007.parquet', of which act.json does not know"):
            read_dataset("labelled")
        Path("labelled/shard-00007.parquet").rename("labelled/shard-00001.parquet")
        with pytest.raises(ACTError, match=r"shard-00001.parquet' has 3 rows, and was written with 400"):
            read_dataset("labelled")
        with pytest.raises(ACTError, match=r"shard-00001.parquet' was not written by this stage"):
            labelled()

    def test_act_json_that_cannot_be_read(self):
        labelled()
        Path("labelled/act.json").write_text('{"features": 1}')
        with pytest.raises(ACTError, match=r"act.json' cannot be read"):
            read_dataset("labelled")
        labelled()
        assert len(read_dataset("labelled")) == 2000


class TestAnotherRun:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"model": model(name="other")}, "model was fake, and is other"),
            ({"task": Task(labels=["a", "b"], text="t")}, "task was"),
            ({"strategy": "cot"}, "strategy was naive, and is cot"),
            ({"calibration": "batch"}, "calibration was none, and is batch"),
            ({"rows_per_shard": 500}, "rows_per_shard was 400, and is 500"),
            ({"max_tokens": 10}, "max_tokens was 160, and is 10"),
        ],
    )
    def test_is_not_mixed_in(self, options, says):
        labelled()
        before = read_dataset("labelled")[:]
        given = {"task": TASK, "model": model(), "store": "s", "rows_per_shard": 400, **options}
        task, other = given.pop("task"), given.pop("model")
        with pytest.raises(ACTError, match=f"'labelled' has shards of another run .*{says}"):
            annotate_stream(source(), task, other, "labelled", **given)
        assert read_dataset("labelled")[:] == before
        annotate_stream(source(), task, other, "labelled", overwrite=True, **given)
        assert len(read_dataset("labelled")) == 2000

    def test_what_is_read_is_what_is_there_now(self):
        labelled(FakeModel(by=lambda request: [-0.1, -3, -3]))
        assert set(read_dataset("labelled")["act_label"][:]) == {0, None}
        labelled(FakeModel(by=lambda request: [-3, -0.1, -3], name="other"), overwrite=True)
        assert set(read_dataset("labelled")["act_label"][:]) == {1, None}

    def test_rows_that_were_annotated_anew(self):
        labelled()
        criticize_stream("labelled", model(), "doubted", store="s")
        labelled(model(name="other"), overwrite=True)
        with pytest.raises(ACTError, match=r"another run .*source was"):
            criticize_stream("labelled", model(), "doubted", store="s")

    @pytest.mark.parametrize("text", ["row number {}", "other rows {}"])
    def test_a_source_that_has_changed(self, text):
        with pytest.raises(LimitReached):
            labelled(max_calls=1000)
        write_source(Path("files/0.parquet"), 5, 700, text=text)
        before = shards("labelled")
        asked = model()
        with pytest.raises(ACTError, match="the source is not what it was: after 400 rows"):
            labelled(asked)
        assert asked.calls == 0
        assert shards("labelled") == before

    def test_a_source_that_has_grown_or_shrunk(self):
        labelled()
        write_source(Path("files/5.parquet"), 2000, 10)
        with pytest.raises(ACTError, match="the source has more rows than when the folder was finished"):
            labelled()
        Path("files/5.parquet").unlink()
        Path("files/4.parquet").unlink()
        with pytest.raises(ACTError, match="the source is not what it was"):
            labelled()
        assert len(read_dataset("labelled")) == 2000

    def test_another_process_at_the_same_folder(self):
        Path("labelled").mkdir()
        with (
            filelock.FileLock("labelled/.lock"),
            pytest.raises(ACTError, match="another process is writing to 'labelled'"),
        ):
            labelled()
        assert labelled() == Path("labelled")

    def test_what_a_killed_run_left_goes(self):
        (Path("labelled") / ".shard-00000.parquet.abcd").mkdir(parents=True)
        (Path("labelled") / ".lock").touch()
        labelled()
        assert not [name for name in shards("labelled") if name.startswith(".")]


class TestMistakes:
    def test_a_model_that_answers_by_batch(self):
        model = BatchEndpoint(Endpoint("m", base_url="http://localhost:1/v1"))
        with pytest.raises(ACTError, match=r"answers by batch, hours after it was asked.*leave out batch=True"):
            annotate_stream(source(), TASK, model, "labelled")
        assert not Path("labelled").exists()

    def test_a_folder_with_other_things(self):
        Path("labelled").mkdir()
        Path("labelled/thesis.tex").write_text("mine")
        for overwrite in (False, True):
            with pytest.raises(ACTError, match=r"has other files in it \('thesis.tex'\)"):
                labelled(overwrite=overwrite)
        assert shards("labelled") == ["thesis.tex"]

    def test_a_file_in_place_of_the_folder(self):
        Path("labelled").write_text("mine")
        with pytest.raises(ACTError, match="'labelled' is a file, and a folder of shards"):
            labelled()
        assert Path("labelled").read_text() == "mine"

    @pytest.mark.parametrize(
        ("stream", "says"),
        [
            (lambda: IterableDataset.from_generator(lambda: iter([])), "the stream is empty"),
            (lambda: source().remove_columns("t"), "no column 't'; the data set has 'gold'"),
            (lambda: source().rename_column("gold", "act_label"), "has 'act_label' already"),
            (lambda: whole(), "a Dataset goes to annotate"),
            (lambda: "nothing.csv", "no file or folder 'nothing.csv'"),
            (lambda: IterableDataset.from_generator(lambda: iter([{"t": "a", "n": None}])), "'n' has no value"),
        ],
    )
    def test_the_source(self, stream, says):
        with pytest.raises(ACTError, match=says):
            annotate_stream(stream(), TASK, model(), "out", store="s")
        assert not Path("out").exists()

    def test_a_source_that_breaks_off(self):
        def rows():
            yield from ({"t": f"row {i}"} for i in range(1500))
            raise OSError("the line is dead")

        stream = IterableDataset.from_generator(rows, features=Features({"t": Value("string")}))
        with pytest.raises(ACTError, match="cannot read the source after row 1000: the line is dead"):
            annotate_stream(stream, TASK, model(), "out", store="s", rows_per_shard=1000)
        assert shards("out") == ["shard-00000.parquet"]

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"rows_per_shard": 0}, "rows_per_shard=0 is no number"),
            ({"calibration": "sorted"}, "calibration 'sorted' is none of"),
            ({"strategy": "psychic"}, "strategy 'psychic' is none of"),
        ],
    )
    def test_the_options(self, options, says):
        with pytest.raises(ACTError, match=says):
            annotate_stream(source(), TASK, model(), "out", store="s", **options)
        assert not Path("out").exists()

    def test_a_stream_for_what_takes_a_data_set(self):
        with pytest.raises(ACTError, match=r"annotate: this is a stream .* annotate_stream"):
            annotate(source(), TASK, model(), store="s")

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_folder_is_not_criticized_into_itself(self, overwrite):
        labelled()
        before = read_dataset("labelled")[:]
        for given in ("labelled", read_stream("labelled")):
            with pytest.raises(ACTError, match="'labelled' is what is read; give another folder"):
                criticize_stream(given, model(), "labelled", store="s", overwrite=overwrite)
        assert read_dataset("labelled")[:] == before

    def test_a_folder_is_sampled_into_itself_whole(self):
        labelled()
        criticize_stream("labelled", model(), "doubted", store="s")
        sample_stream("doubted", "doubted", budget=10, failures="skip", overwrite=True)
        assert sum(read_dataset("doubted")["act_selected"][:]) == 10
        assert read_dataset("doubted")["t"][:] == read_dataset("labelled")["t"][:]

    def test_labels_of_another_task(self):
        labelled()
        with pytest.raises(ACTError, match="but the task has"):
            criticize_stream("labelled", model(), "out", task=Task(labels=["x", "y"], text="t"), store="s")

    def test_sampling_what_is_not_criticized_or_there(self):
        labelled()
        with pytest.raises(ACTError, match="sample: no column 'act_error_prob'"):
            sample_stream("labelled", "drawn", budget=10)
        with pytest.raises(ACTError, match="'files' is no folder of shards"):
            sample_stream("files", "drawn", budget=10)
        criticize_stream("labelled", model(), "doubted", store="s")
        with pytest.raises(ACTError, match="'labelled' exists"):
            sample_stream("doubted", "labelled", budget=10)
        sample_stream("doubted", "labelled", budget=10, failures="skip", overwrite=True)
        assert sum(read_dataset("labelled")["act_selected"][:]) == 10

    def test_a_full_disk(self, folder):
        """No more than 200 kB a file: what a full disk says to whoever writes, without filling one."""
        code = (
            "import resource\n"
            "from support import mortal\n"
            "from pathlib import Path\n"
            "from act_hf.streams import annotate_stream\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
            "annotate_stream(mortal.source(Path()), mortal.TASK, mortal.FakeModel(by=mortal.by_text), 'out',"
            " store=':memory:', rows_per_shard=1000)\n"
        )
        for path in Path("files").iterdir():
            path.unlink()
        noise = [os.urandom(200).hex() for _ in range(2000)]
        Dataset.from_dict({"t": ["short"] * 1000 + noise}).to_parquet("files/0.parquet")
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert "ACTError: cannot write the shard 'out/shard-00001.parquet': " in ended.stderr
        assert "File too large" in ended.stderr
        assert shards("out") == ["shard-00000.parquet"]
        annotate_stream(source(), TASK, model(), "out", store="s", rows_per_shard=1000)
        assert json.loads(Path("out/act.json").read_text())["shards"][-1] == {
            "name": "shard-00002.parquet",
            "rows": 1000,
        }
