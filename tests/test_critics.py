from __future__ import annotations

import math
import pickle
import re

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture
from support.fakes import FakeModel, by_text, message_text, shown, system

from act_hf import prompts
from act_hf.annotators import annotate
from act_hf.columns import column_features
from act_hf.critics import CALIBRATIONS, STRATEGIES, Critic, criticize
from act_hf.errors import ACTError
from act_hf.models.base import Answer, ChatRequest, ScoreRequest
from act_hf.models.store import Store
from act_hf.records import stage_records
from act_hf.sampling import sample
from act_hf.task import Task


TASK = Task(labels=["ham", "spam", "other"], text="t", instruction="Is it spam?", words=["fine", "junk", "rest"])
PICTURES = Task(labels=["dark", "light"], image="i")
NAN = math.nan

STATED = ("naive", "cot", "devil")
CHATTING = (*STATED, "mc")
ASKING = (*CHATTING, "logit", "cot_logit", "ppl")
REQUESTS = {
    "naive": lambda row, label, limit: prompts.naive_request(TASK, row, label, max_tokens=limit),
    "cot": lambda row, label, limit: prompts.cot_request(TASK, row, label, max_tokens=limit),
    "devil": lambda row, label, limit: prompts.devil_request(TASK, row, label, rationale=None, max_tokens=limit),
    "mc": lambda row, label, limit: prompts.grade_request(TASK, row, label, max_tokens=limit),
    "logit": lambda row, label, limit: prompts.logit_request(TASK, row, label),
    "cot_logit": lambda row, label, limit: prompts.cot_request(TASK, row, label, max_tokens=limit),
    "ppl": lambda row, label, limit: prompts.perplexity_request(TASK, row, label),
    "likelihood": lambda row, label, limit: prompts.label_request(TASK, row, instructed=True),
}
"""What each strategy asks first."""


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "answers.sqlite")


def annotated(*labels: str, **columns: list) -> Dataset:
    """A row per label, "row 0" and so on, labelled by a model that says so; "?" is no label."""
    dataset = Dataset.from_dict({"t": [f"row {i}" for i in range(len(labels))], **columns})
    model = FakeModel(by=lambda request: labels[int(message_text(request, 1).split()[-1])], abilities=["chat"])
    return annotate(dataset, TASK, model, store=Store(":memory:"))


def row(number: int) -> dict[str, str]:
    return {"t": f"row {number}"}


def chatty(*replies, **options) -> FakeModel:
    return FakeModel(*replies, abilities=["chat"], **options)


def softmax(values) -> np.ndarray:
    weights = np.exp(np.asarray(values, dtype=float))
    return weights / weights.sum()


def test_every_strategy_is_tested():
    assert set(REQUESTS) == set(STRATEGIES) == {*ASKING, "likelihood"}


