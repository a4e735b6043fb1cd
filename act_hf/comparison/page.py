"""The comparison as one HTML page: a template, and pictures inside."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import jinja2

from act_hf.comparison.advice import dollars
from act_hf.comparison.plots import pictures
from act_hf.report.facts import interval, percent


if TYPE_CHECKING:
    from act_hf.comparison.facts import Comparison


def render_page(comparison: Comparison) -> str:
    """The page. Whatever came from a user, a row or a model is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, interval=interval, dollars=dollars)
    template = resources.files("act_hf.comparison").joinpath("comparison.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(comparison=comparison, pictures=pictures(comparison))
