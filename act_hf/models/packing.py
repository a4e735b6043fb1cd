"""Many prompts with many continuations each, laid out as one sequence that one forward pass scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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

    def __len__(self) -> int:
        # A branch's last token is predicted, never read.
        return len(self.prompt) + sum(len(branch) - 1 for branch in self.branches)


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
    """Where each token of a pack of trees goes: its position, whom it sees, and which logits predict it."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    tree_of: list[int] = field(default_factory=list)
    branch_of: list[int] = field(default_factory=list)  # 0 is the prompt
    read_at: list[int] = field(default_factory=list)
    step_rows: list[int] = field(default_factory=list)
    step_tokens: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, trees: Sequence[Tree], *, start: int) -> Layout:
        """The layout of `trees` after a shared prefix of `start` tokens."""
        layout = cls()
        for number, tree in enumerate(trees):
            layout._add(tree.prompt, start, number, 0)
            end = layout._read_last()
            for branch_number, branch in enumerate(tree.branches, start=1):
                row = end
                layout._step(row, branch[0])
                for offset, (token, predicted) in enumerate(pairwise(branch)):
                    layout._add((token,), start + len(tree.prompt) + offset, number, branch_number)
                    layout._step(layout._read_last(), predicted)
        return layout

    def _add(self, tokens: tuple[int, ...], position: int, tree: int, branch: int) -> None:
        self.ids.extend(tokens)
        self.positions.extend(range(position, position + len(tokens)))
        self.tree_of.extend([tree] * len(tokens))
        self.branch_of.extend([branch] * len(tokens))

    def _read_last(self) -> int:
        self.read_at.append(len(self.ids) - 1)
        return len(self.read_at) - 1

    def _step(self, row: int, token: int) -> None:
        self.step_rows.append(row)
        self.step_tokens.append(token)

    def mask(self, prefix: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """`[1, 1, tokens, prefix + tokens]`, 0 where a token is seen and the most negative number where not."""
        import torch

        tree = torch.tensor(self.tree_of, device=device)
        branch = torch.tensor(self.branch_of, device=device)
        order = torch.arange(len(self.ids), device=device)
        sees = (tree[:, None] == tree[None]) & ((branch[None] == 0) | (branch[:, None] == branch[None]))
        sees &= order[:, None] >= order[None]
        sees = torch.cat([torch.ones(len(self.ids), prefix, dtype=torch.bool, device=device), sees], dim=1)
        hidden = torch.zeros(sees.shape, dtype=dtype, device=device).masked_fill(~sees, torch.finfo(dtype).min)
        return hidden[None, None]
