"""The review page in Chromium, from the command that serves it to the labels that come back."""

import re
import sqlite3
from urllib.parse import urlsplit

import pytest
from support.browser import Reviewer, started_browser
from support.pages import LABELS, served, to_review

from act_hf.columns import CRITIQUE, HUMAN, RATIONALE, RESPONSES
from act_hf.review.places import pull_review, push_review
from act_hf.task import Task


@pytest.fixture(scope="module")
def browser():
    with started_browser() as browser:
        yield browser


@pytest.fixture
def path(tmp_path):
    return tmp_path / "review.sqlite"


def numbered(rows: int):
    return to_review([f"row {number}" for number in range(rows)])


def number(text: str) -> int:
    return int(text.split()[1])


def human(dataset) -> list[str | None]:
    return [None if label is None else LABELS[label] for label in dataset[HUMAN][:]]


def events(path) -> list[tuple]:
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT person, kind, label, comment FROM events ORDER BY number").fetchall()


class TestKeyboard:
    def test_fifty_rows_by_keyboard_alone_and_the_server_killed_at_the_25th(self, browser, path):
        dataset = numbered(50)
        push_review(dataset, path)
        ann = Reviewer(browser)
        with served(path, "--port", 0) as page:
            shown = ann.open(page.url, "ann")
            for place in range(25):
                assert shown == f"row {place}"
                shown = ann.press(str(place % 3 + 1))
            page.kill()
            port = page.port
        assert len(events(path)) == 25
        ann.page.keyboard.press("3")
        ann.says("The server does not answer. This step is not saved yet")
        with served(path, "--port", port) as page:
            ann.says("The page was started anew, with another address")
            assert len(events(path)) == 25
            shown = ann.open(page.url)
            for place in range(25, 50):
                assert shown == f"row {place}"
                shown = ann.press(str(place % 3 + 1))
            assert shown == "Done"
        assert human(pull_review(dataset, path)) == [LABELS[place % 3] for place in range(50)]
        assert events(path) == [("ann", "label", LABELS[place % 3], None) for place in range(50)]
        assert outside(ann) == []
        assert ann.complaints == []

    def test_an_answer_given_while_the_server_is_down_arrives_once(self, browser, path):
        push_review(numbered(3), path)
        ann = Reviewer(browser)
        with served(path, "--port", 0, "--no-token") as page:
            ann.open(page.url, "ann")
            page.kill()
            port = page.port
        ann.page.keyboard.press("2")
        ann.says("trying again")
        ann.page.keyboard.press("3")  # about a row that is not there yet
        with served(path, "--port", port, "--no-token"):
            ann.page.wait_for_function("document.querySelector('#act .act-part pre')?.innerText === 'row 1'")
        assert events(path) == [("ann", "label", "spam", None)]

    def test_every_command(self, browser, path):
        push_review(numbered(6), path)
        ann = Reviewer(browser)
        with served(path, "--port", 0, "--annotator", "ann") as page:
            assert ann.open(page.url) == "row 0"
            assert ann.press("Enter") == "row 1"
            assert ann.press(" ") == "row 2"
            assert ann.press("s") == "row 3"
            assert ann.press("u") == "row 2"
            assert ann.press("Backspace") == "row 1"
            assert ann.page.inner_text("#act .act-label[data-label='0']").split() == [
                "1", "HAM".lower(), "machine", "your", "answer", "before", "↵",
            ]  # fmt: skip
            ann.press("c")
            ann.page.keyboard.type("u 1 s?")
            assert ann.press("Escape", "2") == "row 2"
            ann.press("?")
            assert ann.page.is_visible("#act .act-keys")
            assert ann.press("2", "Escape") == "row 2"  # keys do nothing beneath the list of keys
            assert not ann.page.is_visible("#act .act-keys")
            assert "You: 2 answered" in ann.text(".act-foot")
            assert "2 of 6 rows done" in ann.text(".act-count")
            assert "Machine label confirmed so far: 50\u00a0% of 2 answers." in ann.text(".act-confirmed")
            told = ann.text(".act-confirmed").partition("answers. ")[2]
            assert re.fullmatch(
                r"Accuracy of all machine labels: between \S+\s% and \S+\s%, whatever the answers to come \(95\s%\)\."
                r"|The most doubtful come first, so this is not the accuracy of the set\.",  # it is not worked out yet
                told,
            ), told
            assert ann.press("s", "1", "1", "1") == "Done"
            assert "act-hf review pull DATASET review.sqlite REVIEWED" in ann.text(".act-next")
            assert ann.press("s") == "row 2"
            assert ann.press("1") == "Done"
            assert ann.press("u") == "row 2"
        assert ann.complaints == []
        assert [event[1:] for event in events(path)] == [
            ("label", "ham", None),
            ("label", "ham", None),
            ("skip", None, None),
            ("undo", None, None),
            ("undo", None, None),
            ("label", "spam", "u 1 s?"),
            ("skip", None, None),
            ("label", "ham", None),
            ("label", "ham", None),
            ("label", "ham", None),
            ("undo", None, None),
            ("label", "ham", None),
            ("undo", None, None),
        ]

    def test_reasons_are_closed_until_they_are_asked_for_at_every_row(self, browser, path):
        push_review(numbered(2), path)
        ann = Reviewer(browser)
        with served(path, "--port", 0, "--annotator", "ann") as page:
            ann.open(page.url)
            assert not ann.page.is_visible("#act .act-reasons")
            ann.press("r")
            shown = ann.text(".act-reasons").split("\n")
            assert [line for line in shown if line] == [
                "Annotator",
                "it says so",
                "Critic",
                "100\u00a0% probable that the machine label is wrong",
                "too short",
            ]
            ann.press("1")
            assert not ann.page.is_visible("#act .act-reasons")

    def test_undo_after_the_page_was_closed(self, browser, path):
        push_review(numbered(3), path)
        with served(path, "--port", 0, "--annotator", "ann") as page:
            first = Reviewer(browser)
            first.open(page.url)
            assert first.press("2") == "row 1"
            first.context.close()
        with served(path, "--port", 0, "--annotator", "ann") as page:
            again = Reviewer(browser)
            again.open(page.url)
            assert again.press("u") == "row 0"
            again.press("3")
        assert [event[2] for event in events(path)] == ["spam", None, "-5"]

    def test_five_hundred_labels_are_found_by_typing(self, browser, path):
        task = Task(labels=tuple(f"intent {number}: <b>card</b>, 😀" for number in range(500)), text="sms")
        push_review(to_review(["a", "b", "c", "d"], task=task, machine=[7, 7, 7, None]), path)
        ann = Reviewer(browser)
        with served(path, "--port", 0, "--annotator", "ann") as page:
            ann.open(page.url)
            assert ann.page.locator("#act .act-label").count() == 500
            assert ann.text(".act-label >> nth=0").startswith("intent 7:")
            assert ann.press("Enter") == "b"
            ann.press("/")
            ann.page.keyboard.type("INTENT 49")
            assert ann.page.locator("#act .act-label").count() == 11
            ann.page.keyboard.press("ArrowDown")
            assert ann.press("Enter") == "c"
            ann.press("/")
            ann.page.keyboard.type("nothing of the kind")
            assert ann.press("Enter") == "c"
            assert ann.press("Escape", "s") == "d"
            ann.press("Enter")
            ann.says("The machine gave this row no label")
        labels = [label and label.split(":")[0] for _, _, label, _ in events(path)]
        assert labels == ["intent 7", "intent 490", None]


