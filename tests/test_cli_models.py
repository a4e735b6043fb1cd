"""The commands that ask models: through the server options, within limits, before a run and with several models."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset
from support.command import act_hf, good, refused
from support.server import Server
from support.weights import save_tiny_bert

from act_hf.cli import LIMIT, app, review
from act_hf.cli.forecast import chosen
from act_hf.cli.options import KEY, Limits, ServerOptions, TaskOptions
from act_hf.columns import ERROR_PROB, FAILURE, LABEL
from act_hf.critics import CALIBRATIONS
from act_hf.critics.strategies import STRATEGIES
from act_hf.errors import ACTError
from act_hf.files import read_dataset, write_dataset
from act_hf.models import load_model
from act_hf.models.encoder import EncoderModel
from act_hf.models.endpoint.model import SERVERS, Endpoint
from act_hf.models.local import LocalModel
from act_hf.records import stage_records


ROWS = 30
TASK = ("--text", "text", "--labels", "good,bad")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    return f"encoder:{save_tiny_bert(tmp_path_factory.mktemp('tiny') / 'tiny')}"


@pytest.fixture(autouse=True)
def rows(tmp_path, monkeypatch) -> Path:
    """rows.csv here, a store for the test alone, and no key of whoever runs it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACT_HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(KEY, raising=False)
    with open("rows.csv", "w", newline="") as stream:
        pairs = [(f"row {i} " + "fine " * (i % 5), ("good", "bad")[i % 2]) for i in range(ROWS)]
        csv.writer(stream).writerows([("text", "label"), *pairs])
    return tmp_path


def says(body) -> str:
    """A reply that fits whatever is asked."""
    text = str(body["messages"])
    if "probability" in text:
        return f"I doubt it.\nAnswer: {len(text) % 100} %"
    return ("good", "bad")[len(text) % 2]


@pytest.fixture
def server():
    with Server(say=says, logprobs=False) as server:
        yield server


def at(server) -> tuple[str, ...]:
    return ("--base-url", server.url, "--no-logprobs")


class TestLoadModel:
    def test_what_a_name_makes(self):
        made = [load_model(name) for name in ("a/b", "a.gguf", "encoder:x/y", "minilm")]
        assert [type(model) for model in made] == [LocalModel, LocalModel, EncoderModel, EncoderModel]
        assert made[2].source == "x/y"

    def test_with_an_address_or_a_provider_it_is_there(self):
        made = load_model("minilm", base_url="http://localhost:1/v1", server="vllm", prices=(1, 2), threads=3)
        assert isinstance(made, Endpoint)
        assert (made.model, made.server, made.prices) == ("minilm", "vllm", (1.0, 2.0))
        assert load_model("m", provider="together", images=True).abilities >= {"image"}

    def test_a_server_option_without_one_is_a_mistake(self):
        with pytest.raises(ACTError, match=r"token, images: for a model behind a server; say which, with base_url="):
            load_model("a/b", token="secret", images=True)
        with pytest.raises(ACTError) as error:
            load_model("a/b", token="secret")
        assert "secret" not in str(error.value)


