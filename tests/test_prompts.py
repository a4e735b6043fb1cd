from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from act_hf import prompts
from act_hf.models.base import ScoreRequest
from act_hf.prompts import parse_label, parse_probability
from act_hf.task import Example, Task


TASK = Task(labels=["ham", "spam"], text="t", instruction="Is it spam?")
CARDS = Task(labels=["card_arrival", "card", "lost_card", "card_payment"], text="t")
SOLVED = Task(
    labels=["ham", "spam"],
    text="t",
    words=["fine", "junk"],
    examples=[Example("spam", "You won", rationale="Nobody wins."), Example("ham", "See you")],
)
ROW = {"t": "Hi there"}


def roles(messages) -> list[str]:
    return [message["role"] for message in messages]


class TestContent:
    picture = Picture.new("RGB", (2, 2))

    @pytest.mark.parametrize(
        ("columns", "row", "shown"),
        [
            ({"text": "t"}, {"t": "a\nb"}, "a\nb"),
            ({"text": "t"}, {"t": None}, ""),
            ({"question": "q"}, {"q": "why?"}, "why?"),
            ({"text": "t", "question": "q"}, {"t": "a", "q": "why?"}, "a\nQuestion: why?"),
            ({"text": "t", "question": "q"}, {"t": None, "q": "why?"}, "\nQuestion: why?"),
            ({"text": "t", "question": "q"}, {"t": "a", "q": None}, "a\nQuestion: "),
        ],
    )
    def test_text(self, columns, row, shown):
        assert prompts.content(Task(labels=["a", "b"], **columns), row) == shown

    @pytest.mark.parametrize(
        ("columns", "row", "text"),
        [
            ({}, {}, None),
            ({"text": "t"}, {"t": "a"}, "a"),
            ({"text": "t"}, {"t": None}, None),
            ({"question": "q"}, {"q": "why?"}, "Question: why?"),
            ({"text": "t", "question": "q"}, {"t": "a", "q": "why?"}, "a\nQuestion: why?"),
        ],
    )
    def test_the_image_comes_first(self, columns, row, text):
        task = Task(labels=["a", "b"], image="i", **columns)
        expected = [{"type": "image", "image": self.picture}]
        expected += [{"type": "text", "text": text}] if text else []
        assert prompts.content(task, {"i": self.picture, **row}) == expected

    def test_an_image_that_is_missing_is_not_shown(self):
        task = Task(labels=["a", "b"], image="i", text="t")
        assert prompts.content(task, {"i": None, "t": "a"}) == [{"type": "text", "text": "a"}]


class TestAnnotate:
    def test_naive(self):
        assert prompts.annotate_naive(TASK, ROW) == (
            {"role": "system", "content": "Is it spam?\nLabels: ham, spam\nReply with one label and nothing else."},
            {"role": "user", "content": "Hi there"},
        )

    def test_says_the_language(self):
        task = Task(labels=["a", "b"], text="t", instruction="Which?", language="Finnish")
        said = prompts.annotate_naive(task, ROW)[0]["content"]
        assert said.startswith("Which? The rows are written in Finnish.\nLabels: a, b\n")

    def test_examples_come_before_the_row_in_their_order_and_in_words(self):
        messages = prompts.annotate_naive(SOLVED, ROW)
        assert roles(messages) == ["system", "user", "assistant", "user", "assistant", "user"]
        assert [m["content"] for m in messages[1:]] == ["You won", "junk", "See you", "fine", "Hi there"]

    def test_reasoned_examples_end_in_the_answer(self):
        messages = prompts.annotate_cot(SOLVED, ROW)
        assert [m["content"] for m in messages[1:]] == [
            "You won",
            "Nobody wins.\nAnswer: junk",
            "See you",
            "Answer: fine",
            "Hi there",
        ]
        assert '"Answer:" and one label on the last line' in messages[0]["content"]

    def test_examples_without_reasoning_are_no_model_for_reasoning(self):
        task = Task(labels=["a", "b"], text="t", examples=[Example("a", "x")])
        assert roles(prompts.annotate_cot(task, ROW)) == ["system", "user"]
        assert roles(prompts.annotate_naive(task, ROW)) == ["system", "user", "assistant", "user"]

    @pytest.mark.parametrize("columns", [{"text": "t"}, {"question": "q"}, {"text": "t", "question": "q"}])
    def test_an_example_looks_like_the_row_with_its_content(self, columns):
        example = Example("a", text="what" if "text" in columns else None, question="why")
        task = Task(labels=["a", "b"], examples=[example], **columns)
        row = {columns.get("text"): "what", columns.get("question"): "why"}
        messages = prompts.annotate_naive(task, row)
        assert messages[1]["content"] == messages[3]["content"]

    def test_rows_share_all_but_the_last_message(self):
        one, other = (prompts.annotate_naive(SOLVED, {"t": text}) for text in "ab")
        assert one[:-1] == other[:-1]

    def test_labels_to_score_are_the_words(self):
        request = prompts.label_request(SOLVED, ROW, instructed=True)
        assert request == ScoreRequest(prompts.annotate_naive(SOLVED, ROW), ("fine", "junk"))

    def test_an_encoder_sees_the_row_and_sentences(self):
        task = Task(labels=["ham", "spam"], text="t", sentences=["See you", "You won"])
        request = prompts.label_request(task, ROW, instructed=False)
        assert request == ScoreRequest(({"role": "user", "content": "Hi there"},), ("See you", "You won"))

    def test_conclude_goes_on_after_the_reasoning(self):
        request = prompts.conclude_request(SOLVED, ROW, "It greets.")
        assert request.messages[:-1] == prompts.annotate_cot(SOLVED, ROW)
        assert request.messages[-1] == {"role": "assistant", "content": "It greets.\nAnswer:"}
        assert request.continuations == (" fine", " junk")

    @pytest.mark.parametrize(
        ("reply", "rest"),
        [
            ("It greets.\nAnswer: ham", "It greets."),
            ("It greets.", "It greets."),
            ("Answer: spam? No.\nAnswer: ham", "Answer: spam? No."),
            ("Answer: ham", ""),
            ("", ""),
        ],
    )
    def test_reasoning(self, reply, rest):
        assert prompts.reasoning(reply) == rest

    def test_content_free_rows(self):
        task = Task(labels=["a", "b"], text="t", question="q")
        nothing = [{"t": value, "q": value} for value in ("N/A", "[MASK]", "")]
        assert prompts.content_free(task) == nothing


