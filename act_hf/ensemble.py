"""Several models label together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf.annotators import Annotator, Labelled, choose, labelled_columns
from act_hf.errors import ACTError
from act_hf.models.base import require_ability
from act_hf.priors import normalised_logprobs


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Features

    from act_hf.task import Row, Task


@dataclass
class Ensemble:
    """
    A batched callable whose label is the most probable one by the mean of several models' log-probabilities, each with
    its own prior taken out first (a logarithmic opinion pool with equal weights, Genest and Zidek 1986).

    Small models make different mistakes, so their mean is better than the best of them. A row that one of them fails
    on fails; the others' answers are in the store, so the next run asks that one alone.

    Args:
        members (tuple of [`Annotator`]): of one task; their models must be able to choose. They usually share one
            [`Usage`].

    Raises:
        ACTError: for no members, or a model that cannot choose.
    """

    members: tuple[Annotator, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise ACTError("an ensemble of annotators needs at least one model")
        for member in self.members:
            require_ability(member.model, "choose", purpose="an ensemble of annotators")

    @property
    def task(self) -> Task:
        """The task of all members."""
        return self.members[0].task

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return self.members[0].reads

    @property
    def features(self) -> Features:
        """The columns that it makes, with their types."""
        return self.members[0].features

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """As [`Annotator.__call__`]."""
        return labelled_columns(self.task, batch, self.label)

    def label(self, rows: Sequence[Row]) -> list[Labelled]:
        """Labels rows that have content."""
        each = [member.label_logprobs(rows) for member in self.members]
        mean = normalised_logprobs(np.mean([logprobs for logprobs, _ in each], axis=0))
        said = [_joined(parts) for parts in zip(*(partial for _, partial in each), strict=True)]
        return [choose(values, partial) for values, partial in zip(mean, said, strict=True)]


def _joined(parts: Sequence[Labelled]) -> Labelled:
    """All the reasoning, or the first failure."""
    rationales = [part.rationale for part in parts if part.rationale]
    failures = [part.failure for part in parts if part.failure]
    return Labelled(rationale="\n".join(rationales) or None, failure=failures[0] if failures else None)
