"""The arms: which rows people look at, and what is trained on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from baselines import CDI_REFIT, cdi_selection, cleanlab_order
from datasets import Dataset
from paper.problem import FUSED, Problem, criticized
from paper.training import Labels

from act_hf import calibrate, sample, simulate_review, to_training
from act_hf.columns import HUMAN, LABEL, PI
from act_hf.errors import ACTError
from act_hf.sampling import RULES, exponential, solve_beta
from act_hf.training_set import COLUMNS


WAVES, WAVE_MIX = 5, 0.1
SWEEP = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
"""AUROCs of simulated critics."""
ALONE = "one critic"
"""The signal that a protocol names first, without the others that are fused with it."""


@dataclass(frozen=True)
class Arm:
    """
    `pick` names how rows are drawn (a sampling rule, or one of `PICKS`; none where there is no draw), `mode` what
    is trained on (`to_training`), `critic` who is asked: a critic of the set, `ALONE`, or `"simulated AUROC"`. `long`
    trains several times as long.
    """

    name: str
    mode: str = "corrected"
    pick: str | None = None
    non_negative: bool = False
    critic: str = FUSED
    long: bool = False


def _arms() -> dict[str, Arm]:
    arms = [Arm("human", "human"), Arm("machine", "machine")]
    for rule in ("normalised", "exponential", "threshold", "root"):
        arms.append(Arm(f"act {rule}", "act", rule))
        arms.append(Arm(f"act {rule}, non-negative", "act", rule, non_negative=True))
    arms += [Arm("corrected", pick="threshold")]
    arms += [Arm(name, pick=name) for name in ("waves", "cdi", "cleanlab", "random")]
    arms += [replace(arm, name=f"{arm.name}, long", long=True) for arm in arms if arm.name in LONG]
    for critic in (ALONE, *(f"simulated {auroc:.2f}" for auroc in SWEEP)):
        arms.append(Arm(f"corrected, {critic}", pick="threshold", critic=critic))
        arms.append(Arm(f"act exponential, non-negative, {critic}", "act", "exponential", True, critic))
    return {arm.name: arm for arm in arms}


LONG = ("human", "machine", "act normalised", "act normalised, non-negative", "act exponential", "corrected")
CURVE = ("act exponential, non-negative", "corrected", "waves", "random")
CURVE_SHARES = (0.25, 1.5, 2.0)
"""Of the paper's human share; all arms are measured at the share itself and at half of it."""
ARMS = _arms()
SAME = {"act threshold": "corrected", "act threshold, non-negative": "corrected"}
"""With the threshold rule π is 1 or the row is not drawn, so that the loss is cross-entropy on corrected labels,
whatever its form: one network stands for all three."""
WHOLE = ("human", "machine")
"""Arms without a budget."""
TUNED = (*WHOLE, "act exponential, non-negative", "corrected")
"""Where every network is a whole encoder, which takes minutes."""


def cells_of(seeds: int, *, tuned: bool = False) -> list[tuple[str, float, int]]:
    """Arm, share (of the paper's) and seed of every cell of a set, the main table's first, each seed as a whole."""
    counted = {name: arm for name, arm in ARMS.items() if name not in (*WHOLE, *SAME)}
    plain = [name for name, arm in counted.items() if arm.critic == FUSED and not arm.long]
    groups = [
        [(name, 1.0) for name in (*WHOLE, *plain)],
        [(name, 1.0) for name, arm in ARMS.items() if arm.critic == ALONE],
        [(name, 1.0) for name, arm in ARMS.items() if arm.long],
        [(name, 0.5) for name in plain],
        [(name, 1.0) for name, arm in ARMS.items() if "simulated" in arm.critic],
        [(name, 0.7) for name in ("waves", "corrected")],
        [(name, share) for share in CURVE_SHARES for name in CURVE],
    ]
    return [
        (name, share, seed)
        for group in ([[(name, 1.0) for name in TUNED]] if tuned else groups)
        for seed in range(seeds)
        for name, share in group
    ]


