"""Rows for the review page, and the page as its command serves it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, Features, Image, Value

from act_hf.columns import CRITIQUE, ERROR_PROB, ID, LABEL, PI, RATIONALE, SELECTED, add_columns, column_features
from act_hf.records import add_record
from act_hf.review.page.database import Database
from act_hf.review.page.view import Reviewing, View
from act_hf.task import Task


LABELS = ("ham", "spam", "-5")
TASK = Task(labels=LABELS, text="sms", instruction="Is it spam?")


def to_review(texts: Sequence[str], *, task: Task = TASK, images=None, machine=None, doubt=None, **more) -> Dataset:
    """Drawn rows; by default each is less doubtful than the one before it, and the machine says the first label."""
    rows = len(texts)
    shown = {task.text or task.question: list(texts)} if task.text or task.question else {}
    features = dict.fromkeys(shown, Value("string"))
    if task.image:
        shown[task.image], features[task.image] = images, Image()
    dataset = Dataset.from_dict(shown, features=Features(features))
    values = {
        ID: [task.row_id(row) for row in task.rows(_undecoded(dataset, task)[:])],
        LABEL: machine or [0] * rows,
        ERROR_PROB: doubt or [1 - number / rows for number in range(rows)],
        CRITIQUE: ["too short"] * rows,
        RATIONALE: ["it says so"] * rows,
        PI: [0.5] * rows,
        SELECTED: [True] * rows,
        **more,
    }
    return add_record(add_columns(dataset, values, column_features(task, values)), "annotate", task=task.to_dict())


def _undecoded(dataset: Dataset, task: Task) -> Dataset:
    return dataset.cast_column(task.image, Image(decode=False)) if task.image else dataset


class Visitor:
    """Somebody at an open page, without a browser."""

    def __init__(self, database: Database, name: str, *, tab: str | None = None, per_row: int = 1) -> None:
        self.reviewing = Reviewing(database, per_row=per_row)
        self.name, self.tab = name, tab or f"tab of {name}"
        self.sent = 0
        self.view: View = {}

    def ask(self, do: str, **values) -> View:
        self.sent += 1
        key = f"{self.tab}-{self.sent}"
        self.view = self.reviewing.ask({"do": do, "person": self.name, "page": self.tab, "key": key, **values})
        return self.view

    def look(self) -> str | None:
        """The text of the row that is shown next."""
        return self.text(self.ask("next"))

    def answer(self, label: int, comment: str = "") -> str | None:
        row = self.view["row"]["id"]
        return self.text(self.ask("label", row=row, label=label, comment=comment, seconds=1.5))

    def skip(self) -> str | None:
        return self.text(self.ask("skip", row=self.view["row"]["id"], comment="", seconds=1.5))

    def undo(self) -> str | None:
        return self.text(self.ask("undo"))

    @staticmethod
    def text(view: View) -> str | None:
        assert "error" not in view, view
        return view["row"]["parts"][-1]["text"] if view["row"] else None


@dataclass
class Served:
    """A page that `act-hf review page` serves."""

    process: subprocess.Popen[str]
    url: str
    said: list[str]

    @property
    def port(self) -> int:
        return int(re.search(r":(\d+)/", self.url)[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> str:
        """Ctrl-C. Returns what was said from then on."""
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=60)
        return out


@contextlib.contextmanager
def served(*arguments: str | Path) -> Iterator[Served]:
    """`act-hf review page ARGUMENTS`, a process of its own."""
    command = [sys.executable, "-m", "act_hf.cli", "review", "page", *map(str, arguments)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C stops it" in line:
                break
        else:
            raise AssertionError(f"it ended: {said}, {process.stderr.read()}")
        yield Served(process, re.search(r"http://\S+", "".join(said))[0], said)
    finally:
        process.kill()
        process.communicate()
