"""
A million rows streamed through annotate and criticize: memory, time a row, and what two kills cost.

    nice python benchmarks/bench_stream.py    # half an hour

The model answers at once from the text, so that what is measured is ours: reading, keys, the store, shards. Each run
is a process of its own; its memory is what Linux counts as its own (RssAnon), and its time that of the processor,
since others use this machine too. Time a row beyond the model is the processor time of the run, less that of the
model, less that of a start with ten rows. Then a run over 1,000,000 rows is killed twice and goes on.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path


os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

from bench_scale import LABELS, Instant, Memory
from datasets import Dataset, load_dataset
from machine import save_result

from act_hf import Answer, Task
from act_hf.streams import annotate_stream, criticize_stream, sample_stream
from act_hf.streams.shards import open_shards


SIZES = (10, 200_000, 1_000_000)
PER_FILE = 100_000
STAGES = ("annotate", "criticize", "sample")
BATCH = 64


class Timed(Instant):
    """The same, with the time that it takes; and how many it answers, on the disk before they are used."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.seconds = 0.0

    def answer(self, requests: Sequence) -> Iterator[dict[int, Answer]]:
        start = time.process_time()
        for finished in super().answer(requests):
            with self.log.open("ab") as log:
                log.write(b"." * len(finished))
            self.seconds += time.process_time() - start
            yield finished
            start = time.process_time()


def write_rows(count: int, folder: Path) -> None:
    """Files of rows with 30 words each, no two alike."""
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "then", "it", "rains"]
    folder.mkdir()
    for start in range(0, count, PER_FILE):
        numbers = range(start, min(start + PER_FILE, count))
        text = [f"row {i}: " + " ".join(words[(i * k) % len(words)] for k in range(1, 28)) for i in numbers]
        Dataset.from_dict({"text": text}).to_parquet(str(folder / f"{start:08d}.parquet"))


def run(stage: str, folder: Path) -> None:
    """What one process does; prints what it took."""
    memory = Memory()
    memory.start()
    model = Timed(folder / f"{stage}.log")
    task = Task(labels=LABELS, text="text", instruction="Which emotion does the text express?")
    start = time.perf_counter()
    if stage == "annotate":
        files = sorted(map(str, (folder / "rows").glob("*.parquet")))
        rows = load_dataset("parquet", data_files=files, split="train", streaming=True)
        annotate_stream(rows, task, model, folder / "annotate", store=folder / "store", batch_size=BATCH)
    elif stage == "criticize":
        options = {"strategy": "logit", "store": folder / "store", "batch_size": BATCH}
        criticize_stream(folder / "annotate", model, folder / "criticize", **options)
    else:
        sample_stream(folder / "criticize", folder / "sample", budget=0.1)
    took = {"wall_s": time.perf_counter() - start, "processor_s": time.process_time(), "model_s": model.seconds}
    print(json.dumps(took | {"peak_mib": memory.peak_mib}))


def command(stage: str, folder: Path) -> list[str]:
    return [sys.executable, __file__, "--run", stage, "--folder", str(folder)]


def measured(count: int, parent: Path) -> dict:
    folder = parent / str(count)
    folder.mkdir()
    write_rows(count, folder / "rows")
    figures: dict = {"rows": count}
    for stage in STAGES:
        load = os.getloadavg()[0]
        output = subprocess.run(command(stage, folder), check=True, stdout=subprocess.PIPE, text=True).stdout
        figures[stage] = json.loads(output.splitlines()[-1]) | {"load_1_min": load}
        print(count, stage, figures[stage], flush=True)
    assert sum(open_shards(folder / "sample").rows) == count
    return figures


def killed(count: int, parent: Path) -> dict:
    """A run of annotate that is killed when it has answered a third, and two thirds, of the rows."""
    folder = parent / "killed"
    folder.mkdir()
    (parent / str(count) / "rows").rename(folder / "rows")
    log = folder / "annotate.log"
    kept = []
    for share in (1 / 3, 2 / 3):
        job = subprocess.Popen(command("annotate", folder), stdout=subprocess.DEVNULL)
        while not (log.exists() and log.stat().st_size > share * count):
            assert job.poll() is None
            time.sleep(0.01)
        job.send_signal(signal.SIGKILL)
        job.wait()
        kept.append({"answered": log.stat().st_size, "shards": len(list((folder / "annotate").glob("*.parquet")))})
        print("killed", kept[-1], flush=True)
    subprocess.run(command("annotate", folder), check=True, stdout=subprocess.DEVNULL)
    again = log.stat().st_size - count
    ours, whole = (
        open_shards(place / "annotate").table(["act_id", "act_label"]) for place in (folder, parent / str(count))
    )
    assert ours[:] == whole[:]
    return {"rows": count, "kills": kept, "answered_again": again, "batch": BATCH, "same_table": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sizes", type=int, nargs=3, default=SIZES)
    given = parser.parse_args()
    if given.run:
        run(given.run, given.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        runs = [measured(count, Path(name)) for count in given.sizes]
        kills = killed(given.sizes[-1], Path(name))
    start, small, large = runs
    beyond = {
        stage: {
            "ms_a_row": 1e3
            * (large[stage]["processor_s"] - large[stage]["model_s"] - start[stage]["processor_s"])
            / large["rows"],
            "memory_ratio": large[stage]["peak_mib"] / small[stage]["peak_mib"],
        }
        for stage in STAGES
    }
    print(beyond)
    assert kills["answered_again"] <= 2 * BATCH
    assert all(0.9 <= beyond[stage]["memory_ratio"] <= 1.1 for stage in ("annotate", "criticize"))
    assert all(beyond[stage]["ms_a_row"] < 0.3 for stage in ("annotate", "criticize"))
    save_result("stream", {"beyond_the_model": beyond, "runs": runs, "killed": kills})


if __name__ == "__main__":
    main()
