"""What the card of a trained model says: what it learned from, and how right it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from act_hf.hub.address import is_address
from act_hf.hub.dataset_card import PROJECT, TAGS
from act_hf.hub.markdown import escaped, table
from act_hf.report.facts import METHODS, interval, percent


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from act_hf.hub.address import Address

_EMBEDDED = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
_MODELS = {"annotate": "machine labels by", "criticize": "critic"}
_HAND_MADE = "evaluation"
"""What the results call rows that are not on the Hub."""


def model_section(facts: Mapping[str, Any], address: Address, dataset: str | None) -> str:
    """
    The section of a model's card.

    Args:
        facts (mapping): see [`act_hf.trained.training_facts`]; none of it is trusted.
        address ([`Address`]): of the model.
        dataset (`str`, *optional*): the id of the data set it was trained on, on the Hub.
    """
    lines = ["## What this model was trained on", "", f"Trained with [act_hf]({PROJECT}).", ""]
    lines += table(_facts(facts, dataset))
    if _simulated(facts) and facts.get("mode") != "machine":
        lines += ["", "The human labels were **simulated** from a column of true labels: no person looked at a row."]
    task = category(facts)
    if task != "visual-question-answering":
        use = f'pipeline("{task}", model="{address.id}")'
        lines += ["", "```python", "from transformers import pipeline", "", f"classify = {use}", "```"]
    return "\n".join(lines)


def model_metadata(known: Mapping[str, Any], facts: Mapping[str, Any], address: Address, dataset: str | None) -> Any:
    """
    The entries of the card's YAML: those that are missing, and the results.

    The form is `model-index`. The newer `.eval_results/` is for benchmarks that the Hub has registered.

    Args:
        known (mapping): what is there.
        facts (mapping): see [`act_hf.trained.training_facts`].
        address ([`Address`]): of the model.
        dataset (`str`, *optional*): the id of the data set it was trained on, on the Hub.
    """
    base = _EMBEDDED.get(str(facts.get("base")), str(facts.get("base")))
    found: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": category(facts)}
    found |= {"base_model": base} if is_address(base) else {}
    missing = {name: value for name, value in found.items() if not known.get(name)}
    lists = {"tags": [TAGS[0]], "datasets": [dataset] if dataset else [], "metrics": ["accuracy"]}
    lists |= {} if facts.get("evaluations") else {"metrics": []}
    joined = {name: _joined(known.get(name), values) for name, values in lists.items() if values}
    results = _results(facts)
    if results:
        joined["model-index"] = _index(known.get("model-index"), address.id.partition("/")[2], results)
    return missing | joined


def category(facts: Mapping[str, Any]) -> str:
    """What the Hub calls such a task."""
    if not facts.get("image"):
        return "text-classification"
    return "visual-question-answering" if facts.get("text") else "image-classification"


def _joined(known: Any, ours: list[str]) -> list[Any]:
    there = known if isinstance(known, list) else [known] if known else []
    return [*there, *(value for value in ours if value not in there)]


def _facts(facts: Mapping[str, Any], dataset: str | None) -> Iterator[tuple[str, str]]:
    mode, human = facts.get("mode"), facts.get("human")
    reviewed = "" if human is None else f", {human} of them with a human label"
    options = {name: facts.get(name) for name in ("seed", "power", "soft") if facts.get(name) is not None}
    versions = facts.get("versions") or {}
    known = {
        "base": facts.get("base"),
        "labels it learned from": METHODS.get(str(mode), mode),
        "rows": None if facts.get("rows") is None else f"{facts['rows']}{reviewed}",
        "classes": ", ".join(map(str, facts.get("labels") or ())),
        "options": ", ".join(f"{name} {value}" for name, value in options.items()),
    }
    yield from ((name, escaped(value)) for name, value in known.items() if value)
    if dataset is not None:
        yield "data set", f"[{escaped(dataset)}](https://huggingface.co/datasets/{dataset})"
    for record in facts.get("records") or ():
        if record.get("stage") in _MODELS:
            by = f"{record.get('model')}, strategy {record.get('strategy')}"
            yield _MODELS[record["stage"]], escaped(by)
    for one in facts.get("evaluations") or ():
        yield f"accuracy on {escaped(one.get('dataset'))}", _accuracy(one)
    if versions:
        yield "made with", ", ".join(escaped(f"{name} {number}") for name, number in versions.items())


def _accuracy(one: Mapping[str, Any]) -> str:
    from act_hf.estimate import wilson

    value, rows = float(one["value"]), int(one["rows"])
    return f"{percent(value)} (95 % interval {interval(*wilson(round(value * rows), rows))}, {rows:,} rows)"


def _simulated(facts: Mapping[str, Any]) -> bool:
    return any(record.get("stage") == "review" and record.get("simulated") for record in facts.get("records") or ())


def _results(facts: Mapping[str, Any]) -> list[Any]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=category(facts),
            dataset_type=str(one["dataset"]) if one.get("on_hub") else _HAND_MADE,
            dataset_name=str(one["dataset"]),
            dataset_config=one.get("config"),
            dataset_split=one.get("split"),
            dataset_revision=one.get("revision"),
            metric_type="accuracy",
            metric_name="Accuracy",
            metric_value=round(float(one["value"]), 6),
        )
        for one in facts.get("evaluations") or ()
    ]


def _index(known: Any, name: str, results: list[Any]) -> list[Any]:
    """The results beside those of others; ours on the same rows are replaced."""
    from huggingface_hub.repocard_data import eval_results_to_model_index

    ours: Any = eval_results_to_model_index(name, results)[0]["results"]
    entries: list[Any] = [dict(entry) for entry in known] if isinstance(known, list) and known else [{"name": name}]
    kept = [result for result in entries[0].get("results") or () if not any(_same(result, one) for one in ours)]
    entries[0]["results"] = [*kept, *ours]
    return entries


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    def rows(result: Mapping[str, Any]) -> tuple[Any, ...]:
        about = result.get("dataset") or {}
        kinds = [metric.get("type") for metric in result.get("metrics") or ()]
        return (*(about.get(part) for part in ("type", "name", "config", "split")), kinds)

    return rows(one) == rows(other)
