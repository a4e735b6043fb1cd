"""
How many rows a second does annotate() label behind a server, beside a bare HTTP loop and other packages?

    python benchmarks/bench_endpoint.py --environments FOLDER    # half an hour, with nothing else running

Two scenarios, each contender a process of its own, in turn, several rounds: a server that takes 200 ms, with 64
requests in flight, and one that answers at once, with 32. Contenders: act_hf with its store on; the same requests sent
by httpx2 and by aiohttp in a loop that does nothing else; the openai package's client in a loop; distilabel and
autolabel as their manuals show them. The last three get an environment of their own below FOLDER, made when it is not
there. Where one does not install or run, the result says why.

Then where the CPU time goes, and what it changes how many rows annotate() hands over at once. `--quick` is a tenth of
the rows, once, to see that all runs; `--only act_hf,httpx2` are these contenders only. Neither saves its result.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pandas as pd
from machine import save_result


HERE = Path(__file__).parent
LABELS = ("anger", "joy", "optimism", "sadness")
INSTRUCTION = "Which emotion does the text express?"
WORDS = 30
MOST_ROWS = 6000
BATCH_ROWS = 4096
BATCHES = (256, 512, 1024, 2048, 4096)
SPREADS = (0.0, 0.1)
TIMEOUT = 900
AT_200_MS, AT_ONCE = 0.95, 400
"""What is required: a share of the faster bare loop's rows a second, and rows a second."""


@dataclass(frozen=True)
class Scenario:
    """`fewer` are the rows of the contenders that would take too long over `rows`."""

    name: str
    latency: float
    in_flight: int
    rows: int
    fewer: dict[str, int]


SCENARIOS = (
    Scenario("200 ms", 0.2, 64, MOST_ROWS, {"openai": 3000, "distilabel": 2000, "autolabel": 100}),
    Scenario("0 ms", 0.0, 32, 4000, {"distilabel": 2000, "autolabel": 500}),
)


@dataclass
class Contender:
    """
    A script in `peers/`, and what its environment needs; nothing for one that runs where this does. `repairs` are
    installed when it does not run as it installs, and `note` says that, or what is wrong with it.
    """

    script: str
    requirements: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    python: str = sys.executable
    note: str | None = None
    runs: bool = True


CONTENDERS = {
    "act_hf": Contender("ours.py"),
    "httpx2": Contender("http_loop.py", arguments=("httpx2",)),
    "aiohttp": Contender("http_loop.py", arguments=("aiohttp",)),
    "openai": Contender("openai_loop.py", ("openai==3.54.0",)),
    "distilabel": Contender("distilabel_pipeline.py", ("distilabel[openai]==1.5.3",), ("requests",)),
    "autolabel": Contender("autolabel_agent.py", ("refuel-autolabel[openai]==0.0.16",), ("openai<1",)),
}
BARE = ("httpx2", "aiohttp")


# Running one contender


class Broken(Exception):
    """A contender does not install or run. Says why in a line."""


@contextmanager
def server(latency: float, spread: float = 0.0) -> Iterator[str]:
    command = [sys.executable, str(HERE / "peers" / "fast_server.py"), "--words", ",".join(LABELS)]
    command += ["--latency", str(latency), "--spread", str(spread)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def asked(url: str, what: str) -> dict:
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/{what}") as reply:
        return json.load(reply)


def run(contender: Contender, url: str, rows: Path, *options: str, in_flight: int, count: int) -> dict:
    """What a contender prints, and what the server has seen of it."""
    command = [contender.python, str(HERE / "peers" / contender.script), *contender.arguments, *options]
    command += ["--url", url, "--input", str(rows), "--in-flight", str(in_flight), "--rows", str(count)]
    environment = {**os.environ, "PYTHONPATH": "" if contender.requirements else str(HERE.parent)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment)
    except subprocess.TimeoutExpired:
        raise Broken(f"did not label {count} rows in {TIMEOUT} s") from None
    if done.returncode:
        raise Broken(last_line(done.stderr))
    figures = json.loads(done.stdout.splitlines()[-1])
    if figures["labelled"] < count:
        raise Broken(f"labelled {figures['labelled']} of {count} rows")
    return {**figures, "server": asked(url, "stats")}


def last_line(output: str) -> str:
    """The line that says what went wrong, without addresses."""
    lines = [line for line in output.splitlines() if line.strip()]
    line = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "said nothing")
    return re.sub(r"\S+://\S+", "...", line).strip()[:300]


