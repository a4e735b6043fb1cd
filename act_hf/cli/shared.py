"""What every command does: read, write, and say what happened."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, printable


if TYPE_CHECKING:
    from datasets import Dataset


def say(text: str) -> None:
    """Prints lines without what could move the cursor or colour the terminal: labels and file names are not ours."""
    print("\n".join(printable(line) for line in text.split("\n")))


def complain(message: str, status: int) -> int:
    """Prints one line to where errors go, and gives the exit status."""
    print(f"act-hf: {printable(' '.join(message.split()))}", file=sys.stderr)
    return status


def read_input(source: str, split: str | None) -> Dataset:
    """The data set at `source`."""
    from datasets import disable_caching

    from act_hf.files import read_dataset

    disable_caching()  # else `map` leaves files in the folder that it reads
    return read_dataset(source, split=split)


def open_dataset(source: str, split: str | None, target: str, overwrite: bool) -> Dataset:
    """The data set at `source`, if what is made of it can be written to `target`."""
    from act_hf.files import check_target

    check_target(target, overwrite=overwrite)
    dataset = read_input(source, split)
    check_target(target, overwrite=overwrite, features=dataset.features)
    return dataset


def finish(dataset: Dataset, target: str, overwrite: bool, *, stages: int = 1) -> None:
    """Writes `dataset` and says what the last `stages` did."""
    from act_hf.files import write_dataset
    from act_hf.records import stage_records

    write_dataset(dataset, target, overwrite=overwrite)
    told = [_told(record) for record in stage_records(dataset)[-stages:]]
    say("\n".join([*told, f"written to {target}"]))


def shards_target(target: str) -> Path:
    """The folder for shards that `target` names, or an [`ACTError`]."""
    from act_hf.files import FORMATS
    from act_hf.hub.address import HUB

    if target.startswith(HUB) or target.endswith(FORMATS):
        raise ACTError(f"--stream writes a folder of parquet shards, not {target!r}; give the name of a folder")
    return Path(target)


def finish_shards(folder: Path) -> None:
    """Says what the last stage did, and where the shards are."""
    from act_hf.streams.shards import open_shards

    shards = open_shards(folder)
    say(f"{_told(shards.records[-1])}\nwritten to {folder}, in {len(shards.rows)} shards")


def _told(record: dict[str, Any]) -> str:
    """A record in a line."""
    hidden = ("stage", "task", "versions", "prior", "usage", "annotators")
    shown = {name: value for name, value in record.items() if name not in hidden and not isinstance(value, dict)}
    facts = [f"{name} {value}" for name, value in shown.items() if value not in (None, "")]
    usage = record.get("usage")
    if usage:
        stored = usage["requests"] - usage["calls"]
        facts.append(f"{usage['calls']} calls, " + (f"{stored} from the store" if stored >= 0 else "some repeated"))
        facts.append(f"{usage['tokens_in'] + usage['tokens_out']} tokens, {usage['seconds']:.0f} s of the model")
        facts += [f"${usage['spent']:.4f} spent"] if usage["spent"] else []
    return f"{record['stage']}: {', '.join(facts)}"


def threads() -> int | None:
    """Every core, since waiting threads sleep here; or as many as the user gives to OpenMP."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else os.cpu_count()


def parse_budget(text: str) -> int | float:
    """A number of rows (`"200"`), or a share of them (`"0.1"`, `"10%"`)."""
    plain = text.strip()
    try:
        number = float(plain.removesuffix("%"))
    except ValueError:
        raise ACTError(f"--budget {text!r} is neither a number of rows (200) nor a share (0.1 or 10%)") from None
    if plain.endswith("%"):
        if not 0 <= number <= 100:
            raise ACTError(f"--budget {text!r} is no share of the rows; give 0% to 100%, or a number of rows (200)")
        return number / 100
    return int(plain) if plain.lstrip("+-").isdecimal() else number
