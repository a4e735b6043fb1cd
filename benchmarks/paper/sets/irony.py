"""irony: tweets, ironic or not; GPT-4o labels the official test split, Claude 3.5 Sonnet criticizes."""

from bench_critics import SENTENCES
from paper.data import Source
from paper.features import Cache
from paper.protocol import CHOSEN_ON, Paper, Protocol, Recipe, Rows
from paper.recorded import text_rows


CLAUDE = tuple(("claude-3-5-sonnet-20240620", prompt) for prompt in ("io", "cot", "coc", "goc"))


def load(source: Source, cache: Cache) -> Rows:
    return text_rows(
        source, cache, "irony", annotator=("gpt-4o", "coc_1shot"), others=CLAUDE, sentences_of=SENTENCES["irony"]
    )


PROTOCOL = Protocol(
    name="irony",
    pool="784 tweets, TweetEval's test split",
    annotator="GPT-4o, chain of contradiction, 1-shot (recorded)",
    critic="panel of Claude 3.5 Sonnet with four prompts (recorded), MiniLM's likelihood, out of fold; fused",
    measured="3,817 tweets, TweetEval's train and validation splits",
    backbone="MiniLM (frozen), and a network with 512 hidden units on its vectors",
    paper=Paper(70.18, 60.71, 65.66, 68.49, 68.21, share=33.79),
    recipe=Recipe(),
    load=load,
    fused=("panel", "minilm likelihood"),
    chosen_on=CHOSEN_ON,
    notes="Of GPT-4o's two recorded prompts the one whose error rate (35.6 %) is nearer to the paper's human share.",
)
