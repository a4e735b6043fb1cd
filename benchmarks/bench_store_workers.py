"""
One store that all workers write to, or one for each that are merged at the end?

    python benchmarks/bench_store_workers.py    # some minutes

1, 2, 4 and 8 processes look up and then write 20,000 answers each, 32 at a time, as a model's batches come. Wall and
processor seconds, of all together, and the longest that one look-up and write took.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import save_result

from act_hf.models.base import Answer
from act_hf.models.store import Store, request_key


ANSWERS = 20_000
BATCH = 32
WORKERS = (1, 2, 4, 8)


def work(path: Path, worker: int) -> None:
    """What one process does; prints the longest that a batch took."""
    from act_hf import ChatRequest

    store = Store(path)
    longest = 0.0
    for start in range(0, ANSWERS, BATCH):
        requests = [
            ChatRequest(({"role": "user", "content": f"worker {worker} row {start + i}"},)) for i in range(BATCH)
        ]
        keys = [request_key("m", "1", request) for request in requests]
        began = time.perf_counter()
        known = store.get(keys)
        store.put({key: Answer(logprobs=(-0.5, -1.5, -2.5, -3.5)) for key in keys if key not in known}, model="m")
        longest = max(longest, time.perf_counter() - began)
    print(json.dumps(longest))


def measured(workers: int, own: bool) -> dict:
    """The workers at one store, or each at its own, which are then merged."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / (f"store{worker}" if own else "store") for worker in range(workers)]
        before, start = _processor(), time.perf_counter()
        jobs = [
            subprocess.Popen(
                [sys.executable, __file__, "--work", str(path), "--worker", str(worker)], stdout=subprocess.PIPE
            )
            for worker, path in enumerate(paths)
        ]
        longest = max(json.loads(job.communicate()[0]) for job in jobs)
        assert not any(job.returncode for job in jobs)
        written = time.perf_counter()
        if own:
            Store(folder / "all").merge(*paths)
        end = time.perf_counter()
        total = len(Store(folder / "all" if own else paths[0]))
        assert total == workers * (ANSWERS // BATCH * BATCH)
        return {
            "workers": workers,
            "stores": "one each, merged" if own else "one",
            "wall_s": end - start,
            "merge_s": end - written,
            "processor_s": _processor() - before,
            "longest_batch_s": longest,
            "answers_per_s": total / (end - start),
        }


def _processor() -> float:
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.worker)
        return
    runs = []
    for workers in WORKERS:
        for own in (False, True):
            runs.append(measured(workers, own))
            print(runs[-1], flush=True)
    save_result("store_workers", {"batch": BATCH, "load_1_min": os.getloadavg()[0], "runs": runs})


if __name__ == "__main__":
    main()
