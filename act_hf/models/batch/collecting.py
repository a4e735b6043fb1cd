"""What a batch that has ended gave: answers, requests to repeat, or the reason why there are none."""

from __future__ import annotations

import tempfile
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING

from act_hf.errors import ACTError
from act_hf.models.batch.lines import NO_LOGPROBS, read_answer, read_results, whole
from act_hf.models.endpoint.retry import Again, Refused
from act_hf.models.endpoint.tally import Tally


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

    from act_hf.models.base import Answer, Request
    from act_hf.models.batch.account import Account, State
    from act_hf.models.batch.journal import Entry, Journal
    from act_hf.models.batch.lines import Result
    from act_hf.models.batch.model import BatchEndpoint

_ALL_ALIKE = 16
"""Requests that failed in the same words, none of which was answered, before that is not about their rows."""

_MISSING = "the batch's files have no result for it"


def collect(
    model: BatchEndpoint,
    account: Account,
    journal: Journal,
    entry: Entry,
    state: State,
    requests: Mapping[str, Request],
    *,
    watched: bool,
) -> Iterator[tuple[dict[str, Answer], list[str]]]:
    """
    Takes what a batch that has ended holds for `requests`, by key. `watched` says whether this call has waited for it:
    a batch that somebody cancels meanwhile ends the call, and one that was cancelled before is made up for.

    Yields:
        `tuple`: the answers, failures for good among them, and the keys of requests to ask again. When the next one is
        asked for, they are taken for stored.

    Raises:
        ACTError: when the batch failed as a whole, was cancelled meanwhile, or all its requests were refused alike.
            What it did answer has been yielded, and nothing more is expected of it.
    """
    if state.status == "failed":
        journal.drop(entry)
        if not (state.limited and entry.beside):  # what stood in its way then has ended by now
            _drop_failed(account, journal)
            raise ACTError(_why_failed(model, state))
        yield {}, []
        return
    answers, problems = _read(model, account, entry, state, requests)
    cancelled = state.status == "cancelled"
    tries = entry.attempt <= model.retries or cancelled
    again = [key for key, (_, final) in problems.items() if not final and tries]
    failed = {key: problem for key, (problem, _) in problems.items() if key not in again}
    alike = _refused_alike(answers, failed, requests)
    if alike and entry.attempt == 1:  # later ones hold what failed beside others that did not
        journal.taken(entry, list(requests))
        raise ACTError(alike.format(model=model.model, id=state.id))
    answers |= {key: Tally(calls=entry.attempt).answer(model.prices, failure=said) for key, said in failed.items()}
    yield answers, again
    journal.taken(entry, list(requests))
    if cancelled and watched and again:
        raise ACTError(
            f"{state.id} of {model.model} was cancelled with {len(answers):,} of {len(requests):,} requests answered, "
            "which are kept; the same call submits the others again"
        )


def _drop_failed(account: Account, journal: Journal) -> None:
    """Expects nothing of the others that failed: they were submitted together, and would be complained of in turn."""
    for entry in journal.open(account.root):
        if entry.id and account.look(entry.id).status == "failed":
            journal.drop(entry)


def _why_failed(model: BatchEndpoint, state: State) -> str:
    said = "; ".join(state.errors[:3]) or "it does not say why"
    more = f" (and {len(state.errors) - 3} more)" if len(state.errors) > 3 else ""
    hint = (
        "; give a smaller max_requests= (--batch-requests), or come back when other batches have ended"
        if state.limited
        else ""
    )
    return (
        f"the server took nothing of {state.id} of {model.model}: {said}{more}{hint}. The same call submits it again"
    )


def _read(
    model: BatchEndpoint, account: Account, entry: Entry, state: State, requests: Mapping[str, Request]
) -> tuple[dict[str, Answer], dict[str, tuple[str, bool]]]:
    """The answers, and for each of the other keys the reason why there is none and whether that is final."""
    answers: dict[str, Answer] = {}
    problems: dict[str, tuple[str, bool]] = dict.fromkeys(requests, (_MISSING, False))
    strange = 0
    with ExitStack() as opened:
        files = [_downloaded(account, file, opened.enter_context(tempfile.TemporaryFile())) for file in state.files]
        for result in read_results(files, account.secret):
            if result.key not in requests:
                strange += 1
            elif result.key not in answers:  # the first answer counts, whatever else a file says of the request
                _sort(model, account, entry, result, requests[result.key], answers, problems)
    if strange and len(requests) == entry.requests:
        warnings.warn(
            f"{strange} results in the files of {state.id} are of no request that was in it, and are left out",
            stacklevel=2,
        )
    return answers, {key: problem for key, problem in problems.items() if key not in answers}


def _sort(
    model: BatchEndpoint,
    account: Account,
    entry: Entry,
    result: Result,
    request: Request,
    answers: dict[str, Answer],
    problems: dict[str, tuple[str, bool]],
) -> None:
    try:
        answers[result.key] = read_answer(
            result, request, prices=model.prices, calls=entry.attempt, secret=account.secret
        )
    except Again as problem:
        problems[result.key] = (str(problem), False)
    except Refused as problem:
        problems[result.key] = (str(problem), True)


def _downloaded(account: Account, id: str, file: BinaryIO) -> BinaryIO:
    account.download(id, file)
    if not whole(file):
        account.download(id, file)  # once more; what is missing then is missing
    return file


def _refused_alike(answers: Mapping[str, Answer], failed: Mapping[str, str], requests: Mapping[str, Request]) -> str:
    """Why none of many requests has an answer, where that is the same for all; else nothing."""
    reasons = set(failed.values()) | {answer.failure for answer in answers.values()}
    if len(requests) < _ALL_ALIKE or len(failed) + len(answers) < len(requests) or len(reasons) != 1:
        return ""
    reason = next(iter(reasons))
    if reason is None:
        return ""
    if reason == NO_LOGPROBS:
        return (
            "{model} gives no log-probabilities by batch; pass logprobs=False (--no-logprobs) and use a strategy that "
            "chats (naive, cot, mc, devil)"
        )
    quoted = reason.replace("{", "{{").replace("}", "}}")
    return f"{{model}} answered none of the {len(requests):,} requests of {{id}}, all because {quoted}"
