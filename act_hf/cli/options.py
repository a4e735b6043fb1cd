"""The options that commands share, in groups: each a dataclass whose fields become options of their own."""

from __future__ import annotations

import csv
import dataclasses
import functools
import inspect
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datasets import Dataset, IterableDataset

    from act_hf.models.base import Model
    from act_hf.task import Task

DATA = "a folder, a .parquet, .csv or .jsonl file, or a Hub id (user/name[@revision][:configuration])"
_OUT = "a folder, a .parquet, .csv or .jsonl file, or hf://user/name[@branch][:configuration]"
KEY = "ACT_HF_API_KEY"

Input = Annotated[str, typer.Argument(metavar="INPUT", help=f"The data set: {DATA}.")]
Output = Annotated[str, typer.Argument(metavar="OUTPUT", help=f"Where it goes: {_OUT}.")]
Split = Annotated[str | None, typer.Option(help="Which split of INPUT, where it has several.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT where it exists.")]
Gold = Annotated[str | None, typer.Option(help="A column with the true labels, where there is one.")]
Suffix = Annotated[str, typer.Option(help="Added to the columns' names, for a second critic.")]
StorePath = Annotated[
    Path | None,
    typer.Option("--store", help="The file that keeps every answer; a run over it pays for nothing twice."),
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help="smollm2, minilm, encoder:ID, or a Hub id, folder or .gguf file of a chat model. With --base-url or "
        "--provider: the model's name there.",
        rich_help_panel="Model",
    ),
]


def in_panel(panel: str, help: str, *names: str, **more: Any) -> Any:
    """An option that the help shows in a group."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


def key_in(variable: str) -> str:
    """How the key in an environment variable is told to a model or a place: it looks it up itself."""
    if not os.environ.get(variable):  # not repeated: it may be a key that was given by mistake
        raise ACTError("--api-key-env: there is no environment variable of that name; give a name, never the key")
    return f"${variable}"


Stream = Annotated[
    bool,
    in_panel(
        "Larger than memory",
        "Read INPUT as a stream and write OUTPUT, a folder, as parquet shards. The same command goes on after a stop.",
        "--stream",
    ),
]
RowsPerShard = Annotated[int, in_panel("Larger than memory", "With --stream: rows in each shard.", min=1)]


@dataclass(frozen=True)
class TaskOptions:
    """What is labelled."""

    text: Annotated[str | None, in_panel("Task", "The column with the text.")] = None
    question: Annotated[str | None, in_panel("Task", "The column with a question about it.")] = None
    image: Annotated[str | None, in_panel("Task", "The column with the image.")] = None
    labels: Annotated[
        str | None,
        in_panel("Task", "The label names, with commas between them; a name with a comma in quotes: 'a,\"b, c\"'."),
    ] = None
    label_column: Annotated[
        str | None, in_panel("Task", "Instead of --labels: a column whose names or values are the labels.")
    ] = None
    instruction: Annotated[str | None, in_panel("Task", "What has to be decided, in a sentence.")] = None
    examples: Annotated[
        str | None, in_panel("Task", f"Solved rows to show the model, with a column 'label': {DATA}.")
    ] = None
    language: Annotated[str | None, in_panel("Task", "The language of the rows.")] = None

    def task(self, dataset: Dataset | IterableDataset, stage: str) -> Task:
        """The task, after checking that `dataset` fits it."""
        from datasets import IterableDataset

        from act_hf.task import Task

        shown = {name: getattr(self, name) for name in ("text", "question", "image", "language")}
        if self.instruction:
            shown["instruction"] = self.instruction
        names = _label_names(dataset, self.labels, self.label_column, stage)
        task = Task(labels=tuple(names), **shown, examples=tuple(_examples(self.examples, shown)))
        if not isinstance(dataset, IterableDataset):  # annotate_stream checks one of these
            task.check(dataset, stage=stage)
        return task

    @property
    def given(self) -> bool:
        """Whether the user said anything about the task."""
        return self != TaskOptions()


@dataclass(frozen=True)
class ServerOptions:
    """How a model behind a server is reached."""

    base_url: Annotated[
        str | None,
        in_panel("Server", "The address of a server that speaks OpenAI's API, such as http://localhost:8000/v1."),
    ] = None
    provider: Annotated[
        str | None, in_panel("Server", "Instead of --base-url: a Hugging Face provider, such as together, or auto.")
    ] = None
    server: Annotated[
        str | None,
        in_panel(
            "Server",
            "openai (any), or vllm, llama.cpp or tgi, of which more can be asked. Default: openai.",
        ),
    ] = None
    no_logprobs: Annotated[
        bool, in_panel("Server", "It gives no log-probabilities: labels come without probabilities.", "--no-logprobs")
    ] = False
    images: Annotated[
        bool, in_panel("Server", "The model sees images: needed where the task has an image column.", "--images")
    ] = False
    concurrency: Annotated[int | None, in_panel("Server", "Most requests at once. Default: 32.", min=1)] = None
    requests_per_minute: Annotated[float | None, in_panel("Server", "Most requests sent in a minute.")] = None
    timeout: Annotated[float | None, in_panel("Server", "Seconds for a request. Default: 120.")] = None
    price_in: Annotated[
        float | None, in_panel("Server", "US dollars per million tokens read, where they are not known.", min=0)
    ] = None
    price_out: Annotated[float | None, in_panel("Server", "US dollars per million tokens written.", min=0)] = None
    api_key_env: Annotated[
        str | None,
        in_panel("Server", f"The environment variable with the API key. Default: {KEY}, where it is set."),
    ] = None
    batch: Annotated[
        bool, in_panel("Server", "Ask by batch: half the price, within a day. Needs --base-url.", "--batch")
    ] = False
    batch_requests: Annotated[int | None, in_panel("Server", "Most requests in a batch. Default: 50,000.", min=1)] = (
        None
    )
    no_wait: Annotated[
        bool,
        in_panel(
            "Server",
            "With --batch: submit, and end with exit status 3; the same command takes the answers later.",
            "--no-wait",
        ),
    ] = False

    def load(self, name: str, store: Path | None = None) -> Model:
        """
        The model of that name: behind the server, or in this process where no server is named. What is submitted by
        batch is written down beside `store`.
        """
        from act_hf.cli.shared import threads
        from act_hf.models import load_model

        remote = self.base_url is not None or self.provider is not None
        given = {
            "server": self.server,
            "logprobs": False if self.no_logprobs else None,
            "images": self.images or None,
            "concurrency": self.concurrency,
            "requests_per_minute": self.requests_per_minute,
            "timeout": self.timeout,
            "prices": self._prices(),
            "token": self._token(remote),
            **self._by_batch(store),
        }
        options = {option: value for option, value in given.items() if value is not None}
        return load_model(name, base_url=self.base_url, provider=self.provider, threads=threads(), **options)

    def load_mixed(self, name: str, store: Path | None = None) -> Model:
        """The same among several models, of which encoders are always in this process: servers do not have them."""
        from act_hf.models import is_encoder

        return ServerOptions().load(name) if is_encoder(name) else self.load(name, store)

    def _by_batch(self, store: Path | None) -> dict[str, Any]:
        if not self.batch:
            for option, given in (("--no-wait", self.no_wait), ("--batch-requests", self.batch_requests)):
                if given:
                    raise ACTError(f"{option} is for a server that is asked by batch; give --batch too")
            return {}
        beside = None if store is None else store.with_name(f"{store.name}.batches")
        chosen = {"wait": False if self.no_wait else None, "max_requests": self.batch_requests, "journal": beside}
        return {"batch": True, **chosen}

    def _prices(self) -> tuple[float, float] | None:
        if (self.price_in is None) != (self.price_out is None):
            raise ACTError("give --price-in and --price-out together, in US dollars per million tokens")
        return None if self.price_in is None or self.price_out is None else (self.price_in, self.price_out)

    def _token(self, remote: bool) -> str | None:
        if self.api_key_env is None:
            return f"${KEY}" if remote and os.environ.get(KEY) else None
        return key_in(self.api_key_env)


@dataclass(frozen=True)
class Limits:
    """When a run stops by itself."""

    max_calls: Annotated[
        int | None, in_panel("Limits", "Stop, with exit status 3, when so many requests were sent.", min=0)
    ] = None
    max_cost: Annotated[
        float | None, in_panel("Limits", "Stop, with exit status 3, before so many US dollars are passed.", min=0)
    ] = None
    max_tokens: Annotated[
        int | None,
        in_panel("Limits", "The longest reply, in tokens. Default: 160, or 24 where a critic does not reason.", min=1),
    ] = None

    def given(self) -> dict[str, Any]:
        """Those that the user set, as arguments of a stage."""
        return {name: value for name, value in vars(self).items() if value is not None}


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the fields of each dataclass among its parameters as options of their own."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _fields(groups[parameter.name])
        else:
            one = parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            parameters.append(one)

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        command(**values)

    return signed(run, parameters)


def signed(command: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> Callable[..., None]:
    """`command`, which typer takes for one with these parameters."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _fields(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(field.name, keyword, default=field.default, annotation=hints[field.name])
        for field in fields(kind)
    ]


