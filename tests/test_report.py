import base64
import re
import sys
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from sklearn.metrics import roc_auc_score

from act_hf.columns import add_columns, column_features
from act_hf.errors import ACTError
from act_hf.estimate import (
    abs_score,
    auroc,
    estimate_accuracy,
    recall_at,
    reviewer_error_rate,
    wilson,
    with_reviewer_error,
)
from act_hf.records import add_record, stage_records, with_records
from act_hf.report import build_report
from act_hf.report.facts import METHODS
from act_hf.report.plots import pictures
from act_hf.review.simulated import simulate_review
from act_hf.sampling import sample
from act_hf.task import Task
from act_hf.training_set import MODES


TASK = Task(labels=("a", "b", "c"), text="text", instruction="Which letter?")
GOLD = [0, 1, 2, 0, 1, 1, 0, 1]
MACHINE = [1, 1, 0, 0, 2, 1, 0, 0]
EPS = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2, 0.1]
SECOND = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
PI = [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
SELECTED = [True, True, True, False, True, False, False, False]
HUMAN = [0, 1, 2, None, 1, None, None, None]
WRONG = np.array(GOLD) != np.array(MACHINE)

USAGE = {"requests": 10, "calls": 4, "tokens_in": 100, "tokens_out": 20, "seconds": 2.0}
RUNS = [
    {"method": "act", "seed": 0, "accuracy": 0.8, "rows": 8},
    {"method": "human", "seed": 0, "accuracy": 0.9, "rows": 8},
    {"method": "human", "seed": 1, "accuracy": 0.7, "rows": 6},
]
STAGES = ("annotate", "criticize", "sample", "review")


def made(upto="review", *, task=TASK, simulated=False, second=True, **changed):
    """The data set as each stage leaves it; `changed` replaces columns."""
    stages = STAGES[: STAGES.index(upto) + 1]
    base = {"text": [f"row {number}" for number in range(8)], "label": GOLD}
    dataset = Dataset.from_dict(
        base, features=Features({"text": Value("string"), "label": ClassLabel(names=list("abc"))})
    )
    added = {"act_label": MACHINE, "act_label_probs": [[0.2, 0.5, 0.3]] * 8, "act_failure": [None] * 8}
    if "criticize" in stages:
        added |= {"act_error_prob": EPS, "act_critique": [f"because {number}" for number in range(8)]}
    if "sample" in stages:
        added |= {"act_pi": PI, "act_selected": SELECTED}
    if "review" in stages:
        added |= {"act_human": HUMAN}
    added |= {name: values for name, values in changed.items() if name.startswith("act_")}
    dataset = add_columns(dataset, added, column_features(task))
    if second and "criticize" in stages:
        dataset = dataset.add_column("act_error_prob_two", SECOND)
    shown = {name: values for name, values in changed.items() if not name.startswith("act_")}
    for name, values in shown.items():
        dataset = dataset.remove_columns(name).add_column(name, values)
    return recorded(dataset, stages, task, simulated)


def recorded(dataset, stages, task=TASK, simulated=False):
    dataset = add_record(dataset, "annotate", task=task.to_dict(), model="big", strategy="naive", rows=8, usage=USAGE)
    if "criticize" in stages:
        facts = {"strategy": "logit", "rows": 8, "usage": USAGE}
        dataset = add_record(dataset, "criticize", model="small", suffix="", **facts)
        dataset = add_record(dataset, "criticize", model="other", suffix="_two", **facts)
    if "sample" in stages:
        dataset = add_record(dataset, "sample", rule="exponential", beta=20.0, budget=4, mix=0.0, seed=3, rows=8)
    if "review" in stages:
        who = ["simulated from column 'label'"] if simulated else ["ann@example.org", "bob"]
        dataset = add_record(
            dataset, "review", source=who[0] if simulated else "table", simulated=simulated, annotators=who
        )
    return dataset


def page_of(report, tmp_path):
    return report.save(tmp_path / "report.html").read_text(encoding="utf-8")


def without_pictures(page):
    return re.sub(r'src="data:image/png;base64,[A-Za-z0-9+/=]+"', "", page)


@pytest.fixture(scope="module")
def full():
    return build_report(made(simulated=True), gold="label", downstream=RUNS)


@pytest.fixture(scope="module")
def full_page(full, tmp_path_factory):
    return page_of(full, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def in_waves():
    """300 rows, of which 60 and then 60 more were reviewed."""
    rng = np.random.default_rng(0)
    names = ClassLabel(names=["a", "b"])
    values = {
        "text": [f"row {i}" for i in range(300)],
        "act_id": [str(i) for i in range(300)],
        "label": rng.integers(2, size=300).tolist(),
        "act_label": rng.integers(2, size=300).tolist(),
        "act_error_prob": rng.random(300).tolist(),
    }
    types = {"text": Value("string"), "act_id": Value("string"), "label": names, "act_label": names}
    dataset = Dataset.from_dict(values, features=Features({**types, "act_error_prob": Value("float32")}))
    dataset = add_record(dataset, "annotate", task=Task(labels=["a", "b"], text="text").to_dict(), model="m")
    for wave in (1, 2):
        dataset = simulate_review(sample(dataset, budget=60, wave=wave), gold="label")
    return build_report(dataset)


def responses(*rows):
    """`act_responses`, from pairs of annotator and label."""
    return [[{"annotator": who, "label": label, "comment": None} for who, label in row] for row in rows]


class TestAccuracy:
    def test_the_truth_by_hand(self, full):
        truth = full.truth
        assert (truth.errors, truth.machine.value, truth.after.value) == (4, 4 / 8, 7 / 8)
        assert (truth.machine.low, truth.machine.high) == wilson(4, 8)
        assert (truth.majority, truth.majority_share) == ("b", 4 / 8)

    def test_the_estimate_knows_nothing_of_gold(self, full):
        expected = estimate_accuracy(np.float32(EPS), SELECTED, PI, [1, 0, 1, 0, 1, 0, 0, 0])
        assert full.estimate == expected
        assert build_report(made()).estimate == expected

    def test_a_simulated_reviewer_is_not_scored(self, full):
        assert full.truth.reviewer is None
        people = build_report(made(act_human=[0, 1, 1, None, 1, None, None, None]), gold="label").truth
        assert people.reviewer.value == 3 / 4

    def test_rows_reviewed_beyond_the_draw_count_for_the_labels_only(self):
        human = [*HUMAN[:7], 1]
        report = build_report(made(act_human=human), gold="label")
        assert (report.review.beyond, report.review.answered, report.truth.after.value) == (1, 4, 1.0)
        assert report.estimate == build_report(made()).estimate
        assert any("1 rows have a human label" in note for note in report.notes)

    def test_a_row_without_a_label_is_wrong(self):
        dataset = made(
            act_label=[None, *MACHINE[1:]], act_error_prob=[None, *EPS[1:]], act_failure=["no", *[None] * 7]
        )
        report = build_report(dataset, gold="label")
        assert (report.truth.errors, report.truth.after.value, report.estimate.found) == (4, 7 / 8, 3)
        assert report.corrections[0] == (None, "a", 1)
        assert [critic.budgets[-1] for critic in report.critics] == [7, 7]

    def test_gold_as_strings(self):
        names = [TASK.labels[label] for label in GOLD]
        assert build_report(made(label=names), gold="label").truth.machine.value == 0.5

    def test_gold_in_another_order_of_labels(self):
        dataset = made().cast_column("label", ClassLabel(names=["b", "a", "c"]))
        assert build_report(dataset, gold="label").truth.machine.value == np.mean(
            [TASK.labels[label] == "bac"[true] for label, true in zip(MACHINE, GOLD, strict=True)]
        )


class TestByLabel:
    def test_by_hand(self, full):
        assert sum(one.rows for one in full.by_label) == 8
        assert sum(one.reviewed for one in full.by_label) == full.review.answered
        assert sum(one.corrected for one in full.by_label) == full.review.corrected
        assert [one.rows for one in full.by_label] == sorted((one.rows for one in full.by_label), reverse=True)
        right = sum(one.truth.value * one.rows for one in full.by_label)
        assert right == pytest.approx(8 * full.truth.machine.value)

    def test_a_label_of_which_no_row_was_reviewed(self):
        dataset = made(upto="review", act_label=["a"] * 7 + ["b"], act_human=["a"] * 7 + [None])
        kept = {one.label: one for one in build_report(dataset).by_label}
        assert kept["b"].estimate is None
        assert kept["a"].estimate.value == 1

    def test_none_before_the_review(self):
        assert build_report(made("sample")).by_label == ()

    def test_the_page_has_a_table(self, full_page):
        assert "By machine label" in full_page


class TestWaves:
    def test_what_each_found(self, in_waves):
        assert [wave.drawn for wave in in_waves.waves] == [60, 60]
        assert sum(wave.corrected for wave in in_waves.waves) == in_waves.review.corrected
        assert in_waves.estimate.reviewed == 120

    def test_they_are_shown(self, in_waves, tmp_path):
        assert "In 2 waves" in page_of(in_waves, tmp_path)
        first, second = (f"{wave.corrected} of 60" for wave in in_waves.waves)
        assert f"{first}, {second}" in in_waves.summary()

    def test_one_wave_is_no_table(self, full, full_page):
        assert full.waves == ()
        assert "waves, each chosen" not in full_page


class TestErrorsFound:
    def test_by_hand(self, full):
        finding = full.finding
        assert (finding.reviewed, finding.found, finding.at_random, finding.ratio) == (4, 3, 2.0, 1.5)
        assert finding.source == "gold"

    def test_without_gold_the_share_of_errors_is_estimated(self):
        report = build_report(made())
        assert report.finding.at_random == pytest.approx(4 * (1 - report.estimate.machine))
        assert report.finding.source == "review"

    def test_corrections(self, full):
        assert full.corrections == (("b", "a", 1), ("a", "c", 1), ("c", "b", 1))

    def test_the_curve_is_measured_with_gold(self, full):
        assert full.critics[0].budgets == tuple(range(9))
        assert full.critics[0].found == (0, 1, 1, 2, 2, 3, 3, 3, 4)

    def test_and_expected_without(self):
        critic = build_report(made("criticize")).critics[0]
        assert critic.found == pytest.approx([0, 0.9, 1.7, 2.4, 3.0, 3.5, 3.9, 4.1, 4.2])

    def test_a_long_curve_is_thinned(self):
        rows = 5000
        table = {"text": ["x"] * rows, "act_label": [0] * rows, "act_error_prob": np.linspace(0, 1, rows).tolist()}
        features = Features({"text": Value("string"), **column_features(TASK, ["act_label", "act_error_prob"])})
        report = build_report(Dataset.from_dict(table, features=features), task=TASK)
        assert (len(report.critics[0].budgets), report.critics[0].budgets[-1]) == (200, rows)
        assert report.critics[0].found[-1] == pytest.approx(rows / 2)


class TestCritics:
    def test_by_hand_with_gold(self, full):
        critic = full.critics[0]
        assert (critic.auroc, critic.abs, critic.recall) == (9 / 16, 1 / 8, 1 / 2)
        assert critic.brier == pytest.approx(2.36 / 8)
        assert (full.basis.source, full.basis.rows, full.basis.errors, full.basis.budget) == ("gold", 8, 4, 4)

    def test_as_estimate_has_them(self, full):
        for critic, eps in zip(full.critics, (EPS, SECOND), strict=True):
            assert critic.auroc == pytest.approx(auroc(eps, WRONG))
            assert critic.abs == pytest.approx(abs_score(eps, WRONG))
            assert critic.recall == pytest.approx(recall_at(eps, WRONG, 4))

    def test_by_hand_from_the_reviewed_rows(self):
        # rows 0, 1, 2 and 4 with weights 1, 1, 2 and 4; only row 1 was right
        report = build_report(made())
        critic = report.critics[0]
        assert (report.basis.source, report.basis.rows, report.basis.errors) == ("review", 4, 3)
        assert report.basis.effective == pytest.approx(64 / 22)
        assert critic.auroc == pytest.approx(1 / 7)
        assert critic.recall == pytest.approx(3 / 7)
        assert critic.brier == pytest.approx((0.1**2 + 0.8**2 + 2 * 0.3**2 + 4 * 0.5**2) / 8)
        assert critic.auroc == pytest.approx(
            roc_auc_score([1, 0, 1, 1], [0.9, 0.8, 0.7, 0.5], sample_weight=[1, 1, 2, 4])
        )

    def test_names_come_from_the_records(self, full):
        assert [critic.name for critic in full.critics] == ["logit: small", "logit: other"]
        bare = with_records(made(), [])
        assert [critic.name for critic in build_report(bare, task=TASK).critics] == [
            "act_error_prob",
            "act_error_prob_two",
        ]

    def test_a_calibrated_critic_beside_what_it_was(self):
        dataset = made(act_error_prob_raw=EPS[::-1])
        names = [critic.name for critic in build_report(add_record(dataset, "calibrate", method="model")).critics]
        assert names == ["calibrated (model), logit: small", "as given, logit: small", "logit: other"]

    def test_one_kind_of_row_has_no_ranking(self):
        report = build_report(made(act_label=GOLD), gold="label")
        assert (report.critics[0].auroc, report.critics[0].abs, report.critics[0].recall) == (None, None, None)
        assert report.critics[0].brier is not None
        assert report.finding.ratio is None

    @pytest.mark.parametrize("human", [[None] * 8, [0, 1, *[None] * 6]])
    def test_an_unfinished_review_judges_nobody(self, human):
        report = build_report(made(act_human=human))
        assert (report.basis, report.estimate, report.finding) == (None, None, None)


class TestStages:
    def test_only_annotated(self):
        report = build_report(made("annotate"))
        assert (report.critics, report.design, report.estimate, report.doubtful) == ((), None, None, ())
        assert report.no_estimate == "no rows have been drawn for review yet"

    def test_only_annotated_with_gold(self):
        report = build_report(made("annotate"), gold="label")
        assert (report.truth.machine.value, report.truth.after) == (0.5, None)

    def test_no_review_yet(self):
        report = build_report(made("sample"))
        assert (report.review.state, report.review.selected) == ("none", 4)
        assert "no human label yet" in report.no_estimate

    def test_an_unfinished_review(self):
        report = build_report(made(act_human=[0, *[None] * 7]), gold="label")
        assert (report.review.state, report.review.answered) == ("unfinished", 1)
        assert (report.estimate, report.no_estimate) == (None, "review unfinished: 1 of 4 rows answered")
        assert report.truth.after.value == 5 / 8
        assert any(note.startswith("Review unfinished: 1 of 4") for note in report.notes)

    def test_rows_removed_since_the_draw(self):
        report = build_report(made().select([0, 1, 2, 4]))
        assert report.estimate is None
        assert "drawn from 8 rows, of which 4 are left" in report.no_estimate

    def test_a_design_that_cannot_be_estimated_says_why(self):
        report = build_report(made(act_pi=[0.0, *PI[1:]]))
        assert "row 0 was reviewed although its pi is 0" in report.no_estimate
        assert any("row 0 was reviewed" in note for note in report.notes)

    def test_rows_that_could_not_be_drawn(self):
        report = build_report(made(act_pi=[1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]))
        assert (report.estimate.covers, report.design.never, report.finding) == (0.5, 4, None)
        assert any(note.startswith("Only 50.0") for note in report.notes)

    def test_few_effective_rows(self, full):
        assert full.estimate.effective < 10
        assert any("intervals are wide" in note for note in full.notes)

    def test_who_reviewed(self, full):
        assert full.review.simulated == "simulated from column 'label'"
        assert "simulated from column 'label'" in full.notes[0]
        people = build_report(made())
        assert people.review.simulated is None
        assert not any("simulated" in note for note in people.notes)
        unknown = build_report(with_records(made(), stage_records(made())[:-1]))
        assert unknown.notes[0] == "No record says who gave the human labels."

    def test_people_beside_a_simulation(self):
        mixed = build_report(add_record(made(simulated=True), "review", simulated=False, source="table"))
        assert mixed.notes[0].startswith("Not only people reviewed: some human labels are simulated")

    def test_people_are_counted_not_named(self, tmp_path):
        report = build_report(made())
        assert report.records[-1]["annotators"] == 2
        assert "ann@example.org" not in page_of(report, tmp_path)

    def test_ties(self):
        answers = responses([("x", "a"), ("y", "b")], *[()] * 7)
        report = build_report(made(act_human=[None, *HUMAN[1:]], act_responses=answers))
        assert (report.review.state, report.review.tied) == ("unfinished", 1)
        assert any("1 of the rows drawn are tied" in note for note in report.notes)

    def test_people_who_disagree(self):
        """Of four rows answered by two people one is disputed."""
        said = [("a", "a"), ("b", "b"), ("c", "a"), (), ("b", "b"), (), (), ()]
        answers = responses(*(zip(("x", "y"), row, strict=False) for row in said))
        report = build_report(made(act_responses=answers))
        assert (report.agreement.pairs, report.agreement.disagreeing) == (4, 1)
        rate = reviewer_error_rate(1, 4, 3)
        assert report.agreement.error_rate.value == pytest.approx(rate[0])
        assert report.agreement.estimate == with_reviewer_error(report.estimate, rate[0], 3)
        (note,) = [note for note in report.notes if "pairs of answers" in note]
        assert "Of 4 pairs of answers to the same row 1 differ" in note
        assert "Corrected for that" in note

    def test_people_who_answer_by_chance_correct_nothing(self):
        answers = responses([("x", "a"), ("y", "b")], *[()] * 7)
        report = build_report(made(act_responses=answers))
        assert report.agreement.estimate is None
        assert not any("Corrected for that" in note for note in report.notes)

    def test_one_answer_a_row_says_nothing_of_agreement(self, full):
        assert full.agreement is None

    def test_failures(self):
        report = build_report(made(act_failure=["empty", "odd", "empty", *[None] * 5]))
        assert (report.failed, report.failures) == (3, (("empty", 2), ("odd", 1)))

    def test_design(self, full):
        design = full.design
        assert (design.rows, design.selected, design.never, design.pi_low, design.pi_high) == (8, 4, 0, 0.25, 1.0)
        assert design.facts == {"rule": "exponential", "beta": 20.0, "budget": 4, "mix": 0.0, "seed": 3, "rows": 8}
        assert design.points[-1] == (pytest.approx(0.9), 1.0, True)
        assert (sum(design.histogram[0]), sum(design.histogram[1])) == (8, 4)

    def test_costs(self, full):
        assert [cost.stage for cost in full.costs] == ["annotate", "criticize", "criticize"]
        assert (full.costs[0].requests, full.costs[0].calls, full.costs[0].stored) == (10, 4, 6)
        assert full.costs[0].seconds_per_row == 2.0 / 8

    def test_doubtful_rows(self, full):
        assert [row.number for row in full.doubtful] == list(range(8))
        row = full.doubtful[0]
        assert (row.shown, row.label, row.human, row.gold) == ((("text", "row 0"),), "b", "a", "a")
        assert (row.label_prob, row.critique, row.corrected) == (0.5, "because 0", True)
        assert not full.doubtful[1].corrected
        assert full.doubtful[3].human is None

    def test_a_long_text_is_cut(self):
        row = build_report(made(text=["x" * 5000] * 8)).doubtful[0]
        assert len(row.shown[0][1]) < 700

    def test_a_format_changes_nothing(self, full):
        assert build_report(made(simulated=True).with_format("numpy"), gold="label", downstream=RUNS) == full


class TestWithTheOtherStages:
    def test_a_simulated_review_of_a_real_draw(self):
        base = made("criticize", second=False).add_column("act_id", [str(number) for number in range(8)])
        drawn = sample(base, budget=5, mix=0.2, seed=1)
        report = build_report(simulate_review(drawn, gold="label"), gold="label")
        assert (report.review.state, report.review.answered) == ("finished", 5)
        assert report.review.simulated == "simulated from column 'label'"
        assert report.design.facts["mix"] == 0.2
        assert report.estimate.covers == 1


class TestDownstream:
    def test_mean_and_deviation(self, full):
        human, act = full.downstream
        assert (human.method, human.seeds, human.rows) == ("human", 2, (6, 8))
        assert human.mean == pytest.approx(0.8)
        assert human.sd == pytest.approx(0.02**0.5)
        assert (act.method, act.mean, act.sd, act.seeds) == ("act", 0.8, None, 1)

    @pytest.mark.parametrize(
        ("run", "message"),
        [
            (
                {"method": "dog", "seed": 0, "accuracy": 0.5, "rows": 1},
                "'dog' is none of human, machine, reviewed, corrected, mixed, act",
            ),
            ({"method": "act", "seed": 0, "accuracy": 50, "rows": 1}, "accuracy 50 is not in"),
            ({"method": "act", "accuracy": 0.5, "rows": 1}, "has no 'seed'"),
        ],
    )
    def test_what_is_refused(self, run, message):
        with pytest.raises(ACTError, match=message):
            build_report(made(), downstream=[run])

    def test_only_runs_that_differ_in_the_seed_are_one(self, tmp_path):
        run = {"method": "act", "rows": 8}
        runs = [
            {**run, "seed": 0, "accuracy": 0.6},
            {**run, "seed": 1, "accuracy": 0.8, "power": 1.0, "soft": False},
            {**run, "seed": 0, "accuracy": 0.9, "power": 0.2, "soft": True},
            {**run, "seed": 0, "accuracy": 0.7, "power": "gradients"},
            {**run, "seed": 1, "accuracy": 0.9, "power": "gradients"},
        ]
        report = build_report(made(simulated=True), downstream=runs)
        assert [(group.name, group.seeds, round(group.mean, 3)) for group in report.downstream] == [
            ("act", 2, 0.7),
            ("act, power 0.2, soft labels", 1, 0.9),
            ("act, power by gradients", 2, 0.8),
        ]
        assert "power 0.2, soft labels" in page_of(report, tmp_path)
        assert "act, power by gradients" in report.summary()

    def test_every_mode_of_training_can_be_shown(self, tmp_path):
        runs = [{"method": mode, "seed": 0, "accuracy": 0.8, "rows": 8} for mode in MODES]
        report = build_report(made(simulated=True), downstream=runs)
        assert {group.method for group in report.downstream} == set(MODES)
        page = unescape(page_of(report, tmp_path))
        assert all(METHODS[mode] in page for mode in MODES)


class TestRefused:
    def test_no_machine_labels(self):
        with pytest.raises(ACTError, match="no column 'act_label'"):
            build_report(made().remove_columns("act_label"))

    def test_no_task(self):
        with pytest.raises(ACTError, match="annotate it first, or pass task="):
            build_report(with_records(made(), []))

    def test_no_gold_column(self):
        with pytest.raises(ACTError, match="no column 'truth'"):
            build_report(made(), gold="truth")

    def test_gold_with_gaps(self):
        with pytest.raises(ACTError, match="'label' is empty in 1 of 8 rows"):
            build_report(made(label=["a", None, *"abcabc"]), gold="label")

    def test_gold_of_another_task(self):
        with pytest.raises(ACTError, match="'z' in column 'label' is none of the labels a, b, c"):
            build_report(made(label=list("abcabcaz")), gold="label")

    def test_gold_as_bare_numbers(self):
        with pytest.raises(ACTError, match="is none of the labels"):
            build_report(made(label=GOLD), gold="label")


SECTIONS = ("accuracy", "errors", "critic", "doubtful", "corrections", "design", "downstream", "cost", "provenance")


def sections(page):
    return tuple(re.findall(r'<section id="(\w+)">', page))


class TestPage:
    def test_all_sections_in_order(self, full_page):
        assert sections(full_page) == SECTIONS

    @pytest.mark.parametrize(
        ("upto", "there"),
        [
            ("annotate", ("accuracy", "cost", "provenance")),
            ("criticize", ("accuracy", "errors", "critic", "doubtful", "cost", "provenance")),
            ("sample", ("accuracy", "errors", "critic", "doubtful", "design", "cost", "provenance")),
            ("review", tuple(name for name in SECTIONS if name != "downstream")),
        ],
    )
    def test_sections_that_there_is_something_for(self, upto, there, tmp_path):
        assert sections(page_of(build_report(made(upto)), tmp_path)) == there

    def test_it_asks_nothing_of_the_network(self, full_page):
        assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in full_page
        rest = without_pictures(full_page)
        assert not re.search(r"https?://|src\s*=|href\s*=|url\s*\(|@import|<script|<iframe|<link|<form", rest)

    def test_every_picture_is_a_png_with_a_description(self, full_page):
        found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]{20,})">', full_page)
        assert len(found) == full_page.count("<img") == 4
        assert all(base64.b64decode(data).startswith(b"\x89PNG") for data, _ in found)

    def test_gold_or_none(self, full_page, tmp_path):
        without = page_of(build_report(made()), tmp_path)
        assert "true, by the gold column" in full_page
        assert "true, by the gold column" not in without
        assert "not a measurement" in without
        assert "weighted by 1/π" in without

    def test_simulated_is_said_wherever_it_matters(self, full_page, tmp_path):
        for name in ("accuracy", "errors", "doubtful", "corrections", "downstream"):
            section = full_page.split(f'<section id="{name}">')[1].split("</section>")[0]
            assert "simulated reviewer" in section, name
        people = page_of(build_report(made(), gold="label", downstream=RUNS), tmp_path)
        assert "simulated reviewer" not in people

    def test_our_definitions_are_called_ours(self, full_page):
        assert "the definition this project's own" in full_page
        assert "their interval is this project's own" in full_page

    def test_what_rows_models_and_people_wrote_is_escaped(self, tmp_path):
        bad = "<script>alert(1)</script><img src=x onerror=alert(1)>\" onload='x"
        task = replace(TASK, labels=("a", "b", bad), words=(), sentences=(), instruction=bad)
        dataset = made(task=task, text=[bad] * 8, act_critique=[bad] * 8, act_failure=[bad] + [None] * 7)
        dataset = add_record(dataset, "criticize", model=bad, strategy=bad, suffix="", usage=USAGE, **{bad: bad})
        report = build_report(dataset, downstream=RUNS, title=bad)
        page = without_pictures(page_of(report, tmp_path))
        assert "<script" not in page
        assert not re.search(r"<[^>]*onerror|<[^>]*onload", page)
        assert page.count("&lt;script&gt;") > 20

    def test_a_name_cannot_turn_the_words_around_it(self, tmp_path):
        turned = "a\u202eb"
        report = replace(build_report(made(), title=turned), notes=(f"{turned} says 5\u00a0%",))
        page = page_of(report, tmp_path)
        assert "<title>a b</title>" in page
        assert "<li>a b says 5\u00a0%</li>" in page
        assert f"<bdi>{turned}</bdi>" in page

    def test_a_picture_and_a_question(self, tmp_path):
        from PIL import Image as Picture

        task = Task(labels=("a", "b", "c"), image="image", question="question")
        dataset = made(task=task).rename_column("text", "question")
        pixels = Dataset.from_dict({"image": [Picture.new("RGB", (4, 4))] * 8}, features=Features({"image": Image()}))
        report = build_report(add_columns(dataset, {"image": pixels["image"][:]}, pixels.features))
        assert report.doubtful[0].shown == (("image", "[image]"), ("question", "row 0"))
        assert "[image]" in page_of(report, tmp_path)

    def test_an_unfinished_review_is_headed_so(self, tmp_path):
        page = page_of(build_report(made(act_human=[0, *[None] * 7])), tmp_path)
        assert "1 of 4 rows answered" in page


