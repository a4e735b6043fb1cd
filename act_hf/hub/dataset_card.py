"""What the card of a data set says of how its labels were made: the report's facts, in Markdown."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from act_hf.columns import LABEL
from act_hf.errors import ACTError
from act_hf.hub.commands import reproducing
from act_hf.hub.markdown import escaped, shell_block, table
from act_hf.records import recorded_task, stage_records
from act_hf.report import build_report
from act_hf.report.facts import Share, interval, percent, shares_of


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datasets import Dataset

    from act_hf.hub.address import Address
    from act_hf.hub.layout import Place
    from act_hf.report import Report
    from act_hf.task import Task

TAGS = ("act_hf", "human-review")
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_NOTE = 1000
PROJECT = "https://github.com/act-hf/act_hf"
_DONE = {"annotate": "annotated by", "vote": "labelled for the panel by", "criticize": "criticized by"}
_HIDDEN = ("rows", "failed", "selected", "allocation")
"""Facts of a draw that stand elsewhere, or take too much room."""


def report_of(dataset: Dataset) -> Report | None:
    """The facts of a run, where the data set is the outcome of one."""
    if LABEL not in dataset.column_names or not stage_records(dataset, "annotate") or not len(dataset):
        return None
    return build_report(dataset)


def picture_of(report: Report) -> tuple[bytes, str] | None:
    """The most telling plot of a report as a PNG, and what it shows; `None` without numbers or matplotlib."""
    from act_hf.report.plots import curve_plot

    if not report.critics:
        return None
    try:
        picture = curve_plot(report)
    except ACTError:  # no matplotlib: a card does without
        return None
    return base64.b64decode(picture.uri.partition(",")[2]), picture.alt


def section_of(report: Report | None, place: Place, address: Address, *, picture: str | None, rows: int) -> str:
    """
    The section of a split.

    Args:
        report ([`Report`], *optional*): the facts, where there are some.
        place ([`Place`]): where the split lies.
        address ([`Address`]): of the data set.
        picture (`str`, *optional*): what the plot beside shows, where there is one.
        rows (`int`): of the split.
    """
    where = f"split `{place.split}` of the configuration {escaped(place.config)}"
    lines = [f"## How the labels of {where} were made" if report else f"## The {where}", ""]
    lines += [f"Written by [act_hf]({PROJECT}). ε̂ is a critic's estimate that a label is wrong.", ""] if report else []
    lines += table([("rows", f"{rows:,}"), *(_facts(report) if report else ())])
    if report is not None:
        lines += ["", *(f"- {escaped(note, longest=_NOTE)}" for note in report.notes)] if report.notes else []
        if picture is not None:
            lines += ["", f"![{escaped(picture)}]({quote(place.picture)})"]
        lines += [
            "",
            "The commands that reproduce it. Models behind a server need its address too (`--base-url`).",
            "",
        ]
        lines += shell_block(reproducing(report.records, "INPUT", str(address)))
    return "\n".join(lines)


def added_metadata(known: Mapping[str, Any], task: Task | None, rows: int) -> dict[str, Any]:
    """The entries of a card that are missing, or a list that ours are added to; nothing that is said is changed."""
    tags = known.get("tags") or []
    tags = tags if isinstance(tags, list) else [tags]
    found: dict[str, Any] = {"tags": [*tags, *(tag for tag in TAGS if tag not in tags)]}
    size = next((name for most, name in _SIZES if rows < most), "n>10M")
    found |= {name: value for name, value in (("size_categories", [size]),) if not known.get(name)}
    if task is None:
        return found
    if not known.get("task_categories"):
        found["task_categories"] = [task_category(task)]
    if not known.get("language") and re.fullmatch("[a-z]{2,3}", task.language or ""):  # the Hub takes codes alone
        found["language"] = [task.language]
    return found


def task_category(task: Task) -> str:
    """What the Hub calls such a task."""
    if task.image is None:
        return "text-classification"
    return "image-classification" if task.question is None and task.text is None else "visual-question-answering"


def task_of(dataset: Dataset) -> Task | None:
    """The task that the data set was annotated for, where it was."""
    return recorded_task(dataset) if stage_records(dataset, "annotate") else None


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "labels", ", ".join(escaped(label) for label in report.task["labels"])
    for record in report.records:
        if record["stage"] in _DONE:
            yield _DONE[record["stage"]], _model(record)
    for record in report.records:
        if record["stage"] == "sample":
            facts = {name: value for name, value in record.items() if name not in (*_HIDDEN, "stage", "versions")}
            yield "drawn for review by", _told(facts)
        if record["stage"] == "calibrate":
            yield "ε̂ fitted to the reviewed rows by", _told({"method": record.get("method")})
    yield from _reviewed(report)
    yield from _accuracy(report)
    yield from _costs(report)
    yield "made with", _told((report.records[-1].get("versions") if report.records else None) or {})


def _model(record: Mapping[str, Any]) -> str:
    facts = {name: record.get(name) for name in ("strategy", "calibration", "suffix")}
    facts["prompts, version"] = record.get("prompts")
    failed = record.get("failed")
    return f"{escaped(record.get('model'))}: {_told(facts | ({'rows that failed': failed} if failed else {}))}"


def _told(facts: Mapping[str, Any]) -> str:
    said = {name: value for name, value in facts.items() if value not in (None, "", [], {}) and value != "none"}
    shown = (f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in said.items())
    return ", ".join(escaped(fact) for fact in shown)


def _reviewed(report: Report) -> Iterator[tuple[str, str]]:
    review = report.review
    if review.selected or review.answered:
        who = f"simulated, not by people: {escaped(review.simulated)}" if review.simulated else _people(report)
        done = f"{review.answered:,} of {review.selected:,} rows drawn"
        yield "reviewed", f"{done} ({who}); {review.corrected:,} corrected"
    if report.agreement is not None:
        agreement = report.agreement
        same = 1 - agreement.disagreeing / agreement.pairs
        yield "agreement of people", f"{percent(same)} of {agreement.pairs:,} pairs of answers to the same row"


def _people(report: Report) -> str:
    # Names are nobody else's business; who reviewed in several rounds is counted in the largest.
    counts = [record.get("annotators") for record in report.records if record["stage"] == "review"]
    known = [count for count in counts if isinstance(count, int)]
    return f"by {max(known)} {'person' if max(known) == 1 else 'people'}" if known else "by people"


def _accuracy(report: Report) -> Iterator[tuple[str, str]]:
    simulated = ", by a simulated review" if report.review.simulated else ""
    if report.estimate is None:
        yield "labels that are right", f"not known: {escaped(report.no_estimate)}"
        return
    names = "machine labels that are right", "labels that are right after review"
    for name, share in zip(names, shares_of(report.estimate), strict=True):
        yield name, f"{_share(share)}, estimated from the reviewed rows{simulated}"


def _share(share: Share) -> str:
    return f"{percent(share.value)} (95 % interval {interval(share.low, share.high)})"


def _costs(report: Report) -> Iterator[tuple[str, str]]:
    for record in report.records:
        usage = record.get("usage")
        if usage:
            tokens = usage["tokens_in"] + usage["tokens_out"]
            price = "" if usage.get("cost") is None else f", ${usage['cost']:.4f}"
            asked = f"{usage['requests']:,} requests, {tokens:,} tokens, {usage['seconds']:.0f} s of the model"
            yield f"cost of {escaped(record['stage'])}", asked + escaped(price)
