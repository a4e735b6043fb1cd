"""A model behind a server, on huggingface_hub's client."""

from act_hf.models.endpoint.model import Endpoint


__all__ = ["Endpoint"]
