"""Argilla's web page in a real browser, used as an annotator would use it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from act_hf.review.argilla_local.data import Person
from support.browser import chromium


if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

PATIENCE = 120_000
"""Milliseconds until the page is given up: the machine may be busy."""


class AnnotatorPage:
    """One person's browser window."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.asked: list[str] = []
        """The address of everything that left the browser, with or without an answer."""
        page.set_default_timeout(PATIENCE)
        page.on("requestfinished", lambda request: self.asked.append(request.url))
        page.on("requestfailed", self._failed)

    def _failed(self, request: Request) -> None:
        if request.failure != "csp":  # that one was never sent: the page's policy forbids it
            self.asked.append(request.url)

    def sign_in(self, person: Person) -> None:
        """By name and password, as in the form."""
        self.page.goto(f"{self.url}/sign-in")
        self.page.fill("input[type=text]", person.username)
        self.page.fill("input[type=password]", person.password)
        self.page.press("input[type=password]", "Enter")
        self.page.wait_for_url(lambda url: "sign-in" not in url)

    def open(self, dataset_id: str, *, sort: str | None = None, status: str = "pending") -> None:
        """The queue of a data set, such as sorted by `metadata.error_prob.desc`, at its first record."""
        order = f"&sort={sort}" if sort else ""
        self.page.goto(f"{self.url}/dataset/{dataset_id}/annotation-mode?page=1&status={status}{order}")
        self.page.wait_for_selector(".record__content")

    def fields(self) -> list[str]:
        """The texts of the record that is shown."""
        return [text.strip() for text in self.page.locator(".record__content .content-area").all_inner_texts()]

    def labels(self) -> list[str]:
        """The labels to choose from, in the order of their keys 1, 2, ..."""
        return self.page.locator(".label-text__text").all_inner_texts()

    def suggestion(self) -> tuple[str, float]:
        """The label that is suggested, and the score beside it."""
        suggested = self.page.locator(".label-text:has(.label-text__suggestion)")
        score = suggested.locator(".label-text__suggestion__score").inner_text()
        return suggested.locator(".label-text__text").inner_text(), float(score)

    def answer(self, *keys: str) -> None:
        """Presses keys, and waits until the server has the answer and the next record is there."""
        shown = self.fields()
        with self.page.expect_response(
            lambda response: response.request.method == "POST" and response.url.endswith("/responses")
        ) as sent:
            for key in keys:
                self.page.keyboard.press(key)
        assert sent.value.status == 201, sent.value.text()
        self.page.wait_for_function(
            "shown => document.querySelector('.record__content .content-area')?.innerText.trim() !== shown",
            arg=shown[0],
        )


@contextlib.contextmanager
def annotating(url: str, person: Person) -> Iterator[AnnotatorPage]:
    """A browser of this person's, signed in."""
    from playwright.sync_api import sync_playwright

    flags = ["--headless", "--no-sandbox", "--disable-gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
        try:
            window = AnnotatorPage(browser.new_page(), url)
            window.sign_in(person)
            yield window
        finally:
            browser.close()
