"""Puts the people of the accounts file into the server's database. Runs in the server's environment."""

from __future__ import annotations

from typing import Any

from argilla_server.contexts import accounts
from argilla_server.database import AsyncSessionLocal, async_engine
from argilla_server.models import User, Workspace
from sqlalchemy.exc import StatementError


async def settle(workspace: str, people: list[dict[str, str]]) -> None:
    """Everybody exists, with the password and the key of the file, and is in the workspace."""
    try:
        async with AsyncSessionLocal() as db:
            for person in people:
                await _settle_one(db, workspace, person)
    except StatementError as error:
        error.hide_parameters = True  # they are secret, and the error goes into the log
        raise
    await async_engine.dispose()  # its connections belong to this loop, and the server has one of its own


async def _settle_one(db: Any, workspace: str, person: dict[str, str]) -> None:
    user = await accounts.get_user_by_username(db, person["username"])
    if user is None:
        place = await Workspace.get_by(db, name=workspace) or await accounts.create_workspace(db, {"name": workspace})
        about = {"username": person["username"], "first_name": person["username"], "role": person["role"]}
        await User.create(
            db,
            **about,
            password_hash=accounts.hash_password(person["password"]),
            api_key=person["api_key"],
            workspaces=[place],
        )
    elif user.api_key != person["api_key"]:  # the database is older than the file
        secrets = {"api_key": person["api_key"], "password_hash": accounts.hash_password(person["password"])}
        await user.update(db, **secrets)
