"""The bounds and the thresholds, on arrays."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from support.reviews import KINDS, population

from act_hf.errors import ACTError
from act_hf.evidence import plan_rows
from act_hf.evidence.bounds import audit_size, least_unseen, most_unseen
from act_hf.evidence.left import Evidence, allowed_errors
from act_hf.evidence.target import is_reached, look_share
from act_hf.evidence.threshold import find_cut
from act_hf.sampling import draw, exponential, mix_uniform


class TestBounds:
    @pytest.mark.parametrize("tail", [0.05, 0.01])
    @pytest.mark.parametrize(("drawn", "rows"), [(5, 12), (20, 60), (60, 61), (0, 7)])
    def test_the_bounds_are_wrong_as_rarely_as_they_say(self, drawn, rows, tail):
        """Summed over every outcome, for every number of errors: nothing is left to chance."""
        found = np.arange(drawn + 1)
        high, low = most_unseen(found, drawn, rows, tail), least_unseen(found, drawn, rows, tail)
        for errors in range(rows + 1):
            chance = hypergeom.pmf(found, rows, errors, drawn)
            assert chance[found + high < errors].sum() <= tail + 1e-12
            assert chance[found + low > errors].sum() <= tail + 1e-12

    def test_and_no_wider_than_that(self):
        """One error less would already be wrong more often."""
        high = int(most_unseen(3, 20, 60, 0.05))
        assert hypergeom.cdf(3, 60, 3 + high, 20) > 0.05 >= hypergeom.cdf(3, 60, 4 + high, 20)

    def test_the_rule_of_three(self):
        assert audit_size(1_000_000, 20_000, 0.05) == pytest.approx(math.log(20) / 0.02, abs=2)

    @pytest.mark.parametrize(("rows", "allowed"), [(100, 3), (100, 0), (10, 9), (10, 10), (1, 0)])
    def test_the_audit_size_is_the_least(self, rows, allowed):
        size = audit_size(rows, allowed, 0.05)
        assert most_unseen(0, size, rows, 0.05) <= allowed
        assert size == 0 or most_unseen(0, size - 1, rows, 0.05) > allowed

    @pytest.mark.parametrize(("target", "rows", "allowed"), [(0.98, 10_000, 200), (0.9, 10, 1), (0.95, 10, 0)])
    def test_allowed_errors(self, target, rows, allowed):
        assert allowed_errors(target, rows) == allowed


def left_over(eps, errors, selected, threshold) -> int:
    """Errors that stay when all rows from the threshold on are reviewed."""
    return int((errors & ~selected & (eps < (np.inf if threshold is None else threshold))).sum())


def one_plan(kind, rate, target, run, *, rows=2000, budget=400, uniform=True, decimals=9):
    eps, errors = population(kind, rows, rate, (run, 7))
    eps = eps.round(decimals)
    pi = np.full(rows, budget / rows) if uniform else mix_uniform(exponential(eps, budget), budget, 0.3)
    selected = draw(pi, seed=run)
    evidence, allowed = Evidence.of(eps, selected, pi, errors), allowed_errors(target, rows)
    cut = find_cut(evidence, allowed, 0.05)
    return left_over(eps, errors, selected, cut.threshold) > allowed, cut.rows


def every_audit(errors: np.ndarray, drawn: int, allowed: int, tail: float) -> float:
    """The share of all the audits there are whose plan leaves more errors than are allowed."""
    rows = errors.size
    eps, pi = np.arange(rows) / rows, np.full(rows, drawn / rows)
    missed = []
    for chosen in itertools.combinations(range(rows), drawn):
        selected = np.isin(np.arange(rows), chosen)
        cut = find_cut(Evidence.of(eps, selected, pi, errors), allowed, tail)
        missed.append(left_over(eps, errors, selected, cut.threshold) > allowed)
    return float(np.mean(missed))


class TestEveryAudit:
    @pytest.mark.parametrize("tail", [0.3, 0.12])
    @pytest.mark.parametrize("wrong", [range(0, 10), range(3, 8), [1, 4, 9], [0, 2, 4, 6, 8], []])
    def test_no_more_of_them_mislead_than_may(self, wrong, tail):
        """All 210 audits of 4 of 10 rows."""
        errors = np.isin(np.arange(10), list(wrong))
        assert every_audit(errors, 4, 2, tail) <= tail + 1e-9

    def test_and_as_many_as_may_where_that_can_be(self):
        """Two may be left: 3 unseen ones are shown not to be there if none was found, which happens in 1 of 6."""
        share = hypergeom.cdf(0, 10, 3, 4)
        assert every_audit(np.isin(np.arange(10), [2, 5, 7]), 4, 2, share + 1e-9) == pytest.approx(share)
        assert every_audit(np.isin(np.arange(10), [2, 5, 7]), 4, 2, share - 1e-9) == 0

    def test_the_bound_of_a_threshold_is_the_one_that_is_shown(self):
        eps, errors = population("good", 300, 0.3, 5)
        evidence = Evidence.of(eps, draw(np.full(300, 0.3), seed=5), np.full(300, 0.3), errors)
        for threshold in np.linspace(0, 1, 21):
            under = evidence.order < threshold
            high = int(evidence.left(under, 0.05).high)
            assert evidence.few_left(under, high, 0.05)
            assert high == 0 or not evidence.few_left(under, high - 1, 0.05)


class TestUnknown:
    def test_what_a_later_wave_reviewed_stays_unknown_to_the_audit(self):
        """Rows 0 to 9 could not be drawn in the audit; a second wave then takes the first five of them for certain."""
        rows = np.arange(40)
        first = np.column_stack([(rows >= 10) & (rows % 2 == 0), rows < 5])
        pi = np.column_stack([np.where(rows < 10, 0.0, 0.5), np.where(rows < 5, 1.0, 0.0)])
        evidence = Evidence.of(rows / 40, first, pi, np.zeros(40))
        assert evidence.exact
        assert np.flatnonzero(evidence.unknown).tolist() == list(range(10))
        everything = np.ones(40, dtype=bool)
        assert evidence.left(everything, 0.05).high == 5 + most_unseen(0, 15, 30, 0.05)

    def test_what_was_reviewed_before_the_audit_is_known(self):
        rows = np.arange(40)
        drawn = np.column_stack([rows < 10, (rows >= 10) & (rows % 2 == 0)])
        pi = np.column_stack([(rows < 10).astype(float), np.where(rows < 10, 0.0, 0.5)])
        evidence = Evidence.of(rows / 40, drawn, pi, rows < 10)
        assert evidence.exact
        assert not evidence.unknown.any()
        assert evidence.left(np.ones(40, dtype=bool), 0.05).high == most_unseen(0, 15, 30, 0.05)


class TestGuarantee:
    """5 % of audits may mislead. Of 1,000 runs 3 standard errors more are let pass: 7.1 %; of 200, 9.7 %."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("rate", "target"), [(0.2, 0.95), (0.06, 0.95)])
    def test_it_holds_for_any_critic(self, kind, rate, target):
        missed = [one_plan(kind, rate, target, run)[0] for run in range(1000)]
        assert np.mean(missed) <= 0.071

    def test_it_is_not_far_too_careful(self):
        """Within 2 points of the 5 % that it may spend, where the discrete bound allows it."""
        assert np.mean([one_plan("good", 0.2, 0.95, run)[0] for run in range(1000)]) >= 0.03

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_holds_with_ties(self, kind):
        """A critic that says one of eleven things."""
        missed = [one_plan(kind, 0.2, 0.95, run, decimals=1)[0] for run in range(1000)]
        assert np.mean(missed) <= 0.071

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_holds_about_for_a_weighted_draw(self, kind):
        missed = [one_plan(kind, 0.2, 0.95, run, uniform=False)[0] for run in range(200)]
        assert np.mean(missed) <= 0.097

    def test_a_good_critic_saves_most_of_the_review(self):
        """An audit of 400 of 2,000 rows: a fifth of what is left instead of four fifths in random order."""
        runs = range(60)
        good, useless = (np.mean([one_plan(kind, 0.2, 0.95, run)[1] for run in runs]) for kind in ("good", "useless"))
        assert good < 0.3 * useless
        assert useless > 1000

    def test_the_number_that_an_oracle_would_need_is_near(self):
        """Who knows the errors reviews down to the 100th from below; the plan asks for at most half again as much."""
        asked, needed = [], []
        for run in range(60):
            eps, errors = population("good", 2000, 0.2, (run, 7))
            selected = draw(np.full(2000, 0.2), seed=run)
            last = np.sort(eps[errors & ~selected])[100]
            needed.append(int((~selected & (eps >= last)).sum()))
            asked.append(one_plan("good", 0.2, 0.95, run)[1])
        assert np.mean(needed) < np.mean(asked) < 1.5 * np.mean(needed)


