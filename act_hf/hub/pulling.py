"""A data set from the Hub, at one commit, with the records that a push left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, one_line
from act_hf.hub.address import DEFAULT, Address
from act_hf.hub.faults import explained, hub_api, reason
from act_hf.hub.layout import Place
from act_hf.records import with_records


if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasets import Dataset, IterableDataset


def pull_dataset(address: Address, *, split: str | None = None) -> Dataset:
    """
    Loads a data set from the Hub.

    Args:
        address ([`Address`]): which, and at which revision and configuration.
        split (`str`, *optional*): which split, where there are several.

    Returns:
        `Dataset`: with the records of what was done to it, where [`push_dataset`] pushed it.

    Raises:
        ACTError: when there is no such data set, revision, configuration or split, more than one of the last two and
            none is named, the token may not read it, or the rows that its card promises are not there.
    """
    revision = _commit(address)
    config = _config(address, revision)
    loaded = _loaded(address, config, revision)
    chosen = _split(address, split, loaded)
    return with_records(loaded[chosen], _records(address, Place(config, chosen), revision))


def stream_from_hub(address: Address, *, split: str | None = None) -> tuple[IterableDataset, list[dict[str, Any]]]:
    """
    A data set on the Hub as a stream, and its records.

    Args, Raises:
        as for [`pull_dataset`]; rows that are missing are found when they are read.
    """
    from datasets import load_dataset

    revision = _commit(address)
    config = _config(address, revision)
    try:
        loaded = load_dataset(_path(address), config, revision=revision, streaming=True)
    except Exception as error:
        raise _unreadable(address, error) from None
    chosen = _split(address, split, loaded)
    return loaded[chosen], _records(address, Place(config, chosen), revision)


def _split(address: Address, split: str | None, there: Iterable[str]) -> str:
    names = [str(name) for name in there]
    chosen = split or (names[0] if len(names) == 1 else None)
    if chosen is None:
        raise ACTError(f"{str(address)!r} has the splits {', '.join(names)}; choose one with --split")
    if chosen not in names:
        raise ACTError(f"{str(address)!r} has no split {chosen!r}; it has {', '.join(names)}")
    return chosen


def _commit(address: Address) -> str | None:
    """The commit that all is read from: rows and records of one push."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    with explained("cannot read the data set", address):
        try:
            found = hub_api().repo_info(address.id, repo_type="dataset", revision=address.revision)
        except OfflineModeIsEnabled:  # what was loaded before can be loaded again
            return address.revision
        if found.gated:  # everybody sees that it is there
            hub_api().auth_check(address.id, repo_type="dataset")
    return str(found.sha)


def _config(address: Address, revision: str | None) -> str:
    from datasets import get_dataset_config_names

    try:
        names = get_dataset_config_names(_path(address), revision=revision)
    except Exception as error:
        raise _unreadable(address, error) from None
    if address.config is not None and address.config not in names:
        raise ACTError(f"{str(address)!r}: there is no configuration {address.config!r}; there are {', '.join(names)}")
    usual = DEFAULT if DEFAULT in names else names[0] if len(names) == 1 else _default(address, revision)
    chosen = address.config or usual
    if chosen is None:
        raise ACTError(
            f"{str(address)!r} has the configurations {', '.join(names)}; choose one, as in {address}:{names[0]}"
        )
    return str(chosen)


def _default(address: Address, revision: str | None) -> str | None:
    """The one of several configurations that the card calls the default."""
    from datasets import get_dataset_default_config_name

    try:
        name: str | None = get_dataset_default_config_name(_path(address), revision=revision)
    except Exception as error:
        raise _unreadable(address, error) from None
    return name


def _path(address: Address) -> str:
    """What `datasets` takes for the Hub, also where there is a folder of that name."""
    return f"hf://datasets/{address.id}"


def _loaded(address: Address, config: str, revision: str | None) -> dict[str, Dataset]:
    from datasets import load_dataset_builder
    from datasets.exceptions import NonMatchingSplitsSizesError

    try:
        # What load_dataset does, but for one thing: where the Hub breaks off, it takes what it has of an older commit.
        builder = load_dataset_builder(_path(address), config, revision=revision)
        if revision is not None and builder.hash != revision:
            raise ConnectionError("the connection to the Hub broke; run the same command again")
        builder.download_and_prepare()
        loaded: dict[str, Any] = builder.as_dataset()
    except NonMatchingSplitsSizesError:
        raise ACTError(
            f"cannot read the data set {str(address)!r}: it has not as many rows as its card says, so a file of it is "
            "missing or was replaced by hand; push it again, or name an older commit with @"
        ) from None
    except Exception as error:
        raise _unreadable(address, error) from None
    return {str(name): one for name, one in loaded.items()}


def _records(address: Address, place: Place, revision: str | None) -> list[dict[str, Any]]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    with explained("cannot read the data set", address):
        try:
            path = hf_hub_download(address.id, place.records, repo_type="dataset", revision=revision)
        except EntryNotFoundError:  # somebody else's data set
            return []
    try:
        records: list[dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))["records"]
    except (ValueError, KeyError, TypeError) as error:
        raise ACTError(f"{place.records!r} of {str(address)!r} cannot be read: {one_line(error)}") from error
    return records


def _unreadable(address: Address, error: Exception) -> ACTError:
    """`datasets` has errors of its own, around those of the Hub's client."""
    import httpx2
    from datasets.exceptions import DataFilesNotFoundError
    from huggingface_hub.errors import OfflineModeIsEnabled

    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, httpx2.HTTPError | OfflineModeIsEnabled):
            return ACTError(f"cannot read the data set {str(address)!r}: {reason(inner, address)}")
        inner = inner.__cause__ or inner.__context__
    if isinstance(error, DataFilesNotFoundError):
        return ACTError(f"cannot read the data set {str(address)!r}: it has no file of rows")
    return ACTError(f"cannot read the data set {str(address)!r}: {one_line(Exception(error.__cause__ or error))}")
