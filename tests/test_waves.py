from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value

from act_hf.errors import ACTError
from act_hf.records import stage_records
from act_hf.sampling import Waves, draw, mix_uniform, normalised, read_waves, sample


GOLD = np.random.default_rng(1).random(200) < 0.3  # which labels are wrong


def rows(eps) -> Dataset:
    features = Features({"act_error_prob": Value("float32"), "act_human": Value("int64")})
    return Dataset.from_dict({"act_error_prob": eps, "act_human": [None] * len(eps)}, features=features)


def answered(dataset: Dataset) -> Dataset:
    """Every selected row reviewed."""
    human = [int(wrong) if chosen else None for wrong, chosen in zip(GOLD, dataset["act_selected"][:], strict=False)]
    made = dataset.remove_columns("act_human").add_column("act_human", human)
    return made.cast_column("act_human", Value("int64"))


@pytest.fixture
def pool() -> Dataset:
    return rows(np.random.default_rng(0).beta(1, 4, 200).tolist())


@pytest.fixture
def first(pool) -> Dataset:
    return answered(sample(pool, budget=20, seed=1))


class TestWaves:
    def test_one_wave_is_what_it_was(self):
        pi = np.array([0.5, 0.25, 1.0, 1e-12])
        waves = Waves.of([True, False, True, False], pi)
        np.testing.assert_array_equal(waves.combined, pi)
        assert waves.shares.tolist() == [1.0]

    def test_the_weight_of_a_row_by_hand(self):
        selected = np.array([[1, 0], [0, 1], [0, 0]], dtype=bool)
        pi = np.array([[0.5, 0.0], [0.25, 0.5], [0.25, 0.5]])
        waves = Waves.of(selected, pi)
        assert waves.shares == pytest.approx([1 / 3, 2 / 3])  # as the least π of each
        # Drawn in the first: a third of 1 / 0.5, and known in the second. In the second: nothing, and 2/3 of 1 / 0.5.
        np.testing.assert_allclose(1 / waves.combined[:2], [2 / 3 + 2 / 3, 2 / 3 * 2])
        assert waves.combined[2] == pytest.approx(1 - 0.75 * 0.5)

    def test_tiny_and_certain_probabilities(self):
        waves = Waves.of(np.zeros((3, 2), dtype=bool), np.array([[1e-12, 2e-12], [0.0, 0.0], [1.0, 0.5]]))
        np.testing.assert_allclose(waves.combined, [3e-12, 0, 1], rtol=1e-9)

    def test_after_an_audit_a_wave_of_the_most_doubted_leaves_the_rest_to_the_audit(self):
        """500 audits of 100 of 1,000 rows, then the 300 most doubted: what weighs in the rest is a tenth of it."""
        rng = np.random.default_rng(0)
        eps = rng.random(1000)
        doubted = np.argsort(-eps)
        totals = []
        for seed in range(500):
            audit_pi = np.full(1000, 0.1)
            audit = draw(audit_pi, seed=seed)
            second = np.zeros(1000)
            second[[row for row in doubted if not audit[row]][:300]] = 1.0
            waves = Waves.of(audit, audit_pi).followed_by(second == 1, second)
            assert waves.telling == [1]
            np.testing.assert_array_equal(waves.combined[second == 1], 1.0)
            rest = waves.selected & (eps < 0.5)
            totals.append((1 / waves.combined[rest]).sum())
        error = np.std(totals) / np.sqrt(500)
        assert np.mean(totals) == pytest.approx((eps < 0.5).sum(), abs=4 * error)

    @pytest.mark.parametrize("adaptive", [False, True])
    def test_weighted_sums_are_unbiased(self, adaptive):
        """Over 4,000 seeded runs of three waves whose rules look at the answers so far."""
        rng = np.random.default_rng(0)
        values, eps = rng.normal(1, 1, 60) + 2 * (rng.random(60) < 0.2), rng.beta(1, 3, 60)
        sums, runs = [], 4000
        for run in range(runs):
            selected, pis, score = [], [], eps.copy()
            done = np.zeros(60, dtype=bool)
            for wave in range(3):
                pi = np.zeros(60)
                pi[~done] = mix_uniform(normalised(score[~done], 6), 6, 0.3)
                chosen = draw(pi, seed=(run, wave))
                if adaptive and values[chosen].mean() > 1.5:  # what was seen changes where to look next
                    score = np.clip(1.1 - score, 0, 1)
                done |= chosen
                selected.append(chosen)
                pis.append(pi)
            waves = Waves.of(np.array(selected).T, np.array(pis).T)
            sums.append((values[waves.selected] / waves.combined[waves.selected]).sum())
        error = np.std(sums) / np.sqrt(runs)
        assert abs(np.mean(sums) - values.sum()) < 3.5 * error
        assert error < 0.02 * values.sum()  # and it would be seen

    @pytest.mark.parametrize(
        ("selected", "pi", "message"),
        [
            ([True], [0.5, 0.5], r"selected has shape \(1,\) and pi \(2,\)"),
            ([[True, True]], [[0.5, 0.5]], "row 0 was drawn in more than one wave"),
        ],
    )
    def test_refuses(self, selected, pi, message):
        with pytest.raises(ACTError, match=message):
            Waves.of(selected, pi)


