import json
from functools import partial

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from act_hf.errors import ACTError
from act_hf.records import stage_records
from act_hf.sampling import (
    RULES,
    draw,
    exponential,
    mix_uniform,
    normalised,
    resolve_budget,
    root,
    sample,
    solve_alpha,
    solve_beta,
    threshold,
    with_floor,
)
from act_hf.sampling.budget import allocate


FILLING = [threshold, normalised, exponential, root, partial(exponential, beta=3.0), partial(exponential, beta=1e6)]
CLIPPED = partial(normalised, fill=False)
UNDER = [partial(threshold, ties="strict"), CLIPPED]

# Few distinct values, as a verbalised critic gives them, and arbitrary ones.
PROBS = st.one_of(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.8, 1.0]), min_size=1, max_size=40),
    st.lists(st.floats(0, 1), min_size=1, max_size=40),
)


@st.composite
def cases(draw_from):
    eps = draw_from(PROBS)
    return np.array(eps), draw_from(st.integers(0, len(eps)))


class TestResolveBudget:
    @pytest.mark.parametrize(
        ("budget", "rows", "count"),
        [
            (0, 10, 0),
            (10, 10, 10),
            (1, 10, 1),
            (1.0, 10, 10),
            (0.0, 10, 0),
            (0.29, 100, 29),
            (0.1, 30, 3),
            (0.25, 7, 1),
            (np.int64(3), 10, 3),
            (np.float32(0.5), 10, 5),
        ],
    )
    def test_counts_and_shares(self, budget, rows, count):
        assert resolve_budget(budget, rows) == count

    @given(st.integers(0, 10**7), st.floats(0, 1))
    def test_a_share_is_never_more_than_its_part(self, rows, share):
        assert 0 <= resolve_budget(share, rows) <= min(rows, share * rows + 1e-6)

    def test_a_float_count_says_how_to_write_it(self):
        expected = (
            "budget 50.0 is a share above 1; for 50 rows give the integer 50 (--budget 50), for half of them 0.5"
        )
        with pytest.raises(ACTError) as error:
            resolve_budget(50.0, 200)
        assert str(error.value) == expected

    @pytest.mark.parametrize(
        ("budget", "message"),
        [
            (-1, "budget -1 is not possible; give 0 to 20 rows"),
            (-0.5, "budget -0.5 is not possible"),
            (float("nan"), "budget nan is not possible"),
            (float("inf"), "budget inf is a share above 1"),
            (21, "budget 21 is more than the 20 rows"),
            (True, "budget True is neither"),
            ("5", "budget '5' is neither"),
            (None, "budget None is neither"),
        ],
    )
    def test_refuses(self, budget, message):
        with pytest.raises(ACTError, match=message):
            resolve_budget(budget, 20)