class TestWhatIsAsked:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_a_row_with_a_label_each(self, store, strategy):
        model = FakeModel(by=by_text)
        criticize(annotated("spam", "?", "ham"), model, strategy=strategy, store=store)
        limit = STRATEGIES[strategy].max_tokens
        expected = [REQUESTS[strategy](row(number), label, limit) for number, label in ((2, 0), (0, 1))]
        assert model.asked[:2] == expected

    @pytest.mark.parametrize("strategy", ASKING)
    def test_contains_the_task_the_row_and_the_claim(self, store, strategy):
        model = FakeModel(by=by_text)
        criticize(annotated("spam"), model, strategy=strategy, store=store)
        for request in model.asked:
            assert "Is it spam?" in system(request)
            assert "Labels: fine, junk, rest" in system(request)
            assert message_text(request, 1) == 'row 0\n\nProposed label: "junk"'

    @pytest.mark.parametrize(("strategy", "limit"), [("naive", 24), ("mc", 24), ("cot", 160), ("devil", 160)])
    @pytest.mark.parametrize("given_limit", [None, 7])
    def test_the_longest_reply(self, store, strategy, limit, given_limit):
        model = FakeModel(by=lambda request: "hm")
        criticize(annotated("spam"), model, strategy=strategy, store=store, max_tokens=given_limit)
        longest = given_limit or limit
        assert [request.max_tokens for request in model.asked] == [longest, min(longest, 24)]  # a number is short

    def test_grades_are_choices(self, store):
        model = chatty("B")
        criticize(annotated("spam"), model, strategy="mc", store=store)
        assert model.asked[0].choices == ("A", "B", "C", "D", "E")

    @pytest.mark.parametrize("strategy", STATED)
    def test_a_probability_is_not_a_choice(self, store, strategy):
        model = chatty("5 %")
        criticize(annotated("spam"), model, strategy=strategy, store=store)
        assert model.asked[0].choices == ()

    def test_the_devil_reads_the_annotators_reasoning(self, store):
        dataset = annotated("spam", "ham", "ham").remove_columns("act_rationale")
        dataset = dataset.add_column("act_rationale", ["It sells.", None, ""])
        model = chatty("5 %", "5 %", "5 %")
        criticize(dataset, model, strategy="devil", store=store)
        assert [shown(request) for request in model.asked] == [
            'row 0\n\nProposed label: "junk"\nReasoning given for it: It sells.',
            'row 1\n\nProposed label: "fine"',
            'row 2\n\nProposed label: "fine"',
        ]

    @pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "devil"])
    def test_nobody_else_does(self, store, strategy):
        dataset = annotated("spam").remove_columns("act_rationale").add_column("act_rationale", ["It sells."])
        model = FakeModel(by=by_text)
        criticize(dataset, model, strategy=strategy, store=store)
        assert not any("It sells" in message_text(request, 1) for request in model.asked)

    def test_a_data_set_without_reasoning(self, store):
        model = chatty("5 %")
        criticize(annotated("spam").remove_columns("act_rationale"), model, strategy="devil", store=store)
        assert "Reasoning" not in shown(model.asked[0])

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_images_are_shown(self, store, strategy):
        picture = Picture.new("RGB", (2, 2), (1, 2, 3))
        dataset = Dataset.from_dict({"i": [picture]})
        labeller = FakeModel([-1.0, -2.0], abilities=["choose", "image"])
        dataset = annotate(dataset, PICTURES, labeller, store=Store(":memory:"))
        model = FakeModel(by=by_text, abilities=["chat", "choose", "score", "image"])
        done = criticize(dataset, model, strategy=strategy, store=store)
        assert done["act_failure"][:] == [None]
        for request in model.asked:
            image, *_ = request.messages[1]["content"]
            assert image["type"] == "image"
            assert image["image"].tobytes() == picture.tobytes()


class TestStated:
    @pytest.mark.parametrize("strategy", STATED)
    def test_the_probability(self, store, strategy):
        replies = ["20 %", "It fits.\nAnswer: 95%", '{"probability": 0.7}']
        model = chatty(*replies)
        done = criticize(annotated("spam", "ham", "other"), model, strategy=strategy, store=store)
        np.testing.assert_allclose(done["act_error_prob"][:], [0.8, 0.05, 0.3], atol=1e-7)
        assert done["act_critique"][:] == replies
        assert done["act_failure"][:] == [None] * 3
        assert model.calls == 3

    def test_the_grade(self, store):
        replies = ["A", "B: probably right", "(c)", "Answer: D", "certainly wrong"]
        model = chatty(*replies)
        done = criticize(annotated(*["spam"] * 5), model, strategy="mc", store=store)
        np.testing.assert_allclose(done["act_error_prob"][:], [0.05, 0.25, 0.5, 0.75, 0.95], atol=1e-7)
        assert done["act_critique"][:] == replies

    @pytest.mark.parametrize(
        ("strategy", "repair", "good", "value"),
        [(name, prompts.repair_probability, "70 %", 0.3) for name in STATED]
        + [("mc", prompts.repair_grade, "D", 0.75)],
    )
    def test_one_repair_for_those_without_a_value(self, store, strategy, repair, good, value):
        first = [good, "no idea", "hm", "eh", Answer(failure="HTTP 500")]
        again = [good, "still no idea", Answer(failure="HTTP 429")]
        model = chatty(*first, *again, batch_size=10)
        done = criticize(annotated(*["spam"] * 5), model, strategy=strategy, store=store)
        wanted = "grade" if strategy == "mc" else "single probability"
        assert model.sizes == [5, 3]  # nobody is asked a third time, and who failed is not asked again
        np.testing.assert_allclose(done["act_error_prob"][:2], [value, value], atol=1e-7)
        assert done["act_error_prob"][2:] == [None] * 3
        # What was first said is kept: a critique where there is one, and what to look at where there is none.
        assert done["act_critique"][:] == [good, "no idea", "hm", "eh", None]
        assert done["act_failure"][:] == [
            None,
            None,
            f"criticize: no {wanted} in the reply 'hm'",
            f"criticize: no {wanted} in the reply 'eh'",
            "criticize: HTTP 500",
        ]
        repaired = list(zip(model.asked[1:4], ["no idea", "hm", "eh"], strict=True))
        assert model.asked[5:] == [repair(request, reply) for request, reply in repaired]

    @pytest.mark.parametrize("strategy", STATED)
    def test_a_number_that_may_be_that_of_an_error_is_asked_about(self, store, strategy):
        model = chatty("Answer: 90 % that it is wrong", "10 %")
        done = criticize(annotated("spam"), model, strategy=strategy, store=store)
        np.testing.assert_allclose(done["act_error_prob"][:], [0.9], atol=1e-7)
        assert (model.calls, model.asked[1].max_tokens) == (2, 24)

    @pytest.mark.parametrize("strategy", CHATTING)
    def test_repairs_are_stored_too(self, store, strategy):
        dataset = annotated("spam", "ham")
        first = criticize(dataset, chatty("eh", "hm", "B: 30 %", "B: 40 %"), strategy=strategy, store=store)
        assert first["act_failure"][:] == [None, None]
        again = criticize(dataset, chatty(raise_after=0), strategy=strategy, store=store)
        assert again.to_dict() == first.to_dict()

    @pytest.mark.parametrize("strategy", CHATTING)
    def test_a_long_reply_is_cut_in_the_failure_alone(self, store, strategy):
        done = criticize(annotated("spam"), chatty("x" * 1000, ""), strategy=strategy, store=store)
        assert len(done["act_failure"][0]) < 260
        assert done["act_critique"][0] == "x" * 1000

    @pytest.mark.parametrize("strategy", STATED)
    def test_a_reply_that_a_row_dictates_is_still_a_probability(self, store, strategy):
        dataset = Dataset.from_dict({"t": ["Answer: 500 %", "Answer: -1", "Answer: 0 %"]})
        dataset = annotate(dataset, TASK, chatty(*["spam"] * 3), store=Store(":memory:"))
        parrot = FakeModel(by=lambda request: message_text(request, 1).split("\n")[0], abilities=["chat"])
        done = criticize(dataset, parrot, strategy=strategy, store=store)
        assert done["act_error_prob"][:] == [None, None, 1.0]

    @settings(max_examples=30, deadline=None)
    @given(st.sampled_from(CHATTING), st.text(), st.text())
    def test_any_reply_is_a_probability_or_a_failure(self, strategy, reply, repaired):
        made = Critic(TASK, chatty(reply, repaired), strategy, ":memory:")({"t": ["a"], "act_label": [1]})
        (value,), (failure,) = made["act_error_prob"], made["act_failure"]
        assert (value is None) == (failure is not None)
        assert value is None or 0 <= value <= 1
        assert made["act_critique"] == [reply]


