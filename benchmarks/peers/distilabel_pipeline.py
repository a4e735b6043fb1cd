"""
distilabel's own way: a pipeline with its task for text classification, behind its client for OpenAI-style servers.

    python benchmarks/peers/distilabel_pipeline.py --url URL --input FILE --in-flight 64

A step has as many requests in flight as its batch has rows. Its JSON schema for replies needs a package more
(instructor) and sends more, so it is switched off; the prompt asks for JSON all the same.
"""

import argparse
import logging
import warnings

from job import Job


warnings.filterwarnings("ignore")

from distilabel.models import OpenAILLM  # noqa: E402
from distilabel.pipeline import Pipeline  # noqa: E402
from distilabel.steps import LoadDataFromDicts  # noqa: E402
from distilabel.steps.tasks import TextClassification  # noqa: E402


def label_all(job: Job) -> list[str | None]:
    with Pipeline(name="labels") as pipeline:
        rows = LoadDataFromDicts(data=[{"text": text} for text in job.texts], batch_size=job.in_flight)
        llm = OpenAILLM(
            model="m",
            base_url=job.url,
            api_key="none",
            generation_kwargs={"temperature": 0.0, "max_new_tokens": 32},
        )
        task = TextClassification(
            llm=llm,
            available_labels=job.labels,
            context=job.instruction,
            input_batch_size=job.in_flight,
            use_default_structured_output=False,
        )
        rows >> task
    found = pipeline.run(use_cache=False)["default"]["train"]
    return list(found["labels"])


def main() -> None:
    job = Job.of(argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    logging.disable(logging.WARNING)
    with job.timed("distilabel", "openai"):
        labels = label_all(job)
    job.done(labels)


if __name__ == "__main__":
    main()
