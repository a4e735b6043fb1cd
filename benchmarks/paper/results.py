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
"""The arm that was named before any result was seen: the package's default rule and form, without its audit."""

LEAST_SEEDS = 3
"""From which on there is an interval."""


@dataclass(frozen=True)
class Difference:
    """Points, with a 95 % interval (NaN: too few seeds), for other rows too where the cells kept which were right."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} " + ("(two seeds)" if np.isnan(self.low) else f"({self.low:.2f} to {self.high:.2f})")


class SetResult:
    """The facts of a set, and its cells by arm and share, each by seed."""

    def __init__(self, name: str, folder: Path) -> None:
        self.protocol = PROTOCOLS[name]
        path = folder / f"{name}.json"
        facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"version": None}
        self.facts = facts if facts["version"] == self.protocol.version() else None
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

    def best_act(self) -> str | None:
        """The best ACT arm over the seeds that all of those that there are have."""
        there = {arm: self.cells[arm, 1.0] for arm in ACT if (arm, 1.0) in self.cells}
        seeds = set.intersection(*(set(cells) for cells in there.values())) if there else set()
        if not seeds:
            return None
        return max(there, key=lambda arm: np.mean([there[arm][seed]["accuracy"] for seed in sorted(seeds)]))

    def difference(self, one: str, other: str) -> Difference | None:
        """The first arm above the second, over the seeds that both have."""
        first, second = self.cells.get((one, 1.0), {}), self.cells.get((other, 1.0), {})
        pairs = [(first[seed], second[seed]) for seed in sorted(set(first) & set(second))]
        if len(pairs) < 2:
            return None
        gaps, rows = np.array([a["accuracy"] - b["accuracy"] for a, b in pairs]), self._by_row(pairs)
        half = _half_width(gaps, rows) if len(pairs) >= LEAST_SEEDS else np.nan
        value = float(gaps.mean())
        return Difference(value, value - half, value + half)

    def _by_row(self, pairs: list[tuple[dict, dict]]) -> np.ndarray | None:
        """`[N]`: for each row how much more often the first arm is right, in points, where the cells kept it."""
        if not all("right" in cell for pair in pairs for cell in pair):
            return None
        count = self.facts["measured_on"]
        return 100 * np.mean([_right(a, count) - _right(b, count) for a, b in pairs], axis=0)

    def needed_auroc(self, arm: str = NAMED) -> float | None:
        """The AUROC of a simulated critic from which on the arm's gap is within the paper's, if there is one."""
        needed = None
        for auroc in reversed(SWEEP):
            gap = self.sweep_gap(auroc, arm)
            if gap is not None and gap > self.protocol.paper.gap:
                break
            needed = needed if gap is None else auroc
        return needed

    def closed(self, arm: str) -> float | None:
        """How much of the way from machine to human labels the arm goes, where there is one by more than chance."""
        whole, rest = self.difference("human", "machine"), self.difference("human", arm)
        if whole is None or rest is None or not whole.low > 0:
            return None
        return 1 - rest.value / whole.value

    @property
    def idle(self) -> bool:
        """Whether machine labels that nobody reviewed are within the paper's gap: then any arm's gap says little."""
        found = self.difference("human", "machine")
        return found is not None and found.value <= self.protocol.paper.gap

    def sweep_gap(self, auroc: float, arm: str = NAMED) -> float | None:
        found = self.difference("human", f"{arm}, simulated {auroc:.2f}")
        return None if found is None else found.value


def _right(cell: dict, count: int) -> np.ndarray:
    return np.unpackbits(np.frombuffer(base64.b64decode(cell["right"]), dtype=np.uint8))[:count].astype(float)


def _half_width(gaps: np.ndarray, rows: np.ndarray | None) -> float:
    """
    Of a 95 % interval of the mean of the gaps `[seeds]`, by Student's t; where there are rows, with their part beside
    it: the two errors are independent, so their squares add up.
    """
    from scipy.stats import t

    by_seed = t.ppf(0.975, gaps.size - 1) * gaps.std(ddof=1) / np.sqrt(gaps.size)
    by_row = 0.0 if rows is None else 1.96 * rows.std(ddof=1) / np.sqrt(rows.size)
    return float(np.hypot(by_seed, by_row))


def all_results(folder: Path = RESULTS / "paper") -> list[SetResult]:
    """
    Of every set that has two seeds of human and of machine labels: less cannot be compared. Those that can tell arms
    apart come first.
    """
    made = [SetResult(name, folder) for name in PROTOCOLS]
    there = [one for one in made if one.facts and one.difference("human", "machine")]
    return sorted(there, key=lambda one: one.idle)
