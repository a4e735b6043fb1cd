"""Training on images, and on images and questions, with models small enough to train in a moment."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pillow
from support.weights import save_tiny_clip, save_tiny_vilt, save_tiny_vit
from transformers import AutoImageProcessor, AutoModelForImageClassification

from act_hf.classifier import train_classifier
from act_hf.columns import HUMAN, LABEL, PI, SELECTED
from act_hf.errors import ACTError
from act_hf.inputs import Shown, shown_columns
from act_hf.loss import act_loss
from act_hf.records import add_record
from act_hf.task import Task
from act_hf.trainer import ACTConfig, ACTTrainer
from act_hf.training_set import COLUMNS, to_evaluation, to_training


torch.set_num_threads(1)

NAMES = ["dark", "light"]
QUICK = {"num_train_epochs": 1, "disable_tqdm": True, "per_device_train_batch_size": 4, "use_cpu": True}
ROWS = 12


def picture(row: int, label: int) -> Pillow.Image:
    """Grey, of a size and mode of its own."""
    size = (16 + 2 * (row % 3), 16 + row % 4)
    grey = Pillow.new("L", size, 40 + 5 * row if label == 0 else 180 + 5 * row)
    return grey if row % 2 else grey.convert("RGB")


def reviewed(*, question: bool = False, record: bool = True, **changes) -> Dataset:
    truth = [row % 2 for row in range(ROWS)]
    values = {
        "picture": [picture(row, label) for row, label in enumerate(truth)],
        "asked": ["fine nice", "awful"] * (ROWS // 2),
        "label": truth,
        LABEL: [1 - label if row % 3 == 0 else label for row, label in enumerate(truth)],
        HUMAN: [label if row % 4 < 2 else None for row, label in enumerate(truth)],
        SELECTED: [row % 4 < 2 for row in range(ROWS)],
        PI: [0.5] * ROWS,
        **changes,
    }
    label = ClassLabel(names=NAMES)
    kinds = {"picture": Image(), "asked": Value("string"), "label": label, LABEL: label, HUMAN: label}
    rows = Dataset.from_dict(values, features=Features({**kinds, SELECTED: Value("bool"), PI: Value("float32")}))
    task = Task(labels=NAMES, image="picture", question="asked" if question else None)
    return add_record(rows, "annotate", task=task.to_dict()) if record else rows


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return save_tiny_clip(tmp_path_factory.mktemp("base") / "clip")


@pytest.fixture(scope="module")
def vit(tmp_path_factory) -> str:
    return str(save_tiny_vit(tmp_path_factory.mktemp("vit")))


@pytest.fixture(scope="module")
def vilt(tmp_path_factory) -> str:
    return str(save_tiny_vilt(tmp_path_factory.mktemp("vilt")))


class TestImages:
    @pytest.mark.parametrize("mode", ["act", "machine", "reviewed", "corrected", "mixed"])
    def test_every_mode_trains(self, vit, mode):
        trainer = train_classifier(reviewed(), vit, mode=mode, **QUICK)
        rows = {"reviewed": 6, "mixed": 18}.get(mode, ROWS)
        assert trainer.state.global_step == -(-rows // 4)

    def test_it_learns_and_what_is_saved_knows_its_labels_and_processor(self, vit, tmp_path):
        from transformers import pipeline

        everyone = reviewed(**{HUMAN: [row % 2 for row in range(ROWS)], SELECTED: [True] * ROWS, PI: [1.0] * ROWS})
        options = {**QUICK, "num_train_epochs": 15, "learning_rate": 5e-3}
        trainer = train_classifier(everyone, vit, tmp_path / "model", evaluation=reviewed(), **options)
        assert trainer.evaluate()["eval_accuracy"] == 1.0
        saved = AutoModelForImageClassification.from_pretrained(tmp_path / "model")
        assert saved.config.id2label == dict(enumerate(NAMES))
        seen = pipeline("image-classification", model=str(tmp_path / "model"))(picture(0, 0))
        assert seen[0]["label"] == "dark"

    def test_the_loss_of_a_step_is_that_of_its_pixels(self, vit):
        """One step over all rows against the loss computed by hand from images that the processor was given."""
        options = {**QUICK, "per_device_train_batch_size": ROWS, "learning_rate": 0.0, "non_negative": False}
        trainer = train_classifier(reviewed(), vit, **options)
        processor = AutoImageProcessor.from_pretrained(vit)
        images = [picture(row, row % 2).convert("RGB") for row in range(ROWS)]
        values = to_training(reviewed())[:]
        with torch.no_grad():
            logits = trainer.model(**processor(images, return_tensors="pt")).logits
        expected = act_loss(logits, *(torch.tensor(values[name]) for name in COLUMNS))
        assert trainer.state.log_history[-1]["train_loss"] == pytest.approx(expected.item(), rel=1e-4)

    def test_pixels_are_made_when_a_batch_is_read(self, vit):
        processor = AutoImageProcessor.from_pretrained(vit)
        rows = to_training(reviewed(), processor)
        assert set(rows.column_names) == {"picture", *COLUMNS}
        assert isinstance(rows.features["picture"], Image)
        batch = rows[:3]
        assert set(batch) == {"pixel_values", *COLUMNS}
        assert batch["pixel_values"].shape == (3, 3, 16, 16)
        assert rows[PI][:2] == [0.5, 0.5]
        assert set(to_evaluation(reviewed(), processor)[:2]) == {"pixel_values", "labels"}
        # As the workers of a DataLoader get it.
        again = pickle.loads(pickle.dumps(rows.format["format_kwargs"]["transform"]))
        np.testing.assert_array_equal(again({"picture": [picture(0, 0)]})["pixel_values"], batch["pixel_values"][:1])

    def test_augmentation_is_a_transform_of_ones_own(self, vit, tmp_path):
        """It reads a column that the model does not, and nobody has to say so."""
        processor, flipped = AutoImageProcessor.from_pretrained(vit), []

        def augmented(batch):
            images = [image.convert("RGB").transpose(Pillow.Transpose.FLIP_LEFT_RIGHT) for image in batch["picture"]]
            flipped.extend(images)
            return {**processor(images, return_tensors="pt"), **{name: batch[name] for name in COLUMNS}}

        model = AutoModelForImageClassification.from_pretrained(vit, num_labels=2, ignore_mismatched_sizes=True)
        config = ACTConfig(str(tmp_path), report_to="none", **QUICK)
        ACTTrainer(model, config, train_dataset=to_training(reviewed()).with_transform(augmented)).train()
        assert len(flipped) == ROWS

    def test_workers(self, vit):
        assert train_classifier(reviewed(), vit, **QUICK, dataloader_num_workers=1).state.global_step == 3

    def test_only_the_last_layers(self, vit):
        before = AutoModelForImageClassification.from_pretrained(vit).state_dict()
        after = train_classifier(reviewed(), vit, trained_layers=1, **QUICK, learning_rate=1e-2).model.state_dict()
        changed = {name for name in before if name in after and before[name].shape == after[name].shape}
        changed = {name for name in changed if not torch.equal(before[name], after[name])}
        assert changed
        assert not [name for name in changed if "embeddings" in name or ".0." in name]

    @pytest.mark.parametrize("layers", [0, 1])
    def test_the_new_head_is_trained_where_the_model_names_no_base(self, clip, layers):
        before = AutoModelForImageClassification.from_pretrained(clip).state_dict()
        options = {**QUICK, "learning_rate": 1e-2, "trained_layers": layers}
        trained = train_classifier(reviewed(), clip, **options).model
        after = trained.state_dict()
        changed = {name for name in before if name in after and before[name].shape == after[name].shape}
        changed = {name for name in changed if not torch.equal(before[name], after[name])}
        assert trained.classifier.weight.requires_grad
        assert not [name for name in changed if "embeddings" in name or ".layers.0." in name]
        assert bool([name for name in changed if ".layers.1." in name]) == bool(layers)

    def test_an_empty_image_says_so(self, vit):
        pictures = [picture(row, row % 2) for row in range(ROWS - 1)]
        with pytest.raises(ACTError, match="a row has no image in the column 'picture'"):
            train_classifier(reviewed(picture=[*pictures, None]), vit, **QUICK)

    def test_without_a_record_the_column_is_named(self, vit):
        plain = reviewed(record=False)
        with pytest.raises(ACTError, match="cannot load the base model"):
            train_classifier(plain, vit, **QUICK)  # the column with strings is what would be read
        assert train_classifier(plain, vit, image="picture", **QUICK).state.global_step == 3

    def test_errors(self, vit, tmp_path):
        with pytest.raises(ACTError, match="no image column 'asked'; the columns with images are 'picture'"):
            train_classifier(reviewed(), vit, image="asked", **QUICK)
        with pytest.raises(ACTError, match=r"cannot load the base model '.*an image classifier: a Hub id or a folder"):
            train_classifier(reviewed(), str(tmp_path), **QUICK)


class TestQuestions:
    def test_it_learns_from_image_and_question(self, vilt):
        """The same pictures with two questions, whose answer is the question's: the picture alone does not tell."""
        truth = [row % 2 for row in range(ROWS)]
        same = [picture(4, 0)] * ROWS
        everyone = {HUMAN: truth, SELECTED: [True] * ROWS, PI: [1.0] * ROWS, "picture": same}
        options = {**QUICK, "num_train_epochs": 20, "learning_rate": 1e-2}
        rows = reviewed(question=True, **everyone)
        trainer = train_classifier(rows, vilt, evaluation=rows, **options)
        assert trainer.evaluate()["eval_accuracy"] == 1.0

    def test_a_model_with_an_output_a_label_and_its_processor(self, vilt, tmp_path):
        from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor

        long = {"asked": ["fine nice great awful poor sad fine nice great"] * ROWS}  # it reads 8 tokens
        trainer = train_classifier(reviewed(question=True, **long), vilt, tmp_path / "model", **QUICK)
        assert trainer.state.global_step == 3
        saved = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path / "model")
        assert saved.config.id2label == dict(enumerate(NAMES))
        assert AutoProcessor.from_pretrained(tmp_path / "model").tokenizer("sad").input_ids


