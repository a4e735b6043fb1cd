"""GGUF files: dequantised once, kept as a folder that loads in a second."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.models.store import home
from act_hf.models.weights import weights_fingerprint


if TYPE_CHECKING:
    import torch


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


def _convert(path: Path, dtype: torch.dtype, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # Said, because transformers leaves the weights packed where it finds a kernel for them.
    dense = GgufConfig(dequantize=True)
    model: Any = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, quantization_config=dense, dtype=dtype
    )
    # The weights are plain now, but transformers refuses to save what it believes to be quantised.
    model.hf_quantizer = None
    vars(model.config).pop("quantization_config", None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
