"""
How quick is LocalModel? Against what else transformers has for scoring labels, with the same weights and prompts.

    python benchmarks/bench_local.py              # about 8 minutes on two idle cores
    python benchmarks/bench_local.py --rows 8     # to try it: prints, and saves nothing

The rows are those of the quickstart, the model is SmolLM2, and all take turns in one process:

- ours: `LocalModel` in float32 and in bfloat16;
- a forward per row: prompt and label eight times, as a padded batch;
- a forward per label: prompt and label, eight times a row;
- `pipeline("decision")`, which reads labels of one token only: it gets the same prompt with letters for labels, and so
  do we ("ours, letters"), to compare probabilities.

The two slow ones take only every fifth row. Times include everything from the messages to the probabilities.
"""

import argparse
import functools
import json
import os


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from machine import save_result
from transformers import AutoTokenizer, pipeline
from transformers.decision import DecisionConfig

from act_hf import Task, prompts
from act_hf.models.base import ChatRequest, ScoreRequest
from act_hf.models.embedded import smollm2_path
from act_hf.models.local import LocalModel
from act_hf.models.local.gguf import dequantised
from act_hf.quickstart import load_sample, sample_task


ROWS = 120
ROUNDS = 4
SLOW = 5  # the slow ones take one row of so many
SIZES = (64, 128, 256, 512, 1024, 2048)
LETTERS = list("ABCDEFGH")


def softmax(logprobs: list[tuple[float, ...]]) -> np.ndarray:
    values = np.array(logprobs)
    return np.exp(values - np.logaddexp.reduce(values, axis=1, keepdims=True))


def lettered(task: Task) -> Task:
    """The same task with letters for labels."""
    options = "\n".join(f"{letter}. {word}" for letter, word in zip(LETTERS, task.words, strict=True))
    return Task(
        labels=task.labels,
        words=LETTERS,
        text=task.text,
        instruction=f"{task.instruction}\n{options}",
        examples=task.examples,
    )


# The contenders: requests in, log-probabilities out


def ours(model: LocalModel) -> Callable[[list[ScoreRequest]], list]:
    def score(requests: list[ScoreRequest]) -> list:
        found = {i: answer for batch in model.answer(requests) for i, answer in batch.items()}
        return [found[i].logprobs for i in range(len(requests))]

    return score


def sequences(model: LocalModel, request: ScoreRequest) -> list[tuple[list[int], int]]:
    tokenizer = model._loaded.encoding.tokenizer
    prompt = tokenizer.apply_chat_template(list(request.messages), add_generation_prompt=True, return_dict=False)
    words = [tokenizer(word, add_special_tokens=False).input_ids for word in request.continuations]
    return [([*prompt, *word], len(word)) for word in words]


def of_word(logits: torch.Tensor, ids: list[int], length: int) -> float:
    steps = logits[-1 - length : -1].log_softmax(dim=-1)
    return sum(steps[i, token].item() for i, token in enumerate(ids[-length:]))


def forward_per_label(model: LocalModel) -> Callable[[list[ScoreRequest]], list]:
    def score(requests: list[ScoreRequest]) -> list:
        return [[one(ids, length) for ids, length in sequences(model, request)] for request in requests]

    @torch.inference_mode()
    def one(ids: list[int], length: int) -> float:
        logits = model._loaded.model(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=length + 1).logits
        return of_word(logits[0], ids, length)

    return score


def forward_per_row(model: LocalModel) -> Callable[[list[ScoreRequest]], list]:
    pad = model._loaded.pad

    @torch.inference_mode()
    def one(request: ScoreRequest) -> list[float]:
        rows = sequences(model, request)
        width = max(len(ids) for ids, _ in rows)
        keep = max(length for _, length in rows) + 1
        logits = model._loaded.model(
            input_ids=torch.tensor([[pad] * (width - len(ids)) + ids for ids, _ in rows]),
            attention_mask=torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids, _ in rows]),
            position_ids=torch.tensor([[0] * (width - len(ids)) + list(range(len(ids))) for ids, _ in rows]),
            use_cache=False,
            logits_to_keep=keep,
        ).logits
        return [of_word(values, ids, length) for values, (ids, length) in zip(logits, rows, strict=True)]

    return lambda requests: [one(request) for request in requests]


