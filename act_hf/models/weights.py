"""What every model on disk needs: to be told apart, a tokenizer that is one, and errors of one line."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


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


def one_line(error: Exception) -> str:
    """The first line of what an error says, or its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


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
