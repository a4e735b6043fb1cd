"""What every contender is given, and the one line of JSON that it prints. Standard library only."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Job:
    """
    Rows to label by the server at `url`, with `in_flight` requests at once.

    `texts` are the rows and `labels` what each can be; `bodies` are whole requests, one a row.
    """

    url: str
    in_flight: int
    texts: list[str]
    bodies: list[dict[str, Any]]
    labels: list[str]
    instruction: str
    given: argparse.Namespace
    figures: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, parser: argparse.ArgumentParser) -> Job:
        parser.add_argument("--url", required=True)
        parser.add_argument("--input", type=Path, required=True)
        parser.add_argument("--in-flight", type=int, required=True)
        parser.add_argument("--rows", type=int, help="the first so many")
        given = parser.parse_args()
        values = json.loads(given.input.read_text())
        texts, bodies = values["texts"][: given.rows], values["bodies"][: given.rows]
        return cls(given.url, given.in_flight, texts, bodies, values["labels"], values["instruction"], given)

    @contextmanager
    def timed(self, *packages: str) -> Iterator[None]:
        """Takes the time of what is measured, and the CPU seconds of this process and those it has waited for."""
        before, cpu = time.perf_counter(), sum(os.times()[:4])
        yield
        self.figures |= {"seconds": time.perf_counter() - before, "cpu_s": sum(os.times()[:4]) - cpu}
        self.figures["versions"] = {package: importlib.metadata.version(package) for package in packages}

    def done(self, labels: list[str | None]) -> None:
        """Prints the line. A contender that has lost rows must not look fast."""
        found = Counter(label if label in self.labels else None for label in labels)
        line = {"rows": len(self.texts), "labelled": found.total() - found[None], **self.figures}
        print("\n" + json.dumps(line), flush=True)
