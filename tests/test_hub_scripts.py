"""The scripts for jobs: each runs alone, has its header, and from source to model there are only Hub ids between."""

from __future__ import annotations

import ast
import io
import os
import re
import runpy
import secrets
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import dropwhile
from pathlib import Path

import pytest
import typer
from datasets import ClassLabel, Dataset, Features, Value
from support import hub_jobs as jobs
from support import vllm
from support.argilla_rest import Rest
from support.hub import USERS, HubServer
from support.hub_client import HubClient
from support.processes import watched
from support.server import Server
from support.weights import save_tiny_bert

from act_hf import columns
from act_hf.cli.on_hub import script_of
from act_hf.records import stage_records


ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "hub_scripts").glob("*.py"))
NAMES = [script.stem for script in SCRIPTS]
DOCS = (ROOT / "docs" / "how-to" / "hub.md").read_text(encoding="utf-8")
TOKEN, READ, *_ = USERS
BIN = Path(sys.executable).parent


def header(script: Path) -> dict:
    """The PEP 723 block."""
    block = re.search(r"(?m)^# /// script$\s((?:^#(?:| .*)$\s)+)^# ///$", script.read_text(encoding="utf-8"))
    return tomllib.loads("".join(line[2:] or "\n" for line in block[1].splitlines(keepends=True)))


def docstring(script: Path) -> str:
    return ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))


def commands(text: str, program: str) -> list[list[str]]:
    """The commands in the shell blocks of a text that begin with `program`."""
    found = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)).replace("\\\n", " ")
    words = [shlex.split(line, comments=True) for line in found.splitlines()]
    lines = [list(dropwhile(lambda word: re.match(r"[A-Z_]+=", word), line)) for line in words]
    return [line for line in lines if line[: len(program.split())] == program.split()]


def script_arguments(command: list[str]) -> tuple[Path, list[str]]:
    """The script that a command runs, and what it is given."""
    at = next(number for number, word in enumerate(command) if word.startswith("hub_scripts/"))
    return ROOT / command[at], command[at + 1 :]


def parsed(script: Path, arguments: list[str]) -> None:
    """Raises where the script would refuse the arguments before it does anything."""
    command = runpy.run_path(str(script))[script.stem]
    typer.main.get_command(script_of(command, None)).make_context(script.name, list(arguments))


def environment(folder: Path, hub: HubServer | None = None, **more: str) -> dict[str, str]:
    """Of a process on another machine, that keeps all it keeps in `folder`."""
    kept = {"HF_HOME": "hf", "ACT_HF_HOME": "act", "UV_CACHE_DIR": "uv", "TMPDIR": "tmp", "HOME": "home"}
    for name in kept.values():
        (folder / name).mkdir(exist_ok=True)
    known = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ARGILLA_"))}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    given = {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": paths, "VIRTUAL_ENV": sys.prefix}
    # Where no Hub is started there is none: what asks one fails.
    given |= {name: str(folder / value) for name, value in kept.items()}
    return known | given | {"HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:9"} | more


def shown(*command: str, env: dict[str, str], cwd: Path = ROOT, status: int = 0) -> str:
    """What a program says."""
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def program(name: str) -> str:
    """One that lies beside this Python."""
    path = BIN / name
    if not path.exists():
        reason = f"there is no {path}: pip install -e '.[dev]'"
        pytest.fail(reason) if os.environ.get("CI", "").lower() == "true" else pytest.skip(reason)
    return str(path)


