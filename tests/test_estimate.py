import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act_hf.errors import ACTError
from act_hf.estimate import (
    abs_score,
    aqg,
    auroc,
    error_curve,
    estimate_accuracy,
    perfect_curve,
    random_curve,
    recall_at,
    reliability,
    wilson,
)
from act_hf.sampling import draw, exponential, mix_uniform, threshold


EPS = [0.9, 0.8, 0.8, 0.1]
WRONG = [True, True, False, False]


@st.composite
def graded(draw_from):
    """Error probabilities with ties, and errors of both kinds."""
    eps = draw_from(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), min_size=2, max_size=30))
    wrong = draw_from(st.lists(st.booleans(), min_size=len(eps), max_size=len(eps)))
    wrong[0], wrong[1] = True, False
    return np.array(eps), np.array(wrong)


class TestCurve:
    def test_ties_give_the_expected_number(self):
        budgets, found = error_curve(EPS, WRONG)
        np.testing.assert_array_equal(budgets, [0, 1, 2, 3, 4])
        np.testing.assert_allclose(found, [0, 1, 1.5, 2, 2])

    @given(graded())
    @settings(deadline=None)
    def test_ties_are_the_mean_over_random_orders_and_curves_nest(self, case):
        eps, wrong = case
        _, found = error_curve(eps, wrong)
        forward = np.cumsum(wrong[np.lexsort((np.arange(eps.size), -eps))])
        backward = np.cumsum(wrong[np.lexsort((-np.arange(eps.size), -eps))])
        # Where two orders agree there is no tie across the budget.
        edges = np.append(np.diff(np.sort(-eps)) > 0, True)
        np.testing.assert_allclose(found[1:][edges], forward[edges])
        np.testing.assert_allclose(found[1:][edges], backward[edges])
        assert (found <= perfect_curve(wrong) + 1e-9).all()
        assert (np.diff(found) >= 0).all()

    def test_random_and_perfect(self):
        np.testing.assert_allclose(random_curve(WRONG), [0, 0.5, 1, 1.5, 2])
        np.testing.assert_allclose(perfect_curve(WRONG), [0, 1, 2, 2, 2])

    def test_a_constant_critic_is_random(self):
        np.testing.assert_allclose(error_curve([0.5] * 4, WRONG)[1], random_curve(WRONG))

    def test_aqg_and_recall(self):
        assert aqg(EPS, WRONG, 2) == 1.5 / 4
        assert aqg(EPS, WRONG, 1.0) == 0.5
        assert recall_at(EPS, WRONG) == 0.75
        assert recall_at(EPS, WRONG, 1) == 0.5

    def test_recall_needs_an_error(self):
        with pytest.raises(ACTError, match="at least one machine error"):
            recall_at([0.1, 0.2], [False, False])

    @pytest.mark.parametrize(
        ("eps", "wrong", "message"),
        [
            ([0.1], [True, False], "error_probs has shape"),
            ([0.1, float("nan")], [True, False], "row 1 has no error probability"),
            ([0.1, 0.2], [True, None], "row 1 is nan"),
            ([0.1, 0.2], [0, 2], r"row 1 is 2\.0"),
            ([[0.1]], [[True]], "shape is"),
        ],
    )
    def test_refuses(self, eps, wrong, message):
        with pytest.raises(ACTError, match=message):
            error_curve(eps, wrong)


class TestAbs:
    @given(graded())
    @settings(deadline=None)
    def test_is_the_scaled_area_under_aqg(self, case):
        eps, wrong = case
        area, random, perfect = (
            np.trapezoid(curve / eps.size)
            for curve in (error_curve(eps, wrong)[1], random_curve(wrong), perfect_curve(wrong))
        )
        assert abs_score(eps, wrong) == pytest.approx((area - random) / (perfect - random), abs=1e-9)

    @given(graded())
    @settings(max_examples=30, deadline=None)
    def test_auroc_is_scikit_learns(self, case):
        from sklearn.metrics import roc_auc_score

        assert auroc(*case) == pytest.approx(roc_auc_score(case[1], case[0]))

    def test_ends(self):
        assert abs_score([0.9, 0.1], [True, False]) == 1
        assert abs_score([0.1, 0.9], [True, False]) == -1
        assert abs_score([0.5, 0.5], [True, False]) == 0

    def test_needs_both(self):
        with pytest.raises(ACTError, match="2 of 2 rows are wrong"):
            abs_score([0.1, 0.9], [True, True])


