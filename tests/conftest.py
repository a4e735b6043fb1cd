from __future__ import annotations

import os
import signal


# Before anything imports torch: two test runs on one machine must not fight over its cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

# What is started in the background (`make test &`) ignores Ctrl-C, and so does all that it starts: also the processes
# in which tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.argilla_server import ArgillaServer, served
from support.hub import HubServer
from support.hub_client import HubClient
from support.weights import embedded, save_tiny_llama

from act_hf.models.embedded import minilm_path, smollm2_path
from act_hf.models.encoder import EncoderModel
from act_hf.models.local import LocalModel


@pytest.fixture(scope="session", autouse=True)
def act_hf_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is kept between runs goes to one folder a session: a GGUF file is dequantised once, the user's is safe."""
    folder = tmp_path_factory.mktemp("act_hf_home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACT_HF_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def smollm2() -> LocalModel:
    return LocalModel(embedded(smollm2_path), threads=1)


@pytest.fixture(scope="session")
def minilm() -> EncoderModel:
    return EncoderModel(embedded(minilm_path))


@pytest.fixture(scope="session")
def argilla_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArgillaServer]:
    """One real server for all tests of a process."""
    with served(tmp_path_factory.mktemp("argilla")) as server:
        yield server


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory) -> Iterator[HubClient]:
    made = HubClient(tmp_path_factory.mktemp("hf"), hub.url)
    yield made
    made.close()
