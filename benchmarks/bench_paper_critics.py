"""
How well a small local model criticizes the recorded labels of the paper's sets: a table of docs/results.md.

    python benchmarks/bench_paper_critics.py --data FOLDER --weights WEIGHTS     # an hour on one core

Qwen2.5-Coder-1.5B (and -0.5B where a reply has to be written) criticize 200 labels each (100 by `devil`) of GPT-4,
GPT-4o, Claude 3.5 Sonnet and GPT-4o-mini: `likelihood` and `logit` on the text, `devil` on the reasoning that the
annotator wrote. Each finished critic is kept in benchmarks/results/paper/local_critics.json, so a run that was broken
off goes on, within it from the store. `--weights` is a folder with qwen15.gguf and qwen05.gguf.
"""

import argparse
import json
import os


os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from bench_critics import INSTRUCTIONS, SENTENCES, WORDS
from datasets import ClassLabel, Dataset, Features, Value
from machine import RESULTS
from paper.data import Source
from paper.judged import figures

from act_hf import LocalModel, Task, criticize
from act_hf.records import add_record


KEPT = RESULTS / "paper" / "local_critics.json"
ROWS = {"likelihood": 200, "logit": 200, "devil": 100}
"""Of a pool, at random, by strategy: a small model reads a row a second here, and writes a reply in five."""

GARMENTS = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


@dataclass(frozen=True)
class Question:
    """One critic of one annotator's labels."""

    name: str
    annotator: tuple[str, str]
    strategy: str
    calibration: str = "none"
    weights: str = "qwen15"

    @property
    def title(self) -> str:
        critic = {"qwen15": "Qwen 1.5B", "qwen05": "Qwen 0.5B"}[self.weights]
        centred = ", batch calibration" if self.calibration == "batch" else ""
        return f"{self.name} | {' '.join(self.annotator)} | {critic} {self.strategy}{centred}"


GPT4 = ("gpt-4", "12_shot")
GPT4O, CLAUDE, CLAUDE_COT = (
    ("gpt-4o", "coc_1shot"),
    ("claude-3-5-sonnet-20240620", "coc"),
    ("claude-3-5-sonnet-20240620", "cot"),
)
QUESTIONS = (
    Question("emotion", GPT4, "likelihood"),
    Question("irony", GPT4O, "likelihood", "batch"),
    Question("irony", CLAUDE, "likelihood", "batch"),
    Question("emotion", GPT4, "logit"),
    Question("irony", GPT4O, "logit"),
    Question("irony", CLAUDE, "logit"),
    Question("irony", GPT4O, "devil", weights="qwen05"),
    Question("irony", CLAUDE_COT, "devil", weights="qwen05"),
    Question("fashion_mnist", ("gpt-4o-mini", "cot"), "devil", weights="qwen05"),
)


def labelled(source: Source, question: Question) -> tuple[Dataset, np.ndarray]:
    """Some of the test rows as annotate would have left them, and which of their labels are wrong."""
    name, (model, strategy) = question.name, question.annotator
    rows, names = source.rows(name, "test"), source.labels(name)
    said = source.said(name, rows["id"], model=model, strategy=strategy)
    reasons = source.reasons(name, rows["id"], model=model, strategy=strategy)
    label = ClassLabel(names=names)
    # A critic that sees no image is shown what the annotator wrote of it.
    texts = rows["text"].tolist() if "text" in rows else reasons
    values = {"act_id": rows["id"].tolist(), "text": texts, "act_label": said.tolist(), "act_rationale": reasons}
    text = Value("string")
    made = Dataset.from_dict(
        values, features=Features({"act_id": text, "text": text, "act_label": label, "act_rationale": text})
    )
    task = Task(
        labels=names,
        text="text",
        instruction=INSTRUCTIONS.get(name, "Which garment does the description describe?"),
        words=WORDS.get(name, GARMENTS),
        sentences=SENTENCES.get(name, ()),
    )
    made = add_record(made, "annotate", task=task.to_dict(), model=model)
    kept = chosen_rows(len(made), ROWS[question.strategy])
    return made.select(kept), (said != rows["label"].to_numpy())[kept]


def chosen_rows(size: int, count: int) -> np.ndarray:
    """At random, the same each time."""
    return np.sort(np.random.default_rng(0).permutation(size)[:count])


def ask(question: Question, source: Source, model: LocalModel, store: Path) -> dict:
    """What the critic is worth on the rows that it judged."""
    longest = {"max_tokens": 60} if question.strategy == "devil" else {}
    rows, wrong = labelled(source, question)
    made = criticize(
        rows,
        model,
        strategy=question.strategy,
        calibration=question.calibration,
        store=store,
        batch_size=64,
        **longest,
    )
    error_probs = np.array([np.nan if value is None else value for value in made["act_error_prob"][:]], dtype=float)
    known = ~np.isnan(error_probs)
    counts = {"rows": int(known.sum()), "failed": int((~known).sum()), "errors": int(wrong[known].sum())}
    return {**counts, **figures(error_probs[known], wrong[known])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the sets and the recorded answers")
    parser.add_argument("--weights", type=Path, required=True, help="a folder with qwen15.gguf and qwen05.gguf")
    parser.add_argument("--store", type=Path, default=Path("critics.sqlite"), help="where answers are kept")
    given = parser.parse_args()
    load = cache(lambda name: LocalModel(given.weights / f"{name}.gguf", dtype="bfloat16", threads=1, batch_size=64))
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    for question in QUESTIONS:
        if question.title in kept:
            continue
        kept[question.title] = ask(question, Source(given.data), load(question.weights), given.store)
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(question.title, kept[question.title], flush=True)


if __name__ == "__main__":
    main()
