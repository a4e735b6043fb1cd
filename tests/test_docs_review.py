"""docs/how-to/review.md, followed from nothing: each command run as printed, once with the page, once with Argilla."""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.argilla_rest import Rest
from support.argilla_server import ENVIRONMENT, require_argilla
from support.browser import Reviewer, started_browser
from support.command import good
from support.pages import served
from support.weights import embedded

from act_hf.columns import HUMAN, ID, LABEL, RESPONSES, SELECTED
from act_hf.files import read_dataset
from act_hf.models.embedded import minilm_path, smollm2_path
from act_hf.quickstart import load_sample
from act_hf.review.argilla_local.data import DataFolder


DOC = Path(__file__).parent.parent / "docs" / "how-to" / "review.md"


def commands(heading: str) -> list[list[str]]:
    """The `act-hf` lines of the section, as the words of a command line; of what is before the first one for ""."""
    section = re.split(r"^## ", DOC.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (own,) = [text for text in section if text.startswith(heading)][:1]
    blocks = "".join(re.findall(r"```sh\n(.*?)```", own, flags=re.DOTALL))
    return [shlex.split(line, comments=True)[1:] for line in blocks.splitlines() if line.startswith("act-hf ")]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The data set, annotated, criticized and drawn."""
    embedded(smollm2_path), embedded(minilm_path)
    folder = tmp_path_factory.mktemp("review")
    rows = load_sample("pool").take(48)
    names = rows.features["label"].names
    with (folder / "tickets.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows([row["text"], names[row["label"]]] for row in rows)
    before = Path.cwd()
    os.chdir(folder)
    try:
        for words in commands("# From"):
            good(*words)
        yield folder
    finally:
        os.chdir(before)


@pytest.mark.model
class TestFromADataSetToCorrectedLabels:
    def test_with_the_page(self, begun):
        page, status, pull = commands("A page on your machine")
        assert page[:2] == ["review", "page"]
        with served(*page[2:]) as opened, started_browser() as browser:
            person = Reviewer(browser)
            person.open(opened.url, "ann")
            for _ in range(24):
                person.press("1")
            assert "take them back with: act-hf review pull drawn drawn-review.sqlite OUTPUT" in opened.stop()
        said = good(*status)
        assert "24 of 24 rows answered (100%), 0 to go" in said
        assert "ann: 24 answers" in said
        good(*pull)
        reviewed = read_dataset("reviewed")
        assert [label is not None for label in reviewed[HUMAN]] == reviewed[SELECTED][:]
        assert set(reviewed[HUMAN]) == {0, None}
        (weighed,) = commands("Several people")
        good(*weighed)
        assert read_dataset("weighed")[HUMAN][:] == reviewed[HUMAN][:]
        report, train = commands("And then")
        good(*report)
        assert Path("report.html").exists()
        good(*train)
        assert Path("model/model.safetensors").exists()

    def test_with_argilla(self, begun, monkeypatch):
        require_argilla()
        local, push, status, pull = commands("Argilla")
        monkeypatch.setenv("ACT_HF_HOME", str(ENVIRONMENT.parent))  # where the server is installed
        run = [sys.executable, "-m", "act_hf.cli", *local, "--port", "0", "--home", "argilla-home"]
        server = subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        try:
            ready = next(line for line in server.stdout if "Argilla is ready" in line)
            people = {person.role: person for person in DataFolder(Path("argilla-home")).people()}
            url = re.search(r"http://\S+", ready)[0]
            monkeypatch.setenv("ARGILLA_API_URL", url)
            monkeypatch.setenv("ARGILLA_API_KEY", people["owner"].api_key)
            assert "24 rows to review in argilla:argilla/tickets: answer at http" in good(*push)
            labels = read_dataset("drawn").features[LABEL].names
            annotators = [one for one in DataFolder(Path("argilla-home")).people() if one.role == "annotator"]
            ids = Rest(url, people["owner"].api_key).ids("tickets")
            for annotator in annotators[:2]:
                for record in ids.values():
                    Rest(url, annotator.api_key).answer(record, labels[3])
            said = good(*status)
            assert "24 of 24 rows answered (100%), 0 to go" in said
            assert "Argilla: 24 of 24 rows done, 0 pending" in said
            good(*pull, "--overwrite")
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=120)
        reviewed = read_dataset("reviewed")
        drawn = {act_id for act_id, own in zip(reviewed[ID], reviewed[SELECTED], strict=True) if own}
        assert drawn == set(ids)
        assert {label for label in reviewed[HUMAN] if label is not None} == {3}
        told = [{one["annotator"] for one in given} for given in reviewed[RESPONSES] if given]
        assert told == [{one.username for one in annotators[:2]}] * len(told)
        assert len(told) == 24
