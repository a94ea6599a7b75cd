"""What TensorRT's Python module offers, version by version: names, parameters, numbers, and what some calls answer.

``tensorrt_surface.json`` holds it, made from NVIDIA's compiled bindings by this script. The bindings come from PyPI and
import without TensorRT's libraries once shared objects of their names export what they look up. 8.5.2 has no such
package; its facts were read from a module compiled from NVIDIA's sources, in another form that ``_of_audit`` converts.
Only the standard library is used, so that any interpreter that the bindings are made for can run this file:

    python tensorrt_surface.py read FOLDER      # of an unpacked package; prints JSON
    python tensorrt_surface.py write VERSION=FOLDER ... 8.5.2=AUDIT.json
"""

from __future__ import annotations

import ctypes
import inspect
import json
import re
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from subprocess import run
from typing import Any, Iterator

FIXTURE = Path(__file__).with_name("tensorrt_surface.json")
ENUMS = ("enum", "ordered enum")
DUNDERS = ("__init__", "__enter__", "__exit__", "__len__", "__getitem__", "__bool__")
CLASSES = (
    "Builder",
    "Dims",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "IInt8Calibrator",
    "IInt8EntropyCalibrator",
    "IInt8EntropyCalibrator2",
    "IInt8MinMaxCalibrator",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProfiler",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "Logger",
    "OnnxParser",
    "ParserError",
    "Profiler",
    "Runtime",
)
"""Their members are kept; of every other class only the name."""

PROBES = (
    "repr(trt.DataType(99))",
    "str(trt.DataType.HALF)",
    "trt.DataType(True)",
    "trt.DataType(value=1)",
    "trt.DataType('HALF')",
    "trt.DataType['HALF']",
    "list(trt.DataType)",
    "trt.DataType.HALF == 1",
    "trt.DataType.HALF == trt.BuilderFlag.DEBUG",
    "trt.DataType.HALF != None",
    "trt.DataType.HALF < trt.DataType.INT8",
    "trt.LayerType.CONVOLUTION < trt.LayerType.SCALE",
    "trt.BuilderFlag.DEBUG < trt.BuilderFlag.TF32",
    "trt.BuilderFlag.DEBUG < trt.DataType.HALF",
    "trt.BuilderFlag.DEBUG < 3",
    "trt.BuilderFlag.DEBUG | trt.BuilderFlag.TF32",
    "1 << trt.BuilderFlag.DEBUG",
    "1 << int(trt.BuilderFlag.DEBUG)",
    "trt.TensorIOMode.INPUT < trt.TensorIOMode.OUTPUT",
    "trt.TensorFormat.LINEAR < trt.TensorFormat.CHW2",
    "trt.TacticSource.EDGE_MASK_CONVOLUTIONS < trt.TacticSource.JIT_CONVOLUTIONS",
    "trt.ProfilingVerbosity.LAYER_NAMES_ONLY < trt.ProfilingVerbosity.DETAILED",
    "trt.ILogger.ERROR < trt.ILogger.INFO",
    "trt.ILogger.ERROR == trt.ILogger.Severity.ERROR == trt.Logger.ERROR",
    "trt.Dims((1, 2))",
    "trt.Dims((1, 2)) == (1, 2)",
    "trt.Dims((1, 2)) == [1, 2]",
    "trt.Dims((1, 2)) == trt.Dims((1, 2))",
    "trt.Dims((1, 2)) != (1, 3)",
    "trt.Dims((1, 2))[5]",
    "trt.Dims((1, 2))[-1]",
    "trt.Dims((1, 2, 3))[0:2]",
    "list(trt.Dims((1, 2)))",
    "len(trt.Dims())",
    "hash(trt.Dims((1, 2)))",
    "trt.Dims(range(9))",
    "trt.Dims((2.5,))",
    "trt.Dims('ab')",
    "trt.volume((1, 2, 3))",
    "trt.volume(())",
    "trt.Runtime()",
    "trt.Runtime(None)",
    "trt.Runtime(log=trt.Logger())",
    "trt.Runtime(trt.Logger())",
    "trt.Runtime(logger=trt.Logger())",
    "trt.Builder(trt.Logger())",
    "trt.Builder('logger')",
    "trt.OnnxParser(None, trt.Logger())",
    "trt.IHostMemory()",
    "trt.IBuilderConfig()",
    "trt.ICudaEngine()",
    "trt.ITensor()",
    "setattr(trt.Logger(), 'made_up', 1)",
    "trt.Logger().min_severity",
    "trt.Logger(min_severity=trt.ILogger.INFO).min_severity",
    "trt.ILogger().log(trt.ILogger.ERROR, 'said')",
    "trt.Logger(trt.ILogger.INTERNAL_ERROR).log(severity=trt.ILogger.ERROR, msg='said')",
    "type('L', (trt.ILogger,), {'__init__': lambda self: None})()",
    "trt.IProfiler().report_layer_time('conv', 1.0)",
    "type('P', (trt.IProfiler,), {'__init__': lambda self: None})()",
    "trt.IProgressMonitor().phase_start('build', None, 1)",
    "trt.IProgressMonitor().step_complete('build', 1)",
    "type('M', (trt.IProgressMonitor,), {'__init__': lambda self: None})()",
    "trt.IInt8EntropyCalibrator2().get_algorithm()",
    "trt.IInt8EntropyCalibrator2().get_batch_size()",
    "trt.IInt8EntropyCalibrator2().get_batch(['frame'])",
    "trt.IInt8EntropyCalibrator2().read_calibration_cache()",
    "trt.IInt8EntropyCalibrator2().write_calibration_cache(b'')",
    "trt.IInt8MinMaxCalibrator().get_algorithm()",
    "type('C', (trt.IInt8EntropyCalibrator2,), {'__init__': lambda self: None})()",
)
"""Calls that need no TensorRT library and no driver (there is none); the answer, or the type of the exception."""