class TestShown:
    @pytest.mark.parametrize(
        ("task", "options", "shown"),
        [
            ({"image": "picture"}, {}, Shown(image="picture")),
            ({"image": "picture", "question": "asked"}, {}, Shown("asked", "picture")),
            ({"image": "picture", "text": "asked"}, {}, Shown("asked", "picture")),
            ({"question": "asked"}, {}, Shown("asked")),
            ({"image": "picture", "question": "asked"}, {"text": "asked"}, Shown("asked")),
            ({"image": "picture", "question": "asked"}, {"image": "picture"}, Shown(image="picture")),
            (None, {}, Shown("asked")),
            (None, {"image": "picture"}, Shown(image="picture")),
            (None, {"image": "picture", "text": "asked"}, Shown("asked", "picture")),
        ],
    )
    def test_what_is_given_or_was_annotated(self, task, options, shown):
        rows = reviewed(record=False)
        if task:
            rows = add_record(rows, "annotate", task=Task(labels=NAMES, **task).to_dict())
        assert shown_columns(rows, **options) == shown

    def test_more_than_a_classifier_reads(self):
        rows = reviewed(record=False).add_column("body", ["x"] * ROWS)
        task = Task(labels=NAMES, text="body", question="asked", image="picture")
        with pytest.raises(ACTError, match="the task shows picture, body, asked; name the one column with text"):
            shown_columns(add_record(rows, "annotate", task=task.to_dict()))
