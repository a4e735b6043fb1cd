"""What can go wrong with the Hub, in words: what it was, what is left, and what to do."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, one_line, printable
from act_hf.records import library_versions


if TYPE_CHECKING:
    from collections.abc import Iterator

    from huggingface_hub import HfApi

    from act_hf.hub.address import Address

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
MOVED = (409, 412)
"""How the Hub says that somebody else's commit came first."""

_WHOLE = (
    "what is on the Hub is the old or the new one, nothing between; the same command goes on and sends no file twice"
)


@functools.cache
def hub_api() -> HfApi:
    """The Hub's client. It takes the token from the environment or from the login, and nobody else sees it."""
    from huggingface_hub import HfApi

    # In a Space our source may lie beside the app, not installed and so without a version.
    return HfApi(library_name="act_hf", library_version=library_versions().get("act_hf"))


@contextlib.contextmanager
def explained(doing: str, address: Address, *, kind: str = "data set", pushing: bool = False) -> Iterator[None]:
    """
    Makes an [`ACTError`] of what the Hub's client raises; programming mistakes stay what they are.

    Args:
        doing (`str`): what the block does, for the message: `"cannot push to"`.
        address ([`Address`]): where.
        kind (`str`, *optional*, defaults to `"data set"`): what is there.
        pushing (`bool`, *optional*, defaults to `False`): whether it belongs to a push.

    Raises:
        ACTError: naming the address, what went wrong, and what to do.
    """
    import httpx2
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    known = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, LocalTokenNotFoundError)
    try:
        yield
    except (*known, OfflineModeIsEnabled, httpx2.HTTPError, RuntimeError) as error:
        cause = _cause(error)
        if not isinstance(cause, (*known, OfflineModeIsEnabled, httpx2.HTTPError)):
            raise
        # Not chained: the client's own words hold addresses that are signed for whoever reads them.
        raise ACTError(f"{doing} {str(address)!r}: {reason(cause, address, kind=kind, pushing=pushing)}") from None


def new_token(address: Address) -> str:
    """What to do with a token that may not write."""
    return f"make one with write access to {address.owner!r} in your settings on the Hub"


def status_of(error: BaseException | None) -> int | None:
    """The status with which the Hub refused, if that is what happened."""
    response: Any = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def reason(error: Exception, address: Address, *, kind: str = "data set", pushing: bool = False) -> str:
    """What an error of the Hub's client means to a user, without addresses, which may be signed."""
    import httpx2
    from huggingface_hub import errors, get_token

    known = get_token() is not None
    account = "the token may not see it" if known else f"it is private: {LOGIN}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the Hub is not asked"
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"there is no token; {LOGIN}"
    if isinstance(error, errors.GatedRepoError):
        who = "with the account of the token" if known else f"and {LOGIN}"
        return f"it is gated: ask for access on its page, {who}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {address.revision!r}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no {kind} of that name on the Hub, or {account}"
    status = status_of(error)
    if status == 401:
        return f"the token is not valid; {LOGIN}" if known else f"there is no token; {LOGIN}"
    if status == 403:
        return f"the token may not write there; {new_token(address)}"
    if status is not None:
        said = printable(str(getattr(error, "server_message", None) or "")).strip()
        return f"the Hub answered {status}" + (f", {said}" if said else "")
    if isinstance(error, httpx2.HTTPError | errors.LocalEntryNotFoundError):
        broken = type(error if isinstance(error, httpx2.HTTPError) else _cause(error)).__name__
        return f"the connection to the Hub broke ({broken}); {_WHOLE if pushing else 'run the same command again'}"
    return one_line(error)


def _cause(error: Exception) -> Exception:
    """What an upload that failed in a thread, or a download without a cache, was wrapped around."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    wrapped = isinstance(error, LocalEntryNotFoundError) or type(error) is RuntimeError
    return error.__cause__ if wrapped and isinstance(error.__cause__, Exception) else error
