from __future__ import annotations

import copy
import math
import pickle
import re
from contextlib import nullcontext
from dataclasses import replace

import pytest
from datasets import Dataset
from datasets.fingerprint import Hasher
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fakes import FakeModel, by_text, shown

from act_hf.annotators import annotate
from act_hf.critics import criticize
from act_hf.errors import ACTError
from act_hf.models.asking import LimitReached, Usage, ask, rows_at_once
from act_hf.models.base import Answer, ChatRequest, Model, ScoreRequest
from act_hf.models.store import Store
from act_hf.records import stage_records, usage_facts
from act_hf.task import Task


TASK = Task(labels=["ham", "spam"], text="t")


def chat(text: str) -> ChatRequest:
    return ChatRequest(({"role": "user", "content": text},))


def chats(count: int) -> list[ChatRequest]:
    return [chat(str(i)) for i in range(count)]


def rows(count: int) -> Dataset:
    return Dataset.from_dict({"t": [f"row {i}" for i in range(count)]})


def priced(*costs: float | None, calls: int = 1) -> FakeModel:
    """Answers in order, each at its price."""
    return FakeModel(*(Answer(text=str(i), cost=cost, calls=calls) for i, cost in enumerate(costs)))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "answers.sqlite")


def asked(model, requests, store, usage=None) -> list[Answer]:
    return ask(model, requests, store=store, version="1", usage=usage or Usage())


class TestAsk:
    def test_answers_are_in_order_and_asked_once(self, store):
        model = FakeModel(by=by_text, batch_size=3)
        requests = [chat(text) for text in "abcabdaa"]
        usage = Usage()
        answers = asked(model, requests, store, usage)
        assert [answer.text for answer in answers] == [by_text(request) for request in requests]
        assert model.calls == len(store) == 4
        assert (usage.requests, usage.calls, usage.tokens_in, usage.tokens_out, usage.seconds) == (4, 4, 40, 8, 2.0)

    def test_nothing_is_asked_again(self, store):
        requests = [chat(text) for text in "abc"]
        first = asked(FakeModel(by=by_text, cost=0.25), requests, store)
        usage = Usage()
        assert asked(FakeModel(raise_after=0), requests[::-1], Store(store.path), usage) == first[::-1]
        assert (usage.requests, usage.calls, usage.tokens_in, usage.seconds) == (3, 0, 30, 1.5)
        assert (usage.cost, usage.spent) == (0.75, 0.0)

    def test_usage_counts_the_distinct_requests_of_each_batch(self, store):
        usage = Usage()
        for texts in ("aab", "bc", "abc"):
            asked(FakeModel(by=by_text), [chat(text) for text in texts], store, usage)
        assert (usage.requests, usage.calls, usage.tokens_in) == (2 + 2 + 3, 3, 70)

    @pytest.mark.parametrize("limits", [{}, {"max_calls": 0}, {"max_cost": 0}])
    def test_no_requests(self, store, limits):
        assert asked(FakeModel(raise_after=0), [], store, Usage(**limits)) == []

    def test_is_on_disk_before_the_next_is_asked_for(self, store):
        on_disk = []

        def by(request):
            on_disk.append(len(Store(store.path)))
            return "x"

        asked(FakeModel(by=by, batch_size=2), chats(6), store)
        assert on_disk == [0, 0, 2, 2, 4, 4]

    def test_an_error_loses_only_what_was_in_flight(self, store):
        usage = Usage()
        with pytest.raises(RuntimeError, match="break off"):
            asked(FakeModel(by=by_text, batch_size=3, raise_after=2), chats(10), store, usage)
        assert len(store) == usage.calls == 6
        again = FakeModel(by=by_text)
        answers = asked(again, chats(10), store)
        assert again.calls == 4
        assert [answer.text for answer in answers] == [by_text(request) for request in chats(10)]

    def test_what_differs_only_in_what_is_shared_is_asked_once(self, store):
        model = FakeModel(by=by_text)
        first, second = asked(model, [chat("a"), replace(chat("a"), shared=1)], store)
        assert first == second
        assert model.calls == 1

    def test_the_abilities_do_not_mix(self, store):
        request = ScoreRequest(chat("a").messages, ("a", "b"))
        model = FakeModel(by=by_text)
        asked(model, [chat("a"), request, replace(request, exact=True)], store)
        assert model.calls == len(store) == 3

    def test_the_fake_is_a_model(self):
        assert isinstance(FakeModel(), Model)


