"""
The openai package's own client in an async loop with a semaphore: a chat completion of a label for every text.

    python benchmarks/peers/openai_loop.py --url URL --input FILE --in-flight 64
"""

import argparse
import asyncio

from job import Job
from openai import AsyncOpenAI


async def label_all(job: Job) -> list[str | None]:
    system = f"{job.instruction}\nLabels: {', '.join(job.labels)}\nReply with one label and nothing else."

    async def label(text: str) -> str | None:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        async with gate:
            reply = await client.chat.completions.create(
                model="m", messages=messages, max_tokens=8, temperature=0.0, timeout=60
            )
        return reply.choices[0].message.content

    gate = asyncio.Semaphore(job.in_flight)
    async with AsyncOpenAI(base_url=job.url, api_key="none") as client:
        return await asyncio.gather(*map(label, job.texts))


def main() -> None:
    job = Job.of(argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    with job.timed("openai"):
        labels = asyncio.run(label_all(job))
    job.done(labels)


if __name__ == "__main__":
    main()
