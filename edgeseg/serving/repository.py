"""Make a model repository for NVIDIA's Triton Inference Server.

Pre- and post-processing are in the graphs: a request holds frames as a camera gives them, an answer holds class ids.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from edgeseg.bundle import Bundle
from edgeseg.engines.base import Engine
from edgeseg.errors import ForeignFileError, InputError
from edgeseg.files import atomic_write, write_new

__all__ = [
    "BACKENDS",
    "ServedModel",
    "onnx_model",
    "python_model",
    "repository_files",
    "tensorrt_model",
    "write_files",
]

BACKENDS = ("python", "onnxruntime", "tensorrt")
"""Backends of Triton that a model can be written for."""
_PROGRAM = Path(__file__).with_name("triton_model.py")


@dataclass(frozen=True)
class ServedModel:
    """What one backend of Triton runs.

    Attributes:
        backend: one of ``BACKENDS``.
        files: name below the folder of version 1 -> content.
        input: name, Triton's data type and sizes of the frames; -1 is any number.
        output: the same of the class ids.
        parameters: what the backend is told.
        device: ``KIND_CPU``, ``KIND_GPU``, or empty for what the server has.
    """

    backend: str
    files: Mapping[str, bytes]
    input: tuple[str, str, Sequence[int]]
    output: tuple[str, str, Sequence[int]]
    parameters: Mapping[str, str]
    device: str = ""


def repository_files(bundle: Bundle, name: str, served: ServedModel) -> dict[str, bytes]:
    """Return the files of a model in a repository, by their path below it.

    Args:
        bundle: its spec is the model's metadata, its first golden frame the server's warm-up.
        name: of the model.
        served: what is run.
    """
    warm_up = _warm_up(bundle, served)
    files = {f"1/{file}": content for file, content in served.files.items()}
    if warm_up is not None:
        files["warmup/golden"] = warm_up
    files["spec.json"] = json.dumps(bundle.spec.to_json(), indent=1).encode()
    files["config.pbtxt"] = _configuration(bundle, name, served, has_warm_up=warm_up is not None).encode()
    return {f"{name}/{file}": content for file, content in files.items()}


def python_model(bundle: Bundle, content: bytes, engine: str) -> ServedModel:
    """Describe a model that edgeseg itself runs inside Triton's Python backend.

    Args:
        bundle: the model.
        content: the bytes of its file.
        engine: engine that runs it there, of ``ENGINES`` or ``auto``.
    """
    height, width = bundle.spec.size_hw
    return ServedModel(
        "python",
        {"model.py": _PROGRAM.read_bytes(), "model.edgeseg": content},
        ("frames", "TYPE_UINT8", (-1, height, width, 3)),
        ("classes", "TYPE_UINT8", (-1, height, width)),
        {"engine": engine},
    )


def onnx_model(onnx: bytes, graph: str, *, on_cpu: bool) -> ServedModel:
    """Describe a graph that Triton's ONNX Runtime backend runs.

    Args:
        onnx: a graph of a bundle.
        graph: its name, for messages.
        on_cpu: its arithmetic is a CPU's.

    Raises:
        EngineError: it cannot be loaded.
    """
    from edgeseg.engines.ort import OrtEngine

    with OrtEngine(onnx, graph, threads=1) as engine:
        (frames, classes), sizes, found = engine.port_names, engine.input.shape, engine.output_shape
    return ServedModel(
        "onnxruntime",
        {"model.onnx": onnx},
        (frames, "TYPE_UINT8", sizes),
        (classes, "TYPE_UINT8", found),
        {},
        "KIND_CPU" if on_cpu else "",
    )


def tensorrt_model(plan: bytes, engine: Engine, names: tuple[str, str], *, float_ports: bool) -> ServedModel:
    """Describe an engine of TensorRT that Triton's TensorRT backend runs. It must be the same TensorRT and GPU.

    Args:
        plan: the bytes of the engine.
        engine: the same, open.
        names: of its input and of its output of class ids.
        float_ports: it reads float32 frames and gives int32 ids.
    """
    classes = engine.infer(engine.input)
    kinds = ("TYPE_FP32", "TYPE_INT32") if float_ports else ("TYPE_UINT8", "TYPE_UINT8")
    return ServedModel(
        "tensorrt",
        {"model.plan": plan},
        (names[0], kinds[0], engine.input.shape),
        (names[1], kinds[1], classes.shape),
        {},
        "KIND_GPU",
    )


def _configuration(bundle: Bundle, name: str, served: ServedModel, *, has_warm_up: bool) -> str:
    """Return config.pbtxt, in the text form of Triton's ``ModelConfig``."""
    lines = [
        f"name: {_quoted(name)}",
        f"backend: {_quoted(served.backend)}",
        "max_batch_size: 0",
        _port("input", *served.input),
        _port("output", *served.output),
    ]
    if served.device:
        lines.append(f"instance_group [ {{ kind: {served.device} count: 1 }} ]")
    about = {**served.parameters, "edgeseg_classes": json.dumps(list(bundle.spec.classes))}
    lines += [
        f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
        for key, value in about.items()
    ]
    if has_warm_up:
        port, kind, dims = served.input
        sizes = " ".join(f"dims: {max(1, side)}" for side in dims)
        lines.append(
            f'model_warmup [ {{ name: "golden" batch_size: 0 count: 2 inputs {{ key: {_quoted(port)} '
            f'value {{ data_type: {kind} {sizes} input_data_file: "golden" }} }} }} ]'
        )
    return "\n".join(lines) + "\n"


def _port(which: str, name: str, kind: str, dims: Sequence[int]) -> str:
    return f"{which} [ {{ name: {_quoted(name)} data_type: {kind} dims: [ {', '.join(map(str, dims))} ] }} ]"


def _quoted(text: str) -> str:
    r"""Return a string of protobuf's text form: bytes that are no plain ASCII as ``\ooo``."""
    return '"' + "".join(_escaped(byte) for byte in text.encode()) + '"'


def _escaped(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\' else f"\\{byte:03o}"


def _warm_up(bundle: Bundle, served: ServedModel) -> bytes | None:
    """Return as many golden frames as a request holds, in the input's type; None where the bundle has none."""
    if bundle.golden is None:
        return None
    count = max(1, served.input[2][0])
    frames = np.resize(bundle.golden.frames, (count, *bundle.golden.frames.shape[1:]))
    return frames.astype("<f4" if served.input[1] == "TYPE_FP32" else np.uint8).tobytes()


def write_files(folder: Path, files: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Write the files of a model into a folder. The configuration comes last, since a server reads it first.

    Raises:
        ForeignFileError: the model is there, and ``overwrite`` is not set.
        InputError: the disk refuses.
    """
    for path in (folder / file for file in files):
        if os.path.lexists(path) and not overwrite:
            raise _is_there(path)
    try:
        for file, content in files.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                (atomic_write if overwrite else write_new)(path, content)
            except FileExistsError as error:  # since the look
                raise _is_there(path) from error
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free space" if is_full else "name another folder"
        raise InputError(f"{folder} cannot be written: {error.strerror or error}; {remedy}") from error


def _is_there(path: Path) -> ForeignFileError:
    return ForeignFileError(f"{path} is there and is not replaced; choose another name, or pass `overwrite`")
