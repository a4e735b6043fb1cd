"""Which rows people review: rules (error probabilities, budget) -> inclusion probabilities, and the draw."""

from act_hf.sampling.budget import resolve_budget
from act_hf.sampling.drawing import draw
from act_hf.sampling.rules import (
    RULES,
    exponential,
    mix_uniform,
    normalised,
    root,
    solve_alpha,
    solve_beta,
    threshold,
    with_floor,
)
from act_hf.sampling.stage import sample
from act_hf.sampling.waves import Waves, read_waves


__all__ = [
    "RULES",
    "Waves",
    "draw",
    "exponential",
    "mix_uniform",
    "normalised",
    "read_waves",
    "resolve_budget",
    "root",
    "sample",
    "solve_alpha",
    "solve_beta",
    "threshold",
    "with_floor",
]