class TestAModelThatLeavesSomeOut:
    class Lazy(FakeModel):
        def answer(self, requests):
            for finished in super().answer(requests):
                yield {i: answer for i, answer in finished.items() if shown(requests[i]) in "048"}

    @pytest.mark.parametrize("limits", [{}, {"max_calls": 100}, {"max_cost": 100}])
    def test_is_a_mistake_of_the_model(self, store, limits):
        with pytest.raises(ACTError, match=r"^fake left 7 of 10 requests unanswered$"):
            asked(self.Lazy(by=by_text, cost=1.0), chats(10), store, Usage(**limits))
        assert len(store) == 3  # what it did answer is kept

    def test_one_that_answers_nothing(self, store):
        class Silent(FakeModel):
            def answer(self, requests):
                return iter(())

        with pytest.raises(ACTError, match="fake left 3 of 3 requests unanswered"):
            asked(Silent(), chats(3), store)


class TestFailures:
    def by(self, request):
        return Answer(failure="too long", calls=4, cost=0.5) if shown(request) == "1" else "fine"

    def test_are_calls_and_costs_but_are_not_stored(self, store):
        usage = Usage()
        answers = asked(FakeModel(by=self.by), chats(3), store, usage)
        assert [answer.failure for answer in answers] == [None, "too long", None]
        assert (usage.requests, usage.calls, usage.spent, len(store)) == (3, 6, 0.5, 2)

    def test_are_asked_again_by_the_next_run(self, store):
        asked(FakeModel(by=self.by), chats(3), store)
        again = FakeModel("fine")
        assert [answer.failure for answer in asked(again, chats(3), store)] == [None] * 3
        assert [shown(request) for request in again.asked] == ["1"]

    def test_are_asked_once_in_a_run(self, store):
        model = FakeModel(by=self.by)
        asked(model, [chat("1")] * 5, store)
        assert model.calls == 1


class TestUsage:
    def test_a_copy_keeps_the_limits_and_counts_for_itself(self):
        used = Usage(5, 0.5)
        used.paid("m", [Answer(calls=2, cost=0.25)])
        used.used([Answer(tokens_in=3)])
        used.listener = print
        for made in (pickle.loads(pickle.dumps(used)), copy.copy(used), copy.deepcopy(used)):
            assert made == Usage(5, 0.5)
            assert made.listener is None
            assert made.affordable("m") == 1
        assert (used.calls, used.requests) == (2, 1)

    def test_hashes_the_same_before_and_after_use(self):
        used = Usage(max_calls=5)
        used.paid("m", [Answer()])
        assert Hasher.hash(used) == Hasher.hash(Usage(max_calls=5)) != Hasher.hash(Usage(max_calls=6))

    @pytest.mark.parametrize("limit", [-1, -0.01, math.nan, -math.inf])
    @pytest.mark.parametrize("name", ["max_calls", "max_cost"])
    def test_a_limit_is_at_least_zero(self, name, limit):
        with pytest.raises(ACTError, match=f"^{name}={re.escape(repr(limit))} is no limit; give a number of at least"):
            Usage(**{name: limit})

    def test_limits_are_checked_before_anything_is_asked(self, store):
        model = FakeModel(by=by_text)
        with pytest.raises(ACTError, match="max_calls=-1 is no limit"):
            annotate(rows(1), TASK, model, store=store, max_calls=-1)
        assert model.calls == 0

    def test_the_listener_hears_of_every_payment(self, store):
        heard = []
        usage = Usage()
        usage.listener = lambda usage: heard.append((usage.calls, usage.spent, len(Store(store.path))))
        asked(FakeModel(by=by_text, batch_size=2, cost=0.5), chats(5), store, usage)
        assert heard == [(2, 1.0, 2), (4, 2.0, 4), (5, 2.5, 5)]  # when it is on disk
        asked(FakeModel(raise_after=0), chats(5), store, usage)
        assert len(heard) == 3

    def test_an_unknown_price_makes_the_whole_cost_unknown(self, store):
        usage = Usage()
        asked(priced(0.5, None, 0.25), chats(3), store, usage)
        assert (usage.cost, usage.spent) == (None, 0.75)
        asked(FakeModel(raise_after=0), chats(1), store, usage)
        assert usage.cost is None

    def test_calibrating_pays_but_is_not_counted_twice(self, store):
        usage = Usage()
        usage.calibrating = True
        asked(FakeModel(by=by_text, cost=0.5), chats(3), store, usage)
        assert (usage.requests, usage.cost, usage.calls, usage.spent) == (0, 0.0, 3, 1.5)
        usage.calibrating = False
        asked(FakeModel(raise_after=0), chats(3), store, usage)
        assert (usage.requests, usage.cost, usage.calls, usage.spent) == (3, 1.5, 3, 1.5)

    def test_facts_for_a_progress_bar(self):
        usage = Usage()
        assert usage.facts() == {"calls": "0"}
        usage.paid("m", [Answer(calls=12_345)])
        assert usage.facts() == {"calls": "12,345"}
        usage.paid("m", [Answer(cost=0.01234), Answer(cost=None)])
        assert usage.facts() == {"calls": "12,347", "cost": "$0.0123"}


