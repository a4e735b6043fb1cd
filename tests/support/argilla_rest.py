"""What people and other programs do on an Argilla server, over its REST interface and not over the SDK."""

from __future__ import annotations

import requests


class Rest:
    """
    Requests with one person's key.

    Args:
        url: of the server.
        key: of the one who asks.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.headers["X-Argilla-Api-Key"] = key

    def ask(self, method: str, path: str, **given):
        answer = self.session.request(method, f"{self.url}/api/v1/{path}", timeout=60, **given)
        assert answer.ok, f"{answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def dataset(self, name: str) -> dict:
        return next(found for found in self.ask("GET", "me/datasets")["items"] if found["name"] == name)

    def datasets(self) -> list[str]:
        return [found["name"] for found in self.ask("GET", "me/datasets")["items"]]

    def parts(self, name: str, kind: str) -> list[dict]:
        """`fields`, `questions` or `metadata-properties`."""
        items = self.ask("GET", f"datasets/{self.dataset(name)['id']}/{kind}")["items"]
        return sorted(items, key=lambda part: part["inserted_at"])

    def records(self, name: str) -> list[dict]:
        """As an owner sees them, with suggestions and everybody's responses, in the order of their coming."""
        path = f"datasets/{self.dataset(name)['id']}/records?include=responses&include=suggestions&limit=1000"
        first = self.ask("GET", path)
        found = first["items"]
        while len(found) < first["total"]:
            found += self.ask("GET", f"{path}&offset={len(found)}")["items"]
        return found

    def count(self, name: str) -> int:
        return self.ask("GET", f"datasets/{self.dataset(name)['id']}/records?limit=1")["total"]

    def ids(self, name: str) -> dict[str, str]:
        """The server's ids by `act_id`."""
        return {record["external_id"]: record["id"] for record in self.records(name)}

    def answer(self, record: str, label: str, *, status: str = "submitted", comment: str | None = None) -> None:
        values = {"label": {"value": label}} | ({"comment": {"value": comment}} if comment else {})
        self.ask("POST", f"records/{record}/responses", json={"values": values, "status": status})

    def discard(self, record: str) -> None:
        self.ask("POST", f"records/{record}/responses", json={"values": None, "status": "discarded"})

    def delete(self, record: str) -> None:
        self.ask("DELETE", f"records/{record}")