class TestServerOptions:
    def test_nothing_given_is_a_model_here(self):
        assert isinstance(ServerOptions().load("a/b"), LocalModel)

    def test_each_reaches_the_endpoint(self, monkeypatch):
        monkeypatch.setenv("MY_KEY", "s3cret")
        options = ServerOptions(
            base_url="http://localhost:1/v1",
            server="llama.cpp",
            no_logprobs=True,
            images=True,
            concurrency=3,
            requests_per_minute=7.0,
            timeout=9.0,
            price_in=0.5,
            price_out=1.5,
            api_key_env="MY_KEY",
        )
        made = options.load("m")
        assert (made.server, made.logprobs, made.images, made.concurrency) == ("llama.cpp", False, True, 3)
        assert (made.requests_per_minute, made.timeout, made.prices) == (7.0, 9.0, (0.5, 1.5))
        assert made.token == "$MY_KEY"

    def test_the_usual_key_is_used_where_it_is_set(self, monkeypatch):
        there = ServerOptions(base_url="http://localhost:1/v1")
        assert there.load("m").token is None
        monkeypatch.setenv(KEY, "s3cret")
        assert there.load("m").token == f"${KEY}"
        assert isinstance(ServerOptions().load("a/b"), LocalModel)

    def test_encoders_stay_in_this_process_among_others(self):
        options = ServerOptions(base_url="http://localhost:1/v1", concurrency=2)
        assert isinstance(options.load_mixed("minilm"), EncoderModel)
        assert isinstance(options.load_mixed("encoder:x"), EncoderModel)
        assert options.load_mixed("gpt").concurrency == 2

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--server", "vllm"), "server: for a model behind a server; say which, with base_url= (--base-url)"),
            (("--base-url", "localhost"), "base_url='localhost' is no address like http://localhost:8000/v1"),
            (
                ("--base-url", "http://a/v1", "--provider", "together"),
                "give base_url= or provider='together', not both",
            ),
            (
                ("--base-url", "http://a/v1", "--server", "magic"),
                "server='magic' is none of openai, llama.cpp, vllm, tgi",
            ),
            (("--base-url", "http://a/v1", "--price-in", "1"), "give --price-in and --price-out together"),
            (("--base-url", "http://a/v1", "--requests-per-minute", "-1"), "requests_per_minute=-1.0 is not a number"),
            (
                ("--base-url", "http://a/v1", "--api-key-env", "NO_SUCH"),
                "there is no environment variable of that name",
            ),
        ],
    )
    def test_what_will_not_do(self, options, said):
        assert said in refused("annotate", "rows.csv", "out", *TASK, "--model", "m", *options)
        assert not Path("out").exists()

    def test_a_key_given_by_mistake_is_not_repeated(self):
        there = ("--base-url", "http://a/v1", "--api-key-env", "hf_abcdefgh")
        assert "hf_abcdefgh" not in refused("annotate", "rows.csv", "out", *TASK, "--model", "m", *there)

    def test_no_option_takes_a_key(self):
        for command in (*app.registered_commands, *review.registered_commands):
            assert not re.search(r"--(api-)?(key|token) ", good(*path_of(command), "--help"))


def path_of(command) -> tuple[str, ...]:
    name = command.name or command.callback.__name__
    return (name,) if command in app.registered_commands else ("review", name)


class TestStagesOnAServer:
    def test_annotate_and_criticize(self, server, monkeypatch):
        monkeypatch.setenv(KEY, "s3cret")
        server.key = "s3cret"
        out = good("annotate", "rows.csv", "labelled", *TASK, "--model", "m", *at(server), "--concurrency", "4")
        assert re.match(
            r"annotate: model m/openai, strategy naive, .*rows 30, failed 0, 30 calls, 0 from the store", out
        )
        assert server.most_in_flight <= 4
        out = good("criticize", "labelled", "doubted", "--model", "m", "--strategy", "cot", *at(server))
        assert "30 calls, 0 from the store" in out
        assert set(read_dataset("doubted")[FAILURE]) == {None}
        assert len(set(read_dataset("doubted")[ERROR_PROB])) > 1
        assert "s3cret" not in out
        assert {header.get("authorization") for header in server.headers} == {"Bearer s3cret"}

    def test_the_wrong_key_is_a_mistake_that_does_not_show_it(self, server, monkeypatch):
        monkeypatch.setenv("MINE", "n0t-it")
        server.key = "s3cret"
        said = refused("annotate", "rows.csv", "out", *TASK, "--model", "m", *at(server), "--api-key-env", "MINE")
        assert "cannot use m: the server answered 401" in said
        assert "n0t-it" not in said

    def test_prices_make_a_cost(self, server):
        out = good(
            "annotate", "rows.csv", "out", *TASK, "--model", "m", *at(server), "--price-in", "10", "--price-out", "20"
        )
        spent = float(re.search(r"\$(\d+\.\d{4}) spent", out)[1])
        usage = stage_records(read_dataset("out"))[-1]["usage"]
        assert spent == pytest.approx((usage["tokens_in"] * 10 + usage["tokens_out"] * 20) / 1e6, abs=1e-4)

    def test_a_longest_reply(self, server):
        good(
            "annotate",
            "rows.csv",
            "out",
            *TASK,
            "--model",
            "m",
            *at(server),
            "--strategy",
            "cot",
            "--max-tokens",
            "33",
        )
        assert {body["max_tokens"] for body in server.bodies} == {33}


