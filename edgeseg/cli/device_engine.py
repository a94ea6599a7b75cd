"""``edgeseg compile`` on a device: a bundle becomes a cached, self-tested TensorRT engine."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional

from edgeseg.app.models import bundle_or_default, model_stem, without_reason
from edgeseg.app.targets import is_sidecar, refuse_foreign
from edgeseg.cli.console import print_json, say, say_aside
from edgeseg.cli.opening import tensorrt_provider
from edgeseg.errors import UsageError

__all__ = ["ENGINE_FLAGS", "DeviceFlags", "compile_for_device"]

ENGINE_FLAGS = {
    "--flavour",
    "--int8-mode",
    "--dla",
    "--workspace-mib",
    "--opt-level",
    "--allow-partial-int8",
    "--compute-capability",
    "--rebuild",
    "--build-log",
}
"""Options of ``compile`` that mean an engine, and nothing where a host compiles a bundle."""


@dataclass(frozen=True)
class DeviceFlags:
    """The flags of ``compile`` that concern a TensorRT engine."""

    flavour: Optional[str]
    int8: bool
    fp16: bool
    int8_mode: str
    dla: Optional[int]
    workspace_mib: Optional[int]
    opt_level: Optional[int]
    allow_partial_int8: bool
    compute_capability: Optional[str]
    rebuild: bool
    build_log: Optional[Path]


def compile_for_device(
    model: Optional[Path], out: Optional[Path], flags: DeviceFlags, require_signature: Optional[Path], as_json: bool
) -> None:
    """Build, test and keep the engine of a bundle; with ``--compute-capability`` write one for another GPU.

    Raises:
        EdgesegError: the bundle is not signed as demanded, the engine cannot be built, or it failed the self-test.
    """
    from edgeseg.engines.tensorrt.api import FLAVOURS
    from edgeseg.engines.tensorrt.provide import EngineOptions

    flavour = flags.flavour or "tensorrt"
    if flavour not in FLAVOURS:
        raise UsageError(f"--flavour is {' or '.join(FLAVOURS)}, got {flavour!r}")
    if flags.int8 and flags.fp16:
        raise UsageError("an engine is built in one precision: --int8 (its rest may run in FP16) or --fp16")
    if flags.compute_capability is None and out is not None:
        raise UsageError("the engine goes into the cache of this device ('edgeseg engines list'); leave -o out")
    if flags.build_log is not None and not flags.build_log.is_dir():
        raise UsageError(f"--build-log is a folder that exists, got {flags.build_log}")
    bundle, name = bundle_or_default(model, require_signature)
    options = EngineOptions(
        precision="int8" if flags.int8 else "fp16" if flags.fp16 else None,
        int8_mode=flags.int8_mode,
        workspace_mib=flags.workspace_mib,
        optimization_level=flags.opt_level,
        dla_core=flags.dla,
        allow_partial_int8=flags.allow_partial_int8,
    )
    tell = say_aside if as_json else say
    tell(f"model: {name}")
    bundle_name = without_reason(name)
    with tensorrt_provider(flavour, tell, flags.build_log) as provider:
        if flags.compute_capability is not None:
            capability = _capability(flags.compute_capability)
            target = _target(out, model_stem(name), capability)
            built = provider.build_ahead(bundle, model_stem(name), options, capability, target)
            document: Dict[str, Any] = {"engine": str(target), **built.to_json()}
            tell(f"wrote {target} and {target.name}.json, for TensorRT-RTX on GPUs of {capability}")
            graph = "" if flags.int8 else f" --graph {built.key.precision}"
            tell(f"there: 'edgeseg engines add {target.name}', then 'edgeseg run {bundle_name} --engine rtx{graph}'")
        else:
            made = provider.provide(bundle, model_stem(name), options, rebuild=flags.rebuild, test=True)
            made.engine.close()
            if options != EngineOptions():
                provider.choose(bundle, "compile", options)
            document = {"engine": str(made.cached.path), **made.cached.to_json()}
            tell(f"ready: {made.cached.path}")
            tell(f"next: edgeseg run {bundle_name} --engine {flavour} --camera 0")
    if as_json:
        print_json(document)


def _capability(text: str) -> str:
    """``SM86``, ``sm86`` or ``8.6`` -> ``SM86``. Raises UsageError."""
    found = re.fullmatch(r"(?:sm)?(\d{1,2})\.?(\d)", text.lower())
    if found is None:
        raise UsageError(f"--compute-capability is one like SM86 or 8.6, got {text!r}")
    return f"SM{found[1]}{found[2]}"


def _target(out: Optional[Path], stem: str, compute_capability: str) -> Path:
    target = out or Path(f"{stem}-{compute_capability.lower()}.engine")
    if target.suffix != ".engine" or not target.parent.is_dir():
        raise UsageError(f"--out must be NAME.engine in an existing folder, got {target}")
    sidecar = target.with_name(f"{target.name}.json")
    refuse_foreign(sidecar, "sidecar of an engine", is_sidecar)
    if not sidecar.exists():
        refuse_foreign(target, "engine with its sidecar", lambda head: False)
    return target
