"""How each critic strategy comes from a labelled row to the probability that the label is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from act_hf import prompts
from act_hf.models.base import ChatRequest
from act_hf.priors import normalised_logprobs
from act_hf.task import Row, Task


if TYPE_CHECKING:
    from act_hf.critics.critic import Critic
    from act_hf.models.base import Answer


STAGE = "criticize:"
"""How our failures begin: those of an earlier run are replaced, those of other stages are kept."""


@dataclass(frozen=True)
class Claim:
    """A row, the label that it was given (an id), and the annotator's reasoning where there is some."""

    row: Row
    label: int
    rationale: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a critic says of a claim: the probability that its label is wrong and why, or why it says nothing."""

    error_prob: float | None = None
    critique: str | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Strategy:
    """
    Args:
        abilities (tuple of `str`): what the model must be able to do.
        judge (callable): a critic and claims to a verdict for each.
        asks (`bool`): whether it asks a question, which a model that takes no instructions does not see.
        max_tokens (`int`): the longest reply, unless the user says another.
    """

    abilities: tuple[str, ...]
    judge: Callable[[Critic, Sequence[Claim]], list[Verdict]]
    asks: bool = True
    max_tokens: int = 160


# Black box: the model states a probability or a grade.


def naive(critic: Critic, claims: Sequence[Claim]) -> list[Verdict]:
    """Asks how probable it is that the label is right."""
    asked = [
        prompts.naive_request(critic.task, claim.row, claim.label, max_tokens=critic.longest_reply) for claim in claims
    ]
    return _stated(critic, asked)


def cot(critic: Critic, claims: Sequence[Claim]) -> list[Verdict]:
    """Asks for reasoning, then the probability."""
    return _stated(critic, _cot_requests(critic, claims))


def devil(critic: Critic, claims: Sequence[Claim]) -> list[Verdict]:
    """Asks to argue against the annotator's reasoning first, then for the probability."""
    limit = critic.longest_reply
    asked = [
        prompts.devil_request(critic.task, claim.row, claim.label, rationale=claim.rationale, max_tokens=limit)
        for claim in claims
    ]
    return _stated(critic, asked)


def multiple_choice(critic: Critic, claims: Sequence[Claim]) -> list[Verdict]:
    """Asks for a grade."""
    asked = [
        prompts.grade_request(critic.task, claim.row, claim.label, max_tokens=critic.longest_reply) for claim in claims
    ]
    return _read(critic, asked, prompts.parse_grade, prompts.repair_grade, "grade")


def _cot_requests(critic: Critic, claims: Sequence[Claim]) -> list[ChatRequest]:
    limit = critic.longest_reply
    return [prompts.cot_request(critic.task, claim.row, claim.label, max_tokens=limit) for claim in claims]


def _stated(critic: Critic, asked: Sequence[ChatRequest]) -> list[Verdict]:
    return _read(critic, asked, _doubt, prompts.repair_probability, "single probability")


def _doubt(reply: str) -> float | None:
    right = prompts.parse_probability(reply)
    return None if right is None else 1 - right


def _read(
    critic: Critic,
    asked: Sequence[ChatRequest],
    parse: Callable[[str], float | None],
    repair: Callable[[ChatRequest, str], ChatRequest],
    wanted: str,
) -> list[Verdict]:
    """What the replies state; one that states nothing is asked about once more."""
    replies = critic.ask(asked)
    values = [None if reply.failure else parse(reply.text) for reply in replies]
    unread = [i for i, value in enumerate(values) if value is None and not replies[i].failure]
    repairs = critic.ask([repair(asked[i], replies[i].text) for i in unread])
    for i, reply in zip(unread, repairs, strict=True):
        values[i] = None if reply.failure else parse(reply.text)
    return [_failed(reply) or _said(reply, value, wanted) for reply, value in zip(replies, values, strict=True)]


def _said(reply: Answer, value: float | None, wanted: str) -> Verdict:
    if value is None:
        return Verdict(critique=reply.text, failure=f"{STAGE} no {wanted} in the reply {reply.text[:200]!r}")
    return Verdict(value, reply.text)


# White box: the probability is read off the model's own.


