"""
Which strategy works with which model on which kind of row: each cell is run, and docs/abilities.md is made of it.

    PYTHONPATH=tests python -m support.abilities    # writes docs/abilities.md
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from datasets import Dataset, Features, Image, Value
from PIL import Image as Picture

from act_hf.annotators import STRATEGIES as ANNOTATORS
from act_hf.annotators import annotate
from act_hf.critics import criticize
from act_hf.critics.panel import add_votes, criticize_panel
from act_hf.critics.strategies import STRATEGIES as CRITICS
from act_hf.errors import ACTError
from act_hf.models.base import Model
from act_hf.models.encoder import EncoderModel
from act_hf.models.endpoint import Endpoint
from act_hf.models.local import LocalModel
from act_hf.models.recorded import Recorded
from act_hf.task import Task
from support.server import Server, tops_of
from support.weights import save_tiny_bert, save_tiny_llama, save_tiny_vlm


LABELS = ("sad", "great")
TASKS = {
    "text": Task(LABELS, text="text"),
    "image": Task(LABELS, image="image"),
    "image and question": Task(LABELS, image="image", question="text"),
}
STRATEGIES = (
    *(f"annotate: {name}" for name in ANNOTATORS),
    *(f"criticize: {name}" for name in CRITICS),
    "criticize: panel",
)
WORKS = "yes"


def rows(task: Task) -> Dataset:
    """Two rows."""
    pictures = [Picture.new("RGB", (24, 16), colour) for colour in ("red", "blue")]
    features = Features({"text": Value("string"), "image": Image(), "label": Value("int64")})
    return Dataset.from_dict({"text": ["fine", "awful"], "image": pictures, "label": [0, 1]}, features=features)


def models(folder: Path, url: str, task: Task) -> Mapping[str, Callable[[], Model]]:
    """The columns of the table. Weights are random, and the labels mean nothing."""
    seeing = {"images": task.image is not None}
    server = {"base_url": url, **seeing}
    saved = folder / ("llava" if task.image else "llama")
    return {
        "Endpoint, llama.cpp or vLLM": lambda: Endpoint("m", server="vllm", **server),
        "Endpoint, others": lambda: Endpoint("m", **server),
        "Endpoint, logprobs=False": lambda: Endpoint("m", logprobs=False, **server),
        "LocalModel": lambda: LocalModel(saved),
        "EncoderModel": lambda: EncoderModel(folder / "bert"),
        "Recorded": lambda: Recorded.from_columns(rows(task), task, label="label", name="somebody"),
        "Recorded, certainty=0.9": lambda: Recorded.from_columns(
            rows(task), task, label="label", name="somebody", certainty=0.9
        ),
    }


def cell(strategy: str, model: Model, task: Task, store: Path) -> str:
    """`WORKS`, or the message of a refusal, which has to come before anything is asked."""
    dataset = rows(task)
    stage, name = strategy.split(": ")
    try:
        if stage == "annotate":
            made = annotate(dataset, task, model, strategy=name, store=store, max_tokens=8)
        else:
            labelled = annotate(dataset, task, Recorded.from_columns(dataset, task, label="label"), store=store)
            if name == "panel":
                made = criticize_panel(add_votes(labelled, task, {"voter": model}, store=store, max_tokens=8))
            else:
                made = criticize(labelled, model, strategy=name, store=store, max_tokens=8)
    except ACTError as refused:
        return str(refused).replace(model.name, "MODEL")
    value = made["act_label" if stage == "annotate" else "act_error_prob"]
    for found, failed in zip(value, made["act_failure"], strict=True):
        # A random model may say nothing that can be read. Then the row has to say so.
        assert failed is None if found is not None else " in the reply " in failed, (strategy, model, found, failed)
    return WORKS


def table() -> dict[str, dict[str, dict[str, str]]]:
    """Kind of row to strategy to model to cell."""
    with tempfile.TemporaryDirectory() as name, Server(tops=tops_of((*LABELS, "Yes", "No"))) as server:
        folder = Path(name)
        _lengthen(save_tiny_llama(folder / "llama"))
        _lengthen(save_tiny_vlm(folder / "llava", kind="llava"))
        save_tiny_bert(folder / "bert")
        return {
            kind: {
                strategy: {
                    title: cell(strategy, make(), task, folder / f"{abs(hash((kind, title)))}.sqlite")
                    for title, make in models(folder, server.url, task).items()
                }
                for strategy in STRATEGIES
            }
            for kind, task in TASKS.items()
        }


def _lengthen(folder: Path) -> None:
    """Our prompts take a few hundred of a byte-level tokenizer's tokens."""
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"max_position_embeddings": 256', '"max_position_embeddings": 4096'))


def page(cells: dict[str, dict[str, dict[str, str]]]) -> str:
    """docs/abilities.md."""
    notes: dict[str, int] = {}
    parts = [_INTRODUCTION]
    for kind, by_strategy in cells.items():
        titles = list(next(iter(by_strategy.values())))
        parts.append(f"\n## {kind.capitalize()}\n\n| | {' | '.join(titles)} |\n|---|{'---|' * len(titles)}\n")
        for strategy, by_model in by_strategy.items():
            shown = [
                said if said == WORKS else f"no [{notes.setdefault(said, len(notes) + 1)}]"
                for said in by_model.values()
            ]
            parts.append(f"| {strategy} | {' | '.join(shown)} |\n")
    parts.append("\n## What the refusals say\n\n")
    parts += [f"{number}. {note}\n" for note, number in notes.items()]
    return "".join(parts)


_INTRODUCTION = """# Which strategy works with which model

"yes": the stage runs, and each row ends with a value or with `act_failure`. "no": it is refused before anything is
asked, with the message below. Every cell is run by tests/test_abilities.py; tests/support/abilities.py makes the page.

The models of the test are small and random, or a server that answers without a model, so their labels mean nothing:
for images no model with real weights was at hand. An `Endpoint` has to be told that its model sees images
(`images=True`).
A panel's voters are the model of the column; its labels are criticized without asking it about them.
"""


if __name__ == "__main__":
    path = Path(__file__).parents[2] / "docs" / "abilities.md"
    path.write_text(page(table()), encoding="utf-8")
