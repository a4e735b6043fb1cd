"""The report as one HTML page: a template, and pictures inside."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2

from act_hf.report.facts import interval, percent
from act_hf.report.plots import pictures


if TYPE_CHECKING:
    from act_hf.report.facts import Report


def render_page(report: Report) -> str:
    """The page. Whatever came from a row, a model or a person is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, interval=interval, plain=_plain)
    template = resources.files("act_hf.report").joinpath("report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(report=report, pictures=pictures(report))


def _plain(value: Any) -> str:
    """A value of a record as text."""
    if isinstance(value, str):
        return value
    return f"{value:,.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