class TestLimits:
    @pytest.mark.parametrize(
        ("limit", "said"),
        [(("--max-calls", "10"), "stopped at max_calls=10"), (("--max-cost", "0.01"), "stopped at max_cost=0.01")],
    )
    def test_a_run_ends_with_3_and_goes_on(self, server, limit, said):
        command = ("annotate", "rows.csv", "out", *TASK, "--model", "m", *at(server), "--store", "answers.sqlite")
        command += ("--price-in", "10", "--price-out", "20")
        ended = act_hf(*command, *limit)
        assert (ended.status, ended.out) == (LIMIT, "") == (3, "")
        assert re.fullmatch(r"act-hf: .*\n", ended.err)
        assert said in ended.err
        assert "kept in 'answers.sqlite'; the same call with a higher limit goes on from there" in ended.err
        assert not Path("out").exists()
        sent = server.requests
        assert 0 < sent < ROWS
        assert f"{ROWS - sent} calls, {sent} from the store" in good(*command)

    @pytest.mark.parametrize("command", ["criticize", "plan", "panel", "compare"])
    def test_every_command_that_asks_has_them(self, server, command):
        good("annotate", "rows.csv", "labelled", *TASK, "--model", "m", *at(server))
        sent = server.requests
        arguments = {
            "criticize": ("labelled", "out", "--model", "m", "--strategy", "cot"),
            "plan": ("labelled", "--critic", "m:cot"),
            "panel": ("labelled", "out", "--model", "m", "--strategy", "cot"),
            "compare": ("rows.csv", "--text", "text", "--annotator", "m:cot"),
        }[command]
        ended = act_hf(command, *arguments, *at(server), "--max-calls", "3")
        assert (ended.status, ended.out, Path("out").exists()) == (3, "", False), ended.err
        assert "goes on from there" in ended.err
        assert server.requests == sent + 3

    def test_what_is_given_is_passed_on_and_nothing_else(self):
        assert Limits().given() == {}
        assert Limits(max_calls=0, max_tokens=5).given() == {"max_calls": 0, "max_tokens": 5}


class TestChosen:
    @pytest.mark.parametrize(
        ("text", "name", "options"),
        [
            ("gpt", "gpt", {}),
            ("gpt:cot", "gpt", {"strategy": "cot"}),
            ("gpt:logit:batch", "gpt", {"strategy": "logit", "calibration": "batch"}),
            ("llama3.2:3b", "llama3.2:3b", {}),
            ("llama3.2:3b:cot", "llama3.2:3b", {"strategy": "cot"}),
            ("llama3.2:3b:mc:rank", "llama3.2:3b", {"strategy": "mc", "calibration": "rank"}),
            ("cot", "cot", {}),
            (":cot", ":cot", {}),
            ("gpt:batch", "gpt:batch", {}),
        ],
    )
    def test_a_model_a_strategy_and_a_calibration(self, text, name, options):
        model, given = chosen(text, STRATEGIES, ServerOptions(base_url="http://localhost:1/v1"), {})
        assert (model.model, given) == (name, options)

    def test_an_encoder(self):
        model, options = chosen("encoder:x/y:likelihood:batch", STRATEGIES, ServerOptions(), {"max_tokens": 9})
        assert (model.source, options) == (
            "x/y",
            {"strategy": "likelihood", "calibration": "batch", "max_tokens": 9},
        )


