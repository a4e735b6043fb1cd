"""The sets: rows from a folder or the Hub, and what recorded models and people said of them."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from paper.protocol import digests
from PIL import Image


HUB = {"stanford_cars": "tanganke/stanford_cars"}
"""Sets of which all is on the Hub. What models said of the others was published elsewhere, by row."""


NOT_ON_HUB = "{}: the recorded answers are not on the Hub; give their folder with --data FOLDER"


@dataclass(frozen=True)
class Source:
    """
    Where sets are: a folder with `SET/train.parquet`, `SET/test.parquet` and `SET/annotations.parquet`, or, for those
    in `HUB`, the Hub. With `limit`, so many rows of each split, at random: to try things out.
    """

    folder: Path | None
    limit: int | None = None

    @property
    def cut(self) -> str:
        """What distinguishes the names of arrays made of a part of the rows."""
        return f"-{self.limit}" if self.limit else ""

    def rows(self, name: str, split: str) -> pd.DataFrame:
        """The rows of a split in their order, each with an `id`."""
        if self.folder:
            table = pd.read_parquet(self.folder / name / f"{split}.parquet")
        else:
            from datasets import load_dataset

            table = load_dataset(_repository(name), split=split).to_pandas()
        table = table if "id" in table else table.assign(id=[f"{split}-{row}" for row in range(len(table))])
        if self.limit is None or self.limit >= len(table):
            return table
        return table.iloc[np.sort(np.random.default_rng(0).permutation(len(table))[: self.limit])]

    def labels(self, name: str) -> list[str]:
        """The names of the classes."""
        if self.folder:
            return json.loads((self.folder / name / "info.json").read_text(encoding="utf-8"))["label_names"]
        from datasets import load_dataset_builder

        return load_dataset_builder(_repository(name)).info.features["label"].names

    def said(self, name: str, ids: pd.Series, *, model: str, strategy: str) -> np.ndarray:
        """`[N]`: the label that a recorded rater gave each of the rows, -1 for none."""
        table = self.recorded(name)
        own = table[(table["model"] == model) & (table["strategy"] == strategy)].set_index("row_id")["label"]
        if own.empty:
            raise SystemExit(f"{name}: nothing is recorded of {model} {strategy}")
        return own.reindex(ids).fillna(-1).to_numpy().astype(int)

    def reasons(self, name: str, ids: pd.Series, *, model: str, strategy: str) -> list[str]:
        """What the rater wrote beside its label."""
        table = self.recorded(name)
        own = table[(table["model"] == model) & (table["strategy"] == strategy)].set_index("row_id")["text"]
        return own.reindex(ids).fillna("").tolist()

    def answers(self, name: str, ids: pd.Series, *, model: str, strategy: str) -> list[str]:
        """What the rater answered, as it was recorded."""
        table = self.recorded(name)
        own = table[(table["model"] == model) & (table["strategy"] == strategy)].set_index("row_id")["answer"]
        return own.reindex(ids).fillna("").tolist()

    def recorded(self, name: str) -> pd.DataFrame:
        """All that was recorded of a set."""
        if self.folder is None:
            raise SystemExit(NOT_ON_HUB.format(name))
        return pd.read_parquet(self.folder / name / "annotations.parquet")


def _repository(name: str) -> str:
    if name not in HUB:
        raise SystemExit(NOT_ON_HUB.format(name))
    return HUB[name]


def image_digests(table: pd.DataFrame) -> np.ndarray:
    """One a row, of the bytes of its image."""
    return digests([cell["bytes"] for cell in table["image"]])


def picture(cell: dict, size: int, mode: str = "RGB") -> np.ndarray:
    """`[3, size, size]` (or `[size, size]` for one channel) in [0, 1], of an image as it lies in a parquet file."""
    image = Image.open(io.BytesIO(cell["bytes"])).convert(mode)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, dtype=np.float32) / 255
    return pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels
