"""A job: who annotates or criticizes, and how they are asked, as `plan` and `compare` are told it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf.annotators import Annotator
from act_hf.critics import Critic
from act_hf.critics.critic import check_calibration as check_critics_calibration
from act_hf.errors import ACTError
from act_hf.models.base import Model, require_ability
from act_hf.priors import CALIBRATIONS


if TYPE_CHECKING:
    from act_hf.task import Task

Models = Model | Sequence[Model]
Chosen = Models | tuple[Models, Mapping[str, Any]]
"""A model, several that label together, or either with options."""

OPTIONS = ("strategy", "calibration", "max_tokens", "batch_size")
"""What may be said of how a model is asked; the rest is the same for all."""

_ASKED = ("strategy", "max_tokens")


@dataclass(frozen=True)
class Job:
    """
    An annotator or a critic.

    Args:
        kind (type): [`Annotator`] or [`Critic`].
        models (tuple of [`Model`]): one, or several that label together.
        options (mapping): how they are asked: some of [`OPTIONS`].
    """

    kind: type[Annotator | Critic]
    models: tuple[Model, ...]
    options: Mapping[str, Any]

    @property
    def calibration(self) -> str:
        """What is done about their preferences."""
        return str(self.options.get("calibration", "none"))

    @property
    def model_names(self) -> frozenset[str]:
        """Which models these are, however they are asked: the same model at another temperature is the same one."""
        given = ((model, getattr(model, "model", None)) for model in self.models)
        return frozenset(name if isinstance(name, str) else model.name for model, name in given)

    def members(self, task: Task, **more: Any) -> tuple[Any, ...]:
        """
        The stage of every model: an [`Annotator`] or a [`Critic`].

        Args:
            task ([`Task`]): what is labelled.
            more: what else the stage is made with, such as `store` and `usage`.

        Raises:
            ACTError: for what the stage would refuse.
        """
        asked = {name: value for name, value in self.options.items() if name in _ASKED}
        made = tuple(self.kind(task, model, **asked, **more) for model in self.models)
        if isinstance(made[0], Critic):
            check_critics_calibration(made[0].strategy, self.calibration)
        elif self.calibration not in CALIBRATIONS:
            raise ACTError(f"calibration {self.calibration!r} is none of {', '.join(CALIBRATIONS)}")
        for model in self.models:
            if len(self.models) > 1:
                require_ability(model, "choose", purpose="an ensemble of annotators")
            elif self.kind is Annotator and self.calibration != "none":
                require_ability(model, "choose", purpose=f"calibration={self.calibration!r}")
        return made

    def by_the_clock(self, requests: int, seconds: float) -> float:
        """
        How long requests take that spent `seconds` with the models, when as many are in flight as a model takes.

        Several models answer one after the other: as slow as if all were like the one that answers fewest at once.
        """
        at_once = min(int(getattr(model, "concurrency", 1)) for model in self.models)
        return seconds / max(1, min(at_once, requests))


def job_of(kind: type[Annotator | Critic], chosen: Chosen, task: Task, *, place: str) -> Job:
    """
    Who was chosen, checked as far as can be before anything is asked.

    Args:
        kind (type): [`Annotator`] or [`Critic`].
        chosen ([`Chosen`]): who, with or without options.
        task ([`Task`]): what is labelled.
        place (`str`): where this was said, for the messages.

    Raises:
        ACTError: for what is no model or option, more than one critic, or one that cannot do what it is to do.
    """
    options: Mapping[str, Any] = {}
    if isinstance(chosen, tuple) and len(chosen) == 2 and isinstance(chosen[1], Mapping):
        chosen, options = chosen
    models = tuple(chosen) if isinstance(chosen, list | tuple) else (chosen,)
    for model in models:
        if not isinstance(model, Model):
            raise ACTError(f"{place} is {model!r}, not a model; load_model() makes one of a name")
    if not models or (kind is Critic and len(models) > 1):
        raise ACTError(f"{place} has {len(models)} models; give one")
    unknown = sorted(map(str, set(options) - set(OPTIONS)))
    if unknown:
        raise ACTError(f"{place} has the option {unknown[0]!r}; the options are {', '.join(OPTIONS)}")
    job = Job(kind, models, dict(options))
    try:
        job.members(task)
    except ACTError as error:
        raise ACTError(f"{place}: {error}") from error
    return job
