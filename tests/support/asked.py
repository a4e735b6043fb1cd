"""Asking an endpoint in a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from act_hf.models.base import Answer, ChatRequest, Request, ScoreRequest
from act_hf.models.endpoint import Endpoint
from support.server import Server


def chat(text: str, **options: Any) -> ChatRequest:
    return ChatRequest(({"role": "system", "content": "Be brief."}, {"role": "user", "content": text}), **options)


def score(text: str, *continuations: str, exact: bool = False) -> ScoreRequest:
    return ScoreRequest(({"role": "user", "content": text},), continuations, exact)


def chats(count: int) -> list[Request]:
    return [chat(f"text {number}") for number in range(count)]


def endpoint(at: Server, **options: Any) -> Endpoint:
    return Endpoint("m", base_url=at.url, **options)


def answers_of(model: Endpoint, requests: Sequence[Request]) -> list[Answer]:
    answers: dict[int, Answer] = {}
    for finished in model.answer(requests):
        assert not answers.keys() & finished.keys()
        answers.update(finished)
    assert answers.keys() == set(range(len(requests)))
    return [answers[position] for position in range(len(requests))]


def answer_of(model: Endpoint, request: Request) -> Answer:
    return answers_of(model, [request])[0]
