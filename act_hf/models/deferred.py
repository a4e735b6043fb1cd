"""Models that answer later: everything is submitted before any of it is waited for."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from datasets import Dataset

    from act_hf.models.asking import Usage
    from act_hf.models.base import Answer, Request


class Submitted(ACTError):
    """A stage ended before its answers were there. They are written down, and the same call goes on from there."""


@runtime_checkable
class Deferred(Protocol):
    """
    What a [`Model`] can do besides, whose answers take hours: be handed the requests of all rows, however many of them
    fit into memory at a time, before the first answer is waited for.
    """

    def submit(self, requests: Sequence[Request]) -> Iterator[dict[int, Answer]]:
        """
        Submits what was not submitted yet, and waits for nothing.

        Yields:
            `dict` of `int` to [`Answer`]: those that are there by now, by position.
        """

    def settle(self) -> None:
        """Waits until everything that was submitted has ended. Raises [`Submitted`] when it is not to wait."""

    def forget(self) -> None:
        """Forgets which requests failed for good: until then, within a call, they are not asked again."""

    def dearest(self, request: Request) -> float | None:
        """No less US dollars than a request will cost; `None` where that is not known."""


@contextmanager
def asked_ahead(
    dataset: Dataset,
    stage: Callable[[Mapping[str, list[Any]]], Any],
    models: Sequence[Any],
    *,
    usage: Usage,
    batch_size: int,
) -> Iterator[None]:
    """
    Runs `stage` over all rows until every answer that it takes from a [`Deferred`] one of `models` is in the store;
    the block then waits for nothing. What a stage asks in several steps takes as many rounds. For other models nothing
    is done.

    Args:
        dataset (`Dataset`): the rows.
        stage (callable): what will be mapped over them.
        models (sequence of [`Model`]): whom it asks.
        usage ([`Usage`]): its.
        batch_size (`int`): rows in memory at a time.

    Raises:
        Submitted: when a model is not to wait.
    """
    deferred = [model for model in models if isinstance(model, Deferred)]
    try:
        while deferred and _left_after_a_round(dataset, stage, usage, batch_size):
            _settle(deferred)
        yield
    finally:
        for model in deferred:
            model.forget()


def _left_after_a_round(dataset: Dataset, stage: Callable[..., Any], usage: Usage, batch_size: int) -> bool:
    from act_hf.columns import as_stored

    plain = as_stored(dataset)
    with usage.looking_ahead():
        for start in range(0, len(plain), batch_size):
            stage(plain[start : start + batch_size])
        return usage.waiting > 0


def _settle(models: Sequence[Deferred]) -> None:
    """Waits for all of them; of those that are not to wait all are said."""
    said = []
    for model in models:
        try:
            model.settle()
        except Submitted as error:
            said.append(str(error))
    if said:
        raise Submitted("; ".join(said))
