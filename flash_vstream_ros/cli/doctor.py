"""`flash-vstream-ros doctor`: check this machine, and say how to fix what is missing, one line per check."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from flash_vstream_ros import __version__
from flash_vstream_ros.cli.image_loopback import check_images
from flash_vstream_ros.cli.loopback import check_loopback
from flash_vstream_ros.cli.model_capacity import (
    GB,
    available_memory,
    check_disk,
    check_model_memory,
    chosen_device_memory,
)
from flash_vstream_ros.cli.model_files import FAIL, OK, WARN, Check, find_model, hub_cache
from flash_vstream_ros.models.names import PUBLISHED_MODEL as DEFAULT_MODEL

# Rows: distribution, module, lowest version, argument of pip install.
PACKAGES = (
    ("torch", "torch", "2.5", "torch"),
    ("transformers", "transformers", "5.18", "'transformers>=5.18,<6'"),
    ("numpy", "numpy", "1.26", "'numpy>=1.26,<3'"),
    ("opencv", "cv2", "4.5", "opencv-python-headless"),
    ("pyav", "av", "14", "av"),
    ("pillow", "PIL", "10", "pillow"),
    ("cyclonedds", "cyclonedds", "11.0.1", "cyclonedds==11.0.1"),
    ("rosbags", "rosbags", "0.11", "'rosbags>=0.11,<0.12'"),
)
EMBEDDED_ONLY = ("cyclonedds", "rosbags")  # not needed with rclpy
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
RECEIVE_BUFFER = 8 * 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=DEFAULT_MODEL, help="hub id or folder of the model (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the checks. The exit status is 0 if none fails; warnings do not count."""
    checks = examine(args.model)
    failed = sum(check.state == FAIL for check in checks)
    if args.json:
        print(json.dumps({"failed": failed, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        show(checks)
    return 1 if failed else 0


def examine(model: str) -> list[Check]:
    runtime = check_runtime()
    native = runtime.found.startswith("rclpy")
    files, available = find_model(model), available_memory()

    def with_runtime(name: str, check: Callable[[], Check]) -> Check:
        return Check(name, FAIL, "not tried", "see ROS runtime") if runtime.state == FAIL else check()

    return [
        check_python(),
        Check("flash_vstream_ros", OK, __version__),
        *(check_package(*package, needed=not (native and package[0] in EMBEDDED_ONLY)) for package in PACKAGES),
        check_cuda(),
        check_attention(),
        check_faces(),
        with_runtime("image decoder", check_image_decoder),
        runtime,
        check_domain(),
        check_discovery(),
        with_runtime("loopback", check_loopback),
        with_runtime("large images", check_images),
        check_receive_buffer(),
        files.check,
        check_model_memory(files, chosen_device_memory(available)),
        check_disk(hub_cache(), files.download_bytes),
        check_memory(available),
    ]


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    found = ".".join(map(str, version))
    if version < (3, 10):
        return Check("python", FAIL, found, "use Python 3.10 to 3.13")
    if version >= (3, 14):
        return Check("python", WARN, found, "not tested beyond 3.13")
    return Check("python", OK, found)


def check_package(name: str, module: str, lowest: str, install: str, needed: bool = True) -> Check:
    """Check that a package can be imported and is recent enough."""
    advice = f"pip install {install}"
    try:
        imported = importlib.import_module(module)
    except Exception as error:  # a broken C extension may raise any exception
        if not needed:
            return Check(name, OK, "not installed, not needed with rclpy")
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Check(name, FAIL, f"does not import: {reason}", advice)
    version = getattr(imported, "__version__", None) or _distribution_version(name)
    if _numbers(version) and _numbers(version) < _numbers(lowest):
        return Check(name, FAIL if needed else WARN, version, f"{lowest} or newer is needed: {advice}")
    return Check(name, OK, version)


def _distribution_version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown version"


def _numbers(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def check_cuda() -> Check:
    try:
        import torch
    except Exception:
        return Check("CUDA", FAIL, "torch does not import", "see torch")
    built = torch.version.cuda
    if not torch.cuda.is_available():
        return without_cuda(torch.__version__, built, Path("/proc/driver/nvidia/version").exists())
    devices = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        devices.append(f"{torch.cuda.get_device_name(index)} ({free / GB:.0f} of {total / GB:.0f} GB free)")
    return Check("CUDA", OK, f"{', '.join(devices)}; torch built for CUDA {built}")


def without_cuda(torch_version: str, built: str | None, driver: bool) -> Check:
    if built:
        advice = "run nvidia-smi: the driver is older than this CUDA, or the container was started without --gpus all"
        return Check("CUDA", WARN, f"torch {torch_version} is built for CUDA {built} but finds no device", advice)
    if driver:
        advice = "install a torch with CUDA: https://pytorch.org/get-started, on a Jetson NVIDIA's own build"
        return Check(
            "CUDA", WARN, f"an NVIDIA driver is installed, but torch {torch_version} is built without CUDA", advice
        )
    return Check(
        "CUDA",
        WARN,
        f"no device, torch {torch_version} on the CPU",
        "small models run on the CPU; a 7B model needs a GPU",
    )


def check_attention() -> Check:
    try:
        from flash_vstream_ros.models.load import choose_attention, choose_device, choose_dtype

        device = choose_device("auto")
        choice = choose_attention("auto", device, choose_dtype("auto", device))
    except Exception as error:
        return Check("attention", FAIL, f"no kernel can be chosen: {error}", "see torch and transformers")
    if choice.kernel == "sdpa" and device.type == "cuda":
        return Check(
            "attention",
            WARN,
            str(choice),
            "works; flash-attn is faster where it builds: pip install --no-build-isolation 'flash_vstream_ros[flash]'",
        )
    return Check("attention", OK, str(choice))


def check_image_decoder() -> Check:
    """The decoder that image.decoder auto chooses, and the reason."""
    from flash_vstream_ros.ros.cv_bridge_decoder import choose_decoder

    choice = choose_decoder("auto")
    return Check("image decoder", OK, f"{choice.name}: {choice.reason}")


def check_faces() -> Check:
    """The face detector, which only privacy.blur_faces needs."""
    name = "face detector"
    try:
        from flash_vstream_ros.engine.ingest.faces import INSTALL, PACKAGE, FacesUnavailable, check_face_detector
    except Exception as error:
        return Check(name, FAIL, f"not tried: {error}", "see torch and opencv")
    if find_spec(PACKAGE) is None:
        return Check(name, OK, f"not installed, needed for privacy.blur_faces only: {INSTALL} (x86-64)")
    try:
        check_face_detector()
    except FacesUnavailable as error:
        return Check(name, WARN, f"{PACKAGE} does not work", str(error))
    return Check(name, OK, f"{PACKAGE} {_distribution_version(PACKAGE)}")


def check_runtime(environment: Mapping[str, str] = os.environ) -> Check:
    try:
        from flash_vstream_ros.ros import RUNTIME
    except Exception as error:
        return Check("ROS runtime", FAIL, "neither rclpy nor the embedded runtime loads", str(error))
    if RUNTIME == "rclpy":
        rmw = environment.get("RMW_IMPLEMENTATION", "") or "default RMW"
        return Check("ROS runtime", OK, f"rclpy, ROS {environment.get('ROS_DISTRO', 'of unknown distro')}, {rmw}")
    return Check(
        "ROS runtime", OK, "embedded, Cyclone DDS; services need peers with RMW_IMPLEMENTATION=rmw_cyclonedds_cpp"
    )


def check_domain(environment: Mapping[str, str] = os.environ) -> Check:
    text = environment.get("ROS_DOMAIN_ID", "")
    if text and not (text.isascii() and text.isdigit() and int(text) <= 232):
        return Check("ROS_DOMAIN_ID", FAIL, repr(text), "set it to a whole number from 0 to 101, or unset it")
    domain = int(text or 0)
    if 101 < domain < 215:
        return Check("ROS_DOMAIN_ID", WARN, text, "its ports may be taken by outgoing connections: use 0 to 101")
    return Check("ROS_DOMAIN_ID", OK, text or "0 (not set)")


def check_discovery(environment: Mapping[str, str] = os.environ) -> Check:
    name, chosen = "discovery range", environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "") or "SUBNET"
    if environment.get("ROS_LOCALHOST_ONLY", "") == "1":
        chosen = "LOCALHOST"
    if chosen not in RANGES:
        advice = f"set ROS_AUTOMATIC_DISCOVERY_RANGE to one of {', '.join(RANGES)}"
        return Check(name, FAIL, repr(chosen), advice)
    peers = environment.get("ROS_STATIC_PEERS", "")
    found = chosen + (f", static peers {peers}" if peers else "")
    if chosen == "OFF":
        return Check(name, WARN, found, "no other process is found: unset ROS_AUTOMATIC_DISCOVERY_RANGE")
    if chosen == "LOCALHOST" and not peers:
        return Check(name, OK, f"{found}: this machine only")
    return Check(name, OK, found)


def check_receive_buffer(path: Path = Path("/proc/sys/net/core/rmem_max")) -> Check:
    name = "receive buffer"
    try:
        allowed = int(path.read_text())
    except (OSError, ValueError):
        return Check(name, WARN, f"{path} cannot be read", "make sure that 8 MB are allowed for a socket")
    if allowed >= RECEIVE_BUFFER:
        return Check(name, OK, f"net.core.rmem_max {allowed}")
    advice = (
        f"HD images get lost: sudo sysctl -w net.core.rmem_max={RECEIVE_BUFFER}, "
        "and the same in /etc/sysctl.d/60-dds.conf"
    )
    return Check(name, WARN, f"net.core.rmem_max {allowed}, asked for {RECEIVE_BUFFER}", advice)


def check_memory(available: tuple[float, float] | None) -> Check:
    """Check the free memory. `available`: free and total memory [bytes]."""
    if available is None:
        return Check("memory", WARN, "the memory of this machine is unknown", "make sure that 1 GB is free")
    free, total = available
    found = f"{free / GB:.1f} of {total / GB:.1f} GB available"
    if free < 1 * GB:
        return Check("memory", FAIL, found, "end other programs: torch alone takes 1 GB")
    return Check("memory", OK, found)


def show(checks: list[Check]) -> None:
    """Print the checks: a table on a terminal, plain lines elsewhere."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            pass
        else:
            table, console = Table("", "check", "found"), Console()
            for check in checks:
                colour = {OK: "green", WARN: "yellow", FAIL: "bold red"}[check.state]
                table.add_row(Text(check.state, colour), Text(check.name), Text(check.found))
            console.print(table)
            for check in checks:
                if check.advice:  # below the table, where long commands are not wrapped and can be copied
                    console.print(Text(f"{check.name}: {check.advice}"), soft_wrap=True)
            return
    for check in checks:
        print(f"{check.state:4}  {check.name}: {check.found}" + (f"\n      -> {check.advice}" if check.advice else ""))