class TestMaxCalls:
    @pytest.mark.parametrize("limit", [0, 1, 5, 9])
    def test_is_never_passed(self, store, limit):
        model = FakeModel(by=by_text)
        usage = Usage(max_calls=limit)
        with pytest.raises(LimitReached):
            asked(model, chats(10), store, usage)
        assert model.calls == usage.calls == len(store) == limit

    @pytest.mark.parametrize(("limit", "sizes"), [(10, [1, 9]), (11, [1, 9]), (None, [10])])
    def test_is_not_reached_by_what_it_allows(self, store, limit, sizes):
        model = FakeModel(by=by_text)
        asked(model, chats(10), store, Usage(max_calls=limit))
        assert model.sizes == sizes  # nearly in one group: a limit must not make it slow

    def test_is_of_the_run_not_of_the_batch(self, store):
        usage = Usage(max_calls=5)
        asked(FakeModel(by=by_text), chats(3), store, usage)
        with pytest.raises(LimitReached):
            asked(FakeModel(by=by_text), chats(10), store, usage)
        assert usage.calls == len(store) == 5

    def test_what_is_stored_needs_no_calls(self, store):
        asked(FakeModel(by=by_text), chats(10), store)
        usage = Usage(max_calls=0)
        assert len(asked(FakeModel(raise_after=0), chats(10), store, usage)) == 10
        assert usage.requests == 10

    def test_repeats_count(self, store):
        model = priced(*[0.0] * 10, calls=3)
        usage = Usage(max_calls=10)
        asked(model, chats(1), store, usage)
        with pytest.raises(LimitReached):  # two more at three each; the next one may not fit
            asked(model, chats(10), store, usage)
        assert (model.calls, usage.calls) == (3, 9)

    def test_a_model_that_sends_several_for_one_of_ours_keeps_to_it(self, store):
        model = priced(*[0.0] * 10, calls=3)
        usage = Usage(max_calls=10)
        with pytest.raises(LimitReached):
            asked(model, chats(10), store, usage)
        assert (model.sizes, usage.calls) == ([1, 2], 9)

    def test_one_that_was_repeated_says_nothing_of_the_others(self, store):
        replies = [Answer(text="x", calls=6 if i == 5 else 1) for i in range(100)]
        model = FakeModel(*replies)
        usage = Usage(max_calls=60)
        with pytest.raises(LimitReached):
            asked(model, chats(100), store, usage)
        assert model.sizes == [1, 59]
        assert usage.calls == 65  # what repeats pass it by

    def test_says_what_was_done_and_how_to_go_on(self, store):
        with pytest.raises(ACTError) as raised:
            asked(priced(*[0.25] * 9), chats(9), store, Usage(max_calls=3, max_cost=7))
        assert str(raised.value) == (
            "stopped at max_calls=3 and max_cost=7: 3 calls sent, $0.7500 spent. What was answered is kept in "
            f"{str(store.path)!r}; the same call with a higher limit goes on from there"
        )

    def test_names_only_the_limits_given(self, store):
        with pytest.raises(LimitReached, match=r"^stopped at max_calls=0: 0 calls sent"):
            asked(FakeModel(), chats(1), store, Usage(max_calls=0))


