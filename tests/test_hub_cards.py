"""Cards: every line of others stays, and what we write is true and only text."""

from __future__ import annotations

import re
import sys

import pytest
import yaml
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from support import hub_jobs as jobs
from support.hub import USERS

from act_hf.errors import ACTError
from act_hf.hub.address import Address
from act_hf.hub.commands import reproducing
from act_hf.hub.dataset_card import added_metadata, picture_of, report_of, section_of
from act_hf.hub.layout import Place
from act_hf.hub.markdown import escaped, shell_block, table
from act_hf.hub.merging import merge_card, read_metadata
from act_hf.records import add_record, stage_records, with_records
from act_hf.task import Task


WRITE = next(iter(USERS))
PLACE, ADDRESS = Place("default", "train"), Address("ann/moods")
BY_HAND = """\
---
# Do not touch
license:   'cc-by-4.0'   # said so
pretty_name: "Moods: of rows"
tags: [mine,  mood]
my_key:
    deep: {a: 1, b: [x, y]}   # flow

# before the configurations
configs:
  - config_name: other
    data_files: other/*.parquet
# after them
dates: 2024-01-01
---

# Moods

By hand, with a trailing space.\u0020

```yaml
---
license: none
---
```

## Last words
"""


def merged(card, **changed) -> str:
    given = {"title": "moods", "part": "default/train", "section": "## Ours\n\nText.", "metadata": {"configs": [1]}}
    return merge_card(card, **{**given, **changed})


def lines_of(card: str, *, but: tuple[str, ...] = ()) -> list[str]:
    return [line for line in card.splitlines() if not line.startswith(but)] if but else card.splitlines()


def is_kept(old: list[str], new: list[str]) -> bool:
    """Whether every line of `old` is in `new`, in the same order."""
    rest = iter(new)
    return all(line in rest for line in old)


class TestMerging:
    @pytest.mark.parametrize("line_end", ["\n", "\r\n"])
    def test_every_foreign_line_stays(self, line_end):
        card = BY_HAND.replace("\n", line_end)
        once = merged(card)
        twice = merged(once, section="## Ours\n\nOther text.", metadata={"configs": [1, 2]})
        foreign = lines_of(card, but=("configs:", "  - config_name: other", "    data_files: other"))
        for made in (once, twice):
            assert is_kept(foreign, made.splitlines())
            assert made.count(line_end) == made.count("\n")
            assert made.count("## Ours") == 1
        assert "Other text." in twice
        assert "\nText." not in twice
        old, new = read_metadata(card, "x"), read_metadata(twice, "x")
        assert new == {**old, "configs": [1, 2]}

    def test_what_stands_after_the_section_stays_there(self):
        card = merged("# Moods\n\nBefore.\n") + "\nAfter.\n"
        again = merged(card, section="New.")
        assert again.index("Before.") < again.index("New.") < again.index("After.")

    def test_parts_have_sections_of_their_own(self):
        card = merged(merged("# Moods\n", part="a/train", section="A one."), part="b/train", section="B one.")
        card = merged(card, part="a/train", section="A two.")
        assert "A one." not in card
        assert "A two." in card
        assert "B one." in card

    @pytest.mark.parametrize("gone", ["begin", "end"])
    def test_a_mark_without_its_partner(self, gone):
        card = merged("# Moods\n\nBy hand.\n") + "More by hand.\n"
        torn = "\n".join(line for line in card.split("\n") if not line.startswith(f"<!-- act_hf: {gone}"))
        again = merged(torn, section="New.")
        assert is_kept(["By hand.", "More by hand."], again.splitlines())
        once_more = merged(again, section="Newest.")
        assert "New." not in once_more
        assert once_more.count("<!-- act_hf:") == 2

    @pytest.mark.parametrize("card", [None, "", "\n", "---\n---\n"])
    def test_a_new_card(self, card):
        made = merged(card)
        assert read_metadata(made, "x") == {"configs": [1]}
        assert made.startswith("---\n")
        assert "## Ours" in made
        assert ("# moods" in made) == (not (card or "").strip().startswith("---"))

    @pytest.mark.parametrize(
        "card",
        [
            "Text alone.\n",
            "\ufeff---\nlicense: mit\n---\nText.\n",
            "---\r\nlicense: mit\r\n---\r\nText.",
            "--- \nText\n",
        ],
    )
    def test_odd_beginnings(self, card):
        made = merged(card)
        assert read_metadata(made, "x") == {**read_metadata(card, "x"), "configs": [1]}
        assert "Text" in made
        assert merged(made) == made

    @pytest.mark.parametrize(
        "block", ["{license: mit, configs: []}\n", "base: &b [1]\nconfigs: *b\nmore: *b\n", "? configs\n: - 1\n"]
    )
    def test_metadata_that_cannot_be_cut_into_lines(self, block):
        card = f"---\n{block}---\nText.\n"
        made = merged(card, metadata={"configs": [{"a": 2}], "new": "x"})
        assert read_metadata(made, "x") == {**yaml.safe_load(block), "configs": [{"a": 2}], "new": "x"}
        assert made.endswith("end default/train -->\n")

    @settings(deadline=None, max_examples=60)
    @given(
        st.dictionaries(
            st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=6),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=8),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
                max_leaves=6,
            ),
            max_size=5,
        ),
        st.booleans(),
        st.integers(0, 4),
    )
    def test_any_metadata_of_others_stays(self, metadata, flow, position):
        names = list(metadata)
        known = {**{name: metadata[name] for name in names[:position]}, "configs": ["old"]}
        known |= {name: metadata[name] for name in names if name not in known}
        block = yaml.safe_dump(known, sort_keys=False, default_flow_style=flow or None)
        made = merged(f"---\n{block}---\nText.\n", metadata={"configs": ["new"], "tags": ["a"]})
        assert read_metadata(made, "x") == {**known, "configs": ["new"], "tags": ["a"]}

    @pytest.mark.parametrize(
        "card", ["---\na: [\n---\n", "---\na: \x07\n---\n", "---\n- 1\n---\n", "---\ntext\n---\n"]
    )
    def test_metadata_that_is_none(self, card):
        with pytest.raises(ACTError, match=r"the metadata of the card of 'hf://a/b' is no (YAML|mapping).*repair it"):
            read_metadata(card, "hf://a/b")


