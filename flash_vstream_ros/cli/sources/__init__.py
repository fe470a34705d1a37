"""Frame sources of commands: video files, image folders, bags and the demo's patrol. May import ros/ and demo/."""

from __future__ import annotations

from .frame_source import SECOND, FrameSource, SourceError, SourceFrame
from .open_source import open_source

__all__ = ["SECOND", "FrameSource", "SourceError", "SourceFrame", "open_source"]
