"""cifar10: 50,000 images labelled by one person each (CIFAR-10N), the labels of two others are the panel."""

import numpy as np
import pandas as pd
from paper.data import Source, image_digests
from paper.features import Cache, components, image_vectors, standardised
from paper.protocol import CHOSEN_ON, Paper, Protocol, Recipe, Rows
from paper.recorded import panel, said_by


PERSON = "human:CIFAR-10N"
SIZE = 128


def load(source: Source, cache: Cache) -> Rows:
    pool, tests = source.rows("cifar10", "train"), source.rows("cifar10", "test")
    others = tuple((PERSON, f"random_label{number}") for number in (2, 3))
    machine, votes = said_by(source, "cifar10", pool["id"], (PERSON, "random_label1"), others)
    raw, raw_tests = image_features(pool, "train", source, cache), image_features(tests, "test", source, cache)
    return Rows(
        pool_ids=pool["id"].to_numpy(),
        pool_content=image_digests(pool),
        inputs=standardised(raw, raw),
        gold=pool["label"].to_numpy(),
        machine=machine,
        signals={"panel": panel(machine, votes, 10)},
        votes=votes,
        vectors=components(raw),
        test_ids=tests["id"].to_numpy(),
        test_content=image_digests(tests),
        test_inputs=standardised(raw_tests, raw),
        test_gold=tests["label"].to_numpy(),
        classes=10,
    )


def image_features(table: pd.DataFrame, split: str, source: Source, cache: Cache) -> np.ndarray:
    name = f"cifar10-{split}-lite0-{SIZE}{source.cut}"
    return cache.array(name, lambda: image_vectors(table["image"], size=SIZE)).astype(np.float32)


PROTOCOL = Protocol(
    name="cifar10",
    pool="50,000 images, the train split",
    annotator="one person an image: CIFAR-10N's first label (recorded)",
    critic="panel of the two other people's labels (recorded), out of fold; fused",
    measured="10,000 images, the test split",
    backbone=f"EfficientNet-Lite0 (ImageNet, frozen, {SIZE} pixels), and a network with 512 hidden units on it",
    paper=Paper(88.66, 81.55, 64.70, 87.73, 87.95, share=11.52),
    recipe=Recipe(batch=256, epochs=10, rate=3e-4),
    load=load,
    fused=("panel",),
    seeds=3,
    long=3,
    chosen_on=CHOSEN_ON,
    notes="17.2 % of the labels are wrong: whoever looks at 11.5 % of them, the paper's share, cannot find all.",
)
