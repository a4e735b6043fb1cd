"""Streams from files, folders and the Hub, and where in one of them a run was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, one_line
from act_hf.records import describe, stage_records
from act_hf.streams.shards import is_shards, open_shards


if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features, IterableDataset

_BUILDERS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json"}


def read_stream(source: str | Path, *, split: str | None = None) -> IterableDataset:
    """
    Reads a data set as a stream: rows come from the disk or the network when they are needed, and go again.

    Args:
        source (`str` or `Path`): a folder of shards ([`annotate_stream`]) or from `save_to_disk`, a `.parquet`, `.csv`
            or `.jsonl` file, or a Hub id as for [`read_dataset`].
        split (`str`, *optional*): which split, where there are several.

    Returns:
        `IterableDataset`: with the records that were kept beside it.

    Raises:
        ACTError: when there is no such thing, it cannot be read, or it has several splits and none is named.
    """
    from datasets import load_dataset

    from act_hf.files import has_sidecar, hub_address, read_dataset
    from act_hf.hub.address import HUB
    from act_hf.hub.pulling import stream_from_hub

    path = Path(source)
    local = path.exists() and not str(source).startswith(HUB)
    try:
        if local and is_shards(path):
            shards = open_shards(path)
            files = [str(file) for file in shards.paths]
            stream = load_dataset("parquet", data_files=files, split="train", streaming=True, features=shards.features)
            return _with_records(stream, shards.records)
        if local and (path.is_dir() or has_sidecar(path) or path.suffix not in _BUILDERS):
            whole = read_dataset(source, split=split)
            return _with_records(whole.to_iterable_dataset(), stage_records(whole))
        if local:
            options = {"keep_default_na": False, "na_values": [""]} if path.suffix == ".csv" else {}
            return load_dataset(_BUILDERS[path.suffix], data_files=str(path), split="train", streaming=True, **options)
        return _with_records(*stream_from_hub(hub_address(str(source)), split=split))
    except ACTError:
        raise
    except Exception as error:  # each format and the Hub have errors of their own, and no common base
        raise ACTError(f"cannot read the stream {str(source)!r}: {one_line(error)}") from error


def _with_records(stream: IterableDataset, records: Sequence[dict[str, Any]]) -> IterableDataset:
    stream.info.description = describe(stream.info.description or "", records)
    return stream


@dataclass(frozen=True)
class Position:
    """
    Where a stream was: a chunk of rows by what is in it, and how to come there again.

    Args:
        before (`int`): rows of the stream before the chunk.
        digest (`str`): of the chunk.
        state: what `IterableDataset.state_dict` said before the chunk was read; `None` where JSON cannot hold it.
    """

    before: int
    digest: str
    state: Any


class Reader:
    """
    The rows of a stream, in chunks of one size, as Arrow tables.

    Args:
        stream (`IterableDataset`): the rows.
        types (`datasets.Features`): of its columns.
        names (sequence of `str`): the columns by which a chunk is known again.
        size (`int`): rows a chunk.
    """

    def __init__(self, stream: IterableDataset, types: Features, names: Sequence[str], size: int) -> None:
        # As they are stored: an image that is decoded and encoded again is another one.
        self._stream = stream.with_format(None) if stream.features is None else stream.with_format(None).decode(False)
        self._types = self._stream.features or types
        self._names = list(names)
        self._size = size
        self._chunks: Iterator[tuple[Any, pa.Table]] = self._from(None)
        self._before, self._state, self._last = 0, None, None

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        rows = len(self._last) if self._last is not None else 0
        self._state, self._last = self._read(self._before + rows)
        self._before += rows
        return self._last

    @property
    def position(self) -> Position:
        """Of the chunk that was read last."""
        assert self._last is not None, "nothing was read yet"
        return Position(self._before, self._digest(self._last), _plain(self._state))

    def go_on_after(self, position: Position) -> None:
        """
        The next chunk is the one after `position`.

        A stream comes there by its own state, or, where that leads elsewhere (a stream that is shuffled forgets what
        was in its buffer), by reading from the beginning.

        Raises:
            ACTError: when the chunk that was there is not there any more.
        """
        ways = [(None, position.before // self._size)]
        if position.state is not None:
            ways.insert(0, (position.state, 0))
        for state, skipped in ways:
            self._chunks, self._before, self._last = self._from(state), position.before, None
            try:
                for _ in range(skipped):
                    self._read(position.before)
                self._state, self._last = self._read(position.before)
            except StopIteration:
                continue
            if self._digest(self._last) == position.digest:
                return
        raise ACTError(
            f"the source is not what it was: after {position.before} rows come other ones than those that were "
            "processed. Give another folder, or overwrite this one; answers that are in the store are not asked for "
            "again"
        )

    def _from(self, state: Any) -> Iterator[tuple[Any, pa.Table]]:
        """Chunks, each with the state before it."""
        from datasets import Dataset

        self._stream.load_state_dict(state)
        before = state
        # Not with the format "arrow": rows that are made one by one have no types there, and a None breaks it off.
        for batch in self._stream.iter(batch_size=self._size):
            values = {name: batch[name] for name in self._types}
            yield before, Dataset.from_dict(values, features=self._types).with_format("arrow")[:]
            before = self._stream.state_dict()

    def _read(self, row: int) -> tuple[Any, pa.Table]:
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except Exception as error:  # the network, and each format, have errors of their own
            raise ACTError(
                f"cannot read the source after row {row}: {one_line(error)}. Finished shards are kept, and the same "
                "run goes on after them"
            ) from error

    def _digest(self, table: pa.Table) -> str:
        said = json.dumps(table.select(self._names).to_pydict(), default=_hash)
        return hashlib.sha256(said.encode()).hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(value if isinstance(value, bytes) else str(value).encode()).hexdigest()


def _plain(state: Any) -> Any:
    try:
        return json.loads(json.dumps(state))
    except TypeError:
        return None
