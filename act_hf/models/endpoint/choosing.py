"""How probable each of some replies is, read from the most probable tokens that a server lists. No network here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from act_hf.errors import printable


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CLEAR_ENOUGH = 0.01
"""Share of the probability that may stay between several continuations without asking once more."""

_FEW = 0.1
"""Share of the probability that unlisted continuations may have without a call for each; the bound is generous."""

_NEVER = -100.0
"""Servers write -9999 or so for tokens that cannot come; below this a log-probability is no information."""


_SHOWN = 5
_SHOWN_LENGTH = 20


@dataclass(frozen=True)
class Step:
    """
    A token of a reply.

    Args:
        token (`bytes`): what was written. Bytes, since a letter can be spread over several tokens.
        logprob (`float`): its natural log-probability.
        top (tuple of `bytes` and `float`): the most probable tokens in its place, with theirs.
    """

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


def read_steps(content: Any) -> list[Step]:
    """The steps in a chat completion's `logprobs.content`. What is not as it should be ends them: it is not ours."""
    steps = []
    for entry in content if isinstance(content, list) else []:
        chosen = _read_token(entry)
        if chosen is None:
            break
        listed = entry.get("top_logprobs")
        top = tuple(filter(None, map(_read_token, listed if isinstance(listed, list) else [])))
        steps.append(Step(*chosen, top))
    return steps


def _read_token(entry: Any) -> tuple[bytes, float] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
        return None
    logprob = entry.get("logprob")
    if not isinstance(logprob, int | float) or not math.isfinite(logprob):
        return None
    written = entry.get("bytes")
    try:
        token = bytes(written) if isinstance(written, list) else entry["token"].encode(errors="replace")
    except (TypeError, ValueError):
        token = entry["token"].encode(errors="replace")
    return token, min(0.0, float(logprob))


@dataclass
class Spread:
    """
    How the probability of what a model may say is spread over N continuations.

    Args:
        clear (list of N `float`): the log-probability that can only go to each; `-inf` for none.
        floor (`float`): for continuations that were not listed at all: no more than the least of what was listed, and
            no more than an even share of what was not.
        unclear (list of `float` and positions): log-probability that goes to one of several, not known to which.
        blank (`float`): log-probability of beginning with white space, which says nothing about any of them.
        instead (`str`): the most probable first tokens, to show.
    """

    clear: list[float]
    floor: float
    unclear: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    blank: float = -math.inf
    instead: str = ""

    @property
    def found(self) -> bool:
        """Whether any continuation was among what was listed."""
        return bool(self.unclear) or any(mass > -math.inf for mass in self.clear)

    @property
    def complete(self) -> bool:
        """Whether those that were not listed can hold only little of what all of them have."""
        unheard = [position for position, mass in enumerate(self.clear) if mass == -math.inf]
        unheard = [position for position in unheard if not any(position in which for _, which in self.unclear)]
        if not self.found or not unheard:
            return self.found
        return self.floor + math.log(len(unheard)) < self._heard + math.log(_FEW)

    @property
    def likely(self) -> bool:
        """Whether the model would rather say one of them than anything else."""
        return self._heard > math.log(0.5)

    @property
    def _heard(self) -> float:
        return _logsumexp([*self.clear, *(mass for mass, _ in self.unclear)])

    @property
    def undecided(self) -> tuple[int, ...]:
        """The continuations that have to be told apart by asking once more; none where little hangs on it."""
        enough = _logsumexp([*self.clear, self.blank, *(mass for mass, _ in self.unclear)]) + math.log(_CLEAR_ENOUGH)
        if self.blank > enough:
            return tuple(range(len(self.clear)))
        return tuple(sorted({position for mass, which in self.unclear if mass > enough for position in which}))

    def settle(self, scores: Mapping[int, float]) -> None:
        """Shares what is unclear in proportion to exact log-probabilities, by position, where these are known."""
        unclear, self.unclear = [*self.unclear, (self.blank, tuple(range(len(self.clear))))], []
        self.blank = -math.inf
        for mass, which in unclear:
            if mass > -math.inf and scores.keys() >= set(which):
                total = _logsumexp([scores[position] for position in which])
                for position in which:
                    self._add(position, mass + scores[position] - total)
            elif len(which) < len(self.clear):
                self.unclear.append((mass, which))

    def logprobs(self) -> tuple[float, ...]:
        """The log-probabilities, right in proportion to each other. What is still unclear is shared evenly."""
        for mass, which in self.unclear:
            for position in which:
                self._add(position, mass - math.log(len(which)))
        self.unclear = []
        return tuple(mass if mass > -math.inf else self.floor for mass in self.clear)

    def put(self, mass: float, said: bytes, which: tuple[int, ...]) -> None:
        """Puts down that `said`, of log-probability `mass`, leads to some of the continuations."""
        if not said:
            self.blank = _logsumexp([self.blank, mass])
        elif len(which) == 1:
            self._add(which[0], mass)
        elif which:
            self.unclear.append((mass, which))

    def _add(self, position: int, mass: float) -> None:
        self.clear[position] = _logsumexp([self.clear[position], mass])