class TestLogit:
    def test_is_the_share_of_no(self, store):
        scores = [[-1.0, -2.0, -3.0, -1.5, -2.5, -9.0], [-5.0, -6.0, -7.0, -0.1, -3.0, -4.0]]
        model = FakeModel(*scores, abilities=["choose"])
        done = criticize(annotated("spam", "ham"), model, strategy="logit", store=store)
        expected = [np.exp(values[3:]).sum() / np.exp(values).sum() for values in scores]
        np.testing.assert_allclose(done["act_error_prob"][:], expected, atol=1e-7)
        assert done["act_critique"][0] == 'asked "is the label right?": yes 64%, no 36%'

    @pytest.mark.parametrize("strategy", ["logit", "cot_logit"])
    @pytest.mark.parametrize(
        ("scores", "expected"),
        [
            ([-math.inf] * 3 + [-1.0] * 3, 1.0),
            ([-1.0] * 3 + [-math.inf] * 3, 0.0),
            ([-1e6, -math.inf, -math.inf, -1.0, -1.0, -1.0], 1.0),
            ([-2000.0] * 6, 0.5),
        ],
    )
    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_far_ends(self, store, scores, expected, strategy):
        model = FakeModel(by=lambda request: "Hm." if isinstance(request, ChatRequest) else scores)
        done = criticize(annotated("spam"), model, strategy=strategy, store=store)
        assert done["act_error_prob"][0] == pytest.approx(expected, abs=1e-7)
        assert done["act_failure"][0] is None

    @pytest.mark.parametrize("strategy", ["logit", "cot_logit"])
    @pytest.mark.parametrize(
        "scores",
        [[-math.inf] * 6, [NAN] * 6, [NAN, *[-1.0] * 5], [*[-1.0] * 5, NAN], [*[-1.0] * 5, math.inf]],
    )
    def test_no_number_is_a_failure(self, store, scores, strategy):
        def by(request):
            if isinstance(request, ChatRequest):
                return "Hm."
            return scores if "row 0" in message_text(request, 1) else [-1.0] * 6

        done = criticize(annotated("spam", "ham"), FakeModel(by=by), strategy=strategy, store=store)
        assert done["act_error_prob"][:] == [None, 0.5]
        assert done["act_failure"][0].startswith("criticize: the model gave [")
        assert done["act_failure"][0].endswith("] for the spellings of yes and no")
        assert done["act_failure"][1] is None


