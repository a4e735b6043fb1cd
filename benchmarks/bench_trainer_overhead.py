"""
What does a step of ACTTrainer cost beside one of transformers' Trainer with plain cross-entropy?

    python benchmarks/bench_trainer_overhead.py              # five minutes on an idle machine
    python benchmarks/bench_trainer_overhead.py --steps 20   # to try it: prints, and saves nothing

The same MiniLM, the same batches of 16 texts of banking77, one thread of computing. They train in turns, one step
each, so that what else the machine does falls on all alike: each trainer has a thread, and only the one whose turn it
is runs. ACTTrainer stands between two Trainers: every step gives its ratio to the mean of theirs, and the figure is
the median with a 95 % interval (bootstrap over steps). The ratio of the two Trainers says what comes out where there
is no difference. CPU time leaves out what other programs take.
"""

import argparse
import json
import os
import tempfile
import threading
import time


os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
from datasets.utils import disable_progress_bars
from machine import save_result
from transformers import (
    AutoModelForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from act_hf.columns import HUMAN, LABEL, PI, SELECTED
from act_hf.models.embedded import minilm_path
from act_hf.models.weights import load_tokenizer
from act_hf.quickstart import load_sample
from act_hf.trainer import ACTConfig, ACTTrainer
from act_hf.training_set import to_evaluation, to_training


STEPS = 200
WARM = 3  # steps that are not counted
BATCH = 16
AT_MOST = 1.02
"""What is required of the ratio."""


class Turns:
    """Lets one of several threads run at a time, in a ring."""

    def __init__(self, count: int):
        self.count, self.turn, self.changed = count, 0, threading.Condition()

    def wait(self, number: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.turn == number)

    def hand_on(self) -> None:
        with self.changed:
            self.turn = (self.turn + 1) % self.count
            self.changed.notify_all()


class InTurn(TrainerCallback):
    """From getting the turn to handing it on, wall and CPU time: all that a step costs, its batch included."""

    def __init__(self, turns: Turns, number: int):
        self.turns, self.number, self.steps = turns, number, []

    def on_train_begin(self, args, state, control, **others):
        self._begin()

    def on_step_end(self, args, state, control, **others):
        wall, cpu = self.began
        self.steps.append((time.perf_counter() - wall, time.thread_time() - cpu))
        self.turns.hand_on()
        self._begin()

    def on_train_end(self, args, state, control, **others):
        self.turns.hand_on()

    def _begin(self):
        self.turns.wait(self.number)
        self.began = time.perf_counter(), time.thread_time()


def training_sets(tokenizer):
    """The same rows twice: as the Trainer has them, and as ACTTrainer has them after a simulated review."""
    pool = load_sample("pool")
    random = np.random.default_rng(0)
    truth, size = np.array(pool["label"][:]), len(pool)
    machine = np.where(random.random(size) < 0.3, (truth + 1) % 8, truth)
    selected = random.random(size) < 0.25
    label = pool.features["label"]
    rows = pool.add_column(LABEL, machine.tolist(), feature=label)
    human = [int(value) if drawn else None for value, drawn in zip(truth, selected, strict=True)]
    rows = rows.add_column(HUMAN, human, feature=label).add_column(SELECTED, selected.tolist())
    rows = rows.add_column(PI, np.full(size, 0.25, dtype="float32"))
    plain = to_evaluation(rows, tokenizer, text="text", label=LABEL)
    return plain, to_training(rows, tokenizer, text="text"), label.names


def made(kind, config, dataset, names, tokenizer, *, folder: str, steps: int):
    set_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(str(minilm_path()), num_labels=len(names))
    settings = {
        "max_steps": steps + WARM,
        "per_device_train_batch_size": BATCH,
        "train_sampling_strategy": "sequential",
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    trainer = kind(model, config(folder, **settings), train_dataset=dataset, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    return trainer


def in_turns(trainers: dict) -> dict[str, np.ndarray]:
    """`[steps, 2]`: the wall and CPU seconds of each step of each trainer."""
    turns = Turns(len(trainers))
    clocks = {name: InTurn(turns, number) for number, name in enumerate(trainers)}
    threads = []
    for name, trainer in trainers.items():
        trainer.add_callback(clocks[name])
        threads.append(threading.Thread(target=trainer.train))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {name: np.array(clock.steps[WARM:]) for name, clock in clocks.items()}


def summary(ratios: np.ndarray) -> dict:
    random = np.random.default_rng(0)
    again = np.median(random.choice(ratios, (4000, len(ratios))), axis=1)
    low, high = np.quantile(again, [0.025, 0.975])
    return {"median": round(float(np.median(ratios)), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    disable_progress_bars()
    tokenizer = load_tokenizer(str(minilm_path()))
    plain, act, names = training_sets(tokenizer)
    kinds = {
        "Trainer": (Trainer, TrainingArguments, plain),
        "ACTTrainer": (ACTTrainer, ACTConfig, act),
        "another Trainer": (Trainer, TrainingArguments, plain),
    }
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: made(*kind, names, tokenizer, folder=folder, steps=steps) for name, kind in kinds.items()}
        taken = in_turns(trainers)
    before, after = taken["Trainer"], taken["another Trainer"]
    per_step = {
        "ACTTrainer / mean of both": 2 * taken["ACTTrainer"] / (before + after),
        "another / Trainer": after / before,
    }
    ratios = {
        name: {unit: summary(each[:, i]) for i, unit in enumerate(("wall", "cpu"))} for name, each in per_step.items()
    }
    result = {
        "model": "all-MiniLM-L6-v2, everything trained",
        "batch": BATCH,
        "steps": steps,
        "required": AT_MOST,
        "met": ratios["ACTTrainer / mean of both"]["wall"]["high"] <= AT_MOST,
        "median_step_ms": {name: (1000 * np.median(each, axis=0)).round(2).tolist() for name, each in taken.items()},
        "ratios": ratios,
    }
    if steps < STEPS:
        print(json.dumps(result, indent=1))
    else:
        save_result("trainer_overhead", result)


if __name__ == "__main__":
    main()
