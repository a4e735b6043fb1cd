"""Many workers: a stage in Ray Data's `map_batches`, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from act_hf import columns
from act_hf.annotators import Annotator, annotate_facts
from act_hf.critics import Critic
from act_hf.critics.critic import claimed_task, criticize_facts
from act_hf.ensemble import Ensemble
from act_hf.errors import ACTError
from act_hf.models.asking import LimitReached, Usage, rows_at_once
from act_hf.records import add_record, joined_usage, usage_facts


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa
    from datasets import Dataset, Features

_ROW, _SAID = "act_row", "act_said"
_REFUSED = "refused"
_BLOCK = 1000
"""Rows that Ray moves at once, about."""


class Stage(Protocol):
    """What can be mapped: an [`Annotator`], an [`Ensemble`], a [`Critic`], or a callable like them."""

    @property
    def reads(self) -> Sequence[str]:
        """The columns that it reads, where they are there."""

    @property
    def features(self) -> Features:
        """The columns that it makes."""

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """A batch of the columns that it reads to the columns that it makes."""


def map_with_ray(
    source: Dataset | str | Path,
    stage: Stage,
    *,
    workers: int = 2,
    gpus_per_worker: float = 0,
    batch_size: int | None = None,
    to: str | Path | None = None,
    overwrite: bool = False,
) -> Dataset:
    """
    The same rows as `annotate` or `criticize` would give, from several workers.

    A worker is an actor of Ray that holds the stage, and so loads the model once. One that dies is started again, and
    what it was asking about is asked for again, except for the answers in the store. Ray is started on this machine
    where it was not (`ray.init(address=...)` before it connects to a cluster), and then stopped again.

    Args:
        source (`Dataset`, `str` or `Path`): rows, or what [`read_dataset`] reads, such as a folder of shards.
        stage ([`Stage`]): such as `Annotator(task, model)`. It is pickled to the workers: a model of ours goes as its
            arguments, a store as its path, a token as the name of its variable. Limits in its `usage` are those of
            each worker.
        workers (`int`, *optional*, defaults to 2): how many.
        gpus_per_worker (`float`, *optional*, defaults to 0): 1 gives each worker a GPU, and so a model, of its own.
        batch_size (`int`, *optional*): rows handed to the stage at once; by default as in [`annotate`].
        to (`str` or `Path`, *optional*): where the rows are written, too; see [`write_dataset`].
        overwrite (`bool`, *optional*, defaults to `False`): replaces what is at `to`.

    Returns:
        `Dataset`: the rows in their order, with the columns of the stage and its record.

    Raises:
        ACTError: when Ray is not installed, for rows that do not fit the stage, or what the stage itself raises.

    Example:

    ```python
    >>> map_with_ray(rows, Annotator(task, Endpoint("Qwen/Qwen2.5-7B-Instruct", base_url=url)), workers=8)
    ```
    """
    from act_hf.files import check_target, read_dataset, write_dataset

    if workers < 1:
        raise ACTError(f"workers={workers} is no number of workers; give 1 or more")
    if to is not None:
        check_target(to, overwrite=overwrite)
    dataset = read_dataset(source) if isinstance(source, str | Path) else source
    _check(dataset, stage)
    size = batch_size or _rows_at_once(stage)
    reads = [name for name in stage.reads if name in dataset.features]
    with _running(workers, gpus_per_worker):
        blocks = _blocks(columns.as_stored(dataset).select_columns(reads), size, workers)
        made = _mapped(blocks, stage, workers, gpus_per_worker, size)
    usage = joined_usage(_said(made))
    result = _recorded(columns.joined(dataset, _as_dataset(made, stage.features)), stage, workers, usage)
    if to is not None:
        write_dataset(result, to, overwrite=overwrite)
    return result


class _Worker:
    """What runs in an actor: Arrow tables in, Arrow tables out."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def __call__(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa

        before = _usage_of(self.stage)
        schema = self.stage.features.arrow_schema.remove_metadata()
        said: dict[str, Any]
        try:
            made = self.stage(table.drop_columns([_ROW]).to_pydict())
            after = _usage_of(self.stage)
            said = {name: None if after[name] is None else after[name] - before[name] for name in after}
        except ACTError as error:  # raised here, it would come to the caller as text within a trace of Ray's
            made = {name: [None] * len(table) for name in schema.names}
            said = {_REFUSED: str(error), "limit": isinstance(error, LimitReached)}
        new = pa.Table.from_pydict(made, schema=schema)
        beside = [json.dumps(said), *[None] * (len(table) - 1)]  # of the whole batch, beside its first row
        return new.append_column(_ROW, table[_ROW]).append_column(_SAID, pa.array(beside, pa.string()))


