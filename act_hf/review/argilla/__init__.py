"""Review in Argilla: rows become records of a data set there, and what people submit comes back."""

from act_hf.review.argilla.place import Argilla


__all__ = ["Argilla"]
