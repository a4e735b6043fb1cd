from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from act_hf.errors import ACTError
from act_hf.loss import MISSING, act_combine, act_loss, loss_weights


torch.set_num_threads(1)

ROWS, CLASSES = 40, 5


def batch(seed: int = 0, *, rows: int = ROWS) -> dict[str, Tensor]:
    """Float64 logits; about half the rows reviewed, a third of the machine labels wrong, some rows with pi = 0."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, CLASSES, rows)
    machine = np.where(random.random(rows) < 0.33, random.integers(0, CLASSES, rows), truth)
    pi = random.uniform(0.05, 1, rows)
    selected = random.random(rows) < 0.5
    pi[np.flatnonzero(~selected)[:5]] = 0
    return {
        "logits": torch.tensor(random.normal(0, 2, (rows, CLASSES)), requires_grad=True),
        "machine": torch.tensor(machine),
        "human": torch.tensor(np.where(selected, truth, MISSING)),
        "selected": torch.tensor(selected),
        "pi": torch.tensor(pi),
    }


def written_out(values: dict[str, Tensor], power: float) -> Tensor:
    """The equation as it stands in the paper: two cross-entropies and a division, on the reviewed rows only."""
    losses = power * cross_entropy(values["logits"], values["machine"], reduction="none")
    on = values["selected"]
    by_human = cross_entropy(values["logits"][on], values["human"][on], reduction="none")
    correction = torch.zeros_like(losses)
    correction[on] = (by_human - losses[on]) / values["pi"][on]
    return losses + correction


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits)[0]


class TestValue:
    @given(seed=st.integers(0, 10_000), power=st.floats(0, 1))
    @settings(max_examples=40, deadline=None)
    def test_loss_and_gradient_are_those_of_the_two_term_formula(self, seed: int, power: float) -> None:
        values = batch(seed)
        ours, theirs = act_loss(**values, power=power, reduction="none"), written_out(values, power)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        grad = gradient(act_loss(**values, power=power), values["logits"])
        torch.testing.assert_close(grad, gradient(theirs.mean(), values["logits"]), rtol=1e-10, atol=1e-12)

    def test_gradient_agrees_with_finite_differences(self) -> None:
        values = batch(3, rows=6)
        logits = values.pop("logits")
        assert torch.autograd.gradcheck(lambda x: act_loss(x, **values, power=0.7), logits)

    @pytest.mark.parametrize("power", [0.0, 0.4, 1.0])
    def test_everything_reviewed_for_certain_is_plain_cross_entropy(self, power: float) -> None:
        values = batch(1)
        truth = torch.where(values["selected"], values["human"], values["machine"])
        values |= {"human": truth, "selected": torch.ones(ROWS, dtype=torch.bool), "pi": torch.ones(ROWS)}
        torch.testing.assert_close(act_loss(**values, power=power), cross_entropy(values["logits"], truth))

    def test_threshold_rule_is_cross_entropy_on_corrected_labels(self) -> None:
        values = batch(2)
        values["pi"] = values["selected"].double()
        corrected = torch.where(values["selected"], values["human"], values["machine"])
        for guard in (False, True):
            torch.testing.assert_close(
                act_loss(**values, non_negative=guard), cross_entropy(values["logits"], corrected)
            )

    def test_a_confirmed_row_has_weight_exactly_one_however_small_its_pi(self) -> None:
        logits = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
        label = torch.tensor([2])
        for pi in (0.3, 1e-3, 1e-7):
            loss = act_loss(logits, label, label, torch.tensor([True]), torch.tensor([pi]))
            assert loss == -torch.log_softmax(logits, -1)[0, 2]

    def test_soft_machine_labels_are_a_mixture_of_the_hard_ones(self) -> None:
        values = batch(4)
        values["machine"] = values["machine"] % 2
        hard = torch.nn.functional.one_hot(values["machine"], CLASSES).double()
        torch.testing.assert_close(act_loss(**{**values, "machine": hard}), act_loss(**values))
        other = {**values, "machine": torch.full_like(values["machine"], 3)}
        mixed = {**values, "machine": 0.25 * hard + 0.75 * torch.nn.functional.one_hot(other["machine"], CLASSES)}
        torch.testing.assert_close(act_loss(**mixed), 0.25 * act_loss(**values) + 0.75 * act_loss(**other))

    def test_reductions(self) -> None:
        values = batch(5)
        rows = act_loss(**values, reduction="none")
        assert rows.shape == (ROWS,)
        torch.testing.assert_close(act_loss(**values, reduction="sum"), rows.sum())
        torch.testing.assert_close(act_loss(**values), rows.mean())

    def test_half_precision_logits_are_summed_in_float32(self) -> None:
        values = batch(6)
        half = act_loss(**{**values, "logits": values["logits"].bfloat16()})
        assert half.dtype == torch.float32
        exact = act_loss(**{**values, "logits": values["logits"].bfloat16().double()})
        torch.testing.assert_close(half, exact.float(), rtol=1e-4, atol=1e-4)


def test_rows_nobody_could_review_have_a_finite_gradient() -> None:
    values = batch(0)
    values |= {"selected": torch.zeros(ROWS, dtype=torch.bool), "pi": torch.zeros(ROWS)}
    values["human"] = torch.full((ROWS,), MISSING)
    for guard in (False, True):
        grad = gradient(act_loss(**values, non_negative=guard), values["logits"])
        machine_only = gradient(cross_entropy(values["logits"], values["machine"]), values["logits"])
        torch.testing.assert_close(grad, machine_only)
    pi = values["pi"].requires_grad_()  # for whoever learns the sampling rule: 1/0 behind a where is a NaN there
    assert (torch.autograd.grad(act_loss(**values, reduction="sum") + 0 * pi.sum(), pi)[0] == 0).all()


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_unbiased_over_the_draws(power: float) -> None:
    """The mean of 3,000 draws lies within 4 standard errors of the loss on all true labels; no draw is left out."""
    random = np.random.default_rng(7)
    rows, draws = 60, 3000
    logits = torch.tensor(random.normal(0, 2, (rows, CLASSES)))
    truth = torch.tensor(random.integers(0, CLASSES, rows))
    machine = torch.where(torch.tensor(random.random(rows) < 0.4), (truth + 1) % CLASSES, truth)
    pi = torch.tensor(random.uniform(0.1, 0.9, rows))
    losses = []
    for _ in range(draws):
        selected = torch.tensor(random.random(rows)) < pi
        human = torch.where(selected, truth, MISSING)
        losses.append(act_loss(logits, machine, human, selected, pi, power=power).item())
    error = np.std(losses, ddof=1) / np.sqrt(draws)
    aim = cross_entropy(logits, truth).item()
    assert error < 0.05 * aim  # the test could see a bias of 20 % of the loss at the very least
    assert abs(np.mean(losses) - aim) < 4 * error


def test_a_class_that_no_label_names_is_pushed_down_and_nothing_breaks() -> None:
    values = batch(9)
    values |= {name: values[name].clamp(max=CLASSES - 2) for name in ("machine", "human")}
    grad = gradient(act_loss(**values, non_negative=True), values["logits"])
    assert torch.isfinite(grad).all()
    assert (grad[:, -1] >= 0).all()
    assert grad[:, -1].sum() > 0


@pytest.mark.parametrize("power", [0.0, 0.4, 1.0])
def test_a_machine_label_of_zeros_says_nothing(power: float) -> None:
    """Every λ is λ = 0 then: human labels alone, weighted by 1/π."""
    values = batch(10)
    silent = {**values, "machine": torch.zeros(ROWS, CLASSES, dtype=torch.double)}
    torch.testing.assert_close(act_loss(**silent, power=power), act_loss(**values, power=0))
    on = values["selected"]
    weighted = cross_entropy(values["logits"][on], values["human"][on], reduction="none") / values["pi"][on]
    torch.testing.assert_close(act_loss(**silent, power=power, reduction="sum"), weighted.sum())


class TestCombine:
    """The same loss out of losses a row."""

    def row_losses(self, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        labels = values["machine"], torch.where(values["selected"], values["human"], 0)
        by_machine, by_human = (cross_entropy(values["logits"], label, reduction="none") for label in labels)
        return by_machine, torch.where(values["selected"], by_human, torch.nan)

    @given(
        seed=st.integers(0, 1000),
        power=st.floats(0, 1),
        guard=st.booleans(),
        ceiling=st.none() | st.floats(1, 20),
        reduction=st.sampled_from(["mean", "sum", "none"]),
    )
    @settings(max_examples=40, deadline=None)
    def test_cross_entropies_make_the_act_loss(self, seed, power, guard, ceiling, reduction) -> None:
        values = batch(seed)
        options = {"power": power, "non_negative": guard, "max_weight": ceiling, "reduction": reduction}
        ours = act_combine(*self.row_losses(values), values["selected"], values["pi"], **options)
        theirs = act_loss(**values, **options)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        grads = [gradient(loss.sum(), values["logits"]) for loss in (ours, theirs)]
        torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-10)

    def test_squared_error_is_unbiased(self) -> None:
        """A linear regression: loss and gradient over 4,000 draws, within 4.5 standard errors of all true values."""
        random = np.random.default_rng(3)
        features, weights = torch.tensor(random.normal(0, 1, (50, 3))), torch.zeros(3, dtype=torch.double)
        truth = features @ torch.tensor([1.0, -1.0, 0.5], dtype=torch.double)
        machine = truth + torch.tensor(random.normal(0.5, 0.5, 50))
        pi = torch.tensor(random.uniform(0.1, 0.9, 50))
        weights.requires_grad_()
        aim = gradient(((features @ weights - truth) ** 2).mean(), weights)
        grads = []
        for drawn in torch.tensor(random.random((4000, 50))) < pi:
            losses = [(features @ weights - target) ** 2 for target in (machine, torch.where(drawn, truth, 99.0))]
            grads.append(gradient(act_combine(*losses, drawn, pi, power=0.8), weights))
        stack = torch.stack(grads)
        off = (stack.mean(0) - aim).abs() / (stack.std(0) / np.sqrt(4000))
        assert off.max() < 4.5
        assert (stack.std(0) / np.sqrt(4000)).max() < 0.05 * aim.abs().max()

    def test_tokens_of_a_text(self) -> None:
        """A tiny causal language model: the loss of a row is the cross-entropy of its answer's tokens."""
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=11, **sizes)).double()
        machine, human = torch.randint(0, 11, (2, 6, 5))
        machine[:, :2] = human[:, :2]  # the prompt

        def losses(tokens: Tensor) -> Tensor:
            logits = model(tokens).logits[:, 1:-1].transpose(1, 2)
            return cross_entropy(logits, tokens[:, 2:], reduction="none").mean(dim=1)

        selected, pi = torch.tensor([1, 1, 0, 0, 1, 0]).bool(), torch.tensor([1, 0.5, 0, 0.3, 1, 0.2]).double()
        loss = act_combine(losses(machine), losses(human), selected, pi, reduction="sum")
        by_hand = losses(human)[[0, 4]].sum() + losses(machine)[[2, 3, 5]].sum()
        by_hand = by_hand + 2 * losses(human)[1] - losses(machine)[1]
        torch.testing.assert_close(loss, by_hand)
        grads = [torch.autograd.grad(value, model.lm_head.weight, retain_graph=True)[0] for value in (loss, by_hand)]
        torch.testing.assert_close(*grads)

    def test_a_human_loss_that_nobody_can_know_reaches_neither_loss_nor_gradient(self) -> None:
        unknown = torch.tensor([torch.nan, torch.inf], requires_grad=True)
        loss = act_combine(torch.ones(2), unknown, torch.zeros(2).bool(), torch.tensor([0.0, 0.5]))
        assert loss == 1
        assert (gradient(loss, unknown) == 0).all()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"human_losses": torch.ones(2)}, r"machine_losses have the shape \[3\], but human_losses \[2\]"),
            ({"selected": torch.ones(3, 1)}, r"but selected \[3, 1\]"),
            ({"pi": torch.tensor([0.5, 0.0, 1.0])}, r"row 1 was selected with an impossible pi \(0.0\)"),
            ({"power": 2}, "power is 2"),
            ({"reduction": "all"}, "no reduction 'all'"),
        ],
    )
    def test_errors(self, changes: dict, message: str) -> None:
        values = {"machine_losses": torch.ones(3), "human_losses": torch.ones(3), "selected": torch.ones(3).bool()}
        with pytest.raises(ACTError, match=message):
            act_combine(**({**values, "pi": torch.ones(3)} | changes))


