"""Data sets from and to files, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.hub.address import HUB, Address, is_address, parse_address
from act_hf.records import stage_records, with_records


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from datasets import Dataset, DatasetDict, Features

FORMATS = (".parquet", ".csv", ".jsonl")

FORMULA = "=+-@\t\r\n＝＋－＠"
"""A spreadsheet runs a cell that begins with one of these as a formula, whoever wrote it."""

_SIDECAR = ".act.json"
_STATE = "state.json"  # in every folder of save_to_disk


@contextlib.contextmanager
def written_whole(path: Path, what: str = "the file") -> Iterator[Path]:
    """
    A path to write to, beside `path` and with its ending, that becomes `path` when the block ends well.

    Whoever looks sees the old one or the new one, never half of one, and an error leaves nothing behind. A killed
    process leaves a hidden folder `.NAME.xxxxxxxx` beside `path`. A folder cannot be replaced in one step: killed
    between the two, `path` is missing, and the old one is `replaced` in that hidden folder.

    Args:
        path (`Path`): the file or folder to write.
        what (`str`, *optional*, defaults to `"the file"`): what is written, for the message.

    Raises:
        ACTError: when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield folder / path.name
            _move(folder / path.name, path, aside=folder / "replaced")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise ACTError(f"cannot write {what} {str(path)!r}: {error}") from error


def _move(new: Path, path: Path, *, aside: Path) -> None:
    """A folder cannot be replaced in one step: the old one steps aside, and goes when the new one is there."""
    try:
        if new.is_dir() and path.is_dir():
            path.rename(aside)
        new.replace(path)  # rename() would refuse a file that is there, on Windows
    except BaseException:
        if aside.exists() and not path.exists():
            aside.rename(path)
        raise


def read_dataset(source: str | Path, *, split: str | None = None) -> Dataset:
    """
    Reads a data set, with the types and records that [`write_dataset`] left.

    Args:
        source (`str` or `Path`): a folder from `save_to_disk`, or of shards ([`annotate_stream`]), a
            `.parquet`, `.csv` or `.jsonl` file, or a Hub id
            (`user/name`, or `hf://user/name` where a folder has the same name), with `@revision` and then
            `:configuration` where they are meant.
        split (`str`, *optional*): which split, where there are several.

    Returns:
        `Dataset`.

    Raises:
        ACTError: when there is no such thing, it cannot be read, it has several splits and none is named, or not the
            one that is named.
    """
    path = Path(source)
    try:
        if str(source).startswith(HUB) or not path.exists():
            return _from_hub(str(source), split)
        if path.is_dir():
            from datasets import load_from_disk

            from act_hf.streams.shards import is_shards, open_shards

            if is_shards(path):
                return _one_split(open_shards(path).dataset(), split, source)

            return _one_split(load_from_disk(str(path)), split, source)
        if split is not None:
            raise ACTError(f"{str(source)!r} is a file, which has no split {split!r}; leave out --split")
        return _from_file(path)
    except ACTError:
        raise
    except Exception as error:  # each format and the Hub have errors of their own, and no common base
        raise ACTError(f"cannot read the data set {str(source)!r}: {_reason(error)}") from error


def write_dataset(dataset: Dataset, target: str | Path, *, overwrite: bool = False) -> None:
    """
    Writes a data set so that [`read_dataset`] gives it back with types and records.

    Parquet, CSV and JSONL files get a small file beside them (`NAME.act.json`) for what the format cannot hold. In CSV
    and JSONL, labels are written by name (the -1 that some data sets have for "no label" as none); in CSV, lists are
    written as JSON.

    Args:
        dataset (`Dataset`): what to write.
        target (`str` or `Path`): a `.parquet`, `.csv` or `.jsonl` file, `hf://user/name` for the Hub (private, where
            it is not there; see [`push_dataset`]), else a folder.
        overwrite (`bool`, *optional*, defaults to `False`): replaces what is there.

    Raises:
        ACTError: when something is there and `overwrite` is not given, the ending is unknown, the format cannot hold
            a column, or it cannot be written.
    """
    if str(target).startswith(HUB):
        from act_hf.hub.pushing import push_dataset

        push_dataset(dataset, str(target), overwrite=overwrite)
        return
    path = Path(target)
    check_target(path, overwrite=overwrite, features=dataset.features)
    if path.suffix not in FORMATS:
        with written_whole(path, "the data set") as unfinished:
            dataset.save_to_disk(str(unfinished))
        return
    kept = _kept(dataset)
    with written_whole(path, "the data set") as unfinished, written_whole(_sidecar(path), "the data set") as sidecar:
        _to_file(dataset, unfinished)
        sidecar.write_text(json.dumps(kept, ensure_ascii=False, indent=1), encoding="utf-8")
        # Two files cannot be replaced in one step, and old rows beside new types would be misread.
        path.unlink(missing_ok=True)


