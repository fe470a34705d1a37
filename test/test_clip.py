"""`flash-vstream-ros clip`: which frames are used, and the answer about them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from llava_folder import save_llava

from flash_vstream_ros.cli import clip, main
from flash_vstream_ros.cli.sources import SECOND, SourceFrame, open_source
from flash_vstream_ros.cli.video_answer import at_rate, picked
from flash_vstream_ros.demo.questions import questions
from flash_vstream_ros.demo.scoring import right
from flash_vstream_ros.demo.world import World
from flash_vstream_ros.memory.video_compression import SPATIAL_METHODS, TEMPORAL_METHODS
from flash_vstream_ros.models.household_settings import FRAME_S
from flash_vstream_ros.models.load import ATTENTION, DTYPES, load_model
from flash_vstream_ros.models.model_kind import without_label
from flash_vstream_ros.models.offline import VideoMemoryConfig, build_video_memory, sample_frames
from flash_vstream_ros.models.tiny import save_tiny

GOLDEN = Path(__file__).parents[2] / "shared" / "data" / "golden" / "qwen"
SMALL = ("--device", "cpu", "--max-pixels", "3136", "--max-new-tokens", "5")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """23 seconds at 5 frames a second, every second of another shade."""
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (64, 64))
    for index in range(115):
        writer.write(np.full((64, 64, 3), 10 * (index // 5), np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    qwen = save_tiny(root / "qwen")
    config = json.loads((qwen / "config.json").read_text())
    config["vision_config"]["flash_memory_config"] = {
        "flash_memory_temporal_length": 8,
        "flash_memory_spatial_length": 4,
    }
    (qwen / "config.json").write_text(json.dumps(config))
    return {"qwen": qwen, "llava": save_llava(root / "llava")}


def asked(capsys, *arguments: str) -> dict:
    assert main(["clip", *arguments, *SMALL, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_frame_per_second_is_sampled_as_published(video):
    frames = list(at_rate(open_source(str(video)), 1.0))
    assert [frame.stamp_ns for frame in frames] == [n * SECOND for n in range(23)]
    assert [round(frame.rgb.mean() / 10) for frame in frames] == list(range(23))
    assert len(list(at_rate(open_source(str(video)), 2.5))) == 58


def test_recorded_stamps_override_the_frame_rate():
    class Recorded:
        constant_fps = None

        def __iter__(self):
            rgb = np.zeros((2, 2, 3), np.uint8)
            return iter(SourceFrame(int(second * SECOND), rgb) for second in (5, 5.4, 5.9, 6.1, 6.9, 7.2, 20, 20.5, 21))

    assert [frame.stamp_ns / SECOND for frame in at_rate(Recorded(), 1.0)] == [5, 6.1, 7.2, 20, 21]


def test_frames_are_sampled_in_pairs_and_an_odd_last_one_is_taken_twice():
    assert sample_frames(1) == [0, 0]
    assert sample_frames(3) == [0, 1, 2, 2]
    assert sample_frames(7, 4) == [0, 2, 4, 6]
    assert len(sample_frames(1000)) == 240
    frames = [SourceFrame(n, np.full((1, 1, 3), n, np.uint8)) for n in range(5)]
    assert [int(rgb[0, 0, 0]) for rgb in picked(iter(frames), [0, 2, 4, 4])] == [0, 2, 4, 4]


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="recorded data is not here")
def test_the_recorded_frames_are_sampled():
    for entry in json.loads((GOLDEN / "functions" / "frame_sampling.json").read_text()):
        assert sample_frames(entry["n_frames"], entry["max_frames"]) == entry["chosen"]


def test_a_qwen_model_answers_from_a_flash_memory_of_its_configured_sizes(folders, video, capsys):
    found = asked(capsys, str(video), "What?", "--model", str(folders["qwen"]))
    assert (found["frames_seen"], found["frames_taken"]) == (23, 24)
    assert (found["memory_entries"], found["memory_tokens"]) == (2 + 4, 2 * 4 + 4 * 1)
    model = load_model(str(folders["qwen"]), device="cpu", max_pixels=3136)
    frames = [frame.rgb for frame in at_rate(open_source(str(video)), 1.0)]
    snapshot = build_video_memory(model, [*frames, frames[-1]], range(24), VideoMemoryConfig.of(model))
    assert found["answer_tokens"] == [token.id for token in model.answer(snapshot, "What?", 5)]
    more = (
        "--temporal-method",
        "sample",
        "--spatial-method",
        "sample",
        "--synopsis-slots",
        "6",
        "--key-frame-slots",
        "3",
    )
    assert asked(capsys, str(video), "What?", "--model", str(folders["qwen"]), *more)["memory_entries"] == 9


def test_a_llava_model_answers_from_a_star_memory_by_either_rule(folders, video, capsys):
    paper, released = (
        asked(capsys, str(video), "What?", "--model", str(folders["llava"]), "--rule", rule)
        for rule in ("paper", "released")
    )
    assert paper["frames_taken"] == 23
    assert paper["memory_tokens"] == released["memory_tokens"] == 4 + 5 * 4 + 3 * 16 + 16
    assert paper["answer_tokens"] != released["answer_tokens"]


def test_the_prompt_contains_the_instruction_and_the_answer_prefix(folders):
    for name in ("qwen", "llava"):
        model = load_model(str(folders[name]), device="cpu")
        words = model._prompt.tokenizer
        model.instruction, model.answer_start = "Choose.", "Best option: ("
        text = words.decode(model._prompt.after("A or B?"))
        assert "Choose.\nA or B?" in text
        assert text.endswith("Best option: (")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.mp4", "What?"), "nowhere.mp4 does not exist"),
        (("VIDEO", "What?", "--model", "/no/such/folder"), "no model folder"),
        (("VIDEO", "What?", "--temporal-method", "sample"), "use sample for both"),
        (("VIDEO", "What?", "--model", "household", "--pca-dim", "8"), "without --pca-dim: omit them"),
    ],
)
def test_an_error_is_one_sentence(folders, video, capsys, arguments, words):
    given = [str(video) if argument == "VIDEO" else argument for argument in arguments]
    model = [] if "--model" in given else ["--model", str(folders["qwen"])]
    assert main(["clip", *given, *model, *SMALL]) == 1
    errors = capsys.readouterr().err
    assert words in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "arguments", [("VIDEO", " "), ("VIDEO", "UTF\udcff"), ("VIDEO", "What?", "--synopsis-slots", "0")]
)
def test_unusable_arguments_are_wrong_usage(video, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(["clip", *(str(video) if argument == "VIDEO" else argument for argument in arguments)])
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_non_video_file_is_refused_before_torch_is_imported(tmp_path):
    file = tmp_path / "notes.mp4"
    file.write_text("no video")
    program = (
        "import sys; from flash_vstream_ros.cli import main\n"
        f"assert main(['clip', {str(file)!r}, 'What?']) == 1\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "notes.mp4" in done.stderr


def test_the_household_model_answers_with_the_settings_that_it_was_trained_with(capsys):
    world = World(3)
    question = next(
        q for q in questions(world.visits, world.duration, np.random.default_rng(3)) if q.kind == "room_now"
    )
    assert main(["clip", "demo:3", question.text, "--model", "household", "--json"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert reply["model_kind"] == "demo"
    assert reply["answer"].startswith("[demo model] ")
    assert right(question, without_label(reply["answer"]))
    assert 0.5 < reply["confidence"] <= 1


def test_progress_is_reported_on_standard_error_only(folders, video, capsys, monkeypatch):
    monkeypatch.setattr("flash_vstream_ros.progress.LINE_EVERY_S", 0.0)
    assert main(["clip", str(video), "What?", "--model", str(folders["qwen"]), *SMALL]) == 0
    found = capsys.readouterr()
    assert "decode frames: 23 of 23" in found.err
    assert "encode frames: 24 of 24" in found.err
    assert "frames" not in found.out


def test_the_choices_are_those_of_the_library():
    assert (clip.TEMPORAL_METHODS, clip.SPATIAL_METHODS) == (TEMPORAL_METHODS, SPATIAL_METHODS)
    assert clip.DEMO_MODEL_FPS * FRAME_S == 1
    assert (ATTENTION, ("auto", *DTYPES)) == (clip.ATTENTION, clip.DTYPES)
