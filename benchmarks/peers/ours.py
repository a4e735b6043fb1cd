"""
`annotate()` through `Endpoint`, with the store on.

    PYTHONPATH=. python benchmarks/peers/ours.py --url URL --input FILE --in-flight 64

With `--shares` also where the CPU time goes; that costs some itself.
"""

import argparse
import functools
import os
import tempfile
import threading
import time
import urllib.request
from pathlib import Path


os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

from datasets import Dataset
from job import Job

from act_hf import Endpoint, Task, annotate, prompts
from act_hf.models import asking
from act_hf.models.store import Store


class Shares:
    """CPU seconds of the main thread inside some functions, and those of the thread that talks to the server."""

    def __init__(self) -> None:
        self.inside: dict[str, float] = {}
        self._before = self._clocks()

    @staticmethod
    def _clocks() -> tuple[float, float]:
        client = next(thread for thread in threading.enumerate() if thread.name == "act_hf requests")
        return time.thread_time(), time.clock_gettime(time.pthread_getcpuclockid(client.ident))

    def count(self, name: str, place: object, *functions: str) -> None:
        for function in functions:
            setattr(place, function, self._counted(name, getattr(place, function)))

    def _counted(self, name: str, function):
        @functools.wraps(function)
        def counted(*args, **kwargs):
            before = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.inside[name] = self.inside.get(name, 0.0) + time.thread_time() - before

        return counted

    def taken(self) -> dict[str, float]:
        """CPU seconds of each part; what is left of the main thread makes columns, and hands over."""
        main, client = (after - before for after, before in zip(self._clocks(), self._before, strict=True))
        return {"client": client, **self.inside, "columns": main - sum(self.inside.values())}


def shares() -> Shares:
    counted = Shares()
    counted.count("store", Store, "get", "put")
    counted.count("keys and prompts", asking, "request_key")
    counted.count("keys and prompts", prompts, "label_request")
    counted.count("keys and prompts", Task, "row_id")
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--shares", action="store_true")
    job = Job.of(parser)
    task = Task(labels=job.labels, text="text", instruction=job.instruction)
    rows = Dataset.from_dict({"text": job.texts})
    with tempfile.TemporaryDirectory() as folder:

        def labelled(rows: Dataset, store: str) -> Dataset:
            model = Endpoint("m", base_url=job.url, concurrency=job.in_flight)
            return annotate(rows, task, model, store=Path(folder, store), batch_size=job.given.batch_size)

        labelled(Dataset.from_dict({"text": ["imports", "are not measured"]}), "first.sqlite")
        with urllib.request.urlopen(job.url.removesuffix("/v1") + "/stats") as reply:
            reply.read()
        counted = shares() if job.given.shares else None
        with job.timed("act_hf", "huggingface_hub", "httpx2", "datasets"):
            annotated = labelled(rows, "answers.sqlite")
        if counted:
            job.figures["shares"] = counted.taken()
    labels = annotated.features["act_label"]
    job.done([None if label is None else labels.int2str(label) for label in annotated["act_label"]])


if __name__ == "__main__":
    main()
