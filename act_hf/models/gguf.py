"""GGUF files: dequantised once, kept as a folder that loads in a second."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.models.store import home


if TYPE_CHECKING:
    import torch


_BLOCKS = 64
_BLOCK = 2**16


def weights_fingerprint(path: Path) -> str:
    """
    Tells weights on disk apart without reading all of them: a hash over the name, the size and 64 evenly spaced blocks
    of 64 KiB of each file of a folder, or of one file.

    Returns:
        `str`: 12 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_file():
            continue
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path.parent)} {size}".encode())
        with file.open("rb") as stream:
            for block in range(_BLOCKS):
                stream.seek(max(0, size - _BLOCK) * block // (_BLOCKS - 1))
                digest.update(stream.read(_BLOCK))
    return digest.hexdigest()[:12]


def dequantised(path: Path, dtype: torch.dtype) -> Path:
    """
    The folder with the weights of a GGUF file in `dtype`, made on first use.

    Args:
        path (`Path`): the `.gguf` file.
        dtype (`torch.dtype`): the type to keep the weights in.

    Returns:
        `Path`: a folder that `from_pretrained` loads, under [`home`].
    """
    folder = home() / "dequantised" / f"{path.stem}-{weights_fingerprint(path)}-{str(dtype).split('.')[-1]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Made beside and renamed last, so that the folder's existence means that it is whole.
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            _convert(path, dtype, unfinished)
            unfinished.rename(folder)
        except BaseException as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not (isinstance(error, OSError) and folder.exists()):  # then another process was first
                raise
    return folder


def one_line(error: Exception) -> str:
    """The first line of what an error says, or its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _convert(path: Path, dtype: torch.dtype, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
    # The weights are plain now, but transformers refuses to save what it believes to be quantised.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