class TestMaxCost:
    def test_the_first_request_goes_alone(self, store):
        model = priced(*[0.125] * 9)
        asked(model, chats(9), store, Usage(max_cost=100))
        assert model.sizes == [1, 8]

    def test_without_it_none_does(self, store):
        model = priced(*[0.125] * 9)
        asked(model, chats(9), store)
        assert model.sizes == [9]

    def test_is_never_passed(self, store):
        model = FakeModel(by=by_text, cost=0.3)
        usage = Usage(max_cost=1)
        with pytest.raises(LimitReached, match=r"stopped at max_cost=1: 3 calls sent, \$0.9000 spent"):
            asked(model, chats(10), store, usage)
        assert (model.calls, usage.calls, len(store)) == (3, 3, 3)

    @pytest.mark.parametrize(("limit", "cost", "count"), [(0.3, 0.1, 3), (0.03, 0.01, 3), (0.7, 0.1, 7), (1, 0.25, 4)])
    def test_can_be_used_up(self, store, limit, cost, count):
        model = FakeModel(by=by_text, cost=cost)
        asked(model, chats(count), store, Usage(max_cost=limit))
        assert model.calls == count

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(st.integers(0, 1000), min_size=1, max_size=12),
        st.integers(0, 4000),
        st.integers(0, 12),
        st.integers(1, 4),
    )
    def test_no_limit_is_passed_when_prices_only_fall(self, prices, max_cost, max_calls, batch_size):
        costs = [price / 1000 for price in sorted(prices, reverse=True)]
        model = priced(*costs)
        model.batch_size = batch_size
        usage = Usage(max_calls=max_calls, max_cost=max_cost / 1000)
        store = Store(":memory:")
        try:
            asked(model, chats(len(costs)), store, usage)
        except LimitReached:
            assert model.calls < len(costs)
        else:
            assert model.calls == len(costs)
        # The first request alone can cost more than all there was.
        assert usage.spent <= max(max_cost / 1000, costs[0]) + 1e-6
        assert usage.calls == model.calls == len(store) <= max_calls

    def test_a_request_dearer_than_those_before_can_pass_it_by_its_group_alone(self, store):
        model = priced(0.1, 0.2, 0.2, 0.2, 0.2, 0.1)
        model.batch_size = 100
        usage = Usage(max_cost=0.5)
        with pytest.raises(LimitReached):
            asked(model, chats(6), store, usage)
        assert model.sizes == [1, 4]
        assert usage.spent == pytest.approx(0.9)

    def test_a_model_that_is_free_is_not_limited(self, store):
        model = priced(*[0.0] * 9)
        asked(model, chats(9), store, Usage(max_cost=0.01))
        assert model.sizes == [1, 8]

    def test_an_unknown_price_is_refused_after_one_request(self, store):
        model = priced(*[None] * 9)
        with pytest.raises(ACTError, match=r"^max_cost=1 needs to know what answers cost, and for fake the price or"):
            asked(model, chats(9), store, Usage(max_cost=1))
        assert model.calls == len(store) == 1  # paid, so kept

    def test_an_unknown_price_without_a_limit_is_no_matter(self, store):
        assert len(asked(priced(*[None] * 3), chats(3), store, Usage(max_calls=3))) == 3

    def test_a_first_request_that_failed_says_nothing_of_the_price(self, store):
        def by(request):
            return Answer(failure="HTTP 500") if shown(request) in "01" else Answer(text="x", cost=0.5)

        model = FakeModel(by=by)
        usage = Usage(max_cost=1)
        with pytest.raises(LimitReached):
            asked(model, chats(9), store, usage)
        assert model.sizes == [1, 1, 1, 1]
        assert usage.spent == 1.0

    def test_a_failure_that_cost_something_does(self, store):
        model = FakeModel(by=lambda request: Answer(failure="cut", cost=0.5))
        with pytest.raises(LimitReached):
            asked(model, chats(9), store, Usage(max_cost=1.5))
        assert model.sizes == [1, 2]

    def test_each_kind_of_request_has_its_price(self, store):
        # To choose can take an endpoint several requests.
        def by(request):
            return Answer(text="x", cost=0.001) if isinstance(request, ChatRequest) else Answer(cost=0.5)

        model = FakeModel(by=by)
        usage = Usage(max_cost=1)
        asked(model, chats(9), store, usage)
        with pytest.raises(LimitReached):
            asked(model, [ScoreRequest(request.messages, ("a", "b")) for request in chats(9)], store, usage)
        assert model.sizes == [1, 8, 1]
        assert usage.spent == pytest.approx(0.509)

    def test_each_model_has_its_price(self, store):
        free, dear = FakeModel(by=by_text, name="free"), FakeModel(by=by_text, name="dear", cost=1.0)
        usage = Usage(max_cost=3)
        asked(free, chats(9), store, usage)
        with pytest.raises(LimitReached):
            asked(dear, chats(9), store, usage)
        assert (free.sizes, dear.sizes) == ([1, 8], [1, 2])
        assert usage.spent == 3.0


