"""Every code block of the documentation is run or read by a test, every link leads somewhere, and the site builds."""

import ast
import contextlib
import doctest
import functools
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import pytest
import typer
from datasets import Dataset
from PIL import Image
from support.browser import started_browser
from support.documents import PAGES, ROOT, blocks, every_block
from support.pages import to_review
from support.server import Server, tops_of

import act_hf
from act_hf.annotators import annotate
from act_hf.cli import app
from act_hf.columns import FAILURE, LABEL_PROBS, SELECTED
from act_hf.files import read_dataset
from act_hf.quickstart import load_sample, sample_task


RUN_HERE = {
    "docs/how-to.md": "test_the_snippets_of_the_how_to_run",
    "docs/how-to/text.md": "test_the_page_on_text_runs",
    "docs/how-to/images.md": "test_the_page_on_images_runs",
    "docs/how-to/review.md": "test_the_page_on_review_runs",
}
RUN_ELSEWHERE = {
    "README.md": ("test_readme.py", "test_the_first_example_runs_as_printed"),
    "docs/how-to/hub.md": ("test_space.py", "run_example"),
    "docs/ray.md": ("test_ray.py", "test_the_page_of_the_documentation"),
    "docs/streams.md": ("test_streams.py", "test_the_page_of_the_documentation"),
}
"""Which test runs the Python of which page, all blocks of it."""

COMMANDS = typer.main.get_command(app)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DIRECTIVES = ("{toctree}", "{public}", "{commands}")
"""What is no code: the site's own blocks, which its build reads."""


class TestCodeBlocks:
    @pytest.mark.parametrize("page", PAGES)
    def test_are_all_of_a_kind_that_is_checked(self, page):
        for language, text in every_block(page):
            known = language in ("python", "sh", "text", *DIRECTIVES)
            assert known, f"{page}: nothing checks this {language or 'plain'} block:\n{text}"
            hidden = language == "text" and HIDDEN.search(text)
            assert not hidden, f"{page}: code that says it is text:\n{text}"

    def test_with_python_are_run_on_every_page(self):
        with_python = {page for page in PAGES if blocks(page, "python")}
        assert with_python == {*RUN_HERE, *RUN_ELSEWHERE}, "a page whose Python no test runs, or the other way round"

    def test_are_taken_from_the_page_by_the_test_that_is_named(self):
        here = {page: (Path(__file__).name, test) for page, test in RUN_HERE.items()}
        for page, (file, test) in (here | RUN_ELSEWHERE).items():
            source = (ROOT / "tests" / file).read_text(encoding="utf-8")
            (body,) = [
                ast.get_source_segment(source, node)
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.FunctionDef) and node.name == test
            ]
            assert Path(page).name in body, f"{file}: {test} does not read {page}"
            assert "exec(" in body or '"-c", example' in body

    @pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")])
    def test_of_a_shell_are_commands(self, page):
        for line in lines_of(page):
            words = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
            if words:
                assert words[0] in READERS, f"{page}: no test knows how to read {line!r}"
                READERS[words[0]](page, words[1:])

    @pytest.mark.parametrize("name", act_hf.__all__)
    def test_of_a_docstring_are_python(self, name):
        for example in re.findall(r"```python\n(.*?)```", getattr(act_hf, name).__doc__, flags=re.DOTALL):
            found = doctest.DocTestParser().get_examples(example)
            assert found, f"{name}: an example begins with >>>"
            for one in found:
                compile(one.source, name, "exec")


def lines_of(page: str) -> list[str]:
    return "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()


def reads_act_hf(page: str, words: list[str]) -> None:
    """As the command line would read it."""
    name, *rest = words
    found = COMMANDS.commands[name]
    if name == "review":
        found, rest = found.commands[rest[0]], rest[1:]
    found.make_context(name, rest).close()  # raises for an option that there is not


def reads_make(page: str, words: list[str]) -> None:
    assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


def reads_pip(page: str, words: list[str]) -> None:
    command, *rest = words
    assert command == "install"
    for word in rest:
        if extras := re.search(r"\[(.+)\]", word):
            assert set(extras[1].split(",")) <= set(PYPROJECT["project"]["optional-dependencies"])
        elif not word.startswith("-"):
            assert (ROOT / word).exists()


def reads_python(page: str, words: list[str]) -> None:
    script = (ROOT / words[0]).read_text(encoding="utf-8")
    for option in (word for word in words[1:] if word.startswith("--")):
        assert f'"{option}"' in script


