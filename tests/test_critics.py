from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from support.fakes import FakeModel, by_text, shown

from act_hf import prompts
from act_hf.annotators import annotate
from act_hf.columns import column_features
from act_hf.critics import STRATEGIES, Critic, criticize
from act_hf.errors import ACTError
from act_hf.models.base import ChatRequest, ScoreRequest
from act_hf.models.store import Store
from act_hf.records import stage_records
from act_hf.sampling import sample
from act_hf.task import Task


TASK = Task(labels=["ham", "spam", "other"], text="t", instruction="Is it spam?", words=["fine", "junk", "rest"])
NAN = math.nan


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "answers.sqlite")


def annotated(*labels: str) -> Dataset:
    """A row per label, "row 0" and so on, labelled by a model that says so; "?" is no label."""
    dataset = Dataset.from_dict({"t": [f"row {i}" for i in range(len(labels))]})
    return annotate(dataset, TASK, FakeModel(*labels, abilities=["chat"]), store=Store(":memory:"))


def softmax(values) -> np.ndarray:
    weights = np.exp(np.asarray(values, dtype=float))
    return weights / weights.sum()


class TestLogit:
    def test_is_the_share_of_yes(self, store):
        scores = [[-1.0, -2.0, -3.0, -1.5, -2.5, -9.0], [-5.0, -6.0, -7.0, -0.1, -3.0, -4.0]]
        model = FakeModel(*scores, abilities=["score"])
        done = criticize(annotated("spam", "ham"), model, strategy="logit", store=store)
        expected = [np.exp(row[:3]).sum() / np.exp(row).sum() for row in scores]
        np.testing.assert_allclose(done["act_error_prob"][:], expected, atol=1e-7)
        assert done["act_critique"][0] == 'asked "is the label wrong?": yes 64%, no 36%'
        assert model.asked == [
            ScoreRequest(prompts.criticize_logit(TASK, {"t": f"row {i}"}, label), prompts.YES + prompts.NO)
            for i, label in enumerate((1, 0))
        ]

    @pytest.mark.parametrize(
        ("scores", "expected"),
        [
            ([-math.inf] * 3 + [-1.0] * 3, 0.0),
            ([-1.0] * 3 + [-math.inf] * 3, 1.0),
            ([-1e6, -math.inf, -math.inf, -1.0, -1.0, -1.0], 0.0),
            ([-2000.0] * 6, 0.5),
        ],
    )
    def test_far_ends(self, store, scores, expected):
        done = criticize(annotated("spam"), FakeModel(scores), strategy="logit", store=store)
        assert done["act_error_prob"][0] == pytest.approx(expected, abs=1e-7)
        assert done["act_failure"][0] is None

    @pytest.mark.parametrize("scores", [[-math.inf] * 6, [NAN] * 6, [NAN, *[-1.0] * 5], [*[-1.0] * 5, NAN]])
    def test_no_number_is_a_failure(self, store, scores):
        done = criticize(annotated("spam", "ham"), FakeModel(scores, [-1.0] * 6), strategy="logit", store=store)
        assert done["act_error_prob"][:] == [None, 0.5]
        assert done["act_failure"][0].startswith("criticize: the model gave [")
        assert done["act_failure"][1] is None


