from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    HfArgumentParser,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainingArguments,
)

from act_hf.columns import HUMAN, LABEL, LABEL_PROBS, PI, SELECTED
from act_hf.errors import ACTError
from act_hf.loss import act_loss
from act_hf.trainer import COLUMNS, ACTConfig, ACTTrainer, _warn_once
from act_hf.training_set import to_evaluation, to_training


torch.set_num_threads(1)

NAMES = ["no", "yes", "maybe"]
WORDS = list("abcdefgh")


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")


def tiny_model(labels: int = len(NAMES)) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        num_labels=labels,
        hidden_dropout_prob=0,  # so that the gradient depends on the rows alone
        attention_probs_dropout_prob=0,
    )
    return BertForSequenceClassification(config).double()


def reviewed(rows: int = 16, seed: int = 0, **changes: list[Any]) -> Dataset:
    """Rows of unequal length after all five rooms; every third machine label is wrong, about half are reviewed."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, rows)
    selected = random.random(rows) < 0.5
    values = {
        "text": [" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(rows)],
        "label": truth.tolist(),
        LABEL: [int(t + 1) % 3 if i % 3 == 0 else int(t) for i, t in enumerate(truth)],
        HUMAN: [int(t) if s else None for t, s in zip(truth, selected, strict=True)],
        SELECTED: selected.tolist(),
        PI: random.uniform(0.2, 1, rows).tolist(),
    }
    label = ClassLabel(names=NAMES)
    types = {LABEL: label, HUMAN: label, "label": label, "text": Value("string"), PI: Value("float32")}
    return Dataset.from_dict(values | changes, features=Features({**types, SELECTED: Value("bool")}))


class Gradients(TrainerCallback):
    """The gradient of every optimizer step, as one vector."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        parameters = others["model"].parameters()
        self.steps.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).clone())


