"""
The least that a client can do: every request body sent with a semaphore, every reply read as JSON. Nothing is kept.

    python benchmarks/peers/http_loop.py aiohttp --url URL --input FILE --in-flight 64

`FILE` is JSON with the request bodies under `"bodies"`.
"""

import argparse
import asyncio

from job import Job


async def by_httpx2(job: Job) -> list[dict]:
    import httpx2

    async def post(body: dict) -> dict:
        async with gate:
            response = await client.post(address, json=body)
            response.raise_for_status()
            return response.json()

    gate, address = asyncio.Semaphore(job.in_flight), f"{job.url}/chat/completions"
    limits = httpx2.Limits(max_connections=job.in_flight, max_keepalive_connections=job.in_flight)
    async with httpx2.AsyncClient(limits=limits, timeout=60) as client:
        return await asyncio.gather(*map(post, job.bodies))


async def by_aiohttp(job: Job) -> list[dict]:
    import aiohttp

    async def post(body: dict) -> dict:
        async with gate, client.post(address, json=body) as response:
            response.raise_for_status()
            return await response.json()

    gate, address = asyncio.Semaphore(job.in_flight), f"{job.url}/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=job.in_flight)) as client:
        return await asyncio.gather(*map(post, job.bodies))


CLIENTS = {"httpx2": by_httpx2, "aiohttp": by_aiohttp}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("client", choices=CLIENTS)
    job = Job.of(parser)
    __import__(job.given.client)
    with job.timed(job.given.client):
        replies = asyncio.run(CLIENTS[job.given.client](job))
    job.done([reply["choices"][0]["message"]["content"] for reply in replies])


if __name__ == "__main__":
    main()
