"""The review page in a real browser, used with the keyboard as a person would."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PATIENCE = 60_000
"""Milliseconds until the page is given up: the machine may be busy."""


def chromium() -> str:
    """The installed browser. Where there is none the test is skipped, but never in CI."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    reason = "the page is tested in a browser: apt-get install chromium"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason}; in CI it has to be there")
    pytest.skip(reason)


@contextlib.contextmanager
def started_browser() -> Iterator[Browser]:
    """Chromium without a window."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Reviewer:
    """Somebody at the page. Everything is done with keys, and `asked` is every address that the browser asked for."""

    def __init__(self, browser: Browser | BrowserContext, **options) -> None:
        self.context: BrowserContext = browser.new_context(**options) if hasattr(browser, "new_context") else browser
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))

    def open(self, url: str, name: str | None = None) -> str:
        """Goes to the page, gives the name where one is asked for, and returns the first row."""
        self.page.goto(url)
        self.page.wait_for_selector("#act .act-row, #act .act-end")
        if name is not None:
            self.page.keyboard.type(name)
            self.page.keyboard.press("Enter")
            self.page.wait_for_selector("#act .act-count")
        return self.shown()

    def shown(self) -> str:
        """The text of the row, or what is shown instead of one."""
        return self.page.inner_text("#act figure:only-of-type, #act .act-part pre, #act .act-end h1")

    def press(self, *keys: str) -> str:
        """Presses keys one after another, each when the row that the one before it led to is shown."""
        for key in keys:
            self.page.keyboard.press(key)
            self.settled()
        return self.shown()

    def settled(self) -> str:
        """What is shown when the server has answered."""
        self.page.wait_for_selector('#act[aria-busy="false"]')
        return self.shown()

    def text(self, selector: str) -> str:
        return self.page.inner_text(f"#act {selector}")

    def says(self, part: str) -> None:
        """Waits until the page says something to the person."""
        line = "document.querySelector('#act .act-say')"
        self.page.wait_for_function(f"part => {line}?.innerText.includes(part)", arg=part)
