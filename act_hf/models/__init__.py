"""Where answers come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from act_hf.models.embedded import model_source


if TYPE_CHECKING:
    from act_hf.models.base import Model

_ENCODER = "encoder:"


def load_model(name: str, *, threads: int | None = None) -> Model:
    """
    A model by name, as on the command line. Its weights load when it is first asked.

    Args:
        name (`str`): `"smollm2"` or `"minilm"` for the embedded ones, `"encoder:ID"` for a sentence encoder, else a
            Hub id, a folder or a `.gguf` file of a causal language model.
        threads (`int`, *optional*): CPU threads; see [`LocalModel`].

    Returns:
        [`Model`]: a [`LocalModel`], or an [`EncoderModel`].
    """
    from act_hf.models.encoder import EncoderModel
    from act_hf.models.local import LocalModel

    if name == "minilm" or name.startswith(_ENCODER):
        return EncoderModel(model_source(name.removeprefix(_ENCODER)))
    return LocalModel(model_source(name), threads=threads)