# --- from a module ----------------------------------------------------------------------------------------------------


def surface(module: Any) -> dict[str, dict[str, Any]]:
    """``names``, ``enums`` (member -> number) and ``answers`` of a module that is or imitates ``tensorrt``."""
    names = dict(_members(module))
    enums = {name: _numbers(getattr(module, name)) for name, kind in names.items() if kind in ENUMS}
    for name in [name for name, kind in names.items() if kind == "class" and name in CLASSES]:
        for member, kind in _members(getattr(module, name)):
            names[f"{name}.{member}"] = kind
            if kind in ENUMS:
                enums[member] = _numbers(getattr(getattr(module, name), member))
    return {"names": names, "enums": enums, "answers": {probe: _answer(module, probe) for probe in PROBES}}


def _numbers(enum: Any) -> dict[str, int]:
    return {name: int(value) for name, value in enum.__members__.items()}


def _members(owner: Any) -> Iterator[tuple[str, str]]:
    """(name, kind) of all that is public.

    The kind is ``class``, ``enum``, ``ordered enum``, ``r`` or ``rw``, ``= Enum.MEMBER``, or ``(parameters)``.
    """
    for name in dir(owner):
        if name.startswith("_") and name not in DUNDERS:
            continue
        value = inspect.getattr_static(owner, name)
        kind = _kind(getattr(owner, name) if isinstance(value, (staticmethod, classmethod)) else value, name)
        if kind:
            yield name, kind


def _kind(value: Any, name: str) -> str:
    if isinstance(value, property):
        return "r" if value.fset is None else "rw"
    if isinstance(value, type):
        return _enum_kind(value) if hasattr(value, "__members__") else "class"
    if hasattr(type(value), "__members__"):
        return f"= {type(value).__name__}.{value.name}"
    if name in ("__enter__", "__exit__"):
        return "()"
    return signature(value, name) if callable(value) else ""


def _enum_kind(enum: Any) -> str:
    """Members of an ordered enum compare by their numbers, those of another not at all."""
    first = next(iter(enum.__members__.values()))
    try:
        return "ordered enum" if first <= first else "enum"
    except TypeError:
        return "enum"


