from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from act_hf import prompts
from act_hf.annotators import annotate
from act_hf.critics import criticize
from act_hf.errors import ACTError
from act_hf.models.asking import Usage
from act_hf.models.base import ChatRequest, Model, ScoreRequest
from act_hf.models.recorded import Recorded
from act_hf.models.recordings import Recording, content_digest, label_ids
from act_hf.models.store import Store
from act_hf.records import stage_records
from act_hf.task import Task


TASK = Task(
    labels=["not_bad", "bad"],
    text="t",
    words=["fine", "poor"],
    sentences=["it is fine", "it is poor"],
    instruction="?",
)
TABLE = {
    "row_id": ["a", "b", "c", "a", "b", "a", "a"],
    "split": ["test", "test", "test", "test", "test", "test", "train"],
    "model": ["gpt", "gpt", "gpt", "gpt", "gpt", "claude", "claude"],
    "strategy": ["naive", "naive", "naive", "cot", "cot", "cot", "cot"],
    "label": [0, 1, -1, 1, 1, 0, 1],
    "answer": ["fine", "poor", "no idea", "poor", "poor", "fine", "poor"],
    "confidence": [0.9, 0.6, None, None, None, 1.0, 0.7],
    "text": [None, None, None, "it shouts", "", "calm", "loud"],
}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "answers.sqlite")


def rows(*texts: str, **columns: list) -> Dataset:
    return Dataset.from_dict({"id": list("abcdefg"[: len(texts)]), "t": list(texts), **columns})


def of_table(**choice) -> Recorded:
    return Recorded.from_table(rows("one", "two", "three"), TASK, Dataset.from_dict(TABLE), **choice)


def shown(text: str) -> tuple[dict, ...]:
    return ({"role": "user", "content": text},)


def reply(model: Model, text: str):
    return next(iter(model.answer([ChatRequest(shown(text))])))[0]


def probs(model: Model, text: str, sentences=TASK.sentences) -> list[float]:
    return np.exp(next(iter(model.answer([ScoreRequest(shown(text), sentences)])))[0].logprobs).tolist()


class TestAnswers:
    def test_say_the_word_of_the_label(self):
        answer = reply(of_table(model="gpt", strategy="naive"), "two")
        assert answer.text == "Answer: poor"
        assert (answer.cost, answer.calls, answer.tokens_in, answer.seconds) == (0.0, 1, 0, 0.0)

    def test_say_the_reasoning_first(self):
        answer = reply(of_table(model="gpt", strategy="cot"), "one")
        assert answer.text == "it shouts\nAnswer: poor"
        assert prompts.parse_label(TASK, answer.text) == 1
        assert prompts.reasoning(answer.text) == "it shouts"

    def test_fail_for_a_reply_that_named_no_label(self):
        assert reply(of_table(model="gpt", strategy="naive"), "three").failure == "recorded as unparsed: 'no idea'"

    def test_fail_for_a_row_that_nobody_labelled(self):
        assert reply(of_table(model="gpt", strategy="cot"), "three").failure == "no recorded answer"
        assert reply(of_table(model="gpt", strategy="cot"), "never seen").failure == "no recorded answer"

    def test_come_in_the_order_of_the_requests(self):
        model = of_table(model="gpt", strategy="naive")
        (answers,) = model.answer([ChatRequest(shown(text)) for text in ("two", "one", "two")])
        assert [answers[i].text for i in range(3)] == ["Answer: poor", "Answer: fine", "Answer: poor"]

    def test_give_the_label_its_confidence_and_the_others_the_rest(self):
        task = Task(labels=["a", "b", "c"], text="t")
        model = Recorded("m", task, {content_digest("x"): Recording(1, 0.7)})
        assert probs(model, "x", task.sentences) == pytest.approx([0.15, 0.7, 0.15])

    def test_give_the_certainty_where_there_is_no_confidence(self):
        recordings = {content_digest("x"): Recording(0, 0.6), content_digest("y"): Recording(0)}
        model = Recorded("m", TASK, recordings, certainty=0.8)
        assert probs(model, "x") == pytest.approx([0.6, 0.4])
        assert probs(model, "y") == pytest.approx([0.8, 0.2])

    @given(st.floats(0, 1), st.integers(2, 12))
    def test_are_probabilities_of_which_the_labels_is_the_largest(self, confidence, labels):
        task = Task(labels=[f"l{i}" for i in range(labels)], text="t")
        model = Recorded("m", task, {content_digest("x"): Recording(labels - 1, confidence)})
        given_probs = probs(model, "x", task.sentences)
        assert sum(given_probs) == pytest.approx(1)
        assert int(np.argmax(given_probs)) == labels - 1
        assert all(math.isfinite(math.log(one)) for one in given_probs)