class TestLikelihood:
    scores = np.array([[-1.0, -2.0, -3.0], [-1.0, -1.5, -4.0], [-0.5, -3.0, -2.5]])

    def by(self, request):
        return self.scores[int(shown(request).split()[-1])]

    def test_is_one_less_the_probability_of_the_label(self, store):
        done = criticize(annotated("spam", "ham", "other"), FakeModel(by=self.by), strategy="likelihood", store=store)
        expected = [1 - softmax(row)[label] for row, label in zip(self.scores, (1, 0, 2), strict=True)]
        np.testing.assert_allclose(done["act_error_prob"][:], expected, atol=1e-7)
        assert done["act_critique"][0] == 'gives 24% to "junk", and 67% to "fine"'
        assert done["act_critique"][1] == 'gives 60% to "fine"'

    def test_by_an_encoder(self, store):
        model = FakeModel(by=self.by, abilities=["score"], instructed=False)
        criticize(annotated("spam"), model, strategy="likelihood", store=store)
        assert model.asked == [ScoreRequest(({"role": "user", "content": "row 0"},), TASK.sentences)]

    def test_batch_calibration(self, store):
        model = FakeModel(by=self.by)
        dataset = annotated("spam", "ham", "other")
        done = criticize(dataset, model, strategy="likelihood", calibration="batch", store=store)
        logs = np.log([softmax(row) for row in self.scores])
        calibrated = np.array([softmax(row) for row in logs - logs.mean(axis=0)])
        np.testing.assert_allclose(done["act_error_prob"][:], 1 - calibrated[[0, 1, 2], [1, 0, 2]], atol=1e-6)
        record = stage_records(done, "criticize")[0]
        np.testing.assert_allclose(record["prior"], logs.mean(axis=0))
        assert record["usage"]["requests"] == record["usage"]["calls"] == model.calls == 3

    def test_contextual_calibration(self, store):
        free = {"N/A": [-1.0, -2.0, -3.0], "[MASK]": [-0.5, -2.5, -3.0], "": [-1.0, -1.0, -1.0]}
        model = FakeModel(by=lambda request: free[shown(request)] if shown(request) in free else self.by(request))
        done = criticize(annotated("spam"), model, strategy="likelihood", calibration="contextual", store=store)
        prior = np.log(np.mean([softmax(row) for row in free.values()], axis=0))
        assert done["act_error_prob"][0] == pytest.approx(1 - softmax(self.scores[0] - prior)[1], abs=1e-6)

    def test_no_number_is_a_failure(self, store):
        model = FakeModel([NAN, -1, -2], [-math.inf] * 3, [-1, -2, -3])
        done = criticize(annotated("spam", "ham", "other"), model, strategy="likelihood", store=store)
        assert [value is None for value in done["act_error_prob"]] == [True, True, False]
        assert [str(failure)[:24] for failure in done["act_failure"]] == ["criticize: the model gav"] * 2 + ["None"]

    def test_no_probability_for_another_label_is_no_failure(self, store):
        done = criticize(annotated("spam"), FakeModel([-math.inf, -1, -2]), strategy="likelihood", store=store)
        assert done["act_error_prob"][0] == pytest.approx(1 - softmax([-1, -2])[0], abs=1e-6)


@pytest.mark.parametrize(("strategy", "asks"), [("naive", prompts.criticize_naive), ("cot", prompts.criticize_cot)])
class TestVerbalised:
    def test_the_probability_stated(self, store, strategy, asks):
        replies = ["80 %", "It fits.\nAnswer: 5%", "no idea"]
        model = FakeModel(*replies, abilities=["chat"])
        done = criticize(annotated("spam", "ham", "other"), model, strategy=strategy, store=store, max_tokens=50)
        np.testing.assert_allclose(done["act_error_prob"][:2], [0.8, 0.05], atol=1e-7)
        assert done["act_error_prob"][2] is None
        assert done["act_critique"][:] == replies
        assert done["act_failure"][:] == [None, None, "criticize: no single probability in the reply 'no idea'"]
        assert model.asked[0] == ChatRequest(asks(TASK, {"t": "row 0"}, 1), 50)

    def test_a_reply_that_a_row_dictates_is_still_a_probability(self, store, strategy, asks):
        dataset = Dataset.from_dict({"t": ["Answer: 500 %", "Answer: -1", "Answer: 0 %"]})
        dataset = annotate(dataset, TASK, FakeModel(*["spam"] * 3, abilities=["chat"]), store=store)
        parrot = FakeModel(by=lambda request: shown(request).split("\n")[0], abilities=["chat"])
        done = criticize(dataset, parrot, strategy=strategy, store=store)
        assert done["act_error_prob"][:] == [None, None, 0.0]


class TestColumns:
    def test_types(self, store):
        dataset = annotated("spam")
        done = criticize(dataset, FakeModel([-1.0] * 6), strategy="logit", store=store)
        made = column_features(TASK, ["act_error_prob", "act_critique"])
        assert done.features == Features({**dataset.features, **made})
        assert done.features["act_error_prob"] == Value("float32")

    def test_all_else_is_kept(self, store):
        dataset = annotated("spam", "?", "ham")
        done = criticize(dataset, FakeModel(by=lambda request: [-1.0] * 6), strategy="logit", store=store)
        kept = done.select_columns(dataset.column_names)
        assert kept.to_dict() == dataset.to_dict()

    def test_rows_without_a_label_are_not_asked_about(self, store):
        model = FakeModel([-1.0] * 6)
        done = criticize(annotated("?", "spam", "?"), model, strategy="logit", store=store)
        assert model.calls == 1
        assert done["act_error_prob"][:] == [None, 0.5, None]
        assert done["act_critique"][0] is None
        assert done["act_failure"][0].startswith("annotate: no single label")

    def test_no_row_has_a_label(self, store):
        for strategy in STRATEGIES:
            done = criticize(annotated("?", "?"), FakeModel(raise_after=0), strategy=strategy, store=store)
            assert done["act_error_prob"][:] == [None, None]
            assert done.features["act_error_prob"] == Value("float32")

    def test_labels_from_elsewhere(self, store):
        dataset = annotated("spam", "ham").remove_columns(["act_failure", "act_id", "act_label_probs"])
        done = criticize(dataset, FakeModel([-1.0] * 6, [NAN] * 6), strategy="logit", store=store)
        assert [failure is None for failure in done["act_failure"]] == [True, False]

    def test_formatted(self, store):
        dataset = annotated("spam", "?")
        expected = criticize(dataset, FakeModel([-1.0] * 6), strategy="logit", store=store).to_dict()
        for kind in ("torch", "numpy", "pandas"):
            done = criticize(dataset.with_format(kind), FakeModel(raise_after=0), strategy="logit", store=store)
            assert done.with_format(None).to_dict() == expected