def trainer(
    output: Path | str,
    dataset: Any,
    *,
    model: Any = None,
    eval_dataset: Any = None,
    cls: Any = ACTTrainer,
    **options: Any,
) -> ACTTrainer:
    settings = {
        "per_device_train_batch_size": 16,
        "num_train_epochs": 1,
        "learning_rate": 1e-12,  # the weights stay, so that all steps can be compared
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "train_sampling_strategy": "sequential",
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    return cls(
        tiny_model() if model is None else model,
        ACTConfig(str(output), **(settings | options)),
        train_dataset=dataset,
        eval_dataset=eval_dataset,
        processing_class=tiny_tokenizer(),
    )


def step_gradients(output: Path | str, rows: int, *, batch: int, accumulate: int) -> list[torch.Tensor]:
    made = trainer(
        output,
        to_training(reviewed(rows), tiny_tokenizer()),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulate,
    )
    made.add_callback(seen := Gradients())
    made.train()
    return seen.steps


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def expected_gradient(rows: slice, dataset: Dataset) -> torch.Tensor:
    """One forward pass over the rows of a step, without any Trainer."""
    model, part = tiny_model(), to_training(dataset, tiny_tokenizer())[rows]
    tokens = tiny_tokenizer().pad({k: v for k, v in part.items() if k not in COLUMNS}, return_tensors="pt")
    act_loss(model(**tokens).logits, *(torch.tensor(part[c]) for c in COLUMNS), non_negative=True).backward()
    return flat_gradient(model)


def flat_gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def padded(source: Dataset, rows: Any) -> Any:
    return tiny_tokenizer()([source["text"][row] for row in rows], padding=True, return_tensors="pt")


def cross_entropy_gradient(source: Dataset, rows: Any, labels: list[int]) -> torch.Tensor:
    model = tiny_model()
    model(**padded(source, rows), labels=torch.tensor(labels)).loss.backward()
    return flat_gradient(model)


def first_gradient(output: Path, source: Dataset, mode: str, *, soft: bool = False, **options: Any) -> torch.Tensor:
    """Of the first step of the trainer, on what to_training makes of the rows."""
    made = trainer(output, to_training(source, tiny_tokenizer(), mode=mode, soft=soft), **options)
    made.add_callback(seen := Gradients())
    made.train()
    return seen.steps[0]


def soft(rows: int = 16, **changes: list[Any]) -> tuple[Dataset, list[list[float]]]:
    """Reviewed rows whose annotator gave a probability of each label."""
    probs = np.random.default_rng(1).dirichlet([1, 1, 1], rows).astype("float32").tolist()
    values = {LABEL: [int(np.argmax(p)) for p in probs], **changes}
    return reviewed(rows, **values).add_column(LABEL_PROBS, probs, feature=List(Value("float32"))), probs


class TestGradient:
    @pytest.mark.parametrize("rows", [16, 14, 22, 37])
    def test_it_does_not_depend_on_how_a_step_is_split(self, tmp_path: Path, rows: int) -> None:
        whole = step_gradients(tmp_path, rows, batch=16, accumulate=1)
        assert len(whole) == -(-rows // 16)
        for step, gradient in enumerate(whole):
            expected = expected_gradient(slice(16 * step, 16 * step + 16), reviewed(rows))
            assert relative_error(gradient, expected) < 1e-6
        for batch, accumulate in ((8, 2), (4, 4), (1, 16)):
            split = step_gradients(tmp_path, rows, batch=batch, accumulate=accumulate)
            assert max(relative_error(ours, theirs) for ours, theirs in zip(split, whole, strict=True)) < 1e-6

    def test_two_processes_give_the_gradient_of_one(self, tmp_path: Path) -> None:
        """Real processes over gloo. (Of a last batch that does not divide, accelerate repeats rows: so 32 here.)"""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        workers = [
            subprocess.Popen([sys.executable, __file__, str(tmp_path)], env=_rank(rank, port), stderr=subprocess.PIPE)
            for rank in range(2)
        ]
        errors = [worker.communicate(timeout=120)[1].decode() for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], errors
        whole = step_gradients(tmp_path, 32, batch=16, accumulate=1)
        for split in ("8x1", "4x2", "2x4", "1x8"):
            steps = torch.load(tmp_path / f"{split}.pt", weights_only=True)
            assert max(relative_error(ours, theirs) for ours, theirs in zip(steps, whole, strict=True)) < 1e-6

    def test_a_step_without_a_reviewed_row_is_cross_entropy_on_the_machine_labels(self, tmp_path: Path) -> None:
        nobody = reviewed(**{HUMAN: [None] * 16, SELECTED: [False] * 16, PI: [0.0] * 16})
        made = trainer(tmp_path, to_training(nobody, tiny_tokenizer()))
        made.add_callback(seen := Gradients())
        made.train()
        expected = expected_gradient(slice(None), reviewed(**{HUMAN: reviewed()[LABEL][:], SELECTED: [True] * 16}))
        assert relative_error(seen.steps[0], expected) < 1e-6

    def test_a_label_that_no_row_has_is_trained_away_and_can_be_evaluated(self, tmp_path: Path) -> None:
        labels = [value % 2 for value in reviewed()["label"][:]]
        dataset = to_training(reviewed(**{LABEL: labels, HUMAN: labels, SELECTED: [True] * 16}), tiny_tokenizer())
        test = to_evaluation(reviewed(), tiny_tokenizer())
        assert 2 in test["labels"][:]
        made = trainer(tmp_path, dataset, eval_dataset=test, learning_rate=0.5, num_train_epochs=20)
        made.train()
        assert made.predict(dataset).predictions.argmax(-1).max() < 2
        assert np.isfinite(made.evaluate()["eval_loss"])

    @pytest.mark.parametrize("mode", ["human", "machine", "corrected"])
    @pytest.mark.parametrize("power", [1.0, 0.3])
    def test_the_baselines_are_cross_entropy(self, tmp_path: Path, mode: str, power: float) -> None:
        source = reviewed(**{HUMAN: reviewed()["label"][:]}) if mode == "human" else reviewed()
        machine, human = source[LABEL][:], source[HUMAN][:]
        corrected = [m if h is None else h for m, h in zip(machine, human, strict=True)]
        labels = {"human": human, "machine": machine, "corrected": corrected}[mode]
        expected = cross_entropy_gradient(source, range(16), labels)
        scale = power if mode == "machine" else 1  # nothing but machine labels, used by so much
        assert relative_error(first_gradient(tmp_path, source, mode, power=power), scale * expected) < 1e-6

    def test_the_naive_mix_is_one_set_of_both(self, tmp_path: Path) -> None:
        source = reviewed()
        seen = [row for row, label in enumerate(source[HUMAN]) if label is not None]
        labels = source[LABEL][:] + [source[HUMAN][row] for row in seen]
        expected = cross_entropy_gradient(source, [*range(16), *seen], labels)
        ours = first_gradient(tmp_path, source, "mixed", per_device_train_batch_size=32, power=0.2)
        assert relative_error(ours, expected) < 1e-6

    @pytest.mark.parametrize("power", [1.0, 0.3])
    def test_reviewed_rows_alone_are_lambda_0_on_fewer_rows(self, tmp_path: Path, power: float) -> None:
        ours = first_gradient(tmp_path, reviewed(), "reviewed", power=power)
        share = sum(reviewed()[SELECTED]) / 16
        assert relative_error(share * ours, first_gradient(tmp_path, reviewed(), "act", power=0)) < 1e-6

    @pytest.mark.parametrize("power", [1.0, 0.3])
    def test_soft_machine_labels(self, tmp_path: Path, power: float) -> None:
        """By the formula, row by row."""
        source, probs = soft()
        ours = first_gradient(tmp_path, source, "act", soft=True, power=power, non_negative=False)
        model = tiny_model()
        log_probs = model(**padded(source, range(16))).logits.log_softmax(-1)
        losses = []
        for row, values in enumerate(source):
            by_machine = -power * (torch.tensor(probs[row]).float() * log_probs[row]).sum()
            gap = -log_probs[row, values[HUMAN]] - by_machine if values[SELECTED] else 0
            losses.append(by_machine + gap / values[PI])
        torch.stack(losses).mean().backward()
        assert relative_error(ours, flat_gradient(model)) < 1e-6

    def test_the_options_reach_the_loss(self, tmp_path: Path) -> None:
        dataset = to_training(reviewed(**{PI: [0.2] * 16}), tiny_tokenizer())
        settings: list[dict[str, Any]] = [{}, {"power": 0.5}, {"max_weight": 1.5}, {"non_negative": False}]
        losses = set()
        for options in settings:
            made = trainer(tmp_path, dataset, **options)
            # Far from the machine labels the guard has something to stop.
            torch.nn.init.constant_(made.model.classifier.bias[:1], 8.0)
            losses.add(round(made.train().training_loss, 6))
        assert len(losses) == len(settings)

    def test_training_lowers_the_loss(self, tmp_path: Path) -> None:
        made = trainer(tmp_path, to_training(reviewed(), tiny_tokenizer()), learning_rate=0.5, num_train_epochs=30)
        made.args.logging_steps = 1
        made.train()
        losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
        assert losses[-1] < 0.8 * losses[0]


class TestFaster:
    """What makes training faster leaves the loss what it is."""

    @pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
    def test_a_compiled_model_has_the_same_loss_and_gradient(self, tmp_path: Path) -> None:
        class Bag(torch.nn.Module):
            """Small, so that it is compiled in seconds."""

            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.words, self.head = torch.nn.Embedding(16, 4).double(), torch.nn.Linear(4, 3).double()

            def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
                return {"logits": self.head((self.words(input_ids) * attention_mask[..., None]).sum(1).tanh())}

        dataset = to_training(reviewed(), tiny_tokenizer())
        losses, gradients = [], []
        for compiled in (False, True):
            made = trainer(tmp_path, dataset, model=Bag(), torch_compile=compiled)
            made.add_callback(seen := Gradients())
            losses.append(made.train().training_loss)
            gradients.append(seen.steps[0])
        assert losses[1] == pytest.approx(losses[0], rel=1e-6)
        assert relative_error(gradients[1], gradients[0]) < 1e-6

    def test_bf16_has_the_loss_in_float32(self, tmp_path: Path) -> None:
        """The model computes in bfloat16; the softmax and what is made of it do not."""
        seen: list[Any] = []

        class Watched(ACTTrainer):
            def compute_loss(self, model: Any, inputs: Any, **options: Any) -> Any:
                loss, outputs = super().compute_loss(model, inputs, **options | {"return_outputs": True})
                seen.append((loss.detach(), outputs.logits.detach(), [inputs[name] for name in COLUMNS]))
                return loss

        dataset = to_training(reviewed(), tiny_tokenizer())
        half = trainer(tmp_path, dataset, bf16=True, cls=Watched, model=tiny_model().float())
        half.add_callback(gradients := Gradients())
        half.train()
        ((loss, logits, values),) = seen
        assert torch.equal(logits, logits.bfloat16().to(logits.dtype))  # that is how exact they are
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, act_loss(logits.float(), *values, non_negative=True), rtol=1e-6, atol=0)
        # bfloat16 has 8 bits of precision.
        assert relative_error(gradients.steps[0], expected_gradient(slice(None), reviewed())) < 0.05


def _rank(rank: int, port: int) -> dict[str, str]:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    where = {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return {**os.environ, **where, **{name: str(value) for name, value in ranks.items()}}


def _worker(folder: str) -> None:
    """What each of the two processes runs. Both have the same gradients; the first writes them."""
    for batch, accumulate in ((8, 1), (4, 2), (2, 4), (1, 8)):
        steps = step_gradients(folder, 32, batch=batch, accumulate=accumulate)
        assert torch.distributed.get_world_size() == 2
        if torch.distributed.get_rank() == 0:
            torch.save(steps, Path(folder) / f"{batch}x{accumulate}.pt")
    torch.distributed.destroy_process_group()


class TestEvaluation:
    def test_eval_loss_is_cross_entropy_on_the_true_labels(self, tmp_path: Path) -> None:
        test = to_evaluation(reviewed(11, seed=5), tiny_tokenizer())
        made = trainer(tmp_path, None, eval_dataset=test, per_device_eval_batch_size=4)
        made.compute_metrics = lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())}
        metrics = made.evaluate()
        part = test[:]
        tokens = tiny_tokenizer().pad({k: v for k, v in part.items() if k != "labels"}, return_tensors="pt")
        with torch.no_grad():
            expected = tiny_model().eval()(**tokens, labels=torch.tensor(part["labels"]))
        assert metrics["eval_loss"] == pytest.approx(expected.loss.item(), rel=1e-5)
        right = expected.logits.argmax(-1) == torch.tensor(part["labels"])
        assert metrics["eval_accuracy"] == pytest.approx(right.double().mean().item())

    def test_evaluation_in_the_middle_of_training(self, tmp_path: Path) -> None:
        test = to_evaluation(reviewed(6, seed=5), tiny_tokenizer())
        made = trainer(tmp_path, to_training(reviewed(), tiny_tokenizer()), eval_dataset=test, eval_strategy="epoch")
        made.train()
        assert any("eval_loss" in entry for entry in made.state.log_history)

    def test_act_columns_in_the_evaluation_set_do_no_harm(self, tmp_path: Path) -> None:
        dataset = to_training(reviewed(), tiny_tokenizer())
        made = trainer(tmp_path, None)
        assert made.predict(dataset).predictions.shape == (16, 3)
        with_gold = dataset.add_column("labels", reviewed()["label"][:])
        test = to_evaluation(reviewed(), tiny_tokenizer())
        assert made.evaluate(with_gold)["eval_loss"] == pytest.approx(made.evaluate(test)["eval_loss"])

    def test_a_model_that_takes_no_labels_and_returns_a_tuple(self, tmp_path: Path) -> None:
        class Bag(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.words = torch.nn.Embedding(16, 3)

            def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
                return (self.words(input_ids).mean(1),)

        test = to_evaluation(reviewed(6), tiny_tokenizer())
        made = trainer(tmp_path, to_training(reviewed(), tiny_tokenizer()), model=Bag(), eval_dataset=test)
        made.train()
        assert made.evaluate()["eval_loss"] > 0
        assert made.predict(test).predictions.shape == (6, 3)


class TestOrder:
    def test_predictions_come_in_the_order_of_the_rows(self, tmp_path: Path) -> None:
        rows = reviewed(12, text=[" ".join(WORDS[: 1 + (5 * i) % 8]) for i in range(12)])
        test = to_evaluation(rows, tiny_tokenizer())
        config = ACTConfig(str(tmp_path), train_sampling_strategy="group_by_length", use_cpu=True, report_to="none")
        made = ACTTrainer(tiny_model(), config, processing_class=tiny_tokenizer())
        assert made.predict(test).label_ids.tolist() == rows["label"][:]


class TestColumns:
    def test_unused_columns_are_removed_and_ours_stay(self, tmp_path: Path) -> None:
        dataset = to_training(reviewed(), tiny_tokenizer()).add_column("note", ["text"] * 16)
        made = trainer(tmp_path, dataset)
        assert made.args.remove_unused_columns
        batch = next(iter(made.get_train_dataloader()))
        assert set(COLUMNS) <= set(batch)
        assert "note" not in batch
        assert batch[SELECTED].dtype == torch.bool
        assert batch[PI].dtype == torch.float32

    def test_gold_labels_in_the_training_set_are_not_looked_at(self, tmp_path: Path) -> None:
        dataset = to_training(reviewed(), tiny_tokenizer())
        losses = [
            trainer(tmp_path, rows).train().training_loss for rows in (dataset, dataset.add_column("label", [0] * 16))
        ]
        assert losses[0] == losses[1]

    def test_missing_columns_raise_before_training(self, tmp_path: Path) -> None:
        dataset = to_training(reviewed(), tiny_tokenizer()).remove_columns([PI, SELECTED])
        made = trainer(tmp_path, dataset.add_column("labels", [0] * 16))
        with pytest.raises(ACTError, match="training set has no act_selected, act_pi; run to_training"):
            made.train()

    def test_missing_columns_raise_where_only_batches_can_be_seen(self, tmp_path: Path) -> None:
        dataset = to_training(reviewed(), tiny_tokenizer())
        rows = [{**row, "labels": 0} for row in dataset.remove_columns(PI)]
        with pytest.raises(ACTError, match="a batch to train on has no act_pi"):
            trainer(tmp_path, rows).train()
        made = trainer(tmp_path, list(dataset))
        assert made.train().training_loss == pytest.approx(trainer(tmp_path, dataset).train().training_loss)

    def test_a_stream_trains_too(self, tmp_path: Path) -> None:
        stream = to_training(reviewed(), tiny_tokenizer()).to_iterable_dataset()
        trainer(tmp_path, stream, max_steps=1).train()
        with pytest.raises(ACTError, match="training set has no act_pi"):
            trainer(tmp_path, stream.remove_columns(PI), max_steps=1).train()

    def test_columns_that_did_not_go_through_to_training(self, tmp_path: Path) -> None:
        raw = reviewed().map(lambda row: tiny_tokenizer()(row["text"]))
        with pytest.raises(ACTError, match="empty cells in act_human; run to_training"):
            trainer(tmp_path, raw).train()

    def test_bad_values_raise_before_the_first_step(self, tmp_path: Path) -> None:
        dataset = to_training(reviewed(**{PI: [0.0] * 16}), tiny_tokenizer())
        with pytest.raises(ACTError, match="impossible pi"):
            trainer(tmp_path, dataset).train()
        with pytest.raises(ACTError, match=r"machine label that is no class \(2\); the classes are 0..1"):
            trainer(tmp_path, to_training(reviewed(), tiny_tokenizer()), model=tiny_model(2)).train()

    def test_soft_labels_that_are_no_distribution(self, tmp_path: Path) -> None:
        dataset = to_training(soft()[0], tiny_tokenizer(), soft=True)
        probs = [[0.5, 0.1, 0.1], *dataset[LABEL][1:]]
        broken = dataset.remove_columns(LABEL).add_column(LABEL, probs, feature=List(Value("float32")))
        with pytest.raises(ACTError, match=r"row 0 has a soft machine label that is no distribution \(0.7.*sums to 1"):
            trainer(tmp_path, broken).train()
        with pytest.raises(ACTError, match="soft machine labels have 3 classes, but the model has 2"):
            trainer(tmp_path, dataset, model=tiny_model(2)).train()

    def test_with_soft_labels_the_names_are_those_of_the_model(self, tmp_path: Path) -> None:
        model = tiny_model()
        test = to_evaluation(reviewed(), tiny_tokenizer())
        made = trainer(tmp_path, to_training(soft()[0], tiny_tokenizer(), soft=True), model=model, eval_dataset=test)
        model.config.id2label = dict(enumerate(["nay", "yea", "perhaps"]))  # other names for the same classes
        made.train()
        model.config.id2label = {1: "yes", 0: "no", 2: "maybe"}  # as a file may have them
        made.train()
        model.config.id2label = dict(enumerate(NAMES[::-1]))
        with pytest.raises(ACTError, match=r"the eval set has the labels \['no', 'yes', 'maybe'\], but the model's"):
            made.train()

    def test_label_names_in_another_order_are_refused(self, tmp_path: Path) -> None:
        other = reviewed().cast_column("label", ClassLabel(names=NAMES[::-1]))
        made = trainer(
            tmp_path,
            to_training(reviewed(), tiny_tokenizer()),
            eval_dataset={"test": to_evaluation(other, tiny_tokenizer())},
        )
        with pytest.raises(ACTError, match=r"the test set has the labels \['maybe', 'yes', 'no'\], but act_label has"):
            made.train()


class TestOptions:
    def test_the_guard_is_on_by_default(self, tmp_path: Path) -> None:
        config = ACTConfig(str(tmp_path), report_to="none", use_cpu=True)
        assert (config.power, config.non_negative, config.max_weight) == (1.0, True, None)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"power": 2}, "power is 2"),
            ({"max_weight": 0}, "max_weight is 0"),
            ({"label_smoothing_factor": 0.1}, "0.1"),
        ],
    )
    def test_errors(self, tmp_path: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ACTError, match=message):
            ACTConfig(str(tmp_path), **options)

    def test_other_arguments_and_losses_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ACTError, match="args is a TrainingArguments; give an ACTConfig"):
            ACTTrainer(tiny_model(), TrainingArguments(str(tmp_path), use_cpu=True))
        with pytest.raises(ACTError, match="compute_loss_func"):
            ACTTrainer(tiny_model(), ACTConfig(str(tmp_path), use_cpu=True), compute_loss_func=print)

    def test_the_command_line_parser_of_transformers_knows_the_fields(self, tmp_path: Path) -> None:
        words = ["--output_dir", str(tmp_path), "--power", "0.5", "--no_non_negative", "--use_cpu"]
        (config,) = HfArgumentParser(ACTConfig).parse_args_into_dataclasses(words)
        assert (config.power, config.non_negative, config.max_weight) == (0.5, False, None)