class TestEach:
    def test_there_is_one_for_every_stage(self):
        stages = {"annotate", "criticize", "sample", "push_review", "pull_review", "train", "publish"}
        assert set(NAMES) == stages | {"annotate_vllm", "criticize_vllm"}

    @pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
    def test_its_header(self, script):
        read = header(script)
        assert (
            read["requires-python"]
            == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
        )
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        (needed,) = read["dependencies"]
        assert set(re.fullmatch(r"act_hf\[([\w,]+)\]", needed)[1].split(",")) <= set(extras)
        assert set(read["tool"]["hf-jobs"]) >= {"flavor", "timeout", "secrets"}
        assert read["tool"]["hf-jobs"]["secrets"] == ["HF_TOKEN"]

    @pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
    def test_uv_runs_it_without_a_network(self, script, tmp_path):
        said = shown(
            program("uv"),
            "run",
            "--offline",
            "--active",
            str(script),
            "--help",
            env=environment(tmp_path, COLUMNS="200"),
        )
        assert docstring(script).splitlines()[0] in said
        for word in ("INPUT_DATASET", "--config", "--split", "--revision"):
            assert word in said
        made = not script.stem.startswith("push_review")
        assert all((word in said) is made for word in ("--private", "--create-pr", "--overwrite"))
        chosen = script.stem.startswith(("annotate", "criticize"))
        assert all((word in said) is chosen for word in ("--max-samples", "--shuffle"))

    @pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
    def test_the_commands_in_its_docstring(self, script, tmp_path):
        written = commands(docstring(script), "hf jobs uv run")
        assert written
        for command in written:
            path, arguments = script_arguments(command)
            assert path == script
            parsed(path, arguments)
            said = shown(
                program("hf"),
                "jobs",
                "uv",
                "run",
                "--dry-run",
                *command[4:],
                env=environment(tmp_path, ARGILLA_API_KEY=TOKEN),
            )
            assert "Job not submitted" in said
            assert f"script   hub_scripts/{script.name}" in said
            assert f"timeout  {header(script)['tool']['hf-jobs']['timeout']} (from script)" in said
            assert "HF_TOKEN=***" in said
            assert TOKEN not in said


class TestDocs:
    def test_commands_for_scripts(self, tmp_path):
        jobs = commands(DOCS, "hf jobs uv run")
        assert jobs
        assert commands(DOCS, "uv run")
        for command in [*jobs, *commands(DOCS, "uv run")]:
            parsed(*script_arguments(command))
        for command in jobs:
            said = shown(program("hf"), "jobs", "uv", "run", "--dry-run", *command[4:], env=environment(tmp_path))
            assert "Job not submitted" in said

    def test_commands_for_the_space_are_known(self, tmp_path):
        """As far as a parser goes: it stops at the Hub that is not there."""
        written = [*commands(DOCS, "hf repos"), *commands(DOCS, "hf upload"), *commands(DOCS, "hf spaces")]
        assert len(written) >= 4
        for command in written:
            said = shown(program("hf"), *command[1:], env=environment(tmp_path), status=1)
            assert "No such option" not in said
            assert "Usage" not in said


@dataclass
class Run:
    """What the whole way left."""

    folder: Path
    hub: HubServer
    client: HubClient
    said: dict[str, str] = field(default_factory=dict)
    processes: set[str] = field(default_factory=set)

    def script(self, name: str, *arguments: str, **more: str) -> str:
        env = environment(self.folder, self.hub, **more)
        self.said[name] = shown(sys.executable, str(ROOT / "hub_scripts" / f"{name}.py"), *arguments, env=env)
        (self.folder / f"{name}.log").write_text(self.said[name], encoding="utf-8")
        return self.said[name]

    def loaded(self, id: str) -> Dataset:
        """What everybody's `load_dataset` gives."""
        (one,) = self.client(jobs.loaded, id, token=TOKEN).values()
        return one


LABELS = ("calm", "angry", "odd")
KEY = "sk-of-the-model-server"
FOREIGN = (
    "---\n# by hand\nlicense:   'cc-by-4.0'   # said so\npretty_name: Mine\n---\n# Mine\n\n*Written* by hand.\n\n"
    "| a | b |\n|---|---|\n| 1 | 2 |\n"
)


def source(count: int = 24) -> Dataset:
    kinds = Features({"text": Value("string"), "label": ClassLabel(names=list(LABELS))})
    texts = [f"a {LABELS[number % 3]} letter, number {number}" for number in range(count)]
    return Dataset.from_dict({"text": texts, "label": [number % 3 for number in range(count)]}, features=kinds)


