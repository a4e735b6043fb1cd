"""irony, the other way round: Claude 3.5 Sonnet labels, GPT-4o criticizes."""

from dataclasses import replace

from bench_critics import SENTENCES
from paper.data import Source
from paper.features import Cache
from paper.protocol import Rows
from paper.recorded import text_rows
from paper.sets import irony


GPT4O = (("gpt-4o", "coc_1shot"), ("gpt-4o", "goc_1shot"))


def load(source: Source, cache: Cache) -> Rows:
    annotator = ("claude-3-5-sonnet-20240620", "coc")
    return text_rows(source, cache, "irony", annotator=annotator, others=GPT4O, sentences_of=SENTENCES["irony"])


PROTOCOL = replace(
    irony.PROTOCOL,
    name="irony_claude",
    annotator="Claude 3.5 Sonnet, chain of contradiction (recorded)",
    critic="panel of GPT-4o with two prompts (recorded), MiniLM's likelihood, out of fold; fused",
    load=load,
    notes="Its labels are better (17.7 % wrong) than the paper's, at the paper's human share.",
)
