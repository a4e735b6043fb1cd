"""Rows to a real Argilla server and answers back, whatever the server, the network and people do in between."""

from __future__ import annotations

import logging
import secrets
import sys

import argilla as rg
import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Picture
from support.argilla_rest import Rest
from support.argilla_server import local_argilla
from support.argilla_ui import annotating
from support.between import Between
from support.command import good, refused

from act_hf.columns import (
    CRITIQUE,
    ERROR_PROB,
    HUMAN,
    ID,
    LABEL,
    LABEL_PROBS,
    PI,
    RATIONALE,
    RESPONSES,
    SELECTED,
    WAVE,
    add_columns,
    column_features,
)
from act_hf.errors import ACTError
from act_hf.files import write_dataset
from act_hf.records import add_record, stage_records
from act_hf.review.argilla import Argilla
from act_hf.review.argilla.answers import Answered, read_all
from act_hf.review.argilla.records import agent_of
from act_hf.review.argilla.server import connected
from act_hf.review.places import Place, find_place, pull_review, push_review
from act_hf.task import Task


LABELS = ("good", "bad", "odd")
TASK = Task(labels=LABELS, text="review", instruction="Is it a good review?", language="English")
PASSWORD = secrets.token_urlsafe(12)
NASTY = (
    '<script>window.ran=1</script> <img src=x onerror="window.ran=2"> **bold** [a](javascript:window.ran=3) $x^2$ '
    "<b>b</b> &lt; &amp; </details> www.example.com\n\n# head\n```mermaid\ngraph\n``` | a |"
)


def drawn(values, *, task=TASK, model="SmolLM2 (135M)", kind=None, **changes) -> Dataset:
    """Selected rows, with doubt that falls from the first to the last."""
    column = task.columns[0]
    dataset = Dataset.from_dict({column: values}, features=Features({column: kind or Value("string")}))
    rows = len(dataset)
    given = {
        ID: changes.get(ID) or [task.row_id({column: value}) for value in dataset[column]],
        LABEL: [number % 2 for number in range(rows)],
        ERROR_PROB: np.linspace(0.9, 0.1, rows).tolist(),
        CRITIQUE: ["doubtful"] * rows,
        PI: [0.5] * rows,
        SELECTED: [True] * rows,
        **changes,
    }
    described = add_columns(dataset, given, column_features(task, given))
    return add_record(described, "annotate", task=task.to_dict(), model=model)


def texts(count: int, *, start: int = 0) -> list[str]:
    return [f"review number {number}" for number in range(start, start + count)]


def pictures(count: int) -> list[Picture.Image]:
    return [Picture.new("RGB", (8, 8), (number, 2 * number, 3 * number)) for number in range(count)]


IMAGE_TASK = Task(labels=LABELS, image="photo")


def of_images(images, **changes) -> Dataset:
    return drawn(images, task=IMAGE_TASK, kind=Image(), **changes)


def answers(dataset: Dataset) -> dict[str, dict[str, str]]:
    """Everybody's answers by `act_id`."""
    rows = zip(dataset[ID], dataset[RESPONSES], strict=True)
    return {act_id: {one["annotator"]: one["label"] for one in given} for act_id, given in rows if given}


@pytest.fixture
def name():
    return f"set-{secrets.token_hex(4)}"


@pytest.fixture
def owner(argilla_server):
    return Rest(argilla_server.url, argilla_server.owner_key)


@pytest.fixture
def people(argilla_server):
    """Two annotators, by name."""
    return {who: Rest(argilla_server.url, key) for who, key in argilla_server.annotators.items()}


@pytest.fixture
def ann(people):
    return next(iter(people.values()))


@pytest.fixture
def anns_name(people):
    return next(iter(people))


@pytest.fixture
def place(argilla_server, name):
    """The data set of the test; with options, the same one in another way."""

    def at(**options) -> Argilla:
        given = {"workspace": argilla_server.workspace, "api_url": argilla_server.url, "patience": 1.0}
        given["api_key"] = argilla_server.owner_key
        return Argilla(name, **(given | options))

    return at


@pytest.fixture
def own_server(tmp_path):
    """One that the test may kill."""
    with local_argilla(tmp_path / "argilla") as server:
        yield server


class TestThereAndBack:
    """What the project is for, at its size."""

    @pytest.mark.timeout(1200)  # six hundred answers, a request each, and a busy machine
    @pytest.mark.parametrize(
        ("rows", "made", "wave", "more"),
        [(drawn, texts, 500, 40), (of_images, pictures, 50, 20)],
        ids=["texts", "images"],
    )
    def test_two_people_and_two_waves(self, place, owner, people, name, rows, made, wave, more):
        first, second = rows(made(wave)), rows(made(wave + more), **{WAVE: [1] * wave + [2] * more})
        assert push_review(first, place()).new == len(first)
        given: dict[str, dict[str, str]] = {}
        self.answer(owner, people, name, given)
        back = pull_review(first, place())
        assert answers(back) == given
        assert set(given) == set(first[ID])

        both = [own for own in answers(back).values() if len(own) == 2]
        assert len(both) == len(first) // 5
        assert sum(len(set(own.values())) == 1 for own in both) == len(first) // 10
        human = [None if label is None else LABELS[label] for label in back[HUMAN]]
        assert human == [next(iter(own.values())) if len(set(own.values())) == 1 else None for own in given.values()]
        assert back[LABEL][:] == first[LABEL][:]
        again = pull_review(back, place())
        assert (again.to_dict(), stage_records(again)) == (back.to_dict(), stage_records(back))

        # The second wave goes to the same place, and people go on there.
        pushed = push_review(second, place())
        assert (pushed.new, pushed.there) == (len(second) - len(first), len(first))
        self.answer(owner, people, name, given)
        after = pull_review(second, place())
        assert answers(after) == given
        assert set(given) == set(second[ID])
        assert len(owner.records(name)) == len(second)

    def answer(self, owner, people, name, given) -> None:
        """The first person answers what nobody has, the second every fifth of it, and they agree on half of those."""
        (first, one), (second, other) = people.items()
        new = [record for record in owner.records(name) if not record["responses"]]
        for number, record in enumerate(new):
            own = given[record["external_id"]] = {first: LABELS[number % 3]}
            one.answer(record["id"], own[first])
            if number % 5 == 0:
                own[second] = LABELS[(number + number % 2) % 3]
                other.answer(record["id"], own[second])


