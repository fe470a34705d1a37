"""Archive: key frames of slots that showed something new, written to the disk by a separate thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np

from flash_vstream_ros.engine.throttled_log import ThrottledLog
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.memory.slot import Slot

from .archive_config import ArchiveConfig
from .archive_folder import ArchiveFolder, erase_database
from .database import ArchiveError, DamagedArchive
from .key_frame import KeyFrame, SlotFrame
from .key_frame_queue import Erasure, Extensions, KeyFrameQueue, Taken, touches
from .recall import Choice, KeyFrameReader, Recalled, Sampled
from .store import KeyFrameStore, batch

COMMIT_S = 1.0  # shortest time between two commits; a crash loses at most the key frames of this time
CLOCK_SET_BACK_NS = 10 * 10**9  # if a camera's stamps go back by more, this is counted


@dataclass(frozen=True)
class ArchiveStatus:
    """State of the archive, for any thread. Counts begin with the engine."""

    path: str = ""  # of the folder; "" while nothing is archived
    key_frames: int = 0  # in the file
    bytes: int = 0  # of the database and its log on the disk
    max_bytes: int = 0
    written: int = 0  # key frames
    thinned: int = 0  # deleted to stay within the bounds
    dropped: int = 0  # the queue was full
    failed: int = 0  # lost to a problem with the disk or the image
    problems: int = 0  # times that the file could not be used
    clock_set_back: int = 0  # times that a camera's stamps went back
    problem: str = ""  # why the last write failed; "" if it succeeded


class Archive:
    """Takes key frames from the engine's worker, which never waits. Without a folder it does nothing.

    If the disk has a problem, the key frames of that moment are lost, counted and logged; later ones are tried again.
    """

    def __init__(self, folder: ArchiveFolder | None, config: ArchiveConfig, log: ThrottledLog) -> None:
        self.config = config
        self._folder = folder
        self._log = log
        self._queue = KeyFrameQueue()
        self._lock = threading.Lock()  # of the status
        self._status = ArchiveStatus()
        self._store: KeyFrameStore | None = None
        self._pending: list[KeyFrame] = []  # encoded, not written
        self._extensions: Extensions = {}
        self._owed: list[Scope] = []  # erasures that failed and are tried again
        self._newest_ns: dict[str, int] = {}
        self._committed_at = -COMMIT_S
        self._opened = threading.Event()  # the file of earlier runs was opened, or set aside
        self._thread = threading.Thread(target=self._run, name="flash-vstream-archive", daemon=True)
        if folder is not None and folder.problem and config.max_bytes:
            self._note(problem=f"nothing is archived: {folder.problem}", problems=1)
            self._log.report("archive", self._status.problem)
        self._reader: KeyFrameReader | None = None
        if folder is not None and not folder.problem:
            self._reader = KeyFrameReader(folder.database)
            self._thread.start()

    @property
    def enabled(self) -> bool:
        """Returns True if key frames are archived."""
        return bool(self.config.max_bytes) and self._may_write

    @property
    def status(self) -> ArchiveStatus:
        path = str(self._folder.path) if self._folder is not None and self.config.max_bytes else ""
        with self._lock:
            return replace(self._status, path=path, max_bytes=self.config.max_bytes)

    def insert(self, slot: Slot, rgb: np.ndarray, novelty: float, cluster: int | None) -> None:
        """Archive the second frame `rgb` [height, width, 3] of a slot that the memory has just taken in."""
        if self.enabled:
            frame = SlotFrame(slot.camera, slot.frame_id, slot.first_ns, slot.last_ns, novelty, cluster, rgb)
            if not self._queue.push(frame):
                self._note(dropped=1)
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

    def recall(self, scope: Scope, known: int) -> Future[Recalled] | None:
        """Key frames for a question, if its scope is bounded. The memory shows `known` moments of it.

        Returns None if the memory shows enough, or if nothing is archived. See KeyFrameReader.
        """
        most = self.config.question_slots
        if self._reader is None or not self.enabled or not scope.interval.is_bounded or most <= 2 * known:
            return None
        return self._reader.recall(scope, most, known)

    def sample(self, scope: Scope, most: int, choose: Choice) -> Future[Sampled] | None:
        """At most `most` key frames in scope. Returns None if nothing is archived. See KeyFrameReader."""
        if self._reader is None or not self.enabled:
            return None
        return self._reader.sample(scope, most, choose, self._when_opened)

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
        self._guarded(self._open_existing)
        self._opened.set()
        is_closed = False
        while not is_closed:
            taken = self._queue.take(self._wait_s())
            is_closed = taken.closed
            self._take(taken)
            if self._has_work and (is_closed or self._wait_s() == 0.0):
                self._committed_at = time.monotonic()
                self._guarded(self._commit)
        self._guarded(self._close_store)

    @property
    def _has_work(self) -> bool:
        return bool(self._pending or self._extensions or self._owed)

    def _open_existing(self) -> None:
        """Report the key frames of earlier runs."""
        assert self._folder is not None
        if self.config.max_bytes and self._folder.database.exists():
            self._newest_ns |= self._opened_store().newest_ns

    def _wait_s(self) -> float | None:
        """Seconds until the next commit; None if there is nothing to write."""
        if not self._has_work:
            return None
        return max(0.0, self._committed_at + COMMIT_S - time.monotonic())

    def _take(self, taken: Taken) -> None:
        self._extensions |= taken.extensions
        for erasure in taken.erasures:
            self._erase(erasure)
        for frame in taken.frames:
            self._watch_clock(frame)
            try:
                self._pending.append(KeyFrame.of(frame))
            except Exception as error:
                self._note(failed=1)
                self._log.report("archive", f"camera {frame.camera}: a key frame was not archived: {error}")

    def _commit(self) -> None:
        config = self.config
        while self._owed:
            self._erased(self._owed[0])
            del self._owed[0]
        if not config.max_bytes:
            self._pending, self._extensions = [], {}
            self._close_store()
            return
        store = self._opened_store()
        self._make_room(store, config)
        extensions, self._extensions = self._extensions, {}
        while self._pending or extensions:
            count = batch(self._pending, config)
            if self._pending and not count:
                size = len(self._pending.pop(0).jpeg)
                self._note(failed=1)
                self._log.report("archive", f"a key frame of {size} bytes was dropped; raise archive.max_gib")
                continue
            thinned = store.write(self._pending[:count], extensions, config)
            del self._pending[:count]
            extensions = {key: until for key, until in extensions.items() if any(key == f.key for f in self._pending)}
            self._note(written=count, thinned=thinned, problem="", key_frames=store.rows, bytes=store.bytes)

    def _make_room(self, store: KeyFrameStore, config: ArchiveConfig) -> None:
        before = store.rows
        while not store.make_room(config):
            self._note(key_frames=store.rows, bytes=store.bytes)
        self._note(thinned=before - store.rows)

    def _opened_store(self) -> KeyFrameStore:
        """The store, opened if it is not; a damaged file is set aside first."""
        assert self._folder is not None
        if self._store is None:
            self._folder.hold()
            try:
                self._store = KeyFrameStore(self._folder.database)
            except DamagedArchive as error:
                self._set_aside(error)
                self._store = KeyFrameStore(self._folder.database)
            self._note(key_frames=self._store.rows, bytes=self._store.bytes)
        self._store.check_is_there()
        return self._store

    def _set_aside(self, error: DamagedArchive) -> None:
        assert self._folder is not None
        self._folder.set_database_aside()
        sentence = f"{error}; it is kept as {self._folder.unfit_database}, and a new one begins"
        self._note(problem=sentence, problems=1)
        self._log.report("archive", sentence)

    def _erase(self, erasure: Erasure) -> None:
        self._pending = [
            frame for frame in self._pending if not touches(erasure.scope, frame, self._extensions.get(frame.key, 0))
        ]
        try:
            erasure.done.set_result(self._erased(erasure.scope))
        except Exception as error:
            self._owed.append(erasure.scope)
            self._report(error)
            sentence = f"what was forgotten is still archived and is erased as soon as that is possible: {error}"
            erasure.done.set_exception(ArchiveError(sentence))

    def _erased(self, scope: Scope) -> int:
        """Delete what is in `scope` from every file. Returns the number of key frames."""
        folder = self._folder
        assert folder is not None
        erase_database(folder.unfit_database)
        if self._store is None and not folder.database.exists():
            return 0
        if scope.everything:
            return self._erase_all()
        store = self._opened_store()
        try:
            rows = store.erase(scope, self.config)
        except DamagedArchive as error:
            self._erase_all()
            self._note(problems=1)
            self._log.report("archive", f"{error}; since a part of it had to be forgotten, the whole file is deleted")
            return 0
        self._note(key_frames=store.rows, bytes=store.bytes)
        if not self.config.max_bytes:
            self._close_store()
        return rows

    def _erase_all(self) -> int:
        assert self._folder is not None
        rows = self._status.key_frames
        self._abandon_store()
        erase_database(self._folder.database)
        self._note(key_frames=0, bytes=0)
        return rows

    def _watch_clock(self, frame: SlotFrame) -> None:
        """Count and log stamps that went back; key frames keep their stamps."""
        before_ns = self._newest_ns.get(frame.camera, 0)
        self._newest_ns[frame.camera] = frame.last_ns
        if frame.last_ns < before_ns - CLOCK_SET_BACK_NS:
            self._note(clock_set_back=1)
            back_s = (before_ns - frame.last_ns) / 1e9
            self._log.report(
                "archive/clock",
                f"archive: stamps of camera {frame.camera} went back by {back_s:.0f} s; an interval may hold key "
                "frames of before and after",
            )

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run `work`. An error is reported, and the key frames that are not written are lost."""
        try:
            work()
        except Exception as error:
            self._trouble(error)

    def _trouble(self, error: Exception) -> None:
        lost, self._pending, self._extensions = len(self._pending), [], {}
        self._report(error, lost)

    def _report(self, error: Exception, lost: int = 0) -> None:
        """Log and count a problem with the file, and close it; the next commit opens it anew."""
        self._abandon_store()
        sentence = f"the archive cannot be used: {error}"
        self._note(problem=sentence, problems=1, failed=lost)
        self._log.report("archive", sentence)
        if isinstance(error, DamagedArchive):
            try:
                self._set_aside(error)
            except OSError as moved:
                self._log.report("archive", f"the damaged archive cannot be moved: {moved}")

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _abandon_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.abandon()

    def _note(
        self,
        written: int = 0,
        thinned: int = 0,
        dropped: int = 0,
        failed: int = 0,
        problems: int = 0,
        clock_set_back: int = 0,
        **changes: object,
    ) -> None:
        """Update the status, from the worker's thread or the archive's. Counts are added, `changes` replace."""
        with self._lock:
            status = self._status
            self._status = replace(
                status,
                written=status.written + written,
                thinned=status.thinned + thinned,
                dropped=status.dropped + dropped,
                failed=status.failed + failed,
                problems=status.problems + problems,
                clock_set_back=status.clock_set_back + clock_set_back,
                **changes,  # type: ignore[arg-type]
            )
