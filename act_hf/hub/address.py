"""What a data set or model on the Hub is called: `hf://user/name@revision:config`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from act_hf.errors import ACTError


HUB = "hf://"
DEFAULT = "default"
"""The configuration that is meant where none is named."""

FORM = f"{HUB}user/name, with @revision and then :configuration where they are meant"

# No git reference and no configuration has a colon; a reference may have slashes (refs/pr/1).
_ADDRESS = re.compile(
    r"(?:hf://)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([^:\s]+))?(?::([^:/\\<>|?*\s]+))?", re.ASCII
)


@dataclass(frozen=True)
class Address:
    """
    A data set or model on the Hub.

    Args:
        id (`str`): `user/name`.
        revision (`str`, *optional*): a branch, a pull request (`refs/pr/1`), a tag or a commit; the main branch by
            default.
        config (`str`, *optional*): the configuration of a data set.
    """

    id: str
    revision: str | None = None
    config: str | None = None

    def __str__(self) -> str:
        revision, config = self.revision and f"@{self.revision}", self.config and f":{self.config}"
        return f"{HUB}{self.id}{revision or ''}{config or ''}"

    @property
    def owner(self) -> str:
        """The user or organisation."""
        return self.id.partition("/")[0]

    @property
    def in_pull_request(self) -> bool:
        """Whether the revision is a pull request that is there already."""
        return (self.revision or "").startswith("refs/pr/")

    def given(self, *, revision: str | None = None, config: str | None = None) -> Address:
        """The same with what was said beside it. Raises [`ACTError`] where it says something else."""
        for name, mine, other in (("revision", self.revision, revision), ("configuration", self.config, config)):
            if mine is not None and other not in (None, mine):
                raise ACTError(f"{str(self)!r} names the {name} {mine!r}, and {other!r} was given beside it; say one")
        return parse_address(str(replace(self, revision=revision or self.revision, config=config or self.config)))


def is_address(text: str) -> bool:
    """Whether `text` has the form `user/name`, with or without `hf://`."""
    return _ADDRESS.fullmatch(text) is not None


def parse_address(text: str) -> Address:
    """
    What `hf://user/name@revision:config` names. The last two, and `hf://`, may be missing.

    Raises:
        ACTError: when it has another form.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ACTError(f"{text!r} is no address on the Hub; write {FORM}")
    if found[3] == "data":  # as in datasets: the folder of the default configuration has that name
        raise ACTError(f"{text!r}: a configuration cannot be called 'data'; choose another name")
    return Address(found[1], found[2], found[3])
