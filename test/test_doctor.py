"""Every check of the doctor, in this environment and in deliberately wrong ones."""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import hub_of
from huggingface_hub import constants

from flash_vstream_ros.cli import doctor
from flash_vstream_ros.cli.loopback import check_loopback
from flash_vstream_ros.cli.model_capacity import DeviceMemory, available_memory, check_disk, check_model_memory
from flash_vstream_ros.cli.model_files import FAIL, OK, WARN, Check, ModelFiles, find_model, hub_cache
from flash_vstream_ros.ros.cv_bridge_decoder import tried_encodings
from flash_vstream_ros.ros.private_domain import claim_domain

pytestmark = pytest.mark.slow  # starts commands in processes of their own

UNREACHABLE = "http://127.0.0.1:9"
SHARED = Path(__file__).parents[2] / "shared" / "data" / "golden" / "qwen"


def safetensors(missing: int = 0) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16 - missing)


def model_folder(folder: Path, **changes: bytes | None) -> Path:
    """A folder with everything that a model needs; changes replace a file, None leaves it out."""
    files: dict[str, bytes | None] = {
        "config.json": b'{"model_type": "qwen2_vl"}',
        "model.safetensors": safetensors(),
        "tokenizer.json": b"{}",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**files, **changes}.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("version", "state"), [((3, 9, 1), FAIL), ((3, 10, 0), OK), ((3, 13, 5), OK), ((3, 14, 0), WARN)]
)
def test_the_python_version_is_checked(version: tuple[int, ...], state: str) -> None:
    assert doctor.check_python(version).state == state


@pytest.mark.parametrize("package", doctor.PACKAGES, ids=lambda package: package[0])
def test_installed_packages_are_found_with_their_version(package: tuple[str, str, str, str]) -> None:
    pytest.importorskip(package[1])
    check = doctor.check_package(*package)
    assert check.state == OK
    assert check.found[0].isdigit()


def test_a_missing_broken_or_old_package_fails_with_the_command_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_package.py").write_text("raise OSError('libfoo.so: cannot open')")
    (tmp_path / "old_package.py").write_text("__version__ = '1.9.3rc1'")
    missing = doctor.check_package("nothing", "no_such_package", "1", "nothing")
    broken = doctor.check_package("broken", "broken_package", "1", "broken")
    old = doctor.check_package("old", "old_package", "1.10", "'old>=1.10'")
    assert [check.state for check in (missing, broken, old)] == [FAIL] * 3
    assert "libfoo.so" in broken.found
    assert "pip install 'old>=1.10'" in old.advice
    assert doctor.check_package("new", "old_package", "1.9", "new").state == OK
    assert doctor.check_package("nothing", "no_such_package", "1", "nothing", needed=False).state == OK


def test_torch_without_a_device_is_a_warning_that_distinguishes_three_causes() -> None:
    checks = [
        doctor.without_cuda("2.13.0", "12.8", driver=True),
        doctor.without_cuda("2.13.0+cpu", None, driver=True),
        doctor.without_cuda("2.13.0+cpu", None, driver=False),
    ]
    assert {check.state for check in checks} == {WARN}
    assert "nvidia-smi" in checks[0].advice
    assert "install a torch with CUDA" in checks[1].advice
    assert "needs a GPU" in checks[2].advice
    assert doctor.check_cuda().state in (OK, WARN)


def test_the_image_decoder_and_its_reason_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cv_bridge.py").write_text("raise ImportError('built for NumPy 1')", encoding="utf-8")
    root = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), root, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(tmp_path))
    tried_encodings.cache_clear()
    check = doctor.check_image_decoder()
    tried_encodings.cache_clear()
    assert check.state == doctor.OK
    assert check.found.startswith("builtin: cv_bridge fails to load: ImportError: built for NumPy 1")


def test_the_attention_kernel_of_this_machine_is_reported() -> None:
    check = doctor.check_attention()
    assert check.state in (OK, WARN)
    assert check.found.split()[0] in ("sdpa", "flash_attention_2", "eager")


def test_the_runtime_of_this_machine_loads() -> None:
    from flash_vstream_ros.ros import RUNTIME

    check = doctor.check_runtime()
    assert check.state == OK
    assert check.found.startswith(RUNTIME)


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ("", OK),
        ("0", OK),
        ("101", OK),
        ("102", WARN),
        ("232", OK),
        ("233", FAIL),
        ("-1", FAIL),
        ("home", FAIL),
        ("٣", FAIL),
    ],
)
def test_the_domain_id_is_checked(value: str, state: str) -> None:
    assert doctor.check_domain({"ROS_DOMAIN_ID": value}).state == state
    assert doctor.check_domain({}).state == OK


@pytest.mark.parametrize(
    ("environment", "state", "word"),
    [
        ({}, OK, "SUBNET"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, OK, "this machine only"),
        ({"ROS_LOCALHOST_ONLY": "1"}, OK, "this machine only"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, WARN, "OFF"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "localhost"}, FAIL, "localhost"),
        ({"ROS_STATIC_PEERS": "10.0.0.7"}, OK, "10.0.0.7"),
    ],
)
def test_the_discovery_range_is_checked(environment: dict[str, str], state: str, word: str) -> None:
    check = doctor.check_discovery(environment)
    assert check.state == state
    assert word in check.found