class TestGoingOn:
    @pytest.mark.parametrize("limit", [{"max_calls": 7}, {"max_cost": 1.75}])
    @pytest.mark.parametrize("strategy", ["naive", "cot"])
    @pytest.mark.parametrize("calibration", ["none", "batch"])
    def test_a_second_run_pays_only_the_rest(self, store, tmp_path, limit, strategy, calibration):
        options = {"strategy": strategy, "calibration": calibration, "batch_size": 8}
        first = FakeModel(by=by_text, cost=0.25)
        with pytest.raises(LimitReached, match="the same call with a higher limit goes on from there"):
            annotate(rows(20), TASK, first, store=store, **limit, **options)
        assert first.calls == len(store) == 7
        second = FakeModel(by=by_text, cost=0.25)
        resumed = annotate(rows(20), TASK, second, store=store, max_calls=1000, max_cost=1000, **options)
        total = 20 * (2 if strategy == "cot" else 1)
        assert second.calls == total - 7
        usage = stage_records(resumed)[0]["usage"]
        assert (usage["calls"], usage["spent"]) == (total - 7, 0.25 * (total - 7))
        assert (usage["requests"], usage["cost"]) == (total, 0.25 * total)
        whole = annotate(rows(20), TASK, FakeModel(by=by_text, cost=0.25), store=tmp_path / "new.sqlite", **options)
        assert resumed.to_dict() == whole.to_dict()

    def test_again_and_again_until_it_is_done(self, store):
        for done in range(0, 20, 6):
            assert len(store) == done
            with pytest.raises(LimitReached) if done < 18 else nullcontext():
                annotate(rows(20), TASK, FakeModel(by=by_text), store=store, max_calls=6, batch_size=4)
        assert len(store) == 20

    def test_a_critic(self, store):
        dataset = annotate(rows(10), TASK, FakeModel(by=by_text), store=store)
        options = {"strategy": "cot_logit", "store": store, "batch_size": 4}
        with pytest.raises(LimitReached):
            criticize(dataset, FakeModel(by=by_text, name="critic"), max_calls=5, **options)
        second = FakeModel(by=by_text, name="critic")
        done = criticize(dataset, second, max_calls=15, **options)
        assert second.calls == 15
        assert usage_facts(Usage()).keys() == stage_records(done)[-1]["usage"].keys()
        assert None not in done["act_error_prob"][:]


@pytest.mark.parametrize(("concurrency", "text", "images"), [(1, 128, 64), (8, 1024, 64), (64, 8192, 512)])
def test_rows_at_once_keep_a_concurrent_model_busy(concurrency, text, images):
    model, pictures = FakeModel(), Task(labels=["a", "b"], image="i")
    assert rows_at_once(model, TASK) == rows_at_once(model, pictures) == 64
    model.concurrency = concurrency
    assert rows_at_once(model, TASK) == text
    assert rows_at_once(model, pictures) == images
