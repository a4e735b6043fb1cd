"""A push to the Hub that is interrupted at each of its requests in turn: the old rows are there, or the new ones."""

from __future__ import annotations

import pytest
from datasets import Dataset
from support import hub_jobs as jobs
from support.hub import USERS, HubServer, broken
from support.hub_client import HubClient, killed_when_hanging

from act_hf.errors import ACTError


WRITE = next(iter(USERS))
OLD, NEW = jobs.rows(20), jobs.reviewed(30)
OPTIONS = {"overwrite": True, "shard_size": 4000}  # two files of rows
REQUESTS = 15
"""A push of these has more."""


def same(one: Dataset, other: Dataset) -> bool:
    return one.features == other.features and one.to_dict() == other.to_dict()


class Target:
    """A data set that can be made what it was before the push."""

    def __init__(self, hub: HubServer, client: HubClient, id: str) -> None:
        self.hub, self.client, self.id = hub, client, id
        hub.objects.clear()
        client(jobs.push, OLD, f"hf://{id}", shard_size=600, token=WRITE)
        self.commit, self.objects = hub.repo(id).refs["main"], dict(hub.objects)

    def restore(self) -> None:
        self.hub.repo(self.id).refs["main"], self.hub.objects = self.commit, dict(self.objects)

    def push(self, use=jobs.push):
        return self.client(use, NEW, f"hf://{self.id}", token=WRITE, **OPTIONS)

    def held(self) -> str:
        rows = self.client(jobs.loaded, self.id, token=WRITE)["train"]
        assert same(rows, OLD) or same(rows, NEW)
        return "new" if same(rows, NEW) else "old"


@pytest.mark.parametrize("kind", ["drop", "lost"])
def test_a_connection_that_breaks(hub, client, kind):
    target, held, at = Target(hub, client, f"ann/{kind}"), [], 0
    while True:
        at += 1
        target.restore()
        with broken(hub, at, kind):
            said = target.push(tried)
        if len(hub.log) < at:
            break
        held.append(target.held())
        if said is not None:  # some requests are repeated by the client
            assert f" 'hf://ann/{kind}': the connection to the Hub broke (" in said
            assert "what is on the Hub is the old or the new one, nothing between" in said
        target.push()
        assert target.held() == "new"
    assert at > REQUESTS
    assert "old" in held


def test_a_first_push(hub, client):
    at = 0
    while True:
        at += 1
        id = f"ann/first{at}"
        hub.objects.clear()
        with broken(hub, at):
            said = client(tried, NEW, f"hf://{id}", token=WRITE, **OPTIONS)
        if len(hub.log) < at:
            break
        made = hub.repos.get(("datasets", id))
        assert (said is None) == (made is not None and "README.md" in made.tree("main"))
        client(jobs.push, NEW, f"hf://{id}", token=WRITE, **OPTIONS)
        assert same(client(jobs.loaded, id, token=WRITE)["train"], NEW)
    assert at > REQUESTS


def test_a_killed_process(hub, client):
    target, at = Target(hub, client, "ann/killed"), 0
    while True:
        at += 1
        target.restore()
        with broken(hub, at, "hang"):
            if not target.push(killed):
                break
        assert hub.repo(target.id).refs["main"] == target.commit  # the commit is the last request
        sent = {path for method, path in hub.log if method == "PUT"} & {f"/_lfs/{oid}" for oid in hub.objects}
        hub.break_at(None)
        target.push()
        assert not sent & {path for method, path in hub.log if method == "PUT"}  # nothing is sent twice
        assert target.held() == "new"
    assert at > REQUESTS


def tried(dataset: Dataset, target: str, **options) -> str | None:
    try:
        jobs.push(dataset, target, **options)
    except ACTError as error:
        return str(error)
    return None


def killed(dataset: Dataset, target: str, **options) -> bool:
    return killed_when_hanging(lambda: jobs.push(dataset, target, **options))
