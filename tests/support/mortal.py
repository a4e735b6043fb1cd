"""A model whose process is killed at chosen rows, and a stream job to be killed: `python -m support.mortal FOLDER`."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets import IterableDataset, load_dataset

from act_hf.models.base import Answer, Request
from act_hf.streams import annotate_stream
from act_hf.task import Task
from support.fakes import FakeModel, by_text, shown


TASK = Task(labels=["a", "b", "c"], text="t")
FATAL = ("row number 777", "row number 1501")


class Mortal(FakeModel):
    """
    Answers as [`by_text`] says, a few requests at a time, and writes each down in `asked.txt` (paid for, that is)
    before it hands the answer over. At each of the rows `fatal` its process dies with `kill -9`, the first time.
    """

    def __init__(self, folder: Path, fatal: Sequence[str] = (), *, batch_size: int = 8) -> None:
        super().__init__(by=by_text, name="mortal", batch_size=batch_size)
        self.folder = folder
        self.fatal = fatal

    def answer(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        for finished in super().answer(requests):
            rows = [shown(requests[i]).strip().splitlines()[-1] for i in finished]
            with (self.folder / "asked.txt").open("a") as log:
                log.write("".join(f"{row}\n" for row in rows))
            for row in self.fatal:
                grave = self.folder / f"died at {row}"
                if any(row in one for one in rows) and not grave.exists():
                    grave.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            yield finished

    def deaths(self) -> int:
        return len(list(self.folder.glob("died at *")))


def paid_again(folder: Path) -> int:
    """How many answers were paid for more than once."""
    asked = Counter((folder / "asked.txt").read_text().splitlines())
    return sum(asked.values()) - len(asked)


def source(folder: Path) -> IterableDataset:
    """The rows of the files in `folder`, as a stream."""
    files = sorted(map(str, (folder / "files").glob("*.parquet")))
    return load_dataset("parquet", data_files=files, split="train", streaming=True, cache_dir=str(folder / "cache"))


def job(folder: Path) -> Path:
    model = Mortal(folder, FATAL)
    return annotate_stream(source(folder), TASK, model, folder / "out", store=folder / "store", rows_per_shard=400)


if __name__ == "__main__":
    job(Path(sys.argv[1]))
