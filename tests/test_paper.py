"""benchmarks/paper: what the protocols state, that nothing leaks, that a run goes on, that the page is its JSON."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.weights import embedded

from act_hf.estimate import auroc
from act_hf.models.embedded import minilm_path


ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("tests without the repository's benchmarks", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))

import baselines  # noqa: E402
import bench_paper  # noqa: E402
from paper import choosing  # noqa: E402
from paper.arms import ARMS, SAME, TUNED, cells_of, label_accuracy, reviewed, simulated_critic, training_labels  # noqa: E402
from paper.cells import Cell, measured  # noqa: E402
from paper.data import Source  # noqa: E402
from paper.efficientnet import Extractor, _padded  # noqa: E402
from paper.features import Cache  # noqa: E402
from paper.figures import FIGURES  # noqa: E402
from paper.figures import figures as draw_figures  # noqa: E402
from paper.page import PAGE, tables  # noqa: E402
from paper.problem import FUSED, prepared  # noqa: E402
from paper.protocol import CHOSEN_ON, Paper, Protocol, Recipe, Rows, Tuning, digests  # noqa: E402
from paper.results import SetResult, _half_width, all_results  # noqa: E402
from paper.sets import PROTOCOLS  # noqa: E402
from paper.tables import curve, needed_share  # noqa: E402


GAPS = {"cifar10": 0.71, "fashion_mnist": 3.28, "stanford_cars": 1.69, "emotion": 0.38, "irony": 1.69, "vqa_rad": 0.08}
"""As the paper's table has them."""


