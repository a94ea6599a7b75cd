"""For users who stay in PyTorch on a GPU machine: an exported program with our pre- and post-processing inside.

Torch-TensorRT builds on the GPU that it runs on, and does not even import without one: the machine is looked at first.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.errors import CompileError, EdgesegError, MissingDependencyError, UsageError, first_line, require
from edgeseg.files import atomic_write, scratch_folder
from edgeseg.preprocess import normalized
from edgeseg.spec import ModelSpec, Preprocess

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.export import ExportedProgram

__all__ = ["PRECISIONS", "TensorrtProgram", "exported_program_from_module", "tensorrt_program_from_module"]

PRECISIONS = ("fp32", "fp16")
_INSTALL = "pip install 'edgeseg[torch-tensorrt]'"


@dataclass(frozen=True)
class TensorrtProgram:
    """What Torch-TensorRT made of a network.

    Attributes:
        engines: TensorRT engines in the program, at least one.
        torch_operators: the ATen operators that PyTorch runs on the GPU because TensorRT takes them not; the last
            cast to uint8 is one.
        agreement: share of pixels of random frames in which the saved program, on this GPU, equals PyTorch on the
            CPU at the same precision.
    """

    engines: int
    torch_operators: tuple[str, ...]
    agreement: float


def exported_program_from_module(
    module: nn.Module, spec: ModelSpec, *, precision: str, batch: int = 1
) -> ExportedProgram:
    """Export a network with its pre- and post-processing. A plain CPU is enough; the module is left as it is.

    Args:
        module: maps Nx3xHxW float32 to logits NxCxHxW float32.
        spec: size, classes and preprocessing.
        precision: of the network, ``"fp32"`` or ``"fp16"``; normalisation is float32 in both.
        batch: frames per call.

    Returns:
        uint8 ``batch``xHxWx3 BGR -> uint8 ``batch``xHxW, on the CPU; proven on random frames to give the class maps of
        ``preprocess.normalized`` and the network at that precision.

    Raises:
        UsageError: no such precision or batch.
        CompileError: the network cannot be exported, does not fit the spec or overflows in float16.
    """
    _check_request(precision, batch)
    require("torch", "train")
    import torch

    dtype = torch.float16 if precision == "fp16" else torch.float32
    frames = _random_frames(spec, batch)
    try:
        network = copy.deepcopy(module).cpu().to(dtype).eval().requires_grad_(False)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logits = network(torch.from_numpy(normalized(frames, spec.preprocess)).to(dtype))
            framed = _framed(network, spec.preprocess, dtype)
            # Not strict: that takes six times as long and refuses more; that nothing is lost is proven by running.
            program = torch.export.export(framed, (torch.from_numpy(frames),), strict=False)
            classes = program.module()(torch.from_numpy(frames))
    except Exception as error:  # torch raises many types here, without a common base
        raise CompileError(f"the network cannot be exported at {precision}: {first_line(error)}") from error
    expected_shape = (batch, len(spec.classes), *spec.size_hw)
    if tuple(logits.shape) != expected_shape:
        raise CompileError(f"the network gives logits {tuple(logits.shape)}, the spec needs {expected_shape}")
    if not bool(torch.isfinite(logits).all()):
        raise CompileError(f"the network's logits are not finite at {precision}; try fp32, or look at the weights")
    _agreement(classes, logits.argmax(1), at_least=0.999)
    return program


def tensorrt_program_from_module(
    module: nn.Module, spec: ModelSpec, out: Path, *, precision: str, batch: int = 1, workspace_mib: int = 0
) -> TensorrtProgram:
    """Compile a network with Torch-TensorRT for this machine's GPU and save it, whole or not at all.

    ``torch.export.load(out).module()`` after ``import torch_tensorrt`` is the compiled network: uint8 BGR frames on
    the GPU in, uint8 class maps out. The file fits this kind of GPU and these versions of torch and TensorRT.

    Args:
        module: see ``exported_program_from_module``.
        spec: of the network.
        precision: see ``exported_program_from_module``.
        batch: frames at once.
        out: a ``.pt2`` file; its folder must exist.
        workspace_mib: the most memory for a kernel's workspace in MiB; 0 leaves it to TensorRT.

    Raises:
        UsageError: INT8, another precision, or a name that torch does not load.
        MissingDependencyError: torch-tensorrt or its libraries are not there; nothing was computed.
        CompileError: there is no CUDA GPU (nothing was computed), or the network does not compile or disagrees.
        OSError: the file cannot be written.
    """
    _check_request(precision, batch)
    if out.suffix.lower() != ".pt2":
        raise UsageError(f"an exported program is a .pt2 file, got {out.name}; name it {out.stem}.pt2")
    _check_machine(_cuda_problem(), package=importlib.util.find_spec("torch_tensorrt") is not None)
    _check_import()
    program = exported_program_from_module(module, spec, precision=precision, batch=batch)
    try:
        data, made = _compiled(program, _random_frames(spec, batch), workspace_mib)
    except EdgesegError:
        raise
    except Exception as error:  # torch_tensorrt raises many types, without a common base
        raise CompileError(f"torch-tensorrt cannot compile the network: {first_line(error)}") from error
    atomic_write(out, data)
    return made


def _framed(network: nn.Module, preprocess: Preprocess, dtype: torch.dtype) -> nn.Module:
    """The network behind ``preprocess.normalized`` and in front of argmax."""
    import torch

    class Framed(torch.nn.Module):
        scale: torch.Tensor
        offset: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.network = network
            for name, values in zip(("scale", "offset"), preprocess.scale_and_offset()):
                self.register_buffer(name, torch.from_numpy(values).reshape(1, 3, 1, 1))

        def forward(self, frame: torch.Tensor) -> torch.Tensor:
            planes = frame.float().permute(0, 3, 1, 2)  # the cast first: TensorRT does nothing else with uint8
            ordered = planes.flip(1) if preprocess.channel_order == "RGB" else planes
            logits: torch.Tensor = self.network(((ordered - self.offset) / self.scale).to(dtype))
            return logits.argmax(1).to(torch.uint8)

    return Framed().eval()


def _compiled(program: ExportedProgram, frames: np.ndarray, workspace_mib: int) -> tuple[bytes, TensorrtProgram]:
    """Compile a CPU program on the GPU, save it, load it again and compare; the content of the file."""
    import torch
    import torch_tensorrt
    from torch.export.passes import move_to_device_pass

    expected = program.module()(torch.from_numpy(frames))
    inputs: tuple[Any, ...] = (torch.from_numpy(frames).cuda(),)
    compiled = torch_tensorrt.dynamo.compile(
        move_to_device_pass(program, "cuda"),
        arg_inputs=inputs,
        disable_tf32=True,
        min_block_size=1,
        workspace_size=workspace_mib * 2**20,
    )
    engines, torch_operators = _partition(compiled)
    if not engines:
        raise CompileError("TensorRT took no operator of the network; please report this network")
    with scratch_folder() as folder:
        saved = folder / "program.pt2"
        torch_tensorrt.save(compiled, str(saved), output_format="exported_program", arg_inputs=inputs)
        classes = torch.export.load(str(saved)).module()(*inputs).cpu()
        # Kernels sum in another order than the CPU, and on noise margins are thin; dead engines give constants.
        made = TensorrtProgram(engines, torch_operators, _agreement(classes, expected, at_least=0.98))
        return saved.read_bytes(), made


def _partition(compiled: torch.fx.GraphModule) -> tuple[int, tuple[str, ...]]:
    """(engines, operators left to PyTorch) in what ``torch_tensorrt.dynamo.compile`` returns."""
    import torch

    engines, parts = 0, [compiled]
    for name, part in compiled.named_children():
        engines += name.startswith("_run_on_acc")
        if name.startswith("_run_on_gpu") and isinstance(part, torch.fx.GraphModule):
            parts.append(part)
    left = {str(node.target) for part in parts for node in part.graph.nodes if node.op == "call_function"}
    return engines, tuple(sorted(left))


def _agreement(actual: torch.Tensor, expected: torch.Tensor, *, at_least: float) -> float:
    share = float((actual == expected).float().mean())
    if not share >= at_least:
        raise CompileError(
            f"the program agrees with the network in only {100 * share:.2f} % of pixels of random frames, "
            f"{100 * at_least:.1f} % are needed; please report this network"
        )
    return share


def _random_frames(spec: ModelSpec, batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, *spec.size_hw, 3), dtype=np.uint8)


def _check_request(precision: str, batch: int) -> None:
    if precision == "int8":
        raise UsageError(
            "torch-tensorrt quantizes only what NVIDIA ModelOpt calibrated, past our ranges and gate; for INT8 leave "
            "torch-tensorrt out: the bundle's Q/DQ graph is what TensorRT runs"
        )
    if precision not in PRECISIONS:
        raise UsageError(f"torch-tensorrt compiles at {' or '.join(PRECISIONS)}, got {precision!r}")
    if batch < 1:
        raise UsageError(f"batch is 1 or more, got {batch}")


def _cuda_problem() -> str:
    """Why torch cannot compute on a GPU here; empty when it can. Raises MissingDependencyError without torch."""
    require("torch", "train")
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.zeros(1, device="cuda")
        except (RuntimeError, AssertionError) as error:  # AssertionError: a torch that is built without CUDA
            return first_line(error).split(". ")[0]
    return ""


def _check_machine(cuda_problem: str, *, package: bool) -> None:
    """Say in one line everything that this machine lacks, if it lacks something."""
    if cuda_problem:
        also = "" if package else f"; the package torch-tensorrt is missing too: {_INSTALL}"
        raise CompileError(
            f"torch-tensorrt needs the CUDA GPU that the program will run on, torch says: {cuda_problem}{also}; "
            "run this on the GPU machine, or leave torch-tensorrt out: a bundle needs no GPU here"
        )
    if not package:
        raise MissingDependencyError(f"the package torch-tensorrt is missing; {_INSTALL}")


def _check_import() -> None:
    """Import torch_tensorrt, which prints when it fails, before any work."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module("torch_tensorrt")
    except Exception as error:  # a bare Exception where libnvinfer is missing, else ImportError, RuntimeError, OSError
        raise MissingDependencyError(
            f"torch_tensorrt cannot be imported ({first_line(error)}); {_INSTALL} in a new environment"
        ) from error
