"""What the finished cells say: means, spreads, and differences paired by seed with intervals."""

import base64
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import RESULTS
from paper.arms import SAME, SWEEP
from paper.cells import CellFile
from paper.sets import PROTOCOLS


ACT = tuple(
    f"act {rule}{guard}"
    for rule in ("normalised", "exponential", "threshold", "root")
    for guard in ("", ", non-negative")
)
NAMED = "act exponential, non-negative"
"""The arm that was named before any result was seen: the package's defaults without their audit."""

BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Difference:
    """Points, with a 95 % interval. `rows` says whether it is for other rows too, or only for other seeds."""

    value: float
    low: float
    high: float
    rows: bool

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


class SetResult:
    """The facts of a set, and its cells by arm and share, each by seed."""

    def __init__(self, name: str, folder: Path) -> None:
        self.protocol = PROTOCOLS[name]
        path = folder / f"{name}.json"
        self.facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        self.cells: dict[tuple[str, float], dict[int, dict]] = defaultdict(dict)
        for cell in CellFile(folder / f"{name}.jsonl", self.protocol.version()).lines():
            self.cells[cell["arm"], cell["share"]][cell["seed"]] = cell
        for arm, like in SAME.items():
            for share in {share for known, share in self.cells if known == like}:
                self.cells[arm, share] = self.cells[like, share]

    def values(self, arm: str, share: float = 1.0, what: str = "accuracy") -> np.ndarray:
        """By seed."""
        return np.array([cell[what] for _, cell in sorted(self.cells.get((arm, share), {}).items())])

    def mean(self, arm: str, share: float = 1.0, what: str = "accuracy") -> float:
        values = self.values(arm, share, what)
        return float(values.mean()) if values.size else float("nan")

    def spread(self, arm: str, share: float = 1.0) -> float:
        values = self.values(arm, share)
        return float(values.std(ddof=1)) if values.size > 1 else float("nan")

    def best_act(self, share: float = 1.0) -> str | None:
        there = [arm for arm in ACT if self.values(arm, share).size]
        return max(there, key=lambda arm: self.mean(arm, share)) if there else None

    def difference(self, one: str, other: str, share: float = 1.0, of: float = 1.0) -> Difference | None:
        """The first arm above the second, over the seeds that both have; people's whole work has no share."""
        first, second = self.cells.get((one, of), {}), self.cells.get((other, share), {})
        seeds = sorted(set(first) & set(second))
        if len(seeds) < 2:
            return None
        pairs = [(first[seed], second[seed]) for seed in seeds]
        gaps = np.array([a["accuracy"] - b["accuracy"] for a, b in pairs])
        if all("right" in cell for pair in pairs for cell in pair):
            return self._over_rows(pairs, float(gaps.mean()))
        return _over_seeds(gaps)

    def _over_rows(self, pairs: list[tuple[dict, dict]], value: float) -> Difference:
        """Seeds and rows resampled together."""
        count = self.facts["measured_on"]
        gaps = np.array([_right(a, count) - _right(b, count) for a, b in pairs]) * 100
        random, draws = np.random.default_rng(0), []
        for _ in range(BOOTSTRAPS):
            mean = gaps[random.integers(len(gaps), size=len(gaps))].mean(axis=0)
            draws.append(mean[random.integers(count, size=count)].mean())
        low, high = np.quantile(draws, (0.025, 0.975))
        return Difference(value, float(low), float(high), rows=True)

    def needed_auroc(self, arm: str = NAMED) -> float | None:
        """The AUROC of a simulated critic from which on the arm's gap is within the paper's, if there is one."""
        needed = None
        for auroc in reversed(SWEEP):
            gap = self.sweep_gap(auroc, arm)
            if gap is not None and gap > self.protocol.paper.gap:
                break
            needed = needed if gap is None else auroc
        return needed

    def sweep_gap(self, auroc: float, arm: str = NAMED) -> float | None:
        found = self.difference("human", f"{arm}, simulated {auroc:.2f}")
        return None if found is None else found.value


def _right(cell: dict, count: int) -> np.ndarray:
    return np.unpackbits(np.frombuffer(base64.b64decode(cell["right"]), dtype=np.uint8))[:count].astype(float)


def _over_seeds(gaps: np.ndarray) -> Difference:
    from scipy.stats import t

    half = t.ppf(0.975, gaps.size - 1) * gaps.std(ddof=1) / np.sqrt(gaps.size)
    return Difference(float(gaps.mean()), float(gaps.mean() - half), float(gaps.mean() + half), rows=False)


def all_results(folder: Path = RESULTS / "paper") -> list[SetResult]:
    """Of every set that has any."""
    made = [SetResult(name, folder) for name in PROTOCOLS]
    return [one for one in made if one.facts and one.cells]