def made_up(rows: int = 120, tests: int = 60, classes: int = 3, seed: int = 0) -> Rows:
    """Rows that a network can learn, with a tenth of the labels wrong and a critic that half knows it."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 6)) * 2
    gold, tested = random.integers(classes, size=rows), random.integers(classes, size=tests)
    inputs, test_inputs = (
        (centres[labels] + random.normal(size=(len(labels), 6))).astype(np.float32) for labels in (gold, tested)
    )
    wrong = random.random(rows) < 0.2
    machine = np.where(wrong, (gold + 1) % classes, gold)
    return Rows(
        pool_ids=np.array([f"pool-{row}" for row in range(rows)]),
        pool_content=np.array([f"p{row}" for row in range(rows)]),
        inputs=inputs,
        gold=gold,
        machine=machine,
        signals={"some critic": np.clip(0.3 * wrong + random.random(rows) * 0.6, 0, 1)},
        votes=np.where(random.random((rows, 2)) < 0.8, gold[:, None], -1),
        vectors=inputs,
        test_ids=np.array([f"test-{row}" for row in range(tests)]),
        test_content=np.array([f"t{row}" for row in range(tests)]),
        test_inputs=test_inputs,
        test_gold=tested,
        classes=classes,
    )


def protocol(rows: Rows | None = None, **changes) -> Protocol:
    own = rows or made_up()
    return Protocol(
        **{
            "name": "vqa_rad",  # a name that workers and the page know
            "pool": "made up",
            "annotator": "made up",
            "critic": "made up",
            "measured": "made up",
            "backbone": "a network",
            "paper": Paper(90, 80, 70, 88, 87, share=25),
            "recipe": Recipe(epochs=2, hidden=8),
            "load": lambda source, cache: own,
            "fused": ("some critic",),
            "seeds": 2,
            "long": 2,
            "chosen_on": CHOSEN_ON,
            **changes,
        }
    )


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


NOWHERE = Source(None)


# What the protocols state


def test_the_papers_gaps_and_shares():
    assert {name: PROTOCOLS[name].paper.gap for name in GAPS} == GAPS
    assert all(0 < one.share < 0.5 for one in PROTOCOLS.values())


@pytest.mark.parametrize("one", PROTOCOLS.values(), ids=PROTOCOLS)
def test_each_choice_says_on_which_rows_it_was_made(one):
    assert {"epochs, rate", "lambda", "beta", "critic", "mix"} <= set(one.chosen_on)
    assert not any("measured rows" in where or "test" in where for where in one.chosen_on.values())
    assert one.pool != one.measured
    assert one.seeds >= 3
    json.dumps(one.facts())


CHOSEN = [name for name, one in PROTOCOLS.items() if one.tuning is None]


@pytest.mark.parametrize("name", CHOSEN)
def test_epochs_and_rate_are_those_chosen_on_the_pool(name):
    chosen = json.loads(choosing.CHOICES.read_text(encoding="utf-8")).get(name)
    if chosen is None:
        assert not (choosing.CHOICES.parent / f"{name}.jsonl").exists(), "trained before anything was chosen"
        return
    best = max(chosen["tried"], key=lambda one: one["accuracy"])
    stated = {"epochs": PROTOCOLS[name].recipe.epochs, "rate": PROTOCOLS[name].recipe.rate}
    assert stated == chosen["chosen"] == {key: best[key] for key in stated}


def test_a_version_is_of_all_that_a_cell_depends_on():
    one = protocol()
    assert one.version() == protocol(notes="reworded").version()
    others = [protocol(recipe=Recipe(epochs=3)), protocol(fused=()), protocol(paper=replace(one.paper, share=20))]
    assert len({one.version(), *(other.version() for other in others)}) == 4


# Nothing leaks


def test_a_row_in_the_pool_is_not_measured_on():
    rows = made_up()
    with pytest.raises(ValueError, match="1 rows are both in the pool and measured on, such as pool-3"):
        replace(rows, test_ids=np.array([*rows.test_ids[:-1], "pool-3"]))


def test_a_copy_of_a_row_of_the_pool_is_not_measured_on(cache):
    rows = made_up()
    copies = replace(rows, test_content=np.array(["p7", *rows.test_content[1:]]))
    problem = prepared(protocol(copies), NOWHERE, cache)
    assert len(problem.rows.test_gold) == len(problem.rows.test_inputs) == 59
    assert "test-0" not in problem.rows.test_ids


def test_rows_without_a_machine_label_are_in_no_arm(cache):
    rows = made_up()
    rows.machine[:5] = -1
    problem = prepared(protocol(rows), NOWHERE, cache)
    assert len(problem.rows.gold) == len(problem.critics["fused"]) == 115


def test_choices_do_not_see_what_is_measured_on(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(choosing, "CHOICES", tmp_path / "choices.json")
    monkeypatch.setattr(choosing, "EPOCHS", {"mlp": (1, 2)})
    rows, found = made_up(), []
    for seen in (rows, replace(rows, test_inputs=np.full((60, 6), np.nan, np.float32), test_gold=np.zeros(60, int))):
        choosing.choose(protocol(seen), NOWHERE, cache)
        found.append(json.loads(choosing.CHOICES.read_text(encoding="utf-8")))
    assert found[0] == found[1]
    assert len(found[0]["vqa_rad"]["tried"]) == 4


@pytest.mark.parametrize("arm", ["act threshold", "waves", "cleanlab", "cdi", "machine"])
def test_training_and_drawing_do_not_see_what_is_measured_on(arm, cache):
    need(arm)
    rows = made_up()
    poisoned = replace(rows, test_inputs=np.zeros_like(rows.test_inputs), test_gold=np.zeros_like(rows.test_gold))
    cells = [measured(prepared(protocol(seen), NOWHERE, cache), Cell(arm, 1.0, 0)) for seen in (rows, poisoned)]
    same = ("labels_right", "reviewed", "last_loss")
    assert [cells[0][key] for key in same] == [cells[1][key] for key in same]


# The arms


OTHERS = {"cleanlab": "cleanlab", "cdi": "xgboost"}
"""Arms, and the package each needs."""


def need(arm: str) -> None:
    if arm in OTHERS:
        pytest.importorskip(OTHERS[arm], reason=f"the arm {arm} needs {OTHERS[arm]}: pip install -e '.[dev]'")


def test_cdi_asks_about_its_budget_where_the_first_rows_have_no_error():
    need("cdi")
    wrong = np.arange(1000) % 100 == 99
    for seed in range(3):
        assert baselines.cdi_selection(np.linspace(0, 1, 1000), wrong, 200, seed).sum() == 200


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_asks_people_about_its_budget(name, cache):
    need(name)
    problem = prepared(protocol(), NOWHERE, cache)
    arm = ARMS[name]
    rows = reviewed(problem, arm, 0.25, seed=0)
    labels = training_labels(rows, arm.mode)
    asked = sum(label is not None for label in rows["act_human"][:])
    assert asked == (120 if arm.pick is None else 30)
    assert len(labels.machine) == 120
    right = label_accuracy(rows, arm.mode)
    base = float((problem.rows.machine == problem.rows.gold).mean())
    assert right == {"human": 1.0, "machine": base}.get(name, right)
    assert right >= base


def test_a_set_with_an_encoder_has_a_few_arms_only():
    assert cells_of(2, tuned=True) == [(arm, 1.0, seed) for seed in (0, 1) for arm in TUNED]


def _in_main_table(arm):
    return arm.critic == FUSED and not arm.long and arm.name not in SAME


def test_every_arm_of_the_table_has_cells_and_the_main_ones_come_first():
    cells = cells_of(3)
    assert {arm for arm, _, _ in cells} == set(ARMS) - set(SAME)
    assert len(set(cells)) == len(cells)
    plain = [name for name, arm in ARMS.items() if _in_main_table(arm)]
    assert [arm for arm, _, _ in cells[: len(plain)]] == plain
    assert {share for _, share, _ in cells} == {0.25, 0.5, 0.7, 1.0, 1.5, 2.0}


def test_a_draw_that_splits_a_tie_needs_cells_of_its_own(cache):
    problem = prepared(protocol(), NOWHERE, cache)
    problem.critics[FUSED][:] = 0.5
    with pytest.raises(ValueError, match="vqa_rad: rows tie where the budget ends; 'act threshold' needs own cells"):
        reviewed(problem, ARMS["corrected"], 0.25, seed=0)


@pytest.mark.parametrize("name", ["act exponential", "corrected", "cleanlab", "random", "corrected, one critic"])
def test_a_draw_in_one_go_does_not_see_the_right_labels(name, cache):
    need(name)
    rows = made_up()
    shuffled = replace(rows, gold=np.random.default_rng(5).permutation(rows.gold))
    drawn = [reviewed(prepared(protocol(one), NOWHERE, cache), ARMS[name], 0.25, seed=0) for one in (rows, shuffled)]
    assert drawn[0]["act_selected"][:] == drawn[1]["act_selected"][:]


def test_arms_for_which_one_network_stands_are_the_same(cache):
    problem = prepared(protocol(), NOWHERE, cache)
    for arm, like in SAME.items():
        one, other = (measured(problem, Cell(name, 1.0, 0)) for name in (arm, like))
        assert {**one, "arm": like, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.parametrize("wanted", [0.6, 0.8, 0.95])
def test_a_simulated_critic_has_its_auroc_and_means_what_it_says(wanted):
    wrong = np.random.default_rng(1).random(40_000) < 0.2
    error_probs = simulated_critic(wrong, wanted, seed=0)
    assert auroc(error_probs, wrong) == pytest.approx(wanted, abs=0.01)
    assert error_probs.mean() == pytest.approx(wrong.mean(), abs=0.01)


# A run goes on where it was


def run(one: Protocol, cache: Cache, out: Path, arms: list[str], seeds: int = 1) -> list[str]:
    bench_paper.run(one, NOWHERE, cache, bench_paper.chosen(one, arms, None, seeds), 1, out)
    return (out / f"{one.name}.jsonl").read_text(encoding="utf-8").splitlines()


def test_finished_cells_are_not_done_again(tmp_path, cache, capsys):
    first = run(protocol(), cache, tmp_path, ["human", "machine"])
    again = run(protocol(), cache, tmp_path, ["human", "machine", "random"], seeds=2)
    assert again[:2] == first
    assert "2 of 14 cells are there" in capsys.readouterr().out
    assert run(protocol(), cache, tmp_path, ["human", "machine", "random"], seeds=2) == again


def test_a_line_that_a_kill_left_unfinished_is_dropped(tmp_path, cache):
    whole = run(protocol(), cache, tmp_path, ["human", "machine"])
    path = tmp_path / "vqa_rad.jsonl"
    path.write_text(whole[0] + "\n" + whole[1][:30], encoding="utf-8")
    healed = [json.loads(line) for line in run(protocol(), cache, tmp_path, ["human", "machine"])]
    assert [(cell["arm"], cell["accuracy"]) for cell in healed] == [
        (json.loads(line)["arm"], json.loads(line)["accuracy"]) for line in whole
    ]


def test_another_protocol_is_another_table(tmp_path, cache):
    run(protocol(), cache, tmp_path, ["human"])
    changed = protocol(recipe=Recipe(epochs=1, hidden=8))
    (line,) = run(changed, cache, tmp_path, ["human"])
    assert json.loads(line)["version"] == changed.version()


def test_a_cell_is_the_same_every_time(cache):
    problem = prepared(protocol(), NOWHERE, cache)
    one, other = (measured(problem, Cell("act root", 1.0, 1)) for _ in range(2))
    assert {**one, "seconds": 0} == {**other, "seconds": 0}


# Rows as the sets have them


def image(shade: int, size: int, mode: str) -> dict:
    data = io.BytesIO()
    Image.new(mode, (size, size), shade if mode == "L" else (shade, 50, 90)).save(data, "PNG")
    return {"bytes": data.getvalue(), "path": None}


def sample_folder(folder: Path) -> Source:
    """The layout of the data folder with 30 made-up rows a split; the first of each is the same in both."""
    kinds = {"emotion": 4, "irony": 2, "vqa_rad": 2, "fashion_mnist": 10, "stanford_cars": 196, "cifar10": 10}
    for name, classes in kinds.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "info.json").write_text(json.dumps({"label_names": [f"l{k}" for k in range(classes)]}))
        said = []
        for split in ("train", "test"):
            rows = [_row(name, split, row, classes) for row in range(30)]
            pd.DataFrame(rows).to_parquet(folder / name / f"{split}.parquet")
            said += [_answer(name, split, row, rater, classes) for row in range(30) for rater in RATERS[name]]
        if said:
            pd.DataFrame(said).to_parquet(folder / name / "annotations.parquet")
    return Source(folder)


def _row(name: str, split: str, row: int, classes: int) -> dict:
    number = row if row == 0 else row + (100 if split == "train" else 0)
    made = {"id": f"{split}-{row}", "label": row % min(classes, 2)}
    if name in ("emotion", "irony"):
        return {**made, "text": f"tweet number {number}"}
    picture = image(number, 28 if name == "fashion_mnist" else 8, "L" if name == "fashion_mnist" else "RGB")
    return {**made, "image": picture, **({"question": "is it?"} if name == "vqa_rad" else {})}


def _answer(name: str, split: str, row: int, rater: tuple[str, str], classes: int) -> dict:
    label = -1 if row == 29 else (row + (row % 5 == 0)) % 2
    counts = str([40 if k == label else 1 for k in range(classes)])
    return {
        "row_id": f"{split}-{row}",
        "model": rater[0],
        "strategy": rater[1],
        "label": label,
        "answer": counts,
        "text": f"because of {row}",
    }


CLAUDE = "claude-3-5-sonnet-20240620"
RATERS = {
    "emotion": [
        ("gpt-4", "12_shot"),
        ("gpt-4", "zero_shot"),
        ("gpt-3.5-turbo", "12_shot"),
        ("gpt-3.5-turbo", "zero_shot"),
    ],
    "irony": [("gpt-4o", "coc_1shot"), ("gpt-4o", "goc_1shot"), *((CLAUDE, p) for p in ("io", "cot", "coc", "goc"))],
    "vqa_rad": [(m, "zero_shot") for m in ("gpt-4o", "gemini-2.5-pro", "qwen2.5vl:7b", "llama3.2-vision:11b")],
    "fashion_mnist": [("gpt-4o-mini", "cot")],
    "stanford_cars": [],
    "cifar10": [*(("human:CIFAR-10N", f"random_label{k}") for k in (1, 2, 3)), ("human:CIFAR-10H", "majority")],
}
VECTORS = (
    *(f"vqa_rad-{split}-lite0-224" for split in ("train", "test")),
    *(f"cifar10-{split}-lite0-128" for split in ("train", "test")),
    *(f"stanford_cars-{split}-lite0-224" for split in ("train", "test")),
    *(f"stanford_cars-train-lite{size}-224" for size in (1, 2)),
)


@pytest.fixture
def source(tmp_path, cache) -> Source:
    made = sample_folder(tmp_path / "data")
    for name in VECTORS:  # in place of the image network, whose weights are 60 MB of packages
        seed = sum(name.encode())
        cache.array(name, lambda seed=seed: np.random.default_rng(seed).normal(size=(30, 1280)).astype(np.float16))
    # GPT-4o was asked about every other test image of cifar10.
    path = made.folder / "cifar10" / "annotations.parquet"
    asked = [_answer("cifar10", "test", row, ("gpt-4o", "zero_shot_32px"), 10) for row in range(1, 30, 2)]
    pd.concat([pd.read_parquet(path), pd.DataFrame(asked)]).to_parquet(path)
    return made


@pytest.mark.model
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_set_from_its_files_to_a_cell(name, source, cache, tmp_path):
    embedded(minilm_path)
    one = PROTOCOLS[name]
    one = replace(one, recipe=replace(one.recipe, epochs=1, hidden=4), tuning=one.tuning and Tuning(epochs=1))
    problem = prepared(one, source, cache)
    rows = problem.rows
    assert not set(rows.pool_ids) & set(rows.test_ids)
    assert not set(rows.pool_content) & set(rows.test_content)
    assert (rows.machine >= 0).all()
    assert len(rows.inputs) == len(rows.gold) == len(rows.vectors) == len(rows.votes) < 31
    assert all(len(values) == len(rows.gold) for values in problem.critics.values())
    assert all(((values >= 0) & (values <= 1)).all() for values in problem.critics.values())
    cell = measured(problem, Cell("act exponential, non-negative", 1.0, 0))
    assert 0 <= cell["accuracy"] <= 100
    assert cell["reviewed"] == round(one.share * len(rows.gold))


def test_recorded_answers_are_asked_for_by_name(source):
    ids = source.rows("emotion", "test")["id"]
    with pytest.raises(SystemExit, match="emotion: nothing is recorded of gpt-9 zero_shot"):
        source.said("emotion", ids, model="gpt-9", strategy="zero_shot")
    with pytest.raises(SystemExit, match="recorded answers are not on the Hub; give their folder with --data FOLDER"):
        NOWHERE.said("emotion", ids, model="gpt-4", strategy="12_shot")
    with pytest.raises(SystemExit, match="emotion: the recorded answers are not on the Hub"):
        NOWHERE.rows("emotion", "test")


def test_a_limit_takes_the_same_rows_each_time(source):
    few = Source(source.folder, limit=7)
    assert few.rows("emotion", "test")["id"].tolist() == few.rows("emotion", "test")["id"].tolist()
    assert len(few.rows("emotion", "test")) == 7
    assert few.cut == "-7"
    assert source.cut == ""


def test_the_same_content_has_the_same_digest():
    one, other, third = digests([b"a", b"a", b"b"], ["x", "x", "x"])
    assert one == other != third


# The image network


def test_a_layer_is_convolution_normalisation_and_relu6():
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 5, 3, stride=2, bias=False), torch.nn.BatchNorm2d(5, eps=1e-3)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    extract = Extractor.__new__(Extractor)
    extract.weights = {"c.weight": conv.weight, **{f"n.{key}": value for key, value in norm.state_dict().items()}}
    x = torch.randn(2, 3, 8, 8)
    wanted = norm.eval()(conv(_padded(x, 3, 2))).clamp(0, 6)
    assert torch.allclose(extract._layer(x, "c", "n", stride=2), wanted, atol=1e-6)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (8, 5, 2), (9, 5, 1)])
def test_padding_keeps_the_size_over_the_stride(size, kernel, stride):
    padded = _padded(torch.zeros(1, 1, size, size), kernel, stride)
    assert (padded.shape[-1] - kernel) // stride + 1 == -(-size // stride)


# From cells to figures


def write_cells(folder: Path, accuracies: dict[tuple[str, float], list[float]], **facts) -> SetResult:
    version = PROTOCOLS["vqa_rad"].version()
    cells = [
        {"arm": arm, "share": share, "seed": seed, "version": version, **dict.fromkeys(MEASURES, value)}
        for (arm, share), values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "vqa_rad.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells), encoding="utf-8")
    (folder / "vqa_rad.json").write_text(json.dumps({"version": version, **facts}), encoding="utf-8")
    return SetResult("vqa_rad", folder)


def test_differences_are_paired_by_seed(tmp_path):
    one = write_cells(tmp_path, {("human", 1.0): [90, 80, 70], ("corrected", 1.0): [89, 78, 67, 10]})
    found = one.difference("human", "corrected")
    assert found.value == pytest.approx(2.0)
    # t(0.975, 2) = 4.303, standard deviation 1: 2 ± 4.303 / sqrt 3
    assert (found.low, found.high) == (pytest.approx(-0.484, abs=1e-3), pytest.approx(4.484, abs=1e-3))
    assert str(found) == "2.00 (-0.48 to 4.48)"
    assert one.difference("human", "waves") is None


def test_two_seeds_have_no_interval(tmp_path):
    one = write_cells(tmp_path, {("human", 1.0): [90, 80], ("corrected", 1.0): [89, 78]})
    found = one.difference("human", "corrected")
    assert str(found) == "1.50 (two seeds)"
    assert not found.low > 0
    assert not found.high < 2


def test_facts_of_another_version_are_none(tmp_path):
    write_cells(tmp_path, {("human", 1.0): [90]})
    (tmp_path / "vqa_rad.json").write_text(json.dumps({"version": "older", "measured_on": 7}))
    assert SetResult("vqa_rad", tmp_path).facts is None


def test_the_auroc_from_which_on_the_gap_is_the_papers(tmp_path):
    arm = "act exponential, non-negative, simulated"
    gaps = {0.6: 0.0, 0.7: 3.0, 0.8: 0.05, 0.9: 0.0}
    cells = {("human", 1.0): [90.0, 80.0]}
    cells |= {(f"{arm} {auroc:.2f}", 1.0): [90 - gap, 80 - gap] for auroc, gap in gaps.items()}
    assert write_cells(tmp_path, cells).needed_auroc() == 0.8
    cells[f"{arm} 0.95", 1.0] = [80.0, 70.0]
    assert write_cells(tmp_path, cells).needed_auroc() is None


def test_the_best_arm_and_the_curve(tmp_path):
    one = write_cells(
        tmp_path,
        {
            ("machine", 1.0): [50.0],
            ("act root", 1.0): [60.0],
            ("act threshold", 1.0): [61.0],
            ("waves", 0.5): [70.0],
            ("waves", 1.0): [90.0],
        },
    )
    assert one.best_act() == "act threshold"
    shares, values = curve(one, "waves", "labels_right")
    assert (shares, values) == ([0.0, 0.5, 1.0], [50.0, 70.0, 90.0])
    assert needed_share(shares, values, 80.0) == pytest.approx(0.75)
    assert needed_share(shares, values, 95.0) is None


MEASURES = ("accuracy", "labels_right", "last_loss")
CRITIC = {name: [0.8, 0.7, 0.9] for name in ("auroc", "abs", "recall", "ece")}


def test_a_page_of_what_there_is_so_far(tmp_path):
    """A set with the main table of two seeds alone: everything else is said not to be measured, and nothing fails."""
    cells = {(name, 1.0): [60.0, 62.0] for name, arm in ARMS.items() if _in_main_table(arm)}
    cells["human", 1.0] = [70.0, 71.0]
    facts = {"rows": 100, "errors": 30, "measured_on": 50, "critics": {"fused": CRITIC, "panel": CRITIC}}
    one = write_cells(tmp_path, cells, **facts)
    made = tables([one])
    assert "9.50 (two seeds) (act normalised)" in made["gaps"]
    assert made["alone"] == "*Not measured yet.*"
    rows = {line.split(" | ")[0]: line for line in made["findings"].splitlines()}
    assert rows["| Gap of the best ACT arm: at or below the paper's"].endswith("| 0 of 1 | 9.50 |")
    assert rows["| The same, trained several times as long"].endswith("| – | – |")
    assert sum(line.endswith("| – | – |") for line in rows.values()) == 5
    assert made["half"] == "*Not measured yet.*"
    assert all(data.startswith(b"\x89PNG") for data in draw_figures([one]).values())


@pytest.mark.parametrize(
    ("machine", "row"),
    [([60.0, 61.0], "| 1 of 1 | **-0.50** |"), ([70.0, 71.0], "| – | (-0.50) |")],
)
def test_a_gap_does_not_count_where_machine_labels_alone_are_within_the_papers(tmp_path, machine, row):
    cells = {("human", 1.0): [70.0, 71.0], ("machine", 1.0): machine, ("corrected", 1.0): [70.0, 72.0]}
    facts = {"rows": 100, "errors": 30, "measured_on": 50, "critics": {"fused": CRITIC, "panel": CRITIC}}
    made = tables([write_cells(tmp_path, cells, **facts)])["findings"]
    assert f"| Gap of the best ACT arm: at or below the paper's {row}" in made


def test_intervals_over_rows_too_where_the_cells_kept_them(cache, tmp_path):
    problem = prepared(protocol(recipe=Recipe(epochs=20, hidden=8)), NOWHERE, cache)
    cells = [measured(problem, Cell(arm, 1.0, seed)) for arm in ("human", "machine") for seed in (0, 1, 2)]
    version = PROTOCOLS["vqa_rad"].version()
    lines = "".join(json.dumps({**cell, "version": version}) + "\n" for cell in cells)
    (tmp_path / "vqa_rad.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "vqa_rad.json").write_text(json.dumps({"version": version, "measured_on": 60}), encoding="utf-8")
    found = SetResult("vqa_rad", tmp_path).difference("human", "machine")
    gaps = np.array([a["accuracy"] - b["accuracy"] for a, b in zip(cells[:3], cells[3:], strict=True)])
    assert found.value == pytest.approx(gaps.mean())
    over_seeds = 4.3027 * gaps.std(ddof=1) / 3**0.5  # t(0.975, 2)
    assert found.high - found.value == pytest.approx(found.value - found.low)
    assert found.high - found.value > over_seeds


def test_intervals_cover_what_they_should():
    """Seeds and rows drawn 2,000 times, each with an error of its own: 95 % of the intervals hold the true gap."""
    random, held, seeds, count = np.random.default_rng(0), 0, 5, 400
    for _ in range(2000):
        of_row, of_seed = random.normal(0, 20, count), random.normal(0, 1, seeds)
        drawn = 3 + of_row + of_seed[:, None] + random.normal(0, 5, (seeds, count))
        held += abs(drawn.mean() - 3) <= _half_width(drawn.mean(axis=1), drawn.mean(axis=0))
    assert 0.94 <= held / 2000 <= 0.985


# The page


def test_the_tables_of_the_page_are_those_of_the_cells():
    page = (ROOT / "docs" / PAGE).read_text(encoding="utf-8")
    for name, made in tables(all_results()).items():
        assert page.split(f"<!-- begin {name} -->\n")[1].split(f"\n<!-- end {name} -->")[0] == made


def test_the_figures_are_there_and_small():
    for name in FIGURES:
        data = (ROOT / "docs" / f"results_{name}.png").read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) < 200_000


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_facts_kept_of_a_set_are_those_of_its_protocol(name):
    kept = json.loads((BENCHMARKS / "results" / "paper" / f"{name}.json").read_text(encoding="utf-8"))
    assert kept["protocol"] == json.loads(json.dumps(PROTOCOLS[name].facts()))


def test_what_is_kept_of_the_cells_is_small():
    kept = [path.stat().st_size for path in (BENCHMARKS / "results" / "paper").rglob("*") if path.is_file()]
    assert sum(kept) < 1_000_000
