"""
Every strategy over a real server, and the same model file in process: do they agree?

    python benchmarks/bench_server.py                         # SmolLM2: ten minutes on two idle cores
    python benchmarks/bench_server.py --model qwen15.gguf     # another file

llama.cpp's server (package xllamacpp) answers for 200 rows of the quickstart's sample: annotated, and criticized with
every strategy. The annotator's label probabilities and the critics logit, ppl and likelihood are then made by
LocalModel from the same file. The server computes with the quantised weights, LocalModel with the same weights
dequantised.
"""

import argparse
import os
import sys


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from machine import save_result
from scipy.stats import spearmanr

from act_hf import ACTError, Endpoint, LocalModel, Model, Task, annotate, criticize
from act_hf.critics.strategies import STRATEGIES
from act_hf.estimate import auroc
from act_hf.models.embedded import smollm2_path
from act_hf.quickstart import load_sample, sample_task
from act_hf.records import stage_records


sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.llama import serve


ROWS = 200
LONGEST = 64
COMPARED = ("logit", "ppl", "likelihood")


def floats(values: list) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def criticized(labelled: Dataset, model: Model, strategy: str, store: Path) -> tuple[np.ndarray, dict[str, Any]]:
    limit = LONGEST if STRATEGIES[strategy].max_tokens > LONGEST else None
    start = time.perf_counter()
    made = criticize(labelled, model, strategy=strategy, store=store, max_tokens=limit)
    seconds = time.perf_counter() - start
    record = stage_records(made, "criticize")[-1]
    values = floats(made["act_error_prob"][:])
    known = ~np.isnan(values)
    wrong = np.array(labelled["act_label"][:]) != np.array(labelled["label"][:])
    says = {"strategy": strategy, "failed": record["failed"], "calls": record["usage"]["calls"], "seconds": seconds}
    return values, says | {"auroc": float(auroc(values[known], wrong[known]))}


def agreement(served: np.ndarray, local: np.ndarray) -> dict[str, float]:
    known = ~(np.isnan(served) | np.isnan(local))
    return {
        "rows": int(known.sum()),
        "spearman": float(spearmanr(served[known], local[known]).statistic),
        "largest_difference": float(np.abs(served - local)[known].max()),
        "mean_difference": float(np.abs(served - local)[known].mean()),
    }


def run(rows: Dataset, task: Task, served: Model, local: Model, folder: Path) -> dict[str, Any]:
    labelled = annotate(rows, task, served, store=folder / "served.sqlite")
    here = annotate(rows, task, local, store=folder / "local.sqlite")
    probs = [np.array(each["act_label_probs"][:]) for each in (labelled, here)]
    same = float(np.mean(np.array(labelled["act_label"][:]) == np.array(here["act_label"][:])))
    result: dict[str, Any] = {
        "annotate": {**agreement(probs[0].ravel(), probs[1].ravel()), "same_label": same},
        "accuracy": float(np.mean(np.array(labelled["act_label"][:]) == np.array(rows["label"][:]))),
        "strategies": [],
    }
    for strategy in STRATEGIES:
        values, says = criticized(labelled, served, strategy, folder / "served.sqlite")
        if strategy in COMPARED:
            mine, _ = criticized(labelled, local, strategy, folder / "local.sqlite")
            says["agreement"] = agreement(values, mine)
        print(says, flush=True)
        result["strategies"].append(says)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=None, help="a .gguf file instead of the embedded one")
    given = parser.parse_args()
    path = given.model or smollm2_path()
    if not path.is_file():
        raise ACTError(f"no model file {str(path)!r}")
    rows, task = load_sample("pool").select(range(ROWS)), sample_task()
    with serve(path, threads=os.cpu_count() or 1) as server, tempfile.TemporaryDirectory() as folder:
        served = Endpoint(path.stem, base_url=server.base_url, token=server.key, server="llama.cpp", concurrency=8)
        local = LocalModel(path, threads=os.cpu_count())
        result = run(rows, task, served, local, Path(folder))
    save_result(
        "server" if given.model is None else f"server_{path.stem}", {"model": path.name, "rows": ROWS, **result}
    )


if __name__ == "__main__":
    main()
