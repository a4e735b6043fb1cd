from __future__ import annotations

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from scipy.sparse import csr_array

from act_hf import Task, calibrate, sample
from act_hf.calibration.features import _dissent, imitator_doubt
from act_hf.critics.fusion import add_verdicts
from act_hf.critics.strategies import Verdict
from act_hf.errors import ACTError
from act_hf.estimate import auroc, reliability
from act_hf.records import add_record, stage_records


ROWS = 2000
LABELS = ["a", "b", "c"]


def pool(rows: int = ROWS, seed: int = 0) -> tuple[Dataset, np.ndarray]:
    """Criticized rows and which of their labels are wrong. ε̂ orders well and is far too high; "odd" rows err more."""
    rng = np.random.default_rng(seed)
    odd = rng.random(rows) < 0.2
    wrong = rng.random(rows) < np.where(odd, 0.5, 0.08)
    eps = 1 / (1 + np.exp(-rng.normal(0.5, 1, rows) - 1.2 * wrong))
    values = {
        "text": [f"{'odd' if one else 'plain'} row {i % 7}" for i, one in enumerate(odd)],
        "embedding": np.column_stack([odd, rng.normal(size=rows)]).tolist(),
        "act_label": rng.integers(3, size=rows).tolist(),
        "act_error_prob": eps.tolist(),
    }
    types = {"text": Value("string"), "embedding": List(Value("float64")), "act_label": ClassLabel(names=LABELS)}
    made = Dataset.from_dict(values, features=Features({**types, "act_error_prob": Value("float32")}))
    task = Task(labels=LABELS, text="text")
    return add_record(made, "annotate", task=task.to_dict(), model="m"), wrong


def answered(dataset: Dataset, wrong: np.ndarray) -> Dataset:
    labels = np.array(dataset["act_label"][:])
    truth = np.where(wrong, (labels + 1) % 3, labels)
    human = [int(t) if s else None for t, s in zip(truth, dataset["act_selected"][:], strict=True)]
    kept = dataset.remove_columns([name for name in ("act_human",) if name in dataset.column_names])
    return kept.add_column("act_human", human).cast_column("act_human", ClassLabel(names=LABELS))


@pytest.fixture(scope="module")
def reviewed() -> tuple[Dataset, np.ndarray]:
    dataset, wrong = pool()
    return answered(sample(dataset, budget=500, mix=0.2, seed=0), wrong), wrong


def eps_of(dataset: Dataset, name: str = "act_error_prob") -> np.ndarray:
    return np.array(dataset[name][:], dtype=float)


@pytest.mark.parametrize("method", ["logistic", "isotonic", "model"])
def test_error_probabilities_come_to_mean_what_they_say(reviewed, method):
    dataset, wrong = reviewed
    done = calibrate(dataset, method=method)
    unseen = ~np.array(dataset["act_selected"][:])
    before = reliability(eps_of(dataset)[unseen], wrong[unseen]).expected_calibration_error
    after = reliability(eps_of(done)[unseen], wrong[unseen]).expected_calibration_error
    assert before > 0.3
    assert after < 0.06
    assert ((eps_of(done) > 0) & (eps_of(done) < 1)).all()


@pytest.mark.parametrize("method", ["logistic", "isotonic"])
def test_the_order_stays(reviewed, method):
    dataset, _ = reviewed
    unseen = ~np.array(dataset["act_selected"][:])
    raw, done = eps_of(dataset)[unseen], eps_of(calibrate(dataset, method=method))[unseen]
    assert (np.diff(done[np.argsort(raw)]) >= -1e-7).all()


def test_an_error_model_sees_more_than_the_critic(reviewed):
    dataset, wrong = reviewed
    unseen = ~np.array(dataset["act_selected"][:])
    plain = auroc(eps_of(dataset)[unseen], wrong[unseen])
    by_words = auroc(eps_of(calibrate(dataset, method="model"))[unseen], wrong[unseen])
    blind = calibrate(dataset, method="model", words=False)
    by_embedding = calibrate(dataset, method="model", words=False, features=["embedding"])
    assert by_words > plain + 0.04
    assert auroc(eps_of(by_embedding)[unseen], wrong[unseen]) > plain + 0.04
    assert auroc(eps_of(blind)[unseen], wrong[unseen]) == pytest.approx(plain, abs=0.02)


