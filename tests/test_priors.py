from __future__ import annotations

import math
import re

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture
from support.fakes import FakeModel, by_text, shown

from act_hf.annotators import Annotator, annotate
from act_hf.errors import ACTError
from act_hf.models.asking import LimitReached, Usage
from act_hf.models.base import Answer, ChatRequest
from act_hf.models.store import Store
from act_hf.priors import fit_prior, normalised_logprobs
from act_hf.records import stage_records
from act_hf.task import Task


TASK = Task(labels=["ham", "spam", "other"], text="t", instruction="Is it spam?")
SCORES = np.array([[-1.0, -2.0, -3.2], [-1.0, -1.5, -4.0], [-0.5, -3.0, -2.5], [-2.0, -1.0, -3.0]])
FREE = {"N/A": [-1.0, -2.0, -3.0], "[MASK]": [-0.5, -2.5, -3.0], "": [-1.0, -1.0, -1.0]}
NAN = math.nan


def rows(*texts: str | None) -> Dataset:
    return Dataset.from_dict({"t": list(texts)}, features=Features({"t": Value("string")}))


def many(count: int) -> Dataset:
    return rows(*(f"row number {i}" for i in range(count)))


def softmax(values) -> np.ndarray:
    weights = np.exp(np.asarray(values, dtype=float))
    return weights / weights.sum()


LOGS = np.log([softmax(row) for row in SCORES])


def by(request):
    return FREE[shown(request)] if shown(request) in FREE else SCORES["abcd".index(shown(request))]


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "answers.sqlite")