class TestWhatPeopleSee:
    def test_the_data_set_is_made_of_the_task(self, place, owner, name):
        push_review(drawn(["one", "two"]), place(min_submitted=2))
        made = owner.dataset(name)
        assert made["distribution"] == {"strategy": "overlap", "min_submitted": 2}
        assert "Is it a good review?" in made["guidelines"]
        assert "English" in made["guidelines"]
        fields = [(part["name"], part["title"], part["settings"]) for part in owner.parts(name, "fields")]
        assert fields == [
            ("text", "review", {"type": "text", "use_markdown": False}),
            ("reasons", "Reasons", {"type": "text", "use_markdown": True}),
        ]
        label, comment = owner.parts(name, "questions")
        assert [option["value"] for option in label["settings"]["options"]] == list(LABELS)
        assert (label["name"], label["required"], comment["name"], comment["required"]) == (
            "label",
            True,
            "comment",
            False,
        )

    def test_a_record(self, place, owner, name):
        probs = [[0.2, 0.7, 0.1]] * 2
        dataset = drawn(["one", "two"], **{LABEL: [1, None], LABEL_PROBS: probs, RATIONALE: ["so", None]})
        push_review(dataset, place())
        first, second = owner.records(name)
        assert first["external_id"] == dataset[ID][0]
        assert first["fields"]["text"] == "one"
        assert "doubtful" in first["fields"]["reasons"]
        assert "so" in first["fields"]["reasons"]
        assert first["metadata"] == {"error_prob": pytest.approx(0.9), "pi": 0.5, "wave": 1}
        (suggestion,) = first["suggestions"]
        assert (suggestion["value"], suggestion["score"]) == ("bad", pytest.approx(0.7))
        assert (suggestion["agent"], suggestion["type"]) == ("SmolLM2 135M", "model")
        assert second["suggestions"] == []

    def test_without_probabilities_the_score_is_what_the_critic_leaves(self, place, owner, name):
        push_review(drawn(["one"]), place())
        assert owner.records(name)[0]["suggestions"][0]["score"] == pytest.approx(0.1)

    def test_a_probability_that_is_none_is_unknown(self, place, owner, name):
        push_review(drawn(["one"], **{ERROR_PROB: [float("nan")], PI: [float("nan")]}), place())
        (record,) = owner.records(name)
        assert (record["metadata"], record["suggestions"][0]["score"]) == ({"wave": 1}, None)

    def test_without_a_critic(self, place, owner, name):
        push_review(drawn(["one"]).remove_columns([ERROR_PROB, CRITIQUE, PI]), place())
        (record,) = owner.records(name)
        assert (record["fields"], record["metadata"]) == ({"text": "one"}, {"wave": 1})
        assert record["suggestions"][0]["score"] is None

    def test_the_most_doubtful_come_first(self, place, owner, name):
        doubt = [0.2, 0.9, 0.5]
        push_review(drawn(["a", "b", "c"], **{ERROR_PROB: doubt}), place())
        assert [record["fields"]["text"] for record in owner.records(name)] == ["b", "c", "a"]

    def test_images_arrive_as_they_are(self, place, owner, name):
        push_review(of_images(pictures(2)), place())
        assert owner.records(name)[0]["fields"]["image"].startswith("data:image/jpeg;base64,")

    def test_a_question_about_a_picture_and_a_text(self, place, owner, name):
        task = Task(labels=LABELS, text="caption", image="photo", question="asked")
        shown = {"photo": pictures(1), "caption": ["a cap"], "asked": [None]}
        kinds = Features({"photo": Image(), "caption": Value("string"), "asked": Value("string")})
        dataset = Dataset.from_dict(shown, features=kinds)
        values = {ID: [task.row_id(dataset[0])], LABEL: [0], SELECTED: [True]}
        dataset = add_columns(dataset, values, column_features(task, values))
        push_review(add_record(dataset, "annotate", task=task.to_dict()), place())
        assert [part["title"] for part in owner.parts(name, "fields")] == ["photo", "caption", "asked", "Reasons"]
        (record,) = owner.records(name)
        assert (record["fields"]["text"], record["fields"]["question"]) == ("a cap", "")

    @pytest.mark.parametrize(
        "labels",
        [
            ("a, b", "a: b", "c;d|e", "😀", 'quo"te', "<b>x</b>", "naïve\u200b", "-1", "True"),
            tuple(f"intent number {number}" for number in range(500)),
            ("x" * 200, "y"),
        ],
        ids=["signs", "500", "long"],
    )
    def test_label_names(self, place, owner, ann, name, labels):
        task = Task(labels=labels, text="review")
        dataset = drawn(texts(len(labels)), task=task, **{LABEL: list(range(len(labels)))})
        push_review(dataset, place())
        records = owner.records(name)
        assert [record["suggestions"][0]["value"] for record in records] == list(labels)
        for record, label in zip(records[:20], reversed(labels[-20:]), strict=False):
            ann.answer(record["id"], label)
        back = pull_review(dataset, place())
        chosen = [labels[label] for label in back[HUMAN] if label is not None]
        assert chosen == list(reversed(labels[-20:]))

    def test_a_label_that_is_too_long_is_named(self, place, owner, name):
        task = Task(labels=("x" * 201, "y"), text="review")
        with pytest.raises(ACTError, match=r"labels of up to 200 characters, and 'xxx.*…' has 201"):
            push_review(drawn(["one"], task=task), place())
        assert name not in owner.datasets()

    @pytest.mark.parametrize(
        ("model", "agent"),
        [
            ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B"),
            ("a (b) + c", "a b c"),
            ("模型", None),
            (None, None),
            ("m" * 300, "m" * 200),
        ],
    )
    def test_names_of_models(self, place, owner, name, model, agent):
        assert agent_of(model) == agent
        push_review(drawn(["one"], model=model), place())
        assert owner.records(name)[0]["suggestions"][0]["agent"] == agent


