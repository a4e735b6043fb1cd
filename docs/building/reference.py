"""
The reference, made of the docstrings, which are Markdown in the Hugging Face form.

A page lists the names that it documents:

    ```{public}
    annotate
    Annotator
    ```
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sphinx.util.docutils import SphinxDirective

import act_hf


if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example):$", re.MULTILINE)
TITLES = {"Args": "Arguments", "Raises": "Errors"}
ENTRY = re.compile(r"^(?P<names>[\w*, ]+?)(?: \((?P<type>.+?)\))?[:.] *(?P<text>.*(?:\n(?: .*)?$)*)", re.MULTILINE)
NAME = re.compile(r"\[`([\w.]+)`\]")


def documented(name: str) -> str:
    """The entry of one public name, as MyST Markdown."""
    value = getattr(act_hf, name)
    kind = "class" if inspect.isclass(value) else "function"
    entries = [_entry(kind, f"act_hf.{name}", value)]
    if kind == "class":
        entries += [_entry(*member) for member in _members(f"act_hf.{name}", value)]
    return "\n\n".join(entries)


def _members(path: str, owner: type) -> Iterator[tuple[str, str, Any]]:
    """The public methods and properties that the class itself defines."""
    for name, value in vars(owner).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property | cached_property):
            yield "property", f"{path}.{name}", value
        elif inspect.isfunction(value) or isinstance(value, classmethod | staticmethod):
            yield "method", f"{path}.{name}", getattr(owner, name)


def _entry(kind: str, path: str, value: Any) -> str:
    text = in_markdown(inspect.cleandoc(value.__doc__ or ""))
    shown = path if kind == "property" else path + _signature(value)
    return f"``````{{py:{kind}}} {shown}\n\n{text}\n``````"


def _signature(value: Any) -> str:
    """The parameters with their defaults; of a class with dozens that it inherits, only those of its own."""
    if inspect.isclass(value) and (issubclass(value, Exception) or getattr(value, "_is_protocol", False)):
        return ""  # nobody makes one by hand
    signature = inspect.signature(value)
    parameters = [one.replace(annotation=one.empty) for one in signature.parameters.values() if one.name != "self"]
    own = [one for one in parameters if one.name in vars(value).get("__annotations__", {})]
    if own and len(own) < len(parameters) and dataclasses.is_dataclass(value):
        parameters = [*own, inspect.Parameter("inherited", inspect.Parameter.VAR_KEYWORD)]
    kept = signature.replace(parameters=parameters, return_annotation=signature.empty)
    return re.sub(r"<factory>|<[^<>]* at 0x[0-9a-f]+>", "...", str(kept))


def in_markdown(text: str) -> str:
    """A docstring with its sections as lists, and the names in it as links."""
    head, *rest = SECTION.split(text)
    parts = [head.strip()]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        parts += [f"**{TITLES.get(title, title)}**", _section(title, textwrap.dedent(body).strip("\n"))]
    return NAME.sub(_linked, "\n\n".join(parts))


def _section(title: str, body: str) -> str:
    if title == "Raises":
        body = re.sub(r"^(\w+):", r"[`\1`]:", body, flags=re.MULTILINE)
        return re.sub(r"^(?=\[`)", "- ", body, flags=re.MULTILINE)
    return ENTRY.sub(_item, body) if title in ("Args", "Attributes") else body


def _item(entry: re.Match[str]) -> str:
    names = ", ".join(f"`{name.strip()}`" for name in entry["names"].split(","))
    head = f"{names} ({entry['type']})" if entry["type"] else names
    first, _, more = entry["text"].partition("\n")
    return f"- {head}{': ' if first or more.strip() else ''}{first}\n{textwrap.indent(textwrap.dedent(more), '  ')}"


def _linked(name: re.Match[str]) -> str:
    if name[1].split(".")[0] in act_hf.__all__:
        return f"{{py:obj}}`{name[1]} <act_hf.{name[1]}>`"
    return f"`{name[1]}`"


class Public(SphinxDirective):
    """Documents the names that its content lists, one a line."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Called by Sphinx."""
        return self.parse_text_to_nodes("\n\n".join(documented(name) for name in self.content))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("public", Public)
    return {"parallel_read_safe": True}
