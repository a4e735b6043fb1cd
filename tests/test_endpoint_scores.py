from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import stamina
from support.asked import answer_of, answers_of, endpoint, score
from support.server import Server, generated, perplexed, tokens_of

from act_hf.errors import ACTError
from act_hf.models.endpoint import Endpoint
from act_hf.models.endpoint.forcing import chat_template


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """Repeats come at once."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


YES = ("Yes", "yes", "No", "NO", "no")


def tops(*steps: dict[str, float]) -> Any:
    """For the n-th token, the probabilities of what it could be; the most probable one is said."""

    def given(body: dict[str, Any], said: str) -> list[tuple[str, float]]:
        for step in steps:
            ranked = sorted(step.items(), key=lambda entry: -entry[1])
            if not said:
                return [(token, math.log(share)) for token, share in ranked]
            if not said.startswith(ranked[0][0]):
                break
            said = said[len(ranked[0][0]) :]
        return []

    return given


class TestChoose:
    def shares(self, model: Endpoint, *continuations: str) -> list[float]:
        answer = answer_of(model, score("is it?", *continuations))
        assert answer.failure is None
        return [math.exp(value) for value in answer.logprobs]

    def test_one_call_where_first_tokens_tell_them_apart(self):
        with Server(tops=tops({"Yes": 0.6, "No": 0.2, " no": 0.1, "Maybe": 0.05})) as server:
            given = self.shares(endpoint(server), *YES)
        assert given == pytest.approx([0.6, 0.01, 0.2, 0.01, 0.1], abs=1e-9)
        (body,) = server.bodies
        assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)
        assert body["temperature"] == 0

    def test_scores_are_taken_at_temperature_zero(self):
        with Server(tops=tops({"a": 0.6, "b": 0.2})) as server:
            self.shares(endpoint(server, temperature=0.9, top_logprobs=5), "a", "b")
        assert (server.bodies[0]["temperature"], server.bodies[0]["top_logprobs"]) == (0, 5)

    def test_tgi_lists_five_at_most(self):
        with Server(tops=tops({"a": 0.6, "b": 0.2})) as server:
            self.shares(endpoint(server, server="tgi"), "a", "b")
            self.shares(endpoint(server, server="tgi", top_logprobs=3), "a", "b")
        assert [body["top_logprobs"] for body in server.bodies] == [5, 3]

    @pytest.mark.parametrize(("end", "given"), [("eos_token", [0.8, 0.2]), ("length", [0.4, 0.2])])
    def test_tgi_has_its_own_word_for_the_end(self, end, given):
        class Ending(Server):
            def complete(self, body):
                made = super().complete(body)
                made["choices"][0]["finish_reason"] = end
                return made

        with Ending(tops=tops({"sad": 0.8, "joy": 0.2})) as server:
            sad, _, joy = self.shares(endpoint(server, server="tgi"), "sad", "sadness", "joy")
        assert [sad, joy] == pytest.approx(given)

    def test_none_of_them_is_a_failure_that_shows_what_there_was(self):
        with Server(tops=tops({"The": 0.6, "I\x1b[31m": 0.2})) as server:
            answer = answer_of(endpoint(server), score("is it?", "spam", "ham"))
        assert answer.failure == (
            "none of the replies 'spam', 'ham' is among the most probable ones; these are 'The', 'I [31m'"
        )

    def test_labels_that_begin_alike_are_followed(self):
        steps = tops({"ne": 0.6, "pos": 0.4}, {"utral": 0.75, "gative": 0.25})
        with Server(tops=steps) as server:
            model = endpoint(server)
            request = score("is it?", "negative", "neutral", "positive")
            first, second = answer_of(model, request), answer_of(model, request)
        assert [math.exp(value) for value in first.logprobs] == pytest.approx([0.15, 0.45, 0.4])
        assert second.logprobs == first.logprobs
        # The second time it is known that one token is not enough.
        assert (first.calls, second.calls) == (2, 1)
        assert [body["max_tokens"] for body in server.bodies] == [1, 4, 4]

    @pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
    def test_a_server_that_can_is_asked_for_those_in_question(self, kind):
        with Server(tops=tops({"ne": 0.6, "pos": 0.4})) as server:
            answer = answer_of(endpoint(server, server=kind), score("is it?", "negative", "neutral", "positive"))
        exact = [math.exp(perplexed("is it?", text)[0]) for text in ("negative", "neutral")]
        wanted = [0.6 * exact[0] / sum(exact), 0.6 * exact[1] / sum(exact), 0.4]
        assert [math.exp(value) for value in answer.logprobs] == pytest.approx(wanted)
        assert answer.calls == server.requests == 3

    @pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
    def test_and_for_all_where_none_was_listed(self, kind):
        with Server(tops=tops({"The": 0.6, "I": 0.4})) as server:
            answer = answer_of(endpoint(server, server=kind), score("is it?", "spam", "ham"))
        assert list(answer.logprobs) == pytest.approx([perplexed("is it?", text)[0] for text in ("spam", "ham")])
        assert answer.calls == 3

    @pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
    @pytest.mark.parametrize("said", [{"The": 0.7, "spam": 0.2, "no": 0.1}, {"spam": 0.6, "The": 0.2}])
    def test_and_for_all_where_the_first_token_says_little(self, kind, said):
        """The model would say something else; or a reply that is not listed could have as much as is left."""
        with Server(tops=tops(said)) as server:
            answer = answer_of(endpoint(server, server=kind), score("is it?", "spam", "no spam"))
        assert list(answer.logprobs) == pytest.approx([perplexed("is it?", text)[0] for text in ("spam", "no spam")])
        assert answer.calls == 3

    def test_another_server_can_only_say_what_it_listed(self):
        with Server(tops=tops({"The": 0.7, "spam": 0.2, "ham": 0.1})) as server:
            assert self.shares(endpoint(server), "spam", "ham") == pytest.approx([0.2, 0.1])
        assert server.requests == 1

    def test_single_tokens_need_no_more(self):
        class Words(Server):
            async def _tokenise(self, request):
                from aiohttp import web

                return web.json_response({"tokens": [{"id": 7, "piece": (await request.json())["content"]}]})

        with Words(tops=tops({"The": 0.7, "spam": 0.2, "ham": 0.1})) as server:
            assert self.shares(endpoint(server, server="llama.cpp"), "spam", "ham") == pytest.approx([0.2, 0.1])

    def test_as_many_tokens_are_listed_as_the_server_gives(self):
        for kind, listed in {"openai": 20, "vllm": 20, "llama.cpp": 1000, "tgi": 5}.items():
            with Server(tops=tops({"spam": 0.9, "ham": 0.1})) as server:
                self.shares(endpoint(server, server=kind), "spam", "ham")
            assert server.bodies[0]["top_logprobs"] == listed

    def test_letters_in_pieces_cannot_be_forced(self):
        class Pieces(Server):
            async def _tokenise(self, request):
                from aiohttp import web

                return web.json_response({"tokens": [{"id": 1, "piece": [226]}, {"id": 2, "piece": [130, 172]}]})

        with Pieces(tops=tops({"ne": 0.6, "pos": 0.4}, {"utral": 0.75, "gative": 0.25})) as server:
            model = endpoint(server, server="llama.cpp")
            assert self.shares(model, "negative", "neutral", "positive") == pytest.approx([0.15, 0.45, 0.4])
            with pytest.raises(ACTError, match=r"llama.cpp cannot score '€'"):
                answer_of(model, score("is it?", "€", exact=True))


class TestLogprobs:
    def test_a_server_without_any_is_found_out_with_one_request(self):
        with Server(logprobs=False) as server, pytest.raises(ACTError) as error:
            answers_of(endpoint(server), [score(f"text {number}", "a", "b") for number in range(50)])
        assert server.requests == 1
        assert str(error.value) == (
            "m gives no log-probabilities; pass logprobs=False and use a strategy that chats (naive, cot, mc, devil)"
        )

    @pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
    def test_exact_scores_too(self, kind):
        with Server(logprobs=False) as server, pytest.raises(ACTError, match="m gives no log-probabilities"):
            answer_of(endpoint(server, server=kind), score("x", "a", "b", exact=True))
        assert server.requests == 1

    def test_without_them_later_the_row_fails_alone(self):
        with Server(faults=["", "no logprobs"]) as server:
            model = endpoint(server, concurrency=1)
            answers = answers_of(model, [score(f"text {number}", "number", "b") for number in range(3)])
        assert [answer.failure for answer in answers] == [None, "the reply has no log-probabilities", None]

    def test_the_first_ones_go_alone(self):
        with Server(latency=0.01, faults=["no choices"] * 2) as server:
            answers_of(endpoint(server), [score(f"text {number}", "number", "b") for number in range(20)])
            first = next(iter(server.seen))
            assert server.seen[first] == 3

    def test_an_empty_reply(self):
        with Server(tops=lambda body, said: []) as server:
            answer = answer_of(endpoint(server), score("x", "a", "b"))
        assert answer.failure == "the model said nothing"


class TestExact:
    @pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
    def test_every_token_of_every_reply(self, server, kind):
        replies = ("spam", "not spam", "Definitely, yes!")
        answer = answer_of(endpoint(server, server=kind, prices=(1.0, 1.0)), score("is it?", *replies, exact=True))
        wanted = [perplexed("is it?", reply) for reply in replies]
        assert list(answer.logprobs) == pytest.approx([total for total, _ in wanted])
        assert answer.lengths == tuple(length for _, length in wanted)
        assert answer.calls == server.requests == 3
        assert answer.cost == pytest.approx((answer.tokens_in + answer.tokens_out) / 1e6)

    def test_llama_cpp_is_led_by_token_numbers(self, server):
        model = endpoint(server, server="llama.cpp")
        requests = [score(f"text {number}", "not spam", exact=True) for number in range(5)]
        answers_of(model, requests)
        assert server.bodies[0]["grammar"].startswith("root ::= <[")
        assert server.bodies[0]["max_tokens"] == len(tokens_of("not spam"))
        assert server.tokenised == 1

    def test_vllm_reads_it_as_part_of_the_prompt(self, server):
        answer_of(endpoint(server, server="vllm"), score("is it?", "spam", exact=True))
        (body,) = server.bodies
        assert body["messages"][-1] == {"role": "assistant", "content": "spam"}
        assert (body["prompt_logprobs"], body["add_generation_prompt"], body["continue_final_message"]) == (
            0,
            False,
            True,
        )

    def test_a_grammar_that_was_not_kept(self):
        class Free(Server):
            def _forced(self, body):
                return None

        with Free() as server:
            answer = answer_of(endpoint(server, server="llama.cpp"), score("x", "spam", exact=True))
        assert answer.failure == "the server wrote 'numb' where its grammar left only 'spam'"

    def test_the_right_text_of_other_tokens(self):
        class Merging(Server):
            def _forced(self, body):
                steps, finish = super()._forced(body)
                first, second, *rest = steps
                return [{**first, "token": first["token"] + second["token"]}, *rest], finish

        with Merging() as server:
            answer = answer_of(endpoint(server, server="llama.cpp"), score("x", "not spam", exact=True))
        assert answer.failure == "the server wrote 'not spam' where its grammar left only 'not spam'"

    def test_tokens_that_write_a_space_as_a_bar(self):
        class Barred(Server):
            def complete(self, body):
                made = super().complete(body)
                for entry in made["prompt_logprobs"][1:]:
                    (token,) = entry.values()
                    token["decoded_token"] = token["decoded_token"].replace(" ", "▁")
                return made

        with Barred() as server:
            answer = answer_of(endpoint(server, server="vllm"), score("x", "a not spam", exact=True))
        assert answer.failure is None

    def test_a_prompt_that_ends_otherwise(self):
        class Other(Server):
            def complete(self, body):
                made = super().complete(body)
                made["prompt_logprobs"].append({"9": {"logprob": -1, "decoded_token": "<|end|>"}})
                return made

        with Other() as server:
            answer = answer_of(endpoint(server, server="vllm"), score("x", "spam", exact=True))
        assert answer.failure == "'spam' is not at the end of the prompt that the server read"

    def test_an_empty_continuation_is_a_mistake(self, server):
        with pytest.raises(ACTError, match="an empty continuation"):
            answer_of(endpoint(server, server="vllm"), score("x", " ", exact=True))

    def test_tgi_reads_the_tokenizers_prompt(self, server, tiny_llama):
        model = endpoint(server, server="tgi", tokenizer=str(tiny_llama))
        request = score("is it <|im_end|>?", "spam", "not spam", exact=True)
        answer = answer_of(model, request)
        prompt = server.bodies[0]["inputs"].removesuffix("spam")
        assert prompt.endswith("assistant\n")
        assert prompt.count("<|im_end|>") == 1  # the row's own is none
        # The line end before the reply is in one token with the reply's first word.
        for text, logprob, length in zip(request.continuations, answer.logprobs, answer.lengths, strict=True):
            last = generated(prompt + text)["details"]["prefill"][-length:]
            assert "".join(token["text"] for token in last) == "\n" + text
            assert logprob == pytest.approx(sum(token["logprob"] for token in last))
        assert answer.calls == server.requests == 2

    def test_tgi_adds_the_first_token_itself(self, tiny_llama, tmp_path):
        from tokenizers.processors import TemplateProcessing
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
        first = tokenizer.bos_token
        tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
        plain = chat_template(str(tiny_llama))(score("is it?").messages)
        for adds in (False, True):
            if adds:
                tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
                    single=f"{first} $A", special_tokens=[(first, tokenizer.bos_token_id)]
                )
            tokenizer.save_pretrained(tmp_path / str(adds))
            prompt = chat_template(str(tmp_path / str(adds)))(score("is it?").messages)
            assert prompt == (plain if adds else first + plain)

    def test_tgi_without_a_chat_template(self, server, tmp_path):
        with pytest.raises(ACTError, match="cannot load the tokenizer"):
            endpoint(server, server="tgi", tokenizer=str(tmp_path)).answer([score("x", "a", exact=True)])