class TestPush:
    def test_again_it_neither_doubles_nor_wipes(self, place, owner, ann, name):
        dataset = drawn(texts(3))
        push_review(dataset, place())
        ann.answer(owner.records(name)[1]["id"], "odd", comment="well")
        before = owner.records(name)
        again = push_review(dataset, place())
        assert (again.new, again.there) == (0, 3)
        assert [kept(record) for record in owner.records(name)] == [kept(record) for record in before]
        assert len(owner.datasets()) == len(set(owner.datasets()))

    def test_a_new_error_probability_changes_the_order_and_nothing_else(self, place, owner, ann, name):
        push_review(drawn(texts(3)), place())
        ann.answer(owner.records(name)[0]["id"], "odd")
        before = owner.records(name)
        push_review(drawn(texts(3), **{ERROR_PROB: [0.1, 0.2, 0.3]}), place())
        after = owner.records(name)
        assert [record["metadata"]["error_prob"] for record in after] == pytest.approx([0.1, 0.2, 0.3])
        assert [record["responses"] for record in after] == [record["responses"] for record in before]

    def test_rows_with_a_human_label_stay_there_and_are_not_pushed_again(self, place, owner, ann, name):
        dataset = drawn(texts(3))
        push_review(dataset, place())
        ann.answer(owner.records(name)[0]["id"], "bad")
        assert push_review(pull_review(dataset, place()), place()).there == 2
        assert owner.count(name) == 3

    def test_a_row_deleted_there_is_pushed_again_while_nobody_answered_it(self, place, owner, name):
        dataset = drawn(texts(3))
        push_review(dataset, place())
        owner.delete(owner.records(name)[1]["id"])
        again = push_review(dataset, place())
        assert (again.new, again.there) == (1, 2)

    def test_a_data_set_left_half_made_is_completed(self, place, owner, argilla_server, name):
        workspaces = owner.ask("GET", "me/workspaces")["items"]
        workspace = next(one["id"] for one in workspaces if one["name"] == argilla_server.workspace)
        half = owner.ask("POST", "datasets", json={"name": name, "workspace_id": workspace})
        settings = {"type": "text", "use_markdown": False}
        owner.ask(
            "POST", f"datasets/{half['id']}/fields", json={"name": "text", "title": "review", "settings": settings}
        )
        with pytest.raises(ACTError, match="stopped before the data set was made; push again"):
            pull_review(drawn(["one"]), place())
        assert push_review(drawn(["one"]), place()).new == 1
        assert owner.dataset(name)["status"] == "ready"
        assert [part["name"] for part in owner.parts(name, "fields")] == ["text", "reasons"]

    def test_stopped_by_ctrl_c_and_repeated(self, place, owner, name):
        dataset = drawn(texts(400))

        class Stopped(Argilla):
            def push(self, rows):
                class Until(type(rows)):
                    def __iter__(self):
                        for number, row in enumerate(super().__iter__()):
                            if number == 300:
                                raise KeyboardInterrupt
                            yield row

                rows.__class__ = Until
                return super().push(rows)

        whole = place()
        with pytest.raises(KeyboardInterrupt):
            push_review(dataset, Stopped(name, whole.workspace, whole.api_url, whole.api_key))
        assert owner.count(name) == 256  # two batches
        again = push_review(dataset, place())
        assert (again.new, again.there) == (144, 256)

    def test_a_text_of_a_megabyte_and_one_with_a_zero(self, place, owner, ann, name):
        dataset = drawn(["long " * 200_000, "a\0b"])
        push_review(dataset, place())
        first, second = owner.records(name)
        assert (len(first["fields"]["text"]), second["fields"]["text"]) == (1_000_000, "a\N{REPLACEMENT CHARACTER}b")
        ann.answer(first["id"], "odd")
        assert pull_review(dataset, place())[HUMAN][:] == [2, None]

    def test_an_image_that_is_too_large_is_made_smaller(self, place, owner, name):
        noise = np.random.default_rng(0).integers(0, 256, (1300, 1300, 4), dtype=np.uint8)
        push_review(of_images([Picture.fromarray(noise, "RGBA")]), place())
        sent = owner.records(name)[0]["fields"]["image"]
        assert sent.startswith("data:image/png;base64,")
        assert 1_000_000 < len(sent) <= 5_000_000

    def test_images_go_in_requests_of_a_size_that_servers_take(self, place, argilla_server):
        noise = np.random.default_rng(0).integers(0, 256, (12, 700, 700, 4), dtype=np.uint8)
        with Between(argilla_server.url) as between:
            push_review(of_images([Picture.fromarray(one, "RGBA") for one in noise]), place(api_url=between.url))
            assert sum("records/bulk" in line for line in between.seen) > 1

    def test_a_min_submitted_that_is_there_stays_unless_another_is_given(self, place, owner, name):
        push_review(drawn(["one"]), place(min_submitted=2))
        push_review(drawn(["one"]), place())
        assert owner.dataset(name)["distribution"]["min_submitted"] == 2
        push_review(drawn(["one"]), place(min_submitted=3))
        assert owner.dataset(name)["distribution"]["min_submitted"] == 3

    @pytest.mark.parametrize(
        ("other", "says"),
        [
            (
                drawn(["one"], task=Task(labels=("good", "bad", "new"), text="review")),
                r"its labels have 'odd', which the task has not; its labels have not 'new'\. Push to a new name, such "
                r"as argilla:.*-2",
            ),
            (
                of_images(pictures(1)),
                "it has no image field 'image'; it has the field 'text'",
            ),
        ],
    )
    def test_a_data_set_of_that_name_for_another_task(self, place, owner, name, other, says):
        push_review(drawn(["one"]), place())
        with pytest.raises(
            ACTError, match=f"the data set '{name}' in the Argilla workspace .* is another one's: {says}"
        ):
            push_review(other, place())
        assert owner.count(name) == 1

    def test_somebody_elses_data_set(self, place, argilla_server, name):
        with connected(argilla_server.url, argilla_server.owner_key) as client:
            settings = rg.Settings(
                fields=[rg.TextField("text", use_markdown=True, client=client), rg.TextField("more", client=client)],
                questions=[rg.TextQuestion("label", client=client)],
            )
            rg.Dataset(name, workspace=argilla_server.workspace, settings=settings, client=client).create()
        says = (
            "its 'text' shows Markdown, which rows could use; it has no text field 'reasons'; its 'label' is a text "
            "question, not a label question; .* it has the text field 'more', which has to be filled in"
        )
        with pytest.raises(ACTError, match=says):
            push_review(drawn(["one"]), place())

    def test_a_row_whose_image_is_broken_says_so(self, place, owner, name):
        broken = {"bytes": b"no image", "path": None}
        push_review(of_images([pictures(1)[0], broken, None], **{ID: ["r1", "r2", "r3"]}), place())
        whole, bad, none = [record["fields"] for record in owner.records(name)]
        assert "cannot be shown" not in whole["reasons"]
        assert "image" not in bad
        assert "<summary>The image cannot be shown</summary>cannot identify image file" in bad["reasons"]
        assert "<summary>The image cannot be shown</summary>There is none&#46;" in none["reasons"]