def signature(function: Any, name: str) -> str:
    """``(a, b=)``: parameters without ``self``, those with a default marked; overloads are joined by ``|``."""
    try:
        return _of_python(function)
    except (TypeError, ValueError):
        return _of_docstring(getattr(function, "__doc__", None) or "", name)


def _of_python(function: Any) -> str:
    parts = []
    for index, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.name in ("self", "this"):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ValueError(f"{function} takes anything")
        number = index - ("self" in inspect.signature(function).parameters)
        shown = f"arg{number}" if parameter.kind is parameter.POSITIONAL_ONLY else parameter.name
        parts.append(shown if parameter.default is parameter.empty else f"{shown}=")
    return f"({', '.join(parts)})"


def _of_docstring(text: str, name: str) -> str:
    """pybind11 writes ``name(self: Type, flags: int = 0) -> Type``, numbered lines of it where there are overloads."""
    found = re.findall(rf"^(?:\d+\. )?{re.escape(name)}\((.*)\)(?: -> .*)?$", text, re.MULTILINE)
    shapes = ["(" + ", ".join(_parameters(each)) + ")" for each in found if not each.startswith("*args")]
    return " | ".join(dict.fromkeys(shapes))


def _parameters(text: str) -> list[str]:
    parts, depth, part = [], 0, ""
    for character in text + ",":
        if character == "," and depth == 0:
            parts.append(part.strip())
            part = ""
            continue
        depth += (character in "[(<{") - (character in "])>}")
        part += character
    names = [f"{part.partition(':')[0]}{'=' if ' = ' in part else ''}" for part in parts if part]
    return [name for name in names if name != "self"]


def _answer(module: Any, probe: str) -> str:
    try:
        return repr(eval(probe, {"trt": module}))
    except Exception as error:
        return type(error).__name__


# --- columns by version -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=None)
def _facts() -> dict[str, Any]:
    return dict(json.loads(FIXTURE.read_text()))


def versions() -> list[str]:
    return list(_facts()["versions"])


def surface_of(version: str) -> dict[str, Any]:
    """The facts of the newest known version that is not newer than this one (of the oldest one otherwise)."""
    data = _facts()
    known = [_tuple(each) for each in data["versions"]]
    column = max(sum(each <= _tuple(version) for each in known) - 1, 0)

    def pick(table: dict[str, Any]) -> dict[str, Any]:
        values = {key: value[column] if isinstance(value, list) else value for key, value in table.items()}
        return {key: value for key, value in values.items() if value is not None}

    enums = {name: pick(members) for name, members in data["enums"].items()}
    return {
        "names": pick(data["names"]),
        "enums": {name: members for name, members in enums.items() if members},
        "answers": pick(data["answers"]),
    }


def _tuple(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _columns(surfaces: list[dict[str, Any]], part: str) -> dict[str, Any]:
    keys = sorted({key for each in surfaces for key in each[part]})
    if part == "enums":
        found = {key: [each[part].get(key, {}) for each in surfaces] for key in keys}
        return {key: _merged(tables) for key, tables in found.items()}
    return _merged([each[part] for each in surfaces])


def _merged(tables: list[dict[str, Any]]) -> dict[str, Any]:
    """One value where all versions agree, else one for each version, null where the version has none."""
    merged: dict[str, Any] = {}
    for key in sorted({key for table in tables for key in table}):
        values = [table.get(key) for table in tables]
        merged[key] = values[0] if all(value == values[0] for value in values) else values
    return merged


def _written(data: dict[str, Any]) -> str:
    """JSON, one name a line."""
    lines = ["{", f' "versions": {json.dumps(data["versions"])},', ' "enums": {']
    enums = data["enums"].items()
    lines += [f"  {json.dumps(name)}: {json.dumps(members)}," for name, members in enums]
    lines[-1] = lines[-1][:-1]
    for part in ("names", "answers"):
        lines += [" },", f" {json.dumps(part)}: {{"]
        lines += [f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in data[part].items()]
        lines[-1] = lines[-1][:-1]
    return "\n".join([*lines, " }", "}"]) + "\n"


# --- the bindings without the libraries -------------------------------------------------------------------------------

_LOOKED_UP = """
createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL createNvOnnxParser_INTERNAL
createNvOnnxParserRefitter_INTERNAL getBuilderPluginRegistry getInferLibVersion getNvOnnxParserVersion
getPluginRegistry initLibNvInferPlugins _ZN11nvuffparser15createUffParserEv
_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi _ZN14nvcaffeparser117createCaffeParserEv
_ZN14nvcaffeparser123shutdownProtobufLibraryEv
"""
_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")


def imported(folder: Path, major: int) -> Any:
    """Import the package in a folder, over libraries that answer null to everything.

    Raises:
        OSError, CalledProcessError: there is no C compiler.
        ImportError: the package is not for this interpreter or machine.
    """
    source = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in _LOOKED_UP.split())
    with tempfile.TemporaryDirectory() as made:
        Path(made, "null.c").write_text(source)
        for name in _LIBRARIES:
            soname = f"lib{name}.so.{major}"
            command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", f"{made}/{soname}", f"{made}/null.c"]
            run(command, check=True, timeout=60)
            ctypes.CDLL(f"{made}/{soname}", mode=ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(folder))
    import tensorrt_bindings  # type: ignore[import-not-found]

    return tensorrt_bindings


