"""What a run will take: the range holds the truth as often as it says, and the pilot is not paid for again."""

import re

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.fakes import FakeModel, by_text, shown
from support.server import Server

from act_hf import prompts
from act_hf.annotators import Annotator, annotate
from act_hf.columns import LABEL
from act_hf.critics import criticize
from act_hf.errors import ACTError
from act_hf.models.asking import LimitReached, Usage
from act_hf.models.base import Answer, ChatRequest
from act_hf.models.endpoint import Endpoint
from act_hf.models.store import Store, request_key
from act_hf.planning import plan
from act_hf.planning.extrapolation import FEWEST, Range, extrapolate, guess
from act_hf.task import Task


TASK = Task(labels=["spam", "ham", "eggs"], text="t")
ROWS = Dataset.from_dict({"t": [f"row {i} " + "word " * (i % 13) for i in range(120)]})
CHAT = ("chat",)


def priced(request) -> Answer:
    """The answer of `by_text`, with tokens and dollars that grow with the request."""
    given = by_text(request)
    read = sum(len(str(message["content"]).split()) for message in request.messages)
    written = len(given.split()) if isinstance(given, str) else 1
    content = {"text": given} if isinstance(given, str) else {"logprobs": tuple(given)}
    if not isinstance(request, ChatRequest) and request.exact:
        content["lengths"] = (5,) * len(request.continuations)
    return Answer(**content, tokens_in=read, tokens_out=written, seconds=0.5, cost=(read + 4 * written) / 1e3)


def model(**options) -> FakeModel:
    return FakeModel(by=priced, **options)


def keys(asked_of: FakeModel) -> list[str]:
    return [request_key(asked_of.name, prompts.VERSION, request) for request in asked_of.asked]


def run(annotator, critics, store, rows=ROWS):
    """The run that was planned."""
    fake, options = annotator
    labelled = annotate(rows, TASK, fake, store=store, **options)
    for critic, chosen in critics:
        criticize(labelled, critic, store=store, **chosen)
    return labelled


