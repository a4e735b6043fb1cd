"""A folder of parquet shards, each there whole or not at all, and `act.json`, which says that it is finished."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, one_line
from act_hf.files import written_whole
from act_hf.records import with_records


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa
    from datasets import Dataset, Features

MANIFEST = "act.json"
"""Written last. A data set on the Hub has a file of the same name and form."""

_PATTERN = "shard-*.parquet"
_MARK = b"act_hf"
_GROUP_ROWS, _GROUP_BYTES = 1000, 64 << 20
"""When rows are written: a row group is what a reader takes into memory at once."""


_AGAIN = "run the stage that wrote it again: it writes what is missing, and asks for nothing that is in the store"


@dataclass(frozen=True)
class Shard:
    """
    What a shard says of itself in its footer.

    Args:
        run (`dict`): who made it, and how: shards of another run are not mixed in.
        priors (`list`): the label priors of that run, one a model; see [`fit_prior`].
        rows (`int`): in it.
        failed (`int`): of these, with an `act_failure`.
        usage (`dict`): what was asked for them; see [`Usage`].
        position (`dict`): where the source was; see [`Position`].
    """

    run: dict[str, Any]
    priors: list[Any]
    rows: int
    failed: int
    usage: dict[str, Any]
    position: dict[str, Any]


def shard_path(folder: Path, number: int) -> Path:
    """The file of the shard with that number, from 0."""
    return folder / _PATTERN.replace("*", f"{number:05d}")


def shard_paths(folder: Path) -> list[Path]:
    """The shards that are there, in order."""
    return sorted(folder.glob(_PATTERN))


def read_footer(path: Path) -> Shard | None:
    """
    What a shard says of itself; `None` where there is no such file.

    Raises:
        ACTError: for a file that is broken, or none of ours. It is left as it is.
    """
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    again = "remove it, and the same run writes it anew, without asking again for what is in the store"
    try:
        said = (pq.read_metadata(path).metadata or {}).get(_MARK)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these
        raise ACTError(f"the shard {str(path)!r} is broken ({one_line(error)}); {again}") from error
    if said is None:
        raise ACTError(f"{str(path)!r} was not written by this stage; give another folder, or remove the file")
    return Shard(**json.loads(said))


class ShardWriter:
    """Writes tables to a parquet file, with row groups that a reader can hold, and the footer last."""

    def __init__(self, path: Path, features: Features) -> None:
        from datasets.arrow_writer import ParquetWriter

        self._writer = ParquetWriter(path=str(path), features=features, embed_local_files=True)
        self._waiting: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        """Adds rows, some time before [`ShardWriter.finish`] ends."""
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= _GROUP_ROWS or sum(part.nbytes for part in self._waiting) >= _GROUP_BYTES:
            self._flush()

    def finish(self, shard: Shard | None = None) -> None:
        """Writes what is left and the footer."""
        self._flush()
        if shard is not None:
            self._writer.pa_writer.add_key_value_metadata({_MARK.decode(): json.dumps(asdict(shard))})
        self._writer.finalize()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []


@contextmanager
def shard_writer(path: Path, features: Features) -> Iterator[ShardWriter]:
    """A writer for the block. The file is there when the block ends well, and else as it was."""
    with written_whole(path, "the shard") as unfinished:
        yield ShardWriter(unfinished, features)


def write_manifest(folder: Path, features: Features, records: Sequence[Any], rows: Sequence[int], **more: Any) -> None:
    """Says that the folder is finished, what its columns are, and how many rows each shard has."""
    shards = [{"name": shard_path(folder, number).name, "rows": count} for number, count in enumerate(rows)]
    kept = {"features": features.to_dict(), "records": list(records), "shards": shards, **more}
    with written_whole(folder / MANIFEST) as unfinished:
        unfinished.write_text(json.dumps(kept, ensure_ascii=False, indent=1), encoding="utf-8")


def finished_shards(folder: Path) -> int | None:
    """How many shards a finished folder has, or had; `None` for one that is not finished."""
    shards = _manifest(folder).get("shards")
    return len(shards) if isinstance(shards, list) else None


def _manifest(folder: Path) -> dict[str, Any]:
    """What `act.json` says; nothing where it cannot be read, and is to be written anew."""
    try:
        kept = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def check_not_source(folder: Path, records: Sequence[Any]) -> None:
    """
    Raises [`ACTError`] where a finished folder holds the rows that are to be read: to write to it would cost them.

    Args:
        folder (`Path`): where the shards of a stage are to go.
        records (sequence of `dict`): of the rows that it reads. What it writes has one more.
    """
    if records and _manifest(folder).get("records") == list(records):
        raise ACTError(f"{str(folder)!r} is what is read; give another folder for what is written")


def is_shards(path: Path) -> bool:
    """Whether `path` is a folder of shards, finished or not."""
    return path.is_dir() and ((path / MANIFEST).exists() or bool(shard_paths(path)))


@dataclass(frozen=True)
class Shards:
    """
    A finished folder of shards.

    Args:
        folder (`Path`): where it is.
        features (`datasets.Features`): its columns.
        records (`list` of `dict`): what the stages did; see [`stage_records`].
        rows (`list` of `int`): of each shard.
    """

    folder: Path
    features: Features
    records: list[dict[str, Any]]
    rows: list[int]

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return [shard_path(self.folder, number) for number in range(len(self.rows))]

    def dataset(self) -> Dataset:
        """All rows, memory-mapped: `datasets` makes Arrow files of the shards in its cache, once."""
        from datasets import Dataset

        files = [str(path) for path in self.paths]
        try:
            return with_records(Dataset.from_parquet(files, features=self.features), self.records)
        except Exception as error:  # datasets' own, around those of a reader
            raise ACTError(f"cannot read the shards in {str(self.folder)!r}: {one_line(error)}") from error

    def table(self, names: Iterable[str]) -> Dataset:
        """Some columns of all rows, in memory. Nothing else is read."""
        import pyarrow as pa
        from datasets import Dataset, DatasetInfo, Features

        kept = [name for name in self.features if name in set(names)]
        parts = [part for path in self.paths for part in self.batches(path, kept)]
        table = pa.Table.from_batches(parts).replace_schema_metadata(None)
        types = Features({name: self.features[name] for name in kept})
        return Dataset(table.cast(types.arrow_schema), info=DatasetInfo(features=types))

    def batches(self, path: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of a shard, a thousand rows at a time."""
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_GROUP_ROWS, columns=list(names)):
                    yield batch.select(names)
        except (OSError, ValueError) as error:
            raise ACTError(
                f"the shard {str(path)!r} is broken ({one_line(error)}); remove it, and {_AGAIN}"
            ) from error


