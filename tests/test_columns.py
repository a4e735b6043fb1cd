from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from PIL import Image as Picture
from support.fakes import FakeModel, by_text

from act_hf import columns
from act_hf.annotators import Annotator
from act_hf.columns import add_columns, class_names, column_features, count_failed, map_columns, require
from act_hf.errors import ACTError
from act_hf.models.asking import Usage
from act_hf.models.base import Answer
from act_hf.priors import fit_prior
from act_hf.task import Task


TASK = Task(labels=["ham", "spam"], text="t")


def rows(count: int = 3) -> Dataset:
    return Dataset.from_dict({"t": [f"row {i}" for i in range(count)], "n": list(range(count))})


class TestFeatures:
    def test_types_are_those_of_the_table(self):
        label = ClassLabel(names=["ham", "spam"])
        assert column_features(TASK) == Features(
            {
                "act_id": Value("string"),
                "act_label": label,
                "act_label_probs": List(Value("float32")),
                "act_rationale": Value("string"),
                "act_error_prob": Value("float32"),
                "act_error_prob_raw": Value("float32"),
                "act_critique": Value("string"),
                "act_pi": Value("float32"),
                "act_selected": Value("bool"),
                "act_wave": Value("int32"),
                "act_wave_pi": List(Value("float32")),
                "act_human": label,
                "act_responses": List({name: Value("string") for name in ("annotator", "label", "comment")}),
                "act_failure": Value("string"),
            }
        )

    def test_only_the_columns_asked_for_in_their_order(self):
        assert list(column_features(TASK, [columns.FAILURE, columns.LABEL])) == ["act_failure", "act_label"]

    def test_every_value_can_be_none(self):
        features = column_features(TASK)
        nothing = Dataset.from_dict({name: [None, None] for name in features}, features=features)
        assert all(value is None for row in nothing for value in row.values())


class TestRequire:
    def test_takes_what_is_there(self):
        require(rows(), ["t"], stage="sample")
        require(rows(), [], stage="sample")

    def test_names_all_that_is_missing_and_all_that_is_there(self):
        with pytest.raises(ACTError, match=r"^sample: no column 'act_pi', 'x'; the data set has 't', 'n'$"):
            require(rows(), ["t", "act_pi", "x"], stage="sample")

    def test_says_when_there_is_nothing(self):
        with pytest.raises(ACTError, match=r"^sample: the data set is empty \(0 rows\)$"):
            require(rows().select([]), ["t"], stage="sample")
        with pytest.raises(ACTError, match="no column 't'; the data set has none"):
            require(Dataset.from_dict({}), ["t"], stage="sample")

    def test_the_splits_of_a_dictionary_are_named(self):
        from datasets import DatasetDict

        with pytest.raises(ACTError, match=r"sample: these are several splits \(DatasetDict\); take one of 'train'$"):
            require(DatasetDict(train=rows()), ["t"], stage="sample")

    def test_a_table_of_another_kind_is_named(self):
        with pytest.raises(ACTError, match=r"needs a datasets\.Dataset, not a DataFrame; see Dataset\.from_pandas"):
            require(rows().to_pandas(), ["t"], stage="sample")


class TestClassNames:
    def test_in_the_order_of_their_ids(self):
        assert class_names(rows().cast_column("n", ClassLabel(names=["z", "a", "m"])), "n") == ["z", "a", "m"]

    def test_other_columns_have_none(self):
        with pytest.raises(ACTError, match=r"'t' is Value\('string'\), not a ClassLabel.*class_encode_column\('t'\)"):
            class_names(rows(), "t")


class TestAddColumns:
    features = Features({"act_pi": Value("float32"), "n": Value("string"), "unused": Value("string")})

    def test_adds_with_the_type_declared(self):
        added = add_columns(rows(), {"act_pi": [None, 0.5, None]}, self.features)
        assert added.column_names == ["t", "n", "act_pi"]
        assert added.features["act_pi"] == Value("float32")
        assert added["act_pi"][:] == [None, 0.5, None]
        assert added["t"][:] == ["row 0", "row 1", "row 2"]

    def test_replaces(self):
        replaced = add_columns(rows(), {"n": ["x", None, "z"]}, self.features)
        assert replaced["n"][:] == ["x", None, "z"]
        assert replaced.features["n"] == Value("string")

    def test_replaces_the_only_column(self):
        replaced = add_columns(rows().select_columns("n"), {"n": ["x", "y", "z"]}, self.features)
        assert replaced.to_dict() == {"n": ["x", "y", "z"]}

    def test_after_select_shuffle_and_filter(self):
        some = rows(10).shuffle(seed=1).filter(lambda row: row["n"] % 2).select([2, 0, 1])
        numbers = some["n"][:]
        added = add_columns(some, {"act_pi": [float(n) for n in numbers]}, self.features)
        assert added["act_pi"][:] == added["n"][:] == numbers

    def test_of_another_length_is_an_error(self):
        with pytest.raises(Exception, match=r"(?i)rows|length"):
            add_columns(rows(), {"act_pi": [0.5]}, self.features)


