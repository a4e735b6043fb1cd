"""Which files a split of a configuration has on the Hub, and what the card says of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError, one_line
from act_hf.hub.address import DEFAULT


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from datasets import Dataset, Features

Metadata = dict[str, Any]

_DATA = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".arrow", ".zip", ".tar", ".gz", ".zst")
_SHARD = ".parquet"
_READ = (_SHARD, ".act.json", ".act.png")
_NO_DATA = (".act.json", "dataset_infos.json")
_PUSHED = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.parquet")
"""What `push_to_hub` wrote before cards named the files."""


@dataclass(frozen=True)
class Place:
    """
    Where a split lies in a repository.

    Args:
        config (`str`): its configuration.
        split (`str`): its name.
    """

    config: str
    split: str

    @property
    def folder(self) -> str:
        """As `push_to_hub` has it."""
        return "data" if self.config == DEFAULT else self.config

    @property
    def pattern(self) -> str:
        """Its shards, for the card."""
        return f"{self.folder}/{self.split}-*"

    @property
    def records(self) -> str:
        """The file with what a data set on the Hub does not keep: what each stage did."""
        return f"{self.folder}/{self.split}.act.json"

    @property
    def picture(self) -> str:
        """The plot that the card shows."""
        return f"{self.folder}/{self.split}.act.png"

    def shard(self, number: int, of: int) -> str:
        """A file of rows."""
        return f"{self.folder}/{self.split}-{number:05d}-of-{of:05d}.parquet"

    def owns(self, path: str) -> bool:
        """Whether a push of this split writes such a file, and nothing else does."""
        return path in (self.records, self.picture) or bool(_matching([path], [self.pattern]))


@dataclass(frozen=True)
class There:
    """
    What a repository holds of the configurations that its card names.

    Args:
        metadata (`dict`): of the card.
        configs (`dict`): for each configuration, the patterns of the files of each split.
        infos (`datasets.info.DatasetInfosDict`): the columns and splits of each configuration, where the card has
            them.
        unread (frozenset of `str`): configurations of which the card does not name the files.
    """

    metadata: Metadata
    configs: dict[str, dict[str, list[str]]]
    infos: Any
    unread: frozenset[str]

    @classmethod
    def of(cls, metadata: Metadata, files: Iterable[str], where: str) -> There:
        """Read from the card, or from the names of files that an old `push_to_hub` wrote."""
        from datasets.data_files import sanitize_patterns
        from datasets.info import DatasetInfosDict
        from datasets.utils.metadata import MetadataConfigs

        try:
            infos = DatasetInfosDict.from_dataset_card_data(_card_data(metadata))
            infos.to_dataset_card_data(_card_data(metadata))  # what can be read cannot always be written
            named = MetadataConfigs.from_dataset_card_data(_card_data(metadata))
            configs = {
                name: {str(split): list(patterns) for split, patterns in sanitize_patterns(one["data_files"]).items()}
                for name, one in named.items()
                if one.get("data_files")
            }
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ACTError(
                f"the card of {where!r} has 'configs' or 'dataset_info' that cannot be read: {one_line(error)}"
            ) from error
        if not named:
            splits = sorted({found[1] for path in files if (found := _PUSHED.fullmatch(path))})
            configs = {DEFAULT: {split: [f"data/{split}-*"] for split in splits}} if splits else {}
        return cls(metadata, configs, infos, frozenset(named) - set(configs))

    def has(self, place: Place) -> bool:
        """Whether there are rows in that place."""
        return place.split in self.configs.get(place.config, {})

    def check(self, place: Place, features: Features, files: Iterable[str], where: str) -> None:
        """
        Raises [`ACTError`] where a push would spoil what it does not replace.

        Args:
            place ([`Place`]): where it goes.
            features (`datasets.Features`): the columns of what is pushed.
            files (iterable of `str`): in the repository.
            where (`str`): its address, for the message.
        """
        self._check_kind(place, list(files), where)
        loose = [path for path in files if path.endswith(_DATA) and not path.endswith(_NO_DATA)]
        if loose and not (self.configs or self.unread):
            raise ACTError(
                f"{where!r} holds data that its card does not name ({loose[0]!r}); a configuration beside it would "
                "hide it from load_dataset. Give the address of another data set"
            )
        others = [split for split in self.configs.get(place.config, {}) if split != place.split]
        if others and self._columns(place.config) != _columns_of(features):
            raise ACTError(
                f"{where!r} has in the configuration {place.config!r} also the split {others[0]!r}, whose columns are "
                "others or not known, and all splits must have the same; take another configuration, as in "
                "hf://user/name:act"
            )

    def _check_kind(self, place: Place, files: list[str], where: str) -> None:
        """`load_dataset` reads all configurations of a data set as it reads the first: parquet, or something else."""
        others = {
            config: sorted(_matching(files, [one for split, many in splits.items() for one in many]))
            for config, splits in self.configs.items()
            if config != place.config
        }
        strange = {config: path for config, paths in others.items() for path in paths if not path.endswith(_READ)}
        strange |= dict.fromkeys(self.unread, "not named in the card")
        for config, what in strange.items():
            raise ACTError(
                f"{where!r} has a configuration {config!r} of other files than parquet ({what}), and load_dataset "
                "would read it no more once there is one of parquet; give the address of another data set"
            )

    def _columns(self, config: str) -> Any:
        info = self.infos.get(config)
        return None if info is None else _columns_of(info.features)

    def replaced(self, place: Place, files: Iterable[str]) -> set[str]:
        """The files that make up the split now, and belong to no other."""
        names = list(files)
        mine = _matching(names, [*self.configs.get(place.config, {}).get(place.split, []), place.pattern])
        others = [
            pattern
            for config, splits in self.configs.items()
            for split, patterns in splits.items()
            if (config, split) != (place.config, place.split)
            for pattern in patterns
        ]
        return {path for path in mine - _matching(names, others) if path.endswith(_SHARD)}

    def files_of_others(self, place: Place, files: Iterable[str]) -> set[str]:
        """The files of the configuration's other splits."""
        splits = self.configs.get(place.config, {})
        return _matching(files, [one for split, many in splits.items() if split != place.split for one in many])

    def with_rows(self, place: Place, dataset: Dataset, shards: Mapping[str, int], old: Mapping[str, int]) -> Metadata:
        """
        `configs` and `dataset_info` of the card as they must be once the split is there.

        `push_to_hub` leaves the features of a configuration as they were when columns are added to it, and
        `load_dataset` then fails.

        Args:
            place ([`Place`]): where the split lies.
            dataset (`Dataset`): its rows.
            shards (mapping of `str` to `int`): its files and their sizes.
            old (mapping of `str` to `int`): the files that remain of the configuration's other splits, and their
                sizes.
        """
        from datasets.info import DatasetInfosDict
        from datasets.utils.metadata import MetadataConfigs

        card = _card_data(self.metadata)
        DatasetInfosDict({place.config: self._info(place, dataset, shards, old)}).to_dataset_card_data(card)
        known = MetadataConfigs.from_dataset_card_data(card)
        entries = {name: _entry(splits) for name, splits in self.configs.items() if name not in known}
        # What else the entry says, such as separators or features, was said of the files as they were.
        entry = {"default": True} if known.get(place.config, {}).get("default") else {}
        entries[place.config] = entry | _entry({**self.configs.get(place.config, {}), place.split: [place.pattern]})
        MetadataConfigs(entries).to_dataset_card_data(card)
        return {"configs": card["configs"], "dataset_info": card["dataset_info"]}

    def _info(self, place: Place, dataset: Dataset, shards: Mapping[str, int], old: Mapping[str, int]) -> Any:
        from datasets import DatasetInfo
        from datasets.splits import SplitDict, SplitInfo

        known = self.infos.get(place.config)
        there = self.configs.get(place.config, {})
        splits = SplitDict()
        for name, split in ((known and known.splits) or {}).items():
            if name in there and name != place.split:
                splits.add(split)
        size = sum(shards.values())
        splits.add(SplitInfo(name=place.split, num_bytes=size, num_examples=len(dataset)))
        return DatasetInfo(
            features=dataset.features,
            splits=splits,
            download_size=size + sum(old.values()),
            dataset_size=sum(split.num_bytes or 0 for split in splits.values()),
        )


def _card_data(metadata: Metadata) -> Any:
    """The part of a card's metadata that `datasets` reads and writes, in its own hands."""
    import copy

    from huggingface_hub import DatasetCardData

    parts = {name: copy.deepcopy(metadata[name]) for name in ("configs", "dataset_info") if metadata.get(name)}
    return DatasetCardData(**parts)


def _entry(splits: Mapping[str, list[str]]) -> Metadata:
    files = [
        {"split": split, "path": patterns[0] if len(patterns) == 1 else list(patterns)}
        for split, patterns in splits.items()
    ]
    return {"data_files": files}


def _columns_of(features: Features | None) -> Any:
    """Features as the card writes them: what can be compared with what it says."""
    from datasets import DatasetInfo
    from datasets.info import DatasetInfosDict

    if features is None:
        return None
    card = _card_data({})
    DatasetInfosDict({DEFAULT: DatasetInfo(features=features)}).to_dataset_card_data(card)
    return card["dataset_info"]["features"]


def _matching(paths: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """The paths that any of the card's patterns means."""
    from fsspec.utils import glob_translate

    ways = [re.compile(glob_translate(str(PurePosixPath(pattern)))) for pattern in patterns]
    return {path for path in paths if any(way.fullmatch(path) for way in ways)}
