"""Where frames come from, addressed by URI."""

from edgeseg.runtime.sources.base import EndOfStream, FrameSource
from edgeseg.runtime.sources.uri import source_from_uri

__all__ = ["EndOfStream", "FrameSource", "source_from_uri"]
