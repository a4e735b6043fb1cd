"""
From the press of a key to the next row on the screen: how long does a reviewer wait?

    python benchmarks/bench_page.py    # three minutes; needs Chromium

A review file of 10,000 text rows, of which half are answered (the next open row has to be found among them), one of
120 pictures of 1600 x 1200 pixels, and one with 500 labels. The page is the one that `act-hf review page` serves; the
browser is Chromium without a window. Measured in the page: from the keydown event to the second frame after the next
row was put in, by when it is painted. The answer is on disk by then.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import save_result
from PIL import Image


sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.browser import Reviewer, started_browser
from support.pages import served, to_review

from act_hf.review.page.database import Database
from act_hf.review.places import push_review
from act_hf.task import Task


ROWS = 10_000
PRESSED = 300
IMAGES = 120

WATCH = """() => {
  window.waits = [];
  let pressed = null;
  document.addEventListener("keydown", () => (pressed = performance.now()), true);
  const row = () => document.querySelector("#act .act-count")?.textContent;
  let shown = row();
  new MutationObserver(() => {
    if (pressed === null || row() === shown) return;
    const began = pressed;
    pressed = null;
    shown = row();
    requestAnimationFrame(() => requestAnimationFrame(() => window.waits.push(performance.now() - began)));
  }).observe(document.querySelector("#act"), { childList: true, subtree: true });
}"""


def answer_half(path: Path, rows: int) -> None:
    with Database(path).writing() as connection:
        connection.executemany(
            "INSERT INTO events (key, row, person, kind, label, at) VALUES (?, ?, 'ann', 'label', 'ham', '')",
            [(str(number), number) for number in range(1, rows // 2 + 1)],
        )


def waits(browser, path: Path, key: str, presses: int) -> dict:
    reviewer = Reviewer(browser, viewport={"width": 1280, "height": 800})
    with served(path, "--port", 0, "--annotator", "ann") as page:
        reviewer.open(page.url)
        reviewer.page.evaluate(WATCH)
        for done in range(1, presses + 1):
            reviewer.page.keyboard.press(key)
            reviewer.page.wait_for_function(f"window.waits.length === {done}")
        measured = np.array(reviewer.page.evaluate("window.waits"))
    reviewer.context.close()
    return {
        "presses": presses,
        "median_ms": round(float(np.median(measured)), 1),
        "p95_ms": round(float(np.quantile(measured, 0.95)), 1),
        "largest_ms": round(float(measured.max()), 1),
    }


def photographs(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 255, (120, 160, 3), dtype=np.uint8) for _ in range(count)]
    return [Image.fromarray(pixels).resize((1600, 1200), Image.Resampling.BICUBIC) for pixels in coarse]


def main() -> None:
    results = {}
    with tempfile.TemporaryDirectory() as name, started_browser() as browser:
        folder = Path(name)
        push_review(
            to_review([f"row {number}: " + "some words " * 30 for number in range(ROWS)]), folder / "text.sqlite"
        )
        answer_half(folder / "text.sqlite", ROWS)
        results["text"] = {"rows": ROWS, "answered": ROWS // 2, **waits(browser, folder / "text.sqlite", "2", PRESSED)}
        seen = Task(labels=("ham", "spam"), image="photo")
        push_review(to_review([""] * IMAGES, task=seen, images=photographs(IMAGES)), folder / "image.sqlite")
        results["image"] = {"rows": IMAGES, **waits(browser, folder / "image.sqlite", "2", IMAGES - 1)}
        many = Task(labels=tuple(f"label {number}" for number in range(500)), text="sms")
        push_review(to_review([f"row {number}" for number in range(200)], task=many), folder / "many.sqlite")
        results["labels"] = {"rows": 200, "labels": 500, **waits(browser, folder / "many.sqlite", "Enter", 150)}
        results["browser"] = browser.version
    for kind in ("text", "image", "labels"):
        print(kind, results[kind])
    save_result("page", results)


if __name__ == "__main__":
    main()