class TestSave:
    def test_the_file_is_replaced_and_nothing_else_is_left(self, tmp_path):
        report = build_report(made("annotate"))
        path = tmp_path / "report.html"
        path.write_text("before")
        assert report.save(path) == path
        assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
        assert [file.name for file in tmp_path.iterdir()] == ["report.html"]

    def test_a_failed_write_leaves_the_old_file(self, tmp_path):
        target = tmp_path / "report.html"
        target.mkdir()
        with pytest.raises(ACTError, match="cannot write the report"):
            build_report(made("annotate")).save(target)
        assert [file.name for file in tmp_path.iterdir()] == ["report.html"]

    def test_another_ending_is_refused(self, tmp_path):
        with pytest.raises(ACTError, match=r"a report is saved as \.html or \.htm, not as 'rows\.csv'"):
            build_report(made("annotate")).save(tmp_path / "rows.csv")
        assert not list(tmp_path.iterdir())

    def test_a_new_folder_is_made(self, tmp_path):
        assert build_report(made("annotate")).save(tmp_path / "new" / "report.html").exists()

    def test_the_same_run_gives_the_same_bytes(self, full, full_page, tmp_path):
        assert page_of(full, tmp_path) == full_page

    def test_without_matplotlib(self, full, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(ACTError, match=r"pip install act_hf\[plot\]"):
            full.save(tmp_path / "report.html")
        assert full.summary()


class TestPlots:
    def test_no_name_is_a_formula(self, full):
        odd = replace(full, critics=tuple(replace(critic, name=r"$\frac{$ _x$") for critic in full.critics))
        assert set(pictures(odd)) == {"curve", "reliability", "design", "downstream"}

    def test_no_global_state(self, full):
        pictures(full)
        assert "matplotlib.pyplot" not in sys.modules


class TestSummary:
    def test_it_fits_a_terminal(self, full):
        long = replace(full, title="t" * 300, critics=tuple(replace(c, name="n" * 300) for c in full.critics))
        assert all(len(line) <= 100 for line in long.summary().splitlines())

    def test_what_it_says(self, full):
        text = full.summary()
        for expected in (
            "50.0 % (21.5 to 78.5 %)",
            "87.5 % (52.9 to 97.8 %)",
            "4 of 4 rows drawn, 8 in all; simulated from column 'label'",
            "3; at random 2.0, 1.50 times as many",
            "logit: small",
            "human",
            "! No person reviewed",
        ):
            assert expected in text, expected

    def test_an_unfinished_review(self):
        text = build_report(made(act_human=[0, *[None] * 7])).summary()
        assert "1 of 4 rows answered" in text
        assert "estimated" not in text.split("!")[0]

    def test_nothing_known(self):
        assert "is not known: no rows have been drawn" in build_report(made("annotate")).summary()

    def test_nobody_writes_to_the_terminal(self):
        bad = "\x1b[31mred\r\n\x07"
        dataset = add_record(made(), "criticize", model=bad, strategy="x", suffix="", usage=USAGE)
        report = build_report(dataset, title=bad)
        assert all(line.isprintable() for line in report.summary().splitlines())
