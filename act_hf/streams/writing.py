"""A stage over a stream, into a folder of shards: whole ones, none twice, and on from where a killed run was."""

from __future__ import annotations

import itertools
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.records import usage_facts
from act_hf.streams.reading import Position, Reader
from act_hf.streams.shards import MANIFEST, Shard, finished_shards, read_footer, shard_path, shard_paths, shard_writer


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    from datasets import Features, IterableDataset

    from act_hf.models.asking import Usage

_CHUNK = {False: 1000, True: 100}
"""Rows that are read at once, without and with images."""

_LOCK = ".lock"


@dataclass(frozen=True)
class Work:
    """
    A stage, and what it is done to.

    Args:
        stream (`IterableDataset`): the rows.
        types (`datasets.Features`): of its columns.
        stage (callable): a batch of the columns `reads` to a batch of new columns.
        reads (sequence of `str`): the columns that the stage reads.
        makes (`datasets.Features`): the columns that it makes.
        batch_size (`int`): rows handed to it at once.
        usage ([`Usage`]): counts what it asks.
        title (`str`): what the progress bar says.
        images (`bool`): whether it sees images.
    """

    stream: IterableDataset
    types: Features
    stage: Callable[[Mapping[str, list[Any]]], dict[str, list[Any]]]
    reads: Sequence[str]
    makes: Features
    batch_size: int
    usage: Usage
    title: str
    images: bool

    @property
    def features(self) -> Features:
        """Of the rows and the new columns; these replace columns of their name."""
        from datasets import Features

        return Features({**self.types, **self.makes})

    def reader(self, size: int) -> Reader:
        """The rows, from the beginning, in chunks of `size`."""
        return Reader(self.stream, self.types, self.reads, size)


def write_shards(
    work: Work, folder: Path, *, run: Mapping[str, Any], priors: list[Any], rows_per_shard: int
) -> list[Shard]:
    """
    Writes the shards that are not there yet.

    Args:
        work ([`Work`]): what is done.
        folder (`Path`): where the shards go. Held with [`held`].
        run (mapping): what all shards have in common.
        priors (`list`): the label priors, kept with every shard.
        rows_per_shard (`int`): rounded down to whole chunks.

    Returns:
        `list` of [`Shard`]: all of them, those that were there included.

    Raises:
        ACTError: for a shard that is broken or of another run, or a source that has changed or cannot be read.
    """
    size = min(rows_per_shard, _CHUNK[work.images])
    full = rows_per_shard // size
    reader = work.reader(size)
    written: list[Shard] = []
    jumped, finished = False, finished_shards(folder)
    with columns.show_progress(None, work.title, work.usage) as bar:
        for number in itertools.count() if finished is None else range(finished):
            shard = read_footer(shard_path(folder, number))
            if shard is not None:
                check_run(shard, run, folder)
                jumped = True
            else:
                if jumped:
                    reader.go_on_after(Position(**written[-1].position))
                    jumped = False
                shard = _write_shard(work, itertools.islice(reader, full), reader, folder, number, run, priors, bar)
            if shard is None:
                break
            written.append(shard)
            if shard.rows < full * size:
                break
    if jumped:
        reader.go_on_after(Position(**written[-1].position))
    if finished is not None or jumped:
        _check_end(reader)
    return written


def _write_shard(
    work: Work,
    chunks: Iterator[pa.Table],
    reader: Reader,
    folder: Path,
    number: int,
    run: Mapping[str, Any],
    priors: list[Any],
    bar: columns.Bar,
) -> Shard | None:
    """The next shard; `None` where the source has no more rows."""
    first = next(chunks, None)
    if first is None:
        return None
    before = usage_facts(work.usage)
    rows = failed = 0
    with shard_writer(shard_path(folder, number), work.features) as writer:
        for table in _sliced(itertools.chain([first], chunks), work.batch_size):
            bar.begin(len(table))
            made = work.stage(table.select(work.reads).to_pydict())
            bar.end()
            writer.write(_joined(table, made, work))
            rows += len(table)
            failed += sum(failure is not None for name in _failures(work) for failure in made[name])
        usage = _difference(usage_facts(work.usage), before)
        shard = Shard(dict(run), priors, rows, failed, usage, asdict(reader.position))
        writer.finish(shard)
    return shard


