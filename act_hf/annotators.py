"""Annotate: a machine label for every row, with its probability where the model gives one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns, prompts
from act_hf.errors import ACTError
from act_hf.models.base import Answer, ChatRequest, Model, ScoreRequest, require_ability
from act_hf.models.store import Store, Usage, ask
from act_hf.records import add_record, usage_facts
from act_hf.task import Row, Task, is_empty


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from datasets import Dataset
    from numpy.typing import NDArray


STRATEGIES = ("naive", "cot")
CALIBRATIONS = ("none", "batch", "contextual")
COLUMNS = (columns.ID, columns.LABEL, columns.LABEL_PROBS, columns.RATIONALE, columns.FAILURE)

_EMPTY = "the row is empty"


@dataclass(frozen=True)
class Labelled:
    """What a model said of one row: a label with its probabilities and reasoning, or why there is none."""

    label: int | None = None
    probs: list[float] | None = None
    rationale: str | None = None
    failure: str | None = None


@dataclass
class Annotator:
    """
    A batched callable for `Dataset.map`, `IterableDataset.map` or `ray.data.map_batches`.

    Where the model can score, the label is the most probable one and its probabilities are kept; where it can only
    chat, the reply is parsed, and a reply that names no label becomes `act_failure`.

    Args:
        task ([`Task`]): what to label.
        model ([`Model`]): who labels.
        strategy (`str`, *optional*, defaults to `"naive"`): `"naive"` asks for the label, `"cot"` for reasoning first
            (the paper's two annotator promptings).
        store ([`Store`] or path, *optional*): where answers are kept; see [`Store`].
        prior (tuple of `float`, *optional*): a log-probability a label, subtracted from the model's before they are
            normalised; [`fit_prior`] makes one. Needs a model that can score.
        max_tokens (`int`, *optional*, defaults to 160): the longest reasoning or reply.

    Raises:
        ACTError: for an unknown strategy, or a model that cannot do what it needs, before anything is asked.
    """

    task: Task
    model: Model
    strategy: str = "naive"
    store: Store | str | Path | None = None
    prior: tuple[float, ...] | None = None
    max_tokens: int = 160
    # `datasets` hashes it where the object is mapped directly: its cache must not outlive a change of prompts.
    version: str = field(default=prompts.VERSION, init=False, repr=False)
    usage: Usage = field(default_factory=Usage, init=False, repr=False)

    def __post_init__(self) -> None:
        self.store = Store.of(self.store)
        if self.strategy not in STRATEGIES:
            raise ACTError(f"annotator strategy {self.strategy!r} is none of {', '.join(STRATEGIES)}")
        if self.strategy == "cot" or "score" not in self.model.abilities:
            require_ability(self.model, "chat", purpose=f"the annotator strategy {self.strategy!r}")
        if self.prior is not None:
            require_ability(self.model, "score", purpose="calibrating label probabilities")

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Rows with the task's columns in; `act_id`, the label columns and `act_failure` out."""
        rows = self.task.rows(batch)
        labelled = self.label([row for row in rows if not is_empty(row)])
        remaining = iter(labelled)
        results = [Labelled(failure=f"annotate: {_EMPTY}") if is_empty(row) else next(remaining) for row in rows]
        return {
            columns.ID: [self.task.row_id(row) for row in rows],
            columns.LABEL: [result.label for result in results],
            columns.LABEL_PROBS: [result.probs for result in results],
            columns.RATIONALE: [result.rationale for result in results],
            columns.FAILURE: [result.failure for result in results],
        }

    def label(self, rows: Sequence[Row]) -> list[Labelled]:
        """Labels rows that have content."""
        if "score" not in self.model.abilities:
            return [self._parse(reply) for reply in self._ask(self._chat_requests(rows))]
        logprobs, partial = self.label_logprobs(rows)
        return [self._choose(values, said) for values, said in zip(logprobs, partial, strict=True)]

    def label_logprobs(self, rows: Sequence[Row]) -> tuple[NDArray[np.float64], list[Labelled]]:
        """
        The model's log-probability of every label, not normalised and not calibrated.

        Returns:
            `tuple`: a float64 array `[rows, labels]`, NaN where the model failed, and for each row the reasoning that
            led there or the failure.
        """
        replies = self._ask(self._chat_requests(rows)) if self.strategy == "cot" else [Answer()] * len(rows)
        pairs = zip(rows, replies, strict=True)
        asked = iter(self._ask([self._score_request(row, reply) for row, reply in pairs if not reply.failure]))
        answers = [reply if reply.failure else next(asked) for reply in replies]
        unknown = (np.nan,) * len(self.task.labels)
        logprobs = [unknown if answer.failure else answer.logprobs for answer in answers]
        partial = [
            Labelled(rationale=self._rationale(reply), failure=answer.failure)
            for reply, answer in zip(replies, answers, strict=True)
        ]
        return np.array(logprobs, dtype=np.float64).reshape(len(rows), len(self.task.labels)), partial

    def _chat_requests(self, rows: Sequence[Row]) -> list[ChatRequest]:
        ask_for = prompts.annotate_cot if self.strategy == "cot" else prompts.annotate_naive
        return [ChatRequest(ask_for(self.task, row), self.max_tokens) for row in rows]

    def _rationale(self, reply: Answer) -> str | None:
        return prompts.reasoning(reply.text) if self.strategy == "cot" else None

    def _score_request(self, row: Row, reply: Answer) -> ScoreRequest:
        if self.strategy == "cot":
            return prompts.conclude_request(self.task, row, prompts.reasoning(reply.text))
        return prompts.label_request(self.task, row, instructed=self.model.instructed)

    def _choose(self, logprobs: NDArray[np.float64], said: Labelled) -> Labelled:
        if said.failure or not np.isfinite(logprobs).all():
            reason = said.failure or f"the model gave {logprobs.tolist()}"
            return Labelled(rationale=said.rationale, failure=f"annotate: {reason}")
        probs = normalised_probs(logprobs[None], self.prior)[0]
        return Labelled(int(probs.argmax()), probs.tolist(), said.rationale)

    def _parse(self, reply: Answer) -> Labelled:
        label = prompts.parse_label(self.task, reply.text)
        if reply.failure or label is None:
            reason = reply.failure or f"no single label in the reply {reply.text[:200]!r}"
            return Labelled(rationale=self._rationale(reply), failure=f"annotate: {reason}")
        return Labelled(label, None, self._rationale(reply))

    def _ask(self, requests: Sequence[ScoreRequest | ChatRequest]) -> list[Answer]:
        return ask(self.model, requests, store=Store.of(self.store), version=self.version, usage=self.usage)


def annotate(
    dataset: Dataset,
    task: Task,
    model: Model,
    *,
    strategy: str = "naive",
    calibration: str = "none",
    store: Store | str | Path | None = None,
    batch_size: int = 64,
    max_tokens: int = 160,
) -> Dataset:
    """
    Adds a machine label to every row.

    Rows with the same content are asked once and get the same label and the same `act_id`.

    Args:
        dataset (`Dataset`): has the task's columns, and no `act_label` yet.
        task ([`Task`]): what to label.
        model ([`Model`]): who labels.
        strategy (`str`, *optional*, defaults to `"naive"`): see [`Annotator`].
        calibration (`str`, *optional*, defaults to `"none"`): `"batch"` or `"contextual"` take out the model's
            preference for some labels whatever the row; see [`fit_prior`]. Small models need it.
        store ([`Store`] or path, *optional*): where answers are kept. A second run asks for nothing again.
        batch_size (`int`, *optional*, defaults to 64): rows handed to the model at once.
        max_tokens (`int`, *optional*, defaults to 160): the longest reasoning or reply.

    Returns:
        `Dataset`: the same rows with `act_id`, `act_label`, `act_label_probs`, `act_rationale`, `act_failure`.

    Raises:
        ACTError: for a data set that does not fit the task or is labelled already, or a model that cannot do it.
    """
    task.check(dataset, stage="annotate")
    if columns.LABEL in dataset.column_names:
        raise ACTError(f"annotate: the data set has {columns.LABEL!r} already; machine labels are never overwritten")
    annotator = Annotator(task, model, strategy, store, max_tokens=max_tokens)
    if calibration != "none":
        annotator.prior = fit_prior(annotator, dataset, method=calibration, batch_size=batch_size)
    features = columns.column_features(task, COLUMNS)
    annotated = columns.map_columns(dataset, annotator, features, batch_size=batch_size, progress="annotate")
    return add_record(
        annotated,
        "annotate",
        task=task.to_dict(),
        model=model.name,
        strategy=strategy,
        prompts=prompts.VERSION,
        calibration=calibration,
        prior=annotator.prior,
        rows=len(annotated),
        failed=columns.count_failed(annotated),
        usage=usage_facts(annotator.usage),
    )


def fit_prior(
    annotator: Annotator, dataset: Dataset, *, method: str = "batch", rows: int = 1000, batch_size: int = 64
) -> tuple[float, ...]:
    """
    The model's preference for each label whatever the row, to be given as `prior=`.

    - `"batch"`: the mean log-probability of each label over the rows (batch calibration, Zhou et al. 2023, arXiv
      2309.17249; the mean over log-probabilities, and over up to `rows` rows instead of one batch, is our choice).
      It presumes that no label is very rare: a label that is gets chosen too often.
    - `"contextual"`: the log of the mean probability of each label on rows that say nothing ("N/A", "[MASK]", "";
      contextual calibration, Zhao et al. 2021, arXiv 2102.09690).

    Args:
        annotator ([`Annotator`]): its model must be able to score. Its answers are stored, so nothing is asked twice.
        dataset (`Dataset`): the rows to label.
        method (`str`): `"batch"` or `"contextual"`.
        rows (`int`, *optional*, defaults to 1000): rows used by `"batch"`, in evenly spaced batches.
        batch_size (`int`, *optional*, defaults to 64): rows handed to the model at once.

    Returns:
        tuple of `float`: a log-probability a label.

    Raises:
        ACTError: for an unknown method, `"contextual"` for images, a model that cannot score, or no row with content
            whose log-probabilities are all finite.
    """
    if method not in CALIBRATIONS[1:]:
        raise ACTError(f"calibration {method!r} is none of {', '.join(CALIBRATIONS)}")
    require_ability(annotator.model, "score", purpose=f"calibration={method!r}")
    if method == "contextual":
        if annotator.task.image:
            raise ACTError("calibration='contextual' has no image that says nothing; use 'batch'")
        logprobs = _finite(annotator.label_logprobs(prompts.content_free(annotator.task))[0], method)
        return tuple(np.log(normalised_probs(logprobs).mean(axis=0)).tolist())
    logprobs = np.concatenate(list(_asked_in_batches(annotator, dataset, rows, batch_size)))
    finite = _finite(logprobs, method)
    return tuple((finite - _logsumexp(finite)).mean(axis=0).tolist())


def _asked_in_batches(
    annotator: Annotator, dataset: Dataset, rows: int, batch_size: int
) -> Iterator[NDArray[np.float64]]:
    """Asks in whole batches as `map` will, so that an interrupted run is resumed with the same batches."""
    from tqdm.auto import tqdm

    starts = np.arange(0, len(dataset), batch_size)
    kept = starts[np.linspace(0, len(starts) - 1, min(len(starts), max(1, rows // batch_size))).astype(int)]
    with tqdm(
        total=sum(min(batch_size, len(dataset) - start) for start in kept), desc="calibrate", unit="rows"
    ) as bar:
        for start in kept.tolist():
            batch = annotator.task.rows(dataset[start : start + batch_size])
            yield annotator.label_logprobs([row for row in batch if not is_empty(row)])[0]
            bar.set_postfix(calls=annotator.usage.calls)
            bar.update(len(batch))


def _finite(logprobs: NDArray[np.float64], method: str) -> NDArray[np.float64]:
    """The rows that will get a label: one without must not spoil the prior of the others."""
    kept = logprobs[np.isfinite(logprobs).all(axis=1)]
    if len(kept) == 0:
        raise ACTError(f"calibration={method!r}: there is no row with content and a log-probability for every label")
    return kept


def normalised_probs(logprobs: NDArray[np.float64], prior: Sequence[float] | None = None) -> NDArray[np.float64]:
    """Label probabilities `[rows, labels]`, each row summing to 1, with `prior` (log-probabilities) taken out."""
    shifted = logprobs if prior is None else logprobs - np.asarray(prior)
    with np.errstate(invalid="ignore"):  # a row that is no numbers stays one
        return np.exp(shifted - _logsumexp(shifted))


def _logsumexp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.logaddexp.reduce(values, axis=-1, keepdims=True)
    return total
