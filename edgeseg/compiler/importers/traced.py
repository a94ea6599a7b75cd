"""A torch module made ready for the exporter, and left as it was found: one tensor out, no fused fast paths."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Iterator, Mapping

from edgeseg.errors import CompileError, first_line, require

if TYPE_CHECKING:
    from torch import nn

__all__ = ["exportable_module", "single_output_module"]

_NAMED = ("out", "logits", "masks", "pred", "seg")
"""Under these names torchvision, transformers and others give the logits among other tensors."""
_POOLS = ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d")


@contextmanager
def exportable_module(module: nn.Module) -> Iterator[nn.Module]:
    """Give the module on the CPU, in float32 and evaluation mode; afterwards it is as it was, tensor for tensor."""
    torch = require("torch", "train")
    module = getattr(module, "_orig_mod", module)  # torch.compile's wrapper
    if not isinstance(module, torch.nn.Module):
        raise CompileError(
            f"a network is a torch module or an ONNX graph, got {type(module).__name__}; of weights alone, build the "
            "module and load them into it"
        )
    _refuse_quantized(module)
    modes = [(part, part.training) for part in module.modules()]
    tensors = [(part, name, value, value.data) for part, name, value in _own_parameters(module)]
    gradients = [(value, value.grad) for _, _, value, _ in tensors]
    buffers = [
        (part, name, value, None if value is None else value.detach().clone())
        for part in module.modules()
        for name, value in part._buffers.items()
    ]
    with ExitStack() as restored:
        restored.callback(_restore, modes, tensors, gradients, buffers)
        for value, _ in gradients:
            value.grad = None
        restored.enter_context(_without_fast_paths(torch))
        restored.enter_context(_without_dumps(torch))
        try:
            ready = module.cpu().float().eval()
        except NotImplementedError as error:  # torch.export's modules have no modes
            raise CompileError(
                f"the network has no evaluation mode ({first_line(error)}); hand over the module that it was made from"
            ) from error
        yield ready


def _refuse_quantized(module: nn.Module) -> None:
    """Integer layers and fake quantization of torch have no form in ONNX, and INT8 is made here."""
    seen = sorted({type(part).__name__ for part in module.modules() if _is_quantized(type(part))})
    if seen:
        raise CompileError(f"the network is quantized already ({', '.join(seen)}); hand over the float network")


def _is_quantized(kind: type) -> bool:
    return "FakeQuant" in kind.__name__ or kind.__module__.startswith(
        ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
    )


def _own_parameters(module: nn.Module) -> Iterator[tuple[Any, str, Any]]:
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                yield part, name, value


def _restore(modes: list[Any], tensors: list[Any], gradients: list[Any], buffers: list[Any]) -> None:
    for part, name, value, data in tensors:
        value.data = data
        part._parameters[name] = value
    for value, gradient in gradients:
        value.grad = gradient
    for part, name, value, content in buffers:
        part._buffers[name] = value
        if content is not None:  # a forward may count in one
            value.data.copy_(content)
    for part, training in modes:
        part.training = training


@contextmanager
def _without_fast_paths(torch: Any) -> Iterator[None]:
    """TransformerEncoderLayer and MultiheadAttention as single operators of torch, without a form in ONNX, switched
    off, and some others in operators that have one."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _in_plain_operators(torch):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _without_dumps(torch: Any) -> Iterator[None]:
    """The exporter writes the whole graph to stdout when it fails."""
    log = getattr(torch._C, "_jit_onnx_log", None)
    if log is None:
        yield
        return
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = log


