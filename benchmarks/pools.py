"""Recorded annotations of real models as pools to sample from: labels, truth, a critic's word, features."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from act_hf.critics.raters import panel_error_probs


IRONY = ("claude-3-5-sonnet-20240620", "gpt-4o")
"""The other recorded models say little more than chance on irony."""

TRIPLES = ("MRPC", "global_warming")


@dataclass(frozen=True)
class Pool:
    """
    N rows that a recorded model labelled. `votes` is `[N, M]`, what other recorded models said, with -1 for nothing;
    `texts` and `pixels` are what there is to learn from.
    """

    name: str
    annotator: str
    critic: str
    classes: int
    gold: np.ndarray
    machine: np.ndarray
    error_probs: np.ndarray
    votes: np.ndarray
    texts: list[str] | None = None
    pixels: np.ndarray | None = None

    @property
    def rows(self) -> int:
        return self.gold.size

    @property
    def wrong(self) -> np.ndarray:
        return self.gold != self.machine

    def facts(self) -> dict:
        return {
            "set": self.name,
            "annotator": self.annotator,
            "critic": self.critic,
            "rows": self.rows,
            "errors": int(self.wrong.sum()),
        }


def recorded_pools(data: Path) -> Iterator[Pool]:
    """
    The sets with the answers of several models, and the one with verbalised confidences. The critic is the package's
    own panel of all the other recorded models; none of them was trained on the set.
    """
    yield _panel_pool(data, "emotion", ("gpt-4", "12_shot"), splits=("test",))
    yield _panel_pool(data, "irony", ("gpt-4o", "coc_1shot"), splits=("test",), models=IRONY)
    yield _panel_pool(data, "vqa_rad", ("gpt-4o", "zero_shot"), splits=("train", "test"), text="question")
    yield _panel_pool(data, "imdb_llm", ("gpt-4o-mini", "zero_shot"), splits=("train", "test"))
    yield _panel_pool(data, "tweet_sentiment", ("gpt-3.5-turbo", "12_shot"), splits=("test",))
    yield from _css_pools(data)
    yield from _confidence_pools(data)


def fashion_pool(data: Path, error_probs: np.ndarray | None = None) -> Pool:
    """GPT-4o-mini's labels of the 10,000 test images. There is no other model's answer: give a critic."""
    folder = data / "fashion_mnist"
    rows = pd.read_parquet(folder / "test.parquet")
    said = pd.read_parquet(folder / "annotations.parquet").set_index("row_id")["label"]
    ids = rows["id"] if "id" in rows else pd.Series([f"test-{i}" for i in range(len(rows))])
    return Pool(
        name="fashion_mnist",
        annotator="gpt-4o-mini cot",
        critic="none recorded",
        classes=10,
        gold=rows["label"].to_numpy(),
        machine=said.loc[ids].to_numpy(),
        error_probs=np.full(len(rows), np.nan) if error_probs is None else error_probs,
        votes=np.empty((len(rows), 0), dtype=int),
        pixels=_pixels(rows["image"]),
    )


def _panel_pool(
    data: Path, name: str, annotator: tuple[str, str], *, splits: tuple[str, ...], models=None, text="text"
) -> Pool:
    folder = data / name
    rows = pd.concat([_with_ids(pd.read_parquet(folder / f"{split}.parquet"), split) for split in splits])
    table = pd.read_parquet(folder / "annotations.parquet")
    table = table[(table["role"] == "annotator") & table["split"].isin(splits)]
    table = table[table["model"].isin(models)] if models else table
    names = json.loads((folder / "info.json").read_text())["label_names"]
    return _panel(name, rows, table, annotator, len(names), rows[text].astype(str).tolist())


def _with_ids(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    if "id" in rows:
        return rows
    return rows.assign(id=[f"{split}-{i}" for i in range(len(rows))])


def _css_pools(data: Path) -> Iterator[Pool]:
    folder = data / "css_llms"
    rows = pd.read_parquet(folder / "test.parquet")
    table = pd.read_parquet(folder / "annotations.parquet")
    names = json.loads((folder / "info.json").read_text())["label_names"]
    for task, own in rows.groupby("task", sort=True):
        said = table[table["row_id"].isin(own["id"]) & (table["model"] != "roberta")]
        yield _panel(f"css {task}", own, said, ("chatgpt", "zero_shot"), len(names[task]), own["text"].tolist())


def _panel(
    name: str, rows: pd.DataFrame, table: pd.DataFrame, annotator: tuple[str, str], classes: int, texts: list[str]
) -> Pool:
    wide = table.pivot_table(index="row_id", columns=["model", "strategy"], values="label", aggfunc="first")
    wide = wide.reindex(rows["id"]).fillna(-1).astype(int)
    machine, votes = wide[annotator].to_numpy(), wide.drop(columns=[annotator]).to_numpy()
    gold = rows["label"].to_numpy().astype(int)
    kept = (machine >= 0) & (gold >= 0) & (votes >= 0).any(axis=1)
    error_probs, _ = panel_error_probs(machine[kept], votes[kept], classes)
    return Pool(
        name=name,
        annotator=" ".join(annotator),
        critic=f"panel of {votes.shape[1]}",
        classes=classes,
        gold=gold[kept],
        machine=machine[kept],
        error_probs=error_probs,
        votes=votes[kept],
        texts=[text for text, keep in zip(texts, kept, strict=True) if keep],
    )


def _confidence_pools(data: Path) -> Iterator[Pool]:
    table = pd.read_parquet(data / "llm_confidence_triples" / "test.parquet")
    for task in TRIPLES:
        rows = table[(table["task"] == task) & table["confidence"].notna()]
        yield Pool(
            name=f"triples {task}",
            annotator="gpt",
            critic="1 - its own stated confidence",
            classes=2,
            gold=rows["gold"].to_numpy().astype(int),
            machine=rows["llm_label"].to_numpy().astype(int),
            error_probs=1 - rows["confidence"].to_numpy(dtype=float),
            votes=np.empty((len(rows), 0), dtype=int),
            texts=rows["text"].tolist() if rows["text"].notna().all() else None,
        )


def _pixels(images: pd.Series) -> np.ndarray:
    from io import BytesIO

    from PIL import Image

    return np.stack([np.asarray(Image.open(BytesIO(one["bytes"]))) for one in images]).reshape(len(images), -1) / 255
