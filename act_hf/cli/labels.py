"""Machine labels, and how doubtful each of them is."""

from __future__ import annotations

from typing import Annotated, Any

from act_hf.cli.options import (
    Input,
    Limits,
    ModelName,
    Output,
    Overwrite,
    RowsPerShard,
    ServerOptions,
    Split,
    StorePath,
    Stream,
    Suffix,
    TaskOptions,
    in_panel,
    spread,
)
from act_hf.cli.shared import finish, finish_shards, open_dataset, shards_target


BatchSize = Annotated[
    int | None,
    in_panel("Limits", "Rows handed to the model at once. Default: 64, or enough to keep a server busy.", min=1),
]


@spread
def annotate(
    *,
    source: Input,
    target: Output,
    task: TaskOptions,
    model: ModelName = "smollm2",
    strategy: Annotated[str, in_panel("Model", "naive (the label alone) or cot (reasoning first).")] = "naive",
    calibration: Annotated[
        str, in_panel("Model", "none, batch or contextual: take out the model's preference for labels.")
    ] = "none",
    server: ServerOptions,
    limits: Limits,
    batch_size: BatchSize = None,
    store: StorePath = None,
    stream: Stream = False,
    rows_per_shard: RowsPerShard = 10_000,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """
    Give every row a machine label.

    The model runs in this process, or behind a server: --base-url http://localhost:8000/v1 --model NAME.
    """
    from act_hf.annotators import annotate as run

    options: dict[str, Any] = {"strategy": strategy, "calibration": calibration, "store": store} | limits.given()
    if stream:
        from act_hf.streams import annotate_stream, read_stream

        options |= {"rows_per_shard": rows_per_shard, "overwrite": overwrite, "batch_size": batch_size}
        rows = read_stream(source, split=split)
        asked = task.task(rows, "annotate")
        finish_shards(annotate_stream(rows, asked, server.load(model), shards_target(target), **options))
        return
    dataset = open_dataset(source, split, target, overwrite)
    asked = task.task(dataset, "annotate")
    finish(run(dataset, asked, server.load(model, store), batch_size=batch_size, **options), target, overwrite)


@spread
def criticize(
    *,
    source: Input,
    target: Output,
    model: ModelName = "minilm",
    strategy: Annotated[
        str,
        in_panel(
            "Model",
            "likelihood (how probable the model itself finds the label). Or ask it whether the label is wrong, and "
            "read the reply: naive, cot (reasoning first), mc (a grade), devil (arguing against the label first). Or "
            "ask and read the model's probabilities: logit, cot_logit (reasoning first), ppl (perplexity).",
        ),
    ] = "likelihood",
    calibration: Annotated[
        str,
        in_panel(
            "Model",
            "none, batch or (for likelihood) contextual: take out the critic's preference for labels; rank: keep the "
            "order alone.",
        ),
    ] = "none",
    server: ServerOptions,
    limits: Limits,
    batch_size: BatchSize = None,
    suffix: Suffix = "",
    store: StorePath = None,
    stream: Stream = False,
    rows_per_shard: RowsPerShard = 10_000,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """
    Estimate for every machine label the probability that it is wrong.

    Another model than the annotator finds more errors. It runs in this process, or behind a server (--base-url).
    """
    from act_hf.critics import criticize as run

    options: dict[str, Any] = {"strategy": strategy, "calibration": calibration, "suffix": suffix, "store": store}
    options |= limits.given()
    if stream:
        from act_hf.streams import criticize_stream, read_stream

        options |= {"rows_per_shard": rows_per_shard, "overwrite": overwrite, "batch_size": batch_size}
        rows = read_stream(source, split=split)
        finish_shards(criticize_stream(rows, server.load(model), shards_target(target), **options))
        return
    dataset = open_dataset(source, split, target, overwrite)
    finish(run(dataset, server.load(model, store), batch_size=batch_size, **options), target, overwrite)
