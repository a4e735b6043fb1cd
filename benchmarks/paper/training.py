"""Networks, and their training by the ACT loss: the same for every arm."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from paper.protocol import Recipe
from torch import Tensor, nn

from act_hf.loss import MISSING, act_loss


FOLDS = 5


@dataclass(frozen=True)
class Labels:
    """The four columns of the loss, `[N]` each."""

    machine: Tensor
    human: Tensor
    selected: Tensor
    pi: Tensor

    @classmethod
    def certain(cls, labels: np.ndarray) -> "Labels":
        """Labels taken as they are: the loss is cross-entropy."""
        size = len(labels)
        said = torch.as_tensor(labels, dtype=torch.int64)
        return cls(said, torch.full((size,), MISSING), torch.zeros(size, dtype=torch.bool), torch.ones(size))

    def __getitem__(self, rows: Tensor) -> Sequence[Tensor]:
        return self.machine[rows], self.human[rows], self.selected[rows], self.pi[rows]


class Convolutions(nn.Sequential):
    """For grey images of 28 x 28 bytes: two convolutions, each halved, and a hidden layer."""

    def __init__(self, classes: int, hidden: int) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.MaxPool2d(2),  # before the ReLU: the same numbers from a quarter of the work
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        # Channels last: three times as fast on a CPU.
        return super().forward((images.float() / 127.5 - 1).to(memory_format=torch.channels_last))


def new_network(recipe: Recipe, inputs: np.ndarray, classes: int) -> nn.Module:
    if recipe.network == "cnn":
        return Convolutions(classes, recipe.hidden).to(memory_format=torch.channels_last)
    return nn.Sequential(nn.Linear(inputs.shape[1], recipe.hidden), nn.ReLU(), nn.Linear(recipe.hidden, classes))


def fit(
    inputs: np.ndarray, labels: Labels, classes: int, recipe: Recipe, *, seed: int, non_negative: bool = False
) -> tuple[nn.Module, float]:
    """A trained network, and the mean loss of its last epoch."""
    torch.manual_seed(seed)
    network, x = new_network(recipe, inputs, classes), torch.from_numpy(inputs)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay, fused=True)
    order, size = torch.Generator().manual_seed(seed), len(inputs)
    steps, done, total = recipe.epochs * -(-size // recipe.batch), 0, 0.0
    for _ in range(recipe.epochs):
        shuffled, total = torch.randperm(size, generator=order), 0.0
        for rows in shuffled.split(recipe.batch):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * (1 - done / steps)
            loss = act_loss(network(x[rows]), *labels[rows], non_negative=non_negative)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done, total = done + 1, total + loss.item() * len(rows)
    return network, total / size


@torch.inference_mode()
def probabilities(network: nn.Module, inputs: np.ndarray) -> np.ndarray:
    """`[N, K]`."""
    parts = [network(torch.from_numpy(part)).softmax(dim=1) for part in np.array_split(inputs, len(inputs) // 100 + 1)]
    return torch.cat(parts).numpy()


def out_of_fold(inputs: np.ndarray, labels: np.ndarray, classes: int, recipe: Recipe, seed: int = 0) -> np.ndarray:
    """
    `[N, K]`: what a network trained on the labels of four fifths of the rows says of the others. A third of the
    epochs: one that has learnt the labels by heart is sure of everything.
    """
    fold = np.random.default_rng((seed, 5)).permutation(len(labels)) % FOLDS
    shorter, probs = replace(recipe, epochs=-(-recipe.epochs // 3)), np.empty((len(labels), classes))
    for number in range(FOLDS):
        others, own = fold != number, fold == number
        network, _ = fit(inputs[others], Labels.certain(labels[others]), classes, shorter, seed=seed)
        probs[own] = probabilities(network, inputs[own])
    return probs
