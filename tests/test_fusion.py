from __future__ import annotations

import math

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit
from scipy.stats import rankdata

from act_hf.annotators import annotate
from act_hf.columns import column_features
from act_hf.critics.fusion import add_verdicts, centred, fuse, fused, ranked
from act_hf.critics.strategies import Verdict
from act_hf.errors import ACTError
from act_hf.estimate import auroc
from act_hf.models.recorded import Recorded
from act_hf.models.store import Store
from act_hf.records import stage_records
from act_hf.task import Task


NAN = math.nan
TASK = Task(labels=["a", "b"], text="t")

ANY = st.floats(0, 1) | st.just(NAN)
TIED = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0, NAN])
"""Round numbers, as models state them."""


def signals(*, fewest=1, most=4, elements=TIED):
    shapes = st.tuples(st.integers(fewest, most), st.integers(1, 25))
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=elements))


class TestCentred:
    def test_moves_every_label_to_the_mean(self):
        log_odds, labels = np.array([-3.0, -1.0, 1.0, 3.0]), [0, 0, 1, 1]
        moved = logit(centred(expit(log_odds), labels, 2, strength=0))
        assert moved == pytest.approx([-1, 1, -1, 1])

    def test_moves_a_rare_label_less(self):
        log_odds, labels = np.array([-1.0] * 30 + [2.0] * 10), [0] * 30 + [1] * 10
        mean = -0.25
        moved = logit(centred(expit(log_odds), labels, 2, strength=10))
        assert moved[:30] == pytest.approx(-1 - (-1 - mean) * 30 / 40)
        assert moved[30:] == pytest.approx(2 - (2 - mean) * 10 / 20)

    def test_repairs_a_critic_that_dislikes_a_label(self):
        rng = np.random.default_rng(0)
        wrong = rng.random(2000) < 0.3
        labels = rng.integers(0, 3, 2000)
        honest = rng.normal(-1, 1, 2000) + 2 * wrong
        biased = expit(honest + np.array([-3.0, 0.0, 3.0])[labels])
        assert auroc(centred(biased, labels, 3), wrong) == pytest.approx(auroc(honest, wrong), abs=0.01)
        assert auroc(biased, wrong) < auroc(honest, wrong) - 0.1

    @given(st.data())
    def test_keeps_the_order_within_a_label_and_the_bounds(self, data):
        rows = data.draw(st.integers(1, 30))
        eps = data.draw(arrays(np.float64, rows, elements=ANY))
        labels = data.draw(arrays(np.int64, rows, elements=st.integers(-1, 3)))
        moved = centred(eps, labels, 4)
        assert (np.isnan(moved) == np.isnan(eps)).all()
        known = ~np.isnan(eps)
        assert ((moved[known] >= 0) & (moved[known] <= 1)).all()
        for label in range(4):
            of_label = known & (labels == label)
            order = np.argsort(eps[of_label], kind="stable")
            assert (np.diff(moved[of_label][order]) >= 0).all()
        assert moved[known & (labels == -1)].tolist() == eps[known & (labels == -1)].tolist()

    def test_leaves_certainty_certain(self):
        moved = centred([0.0, 1.0, 0.5, 0.9], [0, 0, 1, 1], 2)
        assert moved[:2].tolist() == [0.0, 1.0]

    @given(arrays(np.float64, st.integers(1, 20), elements=st.floats(0.01, 0.99)))
    def test_changes_nothing_where_there_is_one_label(self, eps):
        assert centred(eps, np.zeros(eps.size, dtype=int), 3) == pytest.approx(eps)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([0.5, 0.5], [0], 2), "2 error probabilities needs as many labels"),
            (([0.5], [2], 2), "from 0 to 1 or -1"),
            (([1.5], [0], 2), "error probabilities are from 0 to 1, not 1.5"),
        ],
    )
    def test_refuses_what_does_not_fit(self, arguments, message):
        with pytest.raises(ACTError, match=message):
            centred(*arguments)
        with pytest.raises(ACTError, match="strength=-1 is negative"):
            centred([0.5], [0], 2, strength=-1)

    def test_has_nothing_to_do_without_rows(self):
        assert centred([], np.array([], dtype=int), 2).tolist() == []
        assert np.isnan(centred([NAN], [-1], 2)).all()


