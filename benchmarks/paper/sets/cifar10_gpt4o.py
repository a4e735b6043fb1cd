"""cifar10 again, small: GPT-4o's labels of 2,000 images of the test split."""

from dataclasses import replace

import numpy as np
import pandas as pd
from paper.data import Source, image_digests
from paper.features import Cache, components, standardised
from paper.protocol import Recipe, Rows
from paper.sets import cifar10


PEOPLE = {"model": "human:CIFAR-10H", "strategy": "majority"}


def load(source: Source, cache: Cache) -> Rows:
    table = source.rows("cifar10", "test")
    machine = source.said("cifar10", table["id"], model="gpt-4o", strategy="zero_shot_32px")
    raw = cifar10.image_features(table, "test", source, cache)
    asked = _asked(source, table["id"])
    pool, tests = np.flatnonzero(asked), np.flatnonzero(~asked)
    contents, ids, gold = image_digests(table), table["id"].to_numpy(), table["label"].to_numpy()
    people = source.said("cifar10", table["id"], **PEOPLE)[pool]
    return Rows(
        pool_ids=ids[pool],
        pool_content=contents[pool],
        inputs=standardised(raw[pool], raw[pool]),
        gold=gold[pool],
        machine=machine[pool],
        signals={"people": _dissent(source, table["id"].iloc[pool], machine[pool])},
        votes=people[:, None],
        vectors=components(raw[pool]),
        test_ids=ids[tests],
        test_content=contents[tests],
        test_inputs=standardised(raw[tests], raw[pool]),
        test_gold=gold[tests],
        classes=10,
    )


def _asked(source: Source, ids: pd.Series) -> np.ndarray:
    """The rows that GPT-4o was asked about, also where its answer named no label."""
    known = set(source.recorded("cifar10").query("model == 'gpt-4o'")["row_id"])
    return np.array([one in known for one in ids])


def _dissent(source: Source, ids: pd.Series, machine: np.ndarray) -> np.ndarray:
    """How many of about fifty people (CIFAR-10H) gave another label."""
    answers = source.answers("cifar10", ids, **PEOPLE)
    counts = np.array([np.array(answer.strip("[]").split(","), dtype=float) for answer in answers])
    return 1 - counts[np.arange(len(machine)), machine] / counts.sum(axis=1)


PROTOCOL = replace(
    cifar10.PROTOCOL,
    name="cifar10_gpt4o",
    pool="the 2,000 images of the test split that GPT-4o was asked about",
    annotator="GPT-4o (recorded)",
    critic="dissent of about fifty people an image (CIFAR-10H), out of fold; fused",
    measured="the other 8,000 images of the test split",
    recipe=Recipe(rate=3e-4),
    load=load,
    fused=("people",),
    seeds=5,
    long=5,
    notes="3.3 % of the labels are wrong: at the paper's human share there is little left to find.",
)
