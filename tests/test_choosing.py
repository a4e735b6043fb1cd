from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act_hf.models.endpoint.choosing import Step, alike, read_steps, walk


def step(*tops: tuple[str, float], taken: str | None = None) -> Step:
    """A step by the probabilities of its tokens; the first one, or `taken`, is said."""
    listed = tuple((token.encode(), math.log(share)) for token, share in tops)
    said = tops[0][0].encode() if taken is None else taken.encode()
    return Step(said, dict(listed)[said], listed)


def shares(steps: list[Step], *continuations: str, ended: bool = False) -> list[float]:
    return [math.exp(value) for value in walk(steps, continuations, ended=ended).logprobs()]


class TestOneStep:
    def test_first_tokens_tell_the_continuations_apart(self):
        steps = [step(("sp", 0.6), ("ham", 0.3), ("The", 0.1))]
        assert shares(steps, "spam", "ham") == pytest.approx([0.6, 0.3])

    def test_tokens_for_the_same_continuation_add_up(self):
        steps = [step(("spam", 0.5), (" spam", 0.2), ("sp", 0.1), ("ham", 0.1))]
        assert shares(steps, "spam", "ham") == pytest.approx([0.8, 0.1])

    def test_a_token_that_is_listed_twice_adds_up_too(self):
        # Two tokens can be written alike. The one that was said is one of them, and counts once.
        twice = ((b"spam", math.log(0.5)), (b"spam", math.log(0.2)), (b"ham", math.log(0.1)))
        assert shares([Step(b"spam", math.log(0.5), twice)], "spam", "ham") == pytest.approx([0.7, 0.1])

    def test_spellings_are_continuations_of_their_own(self):
        steps = [step(("Yes", 0.5), ("yes", 0.2), ("No", 0.1), ("no", 0.05), ("NO", 0.05))]
        assert shares(steps, "Yes", "yes", "YES", "No", "no", "NO")[:2] == pytest.approx([0.5, 0.2])

    def test_what_is_not_listed_gets_less_than_anything_that_is(self):
        spread = walk([step(("spam", 0.7), ("The", 0.2))], ["spam", "ham", "eggs"])
        floor = math.exp(spread.logprobs()[1])
        assert floor == pytest.approx(0.1 / 3)
        assert walk([step(("spam", 0.5), ("The", 0.01))], ["spam", "ham"]).logprobs()[1] == math.log(0.01)

    def test_a_longer_word_is_not_the_continuation(self):
        assert not walk([step(("10", 0.9), ("Spam", 0.1))], ["1", "2"]).found

    def test_none_of_them_is_listed(self):
        spread = walk([step(("The", 0.9), ("I\x1b", 0.1))], ["spam", "ham"])
        assert not spread.found
        assert spread.instead == "'The', 'I '"

    def test_a_token_that_begins_several_is_open(self):
        spread = walk([step(("ne", 0.6), ("pos", 0.4))], ["negative", "neutral", "positive"])
        assert spread.undecided == (0, 1)
        assert [math.exp(value) for value in spread.logprobs()] == pytest.approx([0.3, 0.3, 0.4])

    def test_little_that_is_unclear_is_shared_without_asking(self):
        spread = walk([step(("No", 0.9), ("N", 0.004), ("Yes", 0.096))], ["No", "NO", "Yes"])
        assert spread.undecided == ()
        assert [math.exp(value) for value in spread.logprobs()] == pytest.approx([0.902, 0.002, 0.096])

    def test_white_space_says_nothing_but_asks_for_more(self):
        spread = walk([step(("\n", 0.5), ("spam", 0.3), ("ham", 0.2))], ["spam", "ham"])
        assert spread.undecided == (0, 1)
        assert [math.exp(value) for value in spread.logprobs()] == pytest.approx([0.3, 0.2])

    def test_an_end_at_once_is_no_continuation(self):
        assert not walk([step(("", 0.9), ("The", 0.1))], ["spam", "ham"], ended=True).found

    def test_exact_scores_settle_what_is_open(self):
        spread = walk([step(("ne", 0.6), ("pos", 0.4))], ["negative", "neutral", "positive"])
        spread.settle({0: math.log(0.02), 1: math.log(0.01)})
        assert [math.exp(value) for value in spread.logprobs()] == pytest.approx([0.4, 0.2, 0.4])

    def test_what_was_too_little_to_ask_about_stays_shared(self):
        spread = walk(
            [step(("ne", 0.7), ("good", 0.285), ("po", 0.008), ("x", 0.0001))],
            ["negative", "neutral", "positive", "poor", "good"],
        )
        assert spread.undecided == (0, 1)
        spread.settle({0: math.log(0.02), 1: math.log(0.01)})
        assert [math.exp(value) for value in spread.logprobs()][2:] == pytest.approx([0.004, 0.004, 0.285])

    def test_exact_scores_settle_white_space_too(self):
        spread = walk([step((" ", 0.9), ("a", 0.1))], ["a", "b"])
        spread.settle({0: math.log(0.1), 1: math.log(0.3)})
        assert [math.exp(value) for value in spread.logprobs()] == pytest.approx([0.325, 0.675])