class TestRules:
    @pytest.mark.parametrize("rule", FILLING)
    @given(case=cases())
    @settings(max_examples=60, deadline=None)
    def test_sum_is_the_budget(self, rule, case):
        eps, budget = case
        pi = rule(eps, budget)
        assert np.isclose(pi.sum(), budget, rtol=1e-9, atol=1e-9) or self.is_blunt(rule, eps, pi, budget)

    @staticmethod
    def is_blunt(rule, eps, pi, budget):
        """A huge beta is a threshold: between two values that differ by less than a float there is no alpha."""
        return isinstance(rule, partial) and rule.keywords.get("beta") == 1e6 and pi.sum() <= budget + 1e-9

    @pytest.mark.parametrize("rule", FILLING + UNDER)
    @given(case=cases())
    @settings(max_examples=60, deadline=None)
    def test_within_bounds_and_monotone(self, rule, case):
        eps, budget = case
        pi = rule(eps, budget)
        assert pi.shape == eps.shape
        assert pi.min() >= 0
        assert pi.max() <= 1
        assert pi.sum() <= budget + 1e-9
        assert (np.diff(pi[np.argsort(eps)]) >= -1e-12).all()
        for value in np.unique(eps):
            assert np.ptp(pi[eps == value]) == 0

    @pytest.mark.parametrize("rule", FILLING + UNDER)
    @given(case=cases(), seed=st.integers(0, 99))
    @settings(max_examples=40, deadline=None)
    def test_the_order_of_the_rows_does_not_matter(self, rule, case, seed):
        eps, budget = case
        order = np.random.default_rng(seed).permutation(eps.size)
        np.testing.assert_allclose(rule(eps[order], budget), rule(eps, budget)[order], rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("rule", FILLING + UNDER)
    def test_nothing_and_everything(self, rule):
        eps = np.array([0.2, 0.2, 0.9])
        assert not rule(eps, 0).any()
        if rule is not CLIPPED:
            np.testing.assert_array_equal(rule(eps, 3), [1, 1, 1])

    @pytest.mark.parametrize("rule", FILLING)
    @pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
    def test_equal_error_probabilities_are_sampled_uniformly(self, rule, value):
        np.testing.assert_allclose(rule(np.full(8, value), 3), 3 / 8)

    @pytest.mark.parametrize("rule", [*FILLING, *UNDER])
    def test_one_row(self, rule):
        assert rule([0.4], 1) == [1.0]
        assert rule([0.4], 0) == [0.0]

    @pytest.mark.parametrize("rule", FILLING)
    def test_takes_a_share(self, rule):
        eps = np.linspace(0, 1, 11)
        np.testing.assert_array_equal(rule(eps, 0.5), rule(eps, 5))

    @pytest.mark.parametrize("rule", FILLING)
    @pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan")])
    def test_a_bad_error_probability_is_named(self, rule, bad):
        with pytest.raises(ACTError, match=f"error_probs of row 2 is {bad}"):
            rule([0.1, 0.2, bad], 1)

    def test_needs_one_dimension(self):
        with pytest.raises(ACTError, match=r"shape \(1, 2\)"):
            threshold([[0.1, 0.2]], 1)

    def test_names(self):
        assert list(RULES) == ["exponential", "threshold", "normalised", "root"]


class TestThreshold:
    def test_no_ties_is_the_top(self):
        np.testing.assert_array_equal(threshold([0.1, 0.9, 0.5], 2), [0, 1, 1])

    def test_ties_share_what_is_left(self):
        np.testing.assert_allclose(threshold([0.9, 0.8, 0.8, 0.8, 0.1], 2), [1, 1 / 3, 1 / 3, 1 / 3, 0])

    def test_strict_never_splits_a_group(self):
        np.testing.assert_array_equal(threshold([0.9, 0.8, 0.8, 0.8, 0.1], 2, ties="strict"), [1, 0, 0, 0, 0])
        np.testing.assert_array_equal(threshold([0.9, 0.8, 0.8, 0.1], 3, ties="strict"), [1, 1, 1, 0])

    def test_unknown_ties(self):
        with pytest.raises(ACTError, match="ties='first' is unknown; the choices are 'random', 'strict'"):
            threshold([0.1], 1, ties="first")


class TestNormalised:
    def test_is_proportional_where_nothing_exceeds_one(self):
        np.testing.assert_allclose(normalised([0.1, 0.2, 0.3, 0.4], 1), [0.1, 0.2, 0.3, 0.4])

    def test_fills_what_clipping_loses(self):
        eps = [1.0, 0.1, 0.1]
        np.testing.assert_allclose(normalised(eps, 2), [1, 0.5, 0.5])
        np.testing.assert_allclose(normalised(eps, 2, fill=False), [1, 1 / 6, 1 / 6])

    def test_what_is_left_goes_to_rows_with_no_suspicion(self):
        np.testing.assert_allclose(normalised([0.5, 0.0, 0.0], 2), [1, 0.5, 0.5])

    def test_tiny_error_probabilities_do_not_overflow(self):
        np.testing.assert_allclose(normalised([1e-320, 1e-320, 1e-320], 1), 1 / 3)


class TestRoot:
    def test_is_proportional_to_the_root_where_nothing_exceeds_one(self):
        np.testing.assert_allclose(root([0.04, 0.16, 0.36], 1), np.array([2, 4, 6]) / 12)

    @pytest.mark.parametrize("budget", [30, 100, 250])
    def test_no_rule_estimates_better_with_a_calibrated_critic(self, budget):
        """What a row may change is then worth ε̂, and the variance Σ ε̂ (1/π − 1) is least: Neyman."""
        eps = np.random.default_rng(0).beta(0.5, 3, 500)

        def variance(pi):
            return (eps * (1 / pi - 1)).sum()

        others = [np.full(500, budget / 500), normalised(eps, budget)]
        others += [mix_uniform(rule(eps, budget), budget, 0.2) for rule in (normalised, exponential, threshold)]
        assert all(variance(root(eps, budget)) <= variance(pi) for pi in others)

    def test_normalised_is_no_better_than_uniform(self):
        """Where nothing is clipped, π ∝ ε̂ has exactly the variance of uniform sampling."""
        eps = np.random.default_rng(0).uniform(0.05, 0.4, 500)
        uniform, pi = np.full(500, 0.1), normalised(eps, 50)
        assert (eps * (1 / pi - 1)).sum() == pytest.approx((eps * (1 / uniform - 1)).sum())


class TestFloor:
    @given(case=cases(), share=st.floats(0, 1))
    @settings(max_examples=80, deadline=None)
    @pytest.mark.parametrize("rule", [threshold, normalised, root, exponential])
    def test_keeps_the_sum_and_lifts_every_row(self, rule, case, share):
        eps, budget = case
        floor = share * budget / eps.size
        pi = with_floor(rule, eps, budget, floor)
        assert pi.sum() == pytest.approx(budget, abs=1e-6)
        assert pi.min() >= floor - 1e-9
        assert pi.max() <= 1 + 1e-12

    def test_certain_rows_stay_certain(self):
        pi = with_floor(threshold, np.linspace(0, 1, 100), 30, 0.1)
        assert (pi == 1).sum() == 22
        assert pi.min() == pytest.approx(8 / 78)
        assert mix_uniform(threshold(np.linspace(0, 1, 100), 30), 30, 0.3).max() < 1

    def test_none_leaves_the_rule_alone(self):
        eps = np.random.default_rng(0).random(50)
        np.testing.assert_array_equal(with_floor(root, eps, 10, 0.0), root(eps, 10))

    @pytest.mark.parametrize("floor", [-0.1, 0.21, 1.0, float("nan")])
    def test_the_budget_has_to_pay_for_it(self, floor):
        with pytest.raises(ACTError, match=rf"floor={floor}: the least probability of 50 rows .* = 0\.2"):
            with_floor(root, np.linspace(0, 1, 50), 10, floor)


class TestAllocate:
    @given(
        groups=st.lists(st.tuples(st.integers(0, 30), st.floats(0, 10)), min_size=1, max_size=8),
        share=st.floats(0, 1),
    )
    @settings(deadline=None)
    def test_whole_rows_never_more_than_there_are(self, groups, share):
        sizes, weights = np.array(groups).T
        budget = int(share * sizes.sum())
        got = allocate(budget, sizes, weights)
        assert got.sum() == budget
        assert (got >= 0).all()
        assert (got <= sizes).all()

    @pytest.mark.parametrize(
        ("budget", "sizes", "weights", "expected"),
        [
            (10, [50, 30, 20], [50, 30, 20], [5, 3, 2]),
            (10, [50, 30, 20], [1, 1, 1], [4, 3, 3]),
            (10, [50, 2, 20], [1, 1, 1], [4, 2, 4]),
            (10, [50, 30, 20], [0, 0, 1], [0, 0, 10]),
            (30, [50, 30, 20], [0, 0, 1], [6, 4, 20]),
            (0, [5, 5], [1, 1], [0, 0]),
        ],
    )
    def test_shares(self, budget, sizes, weights, expected):
        assert allocate(budget, sizes, weights).tolist() == expected


class TestExponential:
    @given(case=cases(), beta=st.floats(0.01, 1e300))
    @settings(max_examples=200, deadline=None)
    def test_never_above_the_budget_at_any_beta(self, case, beta):
        eps, budget = case
        pi = exponential(eps, budget, beta=beta)
        assert np.isfinite(pi).all()
        assert pi.sum() <= budget + 1e-9

    def test_follows_its_formula(self):
        eps = np.random.default_rng(0).random(50)
        alpha = solve_alpha(eps, 10, beta=7.0)
        np.testing.assert_allclose(exponential(eps, 10, beta=7.0), 1 / (1 + np.exp(-7.0 * (eps - alpha))))

    def test_alpha_of_nothing_and_everything(self):
        assert solve_alpha([0.1, 0.2], 0) == np.inf
        assert solve_alpha([0.1, 0.2], 2) == -np.inf

    def test_between_uniform_and_threshold(self):
        eps = np.random.default_rng(0).random(50)
        np.testing.assert_allclose(exponential(eps, 10, beta=1e-6), 0.2, atol=1e-6)
        np.testing.assert_allclose(exponential(eps, 10, beta=1e7), threshold(eps, 10), atol=1e-6)

    @pytest.mark.parametrize("beta", [0.5, 20.0, 1e4])
    @pytest.mark.parametrize("ordered", [False, True])
    def test_many_rows_glance_first(self, beta, ordered):
        eps = np.random.default_rng(0).beta(0.3, 3, 300_000)
        eps = np.sort(eps) if ordered else eps
        pi = exponential(eps, 4321, beta=beta)
        assert pi.sum() == pytest.approx(4321, rel=1e-9)

    @pytest.mark.parametrize("keep", [0.5, 0.8, 0.95, 0.99])
    @pytest.mark.parametrize("scale", [1.0, 0.01])
    def test_a_beta_that_keeps_a_share_of_what_a_threshold_finds(self, keep, scale):
        eps = scale * np.random.default_rng(0).beta(0.5, 2, 1000)
        beta = solve_beta(eps, 100, keep=keep)
        found = exponential(eps, 100, beta=beta) @ eps / (threshold(eps, 100) @ eps)
        assert found == pytest.approx(keep, abs=1e-3)
        assert exponential(eps, 100, beta=beta * 0.99) @ eps < keep * (threshold(eps, 100) @ eps)

    def test_where_uniform_keeps_enough(self):
        assert exponential([0.3] * 8, 4, beta=solve_beta([0.3] * 8, 4)) == pytest.approx(0.5)
        assert np.ptp(exponential([0.3, 0.31], 1, beta=solve_beta([0.3, 0.31], 1, keep=0.5))) < 0.01
        assert solve_beta([0.1, 0.4], 0) > 0

    @pytest.mark.parametrize("keep", [0.0, 1.0, -1, float("nan")])
    def test_bad_keep(self, keep):
        with pytest.raises(ACTError, match=f"keep={keep} is not a share"):
            solve_beta([0.1, 0.2], 1, keep=keep)

    @pytest.mark.parametrize("beta", [0, -1, float("inf"), float("nan")])
    def test_bad_beta(self, beta):
        with pytest.raises(ACTError, match=f"beta={beta} is not a finite number above 0"):
            exponential([0.1, 0.2], 1, beta=beta)


class TestMix:
    @given(case=cases(), mix=st.floats(0, 1))
    @settings(max_examples=60, deadline=None)
    def test_keeps_the_sum_and_bounds_the_weights(self, case, mix):
        eps, budget = case
        pi = mix_uniform(threshold(eps, budget), budget, mix)
        assert np.isclose(pi.sum(), budget)
        assert pi.min() >= mix * budget / eps.size - 1e-12

    @pytest.mark.parametrize("mix", [-0.1, 1.1, float("nan")])
    def test_refuses(self, mix):
        with pytest.raises(ACTError, match=f"mix={mix} is not a share from 0 to 1"):
            mix_uniform([0.5, 0.5], 1, mix)


class TestDraw:
    @pytest.mark.parametrize("rows", [1, 2, 3, 10, 101, 1000, 10_007, 100_000])
    @pytest.mark.parametrize("rule", FILLING[:4])
    def test_takes_exactly_the_budget(self, rule, rows):
        eps = np.random.default_rng(rows).beta(1, 4, rows)
        for budget in {0, 1, rows // 7, rows // 2, rows - 1, rows}:
            pi = rule(eps, budget)
            for seed in range(3):
                assert draw(pi, seed=seed).sum() == budget
            assert draw(pi.astype(np.float32), seed=9).sum() == budget

    def test_a_million_rows(self):
        pi = np.full(1_000_000, np.float32(1 / 3))
        assert draw(pi, seed=0).sum() == round(float(pi.astype(float).sum()))
        eps = np.random.default_rng(0).random(1_000_000)
        assert draw(exponential(eps, 123_457), seed=0).sum() == 123_457

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 1000))
    @settings(deadline=None)
    def test_certain_rows_always_impossible_rows_never(self, pi, seed):
        pi = np.array(pi)
        selected = draw(pi, seed=seed)
        assert selected[pi == 1].all()
        assert not selected[pi == 0].any()
        assert np.floor(pi.sum() + 1e-6 - 1) <= selected.sum() <= np.ceil(pi.sum() + 1e-6)

    def test_a_sum_that_is_no_integer_gives_the_one_below_or_above(self):
        sizes = [draw([0.5, 0.5, 0.25], seed=seed).sum() for seed in range(400)]
        assert set(sizes) == {1, 2}
        assert abs(np.mean(sizes) - 1.25) < 0.08

    @pytest.mark.parametrize(
        "pi",
        [
            exponential(np.random.default_rng(3).beta(2, 5, 60), 15),
            mix_uniform(threshold(np.round(np.random.default_rng(4).random(60), 1), 13), 13, 0.3),
            normalised(np.random.default_rng(5).beta(0.3, 1, 60), 20),
            root(np.random.default_rng(7).beta(0.3, 1, 60), 20),
            with_floor(root, np.random.default_rng(8).beta(0.3, 2, 60), 12, 0.05),
            np.random.default_rng(6).random(37) ** 3,
        ],
        ids=["exponential", "threshold-mix", "normalised", "root", "root-floor", "no-integer"],
    )
    def test_every_row_is_taken_with_its_probability(self, pi):
        draws = 2000
        times = np.sum([draw(pi, seed=seed) for seed in range(draws)], axis=0)
        free = (pi > 0) & (pi < 1 - 1e-8)
        np.testing.assert_array_equal(times[~free], draws * np.round(pi[~free]))
        z = (times[free] - draws * pi[free]) / np.sqrt(draws * pi[free] * (1 - pi[free]))
        # Rows that are taken less than once in 400 draws are Poisson, not normal.
        usual = np.minimum(pi[free], 1 - pi[free]) > 0.0025
        # The largest of 60 normal deviates exceeds 4 once in 260 runs; the seeds are fixed.
        assert np.abs(z[usual]).max() < 4
        assert (times[free][~usual] <= 20).sum() + (times[free][~usual] >= draws - 20).sum() == (~usual).sum()

    @pytest.mark.parametrize("rule", [threshold, exponential])
    def test_the_audit_is_never_missing(self, rule):
        """Of rows with about the same π as many are drawn as are to be expected, give or take one."""
        eps = np.where(np.arange(1400) < 70, 0.8, 0.1)
        pi = mix_uniform(rule(eps, 70), 70, 0.1)
        unsuspected = [draw(pi, seed=seed)[70:].sum() for seed in range(500)]
        assert np.abs(np.array(unsuspected) - pi[70:].sum()).max() <= 1

    def test_pairs_can_be_drawn_together(self):
        """Without the permutation neighbours in the data would never both be drawn."""
        both = sum(draw([0.5, 0.5, 0.5, 0.5], seed=seed)[:2].all() for seed in range(300))
        assert 20 < both < 100

    def test_seeds(self):
        pi = np.full(50, 0.3)
        np.testing.assert_array_equal(draw(pi, seed=1), draw(pi, seed=1))
        assert (draw(pi, seed=1) != draw(pi, seed=2)).any()

    def test_nothing_to_draw_from(self):
        assert draw([], seed=0).shape == (0,)
        assert not draw([0.0, 0.0], seed=0).any()

    def test_refuses(self):
        with pytest.raises(ACTError, match=r"pi of row 1 is 1\.5"):
            draw([0.5, 1.5], seed=0)


