"""Annotate, criticize and sample, over streams."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from act_hf import columns
from act_hf.annotators import Annotator, annotate_facts, annotator_of, models_of
from act_hf.critics.critic import Critic, check_calibration, check_labels, criticize_facts
from act_hf.errors import ACTError, one_line
from act_hf.files import written_whole
from act_hf.models.asking import Usage, rows_at_once
from act_hf.models.deferred import Deferred
from act_hf.priors import CALIBRATIONS, fit_prior
from act_hf.records import joined_usage, record_of, recorded_task, stage_records
from act_hf.streams.reading import read_stream
from act_hf.streams.shards import (
    MANIFEST,
    check_not_source,
    open_shards,
    read_footer,
    shard_path,
    shard_writer,
    write_manifest,
)
from act_hf.streams.writing import Work, held, write_shards


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset, Features, IterableDataset

    from act_hf.models.base import Model
    from act_hf.models.store import Store
    from act_hf.streams.shards import Shard, Shards
    from act_hf.task import Task


def annotate_stream(
    source: IterableDataset | str | Path,
    task: Task,
    model: Model | Sequence[Model],
    folder: str | Path,
    *,
    strategy: str = "naive",
    calibration: str = "none",
    store: Store | str | Path | None = None,
    batch_size: int | None = None,
    max_tokens: int = 160,
    max_calls: int | None = None,
    max_cost: float | None = None,
    rows_per_shard: int = 10_000,
    overwrite: bool = False,
) -> Path:
    """
    Gives every row of a stream a machine label, and writes the rows as a folder of parquet shards.

    The same call goes on where a run was stopped or killed: finished shards are kept, and of the others every answer
    is in the store. Read the folder with [`read_dataset`] (memory-mapped) or [`read_stream`].

    Args:
        source (`IterableDataset`, `str` or `Path`): rows with the task's columns, or what [`read_stream`] reads.
        task ([`Task`]): what to label.
        model ([`Model`] or sequence of them): who labels; see [`annotate`].
        folder (`str` or `Path`): where the shards go, and `act.json` when they are all there.
        strategy, store, batch_size, max_tokens, max_calls, max_cost (*optional*): as in [`annotate`].
        calibration (`str`, *optional*, defaults to `"none"`): as in [`annotate`]. For `"batch"` the stream is read
            once before, without asking anything, to draw 1,000 rows evenly from all of it.
        rows_per_shard (`int`, *optional*, defaults to 10,000): rows a shard; above 1,000 (100 with images) a multiple
            of that.
        overwrite (`bool`, *optional*, defaults to `False`): begins anew where shards of another run are there.

    Returns:
        `Path`: the folder.

    Raises:
        ACTError: as [`annotate`]; for a folder with other files in it, or with shards of another run, or that another
            process writes to; for a source that has changed since the run began.
        LimitReached: at a limit. The same call goes on from there.
    """
    stream, types = _typed(source, "annotate")
    task.check_features(types, stage="annotate")
    if columns.LABEL in types:
        raise ACTError(f"annotate: the stream has {columns.LABEL!r} already; machine labels are never overwritten")
    if calibration not in CALIBRATIONS:
        raise ACTError(f"calibration {calibration!r} is none of {', '.join(CALIBRATIONS)}")
    models, usage = models_of(model), Usage(max_calls, max_cost)
    _check_answers_now(models)
    annotator, members = annotator_of(task, models, strategy, store, max_tokens=max_tokens, usage=usage)
    rows = batch_size or max(rows_at_once(one, task) for one in models)
    work = Work(
        stream, types, annotator, annotator.reads, annotator.features, rows, usage, "annotate", bool(task.image)
    )
    facts = annotate_facts(task, models, strategy, calibration)
    run = _run_of(work, "annotate", facts, max_tokens, rows_per_shard)
    with held(Path(folder), overwrite=overwrite):
        priors = _priors(work, Path(folder), calibration, members)
        for member, prior in zip(members, priors, strict=True):
            member.prior = prior
        shards = write_shards(work, Path(folder), run=run, priors=priors, rows_per_shard=rows_per_shard)
        facts["prior"] = priors[0] if len(priors) == 1 else priors
        _finish(work, Path(folder), shards, "annotate", facts)
    return Path(folder)


def criticize_stream(
    source: IterableDataset | str | Path,
    model: Model,
    folder: str | Path,
    *,
    strategy: str = "likelihood",
    task: Task | None = None,
    calibration: str = "none",
    suffix: str = "",
    store: Store | str | Path | None = None,
    batch_size: int | None = None,
    max_tokens: int | None = None,
    max_calls: int | None = None,
    max_cost: float | None = None,
    rows_per_shard: int = 10_000,
    overwrite: bool = False,
) -> Path:
    """
    Writes the rows of a stream that has machine labels with the probability that each of them is wrong.

    It goes on after a stop as [`annotate_stream`] does.

    Args:
        source (`IterableDataset`, `str` or `Path`): the folder that [`annotate_stream`] wrote, or any rows with
            `act_label`.
        model ([`Model`]): who criticizes.
        folder (`str` or `Path`): where the shards go: another one than the source.
        strategy, task, suffix, store, batch_size, max_tokens, max_calls, max_cost (*optional*): as in [`criticize`].
        calibration (`str`, *optional*, defaults to `"none"`): `"batch"` and `"contextual"` for the strategy
            `"likelihood"`, as in [`annotate_stream`]. What needs all error probabilities at once (`"rank"`, and
            `"batch"` for other strategies) a stream cannot do.
        rows_per_shard, overwrite (*optional*): as in [`annotate_stream`].

    Returns:
        `Path`: the folder.

    Raises:
        ACTError: as [`criticize`] and [`annotate_stream`].
        LimitReached: at a limit. The same call goes on from there.
    """
    from datasets import Features

    stream, types = _typed(source, "criticize")
    task = _claimed(stream, types, task)
    _check_streamed(strategy, calibration)
    _check_answers_now([model])
    usage = Usage(max_calls, max_cost)
    critic = Critic(task, model, strategy, store, suffix=suffix, max_tokens=max_tokens, usage=usage)
    rows = batch_size or rows_at_once(model, task)
    fitted = [Annotator(task, model, store=critic.store, usage=usage)] if calibration != "none" else []
    if not suffix:  # what a calibration kept was of another critic
        types = Features({name: kind for name, kind in types.items() if name != columns.RAW_ERROR_PROB})
    reads = [name for name in critic.reads if name in types]
    title = f"criticize ({strategy})"
    work = Work(stream, types, critic, reads, critic.features, rows, usage, title, bool(task.image))
    facts = criticize_facts(model, strategy, calibration, suffix)
    run = _run_of(work, "criticize", {**facts, "task": task.to_dict()}, critic.longest_reply, rows_per_shard)
    check_not_source(Path(folder), stage_records(stream))
    with held(Path(folder), overwrite=overwrite):
        priors = _priors(work, Path(folder), calibration, fitted)
        critic.prior = priors[0] if priors else None
        shards = write_shards(work, Path(folder), run=run, priors=priors, rows_per_shard=rows_per_shard)
        _finish(work, Path(folder), shards, "criticize", {**facts, "prior": critic.prior})
    return Path(folder)


def sample_stream(source: str | Path, folder: str | Path, *, overwrite: bool = False, **options: Any) -> Path:
    """
    Chooses the rows of a folder of shards that a person reviews.

    Of all rows only the columns that the draw needs are read at once: `act_error_prob` and `act_failure`, what was
    drawn and answered before, and `groups`. The others pass by, some thousand rows at a time.

    Args:
        source (`str` or `Path`): the folder that [`criticize_stream`] wrote.
        folder (`str` or `Path`): where the rows go, with `act_pi` and `act_selected`: as many shards, all of them or
            none. Another one than the source.
        overwrite (`bool`, *optional*, defaults to `False`): replaces a folder of shards.
        options: the arguments of [`sample`], of which `budget` is needed. The draw is the same.

    Returns:
        `Path`: the folder.

    Raises:
        ACTError: as [`sample`]; for a source that is no finished folder of shards, or a folder that is there.
    """
    from act_hf.files import check_replaceable
    from act_hf.records import with_records
    from act_hf.sampling import sample

    target = Path(folder)
    check_replaceable(target, overwrite=overwrite, sign=MANIFEST)
    shards = open_shards(Path(source))
    columns.require_names(shards.features, [columns.ERROR_PROB], stage="sample")
    before = [columns.ERROR_PROB, columns.FAILURE, columns.HUMAN, columns.WAVE, columns.WAVE_PI]
    groups = [options["groups"]] if options.get("groups") else []
    read = shards.table([*before, columns.PI, columns.SELECTED, *groups])
    sampled = sample(with_records(read, shards.records), **options)
    drawn = sampled.select_columns(
        [name for name in (columns.PI, columns.SELECTED, columns.WAVE, columns.WAVE_PI) if name in sampled.features]
    )
    with written_whole(target, "the shards") as unfinished:
        unfinished.mkdir()
        _add_columns(shards, drawn, unfinished, stage_records(sampled))
    return target


def _add_columns(shards: Shards, added: Dataset, folder: Path, records: Sequence[Any]) -> None:
    """Writes `shards` with columns added, or replaced where they are there, to a folder."""
    import pyarrow as pa
    from datasets import Features

    # The waves before are all told by the new columns, or there are none any more.
    kept = {name: kind for name, kind in shards.features.items() if name not in (columns.WAVE, columns.WAVE_PI)}
    features = Features({**kept, **added.features})
    start = 0
    for number, path in enumerate(shards.paths):
        with shard_writer(shard_path(folder, number), features) as writer:
            for batch in shards.batches(path, list(kept)):
                new = added.with_format("arrow")[start : start + len(batch)]
                parts = [new[name] if name in added.features else batch[name] for name in features]
                writer.write(pa.table(parts, names=list(features)))
                start += len(batch)
            writer.finish()
    write_manifest(folder, features, records, shards.rows)


def _typed(source: IterableDataset | str | Path, stage: str) -> tuple[IterableDataset, Features]:
    """The stream, and the types of its columns: told, or seen in its first rows."""
    from datasets import Dataset, IterableDataset, Value

    if isinstance(source, Dataset):
        raise ACTError(f"{stage}_stream takes an IterableDataset or what read_stream reads; a Dataset goes to {stage}")
    stream = source if isinstance(source, IterableDataset) else read_stream(source)
    if stream.features is not None:
        return stream, stream.features
    try:
        first = next(iter(stream.with_format(None).iter(batch_size=1000)), None)
    except Exception as error:  # the network, and each format, have errors of their own
        raise ACTError(f"{stage}: cannot read the source: {one_line(error)}") from error
    if first is None:
        raise ACTError(f"{stage}: the stream is empty (0 rows)")
    features = Dataset.from_dict(first).features
    unknown = [name for name, kind in features.items() if kind == Value("null")]
    if unknown:
        raise ACTError(
            f"{stage}: the column {unknown[0]!r} has no value in the first rows, so its type is not known; give the "
            "stream its features, or leave the column out with stream.remove_columns"
        )
    return stream, features


def _claimed(stream: IterableDataset, types: Features, task: Task | None) -> Task:
    """The task that the stream was labelled for, or `task`, after checking that they fit each other."""
    columns.require_names(types, [columns.LABEL], stage="criticize")
    task = task or recorded_task(stream)
    task.check_features(types, stage="criticize")
    check_labels(task, columns.feature_names(types, columns.LABEL))
    return task


def _check_answers_now(models: Sequence[Model]) -> None:
    for model in models:
        if isinstance(model, Deferred):
            raise ACTError(
                f"{model.name} answers by batch, hours after it was asked, and would have to be asked for all rows at "
                "once, which a stream does not hold; leave out batch=True (--batch), or the stream (--stream)"
            )


def _check_streamed(strategy: str, calibration: str) -> None:
    check_calibration(strategy, calibration)
    if calibration == "rank" or (calibration == "batch" and strategy != "likelihood"):
        raise ACTError(
            f"calibration={calibration!r} for strategy={strategy!r} needs the error probabilities of all rows at "
            "once, which a stream does not have; use 'none', or strategy='likelihood' with 'batch' or 'contextual'"
        )


def _run_of(work: Work, stage: str, facts: Mapping[str, Any], max_tokens: int, rows_per_shard: int) -> dict[str, Any]:
    """What a run is known by: what could make its rows others, or cut them into other shards."""
    if rows_per_shard < 1:
        raise ACTError(f"rows_per_shard={rows_per_shard} is no number of rows; give 1 or more")
    before = hashlib.sha256(json.dumps(stage_records(work.stream), sort_keys=True).encode()).hexdigest()[:16]
    features = {name: str(kind) for name, kind in work.types.items()}
    run = {"stage": stage, **facts, "max_tokens": max_tokens, "rows_per_shard": rows_per_shard}
    return json.loads(json.dumps({**run, "columns": features, "source": before}))  # type: ignore[no-any-return]


def _priors(work: Work, folder: Path, calibration: str, fitted: Sequence[Annotator]) -> list[tuple[float, ...] | None]:
    """The label priors: of the shards that are there, or fitted now."""
    first = read_footer(shard_path(folder, 0))
    if first is not None:
        return [None if prior is None else tuple(prior) for prior in first.priors]
    if calibration == "none":
        return [None] * len(fitted)
    drawn: Any = _evenly(work) if calibration == "batch" else None
    return [fit_prior(one, drawn, method=calibration, batch_size=work.batch_size) for one in fitted]


def _evenly(work: Work, rows: int = 1000) -> Dataset:
    """Rows drawn uniformly from the whole stream, which is read for it, and not kept."""
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, Features

    chance = np.random.default_rng(0)
    kept, keys = None, np.empty(0)
    for chunk in work.reader(1000):
        table = chunk.select(list(work.reads))
        kept = table if kept is None else pa.concat_tables([kept, table])
        keys = np.append(keys, chance.random(len(table)))
        chosen = np.sort(np.argsort(keys, kind="stable")[:rows])
        kept, keys = kept.take(chosen), keys[chosen]
    if kept is None:
        raise ACTError("the stream is empty (0 rows)")
    types = Features({name: work.types[name] for name in work.reads})
    return Dataset(kept.replace_schema_metadata(None), info=DatasetInfo(features=types))


def _finish(work: Work, folder: Path, shards: Sequence[Shard], stage: str, facts: Mapping[str, Any]) -> None:
    if not shards:
        raise ACTError(f"{stage}: the stream is empty (0 rows)")
    rows = [shard.rows for shard in shards]
    failed = sum(shard.failed for shard in shards)
    record = record_of(
        stage, **facts, rows=sum(rows), failed=failed, usage=joined_usage([shard.usage for shard in shards])
    )
    write_manifest(folder, work.features, [*stage_records(work.stream), record], rows)
