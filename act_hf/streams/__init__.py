"""Streams: rows that do not fit into memory, stage by stage from and to folders of parquet shards."""

from act_hf.streams.reading import read_stream
from act_hf.streams.stages import annotate_stream, criticize_stream, sample_stream


__all__ = ["annotate_stream", "criticize_stream", "read_stream", "sample_stream"]
