"""emotion: tweets, four emotions; GPT-4 (12-shot) labels the official test split."""

from bench_critics import SENTENCES
from paper.data import Source
from paper.features import Cache
from paper.protocol import CHOSEN_ON, Paper, Protocol, Recipe, Rows
from paper.recorded import text_rows


OTHERS = (("gpt-4", "zero_shot"), ("gpt-3.5-turbo", "12_shot"), ("gpt-3.5-turbo", "zero_shot"))


def load(source: Source, cache: Cache) -> Rows:
    return text_rows(
        source, cache, "emotion", annotator=("gpt-4", "12_shot"), others=OTHERS, sentences_of=SENTENCES["emotion"]
    )


PROTOCOL = Protocol(
    name="emotion",
    pool="1,421 tweets, TweetEval's test split",
    annotator="GPT-4, 12-shot (recorded)",
    critic="panel of GPT-4 zero-shot and GPT-3.5 twice (recorded), MiniLM's likelihood, out of fold; fused",
    measured="3,631 tweets, TweetEval's train and validation splits",
    backbone="MiniLM (frozen), and a network with 512 hidden units on its vectors",
    paper=Paper(81.82, 78.96, 79.87, 81.44, 81.41, share=17.98),
    recipe=Recipe(epochs=10, rate=3e-4),
    load=load,
    fused=("panel", "minilm likelihood"),
    chosen_on=CHOSEN_ON,
)
