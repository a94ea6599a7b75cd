"""Open the engine that was asked for. TensorRT's is built first where the cache has none."""

import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable, ContextManager, Iterator, Optional

import numpy as np

from edgeseg.app.config import EngineOptions
from edgeseg.app.models import model_stem
from edgeseg.bundle import Bundle
from edgeseg.errors import EdgesegError, InputError, UsageError

if TYPE_CHECKING:
    from edgeseg.engines.base import Engine
    from edgeseg.engines.host_choice import HostChoice, HostChoices
    from edgeseg.engines.host_pick import HostPick
    from edgeseg.engines.tensorrt.cache import EngineCache
    from edgeseg.engines.tensorrt.factory import TensorRtFactory

__all__ = [
    "FactoryFrom",
    "cache_folder",
    "cpu_pick",
    "engine_cache",
    "engine_name",
    "on_jetson",
    "opened_engine",
    "factory_of",
    "host_choices",
    "quiet_factory",
]

Say = Callable[[str], None]
FactoryFrom = Callable[[str, Say], "ContextManager[TensorRtFactory]"]
"""Takes a flavour of TensorRT and what takes lines for people; engines are made while the context is open."""


def cache_folder() -> Path:
    """Return the folder of engines and interrupted compilations. Raises InputError where a user has no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "edgeseg"
    try:
        return Path.home() / ".cache" / "edgeseg"
    except (RuntimeError, KeyError) as error:
        raise InputError("this user has no home folder for caches; set HOME or XDG_CACHE_HOME") from error


def engine_cache() -> "EngineCache":
    """Return the engines of this machine."""
    from edgeseg.engines.tensorrt.cache import EngineCache

    return EngineCache(cache_folder() / "engines")


def host_choices() -> "HostChoices":
    """Return what ``edgeseg tune`` chose on this machine's CPU."""
    from edgeseg.engines.host_choice import HostChoices

    return HostChoices(cache_folder() / "choices")


def on_jetson() -> bool:
    """Tell whether this machine is a Jetson, as far as it says so."""
    from edgeseg.device.detect import detected_device

    return bool(detected_device().is_jetson)


def engine_name(asked: str) -> Optional[str]:
    """Return an engine's name; of ``auto`` TensorRT on a Jetson, elsewhere None: ``cpu_pick`` names it for a graph."""
    if asked != "auto":
        return asked
    return "tensorrt" if on_jetson() else None


def cpu_pick(bundle: Bundle, graph: Optional[str] = None, threads: int = 0) -> "HostPick":
    """Return which CPU engine ``auto`` takes for a bundle here, and why.

    Args:
        bundle: the model.
        graph: that was asked for, if any.
        threads: that were asked for, 0 for none.

    Raises:
        EngineError: the bundle has no such graph for a CPU.
    """
    from edgeseg.device.detect import detected_device
    from edgeseg.engines.host_pick import host_pick

    return host_pick(bundle, detected_device(), graph=graph, threads=threads, remembered=_remembered(bundle))


def factory_of(
    flavour: str,
    tell: Say,
    *,
    on_progress: Optional[Callable[[str, int, int], None]] = None,
    build_log: Optional[Path] = None,
) -> "TensorRtFactory":
    """Return a maker of TensorRT engines that keeps them in the cache of this machine.

    Args:
        flavour: ``"tensorrt"`` or ``"rtx"``.
        tell: takes a line for people at a time.
        on_progress: takes (what is done, steps done, steps in all) of a build.
        build_log: folder for what TensorRT says while it builds, and for what it built.

    Raises:
        EdgesegError: TensorRT cannot be used.
    """
    from edgeseg.engines.tensorrt.factory import TensorRtFactory
    from edgeseg.engines.tensorrt.worker import built_plan_in_child

    build = partial(built_plan_in_child, keep=build_log)
    if on_progress is None:
        return TensorRtFactory(engine_cache(), flavour, say=tell, build=build)
    return TensorRtFactory(engine_cache(), flavour, say=tell, on_progress=on_progress, build=build)


@contextmanager
def quiet_factory(flavour: str, tell: Say) -> "Iterator[TensorRtFactory]":
    """Give a maker of TensorRT engines that shows no progress."""
    yield factory_of(flavour, tell)


