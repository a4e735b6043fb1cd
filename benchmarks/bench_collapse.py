"""
Why normalised sampling collapses on many classes, and what holds: the table and the picture of docs/log.md.

    python benchmarks/bench_collapse.py                        # a synthetic set of 60 classes
    python benchmarks/bench_collapse.py --data FOLDER          # and banking77: train.parquet and test.parquet of it
    python benchmarks/bench_collapse.py --epochs 10 --seeds 2  # to try it: prints, and saves nothing

A network with one hidden layer, far larger than it needs to be, trains on 3,000 rows with the ACT loss. Annotator,
critic and reviewer are *simulated*: the annotator takes one of the three classes nearest to the true one in 15 % of
the rows, the critic's error probability is noisy (AUROC about 0.85), people review 15 % and are right. All seeds, each
with a draw and a network of its own (and rows, where they are synthetic), train at once, as one batched network.
"""

import argparse
import json
import os


os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from machine import save_result
from sklearn.metrics import roc_auc_score

from act_hf.loss import MISSING, act_loss
from act_hf.models.embedded import minilm_path
from act_hf.models.encoder import EncoderModel
from act_hf.report.plots import COLOURS, STYLES, new_figure, new_panels, png
from act_hf.sampling import RULES, draw


ROWS, TESTED, CLASSES, FEATURES = 3000, 3000, 60, 32
BUDGET, ERROR = 0.15, 0.15
HIDDEN, BATCH, RATE, EPOCHS, SEEDS = 256, 64, 1e-3, 60, 5
PICTURE = Path(__file__).parent.parent / "docs" / "collapse.png"

# name: rule (None: all rows as they are said to be), and whether the loss of a row is kept at 0 or above
METHODS = {
    "all human": ("human", False),
    "machine only": ("machine", False),
    "normalised": ("normalised", False),
    "normalised, non-negative": ("normalised", True),
    "root": ("root", False),
    "root, non-negative": ("root", True),
    "exponential": ("exponential", False),
    "exponential, non-negative": ("exponential", True),
    "threshold": ("threshold", False),
}
DRAWN = ("machine only", "normalised", "normalised, non-negative", "threshold")


@dataclass
class Job:
    """One seed: rows to train and test on, labels by machine and people, and what the critic said."""

    features: np.ndarray
    truth: np.ndarray
    machine: np.ndarray
    error_probs: np.ndarray
    tested: tuple[np.ndarray, np.ndarray]

    def columns(self, rule: str, seed: int) -> tuple[np.ndarray, ...]:
        """machine, human, selected and pi, as `act_loss` takes them."""
        size = len(self.truth)
        if rule in ("human", "machine"):
            labels = self.truth if rule == "human" else self.machine
            return labels, np.full(size, MISSING), np.zeros(size, dtype=bool), np.ones(size)
        pi = RULES[rule](self.error_probs, BUDGET)
        selected = draw(pi, seed=(seed, 1))
        return self.machine, np.where(selected, self.truth, MISSING), selected, pi


def simulated(features, truth, tested, centres, seed: int) -> Job:
    random = np.random.default_rng((seed, 2))
    near = np.argsort(np.linalg.norm(centres[:, None] - centres[None], axis=-1), axis=1)[:, 1:4]
    wrong = random.random(len(truth)) < ERROR
    machine = np.where(wrong, near[truth, random.integers(0, 3, len(truth))], truth)
    log_odds = np.log(ERROR / (1 - ERROR)) + 1.5 * np.where(wrong, 1.0, -0.2) + random.normal(0, 1.2, len(truth))
    return Job(features, truth, machine, 1 / (1 + np.exp(-log_odds)), tested)


def synthetic(seed: int) -> Job:
    random = np.random.default_rng((seed, 3))
    centres = random.normal(0, 1, (CLASSES, FEATURES))

    def rows(count: int):
        truth = random.integers(0, CLASSES, count)
        return (centres[truth] + random.normal(0, 1.15, (count, FEATURES))).astype("float32"), truth

    train, test = rows(ROWS), rows(TESTED)
    return simulated(*train, test, centres, seed)


def banking(folder: str) -> list[Dataset]:
    encoder = EncoderModel(minilm_path())
    parts = []
    for name in ("train", "test"):
        rows = Dataset.from_parquet(f"{folder}/{name}.parquet").shuffle(seed=0).select(range(3000))
        vectors = torch.cat([encoder.embed(rows["text"][i : i + 64])[0] for i in range(0, len(rows), 64)])
        parts.append((vectors.numpy(), np.array(rows["label"][:])))
    return parts


def real(parts, seed: int) -> Job:
    (features, truth), test = parts
    centres = np.stack([features[truth == label].mean(axis=0) for label in range(int(truth.max()) + 1)])
    scale = 1 / features.std()
    return simulated(features * scale, truth, (test[0] * scale, test[1]), centres, seed)


class Networks(torch.nn.Module):
    """One network a seed, side by side: `[seeds, rows, features]` to `[seeds, rows, classes]`."""

    def __init__(self, seeds: int, features: int, classes: int):
        super().__init__()
        torch.manual_seed(0)
        sizes = ((features, HIDDEN), (HIDDEN, classes))
        self.weights = torch.nn.ParameterList(
            [torch.nn.Parameter(torch.randn(seeds, *size) / size[0] ** 0.5) for size in sizes]
        )
        self.biases = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(seeds, 1, size[1])) for size in sizes])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(torch.baddbmm(self.biases[0], x, self.weights[0]))
        return torch.baddbmm(self.biases[1], hidden, self.weights[1])