class TestPlan:
    def test_it_says_what_is_left_and_writes_nothing(self, server, encoder):
        prices = ("--price-in", "10", "--price-out", "20")
        before = {path.name for path in Path().iterdir()}
        command = ("plan", "rows.csv", *TASK, "--annotator", "m:cot", "--critic", encoder, "--critic", "m:cot")
        out = good(*command, *at(server), *prices, "--pilot", "10", "--store", "home/store")
        assert {path.name for path in Path().iterdir()} - before == {"home"}
        assert re.match(
            r"plan for 30 rows, 30 of them different; pilot of 10: 30 requests sent, \$0\.\d+ spent\n", out
        )
        assert re.search(r"\nannotate   m/openai +cot +20 .*\$0\.\d+ \(0\.\d+–0\.\d+\)", out)
        assert re.search(r"\ncriticize  tiny\S+ +likelihood +20 +\S+ +free", out)
        paid = server.requests
        good(
            "annotate",
            "rows.csv",
            "out",
            *TASK,
            "--model",
            "m",
            "--strategy",
            "cot",
            *at(server),
            "--store",
            "home/store",
        )
        assert server.requests == paid + 20

    def test_of_labels_that_are_there(self, server, encoder):
        good("annotate", "rows.csv", "labelled", *TASK, "--model", encoder)
        out = good("plan", "labelled", "--critic", "m:naive", *at(server), "--pilot", "5")
        assert re.search(r"\ncriticize  m/openai +naive +25 ", out)
        assert "criticize by m/openai, naive: the price is not known; give prices= (--price-in, --price-out)\n" in out

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("rows.csv", *TASK), "plan: give --annotator MODEL, or a data set that has labels of a machine already"),
            (("rows.csv", "--text", "text", "--annotator", "m"), "give either --labels a,b,c or --label-column NAME"),
            (("rows.csv", "--annotator", "m"), "plan: an annotator needs a task to label for"),
            (("rows.csv", "--text", "t", "--labels", "a,b", "--annotator", "m"), "plan: no column 't'"),
            (("missing", "--annotator", "m"), "no file or folder 'missing'"),
        ],
    )
    def test_what_will_not_do(self, server, arguments, said):
        assert said in refused("plan", *arguments, *at(server))
        assert server.requests == 0


class TestCompare:
    def test_it_ranks_and_writes_a_page(self, server, encoder):
        annotators = ("--annotator", "m", "--annotator", "m:cot", "--annotator", encoder)
        command = ("compare", "rows.csv", "--text", "text", *annotators, "--critic", encoder, "--critic", "m:cot:rank")
        out = good(*command, *at(server), "--budget", "20%", "--budget", "10", "--out", "made.html")
        assert out.endswith("\ncomparison in made.html\n")
        assert "m:cot:rank" in out
        named = out.count("panel")
        assert Path("made.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
        assert "'made.html' exists" in refused(*command, *at(server), "--out", "made.html")
        sent = server.requests
        out = good(*command, *at(server), "--out", "made.html", "--overwrite", "--no-panel")
        assert server.requests == sent
        assert out.count("panel") < named

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--annotator", "m", "--gold", "truth"), "compare: no column 'truth'"),
            (("--annotator", "m", "--labels", "a,b"), "compare: 'bad' in the gold column 'label' is no"),
            (("--annotator", "m", "--budget", "500%"), "--budget '500%' is no share of the rows"),
            (
                ("--annotator", "m", "--critic", "m:logit"),
                "compare: critics['m:logit']: the critic strategy 'logit' needs",
            ),
            (("--annotator", "m", "--out", "made.pdf"), "a comparison is saved as .html or .png, not as 'made.pdf'"),
        ],
    )
    def test_what_will_not_do_is_said_before_anything_is_asked(self, server, arguments, said):
        assert said in refused("compare", "rows.csv", "--text", "text", *arguments, *at(server))
        assert server.requests == 0


