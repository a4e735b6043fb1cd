"""
Rows to a real Argilla server and answers back: how many a second, and does every answer come back on its row?

    act-hf review argilla --setup           # once: the server
    python benchmarks/bench_argilla.py      # five minutes

The server is a local one (act_hf/review/argilla_local), so it shares the machine and its database is SQLite: these are
lower bounds. Two people answer every 50th row, over REST.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Image, Value
from machine import save_result
from PIL import Image as Picture


sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.argilla_rest import Rest

from act_hf.columns import CRITIQUE, ERROR_PROB, ID, LABEL, PI, RESPONSES, SELECTED, add_columns, column_features
from act_hf.records import add_record
from act_hf.review.argilla import Argilla
from act_hf.review.argilla_local import LocalArgilla
from act_hf.review.places import pull_review, push_review
from act_hf.task import Task


LABELS = ("good", "bad", "odd")
EVERY = 50
SIDE = 512


def drawn(values: list, task: Task, kind) -> Dataset:
    """Selected rows of a task with one column."""
    (column,) = task.columns
    dataset = Dataset.from_dict({column: values}, features=Features({column: kind}))
    rows = len(dataset)
    added = {
        ID: [f"r{number}" for number in range(rows)],
        LABEL: [number % 3 for number in range(rows)],
        ERROR_PROB: np.linspace(1, 0, rows).tolist(),
        CRITIQUE: ["The text says the opposite of the label. " * 5] * rows,
        PI: [0.5] * rows,
        SELECTED: [True] * rows,
    }
    dataset = add_columns(dataset, added, column_features(task, added))
    return add_record(dataset, "annotate", task=task.to_dict(), model="none")


def texts(rows: int) -> Dataset:
    """Of 300 characters."""
    return drawn([f"review {number} " * 20 for number in range(rows)], Task(LABELS, text="review"), Value("string"))


def images(rows: int) -> Dataset:
    """JPEGs of about 100 kB."""
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(rows))
    return drawn([Picture.fromarray(one) for one in noise], Task(LABELS, image="photo"), Image())


def seconds(work) -> tuple[float, object]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def answer(server: LocalArgilla, name: str) -> dict[str, dict[str, str]]:
    """What two people say of every `EVERY`th row, by `act_id`."""
    owner = Rest(server.url, server.owner_key)
    given: dict[str, dict[str, str]] = {}
    for record in owner.records(name)[::EVERY]:
        label = LABELS[len(given) % 3]
        given[record["external_id"]] = dict.fromkeys(server.annotators, label)
        for key in server.annotators.values():
            Rest(server.url, key).answer(record["id"], label)
    return given


def measured(server: LocalArgilla, name: str, dataset: Dataset) -> dict:
    """One data set there and back."""
    place = Argilla(name, server.workspace, server.url, server.owner_key)
    first, pushed = seconds(lambda: push_review(dataset, place))
    again, repeated = seconds(lambda: push_review(dataset, place))
    answering, given = seconds(lambda: answer(server, name))
    pulling, back = seconds(lambda: pull_review(dataset, place))
    found = {
        act_id: {one["annotator"]: one["label"] for one in own}
        for act_id, own in zip(back[ID], back[RESPONSES], strict=True)
        if own
    }
    assert found == given, "an answer is lost, or on another row"
    assert (pushed.new, repeated.new, repeated.there) == (len(dataset), 0, len(dataset))
    rows = len(dataset)
    return {
        "rows": rows,
        "push_rows_per_second": round(rows / first, 1),
        "push_again_rows_per_second": round(rows / again, 1),
        "pull_rows_per_second": round(rows / pulling, 1),
        "answers": sum(map(len, given.values())),
        "answers_per_second": round(sum(map(len, given.values())) / answering, 1),
        "answers_on_their_rows": sum(map(len, found.values())),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LocalArgilla(Path(folder) / "argilla") as server:
        load = os.getloadavg()[0]
        figures = {
            "texts": measured(server, "texts", texts(given.texts)),
            "images": measured(server, "images", images(given.images)),
        }
    save_result("argilla", {"load_before": round(load, 1), **figures})


if __name__ == "__main__":
    main()
