"""How much to use the machine labels: λ of the ACT loss out of gradients, or chosen on held-out reviewed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from act_hf.errors import ACTError
from act_hf.loss import as_distribution, check_pi, check_rows


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    Losses = Callable[[float, NDArray[np.int64], NDArray[np.int64]], ArrayLike]

POWERS = (0.0, 0.5, 1.0)
FOLDS = 3


def power_from_gradients(
    logits: Tensor,
    machine: Tensor,
    human: Tensor,
    selected: Tensor,
    pi: Tensor,
    *,
    features: Tensor | None = None,
) -> float:
    """
    The λ with which the gradient of the ACT loss varies least over the draw of the reviewed rows.

    With g_m and g_h the gradients of a row's cross-entropy against its two labels, the trace of the variance of the
    gradient of the loss is (1/N²) Σ (1/π - 1) |g_h - λ g_m|², so that

        λ = Σ (1/π - 1) ⟨g_h, g_m⟩ / Σ (1/π - 1) |g_m|²

    is best. g_h is known on the reviewed rows alone, so the sum above the line is estimated as the loss itself is:
    |g_m|² in every row, corrected by ⟨g_h - g_m, g_m⟩ δ/π, which only the corrected rows make vary. Rows with π = 0 or
    1 do not vary and do not count. Tuning λ by the variance is from PPI++ (Angelopoulos et al., arXiv 2311.01453)
    and the weights (1/π - 1) are those of active inference (Zrnic and Candès, arXiv 2403.03208); that the gradients
    are those in the logits, and not whitened by a Hessian, is ours. The formula is for independent draws (ours, of
    fixed size, vary a little less) and for the loss without `non_negative` and `max_weight`; with them it is a guess.

    Args:
        logits (`Tensor` of shape `[N, K]`): of a model that has learnt something, such as one trained with λ = 1. With
            an untrained head all classes are about equally probable in every row: then every gradient only repeats its
            label, and what the model could tell by itself is not taken into account.
        machine, human, selected, pi (`Tensor`): as in [`act_loss`].
        features (`Tensor` of shape `[N, F]`, *optional*): what the last layer reads. The gradients are then those in
            its weights, and a row counts by |features|².

    Returns:
        `float`: λ, clipped to [0, 1]; 1 where nothing varies (every π is 0 or 1, as with the threshold rule).

    Raises:
        ACTError: for what [`act_loss`] refuses.
    """
    check_rows(machine, human, selected, pi, rows=len(logits), classes=logits.shape[1])
    selected = selected.bool()
    probs = torch.softmax(logits.double(), dim=-1)
    label = as_distribution(machine, probs)
    by_machine = probs * label.sum(dim=-1, keepdim=True) - label
    by_human = probs - as_distribution(torch.where(selected, human, 0), probs)
    chance = pi.double()
    spread = torch.where(chance > 0, 1 / torch.where(chance > 0, chance, 1) - 1, 0)
    if features is not None:
        spread = spread * features.double().square().sum(dim=-1)
    seen = torch.where(selected, 1 / torch.where(selected, chance, 1), 0)
    below = (spread * by_machine.square().sum(dim=-1)).sum()
    off = (spread * seen * ((by_human - by_machine) * by_machine).sum(dim=-1)).sum()
    return float((1 + off / below).clamp(0, 1)) if below > 0 else 1.0


def power_from_held_out(
    losses: Losses,
    selected: ArrayLike,
    pi: ArrayLike,
    *,
    powers: Sequence[float] = POWERS,
    folds: int = FOLDS,
    seed: int = 0,
) -> float:
    """
    The λ whose models do best on reviewed rows that they were not trained on (ours).

    Rows are split into folds. For each λ and each fold a model is trained on the other folds, and its cross-entropy
    against the human labels of the fold's reviewed rows is weighted by 1/π, which estimates without bias what it is on
    all rows, as long as each could have been drawn. That takes `folds` trainings for each λ; a few reviewed rows tell
    little, and then the choice is noise.

    Args:
        losses (callable): `(power, training, held_out) -> losses`: trains with λ on the rows numbered `training` and
            gives the cross-entropy of each row of `held_out` against its human label.
        selected (array of shape `[N]`): bool, δ.
        pi (array of shape `[N]`): float in (0, 1].
        powers (sequence of `float`, *optional*, defaults to 0, 0.5 and 1): the λ to choose from. Of two that are
            equally good the first one is taken.
        folds (`int`, *optional*, defaults to 3): at least 2, and at most as many as there are reviewed rows.
        seed (`int`, *optional*, defaults to 0): of the split.

    Returns:
        `float`: one of `powers`.

    Raises:
        ACTError: without `powers`, with rows that could not have been drawn, for more folds than there are reviewed
            rows, or when no training gave a finite loss.
    """
    drawn, chance = np.asarray(selected, dtype=bool), np.asarray(pi, dtype=float)
    reviewed, never = int(drawn.sum()), int((chance == 0).sum())
    check_pi(drawn, chance)
    if not powers:
        raise ACTError("power_from_held_out: no powers to choose from; give some in [0, 1], such as 0, 0.5 and 1")
    if never:
        # The rows left out would be the suspicious ones alone, on which λ = 0 looks best and is worst.
        raise ACTError(
            f"power from held-out rows: pi = 0 on {never} of {drawn.size} rows, of which reviewed rows say nothing; "
            "sample with mix or floor above 0, or give power as a number"
        )
    if not 2 <= folds <= reviewed:
        raise ACTError(
            f"power from held-out rows: {folds} folds need at least 2, and as many reviewed rows; there are {reviewed}"
        )
    fold = _folds(drawn, folds, seed)
    weights = 1 / np.where(drawn, chance, 1)
    totals = []
    for power in powers:
        total = 0.0
        for held in range(folds):
            test = np.flatnonzero(drawn & (fold == held))
            total += float(np.asarray(losses(power, np.flatnonzero(fold != held), test)) @ weights[test])
        totals.append(total)
    if not np.isfinite(totals).any():
        raise ACTError("power from held-out rows: no training gave a finite loss; try a smaller learning rate")
    return float(powers[int(np.argmin(np.where(np.isfinite(totals), totals, np.inf)))])


def _folds(selected: NDArray[np.bool_], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row: reviewed rows, and all others, are dealt out evenly."""
    random = np.random.default_rng(seed)
    fold = np.empty(selected.size, dtype=np.int64)
    for group in (np.flatnonzero(selected), np.flatnonzero(~selected)):
        fold[random.permutation(group)] = np.arange(group.size) % folds
    return fold
