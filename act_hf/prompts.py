"""
What models are asked, and how replies are read. Pure functions: a row to messages, a reply to a value.

All prompts are this project's own; the paper does not publish its prompts. Changing any text here changes `VERSION`,
which is part of the key under which answers are stored.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from act_hf.models.base import Message, ScoreRequest


if TYPE_CHECKING:
    from collections.abc import Mapping

    from act_hf.task import Task

VERSION = "2"

YES = ("Yes", "yes", "YES")
NO = ("No", "no", "NO")
"""Spellings whose probabilities are summed. Several, since a model's favourite depends on its template."""

ANSWER = "Answer:"
"""What stands before a reasoned answer. The last one in a reply counts."""


# What every prompt shares: the task before the row, so that all rows of a task share a prefix.


def content(task: Task, row: Mapping[str, Any]) -> Any:
    """What is shown of a row: text, or a list of parts where the task has an image."""
    text = _shown(task, task.text and row[task.text], task.question and row[task.question])
    if task.image is None:
        return text
    image = [{"type": "image", "image": row[task.image]}] if row[task.image] is not None else []
    return [*image, *([{"type": "text", "text": text}] if text else [])]


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
    for example in task.examples:
        shown = _shown(task, example.text, example.question)
        word = task.words[task.index(example.label)]
        reply = f"{example.rationale or ''}\n{ANSWER} {word}".strip() if rationale else word
        messages += [{"role": "user", "content": shown}, {"role": "assistant", "content": reply}]
    return messages


# Annotating


def annotate_naive(task: Task, row: Mapping[str, Any]) -> tuple[Message, ...]:
    """Asks for the label alone."""
    system = f"{_instruction(task)}\nReply with one label and nothing else."
    return _conversation(system, _shots(task, rationale=False), content(task, row))


def label_request(task: Task, row: Mapping[str, Any], *, instructed: bool) -> ScoreRequest:
    """Asks how probable each label is. A model that takes no instructions sees the row and a sentence per label."""
    if instructed:
        return ScoreRequest(annotate_naive(task, row), task.words)
    return ScoreRequest(({"role": "user", "content": content(task, row)},), task.sentences)


def annotate_cot(task: Task, row: Mapping[str, Any]) -> tuple[Message, ...]:
    """Asks for reasoning, then the label."""
    system = (
        f"{_instruction(task)}\nThink step by step in at most three sentences. "
        f'Then write "{ANSWER}" and one label on the last line.'
    )
    shots = _shots(task, rationale=True) if any(example.rationale for example in task.examples) else []
    return _conversation(system, shots, content(task, row))


def conclude_request(task: Task, row: Mapping[str, Any], rationale: str) -> ScoreRequest:
    """Asks how probable each label is after the model's own reasoning."""
    begun: Message = {"role": "assistant", "content": f"{rationale}\n{ANSWER}"}
    return ScoreRequest((*annotate_cot(task, row), begun), tuple(f" {word}" for word in task.words))


def reasoning(reply: str) -> str:
    """A reply without its last `Answer:` line."""
    return reply.rsplit(ANSWER, 1)[0].strip()


def content_free(task: Task) -> list[dict[str, str]]:
    """Rows that say nothing, for contextual calibration (Zhao et al. 2021, section 5: "N/A", "[MASK]", "")."""
    return [dict.fromkeys(task.columns, nothing) for nothing in ("N/A", "[MASK]", "")]


def parse_label(task: Task, reply: str) -> int | None:
    """
    The label that a reply names.

    Read is what follows the last `Answer:`, or all of it. It names a label when it is one, or mentions exactly one,
    upper and lower case being the same. A label that only occurs inside a longer one that is mentioned does not count.

    Returns:
        `int`, *optional*: the label's id; `None` when the reply names none, or several.
    """
    answer = _folded(reply.rsplit(ANSWER, 1)[-1])
    # The words last, so that they win: they are what the model was told to write.
    spellings = {_folded(name): i for names in (task.labels, task.words) for i, name in enumerate(names)}
    spellings.pop("", None)
    for written in (answer, answer.strip(" .,:;!\"'`*()[]{}")):
        if written in spellings:
            return spellings[written]
    pattern = "|".join(re.escape(name) for name in sorted(spellings, key=len, reverse=True))
    # Looking ahead finds mentions that overlap; one inside another is then left out.
    spans = {match.span(1): match[1] for match in re.finditer(rf"(?<!\w)(?=({pattern})(?!\w))", answer)}
    found = {
        spellings[name]
        for span, name in spans.items()
        if not any(other != span and other[0] <= span[0] and span[1] <= other[1] for other in spans)
    }
    return found.pop() if len(found) == 1 else None


def _folded(text: str) -> str:
    return re.sub(r"[\s_]+", " ", text).strip().casefold()


# Criticizing


def _claim(task: Task, row: Mapping[str, Any], label: int) -> Any:
    shown = content(task, row)
    claim = f'Proposed label: "{task.words[label]}"'
    if isinstance(shown, str):
        return f"{shown}\n\n{claim}"
    return [*shown, {"type": "text", "text": claim}]


def _criticism(task: Task, row: Mapping[str, Any], label: int, question: str) -> tuple[Message, ...]:
    # The question stands before the row, where all rows share it: less to read for each.
    system = f"You check labels.\nThe task was: {_instruction(task)}\n{question}"
    return _conversation(system, [], _claim(task, row, label))


def criticize_logit(task: Task, row: Mapping[str, Any], label: int) -> tuple[Message, ...]:
    """Asks whether the label is wrong; the answer is read off the probabilities of yes and no."""
    return _criticism(task, row, label, "Is the proposed label wrong? Reply Yes or No.")


def criticize_naive(task: Task, row: Mapping[str, Any], label: int) -> tuple[Message, ...]:
    """Asks for the probability that the label is wrong."""
    question = "What is the probability that the proposed label is wrong? Reply with a number from 0 to 100 and %."
    return _criticism(task, row, label, question)


def criticize_cot(task: Task, row: Mapping[str, Any], label: int) -> tuple[Message, ...]:
    """Asks for reasoning, then the probability that the label is wrong."""
    question = (
        "Think step by step in at most three sentences about whether the proposed label is wrong. "
        f'Then write "{ANSWER}" and the probability that it is wrong, from 0 to 100 and %, on the last line.'
    )
    return _criticism(task, row, label, question)


_NUMBER = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?|-?\.\d+)\s*(%|percent|/\s*100\b)?", re.IGNORECASE)


def parse_probability(reply: str) -> float | None:
    """
    The probability that a reply states: `80 %`, `80/100`, `0.8`, or a bare `80`, after the last `Answer:`.

    A bare number above 1 is read as a percentage, since percentages are what is asked for; a bare 1 is therefore 1 %.

    Returns:
        `float`, *optional*: in [0, 1]; `None` when the reply states none, several different ones, or one out of range.
    """
    stated = set()
    for number, unit in _NUMBER.findall(reply.rsplit(ANSWER, 1)[-1]):
        value = float(number)
        stated.add(value if not unit and ("." in number and value <= 1) else value / 100)
    value = stated.pop() if len(stated) == 1 else -1.0
    return value if 0 <= value <= 1 else None


def _conversation(system: str, shots: list[Message], last: Any) -> tuple[Message, ...]:
    return ({"role": "system", "content": system}, *shots, {"role": "user", "content": last})
