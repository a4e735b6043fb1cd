"""
A server with OpenAI's batch routes, on loopback.

It is [`support.server.Server`] with files and batches: what a batch asks is answered as the chat route would. A batch
moves on by one state each time it is looked at (validating, in_progress, finalizing, completed), so that nothing in a
test hangs on time. What goes wrong is set by the arguments, and by `broken`, a list of faults of requests to come.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from support.server import Body, Server, _error, text_of


STEPS = ("validating", "in_progress", "finalizing", "completed")

Spoil = Callable[[list[bytes]], list[bytes]]


@dataclass
class Batch:
    id: str
    file: str
    metadata: dict[str, str]
    created: int
    status: str = "validating"
    output: str | None = None
    error: str | None = None
    errors: list[Body] = field(default_factory=list)
    counts: tuple[int, int, int] = (0, 0, 0)

    def shown(self) -> Body:
        total, done, failed = self.counts
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": self.file,
            "completion_window": "24h",
            "status": self.status,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "output_file_id": self.output,
            "error_file_id": self.error,
            "created_at": self.created,
            "request_counts": {"total": total, "completed": done, "failed": failed},
            "metadata": self.metadata,
        }


@dataclass
class BatchServer(Server):
    """
    Args:
        hold (`bool`): batches stay in progress until this is set to `False`.
        fail (function, *optional*): for a request's text and the number of times it was submitted, the status and
            message of its failure, or `None`.
        ends (sequence of `str`): how the first batches end, in the order of their making: `"completed"`, `"expired"`
            or `"cancelled"` halfway, `"failed"` (by `errors`).
        errors (sequence of mappings): why a batch failed.
        spoil (function, *optional*): what becomes of the lines of a file of results.
        broken (list of `str`): what goes wrong with the next requests to a batch route, in the order of their arrival:
            `"METHOD PATH_END FAULT"`, such as `"GET batches 429"`, `"POST batches lost"` (made, and never answered),
            `"GET content cut"`.
        page (`int`): batches that a list has at most.
    """

    hold: bool = False
    fail: Callable[[str, int], tuple[int, str] | None] | None = None
    ends: Sequence[str] = ()
    errors: Sequence[Body] = ()
    spoil: Spoil | None = None
    broken: list[str] = field(default_factory=list)
    page: int = 100
    files: dict[str, bytes] = field(default_factory=dict, init=False)
    batches: dict[str, Batch] = field(default_factory=dict, init=False)
    submitted: list[list[Body]] = field(default_factory=list, init=False)
    times: dict[str, int] = field(default_factory=dict, init=False)
    looks: int = field(default=0, init=False)

    def routes(self, app: web.Application) -> None:
        super().routes(app)
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._look)
        app.router.add_post("/v1/batches/{id}/cancel", self._cancel)

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), "batches": len(self.batches), "submitted": [len(one) for one in self.submitted]}

    def requests_of(self, text: str) -> int:
        """How often a request with that text was submitted."""
        return self.times.get(text, 0)

    # Routes.

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        assert form["purpose"] == "batch"
        sent = form["file"]
        assert isinstance(sent, web.FileField)
        content = sent.file.read()
        return await self._unless_broken(request, "files", lambda: {"id": self._keep(content), "purpose": "batch"})

    def _keep(self, content: bytes) -> str:
        id = f"file-{len(self.files) + 1}"
        self.files[id] = content
        return id

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()

        def make() -> Body:
            assert body["endpoint"] == "/v1/chat/completions"
            requests = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
            self.submitted.append(requests)
            for one in requests:
                text = text_of(one["body"]["messages"][-1]["content"])
                self.times[text] = self.times.get(text, 0) + 1
            number = len(self.batches) + 1
            made = Batch(f"batch_{number}", body["input_file_id"], body.get("metadata") or {}, 4_000_000_000 + number)
            made.counts = (len(requests), 0, 0)
            self.batches[made.id] = made
            return made.shown()

        return await self._unless_broken(request, "batches", make)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        newest = list(self.batches.values())[::-1]
        after = request.query.get("after")
        start = next((i + 1 for i, one in enumerate(newest) if one.id == after), 0)
        page = [one.shown() for one in newest[start : start + self.page]]
        body = {"object": "list", "data": page, "has_more": start + self.page < len(newest)}
        return await self._unless_broken(request, "list", lambda: body)

    async def _look(self, request: web.Request) -> web.StreamResponse:
        self.looks += 1
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return _error(404, "No batch found")

        def look() -> Body:
            self._step(batch)
            return batch.shown()

        return await self._unless_broken(request, "batches", look)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        batch = self.batches[request.match_info["id"]]
        batch.status = "cancelling"
        return await self._unless_broken(request, "cancel", batch.shown)

    async def _content(self, request: web.Request) -> web.StreamResponse:
        content = self.files[request.match_info["id"]]
        return await self._unless_broken(request, "content", lambda: content)

    async def _unless_broken(
        self, request: web.Request, what: str, make: Callable[[], Body | bytes]
    ) -> web.StreamResponse:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.key is not None and given != self.key:
            return _error(401, f"Incorrect API key provided: {given}")
        fault = ""
        if self.broken and self.broken[0].startswith(f"{request.method} {what} "):
            fault = self.broken.pop(0).split(" ", 2)[2]
        if fault.isdecimal():
            return _error(int(fault), "not\nnow \x07")
        made = make()
        if fault == "lost":
            assert request.transport is not None
            request.transport.abort()
        if fault == "odd":
            return web.json_response(["?"])
        if isinstance(made, bytes):
            return web.Response(body=made[: len(made) * 2 // 3] if fault == "cut" else made)
        return web.json_response(made)

    # What becomes of a batch.

    def _step(self, batch: Batch) -> None:
        if batch.status == "cancelling":
            self._end(batch, "cancelled")
        elif batch.status in STEPS[:-1] and not (self.hold and batch.status == "in_progress"):
            step = STEPS[STEPS.index(batch.status) + 1]
            number = list(self.batches).index(batch.id)
            end = self.ends[number] if number < len(self.ends) else "completed"
            if end == "failed":
                batch.status, batch.errors = "failed", list(self.errors)
            elif step == "completed":
                self._end(batch, end)
            else:
                batch.status = step

    def _end(self, batch: Batch, end: str) -> None:
        requests = [json.loads(line) for line in self.files[batch.file].splitlines()]
        done = requests if end == "completed" else requests[: len(requests) // 2]
        results = [self._result(one) for one in done]
        good = [one for one in results if one["response"]["status_code"] == 200]
        bad = [one for one in results if one["response"]["status_code"] != 200]
        if end == "expired":
            late = {
                "code": "batch_expired",
                "message": "This request could not be executed before the window expired.",
            }
            bad += [_result_line(one, error=late) for one in requests[len(done) :]]
        batch.status, batch.counts = end, (len(requests), len(good), len(bad))
        # In another order than they were asked in.
        batch.output = self._keep(self._lines(good[::-1])) if good else None
        batch.error = self._keep(self._lines(bad)) if bad else None

    def _lines(self, results: list[Body]) -> bytes:
        lines = [json.dumps(one).encode() + b"\n" for one in results]
        return b"".join(self.spoil(lines) if self.spoil else lines)

    def _result(self, asked: Body) -> Body:
        text = text_of(asked["body"]["messages"][-1]["content"])
        failure = self.fail(text, self.times[text]) if self.fail else None
        if failure is not None:
            status, message = failure
            return _result_line(asked, response={"status_code": status, "body": {"error": {"message": message}}})
        body = self.complete(asked["body"])
        return _result_line(asked, response={"status_code": 200, "request_id": "req_1", "body": body})


def _result_line(asked: Body, *, response: Body | None = None, error: Body | None = None) -> Body:
    return {"id": "batch_req_1", "custom_id": asked["custom_id"], "response": response, "error": error}