class TestCotLogit:
    scores = ([-1.0, -2.0, -3.0, -1.5, -2.5, -9.0], [-5.0, -6.0, -7.0, -0.1, -3.0, -4.0])

    def by(self, request):
        number = int(message_text(request, 1).split("\n")[0].split()[-1])
        return f"Reasons {number}.\nAnswer: {number}0 %" if isinstance(request, ChatRequest) else self.scores[number]

    def test_is_the_share_of_no_after_reasoning(self, store):
        model = FakeModel(by=self.by, abilities=["chat", "choose"])
        done = criticize(annotated("spam", "ham"), model, strategy="cot_logit", store=store)
        expected = [np.exp(values[3:]).sum() / np.exp(values).sum() for values in self.scores]
        np.testing.assert_allclose(done["act_error_prob"][:], expected, atol=1e-7)
        assert done["act_critique"][0] == 'Reasons 0.\nAnswer: 00 %\nasked "is the label right?": yes 64%, no 36%'
        assert model.asked[2:] == [
            prompts.cot_logit_request(TASK, row(i), label, f"Reasons {i}.\nAnswer: {i}0 %")
            for i, label in ((1, 0), (0, 1))
        ]

    def test_shares_its_reasoning_with_cot(self, store):
        dataset = annotated("spam", "ham")
        first, second, third = (FakeModel(by=self.by) for _ in range(3))
        criticize(dataset, first, strategy="cot", store=store)
        criticize(dataset, second, strategy="cot_logit", store=store)
        criticize(dataset, third, strategy="cot", store=store)
        assert {type(request) for request in first.asked} == {ChatRequest}
        assert [type(request) for request in second.asked] == [ScoreRequest] * 2
        assert third.calls == 0

    def test_other_limits_are_other_reasoning(self, store):
        dataset = annotated("spam", "ham")
        criticize(dataset, FakeModel(by=self.by), strategy="cot", store=store)
        model = FakeModel(by=self.by)
        criticize(dataset, model, strategy="cot_logit", store=store, max_tokens=9)
        assert model.calls == 4

    def test_reasoning_needs_no_probability(self, store):
        model = FakeModel("I cannot say.", [-1.0] * 6)
        done = criticize(annotated("spam"), model, strategy="cot_logit", store=store)
        assert (done["act_error_prob"][:], model.calls) == ([0.5], 2)

    def test_reasoning_that_failed_is_not_gone_on_with(self, store):
        model = FakeModel("Well.", Answer(failure="HTTP 500"), "So.", [-1.0] * 6, Answer(failure="HTTP 429"))
        done = criticize(annotated("spam", "ham", "other"), model, strategy="cot_logit", store=store)
        assert done["act_error_prob"][:] == [0.5, None, None]
        assert done["act_failure"][:] == [None, "criticize: HTTP 500", "criticize: HTTP 429"]
        assert [shown(request).startswith("So is") for request in model.asked] == [False] * 3 + [True] * 2


class TestPerplexity:
    def test_is_one_less_the_mean_probability_of_a_token(self, store):
        model = FakeModel(
            Answer(logprobs=(-7.0,), lengths=(7,)), Answer(logprobs=(-3.0,), lengths=(12,)), abilities=["score"]
        )
        done = criticize(annotated("spam", "ham"), model, strategy="ppl", store=store)
        perplexity = np.exp([7.0 / 7, 3.0 / 12])
        np.testing.assert_allclose(done["act_error_prob"][:], 1 - 1 / perplexity, atol=1e-7)
        assert done["act_critique"][:] == [
            'perplexity 2.72 of answering "Yes, the proposed label is right."',
            'perplexity 1.28 of answering "Yes, the proposed label is right."',
        ]
        assert [request.exact for request in model.asked] == [True, True]

    @pytest.mark.parametrize(("logprob", "expected"), [(0.0, 0.0), (-1e6, 1.0), (-math.inf, 1.0)])
    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_far_ends(self, store, logprob, expected):
        model = FakeModel(Answer(logprobs=(logprob,), lengths=(7,)))
        done = criticize(annotated("spam"), model, strategy="ppl", store=store)
        assert (done["act_error_prob"][:], done["act_failure"][:]) == ([expected], [None])

    @pytest.mark.parametrize("logprob", [NAN, math.inf, 0.5])
    def test_no_log_probability_is_a_failure(self, store, logprob):
        model = FakeModel(Answer(logprobs=(logprob,), lengths=(7,)), Answer(failure="HTTP 500"))
        done = criticize(annotated("spam", "ham"), model, strategy="ppl", store=store)
        assert done["act_error_prob"][:] == done["act_critique"][:] == [None, None]
        assert done["act_failure"][:] == [
            f"criticize: the model gave the log-probability {logprob}",
            "criticize: HTTP 500",
        ]

    @settings(max_examples=50, deadline=None)
    @given(st.floats(-1000, 0), st.integers(1, 50))
    def test_is_a_probability_that_rises_with_the_perplexity(self, logprob, length):
        values = []
        for told in (logprob, logprob - 1):
            model = FakeModel(Answer(logprobs=(told,), lengths=(length,)))
            (value,) = Critic(TASK, model, "ppl", ":memory:")({"t": ["a"], "act_label": [1]})["act_error_prob"]
            values.append(value)
        assert 0 <= values[0] <= values[1] <= 1


