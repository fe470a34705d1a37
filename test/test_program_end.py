"""The program of the node ends while its ROS context is valid, at whatever moment a signal arrives."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from flash_vstream_ros.bench.shutdown import NOISE
from flash_vstream_ros.process import EndRequest

SIGNALLED = """
import os, sys, time
from types import SimpleNamespace
from flash_vstream_ros.node import program
from flash_vstream_ros.node.node_log import NodeLog
from flash_vstream_ros.node.vstream_node import VStreamNode
from flash_vstream_ros.process import end_process
from flash_vstream_ros.ros import ok

class SignallingLogger:
    '''Ends the process from inside a log call: after whatever was checked before it.'''

    def __init__(self, logger):
        self._logger = logger

    def error(self, text):
        for _ in range(int(sys.argv[2])):
            os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.5)  # the handlers have run
        print("valid" if ok() else "invalid", "while it logs", flush=True)
        self._logger.error(text)

class Node(VStreamNode):
    signalled = False

    def _on_status(self):
        if not self.signalled:
            self.signalled = True
            logger = SignallingLogger(self.get_logger())
            NodeLog(SimpleNamespace(get_logger=lambda: logger)).error("signalled inside this line")
            super()._on_status()

    def close(self):
        ended = super().close()
        self.log.warning("closed")
        print("valid" if ok() else "invalid", "while it closes", flush=True)
        return ended

    def destroy_node(self):
        print("valid" if ok() else "invalid", "while it is destroyed", flush=True)
        super().destroy_node()

program.VStreamNode = Node
end_process(program.main(["node", "--ros-args", "-p", "autostart:=false", "-p", "status.period_s:=0.05"]))
"""


@pytest.mark.parametrize(
    ("number", "count"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)], ids=["INT", "TERM", "INT_twice"]
)
def test_a_signal_inside_a_log_call_leaves_the_context_valid_until_the_node_is_destroyed(
    number: signal.Signals, count: int
) -> None:
    command = [sys.executable, "-c", SIGNALLED, str(int(number)), str(count)]
    take = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **take)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sorted(lines) == ["valid while it closes", "valid while it is destroyed", "valid while it logs"]
    assert lines[-1] == "valid while it is destroyed"
    assert [line for line in done.stderr.splitlines() if NOISE.search(line)] == []
    assert "signalled inside this line" in done.stderr
    assert "closed" in done.stderr


WAITING = """
import os, signal, sys, threading
from flash_vstream_ros.process import EndRequest
end = EndRequest()
{before}
end.wait()
print("ended")
"""


@pytest.mark.parametrize(
    "before",
    [
        "os.kill(os.getpid(), signal.SIGTERM)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"  # the system gives it to another thread
        "def take():\n    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT]); threading.Event().wait(60)\n"
        "threading.Thread(target=take, daemon=True).start()\n"
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()",
        "threading.Thread(target=end.trigger).start()",
    ],
    ids=["before_the_wait", "in_another_thread", "by_another_thread"],
)
def test_a_request_to_shut_down_is_never_missed(before: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITING.format(before=before)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_a_request_to_shut_down_needs_the_main_thread() -> None:
    import threading

    errors: list[BaseException] = []

    def make() -> None:
        try:
            EndRequest()
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert errors
