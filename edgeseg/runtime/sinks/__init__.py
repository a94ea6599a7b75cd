"""Where results go, addressed by URI."""

from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.uri import sink_from_uri

__all__ = ["FrameSink", "sink_from_uri"]