def walk(steps: Sequence[Step], continuations: Sequence[str], *, ended: bool = False) -> Spread:
    """
    Follows the path that a model took, and puts down at each step what would have left it.

    A listed token that begins exactly one continuation gives it its probability. One that begins several is unclear,
    unless the model took it: then the next step tells them apart. Once a continuation is complete, every token that
    leads to no other one belongs to it.

    Args:
        steps (sequence of [`Step`]): the reply's tokens, each with the most probable ones in its place.
        continuations (sequence of N `str`): what to tell apart.
        ended (`bool`, *optional*): whether the model came to its end, and was not cut off.

    Returns:
        [`Spread`]: over the N continuations.
    """
    texts = [text.encode() for text in continuations]
    floor, instead = (_floor(steps[0], len(texts)), _shown(steps[0])) if steps else (0.0, "none")
    spread = Spread([-math.inf] * len(texts), floor, instead=instead)
    said, mass, alive = b"", 0.0, tuple(range(len(texts)))
    for step in steps:
        for token, logprob in _others(step):
            spread.put(mass + logprob, _joined(said, token), _led_to(said, token, alive, texts))
        alive = _led_to(said, step.token, alive, texts)
        mass += step.logprob
        said = _joined(said, step.token)
        if len(alive) <= 1:
            break
    else:
        complete = tuple(position for position in alive if texts[position] == said)
        alive = complete if ended and complete else alive
    if steps:
        spread.put(mass, said, alive)
    return spread


def _others(step: Step) -> list[tuple[bytes, float]]:
    """What the model could have written instead. The one that it wrote is mostly listed too, once."""
    others = [(token, logprob) for token, logprob in step.top if logprob > _NEVER]
    taken = next((i for i, (token, _) in enumerate(others) if token == step.token), None)
    return others if taken is None else others[:taken] + others[taken + 1 :]


def _joined(said: bytes, token: bytes) -> bytes:
    return said + token if said else token.lstrip()


def _led_to(said: bytes, token: bytes, alive: tuple[int, ...], texts: list[bytes]) -> tuple[int, ...]:
    """Which of the continuations a token leads to. An empty one is how some servers show the end."""
    begun = _joined(said, token)
    which = tuple(position for position in alive if texts[position].startswith(begun)) if token else ()
    return which or tuple(position for position in alive if said and texts[position] == said)


def _floor(step: Step, count: int) -> float:
    listed = [logprob for _, logprob in (*step.top, (step.token, step.logprob)) if logprob > _NEVER] or [_NEVER]
    rest = 1.0 - min(1.0 - 1e-12, sum(math.exp(logprob) for _, logprob in step.top))
    return min(*listed, math.log(rest) - math.log(count))


def _shown(step: Step) -> str:
    """The tokens that a step lists, as one printable line."""
    listed = sorted(step.top or ((step.token, step.logprob),), key=lambda entry: -entry[1])[:_SHOWN]
    return ", ".join(repr(printable(token.decode(errors="replace"))[:_SHOWN_LENGTH]) for token, _ in listed)


def _logsumexp(values: Sequence[float]) -> float:
    most = max(values, default=-math.inf)
    if most == -math.inf:
        return most
    return most + math.log(sum(math.exp(value - most) for value in values))


def alike(continuations: Sequence[str]) -> int:
    """How many bytes the two continuations share that begin most alike."""
    texts = sorted(text.encode() for text in continuations)
    shared = 0
    for left, right in pairwise(texts):
        while shared < min(len(left), len(right)) and left[: shared + 1] == right[: shared + 1]:
            shared += 1
    return shared