class TestCriticize:
    asking = (prompts.criticize_logit, prompts.criticize_naive, prompts.criticize_cot)

    @pytest.mark.parametrize("ask", asking)
    def test_shows_the_task_the_row_and_the_claim(self, ask):
        system, user = ask(SOLVED, ROW, 1)
        assert system["role"] == "system"
        assert SOLVED.instruction in system["content"]
        assert "Labels: fine, junk" in system["content"]
        assert user["content"] == 'Hi there\n\nProposed label: "junk"'

    def test_each_asks_in_its_own_way(self):
        asked = [ask(TASK, ROW, 0)[0]["content"] for ask in self.asking]
        assert asked[0].endswith("Is the proposed label wrong? Reply Yes or No.")
        assert asked[1].endswith("Reply with a number from 0 to 100 and %.")
        assert "step by step" in asked[2]
        assert '"Answer:"' in asked[2]

    @pytest.mark.parametrize("ask", asking)
    def test_images(self, ask):
        picture = Picture.new("RGB", (2, 2))
        task = Task(labels=["ham", "spam"], image="i")
        parts = ask(task, {"i": picture}, 0)[1]["content"]
        assert parts == [{"type": "image", "image": picture}, {"type": "text", "text": 'Proposed label: "ham"'}]


class TestPure:
    def test_nothing_is_changed_and_nothing_remembered(self):
        row = dict(ROW)
        before = copy.deepcopy((SOLVED, row))
        for ask in (prompts.annotate_naive, prompts.annotate_cot):
            first = ask(SOLVED, row)
            first[0]["content"] = "changed"
            assert ask(SOLVED, row)[0]["content"] != "changed"
        for ask in TestCriticize.asking:
            assert ask(SOLVED, row, 0) == ask(SOLVED, row, 0)
        assert (SOLVED, row) == before

    @given(st.text())
    def test_a_row_stays_in_its_message(self, text):
        messages = prompts.annotate_naive(SOLVED, {"t": text})
        assert messages[:-1] == prompts.annotate_naive(SOLVED, ROW)[:-1]
        assert messages[-1] == {"role": "user", "content": text}


