"""The command line, run in this process."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from dataclasses import dataclass

import pytest

from act_hf.cli import main


@dataclass
class Ended:
    status: int
    out: str
    err: str


def act_hf(*arguments) -> Ended:
    """`act-hf ARGUMENTS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    given, sys.argv = sys.argv, ["act-hf", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = given
    return Ended(end.value.code or 0, out.getvalue(), err.getvalue())


def good(*arguments) -> str:
    ended = act_hf(*arguments)
    assert ended.status == 0, ended.err
    return ended.out


def refused(*arguments) -> str:
    """The one line that is said; the status is 2."""
    ended = act_hf(*arguments)
    assert ended.status == 2, ended
    assert ended.out == ""
    assert re.fullmatch(r"(\rLoading weights: .*\n)?act-hf: .+\n", ended.err), ended.err
    return ended.err.splitlines()[-1]
