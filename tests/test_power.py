"""λ out of gradients makes the gradient vary least; λ out of held-out rows is the one that does best on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from act_hf.errors import ACTError
from act_hf.loss import MISSING, act_loss
from act_hf.power import power_from_gradients, power_from_held_out


torch.set_num_threads(1)

ROWS, CLASSES = 200, 4


def population(error: float = 0.3, seed: int = 0) -> dict[str, Tensor]:
    """A model that has learnt something, a machine that errs at random, and a draw that is not uniform."""
    random = np.random.default_rng(seed)
    truth = torch.tensor(random.integers(0, CLASSES, ROWS))
    wrong = torch.tensor(random.random(ROWS) < error)
    logits = torch.tensor(random.normal(0, 1.5, (ROWS, CLASSES))) + 1.5 * one_hot(truth, CLASSES)
    return {
        "logits": logits,
        "truth": truth,
        "machine": torch.where(wrong, (truth + 1) % CLASSES, truth),
        "pi": torch.tensor(random.uniform(0.1, 0.9, ROWS)),
        "features": torch.tensor(random.normal(0, 1, (ROWS, 3))),
    }


def estimate(rows: dict[str, Tensor], selected: Tensor, **options: Tensor) -> float:
    human = torch.where(selected, rows["truth"], MISSING)
    return power_from_gradients(rows["logits"], rows["machine"], human, selected, rows["pi"], **options)


def best(rows: dict[str, Tensor], scale: Tensor | float = 1.0) -> float:
    """The closed form, with every human label known."""
    probs = rows["logits"].softmax(-1)
    by_human, by_machine = (probs - one_hot(rows[name], CLASSES) for name in ("truth", "machine"))
    spread = scale * (1 / rows["pi"] - 1)
    return float((spread * (by_human * by_machine).sum(-1)).sum() / (spread * by_machine.square().sum(-1)).sum())


def empirical_trace(rows: dict[str, Tensor], draws: Tensor, power: float, *, weights: bool) -> float:
    """The trace of the variance of the gradient over the draws, in the logits or in the last layer's weights."""
    count = len(draws)
    logits = rows["logits"].repeat(count, 1).requires_grad_()
    human = torch.where(draws, rows["truth"], MISSING).flatten()
    others = (rows["machine"].repeat(count), human, draws.flatten(), rows["pi"].repeat(count))
    loss = act_loss(logits, *others, power=power, reduction="sum")
    grads = torch.autograd.grad(loss, logits)[0].reshape(count, ROWS, CLASSES)
    if weights:
        grads = torch.einsum("nf,dnk->dfk", rows["features"], grads)
    return float(grads.flatten(1).var(dim=0).sum())


class TestFromGradients:
    @pytest.mark.parametrize("weights", [False, True])
    @pytest.mark.parametrize("error", [0.1, 0.3, 0.5])
    def test_the_closed_form_minimises_the_variance_of_the_gradient(self, error: float, weights: bool) -> None:
        """
        The variance is a parabola in λ: three points over 2,000 independent draws give its lowest point, which is the
        closed form within 0.05, where the variance is below that at 0.1 to either side.
        """
        rows = population(error)
        draws = torch.tensor(np.random.default_rng(1).random((2000, ROWS))) < rows["pi"]
        aim = best(rows, rows["features"].square().sum(-1) if weights else 1.0)
        points = np.array([0.0, 0.5, 1.0])
        parabola = np.polyfit(points, [empirical_trace(rows, draws, power, weights=weights) for power in points], 2)
        assert -parabola[1] / (2 * parabola[0]) == pytest.approx(aim, abs=0.05)
        lowest, left, right = (
            empirical_trace(rows, draws, min(1.0, max(0.0, aim + step)), weights=weights) for step in (0, -0.1, 0.1)
        )
        assert lowest < min(left, right)

    @pytest.mark.parametrize("features", [False, True])
    def test_the_estimate_is_right_on_average(self, features: bool) -> None:
        """The correction by the reviewed rows is unbiased: the mean of 3,000 draws lies within 4 standard errors."""
        rows = population(0.1)
        options = {"features": rows["features"]} if features else {}
        draws = torch.tensor(np.random.default_rng(2).random((3000, ROWS))) < rows["pi"]
        found = np.array([estimate(rows, selected, **options) for selected in draws])
        assert ((found > 0) & (found < 1)).mean() > 0.98  # clipping hardly matters here
        error = found.std(ddof=1) / np.sqrt(len(found))
        aim = best(rows, rows["features"].square().sum(-1) if features else 1.0)
        assert abs(found.mean() - aim) < 4 * error
        assert error < 0.005

    def test_without_a_corrected_row_it_is_1_in_every_draw(self) -> None:
        rows = population(0.0)
        draws = torch.tensor(np.random.default_rng(2).random((20, ROWS))) < rows["pi"]
        assert {estimate(rows, selected) for selected in draws} == {1.0}

    def test_a_better_machine_is_used_more(self) -> None:
        selected = torch.tensor(np.random.default_rng(3).random(ROWS)) < population()["pi"]
        found = [estimate(population(error), selected) for error in (0.05, 0.3, 0.6)]
        assert found == sorted(found, reverse=True)
        assert found[0] > 0.7

    def test_clipped_to_0(self) -> None:
        """A machine that is always wrong, in rows that weigh a hundred times each."""
        rows = {**population(error=1.0), "pi": torch.full((ROWS,), 0.01)}
        assert estimate(rows, torch.ones(ROWS).bool()) == 0.0

    def test_where_nothing_varies_it_is_1(self) -> None:
        rows = population()
        selected = torch.arange(ROWS) < 50
        assert estimate({**rows, "pi": selected.double()}, selected) == 1.0

    def test_rows_that_nobody_could_see_do_not_count(self) -> None:
        rows = population()
        selected = torch.tensor(np.random.default_rng(4).random(ROWS)) < rows["pi"]
        more = {name: torch.cat([values, values[:50]]) for name, values in rows.items()}
        more["pi"][ROWS:] = 0
        assert estimate(more, torch.cat([selected, torch.zeros(50).bool()])) == estimate(rows, selected)

    def test_soft_labels(self) -> None:
        rows = population()
        selected = torch.tensor(np.random.default_rng(4).random(ROWS)) < rows["pi"]
        hard = estimate(rows, selected)
        soft = one_hot(rows["machine"], CLASSES).float()
        assert estimate({**rows, "machine": soft}, selected) == pytest.approx(hard)
        assert estimate({**rows, "machine": 0.5 * soft + 0.5 / CLASSES}, selected) != pytest.approx(hard, abs=0.01)
        # A label that says nothing has no gradient, so that its λ does not matter.
        assert estimate({**rows, "machine": torch.zeros(ROWS, CLASSES)}, selected) == 1.0

    def test_what_the_loss_refuses(self) -> None:
        rows = population()
        with pytest.raises(ACTError, match=r"impossible pi \(0.0\)"):
            estimate({**rows, "pi": torch.zeros(ROWS)}, torch.ones(ROWS).bool())


