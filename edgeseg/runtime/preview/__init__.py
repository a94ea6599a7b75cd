"""The page that shows a run and steers it, with its API; and what a monitor asks a run."""

from __future__ import annotations

from edgeseg.runtime.preview.sink import PreviewSink

__all__ = ["PreviewSink"]
