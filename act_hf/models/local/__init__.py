"""A model in this process, on transformers."""

from act_hf.models.local.model import LocalModel


__all__ = ["LocalModel"]
