"""Before the money is spent: what a run will take, and who does it best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from act_hf.cli.options import Input, Limits, ServerOptions, Split, StorePath, TaskOptions, in_panel, spread
from act_hf.cli.shared import parse_budget, read_input, say
from act_hf.errors import ACTError


if TYPE_CHECKING:
    from collections.abc import Collection

    from act_hf.models.base import Model

_CHOICE = "MODEL, MODEL:STRATEGY or MODEL:STRATEGY:CALIBRATION"
CriticChoices = Annotated[
    list[str] | None,
    in_panel("Model", f"Who criticizes: {_CHOICE}. Once for each.", "--critic", metavar="CRITIC"),
]


@spread
def plan(
    *,
    source: Input,
    task: TaskOptions,
    annotator: Annotated[
        str | None,
        in_panel("Model", f"Who labels: {_CHOICE}. Leave it out where INPUT is labelled.", metavar="ANNOTATOR"),
    ] = None,
    critic: CriticChoices = None,
    server: ServerOptions,
    limits: Limits,
    pilot: Annotated[int, typer.Option(min=5, help="Rows that are asked about now.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the choice of these rows.")] = 0,
    store: StorePath = None,
    split: Split = None,
) -> None:
    """
    Say what annotate and criticize will cost and how long they will take, from a pilot on a few random rows.

    The pilot is paid for. Its answers are kept, and the run does not ask for them again.
    """
    from act_hf.annotators import STRATEGIES as ANNOTATING
    from act_hf.columns import LABEL
    from act_hf.critics.strategies import STRATEGIES as CRITICIZING
    from act_hf.planning import plan as run

    dataset = read_input(source, split)
    if annotator is None and LABEL not in dataset.column_names:
        raise ACTError("plan: give --annotator MODEL, or a data set that has labels of a machine already")
    longest = {} if limits.max_tokens is None else {"max_tokens": limits.max_tokens}
    said = run(
        dataset,
        task.task(dataset, "plan") if task.given else None,
        annotator=None if annotator is None else chosen(annotator, ANNOTATING, server, longest),
        critics=[chosen(one, CRITICIZING, server, longest) for one in critic or []],
        pilot=pilot,
        store=store,
        seed=seed,
        max_calls=limits.max_calls,
        max_cost=limits.max_cost,
    )
    say(said.summary())


@spread
def compare(
    *,
    source: Input,
    gold: Annotated[str, typer.Option(help="The column with the true labels.")] = "label",
    task: TaskOptions,
    annotator: Annotated[
        list[str], in_panel("Model", f"Who labels: {_CHOICE}. Once for each.", "--annotator", metavar="ANNOTATOR")
    ],
    critic: CriticChoices = None,
    no_panel: Annotated[
        bool, in_panel("Model", "Leave out the critic made of the other annotators' labels.", "--no-panel")
    ] = False,
    server: ServerOptions,
    limits: Limits,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Rows that people can look at: a number (200) or a share (0.1 or 10%). Once for each; pairs are "
            "ranked by the first. Default: 10% and 20%."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="An .html page with pictures, or a .png with these alone, to write.")
    ] = None,
    store: StorePath = None,
    split: Split = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out where it exists.")] = False,
) -> None:
    """
    Find out who should annotate and who should criticize, on 100 to 300 random rows with true labels.

    Every annotator labels all rows, every critic judges the labels of each. All on one server share its options.
    """
    from act_hf.annotators import STRATEGIES as ANNOTATING
    from act_hf.comparison import compare as run
    from act_hf.comparison.facts import ENDINGS
    from act_hf.critics.strategies import STRATEGIES as CRITICIZING
    from act_hf.files import check_replaceable

    if out is not None and out.suffix not in ENDINGS:
        raise ACTError(f"a comparison is saved as {' or '.join(ENDINGS)}, not as {out.name!r}")
    if out is not None:
        check_replaceable(out, overwrite=overwrite)
    dataset = read_input(source, split)
    if task.labels is None and task.label_column is None:
        task = replace(task, label_column=gold)
    longest = {} if limits.max_tokens is None else {"max_tokens": limits.max_tokens}
    made = run(
        dataset,
        task.task(dataset, "compare"),
        gold=gold,
        annotators={name: chosen(name, ANNOTATING, server, longest) for name in annotator},
        critics={name: chosen(name, CRITICIZING, server, longest) for name in critic or []},
        panel=not no_panel,
        budgets=[parse_budget(one) for one in budget or ("10%", "20%")],
        store=store,
        max_calls=limits.max_calls,
        max_cost=limits.max_cost,
    )
    say(made.summary())
    if out is not None:
        made.save(out)
        say(f"\ncomparison in {out}")


def chosen(
    text: str, strategies: Collection[str], server: ServerOptions, more: dict[str, Any]
) -> tuple[Model, dict[str, Any]]:
    """The model and the options that `MODEL:STRATEGY:CALIBRATION` names. A model's name may have colons of its own."""
    from act_hf.critics import CALIBRATIONS

    if server.batch:
        raise ACTError(
            "plan and compare ask a few rows, and by batch that takes up to a day; leave out --batch here. Their "
            "answers are kept, and by batch the rest costs half"
        )
    model, options = text, dict(more)
    head, _, last = text.rpartition(":")
    before, _, middle = head.rpartition(":")
    if before and middle in strategies and last in CALIBRATIONS:
        model, options = before, options | {"strategy": middle, "calibration": last}
    elif head and last in strategies:
        model, options = head, options | {"strategy": last}
    return server.load_mixed(model), options
