"""Comparing annotators and critics: what is asked, what is measured, what is recommended, what is shown."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import FakeModel

from act_hf.annotators import annotate
from act_hf.comparison import compare
from act_hf.comparison.advice import recommend
from act_hf.comparison.facts import Judge, Labeller, Took
from act_hf.comparison.measure import Doubts, Labels, Settings, measure
from act_hf.comparison.plots import pictures
from act_hf.comparison.summary import short_names
from act_hf.critics import criticize
from act_hf.critics.raters import panel_error_probs
from act_hf.errors import ACTError
from act_hf.estimate import abs_score, aqg, auroc, recall_at, reliability
from act_hf.models.asking import LimitReached
from act_hf.models.base import Answer
from act_hf.models.recorded import Recorded
from act_hf.task import Task


NAMES = ["anger", "joy", "sadness"]
TASK = Task(labels=NAMES, text="text")
ROWS = 80
GOLD = np.random.default_rng(0).integers(3, size=ROWS)


def slice_of(gold=GOLD, **columns) -> Dataset:
    """Rows with gold labels."""
    values = {"text": [f"row number {i}" for i in range(len(gold))], "label": [int(one) for one in gold], **columns}
    types = Features({"text": Value("string"), "label": ClassLabel(names=NAMES)})
    return Dataset.from_dict(values, features=types)


def row_of(request) -> int:
    return int(re.findall(r"row number (\d+)", str(request.messages))[0])


def model(name, accuracy, *, seed, cost=0.0, silent=(), **options) -> FakeModel:
    """Right with that probability, and a little less sure where it is wrong; fails on the rows in `silent`."""
    random = np.random.default_rng(seed)
    wrong = random.random(ROWS) > accuracy
    said = np.where(wrong, (GOLD + random.integers(1, 3, size=ROWS)) % 3, GOLD)
    doubt = np.exp(-random.gamma(2.0, 1.0, size=ROWS)) * np.where(wrong, 0.6, 0.3)  # below 2/3: still the likeliest

    def answer(request):
        row = row_of(request)
        if row in silent:
            return Answer(failure="broken")
        if not hasattr(request, "continuations"):
            return f"Answer: {NAMES[said[row]]}"
        if request.continuations != TASK.words:  # a yes or no
            return [-1.0 - doubt[row]] * 3 + [-1.0] * 3
        logprobs = np.full(3, np.log(doubt[row] / 2))
        logprobs[said[row]] = np.log(1 - doubt[row])
        return logprobs.tolist()

    return FakeModel(by=answer, name=name, cost=cost, **options)


def by_pair(made):
    return {row.pair: row for row in made.critics}


@pytest.fixture
def store(tmp_path):
    return tmp_path / "answers.sqlite"


def compared(store, **options):
    """Three annotators and two critics."""
    strong, other, weak = model("strong", 0.85, seed=1), model("other", 0.75, seed=2), model("weak", 0.5, seed=3)
    given = {
        "annotators": {"strong": strong, "other": other, "weak": weak},
        "critics": {"other": other, "weak yes/no": (weak, {"strategy": "logit"})},
        "store": store,
        "bootstraps": 200,
    }
    return compare(slice_of(), TASK, **given | options)


# What is measured.


def test_the_figures_are_those_of_the_stages_and_the_estimates(store):
    strong, other = model("strong", 0.8, seed=1), model("other", 0.7, seed=2)
    made = compare(slice_of(), TASK, annotators={"a": strong}, critics={"c": other}, store=store, bootstraps=200)

    labelled = annotate(slice_of(), TASK, strong, store=store)
    wrong = np.array(labelled["act_label"][:]) != GOLD
    eps = np.array(criticize(labelled, other, store=store)["act_error_prob"][:])
    (labeller,), (pair,) = made.annotators, made.critics
    assert labeller.accuracy.value == pytest.approx(1 - wrong.mean())
    assert labeller.errors == pair.errors == wrong.sum()
    assert pair.auroc.value == pytest.approx(auroc(eps, wrong))
    assert pair.abs.value == pytest.approx(abs_score(eps, wrong))
    assert pair.ece == pytest.approx(reliability(eps, wrong).expected_calibration_error)
    assert pair.recall == pytest.approx(recall_at(eps, wrong))
    assert made.budgets == (8, 16)
    for after, budget in zip(pair.after, made.budgets, strict=True):
        assert after.value == pytest.approx(1 - wrong.mean() + aqg(eps, wrong, budget))
        assert after.low <= after.value <= after.high
    assert pair.gain.value == pytest.approx(pair.after[0].value - labeller.at_random[0])
    assert labeller.at_random[0] == pytest.approx(1 - wrong.mean() * 72 / 80)
    assert pair.curve[0] == (0.0, pytest.approx(1 - wrong.mean()))
    assert pair.curve[-1] == (1.0, pytest.approx(1.0))


def test_the_best_come_first_and_the_order_of_asking_does_not_matter(store):
    made = compared(store)
    assert [row.name for row in made.annotators] == ["strong", "other", "weak"]
    after = [row.after[0].value for row in made.critics]
    assert after == sorted(after, reverse=True)
    assert made.critics[0].behind.value == 0
    assert made.annotators[0].tied
    assert not made.annotators[2].tied
    assert len(made.critics) == 3 * (2 + 1)


def test_the_same_seed_gives_the_same_and_another_hardly_other_figures(store):
    first, again, other = (compared(store, seed=seed) for seed in (0, 0, 7))
    assert [row.auroc for row in first.critics] == [row.auroc for row in again.critics]
    assert [row.after for row in first.critics] == [row.after for row in again.critics]
    assert first.critics[0].auroc.value == other.critics[0].auroc.value
    assert first.critics[0].auroc.low != other.critics[0].auroc.low


def test_the_critic_that_is_the_annotators_own_model_is_kept_and_marked(store):
    pairs = by_pair(compared(store))
    assert pairs["other", "other"].self_critique
    assert pairs["weak", "weak yes/no"].self_critique
    assert not pairs["strong", "other"].self_critique


def test_the_same_model_asked_otherwise_is_marked_too(store):
    rows = slice_of().add_column("cot", GOLD.tolist()).add_column("goc", GOLD.tolist())
    asked = {
        how: Recorded.from_table(
            rows.add_column("id", list(range(ROWS))),
            TASK,
            Dataset.from_dict(
                {"row_id": range(ROWS), "model": ["gpt"] * ROWS, "strategy": [how] * ROWS, "label": GOLD}
            ),
            model="gpt",
            certainty=0.9,
        )
        for how in ("cot", "goc")
    }
    column = Recorded.from_columns(rows, TASK, label="cot", name="other", certainty=0.9)
    made = by_pair(
        compare(
            rows,
            TASK,
            annotators={"cot": asked["cot"], "other": column, "both": [asked["cot"], column]},
            critics={"goc": asked["goc"]},
            store=store,
            bootstraps=100,
        )
    )
    assert made["cot", "goc"].self_critique
    assert made["both", "goc"].self_critique
    assert not made["other", "goc"].self_critique
    assert made["other", "panel"].self_critique  # "both" has it
    hot, cold = model("m@t1", 0.8, seed=1), model("m@t0", 0.8, seed=2)
    hot.model = cold.model = "m"
    (pair,) = compare(
        slice_of(), TASK, annotators={"hot": hot}, critics={"cold": cold}, store=store, bootstraps=100
    ).critics
    assert pair.self_critique


def test_what_answers_many_at_once_is_as_quick_as_the_clock_says(store):
    """An answer of the fakes takes half a second: those of one that has 20 requests in flight overlap."""
    one, many = model("one", 0.8, seed=1), model("many", 0.8, seed=1)
    many.concurrency = 20
    annotators = {"one": one, "many": many, "both": [one, many]}
    made = compare(slice_of(), TASK, annotators=annotators, panel=False, store=store, bootstraps=100)
    took = {row.name: row.took for row in made.annotators}
    assert took["one"].seconds_per_row == pytest.approx(0.5)
    assert took["many"].seconds_per_row == pytest.approx(0.5 / 20)
    assert took["both"].seconds_per_row == pytest.approx(2 * 0.5)  # one after the other, at the pace of the slower
    assert made.recommendation.annotator == "many"
    assert "s / row" in made.summary()
    few = model("few", 0.8, seed=2)
    few.concurrency = 1000
    made = compare(slice_of(), TASK, annotators={"few": few}, store=store, bootstraps=100)
    assert made.annotators[0].took.seconds == pytest.approx(0.5)  # no quicker than a single request


def test_options_are_those_of_the_stages(store):
    strong = model("strong", 0.8, seed=1)
    options = {"strategy": "likelihood", "calibration": "batch"}
    made = compare(
        slice_of(),
        TASK,
        annotators={"plain": strong, "reasoned": (strong, {"strategy": "cot"})},
        critics={"c": (model("c", 0.7, seed=2), options)},
        store=store,
        bootstraps=100,
    )
    assert {row.name: row.strategy for row in made.annotators} == {"plain": "naive", "reasoned": "cot"}
    assert {row.calibration for row in made.critics} == {"batch"}
    assert made.annotators[0].took.requests in (ROWS, 2 * ROWS)


def test_several_models_can_label_together(store):
    both = [model("x", 0.8, seed=1), model("y", 0.7, seed=2)]
    made = compare(slice_of(), TASK, annotators={"both": both}, store=store, bootstraps=100)
    assert made.annotators[0].model == "x + y"


# What is asked.


def test_everything_is_asked_once_and_a_second_run_asks_for_nothing(store):
    strong, other = model("strong", 0.8, seed=1), model("other", 0.7, seed=2)
    options = {"annotators": {"s": strong, "o": other}, "critics": {"o": other}, "store": store, "bootstraps": 100}
    made = compare(slice_of(), TASK, **options)
    # The likelihood critic asks what the annotator of that model asked.
    assert (strong.calls, other.calls) == (ROWS, ROWS)
    assert made.calls == 2 * ROWS
    again = compare(slice_of(), TASK, **options)
    assert again.calls == 0
    assert (strong.calls, other.calls) == (ROWS, ROWS)
    assert again.critics[0].took.requests == ROWS


def test_an_image_is_shown_to_a_critic_as_it_was_to_the_annotator(store):
    from PIL import Image as Picture

    def jpeg(number):
        data = io.BytesIO()
        pixels = np.random.default_rng(number).integers(256, size=(16, 16, 3), dtype=np.uint8)
        Picture.fromarray(pixels).save(data, format="JPEG")
        return {"bytes": data.getvalue(), "path": None}

    features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
    rows = Dataset.from_dict({"image": [jpeg(i) for i in range(6)], "label": [0, 1, 2] * 2}, features=features)
    both = FakeModel(by=lambda request: [-0.1, -2.0, -3.0], name="seeing", abilities=("choose", "image"))
    task = Task(labels=NAMES, image="image")
    compare(rows, task, annotators={"a": both}, critics={"c": both}, store=store, bootstraps=100)
    assert both.calls == 6


def test_limits_hold_for_all_of_it_and_are_gone_on_from(store):
    strong, other = model("strong", 0.8, seed=1), model("other", 0.7, seed=2)
    options = {"annotators": {"s": strong}, "critics": {"o": other}, "store": store, "bootstraps": 100}
    with pytest.raises(LimitReached, match=rf"max_calls={ROWS + 5}, .* for all of it\) at critics\['o'\] of 's'"):
        compare(slice_of(), TASK, max_calls=ROWS + 5, **options)
    assert strong.calls + other.calls == ROWS + 5
    made = compare(slice_of(), TASK, max_calls=ROWS - 5, **options)
    assert made.calls == ROWS - 5


def test_a_limit_of_dollars_is_one_for_all_of_it(store):
    annotators = {name: model(name, 0.8, seed=seed, cost=0.01) for seed, name in enumerate("abc")}
    with pytest.raises(LimitReached):
        compare(slice_of(), TASK, annotators=annotators, store=store, max_cost=0.01 * 2 * ROWS + 0.05)
    assert sum(one.calls for one in annotators.values()) <= 2 * ROWS + 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"annotators": {}}, "nobody to compare"),
        ({"annotators": {"a": "smollm2"}}, r"annotators\['a'\] is 'smollm2', not a model"),
        ({"annotators": {"a": []}}, r"annotators\['a'\] has 0 models"),
        ({"critics": {"c": (FakeModel(), {"strategie": "cot"})}}, "the option 'strategie'; the options are strategy"),
        ({"critics": {"c": (FakeModel(), {"suffix": "_x"})}}, "the options are strategy, calibration"),
        ({"critics": {"c": (FakeModel(), {"strategy": "guess"})}}, r"critics\['c'\]: critic strategy 'guess' is none"),
        ({"critics": {"c": (FakeModel(), {"calibration": "platt"})}}, "calibration 'platt' is none of"),
        ({"annotators": {"a": (FakeModel(), {"calibration": "rank"})}}, "calibration 'rank' is none of none, batch"),
        ({"critics": {"c": [FakeModel(), FakeModel()]}}, "has 2 models; give one"),
        ({"critics": {"c": FakeModel(abilities=("chat",))}}, "needs a model that can say how probable"),
        ({"annotators": {"a": (FakeModel(abilities=("chat",)), {"calibration": "batch"})}}, "needs a model that can"),
        ({"critics": {"panel": FakeModel()}}, "a critic cannot be called 'panel'"),
        ({"budgets": ()}, "at least one budget"),
        ({"budgets": (1.5,)}, "budget 1.5"),
        ({"confidence": 95}, "confidence=95"),
        ({"bootstraps": 10}, "bootstraps=10 are too few"),
        ({"shares": {"fear": 1.0}}, "'fear' is not a label"),
        ({"shares": {"anger": 0.5, "joy": 0.5}}, "shares are positive for every label .* not anger 0.5, joy 0.5, sad"),
        ({"shares": {"anger": 0.5, "joy": 0.5, "sadness": 0.5}}, "sum to 1, not anger 0.5, joy 0.5, sadness 0.5"),
        ({"shares": dict.fromkeys(NAMES, float("nan"))}, "sum to 1, not anger nan"),
        ({"shares": dict.fromkeys(NAMES, 1 / 3), "panel": False}, "shares are for the panel, which takes panel=True"),
        ({"shares": dict.fromkeys(NAMES, 1 / 3), "annotators": {"a": FakeModel()}}, "and 3 annotators or more"),
        ({"gold": "gold"}, "no column 'gold'"),
        ({"gold": "text"}, "is one that the models are shown"),
    ],
)
def test_mistakes_are_named_before_anything_is_asked(store, options, said):
    asked = [model(name, 0.8, seed=1) for name in "xyz"]
    given = {"annotators": dict(zip("xyz", asked, strict=True)), "critics": {"c": asked[0]}} | options
    with pytest.raises(ACTError, match=said):
        compare(slice_of(), TASK, store=store, **given)
    assert not any(one.calls for one in asked)


# The gold column.


def test_gold_labels_are_matched_by_name(store):
    names = ["sadness", "joy", "anger"]
    other_order = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    texts = [f"row number {i}" for i in range(ROWS)]
    ids = [names.index(NAMES[one]) for one in GOLD]
    as_ids = Dataset.from_dict({"text": texts, "label": ids}, features=other_order)
    as_text = Dataset.from_dict({"text": texts, "label": [NAMES[one] for one in GOLD]})
    annotators = {"a": model("strong", 0.8, seed=1)}
    options = {"annotators": annotators, "store": store, "bootstraps": 100}
    accuracies = {compare(rows, TASK, **options).annotators[0].accuracy for rows in (slice_of(), as_ids, as_text)}
    assert len(accuracies) == 1


def test_rows_without_a_gold_label_are_left_out_and_said_to_be(store):
    gold = [None if i % 10 == 0 else -1 if i % 10 == 1 else int(one) for i, one in enumerate(GOLD)]
    rows = Dataset.from_dict({"text": [f"row number {i}" for i in range(ROWS)], "label": gold}, slice_of().features)
    asked = model("strong", 0.8, seed=1)
    made = compare(rows, TASK, annotators={"a": asked}, store=store, bootstraps=100)
    assert (made.rows, made.skipped, asked.calls) == (64, 16, 64)
    assert "16 of 80 rows have no gold label in 'label'" in made.notes[0]


def test_a_gold_column_that_does_not_fit_is_refused(store):
    options = {"annotators": {"a": model("a", 0.8, seed=1)}, "store": store}
    texts = [f"row number {i}" for i in range(3)]
    with pytest.raises(ACTError, match="'fear' in the gold column 'label' is none of the labels anger, joy, sadness"):
        compare(Dataset.from_dict({"text": texts, "label": ["anger", "fear", "joy"]}), TASK, **options)
    with pytest.raises(ACTError, match="none of the 3 rows has a gold label"):
        compare(Dataset.from_dict({"text": texts, "label": ["", None, None]}), TASK, **options)
    with pytest.raises(ACTError, match="not a ClassLabel"):
        compare(Dataset.from_dict({"text": texts, "label": [0, 1, 2]}), TASK, **options)


def test_labels_of_an_earlier_run_are_not_looked_at(store):
    labelled = annotate(slice_of(), TASK, model("earlier", 0.3, seed=9), store=store)
    made = compare(labelled, TASK, annotators={"a": model("a", 0.8, seed=1)}, store=store, bootstraps=100)
    assert made.annotators[0].accuracy.value > 0.6


def test_the_gold_labels_are_not_shown_to_anybody(store):
    asked = model("a", 0.8, seed=1)
    secret = "the gold label"
    rows = slice_of().rename_column("label", secret)
    compare(rows, TASK, gold=secret, annotators={"a": asked}, critics={"c": asked}, store=store, bootstraps=100)
    assert not any(secret in str(request.messages) for request in asked.asked)


# Rows that fail, and figures that there are not.


def test_a_row_without_a_label_is_wrong_in_no_auroc_and_reviewed_first(store):
    silent = range(10)
    asked = model("a", 0.8, seed=1, silent=silent)
    made = compare(
        slice_of(), TASK, annotators={"a": asked}, critics={"c": model("c", 0.7, seed=2)}, store=store, bootstraps=100
    )
    (labeller,), (pair,) = made.annotators, made.critics
    assert labeller.failed == 10
    assert labeller.errors == pair.errors + 10
    assert (pair.rows, pair.failed) == (70, 0)
    assert pair.after[0].value == pytest.approx(labeller.accuracy.value + 8 / 80)
    assert labeller.at_random[0] == pytest.approx(labeller.accuracy.value + 8 / 80)
    assert any(note.startswith("Without a label: a 10 of 80 rows. These count as wrong") for note in made.notes)


def test_a_label_without_an_error_probability_is_said_and_reviewed_first(store):
    critic = model("c", 0.7, seed=2, silent=range(10))
    made = compare(
        slice_of(), TASK, annotators={"a": model("a", 0.8, seed=1)}, critics={"c": critic}, store=store, bootstraps=100
    )
    assert (made.critics[0].rows, made.critics[0].failed) == (70, 10)
    assert any("without an error probability: a + c 10 rows" in note for note in made.notes)


def test_nobody_has_to_give_anything(store):
    mute = model("mute", 0.8, seed=1, silent=range(ROWS))
    fine = model("fine", 0.8, seed=2)
    made = compare(
        slice_of(),
        TASK,
        annotators={"mute": mute, "fine": fine, "also": fine},
        critics={"mute": mute, "fine": fine},
        store=store,
        bootstraps=100,
    )
    assert made.annotators[-1].name == "mute"
    assert made.annotators[-1].accuracy.value == 0
    assert {row.annotator for row in made.critics} == {"fine", "also"}
    pair = by_pair(made)["fine", "mute"]
    assert (pair.auroc, pair.ece, pair.recall, pair.rows) == (None, None, None, 0)
    assert "No AUROC for fine + mute, also + mute: no row has an error probability." in made.notes
    assert made.recommendation.annotator != "mute"


@pytest.mark.parametrize(("accuracy", "word"), [(1.0, "none"), (-1.0, "all")])
def test_an_auroc_that_is_not_defined_is_said_in_words(store, accuracy, word):
    options = {"annotators": {"a": model("a", accuracy, seed=1)}, "critics": {"c": model("c", 0.7, seed=2)}}
    made = compare(slice_of(), TASK, **options, store=store, bootstraps=100)
    (pair,) = made.critics
    assert pair.auroc is None
    assert pair.abs is None
    assert pair.undefined == f"{word} of the 80 labels it judged are wrong"
    assert "–" in made.summary()
    assert any("No AUROC for a + c" in note for note in made.notes)
    assert len(made.plot().subfigs) == 3


def test_few_errors_are_warned_of_with_how_wide_the_interval_is(store):
    made = compared(store)
    note = next(note for note in made.notes if note.startswith("Few errors"))
    errors = {row.name: row.errors for row in made.annotators}
    assert f"strong {errors['strong']}" in note
    assert "weak" not in note
    widest = max(row.auroc.high - row.auroc.low for row in made.critics if row.annotator in note)
    assert f"off by {widest / 2:.2f} and more" in note


def test_copies_of_rows_are_said(store):
    rows = Dataset.from_dict({"text": ["row number 1"] * 3 + ["row number 2"], "label": [1, 1, 1, 2]})
    rows = rows.cast_column("label", ClassLabel(names=NAMES))
    made = compare(rows, TASK, annotators={"a": model("a", 0.8, seed=1)}, store=store, bootstraps=100)
    assert any(note.startswith("2 rows are copies of another") for note in made.notes)


# The panel.


def test_the_panel_is_the_other_annotators_labels(store):
    made = compared(store, critics=None)
    assert {row.pair for row in made.critics} == {(name, "panel") for name in ("strong", "other", "weak")}
    assert made.calls == 3 * ROWS


def test_the_panels_error_probabilities_are_those_of_the_panel_critic(store):
    models = {"strong": model("strong", 0.85, seed=1), "x": model("x", 0.75, seed=2), "y": model("y", 0.5, seed=3)}
    made = compare(slice_of(), TASK, annotators=models, store=store, bootstraps=100)
    labelled = {name: annotate(slice_of(), TASK, one, store=store) for name, one in models.items()}
    said = {name: np.array(rows["act_label"][:]) for name, rows in labelled.items()}
    sure = {name: np.array(rows["act_label_probs"][:]).max(axis=1) for name, rows in labelled.items()}
    eps, _ = panel_error_probs(
        said["strong"],
        np.stack([said["x"], said["y"]], axis=1),
        3,
        confidences=np.stack([sure["x"], sure["y"]], axis=1),
    )
    pair = by_pair(made)["strong", "panel"]
    assert pair.auroc.value == pytest.approx(auroc(eps, said["strong"] != GOLD))
    assert pair.model == "x + y"
    assert pair.took.requests == 2 * ROWS


def test_there_is_no_panel_of_two_or_where_none_is_wanted(store):
    two = {"a": model("a", 0.8, seed=1), "b": model("b", 0.7, seed=2)}
    assert not compare(slice_of(), TASK, annotators=two, store=store, bootstraps=100).critics
    assert not compared(store, critics=None, panel=False).critics


def test_known_shares_reach_the_panel(store):
    plain = compared(store, critics=None)
    told = compared(store, critics=None, shares={"anger": 0.8, "joy": 0.1, "sadness": 0.1})
    assert by_pair(plain)["weak", "panel"].ece != by_pair(told)["weak", "panel"].ece


def test_a_voter_without_a_label_is_no_vote(store):
    models = {name: model(name, 0.7, seed=seed, silent=range(seed, 10)) for seed, name in enumerate("abc")}
    made = compare(slice_of(), TASK, annotators=models, store=store, bootstraps=100)
    row = by_pair(made)["c", "panel"]
    assert row.rows + row.failed + 8 == ROWS


# What is recommended.


def price(cost, seconds=0.0):
    return Took(1, 1, 10, 10, cost, seconds, 100)


def recommended(costs, values, *, seconds=(0.0, 0.0)):
    """Two annotators with the same critic; `values` of 100 rows are right, and the critic knows nothing."""
    gold = np.zeros(100, dtype=np.int64)
    labels, doubts = [], []
    for name, right, spent in zip("ab", values, zip(costs, seconds, strict=True), strict=True):
        by = Labeller(name=name, model=name, strategy="naive", calibration="none", took=price(*spent))
        labels.append(Labels(by, (np.arange(100) >= right).astype(int), np.full(100, np.nan)))
        asked = {"model": "c", "strategy": "likelihood", "calibration": "none", "took": price(0.0)}
        doubts.append(Doubts(Judge(annotator=name, critic="c", self_critique=False, **asked), np.full(100, 0.5)))
    settings = Settings((10,), 0.95, 300, 0)
    return recommend(measure(gold, labels, doubts, settings), settings, 100)


def test_the_cheaper_is_taken_within_one_standard_error():
    assert recommended((0.5, 0.1), (81, 80)).annotator == "b"
    assert recommended((0.1, 0.5), (81, 80)).annotator == "a"
    made = recommended((0.5, 0.1), (81, 80))
    assert "a + c is ahead by no more than one standard error and costs more" in made.why
    assert "($0.001 instead of $0.005 a row)" in made.why
    assert made.tied == (("a", "c"),)


def test_the_price_does_not_decide_between_pairs_that_differ():
    made = recommended((0.5, 0.1), (90, 60))
    assert made.annotator == "a"
    assert made.tied == ()
    assert "It is better than all other pairs by more than noise." in made.why


def test_the_price_does_not_decide_where_one_is_not_known_or_all_are_alike():
    assert recommended((0.5, None), (81, 80)).annotator == "a"
    assert recommended((0.5, 0.49), (81, 80)).annotator == "a"


def test_of_models_that_cost_nothing_the_quicker_is_taken():
    assert recommended((0.0, 0.0), (81, 80), seconds=(50.0, 5.0)).annotator == "b"
    assert recommended((0.0, 0.1), (81, 80), seconds=(50.0, 5.0)).annotator == "a"
    assert recommended((0.1, 0.0), (81, 80), seconds=(5.0, 50.0)).annotator == "b"


def test_a_critic_that_finds_nothing_is_said_to_be_no_better_than_chance():
    assert "does not show that the critic does better than reviewing at random" in recommended((0, 0), (81, 80)).why


def test_without_critics_an_annotator_is_recommended(store):
    made = compared(store, critics=None, panel=False)
    assert (made.recommendation.annotator, made.recommendation.critic) == ("strong", None)
    assert "No critic was compared" in made.recommendation.why
    alone = compare(slice_of(), TASK, annotators={"a": model("a", 0.8, seed=1)}, store=store, bootstraps=100)
    assert "Nothing else was compared with it." in alone.recommendation.why


def test_unknown_prices_are_said(store):
    made = compare(slice_of(), TASK, annotators={"a": model("a", 0.8, seed=1, cost=None)}, store=store, bootstraps=100)
    assert made.annotators[0].took.cost is None
    assert any("Not all prices are known" in note for note in made.notes)
    assert "unknown" in made.summary()


# What is shown.

NASTY = "<b>$x$ \x1b[31mred\x1b[0m</b> & a very long name that goes on and on"


def test_the_summary_fits_a_terminal_and_cannot_colour_it(store):
    made = compared(store, annotators={NASTY: model("x", 0.8, seed=1), "b": model("b", 0.7, seed=2)})
    lines = made.summary().splitlines()
    assert max(map(len, lines)) <= 100
    assert all(line.isprintable() for line in lines)
    assert any(line.startswith("recommended: ") for line in lines)
    assert "within noise of the best" in lines[0]


@pytest.mark.parametrize(
    "names",
    [
        ("Qwen2.5-7B-Instruct", "Qwen2.5-72B-Instruct"),
        ("gpt-4o goc_1shot", "gpt-4o coc_1shot"),
        ("meta-llama/Llama-3.1-8B-Instruct-Turbo-FP8", "meta-llama/Llama-3.1-70B-Instruct-Turbo-FP8"),
        ("x" * 50, "x" * 51, "x" * 52),
        ("short", "short\u202e", "short "),
    ],
)
def test_no_two_names_become_one(names):
    for length in (8, 11, 14, 24):
        made = short_names([*names, "another"], length)
        assert made.keys() == {*names, "another"}
        assert len(set(made.values())) == len(made)
        assert all(len(short) <= length for short in made.values())
        assert made["another"] == "another"


def test_no_number_is_cut_in_two():
    names = [f"meta-llama/Llama-3.1-{size}B-Instruct-Turbo-FP8" for size in (8, 70, 405)]
    for length in range(8, 40):
        for short, size in zip(short_names(names, length).values(), ("8", "70", "405"), strict=True):
            shown = set(re.findall(r"\d+", short.split("…")[0] + " " + " ".join(short.split("…")[1:])))
            assert shown <= {"3", "1", "2", "8", size}, short


@given(st.lists(st.text("ab1-/", max_size=30), max_size=8), st.integers(8, 30))
def test_names_stay_apart_whatever_they_are(names, length):
    made = short_names(names, length)
    assert len(set(made.values())) == len(set(names)) == len(made)
    assert all(len(short) <= length for short in made.values())


def test_names_that_begin_and_end_alike_are_told_apart_in_the_summary(store):
    names = ("Qwen2.5-7B-Instruct", "Qwen2.5-72B-Instruct")
    models = {name: model(name, 0.8, seed=seed) for seed, name in enumerate(names)}
    lines = compared(store, annotators=models, critics=models).summary().splitlines()
    pairs = [line[2:32] for line in lines if line[2:].startswith("Qwen") and " + " in line[:32] and "(" in line]
    assert len(set(pairs)) == len(pairs) == 4


def test_what_is_left_out_is_said(store):
    made = compared(store, budgets=(0.1, 0.2, 0.3, 0.4))
    assert "not shown: with 24, 32 reviewed; save() and to_dict() have all" in made.summary()
    assert "not shown" not in compared(store).summary()
    shows = pictures(made)["auroc"].alt
    assert "shown" not in shows
    from dataclasses import replace

    many = replace(made, critics=tuple(replace(made.critics[0], critic=f"c{i}") for i in range(45)))
    assert "Of 45 pairs the best 40 after review are shown." in pictures(many)["auroc"].alt
    assert "and 15 pairs more" in many.summary()


def test_a_name_cannot_turn_the_words_around_it(store, tmp_path):
    turned = "a\u202eb"
    made = compared(store, annotators={turned: model("x", 0.8, seed=1)}, critics={turned: model("y", 0.8, seed=2)})
    assert turned in made.recommendation.why + "".join(made.notes)
    page = made.save(tmp_path / "comparison.html").read_text()
    assert turned in page
    assert "\u202e" not in re.sub(f"<bdi>{turned}</bdi>", "", page)


def test_the_dict_is_json_and_holds_everything(store):
    made = compared(store)
    held = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert held["recommendation"]["annotator"] == made.recommendation.annotator
    assert held["critics"][0]["auroc"]["low"] == made.critics[0].auroc.low
    assert held["annotators"][0]["took"]["requests"] == ROWS
    assert len(held["critics"]) == len(made.critics)


def test_the_page_is_escaped_and_whole(store, tmp_path):
    made = compared(store, annotators={NASTY: model("x", 0.8, seed=1), "b": model("b", 0.7, seed=2)})
    page = made.save(tmp_path / "deep" / "comparison.html").read_text()
    assert "<b>$x$" not in page
    assert "&lt;b&gt;$x$" in page
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page
    assert "https://" not in page


def test_the_picture_is_a_png(store, tmp_path):
    path = compared(store).save(tmp_path / "comparison.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    only = compared(store, critics=None, panel=False)
    assert len(only.plot().subfigs) == 1


def test_another_ending_is_refused(store, tmp_path):
    with pytest.raises(ACTError, match=r"saved as \.html or \.png, not as 'comparison\.pdf'"):
        compared(store).save(tmp_path / "comparison.pdf")


def test_importing_it_loads_no_plots_and_no_models():
    import subprocess
    import sys

    code = "import sys, act_hf.comparison; print([m for m in ('matplotlib', 'torch', 'scipy') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_the_tables_of_the_documentation_are_those_of_the_benchmark(monkeypatch):
    from pathlib import Path

    root = Path(__file__).parents[1]
    if not (root / "benchmarks" / "results" / "recorded.json").exists():
        pytest.skip("tests without the repository's benchmarks")
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    import bench_recorded

    result = json.loads((root / "benchmarks" / "results" / "recorded.json").read_text())
    text = (root / "docs" / "recorded.md").read_text()
    for name, table in bench_recorded.tables(result).items():
        assert f"<!-- begin {name} -->\n{table}\n<!-- end {name} -->" in text
