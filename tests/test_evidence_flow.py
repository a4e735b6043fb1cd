"""Plans and checks of data sets, in Python and from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Value
from support.command import act_hf, good, refused
from support.reviews import accuracy, answered, audited, criticized

from act_hf import check_target, plan_review
from act_hf.calibration import calibrate
from act_hf.errors import ACTError
from act_hf.evidence import plan_rows
from act_hf.files import read_dataset, write_dataset
from act_hf.records import add_record
from act_hf.sampling import sample


@pytest.fixture(scope="module")
def audit() -> Dataset:
    return audited()


def followed(audit: Dataset, rows: int, **options) -> Dataset:
    drawn = sample(audit, budget=rows, wave=2, rule="threshold", mix=0.0, **options)
    return answered(drawn)


class TestPlanReview:
    def test_it_is_the_plan_of_its_arrays(self, audit):
        plan = plan_review(audit, target=0.95)
        columns = (np.array(audit[name][:]) for name in ("act_error_prob", "act_selected", "act_pi"))
        same = plan_rows(*columns, np.array(audit["gold"][:]) == 1, target=0.95)
        assert plan.column == "act_error_prob"
        assert plan.to_dict() | {"column": "error_probs"} == same.to_dict()

    def test_followed_it_reaches_the_target_and_a_look_confirms_it(self, audit):
        plan = plan_review(audit, target=0.95)
        assert 0 < plan.further < 700
        reviewed = followed(audit, plan.further)
        assert accuracy(reviewed) >= 0.95
        check = check_target(reviewed, target=0.95, looks=1)
        assert (check.state, check.look, check.level, check.further) == ("reached", 1, 0.95, 0)
        assert check.low <= accuracy(reviewed) <= check.high
        assert plan_review(reviewed, target=0.95).further == 0
        assert not check_target(audit, target=0.95, looks=1).reached

    def test_failed_rows_are_wrong_until_somebody_has_looked(self):
        audit = audited(failed=30)
        plan = plan_review(audit, target=0.95)
        assert (plan.unscored, plan.unknown, plan.exact) == (30, 30, True)
        assert "--failures review)" in plan.summary()
        assert "and the 30 without any (failed)" in " ".join(plan.summary().split())
        reviewed = followed(audit, plan.further, failures="review")
        assert check_target(reviewed, target=0.95, looks=1).reached

    def test_a_row_with_a_failure_counts_as_failed_whatever_its_error_probability(self, audit):
        rows = np.flatnonzero(~np.array(audit["act_selected"][:]))[:7]
        reasons = ["broken" if row in rows else None for row in range(len(audit))]
        failed = audit.add_column("act_failure", reasons)
        assert plan_review(failed, target=0.95).unscored == 7

    def test_the_order_is_what_the_critic_said_before_it_was_fitted(self, audit):
        fitted = calibrate(audit)
        plan, before = plan_review(fitted, target=0.95), plan_review(audit, target=0.95)
        assert plan.column == "act_error_prob_raw"
        assert (plan.further, plan.threshold) == (before.further, before.threshold)
        assert "! act_error_prob_raw orders the rows, as it was before calibrate" in plan.summary()

    def test_a_weighted_draw_is_said_to_be_approximate(self):
        drawn = answered(sample(criticized("good", 2000, 0.2), budget=300, mix=0.3))
        plan = plan_review(drawn, target=0.95)
        assert not plan.exact
        assert "with about 95 % confidence" in plan.guarantee
        assert "! Approximate" in plan.summary()

    def test_an_unfinished_wave_is_to_be_finished_first(self, audit):
        some = answered(sample(audit, budget=100, wave=2, rule="threshold", mix=0.0), but=40)
        plan = plan_review(some, target=0.95)
        assert (plan.waiting, plan.reviewed, plan.waves) == (40, 360, 1)
        assert plan.total == plan_review(audit, target=0.95).total
        assert "! 40 drawn rows wait for an answer" in plan.summary()
        assert "act-hf sample" not in plan.summary()

    def test_that_stop_asks_for_more_after_two_looks(self):
        twice = answered(sample(audited(budget=200), budget=200, wave=2, mix=1.0))
        plan, check = plan_review(twice, target=0.95), check_target(twice, target=0.95)
        assert (plan.looks, plan.until_stop) == (check.look, check.further)
        assert plan.further < check.further
        said = " ".join(plan.summary().split())
        assert f"! stop asks for more, about {check.further:,} further rows: it shares the confidence out" in said
        assert "see act-hf stop INPUT --target 0.95." in said

    def test_of_one_look_stop_is_not_mentioned(self, audit):
        plan = plan_review(followed(audit, 100), target=0.95)
        assert (plan.waves, plan.looks, plan.until_stop) == (2, 1, None)
        assert "stop" not in plan.summary()

    def test_a_simulated_review_is_said_to_be_one(self, audit):
        told = add_record(audit, "review", simulated=True)
        assert "300 of 2,000 rows are reviewed (simulated)" in plan_review(told).summary()
        assert "300 rows reviewed (simulated)" in check_target(told).summary()
        assert "simulated" not in plan_review(audit).summary()

    def test_its_lines_fit(self, audit):
        lines = plan_review(audit, target=0.95).summary().splitlines()
        assert max(len(line.removesuffix("  <- the plan")) for line in lines) <= 100
        assert sum(line.endswith("<- the plan") for line in lines) == 1

    def test_why_a_plan_asks_for_nearly_all(self):
        small = plan_review(audited(budget=20), target=0.95)
        assert "The audit is too small for this target: it is worth 20 rows" in " ".join(small.summary().split())
        adverse = plan_review(audited("adversarial"), target=0.95)
        assert "! The critic is of no help here" in adverse.summary()

    def test_the_picture(self, audit, tmp_path):
        plan = plan_review(audit, target=0.95)
        assert plan.plot(tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
        with pytest.raises(ACTError, match=r"drawn as \.png, not as 'plan.pdf'"):
            plan.plot(tmp_path / "plan.pdf")


class TestCheckTarget:
    def test_each_look_has_its_share(self):
        first = audited(budget=200)
        second = answered(sample(first, budget=200, wave=2, mix=1.0))
        checks = check_target(first), check_target(second)
        assert [(check.look, check.level) for check in checks] == [
            (1, pytest.approx(0.975)),
            (2, pytest.approx(1 - 0.05 / 6)),
        ]
        assert check_target(second, looks=2).level == pytest.approx(0.975)
        with pytest.raises(ACTError, match="looks=1, but 2 waves with a random draw are reviewed already"):
            check_target(second, looks=1)

    def test_a_wave_without_chance_is_no_look(self, audit):
        assert check_target(followed(audit, 100)).look == 1

    def test_in_the_midst_of_a_wave_what_was_corrected_counts(self, audit):
        whole = sample(audit, budget=500, wave=2, rule="threshold", mix=0.0)
        some = answered(whole, but=100)
        check, before = check_target(some, target=0.95), check_target(audit, target=0.95)
        assert check.waiting == 100
        assert "100 drawn rows wait for an answer" in check.summary()
        assert check.found > before.found
        assert check.further < before.further
        assert check_target(answered(whole), target=0.95).waiting == 0

    def test_the_draw_of_an_unfinished_wave_does_not_count(self, audit):
        some = answered(sample(audit, budget=300, wave=2, mix=1.0), but=200)
        check = check_target(some, target=0.95)
        assert (check.look, check.exact, check.audited, check.reviewed) == (1, True, 300, 400)

    def test_that_it_is_not_reached_can_be_shown_too(self, audit):
        check = check_target(audit, target=0.95)
        assert check.state == "not reached"
        assert check.summary().startswith("Not yet: 95 % of the 2,000 labels right")
        unsure = check_target(audit, target=0.8)
        assert unsure.state == "cannot tell"
        assert unsure.summary().startswith("Not shown yet: ")

    def test_all_reviewed(self):
        check = check_target(answered(sample(criticized("good", 50, 0.2), budget=50)))
        assert (check.state, check.accuracy, check.low) == ("reached", 1, 1)


class TestRefuses:
    @pytest.fixture(params=[(plan_review, "budget"), (check_target, "stop")], ids=["budget", "stop"])
    def asked(self, request):
        return request.param

    @pytest.mark.parametrize(
        ("column", "step"),
        [
            ("act_label", "annotate"),
            ("act_error_prob", "criticize"),
            ("act_pi", "sample"),
            ("act_selected", "sample"),
            ("act_human", "review"),
        ],
    )
    def test_a_stage_that_is_missing(self, audit, asked, column, step):
        run, name = asked
        with pytest.raises(ACTError, match=f"{name}: no column '{column}': {step} the rows first"):
            run(audit.remove_columns(column))

    def test_a_review_that_is_not_finished(self, asked):
        run, name = asked
        drawn = sample(criticized("good", 100, 0.2), budget=20, mix=1.0)
        for missing, told in ((20, 0), (3, 17)):
            with pytest.raises(ACTError, match=f"{name}: {told} of the 20 rows drawn have a human label; finish"):
                run(answered(drawn, but=missing))

    def test_an_earlier_wave_that_lost_an_answer(self, audit, asked):
        """Such as by a second person who disagrees: a row of the audit would else count as right."""
        run, name = asked
        drawn = sample(audit, budget=50, wave=2, mix=1.0)
        human = drawn["act_human"][:]
        human[human.index(0)] = None
        some = drawn.remove_columns("act_human").add_column("act_human", human, feature=drawn.features["gold"])
        with pytest.raises(
            ACTError, match=f"{name}: 299 of the 300 rows drawn in the waves before wave 2 have a human"
        ):
            run(some)

    def test_rows_that_were_taken_away(self, audit, asked):
        run, _ = asked
        with pytest.raises(ACTError, match="the rows were drawn from 2000 rows, of which 500 are left"):
            run(audit.select(range(500)))

    def test_a_row_without_a_probability(self, audit, asked):
        run, _ = asked
        pi = [None, *audit["act_pi"][1:]]
        broken = audit.remove_columns("act_pi").add_column("act_pi", pi).cast_column("act_pi", Value("float32"))
        with pytest.raises(ACTError, match="1 of 2000 rows have no act_pi"):
            run(broken)

    @pytest.mark.parametrize("change", [{"target": 98}, {"target": -1.0}, {"confidence": 95}])
    def test_what_is_no_share(self, audit, asked, change):
        with pytest.raises(ACTError, match=r"is not between 0(\.5)? and 1"):
            asked[0](audit, **change)


class TestCommands:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    @pytest.fixture(params=["", ".parquet", ".csv", ".jsonl"])
    def ending(self, request):
        return request.param

    def test_from_an_audit_to_the_target(self, ending):
        a, b, c = (f"{name}{ending}" for name in "abc")
        write_dataset(audited(), a)
        said = good("budget", a, "--target", "0.95", "--json", "plan.json", "--plot", "plan.png")
        plan = json.loads(Path("plan.json").read_text())
        assert Path("plan.png").stat().st_size > 10_000
        assert f"Review {plan['further']:,} rows further ({plan['total']:,} in all)" in said
        assert said.endswith("\npicture in plan.png\nfigures in plan.json\n")
        ended = act_hf("stop", a, "--target", "0.95", "--looks", "1")
        assert ended.status == 1
        assert ended.out.startswith("Not yet: ")
        assert ended.err == ""
        options = re.search(r"\(act-hf sample INPUT OUTPUT (.*)\)", said)[1].split()
        good("sample", a, b, *options)
        write_dataset(answered(read_dataset(b)), c)
        said = good("stop", c, "--target", "0.95", "--looks", "1", "--json", "stop.json")
        assert said.startswith("Reached: 95 % of the 2,000 labels right, with 95 % confidence over all looks\n")
        assert json.loads(Path("stop.json").read_text())["state"] == "reached"

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("budget", "a", "--target", "98"), "target=98.0 is not between 0 and 1, such as 0.98"),
            (("stop", "a", "--target", "0"), "target=0.0 is not between"),
            (("stop", "a", "--confidence", "1"), "confidence=1.0 is not between"),
            (("budget", "a", "--plot", "plan.pdf"), "a plan is drawn as .png, not as 'plan.pdf'"),
            (("budget", "a", "--json", "there.json"), "exists"),
            (("stop", "a", "--json", "there.json"), "exists"),
            (("budget", "nowhere"), "nowhere"),
            (("budget", "raw.jsonl"), "no column 'act_label': annotate the rows first"),
        ],
    )
    def test_bad_input(self, audit, arguments, says):
        write_dataset(audit, "a")
        Dataset.from_dict({"text": ["x"]}).to_json("raw.jsonl")
        Path("there.json").write_text("{}")
        assert says in refused(*arguments)