def reviewed(problem: Problem, arm: Arm, share: float, seed: int) -> Dataset:
    """The pool once people have looked at the rows that the arm draws; they are always right (simulated)."""
    budget = problem.budget(share)
    if arm.pick is None:
        whole = sample(criticized(problem, problem.critics[FUSED]), budget=1.0, rule="threshold", mix=0)
        return simulate_review(whole, gold="gold")
    error_probs = error_probs_of(problem, arm.critic, seed)
    if arm.pick == "waves":
        return in_waves(criticized(problem, error_probs, details=True), budget, seed)
    rule = RULES.get(arm.pick) or partial(_certain, PICKS.get(arm.pick), problem, seed)
    if arm.pick == "exponential":
        rule = partial(exponential, beta=solve_beta(error_probs, budget))
    drawn = sample(criticized(problem, error_probs), budget=budget, rule=rule, mix=0, seed=seed)
    if arm.name in SAME.values() and not set(drawn[PI][:]) <= {0.0, 1.0}:
        raise ValueError(f"{problem.protocol.name}: rows tie where the budget ends; 'act threshold' needs own cells")
    return simulate_review(drawn, gold="gold")


def error_probs_of(problem: Problem, critic: str, seed: int) -> np.ndarray:
    if critic.startswith("simulated"):
        return simulated_critic(problem.wrong, float(critic.split()[1]), seed)
    return problem.critics[problem.protocol.fused[0] if critic == ALONE else critic]


def simulated_critic(wrong: np.ndarray, auroc: float, seed: int) -> np.ndarray:
    """Error probabilities with this AUROC: the posterior that normal scores imply, so they mean what they say."""
    from scipy.stats import norm

    apart, rate = np.sqrt(2) * norm.ppf(auroc), wrong.mean()
    score = np.random.default_rng((seed, 6)).normal(size=wrong.size) + apart * wrong
    odds = apart * score - apart**2 / 2 + np.log(rate / (1 - rate))
    return 1 / (1 + np.exp(-odds))


def in_waves(rows: Dataset, budget: int, seed: int) -> Dataset:
    """The budget in equal waves of the threshold rule, with an error model fitted to the answers in between."""
    sizes = np.diff(np.linspace(0, budget, WAVES + 1).round().astype(int)).tolist()
    words = bool(rows["text"][0])
    for wave, size in enumerate(sizes, start=1):
        drawn = sample(rows, budget=size, rule="threshold", mix=WAVE_MIX, wave=wave, seed=seed)
        rows = simulate_review(drawn, gold="gold")
        if wave < WAVES:
            rows = _calibrated(rows, words, seed)
    return rows


def _calibrated(rows: Dataset, words: bool, seed: int) -> Dataset:
    try:
        return calibrate(rows, method="model", features=["embedding"], words=words, seed=seed)
    except ACTError as error:
        if "review more" not in str(error):
            raise
        return rows  # too few errors, or too few right labels, to learn from


def _certain(
    pick: Callable[[Problem, int, int], np.ndarray], problem: Problem, seed: int, error_probs: np.ndarray, budget: int
) -> np.ndarray:
    """A choice that others made, as probabilities of 0 and 1."""
    return pick(problem, budget, seed).astype(float)


def _random(problem: Problem, budget: int, seed: int) -> np.ndarray:
    return np.random.default_rng((seed, 7)).permutation(len(problem.rows.gold)) < budget


def _cleanlab(problem: Problem, budget: int, seed: int) -> np.ndarray:
    """By the same out-of-fold network as the critic's."""
    present = np.unique(problem.rows.machine)
    labels = np.searchsorted(present, problem.rows.machine)
    probs = problem.probs[:, present] / problem.probs[:, present].sum(axis=1, keepdims=True)
    return np.isin(np.arange(len(labels)), cleanlab_order(probs, labels)[:budget])


def _cdi(problem: Problem, budget: int, seed: int) -> np.ndarray:
    # At most twenty fits: with a budget of thousands, one after every 100 labels would take longer than all the rest.
    refit = max(CDI_REFIT, budget // 20)
    return cdi_selection(1 - problem.critics[FUSED], problem.wrong, budget, seed, refit=refit)


PICKS: dict[str, Callable[[Problem, int, int], np.ndarray]] = {"random": _random, "cleanlab": _cleanlab, "cdi": _cdi}


def training_labels(rows: Dataset, mode: str) -> Labels:
    """As `ACTTrainer` would get them."""
    made = to_training(rows, mode=mode).with_format(None)
    kinds = (torch.int64, torch.int64, torch.bool, torch.float32)
    return Labels(*(torch.tensor(made[name][:], dtype=kind) for name, kind in zip(COLUMNS, kinds, strict=True)))


def label_accuracy(rows: Dataset, mode: str) -> float:
    """How many labels are right once what people said is in place of what the machine said."""
    gold, machine = (np.array(rows[name][:]) for name in ("gold", LABEL))
    if mode == "machine":
        return float((machine == gold).mean())
    human = np.array([-1 if label is None else label for label in rows[HUMAN][:]])
    return float((np.where(human >= 0, human, machine) == gold).mean())
