"""The review page as a Space runs it: `python app.py`, with what its settings say in the environment."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any


APP = Path(__file__).parents[2] / "hub_scripts" / "space" / "app.py"


class Space:
    """
    A Space that is running. Also a context manager that stops it as the Hub does.

    Args:
        folder (`Path`): its disk.
        settings (`dict`): its variables and secrets.
    """

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        env |= {"GRADIO_SERVER_PORT": str(port), "PYTHONPATH": str(APP.parents[2]), "HF_HOME": str(folder / "hf")}
        env |= {"TMPDIR": str(folder), "ACT_HF_FOLDER": str(folder), "HF_HUB_DISABLE_XET": "1"} | settings
        self.log = folder / "space.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, str(APP)], env=env, cwd=folder, stdout=log, stderr=log)

    def wait(self) -> Space:
        """Until it answers."""
        while not self._up():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        components = self._get("/config")["components"]
        (self.component,) = [one["id"] for one in components if one["props"].get("server_fns")]
        return self

    def ended(self) -> tuple[int, str]:
        """Its status and the last thing it said, when it ends by itself."""
        return self.process.wait(), self.log.read_text().strip().splitlines()[-1]

    def ask(self, do: str, person: str = "ann", **more: Any) -> dict[str, Any]:
        """What an open page asks for `person`."""
        asked = {"do": do, "person": person, "page": f"tab of {person}", "key": uuid.uuid4().hex, **more}
        given = {"session_hash": person, "component_id": self.component, "fn_name": "ask", "data": asked}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self.url}/gradio_api/component_server", json.dumps(given).encode(), headers
        )
        with urllib.request.urlopen(request) as answer:
            found: dict[str, Any] = json.load(answer)
        assert "error" not in found, found
        return found

    def answer(self, count: int, person: str = "ann", label: int = 1) -> dict[str, int]:
        """Gives `count` answers; which row got which label."""
        given = {}
        row = self.ask("next", person)["row"]
        for _ in range(count):
            given[row["id"]] = label
            row = self.ask("label", person, row=row["id"], label=label, comment="", seconds=1)["row"]
        return given

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """As the Hub does; whether all went well."""
        self.process.send_signal(sign)
        return self.process.wait()

    def __enter__(self) -> Space:
        return self.wait()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def _up(self) -> bool:
        try:
            self._get("/config")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + path) as answer:
            found: dict[str, Any] = json.load(answer)
        return found
