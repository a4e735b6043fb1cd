from __future__ import annotations

import io
import json

import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from act_hf.errors import ACTError
from act_hf.task import Example, Task, image_bytes, problem_of


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def spam(**options) -> Task:
    return Task(**{"labels": ["ham", "spam"], "text": "sms", **options})


def picture(mode: str = "RGB", size: tuple[int, int] = (4, 3), colour: object = 0) -> Picture.Image:
    return Picture.new(mode, size, colour)


class TestTask:
    def test_lists_become_tuples_and_words_are_the_labels_in_plain_words(self):
        task = Task(labels=["card_arrival", "lost_card"], text="t")
        assert task.labels == ("card_arrival", "lost_card")
        assert task.words == task.sentences == ("card arrival", "lost card")
        assert hash(task) == hash(Task(labels=("card_arrival", "lost_card"), text="t"))

    def test_sentences_default_to_the_words_given(self):
        assert spam(words=["fine", "junk"]).sentences == ("fine", "junk")
        assert spam(words=["fine", "junk"], sentences=["See you", "You won"]).sentences == ("See you", "You won")

    def test_columns_in_the_order_they_are_shown(self):
        assert Task(labels=["a", "b"], text="t", image="i", question="q").columns == ("i", "t", "q")
        assert spam().columns == ("sms",)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"labels": []}, "at least two labels, not \\[\\]"),
            ({"labels": ["ham"]}, "at least two labels, not \\['ham'\\]"),
            ({"labels": ["ham", "spam", "ham"]}, "task.labels: 'ham' stands for more than one"),
            ({"labels": ["Ham", "ham"]}, "task.words: 'ham' stands for more than one"),
            ({"labels": ["lost_card", "lost card"]}, "task.words: 'lost card'"),
            ({"labels": "ham"}, "task.labels is a list, not the text 'ham'"),
            ({"labels": ["ham", 1]}, "task.labels: 1 is no text"),
            ({"labels": [True, False]}, "task.labels: True is no text"),
            ({"labels": ["ham", " "]}, "task.labels: ' ' is no text"),
            ({"labels": ["ham", "_"]}, "task.words: '' is no text"),
            ({"words": ["ham"]}, "task.words has 1 entries for 2 labels"),
            ({"words": "ab"}, "task.words is a list"),
            ({"words": ["ham", ""]}, "task.words: '' is no text"),
            ({"words": ["Yes", "yes"]}, "task.words: 'yes' stands"),
            ({"sentences": ["a", "b", "c"]}, "task.sentences has 3 entries for 2 labels"),
            ({"text": None}, "at least one column"),
            ({"examples": [Example("egg", "x")]}, "'egg' is not a label of the task; the labels are ham, spam"),
        ],
    )
    def test_says_what_is_wrong(self, options, says):
        with pytest.raises(ACTError, match=says):
            spam(**options)

    def test_index(self):
        assert [spam().index(label) for label in ("ham", "spam")] == [0, 1]
        with pytest.raises(ACTError, match="'Spam' is not a label of the task; the labels are ham, spam"):
            spam().index("Spam")

    @given(st.lists(TEXTS, min_size=4, max_size=4), TEXTS)
    def test_goes_through_json(self, texts, instruction):
        task = spam(
            examples=[Example("spam", text=texts[0], rationale=texts[1]), Example("ham", question=texts[2])],
            instruction=instruction,
            sentences=["a", "b"],
            language=texts[3],
        )
        assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"labels": ["a", "b"], "text": "t", "lables": []}, "a task has no field 'lables'; it has .*labels"),
            ({"text": "t"}, "a task needs the field 'labels'; there is text"),
            ({}, "needs the field 'labels'; there is none"),
            (
                {"labels": ["a", "b"], "text": "t", "examples": [{"label": "a", "txt": "x"}]},
                "no field 'txt'; it has",
            ),
            ({"labels": ["a", "b"], "text": "t", "examples": [{"text": "x"}]}, "an example needs the field 'label'"),
        ],
    )
    def test_a_file_that_is_no_task(self, values, says):
        with pytest.raises(ACTError, match=says):
            Task.from_dict(values)


class TestDataset:
    rows = Dataset.from_dict(
        {"sms": ["hi", "win"], "n": [1, 2], "label": [0, 1]},
        features=Features({"sms": Value("string"), "n": Value("int64"), "label": ClassLabel(names=["ham", "spam"])}),
    )

    def test_the_labels_of_a_column(self):
        assert Task.from_dataset(self.rows, text="sms", instruction="?") == spam(instruction="?")

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"text": "sms", "label": "n"}, "'n' is Value.*not a ClassLabel.*Task\\(labels="),
            ({"text": "sms", "label": "y"}, "no column 'y'; the data set has 'sms', 'n', 'label'"),
            ({"text": "body"}, "no column 'body'; the data set has 'sms', 'n', 'label'"),
        ],
    )
    def test_a_data_set_that_has_none(self, options, says):
        with pytest.raises(ACTError, match=says):
            Task.from_dataset(self.rows, **options)

    def test_check_takes_what_fits(self):
        spam().check(self.rows, stage="x")
        spam(text=None, image="i").check(Dataset.from_dict({"i": [picture()]}), stage="x")
        large = self.rows.cast_column("sms", Value("large_string"))
        spam().check(large, stage="x")

    @pytest.mark.parametrize(
        ("task", "says"),
        [
            (spam(text="body"), "annotate: no column 'body'; the data set has 'sms', 'n', 'label'"),
            (spam(text="n"), "annotate: column 'n' is .*int64.*needs a string"),
            (spam(text=None, image="sms"), "annotate: column 'sms' is .*string.*needs an Image"),
        ],
    )
    def test_check_names_the_column(self, task, says):
        with pytest.raises(ACTError, match=says):
            task.check(self.rows, stage="annotate")

    def test_check_wants_pictures_that_can_be_seen(self):
        undecoded = Dataset.from_dict({"i": [picture()]}).cast_column("i", Image(decode=False))
        with pytest.raises(ACTError, match="decode=True"):
            spam(text=None, image="i").check(undecoded, stage="annotate")

    def test_check_wants_rows(self):
        with pytest.raises(ACTError, match=r"annotate: the data set is empty \(0 rows\)"):
            spam().check(self.rows.select([]), stage="annotate")

    def test_rows_are_what_the_task_shows(self):
        assert spam().rows(self.rows[:]) == [{"sms": "hi"}, {"sms": "win"}]
        assert spam(question="label").rows({"sms": ["a"], "label": ["b"], "n": [3]}) == [{"sms": "a", "label": "b"}]
        assert spam().rows({"sms": []}) == []


