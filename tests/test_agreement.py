"""People on the same rows: agreement, each one's error rate, and one label out of several answers."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act_hf.errors import ACTError
from act_hf.estimate import krippendorff_alpha, people, reviewer_error_rate
from act_hf.review.resolving import DAWID_SKENE, resolve_answers


RATES = {"ann": 0.05, "bob": 0.2, "eve": 0.35}


def only(rows, *names):
    """What these people answered."""
    return [{who: row[who] for who in names} for row in rows]


def answered(rates, labels, rows, seed, *, share=1.0):
    """People who err independently, with each wrong label as often, and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(labels, size=rows)
    answers = []
    for true in truth:
        said = {
            who: int(true if rng.random() >= rate else (true + 1 + rng.integers(labels - 1)) % labels)
            for who, rate in rates.items()
        }
        answers.append({who: str(label) for who, label in said.items() if rng.random() < share})
    return answers, [str(true) for true in truth]


class TestAlpha:
    def test_krippendorffs_own_example(self):
        """Krippendorff (2011), "Computing Krippendorff's alpha-reliability", C: nominal data, four observers."""
        observers = {
            "A": ["1", "2", "3", "3", "2", "1", "4", "1", "2", ".", ".", "."],
            "B": ["1", "2", "3", "3", "2", "2", "4", "1", "2", "5", ".", "3"],
            "C": [".", "3", "3", "3", "2", "3", "4", "2", "2", "5", "1", "."],
            "D": ["1", "2", "3", "3", "2", "4", "4", "1", "2", "5", "1", "."],
        }
        units = zip(*observers.values(), strict=True)
        rows = [{who: said for who, said in zip(observers, unit, strict=True) if said != "."} for unit in units]
        assert krippendorff_alpha(rows) == pytest.approx(0.743, abs=5e-4)

    def test_agreement_by_chance_is_nothing(self):
        rows, _ = answered({"a": 2 / 3, "b": 2 / 3}, 3, 20_000, 0)
        assert krippendorff_alpha(rows) == pytest.approx(0, abs=0.02)

    @pytest.mark.parametrize("rows", [[], [{"a": "x"}, {"b": "y"}], [{"a": "x", "b": "x"}] * 3])
    def test_where_it_means_nothing(self, rows):
        assert krippendorff_alpha(rows) is None


class TestPeople:
    @pytest.mark.parametrize("labels", [2, 6])
    def test_each_persons_rate_and_its_interval(self, labels):
        """Over 60 reviews of 300 rows: the mean within 0.02, and 95 % intervals that cover 85 % at least (z = 3.5)."""
        made = [people(answered(RATES, labels, 300, seed, share=0.8)[0], labels) for seed in range(60)]
        for number, (who, rate) in enumerate(RATES.items()):
            found = [review[number] for review in made]
            assert {person.name for person in found} == {who}
            assert all(person.own for person in found)
            assert np.mean([person.error_rate[0] for person in found]) == pytest.approx(rate, abs=0.02)
            covered = [person.error_rate[1] <= rate <= person.error_rate[2] for person in found]
            assert np.mean(covered) >= 0.85

    def test_three_who_agree_may_still_err(self):
        """The exact bound of no error in n rows, 1 − 0.025^(1/n); two people have less, as they share an error."""
        for rows in (3, 30):
            for person in people([{"ann": "x", "bob": "x", "eve": "x"}] * rows, 4):
                rate, low, high = person.error_rate
                assert (rate, low) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))
                assert high == pytest.approx(1 - 0.025 ** (1 / rows), abs=1e-4)
                assert high > reviewer_error_rate(0, rows, 4)[2]

    def test_one_who_never_agrees_may_still_be_right(self):
        ann = people([{"ann": "y", "bob": "x", "eve": "x"}] * 3, 4)[0]
        assert ann.error_rate[1] < 0.3
        assert ann.error_rate[2] == pytest.approx(0.75, abs=1e-5)

    def test_intervals_of_few_rows(self):
        """Over 30 reviews of 12 rows, in many of which nobody errs: 95 % intervals that cover 90 % at least."""
        rates = {"ann": 0.05, "bob": 0.1, "eve": 0.1}
        made = [people(answered(rates, 4, 12, seed)[0], 4) for seed in range(30)]
        for number, rate in enumerate(rates.values()):
            intervals = [review[number].error_rate for review in made]
            assert np.mean([low <= rate <= high for _, low, high in intervals]) >= 0.9

    def test_two_people_cannot_be_told_apart(self):
        rows, _ = answered({"ann": 0.1, "bob": 0.3}, 4, 400, 0)
        ann, bob = people(rows, 4)
        assert not ann.own
        assert ann.error_rate == bob.error_rate == reviewer_error_rate(ann.disagreeing, ann.pairs, 4)

    def test_nor_can_three_in_a_row(self):
        """Ann shares rows with Bob, and Bob with Eve, but Ann with nobody else."""
        rows, _ = answered(RATES, 4, 300, 0)
        among = [only(rows, *pair) for pair in (("ann", "bob"), ("bob", "eve"), ("ann", "eve"))]
        chain, ring = [*among[0], *among[1]], [*among[0], *among[1], *among[2]]
        assert [person.own for person in people(chain, 4)] == [False] * 3
        assert [person.own for person in people(ring, 4)] == [True] * 3

    def test_groups_that_share_no_rows_are_judged_apart(self):
        first, _ = answered({"a": 0.02, "b": 0.02}, 3, 500, 0)
        second, _ = answered({"c": 0.3, "d": 0.3}, 3, 500, 1)
        a, b, c, d = people([*first, *second, {"lone": "1"}], 3)[:4]
        assert a.error_rate == b.error_rate
        assert c.error_rate == d.error_rate
        assert a.error_rate[2] < c.error_rate[1]

    def test_counts(self):
        rows = [{"ann": "x", "bob": "x"}, {"ann": "x", "bob": "y"}, {"ann": "y"}]
        ann, bob = people(rows, 2)
        assert (ann.answers, ann.pairs, ann.disagreeing) == (3, 2, 1)
        assert (bob.answers, bob.pairs, bob.disagreeing) == (2, 2, 1)

    def test_alone(self):
        (ann,) = people([{"ann": "x"}] * 4, 2)
        assert (ann.answers, ann.pairs, ann.error_rate, ann.own) == (4, 0, None, False)
        assert people([], 2) == []

    def test_the_seed(self):
        rows, _ = answered(RATES, 3, 100, 0)
        assert people(rows, 3, seed=1) == people(rows, 3, seed=1)
        assert people(rows, 3, seed=1) != people(rows, 3, seed=2)

    def test_one_label(self):
        with pytest.raises(ACTError, match="1 labels: two people can only disagree about two or more"):
            people([], 1)


class TestDawidSkene:
    def right(self, rows, truth, method):
        said = resolve_answers(rows, 4, method)
        return np.mean([one == true for one, true in zip(said, truth, strict=True)])

    def test_the_reliable_are_believed(self):
        """Two who are often wrong outvote one who never is; weighed, they do not."""
        rows, truth = answered({"ann": 0.02, "bob": 0.45, "eve": 0.45}, 4, 600, 0)
        assert self.right(rows, truth, DAWID_SKENE) > self.right(rows, truth, "majority") + 0.1
        assert self.right(rows, truth, DAWID_SKENE) > 0.95

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_no_worse_than_crowd_kit(self, seed):
        """The same model, fitted by expectation maximisation; within half a point."""
        import pandas
        from crowdkit.aggregation import OneCoinDawidSkene

        rates = {"ann": 0.05, "bob": 0.3, "eve": 0.3, "joe": 0.5}
        rows, truth = answered(rates, 4, 600, seed, share=0.7)
        table = pandas.DataFrame(
            [(row, who, label) for row, given in enumerate(rows) for who, label in given.items()],
            columns=["task", "worker", "label"],
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # how crowd-kit calls pandas
            theirs = OneCoinDawidSkene(n_iter=100).fit_predict(table)
        ours = resolve_answers(rows, 4, DAWID_SKENE)
        known = [row for row, given in enumerate(rows) if given]
        them, us = (np.mean([said[row] == truth[row] for row in known]) for said in (theirs, ours))
        assert us > them - 0.005

    def test_two_who_disagree_stay_tied(self):
        """Also where one label is far more frequent, and where one of them answered rows that the other did not."""
        rows = [{"ann": "x", "bob": "x"}] * 5 + [{"ann": "x", "bob": "y"}, {"ann": "y"}, {}]
        assert resolve_answers(rows, 3, DAWID_SKENE) == ["x"] * 5 + [None, "y", None]

    @settings(deadline=None)
    @given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=8))
    def test_only_labels_that_somebody_gave(self, rows):
        for row, label in zip(rows, resolve_answers(rows, 3, DAWID_SKENE), strict=True):
            assert label is None or label in row.values()
            if len(set(row.values())) == 1:
                assert label in row.values()

    def test_another_method(self):
        with pytest.raises(ACTError, match="resolve='best': answers are resolved by majority or dawid_skene"):
            resolve_answers([], 2, "best")
