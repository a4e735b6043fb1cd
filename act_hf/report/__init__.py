"""The run as one page: how right the labels are, what review found, what the critic is worth, what it all cost."""

from act_hf.report.build import build_report
from act_hf.report.facts import Report


__all__ = ["Report", "build_report"]
