"""Training a text classifier in one call, on an encoder small enough to train in a moment."""

from itertools import combinations

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from support.weights import WORDS, save_tiny_bert
from transformers import AutoModelForSequenceClassification, BertModel

from act_hf.classifier import train_classifier
from act_hf.columns import HUMAN, LABEL, LABEL_PROBS, PI, SELECTED
from act_hf.errors import ACTError
from act_hf.power import power_from_gradients
from act_hf.records import add_record
from act_hf.task import Task
from act_hf.training_set import COLUMNS


torch.set_num_threads(1)

NAMES = ["good", "bad"]
QUICK = {"num_train_epochs": 1, "disable_tqdm": True, "per_device_train_batch_size": 4}


def reviewed(**changes) -> Dataset:
    """12 rows: the first half good, the second bad. The machine errs on every third, and people saw every second."""
    truth = [0] * 6 + [1] * 6
    values = {
        "text": [f"{WORDS[i % 3 + 3 * label]} {WORDS[(i + 1) % 3 + 3 * label]}" for i, label in enumerate(truth)],
        "label": truth,
        LABEL: [1 - label if i % 3 == 0 else label for i, label in enumerate(truth)],
        HUMAN: [label if i % 2 == 0 else None for i, label in enumerate(truth)],
        SELECTED: [i % 2 == 0 for i in range(12)],
        PI: [0.5] * 12,
        **changes,
    }
    label = ClassLabel(names=NAMES)
    kinds = {"text": Value("string"), "label": label, LABEL: label, HUMAN: label}
    return Dataset.from_dict(values, features=Features({**kinds, SELECTED: Value("bool"), PI: Value("float32")}))


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(save_tiny_bert(tmp_path_factory.mktemp("base")))


class TestModes:
    @pytest.mark.parametrize(
        ("mode", "steps"), [("act", 3), ("machine", 3), ("reviewed", 2), ("corrected", 3), ("mixed", 5)]
    )
    def test_with_reviewed_rows(self, base, mode, steps):
        trainer = train_classifier(reviewed(), base, mode=mode, **QUICK)
        assert trainer.state.global_step == steps
        assert list(trainer.model.config.id2label.values()) == NAMES

    def test_human_labels_alone(self, base):
        everyone = reviewed().remove_columns([LABEL, SELECTED, PI]).filter(lambda row: row[HUMAN] is not None)
        assert train_classifier(everyone, base, mode="human", **QUICK).state.global_step == 2

    def test_they_learn_from_different_labels(self, base):
        names = ("act", "machine", "reviewed", "corrected", "mixed")
        modes = [weights(train_classifier(reviewed(), base, mode=mode, **QUICK)) for mode in names]
        assert not any(same(one, other) for one, other in combinations(modes, 2))

    def test_soft_labels(self, base):
        probs = [[0.6, 0.4] if label == 0 else [0.3, 0.7] for label in reviewed()[LABEL]]
        rows = reviewed().add_column(LABEL_PROBS, probs, feature=List(Value("float32")))
        hard, soft = (weights(train_classifier(rows, base, soft=on, **QUICK)) for on in (False, True))
        assert not same(hard, soft)

    @pytest.mark.parametrize(
        ("dataset", "options", "says"),
        [
            (reviewed(), {"mode": "humans"}, "no mode 'humans'; there are 'act', 'human', 'machine'"),
            (reviewed(), {"mode": "human"}, "6 of 12 rows have no act_human"),
            (reviewed().remove_columns([LABEL]), {}, "no column 'act_label'"),
            (reviewed().remove_columns([PI]), {}, "no column 'act_pi'"),
            (reviewed().select([]), {}, "0 rows"),
            (reviewed(), {"text": "sms"}, "no text column 'sms'; the columns with strings are 'text'"),
            (reviewed(**{HUMAN: [None] * 12}), {}, "6 of 12 rows"),
            (reviewed(), {"power": 2.0}, "power"),
            (reviewed(), {"evaluation": reviewed(), "label": "gold"}, "no column 'gold'"),
            (
                reviewed(),
                {"evaluation": reviewed(), "label": "text"},
                "'awful poor' in column 'text' is none of the labels",
            ),
            (reviewed(), {"evaluation": reviewed(), "label": PI}, "not a ClassLabel"),
            (reviewed(), {"evaluation": reviewed().select([])}, "0 rows"),
        ],
    )
    def test_what_it_refuses_leaves_nothing(self, base, tmp_path, dataset, options, says):
        with pytest.raises(ACTError, match=says):
            train_classifier(dataset, base, tmp_path / "model", **QUICK, **options)
        assert list(tmp_path.iterdir()) == []

    def test_label_names_of_the_evaluation_in_another_order(self, base, tmp_path):
        other = reviewed().cast_column("label", ClassLabel(names=NAMES[::-1]))
        with pytest.raises(ACTError, match=r"column 'label' has the labels \['bad', 'good'\], but"):
            train_classifier(reviewed(), base, tmp_path / "model", evaluation=other, **QUICK)


