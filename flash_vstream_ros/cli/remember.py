"""`flash-vstream-ros remember SOURCE --out FILE`: convert a recording to a memory in a file, without a node."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash_vstream_ros.process import importing

from .argument_types import text
from .node import add_model_arguments
from .output_files import log_to_stderr, output_file

if TYPE_CHECKING:
    from flash_vstream_ros.engine.ingest.mailbox import Frame
    from flash_vstream_ros.engine.offline import OfflineEngine
    from flash_vstream_ros.node.settings import Settings

    from .sources import FrameSource

SAVE_EVERY_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a video, an image, a folder of images, a bag, or demo / demo:SEED")
    parser.add_argument(
        "--out",
        type=output_file,
        required=True,
        metavar="FILE",
        help="write the memory to FILE; an interrupted run of the same source and parameters is continued",
    )
    add_model_arguments(parser)
    parser.add_argument("--bag-topic", type=text, default="", help="image topic of a bag that has several")
    parser.add_argument("--camera", type=text, help="name of the camera (default: the first of the parameter cameras)")


def run(args: argparse.Namespace) -> int:
    with importing():
        from flash_vstream_ros.engine.ingest.faces import FacesUnavailable
        from flash_vstream_ros.memory.memory_file import MemoryFileError
        from flash_vstream_ros.models.interface import ModelError
        from flash_vstream_ros.node.offline_parameters import BadParameters, parameter_values

        from .sources import SourceError, open_source
    try:
        source = open_source(args.source, bag_topic=args.bag_topic, log=log_to_stderr)
        values = parameter_values(args.params_file, args.model)
        _remember(source, values, args)
    except (SourceError, BadParameters, FacesUnavailable, ModelError, MemoryFileError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{args.out} cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def offline_engine(values: dict[str, Any]) -> tuple[OfflineEngine, Settings]:
    """The engine and the settings for these values of all parameters. Raises ModelError."""
    from flash_vstream_ros.engine.offline import OfflineEngine
    from flash_vstream_ros.models.load import load_model
    from flash_vstream_ros.node.settings import settings_from
    from flash_vstream_ros.process import set_torch_threads

    settings = settings_from(values)
    set_torch_threads(settings.torch_threads)
    return OfflineEngine(load_model(**settings.model), settings.engine, log_to_stderr), settings


def _remember(source: FrameSource, values: dict[str, Any], args: argparse.Namespace) -> None:
    from flash_vstream_ros.engine.ingest.faces import check_face_detector
    from flash_vstream_ros.progress import progress

    if values["privacy.blur_faces"]:
        check_face_detector()
    engine, settings = offline_engine(values)
    camera = args.camera or settings.engine.cameras[0]
    if camera not in settings.engine.cameras:
        from flash_vstream_ros.node.offline_parameters import BadParameters

        known = ", ".join(settings.engine.cameras)
        raise BadParameters(f"the parameter cameras is {known}, without {camera!r}: add it in a --params-file")
    origin = {"source": source.title, "camera": camera, "parameters": values}
    try:
        done = _continued(engine, args.out, origin)
        frames = _frames(source, camera)
        engine.skip(islice(frames, done))
        began = saved_at = time.monotonic()
        with progress(f"remember {source.title}", source.frames) as display:
            display.update(done)
            for frame in frames:
                engine.add(frame)
                done += 1
                display.update(done)
                if time.monotonic() - saved_at > SAVE_EVERY_S:
                    engine.finish()
                    if engine.is_between_slots:
                        engine.save(args.out, {"origin": origin, "frames": done})
                        saved_at = time.monotonic()
        counts = engine.finish()
        size = engine.save(args.out, {"origin": origin, "frames": done})
    finally:
        engine.close()
    print(
        f"{done} frames, {counts.ingested} ingested, {counts.not_sampled} not sampled, {counts.dropped} dropped,"
        f" {source.skipped} not decodable: {engine.slots} slots in {time.monotonic() - began:.1f} s;"
        f" {args.out} has {size} bytes"
    )


def _continued(engine: OfflineEngine, path: Path, origin: dict[str, Any]) -> int:
    """Restore the memory of an earlier run. Returns the number of frames that it has seen. Raises MemoryFileError."""
    from flash_vstream_ros.engine.offline import read_memory_file
    from flash_vstream_ros.memory.memory_file import MemoryFileError

    if not path.exists() or not path.stat().st_size:
        return 0
    state, made_with = read_memory_file(path)
    if state.values.get("origin") != origin:
        raise MemoryFileError(
            f"{path} has the memory of another source or other parameters: delete it, or give another --out"
        )
    engine.restore(path, state, made_with)
    return int(state.values["frames"])


def _frames(source: FrameSource, camera: str) -> Iterator[Frame]:
    from flash_vstream_ros.engine.ingest.mailbox import Frame

    frame_id = source.frame_id or "camera"
    for stamp_ns, rgb in source:
        # The engine drops frames with stamp 0, which means that a driver sets no stamps.
        yield Frame(camera, frame_id, max(stamp_ns, 1), partial(_image, rgb))


def _image(rgb: Any) -> Any:
    """The decoder of a Frame whose image is decoded already."""
    return rgb