class TestWarning:
    def warnings(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, dataset: Dataset, prepare: Any = None, **options: Any
    ) -> list[str]:
        with caplog.at_level(logging.WARNING, logger="act_hf.trainer"):
            trainer(tmp_path, to_training(dataset, tiny_tokenizer(), **(prepare or {})), **options).train()
        return [record.getMessage() for record in caplog.records if record.name == "act_hf.trainer"]

    def test_a_large_weight(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        dataset = reviewed(**{PI: [0.02] * 15 + [0.0], HUMAN: reviewed()["label"][:], SELECTED: [True] * 15 + [False]})
        (message,) = self.warnings(tmp_path, caplog, dataset)
        assert "largest weight 50.0" in message
        assert "of 16 rows; pi = 0 on 1 of them" in message
        assert "max_weight=10" in message
        assert "non_negative" not in message

    def test_negative_weight_without_the_guard(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        dataset = reviewed(**{PI: [0.25] * 16})
        (message,) = self.warnings(tmp_path, caplog, dataset, non_negative=False)
        assert "largest weight 4.0" in message
        assert "non_negative=True" in message
        assert "max_weight" not in message

    def test_soft_labels_and_reviewed_rows_alone(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A soft label that is sure is a hard one; a row whose machine label says nothing has no negative weight."""
        sure = [[float(label == number) for number in range(3)] for label in reviewed()[LABEL]]
        source = reviewed(**{PI: [0.045] * 16}).add_column(LABEL_PROBS, sure, feature=List(Value("float32")))
        said = {}
        for name, options in {"hard": {}, "soft": {"soft": True}, "reviewed": {"mode": "reviewed"}}.items():
            _warn_once.cache_clear()
            caplog.clear()
            said[name] = self.warnings(tmp_path, caplog, source, prepare=options, non_negative=False)
        assert said["soft"] == said["hard"]
        assert "largest weight 22.2, 42% of all weight negative" in said["hard"][0]
        assert "largest weight 22.2, 0% of all weight negative" in said["reviewed"][0]

    def test_no_warning_with_the_guard_or_small_weights(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert not self.warnings(tmp_path, caplog, reviewed(**{PI: [0.25] * 16}))
        threshold = [float(value) for value in reviewed()[SELECTED]]
        assert not self.warnings(tmp_path, caplog, reviewed(**{PI: threshold}), non_negative=False)


class TestToTraining:
    def test_columns_and_types(self) -> None:
        source = reviewed()
        dataset = to_training(source, tiny_tokenizer())
        assert set(dataset.column_names) == {"input_ids", "attention_mask", *COLUMNS}
        assert dataset.features[LABEL] == ClassLabel(names=NAMES)
        assert (dataset.features[HUMAN].dtype, dataset.features[PI].dtype) == ("int64", "float32")
        assert dataset[HUMAN][:] == [-100 if value is None else value for value in source[HUMAN]]
        assert dataset[LABEL][:] == source[LABEL][:]
        assert dataset[PI][:] == source[PI][:]

    def test_text_is_cut_and_an_empty_cell_is_empty_text(self) -> None:
        dataset = to_training(reviewed(2, text=["a b c d e", None]), tiny_tokenizer(), max_length=3)
        assert [len(ids) for ids in dataset["input_ids"]] == [3, 0]

    def test_without_a_tokenizer_the_other_columns_stay(self) -> None:
        assert set(to_training(reviewed()).column_names) == {"text", "label", *COLUMNS}
        assert set(to_evaluation(reviewed()).column_names) == {"text", "labels"}

    def test_a_failed_row_that_was_reviewed_has_its_human_label_with_weight_one(self) -> None:
        source = reviewed(
            3, **{LABEL: [None, 1, 2], HUMAN: [2, None, 0], SELECTED: [None, False, True], PI: [None, 0.1, 0.5]}
        )
        rows = to_training(source, tiny_tokenizer())[:]
        assert rows[LABEL] == [2, 1, 2]
        assert rows[HUMAN] == [2, -100, 0]
        assert rows[SELECTED] == [True, False, True]
        assert rows[PI] == pytest.approx([1, 0.1, 0.5])

    def test_baselines(self) -> None:
        source = reviewed(3, **{LABEL: [None, 1, 2], HUMAN: [2, 1, 0]})
        rows = to_training(source.select_columns(["text", HUMAN]), tiny_tokenizer(), mode="human")[:]
        assert (rows[LABEL], rows[HUMAN], rows[SELECTED], rows[PI]) == ([2, 1, 0], [2, 1, 0], [True] * 3, [1.0] * 3)
        rows = to_training(reviewed(3).select_columns(["text", LABEL]), tiny_tokenizer(), mode="machine")[:]
        assert (rows[HUMAN], rows[SELECTED]) == ([-100] * 3, [False] * 3)

    def test_reviewed_rows_alone(self) -> None:
        drawn = {SELECTED: [True, False, True, False], PI: [0.5, 0.1, 0.25, None]}
        source = reviewed(4, text=["a", "b", "c", "d"], **{LABEL: [0, 1, 2, None], HUMAN: [2, None, 2, 1], **drawn})
        rows = to_training(source, mode="reviewed")
        assert rows["text"][:] == ["a", "c", "d"]
        assert rows[LABEL][:] == [[0.0] * 3] * 3
        assert (rows[HUMAN][:], rows[SELECTED][:], rows[PI][:]) == ([2, 2, 1], [True] * 3, [0.5, 0.25, 1.0])

    def test_corrected_and_mixed(self) -> None:
        source = reviewed(4, text=["a", "b", "c", "d"], **{LABEL: [0, 1, 2, None], HUMAN: [2, None, 2, 1]})
        source = source.select_columns(["text", LABEL, HUMAN])
        rows = to_training(source, mode="corrected")
        assert (rows["text"][:], rows[LABEL][:]) == (["a", "b", "c", "d"], [2, 1, 2, 1])
        rows = to_training(source, mode="mixed")
        assert (rows["text"][:], rows[LABEL][:]) == (["a", "b", "c", "a", "c", "d"], [0, 1, 2, 2, 2, 1])
        assert (rows[HUMAN][:], rows[SELECTED][:], rows[PI][:]) == (rows[LABEL][:], [True] * 6, [1.0] * 6)

    @pytest.mark.parametrize("mode", ["act", "machine"])
    def test_soft_labels(self, mode: str) -> None:
        source, probs = soft()
        rows = to_training(source, tiny_tokenizer(), mode=mode, soft=True)
        assert rows[LABEL][:] == probs
        hard = to_training(source, tiny_tokenizer(), mode=mode)
        assert all(rows[name][:] == hard[name][:] for name in COLUMNS[1:])

    def test_a_failed_row_that_was_reviewed_is_certain_among_soft_ones(self) -> None:
        source, _ = soft(2, **{LABEL: [None, 1], HUMAN: [2, None], SELECTED: [False, False], PI: [None, 0.1]})
        source = source.remove_columns(LABEL_PROBS)
        source = source.add_column(LABEL_PROBS, [None, [0.25, 0.5, 0.25]], feature=List(Value("float32")))
        rows = to_training(source, tiny_tokenizer(), soft=True)
        assert rows[LABEL][:] == [[0.0, 0.0, 1.0], [0.25, 0.5, 0.25]]
        assert (rows[HUMAN][:], rows[SELECTED][:]) == ([2, -100], [True, False])

    def test_soft_labels_that_are_not_there(self) -> None:
        source, _ = soft(3)
        with pytest.raises(ACTError, match=r"no column 'act_label_probs'"):
            to_training(reviewed(), soft=True)
        with pytest.raises(ACTError, match="mode 'mixed' has no soft labels; soft=True is for act and machine"):
            to_training(source, mode="mixed", soft=True)
        gone = source.remove_columns(LABEL_PROBS)
        gone = gone.add_column(LABEL_PROBS, [None, [1.0, 0.0, 0.0], None], feature=List(Value("float32")))
        with pytest.raises(ACTError, match=r"2 of 3 rows have no act_label_probs, which soft=True needs"):
            to_training(gone, soft=True)

    @pytest.mark.parametrize(
        ("changes", "options", "message"),
        [
            ({}, {"mode": "both"}, "no mode 'both'; there are 'act', 'human', 'machine'"),
            (
                {LABEL: [None, 1, None], HUMAN: [1, None, None], SELECTED: [True, False, False]},
                {},
                "1 of 3 rows have no",
            ),
            ({HUMAN: [None] * 3, SELECTED: [True, False, True]}, {}, "2 of 3 rows are selected but have no act_human"),
            ({HUMAN: [0] * 3, PI: [None, 0.5, 0.5]}, {}, "1 of 3 rows have no act_pi; run sample"),
            ({HUMAN: [None] * 3, SELECTED: [False] * 3}, {"mode": "reviewed"}, "and none is act_selected"),
            ({LABEL: [None] * 3, HUMAN: [0, None, None]}, {"mode": "corrected"}, "2 of 3 rows have no act_label"),
            ({LABEL: [None] * 3, HUMAN: [0, None, None]}, {"mode": "mixed"}, "2 of 3 rows have no act_label"),
            ({HUMAN: [1, None, None]}, {"mode": "human"}, "2 of 3 rows have no act_human"),
            ({LABEL: [1, None, 1], HUMAN: [0] * 3}, {"mode": "machine"}, "1 of 3 rows have no act_label"),
            ({}, {"text": "body"}, "no text column 'body'; the columns with strings are 'text'"),
        ],
    )
    def test_errors(self, changes: dict[str, Any], options: dict[str, Any], message: str) -> None:
        with pytest.raises(ACTError, match=message):
            to_training(reviewed(3, **changes), tiny_tokenizer(), **options)

    def test_errors_about_columns(self) -> None:
        with pytest.raises(ACTError, match=r"to_training\(mode='act'\): no column 'act_pi'"):
            to_training(reviewed().remove_columns(PI), tiny_tokenizer())
        two = reviewed().rename_column("text", "title").add_column("body", ["a"] * 16)
        with pytest.raises(ACTError, match=r"which column is the text.* 'title', 'body'"):
            to_training(two, tiny_tokenizer())
        free = reviewed().remove_columns(LABEL).add_column(LABEL, ["yes"] * 16)
        with pytest.raises(ACTError, match=r"'act_label' is .* not a ClassLabel"):
            to_training(free, tiny_tokenizer())
        others = reviewed().cast_column(HUMAN, ClassLabel(names=["nein", *NAMES[1:]]))
        with pytest.raises(ACTError, match=r"'nein' in column 'act_human' is none of the labels"):
            to_training(others, tiny_tokenizer())
        with pytest.raises(ACTError, match="to_evaluation: 1 of 3 rows have no 'label'"):
            to_evaluation(reviewed(3, label=[0, None, 1]), tiny_tokenizer())


if __name__ == "__main__":
    _worker(sys.argv[1])
