"""
Which rows should the quickstart show? Slices of banking77, examples a label and calibrations: docs/log.md.

    python benchmarks/bench_slices.py --folder data/banking77   # or without --folder from the Hub; 15 minutes

For each: accuracy of SmolLM2 without calibration, with contextual and with batch calibration, accuracy of MiniLM's own
labels, and on the errors of the batch-calibrated labels the AUROC of MiniLM (likelihood) and of SmolLM2 (logit).
"""

import argparse
import os


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import tempfile
from pathlib import Path

import numpy as np
from datasets import Dataset, disable_progress_bars
from machine import save_result
from quickstart_sample import INTENTS, load

from act_hf import Example, Task, annotate, criticize, load_model
from act_hf.estimate import auroc


ROWS = 300
CARDS = ["card_arrival", "card_not_working", "lost_or_stolen_card", "compromised_card"]
MIXED = [*CARDS, "pending_transfer", "failed_transfer", "exchange_rate", "request_refund"]
UNLIKE = ["card_arrival", "exchange_rate", "lost_or_stolen_card", "pending_transfer", "change_pin", "top_up_failed"]
SLICES = {
    "six unlike intents": UNLIKE,
    "eight mixed intents": MIXED,
    "ten mixed intents": [*MIXED, "card_delivery_estimate", "top_up_failed"],
    "four confusable pairs": INTENTS,
}
TRIALS = [("six unlike intents", 0), ("six unlike intents", 1), ("six unlike intents", 2), ("eight mixed intents", 1)]
TRIALS += [("ten mixed intents", 1), *(("four confusable pairs", shots) for shots in (0, 1, 2))]


def slice_of(dataset: Dataset, intents: list[str], shots: int) -> tuple[Dataset, Task]:
    names = dataset.features["label"].names
    rows = dataset.filter(lambda row: names[row["label"]] in intents).shuffle(seed=0)
    labels = rows["label"][:]
    shown = [number for number, label in enumerate(labels) if labels[:number].count(label) < shots]
    examples = [Example(names[rows[number]["label"]], text=rows[number]["text"]) for number in shown]
    rest = rows.select([number for number in range(len(rows)) if number not in shown][:ROWS])
    instruction = "Choose the topic of the customer query to a bank."
    return rest, Task(labels=intents, text="text", instruction=instruction, examples=examples)


def trial(dataset: Dataset, name: str, shots: int, store: Path) -> dict:
    rows, task = slice_of(dataset, SLICES[name], shots)
    names = rows.features["label"].names
    gold = np.array([task.labels.index(names[label]) for label in rows["label"]])
    smollm2, minilm = load_model("smollm2", threads=os.cpu_count()), load_model("minilm")
    result = {"slice": name, "shots": shots, "majority": float(np.bincount(gold).max() / len(gold))}
    for calibration in ("none", "contextual", "batch"):
        labelled = annotate(rows, task, smollm2, calibration=calibration, store=store)
        result[f"smollm2_{calibration}"] = float((np.array(labelled["act_label"][:]) == gold).mean())
    own = annotate(rows, task, minilm, store=store)
    result["minilm"] = float((np.array(own["act_label"][:]) == gold).mean())
    wrong = np.array(labelled["act_label"][:]) != gold
    for critic, model, strategy in (("likelihood", minilm, "likelihood"), ("logit", smollm2, "logit")):
        judged = criticize(labelled, model, strategy=strategy, store=store)
        result[f"auroc_{critic}"] = float(auroc(np.array(judged["act_error_prob"][:]), wrong))
    print(result, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="a folder with train.parquet and test.parquet instead of the Hub")
    source = load(parser.parse_args().folder)["train"]
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        trials = [trial(source, name, shots, Path(folder) / "answers.sqlite") for name, shots in TRIALS]
    save_result("slices", {"rows": ROWS, "trials": trials})


if __name__ == "__main__":
    main()
