"""Which rows people look at."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from act_hf.cli.options import Input, Output, Overwrite, Split, Stream
from act_hf.cli.shared import finish, finish_shards, open_dataset, parse_budget, say, shards_target


def sample(
    source: Input,
    target: Output,
    budget: Annotated[str, typer.Option(help="How many rows people look at: a number (200) or a share (0.1 or 10%).")],
    rule: Annotated[str, typer.Option(help="exponential, threshold, normalised or root.")] = "exponential",
    mix: Annotated[float, typer.Option(help="Share of the budget drawn uniformly, which the estimates need.")] = 0.1,
    floor: Annotated[float, typer.Option(help="The least probability with which a row is drawn.")] = 0.0,
    groups: Annotated[
        str | None, typer.Option(help="A column, such as act_label: each of its values gets a budget of its own.")
    ] = None,
    allocation: Annotated[
        str, typer.Option(help="How the groups share the budget: proportional (to their rows), equal, or errors.")
    ] = "proportional",
    wave: Annotated[
        int, typer.Option(help="2 or more: further rows, once those of the waves before are reviewed.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    failures: Annotated[str, typer.Option(help="raise, review or skip: what to do with rows that failed.")] = "raise",
    stream: Stream = False,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Choose the rows that people look at."""
    from act_hf.records import stage_records
    from act_hf.sampling import sample as run

    options: dict[str, Any] = {"rule": rule, "mix": mix, "floor": floor, "seed": seed, "failures": failures}
    options |= {"groups": groups, "allocation": allocation, "wave": wave}
    if stream:
        from act_hf.streams import sample_stream
        from act_hf.streams.shards import open_shards

        options |= {"budget": parse_budget(budget), "overwrite": overwrite}
        folder = sample_stream(source, shards_target(target), **options)
        finish_shards(folder)
        _say_if_nobody_looks(open_shards(folder).records[-1])
        return
    drawn = run(open_dataset(source, split, target, overwrite), budget=parse_budget(budget), **options)
    finish(drawn, target, overwrite)
    _say_if_nobody_looks(stage_records(drawn)[-1])


def calibrate(
    source: Input,
    target: Output,
    method: Annotated[
        str, typer.Option(help="logistic (some 20 reviewed rows), isotonic (hundreds), or model (an error model).")
    ] = "logistic",
    feature: Annotated[
        list[str] | None,
        typer.Option(help="For model: a further column of numbers, such as an embedding; repeatable."),
    ] = None,
    words: Annotated[bool, typer.Option(help="For model: whether it sees the words of the rows.")] = True,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Fit the error probabilities to the reviewed rows, before a further wave of sample."""
    from act_hf.calibration import calibrate as run

    dataset = open_dataset(source, split, target, overwrite)
    finish(run(dataset, method=method, features=feature or (), words=words, seed=seed), target, overwrite)


def _say_if_nobody_looks(record: dict[str, Any]) -> None:
    if not record["selected"]:
        budget = f"the budget is {record['budget']} of {record['rows']} rows"
        say(f"! no row is selected: there is nothing to review ({budget})")
