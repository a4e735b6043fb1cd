"""The pages of the documentation, and the code in them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt


ROOT = Path(__file__).parents[2]
PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
"""Every page by its path."""


@cache
def every_block(page: str) -> list[tuple[str, str]]:
    """Language and text of each code block of a page; one made by indentation has no language."""
    tokens = MarkdownIt().parse(PAGES[page])
    return [(token.info.strip(), token.content) for token in tokens if token.type in ("fence", "code_block")]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return [text for written_in, text in every_block(page) if written_in == language]