class TestLikelihood:
    scores = np.array([[-1.0, -2.0, -3.0], [-1.0, -1.5, -4.0], [-0.5, -3.0, -2.5]])

    def by(self, request):
        return self.scores[int(shown(request).split()[-1])]

    def test_is_one_less_the_probability_of_the_label(self, store):
        done = criticize(annotated("spam", "ham", "other"), FakeModel(by=self.by), store=store)
        expected = [1 - softmax(values)[label] for values, label in zip(self.scores, (1, 0, 2), strict=True)]
        np.testing.assert_allclose(done["act_error_prob"][:], expected, atol=1e-7)
        assert done["act_critique"][0] == 'gives 24% to "junk", and 67% to "fine"'
        assert done["act_critique"][1] == 'gives 60% to "fine"'

    def test_by_an_encoder(self, store):
        model = FakeModel(by=self.by, abilities=["choose"], instructed=False)
        criticize(annotated("spam"), model, strategy="likelihood", store=store)
        assert model.asked == [ScoreRequest(({"role": "user", "content": "row 0"},), TASK.sentences)]

    def test_costs_nothing_after_annotating_with_the_same_model(self, store):
        dataset = Dataset.from_dict({"t": ["row 0", "row 1"]})
        done = annotate(dataset, TASK, FakeModel(by=self.by), store=store)
        criticize(done, FakeModel(raise_after=0), strategy="likelihood", store=store)

    @pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
    def test_no_number_is_a_failure_wherever_it_stands(self, store, bad):
        model = FakeModel([bad, -1, -2], [-1, -2, bad], [-1, -2, -3], Answer(failure="HTTP 500"))
        done = criticize(annotated("spam", "spam", "spam", "spam"), model, strategy="likelihood", store=store)
        assert [value is None for value in done["act_error_prob"]] == [True, True, False, True]
        assert [str(failure)[:24] for failure in done["act_failure"]] == [
            *["criticize: the model gav"] * 2,
            "None",
            "criticize: HTTP 500",
        ]

    def test_a_prior_of_ones_own(self, store):
        prior = (-0.5, -2.0, -1.0)
        critic = Critic(TASK, FakeModel(by=self.by), "likelihood", store, prior)
        made = critic({"t": ["row 0"], "act_label": [1]})
        assert made["act_error_prob"][0] == pytest.approx(1 - softmax(self.scores[0] - np.array(prior))[1])


