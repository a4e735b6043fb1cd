"""
A Hub on loopback: the part of its protocol that we use, its errors, and connections that break when told to.

In a test: `with HubServer() as hub: ...`, whose `url` is the `HF_ENDPOINT` of the processes that use it. As a process
of its own: `python -m support.hub --port 8300`. What it holds lives as long as the server, so that all its clients see
one Hub. The client reads `HF_ENDPOINT` when it is imported: run it in another process ([`support.hub_client`]).

Besides the Hub's own routes: `POST /_stub/fault {"at": 3, "kind": "drop"}` breaks the third request from now on,
`POST /_stub/gate {"id": "user/name"}` makes a data set gated, and `GET /_stub/log` lists the requests since the last
fault.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import yaml
from aiohttp import web


USERS = {
    "hf_AnnMayWrite": ("ann", "write"),
    "hf_AnnMayRead": ("ann", "read"),
    "hf_BobMayWrite": ("bob", "write"),
    "hf_BobMaySome": ("bob", "fineGrained"),
}
"""Tokens: whose they are, and what they allow."""

FAULTS = ("drop", "lost", "hang")
"""The connection breaks before the request is processed, or after; or there is never an answer."""

_API = re.compile(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/([a-z-]+)(?:/([^/]+)(?:/(.+))?)?)?")
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_BATCH = re.compile(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")
_LFS_ENDINGS = (".parquet", ".safetensors", ".bin", ".png")
_POINTER = 130


class HubError(Exception):
    """What the Hub refuses, in the headers that its client reads."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def response(self) -> web.Response:
        headers = {"X-Error-Message": self.message} | ({"X-Error-Code": self.code} if self.code else {})
        return web.json_response({"error": self.message}, status=self.status, headers=headers)


@dataclass(frozen=True)
class File:
    """A file of a commit."""

    data: bytes
    lfs: bool

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def etag(self) -> str:
        return hashlib.sha256(self.data).hexdigest() if self.lfs else self.oid

    def entry(self, path: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "oid": self.oid, "size": len(self.data), "path": path}
        if self.lfs:
            entry["lfs"] = {"oid": self.etag, "size": len(self.data), "pointerSize": _POINTER}
        return entry


Tree = dict[str, File]


@dataclass
class Repo:
    """A repository: what each commit holds, and where each branch is."""

    kind: str
    id: str
    private: bool
    gated: bool = False
    commits: dict[str, Tree] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, ref: str, tree: Tree, message: str) -> str:
        sha = hashlib.sha1(f"{self.kind} {self.id} {len(self.commits)}".encode()).hexdigest()
        self.commits[sha], self.refs[ref] = tree, sha
        self.messages.append(message)
        return sha

    def sha(self, revision: str) -> str:
        if revision in self.commits:
            return revision
        if revision not in self.refs:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.refs[revision]

    def tree(self, revision: str) -> Tree:
        return self.commits[self.sha(revision)]

    @property
    def owner(self) -> str:
        return self.id.partition("/")[0]