class TestReliability:
    def test_two_bins(self):
        result = reliability([0.1, 0.1, 0.6, 0.8], [False, False, True, False], bins=2)
        np.testing.assert_allclose(result.predicted, [0.1, 0.7])
        np.testing.assert_allclose(result.observed, [0.0, 0.5])
        np.testing.assert_array_equal(result.count, [2, 2])
        assert result.expected_calibration_error == pytest.approx(0.15)
        assert result.brier == pytest.approx((0.01 + 0.01 + 0.16 + 0.64) / 4)

    def test_ties_stay_together(self):
        result = reliability([0.5] * 9 + [0.9], [True, False] * 5, bins=10)
        np.testing.assert_array_equal(result.count, [9, 1])

    @given(graded(), st.integers(1, 12))
    @settings(max_examples=50, deadline=None)
    def test_bins_hold_every_row_in_order(self, case, bins):
        result = reliability(*case, bins=bins)
        assert result.count.sum() == case[0].size
        assert result.count.size <= bins
        assert (np.diff(result.predicted) > 0).all()
        assert 0 <= result.expected_calibration_error <= 1
        assert 0 <= result.brier <= 1

    def test_a_weight_is_a_repetition(self):
        once = reliability([0.2, 0.7], [False, True], weights=[3, 1], bins=1)
        often = reliability([0.2, 0.2, 0.2, 0.7], [False, False, False, True], bins=1)
        assert once.predicted == pytest.approx(often.predicted)
        assert once.brier == pytest.approx(often.brier)
        assert once.expected_calibration_error == pytest.approx(often.expected_calibration_error)

    @pytest.mark.parametrize("options", [{"bins": 0}, {"weights": [1, 0]}, {"weights": [1]}])
    def test_refuses(self, options):
        with pytest.raises(ACTError):
            reliability([0.1, 0.2], [True, False], **options)