class TestBatch:
    def test_takes_out_the_mean_log_probability(self, store):
        done = annotate(rows(*"abcd"), TASK, FakeModel(by=by), calibration="batch", store=store)
        prior = LOGS.mean(axis=0)
        expected = [softmax(row - prior) for row in LOGS]
        np.testing.assert_allclose(done["act_label_probs"][:], expected, atol=1e-6)
        assert done["act_label"][:] == [int(row.argmax()) for row in np.array(expected)]
        (record,) = stage_records(done)
        np.testing.assert_allclose(record["prior"], prior)

    def test_asks_nothing_twice_and_counts_each_request_once(self, store):
        model = FakeModel(by=by, cost=0.5)
        (record,) = stage_records(annotate(rows(*"abcda"), TASK, model, calibration="batch", store=store))
        assert model.calls == 4
        assert record["usage"] == {
            "requests": 4,
            "calls": 4,
            "tokens_in": 40,
            "tokens_out": 0,
            "seconds": 2.0,
            "cost": 2.0,
            "spent": 2.0,
        }

    def test_a_row_without_numbers_spoils_no_other(self, store):
        def some(request):
            return {"n": [NAN] * 3, "i": [-1, -math.inf, -2]}.get(shown(request)) or by(request)

        done = annotate(rows(*"nabicd"), TASK, FakeModel(by=some), calibration="batch", store=store)
        whole = annotate(rows(*"abcd"), TASK, FakeModel(by=some), calibration="batch", store=store)
        assert [failure is None for failure in done["act_failure"]] == [False, True, True, False, True, True]
        assert [done["act_label_probs"][i] for i in (1, 2, 4, 5)] == whole["act_label_probs"][:]
        assert done["act_label"][0] is None

    def test_nor_does_one_that_the_model_failed_on(self, store):
        def some(request):
            return Answer(failure="too long") if shown(request) == "long" else (-1.0, -2.0, -3.0)

        done = annotate(rows("a", "long", "b"), TASK, FakeModel(by=some), store=store, calibration="batch")
        assert done["act_failure"][:] == [None, "annotate: too long", None]
        assert done["act_label_probs"][0] == pytest.approx([1 / 3] * 3)

    def test_empty_rows_do_not_count(self, store):
        done = annotate(rows("a", "", "b", None), TASK, FakeModel(by=by), calibration="batch", store=store)
        np.testing.assert_allclose(stage_records(done)[0]["prior"], LOGS[:2].mean(axis=0))

    def test_after_reasoning(self, store):
        def reasoned(request):
            return (
                f"{shown(request)}!"
                if isinstance(request, ChatRequest)
                else by_reasoning[request.messages[-2]["content"]]
            )

        by_reasoning = {"a!": SCORES[0], "b!": SCORES[1]}
        model = FakeModel(by=reasoned)
        done = annotate(rows("a", "b"), TASK, model, strategy="cot", calibration="batch", store=store)
        np.testing.assert_allclose(stage_records(done)[0]["prior"], LOGS[:2].mean(axis=0))
        assert done["act_rationale"][:] == ["a!", "b!"]
        assert (model.calls, stage_records(done)[0]["usage"]["requests"]) == (4, 4)

    @pytest.mark.parametrize("batch_size", [3, 10, 64])
    def test_uses_evenly_spaced_rows_whatever_the_batch(self, store, batch_size):
        annotator = Annotator(TASK, FakeModel(by=by_text), store=store)
        fit_prior(annotator, many(100), rows=12, batch_size=batch_size)
        numbers = sorted(int(shown(request).split()[-1]) for request in annotator.model.asked)
        assert numbers == [9 * i for i in range(12)]
        fit_prior(annotator, many(100), rows=1000, batch_size=64)
        assert annotator.model.calls == 100

    @pytest.mark.parametrize("dataset", [rows("", None), rows("n", "n")])
    def test_nothing_to_go_by(self, store, dataset):
        with pytest.raises(ACTError, match="calibration='batch': there is no row with content"):
            annotate(dataset, TASK, FakeModel(by=lambda request: [NAN] * 3), calibration="batch", store=store)

    @pytest.mark.parametrize("kind", ["numpy", "torch", "pandas", "arrow"])
    def test_rows_are_read_as_they_are_whatever_the_format(self, store, kind):
        plain = annotate(rows(*"abcd"), TASK, FakeModel(by=by), calibration="batch", store=store)
        model = FakeModel(raise_after=0)
        formatted = annotate(rows(*"abcd").with_format(kind), TASK, model, calibration="batch", store=store)
        assert formatted.with_format(None).to_dict() == plain.to_dict()

    def test_images_whatever_the_format(self, store):
        task = Task(labels=["dark", "light"], image="i")
        dataset = Dataset.from_dict({"i": [Picture.new("L", (2, 2), level) for level in (0, 255)]})
        model = FakeModel([-1.0, -2.0], [-3.0, -1.0], abilities=["choose", "image"])
        done = annotate(dataset.with_format("torch"), task, model, calibration="batch", store=store)
        assert done.with_format(None)["act_label"][:] == [0, 1]
        assert model.calls == 2


class TestContextual:
    def test_takes_out_the_mean_probability_of_rows_that_say_nothing(self, store):
        model = FakeModel(by=by)
        done = annotate(rows(*"abcd"), TASK, model, calibration="contextual", store=store)
        prior = np.log(np.mean([softmax(row) for row in FREE.values()], axis=0))
        expected = [softmax(row - prior) for row in SCORES]
        np.testing.assert_allclose(done["act_label_probs"][:], expected, atol=1e-6)
        np.testing.assert_allclose(stage_records(done)[0]["prior"], prior)
        assert model.calls == 7
        usage = stage_records(done)[0]["usage"]
        assert (usage["requests"], usage["calls"]) == (4, 7)  # what was asked to calibrate is paid, not counted

    def test_without_numbers(self, store):
        annotator = Annotator(TASK, FakeModel(by=lambda request: Answer(failure="no")), store=store)
        with pytest.raises(ACTError, match="calibration='contextual': there is no row with content"):
            fit_prior(annotator, many(3), method="contextual")

    def test_no_picture_says_nothing(self, store):
        task = Task(labels=["a", "b"], image="i")
        dataset = Dataset.from_dict({"i": [Picture.new("RGB", (2, 2))]})
        model = FakeModel(abilities=["choose", "image"])
        with pytest.raises(ACTError, match="calibration='contextual' has no image that says nothing; use 'batch'"):
            annotate(dataset, task, model, calibration="contextual", store=store)
        assert model.calls == 0


