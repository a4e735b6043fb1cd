"""stanford_cars: 196 models of cars. No recorded answers: two weak models stand in for annotator and critic."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from paper.data import Source, image_digests
from paper.features import Cache, components, image_vectors, standardised
from paper.protocol import CHOSEN_ON, Paper, Protocol, Recipe, Rows


CLASSES = 196
RIGHT = {"annotator": 1 - 0.0956, "critic": 0.85}
"""How many of the pool's labels each stand-in has right: the annotator at the paper's human share."""


def load(source: Source, cache: Cache) -> Rows:
    pool, tests = source.rows("stanford_cars", "train"), source.rows("stanford_cars", "test")

    def seen(table: pd.DataFrame, split: str, network: int) -> np.ndarray:
        name = f"stanford_cars-{split}-lite{network}-224{source.cut}"
        return cache.array(name, lambda: image_vectors(table["image"], network=network)).astype(np.float32)

    raw, gold = seen(pool, "train", 0), pool["label"].to_numpy()
    said, doubted = (
        cache.array(f"stanford_cars-{role}{source.cut}", _stand_in(seen(pool, "train", network), gold, RIGHT[role]))
        for role, network in (("annotator", 1), ("critic", 2))
    )
    machine = said.argmax(axis=1)
    return Rows(
        pool_ids=pool["id"].to_numpy(),
        pool_content=image_digests(pool),
        inputs=standardised(raw, raw),
        gold=gold,
        machine=machine,
        signals={"second model": 1 - doubted[np.arange(len(gold)), machine]},
        votes=np.empty((len(pool), 0), dtype=int),
        vectors=components(raw),
        test_ids=tests["id"].to_numpy(),
        test_content=image_digests(tests),
        test_inputs=standardised(seen(tests, "test", 0), raw),
        test_gold=tests["label"].to_numpy(),
        classes=CLASSES,
    )


def _stand_in(vectors: np.ndarray, gold: np.ndarray, right: float) -> Callable[[], np.ndarray]:
    """`[N, K]`, label probabilities of a linear model, fitted to true labels until that share of them is right."""

    def fitted() -> np.ndarray:
        torch.manual_seed(0)
        x, y = torch.from_numpy(standardised(vectors, vectors)), torch.tensor(gold)
        model = torch.nn.Linear(x.shape[1], CLASSES)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        while True:
            logits = model(x)
            if (logits.argmax(dim=1) == y).double().mean() >= right:
                return logits.softmax(dim=1).detach().numpy()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, y).backward()
            optimizer.step()

    return fitted


PROTOCOL = Protocol(
    name="stanford_cars",
    pool="3,136 images, 16 a class, of the official train split (the test split is not to be had)",
    annotator="stand-in: a linear model on EfficientNet-Lite1, fitted to the pool's labels until 90.4 % are right",
    critic="stand-in: likewise on EfficientNet-Lite2, until 85 % are right; its likelihood, and out of fold; fused",
    measured="1,568 images, 8 a class, of the official train split",
    backbone="EfficientNet-Lite0 (ImageNet, frozen), and a network with 512 hidden units on its vectors",
    paper=Paper(87.88, 83.68, 11.54, 86.19, 86.00, share=9.56),
    recipe=Recipe(epochs=60, rate=1e-3),
    load=load,
    fused=("second model",),
    seeds=3,
    chosen_on=CHOSEN_ON,
    notes="Errors depend on the image. Having been fitted to true labels makes it as good as the paper's annotator.",
)
