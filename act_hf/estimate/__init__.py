"""What the numbers mean: how good a critic is, and how accurate the labels are before and after review."""

from act_hf.estimate.accuracy import AccuracyEstimate, accuracy_by_group, estimate_accuracy
from act_hf.estimate.agreement import Person, krippendorff_alpha, people
from act_hf.estimate.calibration import Reliability, reliability
from act_hf.estimate.curves import abs_score, aqg, auroc, error_curve, perfect_curve, random_curve, recall_at
from act_hf.estimate.intervals import clopper_pearson, wilson
from act_hf.estimate.reviewers import reviewer_error_rate, with_reviewer_error


__all__ = [
    "AccuracyEstimate",
    "Person",
    "Reliability",
    "abs_score",
    "accuracy_by_group",
    "aqg",
    "auroc",
    "clopper_pearson",
    "error_curve",
    "estimate_accuracy",
    "krippendorff_alpha",
    "people",
    "perfect_curve",
    "random_curve",
    "recall_at",
    "reliability",
    "reviewer_error_rate",
    "wilson",
    "with_reviewer_error",
]