def kept(record: dict) -> tuple:
    """All of a record that a second push must not change."""
    suggestions = [{key: one[key] for key in ("value", "score", "agent", "type")} for one in record["suggestions"]]
    return record["id"], record["fields"], record["metadata"], record["responses"], record["status"], suggestions


class TestPull:
    def test_only_what_was_submitted(self, place, owner, people, name):
        dataset = drawn(texts(6))
        push_review(dataset, place(min_submitted=2))
        first, second = people.values()
        a, b, c, d, *_ = [record["id"] for record in owner.records(name)]
        first.answer(a, "good", comment=" because ")
        first.answer(b, "bad", status="draft")
        first.discard(c)
        second.answer(a, "good")
        second.answer(d, "odd", status="discarded")
        back = pull_review(dataset, place())
        assert back[HUMAN][:] == [0, None, None, None, None, None]
        assert sorted(one["comment"] or "" for one in back[RESPONSES][0]) == ["", "because"]
        (record,) = stage_records(back, "review")
        assert record["left"] == ["2 discarded by people, no answer", "1 drafts, not submitted"]
        assert record["source"] == place().name

    def test_a_changed_answer_counts(self, place, owner, ann, name):
        dataset = drawn(["one"])
        push_review(dataset, place())
        record = owner.records(name)[0]["id"]
        ann.answer(record, "good")
        once = pull_review(dataset, place())
        response = owner.records(name)[0]["responses"][0]["id"]
        ann.ask("PUT", f"responses/{response}", json={"values": {"label": {"value": "bad"}}, "status": "submitted"})
        assert pull_review(once, place())[HUMAN][:] == [1]

    def test_a_comment_that_was_cleared_is_gone(self, place, owner, ann, name):
        push_review(drawn(["one"]), place())
        ann.answer(owner.records(name)[0]["id"], "good", comment="because")
        once = pull_review(drawn(["one"]), place())
        assert once[RESPONSES][0][0]["comment"] == "because"
        response = owner.records(name)[0]["responses"][0]["id"]
        ann.ask("PUT", f"responses/{response}", json={"values": {"label": {"value": "good"}}, "status": "submitted"})
        assert pull_review(once, place())[RESPONSES][0][0]["comment"] is None

    def test_nobody_answered(self, place, owner, ann, name):
        push_review(drawn(texts(2)), place())
        with pytest.raises(ACTError, match=f"nobody has answered in argilla .*/{name} yet"):
            pull_review(drawn(texts(2)), place())
        ann.answer(owner.records(name)[0]["id"], "bad", status="draft")
        with pytest.raises(ACTError, match=r"yet; .*; 1 drafts, not submitted"):
            pull_review(drawn(texts(2)), place())

    def test_rows_that_are_gone_or_not_ours(self, place, owner, ann, name):
        push_review(drawn(texts(4)), place())
        ids = owner.ids(name)
        for record in ids.values():
            ann.answer(record, "bad")
        dataset = drawn(texts(4, start=1))
        owner.delete(ids[dataset[ID][0]])
        back = pull_review(dataset, place())
        assert back[HUMAN][:] == [None, 1, 1, None]
        assert stage_records(back, "review")[0]["left"] == [
            "2 rows without a label are not there: not pushed, or deleted; push again",
            "1 answers for rows that are not selected in this data set; given for another one?",
        ]

    def test_a_label_renamed_there_is_still_the_same(self, place, owner, ann, name):
        dataset = drawn(["one"])
        push_review(dataset, place())
        question = next(part for part in owner.parts(name, "questions") if part["name"] == "label")
        options = [option | {"text": f"new {option['text']}"} for option in question["settings"]["options"]]
        change = {"title": "Which?", "settings": {"type": "label_selection", "options": options}}
        owner.ask("PATCH", f"questions/{question['id']}", json=change)
        ann.answer(owner.records(name)[0]["id"], "odd")
        assert pull_review(dataset, place())[HUMAN][:] == [2]
        assert push_review(dataset, place()).there == 1

    def test_an_answer_with_a_label_that_the_task_has_not(self, place, owner, ann, name):
        wide = Task(labels=(*LABELS, "gone"), text="review")
        push_review(drawn(texts(2), task=wide), place())
        ids = owner.ids(name)
        narrow = drawn(texts(2))
        ann.answer(ids[narrow[ID][0]], "gone")
        with pytest.raises(ACTError, match=r"no answer in .* can be used: 1 answers 'gone', which is no label"):
            pull_review(narrow, place())
        ann.answer(ids[narrow[ID][1]], "odd")
        back = pull_review(narrow, place())
        assert back[HUMAN][:] == [None, 2]
        assert stage_records(back, "review")[0]["left"] == ["1 answers 'gone', which is no label of the task"]

    def test_another_data_set_there(self, place, argilla_server, owner, ann, name):
        with connected(argilla_server.url, argilla_server.owner_key) as client:
            settings = rg.Settings(
                fields=[rg.TextField("text", client=client)],
                questions=[rg.RatingQuestion("label", values=[1, 2], client=client)],
            )
            made = rg.Dataset(name, workspace=argilla_server.workspace, settings=settings, client=client).create()
            client.api.records.bulk_upsert(made.id, [rg.Record(id="theirs", fields={"text": "x"}).api_model()])
        ann.answer(owner.records(name)[0]["id"], 1)
        says = "nobody has answered in .*; 1 submitted without a label; 1 rows without a label are not there"
        with pytest.raises(ACTError, match=says):
            pull_review(drawn(["one"]), place())

    def test_more_than_a_page_while_rows_are_deleted(self, place, argilla_server, owner, ann, name):
        dataset = drawn(texts(450))
        push_review(dataset, place())
        records = owner.records(name)
        for number in (0, 210, 449):
            ann.answer(records[number]["id"], "odd")
        with Between(argilla_server.url) as between:
            # The rows behind the deleted one move up by one, one of them from the second page to the first.
            between.before("/records?", 2, lambda: owner.delete(records[5]["id"]))
            back = pull_review(dataset, place(api_url=between.url))
        assert [number for number, label in enumerate(back[HUMAN]) if label is not None] == [0, 210, 449]

    def test_progress(self, place, owner, people, name):
        dataset = drawn(texts(3))
        push_review(dataset, place(min_submitted=2))
        (first, one), (second, other) = people.items()
        a, b, _ = [record["id"] for record in owner.records(name)]
        one.answer(a, "good")
        other.answer(a, "bad")
        one.answer(b, "good", status="draft")
        progress = place().progress()
        assert (progress.rows, progress.done, progress.pending) == (3, 1, 2)
        assert progress.people == {
            first: {"submitted": 1, "draft": 1, "discarded": 0},
            second: {"submitted": 1, "draft": 0, "discarded": 0},
        }