class TestPower:
    def test_from_gradients_is_that_of_a_pilot_with_lambda_1(self, base):
        options = {**QUICK, "num_train_epochs": 2, "learning_rate": 1e-3}
        trainer = train_classifier(reviewed(), base, power="gradients", **options)
        pilot = train_classifier(reviewed(), base, **{**options, "num_train_epochs": 1})
        rows = pilot.train_dataset
        logits = torch.tensor(pilot.predict(rows).predictions)
        expected = power_from_gradients(logits, *(torch.tensor(rows[name][:]) for name in COLUMNS))
        assert 0 < expected < 1
        assert trainer.args.power == pytest.approx(expected)
        alone = train_classifier(reviewed(), base, power=trainer.args.power, **options)
        assert same(weights(trainer), weights(alone))  # the pilot leaves no trace

    @pytest.mark.parametrize("rule", ["gradients", "held_out"])
    def test_pilots_leave_nothing_and_evaluate_nothing(self, base, rule, tmp_path):
        options = {**QUICK, "eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
        options = {**options, "num_train_epochs": 1, "power": rule}
        trainer = train_classifier(reviewed(), base, tmp_path / "model", evaluation=reviewed(), **options)
        saved = [path.name for path in (tmp_path / "model").glob("checkpoint-*")]
        assert saved == [f"checkpoint-{trainer.state.global_step}"]

    @pytest.mark.parametrize(("always_wrong", "chosen"), [(True, 0.0), (False, 1.0)])
    def test_from_held_out_rows(self, base, always_wrong, chosen):
        """A machine that is always wrong is best not used; one that is always right is, when few rows are reviewed."""
        truth = [0] * 12 + [1] * 12
        seen = [i % 2 == 0 if always_wrong else i % 6 == 0 for i in range(24)]
        rows = Dataset.from_dict(
            {
                "text": [
                    f"{WORDS[i % 3 + 3 * label]} {WORDS[(i + 1) % 3 + 3 * label]}" for i, label in enumerate(truth)
                ],
                LABEL: [1 - label if always_wrong else label for label in truth],
                HUMAN: [label if s else None for label, s in zip(truth, seen, strict=True)],
                SELECTED: seen,
                PI: [0.5 if always_wrong else 0.9] * 24,
            },
            features=Features({name: reviewed().features[name] for name in ("text", LABEL, HUMAN, SELECTED, PI)}),
        )
        options = {**QUICK, "num_train_epochs": 6, "learning_rate": 3e-3}
        assert train_classifier(rows, base, power="held_out", **options).args.power == chosen

    def test_what_it_refuses(self, base):
        for power, mode, says in [
            ("auto", "act", "power='auto' is neither a number .* nor one of 'gradients', 'held_out'"),
            ("gradients", "mixed", "power='gradients' is the lambda of mode 'act'; the baseline 'mixed' has none"),
        ]:
            with pytest.raises(ACTError, match=says):
                train_classifier(reviewed(), base, power=power, mode=mode, **QUICK)


class TestSeeds:
    def test_the_same_seed_gives_the_same_model(self, base):
        runs = [weights(train_classifier(reviewed(), base, seed=3, **QUICK)) for _ in range(2)]
        assert same(*runs)

    def test_another_seed_gives_another(self, base):
        runs = [weights(train_classifier(reviewed(), base, seed=seed, **QUICK)) for seed in (3, 4)]
        assert not same(*runs)

    def test_what_the_process_did_before_does_not_matter(self, base):
        first = weights(train_classifier(reviewed(), base, seed=3, **QUICK))
        torch.rand(7)
        assert same(first, weights(train_classifier(reviewed(), base, seed=3, **QUICK)))


class TestTrainedLayers:
    def moved(self, base, layers):
        """The parts of the encoder that training changed."""
        before = BertModel.from_pretrained(base).state_dict()
        after = weights(train_classifier(reviewed(), base, trained_layers=layers, **QUICK, learning_rate=1e-2))
        changed = {name for name in before if not torch.equal(before[name], after[f"bert.{name}"])}
        return {
            part for part in ("embeddings", "layer.0", "layer.1", "layer.2", "pooler") for n in changed if part in n
        }

    @pytest.mark.parametrize(
        ("layers", "parts"),
        [
            (0, {"pooler"}),
            (1, {"pooler", "layer.2"}),
            (2, {"pooler", "layer.1", "layer.2"}),
            (3, {"pooler", "layer.0", "layer.1", "layer.2"}),
            (None, {"pooler", "layer.0", "layer.1", "layer.2", "embeddings"}),
        ],
    )
    def test_the_last_ones_alone(self, base, layers, parts):
        assert self.moved(base, layers) == parts

    @pytest.mark.parametrize("layers", [-1, 4])
    def test_layers_there_are_not(self, base, layers):
        with pytest.raises(ACTError, match=f"trained_layers={layers}: the base model has 3 layers"):
            train_classifier(reviewed(), base, trained_layers=layers, **QUICK)


class TestResult:
    def test_it_learns_and_says_how_well(self, base):
        options = {**QUICK, "num_train_epochs": 20, "learning_rate": 1e-2}
        everyone = reviewed(**{HUMAN: [0] * 6 + [1] * 6, SELECTED: [True] * 12, PI: [1.0] * 12})
        trainer = train_classifier(everyone, base, evaluation=reviewed(), **options)
        assert trainer.evaluate()["eval_accuracy"] == 1.0

    @pytest.mark.parametrize("kind", ["string", "large_string"])
    def test_true_labels_may_be_text(self, base, kind):
        """As a CSV file has them; their ids are those of the training set, whatever the order of the alphabet."""
        texts = [NAMES[label] for label in reviewed()["label"]]
        test = reviewed().remove_columns("label").add_column("label", texts, feature=Value(kind))
        trainer = train_classifier(reviewed(), base, evaluation=test, **QUICK)
        assert trainer.eval_dataset["labels"][:] == reviewed()["label"][:]

    def test_accuracy_is_the_share_that_is_right(self, base):
        trainer = train_classifier(reviewed(), base, evaluation=reviewed(label=[0] * 12), **QUICK)
        predicted = trainer.predict(trainer.eval_dataset).predictions.argmax(axis=-1)
        assert trainer.evaluate()["eval_accuracy"] == pytest.approx((predicted == 0).mean())

    def test_the_saved_model_knows_its_labels_and_tokenizer(self, base, tmp_path):
        from transformers import pipeline

        trainer = train_classifier(reviewed(), base, tmp_path / "model", **QUICK)
        saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
        assert saved.config.id2label == dict(enumerate(NAMES))
        assert saved.config.label2id == {"good": 0, "bad": 1}
        assert same(saved.state_dict(), weights(trainer))
        assert pipeline("text-classification", model=str(tmp_path / "model"))("fine nice")[0]["label"] in NAMES

    @pytest.mark.parametrize("bar", [True, False])
    def test_nothing_is_printed_but_a_bar(self, base, capsys, bar):
        options = {**QUICK, "disable_tqdm": not bar, "logging_steps": 1}
        train_classifier(reviewed(), base, evaluation=reviewed(), **options).evaluate()
        out, err = capsys.readouterr()
        assert (out, "100%" in err.replace("Loading weights: 100%", "")) == ("", bar)

    def test_other_columns_with_text_need_a_choice(self, base):
        more = reviewed().add_column("title", ["x"] * 12).rename_column("text", "body")
        with pytest.raises(ACTError, match="which column is the text"):
            train_classifier(more, base, **QUICK)
        assert train_classifier(more, base, text="body", **QUICK).state.global_step == 3

    def test_the_column_that_was_annotated_is_the_one_trained_on(self, base):
        more = reviewed().add_column("query", reviewed()["text"][::-1])
        task = Task(labels=NAMES, text="query")
        trained = train_classifier(add_record(more, "annotate", task=task.to_dict()), base, **QUICK)
        assert same(weights(trained), weights(train_classifier(more, base, text="query", **QUICK)))
        assert not same(weights(trained), weights(train_classifier(more, base, **QUICK)))

    def test_a_question_that_would_not_be_seen(self, base):
        task = Task(labels=NAMES, text="text", question="why")
        asked = add_record(reviewed().add_column("why", ["x"] * 12), "annotate", task=task.to_dict())
        with pytest.raises(ACTError, match="the task shows text, why; name the one column"):
            train_classifier(asked, base, **QUICK)


class TestBadBase:
    @pytest.mark.parametrize(
        "broken",
        [
            {},
            {"config.json": b"{"},
            {"config.json": b'{"model_type": "no_such_model"}'},
            {"model.safetensors": b"\x00" * 20},
            {"tokenizer.json": b"{}"},
            {"tokenizer.json": None, "tokenizer_config.json": None},
        ],
        ids=["empty folder", "broken config", "unknown type", "broken weights", "broken tokenizer", "no tokenizer"],
    )
    def test_it_is_named_and_nothing_is_left(self, tmp_path, broken):
        folder = tmp_path / "base"
        folder.mkdir()
        if broken:
            save_tiny_bert(folder)
        for name, content in broken.items():
            (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
        with pytest.raises(ACTError, match=f"cannot load the base model '{folder}': "):
            train_classifier(reviewed(), str(folder), tmp_path / "model", **QUICK)
        assert not (tmp_path / "model").exists()

    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(ACTError, match="cannot load the base model"):
            train_classifier(reviewed(), str(tmp_path / "missing"), **QUICK)
