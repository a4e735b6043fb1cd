from __future__ import annotations

import pytest
from datasets import Dataset, concatenate_datasets, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from act_hf.errors import ACTError
from act_hf.models.asking import Usage
from act_hf.models.base import Answer
from act_hf.records import add_record, recorded_task, stage_records, usage_facts, with_records
from act_hf.task import Task


TASK = Task(labels=["ham", "spam"], text="t", instruction="Spam?")


def rows() -> Dataset:
    return Dataset.from_dict({"t": ["a", "b", "c"]})


def stages(dataset: Dataset) -> list[str]:
    return [record["stage"] for record in stage_records(dataset)]


def test_none_at_first():
    assert stage_records(rows()) == []


def test_in_the_order_they_were_made_and_by_stage():
    dataset = add_record(rows(), "annotate", model="m1")
    dataset = add_record(dataset, "criticize", model="m2", suffix="_a")
    dataset = add_record(dataset, "criticize", model="m3", suffix="_b")
    assert stages(dataset) == ["annotate", "criticize", "criticize"]
    assert [record["model"] for record in stage_records(dataset, "criticize")] == ["m2", "m3"]
    assert stage_records(dataset, "sample") == []
    assert stage_records(dataset, "annotate")[0]["versions"]["datasets"]
    assert stage_records(dataset, "annotate")[0]["versions"]["act_hf"]


def test_the_original_is_not_touched():
    first = add_record(rows(), "annotate", n=1)
    first.info.description += "\nmine"
    before = first.info.description
    views = [first.select([0]), first.with_format("numpy")]
    add_record(first, "criticize", n=2)
    with_records(first, [])
    assert first.info.description == before
    assert [stages(view) for view in views] == [["annotate"], ["annotate"]]


def test_the_rest_of_the_description_is_kept():
    dataset = rows()
    dataset.info.description = "Texts.\n\nFrom a friend.\r\nEnd\x0b"
    dataset = add_record(add_record(dataset, "annotate"), "sample")
    assert dataset.info.description.startswith("Texts.\n\nFrom a friend.\r\nEnd\x0b\n")
    assert with_records(dataset, []).info.description == "Texts.\n\nFrom a friend.\r\nEnd\x0b"


def test_with_exactly_these():
    dataset = add_record(add_record(rows(), "annotate"), "sample")
    assert stages(with_records(dataset, stage_records(dataset, "sample"))) == ["sample"]
    assert with_records(rows(), []).info.description == ""


def test_rows_and_format_are_the_same():
    dataset = add_record(rows().with_format("numpy"), "annotate")
    assert dataset.format["type"] == "numpy"
    assert dataset.with_format(None).to_dict() == rows().to_dict()
    assert stages(add_record(rows().select([]), "annotate")) == ["annotate"]


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=3))
def test_anything_that_json_holds_comes_back(values):
    # Among it the line breaks that are none for JSON: U+2028, U+0085, form feeds.
    dataset = add_record(rows(), "annotate", values=values)
    assert [record["values"] for record in stage_records(add_record(dataset, "sample"), "annotate")] == [values]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0c", "\x1c", "\r", "\n", "\n\nact_hf: {}"])
def test_line_breaks_do_not_break_a_record(character):
    task = Task(labels=["a", "b"], text="t", instruction=f"one{character}two")
    assert recorded_task(add_record(add_record(rows(), "annotate", task=task.to_dict()), "sample")) == task


class TestSurvive:
    dataset = add_record(rows(), "annotate", task=TASK.to_dict(), note="ü €")

    def check(self, dataset: Dataset) -> None:
        assert stage_records(dataset) == stage_records(self.dataset)

    def test_what_datasets_does(self):
        self.check(self.dataset.map(lambda row: {"n": len(row["t"])}))
        self.check(self.dataset.map(lambda batch: {"n": batch["t"]}, batched=True, remove_columns=["t"]))
        self.check(self.dataset.select([1]))
        self.check(self.dataset.filter(lambda row: row["t"] != "a"))
        self.check(self.dataset.shuffle(seed=0))
        self.check(self.dataset.sort("t"))
        self.check(self.dataset.rename_column("t", "u"))
        self.check(self.dataset.train_test_split(test_size=1, seed=0)["train"])
        self.check(concatenate_datasets([self.dataset, self.dataset]))

    def test_saving(self, tmp_path):
        self.dataset.save_to_disk(tmp_path / "d")
        self.check(Dataset.load_from_disk(tmp_path / "d"))

    def test_parquet_keeps_no_description(self, tmp_path):
        # Why a push to the hub has to carry the records itself.
        self.dataset.to_parquet(tmp_path / "d.parquet")
        loaded = load_dataset(
            "parquet", data_files=str(tmp_path / "d.parquet"), cache_dir=tmp_path / "c", split="train"
        )
        assert stage_records(loaded) == []


class TestRecordedTask:
    def test_is_the_last_one_annotated_for(self):
        other = Task(labels=["x", "y"], text="t")
        dataset = add_record(add_record(rows(), "annotate", task=other.to_dict()), "annotate", task=TASK.to_dict())
        assert recorded_task(dataset) == TASK

    def test_without_one(self):
        with pytest.raises(ACTError, match="no record of an annotate stage: annotate it first, or pass task="):
            recorded_task(add_record(rows(), "sample"))


def test_usage_facts_are_plain_values():
    usage = Usage(max_calls=10, max_cost=5)
    answers = [Answer(tokens_in=3, tokens_out=2, seconds=1 / 3, cost=0.1 + 0.2, calls=4), Answer(tokens_in=1)]
    usage.paid("m", answers)
    usage.used(answers)
    expected = {
        "requests": 2,
        "calls": 5,
        "tokens_in": 4,
        "tokens_out": 2,
        "seconds": 0.333333,
        "cost": 0.3,
        "spent": 0.3,
    }
    assert usage_facts(usage) == expected
    assert stage_records(add_record(rows(), "annotate", usage=usage_facts(usage)))[0]["usage"] == expected


def test_usage_facts_of_an_unknown_price():
    usage = Usage()
    usage.used([Answer(cost=None)])
    assert usage_facts(usage)["cost"] is None
    assert stage_records(add_record(rows(), "annotate", usage=usage_facts(usage)))[0]["usage"]["cost"] is None


def test_usage_facts_of_nothing():
    names = ("requests", "calls", "tokens_in", "tokens_out", "seconds", "cost", "spent")
    assert usage_facts(Usage()) == dict.fromkeys(names, 0)


@pytest.mark.parametrize("line", ["act_hf: a nice toolkit", "act_hf: [1]", 'act_hf: {"no": "stage"}'])
def test_a_description_that_only_looks_like_ours(line):
    dataset = rows()
    dataset.info.description = line
    assert stage_records(dataset) == []
    assert add_record(dataset, "sample").info.description.startswith(line + "\n")