class TestReadAll:
    """Pages by number, of records that somebody deletes meanwhile."""

    def pages(self, records, deletions, size=3):
        """Reads pages of `records`, of which `deletions` are taken away before each request, and says how often."""
        left, starts = list(records), []

        def page(start):
            starts.append(start)
            for number in deletions.pop(0) if deletions else []:
                left.remove(number)
            return [Answered(number, str(number), ()) for number in left[start : start + size]]

        return [record.id for record in read_all(page, size=size, begin=lambda: None)], starts

    @pytest.mark.parametrize("count", range(10))
    def test_each_once(self, count):
        assert self.pages(range(count), [])[0] == list(range(count))

    @pytest.mark.parametrize("gone", range(7))
    def test_what_is_left_is_read_whole(self, gone):
        read, _ = self.pages(range(7), [[], [gone]])
        assert set(read) >= set(range(7)) - {gone}
        assert len(read) == len(set(read))

    def test_records_without_an_order_are_read_again(self):
        orders = [[0, 1, 2, 3, 4]] * 6
        orders[1] = [0, 1, 2, 1, 4]  # the second page repeats one

        def page(start):
            order = orders.pop(0)
            return [Answered(number, str(number), ()) for number in order[start : start + 3]]

        assert [record.id for record in read_all(page, size=3, begin=lambda: None)] == [0, 1, 2, 3, 4]

    def test_not_for_ever(self):
        with pytest.raises(ACTError, match="being deleted in Argilla while they are read"):
            self.pages(range(100), [[number] for number in range(50)])