class TestWhatItIs:
    def test_is_a_model_that_takes_no_instructions(self):
        model = of_table(model="gpt", strategy="cot")
        assert isinstance(model, Model)
        assert not model.instructed
        assert model.abilities == {"chat"}

    def test_chooses_with_confidences_or_a_certainty(self):
        assert of_table(model="gpt", strategy="naive").abilities == {"chat", "choose"}
        assert of_table(model="gpt", strategy="cot", certainty=0.9).abilities == {"chat", "choose"}

    def test_refuses_what_it_cannot_do(self):
        model = of_table(model="gpt", strategy="cot")
        with pytest.raises(ACTError, match="say how probable"):
            next(iter(model.answer([ScoreRequest(shown("one"), TASK.sentences)])))
        sure = of_table(model="gpt", strategy="naive")
        with pytest.raises(ACTError, match="token by token"):
            next(iter(sure.answer([ScoreRequest(shown("one"), TASK.sentences, exact=True)])))
        with pytest.raises(ACTError, match="its own task only, not \\['Yes', 'No'\\]"):
            next(iter(sure.answer([ScoreRequest(shown("one"), ("Yes", "No"))])))

    @pytest.mark.parametrize(
        ("recording", "options", "message"),
        [
            (Recording(2, 0.5), {}, "2 is not the id of a label; the task has 2: not_bad, bad"),
            (Recording(0, 90.0), {}, "m: a confidence is a probability from 0 to 1, not 90.0"),
            (Recording(0, math.nan), {}, "from 0 to 1, not nan"),
            (Recording(0), {"certainty": 1.5}, "certainty is a probability from 0 to 1, not 1.5"),
        ],
    )
    def test_refuses_what_is_no_label_or_probability(self, recording, options, message):
        with pytest.raises(ACTError, match=message):
            Recorded("m", TASK, {content_digest("x"): recording}, **options)

    def test_refuses_confidences_for_some_labels_only(self):
        recordings = {
            content_digest(text): Recording(0, sure) for text, sure in (("x", 0.6), ("y", None), ("z", None))
        }
        with pytest.raises(ACTError, match="2 of 3 recorded labels have no confidence; say with certainty="):
            Recorded("m", TASK, recordings)
        recordings = {content_digest("x"): Recording(0, 0.6), content_digest("y"): Recording(reply="?")}
        assert "choose" in Recorded("m", TASK, recordings).abilities  # what has no label needs no confidence

    def test_has_another_name_when_anything_recorded_differs(self):
        kept = {content_digest("x"): Recording(0, 0.6, "why"), content_digest("y"): Recording(1, 0.6)}
        changed = [
            {**kept, content_digest("x"): other}
            for other in (Recording(1, 0.6, "why"), Recording(0, 0.7, "why"), Recording(0, 0.6), Recording(reply="?"))
        ]
        changed.append({**kept, content_digest("z"): Recording(0, 0.6)})
        names = {Recorded("m", TASK, one).name for one in (kept, *changed)}
        names |= {Recorded("m", TASK, kept, certainty=0.5).name}
        names |= {Recorded("m", Task(labels=TASK.labels, text="t"), kept).name}
        assert len(names) == len(changed) + 3
        assert all(name.startswith("m recorded@") for name in names)
        assert Recorded("m", TASK, dict(reversed(kept.items()))).name == Recorded("m", TASK, kept).name

    def test_pickles_the_same_before_and_after_use(self):
        model = of_table(model="gpt", strategy="naive")
        before = pickle.dumps(model)
        reply(model, "one")
        assert pickle.dumps(model) == before
        copy = pickle.loads(before)
        assert copy == model
        assert reply(copy, "two") == reply(model, "two")

    def test_holds_nothing_of_the_rows(self):
        dataset = rows("a secret text", label=[0])
        assert b"secret" not in pickle.dumps(Recorded.from_columns(dataset, TASK, label="label"))