def domain() -> dict[str, str]:
    return {"ROS_DOMAIN_ID": str(claim_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def test_two_processes_on_this_machine_exchange_messages() -> None:
    check = check_loopback({**os.environ, **domain()})
    assert check.state == OK, check


def test_processes_that_may_not_find_each_other_fail_the_loopback() -> None:
    check = check_loopback({**os.environ, **domain(), "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, start_s=3.0)
    assert check.state == FAIL
    assert "exchange no messages" in check.found


def test_a_middleware_that_does_not_start_fails_the_loopback_with_its_reason() -> None:
    pytest.importorskip("cyclonedds")
    broken = {**os.environ, **domain(), "FLASH_VSTREAM_RUNTIME": "embedded", "CYCLONEDDS_URI": "<Nonsense"}
    check = check_loopback(broken)
    assert check.state == FAIL
    assert "does not start" in check.found


@pytest.mark.parametrize(("content", "state"), [("212992\n", WARN), ("8388608", OK), ("33554432", OK), ("x", WARN)])
def test_the_receive_buffer_is_checked(tmp_path: Path, content: str, state: str) -> None:
    file = tmp_path / "rmem_max"
    file.write_text(content)
    check = doctor.check_receive_buffer(file)
    assert check.state == state
    if content == "212992\n":
        assert "sysctl -w net.core.rmem_max=8388608" in check.advice
    assert doctor.check_receive_buffer(tmp_path / "none").state == WARN


@pytest.mark.parametrize(
    ("free", "download", "state"),
    [(1e8, 0, FAIL), (5e9, 16.6e9, FAIL), (5e9, None, WARN), (5e9, 0, OK), (5e10, 16.6e9, OK), (5e10, None, OK)],
)
def test_free_disk_space_is_checked_against_the_download(
    tmp_path: Path, free: float, download: int | None, state: str
) -> None:
    assert check_disk(tmp_path / "not" / "yet", download, free).state == state


@pytest.mark.parametrize(("available", "state"), [(400_000, FAIL), (4_000_000, OK), (32_000_000, OK)])
def test_free_memory_is_checked(tmp_path: Path, available: int, state: str) -> None:
    file = tmp_path / "meminfo"
    file.write_text(f"MemTotal:  65000000 kB\nMemAvailable: {available} kB\n")
    assert doctor.check_memory(available_memory(file)).state == state
    assert doctor.check_memory(available_memory(tmp_path / "none")).state == WARN


def weights_of(parameters: int | None, state: str = OK) -> ModelFiles:
    return ModelFiles(Check("model", state, "found"), parameters)


@pytest.mark.parametrize(
    ("parameters", "memory", "state"),
    [
        (8_291_375_616, DeviceMemory("cpu", "float32", 19e9, 21e9), FAIL),
        (8_291_375_616, DeviceMemory("cuda:0", "bfloat16", 23e9, 24e9), OK),
        (8_291_375_616, DeviceMemory("cuda:0", "bfloat16", 12e9, 24e9), FAIL),
        (2_208_985_600, DeviceMemory("cpu", "float32", 19e9, 21e9), OK),
        (None, DeviceMemory("cpu", "float32", 19e9, 21e9), WARN),
        (2_208_985_600, None, WARN),
    ],
)
def test_a_model_is_checked_against_the_memory_of_the_device(
    parameters: int | None, memory: DeviceMemory | None, state: str
) -> None:
    check = check_model_memory(weights_of(parameters), memory)
    assert check.state == state, check
    assert state == OK or check.advice
    assert check_model_memory(weights_of(parameters, FAIL), memory).state == WARN


def test_the_number_of_parameters_is_read_from_the_weights(tmp_path: Path) -> None:
    assert find_model(str(model_folder(tmp_path / "model"))).parameters == 4


def test_the_memory_of_a_float32_model_is_reported() -> None:
    check = check_model_memory(weights_of(7_600_000_000), DeviceMemory("cpu", "float32", 20e9, 21e9))
    assert "7.60 billion parameters in float32 need about 34.4 GB; 20.0 of 21.0 GB" in check.found


def test_a_complete_model_folder_is_found(tmp_path: Path) -> None:
    check = find_model(str(model_folder(tmp_path / "model"))).check
    assert check.state == OK
    assert str(tmp_path) in check.found


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"config.json": None}, "config.json"),
        ({"config.json": b"{"}, "model"),
        ({"config.json": b'{"model_type": "llama"}'}, "llama"),
        ({"config.json": b"[]"}, "model"),
        ({"model.safetensors": None}, "model.safetensors"),
        ({"model.safetensors": safetensors(missing=3)}, "cut short"),
        ({"model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"}, "cut short"),
        ({"model.safetensors": b""}, "cut short"),
        ({"tokenizer.json": None}, "tokenizer"),
        ({"model.safetensors.index.json": b'{"weight_map": {"a": "part-2.safetensors"}}'}, "part-2.safetensors"),
        ({"model.safetensors.index.json": b"{}"}, "weight_map"),
    ],
)
def test_an_incomplete_model_folder_fails_and_names_the_file(
    tmp_path: Path, changes: dict[str, bytes | None], word: str
) -> None:
    check = find_model(str(model_folder(tmp_path / "model", **changes))).check
    assert check.state == FAIL
    assert word in check.found
    assert check.advice


