"""A real Argilla server on this machine, without docker: for trying out and for tests."""

from act_hf.review.argilla_local.environment import setup
from act_hf.review.argilla_local.server import LocalArgilla


__all__ = ["LocalArgilla", "setup"]