class HubServer:
    """
    The server; see the module.

    Args:
        port (`int`): 0 takes a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.log: list[tuple[str, str]] = []
        self.tokens: list[str | None] = []
        self.fault: tuple[int, str] | None = None
        self.hanging = False
        self.overtaking: list[dict[str, bytes]] = []
        self.url = ""

    # What tests set and ask

    def repo(self, id: str, kind: str = "datasets") -> Repo:
        return self.repos[kind, id]

    def put(self, id: str, files: dict[str, bytes], *, private: bool = False, kind: str = "datasets") -> Repo:
        """A commit by somebody else, into a repository that is made where there is none."""
        repo = self.repos.get((kind, id))
        if repo is None:
            repo = self.repos[kind, id] = Repo(kind, id, private)
            repo.commit("main", {}, "initial commit")
        new = {path: File(data, path.endswith(_LFS_ENDINGS)) for path, data in files.items()}
        repo.commit("main", {**repo.tree("main"), **new}, "somebody else")
        return repo

    def break_at(self, at: int | None, kind: str = "drop") -> None:
        """Breaks the `at`-th request from now on; `None` breaks none."""
        assert kind in FAULTS
        self.fault, self.hanging = None if at is None else (at, kind), False
        self.log.clear()

    # The server

    async def start(self) -> None:
        app = web.Application(middlewares=[self._faults], client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._dispatch)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        # aiohttp's own backlog of 128 is too little for a client that opens many connections at once.
        site = web.TCPSite(self.runner, "127.0.0.1", self.port, backlog=1024)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> HubServer:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), self.loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    @web.middleware
    async def _faults(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/_stub/"):
            return await self._control(request)
        self.log.append((request.method, request.rel_url.raw_path))
        kind = self.fault[1] if self.fault and self.fault[0] == len(self.log) else None
        if kind == "hang":
            self.hanging = True
            await asyncio.Event().wait()
        response = None if kind == "drop" else await self._answer(request, handler)
        if kind is not None:
            assert request.transport is not None
            request.transport.abort()
        return response or web.Response(status=500)

    async def _answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            return await handler(request)
        except HubError as error:
            return error.response()

    async def _control(self, request: web.Request) -> web.Response:
        asked = request.path.removeprefix("/_stub/")
        given = await request.json() if request.can_read_body else {}
        if asked == "fault":
            self.break_at(given.get("at"), given.get("kind", "drop"))
        elif asked == "gate":
            self.repo(given["id"]).gated = True
        return web.json_response({"requests": self.log, "hanging": self.hanging})

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path == "/api/whoami-v2":
            return web.json_response(self._whoami(request))
        if path == "/api/repos/create":
            return await self._create(request)
        if path == "/api/repos/delete":
            return await self._delete(request)
        if path == "/api/validate-yaml":
            return _validated((await request.json())["content"])
        if path.startswith("/_lfs/"):
            return await self._upload(request, path.removeprefix("/_lfs/"))
        if found := _BATCH.fullmatch(path):
            return await self._batch(request, self._writable(request, found[1], found[2], pr=True))
        if found := _RESOLVE.fullmatch(path):
            repo = self._readable(request, "datasets" if found[1] else "models", found[2])
            return self._resolve(request, repo, unquote(found[3]), unquote(found[4]))
        if found := _API.fullmatch(path):
            kind, id, what, *rest = (unquote(part) if part else "" for part in found.groups())
            return await self._api(request, kind, id, what, *rest)
        raise HubError(404, None, f"the stub does not know {request.method} {path}")

    async def _api(
        self, request: web.Request, kind: str, id: str, what: str, revision: str, rest: str
    ) -> web.StreamResponse:
        if what in ("", "revision"):
            return web.json_response(self._info(self._readable(request, kind, id, listed=True), revision or "main"))
        if what == "tree":
            tree = self._readable(request, kind, id, listed=True).tree(revision)
            return web.json_response(_listed(tree, rest, deep="true" in request.query.get("recursive", "").lower()))
        if what == "paths-info":
            tree, asked = self._readable(request, kind, id, listed=True).tree(revision), await _paths(request)
            return web.json_response([entry for path in asked for entry in _entries_at(tree, path)])
        if what == "auth-check":
            self._readable(request, kind, id)
            return web.json_response({})
        if what == "refs":
            return web.json_response(_refs(self._readable(request, kind, id, listed=True)))
        if what == "branch":
            return await self._branch(request, self._writable(request, kind, id), revision)
        if what == "preupload":
            repo = self._writable(request, kind, id, pr="create_pr" in request.query)
            return await self._preupload(request, repo, revision)
        if what == "commit":
            repo = self._writable(request, kind, id, pr="create_pr" in request.query)
            return await self._commit(request, repo, revision)
        if what == "discussions" and rest == "merge":
            repo = self._writable(request, kind, id)
            repo.commit("main", repo.tree(f"refs/pr/{revision}"), "merged")
            return web.json_response({})
        raise HubError(404, None, f"the stub does not know {what}")

    # Who may do what

    def _user(self, request: web.Request) -> tuple[str, str] | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.tokens.append(token)
        if token is not None and token not in USERS:
            raise HubError(401, None, "Invalid credentials in Authorization header")
        return USERS[token] if token else None

    def _whoami(self, request: web.Request) -> dict[str, Any]:
        user = self._user(request)
        if user is None:
            raise HubError(401, None, "Invalid username or password.")
        token = {"displayName": "test", "role": user[1]}
        return {"type": "user", "name": user[0], "orgs": [], "auth": {"type": "access_token", "accessToken": token}}

    def _readable(self, request: web.Request, kind: str, id: str, *, listed: bool = False) -> Repo:
        """The repository, if it may be seen; the files of a gated one may not, only their list."""
        user, repo = self._user(request), self.repos.get((kind, id))
        if repo is None or (repo.private and (user is None or user[0] != repo.owner)):
            raise HubError(404 if user else 401, "RepoNotFound", "Repository not found")
        if repo.gated and not listed and (user is None or user[0] != repo.owner):
            raise HubError(403 if user else 401, "GatedRepo", f"Access to dataset {id} is restricted.")
        return repo

    def _writable(self, request: web.Request, kind: str | None, id: str, *, pr: bool = False) -> Repo:
        kind = "datasets" if kind == "datasets/" else kind or "models"
        repo = self._readable(request, kind, id, listed=True)
        user = self._user(request)
        if user is None:
            raise HubError(401, None, "Invalid username or password.")
        if user[1] != "write" or (user[0] != repo.owner and not pr):
            raise HubError(403, None, "Forbidden: you must use a write token to upload to a repository.")
        return repo

    # Repositories

    async def _create(self, request: web.Request) -> web.Response:
        given, user = await request.json(), self._user(request)
        kind, owner = given.get("type", "model") + "s", given.get("organization") or (user or ("",))[0]
        if user is None:
            raise HubError(401, None, "Invalid username or password.")
        if user != (owner, "write"):
            raise HubError(403, None, f"You don't have the rights to create a {kind[:-1]} under the namespace {owner}")
        key = (kind, f"{owner}/{given['name']}")
        url = f"{self.url}/{'datasets/' if kind == 'datasets' else ''}{key[1]}"
        if key in self.repos:
            return web.json_response({"error": "You already created this repo", "url": url}, status=409)
        private = given.get("private") or given.get("visibility") == "private"
        self.repos[key] = repo = Repo(*key, private=bool(private))
        repo.commit("main", {".gitattributes": File(b"*.parquet filter=lfs\n", lfs=False)}, "initial commit")
        return web.json_response({"url": url, "id": key[1], "name": key[1]})

    async def _delete(self, request: web.Request) -> web.Response:
        given = await request.json()
        repo = self._writable(request, given.get("type", "model") + "s", f"{given['organization']}/{given['name']}")
        del self.repos[repo.kind, repo.id]
        return web.json_response({})

    async def _branch(self, request: web.Request, repo: Repo, name: str) -> web.Response:
        if name in repo.refs:
            raise HubError(409, None, f"Reference already exists: {name}")
        given = await request.json() if request.can_read_body else {}
        repo.refs[name] = repo.sha(given.get("startingPoint") or "main")
        return web.json_response({})

    def _info(self, repo: Repo, revision: str) -> dict[str, Any]:
        names = [{"rfilename": path} for path in repo.tree(revision)]
        info = {"_id": "0" * 24, "id": repo.id, "author": repo.owner, "sha": repo.sha(revision)}
        return (
            info
            | {"private": repo.private, "gated": "auto" if repo.gated else False, "disabled": False}
            | {
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": names,
                "lastModified": "2026-01-01T00:00:00.000Z",
                "createdAt": "2026-01-01T00:00:00.000Z",
            }
        )

    # Uploading

    async def _preupload(self, request: web.Request, repo: Repo, revision: str) -> web.Response:
        tree, files = repo.tree(revision), (await request.json())["files"]
        answer = []
        for file in files:
            old = tree.get(file["path"])
            mode = "lfs" if file["path"].endswith(_LFS_ENDINGS) else "regular"
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": old and old.etag})
        return web.json_response({"files": answer})

    async def _batch(self, request: web.Request, repo: Repo) -> web.Response:
        answer = []
        for asked in (await request.json())["objects"]:
            one = {"oid": asked["oid"], "size": asked["size"], "authenticated": True}
            if asked["oid"] not in self.objects:  # what is there already need not be sent
                one["actions"] = {"upload": {"href": f"{self.url}/_lfs/{asked['oid']}?signature=Secret"}}
            answer.append(one)
        return web.json_response({"transfer": "basic", "objects": answer})

    async def _upload(self, request: web.Request, oid: str) -> web.Response:
        data = await request.read()
        if hashlib.sha256(data).hexdigest() != oid:
            raise HubError(400, None, "the content is not what was announced")
        self.objects[oid] = data
        return web.Response()

    async def _commit(self, request: web.Request, repo: Repo, revision: str) -> web.Response:
        lines = [json.loads(line) for line in (await request.read()).splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        parent, pr = header.get("parentCommit"), "create_pr" in request.query
        if self.overtaking:  # somebody else is faster
            self.put(repo.id, self.overtaking.pop(0), kind=repo.kind)
        if parent and not pr and parent != repo.sha(revision):
            raise HubError(412, None, "A commit has happened since. Please refresh and try again.")
        tree = dict(repo.tree(parent if pr and parent else revision))
        for line in lines:
            self._apply(tree, line["key"], line["value"])
        number = sum(ref.startswith("refs/pr/") for ref in repo.refs) + 1
        sha = repo.commit(f"refs/pr/{number}" if pr else revision, tree, header["summary"])
        url = f"{self.url}/{'datasets/' if repo.kind == 'datasets' else ''}{repo.id}"
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{url}/commit/{sha}"}
        return web.json_response(answer | ({"pullRequestUrl": f"{url}/discussions/{number}"} if pr else {}))

    def _apply(self, tree: Tree, key: str, value: dict[str, Any]) -> None:
        if key == "file":
            tree[value["path"]] = File(base64.b64decode(value["content"]), lfs=False)
        elif key == "lfsFile":
            if value["oid"] not in self.objects:
                raise HubError(400, None, f"LFS object {value['oid']} was never uploaded")
            tree[value["path"]] = File(self.objects[value["oid"]], lfs=True)
        elif key == "deletedFile":
            if value["path"] not in tree:
                raise HubError(404, "EntryNotFound", "A file with this name doesn't exist")
            del tree[value["path"]]

    # Downloading

    def _resolve(self, request: web.Request, repo: Repo, revision: str, path: str) -> web.Response:
        sha, file = repo.sha(revision), repo.tree(revision).get(path)
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if file is None:
            headers |= {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return web.Response(status=404, headers=headers)
        headers |= {"ETag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data)), "X-Linked-Etag": f'"{file.etag}"'}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if asked is None:
            return web.Response(body=file.data, headers=headers)
        first, last = int(asked[1]), min(int(asked[2] or len(file.data)), len(file.data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(file.data)}"
        return web.Response(status=206, body=file.data[first : last + 1], headers=headers)


def _validated(content: str) -> web.Response:
    """What the Hub says to a card before anything is uploaded."""
    block = re.match(r"\ufeff?---\r?\n(.*?)\r?\n?---\r?(\n|$)", content, flags=re.DOTALL)
    try:
        metadata = yaml.safe_load(block[1]) if block else {}
    except yaml.YAMLError as error:
        return web.json_response({"errors": [{"message": str(error)}], "warnings": []}, status=400)
    if not isinstance(metadata or {}, dict):
        return web.json_response({"errors": [{"message": "metadata is no mapping"}], "warnings": []}, status=400)
    return web.json_response({"errors": [], "warnings": []})


def _listed(tree: Tree, folder: str, *, deep: bool) -> list[dict[str, Any]]:
    inside = f"{folder}/" if folder else ""
    found = {path: file.entry(path) for path, file in tree.items() if path.startswith(inside)}
    if folder and not found:
        raise HubError(404, "EntryNotFound", f"{folder} does not exist")
    for path in list(found):
        parts = path.removeprefix(inside).split("/")
        for depth in range(1, len(parts)):
            name = inside + "/".join(parts[:depth])
            found.setdefault(name, {"type": "directory", "oid": "0" * 40, "size": 0, "path": name})
    return [entry for path, entry in found.items() if deep or "/" not in path.removeprefix(inside)]


async def _paths(request: web.Request) -> list[str]:
    if request.content_type == "application/json":
        return list((await request.json())["paths"])
    return [str(path) for path in (await request.post()).getall("paths", [])]


def _entries_at(tree: Tree, path: str) -> Iterator[dict[str, Any]]:
    if path in tree:
        yield tree[path].entry(path)
    elif any(name.startswith(f"{path}/") for name in tree):
        yield {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}


def _refs(repo: Repo) -> dict[str, Any]:
    refs = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha} for name, sha in repo.refs.items()]
    branches = [ref for ref in refs if not ref["name"].startswith("refs/")]
    return {"branches": branches, "converts": [], "tags": [], "pullRequests": []}


@contextmanager
def broken(hub: HubServer, at: int | None, kind: str = "drop") -> Iterator[None]:
    """While the block runs, the `at`-th request of it breaks."""
    hub.break_at(at, kind)
    try:
        yield
    finally:
        hub.fault = None


async def _serve(server: HubServer) -> None:
    await server.start()
    print(server.url, flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A Hub on loopback.")
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_serve(HubServer(parser.parse_args().port)))


if __name__ == "__main__":
    main()
