"""Build the TensorRT engine of a bundle: into the cache of this device, or into a file for another GPU."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg.app.compile_config import CompileConfig
from edgeseg.app.models import model_stem
from edgeseg.app.targets import is_sidecar, refuse_foreign
from edgeseg.bundle import Bundle
from edgeseg.errors import UsageError

if TYPE_CHECKING:
    from edgeseg.engines.tensorrt.factory import TensorRtFactory, TensorRtOptions

__all__ = ["BuiltEngine", "build_engine", "flavour_of"]


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that was built, or found in the cache.

    Attributes:
        path: of its file.
        precision: that it was built in.
        compute_capability: of the other GPU that it is for, such as ``SM86``; None for this device's.
        sidecar: what stands beside it, JSON-serialisable.
    """

    path: Path
    precision: str
    compute_capability: str | None
    sidecar: dict[str, Any]


def flavour_of(config: CompileConfig) -> str:
    """Return whose engine is built, ``"tensorrt"`` or ``"rtx"``.

    Raises:
        UsageError: there is no such flavour, or the configuration asks for what no engine can be.
    """
    from edgeseg.engines.tensorrt.api import FLAVOURS

    build = config.engine
    flavour = build.flavour or "tensorrt"
    if flavour not in FLAVOURS:
        raise UsageError(f"`flavour` is {' or '.join(FLAVOURS)}, got {flavour!r}")
    if config.int8 and config.fp16:
        raise UsageError("an engine is built in one precision: `int8` (its rest may run in FP16) or `fp16`")
    if build.compute_capability is None and config.out is not None:
        raise UsageError("the engine goes into the cache of this device ('edgeseg engines list'); do not pass `out`")
    if build.build_log is not None and not build.build_log.is_dir():
        raise UsageError(f"`build_log` is a folder that exists, got {build.build_log}")
    _options(config)
    return flavour


def build_engine(config: CompileConfig, bundle: Bundle, name: str, factory: TensorRtFactory) -> BuiltEngine:
    """Build an engine, and test it where it is for this device; what asked for options is remembered for later runs.

    Args:
        config: the compilation; ``product_of`` says ``"engine"`` of it.
        bundle: the model.
        name: of the bundle, as ``bundle_or_default`` says it.
        factory: makes the engine.

    Raises:
        EdgesegError: it cannot be built, or it failed the self-test.
    """
    options, stem = _options(config), model_stem(name)
    if config.engine.compute_capability is not None:
        capability = _capability(config.engine.compute_capability)
        target = _target(config.out, stem, capability)
        built = factory.build_ahead(bundle, stem, options, capability, target)
        return BuiltEngine(target, built.key.precision, capability, built.to_json())
    made = factory.open(bundle, stem, options, rebuild=config.engine.rebuild, test=True)
    made.engine.close()
    if options != type(options)():
        factory.choose(bundle, "compile", options)
    return BuiltEngine(made.cached.path, made.precision, None, made.cached.to_json())


def _options(config: CompileConfig) -> TensorRtOptions:
    from edgeseg.engines.tensorrt.factory import TensorRtOptions

    build = config.engine
    return TensorRtOptions(
        precision="int8" if config.int8 else "fp16" if config.fp16 else None,
        int8_mode=build.int8_mode,
        workspace_mib=build.workspace_mib,
        optimization_level=build.opt_level,
        dla_core=build.dla,
        allow_partial_int8=build.allow_partial_int8,
    )


def _capability(text: str) -> str:
    """``SM86``, ``sm86`` or ``8.6`` -> ``SM86``. Raises UsageError."""
    found = re.fullmatch(r"(?:sm)?(\d{1,2})\.?(\d)", text.lower())
    if found is None:
        raise UsageError(f"`compute_capability` is one like SM86 or 8.6, got {text!r}")
    return f"SM{found[1]}{found[2]}"


def _target(out: Path | None, stem: str, compute_capability: str) -> Path:
    target = out or Path(f"{stem}-{compute_capability.lower()}.engine")
    if target.suffix.lower() != ".engine" or not target.parent.is_dir():
        raise UsageError(f"`out` must be NAME.engine in an existing folder, got {target}")
    sidecar = target.with_name(f"{target.name}.json")
    refuse_foreign(sidecar, "sidecar of an engine", is_sidecar)
    if not sidecar.exists():
        refuse_foreign(target, "engine with its sidecar", lambda head: False)
    return target
