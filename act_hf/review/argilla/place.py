"""Argilla as a place to review."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from act_hf import columns
from act_hf.errors import ACTError
from act_hf.human_labels import with_human_ids
from act_hf.records import recorded_task
from act_hf.review.argilla.answers import Answered, pulled, read_all
from act_hf.review.argilla.records import agent_of, batches, record_of
from act_hf.review.argilla.schema import ORDER, find_dataset, find_workspace, is_published, open_dataset
from act_hf.review.argilla.server import address, connected, persist, secret
from act_hf.review.places import Pulled, Pushed


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import argilla
    from datasets import Dataset
    from tqdm.auto import tqdm

    from act_hf.review.rows import ReviewRows

_PAGE, _PAGE_OF_IMAGES = 200, 16


@dataclass(frozen=True)
class Progress:
    """
    What Argilla counts.

    Args:
        rows (`int`): all of them there.
        done (`int`): those that as many people answered as were asked for.
        people (`dict` of `str` to `dict`): by name, how many answers are `submitted`, `draft` and `discarded`.
    """

    rows: int
    done: int
    people: dict[str, dict[str, int]]

    @property
    def pending(self) -> int:
        """Rows that people are still asked for."""
        return self.rows - self.done

    def __str__(self) -> str:
        who = "; ".join(f"{name} {_counted(own)}" for name, own in sorted(self.people.items()) if any(own.values()))
        return f"Argilla: {self.done} of {self.rows} rows done, {self.pending} pending" + (f" ({who})" if who else "")


@dataclass
class Argilla:
    """
    Review in a data set of an Argilla server (2.x), on its SDK (`pip install 'act_hf[argilla]'`).

    A push makes the data set from the task, the machine label as a suggestion, what the models said folded away, and
    the rows sorted by doubt. Everybody in the workspace sees every row until as many have answered it as were asked
    for. A pull takes what was submitted.

    Args:
        dataset (`str`): the name of the data set there.
        workspace (`str`, *optional*): where it is. May be left out where there is one workspace alone.
        api_url (`str`, *optional*): the address of the server. Defaults to `$ARGILLA_API_URL`.
        api_key (`str`, *optional*): the key of an owner, or of an admin of the workspace, or `"$NAME"` for the one in
            the environment variable NAME. Defaults to `"$ARGILLA_API_KEY"`.
        min_submitted (`int`, *optional*): how many people have to answer a row. 1 in a new data set; one that is there
            keeps its own unless this is given.
        assign (sequence of `str`, *optional*): users who are to answer. They are let into the workspace; only an owner
            can do that.
        new_workspace (`bool`, *optional*, defaults to `False`): makes the workspace where it is missing, as an owner
            can.
        patience (`float`, *optional*, defaults to 20): seconds for which a request is repeated when the server went
            away in the middle.

    Raises:
        ACTError: for a name, an address or a number that will not do.
    """

    dataset: str
    workspace: str | None = None
    api_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    min_submitted: int | None = None
    assign: Sequence[str] = ()
    new_workspace: bool = False
    patience: float = 20.0
    _page: str | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.dataset.strip() or self.workspace == "":
            raise ACTError("an Argilla data set is written argilla:NAME or argilla:WORKSPACE/NAME")
        if self.min_submitted is not None and self.min_submitted < 1:
            raise ACTError(f"min_submitted={self.min_submitted}: at least 1 person has to answer a row")
        if isinstance(self.assign, str):
            raise ACTError(f"assign is a list of user names, not the text {self.assign!r}")
        self._url = address(self.api_url)

    @property
    def name(self) -> str:
        """For records: no address and no key."""
        return "argilla " + (f"{self.workspace}/{self.dataset}" if self.workspace else self.dataset)

    @property
    def final(self) -> bool:
        """People change their own answers there, and nobody else's."""
        return True

    @property
    def how(self) -> str:
        """What people do, with the page where the most doubtful row comes first."""
        return f"answer at {self._page or self._url}"

    def push(self, rows: ReviewRows) -> Pushed:
        """
        Adds the rows; those that are there get the suggestion and error probability of now, and keep their answers.

        Raises:
            ACTError: for a data set of that name that is another one's, a workspace or user that does not exist, a key
                that may not do this, and a server that does not answer; then a part of the rows may be there, and the
                same push again completes it.
        """
        with connected(self._url, secret(self.api_key)) as client:
            workspace = self._try(lambda: find_workspace(client, self.workspace, make=self.new_workspace))
            self.workspace = workspace.name
            if self.assign:
                self._try(lambda: let_in(client, workspace, self.assign))
            dataset = self._try(
                lambda: open_dataset(client, workspace, self.dataset, rows.task, min_submitted=self.min_submitted)
            )
            self._page = f"{self._url}/dataset/{dataset.id}/annotation-mode?sort={ORDER}"
            return self._send(client, dataset, rows)

    def _send(self, client: argilla.Argilla, dataset: argilla.Dataset, rows: ReviewRows) -> Pushed:
        agent = agent_of(rows.annotator)
        before = self._try(lambda: count_records(client, dataset))
        with _bar(len(rows), "push") as bar:
            for batch in batches(record_of(row, rows.task, agent=agent) for row in rows):
                for record in batch:
                    record.dataset = dataset
                models = [record.api_model() for record in batch]
                # An upsert by act_id: again, it doubles nothing.
                self._try(partial(client.api.records.bulk_upsert, dataset.id, models))
                bar.update(len(batch))
        # The server does not say which were new, and of a request that was repeated it could not.
        new = max(0, self._try(lambda: count_records(client, dataset)) - before)
        return Pushed(new=new, there=len(rows) - new)

    def pull(self, dataset: Dataset) -> Pulled:
        """
        What was submitted so far. What is not taken is in the notes: drafts, discarded rows, rows that are gone.

        Raises:
            ACTError: for a data set or workspace that does not exist, a key that may not do this, and a server that
                does not answer.
        """
        with connected(self._url, secret(self.api_key)) as client:
            found = self._found(client)
            size = _PAGE_OF_IMAGES if recorded_task(dataset).image else _PAGE
            waiting = waiting_ids(dataset)
            with _bar(len(waiting), "pull") as bar:
                records = read_all(self._pages(client, found, size, bar), size=size, begin=bar.reset)
            answers = pulled(records, self._try(lambda: people_of(client, found)))
        gone = len(waiting - {record.act_id for record in records})
        lost = (f"{gone} rows without a label are not there: not pushed, or deleted; push again",) if gone else ()
        return Pulled(answers.responses, answers.notes + lost)

    def _pages(
        self, client: argilla.Argilla, dataset: argilla.Dataset, size: int, bar: tqdm[Any]
    ) -> Callable[[int], list[Answered]]:
        def page(start: int) -> list[Answered]:
            models = self._try(
                lambda: client.api.records.list(
                    dataset.id, offset=start, limit=size, with_suggestions=False, with_responses=True
                )
            )
            bar.update(len(models) - bool(start))
            return [Answered(model.id, str(model.external_id), tuple(model.responses or ())) for model in models]

        return page

    def progress(self) -> Progress:
        """
        How far people are, as Argilla counts it.

        Raises:
            ACTError: as for a pull.
        """
        with connected(self._url, secret(self.api_key)) as client:
            found = self._found(client)
            counted = self._try(lambda: found.progress(with_users_distribution=True))
        return Progress(
            rows=counted["total"],
            done=counted["completed"],
            people={
                who: {status: own["completed"][status] + own["pending"][status] for status in own["pending"]}
                for who, own in counted["users"].items()
            },
        )

    def _found(self, client: argilla.Argilla) -> argilla.Dataset:
        """The data set, which has to be there."""
        workspace = self._try(lambda: find_workspace(client, self.workspace, make=False))
        self.workspace = workspace.name
        dataset = self._try(lambda: find_dataset(client, workspace, self.dataset))
        if dataset is None:
            names = [repr(model.name) for model in client.api.datasets.list(workspace.id)]
            there = f"there is {', '.join(names)}" if names else "it is empty"
            raise ACTError(f"no data set {self.dataset!r} in the Argilla workspace {workspace.name!r}; {there}")
        if not self._try(lambda: is_published(client, dataset)):
            raise ACTError(f"{self.name}: the push was stopped before the data set was made; push again")
        self._page = f"{self._url}/dataset/{dataset.id}/annotation-mode?sort={ORDER}"
        return dataset

    def _try(self, call: Callable[[], Any]) -> Any:
        return persist(call, patience=self.patience)


