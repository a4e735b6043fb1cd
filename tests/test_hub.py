"""Data sets on the Hub: there whole or not at all, everything of others kept, and messages that say what to do."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from datasets import ClassLabel, Dataset, Features, Image, LargeList, List, Value
from support import hub_jobs as jobs
from support.hub import USERS, HubServer, broken
from support.hub_client import HubClient

from act_hf.errors import ACTError
from act_hf.files import read_dataset, write_dataset
from act_hf.hub.address import Address, is_address, parse_address
from act_hf.hub.models import check_model_push
from act_hf.hub.pushing import check_push
from act_hf.records import stage_records


WRITE, READ, BOB, FINE = USERS
CARD = b"---\r\n# a comment\r\nlicense:   'cc-by-4.0'   # said so\r\ntags: [mine]\r\n---\r\n# Mine\r\n\r\nBy hand.\r\n"


@dataclass
class Anywhere:
    """A Hub to push to: the stub, or the real one where there is an account for tests."""

    client: HubClient
    namespace: str
    token: str
    made: list[str] = field(default_factory=list)

    def new(self) -> str:
        self.made.append(f"{self.namespace}/act-hf-test-{uuid.uuid4().hex[:10]}")
        return self.made[-1]

    def __call__(self, use, *arguments, **options):
        return self.client(use, *arguments, token=self.token, **options)


def removed(id: str) -> None:
    from act_hf.hub.faults import hub_api

    hub_api().delete_repo(id, repo_type="dataset", missing_ok=True)


NAMESPACE = os.environ.get("ACT_HF_TEST_NAMESPACE")


@pytest.fixture(scope="module", params=["stub", *(["real"] if NAMESPACE and os.environ.get("HF_TOKEN") else [])])
def anywhere(request, tmp_path_factory) -> Iterator[Anywhere]:
    if request.param == "stub":
        yield Anywhere(request.getfixturevalue("client"), "ann", WRITE)
        return
    real = Anywhere(HubClient(tmp_path_factory.mktemp("hf")), NAMESPACE, os.environ["HF_TOKEN"])
    yield real
    for id in real.made:
        real(removed, id)
    real.client.close()


@pytest.fixture(scope="module")
def people() -> Dataset:
    return jobs.reviewed()


def same(one: Dataset, other: Dataset) -> bool:
    return one.features == other.features and one.to_dict() == other.to_dict()


def files(hub: HubServer, id: str, revision: str = "main") -> dict[str, bytes]:
    return {path: file.data for path, file in hub.repo(id).tree(revision).items()}


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "means"),
        [
            ("hf://user/name", Address("user/name")),
            ("user/na.me-1", Address("user/na.me-1")),
            ("hf://user/name@draft/2", Address("user/name", "draft/2")),
            ("hf://user/name:small", Address("user/name", None, "small")),
            ("hf://user/name@refs/pr/1:small", Address("user/name", "refs/pr/1", "small")),
        ],
    )
    def test_what_they_mean(self, text, means):
        assert parse_address(text) == means
        assert parse_address(str(means)) == means

    @pytest.mark.parametrize(
        "text", ["hf://user", "hf://user/name/more", "hf://user/name:a:b", "hf://user/name:a@b/c", "a b/c", "", "ü/a"]
    )
    def test_what_is_none(self, text):
        assert not is_address(text)
        with pytest.raises(ACTError, match=r"is no address on the Hub; write hf://user/name, with @revision"):
            parse_address(text)

    def test_the_name_of_a_folder_of_rows_is_no_configuration(self):
        with pytest.raises(ACTError, match="a configuration cannot be called 'data'"):
            parse_address("hf://user/name:data")

    def test_options_beside_it(self):
        address = parse_address("hf://user/name@draft")
        assert address.given(revision="draft", config="small") == Address("user/name", "draft", "small")
        with pytest.raises(ACTError, match="names the revision 'draft', and 'main' was given beside it; say one"):
            address.given(revision="main")
        with pytest.raises(ACTError, match="is no address on the Hub"):
            address.given(config="a/b")


class TestRoundTrip:
    def test_everything_comes_back(self, anywhere, people):
        id = anywhere.new()
        page = anywhere(jobs.push, people, f"hf://{id}")
        assert page.endswith(f"/datasets/{id}")
        back = anywhere(jobs.pull, f"hf://{id}")
        assert same(back, people)
        assert stage_records(back) == stage_records(people)
        assert same(anywhere(jobs.loaded, id)["train"], people)

    def test_as_a_stream(self, anywhere, people):
        id = anywhere.new()
        anywhere(jobs.push, people, f"hf://{id}:small")
        assert anywhere(jobs.streamed, f"hf://{id}:small") == (list(people), stage_records(people))
        with pytest.raises(ACTError, match="has no split 'test'; it has train"):
            anywhere(jobs.streamed, f"hf://{id}:small", split="test")

    def test_types_and_names_that_yaml_could_spoil(self, anywhere):
        names = ["=cmd", "2", "null", '"quoted"', "a\x85b", "a\u2028b", "- a: b", "true", "ünï 😀", "", " "]
        label = ClassLabel(names=names)
        types = Features(
            {
                "label": label,
                "no": Value("bool"),
                "words": List(Value("string")),
                "long": LargeList(Value("int32")),
                "nested": {"a": Value("string"), "b": List({"c": Value("float32"), "d": label})},
            }
        )
        row = {"label": 4, "no": None, "words": ["a\u2028", ""], "long": [1], "nested": {"a": None, "b": []}}
        given = Dataset.from_list([row, {**row, "label": None}, {**row, "label": 10}], features=types)
        id = anywhere.new()
        anywhere(jobs.push, given, f"hf://{id}")
        assert same(anywhere(jobs.loaded, id)["train"], given)

    def test_more_columns_and_fewer_in_the_same_configuration(self, anywhere, people):
        """What `push_to_hub` does to the card makes `load_dataset` fail."""
        id = anywhere.new()
        first = people.select_columns(["text", "gold"])
        for one in (first, people, first):
            anywhere(jobs.push, one, f"hf://{id}", overwrite=True)
            assert same(anywhere(jobs.loaded, id)["train"], one)

    def test_configurations_lie_side_by_side(self, anywhere, people):
        id = anywhere.new()
        anywhere(jobs.push, jobs.rows(5), f"hf://{id}")
        anywhere(jobs.push, people, f"hf://{id}:reviewed")
        assert same(anywhere(jobs.pull, f"hf://{id}:reviewed"), people)
        assert same(anywhere(jobs.pull, id), jobs.rows(5))
        assert stage_records(anywhere(jobs.pull, id)) == []

    def test_splits_lie_side_by_side(self, anywhere):
        id = anywhere.new()
        for number, split in enumerate(("train", "test"), 3):
            one = jobs.rows(number)
            one.info.splits = None
            anywhere(jobs.push, Dataset.from_dict(one.to_dict(), split=split), f"hf://{id}")
        assert {name: len(one) for name, one in anywhere(jobs.loaded, id).items()} == {"train": 3, "test": 4}
        assert len(anywhere(jobs.pull, id, "test")) == 4

    def test_a_branch_is_made_and_main_left_alone(self, anywhere):
        id = anywhere.new()
        anywhere(jobs.push, jobs.rows(3), f"hf://{id}")
        anywhere(jobs.push, jobs.rows(5), f"hf://{id}@draft/one", overwrite=True)
        assert len(anywhere(jobs.pull, id)) == 3
        assert len(anywhere(jobs.pull, f"hf://{id}@draft/one")) == 5

    def test_a_pull_request_replaces_nothing(self, anywhere):
        id = anywhere.new()
        anywhere(jobs.push, jobs.rows(3), f"hf://{id}")
        page = anywhere(jobs.push, jobs.rows(5), f"hf://{id}", create_pr=True)
        assert page.endswith(f"/datasets/{id}/discussions/1")
        assert len(anywhere(jobs.pull, id)) == 3
        assert len(anywhere(jobs.pull, f"hf://{id}@refs/pr/1")) == 5
        anywhere(jobs.push, jobs.rows(6), f"hf://{id}@refs/pr/1", overwrite=True)
        assert len(anywhere(jobs.pull, f"hf://{id}@refs/pr/1")) == 6

    def test_a_pull_request_to_somebody_else(self, hub, client):
        hub.put("ann/common", {"README.md": b"# Common\n"})
        page = client(jobs.push, jobs.rows(3), "hf://ann/common", create_pr=True, private=False, token=BOB)
        assert page.endswith("/datasets/ann/common/discussions/1")
        assert set(files(hub, "ann/common")) == {"README.md"}
        assert len(client(jobs.pull, "hf://ann/common@refs/pr/1")) == 3

    def test_the_configuration_that_a_card_calls_the_default(self, hub, client):
        for name, count in (("one", 3), ("two", 5)):
            client(jobs.push, jobs.rows(count), f"hf://ann/usual:{name}", token=WRITE)
        card = files(hub, "ann/usual")["README.md"]
        hub.put(
            "ann/usual", {"README.md": card.replace(b"- config_name: two", b"- config_name: two\n  default: true", 1)}
        )
        assert len(client(jobs.pull, "ann/usual", token=WRITE)) == 5
        client(jobs.push, jobs.rows(6), "hf://ann/usual:two", overwrite=True, token=WRITE)
        assert len(client(jobs.pull, "ann/usual", token=WRITE)) == 6

    def test_through_read_and_write(self, anywhere, people):
        id = anywhere.new()
        anywhere(write_dataset, people, f"hf://{id}")
        assert same(anywhere(jobs.pull, f"hf://{id}"), people)

    def test_pictures_travel_with_the_rows_byte_by_byte(self, anywhere, tmp_path):
        from PIL import Image as Picture

        Picture.new("RGB", (9, 7), (200, 10, 30)).save(tmp_path / "red.jpg")
        given = Dataset.from_dict(
            {"image": [str(tmp_path / "red.jpg")], "n": [1]}, features=Features({"image": Image(), "n": Value("int8")})
        )
        id = anywhere.new()
        anywhere(jobs.push, given, f"hf://{id}")
        (tmp_path / "red.jpg").rename(tmp_path / "moved.jpg")
        back = anywhere(pictures, id)
        assert back == [(tmp_path / "moved.jpg").read_bytes()]
        with pytest.raises(ACTError, match=f"cannot prepare the rows for 'hf://{id}': .*No such file .*red.jpg"):
            anywhere(jobs.push, given, f"hf://{id}", overwrite=True)


def pictures(id: str) -> list[bytes]:
    return [row["image"]["bytes"] for row in read_dataset(id).cast_column("image", Image(decode=False))]


class TestOneCommit:
    def test_files_of_the_old_rows_go_and_all_others_stay(self, hub, client, people):
        hub.put("ann/full", {"notes.txt": b"by hand", "data/readme.md": b"too", "README.md": CARD}, private=True)
        client(jobs.push, jobs.rows(40), "hf://ann/full", shard_size=900, token=WRITE)
        client(jobs.push, people, "hf://ann/full:other", token=WRITE)
        old = files(hub, "ann/full")
        assert sum(path.startswith("data/train-") for path in old) > 1
        commits = len(hub.repo("ann/full").commits)
        client(jobs.push, jobs.rows(2), "hf://ann/full", overwrite=True, token=WRITE)
        new = files(hub, "ann/full")
        assert len(hub.repo("ann/full").commits) == commits + 1
        assert [path for path in new if path.startswith("data/train-")] == ["data/train-00000-of-00001.parquet"]
        kept = {path for path in old if not path.startswith("data/train") and path != "README.md"}
        assert {path: new[path] for path in kept} == {path: old[path] for path in kept}
        assert {"notes.txt", "data/readme.md", "other/train.act.json", "other/train.act.png"} <= kept
        assert same(client(jobs.pull, "ann/full:other", token=WRITE), people)

    def test_a_picture_that_is_not_true_any_more_goes(self, hub, client, people):
        client(jobs.push, people, "hf://ann/picture", token=WRITE)
        assert "data/train.act.png" in files(hub, "ann/picture")
        client(jobs.push, jobs.rows(2), "hf://ann/picture", overwrite=True, token=WRITE)
        assert "data/train.act.png" not in files(hub, "ann/picture")

    def test_rows_of_a_split_pushed_with_datasets_are_replaced(self, hub, client, people):
        client(pushed_by_datasets, jobs.rows(3), "ann/theirs", token=WRITE)
        client(jobs.push, people, "hf://ann/theirs", overwrite=True, token=WRITE)
        assert same(client(jobs.loaded, "ann/theirs", token=WRITE)["train"], people)
        client(pushed_by_datasets, people, "ann/theirs", token=WRITE)  # and theirs replaces ours
        assert same(client(jobs.loaded, "ann/theirs", token=WRITE)["train"], people)

    def test_a_file_that_two_configurations_share_stays(self, hub, client):
        client(jobs.push, jobs.rows(3), "hf://ann/shared", token=WRITE)
        shard = files(hub, "ann/shared")["data/train-00000-of-00001.parquet"]
        card = b"---\nconfigs:\n- config_name: a\n  data_files: both/*\n- config_name: b\n  data_files: both/*\n---\n"
        hub.put("ann/shared", {"both/x.parquet": shard, "README.md": card})
        client(jobs.push, jobs.rows(4), "hf://ann/shared:a", overwrite=True, token=WRITE)
        assert len(client(jobs.loaded, "ann/shared", "a", token=WRITE)["train"]) == 4
        assert len(client(jobs.loaded, "ann/shared", "b", token=WRITE)["train"]) == 3

    def test_the_same_again_is_no_commit(self, hub, client, people):
        client(jobs.push, people, "hf://ann/again", token=WRITE)
        commits = len(hub.repo("ann/again").commits)
        client(jobs.push, people, "hf://ann/again", overwrite=True, token=WRITE)
        assert len(hub.repo("ann/again").commits) == commits

    def test_no_token_is_in_any_file(self, hub):
        held = [data for repo in hub.repos.values() for tree in repo.commits.values() for data in tree.values()]
        assert held
        assert not [one for one in held for token in USERS if token.encode() in one.data]


def pushed_by_datasets(dataset: Dataset, id: str) -> None:
    dataset.push_to_hub(id, private=True)


class TestInParallel:
    """Somebody else's commit comes between what a push has read and its own."""

    def test_the_same_rows(self, hub, client):
        client(jobs.push, jobs.rows(3), "hf://ann/race", token=WRITE)
        hub.overtaking = [{"data/train-00000-of-00001.parquet": b"theirs"}]
        says = (
            "cannot push to 'hf://ann/race': somebody else pushed 'data/train-00000-of-00001.parquet' at the same "
            "time, and theirs came first; nothing of yours is there"
        )
        with pytest.raises(ACTError, match=says):
            client(jobs.push, jobs.rows(4), "hf://ann/race", overwrite=True, token=WRITE)
        assert files(hub, "ann/race")["data/train-00000-of-00001.parquet"] == b"theirs"
        client(jobs.push, jobs.rows(4), "hf://ann/race", overwrite=True, token=WRITE)
        assert len(client(jobs.pull, "ann/race", token=WRITE)) == 4

    def test_other_files(self, hub, client):
        client(jobs.push, jobs.rows(3), "hf://ann/friendly", token=WRITE)
        card = files(hub, "ann/friendly")["README.md"]
        hub.overtaking = [{"notes.txt": b"theirs", "README.md": card + b"\nTheirs.\n"}]
        client(jobs.push, jobs.rows(4), "hf://ann/friendly", overwrite=True, token=WRITE)
        assert files(hub, "ann/friendly")["notes.txt"] == b"theirs"
        assert b"\nTheirs.\n" in files(hub, "ann/friendly")["README.md"]
        assert len(client(jobs.pull, "ann/friendly", token=WRITE)) == 4

    def test_the_first_push_of_both(self, hub, client):
        """Nobody said that what is there may be replaced."""
        card = b"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: x.parquet\n---\n"
        hub.overtaking = [{"x.parquet": b"theirs", "README.md": card}]
        with pytest.raises(ACTError, match="'hf://ann/both' exists, with the split 'train'"):
            client(jobs.push, jobs.rows(4), "hf://ann/both", token=WRITE)
        assert files(hub, "ann/both")["x.parquet"] == b"theirs"

    def test_others_who_do_not_stop(self, hub, client):
        client(jobs.push, jobs.rows(3), "hf://ann/busy", token=WRITE)
        hub.overtaking = [{"notes.txt": b"1"}, {"notes.txt": b"2"}]
        with pytest.raises(ACTError, match="others keep pushing to it at the same time, and theirs came first"):
            client(jobs.push, jobs.rows(4), "hf://ann/busy", overwrite=True, token=WRITE)
        assert len(client(jobs.pull, "ann/busy", token=WRITE)) == 3


