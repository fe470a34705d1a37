"""The command line as a whole: help without torch, Ctrl-C, outputs, times, and cancelled questions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from datetime import datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace

import pytest

from flash_vstream_ros.cli import COMMANDS, ask, build_parser, main, times
from flash_vstream_ros.cli.output_files import OutputError, output_file, output_folder, write_output
from flash_vstream_ros.cli.times import BadTime, TimePoint, join_negative_values, time_point

pytestmark = pytest.mark.slow  # starts commands in processes of their own

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "numpy", "cv2", "rclpy", "cyclonedds", "rosbags", "rich", "huggingface_hub"}
BENCHMARKS = (
    "memory",
    "stream",
    "answers",
    "prefix-cache",
    "speed",
    "decoding",
    "ingest",
    "service",
    "cameras",
    "fits",
)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flash_vstream_ros.cli", *arguments]


@pytest.mark.parametrize("arguments", [(), *((name,) for name in COMMANDS), ("bench", "speed")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    program = (
        "import sys, contextlib, io\n"
        "from flash_vstream_ros.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as text:\n"
        f"    main([*{arguments!r}, '--help'])\n"
        "assert 'usage: flash-vstream-ros' in text.getvalue()\n"
        f"assert not {HEAVY!r} & set(sys.modules), {HEAVY!r} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_every_argument_of_every_command_is_described() -> None:
    parsers = [build_parser()]
    while parsers:
        parser = parsers.pop()
        for action in parser._actions:
            if isinstance(action.choices, dict):
                parsers += action.choices.values()
            else:
                assert action.help, f"{parser.prog}: {action.dest}"


def ended(process: subprocess.Popen[str], number: int = signal.SIGINT) -> str:
    """The output of a command that is ended by a signal."""
    process.send_signal(number)
    try:
        out, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # its threads say where they are
        out, errors = process.communicate(timeout=60)
        pytest.fail(f"it did not end:\n{out}{errors}")
    assert "Traceback" not in out + errors, errors
    assert "Exception ignored" not in errors, errors
    return out + errors


def started(*arguments: str, background: bool = False) -> subprocess.Popen[str]:
    """A command as a shell starts it in the foreground or, with SIGINT ignored, in the background."""
    interrupt = signal.SIG_IGN if background else signal.default_int_handler
    program = (
        "import sys; from flash_vstream_ros.cli import main; print('Python has started', flush=True);"
        f"sys.argv[1:] = {arguments!r}; sys.exit(main())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt),
    )


@pytest.mark.parametrize("after_s", [0.1, 0.5, 1.5, 3.0])
def test_ctrl_c_during_imports_and_work_prints_no_traceback(after_s: float) -> None:
    process = started("bench", "stream", "--slots", "100000")
    assert process.stdout is not None
    assert process.stdout.readline() == "Python has started\n"  # before that Python prints a traceback of its own
    time.sleep(after_s)
    ended(process)
    assert process.returncode == 130


def test_a_background_command_ignores_ctrl_c() -> None:
    process = subprocess.Popen(
        command("ask", "?", "--wait", "3"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    time.sleep(1.0)
    assert "no node offers" in ended(process)
    assert process.returncode == 1


@pytest.mark.parametrize("after_s", [0.3, 4.0])
@pytest.mark.parametrize(
    "arguments",
    [("ask", "?", "--wait", "100"), ("replay", "demo", "--wait", "100"), ("demo", "--model", "tiny-random")],
)
def test_a_command_in_a_shells_background_ignores_sigint_and_ends_cleanly_at_sigterm(
    arguments: tuple[str, ...], after_s: float, tmp_path: Path
) -> None:
    if arguments[0] == "demo":
        arguments = (*arguments, "--sheet", str(tmp_path / "sheet.png"))
    process = started(*arguments, background=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "Python has started\n"
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, process.communicate()
    ended(process, signal.SIGTERM)  # which also waits for the processes that write to its output
    assert process.returncode == 130


def test_ctrl_c_while_waiting_for_a_node_ends_at_once() -> None:
    process = started("ask", "?", "--wait", "100")
    time.sleep(4.0)
    ended(process)
    assert process.returncode == 130


def test_a_closed_pipe_is_silent() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(command('bench', 'fits'))} | true"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_disk_under_standard_output_is_one_error_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("bench", "fits"), stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False
        )
    assert done.returncode == 1
    assert done.stderr.strip() == "cannot write to the standard output: No space left on device"


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "--json", "BAD"),
        ("demo", "--sheet", "BAD"),
        ("bench", "stream", "--json", "BAD"),
        ("bench", "speed", "--chart", "BAD"),
        ("replay", "demo", "--json", "BAD"),
        ("train-demo", "BAD"),
    ],
)
def test_an_unwritable_output_is_refused_before_the_work(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    bad = str(tmp_path / "file" / "result")
    with pytest.raises(SystemExit) as end:
        main([bad if argument == "BAD" else argument for argument in arguments])
    assert end.value.code == 2
    assert "Not a directory" in capsys.readouterr().err


def test_checking_an_output_file_does_not_change_it(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text("before")
    assert output_file(str(kept)) == kept
    assert kept.read_text() == "before"
    output_file(str(tmp_path / "new.json"))
    output_folder(str(tmp_path / "run"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.json", "run"]
    with pytest.raises(ArgumentTypeError, match="Is a directory"):
        output_file(str(tmp_path))
    write_output(kept, "after")
    with pytest.raises(OutputError, match="cannot write"):
        write_output(tmp_path, "text")


def test_the_default_sheet_of_the_demo_needs_a_writable_working_directory(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["bash", "-c", f"cd {gone} && rmdir {gone} && {' '.join(command('demo'))}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2, done.stderr
    assert "demo_memory.png" in done.stderr


NEWEST_S = datetime(2026, 11, 29, 12, 0).timestamp()


@pytest.mark.parametrize(
    ("word", "stamp"),
    [
        ("12.5", 12.5),
        ("0", 0.0),
        ("1732850000", 1732850000.0),
        ("10:30", datetime(2026, 11, 29, 10, 30).timestamp()),
        ("10:30:05.5", datetime(2026, 11, 29, 10, 30, 5, 500000).timestamp()),
        ("13:00", datetime(2026, 11, 28, 13, 0).timestamp()),
        ("2026-11-29T10:30", datetime(2026, 11, 29, 10, 30).timestamp()),
        ("2026-11-29 10:30", datetime(2026, 11, 29, 10, 30).timestamp()),
        ("2026-11-29T10:30Z", 1795948200.0),
        ("2026-11-29T10:30+01:00", 1795944600.0),
        ("-5min", NEWEST_S - 300),
        ("-1h30min", NEWEST_S - 5400),
        ("-90", NEWEST_S - 90),
        ("-1.5h", NEWEST_S - 5400),
        ("-2d", NEWEST_S - 172800),
    ],
)
def test_every_form_of_a_time_is_parsed(word: str, stamp: float) -> None:
    assert time_point(word).stamp(lambda: NEWEST_S) == pytest.approx(stamp)


@pytest.mark.parametrize(
    "word",
    ["1732850000000000000", "nan", "inf", "2147483648", "24:00", "10:60", "2026-13-01", "1969-01-01", "9999-01-01"]
    + ["tomorrow", "yesterday noon", "today 24:00"]
    + ["", "5min", "-5minutes", "٣", "-99999999999d", "0001-01-01", "2026-11-29T10:30+99:00"],
)
def test_a_malformed_time_is_refused_with_a_sentence(word: str) -> None:
    with pytest.raises(ArgumentTypeError):
        time_point(word)


@pytest.mark.parametrize("word", ["1" * 60_000 + "x", "-" + "1" * 60_000 + "x", "-" + "1h" * 30_000 + "x"])
def test_a_very_long_time_is_refused_at_once(word: str) -> None:
    began = time.process_time()
    with pytest.raises(ArgumentTypeError):
        time_point(word)
    assert time.process_time() - began < 1.0  # seconds to minutes where matching is quadratic


def test_absolute_times_need_no_frame_and_clock_times_need_wall_clock_stamps() -> None:
    def no_frame() -> float:
        raise AssertionError("an absolute time does not depend on the newest frame")

    assert time_point("12").stamp(no_frame) == 12
    assert time_point("2026-11-29").stamp(no_frame) > 1e9
    with pytest.raises(BadTime, match="count from zero"):
        time_point("10:30").stamp(lambda: 1200.0)
    assert 0 < time_point("-5min").stamp(lambda: 100.0) < 1


def test_days_are_those_of_this_machines_clock_whatever_the_newest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls(2026, 11, 1, 8, 15)

    monkeypatch.setattr(times, "datetime", Clock)
    for word, moment in (
        ("today", datetime(2026, 11, 1)),
        ("today 0:30", datetime(2026, 11, 1, 0, 30)),
        ("yesterday", datetime(2026, 10, 31)),
        ("yesterday 12:00:01.5", datetime(2026, 10, 31, 12, 0, 1, 500_000)),
    ):
        assert time_point(word).stamp(lambda: NEWEST_S) == pytest.approx(moment.timestamp())


def test_a_negative_time_is_parsed_as_a_value() -> None:
    words = ["ask", "?", "--since", "-5min", "--until", "-90", "--json"]
    assert join_negative_values(words) == ["ask", "?", "--since=-5min", "--until=-90", "--json"]
    parsed = build_parser().parse_args(join_negative_values(words))
    assert (parsed.since, parsed.until) == (TimePoint("-5min", before_newest_s=300), time_point("-90"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("?", "--since", "1732850000000000000"),
        ("?", "--deadline", "nan"),
        ("UTF\udcff",),
        ("  ",),
        ("?", "--max-new-tokens", "65536"),
        ("?", "--deadline", "1e300"),
        ("?", "--camera", "\udcff"),
        ("?", "--wait", "-1"),
    ],
)
def test_unusable_arguments_of_ask_are_wrong_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["ask", *arguments])
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("  ",), "the text is empty"),
        (("red ball", "--top", "0"), "must be 1 or more"),
        (("red ball", "--top", "65"), "must lie between 1 and 64"),
        (("red ball", "--out", "sheet.gif"), "must end with .jpg, .jpeg, .png"),
        (("red ball", "--out", "/no/such/folder/sheet.jpg"), "cannot write"),
        (("red ball", "--since", "yesterday-ish"), "is no point in time"),
    ],
)
def test_unusable_arguments_of_search_are_wrong_usage(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["search", *arguments])
    assert end.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("?", "--service", "not a name"), "failed to start"),
        (("?", "--ros-args", "-r", "nonsense"), "failed to start"),
        (("?", "--wait", "0.1"), "no node offers"),
    ],
)
def test_a_client_that_fails_to_start_says_why(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", *arguments]) == 1
    errors = capsys.readouterr().err
    assert words in errors
    assert len(errors.splitlines()) == 1


def test_a_reply_of_a_hostile_node_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "red\x1b]0;title\x07 ball"
    reply = SimpleNamespace(
        answer=hostile, model_kind=0, adjustments=[hostile], error_code=1, error_msg=hostile, memory_tokens=0
    )
    ask._print_reply(reply, already_printed=False)
    printed = "".join(capsys.readouterr())
    assert printed.count("red\\x1b]0;title\\x07 ball") == 3
    assert "\x1b" not in printed