def rows_of(eps, **columns):
    values = {"text": [f"row {i}" for i in range(len(eps))], "act_error_prob": eps, **columns}
    types = {"text": Value("string"), "act_error_prob": Value("float32"), "act_failure": Value("string")}
    return Dataset.from_dict(values, features=Features({name: types[name] for name in values}))


@pytest.fixture
def dataset():
    return rows_of(np.random.default_rng(0).beta(2, 5, 100).tolist())


class TestSample:
    def test_adds_two_columns_and_keeps_the_rest(self, dataset):
        drawn = sample(dataset, budget=20)
        assert drawn.column_names == ["text", "act_error_prob", "act_pi", "act_selected"]
        assert drawn.features["act_pi"] == Value("float32")
        assert drawn.features["act_selected"] == Value("bool")
        assert drawn["text"][:] == dataset["text"][:]
        assert sum(drawn["act_selected"]) == 20

    @pytest.mark.parametrize("rule", [*RULES, partial(exponential, beta=50.0), lambda eps, budget: eps * 0.1])
    @pytest.mark.parametrize("mix", [0.0, 0.2])
    def test_the_stored_pi_is_the_one_the_draw_used(self, dataset, rule, mix):
        drawn = sample(dataset, budget=0.2, rule=rule, mix=mix, seed=5)
        pi = np.array(drawn["act_pi"][:])
        assert (pi == pi.astype(np.float32)).all()
        assert pi.sum() <= 20
        np.testing.assert_array_equal(draw(pi, seed=5), drawn["act_selected"][:])

    @pytest.mark.parametrize("rule", list(RULES))
    @pytest.mark.parametrize("budget", [0, 1, 33, 0.5, 99, 100])
    def test_selects_the_budget(self, dataset, rule, budget):
        assert sum(sample(dataset, budget=budget, rule=rule)["act_selected"]) == resolve_budget(budget, 100)

    def test_runs_again_over_its_own_result(self, dataset):
        twice = sample(sample(dataset, budget=10), budget=30, seed=1)
        assert sum(twice["act_selected"]) == 30
        assert twice["act_pi"][:] == sample(dataset, budget=30, seed=1)["act_pi"][:]

    def test_reads_a_view_in_its_own_order(self, dataset):
        view = dataset.select(range(99, 49, -1))
        drawn = sample(view, budget=5, rule="threshold", mix=0)
        best = np.argsort(view["act_error_prob"][:])[-5:]
        assert sorted(np.flatnonzero(drawn["act_selected"][:])) == sorted(best)

    def test_one_row(self):
        assert sample(rows_of([0.3]), budget=1)["act_selected"][:] == [True]

    def test_other_types_stay(self):
        labelled = (
            rows_of([0.1, 0.9]).add_column("act_label", [0, 1]).cast_column("act_label", ClassLabel(names=["a", "b"]))
        )
        assert sample(labelled, budget=1).features["act_label"] == ClassLabel(names=["a", "b"])


