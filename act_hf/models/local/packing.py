"""
The log-probability of many continuations of many prompts, in one forward pass.

They are laid out as one sequence, and the attention mask lets every token see what it would see alone. Continuations
that begin alike are read as one until they part. Where a model cannot be packed so, [`plain_scores`] gives the same by
as many passes as it takes.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch


@dataclass(frozen=True)
class Tree:
    """The end of a prompt and the continuations that branch off it. Tokens only; the shared prefix is elsewhere."""

    prompt: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]

    @property
    def depth(self) -> int:
        """Tokens from the first to the end of the longest branch."""
        return len(self.prompt) + max(len(branch) for branch in self.branches)

    @cached_property
    def stems(self) -> list[tuple[int, ...]]:
        """Every beginning of a branch that has to be read, parents first. A branch's last token is only predicted."""
        return list(dict.fromkeys(branch[:end] for branch in self.branches for end in range(1, len(branch))))

    def __len__(self) -> int:
        return len(self.prompt) + len(self.stems)


def packs(trees: list[tuple[int, Tree]], tokens: int) -> Iterator[list[tuple[int, Tree]]]:
    """Neighbours in length together, up to `tokens` tokens. A tree longer than that goes alone."""
    pack: list[tuple[int, Tree]] = []
    size = 0
    for item in sorted(trees, key=lambda item: len(item[1])):
        if pack and size + len(item[1]) > tokens:
            yield pack
            pack, size = [], 0
        pack.append(item)
        size += len(item[1])
    if pack:
        yield pack


@dataclass
class Layout:
    """Where each token of a pack of trees goes: its position, after whom it comes, and which logits predict it."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)  # the token before it, -1 for the shared prefix
    read_at: list[int] = field(default_factory=list)
    step_rows: list[int] = field(default_factory=list)
    step_tokens: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, trees: Sequence[Tree], *, start: int) -> Layout:
        """The layout of `trees` after a shared prefix whose next position is `start`."""
        layout = cls()
        for tree in trees:
            end = -1
            for offset, token in enumerate(tree.prompt):
                end = layout._add(token, start + offset, end)
            places: dict[tuple[int, ...], int] = {(): end}
            for stem in tree.stems:
                position = start + len(tree.prompt) + len(stem) - 1
                places[stem] = layout._add(stem[-1], position, places[stem[:-1]])
            rows = {stem: len(layout.read_at) + row for row, stem in enumerate(places)}
            layout.read_at += places.values()
            for branch in tree.branches:
                layout.step_rows += [rows[branch[:length]] for length in range(len(branch))]
                layout.step_tokens += branch
        return layout

    def _add(self, token: int, position: int, parent: int) -> int:
        self.ids.append(token)
        self.positions.append(position)
        self.parents.append(parent)
        return len(self.ids) - 1

    def mask(self, prefix: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """`[1, 1, tokens, prefix + tokens]`, 0 where a token is seen and the most negative number where not."""
        import torch

        sees = np.zeros((len(self.ids), prefix + len(self.ids)), dtype=np.bool_)
        sees[:, :prefix] = True
        for token, parent in enumerate(self.parents):
            if parent >= 0:
                sees[token] = sees[parent]
            sees[token, prefix + token] = True
        hidden = torch.zeros(sees.shape, dtype=dtype, device=device)
        hidden.masked_fill_(~torch.from_numpy(sees).to(device), torch.finfo(dtype).min)
        return hidden[None, None]


def packed_scores(model: Any, cache: Any, trees: Sequence[Tree], *, seen: int, start: int) -> list[list[float]]:
    """
    Scores several trees in one forward pass over one sequence, without padding and without copying what is shared.

    Every token sees the cache, its own prompt and its own branch, by the attention mask, at the position that it would
    have alone. The cache is left longer by the tokens read, which are [`tokens_read`].

    Args:
        model: a causal language model whose attention follows the mask and whose positions are told.
        cache: the keys and values of what all trees share.
        trees (sequence of [`Tree`]): what follows it.
        seen (`int`): tokens in the cache.
        start (`int`): position of the first token after it. That is `seen`, but for models that number an image in
            rows and columns.

    Returns:
        `list` of `list` of `float`: the log-probability of each branch of each tree.
    """
    import torch

    layout = Layout.of(trees, start=start)
    device = model.device
    with torch.inference_mode():
        logits = model(
            input_ids=torch.tensor([layout.ids], device=device),
            position_ids=torch.tensor([layout.positions], device=device),
            attention_mask=layout.mask(seen, model.dtype, device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=torch.tensor(layout.read_at, device=device),
        ).logits[0]
        rows = torch.tensor(layout.step_rows, device=device)
        tokens = torch.tensor(layout.step_tokens, device=device)
        # Picking before normalising: a table of log-probabilities for every step would be steps x vocabulary.
        normaliser = torch.logsumexp(logits.float(), dim=-1)
        steps = iter((logits[rows, tokens].float() - normaliser[rows]).tolist())
    return [[sum(next(steps) for _ in branch) for branch in tree.branches] for tree in trees]


def tokens_read(trees: Sequence[Tree]) -> int:
    """How many tokens [`packed_scores`] reads."""
    return sum(len(tree) for tree in trees)


def plain_scores(
    model: Any, inputs: Mapping[str, Any], branches: Sequence[tuple[int, ...]]
) -> tuple[list[float], int]:
    """
    Scores continuations by plain forward passes, as many as there are different beginnings: slow, and right for every
    architecture.

    Args:
        model: a causal language model.
        inputs (`dict`): what the model reads of one prompt: `input_ids` `[1, length]`, and what comes with an image.
        branches (sequence of tuples of `int`): the continuations.

    Returns:
        `tuple`: the log-probability of each continuation, and the tokens read.
    """
    import torch

    can_keep = "logits_to_keep" in inspect.signature(model.forward).parameters
    steps = {}
    for stem in dict.fromkeys(branch[:-1] for branch in branches):
        kept = {"logits_to_keep": len(stem) + 1} if can_keep else {}
        with torch.inference_mode():
            logits = model(**_continued(inputs, stem), use_cache=False, **kept).logits[0, -1 - len(stem) :]
            steps[stem] = logits.float().log_softmax(dim=-1)
    scores = [sum(steps[branch[:-1]][i, token].item() for i, token in enumerate(branch)) for branch in branches]
    return scores, sum(inputs["input_ids"].shape[1] + len(stem) for stem in steps)


def _continued(inputs: Mapping[str, Any], tokens: tuple[int, ...]) -> dict[str, Any]:
    """The inputs with `tokens` after the prompt. What else there is for every token continues as it ended: as text."""
    import torch

    ids = inputs["input_ids"]
    longer = dict(inputs)
    for name, values in inputs.items():
        if tuple(values.shape[:2]) == tuple(ids.shape) and not name.startswith("pixel"):
            longer[name] = torch.cat([values, *[values[:, -1:]] * len(tokens)], dim=1)
    longer["input_ids"] = torch.cat([ids, ids.new_tensor([tokens])], dim=1) if tokens else ids
    return longer