class TestWilson:
    def test_a_known_value(self):
        # Newcombe 1998, table I
        assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
        assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)

    @given(st.integers(1, 500), st.data(), st.floats(0.5, 0.999))
    @settings(max_examples=50, deadline=None)
    def test_holds_the_share(self, n, data, confidence):
        k = data.draw(st.integers(0, n))
        low, high = wilson(k, n, confidence=confidence)
        assert 0 <= low <= k / n <= high <= 1

    @pytest.mark.parametrize(("k", "n", "confidence"), [(1, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
    def test_refuses(self, k, n, confidence):
        with pytest.raises(ACTError):
            wilson(k, n, confidence=confidence)


def population(rng, rows, rate, kind):
    """Errors, and a critic with AUROC about 0.75 that is calibrated, too loud, coarse, or sure without reason."""
    wrong = rng.random(rows) < rate
    logit = math.log(rate / (1 - rate)) + 0.95 * (rng.normal(size=rows) + 0.95 * wrong) - 0.95**2 / 2
    if kind == "loud":
        logit = 1.5 * logit + 0.7
    eps = 1 / (1 + np.exp(-logit))
    if kind == "coarse":
        eps = np.round(1.2 * eps, 1).clip(0, 1)
    if kind == "blind":
        eps = np.where(rng.random(rows) < 0.4, 0.02, eps)
    return eps, wrong


DESIGNS = [("uniform", 1.0, 0.1), ("exponential", 0.0, 0.1), ("exponential", 0.1, 0.1), ("exponential", 0.2, 0.3)]


def coverage(rows, rate, kind, mix, share, *, draws):
    """Share of intervals that hold the truth, machine and after; mean error of the estimate; mean width."""
    rng = np.random.default_rng([rows, int(rate * 100), int(mix * 100), int(share * 100)])
    seen = []
    for seed in range(draws):
        if seed % 10 == 0:
            eps, wrong = population(rng, rows, rate, kind)
            budget = round(share * rows)
            pi = mix_uniform(exponential(eps, budget), budget, mix)
        selected = draw(pi, seed=seed)
        result = estimate_accuracy(eps, selected, pi, np.where(selected, wrong, np.nan))
        truth, after = 1 - wrong.mean(), 1 - (wrong & ~selected).mean()
        seen.append(
            (
                result.machine_low - 1e-12 <= truth <= result.machine_high + 1e-12,
                result.after_low - 1e-12 <= after <= result.after_high + 1e-12,
                result.machine - truth,
                result.machine_high - result.machine_low,
            )
        )
    return np.mean(seen, axis=0)


class TestEstimateAccuracy:
    @pytest.mark.parametrize("rows", [400, 2000])
    @pytest.mark.parametrize("rate", [0.1, 0.25, 0.4])
    @pytest.mark.parametrize("kind", ["calibrated", "loud", "coarse", "blind"])
    def test_coverage(self, rows, rate, kind):
        for rule, mix, share in DESIGNS:
            machine, after, _, _ = coverage(rows, rate, kind, mix, share, draws=150)
            # The standard error of a share of 0.95 over 150 draws is 0.018.
            assert machine >= 0.92, (rule, mix, share)
            assert after >= 0.92, (rule, mix, share)

    def test_no_bias_and_no_needless_width_with_a_mix(self):
        _, _, bias, width = coverage(2000, 0.25, "loud", 0.2, 0.2, draws=200)
        assert abs(bias) < 0.008
        assert width < 0.16
        _, _, bias, width = coverage(2000, 0.1, "calibrated", 1.0, 0.1, draws=200)
        assert abs(bias) < 0.005
        assert width < 0.09

    def test_everything_reviewed_is_known(self):
        result = estimate_accuracy([0.1, 0.9, 0.4, 0.3], [True] * 4, [1.0] * 4, [False, True, False, False])
        assert (result.machine, result.machine_low, result.machine_high) == (0.75, 0.75, 0.75)
        assert (result.after, result.after_low, result.after_high) == (1, 1, 1)
        assert result.effective == math.inf
        assert (result.rows, result.reviewed, result.found, result.covers) == (4, 4, 1, 1.0)

    @pytest.mark.parametrize("reviewed", [5, 20, 60])
    def test_no_error_seen_is_not_no_error(self, reviewed):
        """As wide as the exact bound for so many rows drawn alike, of a set of 600."""
        pi = np.full(600, reviewed / 600)
        selected = draw(pi, seed=1)
        result = estimate_accuracy(np.full(600, 0.2), selected, pi, np.zeros(600))
        alike = 1 - 0.025 ** (1 / reviewed)
        assert result.machine_high == 1
        assert result.machine_low == pytest.approx(1 - alike, abs=0.12 * alike + 0.03)
        assert result.machine_low < 1 - 0.7 * alike

    def test_one_reviewed_row_says_next_to_nothing(self):
        pi = np.full(100, 0.01)
        result = estimate_accuracy(np.full(100, 0.3), draw(pi, seed=0), pi, np.zeros(100))
        assert result.machine_low < 0.05
        assert result.effective < 1.5

    def test_only_tiny_probabilities_are_left(self):
        eps, selected = np.array([0.9, 0.5, 0.1]), np.array([True, False, False])
        result = estimate_accuracy(eps, selected, [1.0, 1e-30, 1e-40], [True, None, None])
        assert result.machine_low == pytest.approx(0)
        assert result.machine_high == pytest.approx(2 / 3)

    def test_a_threshold_leaves_the_rest_unknown(self):
        eps = np.linspace(0, 1, 10)
        pi = threshold(eps, 4)
        result = estimate_accuracy(eps, pi == 1, pi, [None] * 6 + [False, True, True, True])
        assert result.covers == pytest.approx(0.4)
        assert (result.machine_low, result.machine_high) == pytest.approx((0.1, 0.7))
        assert (result.after_low, result.after_high) == pytest.approx((0.4, 1.0))
        assert result.machine_low < result.machine < result.machine_high

    def test_failed_rows_without_error_probability(self):
        nan = float("nan")
        reviewed = estimate_accuracy([nan, 0.5, 0.5], [True, True, False], [1, 0.5, 0.5], [True, False, None])
        assert reviewed.covers == 1
        skipped = estimate_accuracy([nan, 0.5, 0.5], [False, True, False], [0, 0.5, 0.5], [None, False, None])
        assert skipped.covers == pytest.approx(2 / 3)
        silent = estimate_accuracy([nan, nan], [True, True], [1, 1], [True, False])
        assert silent.machine == 0.5

    @given(st.integers(0, 10_000), st.floats(0, 1))
    @settings(max_examples=150, deadline=None)
    def test_bounds_never_contradict_the_review(self, seed, mix):
        rng = np.random.default_rng(seed)
        rows = int(rng.integers(2, 40))
        eps, wrong = rng.choice([0.0, 0.1, 0.5, 1.0], rows), rng.random(rows) < rng.random()
        budget = int(rng.integers(1, rows + 1))
        rule = [exponential, threshold][seed % 2]
        pi = mix_uniform(rule(eps, budget), budget, mix).astype(np.float32)
        selected = draw(pi, seed=seed)
        if (selected != (selected & (pi > 0))).any() or (~selected & (pi == 1)).any() or not selected.any():
            return
        result = estimate_accuracy(eps, selected, pi, wrong)
        found, right = (wrong & selected).sum(), (~wrong & selected).sum()
        assert right / rows - 1e-9 <= result.machine_low <= result.machine + 1e-9
        assert result.machine <= result.machine_high + 1e-9
        assert result.machine_high <= 1 - found / rows + 1e-9
        assert result.after == pytest.approx(result.machine + found / rows)
        assert result.after_low == pytest.approx(result.machine_low + found / rows)
        assert result.after_high == pytest.approx(result.machine_high + found / rows)

    def test_more_confidence_is_wider(self):
        eps, wrong = population(np.random.default_rng(0), 500, 0.2, "calibrated")
        pi = np.full(500, 0.2)
        selected = draw(pi, seed=0)
        widths = [
            result.machine_high - result.machine_low
            for result in (estimate_accuracy(eps, selected, pi, wrong, confidence=c) for c in (0.5, 0.9, 0.99))
        ]
        assert widths == sorted(widths)
        assert widths[0] < widths[1] < widths[2]

    def test_errors_are_read_only_where_selected(self):
        pi = np.full(4, 0.5)
        selected = [True, True, False, False]
        one = estimate_accuracy([0.1, 0.2, 0.3, 0.4], selected, pi, [True, False, None, None])
        two = estimate_accuracy([0.1, 0.2, 0.3, 0.4], selected, pi, [True, False, True, True])
        assert one == two

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"selected": [False, False]}, "none of the 2 rows is reviewed"),
            ({"pi": [0.5, 1.5]}, r"row 1 has a pi outside \[0, 1\]"),
            ({"pi": [0.0, 0.5]}, "row 0 was reviewed although its pi is 0"),
            ({"pi": [0.5, 1.0]}, "row 1 was not reviewed although its pi is 1"),
            ({"errors": [None, None]}, "row 0 was drawn but has no answer"),
            ({"error_probs": [0.5, float("nan")]}, "row 1 has no error probability"),
            ({"error_probs": [0.5, 1.1]}, "row 1 has no error probability"),
            ({"pi": [0.5]}, r"selected has shape \(2,\) and pi \(1,\)"),
            ({"confidence": 95}, "confidence=95 is not between 0 and 1"),
        ],
    )
    def test_refuses(self, change, message):
        good = {"error_probs": [0.5, 0.5], "selected": [True, False], "pi": [0.5, 0.5], "errors": [True, None]}
        with pytest.raises(ACTError, match=message):
            estimate_accuracy(**{**good, **change})
