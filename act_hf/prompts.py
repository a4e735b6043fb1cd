"""
What models are asked, and how replies are read. Pure functions: a row to messages, a reply to a value.

All prompts are this project's own; the paper does not publish its prompts. Changing any text here changes `VERSION`,
which is part of the key under which answers are stored.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from act_hf.models.base import ChatRequest, Message, ScoreRequest


if TYPE_CHECKING:
    from collections.abc import Mapping

    from act_hf.task import Task

VERSION = "4"

YES = ("Yes", "yes", "YES")
NO = ("No", "no", "NO")
"""Spellings whose probabilities are summed. Several, since a model's favourite depends on its template."""

ANSWER = "Answer:"
"""What stands before a reasoned answer. The last one in a reply counts."""


# What every prompt shares: the task before the row, so that all rows of a task share a prefix.


def content(task: Task, row: Mapping[str, Any]) -> Any:
    """What is shown of a row: text, or a list of parts where the task has an image."""
    text = _row_text(task, row)
    if task.image is None:
        return text
    image = [{"type": "image", "image": row[task.image]}] if row[task.image] is not None else []
    return [*image, *([{"type": "text", "text": text}] if text else [])]


def _row_text(task: Task, row: Mapping[str, Any]) -> str:
    return _shown(task, task.text and row[task.text], task.question and row[task.question])


def _shown(task: Task, text: str | None, question: str | None) -> str:
    lines = [text or ""] if task.text else []
    if task.question:
        lines.append(f"Question: {question or ''}" if task.text or task.image else question or "")
    return "\n".join(lines)


def _instruction(task: Task) -> str:
    language = f" The rows are written in {task.language}." if task.language else ""
    return f"{task.instruction}{language}\nLabels: {', '.join(task.words)}"


def _shots(task: Task, *, rationale: bool) -> list[Message]:
    messages: list[Message] = []
    if rationale and not any(example.rationale for example in task.examples):
        return messages  # they would teach not to reason
    for example in task.examples:
        shown = _shown(task, example.text, example.question)
        word = task.words[task.index(example.label)]
        reply = f"{example.rationale or ''}\n{ANSWER} {word}".strip() if rationale else word
        messages += [{"role": "user", "content": shown}, {"role": "assistant", "content": reply}]
    return messages


# Annotating


def annotate_request(task: Task, row: Mapping[str, Any], *, instructed: bool, max_tokens: int) -> ChatRequest:
    """Asks for the label alone, in words. A model that takes no instructions sees the row alone."""
    if not instructed:
        return ChatRequest(_row_alone(task, row), max_tokens)
    return ChatRequest(_annotate_naive(task, row), max_tokens, choices=task.words, shared=_shared(task))


def label_request(task: Task, row: Mapping[str, Any], *, instructed: bool) -> ScoreRequest:
    """Asks how probable each label is. A model that takes no instructions sees the row and a sentence per label."""
    if not instructed:
        return ScoreRequest(_row_alone(task, row), task.sentences)
    return ScoreRequest(_annotate_naive(task, row), task.words, shared=_shared(task))


def rationale_request(task: Task, row: Mapping[str, Any], *, instructed: bool, max_tokens: int) -> ChatRequest:
    """Asks for reasoning, then the label."""
    if not instructed:
        return ChatRequest(_row_alone(task, row), max_tokens)
    return ChatRequest(_annotate_cot(task, row), max_tokens, shared=_shared(task, rationale=True))


def conclude_request(task: Task, row: Mapping[str, Any], rationale: str) -> ScoreRequest:
    """Asks how probable each label is after the model's own reasoning."""
    question = "Now reply with one label and nothing else."
    messages = _follow_up(_annotate_cot(task, row), rationale, question)
    return ScoreRequest(messages, task.words, shared=_shared(task, rationale=True))


def repair_label(task: Task, request: ChatRequest, reply: str) -> ChatRequest:
    """Asks once more after a reply that names no label."""
    question = f"That names no single label. Reply with exactly one of these and nothing else: {', '.join(task.words)}"
    return replace(request, messages=_follow_up(request.messages, reply, question), choices=task.words)


def _row_alone(task: Task, row: Mapping[str, Any]) -> tuple[Message, ...]:
    return ({"role": "user", "content": content(task, row)},)


def _annotate_naive(task: Task, row: Mapping[str, Any]) -> tuple[Message, ...]:
    system = f"{_instruction(task)}\nReply with one label and nothing else."
    return _conversation(system, _shots(task, rationale=False), content(task, row))


def _annotate_cot(task: Task, row: Mapping[str, Any]) -> tuple[Message, ...]:
    system = (
        f"{_instruction(task)}\nThink step by step in at most three sentences. "
        f'Then write "{ANSWER}" and one label on the last line.'
    )
    return _conversation(system, _shots(task, rationale=True), content(task, row))


def _shared(task: Task, *, rationale: bool = False) -> int:
    return 1 + len(_shots(task, rationale=rationale))


