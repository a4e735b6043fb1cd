"""The table of docs/abilities.md: every cell is run, and says what happened."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.abilities import STRATEGIES, TASKS, WORKS, page, table


@pytest.fixture(scope="module")
def cells() -> dict[str, dict[str, dict[str, str]]]:
    return table()


def test_the_page_says_what_happens(cells):
    written = (Path(__file__).parent.parent / "docs" / "abilities.md").read_text(encoding="utf-8")
    assert written == page(cells), "docs/abilities.md: PYTHONPATH=tests python -m support.abilities writes it anew"


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("model", ["Endpoint, llama.cpp or vLLM", "LocalModel"])
def test_a_model_that_can_do_all_does_all(cells, kind, strategy, model):
    assert cells[kind][strategy][model] == WORKS


def test_a_refusal_says_what_is_needed(cells):
    said = {cell for kind in cells.values() for strategy in kind.values() for cell in strategy.values()}
    assert all("needs a model that can" in cell or "takes no instructions" in cell for cell in said - {WORKS})
