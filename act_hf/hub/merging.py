"""A card with our section and our metadata in it, and every line that somebody else wrote as it was."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, one_line


if TYPE_CHECKING:
    from collections.abc import Mapping

_BLOCK = re.compile(r"(\ufeff?)---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", flags=re.DOTALL | re.MULTILINE)
_NEW = "---\n---\n"


def read_metadata(card: str, where: str) -> dict[str, Any]:
    """
    The metadata of a card: the YAML block at its beginning.

    Args:
        card (`str`): the text of `README.md`.
        where (`str`): its address, for the message.

    Raises:
        ACTError: when the block is no YAML mapping.
    """
    import yaml

    found = _BLOCK.match(card)
    try:
        metadata = yaml.safe_load(found[2]) if found else {}
    except yaml.YAMLError as error:
        raise ACTError(f"the metadata of the card of {where!r} is no YAML: {one_line(error)}; repair it") from error
    if not isinstance(metadata or {}, dict):
        raise ACTError(f"the metadata of the card of {where!r} is no mapping of names to values; repair it")
    return dict(metadata or {})


def merge_card(card: str | None, *, title: str, part: str, section: str, metadata: Mapping[str, Any]) -> str:
    """
    A card with a section of ours and some metadata.

    Args:
        card (`str`, *optional*): the text as it is; a new one where there is none.
        title (`str`): heads a new card, as Markdown.
        part (`str`): what the section is about. Each part has one section, between two marks, and what stands there is
            replaced.
        section (`str`): Markdown.
        metadata (mapping): what to set in the YAML block; every other entry stays as it is written.

    Returns:
        `str`: with the line ends that `card` has.
    """
    old = card if card and card.strip("\ufeff \r\n") else f"{_NEW}\n# {title}\n"
    if _BLOCK.match(old) is None:
        old = _NEW + "\n" + old
    line_end = "\r\n" if "\r\n" in old else "\n"
    return _with_metadata(_with_section(old, part, section.replace("\n", line_end), line_end), metadata, line_end)


def _with_section(card: str, part: str, section: str, line_end: str) -> str:
    begin = f"<!-- act_hf: begin {part} (written anew by every push, up to the next mark) -->"
    end = f"<!-- act_hf: end {part} -->"
    between = f"{begin}{line_end}{section.strip()}{line_end}{end}"
    first, last = card.find(begin), card.find(end)
    if 0 <= first < last and card.count(begin) == card.count(end) == 1:
        return card[:first] + between + card[last + len(end) :]
    # A mark without its partner says nothing of where the section ended.
    lines = [line for line in card.split(line_end) if line.strip() not in (begin, end)]
    return line_end.join(lines).rstrip() + line_end * 2 + between + line_end


def _with_metadata(card: str, metadata: Mapping[str, Any], line_end: str) -> str:
    """Only the lines of the entries that change are written anew: comments, quotes and order of the others stay."""
    import yaml

    block = _BLOCK.match(card)
    assert block is not None
    text, known = block[2], yaml.safe_load(block[2]) or {}
    wanted = {**known, **metadata}
    if wanted == known:
        return card
    try:
        for name, value in metadata.items():
            if name not in known or known[name] != value:
                text = _with_entry(text, name, _dumped({name: value}).replace("\n", line_end))
        whole = yaml.safe_load(text) == wanted
    except yaml.YAMLError:
        whole = False
    if not whole:  # flow style, anchors, or something else that cannot be cut into lines
        text = _dumped(wanted).replace("\n", line_end)
    return card[: block.start(2)] + text + card[block.end(2) :]


def _with_entry(block: str, name: str, written: str) -> str:
    import yaml

    root = yaml.compose(block)
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == name:
            # A block ends where the next token begins: comments and blank lines between are not part of it.
            inside = _lines(block[key.start_mark.index : value.end_mark.index])
            after = block[value.end_mark.index :]
            kept: list[str] = []
            while inside and (not inside[-1].strip() or inside[-1].startswith("#")):
                kept.insert(0, inside.pop())
            first = _lines(after)[0] if after and not kept and value.end_mark.column else ""
            return block[: key.start_mark.index] + written + "".join(kept) + after[len(first) :]
    return (block if not block or block.endswith("\n") else block + "\n") + written


def _dumped(values: Mapping[str, Any]) -> str:
    import yaml

    for readable in (True, False):  # yaml writes some line ends as they are, and reads them as spaces
        text: str = yaml.safe_dump(dict(values), allow_unicode=readable, sort_keys=False, width=10_000)
        if yaml.safe_load(text) == values:
            break
    return text


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)
