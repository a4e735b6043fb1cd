"""What a run will take, from a pilot, before anyone pays."""

from act_hf.planning.planned import Plan
from act_hf.planning.run import plan


__all__ = ["Plan", "plan"]
