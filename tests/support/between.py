"""Somebody between a client and a server, who does something when a certain request comes by."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Between:
    """
    Passes requests on to the server at `url`.

    `before(part, number, do)` has `do()` called when the request number `number` (from 1) comes whose first line has
    `part` in it, before it is passed on; `during` when it has been passed on and before the server's answer is read.
    Where `do` returns a status, that is the answer.
    """

    def __init__(self, url: str) -> None:
        self.target = urlsplit(url).netloc
        self.seen: list[str] = []
        self._plans: list[list] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def before(self, part: str, number: int, do: Callable[[], int | None]) -> None:
        self._plans.append(["before", part, number, do])

    def during(self, part: str, number: int, do: Callable[[], int | None]) -> None:
        self._plans.append(["during", part, number, do])

    def _handler(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _pass(self):
                outer._pass(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

            def log_message(self, *_):
                """Nothing is printed."""

        return Handler

    def _due(self, line: str) -> list[list]:
        with self._lock:
            self.seen.append(line)
            for plan in self._plans:
                plan[2] -= plan[1] in line
            due = [plan for plan in self._plans if plan[2] == 0 and plan[1] in line]
            return due

    def _pass(self, request: BaseHTTPRequestHandler) -> None:
        line = f"{request.command} {request.path}"
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        due = self._due(line)
        for when, *_, do in due:
            if when == "before" and (status := do()):
                request.send_error(status)
                return
        connection = http.client.HTTPConnection(self.target, timeout=60)
        # What breaks here is broken for the client, too: its connection ends without an answer.
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request(request.command, request.path, body, dict(request.headers))
            for when, *_, do in due:
                if when == "during":
                    do()
            answer = connection.getresponse()
            data = answer.read()
            request.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                    request.send_header(name, value)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data)
        connection.close()
        request.close_connection = True

    def __enter__(self) -> Between:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