class TestAgain:
    def test_a_second_run_replaces_values_and_failures(self, store):
        dataset = annotated("spam", "?", "ham")
        first = criticize(dataset, FakeModel("hm", "20%", abilities=["chat"], name="a"), strategy="naive", store=store)
        assert [failure is None for failure in first["act_failure"]] == [False, False, True]
        second = criticize(first, FakeModel("60%", "eh", abilities=["chat"], name="b"), strategy="naive", store=store)
        np.testing.assert_allclose(second["act_error_prob"][0], 0.6, atol=1e-7)
        assert second["act_error_prob"][2] is None
        assert second["act_failure"][0] is None
        assert second["act_failure"][1].startswith("annotate:")
        assert second["act_failure"][2] == "criticize: no single probability in the reply 'eh'"
        assert second.column_names == first.column_names
        assert [record["failed"] for record in stage_records(second, "criticize")] == [2, 2]

    def test_asks_nothing_again(self, store):
        dataset = annotated("spam", "ham", "other")
        first = criticize(dataset, FakeModel(by=by_text), strategy="logit", store=store)
        second = criticize(dataset, FakeModel(raise_after=0), strategy="logit", store=store)
        assert second.to_dict() == first.to_dict()
        assert stage_records(second, "criticize")[0]["usage"]["calls"] == 0

    def test_a_broken_off_run_goes_on(self, store):
        dataset = annotated(*["spam", "ham"] * 10)
        with pytest.raises(RuntimeError, match="break off"):
            criticize(dataset, FakeModel(by=by_text, raise_after=2), strategy="logit", store=store)
        model = FakeModel(by=by_text)
        resumed = criticize(dataset, model, strategy="logit", store=store)
        assert model.calls == 20 - 8
        assert (
            resumed.to_dict()
            == criticize(dataset, FakeModel(by=by_text), strategy="logit", store=Store(":memory:")).to_dict()
        )


class TestSuffix:
    def test_a_second_critic_stands_beside_the_first(self, store):
        first = criticize(
            annotated("spam", "ham", "?"), FakeModel(by=lambda request: [-1.0] * 6), strategy="logit", store=store
        )
        model = FakeModel("30%", "hm", abilities=["chat"], name="second")
        both = criticize(first, model, strategy="naive", suffix="_b", store=store)
        assert both.column_names == [*first.column_names, "act_error_prob_b", "act_critique_b", "act_failure_b"]
        assert both.select_columns(first.column_names).to_dict() == first.to_dict()
        np.testing.assert_allclose(both["act_error_prob_b"][0], 0.3, atol=1e-7)
        assert both["act_error_prob_b"][1:] == [None, None]
        assert both["act_failure_b"][:] == [None, "criticize: no single probability in the reply 'hm'", None]
        assert both.features["act_error_prob_b"] == Value("float32")
        record = stage_records(both, "criticize")[1]
        assert (record["suffix"], record["failed"]) == ("_b", 1)

    def test_its_failures_do_not_stop_the_sampling(self, store):
        first = criticize(
            annotated("spam", "ham"), FakeModel(by=lambda request: [-1.0] * 6), strategy="logit", store=store
        )
        model = FakeModel("30%", "hm", abilities=["chat"])
        both = criticize(first, model, strategy="naive", suffix="_b", store=store)
        assert sum(sample(both, budget=1, seed=0)["act_selected"]) == 1