class TestMapColumns:
    features = column_features(TASK, [columns.LABEL, columns.LABEL_PROBS, columns.FAILURE])

    @staticmethod
    def late(batch):
        """A label only from row 1,500 on."""
        known = [n >= 1500 for n in batch["n"]]
        return {
            "act_label": [1 if late else None for late in known],
            "act_label_probs": [[0.25, 0.75] if late else None for late in known],
            "act_failure": [None if late else "no" for late in known],
        }

    def map(self, dataset: Dataset) -> Dataset:
        return map_columns(dataset, self.late, self.features, batch_size=100, progress="late")

    def test_keeps_types_when_the_first_thousand_rows_are_none(self):
        mapped = self.map(rows(1600))
        assert {name: mapped.features[name] for name in self.features} == self.features
        assert mapped["act_label"][1498:1502] == [None, None, 1, 1]
        assert mapped["act_label_probs"][1499:1501] == [None, [0.25, 0.75]]
        assert mapped["t"][:] == rows(1600)["t"][:]
        assert count_failed(mapped) == 1500

    def test_all_none(self):
        mapped = self.map(rows(5))
        assert mapped.features["act_label"] == ClassLabel(names=["ham", "spam"])
        assert count_failed(mapped) == 5

    def test_on_disk(self, tmp_path):
        rows(1600).save_to_disk(tmp_path / "in")
        self.map(Dataset.load_from_disk(tmp_path / "in")).save_to_disk(tmp_path / "out")
        assert Dataset.load_from_disk(tmp_path / "out").to_dict() == self.map(rows(1600)).to_dict()

    def test_runs_each_time_and_never_from_the_cache(self, tmp_path):
        rows().save_to_disk(tmp_path / "d")
        dataset = Dataset.load_from_disk(tmp_path / "d")
        seen = []

        def stage(batch):
            seen.extend(batch["n"])
            return {"act_failure": [None] * len(batch["n"])}

        for _ in range(2):
            map_columns(dataset, stage, column_features(TASK, ["act_failure"]), batch_size=2, progress="x")
        assert seen == [0, 1, 2, 0, 1, 2]

    @pytest.mark.parametrize("kind", ["torch", "numpy", "pandas", "arrow"])
    def test_a_stage_gets_plain_lists_whatever_the_format(self, kind):
        types = set()

        def stage(batch):
            types.update(type(value) for name in ("t", "n") for value in batch[name])
            return self.late(batch)

        dataset = rows().with_format(kind)
        mapped = map_columns(dataset, stage, self.features, batch_size=2, progress="x")
        assert types == {str, int}
        assert mapped.format["type"] == kind  # as the caller had it
        assert mapped.column_names == ["t", "n", "act_label", "act_label_probs", "act_failure"]
        assert count_failed(mapped) == 3
        assert dataset.format["type"] == kind


def test_count_failed_in_another_column():
    dataset = Dataset.from_dict({"act_failure": [None, "x"], "act_failure_2": ["x", "y"]})
    assert count_failed(dataset) == 1
    assert count_failed(dataset, "act_failure_2") == 2


@pytest.fixture
def screen(monkeypatch, capsys) -> Iterator[Callable[[], str]]:
    """What is on the screen of a user who changed nothing, to whom `datasets` shows its bars."""
    bars = sys.modules["datasets.utils.tqdm"]  # the attribute of that name is its class
    with monkeypatch.context() as patch:
        patch.setattr(bars, "HF_DATASETS_DISABLE_PROGRESS_BARS", None)  # else conftest.py decides
        enable_progress_bars()
        yield lambda: capsys.readouterr().err
        disable_progress_bars()


