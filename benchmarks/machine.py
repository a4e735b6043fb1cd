"""What a benchmark ran on, and where its results go."""

import importlib.metadata
import json
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any

from act_hf.prompts import VERSION


RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("act_hf", "torch", "transformers", "datasets", "accelerate", "numpy")


def save_result(name: str, figures: dict[str, Any]) -> Path:
    """Writes `results/NAME.json`: the figures, the machine and the versions."""
    result = {
        "date": date.today().isoformat(),
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "versions": {library: importlib.metadata.version(library) for library in LIBRARIES},
        "prompts": VERSION,
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")
    return path


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