NASTY = (
    "<script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'> <svg onload=window.ran=1>",
    "**bold** [link](javascript:window.ran=1) `code`\n# heading\n| a | b |",
    "${window.ran = 1} {{#each value}}{{this}}{{/each}} </pre></textarea><style>*{display:none}</style>",
    "\u202etxet\u202c and \x1b[31m",
)


class TestHostileText:
    def test_nothing_runs_and_everything_is_shown_as_it_is(self, browser, path):
        labels = ("<img src=x onerror='window.ran=1'>", "a, b: c", "😀 **x**", "-5")
        task = Task(labels=labels, text="sms", instruction="<script>window.ran = 1</script> Is it *spam*?")
        dataset = to_review(NASTY, task=task, **{CRITIQUE: list(NASTY), RATIONALE: list(NASTY)})
        push_review(dataset, path)
        ann = Reviewer(browser)
        with served(path, "--port", 0) as page:
            shown = ann.open(page.url, "<b onmouseover=window.ran=1>ann</b>")
            expected = [*NASTY[:4], "⟦U+202E⟧txet⟦U+202C⟧ and ␛[31m"]
            for text in expected:
                assert shown == text
                ann.press("r")
                assert text in ann.text(".act-reasons")
                assert ann.page.locator("#act script, #act svg, #act style, #act img, #act a, #act h3").count() == 0
                shown = ann.press("1")
            assert shown == "Done"
            assert ann.text(".act-person") == "<b onmouseover=window.ran=1>ann</b>"
            assert ann.text(".act-top h1") == task.instruction
        assert ann.page.evaluate("window.ran") is None
        assert ann.complaints == []
        assert outside(ann) == []
        assert [event[2] for event in events(path)] == [labels[0]] * 5

    def test_the_policy_stops_what_would_get_through(self, browser, path):
        push_review(numbered(1), path)
        ann = Reviewer(browser)
        with served(path, "--port", 0, "--annotator", "ann") as page:
            ann.open(page.url)
            for sent, stopped in (
                ("fetch('https://example.org/').catch(() => {})", "connect-src"),
                ("document.body.append(Object.assign(new Image(), {src: 'https://example.org/x.png'}))", "img-src"),
            ):
                told = "document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective))"
                assert ann.page.evaluate(f"new Promise(done => {{ {told}; {sent} }})") == stopped


