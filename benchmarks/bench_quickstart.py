"""
What the quickstart reaches and how long it takes, from an empty store. The table in the README comes from here.

    python benchmarks/bench_quickstart.py
"""

import os


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # both as the command line does
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import tempfile
import time
from pathlib import Path

from machine import save_result

from act_hf.quickstart import BUDGET, MIX, run_quickstart


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ACT_HF_HOME"] = f"{folder}/home"  # so that dequantising the model is counted
        start = time.perf_counter()
        report = run_quickstart(Path(folder), threads=os.cpu_count())
        first = time.perf_counter() - start
        start = time.perf_counter()
        again = run_quickstart(Path(folder), threads=os.cpu_count())
        second = time.perf_counter() - start
    print(report.summary())
    figures = {
        "data": "eight intents of banking77 (CC BY 4.0), 400 rows; the reviewer is simulated from the true labels",
        "seconds": round(first, 1),
        "seconds_with_the_store_kept": round(second, 1),
        "calls": sum(cost.calls for cost in report.costs),
        "calls_with_the_store_kept": sum(cost.calls for cost in again.costs),
        "rows": report.rows,
        "budget": BUDGET,
        "mix": MIX,
        "majority_accuracy": report.truth.majority_share,
        "machine_accuracy": report.truth.machine.value,
        "machine_accuracy_estimated": [
            report.estimate.machine,
            report.estimate.machine_low,
            report.estimate.machine_high,
        ],
        "accuracy_after_review": report.truth.after.value,
        "accuracy_after_review_estimated": [
            report.estimate.after,
            report.estimate.after_low,
            report.estimate.after_high,
        ],
        "errors_found": report.finding.found,
        "errors_found_at_random": report.finding.at_random,
        "critics": {critic.name: {"auroc": critic.auroc, "abs": critic.abs} for critic in report.critics},
        "downstream": {run.method: {"mean": run.mean, "sd": run.sd, "seeds": run.seeds} for run in report.downstream},
    }
    save_result("quickstart", figures)


if __name__ == "__main__":
    main()