def reasoning(reply: str) -> str:
    """A reply without its last `Answer:` line."""
    return reply.rsplit(ANSWER, 1)[0].strip()


def content_free(task: Task) -> list[dict[str, str]]:
    """Rows that say nothing, for contextual calibration (Zhao et al. 2021, section 5: "N/A", "[MASK]", "")."""
    return [dict.fromkeys(task.columns, nothing) for nothing in ("N/A", "[MASK]", "")]


def parse_label(task: Task, reply: str, row: Mapping[str, Any] | None = None) -> int | None:
    """
    The label that a reply names.

    Read is what follows the last `Answer:`, or all of it. It names a label when it is one, or mentions exactly one,
    upper and lower case being the same. A label that only occurs inside a longer one that is mentioned does not count,
    nor one that is denied ("not spam"), nor one that is mentioned in words taken from the row: a row that says "answer
    joy" must not be repeated into joy.

    Returns:
        `int`, *optional*: the label's id; `None` when the reply names none, or several.
    """
    answer = _folded(reply.rsplit(ANSWER, 1)[-1])
    bare = answer.strip(" .,:;!\"'`*()[]{}")
    # The words last, so that they win: they are what the model was told to write.
    spellings = {_folded(name): i for names in (task.labels, task.words) for i, name in enumerate(names)}
    spellings.pop("", None)
    for written in (answer, bare):
        if written in spellings:
            return spellings[written]
    if row is not None and (bare or answer) in _folded(_row_text(task, row)):
        return None
    pattern = "|".join(re.escape(name) for name in sorted(spellings, key=len, reverse=True))
    # Looking ahead finds mentions that overlap; one inside another is then left out.
    spans = {match.span(1): match[1] for match in re.finditer(rf"(?<!\w)(?=({pattern})(?!\w))", answer)}
    found = {
        spellings[name]
        for span, name in spans.items()
        if not any(other != span and other[0] <= span[0] and span[1] <= other[1] for other in spans)
        and not _DENIED.search(answer[: span[0]])
    }
    return found.pop() if len(found) == 1 else None


_DENIED = re.compile(r"(?:\b(?:not|no|non|never|neither|nor|without)|n[’']t)(?: (?:an?|the|about|really|at all))* $")
"""What stands before a label that is mentioned to say that it is not the one."""


def _folded(text: str) -> str:
    return re.sub(r"[\s_\-]+", " ", text).strip().casefold()


# Criticizing


# The paper asks whether the label is wrong. Small models answer that as if it asked whether it is right (AUROC 0.21
# instead of 0.75 for Qwen2.5-Coder-1.5B on its own labels, docs/log.md), so every critic asks whether it is right.
_RIGHT = "Is the proposed label right?"

SHORT = 24
"""Tokens enough for a number or a grade."""

CONFIRMATION = "Yes, the proposed label is right."
"""What the perplexity is taken of."""

GRADES = {
    "A": ("certainly right", 0.05),
    "B": ("probably right", 0.25),
    "C": ("as likely right as wrong", 0.5),
    "D": ("probably wrong", 0.75),
    "E": ("certainly wrong", 0.95),
}
"""Letter to words and the probability that the label is wrong. Ours: the paper's grades are not published."""


def logit_request(task: Task, row: Mapping[str, Any], label: int) -> ScoreRequest:
    """Asks whether the label is right; the answer is read off the probabilities of yes and no."""
    return ScoreRequest(_criticism(task, row, label, f"{_RIGHT} Reply Yes or No."), YES + NO, shared=1)


def perplexity_request(task: Task, row: Mapping[str, Any], label: int) -> ScoreRequest:
    """Asks whether the label is right; scored is how well "yes, it is right" goes as an answer."""
    question = f"{_RIGHT} Reply in one short sentence."
    return ScoreRequest(_criticism(task, row, label, question), (CONFIRMATION,), exact=True, shared=1)


def naive_request(task: Task, row: Mapping[str, Any], label: int, *, max_tokens: int) -> ChatRequest:
    """Asks for the probability that the label is right."""
    question = "What is the probability that the proposed label is right? Reply with a number from 0 to 100 and %."
    return ChatRequest(_criticism(task, row, label, question), max_tokens, shared=1)


def cot_request(task: Task, row: Mapping[str, Any], label: int, *, max_tokens: int) -> ChatRequest:
    """Asks for reasoning, then the probability that the label is right."""
    question = (
        "Think step by step in at most three sentences about whether the proposed label is right. "
        f'Then write "{ANSWER}" and the probability that it is right, from 0 to 100 and %, on the last line.'
    )
    return ChatRequest(_criticism(task, row, label, question), max_tokens, shared=1)


def cot_logit_request(task: Task, row: Mapping[str, Any], label: int, reply: str) -> ScoreRequest:
    """After the critic's own reasoning, asks whether the label is right."""
    asked = cot_request(task, row, label, max_tokens=1).messages
    question = "So is the proposed label right? Reply Yes or No."
    return ScoreRequest(_follow_up(asked, reasoning(reply), question), YES + NO, shared=1)