def _in_plain_operators(torch: Any) -> Any:
    """A mode in which what has no form in ONNX, but is linear at a fixed size, is written in operators that have one.

    Adaptive pooling to any size is slices, reduced and joined, first rows and then columns; antialiased interpolation
    is a product with a matrix per axis; the dot product in a spectral norm is a sum.
    """

    class Mode(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            name = getattr(function, "__name__", "")
            made = None
            if name in _POOLS:
                made = _pooled(torch, name, *args, **kwargs)
            elif name == "interpolate" and args and args[0].ndim == 4:
                with self:  # inside a torch function this mode is off
                    made = _interpolated(torch, *args, **kwargs)
            elif name == "vdot" and not args[0].is_complex():
                made = (args[0] * args[1]).sum()
            return function(*args, **kwargs) if made is None else made

    return Mode()


def _interpolated(
    torch: Any, image: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", *_: Any, **how: Any
) -> Any:
    """Interpolation by area, which pools, antialiased or nearest-exact; None for all that the exporter can write."""
    wanted = _size(image, size, scale_factor)
    if mode == "nearest-exact":
        return _nearest(torch, image, wanted, size, scale_factor)
    if mode == "area":
        return torch.nn.functional.adaptive_avg_pool2d(image, wanted)
    if not how.get("antialias"):
        return None
    rows, columns = (
        _resampling(torch, int(image.shape[axis]), count, mode, bool(how.get("align_corners")))
        for axis, count in zip((2, 3), wanted)
    )
    return rows @ image @ columns.T


def _nearest(torch: Any, image: Any, wanted: tuple[int, int], size: Any, scale_factor: Any) -> Any:
    """The pixels whose centres are nearest: repeated where the factors are whole, else picked along each axis."""
    if all(large % small == 0 for large, small in zip(wanted, image.shape[2:])):
        return torch.nn.functional.interpolate(image, size=wanted, mode="nearest")
    for axis, count in zip((2, 3), wanted):
        places = torch.arange(int(image.shape[axis]), dtype=torch.float32)[None, None]
        along = {"size": count} if size is not None else {"scale_factor": _factor(scale_factor, axis)}
        picked = torch.nn.functional.interpolate(places, mode="nearest-exact", **along)[0, 0]
        image = image.index_select(axis, picked.long())
    return image


def _factor(scale_factor: Any, axis: int) -> float:
    return float(scale_factor[axis - 2] if isinstance(scale_factor, (tuple, list)) else scale_factor)


def _resampling(torch: Any, size: int, count: int, mode: str, align_corners: bool) -> Any:
    """The matrix, count x size, of antialiased interpolation along one axis."""
    each = torch.eye(size)[None, None]
    made = torch._C._nn._upsample_bilinear2d_aa if mode == "bilinear" else torch._C._nn._upsample_bicubic2d_aa
    return made(each, [count, size], align_corners, None, None)[0, 0]


def _size(image: Any, size: Any, scale_factor: Any) -> tuple[int, int]:
    """The height and width that ``interpolate`` was asked for."""
    if size is not None:
        return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
    scales = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
    return int(image.shape[2] * scales[0]), int(image.shape[3] * scales[1])


def _pooled(torch: Any, name: str, image: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Adaptive pooling by kernels, else in slices; None where the exporter can write it by itself, or nobody can."""
    axes = (-1,) if name.endswith("1d") else (-2, -1)
    wanted = [output_size] * len(axes) if isinstance(output_size, int) else list(output_size)
    sizes = [int(image.shape[axis]) for axis in axes]
    wanted = [size if count is None else int(count) for size, count in zip(sizes, wanted)]
    if return_indices or all(count == 1 for count in wanted):
        return None
    if all(size % count == 0 for size, count in zip(sizes, wanted)):
        # Said with a kernel: where the exporter has lost the size of a map, it can write adaptive pooling to 1 only.
        plain = getattr(torch.nn.functional, name[len("adaptive_") :])
        return plain(image, [size // count for size, count in zip(sizes, wanted)])
    for axis, size, count in zip(axes, sizes, wanted):
        pieces = [
            image.narrow(axis, start, end - start)
            for start, end in ((i * size // count, -(-(i + 1) * size // count)) for i in range(count))
        ]
        reduced = [p.mean(axis, keepdim=True) if "avg" in name else p.amax(axis, keepdim=True) for p in pieces]
        image = torch.cat(reduced, axis)
    return image


def single_output_module(
    torch: Any, module: nn.Module, size_hw: tuple[int, int], class_count: int | None
) -> tuple[nn.Module, list[str]]:
    """Wrap the module where it may give more than a tensor, and say in a line what is taken.

    Args:
        torch: the package.
        module: gives a tensor, or a dict, tuple, list or object of tensors.
        size_hw: of its image.
        class_count: how many classes; None takes a tensor of any number of channels.
    """
    lines: list[str] = []
    if isinstance(module, torch.jit.ScriptModule):
        return module, lines  # the exporter takes it as it is, and in no other module

    class OneTensor(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, image: Any) -> Any:
            given = self.module(image)
            if torch.is_tensor(given):
                return given
            name, found, others = _chosen(torch, given, size_hw, class_count)
            left_out = f", {', '.join(others)} left out" if others else ""
            lines[:] = [f"the network gives a {type(given).__name__}: {name} is taken{left_out}"]
            return found

    return OneTensor(), lines


def _chosen(torch: Any, given: Any, size_hw: tuple[int, int], class_count: int | None) -> tuple[str, Any, list[str]]:
    """Name, tensor and the names of the others, of what a network gave that is no tensor.

    Of several maps with a channel per class the largest is taken; of equals or of names that do not tell, only a single
    one, for some networks give their auxiliary map first and others last. Raises CompileError.
    """
    maps = {name: value for name, value in _leaves(torch, given) if value.ndim == 4 and value.is_floating_point()}
    # While it is traced, a shape holds tensors, which are equal to no number in a set.
    shapes = {name: tuple(int(count) for count in value.shape) for name, value in maps.items()}
    counts = {class_count, (class_count or 0) - 1} | ({1} if class_count == 2 else set())
    inside = [name for name, shape in shapes.items() if max(shape[2:]) <= 2 * max(size_hw)]
    fitting = [name for name in inside if {shapes[name][1], shapes[name][3]} & counts] or inside
    fitting = [name for name in fitting if class_count in (shapes[name][1], shapes[name][3])] or fitting
    named = isinstance(given, Mapping) or not isinstance(given, (tuple, list))
    for key in _NAMED if named else ():
        known = [name for name in fitting if name.split(", ")[0] in (key, repr(key))]
        if known:
            fitting, named = known, False
            break
    largest = max((shapes[name][2] * shapes[name][3] for name in fitting), default=0)
    known = [name for name in fitting if shapes[name][2] * shapes[name][3] == largest]
    if len(known) != 1 or (named and len(fitting) > 1):
        raise CompileError(
            f"the network gives a {type(given).__name__} ({', '.join(maps) or 'no map'}), and which is the logits "
            "cannot be told; wrap it in a module whose forward returns the tensor 1xCxHxW"
        )
    return known[0], maps[known[0]], [name for name in maps if name != known[0]]


def _leaves(torch: Any, given: Any) -> Iterator[tuple[str, Any]]:
    """Every tensor in what a network gave, under the names that lead to it."""
    if isinstance(given, Mapping):
        members = [(repr(key), value) for key, value in given.items()]
    elif isinstance(given, (tuple, list)):
        members = [(f"item {index}", value) for index, value in enumerate(given)]
    else:
        members = list(vars(given).items()) if hasattr(given, "__dict__") else []
    for name, value in members:
        if torch.is_tensor(value):
            yield name, value
        else:
            yield from ((f"{name}, {inner}", tensor) for inner, tensor in _leaves(torch, value))
