"""
A human-quality labelled data set out of a model-labelled one, for a fraction of the human work.

A `datasets.Dataset` walks through the stages below and leaves each with more columns. Names are imported when they are
first used, so `import act_hf` is quick and needs only the libraries that you use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from act_hf.annotators import Annotator, annotate
    from act_hf.calibration import calibrate
    from act_hf.classifier import train_classifier
    from act_hf.comparison import Comparison, compare
    from act_hf.critics import Critic, criticize
    from act_hf.critics.fusion import centred, fuse, fused, ranked
    from act_hf.critics.panel import add_votes, criticize_panel
    from act_hf.critics.raters import panel_error_probs
    from act_hf.ensemble import Ensemble
    from act_hf.errors import ACTError
    from act_hf.estimate import estimate_accuracy
    from act_hf.evidence import ReviewPlan, TargetCheck, check_target, plan_review
    from act_hf.files import read_dataset, write_dataset
    from act_hf.hub.models import push_model
    from act_hf.hub.pushing import push_dataset
    from act_hf.loss import act_combine, act_loss
    from act_hf.models import load_model
    from act_hf.models.asking import LimitReached, Usage
    from act_hf.models.base import Answer, ChatRequest, Model, ScoreRequest
    from act_hf.models.batch import BatchEndpoint
    from act_hf.models.deferred import Submitted
    from act_hf.models.encoder import EncoderModel
    from act_hf.models.endpoint import Endpoint
    from act_hf.models.local import LocalModel
    from act_hf.models.recorded import Recorded
    from act_hf.models.store import Store
    from act_hf.planning import Plan, plan
    from act_hf.priors import fit_prior
    from act_hf.ray_data import map_with_ray
    from act_hf.report import build_report
    from act_hf.review.page.on_hub import HubPage
    from act_hf.review.page.place import Page
    from act_hf.review.page.serving import serve_page
    from act_hf.review.places import pull_review, push_review
    from act_hf.review.responses import Response, merge_responses
    from act_hf.review.simulated import simulate_review
    from act_hf.review.status import ReviewStatus, review_status
    from act_hf.review.table import Table
    from act_hf.sampling import exponential, normalised, root, sample, solve_beta, threshold
    from act_hf.streams import annotate_stream, criticize_stream, read_stream, sample_stream
    from act_hf.task import Example, Task
    from act_hf.trainer import ACTConfig, ACTTrainer
    from act_hf.training_set import to_evaluation, to_training


_HOME = {
    "act_hf.task": ("Task", "Example"),
    "act_hf.models": ("load_model",),
    "act_hf.models.base": ("Model", "ChatRequest", "ScoreRequest", "Answer"),
    "act_hf.models.local": ("LocalModel",),
    "act_hf.models.endpoint": ("Endpoint",),
    "act_hf.models.batch": ("BatchEndpoint",),
    "act_hf.models.deferred": ("Submitted",),
    "act_hf.models.recorded": ("Recorded",),
    "act_hf.models.encoder": ("EncoderModel",),
    "act_hf.models.store": ("Store",),
    "act_hf.models.asking": ("LimitReached", "Usage"),
    "act_hf.annotators": ("annotate", "Annotator"),
    "act_hf.ensemble": ("Ensemble",),
    "act_hf.planning": ("plan", "Plan"),
    "act_hf.comparison": ("compare", "Comparison"),
    "act_hf.critics.panel": ("criticize_panel", "add_votes"),
    "act_hf.critics.raters": ("panel_error_probs",),
    "act_hf.critics.fusion": ("fuse", "fused", "centred", "ranked"),
    "act_hf.priors": ("fit_prior",),
    "act_hf.critics": ("criticize", "Critic"),
    "act_hf.calibration": ("calibrate",),
    "act_hf.sampling": ("sample", "exponential", "normalised", "root", "threshold", "solve_beta"),
    "act_hf.review.places": ("push_review", "pull_review"),
    "act_hf.review.table": ("Table",),
    "act_hf.review.status": ("review_status", "ReviewStatus"),
    "act_hf.review.page.place": ("Page",),
    "act_hf.review.page.on_hub": ("HubPage",),
    "act_hf.review.page.serving": ("serve_page",),
    "act_hf.review.simulated": ("simulate_review",),
    "act_hf.review.responses": ("Response", "merge_responses"),
    "act_hf.loss": ("act_loss", "act_combine"),
    "act_hf.trainer": ("ACTConfig", "ACTTrainer"),
    "act_hf.training_set": ("to_training", "to_evaluation"),
    "act_hf.classifier": ("train_classifier",),
    "act_hf.estimate": ("estimate_accuracy",),
    "act_hf.evidence": ("plan_review", "ReviewPlan", "check_target", "TargetCheck"),
    "act_hf.report": ("build_report",),
    "act_hf.files": ("read_dataset", "write_dataset"),
    "act_hf.hub.pushing": ("push_dataset",),
    "act_hf.hub.models": ("push_model",),
    "act_hf.streams": ("annotate_stream", "criticize_stream", "sample_stream", "read_stream"),
    "act_hf.ray_data": ("map_with_ray",),
    "act_hf.errors": ("ACTError",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "ACTConfig",
    "ACTError",
    "ACTTrainer",
    "Annotator",
    "Answer",
    "BatchEndpoint",
    "ChatRequest",
    "Comparison",
    "Critic",
    "EncoderModel",
    "Endpoint",
    "Ensemble",
    "Example",
    "HubPage",
    "LimitReached",
    "LocalModel",
    "Model",
    "Page",
    "Plan",
    "Recorded",
    "Response",
    "ReviewPlan",
    "ReviewStatus",
    "ScoreRequest",
    "Store",
    "Table",
    "Submitted",
    "TargetCheck",
    "Task",
    "Usage",
    "act_combine",
    "act_loss",
    "add_votes",
    "annotate",
    "annotate_stream",
    "build_report",
    "calibrate",
    "centred",
    "check_target",
    "compare",
    "criticize",
    "criticize_panel",
    "criticize_stream",
    "estimate_accuracy",
    "exponential",
    "fit_prior",
    "fuse",
    "fused",
    "load_model",
    "map_with_ray",
    "merge_responses",
    "normalised",
    "panel_error_probs",
    "plan",
    "plan_review",
    "pull_review",
    "push_dataset",
    "push_model",
    "push_review",
    "ranked",
    "read_dataset",
    "read_stream",
    "review_status",
    "root",
    "sample",
    "sample_stream",
    "serve_page",
    "simulate_review",
    "solve_beta",
    "threshold",
    "to_evaluation",
    "to_training",
    "train_classifier",
    "write_dataset",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("act_hf")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'act_hf' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    # A submodule of the same name (act_hf.annotators) would otherwise take the function's place when it is imported.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
