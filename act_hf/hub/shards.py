"""Rows as parquet files of a bearable size, each uploaded before the next one is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset

    from act_hf.hub.layout import Place

SHARD_BYTES = 500_000_000
_SAMPLE = 200


def write_shards(
    dataset: Dataset, place: Place, folder: Path, upload: Callable[[str, Path], None], *, size: int = SHARD_BYTES
) -> dict[str, int]:
    """
    Writes one file after the other, and removes each once `upload` has taken it.

    The same rows make the same files, so that what an interrupted push has uploaded need not be sent again.

    Args:
        dataset (`Dataset`): the rows.
        place ([`Place`]): where they go.
        folder (`Path`): for the file at hand.
        upload (callable): is given the path in the repository, and the file.
        size (`int`, *optional*, defaults to 500 MB): of a file, about.

    Returns:
        `dict` of `str` to `int`: the paths in the repository, and the sizes in bytes.
    """
    plain = dataset.with_format(None)
    count = 1 + _estimated_bytes(plain) // size
    sizes = {}
    for number in range(count):
        shard = _embedded(plain.shard(count, number, contiguous=True))
        path = folder / f"{number}.parquet"
        shard.to_parquet(str(path))
        sizes[place.shard(number, count)] = path.stat().st_size
        upload(place.shard(number, count), path)
        path.unlink()
    return sizes


def _estimated_bytes(dataset: Dataset) -> int:
    """What the rows take with the images in them, from some of them."""
    if not len(dataset):
        return 0
    step = max(1, len(dataset) // _SAMPLE)
    some = _embedded(dataset.select(range(0, len(dataset), step))).with_format("arrow")
    table: Any = some[:]
    return int(table.nbytes / len(some) * len(dataset))


def _embedded(dataset: Dataset) -> Dataset:
    """The rows with the files they name in them, byte by byte: a picture that is encoded anew is another picture."""
    from datasets.features.features import require_decoding
    from datasets.fingerprint import generate_random_fingerprint
    from datasets.table import embed_table_storage

    if not any(require_decoding(kind, ignore_decode_attribute=True) for kind in dataset.features.values()):
        return dataset
    embedded: Dataset = dataset.with_format("arrow").map(
        embed_table_storage,
        batched=True,
        batch_size=100,
        keep_in_memory=True,
        load_from_cache_file=False,
        new_fingerprint=generate_random_fingerprint(),
    )
    return embedded.with_format(None)
