"""fashion_mnist: garments; GPT-4o-mini labels the official test split and reasons about it."""

import numpy as np
from paper.data import Source, image_digests
from paper.features import Cache, components, pixels, sentences
from paper.protocol import CHOSEN_ON, Paper, Protocol, Recipe, Rows
from paper.training import out_of_fold


ANNOTATOR = {"model": "gpt-4o-mini", "strategy": "cot"}
READER = Recipe(epochs=30, hidden=256)


def load(source: Source, cache: Cache) -> Rows:
    pool, tests = source.rows("fashion_mnist", "test"), source.rows("fashion_mnist", "train")
    machine = source.said("fashion_mnist", pool["id"], **ANNOTATOR)
    reasons = source.reasons("fashion_mnist", pool["id"], **ANNOTATOR)
    name = f"fashion_mnist-{{}}{source.cut}"
    read = cache.array(name.format("reasons-minilm"), lambda: sentences(reasons))
    inputs = cache.array(name.format("test-pixels"), lambda: pixels(pool["image"], 28))
    doubted = cache.array(name.format("reasons-doubt"), lambda: _doubted(read, machine))
    return Rows(
        pool_ids=pool["id"].to_numpy(),
        pool_content=image_digests(pool),
        inputs=inputs,
        gold=pool["label"].to_numpy(),
        machine=machine,
        signals={"reasoning": doubted},
        votes=np.empty((len(pool), 0), dtype=int),
        vectors=components(inputs.reshape(len(inputs), -1) / 255),
        test_ids=tests["id"].to_numpy(),
        test_content=image_digests(tests),
        test_inputs=cache.array(name.format("train-pixels"), lambda: pixels(tests["image"], 28)),
        test_gold=tests["label"].to_numpy(),
        classes=10,
    )


def _doubted(read: np.ndarray, machine: np.ndarray) -> np.ndarray:
    """1 - P(label) from the reasoning alone, by a network that learnt which reasoning leads to which label."""
    probs = out_of_fold(np.ascontiguousarray(read), np.maximum(machine, 0), 10, READER)
    return 1 - probs[np.arange(len(machine)), machine]


PROTOCOL = Protocol(
    name="fashion_mnist",
    pool="10,000 images, the test split",
    annotator="GPT-4o-mini with its reasoning (recorded)",
    critic="a reader of the reasoning (MiniLM) and a network on the images, both out of fold on machine labels; fused",
    measured="60,000 images, the train split",
    backbone="two convolutions of 16 and 32 channels and 128 hidden units, from scratch",
    paper=Paper(93.01, 82.86, 69.27, 89.73, 89.16, share=21.81),
    recipe=Recipe(network="cnn", epochs=24, batch=128, hidden=128, rate=1e-3),
    load=load,
    fused=("reasoning",),
    seeds=3,
    long=3,
    chosen_on=CHOSEN_ON,
    notes="No other model's answer is recorded: both signals of the critic are learnt from the labels they judge.",
)
