"""Epochs and learning rate of a set: chosen once, on rows of its pool, for the arm that has all human labels."""

import json
from dataclasses import replace

import numpy as np
from machine import RESULTS
from paper.data import Source
from paper.features import Cache
from paper.protocol import Protocol
from paper.training import Labels, fit, probabilities


EPOCHS = {"mlp": (10, 30, 60), "cnn": (12, 24)}
LARGE, FEWER = 20_000, (5, 10, 20)
"""A pool so large goes through more batches in fewer epochs."""
RATES = (3e-4, 1e-3)
SPLITS = 2
"""Different fifths, each with a seed of its own: none of those of the cells."""

CHOICES = RESULTS / "paper" / "choices.json"


def choose(protocol: Protocol, source: Source, cache: Cache) -> None:
    """Writes what each setting reaches on the held-out fifths of the pool; a protocol states the best of them."""
    rows = protocol.load(source, cache).labelled()
    found = []
    for epochs in FEWER if len(rows.gold) > LARGE else EPOCHS[protocol.recipe.network]:
        for rate in RATES:
            recipe = replace(protocol.recipe, epochs=epochs, rate=rate)
            reached = [_held_out(rows, recipe, 1000 + split) for split in range(SPLITS)]
            found.append({"epochs": epochs, "rate": rate, "accuracy": round(100 * float(np.mean(reached)), 2)})
            print(protocol.name, found[-1], flush=True)
    best = max(found, key=lambda one: one["accuracy"])
    kept = json.loads(CHOICES.read_text(encoding="utf-8")) if CHOICES.exists() else {}
    kept[protocol.name] = {"chosen": {"epochs": best["epochs"], "rate": best["rate"]}, "tried": found}
    CHOICES.parent.mkdir(parents=True, exist_ok=True)
    CHOICES.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _held_out(rows, recipe, seed: int) -> float:
    fifth = np.random.default_rng(seed).permutation(len(rows.gold)) % 5 == 0
    labels = Labels.certain(rows.gold[~fifth])
    network, _ = fit(rows.inputs[~fifth], labels, rows.classes, recipe, seed=seed)
    return float((probabilities(network, rows.inputs[fifth]).argmax(axis=1) == rows.gold[fifth]).mean())
