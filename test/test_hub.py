"""Models by hub id: from a hub, from the cache, and errors where files are missing or incomplete."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from hub_models import save_hub_model
from hub_server import COMMIT, hub_of
from huggingface_hub import constants

from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.load import load_model

NAME = "some/model"
SHARD = "model-00002-of-00003.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_hub_model(tmp_path_factory.mktemp("model"), "qwen2_vl")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, in a folder without a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def use(address: str, monkeypatch) -> None:
    """Use this endpoint, as HF_ENDPOINT would set it."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def sentence_of(name: str) -> str:
    with pytest.raises(ModelError) as error:
        load_model(name, device="cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


def store(cache: Path, folder: Path) -> Path:
    """Store the model as a finished download does."""
    place = cache / "models--some--model"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(folder, place / "snapshots" / COMMIT))


def test_a_model_is_downloaded_once_and_then_taken_from_the_cache(folder, cache, monkeypatch):
    with hub_of(folder) as address:
        use(address, monkeypatch)
        first = load_model(NAME, device="cpu")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    second = load_model(NAME, device="cpu")
    assert first.name == second.name == NAME
    assert first.network.config.to_dict() == second.network.config.to_dict()


def test_an_interrupted_download_names_the_file_and_is_resumed(folder, cache, monkeypatch):
    with hub_of(folder, cut=(SHARD,)) as address:
        use(address, monkeypatch)
        sentence = sentence_of(NAME)
    for words in (f"{SHARD} did not arrive completely", str(cache), "hf download some/model"):
        assert words in sentence
    with monkeypatch.context() as without_network:
        without_network.setattr(constants, "HF_HUB_OFFLINE", True)
        assert SHARD in sentence_of(NAME)
    with hub_of(folder) as address:
        use(address, monkeypatch)
        assert load_model(NAME, device="cpu").name == NAME


def test_the_error_for_an_incomplete_cache_without_a_network_names_the_file(folder, cache, monkeypatch):
    snapshot = store(cache, folder)
    (snapshot / SHARD).unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    sentence = sentence_of(NAME)
    for words in (str(snapshot / SHARD), "does not exist", "Download the model again"):
        assert words in sentence


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, ("does not fit", "GB are free", "HF_HOME")),
        (errno.EDQUOT, ("does not fit", "HF_HOME")),
        (errno.EACCES, ("cannot be stored", "HF_HOME")),
        (errno.EROFS, ("cannot be stored", "HF_HOME")),
    ],
)
def test_the_error_for_a_full_or_read_only_disk_names_its_path(cache, monkeypatch, number, words):
    """A test cannot fill a disk, so the download raises the error of a full disk."""

    def fail(*_, **__):
        raise OSError(number, "from the file system")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    sentence = sentence_of(NAME)
    assert all(word in sentence for word in (*words, str(cache), NAME)), sentence