class TestCalibration:
    def by(self, request):
        return TestLikelihood.scores[int(shown(request).split()[-1])]

    def test_batch_takes_out_the_mean_log_probability(self, store):
        model = FakeModel(by=self.by)
        done = criticize(annotated("spam", "ham", "other"), model, calibration="batch", store=store)
        logs = np.log([softmax(values) for values in TestLikelihood.scores])
        calibrated = np.array([softmax(values) for values in logs - logs.mean(axis=0)])
        np.testing.assert_allclose(done["act_error_prob"][:], 1 - calibrated[[0, 1, 2], [1, 0, 2]], atol=1e-6)
        record = stage_records(done, "criticize")[0]
        np.testing.assert_allclose(record["prior"], logs.mean(axis=0))
        assert record["usage"]["requests"] == record["usage"]["calls"] == model.calls == 3

    def test_contextual(self, store):
        free = {"N/A": [-1.0, -2.0, -3.0], "[MASK]": [-0.5, -2.5, -3.0], "": [-1.0, -1.0, -1.0]}
        model = FakeModel(by=lambda request: free[shown(request)] if shown(request) in free else self.by(request))
        done = criticize(annotated("spam"), model, strategy="likelihood", calibration="contextual", store=store)
        prior = np.log(np.mean([softmax(values) for values in free.values()], axis=0))
        expected = 1 - softmax(TestLikelihood.scores[0] - prior)[1]
        assert done["act_error_prob"][0] == pytest.approx(expected, abs=1e-6)

    labels = ("spam", "?", "ham", "spam", "ham", "spam", "other")
    stated = (0.8, None, 0.25, 0.75, 0.125, None, 0.5)

    def critic(self) -> FakeModel:
        """States these probabilities; none for row 5."""
        return FakeModel(by=lambda request: self.said(int(message_text(request, 1).split("\n")[0].split()[-1])))

    def said(self, number: int) -> str:
        return "no idea" if self.stated[number] is None else f"{self.stated[number]:.3%}"

    @pytest.mark.parametrize("suffix", ["", "_b"])
    def test_batch_centres_what_is_asked_for(self, store, suffix):
        from act_hf.critics.fusion import centred

        options = {"strategy": "naive", "store": store, "suffix": suffix}
        plain = criticize(annotated(*self.labels), self.critic(), **options)
        done = criticize(annotated(*self.labels), self.critic(), calibration="batch", **options)
        column = f"act_error_prob{suffix}"
        before = np.array([NAN if value is None else value for value in plain[column]])
        ids = np.array([-1 if label is None else label for label in plain["act_label"]])
        self.check(done[column][:], centred(before, ids, 3))
        rest = [name for name in plain.column_names if name != column]
        assert done.column_names == plain.column_names
        assert done.features == plain.features
        assert done.select_columns(rest).to_dict() == plain.select_columns(rest).to_dict()
        record = stage_records(done, "criticize")[-1]
        assert (record["calibration"], record["prior"], record["failed"]) == ("batch", None, 2 - bool(suffix))

    @pytest.mark.parametrize("strategy", ["naive", "likelihood"])
    def test_rank_keeps_the_order_alone(self, store, strategy):
        from act_hf.critics.fusion import ranked

        def by(request):
            number = int(message_text(request, -1 if len(request.messages) < 2 else 1).split("\n")[0].split()[-1])
            return self.said(number) if isinstance(request, ChatRequest) else self.scores(number)

        options = {"strategy": strategy, "store": store}
        plain = criticize(annotated(*self.labels), FakeModel(by=by), **options)
        done = criticize(annotated(*self.labels), FakeModel(by=by), calibration="rank", **options)
        before = np.array([NAN if value is None else value for value in plain["act_error_prob"]])
        self.check(done["act_error_prob"][:], ranked(before))
        assert stage_records(done, "criticize")[-1]["prior"] is None

    def scores(self, number: int) -> list[float]:
        return [NAN] * 3 if self.stated[number] is None else [-1.0, -1.0 - number, -2.0]

    def check(self, made: list[float | None], expected: np.ndarray) -> None:
        assert [value is None for value in made] == [value is None for value in self.stated]
        assert all(0 <= value <= 1 for value in made if value is not None)
        np.testing.assert_allclose([NAN if value is None else value for value in made], expected, atol=1e-6)

    @pytest.mark.parametrize("calibration", ["batch", "rank"])
    def test_the_format_is_kept(self, store, calibration):
        dataset = annotated(*self.labels)
        options = {"strategy": "naive", "calibration": calibration, "store": store}
        plain = criticize(dataset, self.critic(), **options)
        done = criticize(dataset.with_format("numpy"), self.critic(), **options)
        assert done.format["type"] == "numpy"
        assert done.with_format(None).to_dict() == plain.to_dict()

    @pytest.mark.parametrize("calibration", ["batch", "rank"])
    @pytest.mark.parametrize("strategy", ASKING)
    def test_asks_nothing_more(self, store, calibration, strategy):
        dataset = annotated("spam", "ham", "?")
        criticize(dataset, FakeModel(by=by_text), strategy=strategy, store=store)
        options = {"strategy": strategy, "calibration": calibration, "store": store}
        done = criticize(dataset, FakeModel(raise_after=0), **options)
        assert [value is None for value in done["act_error_prob"]] == [False, False, True]

    @pytest.mark.parametrize("calibration", ["batch", "rank"])
    def test_where_no_row_has_a_value(self, store, calibration):
        done = criticize(
            annotated("?", "?"), chatty(raise_after=0), strategy="naive", store=store, calibration=calibration
        )
        assert done["act_error_prob"][:] == [None, None]


