"""What networks see of the rows: computed once by frozen extractors, and kept in a folder outside the project."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch


@dataclass(frozen=True)
class Cache:
    """A folder of arrays by name. A name says all that the array depends on."""

    folder: Path

    def array(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            made = compute()
            part = path.with_suffix(".part.npy")
            np.save(part, made)
            part.replace(path)
        return np.load(path)


def sentences(texts: list[str]) -> np.ndarray:
    """`[N, 384]`: the embedded MiniLM's vectors."""
    from act_hf import EncoderModel
    from act_hf.models.embedded import minilm_path

    encoder, order = EncoderModel(minilm_path(), max_length=128), np.argsort([len(text) for text in texts])
    parts = [encoder.embed([texts[row] for row in rows])[0] for rows in np.array_split(order, len(order) // 32 + 1)]
    vectors = np.empty((len(texts), parts[0].shape[1]), dtype=np.float32)
    vectors[order] = np.concatenate(parts)
    return vectors


def image_vectors(images: pd.Series, *, network: int = 0, size: int = 224, batch: int = 8) -> np.ndarray:
    """`[N, 1280]`, half precision: EfficientNet-Lite's last layer; an image that occurs again is seen once."""
    from paper.data import picture
    from paper.efficientnet import Extractor

    extract, parts = Extractor(network), []
    keys = [cell["bytes"] for cell in images]
    fresh = list(dict.fromkeys(keys))
    for start in range(0, len(fresh), batch):
        pixels = np.stack([picture({"bytes": one}, size) for one in fresh[start : start + batch]])
        parts.append(extract(torch.from_numpy(pixels)).astype(np.float16))
    known = {key: row for row, key in enumerate(fresh)}
    return np.concatenate(parts)[[known[key] for key in keys]]


def pixels(images: pd.Series, size: int) -> np.ndarray:
    """`[N, 1, size, size]`, bytes: grey images as they are."""
    from paper.data import picture

    return np.stack([(picture(cell, size, "L") * 255).astype(np.uint8) for cell in images])[:, None]


def components(vectors: np.ndarray) -> np.ndarray:
    """`[N, 50]`: what an error model may look at."""
    from sklearn.decomposition import PCA

    return PCA(min(50, len(vectors)), random_state=0).fit_transform(vectors).astype(np.float32)


def standardised(vectors: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Each dimension with the mean and spread that it has in the pool."""
    mean, spread = by.mean(axis=0, dtype=np.float64), by.std(axis=0, dtype=np.float64)
    return ((vectors - mean) / np.maximum(spread, 1e-6)).astype(np.float32)
