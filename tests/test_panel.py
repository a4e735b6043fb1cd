from __future__ import annotations

import math

import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.fakes import FakeModel, message_text

from act_hf.annotators import annotate
from act_hf.critics.panel import add_votes, criticize_panel
from act_hf.critics.raters import panel_error_probs
from act_hf.errors import ACTError
from act_hf.estimate import auroc, reliability
from act_hf.models.asking import LimitReached
from act_hf.models.recorded import Recorded
from act_hf.models.store import Store
from act_hf.records import stage_records
from act_hf.sampling import sample
from act_hf.task import Task


TASK = Task(labels=["joy", "anger", "none"], text="t", words=["happy", "angry", "neither"])


def simulated(seed, rows, accuracies, labels=2, shares=None):
    """True labels, and those of raters who are each right as often as said, independently."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(labels, rows, p=shares)
    wrong = (truth[:, None] + rng.integers(1, labels, (rows, len(accuracies)))) % labels
    return truth, np.where(rng.random(wrong.shape) < accuracies, truth[:, None], wrong)


def ece(error_probs, errors) -> float:
    return reliability(error_probs, errors).expected_calibration_error


class TestWhenTheModelHolds:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize(
        ("labels", "accuracies"),
        [(2, [0.8, 0.75, 0.7, 0.9]), (4, [0.85, 0.8, 0.7, 0.6, 0.9]), (10, [0.7, 0.6, 0.8]), (4, [0.8, 0.8])],
    )
    def test_finds_the_accuracies_and_is_calibrated(self, seed, labels, accuracies):
        truth, said = simulated(seed, 3000, accuracies, labels)
        error_probs, found = panel_error_probs(said[:, 0], said[:, 1:], labels, dependence=0)
        assert found == pytest.approx(accuracies, abs=0.05)
        assert ece(error_probs, said[:, 0] != truth) < 0.05

    def test_is_better_than_counting_votes(self):
        truth, said = simulated(0, 4000, [0.7, 0.95, 0.6, 0.6], 3)
        wrong = said[:, 0] != truth
        error_probs, _ = panel_error_probs(said[:, 0], said[:, 1:], 3)
        assert auroc(error_probs, wrong) > auroc((said[:, 1:] != said[:, :1]).mean(axis=1), wrong) + 0.02

    def test_knows_rare_labels_when_told_their_share(self):
        shares = [0.9, 0.1]
        truth, said = simulated(1, 4000, [0.9, 0.8, 0.8], 2, shares)
        wrong = said[:, 0] != truth
        told, accuracies = panel_error_probs(said[:, 0], said[:, 1:], 2, shares=shares, dependence=0)
        untold, _ = panel_error_probs(said[:, 0], said[:, 1:], 2, dependence=0)
        assert accuracies == pytest.approx([0.9, 0.8, 0.8], abs=0.05)
        assert ece(told, wrong) < 0.03 < ece(untold, wrong)
        assert auroc(told, wrong) > auroc(untold, wrong) + 0.05

    def test_learns_that_a_rater_confuses_two_labels(self):
        truth, said = simulated(2, 3000, [0.8, 0.9, 0.9], 3)
        said[:, 2] = np.where(truth == 0, 1, truth)  # says 1 for every 0, and is always right about 2
        error_probs, _ = panel_error_probs(said[:, 0], said[:, 1:], 3)
        rows = (said[:, 0] == 1) & (said[:, 2] == 1) & (said[:, 1] == 1)
        assert error_probs[(said[:, 0] == 2) & (said[:, 2] == 2)].mean() < error_probs[rows].mean()

    def test_is_surer_where_a_rater_is(self):
        truth, said = simulated(3, 6000, [0.8, 0.8], 3)
        sure = np.random.default_rng(3).random((6000, 1))
        guessed = np.random.default_rng(4).integers(0, 3, 6000)
        said[:, 1] = np.where(
            sure[:, 0] > 1 / 3, said[:, 1], guessed
        )  # a third of its votes are guesses, and it knows
        wrong = said[:, 0] != truth
        plain, _ = panel_error_probs(said[:, 0], said[:, 1:], 3)
        knowing, _ = panel_error_probs(said[:, 0], said[:, 1:], 3, confidences=sure)
        assert auroc(knowing, wrong) > auroc(plain, wrong) + 0.02
        stretched, _ = panel_error_probs(said[:, 0], said[:, 1:], 3, confidences=100 * sure**3)
        assert stretched.tolist() == knowing.tolist()


class TestWhenItDoesNot:
    def test_an_adversary_is_seen_through(self):
        truth, said = simulated(0, 3000, [0.8, 0.8, 0.75, 0.1])
        wrong = said[:, 0] != truth
        with_it, accuracies = panel_error_probs(said[:, 0], said[:, 1:], 2)
        without, _ = panel_error_probs(said[:, 0], said[:, 1:3], 2)
        assert accuracies[3] < 0.5
        assert auroc(with_it, wrong) > auroc(without, wrong)

    @pytest.mark.parametrize("copies", [1, 2, 3])
    def test_copies_of_a_bad_rater_are_survived_up_to_as_many_as_the_good_ones(self, copies):
        truth, said = simulated(1, 3000, [0.8, 0.85, 0.85, 0.8, 0.5], 4)
        votes = np.column_stack([said[:, 1:4], *[said[:, 4]] * copies])
        error_probs, _ = panel_error_probs(said[:, 0], votes, 4)
        assert auroc(error_probs, said[:, 0] != truth) > 0.88

    def test_a_rater_who_knows_nothing_changes_little(self):
        truth, said = simulated(2, 3000, [0.8, 0.8, 0.8], 3)
        wrong = said[:, 0] != truth
        always = np.zeros((3000, 1), dtype=int)
        alone, _ = panel_error_probs(said[:, 0], said[:, 1:], 3)
        joined, _ = panel_error_probs(said[:, 0], np.hstack([said[:, 1:], always]), 3)
        assert auroc(joined, wrong) == pytest.approx(auroc(alone, wrong), abs=0.02)

    def test_dependence_makes_it_less_sure_and_better_calibrated(self):
        truth, said = simulated(3, 3000, [0.75] * 5, 3)
        copied = np.random.default_rng(3).random((3000, 4)) < 0.7
        said[:, 1:] = np.where(copied, said[:, :1], said[:, 1:])  # the others repeat the annotator more often than not
        wrong = said[:, 0] != truth
        sure, _ = panel_error_probs(said[:, 0], said[:, 1:], 3, dependence=0)
        tempered, _ = panel_error_probs(said[:, 0], said[:, 1:], 3)
        assert ece(tempered, wrong) < ece(sure, wrong)


@st.composite
def panels(draw):
    """Labels, votes and confidences of any kind, with gaps."""
    labels = draw(st.integers(2, 5))
    rows, raters = draw(st.integers(1, 30)), draw(st.integers(0, 4))
    own = draw(arrays(np.int64, rows, elements=st.integers(0, labels - 1)))
    votes = draw(arrays(np.int64, (rows, raters), elements=st.integers(-1, labels - 1)))
    sure = draw(arrays(np.float64, (rows, raters), elements=st.floats(-5, 5) | st.just(math.nan)))
    return labels, own, votes, sure


class TestWhatAlwaysHolds:
    @given(panels(), st.floats(0, 1))
    @settings(deadline=None)
    def test_every_row_has_a_probability(self, panel, dependence):
        labels, own, votes, sure = panel
        error_probs, accuracies = panel_error_probs(own, votes, labels, confidences=sure, dependence=dependence)
        assert error_probs.shape == own.shape
        assert ((error_probs >= 0) & (error_probs <= 1)).all()
        assert accuracies.shape == (1 + votes.shape[1],)
        assert np.isnan(accuracies[1:]).tolist() == (votes == -1).all(axis=0).tolist()
        assert accuracies[0] == pytest.approx(1 - error_probs.mean())

    @given(panels())
    @settings(deadline=None)
    def test_equal_rows_are_equal_and_the_same_twice(self, panel):
        labels, own, votes, _ = panel
        first, _ = panel_error_probs(own, votes, labels)
        assert panel_error_probs(own, votes, labels)[0].tolist() == first.tolist()
        said = list(map(tuple, np.column_stack([own, votes])))
        for row in set(said):
            assert np.ptp([error_prob for error_prob, one in zip(first, said, strict=True) if one == row]) < 1e-9

    @given(st.integers(0, 10_000), st.permutations(range(4)), st.permutations(range(3)))
    @settings(deadline=None, max_examples=40)
    def test_neither_the_names_of_the_labels_nor_the_order_of_the_voters_matters(self, seed, names, order):
        _, said = simulated(seed, 200, [0.8, 0.7, 0.6, 0.75], 4, [0.4, 0.3, 0.2, 0.1])
        said[np.random.default_rng(seed).random(said.shape) < 0.1] = 0
        shares = np.array([0.4, 0.3, 0.2, 0.1])
        for known in (None, shares):
            expected, accuracies = panel_error_probs(said[:, 0], said[:, 1:], 4, shares=known)
            renamed = np.array(names)[said]
            reshared = None if known is None else known[np.argsort(names)]
            found, again = panel_error_probs(renamed[:, 0], renamed[:, 1:][:, order], 4, shares=reshared)
            assert found == pytest.approx(expected, abs=1e-3)
            assert again[1:] == pytest.approx(accuracies[1:][list(order)], abs=1e-3)

    def test_a_vote_for_the_label_makes_it_less_doubtful_than_one_against(self):
        _, said = simulated(0, 500, [0.8, 0.8, 0.7], 3)
        error_probs, _ = panel_error_probs(said[:, 0], said[:, 1:], 3)
        agree = (said[:, 1:] == said[:, :1]).sum(axis=1)
        means = [error_probs[agree == count].mean() for count in (0, 1, 2)]
        assert means[0] > means[1] > means[2]

    def test_many_labels_and_rows_are_quick(self):
        truth, said = simulated(0, 5_000, [0.8, 0.7, 0.7], 100)
        error_probs, _ = panel_error_probs(said[:, 0], said[:, 1:], 100)
        assert auroc(error_probs, said[:, 0] != truth) > 0.9

    @pytest.mark.parametrize(
        ("arguments", "options", "message"),
        [
            (([0, 1], [[1]], 2), {}, r"N labels and \[N, M\] votes, not \(2,\) and \(1, 1\)"),
            (([], np.zeros((0, 1)), 2), {}, "a panel needs N labels"),
            (([0], [[2]], 2), {}, "labels are from 0 to 1"),
            (([-1], [[1]], 2), {}, "labels are from 0 to 1"),
            (([0], [[0]], 1), {}, "at least two labels, not 1"),
            (([0], [[1]], 2), {"dependence": 1.1}, "dependence=1.1 is not from 0 to 1"),
            (([0], [[1]], 2), {"shares": [0.5, 0.4]}, "2 positive numbers that sum to 1, not"),
            (([0], [[1]], 2), {"shares": [1.0, 0.0]}, "positive numbers"),
            (([0], [[1]], 2), {"confidences": [[0.5, 0.5]]}, r"confidences are \(1, 2\), but the votes are \(1, 1\)"),
        ],
    )
    def test_refuses_what_does_not_fit(self, arguments, options, message):
        with pytest.raises(ACTError, match=message):
            panel_error_probs(*arguments, **options)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "answers.sqlite")


def labelled(*labels: int | None, **columns: list) -> Dataset:
    """A row per label, "row 0" and so on."""
    dataset = Dataset.from_dict({"t": [f"row {i}" for i in range(len(labels))], "y": list(labels), **columns})
    model = Recorded.from_columns(dataset, TASK, label="y")
    return annotate(dataset, TASK, model, store=Store(":memory:"))


class TestCriticizePanel:
    def test_says_who_says_what(self):
        dataset = labelled(1, 1, 0, 0, gpt=[0, 1, 0, 0], llama=[0, 1, 1, None], claude=[1, 1, 0, 0])
        made = criticize_panel(dataset, ["gpt", "llama", "claude"])
        error_probs = made["act_error_prob"][:]
        assert made["act_critique"][:] == [
            f'gpt and llama say "happy", claude says "angry": {error_probs[0]:.0%} that "angry" is wrong',
            f'gpt, llama and claude say "angry": {error_probs[1]:.0%} that "angry" is wrong',
            f'gpt and claude say "happy", llama says "angry": {error_probs[2]:.0%} that "happy" is wrong',
            f'gpt and claude say "happy": {error_probs[3]:.0%} that "happy" is wrong',
        ]
        assert error_probs[0] > error_probs[2] > error_probs[1]
        assert made["act_failure"][:] == [None] * 4

    def test_is_what_the_function_gives(self):
        _, said = simulated(0, 60, [0.8, 0.7, 0.6], 3)
        dataset = labelled(*said[:, 0].tolist(), a=said[:, 1].tolist(), b=said[:, 2].tolist())
        shares = {"joy": 0.2, "anger": 0.3, "none": 0.5}
        made = criticize_panel(dataset, {"one": "a", "two": "b"}, shares=shares, dependence=0.5)
        expected, accuracies = panel_error_probs(said[:, 0], said[:, 1:], 3, shares=[0.2, 0.3, 0.5], dependence=0.5)
        assert made["act_error_prob"][:] == pytest.approx(expected)
        record = stage_records(made, "criticize")[-1]
        assert (record["strategy"], record["model"], record["votes"]) == (
            "panel",
            "one + two",
            {"one": "a", "two": "b"},
        )
        assert (record["shares"], record["dependence"], record["failed"]) == (shares, 0.5, 0)
        assert list(record["accuracies"].values()) == pytest.approx(accuracies, abs=1e-4)

    def test_fails_where_there_is_nothing_to_say(self):
        made = criticize_panel(labelled(0, 1, None, gpt=[0, None, 1], llama=[1, -1, 1]), ["gpt", "llama"])
        assert made["act_failure"][:] == [
            None,
            "criticize: no other model labelled this row",
            "annotate: no recorded answer",
        ]
        assert [value is None for value in made["act_error_prob"][:]] == [False, True, True]
        assert stage_records(made, "criticize")[-1]["failed"] == 2
        assert sample(made, budget=1, failures="skip")["act_selected"][:] == [True, False, False]

    def test_replaces_what_an_earlier_critic_said(self):
        dataset = labelled(0, 1, gpt=[0, None], llama=[1, 1])
        again = criticize_panel(criticize_panel(dataset, ["gpt"]), ["gpt", "llama"])
        assert again["act_failure"][:] == [None, None]
        assert again.column_names.count("act_error_prob") == 1

    def test_writes_beside_another_critic(self):
        dataset = criticize_panel(labelled(0, 1, gpt=[0, 1], llama=[1, 1]), ["gpt"])
        made = criticize_panel(dataset, ["llama"], suffix="_panel")
        assert made["act_error_prob"][:] == dataset["act_error_prob"][:]
        assert made["act_error_prob_panel"][0] > made["act_error_prob_panel"][1]
        assert made["act_failure_panel"][:] == [None, None]

    def test_reads_class_labels_by_name_and_text(self):
        dataset = labelled(0, 1, gpt=["anger", "Answer: angry"], llama=[0, 2])
        dataset = dataset.cast_column("llama", ClassLabel(names=["anger", "none", "joy"]))
        made = criticize_panel(dataset, ["gpt", "llama"])
        assert made["act_critique"][0].startswith('gpt and llama say "angry": ')
        assert made["act_critique"][1].startswith('gpt says "angry", llama says "happy": ')

    def test_takes_confidences(self):
        _, said = simulated(0, 90, [0.8, 0.7], 3)
        sure = np.linspace(0, 1, 90).round(2).tolist()
        dataset = labelled(*said[:, 0].tolist(), a=said[:, 1].tolist(), s=[None, *sure[1:]])
        made = criticize_panel(dataset, ["a"], confidences={"a": "s"})
        given_sure = np.array([math.nan, *sure[1:]])[:, None]
        expected, _ = panel_error_probs(said[:, 0], said[:, 1:], 3, confidences=given_sure)
        assert made["act_error_prob"][:] == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("votes", "options", "message"),
        [
            (None, {}, "a panel needs voters; make columns of labels with add_votes"),
            ([], {}, "a panel needs voters"),
            (["who"], {}, "no column 'who'"),
            (["gpt"], {"confidences": {"llama": "s"}}, "confidences of 'llama', who is none of the voters gpt"),
            (["gpt"], {"shares": {"rage": 1.0}}, "'rage' is not a label of the task"),
            (["gpt"], {"shares": {"joy": 1.0}}, "shares are 3 positive numbers"),
        ],
    )
    def test_refuses_what_it_cannot_read(self, votes, options, message):
        with pytest.raises(ACTError, match=message):
            criticize_panel(labelled(0, gpt=[0]), votes, **options)

    def test_keeps_the_format_and_the_records(self):
        dataset = labelled(0, 1, gpt=[0, 1]).with_format("numpy")
        made = criticize_panel(dataset, ["gpt"])
        assert made.format["type"] == "numpy"
        assert [record["stage"] for record in stage_records(made)] == ["annotate", "criticize"]


def voter(*words: str, **options) -> FakeModel:
    """Says a word for row 0, row 1, ..., and the same when it is asked once more."""
    return FakeModel(
        by=lambda request: words[int(message_text(request, 1).split()[-1])], abilities=["chat"], **options
    )


class TestAddVotes:
    def test_adds_a_column_for_every_model(self, store):
        dataset = labelled(0, 1)
        chooser = FakeModel(by=lambda request: [-3.0, -0.1, -4.0], abilities=["choose"], name="chooser")
        made = add_votes(dataset, TASK, {"chatty": voter("happy", "?"), "chooser": chooser}, store=store)
        assert made["act_vote_chatty"][:] == [0, None]
        assert made["act_vote_chooser"][:] == [1, 1]
        assert made.features["act_vote_chatty"] == dataset.features["act_label"]
        assert "act_confidence_chatty" not in made.column_names
        assert made["act_confidence_chooser"][0] == pytest.approx(np.exp(-0.1) / np.exp([-3, -0.1, -4]).sum())
        assert made["act_label"][:] == dataset["act_label"][:]
        assert made["act_failure"][:] == [None, None]

    def test_leaves_a_record_of_what_it_cost(self, store):
        models = {"a": voter("happy", "?", name="a", cost=0.5), "b": voter("angry", "angry", name="b", cost=0.25)}
        record = stage_records(add_votes(labelled(0, 1), TASK, models, store=store))[-1]
        assert (record["stage"], record["model"], record["failed"]) == ("vote", "a + b", {"a": 1, "b": 0})
        assert record["usage"]["cost"] == pytest.approx(3 * 0.5 + 2 * 0.25)  # one reply was asked about once more

    def test_is_what_the_panel_takes_by_default(self, store):
        sure = FakeModel(by=lambda request: [-0.1, -3.0, -4.0], abilities=["choose"], name="b")
        voted = add_votes(labelled(0, 1), TASK, {"a": voter("happy", "happy"), "b": sure}, store=store)
        made = criticize_panel(voted)
        assert made["act_critique"][0].startswith('a and b say "happy": ')
        assert stage_records(made)[-1]["confidences"] == {"b": "act_confidence_b"}

    def test_needs_no_labels_yet(self, store):
        dataset = Dataset.from_dict({"t": ["row 0", "row 1"], "y": [0, 1]})
        voted = add_votes(dataset, TASK, {"rec": Recorded.from_columns(dataset, TASK, label="y")}, store=store)
        assert voted["act_vote_rec"][:] == [0, 1]
        assert annotate(voted, TASK, voter("happy", "angry"), store=store)["act_label"][:] == [0, 1]

    def test_asks_nothing_twice_and_keeps_to_the_limit(self, store):
        model = voter("happy", "angry", name="a")
        dataset = labelled(0, 1)
        add_votes(dataset, TASK, {"a": model}, store=store)
        add_votes(dataset, TASK, {"a": model}, store=store)
        assert model.calls == 2
        with pytest.raises(LimitReached):
            add_votes(dataset, TASK, {"a": model, "b": voter("happy", "angry", name="b")}, store=store, max_calls=1)

    def test_refuses_no_models_and_models_that_cannot(self, store):
        with pytest.raises(ACTError, match="at least one model"):
            add_votes(labelled(0), TASK, {}, store=store)
        model = voter("happy")
        with pytest.raises(ACTError, match="needs a model that can reply in words"):
            add_votes(
                labelled(0), TASK, {"a": model, "b": FakeModel(abilities=["choose"])}, strategy="cot", store=store
            )
        assert model.calls == 0

    def test_warns_of_a_voter_who_annotated(self, store):
        model = voter("happy", "angry", name="a")
        dataset = annotate(labelled(0, 1).remove_columns(["act_label"]), TASK, model, store=store)
        with pytest.warns(UserWarning, match="a annotated these rows itself"):
            add_votes(dataset, TASK, {"a": model}, store=store)

    def test_leaves_no_confidence_of_an_earlier_voter_of_that_name(self, store):
        sure = FakeModel(by=lambda request: [-0.1, -3.0, -4.0], abilities=["choose"], name="sure")
        first = add_votes(labelled(0, 1), TASK, {"a": sure}, store=store)
        assert "act_confidence_a" in first.column_names
        second = add_votes(first, TASK, {"a": voter("happy", "angry", name="b")}, store=store)
        assert "act_confidence_a" not in second.column_names

    def test_the_label_that_is_judged_is_no_vote(self):
        with pytest.raises(ACTError, match="'act_label' is what the panel judges"):
            criticize_panel(labelled(0, 1), ["act_label"])