class TestSampleAgain:
    def test_a_second_wave_takes_other_rows(self, first):
        second = sample(first, budget=30, wave=2, rule="threshold", mix=0.2, seed=2)
        before, after = np.array(first["act_selected"]), np.array(second["act_selected"])
        assert after.sum() == 50
        assert after[before].all()
        assert [second["act_wave"][:].count(wave) for wave in (1, 2, None)] == [20, 30, 150]
        assert second.features["act_wave_pi"] == List(Value("float32"))
        assert second["act_human"][:] == first["act_human"][:]
        pis = np.array(second["act_wave_pi"][:])
        np.testing.assert_array_equal(pis[:, 0], first["act_pi"][:])
        assert (pis[before, 1] == 0).all()
        assert pis[:, 1].sum() == pytest.approx(30, abs=1e-4)
        assert (pis[~before, 1] > 0).all()

    def test_pi_is_that_of_all_waves(self, first):
        second = sample(first, budget=30, wave=2)
        waves = read_waves(second)
        np.testing.assert_allclose(second["act_pi"][:], waves.combined, rtol=1e-6)
        least = [waves.pi[:, 0].min(), waves.pi[waves.open_in(2), 1].min()]
        assert waves.shares == pytest.approx(np.array(least) / sum(least))
        weights = 1 / waves.combined[waves.selected]
        assert weights.max() <= 1 / sum(least) + 1

    def test_as_many_waves_as_there_are_rows_for(self, first):
        made = first
        for wave in range(2, 11):
            made = answered(sample(made, budget=20, wave=wave, seed=wave))
        assert all(made["act_selected"])
        assert made["act_wave"][:].count(10) == 20
        with pytest.raises(ACTError, match="the budget of 1 rows is more than the 0 rows that nobody has reviewed"):
            sample(made, budget=1, wave=11)
        assert [record["wave"] for record in stage_records(made, "sample")] == list(range(1, 11))

    def test_a_share_is_one_of_all_rows(self, first):
        assert sum(sample(first, budget=0.2, wave=2)["act_selected"]) == 20 + 40

    def test_a_wave_can_be_drawn_anew_before_anybody_has_looked(self, first):
        once = sample(first, budget=30, wave=2, seed=1)
        other = sample(once, budget=10, wave=2, seed=2)
        assert other["act_pi"][:] == sample(first, budget=10, wave=2, seed=2)["act_pi"][:]
        with pytest.raises(ACTError, match="wave=3 does not follow; the next wave of this data set is 2"):
            sample(once, budget=5, wave=3)

    def test_but_not_once_somebody_has(self, first):
        second = answered(sample(first, budget=30, wave=2))
        human = second["act_human"][:]
        human[second["act_wave"][:].index(2)] = None
        some = second.remove_columns("act_human").add_column("act_human", human)
        with pytest.raises(ACTError, match="1 selected rows have no act_human; finish the review of wave 2 first"):
            sample(some, budget=5, wave=3)

    @pytest.mark.parametrize("wave", [0, 3, -1])
    def test_waves_follow_each_other(self, first, wave):
        with pytest.raises(ACTError, match=f"wave={wave} does not follow; the next wave of this data set is 2"):
            sample(first, budget=5, wave=wave)

    def test_the_first_comes_first(self, pool):
        with pytest.raises(ACTError, match="wave=2 does not follow; the next wave of this data set is 1"):
            sample(pool, budget=5, wave=2)

    def test_failed_rows_that_were_reviewed_do_not_fail_again(self):
        pool = rows([0.5] * 10).add_column("act_failure", ["broken"] + [None] * 9)
        first = answered(sample(pool, budget=3, failures="review"))
        second = sample(first, budget=4, wave=2)
        assert sum(second["act_selected"]) == 7

    def test_a_row_without_a_probability_is_said(self, first):
        broken = first.remove_columns("act_pi").add_column("act_pi", [None] + [0.5] * 199)
        with pytest.raises(ACTError, match="1 of 200 rows have no act_pi"):
            read_waves(broken)
