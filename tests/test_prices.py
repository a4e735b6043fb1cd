from __future__ import annotations

import socket

import pytest

from act_hf.models.endpoint.prices import price_of


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a price was asked over the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_known_address():
    assert price_of("gpt-4o-mini", base_url="https://api.openai.com/v1") == (0.15, 0.6)


def test_by_batch():
    known, unknown = "https://api.openai.com/v1", "https://api.groq.com/openai/v1"
    assert price_of("gpt-4o-mini", base_url=known, batch=True) == (0.075, 0.3)
    normal = price_of("llama-3.1-8b-instant", base_url=unknown)
    assert price_of("llama-3.1-8b-instant", base_url=unknown, batch=True) == normal is not None


def test_a_hugging_face_provider():
    price = price_of("openai/gpt-oss-20b", provider="groq")
    assert price is not None
    assert 0 < price[0] < price[1] < 10


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:8000/v1",
        "https://api.openai.com.elsewhere.net/v1",
        "https://elsewhere.net/https://api.openai.com/v1",
    ],
)
def test_an_address_that_is_nobodys(address):
    assert price_of("gpt-4o-mini", base_url=address) is None


def test_a_model_that_nobody_knows():
    assert price_of("nobody/knows-it", provider="groq") is None
    assert price_of("nobody-knows-it", base_url="https://api.groq.com/openai/v1") is None
    assert price_of("gpt-4o-mini", provider="nobody") is None


def test_no_place():
    assert price_of("gpt-4o-mini") is None


def test_prices_do_not_depend_on_the_sample():
    # A price that rises with the length of the prompt: a thousand tokens are the cheap ones.
    assert price_of("gemini-2.5-pro", base_url="https://generativelanguage.googleapis.com/v1beta/openai") == (1.25, 10)
