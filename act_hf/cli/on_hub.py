"""The stages from Hub id to Hub id, with the flags of public uv scripts: what the scripts in hub_scripts/ run."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Collection
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from act_hf.cli import choice, labels, publishing, results, run
from act_hf.cli.options import in_panel, signed, spread
from act_hf.cli.people import pull, push
from act_hf.cli.shared import read_input, say
from act_hf.hub import Address, parse_address
from act_hf.review.places import ARGILLA


if TYPE_CHECKING:
    from collections.abc import Iterator

Command = Callable[..., None]

_ID = "user/name[@revision][:configuration]"
_WRITTEN = "user/name[@branch][:configuration]"
InputDataset = Annotated[str, typer.Argument(metavar="INPUT_DATASET", help=f"A data set on the Hub: {_ID}.")]
OutputDataset = Annotated[str, typer.Argument(metavar="OUTPUT_DATASET", help=f"Where it goes: {_WRITTEN}.")]
OutputModel = Annotated[str, typer.Argument(metavar="OUTPUT_MODEL", help="Where it goes: user/name[@branch].")]
Review = Annotated[
    str,
    typer.Argument(
        metavar="REVIEW", help=f"Where people review: a data set user/name for a Space, or {ARGILLA}WORKSPACE/NAME."
    ),
]
OutputConfig = Annotated[str | None, in_panel("Hub", "The configuration of OUTPUT_DATASET.")]
Model = Annotated[
    str,
    in_panel(
        "Model", "A chat model on the Hub, or encoder:ID. With --base-url or --provider: its name there.", "--model"
    ),
]
Base = Annotated[str, in_panel("Model", "What is trained further: a text encoder or an image model on the Hub.")]
VllmModel = Annotated[str, in_panel("Model", "A chat model on the Hub, or a folder.", "--model")]
VllmOptions = Annotated[
    list[str] | None,
    typer.Argument(metavar="-- VLLM_OPTIONS", help="For vllm serve, as in: -- --max-model-len 8192"),
]

_REACHING = {"provider": None, "server": "vllm", "batch": False, "batch_requests": None, "no_wait": False}
"""How a model in the job is reached, beside its address and key."""


@dataclass(frozen=True)
class FromHub:
    """Which part of INPUT_DATASET is read."""

    config: Annotated[str | None, in_panel("Hub", "The configuration of INPUT_DATASET.")] = None
    split: Annotated[str | None, in_panel("Hub", "Its split, where it has several.")] = None
    revision: Annotated[str | None, in_panel("Hub", "Its branch, pull request, tag or commit.")] = None

    def address(self, id: str) -> Address:
        """What is read."""
        return parse_address(id).given(revision=self.revision, config=self.config)


@dataclass(frozen=True)
class SomeRows:
    """Which of its rows are taken."""

    max_samples: Annotated[int | None, in_panel("Hub", "Take only so many rows, the first ones.", min=1)] = None
    shuffle: Annotated[bool, in_panel("Hub", "Shuffle the rows before that.", "--shuffle")] = False
    seed: Annotated[int, in_panel("Hub", "Of the shuffle.")] = 0

    @contextmanager
    def taken(self, source: Address, split: str | None) -> Iterator[tuple[str, str | None]]:
        """What a command reads, and the split of it: the data set itself, or a folder with the rows chosen."""
        if self.max_samples is None and not self.shuffle:
            yield str(source), split
            return
        rows = read_input(str(source), split)
        rows = rows.shuffle(seed=self.seed) if self.shuffle else rows
        rows = rows.select(range(min(len(rows), self.max_samples or len(rows))))
        with tempfile.TemporaryDirectory() as folder:
            rows.save_to_disk(f"{folder}/rows")
            yield f"{folder}/rows", None


@dataclass(frozen=True)
class ToHub:
    """How what is made is pushed."""

    private: Annotated[bool, in_panel("Hub", "Who may read it, where it is not there yet.", "--private/--public")] = (
        True
    )
    create_pr: Annotated[bool, in_panel("Hub", "As a pull request; nothing is replaced.", "--create-pr")] = False
    overwrite: Annotated[bool, in_panel("Hub", "Replace what is there.", "--overwrite")] = False


def main(command: Command, text: str | None) -> None:
    """Runs a command of this file as a script, whose docstring is `text`."""
    run(script_of(command, text))


def script_of(command: Command, text: str | None) -> typer.Typer:
    """The script that [`main`] runs."""
    script = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
    script.command(help=text)(command)
    return script


def _with_options_of(stage: Command, *, but: Collection[str]) -> Callable[[Command], Command]:
    """
    Makes a command of a function whose `options` are the parameters of `stage`: other than those that it has itself,
    alone or in a group, and those in `but`.
    """

    def made(command: Command) -> Command:
        own = [one for one in _parameters(command) if one.kind is not inspect.Parameter.VAR_KEYWORD]
        known = {*but, *(one.name for one in own), *(name for one in own for name in _fields(one.annotation))}
        inherited = [one for one in _parameters(stage) if one.name not in known]
        return spread(signed(command, own + [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in inherited]))

    return made


def _parameters(command: Command) -> list[inspect.Parameter]:
    hints = get_type_hints(command, include_extras=True)
    return [one.replace(annotation=hints[one.name]) for one in inspect.signature(command).parameters.values()]


def _fields(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)] if is_dataclass(kind) else []


def _data_set(stage: Command, source: str, split: str | None, target: Address, to: ToHub, **options: Any) -> None:
    """Runs a stage that makes a data set, and pushes that."""
    from act_hf.files import read_dataset
    from act_hf.hub.pushing import check_push, push_dataset

    check_push(target, **vars(to), split=split or "train")  # before the work
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/{target.id.partition('/')[2]}"
        stage(source=source, target=made, split=split, overwrite=False, **options)
        say(f"pushed: {push_dataset(read_dataset(made), target, **vars(to))}")


def _labelling(stage: Command) -> Command:
    """A stage that rows can be chosen for: later on, a choice would spoil the probabilities of the draw."""

    @_with_options_of(stage, but=("target",))
    def command(
        *,
        input_dataset: InputDataset,
        output_dataset: OutputDataset,
        source: FromHub,
        model: Model,
        rows: SomeRows,
        output_config: OutputConfig = None,
        to: ToHub,
        **options: Any,
    ) -> None:
        target = parse_address(output_dataset).given(config=output_config)
        with rows.taken(source.address(input_dataset), source.split) as (read, split):
            _data_set(stage, read, split, target, to, model=model, **options)

    return command


annotate = _labelling(labels.annotate)
criticize = _labelling(labels.criticize)


@_with_options_of(choice.sample, but=("target",))
def sample(
    *,
    input_dataset: InputDataset,
    output_dataset: OutputDataset,
    source: FromHub,
    output_config: OutputConfig = None,
    to: ToHub,
    **options: Any,
) -> None:
    """Chooses the rows that people look at."""
    target = parse_address(output_dataset).given(config=output_config)
    _data_set(choice.sample, str(source.address(input_dataset)), source.split, target, to, **options)


@_with_options_of(push, but=("overwrite",))
def push_review(*, input_dataset: InputDataset, place: Review, source: FromHub, **options: Any) -> None:
    """Hands the rows drawn to people."""
    read = str(source.address(input_dataset))
    push(source=read, place=_place(place), split=source.split, overwrite=False, **options)


@_with_options_of(pull, but=("target",))
def pull_review(
    *,
    input_dataset: InputDataset,
    place: Review,
    output_dataset: OutputDataset,
    source: FromHub,
    output_config: OutputConfig = None,
    to: ToHub,
    **options: Any,
) -> None:
    """Takes the answers back."""
    target = parse_address(output_dataset).given(config=output_config)
    read = str(source.address(input_dataset))
    _data_set(pull, read, source.split, target, to, place=_place(place), **options)


@_with_options_of(results.train, but=("target",))
def train(
    *, input_dataset: InputDataset, output_model: OutputModel, base: Base, source: FromHub, to: ToHub, **options: Any
) -> None:
    """Trains a model, and pushes it."""
    from act_hf.hub.models import check_model_push, push_model

    read, target = str(source.address(input_dataset)), parse_address(output_model)
    check_model_push(target, **vars(to))  # before the work
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/{target.id.partition('/')[2]}"
        results.train(source=read, target=made, base=base, split=source.split, overwrite=False, **options)
        say(f"pushed: {push_model(made, target, dataset=read, **vars(to))}")


@spread
def publish(
    *,
    input_dataset: InputDataset,
    output_dataset: OutputDataset,
    source: FromHub,
    output_config: OutputConfig = None,
    model: Annotated[
        str | None, in_panel("Hub", "A model trained on it, user/name: it becomes the model OUTPUT_DATASET too.")
    ] = None,
    to: ToHub,
) -> None:
    """Copies the outcome to where others find it."""
    target = parse_address(output_dataset).given(config=output_config)
    with _downloaded(model) as folder:
        publishing.publish(
            source=str(source.address(input_dataset)),
            target=str(target),
            model=folder,
            create_pr=to.create_pr,
            public=not to.private,
            split=source.split,
            overwrite=to.overwrite,
        )


@contextmanager
def _downloaded(model: str | None) -> Iterator[Path | None]:
    """A folder with the files of a model on the Hub, but for its card, which is written anew."""
    from huggingface_hub import snapshot_download

    from act_hf.hub.faults import explained

    if model is None:
        yield None
        return
    address = parse_address(model)
    with tempfile.TemporaryDirectory() as folder:
        with explained("cannot read", address, kind="model"):
            snapshot_download(address.id, revision=address.revision, local_dir=folder, ignore_patterns=["README.md"])
        yield Path(folder)


def _place(text: str) -> str:
    return text if text.startswith(ARGILLA) else str(parse_address(text))


def _served(command: Command) -> Command:
    """The same, by a model that vLLM serves for as long as it is needed."""

    @_with_options_of(command, but=("base_url", "api_key_env", *_REACHING))
    def with_vllm(
        *,
        input_dataset: InputDataset,
        output_dataset: OutputDataset,
        vllm: VllmOptions = None,
        model: VllmModel,
        output_config: OutputConfig = None,
        to: ToHub,
        **options: Any,
    ) -> None:
        from act_hf.hub.pushing import check_push
        from act_hf.models.vllm import KEY, vllm_server

        check_push(parse_address(output_dataset).given(config=output_config), **vars(to))  # it loads for minutes
        with vllm_server(model, vllm or ()) as url:
            given = options | vars(to) | {"input_dataset": input_dataset, "output_dataset": output_dataset}
            given |= {"output_config": output_config, "model": model, "base_url": url, "api_key_env": KEY}
            command(**given, **_REACHING)

    return with_vllm


annotate_vllm = _served(annotate)
criticize_vllm = _served(criticize)
