"""The commands that make a data set what it is, told by its records."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_FINGERPRINT = re.compile(r"@[0-9a-f]{8,}$")
_OPTIONS = {
    "annotate": ("strategy", "calibration"),
    "criticize": ("strategy", "calibration", "suffix"),
    "sample": ("budget", "rule", "mix", "floor", "groups", "wave", "seed", "failures"),
    "calibrate": ("method", "seed"),
}
"""The facts of a record that are options of a command by the same name."""

_UNSAID: Mapping[str, Any] = {"calibration": "none", "suffix": "", "floor": 0.0, "wave": 1, "failures": "raise"}
"""What a command does anyway."""


def reproducing(records: Sequence[Mapping[str, Any]], source: str, target: str) -> list[str]:
    """
    A command for each record, each reading what the one before wrote.

    Args:
        records (sequence of mappings): see [`act_hf.records.stage_records`].
        source (`str`): what the first one reads.
        target (`str`): where the last one publishes to.
    """
    lines, at = [], source
    for number, record in enumerate(records, 1):
        out = f"step{number}"
        made = list(_commands(record, at, out))
        lines += made
        at = out if made else at
    return [*lines, _line("publish", at, target)]


def _commands(record: Mapping[str, Any], source: str, out: str) -> Iterator[str]:
    stage, strategy = record["stage"], record.get("strategy")
    options = {name: record.get(name) for name in _OPTIONS.get(stage, ())}
    if stage == "annotate":
        yield _line(stage, source, out, **_task(record), model=_models(record), **options)
    elif stage == "criticize" and strategy == "panel":
        yield _line("panel", source, out, model=record.get("votes"), suffix=record.get("suffix"))
    elif stage == "criticize" and strategy == "fused":
        yield _line("fuse", source, out, signal=record.get("signals"), suffix=record.get("suffix"))
    elif stage == "criticize":
        yield _line(stage, source, out, model=_models(record), **options)
    elif stage in ("sample", "calibrate"):
        yield _line(stage, source, out, **options)
    elif stage == "review" and record.get("simulated"):
        column = re.fullmatch(r"simulated from column '(.*)'", str(record.get("source")))
        yield _line("review", "simulate", source, out, gold=column[1] if column else "label")
    elif stage == "review":
        place = _place(str(record.get("source")))
        yield _line("review", "push", source, place)
        yield _line("review", "pull", source, place, out)


def _place(source: str) -> str:
    """Where people reviewed, as the commands are told it."""
    kind, _, name = source.partition(" ")
    if kind == "argilla":
        return f"argilla:{name}"
    return name if kind in ("table", "page") and name else "to_review.csv"


def _task(record: Mapping[str, Any]) -> dict[str, Any]:
    task = record.get("task") or {}
    shown = {name: task.get(name) for name in ("text", "question", "image")}
    more = {name: task.get(name) for name in ("instruction", "language")}
    return {**shown, "labels": ",".join(map(str, task.get("labels") or ())), **more}


def _models(record: Mapping[str, Any]) -> list[str]:
    """The names of models without the fingerprints of their weights."""
    return [_FINGERPRINT.sub("", name) for name in str(record.get("model")).split(" + ")]


def _line(*words: str, **options: Any) -> str:
    """A command, each word quoted where a shell would take it for something else."""
    parts = ["act-hf", *words]
    for name, value in options.items():
        for one in value if isinstance(value, list | tuple) else (value,):
            if one is not None and one != "" and one != _UNSAID.get(name):
                parts += [f"--{name.replace('_', '-')}", str(one)]
    return " ".join(shlex.quote(part) for part in parts)
