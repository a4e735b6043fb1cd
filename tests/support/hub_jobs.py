"""What tests have done in the process that uses a Hub: functions that another process can import, and data sets."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset

from act_hf.annotators import annotate
from act_hf.critics import criticize
from act_hf.files import read_dataset
from act_hf.hub.faults import hub_api
from act_hf.hub.pushing import push_dataset
from act_hf.records import stage_records
from act_hf.review.responses import Response, merge_responses
from act_hf.review.simulated import simulate_review
from act_hf.sampling import sample
from act_hf.streams import read_stream
from act_hf.task import Task
from support.fakes import FakeModel, by_text


TASK = Task(labels=("calm", "angry", "odd"), text="text", instruction="Which mood?", language="en")


def rows(count: int = 12) -> Dataset:
    labels = [("calm", "angry", "odd")[number % 3] for number in range(count)]
    texts = [f"row number {number}" for number in range(count)]
    return Dataset.from_dict({"text": texts, "gold": labels})


def labelled(count: int = 12, task: Task = TASK) -> Dataset:
    """As a machine leaves it."""
    return annotate(rows(count), task, FakeModel(by=by_text, name="loud-model", cost=0.001), store=":memory:")


def reviewed(count: int = 12, *, simulated: bool = False, task: Task = TASK) -> Dataset:
    """As people leave it: ann and bob, who do not always agree."""
    critic = FakeModel(by=by_text, name="quiet-model", cost=0.002)
    doubted = criticize(labelled(count, task), critic, strategy="logit", store=":memory:")
    drawn = sample(doubted, budget=count // 2, mix=0.5, seed=7)
    if simulated:
        return simulate_review(drawn, gold="gold")
    asked = [row for row in drawn if row["act_selected"]]
    answers = [Response(row["act_id"], "ann@example.org", row["gold"]) for row in asked]
    answers += [Response(row["act_id"], "bob", "odd" if row is asked[0] else row["gold"]) for row in asked[:3]]
    answers += [Response(row["act_id"], "carl", row["gold"]) for row in asked[:3]]
    return merge_responses(drawn, answers, source="table answers.csv")


def push(dataset: Dataset, target: str, **options: Any) -> str:
    """As a new process would: who the token belongs to is asked again."""
    hub_api.cache_clear()
    return push_dataset(dataset, target, **options)


def pull(source: str, split: str | None = None) -> Dataset:
    return in_memory(read_dataset(source, split=split))


def loaded(id: str, config: str | None = None, revision: str | None = None) -> dict[str, Dataset]:
    """What everybody's `load_dataset` gives."""
    found: DatasetDict = load_dataset(id, config, revision=revision)
    return {str(name): in_memory(one) for name, one in found.items()}


def in_memory(dataset: Dataset) -> Dataset:
    """A data set that another process can have: its rows, not the names of files."""
    copy = Dataset.from_dict(dataset.to_dict(), features=dataset.features, split=dataset.split)
    copy.info.description = dataset.info.description
    return copy


def command(*arguments: str) -> tuple[int, str, str]:
    """`act-hf ARGUMENTS`: its status, and what it says."""
    from act_hf.cli import main

    hub_api.cache_clear()
    out, err, given = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["act-hf", *arguments]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    finally:
        sys.argv = given
    return 0, out.getvalue(), err.getvalue()


def streamed(source: str, split: str | None = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows and the records of a stream."""
    stream = read_stream(source, split=split)
    return list(stream), stage_records(stream)