def _of_audit(path: Path, like: dict[str, Any]) -> dict[str, Any]:
    """8.5.2 of the audit's table. What that form does not hold is taken from the next version: constants, context
    managers, functions in Python; which calls answer what stays open."""
    table = json.loads(path.read_text())["8.5.2"]
    names: dict[str, str] = {}
    enums: dict[str, dict[str, int]] = {}

    def note(prefix: str, members: dict[str, Any]) -> None:
        for name, value in members.items():
            inner = value.get("class") if isinstance(value, dict) else None
            if inner is not None and "enum" in inner:
                names[prefix + name] = like["names"].get(prefix + name, "enum")
                enums[name] = inner["enum"]
            elif inner is not None:
                names[prefix + name] = "class"
                if name in CLASSES:
                    note(f"{name}.", inner)
            elif isinstance(value, list) and (not name.startswith("__") or name in DUNDERS):
                names[prefix + name] = _of_docstring("\n".join(value), name)
            elif value in ("property", "property rw"):
                names[prefix + name] = "r" if value == "property" else "rw"

    note("", table)
    for name, kind in like["names"].items():
        owner, _, member = name.rpartition(".")
        constant = kind.startswith("= ") and kind[2:].partition(".")[2] in enums.get(kind[2:].partition(".")[0], {})
        python = member in ("__enter__", "__exit__", "volume", "nptype", "Severity")
        if (not owner or owner in names) and (constant or python):
            names.setdefault(name, kind)
    return {"names": names, "enums": enums, "answers": {}}


def _read(folder: Path) -> dict[str, Any]:
    found = next(folder.glob("tensorrt*_bindings-*.dist-info")).name
    return surface(imported(folder, int(found.split("-")[1].split(".")[0])))


def _write(pairs: list[str]) -> None:
    """Each version in a process of its own: two of them do not import side by side."""
    sources = dict(pair.split("=", 1) for pair in pairs)
    surfaces = {}
    for version, path in sorted(sources.items(), key=lambda pair: _tuple(pair[0]), reverse=True):
        if path.endswith(".json"):
            surfaces[version] = _of_audit(Path(path), list(surfaces.values())[-1])
        else:
            done = run([sys.executable, __file__, "read", path], check=True, capture_output=True, text=True)
            surfaces[version] = json.loads(done.stdout.splitlines()[-1])
    ordered = sorted(surfaces, key=_tuple)
    columns = [surfaces[version] for version in ordered]
    data = {"versions": ordered, **{part: _columns(columns, part) for part in ("enums", "names", "answers")}}
    FIXTURE.write_text(_written(data))


if __name__ == "__main__":
    if sys.argv[1] == "read":
        print(json.dumps(_read(Path(sys.argv[2]))))
    else:
        _write(sys.argv[2:])
