"""A trained model to the Hub: its files and its card in one commit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.hub.address import Address, parse_address
from act_hf.hub.markdown import escaped
from act_hf.hub.merging import merge_card, read_metadata
from act_hf.hub.model_card import model_metadata, model_section
from act_hf.hub.repository import CARD, Repository, Snapshot
from act_hf.trained import read_facts


if TYPE_CHECKING:
    from collections.abc import Iterable

_SIGN = "config.json"
# Of a training, not of a model; training_args.bin is a pickle, and may hold what the trainer was told in confidence.
_LEFT_OUT = re.compile(
    r"(^|/)(\.|checkpoint-\d+/|runs/|training_args\.bin$|optimizer\.|scheduler\.|rng_state|README\.md$)"
)
_WEIGHTS = re.compile(r"[^/]*\.(safetensors|safetensors\.index\.json)|pytorch_model[^/]*\.(bin|bin\.index\.json)")


def push_model(
    folder: str | Path,
    target: str | Address,
    *,
    dataset: str | None = None,
    private: bool = True,
    create_pr: bool = False,
    overwrite: bool = False,
) -> str:
    """
    Pushes a trained model to the Hub, with what it was trained on and its results in its card.

    Everything goes into one commit, and what others wrote in the card stays. Checkpoints and the arguments of the
    training (a pickle) stay here.

    Args:
        folder (`str` or `Path`): from [`train_classifier`].
        target (`str` or [`Address`]): `hf://user/name`, with `@branch` where it is meant.
        dataset (`str`, *optional*): the address of the data set it was trained on. Defaults to what the training kept.
        private (`bool`, *optional*, defaults to `True`): whether a model that is not there yet is private.
        create_pr (`bool`, *optional*, defaults to `False`): makes a pull request of it.
        overwrite (`bool`, *optional*, defaults to `False`): replaces a model that is there.

    Returns:
        `str`: the address of its page, or of the pull request.

    Raises:
        ACTError: when the folder is no model, and for what [`push_dataset`] refuses.
    """
    folder = Path(folder)
    address = target if isinstance(target, Address) else parse_address(target)
    files = model_files(folder)
    facts = read_facts(folder) or {}
    about = dataset or facts.get("source")
    trained_on = None if about is None else parse_address(str(about)).id
    check_model_push(address, private=private, create_pr=create_pr, overwrite=overwrite)
    repository = Repository(address, "model")
    repository.make(private=private)
    before = repository.snapshot()
    uploaded = [repository.upload(name, path, create_pr=create_pr) for name, path in files.items()]

    def changes(here: Snapshot) -> list[Any]:
        card = _card(here, facts, address, trained_on)
        return _operations(here, files, uploaded, card)

    message = f"{'Replace' if _SIGN in before.files else 'Add'} the model (act_hf)"
    mine = files.__contains__
    return repository.commit(changes, before=before, mine=mine, message=message, create_pr=create_pr)


def check_model_push(
    address: Address, *, private: bool = True, create_pr: bool = False, overwrite: bool = False
) -> None:
    """
    Raises [`ACTError`] when [`push_model`] would refuse: worth knowing before a training.

    Args:
        address ([`Address`]): where the model goes.
        private, create_pr, overwrite (`bool`, *optional*): as for [`push_model`].
    """
    if address.config is not None:
        raise ACTError(f"{str(address)!r}: a model has no configurations; leave out :{address.config}")
    repository = Repository(address, "model")
    repository.check_token(create_pr=create_pr)
    repository.check_visible(private, there := repository.private())
    here = None if there is None else repository.snapshot_if_there()
    if here is not None and _SIGN in here.files and not (overwrite or create_pr):
        raise ACTError(f"{str(address)!r} exists; give another name, or --overwrite to replace it")


def model_files(folder: Path) -> dict[str, Path]:
    """What of a folder is a trained model, by path. Raises [`ACTError`] where it is none."""
    if not (folder / _SIGN).is_file():
        raise ACTError(f"{str(folder)!r} is no folder with a trained model: it has no {_SIGN}")
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path for name, path in paths.items() if not _LEFT_OUT.search(name)}


def _card(here: Snapshot, facts: dict[str, Any], address: Address, dataset: str | None) -> str:
    known = read_metadata(here.card or "", str(address))
    try:
        section, metadata = model_section(facts, address, dataset), model_metadata(known, facts, address, dataset)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ACTError(f"the facts of the training that are kept with the model cannot be read: {error!r}") from error
    title = escaped(address.id.partition("/")[2])
    return merge_card(here.card, title=title, part="model", section=section, metadata=metadata)


def _operations(here: Snapshot, files: Iterable[str], uploaded: list[Any], card: str) -> list[Any]:
    """What the commit does. Weights of an earlier model would be loaded before or beside the new ones."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    stale = {path for path in here.files if _WEIGHTS.fullmatch(path)} - set(files)
    added = [*uploaded, CommitOperationAdd(path_in_repo=CARD, path_or_fileobj=card.encode())]
    return [*added, *(CommitOperationDelete(path_in_repo=path) for path in sorted(stale))]
