from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from support.fakes import FakeModel, by_text, shown

from act_hf.annotators import COLUMNS, Annotator, annotate
from act_hf.ensemble import Ensemble
from act_hf.errors import ACTError
from act_hf.models.asking import LimitReached
from act_hf.models.base import Answer, ChatRequest
from act_hf.models.store import Store
from act_hf.records import stage_records
from act_hf.task import Task


TASK = Task(labels=["ham", "spam", "other"], text="t", instruction="Is it spam?")
ONE = {"a": [-1.0, -2.0, -3.0], "b": [-0.1, -3.0, -3.0], "c": [-2.0, -0.5, -2.5]}
TWO = {"a": [-3.0, -0.2, -4.0], "b": [-1.0, -0.9, -2.0], "c": [-30.0, -1.0, -0.5]}


def rows(*texts: str | None) -> Dataset:
    return Dataset.from_dict({"t": list(texts)}, features=Features({"t": Value("string")}))


def logs(scores: dict[str, list[float]]) -> np.ndarray:
    values = np.array(list(scores.values()))
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


def pooled(*each: np.ndarray) -> np.ndarray:
    weights = np.exp(np.mean(each, axis=0))
    return weights / weights.sum(axis=1, keepdims=True)


def model(scores, name: str, **options) -> FakeModel:
    return FakeModel(by=lambda request: scores[shown(request)], name=name, **options)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "answers.sqlite")


class TestPooling:
    def test_is_the_mean_of_the_log_probabilities(self, store):
        done = annotate(rows(*"abc"), TASK, [model(ONE, "one"), model(TWO, "two")], store=store)
        expected = pooled(logs(ONE), logs(TWO))
        np.testing.assert_allclose(done["act_label_probs"][:], expected, atol=1e-6)
        assert done["act_label"][:] == expected.argmax(axis=1).tolist() == [1, 0, 1]
        assert done.column_names == ["t", *COLUMNS]

    def test_what_a_model_does_not_normalise_is_normalised_first(self, store):
        loud = {text: [value + 50 * i for value in values] for i, (text, values) in enumerate(ONE.items(), 1)}
        done = annotate(rows(*"abc"), TASK, [model(loud, "one"), model(TWO, "two")], store=store)
        np.testing.assert_allclose(done["act_label_probs"][:], pooled(logs(ONE), logs(TWO)), atol=1e-6)

    def test_each_prior_is_taken_out_first(self, store):
        models = [model(ONE, "one"), model(TWO, "two")]
        done = annotate(rows(*"abc"), TASK, models, calibration="batch", store=store)
        priors = [logs(scores).mean(axis=0) for scores in (ONE, TWO)]
        expected = pooled(*(logs(scores) - prior for scores, prior in zip((ONE, TWO), priors, strict=True)))
        np.testing.assert_allclose(done["act_label_probs"][:], expected, atol=1e-6)
        np.testing.assert_allclose(stage_records(done)[0]["prior"], priors)
        assert [one.calls for one in models] == [3, 3]

    def test_the_order_of_the_models_does_not_matter(self, store):
        models = [model(ONE, "one"), model(TWO, "two")]
        forth, back = (annotate(rows(*"abc"), TASK, order, store=store) for order in (models, models[::-1]))
        assert forth["act_label_probs"][:] == back["act_label_probs"][:]

    def test_one_model_in_a_list_is_that_model(self, store):
        alone = annotate(rows(*"abc"), TASK, model(ONE, "one"), store=store)
        listed = annotate(rows(*"abc"), TASK, (model(ONE, "one"),), store=store)
        assert listed.to_dict() == alone.to_dict()
        assert stage_records(listed)[0]["model"] == "one"

    def test_one_model_alone_can_be_without_probabilities(self, store):
        done = annotate(rows("a"), TASK, [FakeModel("spam", abilities=["chat"])], store=store)
        assert done["act_label"][:] == [1]

    def test_twice_the_same_says_the_same(self, store):
        alone = annotate(rows(*"abc"), TASK, model(ONE, "one"), store=store)
        one = model(ONE, "one")
        twice = annotate(rows(*"abc"), TASK, [one, one], store=store)
        np.testing.assert_allclose(twice["act_label_probs"][:], alone["act_label_probs"][:], atol=1e-7)

    def test_with_an_encoder(self, store):
        encoder = model(TWO, "encoder", abilities=["choose"], instructed=False)
        done = annotate(rows(*"abc"), TASK, [model(ONE, "one"), encoder], store=store)
        np.testing.assert_allclose(done["act_label_probs"][:], pooled(logs(ONE), logs(TWO)), atol=1e-6)
        assert {len(request.messages) for request in encoder.asked} == {1}

    def test_reasons_are_joined(self, store):
        def says(scores, word):
            return lambda request: word if isinstance(request, ChatRequest) else scores

        models = [FakeModel(by=says([-1, -2, -3], word), name=word) for word in ("First.", "", "Third.")]
        done = annotate(rows("a"), TASK, models, strategy="cot", store=store)
        assert done["act_rationale"][:] == ["First.\nThird."]
        assert annotate(rows("a"), TASK, models, store=store)["act_rationale"][:] == [None]