def reads_uv(page: str, words: list[str]) -> None:
    if words[0] == "run":
        return reads_hf(page, words)
    said = subprocess.run(
        [Path(sys.executable).parent / "uv", words[0], "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(word in said for word in words[1:])


def reads_hf(page: str, words: list[str]) -> None:
    assert page == "docs/how-to/hub.md", "whose commands test_hub_scripts.py reads"
    assert " ".join(words).startswith(("run ", "jobs uv run ", "repos ", "upload ", "spaces "))


def reads_export(page: str, words: list[str]) -> None:
    assert words == [], "what is exported is one NAME=value"


READERS = {
    "act-hf": reads_act_hf,
    "make": reads_make,
    "pip": reads_pip,
    "python": reads_python,
    "uv": reads_uv,
    "hf": reads_hf,
    "export": reads_export,
}
HIDDEN = re.compile(rf"^\s*({'|'.join(READERS)}|from|import|>>>|\$)\s", re.MULTILINE)
"""Code in a block that says it is text."""


def test_every_command_that_a_text_names_is_one():
    known = set(COMMANDS.commands) | {f"review {name}" for name in COMMANDS.commands["review"].commands}
    named = set(re.findall(r"act-hf (review [a-z]+|[a-z]+)", "".join(PAGES.values())))
    assert named
    assert named <= known


@pytest.mark.model
def test_the_snippets_of_the_how_to_run(smollm2, minilm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = Dataset.from_dict({"text": ["a", "b"] * 100, "act_label": [0, 1] * 100})
    few_rows, task = load_sample("pool").take(24), sample_task()
    recorded = {"gpt4_label": few_rows["label"][:], "gpt4_confidence": [0.9] * 24}
    known = {
        "dataset": dataset,
        "my_model": lambda texts, labels: [0.5 for _ in texts],
        "few_rows": few_rows,
        "rows": add_recorded(annotate(few_rows, task, minilm, store="answers.sqlite"), recorded),
        "task": task,
        "smollm2": smollm2,
        "minilm": minilm,
    }
    for snippet in blocks("docs/how-to.md", "python"):
        exec(snippet, known)  # the second goes on with what the first made
    assert known["dataset"]["act_error_prob"][:] == [0.5] * 200
    assert None not in known["rows"]["act_error_prob"][:]
    assert (tmp_path / "comparison.html").exists()


def add_recorded(rows: Dataset, recorded: dict) -> Dataset:
    for name, values in recorded.items():
        rows = rows.add_column(name, values)
    return rows


def at(example: str, annotator: Server, critic: Server) -> str:
    """The example with our servers in the place of those that it names, each of which has to be there."""
    for printed, server in (("http://localhost:8000/v1", annotator), ("http://localhost:8001/v1", critic)):
        assert printed in example
        example = example.replace(printed, server.url)
    return re.sub(r'= Endpoint\("[^"]+"', '= Endpoint("m"', example)


def test_the_page_on_text_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("ACT_HF_HOME", str(tmp_path))
    way, *others = blocks("docs/how-to/text.md", "python")
    known = {"tickets": Dataset.from_dict({"text": [f"where is parcel {number}?" for number in range(20)]})}
    with Server(tops=tops_of(["billing", "delivery", "other"])) as one, Server(tops=tops_of(["yes", "no"])) as other:
        exec(at(way, one, other), known)
    assert known["labelled"][FAILURE][:] == [None] * 20
    assert len({tuple(probs) for probs in known["labelled"][LABEL_PROBS]}) > 1
    assert sum(known["drawn"][SELECTED]) == 2
    for snippet in others:
        exec(snippet, {})


def test_the_page_on_images_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("ACT_HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for number in range(8):
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(f"pictures/{number}.png")
    way, *others = blocks("docs/how-to/images.md", "python")
    with Server(tops=tops_of(["whole", "broken"])) as one, Server(tops=tops_of(["yes", "no"])) as other:
        exec(at(way, one, other), {})
    drawn = read_dataset("drawn")
    assert drawn[FAILURE][:] == [None] * 8
    assert sum(drawn[SELECTED]) == 2
    for snippet in others:
        exec(snippet, {})


def test_the_page_on_review_runs(tmp_path, monkeypatch):
    """Its commands are followed in test_docs_review.py."""
    monkeypatch.chdir(tmp_path)
    known = {"drawn": to_review(["see you", "you won"])}
    for snippet in blocks("docs/how-to/review.md", "python"):
        exec(snippet, known)
    assert Path("to_review.sqlite").exists()


class TestLinks:
    @pytest.mark.parametrize("page", PAGES)
    def test_lead_to_files_that_are_there(self, page):
        """Those on other hosts are only looked at; anchors are checked by the build."""
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", PAGES[page]):
            if re.match("[a-z]+:", link):
                parts = urlparse(link)
                assert parts.scheme == "https", link
                assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
            else:
                assert ((ROOT / page).parent / link).exists(), link

    def test_every_picture_is_in_the_gallery(self):
        for picture in (ROOT / "docs").glob("*.png"):
            assert f"]({picture.name})" in re.sub(r"\s+", " ", PAGES["docs/gallery.md"])


def build(docs: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does."""
    (recipe,) = re.findall(r"sphinx-build (.*) docs build/docs", (ROOT / "Makefile").read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "sphinx", *recipe.split(), str(docs), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    ended = build(ROOT / "docs", out)
    assert ended.returncode == 0, ended.stderr
    return out


def pages_of(site: Path) -> list[Path]:
    found = sorted(site.rglob("*.html"))
    assert len(found) > 20
    return found


class Parts(HTMLParser):
    """What a page makes a browser load, the ids it has, and its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.text: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if "id" in given:
            self.ids.add(given["id"])
        names = ("src", "srcset", "data", "poster", "action", "href" if tag not in ("a", "area") else "ping")
        self.loaded += [given[name] for name in names if given.get(name)]

    def handle_data(self, data):
        self.text.append(data)


@contextlib.contextmanager
def hosted(site: Path) -> Iterator[str]:
    """The site on this machine, as a plain file server gives it."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class TestSite:
    def test_has_a_page_for_every_page(self, site):
        expected = {Path(page).relative_to("docs").with_suffix(".html") for page in PAGES if page.startswith("docs/")}
        assert expected <= {page.relative_to(site) for page in pages_of(site)}

    def test_loads_nothing_from_another_host(self, site):
        loaded = [link for page in pages_of(site) for link in Parts(page).loaded]
        for sheet in site.rglob("*.css"):
            loaded += re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]+)", sheet.read_text(encoding="utf-8"))
        assert loaded
        assert [link for link in loaded if re.match(r"\s*(//|(?!data:)[a-z]+:)", link)] == []

    def test_asks_no_other_host_in_a_browser(self, site):
        asked, complaints = [], []
        with hosted(site) as url, started_browser() as browser:
            page = browser.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            for shown in ("index.html", "gallery.html", "reference/annotate.html", "search.html?q=annotate"):
                page.goto(f"{url}/{shown}", wait_until="networkidle")
            assert page.locator("#search-results li").count() > 2
        assert [address for address in asked if not address.startswith(f"{url}/")] == []
        assert complaints == []

    def test_the_reference_has_every_public_name_and_every_command(self, site):
        parts = [Parts(page) for page in (site / "reference").glob("*.html")]
        ids = set().union(*(one.ids for one in parts))
        assert {f"act_hf.{name}" for name in act_hf.__all__} <= ids
        assert "act_hf.Store.merge" in ids, "methods are in it too"
        text = " ".join("".join(one.text) for one in parts)
        for name in COMMANDS.commands:
            assert f"act-hf {name}" in text

    def test_docstrings_are_shown_as_what_they_mean(self, site):
        for page in (site / "reference").glob("*.html"):
            text = "".join(Parts(page).text)
            assert not re.search(r"^\s*(Args|Raises|Returns|Attributes):\s*$", text, flags=re.MULTILINE)
            assert "```" not in text
            assert not re.search(r"0x[0-9a-f]{6,}|<factory>", text)

    def test_the_start_page_is_the_readme(self, site):
        page = (site / "index.html").read_text(encoding="utf-8")
        assert "Two commands" in page
        assert 'href="concepts.html"' in page
        assert 'href="https://github.com/act-hf/act_hf/blob/main/benchmarks/bench_quickstart.py"' in page

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[a page](nowhere.md)", "nowhere.md"),
            ("[a place](concepts.md#nowhere)", "nowhere"),
            ("[here](#nowhere)", "nowhere"),
            ("{py:obj}`act_hf.nothing`", "act_hf.nothing"),
            ("![a picture](nothing.png)", "nothing.png"),
        ],
    )
    def test_what_is_broken_ends_the_build(self, tmp_path, text, says):
        """In a repository of two pages."""
        docs = tmp_path / "docs"
        shutil.copytree(ROOT / "docs" / "building", docs / "building")
        for name in ("docs/conf.py", "pyproject.toml"):
            shutil.copy(ROOT / name, tmp_path / name)
        (tmp_path / "README.md").write_text("# Start\n")
        (docs / "index.md").write_text("```{toctree}\nconcepts\n```\n")
        (docs / "concepts.md").write_text("# Concepts\n")
        assert build(docs, tmp_path / "good").returncode == 0
        (docs / "concepts.md").write_text(f"# Concepts\n\n{text}\n")
        ended = build(docs, tmp_path / "bad")
        assert ended.returncode == 1
        assert "concepts.md:3: WARNING: " in ended.stderr
        assert says in ended.stderr
