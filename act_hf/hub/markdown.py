"""Text that rows, models and people wrote, as Markdown that says just that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from act_hf.errors import printable


if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 300
_SIGNS = re.compile(r"([$&*<>@\[\\\]^_`{|}~]|:(?=//)|(?<=www)\.)", flags=re.IGNORECASE)
"""Signs in a line that can be something else than text, links of bare addresses and mathematics among it."""


def escaped(text: object, *, longest: int = _LONGEST) -> str:
    """`text` in one line in which nothing is Markdown or HTML, and not longer than a line should be."""
    plain = " ".join(printable(str(text)).split())
    shortened = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    return _SIGNS.sub(r"\\\1", shortened)


def table(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Two columns without a heading. The cells are Markdown already."""
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def shell_block(lines: Iterable[str]) -> list[str]:
    """Commands, in a fence that none of them can close."""
    # Between quotes, as shlex leaves such text, '' says nothing; so no command can hold the mark of a section's end.
    commands = [" ".join(printable(line).split()).replace("<!--", "<''!--") for line in lines]
    longest = max((len(run) for line in commands for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", *commands, fence]
