"""Compressed bags are read like others; those that decompress to too much are refused in bounded memory."""

from __future__ import annotations

import bz2
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
from rosbags import rosbag2
from rosbags.rosbag1.reader import decompressors
from rosbags.rosbag2 import reader, storage_mcap
from test_bag_source import IMAGE, STAMPS, storage_file, write_bag

from flash_vstream_ros.cli.sources import SourceError, decompression, open_source
from flash_vstream_ros.cli.sources.decompression import BoundedFile, TooLarge, bound_rosbags, bounded

bound_rosbags()
ZSTD = reader.zstd._zstd
BOMB_MIB = 3000
# VmHWM, since ru_maxrss is at least what the parent held when it forked.
READ = r"""
import re, sys
from pathlib import Path
from flash_vstream_ros.cli.sources import SourceError, open_source
try:
    list(open_source(sys.argv[1]))
except SourceError as error:
    print(error)
print(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text()).group(1))
"""


def zstd_bomb(path: Path) -> None:
    with ZSTD.open(path, "wb") as file:
        for _ in range(BOMB_MIB):
            file.write(bytes(1 << 20))


@pytest.mark.parametrize(
    ("storage", "mode"),
    [
        ("sqlite3", rosbag2.CompressionMode.MESSAGE),
        ("sqlite3", rosbag2.CompressionMode.FILE),
        ("mcap", rosbag2.CompressionMode.MESSAGE),
        ("mcap", rosbag2.CompressionMode.FILE),
        ("mcap", rosbag2.CompressionMode.STORAGE),
    ],
)
def test_a_compressed_bag_is_read(tmp_path: Path, storage: str, mode: rosbag2.CompressionMode) -> None:
    bag = write_bag(tmp_path / "bag", storage, {"/cam": IMAGE}, compressed=mode)
    assert [frame.stamp_ns for frame in open_source(str(bag))] == STAMPS


def test_a_file_that_decompresses_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", "sqlite3", {"/cam": IMAGE}, compressed=rosbag2.CompressionMode.FILE)
    zstd_bomb(storage_file(bag))
    with pytest.raises(SourceError, match=r"db3\.zstd decompresses to more than .*zstd -d"):
        open_source(str(bag))


def test_a_compressed_file_larger_than_the_free_temporary_space_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = write_bag(tmp_path / "bag", "sqlite3", {"/cam": IMAGE}, compressed=rosbag2.CompressionMode.FILE)
    usage = decompression.shutil.disk_usage("/")._replace(free=8192)
    monkeypatch.setattr(decompression.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SourceError, match="TMPDIR"):
        open_source(str(bag))


def test_a_message_that_decompresses_beyond_the_limit_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", "sqlite3", {"/cam": IMAGE}, compressed=rosbag2.CompressionMode.MESSAGE)
    zstd_bomb(tmp_path / "bomb")
    with sqlite3.connect(storage_file(bag)) as database:
        database.execute("update messages set data = ? where id = 3", ((tmp_path / "bomb").read_bytes(),))
    done = subprocess.run(
        [sys.executable, "-c", READ, str(bag)], capture_output=True, text=True, timeout=120, check=True
    )
    sentence, peak_kib = done.stdout.splitlines()
    assert "decompresses to more than 256 MiB" in sentence
    assert int(peak_kib) < 1_000_000  # the bomb holds 3,000 MiB


@pytest.mark.parametrize(("name", "compress"), [("bz2", bz2.compress), ("lz4", lz4.frame.compress)])
def test_the_chunks_of_a_ros_1_bag_are_bounded(name: str, compress: Callable[[bytes], bytes]) -> None:
    decompress = decompressors[name]
    assert decompress(compress(b"data" * 1000)) == b"data" * 1000
    with pytest.raises(TooLarge):
        decompress(compress(bytes(257 << 20)))


@pytest.mark.parametrize(("name", "compress"), [("zstd", ZSTD.compress), ("lz4", lz4.frame.compress)])
def test_an_mcap_chunk_larger_than_its_stated_size_is_refused(name: str, compress: Callable[[bytes], bytes]) -> None:
    decompress = storage_mcap.DECOMPRESSORS[name]
    assert decompress(compress(bytes(5000)), 5000) == bytes(5000)
    with pytest.raises(TooLarge):
        decompress(compress(bytes(5000)), 4999)


@pytest.mark.parametrize("cut", [1, 8, 20])
def test_compressed_data_that_ends_early_is_an_error(cut: int) -> None:
    data = ZSTD.compress(struct.pack("<1000I", *range(1000)))
    with pytest.raises(ValueError, match="ends early"):
        bounded(ZSTD.ZstdDecompressor(), data[:-cut])


def test_a_bounded_file_is_readable_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3000))
    with BoundedFile(path.open("rb"), 3000, "file") as file:
        assert len(file.read(2000) + file.read(-1)) == 3000
    with BoundedFile(path.open("rb"), 2999, "file") as file, pytest.raises(TooLarge):
        file.read()