class TestWhoMay:
    def test_the_server_is_down(self, place):
        with pytest.raises(ACTError, match=r"Argilla at http://127\.0\.0\.1:9 does not answer: .*; is it running\?"):
            push_review(drawn(["one"]), place(api_url="http://127.0.0.1:9", patience=60.0))

    @pytest.mark.parametrize("work", [push_review, pull_review])
    def test_a_wrong_key(self, place, owner, name, work):
        with pytest.raises(ACTError, match="does not know this API key") as caught:
            work(drawn(["one"]), place(api_key="sesame-1234"))
        assert "sesame" not in str(caught.value)
        assert name not in owner.datasets()

    @pytest.mark.parametrize("work", [push_review, pull_review])
    def test_an_annotators_key(self, place, argilla_server, owner, anns_name, name, work):
        push_review(drawn(["one"]), place())
        says = rf"does not let '{anns_name}' \(annotator\) do this; take the API key of an owner"
        with pytest.raises(ACTError, match=says):
            work(drawn(["one", "two"]), place(api_key=argilla_server.annotators[anns_name]))
        assert owner.count(name) == 1

    def test_an_admin_of_the_workspace(self, place, argilla_server, owner, ann, anns_name, name):
        about = {
            "first_name": "ada",
            "username": f"ada-{name}",
            "password": secrets.token_urlsafe(12),
            "role": "admin",
        }
        admin = owner.ask("POST", "users", json=about)
        with pytest.raises(ACTError, match="there is no workspace"):
            push_review(drawn(["one"]), place(api_key=admin["api_key"]))
        push_review(drawn(["one"]), place(assign=[about["username"]]))
        with pytest.raises(ACTError, match=r"\(admin\) do this; take the API key of an owner$"):
            push_review(drawn(["one"]), place(api_key=admin["api_key"], assign=[anns_name]))
        ann.answer(owner.records(name)[0]["id"], "odd")
        back = pull_review(drawn(["one"]), place(api_key=admin["api_key"]))
        assert back[RESPONSES][0][0]["annotator"] == anns_name
        owner.ask("DELETE", f"users/{admin['id']}")

    def test_who_has_left_the_workspace_is_not_counted_as_another_person(self, place, argilla_server, owner, name):
        ada, eve = (
            owner.ask(
                "POST",
                "users",
                json={"first_name": who, "username": f"{who}-{name}", "password": PASSWORD, "role": role},
            )
            for who, role in (("ada", "admin"), ("eve", "annotator"))
        )
        dataset = drawn(["one", "two"])
        push_review(dataset, place(assign=[ada["username"], eve["username"]]))
        one, two = owner.records(name)
        Rest(owner.url, eve["api_key"]).answer(one["id"], "odd")
        as_admin = place(api_key=ada["api_key"])
        before = pull_review(dataset, as_admin)
        Rest(owner.url, eve["api_key"]).answer(two["id"], "bad")
        (workspace,) = [
            one for one in owner.ask("GET", "me/workspaces")["items"] if one["name"] == argilla_server.workspace
        ]
        owner.ask("DELETE", f"workspaces/{workspace['id']}/users/{eve['id']}")
        with pytest.raises(
            ACTError, match="2 answers by people who are not in the workspace any more; an owner's key gives"
        ):
            pull_review(before, as_admin)
        after = pull_review(before, place())
        assert [[answer["annotator"] for answer in given] for given in after[RESPONSES]] == [[eve["username"]]] * 2
        for user in (ada, eve):
            owner.ask("DELETE", f"users/{user['id']}")

    def test_people_are_let_in(self, place, owner, name):
        about = {"first_name": "eve", "username": f"eve-{name}", "password": secrets.token_urlsafe(12)}
        eve = owner.ask("POST", "users", json=about | {"role": "annotator"})
        theirs = Rest(owner.url, eve["api_key"])
        assert theirs.datasets() == []
        for _ in range(2):
            push_review(drawn(["one"]), place(assign=[about["username"]]))
        assert name in theirs.datasets()
        owner.ask("DELETE", f"users/{eve['id']}")

    def test_somebody_unknown(self, place, owner, anns_name, name):
        with pytest.raises(ACTError, match=f"Argilla has no user 'nobody'; there is .*'{anns_name}'"):
            push_review(drawn(["one"]), place(assign=[anns_name, "nobody"]))
        assert name not in owner.datasets()

    def test_no_such_workspace(self, place, argilla_server, owner, name):
        says = f"there is no workspace 'nowhere' .*; there is .*'{argilla_server.workspace}'.*--new-workspace"
        for work in (push_review, pull_review):
            with pytest.raises(ACTError, match=says):
                work(drawn(["one"]), place(workspace="nowhere"))
        assert "nowhere" not in [one["name"] for one in owner.ask("GET", "me/workspaces")["items"]]

    def test_a_new_workspace(self, place, owner, name):
        for _ in range(2):
            push_review(drawn(["one"]), place(workspace=f"new-{name}", new_workspace=True))
        (workspace,) = [one for one in owner.ask("GET", "me/workspaces")["items"] if one["name"] == f"new-{name}"]
        owner.ask("DELETE", f"datasets/{owner.dataset(name)['id']}")
        owner.ask("DELETE", f"workspaces/{workspace['id']}")

    def test_the_one_workspace_need_not_be_named(self, own_server):
        place = Argilla("set", api_url=own_server.url, api_key=own_server.owner_key)
        assert place.name == "argilla set"
        push_review(drawn(["one"]), place)
        assert place.name == f"argilla {own_server.workspace}/set"

    def test_no_such_data_set(self, place, name):
        with pytest.raises(ACTError, match=f"no data set '{name}' in the Argilla workspace '.*'; "):
            pull_review(drawn(["one"]), place())

    def test_what_answers_is_no_argilla(self, place, argilla_server):
        with Between(argilla_server.url) as between:
            between.before("/api/v1/me", 1, lambda: 404)
            with pytest.raises(ACTError, match="is no Argilla server"):
                push_review(drawn(["one"]), place(api_url=between.url))

    def test_other_refusals_are_told(self, place, argilla_server):
        with Between(argilla_server.url) as between:
            between.before("/records/bulk", 1, lambda: 413)
            with pytest.raises(ACTError, match=r"Argilla at .* refuses: .*Request Entity Too Large"):
                push_review(drawn(["one"]), place(api_url=between.url))
        assert push_review(drawn(["one"]), place()).new == 1


