"""
`vllm` as far as a launcher sees it: `vllm serve MODEL --host H --port P` loads for a while, listens, and answers as
[`support.server`] does to those who have the key in `VLLM_API_KEY`. Like the real one it has a worker beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from support.server import Server


def install(folder: Path) -> Path:
    """Makes the folder one with an executable `vllm` in it, for PATH."""
    folder.mkdir()
    program = folder / "vllm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m support.vllm "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return folder


async def _serve(server: Server) -> None:
    await server.start()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--host", required=True, choices=["127.0.0.1"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--end", type=int, help="Ends with this status instead of listening.")
    parser.add_argument("--stuck", action="store_true", help="Never listens.")
    given = parser.parse_args()
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    if given.log:
        given.log.write_text(json.dumps({"port": given.port, "pids": [os.getpid(), worker.pid], "model": given.model}))
    if given.end is not None:
        worker.kill()
        sys.exit(given.end)
    time.sleep(600 if given.stuck else 0.3)
    asyncio.run(_serve(Server(port=given.port, model=given.model, key=os.environ["VLLM_API_KEY"])))


if __name__ == "__main__":
    main()