class TestSeveralPeople:
    def test_two_browsers_and_two_hundred_answers(self, browser, path):
        dataset = numbered(200)
        push_review(dataset, path)
        with served(path, "--port", 0) as page:
            people = [Reviewer(browser), Reviewer(browser)]
            shown = [people[0].open(page.url, "ann"), people[1].open(page.url, "bob")]
            answered = 0
            while any(text.startswith("row") for text in shown):
                at_work = [who for who in (0, 1) if shown[who].startswith("row")]
                for who in at_work:  # both send before either has the next row
                    people[who].page.keyboard.press(str(number(shown[who]) % 3 + 1))
                    answered += 1
                for who in at_work:
                    shown[who] = people[who].settled()
        assert answered == 200
        pulled = pull_review(dataset, path)
        assert human(pulled) == [LABELS[place % 3] for place in range(200)]
        assert [len(given) for given in pulled[RESPONSES]] == [1] * 200
        people = [event[0] for event in events(path)]
        assert (people.count("ann"), people.count("bob")) == (100, 100)

    def test_the_accuracy_says_that_one_of_two_answers_settles_a_row(self, browser, path):
        push_review(numbered(6), path)
        with served(path, "--port", 0, "--per-row", 2) as page:
            ann = Reviewer(browser)
            ann.open(page.url, "ann")
            ann.press("1", "2", "1")
            while "Accuracy" not in ann.text(".act-confirmed"):  # it is worked out beside the review
                ann.press("u", "1")
            assert "to come; a row with one answer counts as settled (95" in ann.text(".act-confirmed")

    def test_two_tabs_of_one_person_show_different_rows(self, browser, path):
        push_review(numbered(3), path)
        with served(path, "--port", 0) as page:
            first = Reviewer(browser)
            assert first.open(page.url, "ann") == "row 0"
            second = Reviewer(first.context)
            assert second.open(page.url) == "row 1"
            first.page.reload()
            first.page.wait_for_selector("#act .act-row")
            assert first.shown() == "row 0"
            assert first.press("1") == "row 2"
            assert second.press("1") == "row 2"
        assert len(events(path)) == 2

    def test_the_name_can_be_changed(self, browser, path):
        push_review(numbered(3), path)
        with served(path, "--port", 0) as page:
            ann = Reviewer(browser)
            ann.open(page.url, "ann")
            ann.press("1")
            ann.page.click("#act .act-person")
            ann.page.fill("#act .act-who", "bob")
            ann.page.keyboard.press("Enter")
            ann.page.wait_for_selector("#act .act-row")
            ann.press("2")
        assert [event[0] for event in events(path)] == ["ann", "bob"]


@pytest.fixture(scope="module")
def served_texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("look") / "review.sqlite"
    task = Task(
        labels=("a_very_long_label_name_that_goes_on", *(f"label {number}" for number in range(12))), text="sms"
    )
    push_review(to_review(["word " * 2000, "short"], task=task), path)
    with served(path, "--port", 0, "--annotator", "ann") as page:
        yield page.url


class TestLook:
    @pytest.mark.parametrize("width", [320, 390, 1280])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_fits_and_can_be_read(self, browser, served_texts, width, scheme):
        ann = Reviewer(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
        ann.open(served_texts)
        ann.press("r")
        wide = ann.page.evaluate(
            "[...document.querySelectorAll('#act *')].filter(part => part.getClientRects().length && "
            "part.getBoundingClientRect().right > innerWidth + 1).map(part => part.className)"
        )
        assert wide == []
        assert {name: ratio for name, ratio in ann.page.evaluate(CONTRASTS).items() if ratio < 4.5} == {}

    def test_a_megabyte_of_text(self, browser, path):
        push_review(to_review(["word " * 200_000 + "end", "next"]), path)
        ann = Reviewer(browser)
        with served(path, "--port", 0, "--annotator", "ann") as page:
            assert ann.open(page.url).endswith("word end")
            assert ann.press("1") == "next"


# The least contrast of text with what is behind it, by class (WCAG 2: 4.5 for text of ordinary size).
CONTRASTS = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (part) => {
    for (; part; part = part.parentElement) {
      const colour = rgb(getComputedStyle(part).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const isText = (node) => node.nodeType === 3 && node.data.trim();
  const found = {};
  for (const part of document.querySelectorAll("#act *")) {
    if (!part.getClientRects().length || ![...part.childNodes].some(isText)) continue;
    const [one, other] = [light(rgb(getComputedStyle(part).color)), light(behind(part))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const name = `${part.tagName} ${part.className}`;
    found[name] = Math.min(found[name] ?? 99, ratio);
  }
  return found;
}"""


def outside(reviewer: Reviewer) -> list[str]:
    """What was asked of another machine."""
    hosts = {url: urlsplit(url).hostname for url in reviewer.asked if not url.startswith(("data:", "blob:"))}
    assert hosts
    return [url for url, host in hosts.items() if host != "127.0.0.1"]
