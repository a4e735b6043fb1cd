"""The reference of the command line, made of what `--help` says: the block `{commands}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from sphinx.util.docutils import SphinxDirective

from act_hf.cli import app as act_hf_app


if TYPE_CHECKING:
    from collections.abc import Iterator

    from docutils import nodes
    from sphinx.application import Sphinx


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command with its name, those of a group one by one."""
    for word, inner in getattr(command, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from commands(inner, f"{name} {word}")
        else:
            yield f"{name} {word}", inner


def described(name: str, command: Any) -> str:
    """The section of one command, as Markdown."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([name, *(one.name.upper() for one in arguments)])
    rows = [(f"`{one.name.upper()}`", one) for one in arguments]
    rows += [(" ".join(f"`{opt}`" for opt in (*one.opts, *one.secondary_opts)), one) for one in options]
    items = [f"- {head}: {one.help or ''}{_default(one)}" for head, one in rows]
    return "\n\n".join([f"## {usage}", command.help or "", "\n".join(items)])


def _default(option: Any) -> str:
    shown = isinstance(option.default, str | int | float) and not isinstance(option.default, bool)
    return f" Default: `{option.default}`." if shown and option.show_default else ""


class Commands(SphinxDirective):
    """Documents every command of `act-hf`."""

    def run(self) -> list[nodes.Node]:
        """Called by Sphinx."""
        every = commands(typer.main.get_command(act_hf_app), "act-hf")
        text = "\n\n".join(described(name, command) for name, command in every)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