def as_parquet(dataset: Dataset) -> bytes:
    written = io.BytesIO()
    dataset.to_parquet(written)
    return written.getvalue()


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        rows = as_parquet(source())
        server.put("ann/tickets", {"data/train-00000-of-00001.parquet": rows}, private=True)
        server.put("ann/tested", {"data/train-00000-of-00001.parquet": rows}, private=True)
        server.put("ann/corrected", {"README.md": FOREIGN.encode()}, private=True)
        yield server


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory) -> Iterator[HubClient]:
    made = HubClient(tmp_path_factory.mktemp("looking"), hub.url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def way(hub, client, argilla_server, tmp_path_factory) -> Run:
    """The whole way, each stage a process of its own."""
    made = Run(tmp_path_factory.mktemp("way"), hub, client)
    base = save_tiny_bert(tmp_path_factory.mktemp("base"))
    place = f"argilla:{argilla_server.workspace}/hub-{secrets.token_hex(4)}"
    argilla = {"ARGILLA_API_URL": argilla_server.url, "ARGILLA_API_KEY": argilla_server.owner_key}
    with Server(key=KEY) as model, watched() as made.processes:
        served = ("--model", "m", "--base-url", model.url, "--server", "vllm")
        task = ("--text", "text", "--label-column", "label", "--instruction", "Which mood?")
        made.script("annotate", "ann/tickets", "ann/labelled", *task, *served, ACT_HF_API_KEY=KEY)
        made.script("criticize", "ann/labelled", "ann/doubted", *served, "--strategy", "logit", ACT_HF_API_KEY=KEY)
        made.script("sample", "ann/doubted", "ann/drawn", "--budget", "12", "--mix", "0.3", "--seed", "3")
        made.script("push_review", "ann/drawn", place, **argilla)
        people = [Rest(argilla_server.url, key) for key in argilla_server.annotators.values()]
        for number, (act_id, record) in enumerate(people_see(argilla_server, place).items()):
            people[0].answer(record, LABELS[number % 3])
            made.said[act_id] = LABELS[number % 3]
        made.script("pull_review", "ann/drawn", place, "ann/reviewed", **argilla)
        trained = ("--base", str(base), "--epochs", "1", "--evaluation", "ann/tested")
        made.script("train", "ann/reviewed", "ann/model", *trained)
        made.script("publish", "ann/reviewed", "ann/corrected", "--model", "ann/model")
    return made


def people_see(server, place: str) -> dict[str, str]:
    return Rest(server.url, server.owner_key).ids(place.rpartition("/")[2])


class TestTheWholeWay:
    """Source, annotate, criticize, sample, review in a real Argilla, train, publish."""

    def test_every_data_set_loads_with_the_right_types(self, way):
        added = {
            "labelled": [columns.ID, columns.LABEL, columns.LABEL_PROBS, columns.FAILURE],
            "doubted": [columns.ERROR_PROB],
            "drawn": [columns.PI, columns.SELECTED],
            "reviewed": [columns.HUMAN, columns.RESPONSES],
            "corrected": [],
        }
        types = columns.column_features(jobs.TASK)
        wanted = dict(source().features)
        for name, names in added.items():
            wanted |= {one: types[one] for one in names}
            there = way.loaded(f"ann/{name}")
            assert {one: there.features[one] for one in wanted} == wanted
            assert set(there.column_names) - set(wanted) <= set(types), name
            assert there["text"][:] == source()["text"][:]

    def test_answers_are_on_their_rows(self, way):
        there = way.loaded("ann/corrected")
        kind = there.features[columns.HUMAN]
        human = {row[columns.ID]: kind.int2str(row[columns.HUMAN]) for row in there if row[columns.HUMAN] is not None}
        assert len(human) == 12
        assert human == {act_id: way.said[act_id] for act_id in human}

    def test_records_of_all_stages_arrive(self, way):
        stages = ["annotate", "criticize", "sample", "review"]
        there = way.client(jobs.pull, "ann/corrected", token=TOKEN)
        assert [record["stage"] for record in stage_records(there)] == stages

    def test_the_card_keeps_every_foreign_line(self, way):
        card = way.hub.repo("ann/corrected").tree("main")["README.md"].data.decode()
        assert all(line in card.splitlines() for line in FOREIGN.splitlines())
        assert "act_hf: begin default/train" in card
        assert card.index("by hand") < card.index("act_hf: begin")

    def test_the_model_is_there_twice_with_what_it_learned_from(self, way):
        for id, learned in (("ann/model", "ann/reviewed"), ("ann/corrected", "ann/corrected")):
            files = way.hub.repo(id, "models").tree("main")
            assert {"config.json", "model.safetensors", "README.md"} <= set(files)
            card = files["README.md"].data.decode()
            assert learned in card
            assert "ann/tested" in card

    def test_everything_is_private(self, way):
        assert all(repo.private for repo in way.hub.repos.values())

    @pytest.mark.parametrize("secret", [TOKEN, KEY], ids=["token", "key"])
    def test_no_secret_is_left_anywhere(self, way, secret):
        found = [
            str(path) for path in way.folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()
        ]
        assert found == []
        for repo in way.hub.repos.values():
            for commit in repo.commits.values():
                assert [path for path, file in commit.items() if secret.encode() in file.data] == []
        assert not any(secret in said for said in way.said.values())

    def test_no_secret_was_in_a_command_line(self, way, argilla_server):
        ours = [line for line in way.processes if "hub_scripts" in line]
        assert {f"{stage}.py" for stage in ("annotate", "train", "publish")} <= {
            Path(word).name for line in ours for word in line.split()
        }
        for secret in (TOKEN, KEY, argilla_server.owner_key):
            assert not any(secret in line for line in way.processes)

    def test_no_temporary_file_is_left(self, way):
        assert [path for path in (way.folder / "tmp").iterdir() if path.name.startswith("tmp")] == []


@pytest.fixture
def alone(hub, client, tmp_path) -> Run:
    return Run(tmp_path, hub, client)


TASK = ("--text", "text", "--label-column", "label")


class TestFlags:
    def test_rows_are_chosen(self, alone):
        with Server() as model:
            served = ("--model", "m", "--base-url", model.url, *TASK)
            alone.script("annotate", "ann/tickets", "ann/some", *served, "--max-samples", "5")
            alone.script(
                "annotate", "ann/tickets", "ann/mixed", *served, "--max-samples", "5", "--shuffle", "--seed", "1"
            )
            assert model.requests == 10
        assert alone.loaded("ann/some")["text"][:] == source()["text"][:5]
        mixed = alone.loaded("ann/mixed")["text"][:]
        assert mixed == source().shuffle(seed=1)["text"][:5]

    def test_a_stream(self, alone):
        with Server() as model:
            served = ("--model", "m", "--base-url", model.url, "--server", "vllm", *TASK)
            alone.script("annotate", "ann/tickets", "ann/flow", *served, "--stream", "--rows-per-shard", "10")
        there = alone.loaded("ann/flow")
        assert there["text"][:] == source()["text"][:]
        assert there[columns.FAILURE][:] == [None] * 24
        assert [record["stage"] for record in stage_records(alone.client(jobs.pull, "ann/flow", token=TOKEN))] == [
            "annotate"
        ]

    def test_where_from_and_where_to(self, alone):
        """A configuration, a split and a revision; into a configuration, public, and as a pull request."""
        alone.hub.put("ann/parts", {"small/test-00000-of-00001.parquet": as_parquet(source(6))}, private=True)
        named = "configs:\n- config_name: small\n  data_files:\n  - split: test\n    path: small/test-*\n"
        alone.hub.put("ann/parts", {"README.md": f"---\n{named}---\n".encode()})
        before = alone.hub.repo("ann/parts").sha("main")
        alone.hub.put("ann/parts", {"small/test-00000-of-00001.parquet": as_parquet(source(3))})
        chosen = ("--config", "small", "--split", "test", "--revision", before)
        with Server() as model:
            served = ("--model", "m", "--base-url", model.url, *TASK)
            alone.script("annotate", "ann/parts", "ann/open", *served, *chosen, "--public", "--output-config", "made")
            said = alone.script(
                "annotate", "ann/parts", "ann/open:made", *served, "--config", "small", "--public", "--create-pr"
            )
        assert not alone.hub.repo("ann/open").private
        there = alone.client(jobs.loaded, "ann/open", "made", token=TOKEN)
        assert {name: len(one) for name, one in there.items()} == {"test": 6}
        assert "/discussions/1" in said
        asked = alone.client(jobs.loaded, "ann/open", "made", "refs/pr/1", token=TOKEN)
        assert {name: len(one) for name, one in asked.items()} == {"test": 3}

    def test_what_would_be_refused_at_the_end_is_refused_before_it_is_paid_for(self, alone):
        alone.hub.put("ann/there", {"data/train-00000-of-00001.parquet": as_parquet(source(3))}, private=True)
        with Server() as model:
            served = ("--model", "m", "--base-url", model.url, *TASK)
            assert "exists" in self.refused(alone, "annotate", "ann/tickets", "ann/there", *served)
            assert "may only read" in self.refused(alone, "annotate", "ann/tickets", "ann/new", *served, HF_TOKEN=READ)
            assert model.requests == 0

    @pytest.mark.parametrize(
        ("name", "given", "said"),
        [
            ("sample", ("labelled", "ann/x", "--budget", "5"), "'labelled' is no address on the Hub"),
            ("sample", ("ann/tickets@main", "ann/x", "--budget", "5", "--revision", "old"), "say one"),
            ("push_review", ("ann/tickets", "rows.csv"), "'rows.csv' is no address on the Hub"),
            ("push_review", ("ann/tickets", "ann/review:x"), "a review has no configurations"),
            ("pull_review", ("ann/drawn0", "ann/review", "ann/x"), "no data set of that name"),
            ("publish", ("ann/tickets", "ann/x", "--model", "ann/none"), "no model of that name"),
            ("train", ("ann/none", "ann/x", "--base", "b/c"), "no data set of that name"),
        ],
    )
    def test_mistakes_are_a_line(self, alone, name, given, said):
        before = set(alone.hub.repos)
        assert said in self.refused(alone, name, *given)
        assert set(alone.hub.repos) == before

    def refused(self, run: Run, name: str, *arguments: str, **more: str) -> str:
        script = str(ROOT / "hub_scripts" / f"{name}.py")
        said = shown(sys.executable, script, *arguments, env=environment(run.folder, run.hub, **more), status=2)
        (line,) = [line for line in said.splitlines() if line.startswith("act-hf: ")]
        assert TOKEN not in said
        return line


class TestVllm:
    def test_a_model_served_in_the_job(self, alone, tmp_path):
        path = {"PATH": f"{vllm.install(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}"}
        with watched() as seen:
            served = ("--model", "some/model", *TASK, "--", "--log", str(tmp_path / "log.json"))
            alone.script("annotate_vllm", "ann/tickets", "ann/by-vllm", *served, **path)
            served = ("--model", "other/model", "--strategy", "logit")
            alone.script("criticize_vllm", "ann/by-vllm", "ann/by-two", *served, **path)
        there = alone.client(jobs.pull, "ann/by-two", token=TOKEN)
        records = stage_records(there)
        assert [record["model"] for record in records] == ["some/model/vllm", "other/model/vllm"]
        assert columns.count_failed(there) == 0
        assert any("serve some/model --host 127.0.0.1" in line for line in seen)
        assert not any(TOKEN in line or "VLLM_API_KEY" in line for line in seen)

    def test_the_target_is_looked_at_before_the_model_is_loaded(self, alone, tmp_path):
        log = tmp_path / "log.json"
        alone.hub.put("ann/taken", {"data/train-00000-of-00001.parquet": as_parquet(source(3))}, private=True)
        env = environment(
            tmp_path, alone.hub, PATH=f"{vllm.install(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}"
        )
        arguments = ("ann/tickets", "ann/taken", "--model", "m", *TASK, "--", "--log", str(log))
        said = shown(sys.executable, str(ROOT / "hub_scripts" / "annotate_vllm.py"), *arguments, env=env, status=2)
        assert "exists" in said
        assert not log.exists()