def _counted(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in statuses.items() if count)


def let_in(client: argilla.Argilla, workspace: argilla.Workspace, names: Sequence[str]) -> None:
    """
    Sees to it that users are in a workspace.

    Raises:
        ACTError: for one who does not exist.
    """
    users = {user.username: user for user in client.users.list()}
    unknown = [name for name in names if name not in users]
    if unknown:
        raise ACTError(
            f"Argilla has no user {', '.join(map(repr, unknown))}; there is {', '.join(map(repr, sorted(users)))}"
        )
    there = {user.username for user in workspace.users}
    for name in names:
        if name not in there:
            workspace.add_user(users[name])


def count_records(client: argilla.Argilla, dataset: argilla.Dataset) -> int:
    """How many there are, as the database has it: the search engine, which the SDK asks, may be behind."""
    answer = client.http_client.get(f"/api/v1/datasets/{dataset.id}/records", params={"limit": 1})
    return int(answer.raise_for_status().json()["total"])


def people_of(client: argilla.Argilla, dataset: argilla.Dataset) -> dict[str, str]:
    """Names by id. Only an owner sees everybody; an admin sees who is in the workspace."""
    owner = client.me.role.value == "owner"
    users = client.users.list() if owner else client.users.list(workspace=dataset.workspace)
    return {str(user.id): user.username for user in [*users, client.me]}


def waiting_ids(dataset: Dataset) -> set[str]:
    """The `act_id` of every selected row without a human label."""
    plain = with_human_ids(dataset.with_format(None))
    nobody = [None] * len(plain)
    human = plain[columns.HUMAN][:] if columns.HUMAN in plain.column_names else nobody
    rows = zip(plain[columns.ID][:], plain[columns.SELECTED][:], human, strict=True)
    return {act_id for act_id, selected, label in rows if selected and label is None}


def _bar(total: int, title: str) -> tqdm[Any]:
    from datasets.utils import are_progress_bars_disabled
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=title, unit="rows", disable=are_progress_bars_disabled())
