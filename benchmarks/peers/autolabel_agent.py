"""
autolabel's own way: a labelling agent with a classification task, on OpenAI's chat models.

    python benchmarks/peers/autolabel_agent.py --url URL --input FILE --in-flight 64

It sends one request at a time, whatever `--in-flight` says. To price a row it counts tokens with a table that tiktoken
downloads; here words are counted instead.
"""

import argparse
import os
import tempfile

import pandas as pd
import tiktoken
from job import Job


class Words:
    """In place of tiktoken's tables."""

    def encode(self, text: str) -> list[str]:
        return text.split()


def label_all(job: Job) -> list[str | None]:
    from autolabel import AutolabelDataset, LabelingAgent

    config = {
        "task_name": "labels",
        "task_type": "classification",
        "dataset": {"label_column": "label", "delimiter": ","},
        "model": {"provider": "openai", "name": "gpt-3.5-turbo"},
        "prompt": {
            "task_guidelines": job.instruction,
            "output_guidelines": "Reply with one label and nothing else.",
            "labels": job.labels,
            "example_template": "Text: {text}\nLabel: {label}",
        },
    }
    with job.timed("refuel-autolabel", "langchain", "openai"):
        agent = LabelingAgent(config=config, console_output=False)
        rows = AutolabelDataset(pd.DataFrame({"text": job.texts, "label": ""}), config=config)
        labelled = agent.run(rows, skip_eval=True)
    return list(labelled.df["label_label"])


def main() -> None:
    job = Job.of(argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_API_BASE": job.url}
    tiktoken.encoding_for_model = lambda name: Words()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where it puts its cache
        labels = label_all(job)
        os.chdir("/")
    job.done(labels)


if __name__ == "__main__":
    main()