def test_a_hub_model_is_searched_in_the_cache_set_in_the_environment(tmp_path: Path) -> None:
    environment = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": UNREACHABLE}
    assert hub_cache({"HF_HUB_CACHE": "/a/b", "HF_HOME": "/c"}) == Path("/a/b")
    absent = find_model("owner/model", environment).check
    assert absent.state == WARN
    assert "the hub was not reached" in absent.found
    assert str(tmp_path / "hub" / "models--owner--model") in absent.found
    assert "hf download owner/model" in absent.advice
    assert find_model("owner/model", {**environment, "HF_HUB_OFFLINE": "1"}).check.state == FAIL
    model_folder(tmp_path / "hub" / "models--owner--model" / "snapshots" / "abc")
    assert find_model("owner/model", environment).check.state == OK


def test_a_hub_model_is_looked_up_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub_of(model_folder(tmp_path / "model")) as address:
        environment = {"HF_HOME": str(tmp_path / "empty"), "HF_ENDPOINT": address}
        found, misspelt = (find_model(name, environment) for name in ("some/model", "some/mdoel"))
    assert (found.check.state, found.download_bytes) == (WARN, len(safetensors()))
    assert "downloads" in found.check.found
    assert misspelt.check.state == FAIL
    assert "no model some/mdoel" in misspelt.check.found


@pytest.mark.parametrize(
    "name", ["owner/mo del", "owner/-model", "ow--ner/model", "owner/model.git", "owner/" + 99 * "m"]
)
def test_an_invalid_hub_name_fails(name: str, tmp_path: Path) -> None:
    check = find_model(name, {"HF_HOME": str(tmp_path), "HF_ENDPOINT": UNREACHABLE}).check
    assert check.state == FAIL
    assert "cannot be a hub id" in check.found


@pytest.mark.parametrize("name", ["./models/mine", "/nowhere/at/all", "", "plain"])
def test_a_missing_folder_fails_with_its_full_path(name: str, tmp_path: Path) -> None:
    check = find_model(name if name else str(tmp_path / "gone"), {"HF_HOME": str(tmp_path)}).check
    assert check.state == FAIL
    assert "/" in check.found


@pytest.mark.skipif(not SHARED.exists(), reason="recorded data is not here")
def test_the_golden_model_lacks_only_its_tokenizer() -> None:
    check = find_model(str(SHARED / "model")).check
    assert check.state == FAIL
    assert "tokenizer" in check.found


def test_the_untrained_model_is_a_warning() -> None:
    assert find_model("tiny-random").check.state == WARN


def test_the_default_model_is_the_nodes() -> None:
    from flash_vstream_ros.node.parameter_table import PARAMETERS

    defaults = {parameter.name: parameter.default for parameter in PARAMETERS}
    assert defaults["model.name"] == doctor.DEFAULT_MODEL


def test_the_command_prints_json_and_fails_when_only_the_model_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flash_vstream_ros.cli", "doctor", "--json", "--model", "./gone"]
    environment = {**os.environ, **domain(), "HF_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    names = {check["name"] for check in found["checks"]}
    assert names >= {"python", "torch", "CUDA", "attention", "image decoder", "ROS runtime", "loopback"}
    assert names >= {"receive buffer", "model"}
    failed = [check for check in found["checks"] if check["state"] == FAIL]
    assert [check["name"] for check in failed] == ["model"], failed
    assert (done.returncode, found["failed"]) == (1, 1)


@pytest.mark.parametrize(("states", "status"), [([OK, WARN], 0), ([OK, FAIL, WARN], 1)])
def test_warnings_do_not_fail_the_command(
    states: list[str], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda model: [Check("one", state, "found") for state in states])
    assert doctor.run(argparse.Namespace(model="any", json=True)) == status
    assert json.loads(capsys.readouterr().out)["failed"] == status


def test_every_finding_that_is_not_ok_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.show([Check("one", OK, "fine"), Check("two", FAIL, "broken", "mend it")])
    assert capsys.readouterr().out == "OK    one: fine\nFAIL  two: broken\n      -> mend it\n"
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    assert parser.parse_args(["--json"]).json


def test_an_adapter_is_checked_with_its_base_model(tmp_path: Path) -> None:
    base, adapter = model_folder(tmp_path / "base"), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    without = find_model(str(adapter)).check
    (adapter / "adapter_model.safetensors").write_bytes(safetensors())
    whole = find_model(str(adapter)).check
    (base / "model.safetensors").write_bytes(safetensors(missing=1))
    assert (without.state, whole.state, find_model(str(adapter)).check.state) == (FAIL, OK, FAIL)
    assert "adapter_model.safetensors" in without.found
    assert all(word in whole.found for word in ("LoRA adapter", str(base), "qwen2_vl"))
