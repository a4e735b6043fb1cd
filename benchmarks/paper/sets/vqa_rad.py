"""vqa_rad: yes-or-no questions about radiographs; GPT-4o answers, three other models are the panel."""

import numpy as np
import pandas as pd
from paper.data import Source
from paper.features import Cache, image_vectors, sentences, standardised
from paper.protocol import CHOSEN_ON, Paper, Protocol, Recipe, Rows, digests
from paper.recorded import panel, said_by


ANNOTATOR = ("gpt-4o", "zero_shot")
OTHERS = (("gemini-2.5-pro", "zero_shot"), ("qwen2.5vl:7b", "zero_shot"), ("llama3.2-vision:11b", "zero_shot"))


def load(source: Source, cache: Cache) -> Rows:
    pool, tests = source.rows("vqa_rad", "train"), source.rows("vqa_rad", "test")
    machine, votes = said_by(source, "vqa_rad", pool["id"], ANNOTATOR, OTHERS)
    seen = [_vectors(table, split, source, cache) for table, split in ((pool, "train"), (tests, "test"))]
    return Rows(
        pool_ids=pool["id"].to_numpy(),
        pool_content=_digests(pool),
        inputs=standardised(seen[0], seen[0]),
        gold=pool["label"].to_numpy(),
        machine=machine,
        signals={"panel": panel(machine, votes, 2)},
        votes=votes,
        vectors=seen[0][:, -384:],
        test_ids=tests["id"].to_numpy(),
        test_content=_digests(tests),
        test_inputs=standardised(seen[1], seen[0]),
        test_gold=tests["label"].to_numpy(),
        classes=2,
        texts=pool["question"].tolist(),
    )


def _vectors(table: pd.DataFrame, split: str, source: Source, cache: Cache) -> np.ndarray:
    """Of the image and of the question, side by side."""
    name = f"vqa_rad-{split}"
    images = cache.array(f"{name}-lite0-224{source.cut}", lambda: image_vectors(table["image"]))
    questions = cache.array(f"{name}-minilm{source.cut}", lambda: sentences(table["question"].tolist()))
    return np.concatenate([images.astype(np.float32), questions], axis=1)


def _digests(table: pd.DataFrame) -> np.ndarray:
    return digests([cell["bytes"] for cell in table["image"]], table["question"].tolist())


PROTOCOL = Protocol(
    name="vqa_rad",
    pool="942 yes-or-no questions of the train split, without those that GPT-4o did not answer by yes or no",
    annotator="GPT-4o (recorded)",
    critic="panel of Gemini 2.5 Pro, Qwen2.5-VL 7B and Llama 3.2 Vision 11B (recorded), out of fold; fused",
    measured="251 yes-or-no questions of the test split",
    backbone="EfficientNet-Lite0 (ImageNet) and MiniLM, both frozen, and a network with 512 hidden units on both",
    paper=Paper(67.81, 61.03, 62.55, 67.73, 67.02, share=30.15),
    recipe=Recipe(epochs=30, rate=3e-4),
    load=load,
    fused=("panel",),
    chosen_on=CHOSEN_ON,
)
