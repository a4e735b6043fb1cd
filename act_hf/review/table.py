"""Review in a file: CSV for a spreadsheet, JSONL for everything else. One line a row, matched by `act_id`."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.files import FORMULA, written_whole
from act_hf.records import recorded_task
from act_hf.review.places import Pulled, Pushed
from act_hf.review.responses import Response, check_ids


if TYPE_CHECKING:
    from datasets import Dataset

    from act_hf.review.rows import ReviewRow, ReviewRows
    from act_hf.task import Task

CHOICES = "act_choices"
ANNOTATOR = "act_annotator"
COMMENT = "act_comment"
FORMATS = (".csv", ".jsonl")

_MORE = "act_more"
"""The cells of a row that are under no name."""

# A spreadsheet takes this for a number, a date or a time, and saves another one: an id 12345e67 comes back as 1.2E+71.
# The digit is looked for ahead: between two repeats of the same signs, a long text of numbers takes quadratic time.
_NUMBER = re.compile(r"(?=\D*\d)[\d.,:/%e +-]+", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Table:
    """
    Review in a file with a line a row, in which people fill in the column `act_human`.

    Text that a spreadsheet would run as a formula or take for a number gets an apostrophe in front in CSV. Columns may
    be removed, except `act_id` and `act_human`. A column `act_annotator` says who answered, `act_comment` what they
    had to say.

    Args:
        path (`str` or `Path`): ends in `.csv` or `.jsonl`.
        annotator (`str`, *optional*, defaults to `"reviewer"`): who answered, where no column says so.
        overwrite (`bool`, *optional*, defaults to `False`): a push writes the file anew, and answers in it are gone.

    Raises:
        ACTError: for another ending.
    """

    path: str | Path
    annotator: str = "reviewer"
    overwrite: bool = False

    def __post_init__(self) -> None:
        _checked_path(self.path)

    @property
    def name(self) -> str:
        """For records."""
        return f"table {Path(self.path).name}"

    @property
    def final(self) -> bool:
        """Anybody may edit a file: who pulls says whether changed answers are meant."""
        return False

    @property
    def how(self) -> str:
        """What people do."""
        return f"fill in {columns.HUMAN}"

    def push(self, rows: ReviewRows) -> Pushed:
        """
        Writes the rows that the file does not have yet, below the lines that it has. The file is made where there is
        none, and left alone where nothing is new.

        Raises:
            ACTError: for a task with images, and a file that is broken or cannot be written.
        """
        path = Path(self.path)
        if rows.task.image:
            raise ACTError(f"review push: a table cannot show the images of column {rows.task.image!r}")
        there = [] if self.overwrite or not path.exists() else _read(path)
        new = rows.without({_act_id(line) for line in there})
        if len(new):
            fresh = [_line(row, rows) for row in new]
            _write(path, [*there, *fresh], raw=len(there))
        return Pushed(new=len(new), there=len(rows) - len(new))

    def pull(self, dataset: Dataset) -> Pulled:
        """
        The answers filled in so far. Empty ones are taken as not given yet.

        Raises:
            ACTError: for a missing or broken file, a missing column, a row whose text was edited, one that the data
                set does not have, or an unknown label.
        """
        path = Path(self.path)
        task = recorded_task(dataset)
        # Spreadsheets leave empty lines at the end.
        lines = [line for line in _read(path) if _act_id(line) or _cell(line, columns.HUMAN)]
        check_ids(dataset, [_act_id(line) for line in lines])
        _check_once(lines, self.annotator, path)
        _check_unedited(dataset, lines, task, path)
        answered = [line for line in lines if _cell(line, columns.HUMAN)]
        _check_labels(answered, task, path)
        return Pulled([self._response(line, task) for line in answered])

    def _response(self, line: dict[str, Any], task: Task) -> Response:
        label = _label(_cell(line, columns.HUMAN), task)
        who = _cell(line, ANNOTATOR) or self.annotator
        return Response(_act_id(line), who, label, _cell(line, COMMENT) if COMMENT in line else None)


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


def _line(row: ReviewRow, rows: ReviewRows) -> dict[str, Any]:
    line = {columns.ID: row.act_id, **row.shown, columns.LABEL: row.label}
    if columns.ERROR_PROB in rows.columns:
        line[columns.ERROR_PROB] = None if row.error_prob is None else round(row.error_prob, 4)
    if columns.CRITIQUE in rows.columns:
        line[columns.CRITIQUE] = row.critique
    return {**line, CHOICES: " | ".join(rows.task.labels), columns.HUMAN: None}


def _write(path: Path, lines: list[dict[str, Any]], *, raw: int) -> None:
    """Writes a review file whole. The first `raw` lines come from one, and their cells are escaped already."""
    with written_whole(path, "the review file") as unfinished:
        if path.suffix == ".csv":
            # With the mark that makes Excel read UTF-8.
            unfinished.write_text(_to_csv(lines, raw), encoding="utf-8-sig", newline="")
        else:
            unfinished.write_text(_to_jsonl(lines), encoding="utf-8")


def _to_csv(lines: list[dict[str, Any]], raw: int) -> str:
    text = io.StringIO()
    fields = dict.fromkeys(name for line in lines for name in line)
    writer = csv.DictWriter(text, fieldnames=list(fields))
    writer.writeheader()
    writer.writerows(lines[:raw])
    writer.writerows({name: _escaped(value) for name, value in line.items()} for line in lines[raw:])
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
    lines = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey=_MORE))
    for line in lines:
        if more := " ".join(line.pop(_MORE, [])).strip():  # spreadsheets leave empty cells at the end
            raise csv.Error(
                f"the row of act_id {_act_id(line)!r} has more cells than the header, with {more[:60]!r}; give each "
                f"column a name, and put quotes around a text with {delimiter!r} in it"
            )
    return lines


def _from_jsonl(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.split("\n") if line.strip()]  # texts hold U+2028 and its like
    if not all(isinstance(line, dict) for line in lines):
        raise json.JSONDecodeError("a line is not an object", text, 0)
    return lines


def _check_unedited(dataset: Dataset, lines: list[dict[str, Any]], task: Task, path: Path) -> None:
    """An answer to an edited text may not be one to the row's."""
    columns.require(dataset, [columns.ID, *task.columns], stage="review pull")
    asked = {_act_id(line) for line in lines}
    wanted = [number for number, act_id in enumerate(dataset[columns.ID][:]) if act_id in asked]
    shown = dataset.select(wanted).with_format(None).select_columns([columns.ID, *task.columns])
    rows = {row[columns.ID]: row for row in shown}
    for line in lines:
        act_id = _act_id(line)
        for name in task.columns:
            if name in line and act_id in rows and not _same(line[name], rows[act_id][name]):
                raise ACTError(
                    f"{str(path)!r}: the column {name!r} of act_id {act_id} was edited, so its answer may not be "
                    f"about the row; put back {str(rows[act_id][name])[:60]!r}, or remove the column"
                )


def _check_labels(lines: list[dict[str, Any]], task: Task, path: Path) -> None:
    """All of them at once, and where they stand: who mistypes a label does so more than once."""
    unknown = [line for line in lines if _label(_cell(line, columns.HUMAN), task) not in task.labels]
    if unknown:
        said = [f"{_cell(line, columns.HUMAN)[:60]!r} of act_id {_act_id(line)}" for line in unknown[:3]]
        said += [f"{len(unknown) - 3} more"] if len(unknown) > 3 else []
        no = "is not a label" if len(unknown) == 1 else "are not labels"
        raise ACTError(f"{str(path)!r}: {', '.join(said)} {no} of the task; the labels are {', '.join(task.labels)}")


def _same(cell: Any, value: Any) -> bool:
    return _comparable(cell) in (_comparable(value), _comparable(_escaped(value)))


def _comparable(text: Any) -> str:
    # Spreadsheets change line ends and drop blanks at the end of a cell.
    return "\n".join(line.rstrip() for line in str(text or "").splitlines()).strip()