class TestOutages:
    def test_a_short_one_goes_by(self, place, argilla_server, owner, ann, name):
        dataset = drawn(texts(300))
        with Between(argilla_server.url) as between:
            for part in ("POST /api/v1/datasets/", "/records/bulk", "/records?", "/users"):
                between.before(part, 1, lambda: 503)
            place = place(api_url=between.url, patience=30.0)
            assert push_review(dataset, place).new == 300
            ann.answer(owner.records(name)[0]["id"], "odd")
            assert pull_review(dataset, place)[HUMAN][0] == 2

    def test_killed_in_the_middle_of_a_push(self, own_server):
        dataset = drawn(texts(600))
        owner = Rest(own_server.url, own_server.owner_key)
        with Between(own_server.url) as between:
            place = Argilla("set", api_url=between.url, api_key=own_server.owner_key, patience=0.5)
            between.during("/records/bulk", 3, own_server.kill)
            with pytest.raises(ACTError, match=r"does not answer: .*What was done so far is kept"):
                push_review(dataset, place)
            own_server.start()
            assert owner.count("set") in (256, 384)  # the third batch is there as a whole or not at all
            again = push_review(dataset, place)
        assert again.new + again.there == 600
        assert again.there >= 256
        records = owner.records("set")
        assert [record["external_id"] for record in records] == dataset[ID][:]
        assert all(len(record["suggestions"]) == 1 and record["metadata"]["wave"] == 1 for record in records)

    @pytest.mark.parametrize("request_of", ["POST /api/v1/datasets", "POST /api/v1/datasets/", "/publish"])
    def test_killed_while_the_data_set_is_made(self, own_server, request_of):
        owner = Rest(own_server.url, own_server.owner_key)
        with Between(own_server.url) as between:
            place = Argilla("set", api_url=between.url, api_key=own_server.owner_key, patience=0.5)
            between.during(request_of, 1, own_server.kill)
            with pytest.raises(ACTError, match="does not answer"):
                push_review(drawn(texts(3)), place)
            own_server.start()
            assert push_review(drawn(texts(3)), place).new == 3
        assert owner.datasets() == ["set"]
        assert [part["name"] for part in owner.parts("set", "questions")] == ["label", "comment"]
        assert {part["name"] for part in owner.parts("set", "fields")} == {"text", "reasons"}
        assert len(owner.records("set")) == 3

    def test_killed_in_the_middle_of_a_pull(self, own_server):
        dataset = drawn(texts(600))
        owner = Rest(own_server.url, own_server.owner_key)
        person, key = next(iter(own_server.annotators.items()))
        ann = Rest(own_server.url, key)
        whole = Argilla("set", api_url=own_server.url, api_key=own_server.owner_key)
        push_review(dataset, whole)
        for number, record in enumerate(owner.records("set")[::50]):
            ann.answer(record["id"], LABELS[number % 3])
        undisturbed = pull_review(dataset, whole)
        with Between(own_server.url) as between:
            place = Argilla("set", api_url=between.url, api_key=own_server.owner_key, patience=0.5)
            between.during("/records?", 3, own_server.kill)
            with pytest.raises(ACTError, match="does not answer"):
                pull_review(dataset, place)
            own_server.start()
            back = pull_review(dataset, place)
        assert back.to_dict() == undisturbed.to_dict()
        assert set(answers(back)) == set(dataset[ID][::50])
        assert {who for own in answers(back).values() for who in own} == {person}


class TestInTheBrowser:
    def test_the_most_doubtful_row_is_answered_with_a_key(self, place, argilla_server):
        """Pushed the least doubtful first, so that the page has to sort."""
        said = texts(12)
        doubt = np.linspace(0.05, 0.85, 12).tolist()
        dataset = drawn(said, **{ERROR_PROB: doubt, LABEL_PROBS: [[0.3, 0.6, 0.1]] * 12, LABEL: [1] * 12})
        push_review(dataset.select(range(6)), there := place())
        push_review(dataset, there)
        person = next(one for one in argilla_server.people if one.role == "annotator")
        with annotating(argilla_server.url, person) as window:
            window.page.goto(there.how.split()[-1])
            window.page.wait_for_selector(".record__content")
            assert window.fields()[0] == said[11]
            assert window.suggestion() == ("bad", 0.6)
            window.answer("3", "Enter")
            assert window.fields()[0] == said[10]
            window.answer("1", "Enter")
            assert window.fields()[0] == said[9]
        pulled = pull_review(dataset, place())
        assert [pulled[HUMAN][row] for row in (11, 10, 9)] == [2, 0, None]
        assert answers(pulled) == {
            dataset[ID][11]: {person.username: "odd"},
            dataset[ID][10]: {person.username: "good"},
        }

    def test_nothing_of_a_row_runs(self, place, argilla_server):
        task = Task(labels=(NASTY[:58], "<b>x</b>", "plain"), text="review", instruction=NASTY)
        dataset = drawn([NASTY], task=task, model=NASTY, **{CRITIQUE: [NASTY], RATIONALE: [NASTY]})
        push_review(dataset, there := place())
        dataset_id = there.how.split("/dataset/")[1].split("/")[0]
        person = next(one for one in argilla_server.people if one.role == "annotator")
        with annotating(argilla_server.url, person) as window:
            window.open(dataset_id, sort="metadata.error_prob.desc")
            text, reasons = window.fields()
            assert text == NASTY
            assert (
                reasons == "What the critic said\nWhy the machine chose its label"
            )  # folded, so that it need not bias
            for summary in window.page.locator("summary").all():
                summary.click()
            assert window.fields()[1].count("<script>window.ran=1</script>") == 2
            assert window.fields()[1].count("# head") == 2
            assert window.labels() == list(task.labels)
            shown = window.page.locator(".record__content")
            assert shown.locator("img, script, b, strong, a, h1, iframe, .katex").count() == 0
            assert window.page.evaluate("window.ran") is None
            assert [address for address in window.asked if not address.startswith(argilla_server.url)] == []