def check_target(target: str | Path, *, overwrite: bool, features: Features | None = None) -> None:
    """
    Raises [`ACTError`] when [`write_dataset`] would refuse `target`: worth knowing before a long job.

    Args:
        target (`str` or `Path`): as for [`write_dataset`].
        overwrite (`bool`): whether what is there may be replaced.
        features (`datasets.Features`, *optional*): of the rows to write, where they are known.
    """
    path = Path(target)
    if str(target).startswith(HUB):
        from act_hf.hub.pushing import check_push

        check_push(parse_address(str(target)), overwrite=overwrite, features=features)
        return
    if path.suffix and path.suffix not in FORMATS and not path.is_dir():
        raise ACTError(f"{str(target)!r}: a data set is written to {', '.join(FORMATS)}, a folder, or {HUB}user/name")
    check_replaceable(path, overwrite=overwrite, sign=None if path.suffix in FORMATS else _STATE)
    if path.suffix in (".csv", ".jsonl"):
        for name, kind in (features or {}).items():
            if not _fits_json(kind):
                raise ACTError(f"{path.suffix} cannot hold column {name!r} ({kind}); write .parquet or a folder")


def check_replaceable(path: Path, *, overwrite: bool, sign: str | None = None) -> None:
    """
    Raises [`ACTError`] when `path` exists and may not be replaced, or is something else than what will be written.

    Args:
        path (`Path`): the output.
        overwrite (`bool`): whether it may be replaced.
        sign (`str`, *optional*): for a folder, a file that is in every folder of that kind: `--overwrite .` must not
            cost anybody their files. Without it the output is a file.
    """
    if not path.exists():
        return
    if not overwrite:
        raise ACTError(f"{str(path)!r} exists; give another name, or --overwrite to replace it")
    if path.is_dir() != (sign is not None):
        there, wanted = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise ACTError(f"{str(path)!r} is a {there}, and a {wanted} is to be written; give another name")
    if sign and any(path.iterdir()) and not (path / sign).exists():
        raise ACTError(f"{str(path)!r} has other files in it and no {sign}, so it is not replaced; give another name")


def _fits_json(kind: Any) -> bool:
    """Whether JSON holds such values and gives them back."""
    from datasets import ClassLabel, LargeList, List, Value

    if isinstance(kind, dict):
        return all(_fits_json(part) for part in kind.values())
    if isinstance(kind, List | LargeList):
        return _fits_json(kind.feature)
    plain = ("string", "large_string", "bool", "int", "uint", "float", "null")
    return isinstance(kind, ClassLabel) or (isinstance(kind, Value) and kind.dtype.startswith(plain))


def _reason(error: Exception) -> str:
    """What an error of `datasets` says to a user, in a line."""
    # It wraps what a reader says in "An error occurred while generating the dataset".
    reason = str(error.__cause__ or error).strip() or type(error).__name__
    without_rows = ("list index out of range", "corresponds to no data")  # its words for a folder and a file
    return "it has no rows" if any(words in reason for words in without_rows) else reason.splitlines()[0]


def _from_hub(source: str, split: str | None) -> Dataset:
    from act_hf.hub.pulling import pull_dataset

    return pull_dataset(hub_address(source), split=split)


def hub_address(source: str) -> Address:
    """The place on the Hub that a source which is no file or folder stands for, or an [`ACTError`]."""
    if not source.startswith(HUB) and not _is_hub_id(source):
        raise ACTError(f"no file or folder {source!r}, and it is no Hub id (user/name) either")
    return parse_address(source)


def _is_hub_id(name: str) -> bool:
    """Whether `name` can be `user/name`: not where `user` is a folder here, so `name` is only misspelled."""
    path = Path(name)
    return is_address(name) and path.suffix not in FORMATS and not path.parent.is_dir()