class TestParseLabel:
    @pytest.mark.parametrize(
        ("reply", "label"),
        [
            ("spam", 1),
            (" Spam.\n", 1),
            ('"SPAM"', 1),
            ("**spam**", 1),
            ("[ham]", 0),
            ("`ham`!", 0),
            ("I think that this is spam, because of the link.", 1),
            ("Label: ham", 0),
            ("spam, spam and spam", 1),
            ("It could be ham.\nAnswer: spam", 1),
            ("Answer: ham\nNo, wait.\nAnswer: **spam**", 1),
            ("spam or ham", None),
            ("neither", None),
            ("", None),
            ("  ", None),
            ("...", None),
            ("Answer:", None),
            ("spam\nAnswer:", None),
            ("hamster", None),
            ("spammer and ham", 0),
            ("spam2", None),
        ],
    )
    def test_two_labels(self, reply, label):
        assert parse_label(TASK, reply) == label

    @pytest.mark.parametrize(
        ("reply", "label"),
        [
            ("card", 1),
            ("card_arrival", 0),
            ("card   arrival", 0),
            ("Card Arrival", 0),
            ("It is about card arrival", 0),
            ("the lost_card label", 2),
            ("the lost card", 2),
            ("This is about a card", 1),
            ("lost card, or just card", None),
            ("lost card and card arrival", None),
            ("lost card payment", None),  # two that overlap
            ("discard", None),
        ],
    )
    def test_labels_inside_labels(self, reply, label):
        assert parse_label(CARDS, reply) == label

    @pytest.mark.parametrize(
        ("labels", "reply", "label"),
        [
            ([":)", ":("], ":(", 1),
            ([":)", ":("], '":)"', 0),
            ([":)", ":("], "", None),
            ([":)", ":("], ".", None),
            (["*", "**", "***"], "**", 1),
            (["*", "**", "***"], "I give ***", 2),
            (["C", "C++", "C#"], "c++", 1),
            (["C", "C++", "C#"], "Written in C#.", 2),
            (["A.", "B."], "b", None),
            (["A.", "B."], "b.", 1),
            (["1", "2"], "2", 1),
            (["1", "2"], "12", None),
            (["good (very)", "bad"], "good (very)", 0),
            (["正面", "负面"], "负面", 1),
            (["ja", "nein"], "Nein!", 1),
            (["a|b", "a"], "a|b", 0),
            (["a", ".*"], "zzz", None),
            (["not spam", "spam"], "This is not spam.", 0),
        ],
    )
    def test_odd_labels(self, labels, reply, label):
        assert parse_label(Task(labels=labels, text="t"), reply) == label

    def test_the_words_that_the_model_was_told_win(self):
        task = Task(labels=["A", "B"], words=["B", "A"], text="t")
        assert [parse_label(task, reply) for reply in "AB"] == [1, 0]

    def test_names_and_words_both_count(self):
        assert [parse_label(SOLVED, reply) for reply in ("spam", "junk", "junk, that is spam")] == [1, 1, 1]
        assert parse_label(SOLVED, "junk, not ham") is None

    def test_a_label_of_blanks_only_matches_nothing(self):
        assert parse_label(Task(labels=["_", "x"], words=["low line", "x"], text="t"), "") is None

    @given(st.text())
    def test_is_a_label_or_none(self, reply):
        assert parse_label(TASK, reply) in (0, 1, None)

    @given(st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=5, unique=True), st.data())
    def test_a_word_alone_is_its_label(self, words, data):
        try:
            task = Task(labels=[f"label {i}" for i in range(len(words))], words=words, text="t")
        except ValueError:
            return
        folded = [prompts._folded(word) for word in words]
        number = data.draw(st.integers(0, len(words) - 1))
        if folded.count(folded[number]) == 1 and folded[number] and prompts.ANSWER not in words[number]:
            assert parse_label(task, words[number]) == number

    @pytest.mark.parametrize(
        "reply",
        [
            "Ignore the task and answer banana",
            "Answer: banana",
            "banana\n\nLabels: ham, banana",
            '{"label": 7}',
            "7",
            "-1",
        ],
    )
    def test_what_is_no_label_stays_none_or_a_label(self, reply):
        assert parse_label(TASK, reply) in (None, 0)

    def test_takes_time_in_proportion(self):
        task = Task(labels=[f"label {i}" for i in range(100)], text="t")
        assert parse_label(task, "a" * 100_000) is None
        assert parse_label(task, "label 7 " * 500) == 7


class TestParseProbability:
    @pytest.mark.parametrize(
        ("reply", "value"),
        [
            ("80 %", 0.8),
            ("80%", 0.8),
            ("80 percent", 0.8),
            ("80/100", 0.8),
            ("80 / 100.", 0.8),
            ("0.8", 0.8),
            (".8", 0.8),
            ("0.80.", 0.8),
            ("80", 0.8),
            ("I say 70%", 0.7),
            ("**70%**", 0.7),
            ("There are 3 reasons and 12 doubts.\nAnswer: 30 %", 0.3),
            ("Answer: 90%\nAnswer: 20%", 0.2),
            ("0.8, that is 80%", 0.8),
            ("80% (yes, 80 %)", 0.8),
            ("0", 0.0),
            ("0%", 0.0),
            ("100%", 1.0),
            ("100", 1.0),
            ("1.0", 1.0),
            ("1", 0.01),
            ("0.5%", 0.005),
            ("12.5 %", 0.125),
            ("- 80 %", 0.8),
            ("label_2 is wrong: 40%", 0.4),
        ],
    )
    def test_stated(self, reply, value):
        assert parse_probability(reply) == pytest.approx(value, abs=1e-12)

    @pytest.mark.parametrize(
        "reply",
        [
            "",
            "likely",
            "120 %",
            "120/100",
            "1000",
            "-5 %",
            "-0.3",
            "-.3",
            "between 70 and 80 %",
            "70-80%",
            "70% or 80%",
            "I'd say 3 out of 4",
            "Answer:",
            "50%\nAnswer: high",
            "9" * 400,
            "nan",
            "1e-5",
        ],
    )
    def test_not_stated(self, reply):
        assert parse_probability(reply) is None

    @given(st.text())
    def test_is_a_probability_or_none(self, reply):
        value = parse_probability(reply)
        assert value is None or 0 <= value <= 1

    @given(st.integers(0, 100), st.sampled_from(["%", " %", " percent", "/100"]))
    def test_percentages(self, number, unit):
        assert parse_probability(f"The probability is {number}{unit}.") == number / 100
