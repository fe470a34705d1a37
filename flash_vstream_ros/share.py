"""Finds the shared files of this package (msg, srv, config, launch), however it was installed."""

from __future__ import annotations

import sys
import sysconfig
from functools import cache
from pathlib import Path

PACKAGE = "flash_vstream_ros"


def _candidates() -> list[Path]:
    candidates = [Path(__file__).resolve().parent.parent]
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        pass
    else:
        try:
            candidates.append(Path(get_package_share_directory(PACKAGE)))
        except PackageNotFoundError:
            pass
    for prefix in (sys.prefix, sysconfig.get_path("data")):
        candidates.append(Path(prefix) / "share" / PACKAGE)
    return candidates


@cache
def share_directory() -> Path:
    """The directory that holds msg/ and srv/ (and config/, launch/).

    Looked for next to the package (source tree), in the ament index, then in this Python's prefix.
    Raises FileNotFoundError, naming every place looked at, when none has them.
    """
    candidates = _candidates()
    for candidate in candidates:
        if (candidate / "srv" / "AskScene.srv").is_file():
            return candidate
    places = ", ".join(str(candidate) for candidate in dict.fromkeys(candidates))
    raise FileNotFoundError(
        f"No msg/ and srv/ of {PACKAGE} found in {places}: reinstall the package, or source its workspace"
    )
