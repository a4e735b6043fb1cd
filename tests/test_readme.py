"""The README's example is run, and figures are those of the benchmarks. The other pages: test_docs.py."""

import csv
import json
import os
import subprocess
import sys

import pytest
from support.documents import PAGES, ROOT, blocks
from support.weights import embedded

from act_hf import prompts
from act_hf.models.embedded import minilm_path, smollm2_path
from act_hf.quickstart import load_sample


LABELS = {
    "human": "400 human labels",
    "machine": "400 machine labels",
    "act": "400 machine and 100 human labels (ACT)",
}
README = PAGES["README.md"]


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
    (example,) = blocks("README.md", "python")
    assert len(example.strip().splitlines()) <= 20
    environment = {**os.environ, "HF_HOME": str(tickets / "hf")}
    result = subprocess.run(
        [sys.executable, "-c", example], cwd=tickets, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tickets / "report.html").exists()
    assert (tickets / "ticket-model" / "model.safetensors").exists()


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
    log = PAGES["docs/log.md"]
    for method in sets["synthetic"]["methods"]:
        both = [sets[name]["methods"][method] for name in ("synthetic", "banking77")]
        cells = [
            f"{run['accuracy']:.1f} ± {run['sd']:.1f} | {run['best_accuracy']:.1f} | {run['last_loss']:.2f}"
            for run in both
        ]
        assert f"| {method} | {' | '.join(cells)} |" in log, f"the log lacks the figures of {method}"