class TestRefusals:
    def refuse(self, says: str, store: Store, dataset: Dataset | None = None, **options) -> None:
        model = options.pop("model", None) or FakeModel(by=by_text)
        with pytest.raises(ACTError, match=says):
            criticize(annotated("spam") if dataset is None else dataset, model, store=store, **options)
        assert model.calls == 0
        assert not store.path.exists()

    def test_strategy(self, store):
        self.refuse("critic strategy 'guess' is none of naive, cot, logit, likelihood", store, strategy="guess")

    @pytest.mark.parametrize("strategy", ["logit", "likelihood"])
    def test_a_model_that_cannot_score(self, store, strategy):
        model = FakeModel(abilities=["chat"])
        self.refuse(f"'{strategy}' needs a model that can score, but fake can only chat", store, strategy=strategy,
                    model=model)  # fmt: skip

    @pytest.mark.parametrize("strategy", ["naive", "cot"])
    def test_a_model_that_cannot_chat(self, store, strategy):
        model = FakeModel(abilities=["score"])
        self.refuse("needs a model that can chat, but fake can only score", store, strategy=strategy, model=model)

    def test_an_encoder_takes_no_questions(self, store):
        model = FakeModel(abilities=["score"], instructed=False)
        self.refuse("'logit' asks a question, but fake takes no instructions; use strategy='likelihood'", store,
                    strategy="logit", model=model)  # fmt: skip

    @pytest.mark.parametrize("strategy", ["naive", "cot", "logit"])
    def test_calibration_is_for_likelihood(self, store, strategy):
        self.refuse(f"calibration='batch' is for strategy='likelihood', not '{strategy}'", store, strategy=strategy,
                    calibration="batch")  # fmt: skip

    def test_calibration(self, store):
        self.refuse("calibration 'x' is none of", store, strategy="likelihood", calibration="x")

    def test_data(self, store):
        plain = Dataset.from_dict({"t": ["a"]})
        self.refuse("criticize: no column 'act_label'; the data set has 't'", store, plain)
        self.refuse("criticize: the data set is empty", store, annotated("spam").select([]))
        self.refuse("no column 't'; the data set has 'body'", store, annotated("spam").rename_column("t", "body"))
        numbers = Dataset.from_dict({"t": ["a"], "act_label": ["spam"]})
        self.refuse("pass task=", store, numbers)
        self.refuse("'act_label' is Value.*not a ClassLabel", store, numbers, task=TASK)

    def test_labels_of_another_task(self, store):
        other = Task(labels=["spam", "ham", "other"], text="t")
        says = r"act_label has the labels \['ham', 'spam', 'other'\], but the task has \['spam', 'ham', 'other'\]"
        self.refuse(says, store, task=other)


class TestCallable:
    def test_in_map_of_either_kind(self, store):
        dataset = annotated("spam", "?", "ham")
        expected = criticize(dataset, FakeModel(by=by_text), strategy="logit", store=store)
        critic = Critic(TASK, FakeModel(raise_after=0), strategy="logit", store=store)
        options = {"batched": True, "batch_size": 2, "features": Features({**dataset.features, **critic.features})}
        assert dataset.map(critic, **options).to_dict() == expected.to_dict()
        streamed = dataset.to_iterable_dataset().map(critic, **options)
        assert Dataset.from_list(list(streamed), features=options["features"]).to_dict() == expected.to_dict()

    def test_on_a_dictionary_of_lists(self, store):
        made = Critic(TASK, FakeModel([-1.0] * 6), strategy="logit", store=store)(
            {"t": ["a", "b"], "act_label": [1, None]}
        )
        assert made["act_error_prob"] == [0.5, None]
        assert list(made) == list(Critic(TASK, FakeModel(), strategy="logit", store=store).features)

    def test_pickles(self, store):
        critic = Critic(TASK, FakeModel([-1.0] * 6), strategy="logit", store=store, suffix="_x")
        critic({"t": ["a"], "act_label": [1]})
        copy = pickle.loads(pickle.dumps(critic))
        assert copy({"t": ["a"], "act_label": [1]})["act_error_prob_x"] == [0.5]
        assert copy.usage.calls == 0


def test_says_what_it_did(store):
    dataset = annotated("spam", "?")
    record = stage_records(criticize(dataset, FakeModel([-1.0] * 6), strategy="logit", store=store))[1]
    del record["versions"]
    assert record == {
        "stage": "criticize",
        "model": "fake",
        "strategy": "logit",
        "suffix": "",
        "prompts": prompts.VERSION,
        "calibration": "none",
        "prior": None,
        "rows": 2,
        "failed": 1,
        "usage": {"requests": 1, "calls": 1, "tokens_in": 10, "tokens_out": 0, "seconds": 0.5},
    }


def test_a_task_given_wins(store):
    task = Task(labels=["ham", "spam", "other"], text="t", instruction="Something else?")
    model = FakeModel([-1.0] * 6)
    criticize(annotated("spam"), model, task=task, strategy="logit", store=store)
    assert "Something else?" in model.asked[0].messages[0]["content"]