def _blocks(rows: Dataset, size: int, workers: int) -> list[pa.Table]:
    """The rows with their numbers, in parts of whole batches, and enough of these for every worker."""
    import pyarrow as pa

    arrow = rows.with_format("arrow")
    each = size * max(1, min(_BLOCK, len(rows) // (4 * workers)) // size)
    blocks = []
    for start in range(0, len(rows), each):
        table = arrow[start : start + each].replace_schema_metadata(None)
        blocks.append(table.append_column(_ROW, pa.array(range(start, start + len(table)), pa.int64())))
    return blocks


def _mapped(blocks: Sequence[pa.Table], stage: Stage, workers: int, gpus: float, size: int) -> pa.Table:
    """The columns that the stage makes of all blocks, with the rows' numbers, in their order."""
    import pyarrow as pa
    from ray import data

    mapped = data.from_arrow(list(blocks)).map_batches(
        _Worker,
        fn_constructor_args=(stage,),
        batch_size=size,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=workers),
        num_gpus=gpus or None,
    )
    tables = []
    with columns.show_progress(sum(map(len, blocks)), f"{workers} workers", None) as bar:
        for table in mapped.iter_batches(batch_size=None, batch_format="pyarrow"):
            bar.begin(len(table))
            _complain(_said(table))
            tables.append(table)
            bar.end()
    made = pa.concat_tables(tables).sort_by(_ROW)
    assert made[_ROW].to_pylist() == list(range(sum(map(len, blocks)))), "Ray gave every row back once"
    return made


def _said(table: pa.Table) -> list[dict[str, Any]]:
    """What the workers said of their batches."""
    return [json.loads(said) for said in table[_SAID].to_pylist() if said]


def _complain(said: Sequence[Mapping[str, Any]]) -> None:
    """Raises what a worker complained of."""
    for one in said:
        if _REFUSED in one:
            raise (LimitReached if one["limit"] else ACTError)(one[_REFUSED])


def _as_dataset(made: pa.Table, features: Features) -> Dataset:
    """The columns with their types: to Arrow, a `ClassLabel` is a number."""
    from datasets import Dataset, DatasetInfo

    table = made.select(list(features)).cast(features.arrow_schema)
    return Dataset(table, info=DatasetInfo(features=features))


@contextlib.contextmanager
def _running(workers: int, gpus: float) -> Iterator[None]:
    """Ray, as the user started it, or for this call."""
    ray = _import_ray()
    from ray.data import DataContext

    context, log = DataContext.get_current(), logging.getLogger("ray.data")
    shown, level = context.enable_progress_bars, log.level
    started = not ray.is_initialized()
    if started:
        cores = max(workers, os.cpu_count() or 1)
        ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        if started and ray.cluster_resources().get("GPU", 0) < gpus:
            raise ACTError(f"gpus_per_worker={gpus}: this machine has too few GPUs that Ray can see")
        log.setLevel(logging.ERROR)
        context.enable_progress_bars = False  # ours says what is done
        yield
    finally:
        context.enable_progress_bars = shown
        log.setLevel(level)
        if started:
            ray.shutdown()


def _import_ray() -> Any:
    # Before it is imported: no file with a token in the user's home, and no report to its makers.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ACTError(f"map_with_ray needs Ray ({error}): pip install -e '.[ray]'") from error
    return ray


def _check(dataset: Dataset, stage: Stage) -> None:
    """Raises [`ACTError`] where `annotate` or `criticize` would."""
    if isinstance(stage, Critic):
        claimed_task(dataset, stage.task)
    elif isinstance(stage, Annotator | Ensemble):
        stage.task.check(dataset, stage="annotate")
        if columns.LABEL in dataset.column_names:
            raise ACTError(
                f"annotate: the data set has {columns.LABEL!r} already; machine labels are never overwritten"
            )
    else:
        columns.require(dataset, [], stage="map_with_ray")


def _members(stage: Stage) -> tuple[Annotator | Critic, ...]:
    if isinstance(stage, Ensemble):
        return stage.members
    return (stage,) if isinstance(stage, Annotator | Critic) else ()


def _rows_at_once(stage: Stage) -> int:
    return max((rows_at_once(member.model, member.task) for member in _members(stage)), default=64)


def _usage_of(stage: Stage) -> dict[str, Any]:
    """What it has asked for so far. The members of an ensemble share one, or have one each."""
    counts = {id(member.usage): member.usage for member in _members(stage)}
    return joined_usage([usage_facts(usage) for usage in counts.values()] or [usage_facts(Usage())])


def _recorded(dataset: Dataset, stage: Stage, workers: int, usage: Mapping[str, Any]) -> Dataset:
    """The rows with the record that `annotate` or `criticize` would leave, and how many worked on it."""
    if isinstance(stage, Critic):
        facts = criticize_facts(stage.model, stage.strategy, "given" if stage.prior else "none", stage.suffix)
        name, prior, failure = "criticize", cast("Any", stage.prior), columns.FAILURE + stage.suffix
        dataset = dataset if stage.suffix else columns.forget_raw(dataset)
    elif isinstance(stage, Annotator | Ensemble):
        members = cast("tuple[Annotator, ...]", _members(stage))
        priors = [member.prior for member in members]
        calibration = "given" if any(priors) else "none"
        models = [member.model for member in members]
        facts = annotate_facts(stage.task, models, members[0].strategy, calibration)
        name, prior, failure = "annotate", priors[0] if len(priors) == 1 else priors, columns.FAILURE
    else:
        return dataset
    counts = {"rows": len(dataset), "failed": columns.count_failed(dataset, failure)}
    return add_record(dataset, name, **facts, prior=prior, **counts, workers=workers, usage=dict(usage))
