"""Pools that recorded models labelled: their signals, and the rows of text sets."""

import numpy as np
import pandas as pd
from paper.data import Source
from paper.features import Cache, sentences, standardised
from paper.protocol import Rows, digests

from act_hf.critics.raters import panel_error_probs


Rater = tuple[str, str]
"""A model and its prompt, as they were recorded."""


def text_rows(
    source: Source,
    cache: Cache,
    name: str,
    *,
    annotator: Rater,
    others: tuple[Rater, ...],
    sentences_of: tuple[str, ...],
) -> Rows:
    """The test split as the pool, the train split to measure on, both as MiniLM's vectors."""
    pool, tests = source.rows(name, "test"), source.rows(name, "train")
    raw = cache.array(f"{name}-test-minilm{source.cut}", lambda: sentences(pool["text"].tolist()))
    raw_tests = cache.array(f"{name}-train-minilm{source.cut}", lambda: sentences(tests["text"].tolist()))
    machine, votes = said_by(source, name, pool["id"], annotator, others)
    labels = source.labels(name)
    doubt = cache.array(
        f"{name}-minilm-likelihood-{'-'.join(annotator)}{source.cut}",
        lambda: encoder_doubt(pool["text"].tolist(), machine, labels, sentences_of),
    )
    return Rows(
        pool_ids=pool["id"].to_numpy(),
        pool_content=digests(pool["text"].tolist()),
        inputs=standardised(raw, raw),
        gold=pool["label"].to_numpy(),
        machine=machine,
        signals={"panel": panel(machine, votes, len(labels)), "minilm likelihood": doubt},
        votes=votes,
        vectors=raw,
        test_ids=tests["id"].to_numpy(),
        test_content=digests(tests["text"].tolist()),
        test_inputs=standardised(raw_tests, raw),
        test_gold=tests["label"].to_numpy(),
        classes=len(labels),
        texts=pool["text"].tolist(),
        test_texts=tests["text"].to_numpy(dtype=object),
    )


def said_by(
    source: Source, name: str, ids: pd.Series, annotator: Rater, others: tuple[Rater, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """What the annotator said, `[N]`, and the others, `[N, M]`."""
    machine, *rest = (
        source.said(name, ids, model=model, strategy=strategy) for model, strategy in (annotator, *others)
    )
    return machine, np.stack(rest, axis=1)


def panel(machine: np.ndarray, votes: np.ndarray, classes: int) -> np.ndarray:
    """The package's panel; 0.5 for rows without a label, which no arm is given."""
    error_probs, known = np.full(machine.size, 0.5), machine >= 0
    error_probs[known], _ = panel_error_probs(machine[known], votes[known], classes)
    return error_probs


def encoder_doubt(texts: list[str], machine: np.ndarray, labels: list[str], said: tuple[str, ...]) -> np.ndarray:
    """The critic likelihood with the embedded MiniLM: 1 - P(label), by the cosine to a sentence for each label."""
    from datasets import ClassLabel, Dataset, Features, Value

    from act_hf import EncoderModel, Task, criticize
    from act_hf.models.embedded import minilm_path
    from act_hf.records import add_record

    text = Value("string")
    rows = {
        "act_id": [str(row) for row in range(len(texts))],
        "text": texts,
        "act_label": np.maximum(machine, 0).tolist(),
    }
    made = Dataset.from_dict(
        rows, features=Features({"act_id": text, "text": text, "act_label": ClassLabel(names=labels)})
    )
    task = Task(labels=labels, text="text", sentences=said)
    made = add_record(made, "annotate", task=task.to_dict(), model="recorded")
    made = criticize(made, EncoderModel(minilm_path(), max_length=128), strategy="likelihood")
    return np.array(made["act_error_prob"][:], dtype=float)
