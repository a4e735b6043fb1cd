"""The data set in Argilla: made from the task, found again, completed where it was left half-made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError


if TYPE_CHECKING:
    import argilla

    from act_hf.task import Task

TEXT, IMAGE, QUESTION, REASONS = "text", "image", "question", "reasons"
"""Names of fields. What the columns are called is their title: Argilla takes few names, and its SDK fewer."""
LABEL, COMMENT = "label", "comment"
ERROR_PROB, PI, WAVE = "error_prob", "pi", "wave"

ORDER = f"metadata.{ERROR_PROB}.desc"
"""The most doubtful first, as the address of a page in Argilla has it."""

_VISIBLE = 20
"""Labels shown at once. The others are found by typing."""
_FEWEST_VISIBLE = 3
_LONGEST_LABEL = 200
_LONGEST_GUIDELINES = 10_000
_LONGEST_TITLE = 500


@dataclass(frozen=True)
class Schema:
    """What a data set of a task is made of, each with a name of its own."""

    fields: tuple[Any, ...]
    questions: tuple[Any, ...]
    metadata: tuple[Any, ...]

    @property
    def parts(self) -> tuple[Any, ...]:
        """All of it, in the order in which it is made."""
        return (*self.fields, *self.questions, *self.metadata)


def shown_columns(task: Task) -> dict[str, str]:
    """The fields that show the columns of the task, and which column each shows."""
    named = {IMAGE: task.image, TEXT: task.text, QUESTION: task.question}
    return {field: column for field, column in named.items() if column}


def schema_of(task: Task, client: argilla.Argilla) -> Schema:
    """
    What the data set of a task is made of.

    Raises:
        ACTError: for a label that is longer than Argilla takes.
    """
    import argilla as rg

    too_long = [label for label in task.labels if len(label) > _LONGEST_LABEL]
    if too_long:
        raise ACTError(
            f"Argilla takes labels of up to {_LONGEST_LABEL} characters, and {too_long[0][:60] + '…'!r} has "
            f"{len(too_long[0])}; rename it"
        )
    fields = [
        rg.ImageField(name, title=column[:_LONGEST_TITLE], required=False, _client=client)
        if name == IMAGE
        else rg.TextField(name, title=column[:_LONGEST_TITLE], required=False, use_markdown=False, client=client)
        for name, column in shown_columns(task).items()
    ]
    # Markdown, for what it can fold away; see records.folded, which leaves none of the rows' own in it.
    fields.append(rg.TextField(REASONS, title="Reasons", required=False, use_markdown=True, client=client))
    visible = min(_VISIBLE, len(task.labels)) if len(task.labels) >= _FEWEST_VISIBLE else None
    questions = [
        rg.LabelQuestion(LABEL, list(task.labels), title="Label", visible_labels=visible, client=client),
        rg.TextQuestion(COMMENT, title="Comment", required=False, use_markdown=False, client=client),
    ]
    metadata = [
        rg.FloatMetadataProperty(ERROR_PROB, title="Probability of an error", client=client),
        rg.FloatMetadataProperty(PI, title="Probability of being drawn", client=client),
        rg.IntegerMetadataProperty(WAVE, title="Wave", client=client),
    ]
    return Schema(tuple(fields), tuple(questions), tuple(metadata))


def guidelines(task: Task) -> str:
    """What people are told, from the task's instruction and language."""
    # The SDK reads a file where this is the name of one. It is none, whatever the instruction is.
    told = ["## What to decide", task.instruction]
    if task.language:
        told.append(f"The rows are in this language: {task.language}.")
    told.append(
        "## How\n\nChoose the label that is right, whatever is suggested, and submit. The suggestion is a machine's, "
        "and the rows that come first are those in which it is most in doubt. Skip a row that you cannot "
        "decide (discard). A comment is optional."
    )
    return "\n\n".join(told)[:_LONGEST_GUIDELINES]


def find_workspace(client: argilla.Argilla, name: str | None, *, make: bool) -> argilla.Workspace:
    """
    The workspace of that name.

    Args:
        client (`argilla.Argilla`): the connection.
        name (`str`, *optional*): may be left out where there is one alone.
        make (`bool`): makes it where it is missing.

    Raises:
        ACTError: where it is missing, naming those there are.
    """
    import argilla as rg

    there = {workspace.name or "": workspace for workspace in client.workspaces.list()}
    if name in there:
        return there[name]
    if name is None and len(there) == 1:
        return next(iter(there.values()))
    if name is not None and make:
        rg.Workspace(name, client=client).create()
        return next(workspace for workspace in client.workspaces.list() if workspace.name == name)
    wanted = "no workspace is named" if name is None else f"there is no workspace {name!r}"
    choices = f"; there is {', '.join(map(repr, sorted(there)))}" if there else ""
    raise ACTError(
        f"{wanted} (argilla:WORKSPACE/NAME){choices}. A new one is made with new_workspace=True (--new-workspace), "
        "by an owner"
    )