class TestFromHeldOut:
    def selected(self) -> np.ndarray:
        return np.arange(30) % 3 == 0

    def test_the_one_with_the_lowest_weighted_loss(self) -> None:
        """0.5 is best on the rows that stand for many, 1.0 on the others, which are more."""
        pi = np.where(np.arange(30) < 6, 0.05, 1.0)

        def losses(power, training, held_out):
            heavy = held_out < 6
            return np.where(heavy, abs(power - 0.5), abs(power - 1.0))

        assert power_from_held_out(losses, self.selected(), pi) == 0.5
        assert power_from_held_out(losses, self.selected(), np.ones(30)) == 1.0

    def test_no_row_is_tested_by_a_model_that_saw_it_and_each_reviewed_one_once(self) -> None:
        asked: list[tuple] = []

        def losses(power, training, held_out):
            asked.append((power, training, held_out))
            return np.zeros(len(held_out))

        assert power_from_held_out(losses, self.selected(), np.ones(30), powers=(0.3, 0.7), folds=4) == 0.3
        assert [power for power, _, _ in asked] == [0.3] * 4 + [0.7] * 4
        for _, training, held_out in asked:
            assert not set(training) & set(held_out)
            assert len(training) in (22, 23)
        for run in (asked[:4], asked[4:]):
            assert sorted(np.concatenate([held_out for _, _, held_out in run])) == list(range(0, 30, 3))

    def test_the_split_is_that_of_the_seed(self) -> None:
        splits = []

        def losses(power, training, held_out):
            splits.append(held_out.tolist())
            return held_out * 0.0

        for seed in (0, 0, 1):
            power_from_held_out(losses, self.selected(), np.ones(30), powers=[1.0], seed=seed)
        assert splits[:3] == splits[3:6] != splits[6:]

    def test_a_training_that_diverged_is_not_chosen(self) -> None:
        def losses(power, training, held_out):
            return np.full(len(held_out), {0.0: 0.6, 0.5: 0.4, 1.0: np.nan}[power])

        assert power_from_held_out(losses, self.selected(), np.ones(30)) == 0.5

    def test_errors(self) -> None:
        for folds in (1, 11):
            with pytest.raises(
                ACTError, match=f"{folds} folds need at least 2, and as many reviewed rows; there are 10"
            ):
                power_from_held_out(lambda *_: [], self.selected(), np.ones(30), folds=folds)
        with pytest.raises(ACTError, match="pi = 0 on 1 of 30 rows, of which reviewed rows say nothing"):
            power_from_held_out(lambda *_: [], self.selected(), np.where(np.arange(30) == 1, 0, 0.5))
        with pytest.raises(ACTError, match="impossible pi"):
            power_from_held_out(lambda *_: [], self.selected(), np.full(30, np.nan))
        with pytest.raises(ACTError, match="no training gave a finite loss"):
            power_from_held_out(lambda _, __, held: held * np.nan, self.selected(), np.ones(30))
        with pytest.raises(ACTError, match="no powers to choose from"):
            power_from_held_out(lambda *_: [], self.selected(), np.ones(30), powers=())