def devil_request(
    task: Task, row: Mapping[str, Any], label: int, *, rationale: str | None, max_tokens: int
) -> ChatRequest:
    """Shows the annotator's reasoning, asks to argue against it first, then for the probability."""
    question = (
        "Play the devil's advocate: first argue in at most two sentences that the proposed label is wrong and another "
        "one is right, and answer the reasoning given for it, if any. Then judge fairly: write "
        f'"{ANSWER}" and the probability that the proposed label is right, from 0 to 100 and %, on the last line.'
    )
    return ChatRequest(_criticism(task, row, label, question, rationale), max_tokens, shared=1)


def grade_request(task: Task, row: Mapping[str, Any], label: int, *, max_tokens: int) -> ChatRequest:
    """Asks for a grade (multiple choice); [`GRADES`] has the probability of each."""
    grades = "\n".join(f"{letter}: {words}" for letter, (words, _) in GRADES.items())
    question = f"How right is the proposed label?\n{grades}\nReply with one letter and nothing else."
    return ChatRequest(_criticism(task, row, label, question), max_tokens, choices=tuple(GRADES), shared=1)


def repair_probability(request: ChatRequest, reply: str) -> ChatRequest:
    """Asks once more after a reply that states no probability. A number is short, however long the reply could be."""
    question = (
        "That states no single probability. Reply with one number from 0 to 100 and %, the probability that the "
        "proposed label is right, and nothing else."
    )
    limit = min(request.max_tokens, SHORT)
    return replace(request, messages=_follow_up(request.messages, reply, question), max_tokens=limit)


def repair_grade(request: ChatRequest, reply: str) -> ChatRequest:
    """Asks once more after a reply that gives no grade."""
    question = f"Reply with one letter and nothing else: {', '.join(GRADES)}."
    return replace(request, messages=_follow_up(request.messages, reply, question))


def _criticism(
    task: Task, row: Mapping[str, Any], label: int, question: str, rationale: str | None = None
) -> tuple[Message, ...]:
    # The question stands before the row, where all rows share it: less to read for each.
    system = f"You check labels.\nThe task was: {_instruction(task)}\n{question}"
    claim = f'Proposed label: "{task.words[label]}"'
    if rationale:
        claim += f"\nReasoning given for it: {rationale}"
    shown = content(task, row)
    parts = f"{shown}\n\n{claim}" if isinstance(shown, str) else [*shown, {"type": "text", "text": claim}]
    return _conversation(system, [], parts)


# A letter alone, on a line or at the end, or before its words; not that of "E.g.".
_LETTER = re.compile(r"(?<![\w'])([A-Ea-e])(?=[^\S\n]*(?:\n|$)|\s*[):*\]]|\s*\.(?!\w))")


def parse_grade(reply: str) -> float | None:
    """
    The probability that a graded reply stands for.

    Returns:
        `float`, *optional*: in [0, 1]; `None` when the reply is neither one letter, alone or before its words, nor the
            words of one grade. Several letters (the grades repeated) are no grade.
    """
    answer = reply.rsplit(ANSWER, 1)[-1].strip(" \n\t.*\"'`()[]")
    letters = {letter.upper() for letter in _LETTER.findall(answer)}
    if _LETTER.match(answer) and len(letters) == 1:
        return GRADES[letters.pop()][1]
    named = {value for words, value in GRADES.values() if re.search(rf"(?<!\w){words}(?!\w)", _folded(answer))}
    return named.pop() if len(named) == 1 else None


_NUMBER = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?|-?\.\d+)\s*(%|percent|/\s*100\b)?", re.IGNORECASE)
_WRONG = re.compile(r"wrong|incorrect|inaccura|error|mistake|false|(?:not|n't) (?:right|correct)", re.IGNORECASE)


def parse_probability(reply: str) -> float | None:
    """
    The probability of being right that a reply states: `80 %`, `80/100`, `0.8`, or a bare `80`. What follows the last
    `Answer:` counts.

    A bare number above 1 is read as a percentage, since percentages are what is asked for; a bare 1 is therefore 1 %.

    Returns:
        `float`, *optional*: in [0, 1]; `None` when the reply states none, several different ones, or one out of range,
            or speaks of the label being wrong, so that the number may be the probability of that.
    """
    answer = reply.rsplit(ANSWER, 1)[-1]
    stated = set()
    for number, unit in _NUMBER.findall(answer):
        value = float(number)
        stated.add(value if not unit and ("." in number and value <= 1) else value / 100)
    value = stated.pop() if len(stated) == 1 and not _WRONG.search(answer) else -1.0
    return value if 0 <= value <= 1 else None


def _follow_up(messages: tuple[Message, ...], reply: str, question: str) -> tuple[Message, ...]:
    return (*messages, {"role": "assistant", "content": reply}, {"role": "user", "content": question})


def _conversation(system: str, shots: list[Message], last: Any) -> tuple[Message, ...]:
    return ({"role": "system", "content": system}, *shots, {"role": "user", "content": last})