def test_what_is_measured_on_reviewed_rows_is_honest():
    """A critic that knows nothing, and an error model with room to learn the reviewed rows by heart."""
    rng = np.random.default_rng(0)
    dataset, _ = pool(400)
    wrong = rng.random(400) < 0.4
    noise = dataset.add_column("noise", rng.normal(size=(400, 60)).tolist())
    drawn = answered(sample(noise, budget=150, mix=1.0), wrong)
    done = calibrate(drawn, method="model", words=False, features=["noise"])
    seen = np.array(drawn["act_selected"][:])
    assert auroc(eps_of(done)[seen], wrong[seen]) < 0.62


def test_the_raw_column_is_kept_and_begun_from(reviewed):
    dataset, _ = reviewed
    once = calibrate(dataset)
    twice = calibrate(once)
    np.testing.assert_array_equal(eps_of(once, "act_error_prob_raw"), eps_of(dataset))
    assert twice["act_error_prob"][:] == once["act_error_prob"][:]
    assert once.features["act_error_prob_raw"] == Value("float32")
    assert stage_records(once)[-1]["method"] == "logistic"
    assert stage_records(once)[-1]["reviewed"] == 500


def test_rows_without_an_error_probability(reviewed):
    dataset, _ = reviewed
    row = dataset["act_selected"][:].index(False)
    eps = dataset["act_error_prob"][:]
    eps[row] = None
    holed = dataset.remove_columns("act_error_prob").add_column("act_error_prob", eps)
    assert calibrate(holed)["act_error_prob"][row] is None
    assert 0 < calibrate(holed, method="model")["act_error_prob"][row] < 1


def test_then_a_second_wave(reviewed):
    dataset, wrong = reviewed
    second = sample(calibrate(dataset), budget=100, wave=2)
    assert sum(second["act_selected"]) == 600
    again = calibrate(answered(second, wrong))
    np.testing.assert_array_equal(eps_of(again, "act_error_prob_raw"), eps_of(dataset))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "platt"}, "method 'platt' is none of logistic, isotonic, model"),
        ({"method": "model", "features": ["height"]}, "no column 'height'"),
        ({"method": "model", "features": ["text"]}, "the column 'text' .* is neither a number"),
    ],
)
def test_refuses(reviewed, options, message):
    with pytest.raises(ACTError, match=message):
        calibrate(reviewed[0], **options)


def test_needs_right_and_wrong_rows(reviewed):
    dataset, wrong = reviewed
    with pytest.raises(ACTError, match="of 500 reviewed rows 0 are wrong and 500 right; review more"):
        calibrate(answered(dataset, np.zeros_like(wrong)))


def test_an_error_model_sees_who_of_a_panel_disagrees(reviewed):
    dataset, wrong = reviewed
    labels, rng = np.array(dataset["act_label"][:]), np.random.default_rng(1)
    told = np.where(rng.random(ROWS) < 0.8, wrong, rng.random(ROWS) < 0.3)
    voted = np.where(told, (labels + 1) % 3, labels).tolist()
    voted[:50] = [None] * 50
    with_vote = dataset.add_column("act_vote_other", voted).cast_column("act_vote_other", ClassLabel(names=LABELS))
    unseen = ~np.array(dataset["act_selected"][:])
    alone = auroc(eps_of(calibrate(dataset, method="model"))[unseen], wrong[unseen])
    assert auroc(eps_of(calibrate(with_vote, method="model"))[unseen], wrong[unseen]) > alone + 0.04


def test_a_critic_is_never_turned_upside_down():
    """Few rows at random, of great weight, among many that were doubted: they may contradict a good critic."""
    turned = 0
    for seed in range(20):
        dataset, wrong = pool(400, seed)
        drawn = answered(sample(dataset, budget=40, rule="threshold", mix=0.1, seed=seed), wrong)
        unseen = ~np.array(drawn["act_selected"][:])
        for method in ("logistic", "model"):
            done = eps_of(calibrate(drawn, method=method, words=False))
            order = np.argsort(eps_of(drawn)[unseen])
            turned += method == "logistic" and (np.diff(done[unseen][order]) < -1e-7).any()
            turned += auroc(done[unseen], wrong[unseen]) < 0.5
    assert turned == 0


