"""Compile a checkpoint, an ONNX file or a bundle into a bundle, or a checkpoint into a program of PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Collection, Sequence

from edgeseg.app.compile_config import CompileConfig, EngineBuild
from edgeseg.app.config import REQUIRE_SIGNATURE
from edgeseg.app.data import dataset_from
from edgeseg.app.engines import cache_folder, on_jetson
from edgeseg.app.fields import fields_of, value_of
from edgeseg.app.models import accepted_keys
from edgeseg.app.origins import Origin, brings_ranges, origin_from
from edgeseg.app.shipped import model_path
from edgeseg.app.targets import is_bundle, is_program, refuse_foreign
from edgeseg.bundle import write_bundle
from edgeseg.device.specifications import BOARDS
from edgeseg.errors import UsageError, require
from edgeseg.images import Dataset, Joined
from edgeseg.labels import refuse_unusable_labels
from edgeseg.progress import Progress
from edgeseg.recipes import FP16, INT8_FP16, INT8_GRAPHS, recipe_from_name
from edgeseg.report_data import Limits

if TYPE_CHECKING:
    from edgeseg.compiler.importers.exported_program import TensorrtProgram
    from edgeseg.compiler.options import CompileOptions
    from edgeseg.compiler.pipeline import Compilation

__all__ = ["CompiledBundle", "CompiledProgram", "compile_bundle", "compile_program", "product_of"]

_OF_AN_ENGINE = frozenset(field.name for field in fields_of(EngineBuild))
_WITH_AN_ENGINE = _OF_AN_ENGINE | {"model", "int8", "fp16", "out", "require_signature"}
_WITH_A_PROGRAM = frozenset(("model", "backend", "int8", "fp16", "batch", "out"))


@dataclass(frozen=True)
class CompiledBundle:
    """A bundle that was written.

    Attributes:
        path: of the bundle.
        compilation: the bundle and what was measured.
        signature_is_lost: whether it was compiled from a signed bundle, whose signature is not of this file.
    """

    path: Path
    compilation: Compilation
    signature_is_lost: bool


@dataclass(frozen=True)
class CompiledProgram:
    """A program of PyTorch that was written: its file, its precision and what was measured."""

    path: Path
    precision: str
    measured: TensorrtProgram


def product_of(config: CompileConfig, given: Collection[str] = ()) -> str:
    """Return what a compilation makes: ``"bundle"``, ``"engine"`` (of a bundle, on this device) or ``"program"``.

    Args:
        config: the compilation.
        given: names of fields that the user has set, for those that are set to their defaults.

    Raises:
        UsageError: the file is missing or cannot become that, or a field that was set does nothing for it.
    """
    path = model_path(config.model)
    given = _set(config, given)
    if config.require_signature is not None and path.suffix.lower() != ".edgeseg":
        raise UsageError(
            f"a signature is required ({REQUIRE_SIGNATURE} or `require_signature`), and {path.name} is no bundle "
            "and has none; leave that out to compile it"
        )
    if config.engine.flavour is not None or _is_for_this_device(config, path):
        if path.suffix.lower() != ".edgeseg":
            raise UsageError(
                f"an engine is built of a bundle alone; compile {path.name} into one first, without `flavour`"
            )
        _refuse_idle(given, _WITH_AN_ENGINE, "where an engine is built of a bundle")
        return "engine"
    idle = sorted(_OF_AN_ENGINE.intersection(given))
    if idle:
        raise UsageError(f"{_named(idle)} concern a TensorRT engine; add `flavour` tensorrt or rtx")
    if not path.is_file() and not (path / "config.json").is_file():
        seen = "is no file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {seen}; pass a checkpoint, an .onnx file or a bundle")
    if config.backend == "torch-tensorrt":
        _refuse_idle(given, _WITH_A_PROGRAM, "with `backend` torch-tensorrt")
        return "program"
    if config.backend != "bundle":
        raise UsageError(f"`backend` is bundle or torch-tensorrt, got {config.backend!r}")
    return "bundle"


def compile_bundle(config: CompileConfig, progress: Progress = Progress()) -> CompiledBundle:
    """Compile a checkpoint, an ONNX file or a bundle, and write the bundle.

    Args:
        config: the compilation; ``product_of`` says ``"bundle"`` of it.
        progress: takes a line per step, and counts inside long steps.

    Raises:
        GateRefused: a static INT8 graph loses too much.
        UsageError: parts of the configuration do not fit each other, the file or the target.
        EdgesegError: the file cannot be read or compiled.
    """
    path = model_path(config.model)
    graphs = _graphs(config)
    _refuse_without_calibration(config, path, graphs)
    target = _target(path, config.out, ".edgeseg")
    refuse_foreign(target, "bundle", is_bundle)
    require("onnx", "compile")
    progress.step(f"compile {path}{' (the shipped model)' if config.model is None else ''} -> {target}")
    origin = origin_from(path, config, progress, accepted=accepted_keys(config.require_signature))
    compilation = _compile(config, origin, _options(config, graphs, origin), progress)
    write_bundle(compilation.bundle, target)
    return CompiledBundle(target, compilation, signature_is_lost=origin.is_signed)


def compile_program(config: CompileConfig) -> CompiledProgram:
    """Compile a checkpoint into a program of PyTorch with TensorRT engines, for the GPU of this machine.

    Args:
        config: the compilation; ``product_of`` says ``"program"`` of it.

    Raises:
        UsageError: the file is no checkpoint, or the target is something else.
        EdgesegError: it cannot be read or compiled.
    """
    path = model_path(config.model)
    if path.suffix.lower() in (".edgeseg", ".onnx"):
        raise UsageError(f"`backend` torch-tensorrt compiles a torch module: pass a checkpoint, not {path.name}")
    target = _target(path, config.out, ".pt2")
    refuse_foreign(target, "program of PyTorch", is_program)
    require("torch", "train")
    from edgeseg.builder.checkpoint import load_checkpoint
    from edgeseg.compiler.importers.exported_program import tensorrt_program_from_module

    checkpoint = load_checkpoint(path)
    precision = "int8" if config.int8 else "fp16" if config.fp16 else "fp32"
    made = tensorrt_program_from_module(
        checkpoint.network, checkpoint.spec, target, precision=precision, batch=config.batch
    )
    return CompiledProgram(target, precision, made)


def _is_for_this_device(config: CompileConfig, path: Path) -> bool:
    """Return whether a bundle is given alone, on a Jetson: what is wanted is its engine."""
    is_alone = not (config.calibration or config.evaluation or config.emit or config.golden or config.out)
    return path.suffix.lower() == ".edgeseg" and is_alone and config.backend == "bundle" and on_jetson()


def _set(config: CompileConfig, given: Collection[str]) -> set[str]:
    """Return the names of the fields that the user has set."""
    fields = fields_of(CompileConfig)
    return {field.name for field in fields if field.name in given or value_of(config, field) != field.default}


def _refuse_idle(given: set[str], used: frozenset[str], where: str) -> None:
    """Refuse fields that do nothing: they would be ignored in silence."""
    idle = sorted(given - used)
    if idle:
        raise UsageError(f"{_named(idle)} do nothing {where}; leave them out")


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _graphs(config: CompileConfig) -> tuple[str, ...]:
    """Return the names of the graphs to emit beside fp32, in order, none twice."""
    if not (config.int8 or config.fp16 or config.emit):
        return ()
    require("onnx", "compile")
    for name in config.emit:
        recipe_from_name(name)
    int8 = INT8_GRAPHS if config.int8 else ()
    fp16 = (FP16,) if config.fp16 else ()
    mixed = (INT8_FP16,) if config.int8 and config.fp16 else ()
    return tuple(dict.fromkeys((*int8, *fp16, *mixed, *config.emit)))


def _refuse_without_calibration(config: CompileConfig, path: Path, graphs: Sequence[str]) -> None:
    """Refuse INT8 without images, and what is for INT8 without INT8. Raises UsageError."""
    calibrates = any(recipe_from_name(name).needs_ranges for name in graphs)
    if calibrates and not (config.calibration or brings_ranges(path)):
        raise UsageError(
            "INT8 needs calibration images; pass `calibration` FOLDER (a few hundred frames of your camera)"
        )
    if config.calibration and not calibrates:
        raise UsageError("`calibration` is for `int8`; without it nothing is calibrated")
    for_int8 = {
        "sensitivity": config.sensitivity,
        "pareto": config.pareto,
        "budget_ms": config.budget_ms is not None,
        "float_layers": config.float_layers,
        "board": config.board,
        "per_tensor": config.per_tensor,
        "calibrator": config.calibrator != "auto",
    }
    if any(for_int8.values()) and not calibrates:
        *first, last = (f"`{name}`" for name in for_int8)
        raise UsageError(f"{', '.join(first)} and {last} are for `int8`; add it")
    if config.board is not None and config.board not in BOARDS:
        raise UsageError(f"no board {config.board!r}; there are {', '.join(BOARDS)}")


def _target(path: Path, out: Path | None, suffix: str) -> Path:
    target = out or Path(path.with_suffix(suffix).name)
    if target.suffix.lower() != suffix or not target.parent.is_dir():
        raise UsageError(f"`out` must be NAME{suffix} in an existing folder, got {target}")
    if out is None and target.exists():
        raise UsageError(f"{target} exists already; name the file to write with `out` (the same name overwrites it)")
    return target


def _options(config: CompileConfig, graphs: tuple[str, ...], origin: Origin) -> CompileOptions:
    from edgeseg.compiler.options import CompileOptions

    allowed = config.limits
    return CompileOptions(
        graphs=graphs,
        calibrator=config.calibrator,
        limits=Limits(
            allowed.max_drop / 100,
            allowed.max_class_drop / 100,
            allowed.min_agreement / 100,
            allowed.min_boundary_agreement / 100,
        ),
        gate=config.gate,
        equalize=config.equalize,
        per_channel=not config.per_tensor,
        float_layers=config.float_layers,
        mixed=config.mixed,
        sensitivity=config.sensitivity,
        pareto=config.pareto,
        budget_ms=config.budget_ms,
        board=None if config.board is None else BOARDS[config.board],
        float16_weights=config.float16 or origin.float16_weights,
        argmax_first=config.argmax_first,
        batch=config.batch,
        compute_capabilities=config.check_tensorrt,
    )


def _compile(config: CompileConfig, origin: Origin, options: CompileOptions, progress: Progress) -> Compilation:
    """Choose the images and compile the graph. Raises UsageError: there is nothing to judge it on."""
    from edgeseg.compiler.options import CompileData, FloatModel
    from edgeseg.compiler.pipeline import bundle_from_graph
    from edgeseg.compiler.step_cache import StepCache

    calibration = _calibration_images(config, origin)
    judged_on = _evaluation_images(config, origin) or calibration
    if judged_on is None:
        raise UsageError(
            "nothing to judge the graphs on; pass `evaluation` FOLDER (images and masks), and `calibration` for INT8"
        )
    stored = dataset_from(config.golden, spec=origin.spec) if config.golden else origin.golden or judged_on
    progress.step(f"golden frames, stored in the bundle: from {stored.description}")
    if not config.evaluation:
        progress.step(f"no `evaluation`: graphs are judged on {judged_on.description}, a smoke test, no accuracy")
    model = FloatModel(
        origin.graph,
        origin.spec,
        ranges=None if config.calibration else origin.ranges,
        provenance={**origin.provenance, **({"note": config.note} if config.note else {})},
        notes=origin.notes,
    )
    return bundle_from_graph(
        model,
        CompileData(judged_on, calibration, stored),
        options,
        cache=StepCache(cache_folder() if config.cache else None),
        progress=progress,
    )


def _calibration_images(config: CompileConfig, origin: Origin) -> Dataset | None:
    """Calibration needs no labels; where masks stand beside the images, they tell which classes were seen."""
    if not config.calibration:
        return None
    return Joined([dataset_from(folder, spec=origin.spec) for folder in config.calibration])


def _evaluation_images(config: CompileConfig, origin: Origin) -> Dataset | None:
    """Return the images on which graphs are judged: labelled ones, else the golden frames of a bundle."""
    if not config.evaluation:
        return origin.golden
    images = dataset_from(config.evaluation, spec=origin.spec, need_labels=True)
    refuse_unusable_labels(images, origin.spec)
    return images