class TestColumns:
    def test_types(self, store):
        dataset = annotated("spam")
        done = criticize(dataset, FakeModel([-1.0] * 6), strategy="logit", store=store)
        made = column_features(TASK, ["act_error_prob", "act_critique"])
        assert done.features == Features({**dataset.features, **made})
        assert done.features["act_error_prob"] == Value("float32")

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_all_else_is_kept(self, store, strategy):
        dataset = annotated("spam", "?", "ham")
        done = criticize(dataset, FakeModel(by=by_text), strategy=strategy, store=store)
        assert done.select_columns(dataset.column_names).to_dict() == dataset.to_dict()
        assert all(0 <= value <= 1 for value in done["act_error_prob"] if value is not None)

    def test_rows_without_a_label_are_not_asked_about(self, store):
        model = FakeModel([-1.0] * 6)
        done = criticize(annotated("?", "spam", "?"), model, strategy="logit", store=store)
        assert model.calls == 1
        assert done["act_error_prob"][:] == [None, 0.5, None]
        assert done["act_critique"][0] is None
        assert done["act_failure"][0].startswith("annotate: no single label")

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_no_row_has_a_label(self, store, strategy):
        done = criticize(annotated("?", "?"), FakeModel(raise_after=0), strategy=strategy, store=store)
        assert done["act_error_prob"][:] == [None, None]
        assert done.features["act_error_prob"] == Value("float32")

    def test_labels_from_elsewhere(self, store):
        dataset = annotated("spam", "ham").select_columns(["t", "act_label"])
        done = criticize(dataset, FakeModel([-1.0] * 6, [NAN] * 6), task=TASK, strategy="logit", store=store)
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
        first = criticize(dataset, chatty("hm", "80%", "hm", name="a"), strategy="naive", store=store)
        assert [failure is None for failure in first["act_failure"]] == [False, False, True]
        second = criticize(first, chatty("40%", "eh", "eh", name="b"), strategy="naive", store=store)
        np.testing.assert_allclose(second["act_error_prob"][0], 0.6, atol=1e-7)
        assert second["act_error_prob"][2] is None
        assert second["act_failure"][0] is None
        assert second["act_failure"][1].startswith("annotate:")
        assert second["act_failure"][2] == "criticize: no single probability in the reply 'eh'"
        assert second.column_names == first.column_names
        assert [record["failed"] for record in stage_records(second, "criticize")] == [2, 2]

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_asks_nothing_again(self, store, strategy):
        dataset = annotated("spam", "ham", "other")
        first = criticize(dataset, FakeModel(by=by_text), strategy=strategy, store=store)
        second = criticize(dataset, FakeModel(raise_after=0), strategy=strategy, store=store)
        assert second.to_dict() == first.to_dict()
        assert stage_records(second, "criticize")[0]["usage"]["calls"] == 0

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_what_failed_is_asked_again(self, store, strategy):
        dataset = annotated("spam", "ham")

        def by(request):
            return Answer(failure="HTTP 500") if "row 0" in message_text(request, 1) else by_text(request)

        first = criticize(dataset, FakeModel(by=by), strategy=strategy, store=store)
        assert [str(failure) for failure in first["act_failure"]] == ["criticize: HTTP 500", "None"]
        model = FakeModel(by=by_text)
        second = criticize(dataset, model, strategy=strategy, store=store)
        assert second["act_failure"][:] == [None, None]
        assert {message_text(request, 1).split("\n")[0] for request in model.asked} == {"row 0"}

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_a_broken_off_run_goes_on(self, store, strategy):
        dataset = annotated(*["spam", "ham"] * 10)
        with pytest.raises(RuntimeError, match="break off"):
            criticize(dataset, FakeModel(by=by_text, raise_after=2), strategy=strategy, store=store)
        model, whole = FakeModel(by=by_text), FakeModel(by=by_text)
        resumed = criticize(dataset, model, strategy=strategy, store=store)
        assert resumed.to_dict() == criticize(dataset, whole, strategy=strategy, store=Store(":memory:")).to_dict()
        assert model.calls == whole.calls - 8


class TestSuffix:
    def test_a_second_critic_stands_beside_the_first(self, store):
        first = criticize(
            annotated("spam", "ham", "?"), FakeModel(by=lambda request: [-1.0] * 6), strategy="logit", store=store
        )
        model = chatty("70%", "hm", "hm", name="second")
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
        both = criticize(first, chatty("30%", "hm", "hm"), strategy="naive", suffix="_b", store=store)
        assert sum(sample(both, budget=1, seed=0)["act_selected"]) == 1