class TestManners:
    def test_it_is_a_place(self, place):
        assert isinstance(place(), Place)

    @pytest.mark.parametrize(
        ("where", "workspace", "dataset"),
        [("argilla:set", None, "set"), ("argilla:team/set", "team", "set"), ("argilla:team/x.csv", "team", "x.csv")],
    )
    def test_names(self, where, workspace, dataset):
        found = find_place(where, min_submitted=2)
        assert (found.workspace, found.dataset, found.min_submitted) == (workspace, dataset, 2)

    @pytest.mark.parametrize("where", ["argilla:", "argilla:/x", "argilla:x/", "argilla: "])
    def test_names_that_will_not_do(self, where):
        with pytest.raises(ACTError, match="is written argilla:NAME or argilla:WORKSPACE/NAME"):
            find_place(where)

    def test_names_of_people_are_a_list(self):
        with pytest.raises(ACTError, match="assign is a list of user names, not the text 'ann'"):
            find_place("argilla:x", assign="ann")

    def test_nobody_is_asked_for(self):
        with pytest.raises(ACTError, match="min_submitted=0: at least 1"):
            find_place("argilla:x", min_submitted=0)

    @pytest.mark.parametrize(
        "url", ["argilla.example.com", "ftp://host", "http://", "http://host:none", "file:///etc"]
    )
    def test_addresses_that_will_not_do(self, url):
        with pytest.raises(ACTError, match=f"{url}.* is no address of an Argilla server"):
            Argilla("x", api_url=url)

    def test_an_address_with_a_password(self):
        with pytest.raises(ACTError, match="has a name or password in it") as caught:
            Argilla("x", api_url="https://me:sesame@host")
        assert "sesame" not in str(caught.value)

    def test_the_key_is_named_or_missing(self, argilla_server, monkeypatch):
        monkeypatch.delenv("ARGILLA_API_KEY", raising=False)
        place = Argilla("x", api_url=argilla_server.url)
        with pytest.raises(ACTError, match="no Argilla API key in the environment variable ARGILLA_API_KEY"):
            place.progress()
        with pytest.raises(ACTError, match="in an environment variable of that name") as caught:
            Argilla("x", api_url=argilla_server.url, api_key="$sesame").progress()
        assert "sesame" not in str(caught.value)

    @pytest.mark.parametrize("key", ["sesame\nsesame", "sesame sesame", "sesame\x00", "sesame…", "sésame"])
    def test_a_key_that_cannot_be_one_is_not_repeated(self, key, monkeypatch):
        for given, variable in ((key, ""), ("$MY_KEY", key.replace("\x00", "\x01"))):
            monkeypatch.setenv("MY_KEY", variable)
            with pytest.raises(ACTError, match="the Argilla API key has a blank, a line end or a sign") as caught:
                Argilla("x", api_url="http://127.0.0.1:9", api_key=given).progress()
            assert "same" not in str(caught.value)

    def test_blanks_around_a_key_are_none_of_it(self, place, argilla_server, name):
        push_review(drawn(["one"]), place(api_key=f" {argilla_server.owner_key}\n"))

    def test_the_key_is_nowhere(self, place, argilla_server, ann, owner, name, monkeypatch):
        monkeypatch.setenv("MY_KEY", argilla_server.owner_key)
        there = place(api_key="$MY_KEY")
        push_review(drawn(["one"]), there)
        ann.answer(owner.records(name)[0]["id"], "odd")
        back = pull_review(drawn(["one"]), there)
        told = f"{there!r} {place()!r} {there.name} {there.how} {back.info.description}"
        assert argilla_server.owner_key not in told
        assert argilla_server.url not in back.info.description

    def test_the_users_own_client_and_log_stay(self, place, argilla_server):
        mine = rg.Argilla(api_url=argilla_server.url, api_key=argilla_server.owner_key)
        handlers = list(logging.root.handlers)
        push_review(drawn(["one"]), place())
        assert rg.Argilla._default_client is mine
        assert logging.root.handlers == handlers

    def test_without_the_sdk(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "argilla", None)
        with pytest.raises(ACTError, match=r"needs its SDK: pip install 'act_hf\[argilla\]'"):
            push_review(drawn(["one"]), Argilla("x", api_key="k"))


class TestCommand:
    def test_there_and_back(self, argilla_server, owner, ann, anns_name, name, tmp_path, monkeypatch):
        monkeypatch.setenv("ARGILLA_API_URL", argilla_server.url)
        monkeypatch.setenv("ARGILLA_API_KEY", argilla_server.owner_key)
        write_dataset(drawn(texts(2)), tmp_path / "drawn")
        where = f"argilla:{argilla_server.workspace}/{name}"
        said = good("review", "push", tmp_path / "drawn", where, "--min-submitted", 1, "--assign", anns_name)
        page = (
            f"{argilla_server.url}/dataset/{owner.dataset(name)['id']}/annotation-mode?sort=metadata.error_prob.desc"
        )
        assert f"2 rows to review in {where}: answer at {page}, then act-hf review pull" in said
        ann.answer(owner.records(name)[0]["id"], "odd")
        said = good("review", "pull", tmp_path / "drawn", where, tmp_path / "reviewed")
        assert f"source argilla {argilla_server.workspace}/{name}" in said
        assert argilla_server.owner_key not in said

    def test_address_and_key_by_name(self, argilla_server, name, tmp_path, monkeypatch):
        monkeypatch.setenv("MY_KEY", argilla_server.owner_key)
        write_dataset(drawn(texts(2)), tmp_path / "drawn")
        where = f"argilla:{argilla_server.workspace}/{name}"
        good("review", "push", tmp_path / "drawn", where, "--api-url", argilla_server.url, "--api-key-env", "MY_KEY")
        said = refused("review", "push", tmp_path / "drawn", where, "--api-key-env", "sesame")
        assert "give a name, never the key" in said
        assert "sesame" not in said

    @pytest.mark.parametrize(
        ("place", "options", "says"),
        [
            ("to.csv", ["--min-submitted", 2], "--min-submitted is for argilla:NAME, not for"),
            ("to.csv", ["--assign", "ann"], "--assign is for argilla:NAME, not for"),
            ("argilla:x", ["--overwrite"], "--overwrite is for a table (.csv, .jsonl), not for 'argilla:x'"),
            ("argilla:x.csv", ["--overwrite"], "--overwrite is for a table (.csv, .jsonl), not for 'argilla:x.csv'"),
        ],
    )
    def test_what_has_no_meaning_there(self, tmp_path, place, options, says):
        assert says in refused("review", "push", tmp_path / "drawn", place, *options)
