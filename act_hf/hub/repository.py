"""A repository on the Hub: who may write to it, what it holds, and commits that are there whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, printable
from act_hf.hub.faults import MOVED, explained, hub_api, new_token, status_of


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from act_hf.hub.address import Address

CARD = "README.md"
_TRIES = 2
"""How often a commit is made when others make one at the same time, of other files."""


@dataclass(frozen=True)
class Snapshot:
    """
    A repository at one commit.

    Args:
        commit (`str`): its hash.
        files (mapping): the id of each file's content, and its size in bytes, by path.
        card (`str`, *optional*): the text of `README.md`, with the line ends it has.
    """

    commit: str
    files: Mapping[str, tuple[str, int]]
    card: str | None

    def differing(self, other: Snapshot) -> set[str]:
        """The paths whose content is not the same in both."""
        paths = set(self.files) | set(other.files)
        return {path for path in paths if self.files.get(path) != other.files.get(path)}


@dataclass
class Repository:
    """
    A data set or model on the Hub, to be written to.

    Args:
        address ([`Address`]): which.
        kind (`str`): `"dataset"` or `"model"`.
    """

    address: Address
    kind: str = "dataset"
    api: Any = field(default_factory=hub_api)

    @property
    def _what(self) -> str:
        return "data set" if self.kind == "dataset" else "model"

    def explained(self, doing: str) -> Any:
        """See [`act_hf.hub.faults.explained`]."""
        return explained(doing, self.address, kind=self._what, pushing=True)

    def private(self) -> bool | None:
        """Whether it is; `None` where there is no such repository."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        with self.explained("cannot look up"):
            try:
                return bool(self.api.repo_info(self.address.id, repo_type=self.kind).private)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return None

    def check_token(self, *, create_pr: bool = False) -> None:
        """
        Raises [`ACTError`] where there is no token, one that may only read, or one of somebody whose repository it is
        not: worth knowing before a long job. What a fine-grained token may do is not said; the push will tell.
        """
        with self.explained("cannot push to"):
            who = self.api.whoami(cache=True)
        role = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
        if role == "read":
            raise ACTError(f"cannot push to {str(self.address)!r}: the token may only read; {new_token(self.address)}")
        orgs = [org["name"] for org in who.get("orgs") or []]
        theirs = self.address.owner.casefold() not in (name.casefold() for name in (who["name"], *orgs))
        if role == "write" and theirs and not (create_pr or self.address.in_pull_request):
            raise ACTError(
                f"cannot push to {str(self.address)!r}: the token is that of {who['name']!r}, who may write to "
                f"{', '.join(repr(name) for name in (who['name'], *orgs))}; name one of these, or say --create-pr"
            )

    def check_visible(self, private: bool, there: bool | None) -> None:
        """Raises [`ACTError`] where it is there and others see it, or do not, against what was said."""
        if there is None or there is private:
            return
        if private:
            raise ACTError(
                f"{str(self.address)!r} is there and public, so everybody would read what is pushed; if meant, say "
                "so: act-hf publish --public, or private=False"
            )
        raise ACTError(
            f"{str(self.address)!r} is there and private; make it public in its settings on the Hub first, or leave "
            "out --public"
        )

    def make(self, *, private: bool) -> None:
        """Makes the repository and the branch, as far as they are not there."""
        there = self.private() is not None
        with self.explained("cannot push to"):
            if not there:
                self.api.create_repo(self.address.id, repo_type=self.kind, private=private, exist_ok=True)
            if self.address.revision and not self.address.in_pull_request and not self._has_branch():
                self.api.create_branch(
                    self.address.id, branch=self.address.revision, repo_type=self.kind, exist_ok=True
                )

    def _has_branch(self) -> bool:
        refs = self.api.list_repo_refs(self.address.id, repo_type=self.kind)
        return any(branch.name == self.address.revision for branch in refs.branches)

    def snapshot(self) -> Snapshot:
        """What it holds now."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.hf_api import RepoFile

        id, kind = self.address.id, self.kind
        with self.explained("cannot look up"):
            commit = self.api.repo_info(id, repo_type=kind, revision=self.address.revision).sha
            listed = self.api.list_repo_tree(id, repo_type=kind, revision=commit, recursive=True)
            files = {one.path: (one.blob_id, one.size) for one in listed if isinstance(one, RepoFile)}
            card = hf_hub_download(id, CARD, repo_type=kind, revision=commit) if CARD in files else None
        return Snapshot(commit, files, card and self._text(Path(card).read_bytes()))

    def snapshot_if_there(self) -> Snapshot | None:
        """What the branch holds; `None` where it will be made."""
        if self.address.revision is None or self.address.in_pull_request:
            return self.snapshot()
        with self.explained("cannot look up"):
            there = self._has_branch()
        return self.snapshot() if there else None

    def _text(self, card: bytes) -> str:
        try:
            return card.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ACTError(f"the card of {str(self.address)!r} is not UTF-8 ({error.reason}); repair it") from error

    def upload(self, path: str, file: Path | bytes, *, create_pr: bool) -> Any:
        """Sends a large file ahead of its commit, if it is not there; gives what goes into the commit."""
        from huggingface_hub import CommitOperationAdd

        with self.explained("cannot push to"):
            one = CommitOperationAdd(path_in_repo=path, path_or_fileobj=file)
            self.api.preupload_lfs_files(
                self.address.id, [one], repo_type=self.kind, revision=self.address.revision, create_pr=create_pr
            )
        return one

    def commit(
        self,
        changes: Callable[[Snapshot], list[Any]],
        *,
        before: Snapshot,
        mine: Callable[[str], bool],
        message: str,
        create_pr: bool,
    ) -> str:
        """
        One commit on top of what was read: where somebody else's came between, none.

        Args:
            changes (callable): what the commit does, given what is there.
            before ([`Snapshot`]): what was there when the push began.
            mine (callable): whether a path belongs to what is pushed. Where others changed only other files, the
                commit is made once more on top of theirs.
            message (`str`): of the commit.
            create_pr (`bool`): as a pull request.

        Returns:
            `str`: the address of the pull request, or of the repository's page.

        Raises:
            ACTError: when somebody else changed what is pushed at the same time, or the Hub refuses.
        """
        from huggingface_hub.errors import HfHubHTTPError

        here = before
        for attempt in range(_TRIES):
            with self.explained("cannot push to"):
                try:
                    return self._send(changes(here), here, message, create_pr)
                except HfHubHTTPError as error:
                    if status_of(error) not in MOVED:
                        raise
            here = self.snapshot()
            theirs = sorted(path for path in here.differing(before) if mine(path))
            if theirs or attempt + 1 == _TRIES:
                break
        what = f"somebody else pushed {theirs[0]!r}" if theirs else "others keep pushing to it"
        raise ACTError(
            f"cannot push to {str(self.address)!r}: {what} at the same time, and theirs came first; nothing of yours "
            "is there. Look at what they pushed, and run the command again to replace it"
        )

    def _send(self, operations: list[Any], here: Snapshot, message: str, create_pr: bool) -> str:
        from huggingface_hub.errors import HfHubHTTPError

        try:
            made = self.api.create_commit(
                self.address.id,
                operations,
                commit_message=message,
                repo_type=self.kind,
                revision=self.address.revision,
                create_pr=create_pr,
                parent_commit=here.commit,
            )
        except HfHubHTTPError:
            raise
        except ValueError as error:  # how it says that the Hub refuses a card
            said = " ".join(printable(str(error)).split())
            raise ACTError(f"cannot push to {str(self.address)!r}: {said}") from error
        return str(made.pr_url or made.commit_url.partition("/commit/")[0])