class TestFromTable:
    def test_names_the_model_and_how_it_was_asked(self):
        assert of_table(model="gpt", strategy="cot").name.startswith("gpt/cot recorded@")

    def test_knows_the_model_however_it_was_asked(self):
        asked = [of_table(model="gpt", strategy=strategy) for strategy in ("naive", "cot")]
        assert [one.model for one in asked] == ["gpt", "gpt"]
        assert asked[0].name != asked[1].name
        assert Recorded.from_columns(rows("one", y=[1]), TASK, label="y", name="claude").model == "claude"

    def test_takes_the_only_strategy(self):
        model = of_table(model="claude", split="test")
        assert model.name.startswith("claude/cot recorded@")
        assert reply(model, "one").text == "calm\nAnswer: fine"

    def test_keeps_the_splits_apart(self):
        assert reply(of_table(model="claude", split="train"), "one").text == "loud\nAnswer: poor"
        with pytest.raises(ACTError, match="claude: two recorded answers for the row 'a'; say of which split"):
            of_table(model="claude")

    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            ({"model": "llama"}, "the model 'llama' is none of 'claude', 'gpt'"),
            ({"model": "gpt"}, "the strategy None is none of 'cot', 'naive'"),
            ({"model": "gpt", "strategy": "goc"}, "the strategy 'goc' is none of 'cot', 'naive'"),
            ({"model": "gpt", "split": "val"}, "the split 'val' is none of 'test'"),
            ({"model": "gpt", "strategy": "cot", "on": "nr"}, "no column 'nr'"),
            (
                {"model": "gpt", "strategy": "cot", "on": "t"},
                "none of the 2 row ids of its answers is in the column 't'",
            ),
        ],
    )
    def test_names_the_choices(self, choice, message):
        with pytest.raises(ACTError, match=message):
            of_table(**choice)

    def test_needs_few_columns(self):
        table = Dataset.from_dict({name: TABLE[name][:2] for name in ("row_id", "model", "label")})
        model = Recorded.from_table(rows("one", "two"), TASK, table, model="gpt")
        assert model.name.startswith("gpt recorded@")
        assert reply(model, "two").text == "Answer: poor"
        with pytest.raises(ACTError, match="the table of recorded answers: no column 'label'"):
            Recorded.from_table(rows("one"), TASK, table.remove_columns("label"), model="gpt")

    def test_reads_a_file(self, tmp_path):
        path = tmp_path / "annotations.parquet"
        Dataset.from_dict(TABLE).to_parquet(str(path))
        model = Recorded.from_table(rows("one", "two", "three"), TASK, path, model="gpt", strategy="cot")
        assert model == of_table(model="gpt", strategy="cot")

    def test_refuses_an_id_that_is_no_label(self):
        table = Dataset.from_dict({"row_id": ["a"], "model": ["gpt"], "label": [7]})
        with pytest.raises(ACTError, match="7 is not the id of a label"):
            Recorded.from_table(rows("one"), TASK, table, model="gpt")

    def test_takes_nan_for_no_confidence(self):
        table = Dataset.from_dict({"row_id": ["a"], "model": ["gpt"], "label": [1], "confidence": [math.nan]})
        assert Recorded.from_table(rows("one"), TASK, table, model="gpt").abilities == {"chat"}


class TestFromColumns:
    def test_takes_every_kind_of_label(self):
        turned = Features({"id": Value("string"), "t": Value("string"), "y": ClassLabel(names=["bad", "not_bad"])})
        for dataset in (
            rows("one", "two", "three", y=[1, None, 0]),
            rows("one", "two", "three", y=[0, None, 1]).cast(turned),
            rows("one", "two", "three", y=["It is poor.", None, "not_bad"]),
        ):
            model = Recorded.from_columns(dataset, TASK, label="y")
            texts = [reply(model, text) for text in ("one", "two", "three")]
            assert [one.text for one in texts] == ["Answer: poor", "", "Answer: fine"]
            assert texts[1].failure == "no recorded answer"

    def test_takes_minus_one_and_unreadable_text_as_unparsed(self):
        model = Recorded.from_columns(rows("one", y=[-1]), TASK, label="y")
        assert reply(model, "one").failure == "recorded as unparsed: '-1'"
        model = Recorded.from_columns(rows("one", y=["fine or poor"]), TASK, label="y")
        assert reply(model, "one").failure == "recorded as unparsed: 'fine or poor'"

    def test_takes_confidence_and_rationale(self):
        dataset = rows("one", y=[1], sure=[0.75], why=["too loud"])
        model = Recorded.from_columns(dataset, TASK, label="y", confidence="sure", rationale="why", name="gpt")
        assert model.name.startswith("gpt recorded@")
        assert reply(model, "one").text == "too loud\nAnswer: poor"
        assert probs(model, "one") == pytest.approx([0.25, 0.75])

    def test_says_how_many_rows_are_ambiguous(self):
        dataset = rows("one", "one", "two", "one", "two", y=[0, 1, 1, 1, 1])
        with pytest.warns(
            UserWarning, match="y: 2 rows have the content of an earlier row and another recorded label"
        ):
            model = Recorded.from_columns(dataset, TASK, label="y")
        assert reply(model, "one").text == "Answer: fine"

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"y": [2]}, "2 is not the id of a label; the task has 2"),
            ({"y": [0.5]}, "column 'y' is .*; labels are a ClassLabel, whole numbers or text"),
            ({"z": [0]}, "no column 'y'"),
            ({"y": [0], "sure": ["high"]}, "a confidence is a number from 0 to 1, not 'high'"),
            ({"y": [0], "sure": [80]}, "a confidence is a probability from 0 to 1, not 80.0"),
        ],
    )
    def test_refuses_what_is_no_label_or_confidence(self, columns, message):
        with pytest.raises(ACTError, match=message):
            Recorded.from_columns(
                rows("one", **columns), TASK, label="y", confidence="sure" if "sure" in columns else None
            )

    def test_refuses_a_class_label_of_another_task(self):
        features = Features({"id": Value("string"), "t": Value("string"), "y": ClassLabel(names=["bad", "ugly"])})
        with pytest.raises(ACTError, match="'ugly' is not a label of the task"):
            label_ids(rows("one", y=[1]).cast(features), "y", TASK)
        assert label_ids(rows("one", y=[0]).cast(features), "y", TASK) == [1]