def _sliced(tables: Iterator[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows, `size` at a time."""
    import pyarrow as pa

    waiting = next(tables)
    for table in itertools.chain(tables, [None]):
        whole = len(waiting) - (0 if table is None else len(waiting) % size)
        for start in range(0, whole, size):
            yield waiting.slice(start, min(size, whole - start))
        if table is not None:
            waiting = pa.concat_tables([waiting.slice(whole), table])


def _joined(table: pa.Table, made: Mapping[str, list[Any]], work: Work) -> pa.Table:
    """The rows with the new columns, in the order of the features."""
    import pyarrow as pa

    new = pa.Table.from_pydict(dict(made), schema=work.makes.arrow_schema)
    parts = [new[name] if name in work.makes else table[name] for name in work.features]
    return pa.table(parts, names=list(work.features))


def _failures(work: Work) -> list[str]:
    return [name for name in work.makes if name.startswith(columns.FAILURE)]


def _difference(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if now[name] is None else now[name] - (before[name] or 0) for name in now}


def check_run(shard: Shard, run: Mapping[str, Any], folder: Path) -> None:
    """Raises [`ACTError`] for a shard of another run than this one."""
    differ = [name for name in run if shard.run.get(name) != run[name]]
    if differ:
        was, is_ = (str(said[differ[0]])[:200] for said in (shard.run, run))
        raise ACTError(
            f"{str(folder)!r} has shards of another run ({differ[0]} was {was}, and is {is_}); give another folder, "
            "or overwrite this one"
        )


def _check_end(reader: Reader) -> None:
    """Raises [`ACTError`] where the source goes on after what was its end."""
    if next(reader, None) is not None:
        raise ACTError(
            "the source has more rows than when the folder was finished. Give another folder, or overwrite this one; "
            "answers that are in the store are not asked for again"
        )


@contextmanager
def held(folder: Path, *, overwrite: bool) -> Iterator[None]:
    """
    The folder for one run at a time. It is made where it is not there, and goes again where nothing was written.

    Args:
        folder (`Path`): for shards.
        overwrite (`bool`): begins anew, where shards are there.

    Raises:
        ACTError: when another process holds it, it has other files in it, or it cannot be written to.
    """
    import filelock

    lock = filelock.FileLock(folder / _LOCK, timeout=0)
    try:
        if folder.exists() and not folder.is_dir():
            raise ACTError(f"{str(folder)!r} is a file, and a folder of shards is to be written; give another name")
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise ACTError(f"another process is writing to {str(folder)!r}; wait for it, or give another folder") from None
    except OSError as error:
        raise ACTError(f"cannot write to {str(folder)!r}: {error}") from error
    try:
        _clear(folder, overwrite=overwrite)
        yield
    finally:
        (folder / _LOCK).unlink(missing_ok=True)
        lock.release()
        if not any(folder.iterdir()):
            folder.rmdir()


def _clear(folder: Path, *, overwrite: bool) -> None:
    ours = {MANIFEST, _LOCK, *(path.name for path in shard_paths(folder))}
    # What a killed run left of a shard that it was writing, and is hidden.
    left = [path for path in folder.iterdir() if path.name.startswith((".shard-", f".{MANIFEST}."))]
    others = sorted(path.name for path in folder.iterdir() if path.name not in ours and path not in left)
    if others:
        raise ACTError(f"{str(folder)!r} has other files in it ({others[0]!r}), so no shards are written there")
    for path in left:
        shutil.rmtree(path)
    if overwrite:
        for path in [folder / MANIFEST, *shard_paths(folder)]:
            path.unlink(missing_ok=True)