class TestMetadata:
    def test_only_what_is_missing_is_added(self):
        known = {"tags": ["mine", "act_hf"], "size_categories": ["n>1T"], "language": ["fr"], "task_categories": ["x"]}
        assert added_metadata(known, jobs.TASK, 5) == {"tags": ["mine", "act_hf", "human-review"]}

    @pytest.mark.parametrize(("rows", "size"), [(999, "n<1K"), (1000, "1K<n<10K"), (10**7, "n>10M")])
    def test_the_size(self, rows, size):
        assert added_metadata({}, None, rows) == {"tags": ["act_hf", "human-review"], "size_categories": [size]}

    @pytest.mark.parametrize(
        ("shown", "category"),
        [
            ({"text": "t"}, "text-classification"),
            ({"image": "i"}, "image-classification"),
            ({"image": "i", "question": "q"}, "visual-question-answering"),
        ],
    )
    def test_the_kind_of_task(self, shown, category):
        added = added_metadata({}, Task(labels=("a", "b"), **shown, language="English"), 5)
        assert added["task_categories"] == [category]
        assert "language" not in added  # the Hub takes codes

    def test_a_single_tag(self):
        assert added_metadata({"tags": "mine"}, None, 5)["tags"] == ["mine", "act_hf", "human-review"]


def section(dataset, picture="shown") -> str:
    return section_of(report_of(dataset), PLACE, ADDRESS, picture=picture, rows=len(dataset))


@pytest.fixture(scope="module")
def said() -> str:
    return section(jobs.reviewed(40))


