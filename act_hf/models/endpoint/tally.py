"""What an answer took: requests, tokens, seconds and dollars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from act_hf.models.base import Answer


@dataclass
class Tally:
    """
    What an answer took.

    Args:
        calls (`int`): requests that the server has seen.
        tokens_in, tokens_out (`int`): tokens read and written, as the server counted them.
        seconds (`float`): duration of the requests that gave something.
        metered (`bool`): whether the server has told the tokens of every reply.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    metered: bool = True

    def meter(self, tokens_in: Any, tokens_out: Any) -> None:
        """Adds the tokens that a server says a reply took."""
        counts = [count if isinstance(count, int) and count >= 0 else None for count in (tokens_in, tokens_out)]
        self.metered = self.metered and None not in counts
        self.tokens_in += counts[0] or 0
        self.tokens_out += counts[1] or 0

    def answer(self, prices: tuple[float, float] | None, **given: Any) -> Answer:
        """The answer with what it took."""
        cost = None
        if prices is not None and self.metered:
            cost = (self.tokens_in * prices[0] + self.tokens_out * prices[1]) / 1e6
        return Answer(
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            seconds=self.seconds,
            cost=cost,
            calls=self.calls,
            **given,
        )