class TestRanked:
    def test_spreads_evenly_and_ties_share(self):
        assert ranked([0.9, 0.1, 0.5, 0.5]).tolist() == [0.875, 0.125, 0.5, 0.5]
        assert ranked([NAN, 0.3, 0.2])[1:].tolist() == [0.75, 0.25]
        assert np.isnan(ranked([NAN, 0.3]))[0]

    @given(arrays(np.float64, st.integers(0, 30), elements=ANY | TIED))
    def test_keeps_the_order_and_lies_inside(self, eps):
        places = ranked(eps)
        known = ~np.isnan(eps)
        assert (np.isnan(places) == ~known).all()
        assert ((places[known] > 0) & (places[known] < 1)).all()
        assert rankdata(places[known]).tolist() == rankdata(eps[known]).tolist()
        assert not known.any() or places[known].mean() == pytest.approx(0.5)


class TestFused:
    @given(signals(most=1))
    def test_one_signal_comes_back_as_it_was(self, one):
        np.testing.assert_array_equal(fused(one), one[0])

    @given(signals(most=1), st.integers(2, 3))
    def test_so_does_one_that_is_said_twice(self, one, times):
        np.testing.assert_allclose(fused(np.repeat(one, times, axis=0)), one[0], atol=1e-12)

    @given(signals())
    def test_is_a_probability_where_there_is_a_signal(self, some):
        joined = fused(some)
        known = ~np.isnan(some).all(axis=0)
        assert (np.isnan(joined) == ~known).all()
        lowest, highest = np.nanmin(some, initial=1), np.nanmax(some, initial=0)
        assert ((joined[known] >= lowest - 1e-12) & (joined[known] <= highest + 1e-12)).all()

    @given(signals(elements=TIED), st.lists(st.sampled_from([0.3, 1.0, 4.0]), min_size=4, max_size=4))
    def test_only_the_order_within_each_signal_decides_the_order(self, some, powers):
        stretched = np.stack([signal**power for signal, power in zip(some, powers, strict=False)])
        joined, other = fused(some), fused(stretched)
        known = ~np.isnan(joined)
        for first, second in ((joined, other), (other, joined)):  # rows may come to tie, never to change places
            order = np.argsort(first[known], kind="stable")
            steps = np.diff(second[known][order])
            assert (steps[np.diff(first[known][order]) > 1e-9] >= -1e-9).all()

    @given(signals(), st.randoms(use_true_random=False))
    def test_neither_the_order_of_the_signals_nor_of_the_rows_matters(self, some, random):
        order, rows = list(range(len(some))), list(range(some.shape[1]))
        random.shuffle(order)
        random.shuffle(rows)
        joined = fused(some)
        np.testing.assert_allclose(fused(some[order]), joined, atol=1e-12)
        np.testing.assert_allclose(fused(some[:, rows]), joined[rows], atol=1e-12)

    @given(signals(fewest=2, elements=st.sampled_from([0.1, 0.3, 0.7])))
    def test_what_all_find_more_doubtful_is_not_less_doubtful(self, some):
        joined = fused(some)
        for i in range(some.shape[1]):
            above = (some >= some[:, [i]]).all(axis=0)
            assert (joined[above] >= joined[i] - 1e-12).all()

    def test_averages_the_scales(self):
        low, high = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.7, 0.9])
        assert fused([low, high]) == pytest.approx([0.3, 0.45, 0.6])
        assert fused([low, high], [3, 1]) == pytest.approx([0.2, 0.325, 0.45])

    def test_weights_decide_between_signals_that_differ(self):
        up, down = [0.1, 0.5, 0.9], [0.9, 0.5, 0.1]
        assert np.ptp(fused([up, down])) == 0
        assert np.argmax(fused([up, down], [2, 1])) == 2
        assert fused([up, down], [0, 5]).tolist() == down

    def test_a_row_without_some_signals_uses_the_others(self):
        joined = fused([[0.1, 0.2, 0.8, NAN, NAN], [0.2, 0.3, 0.7, 0.9, NAN]])
        assert np.isnan(joined).tolist() == [False] * 4 + [True]
        assert joined[3] > joined[1] > joined[0]
        assert fused([[NAN, NAN], [0.2, 0.4]]).tolist() == [0.2, 0.4]

    def test_rows_without_a_signal_are_neither_favoured_nor_hidden(self):
        rng = np.random.default_rng(0)
        some = rng.random((3, 6000))
        some[1:, :3000] = NAN
        places = ranked(fused(some))
        assert places[:3000].mean() == pytest.approx(0.5, abs=0.02)
        assert places[:3000].std() == pytest.approx(places[3000:].std(), abs=0.02)

    def test_is_better_than_its_signals_on_their_scale(self):
        rng = np.random.default_rng(1)
        wrong = rng.random(4000) < 0.3
        some = expit(rng.normal(-1.5, 1, (3, 4000)) + 1.5 * wrong)
        joined = fused(some)
        assert auroc(joined, wrong) > max(auroc(signal, wrong) for signal in some) + 0.05
        assert joined.mean() == pytest.approx(some.mean(), abs=1e-6)
        assert np.sort(joined) == pytest.approx(np.sort(some, axis=1).mean(axis=0))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([0.1, 0.2],), r"an array \[signals, rows\], not \(2,\)"),
            (([[]],), r"not \(1, 0\)"),
            (([[0.1, -0.2]],), "from 0 to 1, not -0.2"),
            (([[0.1]], [0]), "weights are 1 numbers, none negative and one positive"),
            (([[0.1]], [1, 1]), "weights are 1 numbers"),
            (([[0.1], [0.2]], [1, -1]), "none negative"),
            (([[0.1]], [math.inf]), "weights are 1 numbers"),
        ],
    )
    def test_refuses_what_does_not_fit(self, arguments, message):
        with pytest.raises(ACTError, match=message):
            fused(*arguments)


