"""Locates the shared files of this package (msg, srv, config, launch) in any kind of installation."""

from __future__ import annotations

import sys
import sysconfig
from functools import cache
from pathlib import Path

PACKAGE = "flash_vstream_ros"


def _candidates() -> list[Path]:
    prefixes = (sys.prefix, sysconfig.get_path("data"))
    return [
        Path(__file__).resolve().parents[2],
        *_from_ament_index(),
        *(Path(prefix) / "share" / PACKAGE for prefix in prefixes),
    ]


def _from_ament_index() -> list[Path]:
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        return []
    try:
        return [Path(get_package_share_directory(PACKAGE))]
    except (PackageNotFoundError, OSError):  # OSError: AMENT_PREFIX_PATH is not set
        return []


def household_parameters() -> str:
    """The parameter file of the household model. Raises FileNotFoundError as `share_directory`."""
    return str(share_directory() / "config" / "household.yaml")


@cache
def share_directory() -> Path:
    """The directory with msg/ and srv/ (and config/, launch/).

    Candidates: next to the package (source tree), the ament index, this Python's prefix.

    Raises FileNotFoundError, which names every candidate, if none has them.
    """
    candidates = _candidates()
    for candidate in candidates:
        if (candidate / "srv" / "AskScene.srv").is_file():
            return candidate
    places = ", ".join(str(candidate) for candidate in dict.fromkeys(candidates))
    raise FileNotFoundError(
        f"No msg/ and srv/ of {PACKAGE} found in {places}: reinstall the package, or source its workspace"
    )