class TestRowId:
    task = Task(labels=["a", "b"], text="t", question="q")

    def test_is_the_same_for_the_same_content_whatever_else_the_row_holds(self):
        row = {"t": "hi", "q": "why"}
        assert self.task.row_id(row) == self.task.row_id({**row, "n": 3})
        assert len(self.task.row_id(row)) == 20
        assert int(self.task.row_id(row)[1:], 16) >= 0

    def test_does_not_change_between_versions(self):
        # People keep files keyed by it.
        assert self.task.row_id({"t": "hi", "q": "why"}) == "re508f656c8a2fee0f6d"

    @given(TEXTS, TEXTS, TEXTS, TEXTS)
    def test_differs_with_the_content(self, a, b, c, d):
        same = self.task.row_id({"t": a, "q": b}) == self.task.row_id({"t": c, "q": d})
        assert same == ((a, b) == (c, d))

    def test_text_does_not_move_between_columns(self):
        assert self.task.row_id({"t": "ab", "q": ""}) != self.task.row_id({"t": "a", "q": "b"})
        assert self.task.row_id({"t": "x", "q": "1:q=1:y"}) != self.task.row_id({"t": "x1:q=1:y", "q": ""})

    def test_none_shows_as_nothing(self):
        assert self.task.row_id({"t": None, "q": "x"}) == self.task.row_id({"t": "", "q": "x"})
        assert self.task.row_id({"t": "None", "q": "x"}) != self.task.row_id({"t": None, "q": "x"})


class TestImageRowId:
    task = Task(labels=["a", "b"], image="i")

    def id(self, image) -> str:
        return self.task.row_id({"i": image})

    def test_is_of_the_pixels(self):
        assert self.id(picture()) == self.id(picture())
        ids = {self.id(picture(colour=i)) for i in range(5)}
        ids |= {self.id(picture(size=(3, 4))), self.id(picture(size=(12, 1))), self.id(picture("L")), self.id(None)}
        assert len(ids) == 9

    def test_does_not_depend_on_the_file(self):
        image = picture(colour=(9, 99, 199))
        stored = []
        for kind in ("PNG", "BMP", "TIFF"):
            file = io.BytesIO()
            image.save(file, kind)
            stored.append(self.id(Picture.open(file)))
        assert set(stored) == {self.id(image)}

    def test_is_of_the_colours_not_of_their_numbers(self):
        images = []
        for colour in (0, 255):
            image = picture("P")
            image.putpalette([colour] * 768)
            images.append(image)
        assert images[0].tobytes() == images[1].tobytes()
        assert self.id(images[0]) != self.id(images[1])

    def test_in_a_data_set(self, tmp_path):
        images = [picture(colour=i) for i in range(3)]
        Dataset.from_dict({"i": images}).save_to_disk(tmp_path / "d")
        rows = self.task.rows(Dataset.load_from_disk(tmp_path / "d")[:])
        assert [self.task.row_id(row) for row in rows] == [self.id(image) for image in images]


@pytest.mark.parametrize(
    ("row", "empty"),
    [
        ({"t": None}, True),
        ({"t": ""}, True),
        ({"t": " \n\t"}, True),
        ({"t": None, "q": " "}, True),
        ({"t": None, "q": "why"}, False),
        ({"t": "0"}, False),
        ({"i": picture(), "t": None}, False),
    ],
)
def test_an_empty_row_is_a_problem(row, empty):
    assert (problem_of(row) is not None) is empty


class TestPicturesThatAreSeenOtherwise:
    """The same pixels, and what is said beside them."""

    pixels = Picture.effect_noise((8, 4), 90).convert("RGB")

    def test_turned(self, tmp_path):
        turned = self.pixels.copy()
        turned.getexif()[0x0112] = 6
        assert image_bytes(turned) != image_bytes(self.pixels)

    def test_transparent(self):
        clear = self.pixels.copy()
        clear.info["transparency"] = (0, 0, 0)
        assert image_bytes(clear) != image_bytes(self.pixels)

    def test_said_as_it_is_by_default(self):
        plain = self.pixels.copy()
        plain.getexif()[0x0112] = 1
        assert image_bytes(plain) == image_bytes(self.pixels)
