"""Data sets from and to files, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.records import records, with_records


if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasets import Dataset, DatasetDict, Features

FORMATS = (".parquet", ".csv", ".jsonl")
HUB = "hf://"

_SIDECAR = ".act.json"


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """
    A path to write to, beside `path` and with its ending, that becomes `path` when the block ends well.

    Whoever looks sees the old file or the new one, never half of one, and an error leaves nothing behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    unfinished = folder / path.name
    try:
        yield unfinished
        if unfinished.is_dir() and path.is_dir():
            # A folder cannot be replaced in one step: the old one steps aside, and goes when the new one is there.
            path.rename(folder / "replaced")
        unfinished.rename(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_dataset(source: str | Path, *, split: str | None = None) -> Dataset:
    """
    Reads a data set, with the types and records that [`write_dataset`] left.

    Args:
        source (`str` or `Path`): a folder from `save_to_disk`, a `.parquet`, `.csv` or `.jsonl` file, or a Hub id
            (`user/name`, or `hf://user/name` where a folder has the same name).
        split (`str`, *optional*): which split, where there are several.

    Returns:
        `Dataset`.

    Raises:
        ACTError: when there is no such thing, it cannot be read, or has several splits and none is named.
    """
    path = Path(source)
    try:
        if str(source).startswith(HUB) or not path.exists():
            return _from_hub(str(source), split)
        if path.is_dir():
            from datasets import load_from_disk

            return _one_split(load_from_disk(str(path)), split, source)
        return _from_file(path)
    except ACTError:
        raise
    except Exception as error:  # each format and the Hub have errors of their own, and no common base
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ACTError(f"cannot read the data set {str(source)!r}: {reason}") from error


def write_dataset(dataset: Dataset, target: str | Path, *, overwrite: bool = False) -> None:
    """
    Writes a data set so that [`read_dataset`] gives it back with types and records.

    Parquet, CSV and JSONL files get a small file beside them (`NAME.act.json`) for what the format cannot hold. In CSV
    and JSONL, labels are written by name; in CSV, lists are written as JSON.

    Args:
        dataset (`Dataset`): what to write.
        target (`str` or `Path`): a `.parquet`, `.csv` or `.jsonl` file, `hf://user/name` for the Hub, else a folder.
        overwrite (`bool`, *optional*, defaults to `False`): replaces what is there.

    Raises:
        ACTError: when something is there and `overwrite` is not given, or the ending is unknown.
    """
    if str(target).startswith(HUB):
        dataset.push_to_hub(str(target).removeprefix(HUB), private=True)
        return
    path = Path(target)
    check_target(path, overwrite=overwrite)
    if path.suffix in FORMATS:
        kept = {"features": dataset.features.to_dict(), "records": records(dataset)}
        with written_whole(_sidecar(path)) as sidecar, written_whole(path) as unfinished:
            _to_file(dataset, unfinished)
            sidecar.write_text(json.dumps(kept, ensure_ascii=False, indent=1), encoding="utf-8")
    else:
        with written_whole(path) as unfinished:
            dataset.save_to_disk(str(unfinished))


def check_target(target: str | Path, *, overwrite: bool) -> None:
    """Raises [`ACTError`] when [`write_dataset`] would refuse `target`: worth knowing before a long job."""
    path = Path(target)
    if str(target).startswith(HUB):
        return
    if path.suffix and path.suffix not in FORMATS and not path.is_dir():
        raise ACTError(f"{str(target)!r}: a data set is written to {', '.join(FORMATS)}, a folder, or {HUB}user/name")
    if path.exists() and not overwrite:
        raise ACTError(f"{str(target)!r} exists; give another name, or --overwrite to replace it")


def _from_hub(source: str, split: str | None) -> Dataset:
    from datasets import load_dataset

    name = source.removeprefix(HUB)
    if not source.startswith(HUB) and (name.count("/") != 1 or Path(name).suffix in FORMATS or name.startswith(".")):
        raise ACTError(f"no file or folder {source!r}, and it is no Hub id (user/name) either")
    return _one_split(load_dataset(name, split=split), split, source)


def _one_split(loaded: Dataset | DatasetDict, split: str | None, source: str | Path) -> Dataset:
    from datasets import Dataset

    if isinstance(loaded, Dataset):
        return loaded
    names = list(loaded)
    chosen = split or (names[0] if len(names) == 1 else None)
    if chosen not in names:
        raise ACTError(f"{str(source)!r} has the splits {', '.join(names)}; choose one with --split")
    one: Dataset = loaded[chosen]
    return one


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + _SIDECAR)


def _from_file(path: Path) -> Dataset:
    from datasets import Dataset, Features

    if path.suffix not in FORMATS:
        raise ACTError(f"{str(path)!r}: a data set is a folder, a Hub id, or a file ending in {', '.join(FORMATS)}")
    if path.stat().st_size == 0:
        raise ACTError(f"{str(path)!r} is empty")
    kept = json.loads(_sidecar(path).read_text(encoding="utf-8")) if _sidecar(path).exists() else None
    if path.suffix == ".parquet":
        dataset = Dataset.from_parquet(str(path), keep_in_memory=True)
        return with_records(dataset, kept["records"]) if kept else dataset
    if not kept:
        reader = Dataset.from_csv if path.suffix == ".csv" else Dataset.from_json
        plain: Dataset = reader(str(path), keep_in_memory=True)
        return plain
    features = Features.from_dict(kept["features"])
    rows = _csv_rows(path, features) if path.suffix == ".csv" else _jsonl_rows(path)
    values = {name: [_to_value(row.get(name), kind) for row in rows] for name, kind in features.items()}
    return with_records(Dataset.from_dict(values, features=features), kept["records"])


def _to_file(dataset: Dataset, path: Path) -> None:
    if path.suffix == ".parquet":
        dataset.to_parquet(str(path))
        return
    rows = ({name: _from_value(row[name], kind) for name, kind in dataset.features.items()} for row in dataset)
    with path.open("w", encoding="utf-8", newline="") as stream:
        if path.suffix == ".jsonl":
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            return
        import csv

        writer = csv.DictWriter(stream, fieldnames=dataset.column_names)
        writer.writeheader()
        writer.writerows({name: _to_cell(value) for name, value in row.items()} for row in rows)


def _from_value(value: Any, kind: Any) -> Any:
    from datasets import ClassLabel, Image

    if isinstance(kind, Image):
        raise ACTError("images go into a folder or a .parquet file, not into .csv or .jsonl")
    return kind.int2str(value) if isinstance(kind, ClassLabel) and value is not None else value


def _to_value(value: Any, kind: Any) -> Any:
    from datasets import ClassLabel

    return kind.str2int(value) if isinstance(kind, ClassLabel) and value is not None else value


def _jsonl_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


# In CSV an empty cell is no value, text is itself, and everything else is JSON. Text that is empty, begins with a
# quote or would be run as a formula by a spreadsheet is JSON too: its cell begins with a quote.


def _to_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and value and value[0] not in '"=+-@\t\r':
        return value
    return json.dumps(value, ensure_ascii=False)


def _csv_rows(path: Path, features: Features) -> list[dict[str, Any]]:
    import csv

    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        return [{name: _from_cell(row.get(name), kind) for name, kind in features.items()} for row in rows]


def _from_cell(cell: str | None, kind: Any) -> Any:
    if not cell:
        return None
    return cell if _is_text(kind) and cell[0] != '"' else json.loads(cell)


def _is_text(kind: Any) -> bool:
    from datasets import ClassLabel, Value

    return isinstance(kind, ClassLabel) or (isinstance(kind, Value) and kind.dtype in ("string", "large_string"))