class TestRefused:
    """Each message, and that nothing is left behind."""

    def untouched(self, hub, client, says, *arguments, token=WRITE, use=jobs.push, **options):
        before = {key: dict(repo.refs) for key, repo in hub.repos.items()}
        with pytest.raises(ACTError, match=says) as refusal:
            client(use, *arguments, token=token, **options)
        assert {key: dict(repo.refs) for key, repo in hub.repos.items()} == before
        assert not [token for token in (*USERS, "hf_Wrong") if token in str(refusal.value)]
        assert "http://" not in str(refusal.value)

    def test_no_rows(self, hub, client):
        self.untouched(hub, client, r"push: the data set is empty \(0 rows\)", jobs.rows(0), "hf://ann/none")

    def test_no_token(self, hub, client):
        says = r"cannot push to 'hf://ann/none': there is no token; log in with `hf auth login`, or set HF_TOKEN"
        self.untouched(hub, client, says, jobs.rows(), "hf://ann/none", token=None)

    def test_a_token_that_is_none(self, hub, client):
        says = "cannot push to 'hf://ann/none': the token is not valid; log in"
        self.untouched(hub, client, says, jobs.rows(), "hf://ann/none", token="hf_Wrong")

    def test_a_token_that_may_only_read(self, hub, client):
        says = "cannot push to 'hf://ann/none': the token may only read; make one with write access to 'ann'"
        self.untouched(hub, client, says, jobs.rows(), "hf://ann/none", token=READ)

    def test_the_data_set_of_somebody_else(self, hub, client):
        hub.put("ann/hers", {"a.md": b""})
        says = "cannot push to 'hf://ann/hers': the token may not write there; make one with write access to 'ann'"
        self.untouched(hub, client, says, jobs.rows(), "hf://ann/hers", token=FINE, private=False)
        says = "cannot push to 'hf://ann/never': the token may not write there"
        self.untouched(hub, client, says, jobs.rows(), "hf://ann/never", token=FINE)

    @pytest.mark.parametrize("kind", [check_push, check_model_push])
    def test_the_name_of_somebody_else_before_the_work(self, hub, client, kind):
        hub.put("ann/hers", {"a.md": b""})
        for id in ("ann/hers", "ann/never"):
            says = f"cannot push to 'hf://{id}': the token is that of 'bob', who may write to 'bob'; name one of these"
            with pytest.raises(ACTError, match=says):
                client(kind, parse_address(f"hf://{id}"), private=False, token=BOB)
        client(kind, parse_address("hf://ann/hers"), private=False, create_pr=True, token=BOB)
        client(kind, parse_address("hf://Bob/own"), token=BOB)

    def test_what_is_there_is_not_replaced_unasked(self, hub, client):
        client(jobs.push, jobs.rows(3), "hf://ann/there", token=WRITE)
        says = r"'hf://ann/there' exists, with the split 'train' of the configuration 'default'; give another name or"
        self.untouched(hub, client, says, jobs.rows(), "hf://ann/there")

    def test_a_public_one_takes_a_word_more(self, hub, client):
        client(jobs.push, jobs.rows(3), "hf://ann/open", private=False, token=WRITE)
        assert not hub.repo("ann/open").private
        says = "is there and public, so everybody would read what is pushed; if meant, say so: act-hf publish --public"
        self.untouched(hub, client, says, jobs.rows(), "hf://ann/open", overwrite=True)

    def test_a_private_one_is_not_made_public(self, hub, client):
        client(jobs.push, jobs.rows(3), "hf://ann/closed", token=WRITE)
        assert hub.repo("ann/closed").private
        says = "is there and private; make it public in its settings on the Hub first, or leave out --public"
        self.untouched(hub, client, says, jobs.rows(), "hf://ann/closed", overwrite=True, private=False)

    def test_another_split_with_other_columns(self, hub, client, people):
        client(jobs.push, Dataset.from_dict({"text": ["a"]}, split="test"), "hf://ann/splits", token=WRITE)
        says = "has in the configuration 'default' also the split 'test', whose columns are others or not known"
        self.untouched(hub, client, says, people, "hf://ann/splits")
        client(jobs.push, people, "hf://ann/splits:act", token=WRITE)
        assert same(client(jobs.pull, "ann/splits:act", token=WRITE), people)

    @pytest.mark.parametrize("named", ["data_dir: rows", "data_files: rows/*.csv"])
    def test_configurations_that_would_not_be_read_any_more(self, hub, client, named):
        id = f"ann/tables{len(named)}"
        card = f"---\nconfigs:\n- config_name: tables\n  {named}\n---\n".encode()
        hub.put(id, {"rows/a.csv": b"text\na\n", "README.md": card}, private=True)
        says = r"has a configuration 'tables' of other files than parquet \((rows/a.csv|not named in the card)\)"
        self.untouched(hub, client, says, jobs.rows(), f"hf://{id}")
        assert len(client(jobs.pull, id, token=WRITE)) == 1

    def test_data_that_its_card_does_not_name(self, hub, client):
        hub.put("ann/loose", {"train.csv": b"text\na\n"}, private=True)
        says = r"holds data that its card does not name \('train.csv'\); a configuration beside it would hide it"
        self.untouched(hub, client, says, jobs.rows(), "hf://ann/loose")

    @pytest.mark.parametrize(
        ("card", "says"),
        [
            (b"---\nlicense: [\n---\n", "the metadata of the card of 'hf://ann/card' is no YAML: .*; repair it"),
            (b"---\n- a\n---\n", "the metadata of the card of 'hf://ann/card' is no mapping of names to values"),
            (b"\xff\xfe", r"the card of 'hf://ann/card' is not UTF-8 \(invalid start byte\); repair it"),
            (b"---\ndataset_info:\n- features: []\n---\n", "has 'configs' or 'dataset_info' that cannot be read: "),
            (b"---\nconfigs: 7\n---\n", "has 'configs' or 'dataset_info' that cannot be read: Expected configs"),
        ],
    )
    def test_a_card_that_cannot_be_read(self, hub, client, card, says):
        hub.put("ann/card", {"README.md": card}, private=True)
        self.untouched(hub, client, says, jobs.rows(), "hf://ann/card")

    def test_a_hub_that_fails(self, hub, client):
        with broken(hub, 2):
            says = "cannot look up 'hf://ann/none': the connection to the Hub broke"
            self.untouched(hub, client, says, jobs.rows(), "hf://ann/none")