class TestRefusals:
    def test_method(self, store):
        with pytest.raises(ACTError, match=r"^calibration 'rank' is none of none, batch, contextual$"):
            fit_prior(Annotator(TASK, FakeModel(), store=store), many(1), method="rank")

    def test_a_model_without_probabilities(self, store):
        annotator = Annotator(TASK, FakeModel(abilities=["chat"]), store=store)
        says = re.escape("calibration='batch' needs a model that can say how probable each of some replies is")
        with pytest.raises(ACTError, match=says):
            fit_prior(annotator, many(1))


class TestCalibrating:
    @pytest.mark.parametrize("method", ["batch", "contextual"])
    def test_is_over_afterwards(self, store, method):
        annotator = Annotator(TASK, FakeModel(by=by_text), store=store)
        fit_prior(annotator, many(3), method=method)
        assert not annotator.usage.calibrating
        assert (annotator.usage.requests, annotator.usage.calls) == (0, 3)

    @pytest.mark.parametrize("method", ["batch", "contextual"])
    def test_also_when_the_model_breaks_off(self, store, method):
        annotator = Annotator(TASK, FakeModel(by=by_text, raise_after=0), store=store)
        with pytest.raises(RuntimeError, match="break off"):
            fit_prior(annotator, many(3), method=method)
        assert not annotator.usage.calibrating

    def test_is_within_the_limits(self, store):
        annotator = Annotator(TASK, FakeModel(by=by_text), store=store, usage=Usage(max_calls=3))
        with pytest.raises(LimitReached):
            fit_prior(annotator, many(10))
        assert (annotator.model.calls, annotator.usage.calibrating) == (3, False)


LOGPROBS = st.lists(st.lists(st.floats(-1e4, 0), min_size=3, max_size=3), min_size=1, max_size=5).map(np.array)


class TestNormalisedLogprobs:
    @given(LOGPROBS, st.none() | st.lists(st.floats(-100, 0), min_size=3, max_size=3))
    def test_are_those_of_a_distribution(self, logprobs, prior):
        normalised = normalised_logprobs(logprobs, prior)
        np.testing.assert_allclose(np.exp(normalised).sum(axis=1), 1, atol=1e-9)

    @given(LOGPROBS)
    def test_keep_the_differences(self, logprobs):
        normalised = normalised_logprobs(logprobs)
        np.testing.assert_allclose(np.diff(normalised), np.diff(logprobs), atol=1e-8)
        np.testing.assert_allclose(normalised_logprobs(normalised), normalised, atol=1e-8)

    def test_a_prior_that_prefers_nothing_changes_nothing(self):
        np.testing.assert_allclose(normalised_logprobs(LOGS, [0, 0, 0]), LOGS)
        np.testing.assert_allclose(normalised_logprobs(LOGS, [5, 5, 5]), LOGS)

    def test_a_prior_moves_its_label_alone(self):
        shifted = normalised_logprobs(LOGS, [-1, 0, 0])
        np.testing.assert_allclose(shifted[:, 1] - shifted[:, 2], LOGS[:, 1] - LOGS[:, 2])
        np.testing.assert_allclose(shifted[:, 0] - shifted[:, 1], LOGS[:, 0] - LOGS[:, 1] + 1, atol=1e-12)

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
    def test_a_row_that_is_not_finite_stays_as_it_is(self, bad):
        logprobs = np.array([[-1.0, bad, -2.0], [-1.0, -2.0, -3.0]])
        normalised = normalised_logprobs(logprobs, [-1, 0, 0])
        np.testing.assert_array_equal(normalised[0], logprobs[0])
        np.testing.assert_allclose(np.exp(normalised[1]).sum(), 1)

    def test_no_rows(self):
        assert normalised_logprobs(np.empty((0, 3))).shape == (0, 3)