# Environments


def prepare(name: str, folder: Path, rows: Path) -> None:
    """Makes the environment of a contender, where it needs one and there is none, and has it label a few rows."""
    contender = CONTENDERS[name]
    if not contender.requirements:
        return
    python, noted = folder / name / "bin" / "python", folder / name / "note.json"
    contender.python = str(python)
    try:
        if noted.exists():
            contender.note = json.loads(noted.read_text())
        else:
            print(f"making the environment of {name}", flush=True)
            venv.create(folder / name, with_pip=True, clear=True)
            contender.note = installed(contender, rows)
            noted.write_text(json.dumps(contender.note))
        trial(contender, rows)
    except Broken as problem:
        give_up(name, problem)
    if contender.note:
        print(f"{name}: {contender.note}", flush=True)


def installed(contender: Contender, rows: Path) -> str | None:
    """Installs a contender. Says what it took to make it run."""
    install(contender, contender.requirements)
    try:
        trial(contender, rows)
    except Broken as problem:
        if not contender.repairs:
            raise
        install(contender, contender.repairs)
        return f"as it installs: {problem}. Runs with {', '.join(contender.repairs)}"
    return None


def install(contender: Contender, requirements: tuple[str, ...]) -> None:
    command = [contender.python, "-m", "pip", "install", "-q", "-c", str(HERE.parent / "constraints.txt")]
    done = subprocess.run([*command, *requirements], capture_output=True, text=True)
    if done.returncode:
        raise Broken(f"does not install: {last_line(done.stderr)}")


def trial(contender: Contender, rows: Path) -> None:
    with server(0.0) as url:
        run(contender, url, rows, in_flight=4, count=8)


def give_up(name: str, problem: Broken) -> None:
    CONTENDERS[name].runs = False
    CONTENDERS[name].note = str(problem)


# What is labelled


