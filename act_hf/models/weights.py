"""What every model on disk needs: to be told apart, a place to run, and a tokenizer that is one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, one_line


if TYPE_CHECKING:
    import torch


def weights_fingerprint(path: Path) -> str:
    """
    Tells weights on disk apart: a hash over the names and contents of the files of a folder, or of one file.

    Returns:
        `str`: 12 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{file.relative_to(path.parent)} {content}".encode())
    return digest.hexdigest()[:12]


def torch_device(device: str) -> torch.device:
    """The device of that name; `"auto"` is a GPU where there is one."""
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ACTError(f"device {device!r} is none of torch's: {one_line(error)}") from error


def use_threads(device: torch.device, threads: int | None) -> None:
    """
    Sets the threads of this process where `device` is a CPU.

    By default what `OMP_NUM_THREADS` says, else one less than there are cores: a thread for every core collapses as
    soon as anything else runs, since they wait for each other by spinning.
    """
    import torch

    if device.type == "cpu" and (threads or "OMP_NUM_THREADS" not in os.environ):
        torch.set_num_threads(threads or max(1, (os.cpu_count() or 2) - 1))


def load_tokenizer(source: str) -> Any:
    """
    The tokenizer of a Hub id or folder.

    Raises:
        ValueError: where there is none. transformers makes one that knows no word of a folder without a tokenizer, and
            every text then looks the same to the model.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ValueError("it has no tokenizer")
    return tokenizer