class TestGuards:
    def one_corrected_row(self, **options: object) -> tuple[Tensor, Tensor]:
        """Machine said 0, the person 1, pi = 0.1; the model has moved far away from 0."""
        logits = torch.tensor([[-20.0, 2.0]], dtype=torch.float64, requires_grad=True)
        labels = torch.tensor([0]), torch.tensor([1])
        loss = act_loss(logits, *labels, torch.tensor([True]), torch.tensor([0.1]), **options)
        return loss, gradient(loss, logits)

    def test_without_the_guard_a_corrected_row_is_unbounded_below(self) -> None:
        loss, grad = self.one_corrected_row()
        assert loss < -190
        assert grad.abs().max() > 1e-10

    def test_non_negative_stops_the_row_at_zero(self) -> None:
        loss, grad = self.one_corrected_row(non_negative=True)
        assert loss == 0
        assert (grad == 0).all()

    @given(seed=st.integers(0, 1000))
    @settings(max_examples=20, deadline=None)
    def test_non_negative_leaves_all_other_rows_alone(self, seed: int) -> None:
        values = batch(seed)
        free, guarded = (act_loss(**values, non_negative=on, reduction="none") for on in (False, True))
        corrected = values["selected"] & (values["human"] != values["machine"])
        assert (guarded == free.clamp(min=0)).all()
        assert torch.equal(guarded[~corrected], free[~corrected])

    def test_max_weight_clips_delta_over_pi(self) -> None:
        values = batch(8)
        clipped = {**values, "pi": torch.where(values["selected"], values["pi"].clamp(min=0.25), values["pi"])}
        torch.testing.assert_close(act_loss(**values, max_weight=4), act_loss(**clipped))
        torch.testing.assert_close(act_loss(**values, max_weight=1e9), act_loss(**values))


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "options", "message"),
        [
            ({}, {"reduction": "avg"}, "no reduction 'avg'; there are 'mean', 'sum', 'none'"),
            ({}, {"power": 1.5}, r"power is 1.5, but lies in \[0, 1\]"),
            ({}, {"power": float("nan")}, "power is nan"),
            ({}, {"max_weight": 0.5}, "max_weight is 0.5, .* give 1 or more"),
            ({"pi": [0.5, 0.0, 0.0]}, {}, r"row 1 was selected with an impossible pi \(0.0\).*1 of 3 rows"),
            ({"pi": [1.5, 0.5, 0.0]}, {}, r"row 0 .* impossible pi \(1.5\)"),
            ({"pi": [float("nan"), 0.5, 0.0]}, {}, r"impossible pi \(nan\)"),
            ({"human": [1, MISSING, MISSING]}, {}, r"row 1 was selected but has no human label \(-100\); review it"),
            ({"human": [1, 7, MISSING]}, {}, r"row 1 has a human label that is no class \(7\); the classes are 0..2"),
            ({"machine": [1, 0, -1]}, {}, r"row 2 has a machine label that is no class \(-1\)"),
            ({"machine": [1, 0]}, {}, "has 3 rows, but machine has 2"),
            ({"machine": [[0.5, 0.5]] * 3}, {}, "soft machine labels have 2 classes, but the model has 3"),
        ],
    )
    def test_messages_name_the_bad_value(self, change: dict, options: dict, message: str) -> None:
        values = {"machine": [1, 0, 2], "human": [1, 1, MISSING], "selected": [True, True, False], "pi": [0.5, 0.5, 0]}
        with pytest.raises(ACTError, match=message):
            act_loss(torch.zeros(3, 3), **{k: torch.tensor(v) for k, v in (values | change).items()}, **options)

    @pytest.mark.parametrize("soft", [[[0.5, 0.2, 0.1]] * 3, [[1.2, -0.1, -0.1]] * 3, [[float("nan"), 0, 0]] * 3])
    def test_a_soft_label_that_is_no_distribution(self, soft: list[list[float]]) -> None:
        rest = torch.zeros(3, dtype=torch.long), torch.zeros(3, dtype=torch.bool), torch.ones(3)
        with pytest.raises(ACTError, match=r"row 0 has a soft machine label that is no distribution .*3 of 3 rows"):
            act_loss(torch.zeros(3, 3), torch.tensor(soft), *rest)

    def test_logits_of_another_shape(self) -> None:
        label = torch.tensor([0])
        with pytest.raises(ACTError, match=r"not of shape \[3\]"):
            act_loss(torch.zeros(3), label, label, label.bool(), label.float())

    def test_what_is_not_selected_is_not_read(self) -> None:
        unread = torch.tensor([False]), torch.tensor([float("nan")])
        assert act_loss(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([99]), *unread) == pytest.approx(np.log(2))