def test_an_answer_does_not_move_the_row_it_is_of():
    """Of a row that stands for many; every fold holds it out."""
    dataset, wrong = pool(400)
    drawn = answered(sample(dataset, budget=150, mix=1.0), wrong)
    row = drawn["act_selected"][:].index(True)
    pi = np.where(np.arange(400) == row, 0.01, drawn["act_pi"][:]).astype(np.float32).tolist()
    drawn = drawn.remove_columns("act_pi").add_column("act_pi", pi).cast_column("act_pi", Value("float32"))
    said = []
    for label in (0, 1):
        human = drawn["act_human"][:]
        human[row] = (drawn["act_label"][row] + label) % 3
        other = drawn.remove_columns("act_human").add_column("act_human", human, feature=drawn.features["act_human"])
        said.append(eps_of(calibrate(other, method="model", words=False))[row])
    assert said[0] == pytest.approx(said[1], abs=0.1)


def test_another_critic_is_calibrated_from_its_own_word(reviewed):
    dataset, wrong = reviewed
    rng = np.random.default_rng(0)
    useless = dataset.remove_columns("act_error_prob").add_column("act_error_prob", rng.random(ROWS).tolist())
    perfect = np.where(wrong, 0.9, 0.1) + rng.random(ROWS) * 0.01
    verdicts = [Verdict(value) for value in perfect]
    task = Task(labels=LABELS, text="text")
    again = calibrate(add_verdicts(calibrate(useless), task, verdicts))
    np.testing.assert_allclose(eps_of(again, "act_error_prob_raw"), perfect, rtol=1e-6)
    assert auroc(eps_of(again), wrong) > 0.99
    beside = add_verdicts(calibrate(useless), task, verdicts, suffix="_two")
    assert "act_error_prob_raw" in beside.column_names


def test_votes_are_matched_by_name(reviewed):
    dataset, _ = reviewed
    names = [LABELS[label] for label in dataset["act_label"][:]]
    other = ClassLabel(names=LABELS[::-1])
    voted = dataset.add_column("act_vote_same", names).cast_column("act_vote_same", other)
    voted = voted.add_column("act_vote_text", [None, *names[1:]])
    assert [set(np.unique(votes[~np.isnan(votes)])) for votes in _dissent(voted)] == [{0.0}, {0.0}]


class TestImitator:
    def test_it_doubts_the_labels_that_do_not_fit_the_others(self):
        rng = np.random.default_rng(0)
        truth = rng.integers(3, size=900)
        content = csr_array(np.eye(3)[truth] + rng.normal(scale=0.4, size=(900, 3)))
        wrong = rng.random(900) < 0.15
        doubt = imitator_doubt(content, np.where(wrong, (truth + 1) % 3, truth))
        assert auroc(doubt, wrong) > 0.9
        assert ((doubt >= 0) & (doubt <= 1)).all()

    def test_it_has_not_seen_the_row(self):
        """Content that tells nothing but which row it is."""
        labels = np.random.default_rng(0).integers(2, size=100)
        assert (imitator_doubt(csr_array(np.eye(100)), labels) > 0.3).all()

    def test_rows_without_a_label_and_labels_that_are_rare(self):
        labels = np.array([0] * 30 + [1] * 30 + [2, -1])
        doubt = imitator_doubt(csr_array(np.eye(3)[labels]), labels)
        assert np.isnan(doubt[-1])
        assert doubt[-2] == 1  # nobody else has that label
        assert (doubt[:-2] < 0.2).all()

    @pytest.mark.parametrize("labels", [[0, 1, 0], [1] * 20])
    def test_nothing_to_learn(self, labels):
        assert np.isnan(imitator_doubt(csr_array(np.eye(len(labels))), np.array(labels))).all()
