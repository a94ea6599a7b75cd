"""Opening the engine that a command asked for, and saying which one that is."""

import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Optional

from edgeseg.bundle import Bundle
from edgeseg.cli.arguments import EngineName
from edgeseg.cli.console import on_terminal, say, stop_on_signals
from edgeseg.cli.models import model_stem
from edgeseg.cli.progress import shown_progress
from edgeseg.errors import EdgesegError, InputError, UsageError

if TYPE_CHECKING:
    from edgeseg.engines import Engine
    from edgeseg.engines.tensorrt.cache import EngineCache
    from edgeseg.engines.tensorrt.provide import TensorRtProvider

__all__ = [
    "cache_folder",
    "engine_cache",
    "engine_name",
    "on_jetson",
    "opened_engine",
    "tensorrt_provider",
]

Say = Callable[[str], None]


def cache_folder() -> Path:
    """Where interrupted compilations and built engines are kept. Raises InputError where a user has no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "edgeseg"
    try:
        return Path.home() / ".cache" / "edgeseg"
    except (RuntimeError, KeyError) as error:
        raise InputError("this user has no home folder for caches; set HOME or XDG_CACHE_HOME") from error


def engine_cache() -> "EngineCache":
    """The engines of this machine."""
    from edgeseg.engines.tensorrt.cache import EngineCache

    return EngineCache(cache_folder() / "engines")


def on_jetson() -> bool:
    """Whether this machine is a Jetson, as far as it says so."""
    from edgeseg.device.detect import detected_device

    return bool(detected_device().is_jetson)


def engine_name(asked: EngineName) -> str:
    """``auto`` resolved: TensorRT on a Jetson, ONNX Runtime elsewhere."""
    if asked is not EngineName.auto:
        return str(asked.value)
    return "tensorrt" if on_jetson() else "onnxruntime"


@contextmanager
def tensorrt_provider(flavour: str, tell: Say, build_log: Optional[Path] = None) -> "Iterator[TensorRtProvider]":
    """A maker of TensorRT engines; on a terminal it shows the progress of a build. SIGTERM ends a build too.

    What TensorRT says while it builds, and what it built, is kept in the folder ``build_log``.

    Raises:
        EdgesegError: TensorRT cannot be used.
    """
    from edgeseg.engines.tensorrt.provide import TensorRtProvider
    from edgeseg.engines.tensorrt.worker import built_apart

    build = partial(built_apart, keep=build_log)

    if not on_terminal():
        with stop_on_signals():
            yield TensorRtProvider(engine_cache(), flavour, say=tell, build=build)
        return
    with stop_on_signals(), shown_progress(tell) as show:
        yield TensorRtProvider(engine_cache(), flavour, say=tell, on_progress=show, build=build)


def opened_engine(
    bundle: Bundle,
    name: str,
    asked: EngineName,
    graph: Optional[str],
    *,
    threads: int = 0,
    fallback: bool = False,
    program: Optional[Path] = None,
    cuda_graph: str = "auto",
    memory: str = "auto",
    tell: Say = say,
) -> "Engine":
    """Open the engine that was asked for; TensorRT's is built first where the cache has none.

    Args:
        bundle: the model.
        name: of the bundle, as ``bundle_or_default`` says it.
        asked: which engine.
        graph: of the bundle, or TensorRT's precision; None takes INT8.
        threads: CPU threads, 0 for all.
        fallback: run on the CPU where TensorRT cannot be used, and say so.
        cuda_graph, memory: of TensorRT, see ``EngineOptions``.
        program: for torch-tensorrt: a program of the same network; it has to pass the bundle's golden frames.
        tell: takes one line for people at a time.

    Raises:
        EdgesegError: it cannot be opened, and no fallback was allowed.
    """
    from edgeseg.engines import engine_from_bundle
    from edgeseg.engines.tensorrt.provide import EngineOptions

    chosen = engine_name(asked)
    if (chosen == "torch-tensorrt") != (program is not None):
        raise UsageError("--engine torch-tensorrt and --program FILE.pt2 go together")
    if program is not None and bundle.signer is not None:
        raise UsageError(f"a signature is required, and none covers {program.name}, which is code; leave --program out")
    if program is not None:
        return _opened_program(bundle, program, tell)
    if chosen not in ("tensorrt", "rtx"):
        return engine_from_bundle(bundle, graph, threads=threads, engine=chosen)
    wish = EngineOptions(precision=graph, cuda_graph=cuda_graph, memory=memory)
    try:
        with tensorrt_provider(chosen, tell) as provider:
            return provider.provide(bundle, model_stem(name), wish).engine
    except UsageError:
        raise
    except EdgesegError as error:
        if not fallback:
            if asked is EngineName.auto:
                tell("on a Jetson the engine is TensorRT; --engine onnxruntime runs on the CPU")
            raise
        tell(f"TensorRT is not used: {error}")
        engine = engine_from_bundle(bundle, None, threads=threads)
        tell(f"running on the CPU instead, as --fallback allows: {engine.description}")
        return engine


def _opened_program(bundle: Bundle, program: Path, tell: Say) -> "Engine":
    from edgeseg.engines.golden import self_tested
    from edgeseg.engines.torch_tensorrt import TorchTensorRtEngine

    engine = TorchTensorRtEngine(program, (1, *bundle.spec.size_hw, 3))
    try:
        result = self_tested(engine, bundle, "fp16")
        tell(f"self-test: {result.describe()}")
        result.require(f"the program {program.name}")
    except BaseException:
        engine.close()
        raise
    return engine
