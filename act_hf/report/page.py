"""Reports and comparisons as one HTML page each: a frame, a template, and pictures inside."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from act_hf.errors import printable
from act_hf.report.facts import METHODS, interval, percent
from act_hf.report.plots import pictures


if TYPE_CHECKING:
    from act_hf.report.facts import Report


def render_page(report: Report) -> str:
    """The page of a report."""
    return render("report/report.html.jinja", report=report, pictures=pictures(report))


def render(template: str, **values: Any) -> str:
    """
    A page. Whatever came from a user, a row, a model or a person is escaped.

    Args:
        template (`str`): its path in this package. It extends `report/frame.html.jinja`.
        values: what it shows; `pictures` among them, a mapping of `str` to [`act_hf.report.plots.Picture`].
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("act_hf", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        interval=interval,
        plain=_plain,
        sentence=_sentence,
        breakable=_breakable,
        method=METHODS.__getitem__,
    )
    return environment.get_template(template).render(**values)


def _sentence(text: str) -> str:
    """Running text with names in it: without what could turn the words around the name the other way."""
    return "\u00a0".join(printable(part) for part in text.split("\u00a0"))


def _breakable(name: str) -> Markup:
    """A name that may be broken where its words meet."""
    return Markup("<wbr>").join(re.split(r"(?<=[_/.:-])(?=.)", name))  # which escapes the words


def _plain(value: Any) -> str:
    """A value of a record as text."""
    if isinstance(value, str):
        return value
    return f"{value:,.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
