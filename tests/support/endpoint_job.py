"""A job behind a server, to be killed: `python -m support.endpoint_job URL STORE OUT ROWS CONCURRENCY`."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path

from datasets import Dataset

from act_hf.annotators import annotate
from act_hf.models.endpoint import Endpoint
from act_hf.task import Task


TASK = Task(labels=["anger", "joy", "optimism", "sadness"], text="text", instruction="Which emotion is it?")


def rows(count: int) -> Dataset:
    return Dataset.from_dict({"text": [f"row number {i} feels {i * 7919 % 1000}" for i in range(count)]})


def stats(url: str) -> dict:
    """What the server at `url` has seen."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as reply:
        seen: dict = json.load(reply)
    return seen


def main() -> None:
    url, store, out, count, concurrency = sys.argv[1:]
    model = Endpoint("m", base_url=url, concurrency=int(concurrency))
    labelled = annotate(rows(int(count)), TASK, model, store=store)
    columns = {name: labelled[name][:] for name in labelled.column_names if name.startswith("act_")}
    part = Path(out + ".part")
    part.write_text(json.dumps(columns))
    os.replace(part, out)


if __name__ == "__main__":
    main()
