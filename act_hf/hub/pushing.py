"""A data set to the Hub: rows, types, records and card in one commit."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.columns import require
from act_hf.errors import ACTError, one_line
from act_hf.hub.address import DEFAULT, Address, parse_address
from act_hf.hub.dataset_card import added_metadata, picture_of, report_of, section_of, task_of
from act_hf.hub.layout import Place, There
from act_hf.hub.markdown import escaped
from act_hf.hub.merging import merge_card, read_metadata
from act_hf.hub.repository import CARD, Repository, Snapshot
from act_hf.hub.shards import SHARD_BYTES, write_shards
from act_hf.records import stage_records


if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset, Features

_SPLIT = re.compile(r"\w+(?:\.\w+)*")


def push_dataset(
    dataset: Dataset,
    target: str | Address,
    *,
    private: bool = True,
    create_pr: bool = False,
    overwrite: bool = False,
    shard_size: int = SHARD_BYTES,
) -> str:
    """
    Pushes a data set to the Hub, with its types and records, and a section about its labels in its card.

    Everything goes into one commit: whoever loads the data set gets the old one or the new one. The files of the same
    split and configuration are replaced; other splits and configurations, other files, and what others wrote in the
    card stay. An interrupted push can be repeated, and sends no file of rows twice.

    Args:
        dataset (`Dataset`): what to push, as its split, or `"train"` where it is of none.
        target (`str` or [`Address`]): `hf://user/name`, with `@branch` and then `:configuration` where they are meant.
            A branch that is not there is made.
        private (`bool`, *optional*, defaults to `True`): whether a data set that is not there yet is private. It holds
            the names of those who reviewed (`act_responses`).
        create_pr (`bool`, *optional*, defaults to `False`): makes a pull request of it; nothing is replaced before
            somebody merges it.
        overwrite (`bool`, *optional*, defaults to `False`): replaces the split where it is there.
        shard_size (`int`, *optional*, defaults to 500,000,000): about how many bytes of rows go into a file.

    Returns:
        `str`: the address of its page, or of the pull request.

    Raises:
        ACTError: without rows; without a token that may write; where the split is there and `overwrite` is not given;
            where the data set is public and `private` is not `False`; where the push would spoil other splits or hide
            other files; when others push the same at the same time; and when the Hub cannot be reached.
    """
    address = target if isinstance(target, Address) else parse_address(target)
    repository = Repository(address)
    require(dataset, [], stage="push")  # load_dataset fails where there are no rows
    place = _place(address, dataset.split)
    options = {"private": private, "create_pr": create_pr, "overwrite": overwrite}
    check_push(address, **options, features=dataset.features, split=place.split)
    report = report_of(dataset)
    picture = None if report is None else picture_of(report)
    repository.make(private=private)
    before = repository.snapshot()
    operations: dict[str, Any] = {}

    def upload(path: str, file: Path | bytes) -> None:
        operations[path] = repository.upload(path, file, create_pr=create_pr)

    try:
        with tempfile.TemporaryDirectory() as folder:
            sizes = write_shards(dataset, place, Path(folder), upload, size=shard_size)
    except OSError as error:  # no room for a file of rows, or no picture where one should be
        raise ACTError(f"cannot prepare the rows for {str(address)!r}: {one_line(error)}") from error
    if picture is not None:
        upload(place.picture, picture[0])
    kept = {"features": dataset.features.to_dict(), "records": stage_records(dataset)}
    section = section_of(report, place, address, picture=picture and picture[1], rows=len(dataset))

    def changes(here: Snapshot) -> list[Any]:
        there = _there(here, address)
        there.check(place, dataset.features, here.files, str(address))
        _check_free(there, place, address, overwrite or create_pr)
        card = _card(here, there, place, address, dataset, sizes, section)
        return _operations(here, there, place, operations, {place.records: _json(kept), CARD: card.encode()})

    message = f"{'Replace' if _there(before, address).has(place) else 'Add'} {place.config}/{place.split} (act_hf)"
    return repository.commit(changes, before=before, mine=place.owns, message=message, create_pr=create_pr)


def check_push(
    address: Address,
    *,
    private: bool = True,
    create_pr: bool = False,
    overwrite: bool = False,
    features: Features | None = None,
    split: str = "train",
) -> None:
    """
    Raises [`ACTError`] when [`push_dataset`] would refuse: worth knowing before a long job.

    Args:
        address ([`Address`]): where the data set goes.
        private, create_pr, overwrite (`bool`, *optional*): as for [`push_dataset`].
        features (`datasets.Features`, *optional*): of the rows to push, where they are known.
        split (`str`, *optional*, defaults to `"train"`): which split they are.
    """
    repository = Repository(address)
    repository.check_token(create_pr=create_pr)
    there = repository.private()
    repository.check_visible(private, there)
    here = None if there is None else repository.snapshot_if_there()
    if here is None:
        return
    place, named = _place(address, split), _there(here, address)
    if features is not None:
        named.check(place, features, here.files, str(address))
    _check_free(named, place, address, overwrite or create_pr)


def _check_free(there: There, place: Place, address: Address, replacing: bool) -> None:
    if there.has(place) and not replacing:
        raise ACTError(
            f"{str(address)!r} exists, with the split {place.split!r} of the configuration {place.config!r}; give "
            "another name or configuration, or --overwrite to replace it"
        )


def _place(address: Address, split: object) -> Place:
    name = str(split or "train")
    return Place(address.config or DEFAULT, name if _SPLIT.fullmatch(name) else "train")


def _there(here: Snapshot, address: Address) -> There:
    return There.of(read_metadata(here.card or "", str(address)), here.files, str(address))


def _card(
    here: Snapshot,
    there: There,
    place: Place,
    address: Address,
    dataset: Dataset,
    sizes: Mapping[str, int],
    section: str,
) -> str:
    others = there.files_of_others(place, here.files)
    metadata = there.with_rows(place, dataset, sizes, {path: here.files[path][1] for path in others})
    metadata |= added_metadata(there.metadata, task_of(dataset), len(dataset))
    part = f"{place.config}/{place.split}"
    title = escaped(address.id.partition("/")[2])
    return merge_card(here.card, title=title, part=part, section=section, metadata=metadata)


def _operations(
    here: Snapshot, there: There, place: Place, uploaded: Mapping[str, Any], small: Mapping[str, bytes]
) -> list[Any]:
    """What the commit does: files added, and those of the old rows removed."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    stale = there.replaced(place, here.files) | ({place.picture} & set(here.files))
    added = list(uploaded.values())
    added += [CommitOperationAdd(path_in_repo=path, path_or_fileobj=data) for path, data in small.items()]
    removed = sorted(stale - set(uploaded) - set(small))
    return [*added, *(CommitOperationDelete(path_in_repo=path) for path in removed)]


def _json(values: Features | Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, indent=1) + "\n").encode()
