"""What a model costs behind an address that is known, from a table in a package: nothing is asked over the network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

_SAMPLE = 1_000
"""Tokens priced to learn the price of a million: few, since some prices rise with the length of a prompt."""


def price_of(
    model: str, *, provider: str | None = None, base_url: str | None = None, batch: bool = False
) -> tuple[float, float] | None:
    """
    The price of `model`, as the package `genai-prices` had it when it was released.

    Args:
        model (`str`): the model as the provider knows it.
        provider (`str`, *optional*): a Hugging Face provider.
        base_url (`str`, *optional*): a server's address, where it is no Hugging Face provider.
        batch (`bool`, *optional*, defaults to `False`): the price by batch; the normal one where the package knows no
            other.

    Returns:
        `tuple` of two `float`, *optional*: US dollars per million tokens read, and written. `None` for a server on an
        address that is nobody's, and where the package does not know the model.
    """
    context: Any = {"processing": "batch"} if batch else None
    if base_url:
        return _look_up(model, context, provider_api_url=base_url)
    if provider:
        # Hugging Face routes to the provider, and adds nothing to its prices.
        routed = _look_up(model, context, provider_id=f"huggingface_{provider}")
        return routed or _look_up(model, context, provider_id=provider)
    return None


def _look_up(model: str, context: Any, **place: Any) -> tuple[float, float] | None:
    from genai_prices import Usage, calc_price

    try:
        read = calc_price(Usage(input_tokens=_SAMPLE, output_tokens=0), model, price_context=context, **place)
        written = calc_price(Usage(input_tokens=0, output_tokens=_SAMPLE), model, price_context=context, **place)
    except (LookupError, ValueError):  # nobody's address, no such model, or one that is not priced by tokens
        return None
    address = place.get("provider_api_url")
    if address and not _is_at(read, address):
        return None
    million = 1_000_000 / _SAMPLE
    return round(float(read.total_price) * million, 6), round(float(written.total_price) * million, 6)


def _is_at(price: PriceCalculation, address: str) -> bool:
    # The package compares beginnings only: api.openai.com.elsewhere.net is not OpenAI.
    match = re.match(price.provider.api_pattern, address)
    rest = address[match.end() :] if match else "?"
    return match is not None and (match.group().endswith("/") or rest[:1] in ("", "/", ":"))