class TestGroups:
    @pytest.fixture
    def grouped(self):
        eps = np.random.default_rng(0).beta(2, 5, 100).tolist()
        rows = rows_of(eps).add_column("act_label", [0] * 60 + [1] * 30 + [2] * 10)
        return rows.cast_column("act_label", ClassLabel(names=["a", "b", "c"]))

    @pytest.mark.parametrize(
        ("allocation", "expected"),
        [
            ("proportional", [12, 6, 2]),
            ("equal", [7, 7, 6]),
            ({"a": 1, "c": 1}, [10, 0, 10]),
        ],
    )
    def test_each_has_its_budget(self, grouped, allocation, expected):
        for seed in range(3):
            drawn = sample(grouped, budget=20, groups="act_label", allocation=allocation, seed=seed)
            taken = np.array(drawn["act_selected"])
            assert [taken[:60].sum(), taken[60:90].sum(), taken[90:].sum()] == expected
        record = stage_records(drawn, "sample")[0]
        assert record["allocation"] == dict(zip("abc", expected, strict=True))

    def test_by_the_errors_that_are_expected(self):
        rows = rows_of([0.4] * 50 + [0.1] * 50).add_column("kind", ["x"] * 50 + ["y"] * 50)
        taken = np.array(sample(rows, budget=10, groups="kind", allocation="errors")["act_selected"])
        assert (taken[:50].sum(), taken[50:].sum()) == (8, 2)

    def test_failed_rows_are_in_no_group(self, grouped):
        failures = ["broken"] + [None] * 99
        rows = grouped.add_column("act_failure", failures)
        drawn = sample(rows, budget=20, groups="act_label", failures="review")
        assert drawn["act_selected"][0]
        assert sum(drawn["act_selected"]) == 20

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"groups": "topic"}, "no column 'topic'"),
            ({"groups": "act_label", "allocation": "even"}, "allocation='even' is unknown; the choices are"),
            ({"groups": "act_label", "allocation": {"d": 1}}, "a weight of 0 or more for each of a, b, c"),
            ({"groups": "act_label", "allocation": {"a": -1}}, "a weight of 0 or more for each of a, b, c"),
        ],
    )
    def test_refuses(self, grouped, options, message):
        with pytest.raises(ACTError, match=message):
            sample(grouped, budget=5, **options)