def texts() -> list[str]:
    """Questions to a bank, cut into pieces of 30 words, no two alike."""
    folder = HERE.parent / "act_hf" / "quickstart_data"
    words = " ".join(" ".join(pd.read_parquet(folder / f"{part}.parquet").text) for part in ("pool", "test")).split()
    whole = len(words) // WORDS
    starts = [i % (whole - 1) * WORDS + i // (whole - 1) for i in range(MOST_ROWS)]  # each time around, a word later
    cut = [" ".join(words[start : start + WORDS]) for start in starts]
    assert len(set(cut)) == MOST_ROWS
    return cut


def write_rows(path: Path) -> Path:
    """The rows, and the requests that `Endpoint` makes of them: one is taken down, and the others are made like it."""
    rows = texts()
    path.write_text(json.dumps({"texts": rows, "bodies": [], "labels": LABELS, "instruction": INSTRUCTION}))
    with server(0.0) as url:
        run(CONTENDERS["act_hf"], url, path, in_flight=1, count=1)
        taken = json.dumps(asked(url, "last"))
    quoted = json.dumps(rows[0])
    assert taken.count(quoted) == 1
    bodies = [json.loads(taken.replace(quoted, json.dumps(text))) for text in rows]
    values = {"texts": rows, "bodies": bodies, "labels": LABELS, "instruction": INSTRUCTION}
    path.write_text(json.dumps(values))
    return path


# The parts of the result


def summary(rounds: list[dict]) -> dict:
    rates = [figures["rows"] / figures["seconds"] for figures in rounds]
    return {
        "rows": rounds[0]["rows"],
        "rounds": len(rounds),
        "rows_per_s": round(median(rates), 1),
        "lowest_and_highest": [round(min(rates), 1), round(max(rates), 1)],
        "rows_per_s_from_first_request": round(median(one["rows"] / one["server"]["seconds"] for one in rounds), 1),
        "cpu_ms_per_row": round(median(1000 * one["cpu_s"] / one["rows"] for one in rounds), 3),
        "server_cpu_ms_per_row": round(median(1000 * one["server"]["cpu_s"] / one["rows"] for one in rounds), 3),
        "most_in_flight": max(one["server"]["most_in_flight"] for one in rounds),
        "versions": rounds[0]["versions"],
    }


def compare(scenario: Scenario, names: list[str], rows: Path, rounds: int, part: int) -> dict:
    """All contenders of a scenario in turn, beginning with another one each round."""
    measured: dict[str, list[dict]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if CONTENDERS[name].runs:
                count = scenario.fewer.get(name, scenario.rows) // part
                try:
                    with server(scenario.latency) as url:
                        figures = run(CONTENDERS[name], url, rows, in_flight=scenario.in_flight, count=count)
                except Broken as problem:
                    give_up(name, problem)
                    print(f"{name}: {problem}", flush=True)
                    continue
                measured[name].append(figures)
                print(f"{scenario.name}, {name}: {figures['rows'] / figures['seconds']:.1f} rows/s", flush=True)
    contenders = {name: summary(taken) for name, taken in measured.items() if taken}
    rates = {name: one["rows_per_s"] for name, one in contenders.items()}
    shares = {name: round(rates["act_hf"] / rates[name], 3) for name in BARE if {"act_hf", name} <= rates.keys()}
    conditions = {"latency_s": scenario.latency, "in_flight": scenario.in_flight}
    return {**conditions, "act_hf_to_bare_loop": shares, "contenders": contenders}


def batches(rows: Path, rounds: int, part: int) -> list[dict]:
    """annotate() by the rows handed over at once, where answers take equally long and where they do not."""
    latency, in_flight = SCENARIOS[0].latency, SCENARIOS[0].in_flight
    measured: dict[tuple[float, str], list[dict]] = {
        (spread, size): [] for spread in SPREADS for size in ("httpx2", *map(str, BATCHES))
    }
    for _ in range(rounds):
        for (spread, size), taken in measured.items():
            bare = size == "httpx2"
            contender, options = CONTENDERS["httpx2" if bare else "act_hf"], () if bare else ("--batch-size", size)
            with server(latency, spread) as url:
                figures = run(contender, url, rows, *options, in_flight=in_flight, count=BATCH_ROWS // part)
            taken.append(figures)
            print(f"+-{spread} s, {size}: {figures['rows'] / figures['seconds']:.1f} rows/s", flush=True)
    found = []
    for (spread, size), taken in measured.items():
        one, bare = summary(taken), summary(measured[spread, "httpx2"])
        share = {"to_httpx2": round(one["rows_per_s"] / bare["rows_per_s"], 3)}
        figures = {name: one[name] for name in ("rows", "rows_per_s", "lowest_and_highest")}
        found.append({"latency_s": [latency - spread, latency + spread], "batch_size": size, **figures, **share})
    return found


def where_time_goes(rows: Path, part: int) -> dict:
    """CPU time of annotate() by part, from a run of its own."""
    scenario = SCENARIOS[1]
    with server(scenario.latency) as url:
        count = scenario.rows // part
        figures = run(CONTENDERS["act_hf"], url, rows, "--shares", in_flight=scenario.in_flight, count=count)
    total = sum(figures["shares"].values())
    taken = {name: round(seconds / total, 3) for name, seconds in figures["shares"].items()}
    return {"cpu_ms_per_row": round(1000 * total / count, 3), "shares": taken}


def met(scenarios: dict[str, dict]) -> dict[str, bool]:
    share = min(scenarios["200 ms"]["act_hf_to_bare_loop"].values())
    rate = scenarios["0 ms"]["contenders"]["act_hf"]["rows_per_s"]
    return {
        f"200 ms: {AT_200_MS:.0%} of the bare loop": share >= AT_200_MS,
        f"0 ms: {AT_ONCE} rows/s": rate >= AT_ONCE,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, required=True, help="a folder for the peers' environments")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="with commas: these contenders")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, once")
    given = parser.parse_args()
    part, rounds = (10, 1) if given.quick else (1, given.rounds)
    names = given.only.split(",") if given.only else list(CONTENDERS)
    given.environments.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = write_rows(Path(folder, "rows.json"))
        for name in names:
            prepare(name, given.environments.resolve(), rows)
        scenarios = {one.name: compare(one, names, rows, rounds, part) for one in SCENARIOS}
        if given.only:
            return
        result = {
            "required": met(scenarios),
            "notes": {name: one.note for name, one in CONTENDERS.items() if one.note},
            "where_cpu_time_goes": where_time_goes(rows, part),
            "scenarios": scenarios,
            "batch_sizes": batches(rows, max(1, rounds - 2), part),
        }
    if given.quick:
        print(json.dumps(result, indent=1))
    else:
        save_result("endpoint", result)


if __name__ == "__main__":
    main()