def opened_engine(
    bundle: Bundle,
    name: str,
    options: EngineOptions,
    *,
    tell: Say = lambda line: None,
    factory_from: FactoryFrom = quiet_factory,
    tuned: Optional[Bundle] = None,
    on_pick: Optional[Say] = None,
) -> "Engine":
    """Open the engine that was asked for.

    Args:
        bundle: the model.
        name: of the bundle, as ``bundle_or_default`` says it.
        options: which engine, and how it runs.
        tell: takes one line for people at a time.
        factory_from: gives the maker of TensorRT engines.
        tuned: what ``edgeseg tune`` measured, where ``bundle`` was changed since it was read.
        on_pick: takes the line that says which engine of the CPU ``auto`` took, and why; None gives it to ``tell``.

    Raises:
        EdgesegError: it cannot be opened, and no fallback was allowed.
    """
    from edgeseg.engines.select import ENGINES, engine_from_bundle
    from edgeseg.engines.triton import is_triton

    if is_triton(options.engine):
        return _opened_server(bundle, options, tell)
    chosen, program = engine_name(options.engine), options.program
    if (chosen is not None and ENGINES[chosen].takes_program) != (program is not None):
        raise UsageError("`engine` torch-tensorrt and `program` FILE.pt2 go together")
    if program is not None and bundle.signer is not None:
        raise UsageError(f"a signature is required, and none covers {program.name}, which is code; leave `program` out")
    if program is not None:
        return _opened_program(bundle, program, tell)
    if chosen is None:
        pick = cpu_pick(tuned or bundle, options.graph, options.threads)
        (on_pick or tell)(pick.describe())
        return _opened_pick(bundle, pick, options, tell)
    if not ENGINES[chosen].is_built:
        return engine_from_bundle(bundle, options.graph, threads=options.threads, engine=chosen)
    try:
        return _opened_tensorrt(bundle, name, chosen, options, tell, factory_from)
    except UsageError:
        raise
    except EdgesegError as error:
        if not options.fallback:
            if options.engine == "auto":
                tell("on a Jetson the engine is TensorRT; `engine` onnxruntime runs on the CPU")
            raise
        tell(f"TensorRT is not used: {error}")
        pick = cpu_pick(tuned or bundle, threads=options.threads)
        tell(pick.describe())
        engine = _opened_pick(bundle, pick, options, tell)
        tell(f"running on the CPU instead, as `fallback` allows: {engine.description}")
        return engine


def _opened_pick(bundle: Bundle, pick: "HostPick", options: EngineOptions, tell: Say) -> "Engine":
    """Open what ``auto`` takes on this CPU; another engine only where ``fallback`` allows that, and say so."""
    from edgeseg.engines.host_pick import USUAL, open_pick
    from edgeseg.engines.select import engine_from_bundle

    try:
        return open_pick(bundle, pick)
    except EdgesegError as error:
        if not options.fallback or pick.choice.engine == USUAL:
            raise
        tell(f"{pick.choice.engine} is not used: {error}")
    engine = engine_from_bundle(bundle, pick.choice.graph, threads=options.threads)
    tell(f"running in {USUAL} instead, as `fallback` allows: {engine.description}")
    return engine


def _remembered(bundle: Bundle) -> "Optional[HostChoice]":
    """Return what ``edgeseg tune`` chose for a bundle here; a user without a home has chosen nothing."""
    try:
        return host_choices().find(bundle)
    except InputError:
        return None


def _opened_tensorrt(
    bundle: Bundle, name: str, flavour: str, options: EngineOptions, tell: Say, factory_from: FactoryFrom
) -> "Engine":
    from edgeseg.engines.tensorrt.factory import TensorRtOptions

    wish = TensorRtOptions(precision=options.graph, cuda_graph=options.cuda_graph, memory=options.memory)
    with factory_from(flavour, tell) as factory:
        return factory.open(bundle, model_stem(name), wish).engine


def _opened_server(bundle: Bundle, options: EngineOptions, tell: Say) -> "Engine":
    from edgeseg.engines.golden import run_self_test
    from edgeseg.engines.triton import TritonEngine

    if options.program is not None or options.graph is not None:
        raise UsageError("`graph` and `program` are not for a server: it runs what was exported")
    if bundle.signer is not None:
        raise UsageError("a signature is required, and none covers what a server runs; name another `engine`")
    engine = TritonEngine(options.engine, bundle.spec.size_hw)
    try:
        result = run_self_test(engine, bundle, "int8")
        tell(f"self-test: {result.describe()}")
        result.require(engine.description)
        assert bundle.golden is not None  # the self-test has had them
        engine.watch(np.repeat(bundle.golden.frames[:1], len(engine.input), 0))
    except BaseException:
        engine.close()
        raise
    return engine


def _opened_program(bundle: Bundle, program: Path, tell: Say) -> "Engine":
    from edgeseg.engines.golden import run_self_test
    from edgeseg.engines.torch_tensorrt import TorchTensorRtEngine

    engine = TorchTensorRtEngine(program, (1, *bundle.spec.size_hw, 3))
    try:
        result = run_self_test(engine, bundle, "fp16")
        tell(f"self-test: {result.describe()}")
        result.require(f"the program {program.name}")
    except BaseException:
        engine.close()
        raise
    return engine
