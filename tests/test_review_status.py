"""How far a review is, and what can be said of the accuracy before it is finished."""

import numpy as np
import pytest
from support.reviews import TASK, reviewed

from act_hf.columns import ERROR_PROB, HUMAN, ID, LABEL, PI, SELECTED, add_columns, column_features
from act_hf.errors import ACTError
from act_hf.estimate import estimate_accuracy
from act_hf.records import add_record
from act_hf.review.places import Pulled, Pushed
from act_hf.review.responses import Response, merge_responses
from act_hf.review.status import review_status
from act_hf.sampling import read_waves


class Desk:
    """A place with answers, and words of its own."""

    name, final, how = "desk", True, "sit down"

    def __init__(self, *responses):
        self.responses = list(responses)

    def push(self, rows):
        return Pushed(len(rows))

    def pull(self, dataset):
        return Pulled(self.responses, ("2 drafts",))

    def progress(self):
        return "ann is at lunch"


class TestWhileItGoesOn:
    def test_counts(self):
        status = review_status(reviewed(but=20))
        assert (status.selected, status.answered, status.left, status.ties) == (60, 40, 20, 0)
        assert "40 of 60 rows answered (67%), 20 to go\n" in status.summary()
        assert f"{status.corrected} of the 40 machine labels were wrong" in status.summary()
        assert status.summary().endswith("% (95 %, whatever the answers to the rows to go)")

    @pytest.mark.parametrize("seed", range(8))
    def test_whatever_people_say_next_the_finished_interval_lies_within(self, seed):
        status, rng = review_status(reviewed(but=25, seed=seed)), np.random.default_rng(seed)
        dataset = reviewed(but=25, seed=seed)
        waves, open_ = read_waves(dataset), np.array([label is None for label in dataset[HUMAN][:]])
        eps = np.array(dataset[ERROR_PROB][:], dtype=float)
        wrong = np.array([label not in (None, 0) for label in dataset[HUMAN][:]])
        for _ in range(20):
            said = wrong | (open_ & (rng.random(open_.size) < rng.random()))
            final = estimate_accuracy(eps, waves.drawn_in, waves.pi, said)
            assert status.reach.low <= final.machine_low + 1e-12
            assert final.machine_high <= status.reach.high + 1e-12
            assert status.reach.low_after <= final.after_low + 2e-3
            assert final.after_high <= status.reach.high_after + 2e-3

    def test_finished_it_is_the_estimate(self):
        dataset = reviewed()
        status, waves = review_status(dataset), read_waves(dataset)
        wrong = np.array([label == 1 for label in dataset[HUMAN][:]])
        final = estimate_accuracy(np.array(dataset[ERROR_PROB][:]), waves.drawn_in, waves.pi, wrong)
        reach = status.reach
        assert (reach.low, reach.high) == (final.machine_low, final.machine_high)
        assert (reach.low_after, reach.high_after) == (final.after_low, final.after_high)
        assert status.summary().endswith("% (95 %)")

    def test_nobody_has_answered(self):
        status = review_status(reviewed(but=60))
        assert status.reach is None
        assert "0 of 60 rows answered (0%), 60 to go\naccuracy: nothing can be said yet: nobody" in status.summary()

    def test_rows_that_are_gone(self):
        status = review_status(reviewed().select(range(399)))
        assert status.why_not == "the rows were drawn from 400 rows, of which 399 are left"

    def test_not_sampled(self):
        with pytest.raises(ACTError, match="review status: no column 'act_selected'"):
            review_status(reviewed().remove_columns([SELECTED]))


class TestPeople:
    def merged(self, *said):
        dataset = reviewed(but=60)
        ids = [act_id for act_id, own in zip(dataset[ID][:], dataset[SELECTED][:], strict=True) if own]
        given = [
            Response(act_id, who, label) for act_id, row in zip(ids, said, strict=False) for who, label in row.items()
        ]
        return dataset, given

    def test_ties_agreement_and_each_persons_errors(self):
        alike, apart = {"ann": "right", "bob": "right"}, {"ann": "right", "bob": "other"}
        dataset, given = self.merged(*[alike] * 6, apart, {"ann": "other"})
        status = review_status(merge_responses(dataset, given, source="test"))
        assert (status.answered, status.ties, status.pairs) == (7, 1, 7)
        assert [(one.name, one.answers, one.disagreeing) for one in status.people] == [("ann", 8, 1), ("bob", 7, 1)]
        said = status.summary()
        assert "53 to go, 1 of them with a tie" in said
        assert "ann: 8 answers, wrong, together with those who share rows, in 8% (" in said
        assert f"Krippendorff's α {status.alpha:.2f} over 7 pairs of answers" in said
        assert said.endswith("whatever the answers to the rows to go; a row with one answer counts as settled)")

    def test_a_place_is_asked_and_nothing_is_changed(self):
        dataset, given = self.merged({"ann": "right"}, {"ann": "other"})
        before = dataset.to_dict()
        status = review_status(dataset, Desk(*given, Response("r0", "ann", "right")))
        assert (status.answered, status.corrected) == (2, 1)
        assert status.notes[0] == "2 drafts"
        assert status.notes[1].startswith("1 answers for rows that are not selected in this data set")
        assert status.notes[2] == "ann is at lunch"
        assert status.summary().endswith("ann is at lunch")
        assert dataset.to_dict() == before

    def test_a_place_where_nobody_has_answered(self):
        dataset, _ = self.merged()
        assert review_status(dataset, Desk()).notes == ["2 drafts", "ann is at lunch"]

    @pytest.mark.parametrize("human", [[1, 1, None], [1, None, None], [None, 1, None]])
    def test_a_row_that_was_drawn_twice_counts_once(self, human):
        values = {ID: ["r1"] * 3, LABEL: [0] * 3, SELECTED: [True, True, False], HUMAN: human, PI: [0.5] * 3}
        dataset = add_columns(
            reviewed().select(range(3)).select_columns(["text"]), values, column_features(TASK, values)
        )
        status = review_status(add_record(dataset, "annotate", task=TASK.to_dict()))
        assert (status.selected, status.answered, status.corrected) == (1, 1, 1)