class TestProgress:
    features = column_features(TASK, [columns.FAILURE])

    def stage(self, usage: Usage | None = None, raise_at: int | None = None):
        def run(batch):
            if raise_at in batch["n"]:
                raise RuntimeError("stopped")
            if usage:
                usage.paid("m", [Answer(calls=2, cost=0.25) for _ in batch["n"]])
            return {"act_failure": [None] * len(batch["n"])}

        return run

    def map(self, stage, **options) -> Dataset:
        return map_columns(rows(6), stage, self.features, batch_size=2, progress="label the rows", **options)

    def test_our_bar_takes_the_place_of_theirs(self, screen):
        self.map(self.stage())
        shown = screen()
        assert "label the rows: 100%" in shown
        assert "6/6" in shown
        assert "rows/s" in shown
        assert "Map" not in shown

    def test_theirs_is_back_afterwards(self, screen):
        self.map(self.stage())
        assert not are_progress_bars_disabled()
        rows(6).map(lambda row: row)
        assert "Map: 100%" in screen()

    def test_also_after_an_error(self, screen):
        usage = Usage()
        with pytest.raises(RuntimeError, match="stopped"):
            self.map(self.stage(usage, raise_at=4), usage=usage)
        assert not are_progress_bars_disabled()
        assert usage.listener is None

    def test_theirs_is_hidden_meanwhile(self, screen):
        hidden = []

        def stage(batch):
            hidden.append(are_progress_bars_disabled())
            return {"act_failure": [None] * len(batch["n"])}

        self.map(stage)
        assert hidden == [True] * 3

    def test_calls_and_cost_are_beside_it(self, screen):
        usage = Usage()
        self.map(self.stage(usage), usage=usage)
        assert "calls=12, cost=$1.5000" in screen()

    def test_calls_are_seen_while_a_batch_runs(self, screen):
        usage = Usage()
        seen = []

        def stage(batch):
            for _ in batch["n"]:
                time.sleep(0.15)  # longer than tqdm waits between two drawings
                usage.paid("m", [Answer()])
            seen.append("calls=2" in screen())
            return {"act_failure": [None] * len(batch["n"])}

        self.map(stage, usage=usage)
        assert seen[0]

    def test_the_bar_moves_while_a_batch_runs(self, screen):
        usage = Usage()
        seen = []

        def stage(batch):
            for share in (0.5, 1.0, 0.5):  # a second question begins anew, and does not take it back
                time.sleep(0.15)
                usage.share = share
                usage.paid("m", [Answer()])
                seen.append(screen())
            return {"act_failure": [None] * len(batch["n"])}

        self.map(stage, usage=usage)
        shown = [int(re.findall(r" (\d)/6 ", text)[-1]) for text in seen[:6]]
        assert shown == [1, 2, 2, 3, 4, 4]
        assert "6/6" in screen()

    def test_no_cost_where_there_is_none(self, screen):
        usage = Usage()

        def stage(batch):
            usage.paid("m", [Answer() for _ in batch["n"]])
            return {"act_failure": [None] * len(batch["n"])}

        self.map(stage, usage=usage)
        shown = screen()
        assert "calls=6]" in shown
        assert "cost" not in shown

    def test_the_listener_is_there_only_meanwhile(self, screen):
        usage = Usage()
        listening = []

        def stage(batch):
            listening.append(usage.listener is not None)
            return {"act_failure": [None] * len(batch["n"])}

        self.map(stage, usage=usage)
        assert listening == [True] * 3
        assert usage.listener is None

    def test_nothing_is_shown_to_a_user_who_wants_no_bars(self, screen):
        disable_progress_bars()
        usage = Usage()
        self.map(self.stage(usage), usage=usage)
        with pytest.raises(RuntimeError, match="stopped"):
            self.map(self.stage(raise_at=0))
        assert screen() == ""
        assert are_progress_bars_disabled()

    def test_calibrating_too(self, screen, tmp_path):
        model = FakeModel(by=by_text, cost=0.25)
        annotator = Annotator(TASK, model, store=tmp_path / "answers.sqlite")
        fit_prior(annotator, rows(6))
        shown = screen()
        assert "calibrate: 100%" in shown
        assert "calls=6, cost=$1.5000" in shown
        disable_progress_bars()
        fit_prior(annotator, rows(6))
        assert screen() == ""

    def test_a_user_who_set_the_environment_is_not_warned(self, recwarn):
        self.map(self.stage())
        assert [str(warning.message) for warning in recwarn if "progress" in str(warning.message)] == []


def test_images_stay_as_they_are(tmp_path):
    """A JPEG that is decoded and encoded again is another image."""
    path = tmp_path / "noise.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Picture.fromarray(pixels).save(path, quality=60)
    task = Task(["a", "b"], image="i")
    dataset = Dataset.from_dict({"i": [str(path)]}, features=Features({"i": Image()}))
    before = task.row_id(dataset[0])

    def stage(batch):
        return {"act_id": [task.row_id(row) for row in task.rows(batch)]}

    for _ in range(3):
        dataset = map_columns(dataset, stage, column_features(task, ["act_id"]), batch_size=1, progress="p")
        assert task.row_id(dataset[0]) == dataset[0]["act_id"] == before