class TestSampleFailures:
    @pytest.fixture
    def failed(self):
        return rows_of([0.9, None, 0.5, 0.4, 0.3], act_failure=[None, "no number", None, "refused", None])

    def test_refused_by_default(self, failed):
        with pytest.raises(ACTError, match=r"2 of 5 rows have .*failures='review'.*failures='skip'"):
            sample(failed, budget=2)

    def test_review_takes_them_out_of_the_budget(self, failed):
        drawn = sample(failed, budget=3, rule="threshold", mix=0, failures="review")
        assert drawn["act_pi"][:] == [1, 1, 0, 1, 0]
        assert drawn["act_selected"][:] == [True, True, False, True, False]

    def test_review_beyond_the_budget(self, failed):
        with pytest.raises(ACTError, match="2 failed rows to review are more than the budget of 1 rows"):
            sample(failed, budget=1, failures="review")

    @pytest.mark.parametrize("rule", list(RULES))
    def test_skip_never_draws_them(self, failed, rule):
        drawn = sample(failed, budget=2, rule=rule, mix=0.5, failures="skip")
        assert [drawn["act_pi"][i] for i in (1, 3)] == [0, 0]
        assert sum(drawn["act_selected"]) == 2

    def test_skip_with_more_budget_than_rows_left(self, failed):
        assert sample(failed, budget=5, failures="skip")["act_selected"][:] == [True, False, True, False, True]

    @pytest.mark.parametrize("rule", list(RULES))
    @pytest.mark.parametrize("failures", ["review", "skip"])
    def test_all_failed(self, rule, failures):
        drawn = sample(rows_of([None, None]), budget=2, rule=rule, mix=0.1, failures=failures)
        assert drawn["act_selected"][:] == [failures == "review"] * 2

    def test_unknown_choice(self, failed):
        with pytest.raises(ACTError, match="failures='drop' is unknown; the choices are 'raise', 'review', 'skip'"):
            sample(failed, budget=2, failures="drop")