def criticized(probs: list | None = None, **signals: list) -> Dataset:
    """Rows labelled a, b, a, b, ...; and for each signal the error probabilities of a critic with that suffix."""
    rows = len(next(iter(signals.values())))
    labels = [i % 2 for i in range(rows)]
    dataset = Dataset.from_dict({"t": [f"row {i}" for i in range(rows)], "y": labels, "p": probs or [None] * rows})
    sure = "p" if probs else None
    model = Recorded.from_columns(dataset, TASK, label="y", confidence=sure)
    dataset = annotate(dataset, TASK, model, store=Store(":memory:"))
    for suffix, values in signals.items():
        dataset = add_verdicts(dataset, TASK, [Verdict(value) for value in values], suffix=f"_{suffix}")
    return dataset


class TestFuse:
    def test_is_what_the_function_gives_and_says_what_each_signal_says(self):
        x, y = [0.1, 0.4, 0.8, 0.3], [0.2, 0.9, 0.7, 0.1]
        made = fuse(criticized(x=x, y=y), ["_x", "_y"], weights=[2, 1])
        assert made["act_error_prob"][:] == pytest.approx(fused([x, y], [2, 1]), abs=1e-6)
        assert made["act_critique"][0] == "wrong: 10% by x, 20% by y"
        assert made["act_failure"][:] == [None] * 4
        record = stage_records(made, "criticize")[-1]
        assert (record["strategy"], record["weights"], record["centre"]) == ("fused", [2, 1], False)
        assert record["signals"] == ["act_error_prob_x", "act_error_prob_y"]

    def test_takes_the_annotators_own_confidence(self):
        made = fuse(criticized(probs=[0.9, 0.6, 0.8, 0.7], x=[0.5, 0.5, 0.5, 0.5]), ["confidence", "_x"])
        assert np.argsort(made["act_error_prob"][:]).tolist() == [0, 2, 3, 1]
        assert made["act_critique"][1] == "wrong: 40% by confidence, 50% by x"

    def test_takes_other_columns_by_name(self):
        dataset = criticized(x=[0.1, 0.4]).add_column("doubt", [0.3, None])
        made = fuse(dataset, ["_x", "doubt"])
        assert made["act_critique"][:] == ["wrong: 10% by x, 30% by doubt", "wrong: 40% by x"]

    def test_joins_the_critic_without_a_suffix_under_one(self):
        dataset = add_verdicts(criticized(x=[0.1, 0.4]), TASK, [Verdict(0.2), Verdict(0.3)])
        made = fuse(dataset, ["", "_x"], suffix="_all")
        assert made["act_error_prob_all"][:] == pytest.approx([0.15, 0.35])
        assert made["act_critique_all"][0] == "wrong: 20% by the critic, 10% by x"
        assert made["act_error_prob"][:] == pytest.approx([0.2, 0.3])

    def test_takes_preferences_out_first(self):
        x = [0.1, 0.8, 0.2, 0.9] * 10
        made = fuse(criticized(x=x), ["_x"], centre=True)
        labels = [0, 1] * 20
        assert made["act_error_prob"][:] == pytest.approx(fused([centred(x, labels, 2)]), abs=1e-6)
        assert made["act_critique"][0] != "wrong: 10% by x"

    def test_fails_for_a_row_without_a_signal(self):
        made = fuse(criticized(x=[0.1, None, 0.3], y=[None, None, 0.2]), ["_x", "_y"])
        assert made["act_failure"][:] == [
            None,
            "criticize: none of the signals _x, _y has a value for this row",
            None,
        ]
        assert made["act_error_prob"][1] is None

    def test_leaves_rows_without_a_label_alone(self):
        dataset = criticized(x=[0.1, 0.2])
        labels, failures = [None, 1], ["annotate: the row is empty", None]
        features = column_features(TASK)
        dataset = dataset.remove_columns(["act_label", "act_failure"])
        dataset = dataset.add_column("act_label", labels, feature=features["act_label"])
        dataset = dataset.add_column("act_failure", failures, feature=features["act_failure"])
        made = fuse(dataset, ["_x"])
        assert made["act_error_prob"][:] == [None, pytest.approx(0.2)]
        assert made["act_failure"][:] == failures

    @pytest.mark.parametrize(
        ("names", "options", "message"),
        [
            (["_z"], {}, "no column '_z'"),
            (["confidence", "_x", "_x"], {}, "must be different ones"),
            ([], {}, "must be different ones"),
            (["_x", "act_error_prob_x"], {}, "must be different ones"),
            (["_x"], {"suffix": "_x"}, "none of them 'act_error_prob_x', which is made of them"),
            (["_x"], {"weights": [1, 2]}, "weights are 1 numbers"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, names, options, message):
        with pytest.raises(ACTError, match=message):
            fuse(criticized(x=[0.1, 0.2]), names, **options)

    def test_keeps_the_format_and_the_records(self):
        made = fuse(criticized(x=[0.1, 0.2]).with_format("numpy"), ["_x"])
        assert made.format["type"] == "numpy"
        assert [record["stage"] for record in stage_records(made)] == ["annotate", "criticize"]


@given(st.lists(st.floats(0.001, 0.999), min_size=2, max_size=20, unique=True))
def test_a_critic_and_its_opposite_cancel_out(values):
    eps = np.array(values)
    assume(np.unique(1 - eps).size == eps.size)
    assert np.ptp(fused([eps, 1 - eps])) < 1e-9
