"""The ACT loss: cross-entropy on machine labels, corrected without bias by the rows a person reviewed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from act_hf.errors import ACTError


if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

MISSING = -100  # a row nobody looked at: torch's own "no label", since a tensor cannot hold None
REDUCTIONS = ("mean", "sum", "none")
_SUM_TOLERANCE = 0.01  # of probabilities, which may be in half precision


def act_loss(
    logits: Tensor,
    machine: Tensor,
    human: Tensor,
    selected: Tensor,
    pi: Tensor,
    *,
    power: float = 1.0,
    non_negative: bool = False,
    max_weight: float | None = None,
    reduction: str = "mean",
) -> Tensor:
    """
    The ACT loss of N rows with K classes.

        L_i = λ ℓ_m + (ℓ_h - λ ℓ_m) δ_i / π_i

    where ℓ_m and ℓ_h are the cross-entropies against the machine and the human label, δ_i says whether a person
    reviewed the row, π_i is the probability that one would, and λ is `power`. Its expectation over δ is ℓ_h for every
    λ wherever π_i > 0. Where π_i = 0 nobody can ever look and the row's machine label is simply believed.

    It is computed as cross-entropy against the signed soft target λ e_m + (δ/π)(e_h - λ e_m): one log-softmax and one
    dot product. δ/π is 0 where δ = 0, whatever π is.

    The loss (λ = 1) is from ACT (NeurIPS 2025), arXiv 2511.09833. Ours: the signed soft target, and `non_negative`.
    `power` is taken from prediction-powered inference (Angelopoulos et al., PPI++, arXiv 2311.01453).

    Args:
        logits (`Tensor` of shape `[N, K]`): floating point. The softmax runs in float32 or better.
        machine (`Tensor` of shape `[N]` or `[N, K]`): class ids (int64), or a probability of each class (float). A
            row of zeros says nothing: only its human label counts, with weight δ/π whatever λ is.
        human (`Tensor` of shape `[N]`): class ids (int64), -100 where nobody looked. Read only where `selected`.
        selected (`Tensor` of shape `[N]`): bool, δ.
        pi (`Tensor` of shape `[N]`): float in [0, 1], as used in the draw. Read only where `selected`.
        power (`float`, *optional*, defaults to 1.0): λ in [0, 1], how much the machine labels are used. 0 trains on
            the reviewed rows only.
        non_negative (`bool`, *optional*, defaults to `False`): keeps the loss of each row at 0 or above. A corrected
            row has weight λ(1 - 1/π) < 0 on its machine label, so its loss has no lower bound and a flexible network
            chases it for ever. Rows without a negative weight are not affected; the loss is no longer unbiased.
        max_weight (`float`, *optional*): clips δ/π, at 1 or above. Less variance for some bias.
        reduction (`str`, *optional*, defaults to `"mean"`): `"mean"`, `"sum"` or `"none"`.

    Returns:
        `Tensor`: a scalar, or `[N]` for `"none"`, in nats; float32, or float64 for float64 logits.

    Raises:
        ACTError: for an unknown reduction, a `power` or `max_weight` out of range, a label that is none of the K
            classes or no distribution over them, and a selected row without a human label or with `pi` outside (0, 1].

    Example:

    ```python
    >>> logits = torch.zeros(2, 2)
    >>> machine, human = torch.tensor([0, 0]), torch.tensor([1, -100])
    >>> act_loss(logits, machine, human, torch.tensor([True, False]), torch.tensor([1.0, 0.0]))
    tensor(0.6931)
    ```
    """
    _check_options(power, max_weight, reduction)
    if logits.ndim != 2:
        raise ACTError(f"act_loss: logits are [rows, classes], not of shape {list(logits.shape)}")
    check_rows(machine, human, selected, pi, rows=logits.shape[0], classes=logits.shape[1])
    log_probs = torch.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    believed = power * as_distribution(machine, log_probs)
    truth = as_distribution(torch.where(selected.bool(), human, 0), log_probs)
    weight = _over_pi(selected, pi, max_weight, log_probs)
    # The difference first: it is exactly 0 for a confirmed row, which then keeps a weight of exactly 1.
    target = believed + weight[:, None] * (truth - believed)
    return _reduced(-(target * log_probs).sum(dim=-1), non_negative, reduction)


def act_combine(
    machine_losses: Tensor,
    human_losses: Tensor,
    selected: Tensor,
    pi: Tensor,
    *,
    power: float = 1.0,
    non_negative: bool = False,
    max_weight: float | None = None,
    reduction: str = "mean",
) -> Tensor:
    """
    The ACT loss out of any loss of N rows against each of their labels: squared error, tokens of a text, and so on.

        L_i = λ ℓ_m + (ℓ_h - λ ℓ_m) δ_i / π_i

    For cross-entropy over classes [`act_loss`] is the same with one softmax and clearer errors. Beyond classes this is
    ours: the paper has classification only. `non_negative` presumes that ℓ is 0 at best.

    Args:
        machine_losses (`Tensor` of shape `[N]`): ℓ_m, floating point.
        human_losses (`Tensor` of shape `[N]`): ℓ_h. Read only where `selected`. Compute it with any finite label in
            the other rows, such as the machine's: a NaN would stay out of the loss, but autograd carries it on.
        selected, pi, power, non_negative, max_weight, reduction: as in [`act_loss`].

    Returns:
        `Tensor`: a scalar, or `[N]` for `"none"`, of the type and in the unit of `machine_losses`.

    Raises:
        ACTError: for an unknown reduction, a `power` or `max_weight` out of range, losses or labels that are not one a
            row, and a selected row with `pi` outside (0, 1].

    Example:

    ```python
    >>> machine_losses, human_losses = (prediction - machine) ** 2, (prediction - human) ** 2
    >>> loss = act_combine(machine_losses, human_losses, selected, pi)
    ```
    """
    _check_options(power, max_weight, reduction)
    for name, values in (("human_losses", human_losses), ("selected", selected), ("pi", pi)):
        if values.shape != machine_losses.shape or values.ndim != 1:
            shapes = f"machine_losses have the shape {list(machine_losses.shape)}, but {name} {list(values.shape)}"
            raise ACTError(f"act_combine: one loss a row is needed; {shapes}")
    check_pi(selected.bool(), pi)
    believed = power * machine_losses
    # Where nobody looked the human loss may be a NaN, which a weight of 0 would not silence.
    gap = torch.where(selected.bool(), human_losses, believed) - believed
    return _reduced(believed + _over_pi(selected, pi, max_weight, believed) * gap, non_negative, reduction)


@dataclass(frozen=True)
class LossWeights:
    """
    What the ACT loss will weigh, known before any training.

    Args:
        largest (`float`): the largest weight on one label of one row; 1 in ordinary training.
        negative_share (`float`): negative weight as a share of all weight, in [0, 0.5).
        effective_rows (`float`): (Σa)² / Σa² with a the absolute weight of a row (Kish): how many equally weighted
            rows are as noisy. This form for signed weights is the project's own.
        unreachable (`int`): rows with π = 0, whose machine label is believed whatever it is.
    """

    largest: float
    negative_share: float
    effective_rows: float
    unreachable: int


def loss_weights(
    selected: ArrayLike,
    pi: ArrayLike,
    corrected: ArrayLike,
    power: ArrayLike = 1.0,
    *,
    max_weight: float | None = None,
) -> LossWeights:
    """
    The weights that [`act_loss`] gives to N rows, to look at before training.

    With w = δ/π: a corrected row has w on the human and λ(1 - w) on the machine label; any other row has λ + w(1 - λ)
    on its one label, which is exactly 1 for λ = 1. A soft machine label that gives the human one a share is corrected
    by the rest.

    Args:
        selected (array of shape `[N]`): bool, δ.
        pi (array of shape `[N]`): float in [0, 1].
        corrected (array of shape `[N]`): bool, whether the human label differs, or float in [0, 1], how much of the
            machine label is on others. Read only where `selected`.
        power (`float` or array of shape `[N]`, *optional*, defaults to 1.0): λ, 0 for a row whose machine label says
            nothing.
        max_weight (`float`, *optional*): clips δ/π.

    Returns:
        [`LossWeights`].

    Raises:
        ACTError: for `power` or `max_weight` out of range, or a selected row with `pi` outside (0, 1].
    """
    chosen, chance = np.asarray(selected, dtype=bool), np.asarray(pi, dtype=float)
    use = np.broadcast_to(np.asarray(power, dtype=float), chance.shape)
    for bound in (use.min(initial=0), use.max(initial=0)):
        check_options(float(bound), max_weight)
    check_pi(chosen, chance)
    weight = np.where(chosen, 1 / np.where(chosen, chance, 1), 0).clip(max=_ceiling(max_weight))
    wrong = np.where(chosen, np.asarray(corrected, dtype=float), 0)
    agreed = use * (1 - wrong)
    on_truth = agreed + weight * (1 - agreed)
    return _summary(on_truth, use * wrong * (1 - weight), unreachable=int((chance == 0).sum()))


def check_options(power: float, max_weight: float | None) -> None:
    """Raises [`ACTError`] unless `power` is in [0, 1] and `max_weight` is `None` or at least 1."""
    if not 0 <= power <= 1:
        raise ACTError(f"power is {power}, but lies in [0, 1]: 0 ignores the machine labels, 1 uses them fully")
    if max_weight is not None and not max_weight >= 1:
        raise ACTError(
            f"max_weight is {max_weight}, but a reviewed row has at least weight 1: give 1 or more, or None"
        )


def check_rows(
    machine: Tensor, human: Tensor, selected: Tensor, pi: Tensor, *, rows: int, classes: int | None = None
) -> None:
    """
    Raises unless the loss is defined on every row.

    Args:
        machine, human, selected, pi (`Tensor`): as in [`act_loss`].
        rows (`int`): how many rows there should be.
        classes (`int`, *optional*): how many classes there are, where it is known.

    Raises:
        ACTError: naming the first bad row and its value.
    """
    for name, values in (("machine", machine), ("human", human), ("selected", selected), ("pi", pi)):
        if len(values) != rows:
            raise ACTError(f"the ACT loss has {rows} rows, but {name} has {len(values)}")
    chosen = selected.bool()
    _refuse(chosen & (human == MISSING), human, "was selected but has no human label", "review it first")
    check_pi(chosen, pi)
    _check_classes(machine, torch.ones_like(chosen), classes, "machine")
    _check_classes(human, chosen, classes, "human")


def _check_options(power: float, max_weight: float | None, reduction: str) -> None:
    check_options(power, max_weight)
    if reduction not in REDUCTIONS:
        raise ACTError(f"no reduction {reduction!r}; there are {', '.join(map(repr, REDUCTIONS))}")


def _over_pi(selected: Tensor, pi: Tensor, max_weight: float | None, like: Tensor) -> Tensor:
    """δ/π, which is 0 where δ is 0, whatever π is."""
    chosen = selected.bool()
    # Dividing by 1 where nobody looked: 1/0 behind a where is still a NaN in the gradient of pi.
    return torch.where(chosen, 1 / torch.where(chosen, pi, 1).to(like.dtype), 0).clamp(max=_ceiling(max_weight))


def _reduced(rows: Tensor, non_negative: bool, reduction: str) -> Tensor:
    rows = rows.clamp(min=0) if non_negative else rows
    if reduction == "none":
        return rows
    return rows.sum() if reduction == "sum" else rows.mean()


def _ceiling(max_weight: float | None) -> float:
    return math.inf if max_weight is None else max_weight


def as_distribution(labels: Tensor, like: Tensor) -> Tensor:
    """Labels as numbers a class, `[N, K]`, in the type of `like`: class ids become one-hot, soft labels stay."""
    if labels.ndim == 2:
        return labels.to(like.dtype)
    return torch.zeros_like(like).scatter_(1, labels[:, None], 1)


def _check_classes(labels: Tensor, used: Tensor, classes: int | None, name: str) -> None:
    if labels.ndim == 2:
        if classes is not None and labels.shape[1] != classes:
            raise ACTError(f"soft {name} labels have {labels.shape[1]} classes, but the model has {classes}")
        total = labels.sum(dim=1)
        good = (labels >= 0).all(dim=1) & (((total - 1).abs() < _SUM_TOLERANCE) | (total == 0))
        _refuse(used & ~good, total, f"has a soft {name} label that is no distribution", "it sums to 1, or is all 0")
        return
    highest = "" if classes is None else classes - 1
    outside = labels < 0 if classes is None else (labels < 0) | (labels >= classes)
    _refuse(used & outside, labels, f"has a {name} label that is no class", f"the classes are 0..{highest}")


def check_pi(selected: Any, pi: Any) -> None:
    """Raises [`ACTError`] where a row was selected with π outside (0, 1]. Tensors and arrays alike."""
    # Written as "not inside", so that a NaN is refused too.
    outside = selected & ~((pi > 0) & (pi <= 1))
    _refuse(outside, pi, "was selected with an impossible pi", "pi lies in (0, 1] wherever a row was drawn")


def _refuse(bad: Any, values: Any, problem: str, remedy: str) -> None:
    """Tensors and arrays alike."""
    if bad.any():
        row = int(bad.nonzero()[0][0])
        raise ACTError(f"row {row} {problem} ({values[row].item()}); {remedy}. {int(bad.sum())} of {len(bad)} rows")


def _summary(on_truth: NDArray[Any], on_machine: NDArray[Any], *, unreachable: int) -> LossWeights:
    absolute = np.abs(on_truth) + np.abs(on_machine)
    total = float(absolute.sum())
    return LossWeights(
        largest=float(on_truth.max(initial=0)),
        negative_share=float(np.abs(on_machine).sum()) / total if total else 0.0,
        effective_rows=total**2 / float((absolute**2).sum()) if total else 0.0,
        unreachable=unreachable,
    )