class TestFailures:
    def fails_on(self, text: str, failure: str, name: str) -> FakeModel:
        return FakeModel(
            by=lambda request: Answer(failure=failure) if shown(request) == text else TWO[shown(request)], name=name
        )

    def test_of_one_member_is_one_of_the_row_alone(self, store):
        done = annotate(rows(*"abc"), TASK, [model(ONE, "one"), self.fails_on("b", "too long", "two")], store=store)
        assert done["act_failure"][:] == [None, "annotate: too long", None]
        assert done["act_label"][:] == [1, None, 1]
        assert done["act_label_probs"][1] is None

    def test_the_first_one_is_told(self, store):
        models = [model(ONE, "one"), self.fails_on("a", "first", "two"), self.fails_on("a", "second", "three")]
        assert annotate(rows("a"), TASK, models, store=store)["act_failure"][:] == ["annotate: first"]

    def test_the_next_run_asks_that_one_alone(self, store):
        annotate(rows(*"abc"), TASK, [model(ONE, "one"), self.fails_on("b", "too long", "two")], store=store)
        one, two = model(ONE, "one"), model(TWO, "two")
        done = annotate(rows(*"abc"), TASK, [one, two], store=store)
        assert (one.calls, two.calls) == (0, 1)
        assert done["act_failure"][:] == [None] * 3

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_no_number_fails_the_row(self, store, bad):
        odd = {**TWO, "b": [-1.0, bad, -2.0]}
        done = annotate(rows(*"abc"), TASK, [model(ONE, "one"), model(odd, "two")], store=store)
        assert [failure is None for failure in done["act_failure"]] == [True, False, True]
        assert done["act_failure"][1].startswith("annotate: the model gave [")

    def test_does_not_spoil_the_priors(self, store):
        models = [model(ONE, "one"), self.fails_on("b", "too long", "two")]
        done = annotate(rows(*"abc"), TASK, models, calibration="batch", store=store)
        np.testing.assert_allclose(stage_records(done)[0]["prior"][0], logs(ONE).mean(axis=0))
        np.testing.assert_allclose(stage_records(done)[0]["prior"][1], logs(TWO)[[0, 2]].mean(axis=0))

    def test_empty_rows(self, store):
        models = [model(ONE, "one"), model(TWO, "two")]
        done = annotate(rows("a", "", None), TASK, models, store=store)
        assert done["act_failure"][:] == [None, *["annotate: the row is empty"] * 2]
        assert [one.calls for one in models] == [1, 1]
        nothing = annotate(rows("", None), TASK, models, store=store)
        assert nothing["act_label"][:] == nothing["act_label_probs"][:] == [None, None]


class TestRefusals:
    def test_a_member_that_cannot_choose(self, store):
        models = [model(ONE, "one"), FakeModel(abilities=["chat"], name="talker")]
        says = (
            "^an ensemble of annotators needs a model that can say how probable .* but talker can only reply in words$"
        )
        for order in (models, models[::-1]):
            with pytest.raises(ACTError, match=says):
                annotate(rows("a"), TASK, order, store=store)
        assert [one.calls for one in models] == [0, 0]
        assert not store.path.exists()

    def test_a_member_that_cannot_do_the_strategy(self, store):
        models = [model(ONE, "one"), model(TWO, "mute", abilities=["choose"])]
        with pytest.raises(ACTError, match="'cot' needs a model that can reply in words, but mute can only"):
            annotate(rows("a"), TASK, models, strategy="cot", store=store)

    @pytest.mark.parametrize("none", [[], ()])
    def test_nobody(self, store, none):
        with pytest.raises(ACTError, match=r"^an ensemble of annotators needs at least one model$"):
            annotate(rows("a"), TASK, none, store=store)


class TestRuns:
    def test_says_what_it_did(self, store):
        models = [model(ONE, "one", cost=0.25), model(TWO, "two", cost=0.5)]
        (record,) = stage_records(annotate(rows(*"abc"), TASK, models, store=store))
        assert (record["model"], record["prior"], record["failed"]) == ("one + two", [None, None], 0)
        usage = record["usage"]
        assert (usage["requests"], usage["calls"], usage["cost"], usage["spent"]) == (6, 6, 2.25, 2.25)

    def test_limits_are_of_all_together(self, store):
        models = [model(ONE, "one"), model(TWO, "two")]
        with pytest.raises(LimitReached):
            annotate(rows(*"abc"), TASK, models, store=store, max_calls=4)
        assert [one.calls for one in models] == [3, 1]
        resumed = [model(ONE, "one"), model(TWO, "two")]
        annotate(rows(*"abc"), TASK, resumed, store=store, max_calls=2)
        assert [one.calls for one in resumed] == [0, 2]

    def test_a_free_model_does_not_lift_the_limit_of_a_paid_one(self, store):
        texts = [f"row {i}" for i in range(20)]
        free, paid = FakeModel(by=by_text, name="free"), FakeModel(by=by_text, name="paid", cost=0.5)
        with pytest.raises(LimitReached):
            annotate(rows(*texts), TASK, [free, paid], store=store, max_cost=2)
        assert (free.calls, paid.calls) == (20, 4)

    def test_rows_go_out_as_the_most_concurrent_one_needs(self, store):
        models = [FakeModel(by=by_text, name="one"), FakeModel(by=by_text, name="two")]
        models[1].concurrency = 100
        annotate(rows(*(f"row {i}" for i in range(100))), TASK, models, store=store)
        assert [one.sizes for one in models] == [[100], [100]]

    def test_is_a_batched_callable_that_pickles(self, store):
        members = tuple(Annotator(TASK, FakeModel(by=by_text, name=name), store=store) for name in "ab")
        members[0].prior = (-1.0, -0.5, -2.0)
        made = Ensemble(members)({"t": ["x", None, "y"], "more": [1, 2, 3]})
        assert list(made) == list(COLUMNS)
        assert [label is None for label in made["act_label"]] == [False, True, False]
        for member in members:
            member.model = FakeModel(raise_after=0, name=member.model.name)  # a function does not pickle
        copy = pickle.loads(pickle.dumps(Ensemble(members)))
        assert copy({"t": ["x", None, "y"]}) == made
