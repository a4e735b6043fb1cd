"""Where answers come from."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.models.embedded import model_source


if TYPE_CHECKING:
    from act_hf.models.base import Model

ENCODER = "encoder:"
"""What stands before a sentence encoder's id."""


def load_model(
    name: str,
    *,
    base_url: str | None = None,
    provider: str | None = None,
    threads: int | None = None,
    batch: bool = False,
    **options: Any,
) -> Model:
    """
    A model by name, as on the command line. Weights load, and servers are spoken to, when it is first asked.

    Args:
        name (`str`): `"smollm2"` or `"minilm"` for the embedded ones, `"encoder:ID"` for a sentence encoder, else a
            Hub id, a folder or a `.gguf` file of a causal language model. With `base_url` or `provider`, the model as
            the server knows it.
        base_url (`str`, *optional*): the address of a server; see [`Endpoint`].
        provider (`str`, *optional*): a Hugging Face provider; see [`Endpoint`].
        threads (`int`, *optional*): CPU threads of a model in this process; see [`LocalModel`].
        batch (`bool`, *optional*, defaults to `False`): whether the server is asked by batch: half the price, within a
            day; see [`BatchEndpoint`].
        options: for a model behind a server, the other arguments of [`Endpoint`]: `server`, `token`, `logprobs`,
            `images`, `concurrency`, `prices`, ... With `batch`, also those of [`BatchEndpoint`].

    Returns:
        [`Model`]: a [`LocalModel`], an [`EncoderModel`], an [`Endpoint`], or a [`BatchEndpoint`].

    Raises:
        ACTError: for `options` or `batch` without `base_url` or `provider`, and what [`Endpoint`] and
            [`BatchEndpoint`] refuse.
    """
    if base_url is not None or provider is not None:
        from act_hf.models.endpoint import Endpoint

        if batch:
            return _by_batch(name, base_url=base_url, provider=provider, **options)
        return Endpoint(name, base_url=base_url, provider=provider, **options)
    if options or batch:
        given = [*options, *(["batch"] if batch else [])]
        raise ACTError(
            f"{', '.join(given)}: for a model behind a server; say which, with base_url= (--base-url) or provider= "
            f"(--provider), or leave it out for {name!r} in this process"
        )
    from act_hf.models.encoder import EncoderModel
    from act_hf.models.local import LocalModel

    if is_encoder(name):
        return EncoderModel(model_source(name.removeprefix(ENCODER)), threads=threads)
    return LocalModel(model_source(name), threads=threads)


def _by_batch(name: str, **options: Any) -> Model:
    from act_hf.models.batch import BatchEndpoint
    from act_hf.models.endpoint import Endpoint

    own = {field.name for field in fields(BatchEndpoint) if field.init} & options.keys()
    endpoint = Endpoint(name, **{option: value for option, value in options.items() if option not in own})
    return BatchEndpoint(endpoint, **{option: options[option] for option in own})


def is_encoder(name: str) -> bool:
    """Whether [`load_model`] makes an [`EncoderModel`] of that name."""
    return name == "minilm" or name.startswith(ENCODER)