class TestPath:
    def test_the_next_token_tells_them_apart(self):
        steps = [step(("ne", 0.6), ("pos", 0.4)), step(("utral", 0.75), ("gative", 0.25))]
        assert shares(steps, "negative", "neutral", "positive") == pytest.approx([0.15, 0.45, 0.4])

    def test_a_complete_continuation_gets_what_goes_nowhere_else(self):
        steps = [step(("sad", 0.8), ("joy", 0.2)), step((".", 0.6), ("ness", 0.3), ("", 0.1))]
        assert shares(steps, "sad", "sadness", "joy") == pytest.approx([0.56, 0.24, 0.2])

    def test_a_reply_that_ended_is_the_complete_one(self):
        steps = [step(("sad", 0.8), ("joy", 0.2))]
        assert shares(steps, "sad", "sadness", "joy", ended=True) == pytest.approx([0.8, 0.06667, 0.2], abs=0.1)
        assert shares(steps, "sad", "sadness", "joy") == pytest.approx([0.4, 0.4, 0.2])

    def test_white_space_first(self):
        steps = [step((" ", 0.9), ("ham", 0.1)), step(("spam", 0.8), ("ham", 0.2))]
        assert shares(steps, "spam", "ham") == pytest.approx([0.72, 0.28])

    def test_a_path_that_leaves_all_of_them_is_lost(self):
        steps = [step(("not", 0.9), ("spam", 0.1)), step((" really", 0.7), (" ham", 0.3))]
        assert shares(steps, "not spam", "not ham", "spam")[1:] == pytest.approx([0.27, 0.1])

    def test_a_beginning_of_one_only_is_enough(self):
        steps = [step(("not", 0.9), ("spam", 0.1)), step((" really", 0.7), (" spam", 0.3))]
        assert shares(steps, "not spam", "spam") == pytest.approx([0.9, 0.1])

    def test_what_stays_open_at_the_end_is_shared(self):
        steps = [step(("n", 1.0)), step(("e", 1.0))]
        assert shares(steps, "negative", "neutral") == pytest.approx([0.5, 0.5])

    def test_letters_of_several_tokens(self):
        euro = "€".encode()
        steps = [
            Step(euro[:1], math.log(0.9), ((euro[:1], math.log(0.9)), (b"$", math.log(0.1)))),
            Step(euro[1:], math.log(0.5), ((euro[1:], math.log(0.5)), ("₤".encode()[1:], math.log(0.5)))),
        ]
        assert shares(steps, "€", "₤", "$") == pytest.approx([0.45, 0.45, 0.1])

    @given(st.lists(st.sampled_from(["a", "ab", "b", " a", "\n", "abc", "x", ""]), min_size=1, unique=True), st.data())
    def test_never_more_than_there_is(self, tokens, data):
        steps = []
        for _ in range(data.draw(st.integers(1, 4))):
            weights = data.draw(st.lists(st.floats(0.01, 1), min_size=len(tokens), max_size=len(tokens)))
            tops = [(token, weight / sum(weights)) for token, weight in zip(tokens, weights, strict=True)]
            steps.append(step(*tops, taken=data.draw(st.sampled_from(tokens))))
        spread = walk(steps, ["a", "abc", "b"], ended=data.draw(st.booleans()))
        found = [math.exp(value) for value in spread.clear]
        assert sum(found) + sum(math.exp(mass) for mass, _ in spread.unclear) <= 1 + 1e-9
        assert all(math.isfinite(value) for value in spread.logprobs())


class TestReading:
    def entry(self, **changes):
        return {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "top_logprobs": [{"token": "b", "logprob": -1}],
            **changes,
        }

    def test_reads_tokens_as_bytes(self):
        (read,) = read_steps([self.entry(token="\\xe2", bytes=[0xE2])])
        assert read == Step(b"\xe2", -0.5, ((b"b", -1.0),))

    @pytest.mark.parametrize(
        "wrong",
        [None, 1, {"token": 1}, {"token": "a"}, {"token": "a", "logprob": None}, {"token": "a", "logprob": "x"}],
    )
    def test_what_is_no_token_ends_it(self, wrong):
        assert len(read_steps([self.entry(), wrong, self.entry()])) == 1

    def test_nan_and_infinity_are_no_log_probabilities(self):
        assert read_steps([self.entry(logprob=float("nan"))]) == []
        assert read_steps([self.entry(top_logprobs=[{"token": "b", "logprob": float("-inf")}])])[0].top == ()

    def test_bytes_that_are_none_fall_back_to_the_text(self):
        for wrong in ([300], ["a"], "a", None):
            assert read_steps([self.entry(bytes=wrong)])[0].token == b"a"

    def test_a_probability_above_one_is_one(self):
        assert read_steps([self.entry(logprob=1e-6)])[0].logprob == 0.0

    def test_anything_else(self):
        assert read_steps("abc") == read_steps(None) == read_steps({}) == []

    def test_tokens_that_cannot_come_are_no_floor(self):
        listed = ((b"a", -0.1), (b"b", -9999.0))
        assert walk([Step(b"a", -0.1, listed)], ["a", "b"]).logprobs()[1] > -10


def test_alike_counts_shared_bytes():
    assert alike(["spam", "ham"]) == 0
    assert alike(["sad", "joy", "sadness"]) == 3
    assert alike(["Yes", "yes", "No", "NO"]) == 1
    assert alike(["é", "è"]) == 1
    assert alike(["alone"]) == 0