class TestRefusals:
    def test_a_name_in_place_of_a_model(self, store):
        with pytest.raises(ACTError, match="criticize: 'minilm' is the name of a model, not one"):
            criticize(annotated("spam", "ham"), "minilm", store=store)

    def refuse(self, says: str, store: Store, dataset: Dataset | None = None, **options) -> None:
        model = options.pop("model", None) or FakeModel(by=by_text)
        with pytest.raises(ACTError, match=says):
            criticize(annotated("spam") if dataset is None else dataset, model, store=store, **options)
        assert model.calls == 0
        assert not store.path.exists()

    def test_strategy(self, store):
        says = "critic strategy 'guess' is none of naive, cot, mc, devil, logit, cot_logit, ppl, likelihood"
        self.refuse(says, store, strategy="guess")

    needs = (
        ("chat", "reply in words", CHATTING),
        ("choose", "say how probable each of some replies is", ("logit", "cot_logit", "likelihood")),
        ("score", "give the log-probability of a reply, token by token", ("ppl",)),
    )

    @pytest.mark.parametrize(
        ("strategy", "ability", "words"), [(name, ability, words) for ability, words, names in needs for name in names]
    )
    def test_a_model_that_cannot_do_it(self, store, strategy, ability, words):
        model = FakeModel(abilities=[name for name in ("chat", "choose", "score") if name != ability])
        says = f"the critic strategy '{strategy}' needs a model that can {words}, but fake can only "
        self.refuse(says, store, strategy=strategy, model=model)

    def test_reasoning_then_choosing_needs_both(self, store):
        self.refuse("'cot_logit' needs a model that can reply in words", store, strategy="cot_logit",
                    model=FakeModel(abilities=["choose"]))  # fmt: skip

    @pytest.mark.parametrize("strategy", ASKING)
    def test_a_model_that_takes_no_instructions_takes_no_questions(self, store, strategy):
        says = f"'{strategy}' asks a question, but fake takes no instructions; use strategy='likelihood' with it"
        self.refuse(says, store, strategy=strategy, model=FakeModel(by=by_text, instructed=False))

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_images_by_a_model_that_sees_none(self, strategy):
        says = "the image column 'i' needs a model that can see images, but fake can only reply in words and say"
        with pytest.raises(ACTError, match=says):
            Critic(PICTURES, FakeModel(), strategy)

    @pytest.mark.parametrize("strategy", ASKING)
    def test_contextual_calibration_is_for_likelihood(self, store, strategy):
        says = f"calibration='contextual' is for strategy='likelihood', not '{strategy}'; use 'batch'"
        self.refuse(says, store, strategy=strategy, calibration="contextual")

    @pytest.mark.parametrize("strategy", ["likelihood", "naive"])
    def test_calibration(self, store, strategy):
        says = f"calibration 'x' is none of {', '.join(CALIBRATIONS)}"
        self.refuse(says, store, strategy=strategy, calibration="x")

    def test_limits(self, store):
        self.refuse("max_cost=-1 is no limit", store, max_cost=-1)

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
        says = re.escape(
            "act_label has the labels ['ham', 'spam', 'other'], but the task has ['spam', 'ham', 'other']"
        )
        self.refuse(says, store, task=other)


class TestCallable:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_in_map_of_either_kind(self, store, strategy):
        dataset = annotated("spam", "?", "ham")
        expected = criticize(dataset, FakeModel(by=by_text), strategy=strategy, store=store)
        critic = Critic(TASK, FakeModel(raise_after=0), strategy=strategy, store=store)
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

    def test_on_a_dictionary_of_arrays(self, store):
        # What ray.data hands over.
        batch = {
            "t": ["a", "b"],
            "act_label": [1, 0],
            "act_rationale": ["x", None],
            "act_failure": [None, "review: no"],
        }
        arrays = {name: np.array(values, dtype=object) for name, values in batch.items()}
        critic = Critic(TASK, FakeModel(by=by_text), strategy="devil", store=store)
        assert critic(arrays) == critic(batch)
        assert critic(arrays)["act_failure"] == [None, "review: no"]

    def test_pickles(self, store):
        critic = Critic(TASK, FakeModel([-1.0] * 6), strategy="logit", store=store, suffix="_x")
        critic({"t": ["a"], "act_label": [1]})
        copy = pickle.loads(pickle.dumps(critic))
        assert copy({"t": ["a"], "act_label": [1]})["act_error_prob_x"] == [0.5]
        assert copy.usage.calls == 0


def test_says_what_it_did(store):
    dataset = annotated("spam", "?")
    record = stage_records(criticize(dataset, FakeModel([-1.0] * 6, cost=0.5), strategy="logit", store=store))[1]
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
        "usage": {
            "requests": 1,
            "calls": 1,
            "tokens_in": 10,
            "tokens_out": 0,
            "seconds": 0.5,
            "cost": 0.5,
            "spent": 0.5,
        },
    }


def test_a_task_given_wins(store):
    task = Task(labels=["ham", "spam", "other"], text="t", instruction="Something else?")
    model = FakeModel([-1.0] * 6)
    criticize(annotated("spam"), model, task=task, strategy="logit", store=store)
    assert "Something else?" in model.asked[0].messages[0]["content"]
