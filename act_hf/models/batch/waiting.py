"""Waiting for batches, and what is said meanwhile."""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

from act_hf.models.batch.account import Silent


if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from act_hf.models.batch.account import Account, State

_GROWTH = 1.5
_SILENCE = 30
"""Looks in a row without an answer, after which a server is taken for dead. A day is long, and networks come back."""

_NAMED = 10


def wait_for(account: Account, pending: Mapping[str, State], *, poll: tuple[float, float]) -> None:
    """
    Looks at batches until all of them have ended, ever more seldom.

    Raises:
        ACTError: when the server cannot be used any more.
    """
    from datasets.utils import are_progress_bars_disabled
    from tqdm.auto import tqdm

    states, pause, silent = dict(pending), poll[0], 0
    with tqdm(desc="batch", unit="requests", disable=are_progress_bars_disabled()) as bar:
        while True:
            _show(bar, states.values())
            running = [id for id, state in states.items() if not state.ended]
            if not running:
                return
            time.sleep(pause)
            pause = min(poll[1], pause * _GROWTH)
            try:
                states |= {id: account.look(id) for id in running}
                silent = 0
            except Silent:
                silent += 1
                if silent >= _SILENCE:
                    raise


def _show(bar: Any, states: Collection[State]) -> None:
    bar.total = sum(state.total for state in states) or None
    bar.n = sum(state.done + state.failed for state in states)
    failed = sum(state.failed for state in states)
    bar.set_postfix_str(counted(states) + (f", {failed:,} failed" if failed else ""))


def counted(states: Collection[State]) -> str:
    """How many batches are in which state."""
    return ", ".join(f"{count} {status}" for status, count in sorted(Counter(one.status for one in states).items()))


def told(states: Collection[State]) -> str:
    """Batches by id, each with how it stands with it."""
    shown = [_told(state) for state in islice(states, _NAMED)]
    return ", ".join(shown) + (f" and {len(states) - _NAMED} more" if len(states) > _NAMED else "")


def _told(state: State) -> str:
    done = f", {state.done + state.failed:,} of {state.total:,}" if state.total else ""
    return f"{state.id} ({state.status}{done})"