class TestSection:
    @pytest.mark.parametrize(
        "fact",
        [
            "| rows | 40 |",
            "| labels | calm, angry, odd |",
            r"| annotated by | loud-model: strategy naive, prompts, version ",
            r"| criticized by | quiet-model: strategy logit, prompts, version ",
            r"| drawn for review by | rule exponential, ",
            "budget 20, mix 0.5, ",
            "seed 7",
            "| reviewed | 20 of 20 rows drawn (by 3 people); ",
            "| agreement of people | 77.8\u00a0% of 9 pairs of answers to the same row |",
            "| machine labels that are right | ",
            " (95 % interval ",
            "%), estimated from the reviewed rows |",
            "| cost of annotate | 40 requests, ",
            r"s of the model, \$0.0400 |",
            r"| made with | act\_hf ",
            "![shown](data/train.act.png)",
            "act-hf annotate INPUT step1 --text text --labels calm,angry,odd --instruction 'Which mood?' "
            "--language en --model loud-model --strategy naive",
            "act-hf sample step2 step3 --budget 20 --rule exponential --mix 0.5 --seed 7",
            "act-hf review push step3 answers.csv",
            "act-hf publish step4 hf://ann/moods",
        ],
    )
    def test_what_it_says(self, said, fact):
        assert fact in said

    def test_names_of_people_are_not_told(self, said):
        assert not re.search("example|ann@|bob|carl", said.replace("hf://ann/moods", ""))

    def test_a_simulation_is_called_one(self):
        said = section(jobs.reviewed(40, simulated=True))
        assert "rows drawn (simulated, not by people: simulated from column 'gold'); " in said
        assert said.count("estimated from the reviewed rows, by a simulated review") == 2
        assert "- No person reviewed: the human labels are simulated from column 'gold'" in said
        assert "act-hf review simulate step3 step4 --gold gold" in said

    def test_before_anybody_reviewed(self):
        said = section(jobs.labelled(), picture=None)
        assert "| labels that are right | not known: " in said
        assert "![" not in said
        assert "act-hf publish step1 hf://ann/moods" in said

    def test_rows_of_somebody_else(self):
        said = section_of(report_of(jobs.rows(3)), PLACE, ADDRESS, picture=None, rows=3)
        assert said == "## The split `train` of the configuration default\n\n| | |\n|---|---|\n| rows | 3 |"
        labels_alone = jobs.rows(3).rename_column("gold", "act_label")
        assert report_of(labels_alone) is None

    def test_a_picture(self):
        picture, alt = picture_of(report_of(jobs.reviewed()))
        assert picture.startswith(b"\x89PNG")
        assert alt.startswith("Line plot")
        assert picture_of(report_of(jobs.labelled())) is None

    def test_no_matplotlib(self, monkeypatch):
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert picture_of(report_of(jobs.reviewed())) is None


ATTACKS = [
    "<!-- act_hf: end default/train -->",
    "<script>alert(1)</script>",
    "[x](https://evil.example)",
    "![x](https://evil.example/a.png)",
    "https://evil.example",
    "www.evil.example",
    "WWW.evil.example",
    "a@evil.example",
    "| a | b |",
    "`code`",
    "``` \n# Heading",
    "*b* _i_ ~s~ $x$ ^u^",
    "&lt;&#35;",
    "\u202eright to left",
    "\\[x\\](y)",
    "<https://evil.example>",
    "[^1]",
]


class TestText:
    @pytest.mark.parametrize("text", ATTACKS)
    def test_is_only_text(self, text):
        cell = "\n".join(table([("x", escaped(text))]))
        rendered = MarkdownIt("gfm-like", {"html": True}).render(cell)
        inside = rendered.rpartition("<td>")[2].partition("</td>")[0]
        assert "<" not in inside
        assert "evil.example" not in re.findall('(?:href|src)="([^"]*)', rendered)
        from html import unescape

        assert unescape(inside) == " ".join(text.replace("\u202e", " ").split())

    @given(st.text(max_size=40))
    def test_of_any_kind(self, text):
        rendered = MarkdownIt("commonmark").render(f"x {escaped(text)} x")
        assert rendered.startswith("<p>x ")
        assert rendered.count("<") == 2

    def test_that_is_long(self):
        assert len(escaped("a" * 1000)) == 300
        assert len(escaped("a" * 1000, longest=1000)) == 1000

    @pytest.mark.parametrize("text", ATTACKS)
    def test_in_labels_instruction_and_names_of_models(self, text):
        task = Task(labels=("a", text), text="text", instruction=text)
        dataset = jobs.labelled(4, task)
        evil = [{**record, "model": text, "strategy": text} for record in stage_records(dataset)]
        card = merged("# Moods\n\nAfter.\n", section=section(with_records(dataset, evil)))
        assert merged(merged(card, section="New."), section="New.").count("\n") == merged(card, section="New.").count(
            "\n"
        )
        assert card.count("<!-- act_hf: end default/train -->") == 1
        rendered = MarkdownIt("commonmark", {"html": True}).render(card.partition("---\n\n")[2])
        assert "<script" not in rendered
        assert 'src="https' not in rendered
        assert "evil" not in "".join(re.findall('href="([^"]*)', rendered))


