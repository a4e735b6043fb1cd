"""Who should annotate and who should criticize: several of each measured on a small slice with gold labels."""

from act_hf.comparison.facts import Comparison
from act_hf.comparison.run import compare


__all__ = ["Comparison", "compare"]