def _label_names(
    dataset: Dataset | IterableDataset, labels: str | None, column: str | None, stage: str
) -> Sequence[str]:
    from datasets import IterableDataset

    from act_hf.columns import class_names, feature_names, require, require_names

    if (labels is None) == (column is None):
        raise ACTError("give either --labels a,b,c or --label-column NAME")
    if labels is not None:
        return _listed(labels)
    assert column is not None
    if isinstance(dataset, IterableDataset):
        require_names(dataset.features or (), [column], stage=stage)
        return feature_names(dataset.features, column)
    require(dataset, [column], stage=stage)
    if getattr(dataset.features[column], "dtype", None) in ("string", "large_string"):
        return sorted({value for value in dataset[column][:] if value})
    if not hasattr(dataset.features[column], "names"):
        kind = dataset.features[column]
        raise ACTError(f"--label-column {column!r} holds {kind}, not names; give --labels a,b,c instead")
    return class_names(dataset, column)


def _listed(labels: str) -> list[str]:
    """Names with commas between them, and those in quotes that have commas themselves."""
    try:
        lines = list(csv.reader(labels.splitlines(), skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ACTError(f"--labels {labels!r}: the quotes do not fit ({error})") from error
    return [name.strip() for line in lines for name in line if name.strip()]


def _examples(source: str | None, shown: dict[str, str | None]) -> list[Any]:
    from act_hf.columns import require
    from act_hf.files import read_dataset
    from act_hf.task import Example

    if source is None:
        return []
    solved = read_dataset(source)
    names = {part: shown[part] for part in ("text", "question") if shown[part]}
    require(solved, ["label", *(name for name in names.values() if name)], stage="--examples")
    kind = solved.features["label"]
    spelled = kind.int2str if hasattr(kind, "int2str") else str
    parts = [{part: row[name] for part, name in names.items()} for row in solved]
    return [Example(spelled(row["label"]), **part) for row, part in zip(solved, parts, strict=True)]
