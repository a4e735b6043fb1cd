"""Links of the pages, which are written for the repository: what is no page of the site is shown in the repository."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
REPOSITORY = "https://github.com/act-hf/act_hf/blob/main"
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def as_seen_from(text: str, written_in: Path, shown_in: Path) -> str:
    """
    The text with its links changed to what they are on the site.

    A link to a file that is not there stays as it is, so that the build finds it.

    Args:
        text (`str`): Markdown.
        written_in (`Path`): the folder from which its links go.
        shown_in (`Path`): the folder of the page that shows it.

    Returns:
        `str`: Markdown.
    """

    def changed(link: re.Match[str]) -> str:
        target, anchor = (written_in / link[1]).resolve(), link[2] or ""
        if not (target.exists() and target.is_relative_to(ROOT)):
            return link[0]
        if target.is_relative_to(DOCS):
            return f"]({Path(os.path.relpath(target, shown_in)).as_posix()}{anchor})"
        return f"]({REPOSITORY}/{target.relative_to(ROOT).as_posix()}{anchor})"

    return LINK.sub(changed, text)


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    folder = (DOCS / page).parent
    source[0] = as_seen_from(source[0], folder, folder)
    if page == app.config.root_doc:  # the start page is the README, and then what is in index.md
        source[0] = as_seen_from((ROOT / "README.md").read_text(encoding="utf-8"), ROOT, folder) + "\n" + source[0]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