def find_dataset(client: argilla.Argilla, workspace: argilla.Workspace, name: str) -> argilla.Dataset | None:
    """The data set of that name as it is on the server, or `None`."""
    import argilla as rg

    models = [model for model in client.api.datasets.list(workspace.id) if model.name == name]
    return rg.Dataset.from_model(models[0], client=client).get() if models else None


def is_published(client: argilla.Argilla, dataset: argilla.Dataset) -> bool:
    """Whether all of the data set was made, so that it has records and people can see it."""
    return bool(client.api.datasets.get(dataset.id).status == "ready")


def open_dataset(
    client: argilla.Argilla, workspace: argilla.Workspace, name: str, task: Task, *, min_submitted: int | None
) -> argilla.Dataset:
    """
    The data set of that name, ready for records of the task: found, made, or completed where a push was stopped while
    it made it. Can be called again where it failed.

    Raises:
        ACTError: where a data set of that name is another one's.
    """
    import argilla as rg

    wanted = schema_of(task, client)
    dataset = find_dataset(client, workspace, name)
    if dataset is None:
        model = rg.Dataset(name, workspace=workspace, client=client).api_model()
        model.guidelines = guidelines(task)
        model.allow_extra_metadata = True
        model.distribution = rg.TaskDistribution(min_submitted=min_submitted or 1).to_dict()
        client.api.datasets.create(model)
        dataset = find_dataset(client, workspace, name)
        assert dataset is not None
    published = is_published(client, dataset)
    differ = differences(dataset, wanted, whole=published)
    if differ:
        raise ACTError(
            f"the data set {name!r} in the Argilla workspace {workspace.name!r} is another one's: "
            f"{'; '.join(differ)}. Push to a new name, such as argilla:{workspace.name}/{name}-2"
        )
    if not published:
        _complete(dataset, wanted, client)
        dataset.get()
    if min_submitted is not None and dataset.distribution.min_submitted != min_submitted:
        dataset.distribution = rg.TaskDistribution(min_submitted=min_submitted)
        dataset.update()
    return dataset


def _complete(dataset: argilla.Dataset, wanted: Schema, client: argilla.Argilla) -> None:
    there = {part.name for part in _parts(dataset)}
    for part in wanted.parts:
        if part.name not in there:
            part.dataset = dataset
            part.create()
    client.api.datasets.publish(dataset.id)


def _parts(dataset: argilla.Dataset) -> list[Any]:
    settings = dataset.settings
    return [*settings.fields, *settings.questions, *settings.metadata]


def differences(dataset: argilla.Dataset, wanted: Schema, *, whole: bool) -> list[str]:
    """
    In what a data set on the server is not one of the task, a line each. Titles may have been changed there.

    Args:
        dataset (`argilla.Dataset`): with its settings.
        wanted ([`Schema`]): of the task.
        whole (`bool`): whether what is missing counts, too.
    """
    there = {part.name: part for part in _parts(dataset)}
    ours = {part.name for part in wanted.parts}
    found = []
    for part in wanted.parts:
        other = there.get(part.name)
        if other is None:
            found += [f"it has no {_kind(part)} {part.name!r}"] if whole else []
        elif _kind(other) != _kind(part):
            found.append(f"its {part.name!r} is a {_kind(other)}, not a {_kind(part)}")
        elif part.name == LABEL:
            found += _labels_differ(other.labels, part.labels)
        elif getattr(part, "use_markdown", None) is False and other.use_markdown:
            found.append(f"its {part.name!r} shows Markdown, which rows could use")
    found += [
        f"it has the {_kind(part)} {part.name!r}, which has to be filled in"
        for part in [*dataset.settings.fields, *dataset.settings.questions]
        if part.name not in ours and part.required
    ]
    found += [f"it has the field {part.name!r}" for part in _other_columns(dataset, ours)]
    return found


def _other_columns(dataset: argilla.Dataset, ours: set[str]) -> list[Any]:
    """Fields of ours that this task has not: of a task with an image, say."""
    return [part for part in dataset.settings.fields if part.name in (TEXT, IMAGE, QUESTION) and part.name not in ours]


def _kind(part: Any) -> str:
    """The class's name in words, such as "label question"."""
    words = "".join(f" {sign.lower()}" if sign.isupper() else sign for sign in type(part).__name__)
    return words.strip()


def _labels_differ(there: list[str], wanted: list[str]) -> list[str]:
    more = [label for label in there if label not in wanted]
    fewer = [label for label in wanted if label not in there]
    said = [f"its labels have {_few(more)}, which the task has not"] if more else []
    return said + ([f"its labels have not {_few(fewer)}"] if fewer else [])


def _few(labels: list[str]) -> str:
    shown = ", ".join(repr(label[:60]) for label in labels[:5])
    return f"{shown} and {len(labels) - 5} more" if len(labels) > 5 else shown
