"""
The paper's main table on real annotations: docs/results.md is made of this.

    python benchmarks/bench_paper.py                # everything; hours on two cores; goes on where it was
    python benchmarks/bench_paper.py --smoke        # one seed of a reduced version of each set; saves nothing
    python benchmarks/bench_paper.py --only emotion --arms human machine corrected --seeds 2
    python benchmarks/bench_paper.py --choose       # epochs and rate of each set again, on pool rows
    python benchmarks/bench_paper.py --docs         # tables and figures of docs/results.md from the JSON

A set's protocol is `paper/sets/SET.py`. A cell is one network: a set, an arm (`paper/arms.py`), a share of the paper's
human share, a seed. Each finished cell is a line of `results/paper/SET.jsonl` at once, and not done again unless the
protocol changes. The reviewer is simulated and always right. Rows and recorded answers come from `--data` (by default
`../shared/data` beside the project); without it stanford_cars, which has no recorded answers, comes from the Hub.
Vectors of frozen networks are kept in `--cache`.
"""

import argparse
import json
import os


os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from machine import RESULTS, save_result
from paper.arms import ARMS, cells_of
from paper.cells import Cell, CellFile, measured
from paper.choosing import choose
from paper.data import Source
from paper.features import Cache
from paper.judged import judged
from paper.problem import Problem, prepared
from paper.protocol import Protocol, Tuning
from paper.sets import PROTOCOLS


DATA = Path(__file__).parents[2] / "shared" / "data"
CACHE = Path(tempfile.gettempdir()) / "paper_cache"
SMOKE_ROWS, SMOKE_EPOCHS, SMOKE_CRITIC = 300, 2, "simulated 0.80"

_problem: Problem | None = None
"""A worker's own: made once, and not sent with every cell."""


def run(protocol: Protocol, source: Source, cache: Cache, wanted: list[Cell], jobs: int, out: Path) -> None:
    """Those cells of a set that are not there yet."""
    file = CellFile(out / f"{protocol.name}.jsonl", protocol.version())
    done = file.done()
    missing = [cell for cell in wanted if cell.key not in done]
    print(f"{protocol.name}: {len(wanted) - len(missing)} of {len(wanted)} cells are there", flush=True)
    if not missing:
        return
    file.clean()
    for number, cell in enumerate(_results(protocol, source, cache, missing, jobs), start=1):
        file.add(cell)
        print(
            f"{protocol.name} {number}/{len(missing)}: {cell['arm']} at {cell['share']}, seed {cell['seed']}", end=" "
        )
        print(f"{cell['accuracy']:.2f} % ({cell['seconds']} s)", flush=True)


def chosen(protocol: Protocol, arms: list[str], shares: list[float] | None, seeds: int) -> list[Cell]:
    """The cells of a set that were asked for."""
    cells = [Cell(*cell) for cell in cells_of(min(seeds, protocol.seeds), tuned=protocol.tuning is not None)]
    return [cell for cell in cells if cell.arm in arms and (shares is None or cell.share in shares)]


def _results(protocol: Protocol, source: Source, cache: Cache, cells: list[Cell], jobs: int) -> Iterator[dict]:
    if jobs == 1:
        problem = prepared(protocol, source, cache)
        yield from (measured(problem, cell) for cell in cells)
        return
    prepared(protocol, source, cache)  # fills the cache, so that the workers do not all do it
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(protocol.name, source, cache)) as workers:
        for done in as_completed([workers.submit(_measured, cell) for cell in cells]):
            yield done.result()


def _start(name: str, source: Source, cache: Cache) -> None:
    global _problem
    _problem = prepared(PROTOCOLS[name], source, cache)


def _measured(cell: Cell) -> dict:
    assert _problem is not None
    return measured(_problem, cell)


def describe(protocol: Protocol, source: Source, cache: Cache) -> None:
    """The facts of a set, and its critics' own table, unless they are there."""
    path = RESULTS / "paper" / f"{protocol.name}.json"
    stated = {"protocol": json.loads(json.dumps(protocol.facts())), "version": protocol.version()}
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if stated.items() <= kept.items():
        return
    problem = prepared(protocol, source, cache)
    rows = problem.rows
    counts = {"rows": len(rows.gold), "errors": int(problem.wrong.sum()), "measured_on": len(rows.test_gold)}
    facts = {**stated, **counts, "critics": judged(problem)}
    save_result(f"paper/{protocol.name}", facts)


def smoke(source: Source, names: list[str], arms: list[str]) -> None:
    """Every arm once, on few rows and for few epochs: that it runs, not what comes out."""
    small = replace(source, limit=SMOKE_ROWS)
    for name in names:
        protocol = PROTOCOLS[name]
        recipe, tuning = replace(protocol.recipe, epochs=SMOKE_EPOCHS), protocol.tuning and Tuning(epochs=1)
        short = replace(protocol, recipe=recipe, tuning=tuning, long=2)
        with tempfile.TemporaryDirectory() as folder:
            cells = [one for one in chosen(short, arms, [1.0], 1) if _in_smoke(one.arm)]
            run(short, small, Cache(Path(folder)), cells, 1, Path(folder))


def _in_smoke(arm: str) -> bool:
    """One simulated critic stands for all."""
    return SMOKE_CRITIC in arm or "simulated" not in arm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA if DATA.exists() else None, help="the folder with the sets")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"where vectors are kept (default: {CACHE})")
    parser.add_argument("--only", nargs="+", choices=PROTOCOLS, metavar="SET", help=f"of {', '.join(PROTOCOLS)}")
    parser.add_argument("--arms", nargs="+", choices=ARMS, metavar="ARM", default=list(ARMS), help="only these arms")
    parser.add_argument("--shares", nargs="+", type=float, help="only at these shares of the paper's human share")
    parser.add_argument("--seeds", type=int, default=100, help="at most so many; a protocol says how many there are")
    parser.add_argument("--jobs", type=int, default=1, help="processes beside each other, one thread each")
    parser.add_argument("--smoke", action="store_true", help="one seed of a reduced version of each set")
    parser.add_argument("--choose", action="store_true", help="epochs and rate again, on pool rows")
    parser.add_argument("--docs", action="store_true", help="write docs/results.md")
    given = parser.parse_args()
    source, cache, names = Source(given.data), Cache(given.cache), given.only or list(PROTOCOLS)
    if given.docs:
        from paper.page import write_page

        write_page()
    elif given.smoke:
        smoke(source, names, given.arms)
    elif given.choose:
        for name in names:
            choose(PROTOCOLS[name], source, cache)
    else:
        for name in names:
            describe(PROTOCOLS[name], source, cache)
            cells = chosen(PROTOCOLS[name], given.arms, given.shares, given.seeds)
            run(PROTOCOLS[name], source, cache, cells, given.jobs, RESULTS / "paper")


if __name__ == "__main__":
    main()