class TestExtrapolate:
    def test_a_straight_line_is_met_exactly(self):
        sizes = np.arange(10.0)
        total = extrapolate(sizes, 100 + 3 * sizes, [50, 60, 1000])
        assert total.expected == pytest.approx(300 + 3 * 1110)
        assert total.high - total.low == pytest.approx(0, abs=1e-6)

    def test_without_rows_left_there_is_nothing(self):
        assert extrapolate([1, 2, 3, 4, 5], [1, 1, 1, 1, 1], []) == Range(0, 0, 0)

    def test_rows_of_one_length_have_the_mean(self):
        total = extrapolate([7] * 6, [1, 2, 3, 1, 2, 3], [7] * 10)
        assert total.expected == pytest.approx(20)
        assert 0 < total.low < 20 < total.high

    def test_a_length_that_one_row_alone_has(self):
        total = extrapolate([1, 1, 1, 1, 100], [4, 5, 6, 5, 50], [1] * 50 + [100])
        assert 0 < total.low < total.expected < total.high < 1000

    def test_of_too_few_measurements_there_is_a_guess(self):
        assert extrapolate([1, 2, 3], [4, 5, 6], [7, 8]) == guess(10)
        assert extrapolate([1, 2, 3], [0, 0, 0], [7, 8]) == Range()
        assert extrapolate(range(20), [0.5] * 20, [9] * 100, together=[0] * 20) == guess(50)
        assert not (guess(1) + Range(1, 1, 1)).known

    def test_rows_that_were_measured_alone_are_each_a_measurement(self):
        sizes, values = [1, 5, 2, 8, 3, 9], [2, 9, 5, 20, 6, 16]
        apart = extrapolate(sizes, values, [1, 2, 3], together=range(6))
        assert vars(apart) == pytest.approx(vars(extrapolate(sizes, values, [1, 2, 3])))

    def test_a_batch_is_one_measurement(self):
        """Batches of 4 rows of similar length whose time is split evenly: 90 % nominal, and as rows far from it."""
        covered, naive = [], []
        for seed in range(600):
            rng = np.random.default_rng(seed)
            sizes = rng.lognormal(4.5, 1, 1000).round()
            order = rng.permutation(1000)
            seconds = np.empty(1000)
            batches = np.empty(1000, dtype=int)
            for rows in (order[:40], order[40:]):
                for number, batch in enumerate(np.array_split(rows[np.argsort(sizes[rows])], len(rows) // 4)):
                    seconds[batch] = (1 + 0.002 * sizes[batch].mean()) * rng.lognormal(0, 0.3)
                    batches[batch] = number
            drawn, rest = order[:40], order[40:]
            true = seconds[rest].sum()
            one, other = (
                extrapolate(sizes[drawn], seconds[drawn], sizes[rest], **more)
                for more in ({"together": batches[drawn]}, {})
            )
            covered.append(one.low <= true <= one.high)
            naive.append(other.low <= true <= other.high)
        assert 0.83 <= np.mean(covered) <= 0.97
        assert np.mean(naive) < 0.75

    @given(
        st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=FEWEST, max_size=30),
        st.lists(st.integers(0, 10**6), max_size=30),
    )
    @settings(max_examples=200, deadline=None)
    def test_the_range_is_finite_in_order_and_not_negative(self, measured, rest):
        sizes, values = zip(*measured, strict=True)
        total = extrapolate(sizes, values, rest)
        assert 0 <= total.low <= total.expected <= total.high < float("inf")

    @pytest.mark.parametrize(
        ("intercept", "noise"), [(200, "even"), (200, "growing"), (0, "growing"), (0, "unrelated"), (0, "seldom")]
    )
    def test_it_covers_the_truth_about_as_often_as_it_says(self, intercept, noise):
        """Lengths are lognormal: the longest of 1000 rows is 25 times the median. Nominal 90 %, tolerated 83 to 96."""
        covered, widths, errors = [], [], []
        for seed in range(600):
            rng = np.random.default_rng(seed)
            sizes = rng.lognormal(4.5, 1, 1000).round()
            values = {
                "even": lambda r, x: 0.25 * x + r.normal(0, 8, 1000),
                "growing": lambda r, x: 0.25 * x * r.lognormal(0, 0.3, 1000),
                "unrelated": lambda r, x: r.lognormal(4, 0.5, 1000),
                "seldom": lambda r, x: 0.25 * x + np.where(r.random(1000) < 0.1, 240, 100),
            }[noise](rng, sizes) + intercept
            drawn = np.isin(np.arange(1000), rng.permutation(1000)[:20])
            total = extrapolate(sizes[drawn], values[drawn], sizes[~drawn])
            true = values[~drawn].sum()
            covered.append(total.low <= true <= total.high)
            widths.append((total.high - total.low) / true)
            errors.append(total.expected / true - 1)
        assert 0.83 <= np.mean(covered) <= 0.96
        assert abs(np.mean(errors)) < 0.02
        assert np.median(widths) < 0.5

    def test_long_prompts_do_not_spoil_it_as_they_would_a_ratio(self):
        ours, ratios = [], []
        for seed in range(200):
            rng = np.random.default_rng(seed)
            sizes = rng.lognormal(4.5, 1, 1000).round()
            values = 200 + 0.25 * sizes + rng.normal(0, 8, 1000)
            drawn = np.isin(np.arange(1000), rng.permutation(1000)[:20])
            true = values[~drawn].sum()
            ours.append(extrapolate(sizes[drawn], values[drawn], sizes[~drawn]).expected / true - 1)
            ratios.append(values[drawn].sum() / sizes[drawn].sum() * sizes[~drawn].sum() / true - 1)
        assert np.std(ours) < 0.05 * np.std(ratios)


STRATEGIES = [
    ("naive", "none", ("chat", "choose", "score"), "likelihood", "none"),
    ("naive", "contextual", ("chat", "choose", "score"), "likelihood", "contextual"),
    ("naive", "none", CHAT, "cot", "rank"),
    ("naive", "none", CHAT, "mc", "batch"),
    ("cot", "none", CHAT, "devil", "none"),
    ("cot", "none", ("chat", "choose", "score"), "cot_logit", "none"),
    ("cot", "contextual", ("chat", "choose", "score"), "logit", "batch"),
    ("naive", "batch", ("chat", "choose", "score"), "likelihood", "batch"),
    ("naive", "none", ("chat", "choose", "score"), "ppl", "none"),
    ("naive", "none", ("chat", "choose", "score"), "naive", "none"),
]


class TestPilot:
    @pytest.mark.parametrize(("strategy", "calibration", "abilities", "critique", "recalibration"), STRATEGIES)
    def test_nothing_that_it_asks_is_asked_again(
        self, tmp_path, strategy, calibration, abilities, critique, recalibration
    ):
        ours = model(abilities=abilities, name="ours")
        other = model(abilities=abilities, name="other")
        annotator = (ours, {"strategy": strategy, "calibration": calibration})
        critics = [(other, {"strategy": critique, "calibration": recalibration, "max_tokens": 50})]
        made = plan(ROWS, TASK, annotator=annotator, critics=critics, store=tmp_path / "store")
        before = ours.calls + other.calls
        assert made.calls == before
        assert made.pilot == 20
        run(annotator, critics, tmp_path / "store")
        assert len(set(keys(ours) + keys(other))) == ours.calls + other.calls
        left = ours.calls + other.calls - before
        assert made.requests.low <= left <= made.requests.high
        assert made.requests.expected == pytest.approx(left, rel=0.1)

    def test_it_is_of_the_rows_that_the_seed_says(self, tmp_path):
        def asked(seed, name):
            fake = model()
            plan(ROWS, TASK, annotator=fake, store=tmp_path / name, seed=seed)
            return {shown(request) for request in fake.asked}

        assert asked(0, "a") == asked(0, "b") != asked(1, "c")

    def test_options_change_what_is_asked(self, tmp_path):
        fake = model(abilities=CHAT)
        plan(ROWS, TASK, annotator=(fake, {"strategy": "cot", "max_tokens": 77}), store=tmp_path / "store")
        assert {request.max_tokens for request in fake.asked if not request.choices} == {77}

    def test_one_of_all_rows_leaves_nothing(self, tmp_path):
        made = plan(ROWS, TASK, annotator=model(), pilot=500, store=tmp_path / "store")
        assert (made.pilot, made.requests, made.cost, made.stages[0].rows) == (120, Range(), Range(), 0)

    def test_a_limit_stops_it_and_what_it_asked_is_kept(self, tmp_path):
        fake = model()
        with pytest.raises(LimitReached, match="max_calls=7"):
            plan(ROWS, TASK, annotator=fake, store=tmp_path / "store", max_calls=7)
        assert fake.calls == 7
        assert plan(ROWS, TASK, annotator=fake, store=tmp_path / "store").calls == 13
        with pytest.raises(LimitReached, match=r"max_cost=0\.1"):
            plan(ROWS, TASK, annotator=model(), store=tmp_path / "other", max_cost=0.1)

    def test_a_label_that_the_whole_run_decides_is_guessed_until_it_is_known(self, tmp_path):
        store = tmp_path / "store"
        annotator = (model(name="ours"), {"calibration": "batch"})
        critics = [(model(name="other"), {"strategy": "logit"})]
        plan(ROWS, TASK, annotator=annotator, critics=critics, store=store)
        paid = critics[0][0].calls
        run(annotator, critics, store)
        again = critics[0][0].calls - len(ROWS)
        assert again <= paid == 20  # asked for nothing: at most the pilot
        assert plan(ROWS, TASK, annotator=annotator, critics=critics, store=store, seed=9).calls == 0


class TestWhatIsLeft:
    def test_after_the_run_there_is_nothing(self, tmp_path):
        ours, other = model(name="ours"), model(name="other")
        critics = [(other, {"strategy": "cot_logit"}), (ours, {"strategy": "ppl"})]
        run((ours, {"strategy": "cot"}), critics, tmp_path / "store")
        asked = ours.calls + other.calls
        made = plan(
            ROWS, TASK, annotator=(ours, {"strategy": "cot"}), critics=critics, store=tmp_path / "store", seed=3
        )
        assert ours.calls + other.calls == asked
        assert (made.calls, made.spent, made.requests, made.cost, made.seconds) == (0, 0, Range(), Range(), Range())
        assert [stage.stored for stage in made.stages] == [120] * 3

    @pytest.mark.parametrize("strategy", ["naive", "cot"])
    def test_a_run_that_was_stopped(self, tmp_path, strategy):
        fake, critic = model(), model(name="critic")
        with pytest.raises(LimitReached):
            annotate(ROWS, TASK, fake, strategy=strategy, store=tmp_path / "store", max_calls=100, batch_size=20)
        made = plan(
            ROWS,
            TASK,
            annotator=(fake, {"strategy": strategy}),
            critics=[(critic, {"strategy": "logit"})],
            store=tmp_path / "store",
        )
        asked = fake.calls
        run((fake, {"strategy": strategy}), [(critic, {"strategy": "logit"})], tmp_path / "store")
        left = fake.calls - asked
        # A row of which a part is there counts as a whole one.
        assert left <= made.stages[0].calls.expected <= left + 20
        assert made.stages[0].stored >= {"naive": 100, "cot": 50}[strategy]
        assert made.stages[1].calls.expected == 100

    def test_what_an_earlier_stage_asks_is_paid_once(self, tmp_path):
        """A model that criticizes by likelihood asks itself what it was asked as an annotator."""
        fake = model()
        critics = [fake, (fake, {"strategy": "logit"})]
        made = plan(ROWS, TASK, annotator=fake, critics=critics, store=tmp_path / "store")
        assert [stage.calls.expected for stage in made.stages] == [100, 0, 100]
        assert made.stages[1].stored == 120

    def test_several_annotators(self, tmp_path):
        pair, store = [model(name="a"), model(name="b")], tmp_path / "store"
        made = plan(ROWS, TASK, annotator=(pair, {"calibration": "contextual"}), critics=[pair[0]], store=store)
        assert (made.calls, made.stages[0].model, made.requests.expected) == (46, "a + b", 200)
        labelled = annotate(ROWS, TASK, pair, calibration="contextual", store=store)
        criticize(labelled, pair[0], store=store)
        assert [fake.calls for fake in pair] == [123, 123]
        assert plan(ROWS, TASK, annotator=(pair, {"calibration": "contextual"}), store=store, seed=2).calls == 0

    def test_the_same_rows_are_counted_once_and_empty_ones_not(self, tmp_path):
        texts = [*ROWS["t"][:40], *ROWS["t"][:40], "", None, "  "]
        rows = Dataset.from_dict({"t": texts}).shuffle(seed=1)
        made = plan(rows, TASK, annotator=model(), store=tmp_path / "store")
        assert (made.rows, made.different, made.requests.expected) == (83, 40, 20)

    def test_only_critics_of_labels_that_are_there(self, tmp_path):
        labelled = annotate(ROWS, TASK, model(), store=tmp_path / "store")
        critic = model(name="other")
        made = plan(labelled, critics=[(critic, {"strategy": "devil"})], store=tmp_path / "store")
        assert (critic.calls, made.requests.expected, made.stages[0].stage) == (20, 100, "criticize")
        criticize(labelled, critic, strategy="devil", store=tmp_path / "store")
        assert critic.calls == 120

    def test_rows_without_a_label_are_not_criticized(self, tmp_path):
        labelled = annotate(ROWS, TASK, model(), store=tmp_path / "store")
        ids = [None if i % 2 else label for i, label in enumerate(labelled[LABEL])]
        half = (
            labelled.remove_columns(LABEL)
            .add_column(LABEL, ids)
            .cast(labelled.select_columns(labelled.column_names).features)
        )
        made = plan(half, critics=[(model(name="other"), {"strategy": "logit"})], store=tmp_path / "store")
        assert (made.different, made.calls, made.requests.expected) == (60, 20, 40)


class TestNumbers:
    def test_the_range_of_the_cost_covers_what_the_run_costs(self, tmp_path):
        """Through the whole of plan(), with rows of lognormal length: nominal 90 %, tolerated 80 to 99."""
        covered = []
        for seed in range(60):
            rng = np.random.default_rng(seed)
            rows = Dataset.from_dict(
                {"t": ["w " * n + str(i) for i, n in enumerate(rng.lognormal(3, 1, 150).astype(int))]}
            )
            store, fake = tmp_path / str(seed), model(abilities=CHAT)
            made = plan(rows, TASK, annotator=(fake, {"strategy": "cot"}), store=store, seed=seed)
            before = len(fake.asked)
            annotate(rows, TASK, fake, strategy="cot", store=store)
            paid = sum(priced(request).cost for request in fake.asked[before:])
            covered.append(made.cost.low <= paid <= made.cost.high)
        assert 0.8 <= np.mean(covered) <= 0.99

    def test_an_unknown_price_is_said(self, tmp_path):
        made = plan(
            ROWS, TASK, annotator=FakeModel(by=by_text, cost=None), critics=[model(name="b")], store=tmp_path / "s"
        )
        assert made.cost is None
        assert [stage.cost is None for stage in made.stages] == [True, False]
        assert "annotate by fake, naive: the price is not known; give prices=" in made.summary()

    def test_of_nothing_the_price_is_known(self, tmp_path):
        free = FakeModel(by=by_text, cost=None)
        assert plan(ROWS, TASK, annotator=free, pilot=120, store=tmp_path / "store").cost == Range()

    def test_images_cost_the_same_each(self, tmp_path):
        task = Task(labels=["a", "b"], image="i")
        rows = Dataset.from_dict({"i": [Image.new("RGB", (2, 2), (n, 0, 0)) for n in range(30)]})
        fake = FakeModel(by=by_text, abilities=("chat", "choose", "image"), cost=0.01)
        made = plan(rows, task, annotator=fake, store=tmp_path / "store", pilot=10)
        assert made.cost.expected == pytest.approx(0.2)
        assert made.requests == Range(20, 20, 20)

    def test_requests_at_once_and_a_minute_make_the_time(self, tmp_path):
        def seconds(name, **limits):
            fake = model()
            for limit, value in limits.items():
                setattr(fake, limit, value)
            return plan(ROWS, TASK, annotator=fake, store=tmp_path / name).seconds.expected

        assert seconds("a") == pytest.approx(50)
        assert seconds("b", concurrency=10) == pytest.approx(5)
        assert seconds("c", concurrency=1000) == pytest.approx(0.5)
        assert seconds("d", concurrency=10, requests_per_minute=60) == pytest.approx(100)

    def test_each_of_several_models_has_its_own_pace(self, tmp_path):
        """A server that takes ten requests at once, and an encoder that takes one."""
        server, encoder = model(name="server"), FakeModel(by=quick, name="encoder")
        server.concurrency = 10
        made = plan(ROWS, TASK, annotator=[server, encoder], store=tmp_path / "store")
        assert made.seconds.expected == pytest.approx(5 + 1)

    def test_a_pilot_of_one_batch_gives_no_range_of_the_time(self, tmp_path):
        made = plan(ROWS, TASK, annotator=Batching(size=32), store=tmp_path / "store")
        assert 0 < made.seconds.expected < 100
        assert not made.seconds.known
        assert re.search(r" free +\d+ (s|min)$", made.summary(), re.MULTILINE)

    @pytest.mark.parametrize("strategy", ["naive", "cot"])
    def test_one_of_many_batches_gives_one_that_covers_it(self, tmp_path, strategy):
        fake = Batching(size=2)
        annotator = (fake, {"strategy": strategy})
        made = plan(ROWS, TASK, annotator=annotator, store=tmp_path / "store")
        before = fake.spent
        run(annotator, [], tmp_path / "store")
        assert made.seconds.known
        assert made.seconds.low < fake.spent - before < made.seconds.high
        assert made.seconds.high - made.seconds.low > 0.05 * made.seconds.expected


def quick(request) -> Answer:
    return Answer(logprobs=tuple(by_text(request)), seconds=0.01)


class Batching(FakeModel):
    """Answers in batches, of which none takes as long as another, and splits the time of each evenly."""

    def __init__(self, size: int) -> None:
        super().__init__(by=by_text, batch_size=size)
        self.spent = 0.0

    def answer(self, requests):
        for finished in super().answer(requests):
            seconds = 1.0 + 0.3 * np.sin(self.batches)
            self.spent += seconds
            yield {
                i: Answer(text=answer.text, logprobs=answer.logprobs, seconds=seconds / len(finished))
                for i, answer in finished.items()
            }


class TestPrices:
    """An endpoint's answers are priced when they are paid, and a plan is about what will be paid."""

    def serving(self) -> Server:
        return Server(say=lambda body: "spam")

    def endpoint(self, server, prices) -> Endpoint:
        return Endpoint("m", base_url=server.url, prices=prices, logprobs=False)

    def planned(self, server, store, prices):
        return plan(ROWS, TASK, annotator=self.endpoint(server, prices), store=store)

    def test_they_are_those_of_now(self, tmp_path):
        store = tmp_path / "store"
        with self.serving() as server:
            assert self.planned(server, store, None).cost is None
            cheap, dear = (self.planned(server, store, prices) for prices in ((1, 2), (10, 20)))
            assert (cheap.calls, dear.calls) == (0, 0)
            assert dear.cost.expected == pytest.approx(10 * cheap.cost.expected)
            usage = Usage()
            Annotator(TASK, self.endpoint(server, (10, 20)), store=store, usage=usage)(ROWS[:])
            assert usage.calls == 100
            assert dear.cost.low <= usage.spent <= dear.cost.high

    def test_without_any_what_was_paid_is_what_is_known(self, tmp_path):
        with self.serving() as server:
            paid = self.planned(server, tmp_path / "store", (1, 2))
            assert self.planned(server, tmp_path / "store", None).cost == paid.cost

    def test_an_answer_costs_what_its_tokens_cost(self):
        endpoint = Endpoint("m", base_url="http://localhost:1/v1", prices=(1, 2))
        assert endpoint.cost_of(Answer(tokens_in=3, tokens_out=4, cost=None)) == pytest.approx(11e-6)
        assert endpoint.cost_of(Answer(tokens_in=3, tokens_out=4, cost=7.0)) == pytest.approx(11e-6)
        assert endpoint.cost_of(Answer(cost=None)) is None  # the server did not tell its tokens
        assert endpoint.cost_of(Answer(failure="no answer after 6 tries", calls=6, cost=None)) == 0
        assert Endpoint("m", base_url="http://localhost:1/v1").cost_of(Answer(tokens_in=3, cost=7.0)) is None

    def test_they_are_looked_up_where_they_are_listed(self):
        endpoint = Endpoint("gpt-4o-mini", base_url="https://api.openai.com/v1")
        assert endpoint.cost_of(Answer(tokens_in=10**6, tokens_out=10**6, cost=None)) == pytest.approx(0.75)


def overloaded(request) -> Answer:
    """Fails on every row with an odd number, which costs as much as an answer."""
    given = by_text(request)
    if int(re.search(r"row (\d+)", str(request.messages))[1]) % 2:
        return Answer(failure="overloaded", calls=3, cost=0.01)
    content = {"text": given} if isinstance(given, str) else {"logprobs": tuple(given)}
    return Answer(**content, cost=0.01)


class TestFailures:
    @pytest.mark.parametrize("strategy", ["naive", "cot"])
    def test_rows_that_fail_are_paid_and_asked_about_again(self, tmp_path, strategy):
        fake, usage = FakeModel(by=overloaded), Usage()
        annotator = (fake, {"strategy": strategy})
        made = plan(ROWS, TASK, annotator=annotator, store=tmp_path / "store")
        stage, failed = made.stages[0], len(made.stages[0].failures)
        assert 0 < failed < 20
        assert (stage.rows, stage.stored) == (100 + failed, 20 - failed)
        Annotator(TASK, fake, strategy, tmp_path / "store", usage=usage)(ROWS[:])
        assert made.requests.low <= usage.calls <= made.requests.high
        assert made.requests.expected == pytest.approx(usage.calls, rel=0.3)
        assert made.cost.low - 1e-9 <= usage.spent <= made.cost.high + 1e-9

    def test_those_of_an_ensemble_and_of_a_critic(self, tmp_path):
        pair, critic = [model(name="a"), FakeModel(by=overloaded, name="b")], FakeModel(by=overloaded, name="critic")
        chosen = {"annotator": pair, "critics": [(critic, {"strategy": "logit"})], "store": tmp_path / "store"}
        made = plan(ROWS, TASK, **chosen)
        failed = len(made.stages[0].failures)
        assert [stage.rows for stage in made.stages] == [100 + failed] * 2
        # Half of the rows have no label for the critic, which is then not asked; those that have one never fail.
        assert made.stages[1].calls.expected == pytest.approx((100 + failed) * (20 - failed) / 20, rel=0.1)
        assert not made.stages[1].failures

    def test_of_fewer_rows_than_make_a_range(self, tmp_path):
        made = plan(ROWS.select(range(3)), TASK, annotator=FakeModel(by=overloaded), store=tmp_path / "store")
        assert (made.requests, made.stages[0].rows) == (guess(pytest.approx(5 / 3)), 1)
        assert re.search(r"annotate +fake +naive +2 +0  \$0\.0100 +0 s$", made.summary(), re.MULTILINE)

    def broken(self, share: int):
        def reply(request):
            number = int(re.search(r"row (\d+)", str(request.messages))[1])
            return "who knows" if number % share == 0 else "ham"

        return FakeModel(by=reply, abilities=CHAT)

    def test_rows_that_fail_are_a_warning_with_the_reason(self, tmp_path):
        made = plan(ROWS, TASK, annotator=self.broken(4), store=tmp_path / "store")
        count = len(made.stages[0].failures)
        assert 0 < count < 20
        said = made.summary()
        assert f"warning: {count} of the 20 rows of the pilot failed (annotate by fake, naive):" in said
        assert f"  {count} x annotate: no single label in the reply 'who knows'" in said

    def test_those_of_a_critic(self, tmp_path):
        critic = FakeModel(by=lambda request: "no idea" if "row 1" in str(request.messages) else "80 %", name="critic")
        made = plan(ROWS, TASK, annotator=model(), critics=[(critic, {"strategy": "cot"})], store=tmp_path / "store")
        assert [bool(stage.failures) for stage in made.stages] == [False, True]
        assert all(failure.startswith("criticize: ") for failure in made.stages[1].failures)

    @pytest.mark.parametrize("stage", ["annotate", "criticize"])
    def test_if_all_fail_there_is_no_plan(self, tmp_path, stage):
        bad = FakeModel(by=lambda request: "who knows", abilities=CHAT, name="bad")
        chosen = (
            {"annotator": bad}
            if stage == "annotate"
            else {"annotator": model(), "critics": [(bad, {"strategy": "cot"})]}
        )
        with pytest.raises(ACTError, match=f"plan: all 20 rows of the pilot failed: {stage}: no single "):
            plan(ROWS, TASK, store=tmp_path / "store", **chosen)

    @pytest.mark.parametrize(
        ("chosen", "says"),
        [
            ({"pilot": 4, "annotator": model()}, "pilot=4 rows are too few for a range; give at least 5"),
            ({"task": None, "annotator": model()}, "plan: an annotator needs a task"),
            ({}, "criticize: no column 'act_label'"),
            ({"annotator": (model(), {"strategy": "wise"})}, "annotator strategy 'wise' is none of naive, cot"),
            ({"annotator": (model(), {"calibration": "magic"})}, "calibration 'magic' is none of none, batch"),
            (
                {"annotator": model(), "critics": [(model(), {"strategy": "logit", "calibration": "contextual"})]},
                "calibration='contextual' is for strategy='likelihood'",
            ),
            ({"annotator": "gpt"}, "plan: the annotator is 'gpt', not a model; load_model() makes one of a name"),
            ({"annotator": []}, "plan: the annotator has 0 models; give one"),
            ({"annotator": model(), "critics": [[model(), model()]]}, "plan: a critic has 2 models; give one"),
            (
                {"annotator": (model(), {"strategie": "cot"})},
                "plan: the annotator has the option 'strategie'; the options are strategy, calibration, max_tokens",
            ),
            ({"annotator": model(), "critics": [(model(), {"suffix": "_x"})]}, "plan: a critic has the option 'suff"),
            ({"annotator": [model(), model(abilities=CHAT)]}, "an ensemble of annotators needs a model that can say"),
            (
                {"annotator": model(), "critics": [model(abilities=CHAT)]},
                "the critic strategy 'likelihood' needs a model that can say how probable",
            ),
        ],
    )
    def test_a_mistake_is_found_before_anything_is_asked(self, tmp_path, chosen, says):
        models = [chosen["annotator"]] if isinstance(chosen.get("annotator"), FakeModel) else []
        with pytest.raises(ACTError, match=re.escape(says)):
            plan(ROWS, **{"task": TASK, "store": tmp_path / "store", **chosen})
        assert [fake.calls for fake in models] == [0] * len(models)

    def test_labels_are_not_planned_twice(self, tmp_path):
        labelled = annotate(ROWS, TASK, model(), store=tmp_path / "store")
        with pytest.raises(ACTError, match="has 'act_label' already; plan its critics, without annotator="):
            plan(labelled, TASK, annotator=model())
        with pytest.raises(ACTError, match="nobody to ask"):
            plan(labelled)


class TestSummary:
    def test_it_is_a_table_that_fits_a_terminal(self, tmp_path):
        ours = model(name="a-model-with-a-very-long-name@provider/openai/t0.7")
        made = plan(
            ROWS,
            TASK,
            annotator=(ours, {"strategy": "cot"}),
            critics=[FakeModel(by=by_text, name="free\x1b[31m")],
            store=tmp_path / "store",
        )
        said = made.summary()
        lines = said.splitlines()
        assert max(map(len, lines)) <= 100
        assert all(line.isprintable() for line in lines)
        assert (
            lines[0]
            == f"plan for 120 rows, 120 of them different; pilot of 20: 60 requests sent, ${made.spent:.4f} spent"
        )
        assert lines[2].split() == ["left", "to", "do", "model", "strategy", "requests", "tokens", "cost", "time"]
        assert re.match(r"annotate   a-model-with-a-very… cot +200 +\S+k?  \$\d+\.\d\d \(\S+–\S+\) +2 min", lines[3])
        assert re.match(r"criticize  free \[31m +likelihood +100 +1\.0k  free +50 s$", lines[4])
        assert lines[5].startswith("all ")

    def test_what_is_stored_is_said(self, tmp_path):
        annotate(ROWS.select(range(60)), TASK, model(), store=tmp_path / "store")
        said = plan(ROWS, TASK, annotator=model(), store=tmp_path / "store").summary()
        assert re.search(r"annotate by fake, naive: \d\d rows cost nothing, as stored or asked by an", said)


def test_a_store_may_be_given_open(tmp_path):
    store = Store(tmp_path / "store")
    plan(ROWS, TASK, annotator=model(), store=store)
    assert len(store) == 20