class TestUnreadable:
    def refused(self, client, says, source, split=None, token=WRITE):
        with pytest.raises(ACTError, match=says) as refusal:
            client(jobs.pull, source, split, token=token)
        assert not [token for token in USERS if token in str(refusal.value)]
        assert "\n" not in str(refusal.value)

    def test_an_id_that_does_not_exist(self, client):
        self.refused(
            client,
            "cannot read the data set 'hf://ann/nothing': there is no data set of that name on the Hub",
            "ann/nothing",
        )

    def test_a_private_one_without_a_token(self, hub, client):
        client(jobs.push, jobs.rows(), "hf://ann/secret", token=WRITE)
        self.refused(client, "or it is private: log in with `hf auth login`", "hf://ann/secret", token=None)
        self.refused(client, "or the token may not see it", "hf://ann/secret", token=BOB)

    def test_a_gated_one(self, hub, client):
        client(jobs.push, jobs.rows(), "hf://ann/gated", private=False, token=WRITE)
        hub.repo("ann/gated").gated = True
        says = "'hf://ann/gated': it is gated: ask for access on its page, with the account of the token"
        self.refused(client, says, "hf://ann/gated", token=BOB)
        self.refused(client, "it is gated: ask for access on its page, and log in with", "hf://ann/gated", token=None)

    def test_a_revision_that_is_not_there(self, hub, client):
        client(jobs.push, jobs.rows(), "hf://ann/parts", token=WRITE)
        self.refused(
            client, "cannot read the data set 'hf://ann/parts@old': it has no revision 'old'", "hf://ann/parts@old"
        )

    def test_a_configuration_that_is_not_there(self, hub, client):
        client(jobs.push, jobs.rows(), "hf://ann/named:one", token=WRITE)
        client(jobs.push, jobs.rows(), "hf://ann/named:two", token=WRITE)
        says = "'hf://ann/named:three': there is no configuration 'three'; there are one, two"
        self.refused(client, says, "hf://ann/named:three")
        self.refused(client, "has the configurations one, two; choose one, as in hf://ann/named:one", "hf://ann/named")

    def test_a_split_that_is_not_there(self, hub, client):
        for split in ("train", "test"):
            client(jobs.push, Dataset.from_dict({"a": [1]}, split=split), "hf://ann/split", token=WRITE)
        self.refused(
            client, "has no split 'dev'; it has test, train|has no split 'dev'; it has train, test", "ann/split", "dev"
        )
        self.refused(client, "has the splits .*; choose one with --split", "ann/split")

    @pytest.mark.parametrize("gone", [0, 1])
    def test_a_file_of_rows_that_is_missing(self, hub, client, gone):
        id = f"ann/torn{gone}"
        client(jobs.push, jobs.rows(40), f"hf://{id}", shard_size=600, token=WRITE)
        tree = hub.repo(id).tree("main")
        shards = [path for path in tree if path.startswith("data/train-")]
        assert len(shards) > 1
        del tree[shards[gone]]
        self.refused(client, "it has not as many rows as its card says, so a file of it is missing", id)

    def test_every_file_of_rows_missing(self, hub, client):
        client(jobs.push, jobs.rows(), "hf://ann/empty", token=WRITE)
        del hub.repo("ann/empty").tree("main")["data/train-00000-of-00001.parquet"]
        self.refused(client, "cannot read the data set 'hf://ann/empty': it has no file of rows", "ann/empty")

    def test_a_file_of_rows_that_is_none(self, hub, client):
        client(jobs.push, jobs.rows(), "hf://ann/broken", token=WRITE)
        hub.put("ann/broken", {"data/train-00000-of-00001.parquet": b"PAR1 no"})
        self.refused(client, "cannot read the data set 'hf://ann/broken': ", "ann/broken")

    @pytest.mark.parametrize("data", [b"{", b"[]", b'{"features": {}}', b"\xff"])
    def test_records_that_cannot_be_read(self, hub, client, data):
        id = f"ann/records{len(data)}{data[0]}"
        client(jobs.push, jobs.rows(), f"hf://{id}", token=WRITE)
        hub.put(id, {"data/train.act.json": data})
        self.refused(client, "'data/train.act.json' of 'hf://ann/records.*' cannot be read: ", id)

    @pytest.mark.parametrize("at", [1, 3, 6])
    def test_a_connection_that_breaks(self, hub, client, at):
        client(jobs.push, jobs.rows(), f"hf://ann/lost{at}", token=WRITE)
        with broken(hub, at):
            said = client(pulled, f"ann/lost{at}", token=WRITE)
        assert said == "12 rows" or ("cannot read" in said and "the connection to the Hub broke" in said)
        assert client(pulled, f"ann/lost{at}", token=WRITE) == "12 rows"


def test_rows_of_an_older_commit_never_stand_in(hub, client):
    """`load_dataset` takes what it has in its cache where the Hub breaks off."""
    client(jobs.push, jobs.rows(1), "hf://ann/newer", token=WRITE)
    assert client(pulled, "ann/newer", token=WRITE) == "1 rows"
    said = []
    for at in range(1, 9):
        client(jobs.push, jobs.rows(at + 1), "hf://ann/newer", overwrite=True, token=WRITE)
        with broken(hub, at):
            said.append(client(pulled, "ann/newer", token=WRITE))
        assert said[-1] == f"{at + 1} rows" or "the connection to the Hub broke" in said[-1]
    assert [one for one in said if "cannot read" in one]


def pulled(source: str) -> str:
    """How many rows there are, or what was said instead."""
    try:
        return f"{len(read_dataset(source))} rows"
    except ACTError as error:
        return str(error)


def test_what_is_kept_beside_the_rows(hub, client, people):
    client(jobs.push, people, "hf://ann/beside", token=WRITE)
    kept = json.loads(files(hub, "ann/beside")["data/train.act.json"])
    assert Features.from_dict(kept["features"]) == people.features
    assert kept["records"] == stage_records(people)
