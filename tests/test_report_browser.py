"""The report as a browser lays it out."""

from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from support.browser import started_browser

from act_hf.records import add_record
from act_hf.report import build_report
from act_hf.review.simulated import simulate_review
from act_hf.sampling import sample
from act_hf.task import Task


LABELS = [
    "card_payment_wrong_exchange_rate",
    "beneficiary_not_allowed",
    "atm",
    "Refund not showing up",
    "getting_disposable_virtual_card",
]
BROKEN_INSIDE = """cells => cells.flatMap(cell => {
    const range = document.createRange(), text = cell.querySelector("bdi"), found = [];
    let above = null, walk = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(), before = ""; node; node = walk.nextNode())
        for (let place = 0; place < node.length; before = node.data[place++]) {
            range.setStart(node, place);
            range.setEnd(node, place + 1);
            const top = range.getBoundingClientRect().top;
            if (above !== null && top > above + 4 && !"_ ".includes(before)) found.push(text.innerText);
            above = top;
        }
    return found;
})"""


@pytest.fixture(scope="module")
def browser():
    with started_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Of 60 rows with long label names, in a file."""
    gold = [number % len(LABELS) for number in range(60)]
    values = {
        "text": [f"row {number}" for number in range(60)],
        "act_id": [str(number) for number in range(60)],
        "label": gold,
        "act_label": [(label + (number % 7 == 0)) % len(LABELS) for number, label in enumerate(gold)],
        "act_error_prob": [number % 7 / 10 for number in range(60)],
    }
    names = ClassLabel(names=LABELS)
    types = {"text": Value("string"), "act_id": Value("string"), "label": names, "act_label": names}
    rows = Dataset.from_dict(values, features=Features({**types, "act_error_prob": Value("float32")}))
    rows = add_record(rows, "annotate", task=Task(labels=LABELS, text="text").to_dict(), model="m")
    reviewed = simulate_review(sample(rows, budget=30), gold="label")
    return build_report(reviewed, gold="label").save(tmp_path_factory.mktemp("report") / "report.html")


@pytest.mark.parametrize("width", [1200, 400])
def test_a_label_is_not_broken_inside_a_word(browser, report, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(report.as_uri())
    assert page.locator("#accuracy td.name").count() == len(LABELS)
    assert page.locator("#accuracy td.name").evaluate_all(BROKEN_INSIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # the table scrolls, the page does not
