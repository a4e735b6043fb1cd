"""Review in a file: CSV for a spreadsheet, JSONL for everything else. One line a row, matched by `act_id`."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.files import FORMULA, written_whole
from act_hf.records import recorded_task
from act_hf.review.responses import Response, check_ids, merge_responses


if TYPE_CHECKING:
    from datasets import Dataset

    from act_hf.task import Task

CHOICES = "act_choices"
ANNOTATOR = "act_annotator"
FORMATS = (".csv", ".jsonl")

# A spreadsheet takes this for a number, a date or a time, and saves another one: an id 12345e67 comes back as 1.2E+71.
_NUMBER = re.compile(r"[\d.,:/%e +-]*\d[\d.,:/%e +-]*", re.IGNORECASE | re.ASCII)


def push_table(dataset: Dataset, path: str | Path, *, overwrite: bool = False) -> int:
    """
    Writes the selected rows to a file in which people fill in the column `act_human`.

    The most doubtful rows come first; rows with the same content come once. In CSV, text that a spreadsheet would run
    as a formula or take for a number gets an apostrophe in front.

    Args:
        dataset (`Dataset`): sampled rows.
        path (`str` or `Path`): ends in `.csv` or `.jsonl`.
        overwrite (`bool`, *optional*, defaults to `False`): replaces a file that is there, with the answers in it.

    Returns:
        `int`: the number of lines to fill in.

    Raises:
        ACTError: for another ending, a file that is there, nothing selected, or a task with images.
    """
    path = _checked_path(path)
    columns.require(dataset, [columns.ID, columns.LABEL, columns.SELECTED], stage="review push")
    task = recorded_task(dataset)
    columns.require(dataset, task.columns, stage="review push")
    if task.image:
        raise ACTError(f"review push: a table cannot show the images of column {task.image!r}")
    if path.exists() and not overwrite:
        raise ACTError(f"{str(path)!r} exists and may hold answers; pull them first, or pass overwrite (--overwrite)")
    lines = _lines(dataset, task)
    if not lines:
        raise ACTError("review push: no row is selected")
    with written_whole(path, "the review file") as unfinished:
        if path.suffix == ".csv":
            # With the mark that makes Excel read UTF-8.
            unfinished.write_text(_to_csv(lines), encoding="utf-8-sig", newline="")
        else:
            unfinished.write_text(_to_jsonl(lines), encoding="utf-8")
    return len(lines)


def pull_table(dataset: Dataset, path: str | Path, *, annotator: str = "reviewer", replace: bool = False) -> Dataset:
    """
    Reads back a file that [`push_table`] wrote and people filled in. Empty answers are taken as not given yet.

    Args:
        dataset (`Dataset`): the rows that were pushed.
        path (`str` or `Path`): ends in `.csv` or `.jsonl`; columns may have been removed, but not `act_id` and
            `act_human`.
        annotator (`str`, *optional*, defaults to `"reviewer"`): who answered, where the file has no column
            `act_annotator` that says so.
        replace (`bool`, *optional*, defaults to `False`): lets people change an answer they gave before.

    Returns:
        `Dataset`: as from [`merge_responses`].

    Raises:
        ACTError: for a missing or broken file, a missing column, a row whose text was edited, no answer at all, and
            what [`merge_responses`] refuses.
    """
    path = _checked_path(path)
    task = recorded_task(dataset)
    # Spreadsheets leave empty lines at the end.
    lines = [line for line in _read(path) if _act_id(line) or _cell(line, columns.HUMAN)]
    check_ids(dataset, [_act_id(line) for line in lines])
    _check_once(lines, annotator, path)
    _check_unedited(dataset, lines, task, path)
    responses = []
    for line in lines:
        answer = _cell(line, columns.HUMAN)
        if answer:
            who = _cell(line, ANNOTATOR) or annotator
            responses.append(Response(_act_id(line), who, _label(answer, task)))
    if not responses:
        raise ACTError(f"{str(path)!r}: no answer in column {columns.HUMAN!r}; fill it in for at least one row")
    return merge_responses(dataset, responses, source=f"table {path.name}", replace=replace)


def count_answers(path: str | Path) -> int:
    """How many lines of a review file have an answer. Raises [`ACTError`] for a missing or broken file."""
    return sum(bool(_cell(line, columns.HUMAN)) for line in _read(_checked_path(path)))


def _check_once(lines: list[dict[str, Any]], annotator: str, path: Path) -> None:
    """A second line for a row, even an empty one: which of them the person meant cannot be told."""
    seen = Counter((_act_id(line), _cell(line, ANNOTATOR) or annotator) for line in lines)
    twice = [act_id for (act_id, _), count in seen.items() if count > 1]
    if twice:
        raise ACTError(f"{str(path)!r}: {len(twice)} act_ids more than once by the same person, such as {twice[0]}")


def _checked_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ACTError(f"a review file ends in {' or '.join(FORMATS)}, not {path.suffix or path.name!r}")
    return path


def _lines(dataset: Dataset, task: Task) -> list[dict[str, Any]]:
    optional = [name for name in (columns.ERROR_PROB, columns.CRITIQUE) if name in dataset.column_names]
    shown = [columns.ID, *task.columns, columns.LABEL, *optional]
    rows = _rows_by_id(dataset, shown, dataset[columns.SELECTED][:])
    # A row that no critic judged has no error probability, and comes first.
    doubtful = sorted(rows.values(), key=lambda row: -_or(row.get(columns.ERROR_PROB), 1.0))
    return [_line(row, shown, task) for row in doubtful]


def _rows_by_id(dataset: Dataset, names: list[str], wanted: list[bool]) -> dict[str, dict[str, Any]]:
    chosen = dataset.select([number for number, want in enumerate(wanted) if want])
    return {row[columns.ID]: row for row in chosen.with_format(None).select_columns(names)}


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _line(row: dict[str, Any], shown: list[str], task: Task) -> dict[str, Any]:
    line = {name: row[name] for name in shown}
    line[columns.LABEL] = None if row[columns.LABEL] is None else task.labels[row[columns.LABEL]]
    if line.get(columns.ERROR_PROB) is not None:
        line[columns.ERROR_PROB] = round(line[columns.ERROR_PROB], 4)
    return {**line, CHOICES: " | ".join(task.labels), columns.HUMAN: None}


def _to_csv(lines: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]))
    writer.writeheader()
    writer.writerows({name: _escaped(value) for name, value in line.items()} for line in lines)
    return text.getvalue()


def _to_jsonl(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _escaped(value: Any) -> Any:
    if isinstance(value, str) and (value.startswith(tuple(FORMULA)) or _NUMBER.fullmatch(value)):
        return f"'{value}"
    return value


def _label(answer: str, task: Task) -> str:
    """The one label that a cell can mean: spreadsheets write TRUE for true, and people do not mind the case."""
    exact = [name for name in task.labels if answer in (name.strip(), _escaped(name).strip())]
    meant = exact or [name for name in task.labels if answer.casefold() == name.strip().casefold()]
    return meant[0] if len(meant) == 1 else answer


def _act_id(line: dict[str, Any]) -> str:
    return _cell(line, columns.ID).removeprefix("'")


def _cell(line: dict[str, Any], name: str) -> str:
    value = line.get(name)
    return "" if value is None else str(value).strip()


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = _from_csv(text) if path.suffix == ".csv" else _from_jsonl(text)
    except UnicodeDecodeError as error:
        raise ACTError(f"the review file {str(path)!r} is not UTF-8; save it as 'CSV UTF-8' ({error})") from error
    except (OSError, csv.Error, json.JSONDecodeError) as error:
        raise ACTError(f"cannot read the review file {str(path)!r}: {error}") from error
    if not lines:
        raise ACTError(f"the review file {str(path)!r} has no rows")
    for name in (columns.ID, columns.HUMAN):
        if not any(name in line for line in lines):  # some programs leave out the empty values of JSONL
            raise ACTError(f"{str(path)!r} has no column {name!r}; it needs {columns.ID} and {columns.HUMAN}")
    return lines


def _from_csv(text: str) -> list[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)
    header = text.partition("\n")[0]
    # Some spreadsheets save with the separator of the country.
    delimiter = max(",;\t", key=header.count)
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def _from_jsonl(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.split("\n") if line.strip()]  # texts hold U+2028 and its like
    if not all(isinstance(line, dict) for line in lines):
        raise json.JSONDecodeError("a line is not an object", text, 0)
    return lines


def _check_unedited(dataset: Dataset, lines: list[dict[str, Any]], task: Task, path: Path) -> None:
    """An answer to an edited text may not be one to the row's."""
    columns.require(dataset, [columns.ID, *task.columns], stage="review pull")
    asked = {_act_id(line) for line in lines}
    rows = _rows_by_id(dataset, [columns.ID, *task.columns], [act_id in asked for act_id in dataset[columns.ID][:]])
    for line in lines:
        act_id = _act_id(line)
        for name in task.columns:
            if name in line and act_id in rows and not _same(line[name], rows[act_id][name]):
                raise ACTError(
                    f"{str(path)!r}: the column {name!r} of act_id {act_id} was edited, so its answer may not be "
                    f"about the row; put back {str(rows[act_id][name])[:60]!r}, or remove the column"
                )


def _same(cell: Any, value: Any) -> bool:
    return _comparable(cell) in (_comparable(value), _comparable(_escaped(value)))


def _comparable(text: Any) -> str:
    # Spreadsheets change line ends and drop blanks at the end of a cell.
    return "\n".join(line.rstrip() for line in str(text or "").splitlines()).strip()