class TestCommands:
    def test_they_are_understood(self):
        """Each one by the command line itself."""
        from typer.main import get_command

        from act_hf.cli import app

        dataset = jobs.reviewed(20)
        dataset = add_record(dataset, "calibrate", method="isotonic", seed=2)
        dataset = add_record(dataset, "sample", budget=3, rule="root", mix=0.1, floor=0.01, wave=2, seed=1, groups="g")
        dataset = add_record(dataset, "criticize", model="a + b", strategy="panel", votes=["act_vote_a"], suffix="_p")
        dataset = add_record(
            dataset, "criticize", model="x", strategy="fused", signals=["_p", "confidence"], suffix=""
        )
        lines = reproducing(stage_records(dataset), "INPUT", "hf://a/b")
        assert [line.split()[1] for line in lines] == (
            ["annotate", "criticize", "sample", "review", "review", "calibrate", "sample", "panel", "fuse", "publish"]
        )
        import shlex

        for line in lines:
            words = shlex.split(line)[1:]
            command = get_command(app)
            while words[0] in getattr(command, "commands", {}):
                command = command.commands[words.pop(0)]
            command.make_context(words[0], list(words))

    def test_models_without_the_fingerprints_of_their_weights(self):
        records = [{"stage": "annotate", "task": {}, "model": "one@0123456789ab + Qwen/Qwen3@main"}]
        assert "--model one --model Qwen/Qwen3@main" in reproducing(records, "a", "b")[0]

    @pytest.mark.parametrize(
        ("source", "place"),
        [
            ("table answers.csv", "answers.csv"),
            ("page moods.review", "moods.review"),
            ("argilla team/moods", "argilla:team/moods"),
            ("None", "to_review.csv"),
        ],
    )
    def test_where_people_reviewed(self, source, place):
        lines = reproducing([{"stage": "review", "source": source}], "a", "b")
        assert lines[:2] == [f"act-hf review push a {place}", f"act-hf review pull a {place} step1"]

    def test_a_fence_that_no_command_closes(self):
        block = shell_block(["a ````\n```", "<!-- act_hf: end -->"])
        assert block[0] == "`````sh"
        assert block[-1] == "`````"
        assert block[1:-1] == ["a ```` ```", "<''!-- act_hf: end -->"]


class TestPushed:
    def test_a_card_by_hand_keeps_every_line(self, hub, client):
        dataset = jobs.reviewed()
        hub.put("ann/card", {"README.md": BY_HAND.encode(), "other/a.parquet": parquet()}, private=True)
        changing = ("configs:", "  - config_name: other", "    data_files: other", "tags:")
        foreign = lines_of(BY_HAND, but=changing)
        for one in (dataset, dataset.remove_columns("act_critique"), dataset):
            client(jobs.push, one, "hf://ann/card", overwrite=True, token=WRITE)
            card = hub.repo("ann/card").tree("main")["README.md"].data.decode()
            assert is_kept(foreign, card.splitlines())
            metadata = read_metadata(card, "x")
            assert {"config_name": "other", "data_files": "other/*.parquet"} in metadata["configs"]
            assert metadata["tags"] == ["mine", "mood", "act_hf", "human-review"]
            assert {**read_metadata(BY_HAND, "x"), "configs": 0, "tags": 0}.items() <= {
                **metadata,
                "configs": 0,
                "tags": 0,
            }.items()
            assert metadata["language"] == ["en"]
            back = client(jobs.loaded, "ann/card", "default", token=WRITE)["train"]
            assert back.features == one.features
        assert len(client(jobs.loaded, "ann/card", "other", token=WRITE)["train"]) == 1

    def test_the_picture_is_where_the_card_looks_for_it(self, hub, client):
        client(jobs.push, jobs.reviewed(), "hf://ann/look:my moods".replace(" ", "_"), token=WRITE)
        tree = hub.repo("ann/look").tree("main")
        path = re.search(r"!\[.*?\]\((.*?)\)", tree["README.md"].data.decode())[1]
        assert tree[path].data.startswith(b"\x89PNG")


def parquet() -> bytes:
    import io

    buffer = io.BytesIO()
    Dataset.from_dict({"a": [1]}).to_parquet(buffer)
    return buffer.getvalue()
