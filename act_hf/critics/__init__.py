"""The critics: for every machine label, the probability that it is wrong."""

from act_hf.critics.critic import CALIBRATIONS, Critic, criticize
from act_hf.critics.strategies import STRATEGIES


__all__ = ["CALIBRATIONS", "STRATEGIES", "Critic", "criticize"]