def trained(jobs: list[Job], rule: str, non_negative: bool, epochs: int) -> dict:
    seeds, size = len(jobs), len(jobs[0].truth)
    features = torch.tensor(np.stack([job.features for job in jobs]))
    columns = [np.stack(values) for values in zip(*(job.columns(rule, s) for s, job in enumerate(jobs)), strict=True)]
    columns = [torch.tensor(values) for values in columns]
    tests = torch.tensor(np.stack([job.tested[0] for job in jobs]))
    gold = torch.tensor(np.stack([job.tested[1] for job in jobs]))
    networks = Networks(seeds, features.shape[-1], int(max(job.truth.max() for job in jobs)) + 1)
    optimizer = torch.optim.Adam(networks.parameters(), lr=RATE)
    order = torch.Generator().manual_seed(0)
    every = torch.arange(seeds)[:, None]
    curve = {"loss": [], "accuracy": []}
    for _ in range(epochs):
        shuffled = torch.stack([torch.randperm(size, generator=order) for _ in range(seeds)])
        total = torch.zeros(seeds)
        for start in range(0, size, BATCH):
            rows = shuffled[:, start : start + BATCH]
            logits = networks(features[every, rows])
            batch = [values[every, rows].flatten() for values in columns]
            losses = act_loss(logits.flatten(0, 1), *batch, non_negative=non_negative, reduction="none")
            losses = losses.reshape(seeds, -1)
            optimizer.zero_grad()
            losses.mean(dim=1).sum().backward()  # the sum: every seed has the gradient of its own mean
            optimizer.step()
            total += losses.detach().sum(dim=1)
        with torch.no_grad():
            right = (networks(tests).argmax(dim=-1) == gold).double().mean(dim=1)
        curve["loss"].append((total / size).tolist())
        curve["accuracy"].append(right.tolist())
    return curve


def measured(jobs: list[Job], epochs: int, name: str) -> tuple[dict, dict]:
    wrong = [job.machine != job.truth for job in jobs]
    auroc = np.mean([roc_auc_score(w, job.error_probs) for w, job in zip(wrong, jobs, strict=True)])
    print(f"{name}: machine errors {np.mean(wrong):.3f}, AUROC of the simulated critic {auroc:.3f}")
    curves, table = {}, {}
    for method, (rule, guard) in METHODS.items():
        curves[method] = trained(jobs, rule, guard, epochs)
        last = 100 * np.array(curves[method]["accuracy"][-1])
        spread = round(float(last.std(ddof=1)), 1) if len(last) > 1 else None
        loss = round(float(np.mean(curves[method]["loss"][-1])), 2)
        table[method] = {"accuracy": round(float(last.mean()), 1), "sd": spread, "last_loss": loss}
        table[method]["best_accuracy"] = round(100 * float(np.mean(curves[method]["accuracy"], axis=1).max()), 1)
        print(f"  {method}: {table[method]}", flush=True)
    return {
        "machine_errors": round(float(np.mean(wrong)), 4),
        "auroc": round(float(auroc), 3),
        "methods": table,
    }, curves


def picture(curves: dict) -> bytes:
    figure = new_figure(5.4)
    above, below = new_panels(figure, 2)
    for number, method in enumerate(DRAWN):
        style = {"color": COLOURS[number], "linestyle": STYLES[number], "linewidth": 2}
        epochs = range(1, len(curves[method]["loss"]) + 1)
        for panel, what, scale in ((above, "loss", 1), (below, "accuracy", 100)):
            values = scale * np.array(curves[method][what])
            panel.plot(epochs, values.mean(axis=1), label=method, **style)
            panel.fill_between(epochs, values.min(axis=1), values.max(axis=1), color=COLOURS[number], alpha=0.15, lw=0)
    above.axhline(0, color="black", linewidth=1)
    above.set(ylabel="training loss\n(nats a row)", ylim=(-6, 4.2))
    below.set(xlabel="epoch", ylabel="test accuracy (%)")
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False)
    return png(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a folder with train.parquet and test.parquet of banking77 (text, label)")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args()
    seeds = range(given.seeds)
    torch.set_num_threads(1)
    sets = {"synthetic": [synthetic(seed) for seed in seeds]}
    if given.data:
        parts = banking(given.data)
        sets["banking77"] = [real(parts, seed) for seed in seeds]
    results, curves = {}, {}
    for name, jobs in sets.items():
        results[name], curves[name] = measured(jobs, given.epochs, name)
    settings = {"rows": ROWS, "budget": BUDGET, "hidden": HIDDEN, "batch": BATCH, "epochs": given.epochs}
    result = {"simulated": "annotator, critic and reviewer", **settings, "seeds": given.seeds, "sets": results}
    if (given.epochs, given.seeds) != (EPOCHS, SEEDS) or not given.data:
        print(json.dumps(result, indent=1))
        return
    PICTURE.write_bytes(picture(curves["synthetic"]))
    save_result("collapse", result)


if __name__ == "__main__":
    main()
