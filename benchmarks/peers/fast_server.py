"""
A chat server that costs next to nothing, so that what is measured are the clients: it reads no JSON, and has its few
answers ready.

    python benchmarks/peers/fast_server.py --latency 0.2 --spread 0.1 --words anger,joy,optimism,sadness

Prints its address. An answer takes `latency` seconds, `spread` more or less. Which of the words it says hangs on the
request's bytes; with log-probabilities where they are asked for, as JSON where the prompt speaks of that.
`GET /stats` says what it has seen since it was last asked that, `GET /last` repeats the last request's body.
"""

import argparse
import asyncio
import json
import random
import re
import time
import zlib


LISTED = 20
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LOGPROBS = re.compile(rb'"logprobs": ?true')
_JSON = re.compile(rb"JSON format")


def completion(words: list[str], said: int, kind: str) -> bytes:
    """A chat completion, as long as those of real servers are."""
    word = words[said]
    content = json.dumps({"labels": word}) if kind == "json" else word
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    if kind == "logprobs":
        others = [words[(said + i) % len(words)] for i in range(1, len(words))]
        tokens = [word, *others, *(f" other{i}" for i in range(LISTED))][:LISTED]
        # Sixty percent, and of what is left always half: the twentieth is one in a million.
        top = [
            {"token": token, "logprob": -0.51 - 0.69 * i - 0.3 * (i > 0), "bytes": list(token.encode())}
            for i, token in enumerate(tokens)
        ]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    usage = {"prompt_tokens": 70, "completion_tokens": 1, "total_tokens": 71}
    whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return http(json.dumps({**whole, "usage": usage}).encode())


def http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Told:
    """What there is to say, and what was asked."""

    def __init__(self, words: list[str], latency: float, spread: float) -> None:
        self.latency, self.spread = latency, spread
        self.answers = {
            kind: [completion(words, said, kind) for said in range(len(words))]
            for kind in ("word", "json", "logprobs")
        }
        self.last = b""
        self.in_flight = 0
        self._random = random.Random(0)
        self.forget()

    def forget(self) -> None:
        self.seen = self.connections = self.most_in_flight = 0
        self.first_at = self.last_at = 0.0
        self.cpu = time.process_time()

    def answer(self, body: bytes) -> bytes:
        self.last = body
        kind = "logprobs" if _LOGPROBS.search(body) else "json" if _JSON.search(body) else "word"
        answers = self.answers[kind]
        return answers[zlib.crc32(body) % len(answers)]

    def begin(self) -> float:
        """Counts a request, and says how long it takes."""
        self.first_at = self.first_at or time.perf_counter()
        self.seen += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return self.latency + (self._random.uniform(-self.spread, self.spread) if self.spread else 0.0)

    def end(self) -> None:
        self.in_flight -= 1
        self.last_at = time.perf_counter()

    def stats(self) -> dict:
        """What was asked, from the first request to the last answer."""
        took = {"seconds": self.last_at - self.first_at, "cpu_s": time.process_time() - self.cpu}
        return {"seen": self.seen, "connections": self.connections, "most_in_flight": self.most_in_flight, **took}


class Connection(asyncio.Protocol):
    """One client's connection: requests one after the other."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.read = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.told.connections += 1

    def data_received(self, data: bytes) -> None:
        self.read += data
        end = self.read.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = self.read[:end]
        length = _LENGTH.search(head)
        whole = end + (int(length[1]) if length else 0)
        if len(self.read) < whole:
            return
        body, self.read = self.read[end:whole], self.read[whole:]
        if head.startswith(b"GET"):
            self.transport.write(http(self.told.last if b"/last" in head else json.dumps(self.told.stats()).encode()))
            if b"/stats" in head:
                self.told.forget()
            return
        answer = self.told.answer(body)
        seconds = self.told.begin()
        if seconds > 0:
            asyncio.get_running_loop().call_later(seconds, self.reply, answer)
        else:
            self.reply(answer)

    def reply(self, answer: bytes) -> None:
        self.told.end()
        if not self.transport.is_closing():
            self.transport.write(answer)


async def serve(told: Told) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(told), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds an answer takes")
    parser.add_argument("--spread", type=float, default=0.0, help="seconds it can take more or less")
    parser.add_argument("--words", default="anger,joy,optimism,sadness")
    given = parser.parse_args()
    asyncio.run(serve(Told(given.words.split(","), given.latency, given.spread)))


if __name__ == "__main__":
    main()