def decision(model: LocalModel, folder: Path, task: Task) -> Callable[[list[ScoreRequest]], list]:
    """`pipeline("decision")` with our prompt as its template."""
    marker = "WHERE THE ROW STANDS"
    prompt = model._loaded.encoding.render(prompts.label_request(task, {task.text: marker}, instructed=True).messages)
    before, after = prompt.split(marker)
    template = f"{{% raw %}}{before}{{% endraw %}}{{{{ state }}}}{{% raw %}}{after}{{% endraw %}}"
    decide = pipeline(
        "decision",
        model=model._loaded.model,
        tokenizer=AutoTokenizer.from_pretrained(folder),
        decision_config=DecisionConfig(chat_template=template),
    )
    questions = {"topic": {"type": "choice", "criteria": dict.fromkeys(task.labels)}}

    def score(requests: list[ScoreRequest]) -> list:
        asked = [{"state": request.messages[-1]["content"], "questions": questions} for request in requests]
        answers = [answer["topic"]["probabilities"] for answer in decide(asked)]
        return [[np.log(answer[label]) for label in task.labels] for answer in answers]

    return score


# What is measured


class Watched:
    """Time inside a model's forward passes."""

    def __init__(self, model: LocalModel) -> None:
        self.seconds = 0.0
        forward = model._loaded.model.forward

        @functools.wraps(forward)  # generate() reads its signature
        def timed(*args, **kwargs):
            start = time.perf_counter()
            try:
                return forward(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        model._loaded.model.forward = timed


def race(
    contenders: dict[str, Callable], requests: dict[str, list[ScoreRequest]], watched: dict[str, Watched]
) -> dict:
    """Everyone on the same rows in turns. Gives rows, seconds and log-probabilities."""
    result = {name: {"rows": [], "seconds": 0.0, "logprobs": []} for name in contenders}
    total = len(next(iter(requests.values())))
    for part in np.array_split(np.arange(total), ROUNDS):
        for name, score in contenders.items():
            rows = [int(row) for row in part if not name.startswith("a forward") or row % SLOW == 0]
            asked = [
                requests["letters" if name in ("ours, letters", "pipeline('decision')") else "words"][i] for i in rows
            ]
            start = time.perf_counter()
            result[name]["logprobs"] += score(asked) if asked else []
            result[name]["seconds"] += time.perf_counter() - start
            result[name]["rows"] += rows
    for name, watch in watched.items():
        result[name]["outside_forward"] = 1 - watch.seconds / result[name]["seconds"]
    return result


def differences(result: dict) -> dict:
    """Between the probabilities of those who were asked the same."""
    probs = {name: dict(zip(of["rows"], softmax(of["logprobs"]), strict=True)) for name, of in result.items()}

    def largest(a: str, b: str) -> float:
        return float(max(np.abs(probs[a][row] - probs[b][row]).max() for row in probs[b] if row in probs[a]))

    float32, bfloat16 = (np.array(list(probs[f"ours, {dtype}"].values())) for dtype in ("float32", "bfloat16"))
    return {
        "ours and a forward per row": largest("ours, float32", "a forward per row"),
        "ours and a forward per label": largest("ours, float32", "a forward per label"),
        "ours and pipeline('decision'), letters": largest("ours, letters", "pipeline('decision')"),
        "float32 and bfloat16": float(np.abs(float32 - bfloat16).max()),
        "float32 and bfloat16, mean": float(np.abs(float32 - bfloat16).mean()),
        "same label in float32 and bfloat16": float((float32.argmax(1) == bfloat16.argmax(1)).mean()),
    }


def sweep(models: dict[str, LocalModel], requests: list[ScoreRequest]) -> dict:
    """Rows a second by the size of a pack, all sizes in turns."""
    seconds = {name: dict.fromkeys(SIZES, 0.0) for name in models}
    for part in np.array_split(np.arange(len(requests)), 2):
        for size in SIZES:
            for name, model in models.items():
                model.batch_tokens = size
                start = time.perf_counter()
                ours(model)([requests[i] for i in part])
                seconds[name][size] += time.perf_counter() - start
    for model in models.values():
        model.batch_tokens = None
    return {name: {size: len(requests) / spent for size, spent in of.items()} for name, of in seconds.items()}


def chat(model: LocalModel, asked: list[ChatRequest]) -> dict:
    """Speed with the shared prefix and without it, batches in turns. The replies have to be the same."""
    loaded, limit = model._loaded, asked[0].max_tokens
    split = [loaded.encoding.split(request) for request in asked]
    prefix = split[0][0]
    seconds, replies = {"shared": 0.0, "whole": 0.0}, {"shared": [], "whole": []}
    for start in range(0, len(split), model.batch_size):
        rests = [rest for _, rest in split[start : start + model.batch_size]]
        for name, before, ends in (("shared", prefix, rests), ("whole", (), [prefix + rest for rest in rests])):
            began = time.perf_counter()
            replies[name] += loaded.generate(before, ends, limit)[0]
            seconds[name] += time.perf_counter() - began
    written = sum(count for _, count in replies["shared"])
    tokens = sum(len(before) + len(rest) for before, rest in split) + written
    return {
        "longest_reply": limit,
        "rows": len(asked),
        "prefix": len(prefix),
        "tokens_read_and_written": tokens,
        "tokens_written": written,
        "tokens_per_second": {name: tokens / spent for name, spent in seconds.items()},
        "rows_per_second": {name: len(asked) / spent for name, spent in seconds.items()},
        "same_replies": float(np.mean([a == b for a, b in zip(replies["shared"], replies["whole"], strict=True)])),
    }


def chats(task: Task, texts: list[str]) -> list[list[ChatRequest]]:
    """A word after eight examples, and some thoughts after an instruction."""
    labels = [prompts.label_request(task, {"text": text}, instructed=True).messages for text in texts]
    think = f"{task.instruction}\nLabels: {', '.join(task.words)}\nThink step by step in at most three sentences."
    thoughts = [({"role": "system", "content": think}, messages[-1]) for messages in labels]
    return [[ChatRequest(messages, 4) for messages in labels], [ChatRequest(messages, 48) for messages in thoughts]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    task = sample_task()
    texts = load_sample("pool")["text"][: options.rows]
    requests = {
        name: [prompts.label_request(of, {"text": text}, instructed=True) for text in texts]
        for name, of in (("words", task), ("letters", lettered(task)))
    }
    models = {
        dtype: LocalModel(smollm2_path(), dtype=dtype, device="cpu", threads=options.threads)
        for dtype in ("float32", "bfloat16")
    }
    letters = LocalModel(smollm2_path(), device="cpu", threads=options.threads)
    contenders = {
        "ours, float32": ours(models["float32"]),
        "ours, bfloat16": ours(models["bfloat16"]),
        "ours, letters": ours(letters),
        "pipeline('decision')": decision(letters, dequantised(smollm2_path(), torch.float32), lettered(task)),
        "a forward per row": forward_per_row(letters),
        "a forward per label": forward_per_label(letters),
    }
    for name, score in contenders.items():
        score(requests["letters" if "letters" in name or "decision" in name else "words"][:1])
    for model in (*models.values(), letters):
        model._loaded.prefixes.clear()  # everyone reads everything
    watched = {f"ours, {dtype}": Watched(model) for dtype, model in models.items()}
    result = race(contenders, requests, watched)
    speed = {name: len(of["rows"]) / of["seconds"] for name, of in result.items()}
    figures = {
        "threads": options.threads,
        "rows": {name: len(of["rows"]) for name, of in result.items()},
        "rows_per_second": speed,
        "ours_float32_is_times": {name: speed["ours, float32"] / other for name, other in speed.items()},
        "largest_difference_of_probabilities": differences(result),
        "outside_forward": {name: result[name]["outside_forward"] for name in watched},
        "batch_tokens": sweep(models, requests["words"][: len(texts) // 2]),
        "chat": [chat(models["float32"], asked) for asked in chats(task, texts[:32])],
    }
    if options.rows < ROWS:
        print(json.dumps(figures, indent=1))
    else:
        save_result("local", figures)


if __name__ == "__main__":
    main()
