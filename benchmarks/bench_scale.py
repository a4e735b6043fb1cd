"""
Does a finished run open again quickly, and does memory stay where it was? 10,000 and 100,000 rows.

    python benchmarks/bench_scale.py

The model answers at once from the text, so that what is measured is ours: keys, store, columns. Every run is a process
of its own, and its memory is what Linux counts as its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path


os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

from datasets import Dataset
from machine import save_result

from act_hf import Answer, Task, annotate, criticize
from act_hf.records import stage_records


SIZES = (10_000, 100_000)
LABELS = ("anger", "joy", "optimism", "sadness")


class Instant:
    """Log-probabilities made of the row's text."""

    name = "instant"
    abilities = frozenset({"choose"})
    instructed = True

    def answer(self, requests: Sequence) -> Iterator[dict[int, Answer]]:
        for start in range(0, len(requests), 32):
            part = range(start, min(start + 32, len(requests)))
            yield {i: self._answer(requests[i]) for i in part}

    def _answer(self, request) -> Answer:
        number = sum(request.messages[-1]["content"].encode()) % 97
        return Answer(logprobs=tuple(-1.0 - (number * (i + 3)) % 7 for i in range(len(request.continuations))))


def rows(count: int, folder: Path) -> Dataset:
    """Rows on disk, as a large data set is: 30 words each, no two alike."""
    path = folder / f"rows{count}.parquet"
    if not path.exists():
        words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "then", "it", "rains"]
        text = [f"row {i}: " + " ".join(words[(i * k) % len(words)] for k in range(1, 28)) for i in range(count)]
        Dataset.from_dict({"text": text}).to_parquet(str(path))
    return Dataset.from_parquet(str(path), cache_dir=str(folder / "cache"))


def run(count: int, folder: Path) -> None:
    """What one process does: both stages over the store; prints what it took."""
    task = Task(labels=LABELS, text="text", instruction="Which emotion does the text express?")
    memory = Memory()
    memory.start()
    dataset = rows(count, folder)
    start = time.perf_counter()
    labelled = annotate(dataset, task, Instant(), store=folder / f"answers{count}.sqlite")
    annotated = time.perf_counter()
    doubted = criticize(labelled, Instant(), store=folder / f"answers{count}.sqlite", strategy="logit")
    done = time.perf_counter()
    made = {record["stage"]: record["usage"]["calls"] for record in stage_records(doubted)}
    figures = {"annotate_s": annotated - start, "criticize_s": done - annotated, "calls": made}
    print(json.dumps(figures | {"peak_mib": memory.peak_mib}))


class Memory(threading.Thread):
    """The most memory that this process had for itself: pages of files that it maps (the rows) can go at any time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mib = 0.0

    def run(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text().splitlines()
            kib = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
            self.peak_mib = max(self.peak_mib, kib / 1024)
            time.sleep(0.02)


def measured(count: int, folder: Path) -> dict:
    command = [sys.executable, __file__, "--run", str(count), "--folder", str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = json.loads(output.splitlines()[-1])
    print(count, figures, flush=True)
    return {"rows": count, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run(given.run, given.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        for count in SIZES:
            rows(count, Path(folder))
        first = [measured(count, Path(folder)) for count in SIZES]
        again = [measured(count, Path(folder)) for count in SIZES]
    save_result("scale", {"first": first, "again": again})


if __name__ == "__main__":
    main()
