"""A slow annotating process, to be killed: `python annotating.py STORE ROWS SECONDS_A_BATCH`."""

from __future__ import annotations

import sys

from datasets import Dataset

from act_hf.annotators import annotate
from act_hf.task import Task


TASK = Task(labels=["a", "b", "c"], text="t")


def rows(count: int) -> Dataset:
    return Dataset.from_dict({"t": [f"row number {i}" for i in range(count)]})


if __name__ == "__main__":
    from support.fakes import FakeModel, by_text

    store, count, sleep = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    model = FakeModel(by=by_text, name="slow", batch_size=4, sleep=sleep)
    annotate(rows(count), TASK, model, store=store, batch_size=16)