def open_shards(folder: Path) -> Shards:
    """
    A folder of shards that is finished, and whose shards are all there.

    Raises:
        ACTError: naming the shard that is missing, broken, or has other rows than it had.
    """
    from datasets import Features

    try:
        kept = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        features, records, shards = Features.from_dict(kept["features"]), kept["records"], kept["shards"]
        rows = [int(shard["rows"]) for shard in shards]
    except (FileNotFoundError, NotADirectoryError):
        there = len(shard_paths(folder))
        if not there:
            raise ACTError(f"{str(folder)!r} is no folder of shards, such as annotate_stream writes") from None
        raise ACTError(
            f"{str(folder)!r} is not finished: {there} shards are there; run the stage that writes it again, and it "
            "goes on after them"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ACTError(f"{str(folder / MANIFEST)!r} cannot be read: {one_line(error)}") from error
    opened = Shards(folder, features, records, rows)
    for path, count in zip(opened.paths, rows, strict=True):
        _check_rows(path, count)
    extra = sorted({path.name for path in shard_paths(folder)} - {path.name for path in opened.paths})
    if extra:
        raise ACTError(f"{str(folder)!r} has the shard {extra[0]!r}, of which {MANIFEST} does not know; remove it")
    return opened


def _check_rows(path: Path, count: int) -> None:
    import pyarrow.parquet as pq

    try:
        there = pq.read_metadata(path).num_rows
    except FileNotFoundError:
        raise ACTError(f"the shard {str(path)!r} is missing; {_AGAIN}") from None
    except (OSError, ValueError) as error:
        raise ACTError(f"the shard {str(path)!r} is broken ({one_line(error)}); remove it, and {_AGAIN}") from error
    if there != count:
        raise ACTError(
            f"the shard {str(path)!r} has {there} rows, and was written with {count}; remove it, and {_AGAIN}"
        )
