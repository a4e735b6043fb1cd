"""A budget from evidence: how many rows people must look at to reach a target, and whether it is reached."""

from act_hf.evidence.facts import Point, ReviewPlan
from act_hf.evidence.plan import plan_review, plan_rows
from act_hf.evidence.target import TargetCheck, check_target


__all__ = ["Point", "ReviewPlan", "TargetCheck", "check_target", "plan_review", "plan_rows"]
