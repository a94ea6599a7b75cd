"""Show people how the build of a TensorRT engine goes on, and let signals end it."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Optional

from edgeseg.app.engines import factory_of
from edgeseg.cli.console import on_terminal
from edgeseg.cli.progress import shown_progress
from edgeseg.cli.signals import stop_on_signals

if TYPE_CHECKING:
    from edgeseg.engines.tensorrt.factory import TensorRtFactory

__all__ = ["tensorrt_factory"]


@contextmanager
def tensorrt_factory(
    flavour: str, tell: Callable[[str], None], build_log: Optional[Path] = None
) -> "Iterator[TensorRtFactory]":
    """Give a maker of TensorRT engines; on a terminal it shows the progress of a build. SIGTERM ends a build too.

    What TensorRT says while it builds, and what it built, is kept in the folder ``build_log``.

    Raises:
        EdgesegError: TensorRT cannot be used.
    """
    if not on_terminal():
        with stop_on_signals():
            yield factory_of(flavour, tell, build_log=build_log)
        return
    with stop_on_signals(), shown_progress(tell) as show:
        yield factory_of(flavour, tell, on_progress=show, build_log=build_log)
