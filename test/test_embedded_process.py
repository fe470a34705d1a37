"""A process with a node: how it starts, what it imports, how signals end it."""

from __future__ import annotations

import signal
import time

import pytest

pytest.importorskip("cyclonedds")

from conftest import wait_until

from flash_vstream_ros.ros import Context, Node, init, ok, shutdown, try_shutdown
from flash_vstream_ros.ros.embedded.logging import set_logger_level

SPINNER = """
import sys, threading
from flash_vstream_ros.ros import *
from flash_vstream_ros.ros.interfaces import String
init()
node = Node("spinner")
node.create_subscription(String, "topic", print, 10)
node.create_timer(0.05, lambda: None)
executor = MultiThreadedExecutor(3) if sys.argv[1] == "multi" else SingleThreadedExecutor()
executor.add_node(node)
try:
    print("up")  # inside, since a signal may come at once
    executor.spin()
except KeyboardInterrupt:
    print("interrupted")
except ExternalShutdownException:
    print("shut down")
executor.shutdown()
node.destroy_node()
try_shutdown()
print("threads", [t.name for t in threading.enumerate() if t is not threading.main_thread()])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_signals_end_spinning_and_leave_nothing_behind(start, number, kind):
    process = start(SPINNER, kind)
    process.expect("up")
    process.send(number)
    assert process.wait() == 0, process.stderr
    assert process.lines[1] == ("interrupted" if number == signal.SIGINT else "shut down")
    assert process.lines[-1] == "threads []"
    assert "Traceback" not in process.stderr


def test_a_process_ends_without_shutdown(start):
    process = start(
        """
        from flash_vstream_ros.ros import *
        from flash_vstream_ros.ros.interfaces import String
        init()
        node = Node("forgetful")
        node.create_publisher(String, "topic", 10).publish(String(data="x"))
        """
    )
    assert process.wait() == 0
    assert process.stderr == ""


def test_importing_the_interfaces_never_imports_torch(start):
    process = start(
        """
        import sys
        import flash_vstream_ros.ros.interfaces
        import flash_vstream_ros.ros.share
        print([name for name in ("torch", "transformers") if name in sys.modules])
        """
    )
    process.expect("[]")


def test_a_runtime_that_does_not_exist_is_refused(start):
    process = start("import flash_vstream_ros.ros", FLASH_VSTREAM_RUNTIME="ros1")
    assert process.wait() == 1
    assert "FLASH_VSTREAM_RUNTIME is 'ros1', expected 'rclpy' or 'embedded'" in process.stderr


def test_without_any_runtime_the_error_names_the_packages_to_install(start):
    process = start(
        """
        import sys
        sys.modules["cyclonedds"] = None
        import flash_vstream_ros.ros
        """,
        FLASH_VSTREAM_RUNTIME="embedded",
    )
    assert process.wait() == 1
    assert "pip install cyclonedds" in process.stderr


def test_rclpy_without_this_packages_interfaces_names_the_build(start, tmp_path):
    package = tmp_path / "fake" / "rclpy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    process = start(
        f"""
        import sys
        sys.path.insert(0, {str(package.parent)!r})
        sys.modules["flash_vstream_ros.msg"] = None
        import flash_vstream_ros.ros
        """,
        FLASH_VSTREAM_RUNTIME="",
    )
    assert process.wait() == 1
    assert "build this package with colcon" in process.stderr
    assert "FLASH_VSTREAM_RUNTIME=embedded" in process.stderr


def test_a_malformed_argument_ends_with_one_error_sentence(start):
    process = start("from flash_vstream_ros.ros import *; init()", "--ros-args", "-p", "nothing")
    assert process.wait() == 1
    assert "-p nothing: expected name:=value" in process.stderr


def test_init_and_shutdown_can_be_repeated_and_misuse_raises():
    for _ in range(3):
        init(args=[])
        assert ok()
        with pytest.raises(RuntimeError, match="twice"):
            init(args=[])
        node = Node("again")
        shutdown()
        node.destroy_node()
        assert not ok()
    with pytest.raises(RuntimeError, match=r"without init\(\)"):
        shutdown()
    try_shutdown()
    with pytest.raises(Exception, match=r"init\(\) was not called"):
        Node("early")


def test_the_console_has_rcls_format_levels_and_throttling(ros, capfd):
    node = Node("talker", namespace="/ns", start_parameter_services=False)
    logger = node.get_logger()
    logger.debug("too quiet")
    for _ in range(3):
        logger.warning("throttled", throttle_duration_sec=60.0)
        logger.error("always")
    set_logger_level(logger.name, 10)
    logger.debug("now heard")
    lines = capfd.readouterr().err.splitlines()
    assert [line.split("]: ")[1] for line in lines] == [
        "throttled",
        "always",
        "always",
        "always",
        "now heard",
    ]
    severity, stamp, name = lines[0].split("]: ")[0].split("] [")
    assert (severity, name) == ("[WARN", "ns.talker")
    assert abs(float(stamp) - time.time()) < 60.0
    set_logger_level(logger.name, 20)


def test_two_contexts_of_one_process_share_a_domain(ros):
    context = Context()
    init(args=[], context=context)
    other = Node("second", context=context, start_parameter_services=False)
    first = Node("first", start_parameter_services=False)
    assert wait_until(lambda: {("first", "/"), ("second", "/")} <= set(other.get_node_names_and_namespaces()))
    shutdown(context=context)
    assert ok()
    assert wait_until(lambda: ("second", "/") not in first.get_node_names_and_namespaces())


def test_signals_still_work_after_contexts_end_in_the_order_they_began():
    before = signal.getsignal(signal.SIGTERM)
    first, second = Context(), Context()
    for context in (first, second):
        init(args=[], context=context)
        assert signal.getsignal(signal.SIGTERM) is before or context is second, "only the default context does so"
        context.install_signal_handlers()
    shutdown(context=first)
    signal.raise_signal(signal.SIGTERM)
    assert not ok(context=second)
    shutdown(context=second)
    signal.signal(signal.SIGTERM, before)