class TestSampleRefuses:
    def test_no_column(self):
        with pytest.raises(ACTError, match="sample: no column 'act_error_prob'"):
            sample(Dataset.from_dict({"text": ["a"]}), budget=1)

    @pytest.mark.parametrize("bad", [1.5, -0.25, float("nan")])
    def test_bad_error_probability_names_its_row(self, bad):
        with pytest.raises(ACTError, match=f"act_error_prob of row 2 is {bad}"):
            sample(rows_of([0.5, None, bad]), budget=1, failures="skip")

    @pytest.mark.parametrize("budget", [0, 0.3, 1.0])
    def test_the_record_is_json(self, dataset, budget):
        """An alpha of no budget, or of all rows, is infinite, which JSON cannot say."""
        record = stage_records(sample(dataset, budget=budget), "sample")[0]
        json.dumps(record, allow_nan=False)
        assert (record["alpha"] is None) == (budget != 0.3)

    def test_unknown_rule(self, dataset):
        with pytest.raises(
            ACTError, match="rule 'expo' is unknown; the choices are 'exponential', 'threshold', 'normalised', 'root'"
        ):
            sample(dataset, budget=1, rule="expo")

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            (lambda eps, budget: eps[:3], "returned 3 probabilities for 100 rows"),
            (lambda eps, budget: eps + 1, "the rule's pi of row 0 is"),
            (lambda eps, budget: np.ones_like(eps), "sum to 100, above the budget of 10 rows"),
        ],
    )
    def test_a_rule_that_breaks_its_promise(self, dataset, rule, message):
        with pytest.raises(ACTError, match=message):
            sample(dataset, budget=10, rule=rule)

    @pytest.mark.parametrize("options", [{"budget": 101}, {"budget": 2.0}, {"budget": 5, "mix": 2}])
    def test_bad_numbers(self, dataset, options):
        with pytest.raises(ACTError):
            sample(dataset, **options)

    def test_rows_that_were_reviewed_under_another_draw(self, dataset):
        drawn = sample(dataset, budget=1)
        waiting = drawn.add_column("act_human", [None] * len(drawn))
        assert sample(waiting, budget=1)["act_selected"][:] == drawn["act_selected"][:]
        reviewed = drawn.add_column("act_human", [0, *[None] * (len(drawn) - 1)])
        with pytest.raises(ACTError, match=r"1 rows have a human label already.*wave=2 \(--wave 2\)"):
            sample(reviewed, budget=1)
