"""Endpoint against a real server (llama.cpp) with a real model (SmolLM2), beside the same file in process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from scipy.stats import spearmanr
from support.llama import Llama, require_llama, serve
from support.weights import answers, embedded

from act_hf import ACTError, ChatRequest, LocalModel, ScoreRequest, Task, annotate, criticize
from act_hf.critics.strategies import STRATEGIES
from act_hf.models.embedded import smollm2_path
from act_hf.models.endpoint import Endpoint
from act_hf.quickstart import load_sample


pytestmark = pytest.mark.model

ROWS = 12


@pytest.fixture(scope="module")
def llama() -> Iterator[Llama]:
    require_llama()
    with serve(embedded(smollm2_path)) as server:
        yield server


@pytest.fixture(scope="module")
def endpoint(llama: Llama) -> Endpoint:
    return Endpoint("smollm2", base_url=llama.base_url, token=llama.key, server="llama.cpp", concurrency=4)


@pytest.fixture(scope="module")
def local() -> LocalModel:
    return LocalModel(embedded(smollm2_path), threads=1)


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(
        labels=["card_arrival", "exchange_rate", "lost_or_stolen_card"],
        text="text",
        instruction="Choose the topic of the customer query to a bank.",
    )


@pytest.fixture(scope="module")
def rows() -> Dataset:
    return load_sample("pool").select(range(ROWS))


@pytest.fixture(scope="module")
def labelled(rows: Dataset, task: Task, endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return annotate(rows, task, endpoint, store=tmp_path_factory.mktemp("store") / "answers.sqlite")


def test_labels_come_with_probabilities(labelled: Dataset) -> None:
    assert labelled["act_failure"][:] == [None] * ROWS
    assert all(sum(probs) == pytest.approx(1, abs=1e-5) for probs in labelled["act_label_probs"])


def test_a_finished_run_asks_for_nothing(rows: Dataset, task: Task, endpoint: Endpoint, tmp_path: Path) -> None:
    few = rows.select(range(3))
    first = annotate(few, task, endpoint, store=tmp_path / "answers.sqlite")
    elsewhere = Endpoint("smollm2", base_url="http://127.0.0.1:9/v1", server="llama.cpp")  # nobody is there
    again = annotate(few, task, elsewhere, store=tmp_path / "answers.sqlite")
    assert again["act_label_probs"][:] == first["act_label_probs"][:]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy(labelled: Dataset, endpoint: Endpoint, strategy: str, tmp_path: Path) -> None:
    few = labelled.select(range(4))
    criticized = criticize(few, endpoint, strategy=strategy, store=tmp_path / "answers.sqlite", max_tokens=16)
    for error_prob, failure, critique in zip(
        criticized["act_error_prob"], criticized["act_failure"], criticized["act_critique"], strict=True
    ):
        # A model of 135 M parameters that is asked for a number may give none: then the row says so, with the reply.
        assert (failure is None and 0 <= error_prob <= 1) or (failure.startswith("criticize: no ") and critique)


def test_a_grammar_holds_replies_to_the_choices(endpoint: Endpoint) -> None:
    request = ChatRequest(({"role": "user", "content": "Write a poem."},), 16, choices=("yes", 'a "no"\n'))
    (answer,) = answers(endpoint, [request])
    assert answer.text in request.choices


def test_scores_of_the_server_and_of_this_process_agree(
    labelled: Dataset, endpoint: Endpoint, local: LocalModel
) -> None:
    """The server computes with quantised weights (Q4_1) and its own kernels, we with the same dequantised."""
    texts = labelled["text"][:]
    requests = [
        ScoreRequest(({"role": "user", "content": text},), (" Yes, it is about a card.", "No", "Unusual"), exact=True)
        for text in texts
    ]
    served, ours = answers(endpoint, requests), answers(local, requests)
    assert [answer.lengths for answer in served] == [answer.lengths for answer in ours]
    for position in range(3):
        theirs = [answer.logprobs[position] for answer in served]
        mine = [answer.logprobs[position] for answer in ours]
        assert spearmanr(theirs, mine).statistic > 0.8
        np.testing.assert_allclose(theirs, mine, atol=2.0)


def test_a_wrong_key_is_said_without_it(llama: Llama) -> None:
    shut = Endpoint("smollm2", base_url=llama.base_url, token="not-the-key", server="llama.cpp")
    with pytest.raises(ACTError) as refused:
        answers(shut, [ChatRequest(({"role": "user", "content": "Hi"},), 2)])
    assert "not-the-key" not in str(refused.value)
    assert "401" in str(refused.value)
