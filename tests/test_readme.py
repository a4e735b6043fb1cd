"""What the README and docs/ say is run, and its figures are those of the benchmarks."""

import ast
import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from datasets import Dataset
from support.pages import to_review
from support.weights import embedded

from act_hf import prompts
from act_hf.annotators import annotate
from act_hf.cli import app
from act_hf.models.embedded import minilm_path, smollm2_path
from act_hf.quickstart import load_sample, sample_task


ROOT = Path(__file__).parent.parent
LABELS = {
    "human": "400 human labels",
    "machine": "400 machine labels",
    "act": "400 machine and 100 human labels (ACT)",
}
HUB = ROOT / "docs" / "how-to" / "hub.md"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def tickets(tmp_path):
    """One's own data: the file that the example names."""
    rows = load_sample("pool").take(40)
    names = rows.features["label"].names
    with (tmp_path / "tickets.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows([row["text"], names[row["label"]]] for row in rows)
    return tmp_path


@pytest.mark.model
def test_the_first_example_runs_as_printed(tickets):
    embedded(smollm2_path)
    embedded(minilm_path)
    example = blocks(README, "python")[0]
    assert len(example.strip().splitlines()) <= 20
    environment = {**os.environ, "HF_HOME": str(tickets / "hf")}
    result = subprocess.run(
        [sys.executable, "-c", example], cwd=tickets, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tickets / "report.html").exists()
    assert (tickets / "ticket-model" / "model.safetensors").exists()


@pytest.mark.model
def test_the_snippets_of_the_how_to_run(smollm2, minilm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = Dataset.from_dict({"text": ["a", "b"] * 100, "act_label": [0, 1] * 100})
    few_rows, task = load_sample("pool").take(24), sample_task()
    recorded = {"gpt4_label": few_rows["label"][:], "gpt4_confidence": [0.9] * 24}
    known = {
        "dataset": dataset,
        "drawn": to_review(["see you", "you won"]),
        "my_model": lambda texts, labels: [0.5 for _ in texts],
        "few_rows": few_rows,
        "rows": add_recorded(annotate(few_rows, task, minilm, store="answers.sqlite"), recorded),
        "task": task,
        "smollm2": smollm2,
        "minilm": minilm,
    }
    for page in ("how-to.md", "how-to/review.md"):
        for snippet in blocks((ROOT / "docs" / page).read_text(encoding="utf-8"), "python"):
            exec(snippet, known)  # the second goes on with what the first made
    assert known["dataset"]["act_error_prob"][:] == [0.5] * 200
    assert None not in known["rows"]["act_error_prob"][:]
    assert (tmp_path / "comparison.html").exists()


def add_recorded(rows: Dataset, recorded: dict) -> Dataset:
    for name, values in recorded.items():
        rows = rows.add_column(name, values)
    return rows


@pytest.mark.parametrize("page", ["text.md", "images.md"])
def test_snippets_that_need_servers_name_what_there_is(page):
    """They ask models behind servers that are not here: read, and their imports made, but not run."""
    for snippet in blocks((ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8"), "python"):
        tree = ast.parse(snippet)
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), page, "exec"), {})


def test_the_site_of_the_documentation_is_built(tmp_path):
    """Broken links and names end it, and what it makes asks no other host for anything."""
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", ROOT / "docs", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"'](https?:)?//", page.read_text())
        assert loaded == [], page


def test_every_command_it_names_is_one():
    from act_hf.cli import app, review

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    known |= {f"review {command.name}" for command in review.registered_commands}
    told = README + "".join(file.read_text(encoding="utf-8") for file in (ROOT / "docs").rglob("*.md"))
    named = {match.strip() for match in re.findall(r"act-hf (review \w+|[a-z]+)", told)}
    assert named
    assert named <= known


def test_every_option_it_names_is_one():
    """Every `act-hf` line of a shell block is read as the command line would read it."""
    command = typer.main.get_command(app)
    for file in (
        ROOT / "README.md",
        *(ROOT / "docs" / page for page in ("how-to.md", "how-to/text.md", "how-to/images.md", "how-to/review.md")),
        ROOT / "docs" / "budget.md",
        ROOT / "docs" / "how-to" / "hub.md",
    ):
        lines = "".join(blocks(file.read_text(encoding="utf-8"), "sh")).replace("\\\n", " ").splitlines()
        for words in (shlex.split(line, comments=True) for line in lines if line.startswith("act-hf ")):
            name, *rest = words[1:]
            found = command.commands[name]
            if name == "review":
                found, rest = found.commands[rest[0]], rest[1:]
            found.make_context(name, rest).close()  # raises for an option that there is not


def test_every_file_it_links_to_is_there():
    for file in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (file.parent / link).exists(), f"{file.name}: {link}"


def test_its_figures_are_the_benchmarks():
    result = json.loads((ROOT / "benchmarks" / "results" / "quickstart.json").read_text())
    assert result["prompts"] == prompts.VERSION, "measured with other prompts; run bench_quickstart.py again"
    found, at_random = result["errors_found"], result["errors_found_at_random"]
    table = {
        "always the most frequent label": f"{100 * result['majority_accuracy']:.1f} %",
        "machine labels": f"{100 * result['machine_accuracy']:.1f} %",
        "labels after review": f"{100 * result['accuracy_after_review']:.1f} %",
        "errors found in 100 reviewed rows": f"{found} (at random {at_random:.1f})",
    }
    for critic, figures in result["critics"].items():
        table[f"AUROC of the critic {critic.split(':')[0]}"] = f"{figures['auroc']:.2f}"
    for method, run in result["downstream"].items():
        table[f"classifier trained on {LABELS[method]}"] = f"{100 * run['mean']:.1f} ± {100 * run['sd']:.1f} %"
    for name, figure in table.items():
        assert f"| {name} | {figure} |" in README, f"the README lacks | {name} | {figure} |"


def test_the_table_of_the_collapse_is_the_benchmarks():
    sets = json.loads((ROOT / "benchmarks" / "results" / "collapse.json").read_text())["sets"]
    log = (ROOT / "docs" / "log.md").read_text(encoding="utf-8")
    for method in sets["synthetic"]["methods"]:
        both = [sets[name]["methods"][method] for name in ("synthetic", "banking77")]
        cells = [
            f"{run['accuracy']:.1f} ± {run['sd']:.1f} | {run['best_accuracy']:.1f} | {run['last_loss']:.2f}"
            for run in both
        ]
        assert f"| {method} | {' | '.join(cells)} |" in log, f"the log lacks the figures of {method}"
