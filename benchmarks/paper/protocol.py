"""What a protocol states, and the arrays that come of it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from paper.data import Source
    from paper.features import Cache


@dataclass(frozen=True)
class Paper:
    """What the paper reports of the set: test accuracies and the share that people reviewed, in %."""

    human: float
    machine: float
    normalised: float
    exponential: float
    threshold: float
    share: float

    @property
    def gap(self) -> float:
        return round(self.human - max(self.normalised, self.exponential, self.threshold), 2)

    @property
    def closed(self) -> float:
        """How much of the way from machine to human labels its best ACT arm goes."""
        return 1 - self.gap / (self.human - self.machine)


@dataclass(frozen=True)
class Recipe:
    """How every arm of a set is trained: AdamW, the rate falling to 0 in a line, no early stopping."""

    network: str = "mlp"
    epochs: int = 30
    rate: float = 1e-3
    batch: int = 64
    decay: float = 1e-2
    hidden: int = 512


@dataclass(frozen=True)
class Tuning:
    """How the arms of a set are trained where a whole encoder is: by `train_classifier`, so by `ACTTrainer`."""

    base: str = "minilm"
    epochs: int = 4
    rate: float = 5e-5


@dataclass(frozen=True)
class Rows:
    """
    A set as its protocol loads it. `inputs` is what the network sees, `content` a digest a row, `signals` what real
    critics say by name, `votes` `[N, M]` the labels of other raters (-1: none), `texts` what an error model may read.
    """

    pool_ids: np.ndarray
    pool_content: np.ndarray
    inputs: np.ndarray
    gold: np.ndarray
    machine: np.ndarray
    signals: dict[str, np.ndarray]
    votes: np.ndarray
    vectors: np.ndarray
    test_ids: np.ndarray
    test_content: np.ndarray
    test_inputs: np.ndarray
    test_gold: np.ndarray
    classes: int
    texts: list[str] | None = None
    test_texts: np.ndarray | None = None

    def __post_init__(self) -> None:
        if shared := set(self.pool_ids) & set(self.test_ids):
            raise ValueError(f"{len(shared)} rows are both in the pool and measured on, such as {min(shared)}")

    def labelled(self) -> "Rows":
        """Without the rows of the pool that the annotator gave no label."""
        return self._of_pool(self.machine >= 0)

    def unseen(self) -> "Rows":
        """Without the rows to measure on whose content also occurs in the pool."""
        kept = ~np.isin(self.test_content, self.pool_content)
        names = ["test_ids", "test_content", "test_inputs", "test_gold"]
        names += [] if self.test_texts is None else ["test_texts"]
        return replace(self, **{name: getattr(self, name)[kept] for name in names})

    def _of_pool(self, kept: np.ndarray) -> "Rows":
        names = ("pool_ids", "pool_content", "inputs", "gold", "machine", "votes", "vectors")
        texts = [text for text, keep in zip(self.texts, kept, strict=True) if keep] if self.texts else None
        signals = {name: values[kept] for name, values in self.signals.items()}
        return replace(self, **{name: getattr(self, name)[kept] for name in names}, texts=texts, signals=signals)


@dataclass(frozen=True)
class Protocol:
    """
    One set, from its rows to what is measured.

    `fused` names the signals whose fusion is the critic, with what a network trained on the machine labels says of
    rows that it has not seen ("out of fold"). `chosen_on` says for each choice on which rows it was made.
    With `tuning` an encoder is trained in every arm, the `recipe` is that of the out-of-fold network alone, and there
    are a few arms only (`TUNED`).
    """

    name: str
    pool: str
    annotator: str
    critic: str
    measured: str
    backbone: str
    paper: Paper
    recipe: Recipe
    load: Callable[["Source", "Cache"], Rows]
    fused: tuple[str, ...]
    seeds: int = 5
    long: int = 5
    tuning: Tuning | None = None
    chosen_on: dict[str, str] = field(default_factory=dict)
    notes: str = ""

    @property
    def share(self) -> float:
        """The paper's human share, from 0 to 1."""
        return self.paper.share / 100

    def facts(self) -> dict:
        """What it states, without the function."""
        return {key: value for key, value in asdict(replace(self, load=None)).items() if key != "load"}

    def version(self) -> str:
        """Of what a cell depends on: cells of another version are not taken for done."""
        parts = [self.name, self.annotator, self.critic, self.measured, self.backbone, self.fused, asdict(self.recipe)]
        parts += [self.long, self.paper.share, *([asdict(self.tuning)] if self.tuning else [])]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


BY_POOL = "human CE trained on four fifths of the pool and measured on the other fifth (choices.json)"
CHOSEN_ON = {
    "epochs, rate": BY_POOL,
    "lambda": "not chosen: 1, the paper's loss",
    "beta": "the pool's error probabilities alone, without any label (solve_beta with its default)",
    "mix": "not chosen: 0, as in the paper",
    "critic": "not chosen: all signals there are, fused, before any training result was seen",
    "batch, decay, hidden units": "not chosen: set beforehand",
    "out-of-fold network": "epochs and rate as the others', so with the pool's human labels",
}
"""Unless a protocol says otherwise."""


def digests(*parts: list) -> np.ndarray:
    """One digest a row of everything that it consists of."""
    return np.array(
        [hashlib.sha256(b"\0".join(_bytes(part) for part in row)).hexdigest()[:16] for row in zip(*parts, strict=True)]
    )


def _bytes(part: object) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()