def logit(critic: Critic, claims: Sequence[Claim]) -> list[Verdict]:
    """P(no) / (P(yes) + P(no)) on "is this label right?"."""
    asked = [prompts.logit_request(critic.task, claim.row, claim.label) for claim in claims]
    return [_failed(answer) or _yes_or_no(answer.logprobs) for answer in critic.ask(asked)]


def cot_logit(critic: Critic, claims: Sequence[Claim]) -> list[Verdict]:
    """The same after the critic's own reasoning."""
    replies = critic.ask(_cot_requests(critic, claims))
    reasoned = [
        prompts.cot_logit_request(critic.task, claim.row, claim.label, reply.text)
        for claim, reply in zip(claims, replies, strict=True)
        if not reply.failure
    ]
    answers = iter(critic.ask(reasoned))
    return [
        _failed(reply) or _failed(answer := next(answers)) or _yes_or_no(answer.logprobs, after=reply.text)
        for reply in replies
    ]


def perplexity(critic: Critic, claims: Sequence[Claim]) -> list[Verdict]:
    """1 - 1 / PPL of answering "yes, the label is right" (PPL: inverse geometric mean of token probabilities)."""
    asked = [prompts.perplexity_request(critic.task, claim.row, claim.label) for claim in claims]
    return [_failed(answer) or _perplexed(answer) for answer in critic.ask(asked)]


def likelihood(critic: Critic, claims: Sequence[Claim]) -> list[Verdict]:
    """1 - P(label) by the model's own distribution over the labels."""
    instructed = critic.model.instructed
    answers = critic.ask([prompts.label_request(critic.task, claim.row, instructed=instructed) for claim in claims])
    return [
        _failed(answer) or _likely(critic.task, np.array(answer.logprobs), critic.prior, claim.label)
        for claim, answer in zip(claims, answers, strict=True)
    ]


def _yes_or_no(logprobs: Sequence[float], after: str = "") -> Verdict:
    if not np.isfinite(np.max(logprobs)):  # all impossible, or one of them no number
        return Verdict(failure=f"{STAGE} the model gave {list(logprobs)} for the spellings of yes and no")
    yes = np.logaddexp.reduce(logprobs[: len(prompts.YES)])
    no = np.logaddexp.reduce(logprobs[len(prompts.YES) :])
    error_prob = float(1 / (1 + np.exp(np.clip(yes - no, -700, 700))))
    said = f'asked "is the label right?": yes {1 - error_prob:.0%}, no {error_prob:.0%}'
    return Verdict(error_prob, f"{after}\n{said}".strip())


def _perplexed(answer: Answer) -> Verdict:
    mean = answer.logprobs[0] / max(1, answer.lengths[0])
    if not mean <= 0:
        return Verdict(failure=f"{STAGE} the model gave the log-probability {answer.logprobs[0]}")
    return Verdict(
        float(1 - np.exp(mean)), f'perplexity {np.exp(min(-mean, 700)):.3g} of answering "{prompts.CONFIRMATION}"'
    )


def _likely(task: Task, logprobs: np.ndarray, prior: Sequence[float] | None, label: int) -> Verdict:
    probs = np.exp(normalised_logprobs(logprobs[None], prior)[0])
    if not np.isfinite(logprobs).all():
        return Verdict(failure=f"{STAGE} the model gave label probabilities {probs.tolist()}")
    best = int(probs.argmax())
    other = "" if best == label else f', and {probs[best]:.0%} to "{task.words[best]}"'
    return Verdict(float(1 - probs[label]), f'gives {probs[label]:.0%} to "{task.words[label]}"{other}')


def _failed(answer: Answer) -> Verdict | None:
    return Verdict(failure=f"{STAGE} {answer.failure}") if answer.failure else None


STRATEGIES: dict[str, Strategy] = {
    "naive": Strategy(("chat",), naive, max_tokens=prompts.SHORT),
    "cot": Strategy(("chat",), cot),
    "mc": Strategy(("chat",), multiple_choice, max_tokens=prompts.SHORT),
    "devil": Strategy(("chat",), devil),
    "logit": Strategy(("choose",), logit),
    "cot_logit": Strategy(("chat", "choose"), cot_logit),
    "ppl": Strategy(("score",), perplexity),
    "likelihood": Strategy(("choose",), likelihood, asks=False),
}
