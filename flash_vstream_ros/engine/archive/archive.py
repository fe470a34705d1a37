"""Archive: key frames of slots that showed something new, written to the disk by a separate thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import Slot

from .archive_config import ArchiveConfig
from .archive_folder import ArchiveFolder
from .archive_status import ArchiveStatus, StatusBoard
from .database import ArchiveError
from .key_frame import KeyFrame, SlotFrame
from .key_frame_file import KeyFrameFile
from .key_frame_queue import Erasure, Extensions, KeyFrameQueue, Taken, touches
from .recall import Choice, KeyFrameReader, Recalled, Sampled
from .store import KeyFrameStore, batch

COMMIT_S = 1.0  # shortest time between two commits; a crash loses at most the key frames of this time
CLOCK_SET_BACK_NS = 10 * 10**9  # if a camera's stamps go back by more, this is counted


class Archive:
    """Takes key frames from the engine's worker, which never waits. Without a folder it does nothing.

    If the disk has a problem, the key frames of that moment are lost, counted and logged; later ones are tried again.
    """

    def __init__(self, folder: ArchiveFolder | None, config: ArchiveConfig, log: ThrottledLog) -> None:
        self.config = config
        self._folder = folder
        self._log = log
        self._queue = KeyFrameQueue()
        self._board = StatusBoard()
        self._pending: list[KeyFrame] = []  # encoded, not written
        self._extensions: Extensions = {}
        self._failed_erasures: list[Scope] = []  # erasures that failed and are tried again
        self._newest_ns: dict[str, int] = {}
        self._committed_at = -COMMIT_S
        self._opened = threading.Event()  # the file of earlier runs was opened, or set aside
        self._thread = threading.Thread(target=self._run, name="flash-vstream-archive", daemon=True)
        if folder is not None and folder.problem and config.max_bytes:
            sentence = f"nothing is archived: {folder.problem}"
            self._board.note(problem=sentence, problems=1)
            self._log.report("archive", sentence)
        self._file: KeyFrameFile | None = None
        self._reader: KeyFrameReader | None = None
        if folder is not None and not folder.problem:
            self._file = KeyFrameFile(folder, self._board, log)
            self._reader = KeyFrameReader(folder.database)
            self._thread.start()

    @property
    def enabled(self) -> bool:
        """Returns True if key frames are archived."""
        return bool(self.config.max_bytes) and self._may_write

    @property
    def status(self) -> ArchiveStatus:
        path = str(self._folder.path) if self._folder is not None and self.config.max_bytes else ""
        return replace(self._board.status, path=path, max_bytes=self.config.max_bytes)

    def insert(self, slot: Slot, rgb: np.ndarray, novelty: float, cluster: int | None) -> None:
        """Archive the second frame `rgb` [height, width, 3] of a slot that the memory has just taken in."""
        if self.enabled:
            times = slot.first_ns, slot.last_ns
            frame = SlotFrame(slot.camera, slot.frame_id, *times, novelty, cluster, rgb, slot.pose)
            if not self._queue.push(frame):
                self._board.note(dropped=1)
                self._log.report("archive", "the archive's queue is full: a key frame was dropped; the disk is slow")

    def extend(self, camera: str, last_ns: int) -> None:
        """Extend the camera's newest key frame to `last_ns`, since the scene did not change."""
        if self.enabled:
            self._queue.extend(camera, last_ns)

    def erase(self, scope: Scope) -> Future[int] | None:
        """Delete what was seen in `scope`. Returns None if nothing can be on the disk.

        The future returns the number of key frames deleted once no file has a byte of them, or raises ArchiveError.
        """
        if not self._may_write:
            return None
        erasure = Erasure(scope, Future())
        self._queue.erase(erasure)
        return erasure.done

    @property
    def _open_reader(self) -> KeyFrameReader | None:
        """None if nothing is archived."""
        return self._reader if self.enabled else None

    def recall(self, scope: Scope, known: int) -> Future[Recalled] | None:
        """Key frames for a question, if its scope is bounded. The memory shows `known` moments of it.

        Returns None if the memory shows enough, or if nothing is archived. See KeyFrameReader.
        """
        reader, most = self._open_reader, self.config.question_slots
        if reader is None or not scope.interval.is_bounded or most <= 2 * known:
            return None
        return reader.recall(scope, most, known)

    def recall_widely(self, scope: Scope) -> Future[Recalled] | None:
        """Key frames for a search of everything in `scope`. Returns None if nothing is archived."""
        reader, most = self._open_reader, self.config.search_slots
        return reader.recall(scope, most) if reader is not None and most else None

    def sample(self, scope: Scope, most: int, choose: Choice) -> Future[Sampled] | None:
        """At most `most` key frames in scope. Returns None if nothing is archived. See KeyFrameReader."""
        reader = self._open_reader
        return None if reader is None else reader.sample(scope, most, choose, self._when_opened)

    def close(self, timeout_s: float) -> bool:
        """Write what is queued and end the thread. Returns False if the disk took longer than `timeout_s`."""
        if self._reader is not None:
            self._reader.close()
        self._queue.close()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def _may_write(self) -> bool:
        return self._folder is not None and not self._folder.problem

    def _when_opened(self) -> str:
        """Wait until the file of earlier runs was opened or set aside. Returns the problem with it, if any."""
        self._opened.wait()
        return self.status.problem

    def _run(self) -> None:
        file = self._file
        assert file is not None
        self._guarded(self._open_existing, file)
        self._opened.set()
        is_closed = False
        while not is_closed:
            taken = self._queue.take(self._wait_s())
            is_closed = taken.closed
            self._take(taken, file)
            if self._has_work and (is_closed or self._wait_s() == 0.0):
                self._committed_at = time.monotonic()
                self._guarded(self._commit, file)
        self._guarded(KeyFrameFile.close, file)

    @property
    def _has_work(self) -> bool:
        return bool(self._pending or self._extensions or self._failed_erasures)

    def _open_existing(self, file: KeyFrameFile) -> None:
        """Report the key frames of earlier runs."""
        if self.config.max_bytes and file.exists:
            self._newest_ns |= file.opened().newest_ns

    def _wait_s(self) -> float | None:
        """Seconds until the next commit; None if there is nothing to write."""
        if not self._has_work:
            return None
        return max(0.0, self._committed_at + COMMIT_S - time.monotonic())

    def _take(self, taken: Taken, file: KeyFrameFile) -> None:
        self._extensions |= taken.extensions
        for erasure in taken.erasures:
            self._erase(erasure, file)
        for frame in taken.frames:
            self._watch_clock(frame)
            try:
                self._pending.append(KeyFrame.of(frame))
            except Exception as error:
                self._board.note(failed=1)
                self._log.report("archive", f"camera {frame.camera}: a key frame was not archived: {error}")

    def _commit(self, file: KeyFrameFile) -> None:
        config = self.config
        while self._failed_erasures:
            file.erase(self._failed_erasures[0], config)
            del self._failed_erasures[0]
        if not config.max_bytes:
            self._pending, self._extensions = [], {}
            file.close()
            return
        store = file.opened()
        self._make_room(store, config)
        extensions, self._extensions = self._extensions, {}
        while self._pending or extensions:
            count = batch(self._pending, config)
            if self._pending and not count:
                size = len(self._pending.pop(0).jpeg)
                self._board.note(failed=1)
                self._log.report("archive", f"a key frame of {size} bytes was dropped; raise archive.max_gib")
                continue
            thinned = store.write(self._pending[:count], extensions, config)
            del self._pending[:count]
            extensions = {key: until for key, until in extensions.items() if any(key == f.key for f in self._pending)}
            self._board.note(written=count, thinned=thinned, problem="", key_frames=store.rows, bytes=store.bytes)

    def _make_room(self, store: KeyFrameStore, config: ArchiveConfig) -> None:
        before = store.rows
        while not store.make_room(config):
            self._board.note(key_frames=store.rows, bytes=store.bytes)
        self._board.note(thinned=before - store.rows)

    def _erase(self, erasure: Erasure, file: KeyFrameFile) -> None:
        self._pending = [
            frame for frame in self._pending if not touches(erasure.scope, frame, self._extensions.get(frame.key, 0))
        ]
        try:
            erasure.done.set_result(file.erase(erasure.scope, self.config))
        except Exception as error:
            self._failed_erasures.append(erasure.scope)
            file.report(error)
            sentence = f"what was forgotten is still archived and is erased as soon as that is possible: {error}"
            erasure.done.set_exception(ArchiveError(sentence))

    def _watch_clock(self, frame: SlotFrame) -> None:
        """Count and log stamps that went back; key frames keep their stamps."""
        before_ns = self._newest_ns.get(frame.camera, 0)
        self._newest_ns[frame.camera] = frame.last_ns
        if frame.last_ns < before_ns - CLOCK_SET_BACK_NS:
            self._board.note(clock_set_back=1)
            back_s = (before_ns - frame.last_ns) / 1e9
            self._log.report(
                "archive/clock",
                f"archive: stamps of camera {frame.camera} went back by {back_s:.0f} s; an interval may hold key "
                "frames of before and after",
            )

    def _guarded(self, work: Callable[[KeyFrameFile], None], file: KeyFrameFile) -> None:
        """Run `work`. An error is reported, and the key frames that are not written are lost."""
        try:
            work(file)
        except Exception as error:
            lost, self._pending, self._extensions = len(self._pending), [], {}
            file.report(error, lost)