class TestSeveral:
    @pytest.fixture
    def labelled(self, encoder) -> str:
        good("annotate", "rows.csv", "labelled", *TASK, "--model", encoder)
        return "labelled"

    def test_a_panel_of_models(self, labelled, server, encoder):
        models = ("--model", "m", "--model", encoder)
        out = good("panel", labelled, "out", *models, *at(server), "--shares", "good=0.5,bad=0.5")
        voted, criticized, written = out.splitlines()[:3]
        assert re.match(r"vote: model .*, 30 calls, ", voted)
        assert re.match(r"criticize: .*strategy panel, .*rows 30, failed 0$", criticized)
        assert written == "written to out"
        made = read_dataset("out")
        assert {"act_vote_m", "act_vote_tiny", ERROR_PROB} <= set(made.column_names)
        assert server.requests == ROWS
        again = good("panel", "out", "again", "--suffix", "_2")
        assert "suffix _2" in again
        assert server.requests == ROWS

    def test_a_panel_of_columns(self, labelled):
        names = read_dataset(labelled).features[LABEL].names
        there = read_dataset(labelled)
        for number in range(3):
            there = there.add_column(f"other {number}", [names[(i + number) % 2] for i in range(ROWS)])
        write_dataset(there, "voted")
        votes = [part for number in range(3) for part in ("--vote", f"other {number}")]
        assert "strategy panel" in good("panel", "voted", "out", *votes)
        assert None not in read_dataset("out")[ERROR_PROB]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--model", "m", "--vote", "x"), "give --model, to ask for labels now, or --vote"),
            ((), "a panel needs voters"),
            (("--vote", "x"), "no column 'x'"),
            (
                ("--vote", "text", "--shares", "good:1"),
                "--shares 'good:1' is no label with its share, such as good=0.8",
            ),
            (("--vote", "label", "--shares", "ugly=1"), "'ugly' is not a label of the task"),
        ],
    )
    def test_what_a_panel_cannot_be(self, labelled, arguments, said):
        assert said in refused("panel", labelled, "out", *arguments)
        assert not Path("out").exists()

    def test_critics_are_joined(self, labelled, server, encoder):
        good("criticize", labelled, "one", "--model", encoder, "--suffix", "_a")
        good("criticize", "one", "two", "--model", "m", "--strategy", "cot", "--suffix", "_b", *at(server))
        signals = ("--signal", "_a", "--signal", "_b", "--signal", "confidence")
        out = good("fuse", "two", "joined", *signals, "--weight", "1", "--weight", "2", "--weight", "1", "--centre")
        assert re.match(r"criticize: .*strategy fused, .*rows 30, failed 0\nwritten to joined\n", out)
        assert None not in read_dataset("joined")[ERROR_PROB]
        good("sample", "joined", "drawn", "--budget", "5")

    def test_what_cannot_be_joined(self, labelled):
        assert "no column" in refused("fuse", labelled, "out", "--signal", "_a")
        assert "weights are 1 numbers" in refused("fuse", labelled, "out", "--signal", "confidence", "--weight", "-1")


class TestHelp:
    @pytest.mark.parametrize("command", ["annotate", "criticize", "plan", "compare", "panel"])
    def test_options_are_in_groups_and_teach_the_exit_status(self, command):
        text = good(command, "--help")
        for panel in ("Model", "Server", "Limits"):
            assert f"─ {panel} ─" in text
        assert "exit status 3" in " ".join(re.sub("[│]", " ", text).split())

    def test_every_choice_is_named(self):
        text = re.sub("[│\n]", " ", good("criticize", "--help"))
        assert [name for name in (*STRATEGIES, *CALIBRATIONS, *SERVERS) if not re.search(rf"\b{name}\b", text)] == []

    def test_it_loads_no_heavy_library(self):
        script = "import sys, act_hf.cli; print(sorted({name.partition('.')[0] for name in sys.modules}))"
        loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        heavy = ("torch", "transformers", "datasets", "numpy", "scipy", "matplotlib", "huggingface_hub", "httpx2")
        assert [name for name in heavy if f"'{name}'" in loaded] == []

    def test_what_a_reader_needs_first_comes_first(self):
        text = good("--help")
        places = [
            text.index(name) for name in ("quickstart  ", "plan  ", "annotate  ", "criticize  ", "sample  ", "train  ")
        ]
        assert places == sorted(places)
        assert "2 for a mistake, 3 at --max-calls or --max-cost and with --no-wait, 130 after" in " ".join(
            text.split()
        )


class TestTaskOptions:
    def test_what_was_given(self):
        assert not TaskOptions().given
        assert TaskOptions(text="t").given

    def test_a_task_is_made_of_them(self):
        rows = Dataset.from_dict({"t": ["a"], "q": ["b"], "kind": ["x"]})
        made = TaskOptions(text="t", question="q", labels="x, y", instruction="Which?", language="German")
        task = made.task(rows, "annotate")
        assert (task.labels, task.columns, task.instruction, task.language) == (
            ("x", "y"),
            ("t", "q"),
            "Which?",
            "German",
        )
