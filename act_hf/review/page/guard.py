"""Who may see a review page: those who have its address with the token, and no page of another site."""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Any

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN = "token"  # noqa: S105  # the name of the parameter

# Gradio starts with a script in the page and makes functions of strings; everything comes from here all the same.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_MISSING = "This page needs its whole address, with the token, as it was printed when the page was started.\n"
_FOREIGN = "This page answers only at the address where it is served, and only what it asked itself.\n"


class Guard:
    """
    An ASGI app that lets through what may be let through, and says to browsers what the page may do.

    Args:
        app (ASGI app): what is guarded.
        token (`str`, *optional*): what the address has to hold on the first visit; a cookie keeps it from then on.
            Without one everybody who reaches the port gets in.
        cookie (`str`): its name: cookies do not know about ports.
        hosts (`frozenset` of `str`, *optional*): names by which the page may be called, in small letters, beside any
            IP address: another site may let a name of its own point here. Without them, any name, which takes a token:
            that site has neither token nor cookie.
    """

    def __init__(
        self, app: App, *, token: str | None, cookie: str = "act_hf_review", hosts: frozenset[str] | None = None
    ) -> None:
        self.app, self.token, self.cookie, self.hosts = app, token, cookie, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not self._is_own(headers):
            await _refuse(send, 403, _FOREIGN)
        elif self.token is None or self._knows(headers.get("cookie", "")):
            await self.app(scope, receive, _with_headers(send))
        elif self._matches(_asked_token(scope)):
            await _enter(send, f"{self.cookie}={self.token}; HttpOnly; SameSite=Lax; Path=/", scope["path"])
        else:
            await _refuse(send, 401, _MISSING)

    def _is_own(self, headers: dict[str, str]) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.hosts is not None and not (_is_address(name := _hostname(host)) or name in self.hosts):
            return False
        return origin is None or origin.partition("://")[2] == host

    def _knows(self, header: str) -> bool:
        # Not http.cookies, which gives up at a cookie that it cannot read: of another program on this machine, say.
        pairs = [one.strip().partition("=") for one in header.split(";")]
        return any(name == self.cookie and self._matches(value) for name, _, value in pairs)

    def _matches(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _asked_token(scope: Scope) -> str:
    asked: str = scope["query_string"].decode("latin-1")
    return parse_qs(asked).get(TOKEN, [""])[0]


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            kept = [(name, value) for name, value in message["headers"] if name.lower().decode() not in _HEADERS]
            message = {**message, "headers": [*kept, *ours]}
        await send(message)

    return sending


async def _enter(send: Send, cookie: str, path: str) -> None:
    """The same page again without the token, which is not to stay in the browser's history."""
    headers = [(b"location", path.encode("ascii", "ignore") or b"/"), (b"set-cookie", cookie.encode())]
    await _with_headers(send)({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(send: Send, status: int, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await _with_headers(send)({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})