class TestLossWeights:
    def test_by_hand(self) -> None:
        selected, pi = [True, True, False, False], [0.25, 0.25, 0.5, 0.0]
        weights = loss_weights(selected, pi, [True, False, False, False])
        # corrected: +4 and -3; the three others: 1 each
        assert weights.largest == 4
        assert weights.negative_share == pytest.approx(3 / 10)
        assert weights.effective_rows == pytest.approx(10**2 / (7**2 + 3))
        assert weights.unreachable == 1

    @given(seed=st.integers(0, 1000), power=st.floats(0, 1), ceiling=st.none() | st.floats(1, 20))
    @settings(max_examples=40, deadline=None)
    def test_agrees_with_the_gradient_of_the_loss(self, seed: int, power: float, ceiling: float | None) -> None:
        values = batch(seed)
        corrected = values["human"] != values["machine"]
        weights = loss_weights(values["selected"], values["pi"], corrected, power, max_weight=ceiling)
        # The gradient of a row's loss in the logits is p Σ(target) - target: it gives the target back.
        rows = act_loss(**values, power=power, max_weight=ceiling, reduction="sum")
        grad, share = gradient(rows, values["logits"]), torch.softmax(values["logits"], -1).detach()
        over_pi = torch.where(values["selected"], 1 / values["pi"], 0).clamp(max=ceiling or np.inf)
        target = share * (power + over_pi * (1 - power))[:, None] - grad
        assert weights.largest == pytest.approx(target.max().item(), abs=1e-8)
        total = target.abs().sum().item()
        assert weights.negative_share * total == pytest.approx(-target.clamp(max=0).sum().item(), abs=1e-6)

    def test_the_threshold_rule_has_equal_weights(self) -> None:
        selected = np.arange(10) < 4
        weights = loss_weights(selected, selected.astype(float), np.arange(10) < 2)
        assert (weights.largest, weights.negative_share, weights.unreachable) == (1, 0, 6)
        assert weights.effective_rows == pytest.approx(10)

    @given(seed=st.integers(0, 1000), power=st.floats(0, 1))
    @settings(max_examples=20, deadline=None)
    def test_soft_labels_and_ones_that_say_nothing(self, seed: int, power: float) -> None:
        """The weight on the human label, and all that is on the others, of each reviewed row."""
        values = batch(seed)
        random = np.random.default_rng(seed)
        soft = torch.tensor(random.dirichlet(np.ones(CLASSES), ROWS) * (random.random((ROWS, 1)) < 0.7))
        on = values["selected"]
        agreed = soft.gather(1, values["human"].clamp(min=0)[:, None])[:, 0]
        use = power * soft.sum(1).clamp(max=1)
        weights = loss_weights(on[on], values["pi"][on], (1 - agreed)[on], use[on])
        weight = 1 / values["pi"][on][:, None]
        target = power * soft[on] * (1 - weight)
        target = target.scatter_add(1, values["human"][on][:, None], weight)
        assert weights.largest == pytest.approx(target.max().item(), abs=1e-9)
        negative = -target.clamp(max=0).sum().item()
        assert weights.negative_share == pytest.approx(negative / target.abs().sum().item(), abs=1e-9)

    def test_max_weight_and_no_rows(self) -> None:
        assert loss_weights([True], [0.01], [True], max_weight=5).largest == 5
        empty = loss_weights([], [], [])
        assert (empty.largest, empty.effective_rows) == (0, 0)

    def test_power_zero_is_the_effective_size_of_the_reviewed_rows(self) -> None:
        weights = loss_weights([True, True, False], [0.5, 0.25, 0.1], [True, False, False], power=0)
        assert weights.effective_rows == pytest.approx((2 + 4) ** 2 / (2**2 + 4**2))

    def test_errors(self) -> None:
        with pytest.raises(ACTError, match=r"row 1 was selected with an impossible pi \(0.0\)"):
            loss_weights([True, True], [1.0, 0.0], [False, False])
        with pytest.raises(ACTError, match="power is -1"):
            loss_weights([True], [1.0], [False], power=-1)