class TestThroughTheStages:
    def test_annotates_with_the_recorded_reasoning(self, store):
        dataset = rows("one", "two", "three", y=[0, 1, None], why=["calm", "loud", "?"])
        model = Recorded.from_columns(dataset, TASK, label="y", rationale="why")
        made = annotate(dataset, TASK, model, strategy="cot", store=store)
        assert made["act_label"][:] == [0, 1, None]
        assert made["act_rationale"][:2] == ["calm", "loud"]
        assert made["act_label_probs"][:] == [None, None, None]
        assert made["act_failure"][2] == "annotate: no recorded answer"
        assert stage_records(made, "annotate")[0]["usage"]["cost"] == 0

    def test_annotates_with_reasoning_and_probabilities(self, store):
        dataset = rows("one", "two", y=[0, 1], why=["calm", "loud"], sure=[0.9, 0.2])
        model = Recorded.from_columns(dataset, TASK, label="y", rationale="why", confidence="sure")
        made = annotate(dataset, TASK, model, strategy="cot", store=store)
        assert made["act_label"][:] == [0, 1]
        assert made["act_rationale"][:] == ["calm", "loud"]
        assert made["act_label_probs"][0] == pytest.approx([0.9, 0.1])

    def test_criticizes_by_its_own_label(self, store):
        dataset = rows("one", "two", y=[0, 1], z=[0, 0])
        labelled = annotate(dataset, TASK, Recorded.from_columns(dataset, TASK, label="y"), store=store)
        critic = Recorded.from_columns(dataset, TASK, label="z", certainty=0.8)
        made = criticize(labelled, critic, store=store)
        assert made["act_error_prob"][:] == pytest.approx([0.2, 0.8])
        with pytest.raises(ACTError, match="takes no instructions"):
            criticize(labelled, critic, strategy="naive", store=store)

    def test_is_stored_under_its_recordings(self, store):
        dataset = rows("one", "two", y=[0, 1], z=[1, 1])
        for label, expected in (("y", [0, 1]), ("z", [1, 1]), ("y", [0, 1])):
            model = Recorded.from_columns(dataset, TASK, label=label, name="gpt")
            assert annotate(dataset, TASK, model, store=store)["act_label"][:] == expected
        assert len(store) == 4

    def test_finds_pictures_by_what_they_show(self, store):
        pictures = [Picture.new("RGB", (4, 4), (shade, 0, 0)) for shade in (0, 200)]
        features = Features({"image": Image(), "question": Value("string"), "y": Value("int64")})
        columns = {"image": [*pictures, None], "question": ["dark?", "dark?", "dark?"], "y": [1, 0, 1]}
        dataset = Dataset.from_dict(columns, features=features)
        task = Task(labels=["no", "yes"], image="image", question="question")
        model = Recorded.from_columns(dataset, task, label="y", certainty=0.9)
        assert model.abilities == {"chat", "choose", "image"}
        made = annotate(dataset, task, model, store=store)
        assert made["act_label"][:] == [1, 0, 1]
        assert criticize(made, model, store=store)["act_error_prob"][:] == pytest.approx([0.1, 0.1, 0.1])

    def test_counts_as_a_call_a_row(self, store):
        from act_hf.annotators import Annotator

        dataset = rows("one", "two", y=[0, 1])
        usage = Usage()
        annotator = Annotator(TASK, Recorded.from_columns(dataset, TASK, label="y"), store=store, usage=usage)
        annotator(dataset[:])
        annotator(dataset[:])
        assert (usage.calls, usage.spent) == (2, 0.0)


@given(st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_different_texts_have_different_digests(texts):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    assert (content_digest(texts[0]) == content_digest(texts[1])) == (texts[0] == texts[1])


def test_the_border_between_parts_counts():
    parts = [[{"type": "text", "text": one} for one in split] for split in (("ab", "c"), ("a", "bc"), ("abc",))]
    assert len({content_digest(one) for one in parts}) == 3
    assert content_digest("abc") == content_digest(parts[2])