def _one_split(loaded: Dataset | DatasetDict, split: str | None, source: str | Path) -> Dataset:
    from datasets import Dataset

    if isinstance(loaded, Dataset):
        if split not in (None, str(loaded.split)):
            raise ACTError(f"{str(source)!r} has no split {split!r}; leave out --split")
        return loaded
    names = list(loaded)
    chosen = split or (names[0] if len(names) == 1 else None)
    if chosen not in names:
        raise ACTError(f"{str(source)!r} has the splits {', '.join(names)}; choose one with --split")
    one: Dataset = loaded[chosen]
    return one


def _kept(dataset: Dataset) -> dict[str, Any]:
    return {"features": dataset.features.to_dict(), "records": stage_records(dataset)}


def has_sidecar(path: Path) -> bool:
    """Whether what the format cannot hold is in a file beside it."""
    return _sidecar(path).exists()


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + _SIDECAR)


def _from_file(path: Path) -> Dataset:
    from datasets import Dataset, Features

    if path.suffix not in FORMATS:
        raise ACTError(f"{str(path)!r}: a data set is a folder, a Hub id, or a file ending in {', '.join(FORMATS)}")
    if path.stat().st_size == 0:
        raise ACTError(f"{str(path)!r} is empty")
    if not _sidecar(path).exists():
        return _from_plain_file(path)
    kept = json.loads(_sidecar(path).read_text(encoding="utf-8"))
    features = Features.from_dict(kept["features"])
    if path.suffix == ".parquet":
        dataset = _from_plain_file(path)
        _check_columns(dataset.column_names, features, path)
    else:
        rows = _csv_rows(path, features) if path.suffix == ".csv" else _jsonl_rows(path, features)
        values = {name: [_to_value(row[name], kind) for row in rows] for name, kind in features.items()}
        dataset = Dataset.from_dict(values, features=features)
    return with_records(dataset, kept["records"])


def _from_plain_file(path: Path) -> Dataset:
    """The file as `datasets` reads it, past its cache, which takes a file changed at the same time for the same."""
    from datasets import Dataset

    readers = {".parquet": Dataset.from_parquet, ".csv": Dataset.from_csv, ".jsonl": Dataset.from_json}
    # "NA", "None" and "null" are text, and may be labels; only an empty cell is no value.
    options = {"keep_default_na": False, "na_values": [""]} if path.suffix == ".csv" else {}
    with tempfile.TemporaryDirectory() as cache:
        dataset: Dataset = readers[path.suffix](str(path), keep_in_memory=True, cache_dir=cache, **options)
    return dataset


def _check_columns(there: Iterable[str], features: Features, path: Path) -> None:
    differ = sorted(set(there) ^ set(features))
    if differ:
        raise ACTError(
            f"the columns of {str(path)!r} are not those in {_sidecar(path).name!r} ({', '.join(map(repr, differ))}); "
            "if the file was changed on purpose, remove that one, and types and records are gone"
        )


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
    from datasets import ClassLabel

    if not isinstance(kind, ClassLabel) or value is None:
        return value
    return kind.int2str(value) if value >= 0 else None  # -1 is how some data sets write "no label"


def _to_value(value: Any, kind: Any) -> Any:
    from datasets import ClassLabel

    return kind.str2int(value) if isinstance(kind, ClassLabel) and value is not None else value


def _jsonl_rows(path: Path, features: Features) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:  # not splitlines(): texts hold U+2028 and its like
        rows = [json.loads(line) for line in stream if line.strip()]
    for row in rows:
        _check_columns(row, features, path)
    return rows


# In CSV an empty cell is no value, text is itself, and everything else is JSON. Text that is empty, begins with a
# quote or would be run as a formula by a spreadsheet is JSON too: its cell begins with a quote.


def _to_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and value and value[0] not in '"' + FORMULA:
        return value
    return json.dumps(value, ensure_ascii=False)


def _csv_rows(path: Path, features: Features) -> list[dict[str, Any]]:
    import csv

    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream)
        _check_columns(rows.fieldnames or (), features, path)
        return [{name: _from_cell(row[name], kind) for name, kind in features.items()} for row in rows]


def _from_cell(cell: str | None, kind: Any) -> Any:
    if not cell:
        return None
    return cell if _is_text(kind) and cell[0] != '"' else json.loads(cell)


def _is_text(kind: Any) -> bool:
    from datasets import ClassLabel, Value

    return isinstance(kind, ClassLabel) or (isinstance(kind, Value) and kind.dtype in ("string", "large_string"))
