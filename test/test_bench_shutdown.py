"""The shutdown benchmark: the node ends cleanly at every signal, and an unclean end is detected."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from flash_vstream_ros.bench import shutdown
from flash_vstream_ros.bench.shutdown import NOISE, WAYS, Ending

pytestmark = pytest.mark.slow  # starts nodes in processes of their own

BOUNDED = "the node did not stop within"  # seconds are the benchmark's: a loaded machine takes longer


def test_the_node_ends_cleanly_in_every_way() -> None:
    result = shutdown.run(rounds=len(WAYS))
    noisy = [line for ending in result["not_clean"] for line in ending["noise"] if BOUNDED not in line]
    assert [ending for ending in result["not_clean"] if ending["status"] != 0] == []
    assert noisy == []
    shutdown.show(result)


@pytest.mark.parametrize(
    "line",
    [
        "Traceback (most recent call last):",
        "rclpy._rclpy_pybind11.RCLError: failed to initialize wait set: the given context is not valid",
        "InvalidHandle: cannot use Destroyable because destruction was requested",
        "The following exception was never retrieved: publisher's context is invalid",
    ],
)
def test_known_messages_of_rclpy_and_python_are_noise(line: str) -> None:
    assert NOISE.search(line)
    assert not Ending("Ctrl-C", 0, 0.5, (line,)).clean


def test_an_exit_status_a_signal_or_a_slow_end_is_not_clean() -> None:
    assert Ending("Ctrl-C", 0, 0.5, ()).clean
    assert not any(
        ending.clean for ending in (Ending("", 1, 0.5, ()), Ending("", None, 20.0, ()), Ending("", 0, 3, ()))
    )


def test_a_program_is_interrupted_without_a_traceback_while_it_imports() -> None:
    code = (
        "import time; from flash_vstream_ros.process import exit_on_interrupt; exit_on_interrupt();"
        "print('importing', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=shutdown._handle_interrupt,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")


def test_a_shells_background_process_is_not_interrupted_while_it_imports() -> None:
    code = "import os, signal; from flash_vstream_ros.process import exit_on_interrupt; exit_on_interrupt();"
    code += "os.kill(os.getpid(), signal.SIGINT); print('still here')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=shutdown._ignore_interrupt, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "still here\n")


@pytest.mark.parametrize(
    "code",
    [
        "except KeyboardInterrupt: time.sleep(60)",
        "finally: threading.Event().wait()",
    ],
    ids=["swallowed", "a cleanup that waits for ever"],
)
def test_an_interrupted_program_ends_in_time_even_if_the_interrupt_is_swallowed(code: str) -> None:
    start = "import threading, time; from flash_vstream_ros import process; process.CLEANUP_LIMIT_S = 0.3\n"
    start += "process.raise_on_interrupt()\ntry:\n    print('ready', flush=True)\n    time.sleep(60)\n"
    with subprocess.Popen(
        [sys.executable, "-c", start + code], stdout=subprocess.PIPE, preexec_fn=shutdown._handle_interrupt
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_a_program_that_does_not_stop_is_ended_in_time() -> None:
    code = "import time; from flash_vstream_ros.process import end_within; end_within(0.2); time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0
    assert "the process ends now" in done.stderr