def false_alarms(kind: str, mix: float, rate: float, *, runs: int) -> tuple[float, float]:
    """Share of reviews in five waves in which some look says "reached" too soon, and in which any says so."""
    wrongly, ever = 0, 0
    for run in range(runs):
        eps, errors = population(kind, 2000, rate, (run, 3))
        selected, pis, done, score = [], [], np.zeros(2000, dtype=bool), eps
        said, false = False, False
        for wave in range(5):
            pi = np.zeros(2000)
            pi[~done] = mix_uniform(exponential(score[~done], 150), 150, mix)
            chosen = draw(pi, seed=(run, wave))
            done = done | chosen
            selected.append(chosen)
            pis.append(pi)
            score = np.clip(eps * errors[done].mean() / eps[done].mean(), 0, 1)  # what was seen changes where to look
            evidence = Evidence.of(eps, np.array(selected).T, np.array(pis).T, errors)
            if is_reached(evidence, 100, look_share(0.05, wave + 1)):
                said, false = True, false or (errors & ~done).sum() > 100
        wrongly, ever = wrongly + false, ever + said
    return wrongly / runs, ever / runs


class TestLooks:
    """Of 300 reviews 5 % and 3 standard errors may be stopped too soon: 8.8 %."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("mix", [0.3, 1.0])
    def test_looking_after_every_wave_spends_the_confidence_once(self, kind, mix):
        assert false_alarms(kind, mix, 0.065, runs=300)[0] <= 0.088

    def test_and_a_good_critic_gets_there(self):
        wrongly, ever = false_alarms("good", 0.3, 0.08, runs=60)
        assert ever >= 0.8
        assert wrongly <= 0.1

    def test_all_looks_together_spend_what_there_is(self):
        assert sum(look_share(0.05, look) for look in range(1, 10_000)) == pytest.approx(0.05, abs=1e-5)
        assert [look_share(0.05, 1, 1), look_share(0.06, 2, 3), look_share(0.06, 0)] == pytest.approx(
            [0.05, 0.02, 0.03]
        )


class TestPlanRows:
    def test_by_hand(self):
        """Ten rows of which five were drawn and are right: one error may be left, so the lowest open row is kept."""
        eps = np.arange(10) / 10
        plan = plan_rows(eps, eps >= 0.5, np.full(10, 0.5), np.zeros(10), target=0.9)
        assert (plan.further, plan.total, plan.kept, plan.blind) == (4, 9, 1, True)
        assert plan.threshold == pytest.approx(0.1)
        assert plan.expected.accuracy == 1
        assert plan.expected.low == pytest.approx(0.9)
        assert plan.expected.critic == 1

    def test_the_curve_by_hand(self):
        """Two errors in an audit of every second row, and as many are expected among the others."""
        eps = np.repeat([0.2, 0.6, 0.8], 20)
        selected = np.tile([True, False], 30)
        errors = np.isin(np.arange(60), [0, 58])
        plan = plan_rows(eps, selected, np.full(60, 0.5), errors, target=0.9)
        points = {point.budget: point for point in plan.curve}
        assert set(points) == {0, 10, 20, 30}
        assert points[0].accuracy == pytest.approx(1 - 2 / 60)
        assert points[10].accuracy == pytest.approx(1 - 1 / 60)
        assert points[10].at_random == pytest.approx(1 - 2 / 60 * 2 / 3)
        assert points[10].critic == pytest.approx(1 - (10 * 0.2 + 10 * 0.6) / 60)
        assert [points[30].low, points[30].accuracy, points[30].high] == [1, 1, 1]

    def test_nothing_to_do(self):
        rng = np.random.default_rng(0)
        plan = plan_rows(rng.random(1000), draw(np.full(1000, 0.3), seed=0), np.full(1000, 0.3), np.zeros(1000))
        assert (plan.further, plan.threshold, plan.kept, plan.blind) == (0, None, 700, False)

    def test_everything_was_reviewed(self):
        plan = plan_rows([0.5, 0.5], [True, True], [1.0, 1.0], [True, False])
        assert (plan.further, plan.total, plan.expected.accuracy, plan.expected.low) == (0, 2, 1, 1)

    def test_an_audit_that_is_too_small(self):
        plan = plan_rows(np.arange(1000) / 1000, np.arange(1000) < 20, np.full(1000, 0.02), np.zeros(1000))
        assert plan.blind
        assert plan.further == 1000 - 20 - 20
        assert plan.audited == 20 < plan.audit_needed == audit_size(1000, 20, 0.05)

    def test_rows_that_could_not_be_drawn_count_as_wrong(self):
        eps = np.append(np.linspace(0, 0.9, 1000), np.full(100, 0.95))
        pi = np.append(np.full(1000, 0.5), np.zeros(100))
        plan = plan_rows(eps, draw(pi, seed=0), pi, np.zeros(1100), target=0.98)
        # 22 may be left: of the rows that could not be drawn none, for they are all alike.
        assert (plan.further, plan.unknown, plan.exact) == (100, 100, True)
        assert plan.threshold == 0.95
        assert plan.curve[0].low < 1 - 100 / 1100 < plan.curve[-1].low

    def test_the_threshold_rule_alone_says_nothing_of_the_rest(self):
        eps = np.arange(1000) / 1000
        top = eps >= 0.7
        plan = plan_rows(eps, top, top.astype(float), top, target=0.98)
        assert (plan.exact, plan.audited, plan.unknown) == (True, 0, 700)
        assert plan.further == 700 - 20

    def test_rows_without_an_error_probability_come_first(self):
        eps = np.append(np.linspace(0, 0.9, 1000), np.full(40, np.nan))
        pi = np.append(np.full(1000, 0.5), np.zeros(40))
        plan = plan_rows(eps, draw(pi, seed=0), pi, np.zeros(1040))
        assert (plan.further, plan.unscored, plan.threshold) == (40, 40, None)

    def test_more_confidence_and_a_higher_target_cost_more(self):
        eps, errors = population("good", 2000, 0.2, 1)
        selected = draw(np.full(2000, 0.2), seed=1)
        rows = [
            plan_rows(eps, selected, np.full(2000, 0.2), errors, target=target, confidence=confidence).further
            for target, confidence in ((0.9, 0.9), (0.9, 0.99), (0.95, 0.99))
        ]
        assert rows == sorted(rows)
        assert rows[0] < rows[2]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"target": 0.0}, "target=0.0 is not between 0 and 1, such as 0.98"),
            ({"target": 1.0}, "target=1.0 is not between"),
            ({"target": math.nan}, "target=nan is not between"),
            ({"confidence": 1.0}, "confidence=1.0 is not between 0.5 and 1"),
            ({"error_probs": [0.5, 2.0]}, "row 1 has no error probability in"),
            ({"pi": [0.5, -1.0]}, "row 1 has a pi outside"),
            ({"errors": [math.nan, 0.0]}, "row 0 was drawn but has no answer"),
            ({"errors": [1.0]}, "errors has shape"),
            ({"selected": [True]}, "selected has shape"),
        ],
    )
    def test_refuses(self, change, message):
        given = {"error_probs": [0.5, 0.5], "selected": [True, False], "pi": [0.5, 0.5], "errors": [True, False]}
        with pytest.raises(ACTError, match=message):
            plan_rows(**given | change)


@st.composite
def audits(draw_):
    """Small audits with ties, failed rows, rows that could not be drawn, and rows that were certain."""
    rows = draw_(st.integers(1, 40))
    some = st.lists(st.booleans(), min_size=rows, max_size=rows)
    values = st.sampled_from([0.0, 0.25, 0.5, 1.0, math.nan])
    eps = np.array(draw_(st.lists(values, min_size=rows, max_size=rows)))
    pi = np.array(draw_(st.lists(st.sampled_from([0.0, 0.4, 0.4, 0.4, 1.0]), min_size=rows, max_size=rows)))
    selected = (pi == 1) | (np.array(draw_(some)) & (pi > 0))
    return eps, selected, pi, np.array(draw_(some)), draw_(st.sampled_from([0.5, 0.9, 0.98]))


@settings(max_examples=100, deadline=None)
@given(audits())
def test_a_plan_adds_up(audit):
    eps, selected, pi, errors, target = audit
    plan = plan_rows(eps, selected, pi, errors, target=target)
    assert plan.reviewed + plan.further + plan.kept == plan.rows
    assert plan.unscored <= plan.further
    assert plan.expected.low >= 1 - allowed_errors(target, plan.rows) / plan.rows - 1e-9
    for point in plan.points:
        assert 0 <= point.low <= point.accuracy <= point.high <= 1
        assert 0 <= point.budget <= plan.rows - plan.reviewed
    bounds = [point.low for point in plan.points]
    assert bounds == sorted(bounds)  # more review never makes it worse
    assert plan.points[-1].low == 1
    assert plan.guarantee in " ".join(plan.summary().split())
