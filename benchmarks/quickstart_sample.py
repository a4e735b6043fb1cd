"""
Makes the sample that ships in `act_hf/quickstart_data/`: eight intents of banking77, four easily confused pairs.

    python benchmarks/quickstart_sample.py                        # from the Hub
    python benchmarks/quickstart_sample.py --folder data/banking77

banking77 (Casanueva et al. 2020, "Efficient Intent Detection with Dual Sentence Encoders") is CC BY 4.0. The choice of
the eight intents, among others, is documented in docs/log.md.
"""

import argparse
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, load_dataset


INTENTS = [
    "card_arrival",
    "card_delivery_estimate",
    "compromised_card",
    "exchange_charge",
    "exchange_rate",
    "lost_or_stolen_card",
    "pending_transfer",
    "transfer_timing",
]
POOL_ROWS = 400
SEED = 0
SAMPLE = Path(__file__).parent.parent / "act_hf" / "quickstart_data"


def load(folder: str | None) -> DatasetDict:
    if folder is None:
        return load_dataset("PolyAI/banking77")
    return load_dataset("parquet", data_files={split: f"{folder}/{split}.parquet" for split in ("train", "test")})


def of_intents(dataset: Dataset) -> Dataset:
    names = dataset.features["label"].names
    kept = dataset.filter(lambda row: names[row["label"]] in INTENTS).select_columns(["text", "label"])
    renumbered = kept.map(
        lambda row: {"label": INTENTS.index(names[row["label"]])},
        features=Features({**kept.features, "label": ClassLabel(names=INTENTS)}),
    )
    return renumbered.map(lambda row: {"text": row["text"].strip()})


def first_of_each(dataset: Dataset) -> list[int]:
    labels = dataset["label"]
    return [labels.index(label) for label in range(len(INTENTS))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="a folder with train.parquet and test.parquet instead of the Hub")
    source = load(parser.parse_args().folder)
    train = of_intents(source["train"]).shuffle(seed=SEED)
    examples = first_of_each(train)
    pool = [row for row in range(len(train)) if row not in examples][:POOL_ROWS]
    SAMPLE.mkdir(exist_ok=True)
    for name, part in (
        ("examples", train.select(examples)),
        ("pool", train.select(pool)),
        ("test", of_intents(source["test"])),
    ):
        part.to_parquet(SAMPLE / f"{name}.parquet")
        print(name, len(part), part.features)


if __name__ == "__main__":
    main()
