"""Networks that published latencies are of, as ONNX graphs of shapes: FLOPs are counted from these, never typed in.

torchvision and timm build what they have. The detectors are drawn here layer by layer from their papers. No graph has
weights: a forecast needs shapes alone. ``NETWORKS`` says which name of a row is built how.
"""

from __future__ import annotations

import math
import warnings
from io import BytesIO
from typing import Any, Callable, Sequence

import onnx
from onnx import helper

from edgeseg.estimate.kernels import Kernel, fused_kernels

IMAGE = "image"
_FLOAT = onnx.TensorProto.FLOAT


class Drawing:
    """An ONNX graph while it is drawn: every method adds nodes and returns the name of what they make."""

    def __init__(self, batch: int, height: int, width: int) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {IMAGE: (batch, 3, height, width)}
        self._weights: list[str] = []
        self._wide: set[str] = set()
        """Tensors of four bytes per value in every precision."""
        self._nodes: list[Any] = []

    def channels(self, x: str) -> int:
        return self.shapes[x][1]

    def node(self, operator: str, inputs: Sequence[str], shape: Sequence[int], **how: Any) -> str:
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name, **how))
        self.shapes[name] = tuple(shape)
        return name

    def weight(self, *shape: int) -> str:
        name = f"weight_{len(self._weights)}"
        self._weights.append(name)
        self.shapes[name] = shape
        return name

    def conv(
        self, x: str, out: int, k: int = 1, stride: int = 1, *, groups: int = 1, act: str = "Relu", pad: int = -1
    ) -> str:
        batch, channels, *size = self.shapes[x]
        pad = k // 2 if pad < 0 else pad
        size = [(side + 2 * pad - k) // stride + 1 for side in size]
        how = {"kernel_shape": [k, k], "strides": [stride] * 2, "pads": [pad] * 4, "group": groups}
        made = self.node("Conv", [x, self.weight(out, channels // groups, k, k)], (batch, out, *size), **how)
        return self.act(made, act)

    def deconv(self, x: str, out: int, k: int, stride: int, act: str = "Relu") -> str:
        batch, channels, *size = self.shapes[x]
        shape = (batch, out, *(side * stride for side in size))
        made = self.node("ConvTranspose", [x, self.weight(channels, out, k, k)], shape, strides=[stride] * 2)
        return self.act(made, act)

    def plugin(self, x: str, reformats: bool) -> str:
        """Work that TensorRT leaves to the user's code, on FP32: other precisions are converted to it and back."""
        shape = self.shapes[x]
        y = self.node("Reformat", [x], shape) if reformats else x
        z = self.node("Plugin", [y], shape)
        self._wide.update((y, z) if reformats else ())
        return self.node("Reformat", [z], shape) if reformats else z

    def act(self, x: str, kind: str) -> str:
        shape = self.shapes[x]
        if kind.startswith("Plugin"):
            return self.plugin(x, kind == "PluginAndReformats")
        if kind == "SiLU":
            return self.node("Mul", [x, self.node("Sigmoid", [x], shape)], shape)
        if kind == "Mish":
            return self.node("Mul", [x, self.node("Tanh", [self.node("Softplus", [x], shape)], shape)], shape)
        return self.node(kind, [x], shape) if kind else x

    def add(self, x: str, y: str, act: str = "") -> str:
        return self.act(self.node("Add", [x, y], self.shapes[x]), act)

    def cat(self, *parts: str) -> str:
        batch, _, *size = self.shapes[parts[0]]
        return self.node("Concat", parts, (batch, sum(map(self.channels, parts)), *size), axis=1)

    def part(self, x: str, channels: int) -> str:
        batch, _, *size = self.shapes[x]
        return self.node("Slice", [x], (batch, channels, *size))

    def pool(self, x: str, k: int, stride: int, kind: str = "MaxPool") -> str:
        batch, channels, *size = self.shapes[x]
        pad = k // 2
        size = [(side + 2 * pad - k) // stride + 1 for side in size]
        return self.node(kind, [x], (batch, channels, *size), kernel_shape=[k, k])

    def up(self, x: str, to: str = "") -> str:
        batch, channels, *size = self.shapes[x]
        size = list(self.shapes[to][2:]) if to else [2 * side for side in size]
        return self.node("Resize", [x], (batch, channels, *size))

    def model(self, *outputs: str) -> onnx.ModelProto:
        def value(name: str) -> Any:
            kind = onnx.TensorProto.INT32 if name in self._wide else _FLOAT
            return helper.make_tensor_value_info(name, kind, self.shapes[name])

        known = {IMAGE, *self._weights, *outputs}
        inner = [value(name) for name in self.shapes if name not in known]
        graph = helper.make_graph(
            self._nodes,
            "drawn",
            [value(IMAGE), *map(value, self._weights)],
            list(map(value, outputs)),
            value_info=inner,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


Draw = Callable[[Drawing], Sequence[str]]


def _of_library(make: Callable[[], Any]) -> Callable[[int, int, int], onnx.ModelProto]:
    """Export a torch module, and let onnxslim compute the shapes in it."""

    def build(batch: int, height: int, width: int) -> onnx.ModelProto:
        import onnxslim
        import torch

        module = make().eval()
        file: Any = BytesIO()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = torch.zeros(batch, 3, height, width)
            torch.onnx.export(module, (image,), file, input_names=[IMAGE], opset_version=17, dynamo=False)
        slim = onnxslim.slim(onnx.load_from_string(file.getvalue()))
        return onnx.shape_inference.infer_shapes(slim, data_prop=True)

    return build


def _drawn(draw: Draw) -> Callable[[int, int, int], onnx.ModelProto]:
    def build(batch: int, height: int, width: int) -> onnx.ModelProto:
        net = Drawing(batch, height, width)
        return net.model(*draw(net))

    return build


def torchvision_net(name: str) -> Callable[[int, int, int], onnx.ModelProto]:
    def make() -> Any:
        import torchvision

        return torchvision.models.get_model(name, weights=None)

    return _of_library(make)


def timm_net(name: str) -> Callable[[int, int, int], onnx.ModelProto]:
    def make() -> Any:
        import timm

        timm.layers.set_fused_attn(False)
        return timm.create_model(name, pretrained=False, exportable=True)

    return _of_library(make)


# ResNets and what stands on them ------------------------------------------------------------------------------------


def _basic(net: Drawing, x: str, width: int, stride: int) -> str:
    y = net.conv(net.conv(x, width, 3, stride), width, 3, act="")
    short = net.conv(x, width, 1, stride, act="") if stride > 1 or net.channels(x) != width else x
    return net.add(y, short, "Relu")


def _bottleneck(net: Drawing, x: str, width: int, stride: int, groups: int = 1) -> str:
    inner = width * 2 if groups > 1 else width
    y = net.conv(net.conv(net.conv(x, inner), inner, 3, stride, groups=groups), 4 * width, act="")
    short = net.conv(x, 4 * width, 1, stride, act="") if stride > 1 or net.channels(x) != 4 * width else x
    return net.add(y, short, "Relu")


def _resnet(net: Drawing, depths: Sequence[int], block: Callable[..., str], strides: Sequence[int], **how: Any) -> Any:
    x = net.pool(net.conv(IMAGE, 64, 7, 2), 3, 2)
    stages = []
    for depth, width, stride in zip(depths, (64, 128, 256, 512), strides):
        for index in range(depth):
            x = block(net, x, width, stride if index == 0 else 1, **how)
        stages.append(x)
    return stages


def _fcn_resnet18(net: Drawing) -> Sequence[str]:
    """As jetson-inference exports it: the classes at stride 32."""
    x = _resnet(net, (2, 2, 2, 2), _basic, (1, 2, 2, 2))[-1]
    return [net.conv(net.conv(x, 128, 3), 21, act="")]


def _ssd_resnet34(net: Drawing) -> Sequence[str]:
    x = _resnet(net, (3, 4, 6), _basic, (1, 2, 1))[-1]
    maps = [x]
    for middle, out, stride, pad in (
        (256, 512, 2, 1),
        (256, 512, 2, 1),
        (128, 256, 2, 1),
        (128, 256, 2, 1),
        (128, 256, 1, 0),
    ):
        maps.append(net.conv(net.conv(maps[-1], middle), out, 3, stride, pad=pad))
    heads = []
    for x, stride, boxes in zip(maps, (3, 3, 2, 2, 2, 2), (4, 6, 6, 6, 4, 4)):
        heads += [net.conv(x, boxes * 4, 3, stride, act=""), net.conv(x, boxes * 81, 3, stride, act="")]
    return heads


def _retinanet(groups: int, classes: int) -> Draw:
    def draw(net: Drawing) -> Sequence[str]:
        how = {"groups": groups} if groups > 1 else {}
        _, *deep = _resnet(net, (3, 4, 6, 3), _bottleneck, (1, 2, 2, 2), **how)
        sides = [net.conv(x, 256, act="") for x in deep]
        for at in (1, 0):
            sides[at] = net.add(sides[at], net.up(sides[at + 1], sides[at]))
        maps = [net.conv(x, 256, 3, act="") for x in sides]
        maps.append(net.conv(maps[-1] if groups > 1 else deep[-1], 256, 3, 2, act=""))
        maps.append(net.conv(maps[-1], 256, 3, 2, act=""))
        heads = []
        for x in maps:
            for out in (9 * 4, 9 * classes):
                y = x
                for _ in range(4):
                    y = net.conv(y, 256, 3)
                heads.append(net.conv(y, out, 3, act=""))
        return heads

    return draw


def _pose(net: Drawing, x: str) -> Sequence[str]:
    """The head of trt_pose with attention: two branches of three transposed convolutions."""
    outputs = []
    for channels in (18, 42):
        y = x
        for _ in range(3):
            y = net.deconv(y, 256, 4, 2)
        attention = net.conv(y, 256, 3, act="Sigmoid" if channels == 18 else "Tanh")
        outputs.append(net.conv(net.node("Mul", [y, attention], net.shapes[y]), channels, act=""))
    return outputs


def _pose_resnet18(net: Drawing) -> Sequence[str]:
    return _pose(net, _resnet(net, (2, 2, 2, 2), _basic, (1, 2, 2, 2))[-1])


def _pose_densenet121(net: Drawing) -> Sequence[str]:
    x = net.pool(net.conv(IMAGE, 64, 7, 2), 3, 2)
    for at, depth in enumerate((6, 12, 24, 16)):
        for _ in range(depth):
            y = net.act(net.node("BatchNormalization", [x], net.shapes[x]), "Relu")
            x = net.cat(x, net.conv(net.conv(y, 128), 32, 3, act=""))
        x = net.act(net.node("BatchNormalization", [x], net.shapes[x]), "Relu")
        if at < 3:
            x = net.pool(net.conv(x, net.channels(x) // 2, act=""), 2, 2, "AveragePool")
    return _pose(net, x)


def _ssd_mobilenet(net: Drawing) -> Sequence[str]:
    x = net.conv(IMAGE, 32, 3, 2)
    maps = []
    widths = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    for at, (out, stride) in enumerate(widths):
        x = net.conv(net.conv(x, net.channels(x), 3, stride, groups=net.channels(x)), out)
        if at in (10, 12):
            maps.append(x)
    for middle, out in ((256, 512), (128, 256), (128, 256), (64, 128)):
        x = net.conv(net.conv(x, middle), out, 3, 2)
        maps.append(x)
    heads = []
    for x, boxes in zip(maps, (3, 6, 6, 6, 6, 6)):
        heads += [net.conv(x, 4 * boxes, act=""), net.conv(x, 91 * boxes, act="")]
    return heads


# YOLOs --------------------------------------------------------------------------------------------------------------


def _yolov4(net: Drawing, mish: str) -> Sequence[str]:
    """As tkDNN gives it to TensorRT: Mish and the poolings of one size are plugins (its src/NetworkRT.cpp)."""

    def stage(x: str, out: int, depth: int, first: bool = False) -> str:
        x = net.conv(x, out, 3, 2, act=mish)
        half = out if first else out // 2
        side, y = net.conv(x, half, act=mish), net.conv(x, half, act=mish)
        for _ in range(depth):
            y = net.add(y, net.conv(net.conv(y, out // 2, act=mish), half, 3, act=mish))
        return net.conv(net.cat(net.conv(y, half, act=mish), side), out, act=mish)

    def five(x: str, out: int) -> str:
        for at in range(5):
            x = net.conv(x, out if at % 2 == 0 else 2 * out, 1 if at % 2 == 0 else 3, act="LeakyRelu")
        return x

    x = stage(net.conv(IMAGE, 32, 3, act=mish), 64, 1, first=True)
    x = stage(x, 128, 2)
    c3 = stage(x, 256, 8)
    c4 = stage(c3, 512, 8)
    x = stage(c4, 1024, 4)
    for out, k in ((512, 1), (1024, 3), (512, 1)):
        x = net.conv(x, out, k, act="LeakyRelu")
    x = net.cat(*(net.plugin(x, mish == "PluginAndReformats") for _ in (13, 9, 5)), x)
    for out, k in ((512, 1), (1024, 3), (512, 1)):
        x = net.conv(x, out, k, act="LeakyRelu")
    p5 = x
    p4 = five(net.cat(net.conv(c4, 256, act="LeakyRelu"), net.up(net.conv(p5, 256, act="LeakyRelu"))), 256)
    p3 = five(net.cat(net.conv(c3, 128, act="LeakyRelu"), net.up(net.conv(p4, 128, act="LeakyRelu"))), 128)
    n4 = five(net.cat(net.conv(p3, 256, 3, 2, act="LeakyRelu"), p4), 256)
    n5 = five(net.cat(net.conv(n4, 512, 3, 2, act="LeakyRelu"), p5), 512)
    return [net.conv(net.conv(y, 2 * net.channels(y), 3, act="LeakyRelu"), 255, act="") for y in (p3, n4, n5)]


def _silu(net: Drawing, x: str, out: int, k: int = 1, stride: int = 1, groups: int = 1) -> str:
    return net.conv(x, out, k, stride, groups=groups, act="SiLU")


def _residual(net: Drawing, x: str, inner: int, *, add: bool) -> str:
    y = _silu(net, _silu(net, x, inner, 3), net.channels(x), 3)
    return net.add(x, y) if add else y


def _c2f(net: Drawing, x: str, out: int, depth: int, *, add: bool) -> str:
    half = out // 2
    x = _silu(net, x, out)
    parts = [net.part(x, half), net.part(x, half)]
    for _ in range(depth):
        parts.append(_residual(net, parts[-1], half, add=add))
    return _silu(net, net.cat(*parts), out)


def _sppf(net: Drawing, x: str) -> str:
    out = net.channels(x)
    parts = [_silu(net, x, out // 2)]
    for _ in range(3):
        parts.append(net.pool(parts[-1], 5, 1))
    return _silu(net, net.cat(*parts), out)


def _boxes(net: Drawing, maps: Sequence[str], heads: Sequence[str]) -> Sequence[str]:
    """Decode boxes: softmax over 16 distances of each side, their mean, and sigmoids of 80 classes."""
    batch = net.shapes[IMAGE][0]
    cells = sum(math.prod(net.shapes[x][2:]) for x in maps)
    flat = [net.node("Reshape", [y], (batch, net.channels(y), math.prod(net.shapes[y][2:]))) for y in heads]
    x = net.node("Concat", flat, (batch, 144, cells), axis=2)
    sides = net.node("Transpose", [net.node("Slice", [x], (batch, 64, cells))], (batch, 16, 4, cells))
    soft = net.node("Softmax", [sides], (batch, 16, 4, cells), axis=1)
    mean = net.node("Conv", [soft, net.weight(1, 16, 1, 1)], (batch, 1, 4, cells))
    classes = net.node("Sigmoid", [net.node("Slice", [x], (batch, 80, cells))], (batch, 80, cells))
    flat_mean = net.node("Reshape", [mean], (batch, 4, cells))
    return [net.node("Concat", [net.act(flat_mean, "Relu"), classes], (batch, 84, cells), axis=1)]


def _yolov8(depth: float, width: float, most: int) -> Draw:
    def draw(net: Drawing) -> Sequence[str]:
        def wide(channels: int) -> int:
            return math.ceil(min(channels, most) * width / 8) * 8

        def deep(count: int) -> int:
            return max(round(count * depth), 1)

        x = _silu(net, _silu(net, IMAGE, wide(64), 3, 2), wide(128), 3, 2)
        x = _c2f(net, x, wide(128), deep(3), add=True)
        c3 = _c2f(net, _silu(net, x, wide(256), 3, 2), wide(256), deep(6), add=True)
        c4 = _c2f(net, _silu(net, c3, wide(512), 3, 2), wide(512), deep(6), add=True)
        c5 = _sppf(net, _c2f(net, _silu(net, c4, wide(1024), 3, 2), wide(1024), deep(3), add=True))
        p4 = _c2f(net, net.cat(net.up(c5), c4), wide(512), deep(3), add=False)
        p3 = _c2f(net, net.cat(net.up(p4), c3), wide(256), deep(3), add=False)
        n4 = _c2f(net, net.cat(_silu(net, p3, wide(256), 3, 2), p4), wide(512), deep(3), add=False)
        n5 = _c2f(net, net.cat(_silu(net, n4, wide(512), 3, 2), c5), wide(1024), deep(3), add=False)
        maps = [p3, n4, n5]
        box, cls = max(16, wide(256) // 4, 64), max(wide(256), 80)
        heads = []
        for x in maps:
            sides = net.conv(_silu(net, _silu(net, x, box, 3), box, 3), 64, act="")
            classes = net.conv(_silu(net, _silu(net, x, cls, 3), cls, 3), 80, act="")
            heads.append(net.cat(sides, classes))
        return _boxes(net, maps, heads)

    return draw


def _c3k2(net: Drawing, x: str, out: int, depth: int, *, nested: bool, share: float = 0.5) -> str:
    half = int(out * share)
    x = _silu(net, x, 2 * half)
    parts = [net.part(x, half), net.part(x, half)]
    for _ in range(depth):
        if nested:
            y, side = _silu(net, parts[-1], half // 2), _silu(net, parts[-1], half // 2)
            for _ in range(2):
                y = _residual(net, y, half // 2, add=True)
            parts.append(_silu(net, net.cat(y, side), half))
        else:
            parts.append(_residual(net, parts[-1], half // 2, add=True))
    return _silu(net, net.cat(*parts), out)


def _c2psa(net: Drawing, x: str, depth: int) -> str:
    out = net.channels(x)
    half = out // 2
    x = _silu(net, x, out)
    side, y = net.part(x, half), net.part(x, half)
    for _ in range(depth):
        batch, _, high, wide = net.shapes[y]
        heads, cells = max(half // 64, 1), high * wide
        each = half // heads
        mixed = net.conv(y, half + 2 * heads * (each // 2), act="")
        query = net.node("Reshape", [net.part(mixed, heads * each // 2)], (batch, heads, each // 2, cells))
        key = net.node("Reshape", [net.part(mixed, heads * each // 2)], (batch, heads, each // 2, cells))
        value = net.node("Reshape", [net.part(mixed, half)], (batch, heads, each, cells))
        turned = net.node("Transpose", [query], (batch, heads, cells, each // 2))
        scores = net.node("MatMul", [turned, key], (batch, heads, cells, cells))
        weights = net.node("Softmax", [net.act(scores, "Relu")], (batch, heads, cells, cells))
        back = net.node("Transpose", [weights], (batch, heads, cells, cells))
        seen = net.node("MatMul", [value, back], (batch, heads, each, cells))
        seen = net.node("Reshape", [seen], (batch, half, high, wide))
        place = net.conv(net.node("Reshape", [value], (batch, half, high, wide)), half, 3, groups=half, act="")
        y = net.add(y, net.conv(net.add(seen, place), half, act=""))
        y = net.add(y, net.conv(_silu(net, y, 2 * half), half, act=""))
    return _silu(net, net.cat(side, y), out)


def _yolo11(depth: float, width: float, most: int, *, large: bool, pose: bool = False) -> Draw:
    def draw(net: Drawing) -> Sequence[str]:
        def wide(channels: int) -> int:
            return math.ceil(min(channels, most) * width / 8) * 8

        twice = max(round(2 * depth), 1)
        x = _silu(net, _silu(net, IMAGE, wide(64), 3, 2), wide(128), 3, 2)
        x = _c3k2(net, x, wide(256), twice, nested=large, share=0.25)
        c3 = _c3k2(net, _silu(net, x, wide(256), 3, 2), wide(512), twice, nested=large, share=0.25)
        c4 = _c3k2(net, _silu(net, c3, wide(512), 3, 2), wide(512), twice, nested=True)
        x = _c3k2(net, _silu(net, c4, wide(1024), 3, 2), wide(1024), twice, nested=True)
        c5 = _c2psa(net, _sppf(net, x), twice)
        p4 = _c3k2(net, net.cat(net.up(c5), c4), wide(512), twice, nested=large)
        p3 = _c3k2(net, net.cat(net.up(p4), c3), wide(256), twice, nested=large)
        n4 = _c3k2(net, net.cat(_silu(net, p3, wide(256), 3, 2), p4), wide(512), twice, nested=large)
        n5 = _c3k2(net, net.cat(_silu(net, n4, wide(512), 3, 2), c5), wide(1024), twice, nested=True)
        maps = [p3, n4, n5]
        box, cls, points = max(16, wide(256) // 4, 64), max(wide(256), 80), max(wide(256) // 4, 51)
        heads, more = [], []
        for x in maps:
            sides = net.conv(_silu(net, _silu(net, x, box, 3), box, 3), 64, act="")
            y = x
            for _ in range(2):
                y = _silu(net, _silu(net, y, net.channels(y), 3, groups=net.channels(y)), cls)
            heads.append(net.cat(sides, net.conv(y, 80, act="")))
            if pose:
                more.append(net.conv(_silu(net, _silu(net, x, points, 3), points, 3), 51, act=""))
        return [*_boxes(net, maps, heads), *more]

    return draw


def _yolox(depth: float, width: float, *, separable: bool = False) -> Draw:
    def draw(net: Drawing) -> Sequence[str]:
        base, few = int(64 * width), max(round(3 * depth), 1)

        def conv(x: str, out: int, k: int, stride: int = 1) -> str:
            if separable and k > 1:
                return _silu(net, _silu(net, x, net.channels(x), k, stride, groups=net.channels(x)), out)
            return _silu(net, x, out, k, stride)

        def csp(x: str, out: int, count: int, *, add: bool) -> str:
            y, side = _silu(net, x, out // 2), _silu(net, x, out // 2)
            for _ in range(count):
                z = conv(_silu(net, y, out // 2), out // 2, 3)
                y = net.add(y, z) if add else z
            return _silu(net, net.cat(y, side), out)

        batch, _, high, broad = net.shapes[IMAGE]
        focus = net.node("SpaceToDepth", [IMAGE], (batch, 12, high // 2, broad // 2))
        x = conv(_silu(net, focus, base, 3), 2 * base, 3, 2)
        c3 = csp(conv(csp(x, 2 * base, few, add=True), 4 * base, 3, 2), 4 * base, 3 * few, add=True)
        c4 = csp(conv(c3, 8 * base, 3, 2), 8 * base, 3 * few, add=True)
        x = _silu(net, conv(c4, 16 * base, 3, 2), 8 * base)
        x = _silu(net, net.cat(x, *(net.pool(x, k, 1) for k in (5, 9, 13))), 16 * base)
        c5 = csp(x, 16 * base, few, add=False)
        up5 = _silu(net, c5, 8 * base)
        up4 = _silu(net, csp(net.cat(net.up(up5), c4), 8 * base, few, add=False), 4 * base)
        p3 = csp(net.cat(net.up(up4), c3), 4 * base, few, add=False)
        n4 = csp(net.cat(conv(p3, 4 * base, 3, 2), up4), 8 * base, few, add=False)
        n5 = csp(net.cat(conv(n4, 8 * base, 3, 2), up5), 16 * base, few, add=False)
        outputs = []
        for x in (p3, n4, n5):
            x = _silu(net, x, 4 * base)
            cls, reg = (conv(conv(x, 4 * base, 3), 4 * base, 3) for _ in range(2))
            heads = (net.conv(reg, 4, act=""), net.conv(reg, 1, act="Sigmoid"), net.conv(cls, 80, act="Sigmoid"))
            outputs.append(net.cat(*heads))
        return outputs

    return draw


_V8 = {
    "n": (1 / 3, 0.25, 1024),
    "s": (1 / 3, 0.5, 1024),
    "m": (2 / 3, 0.75, 768),
    "l": (1, 1, 512),
    "x": (1, 1.25, 512),
}
_V11 = {"n": (0.5, 0.25, 1024), "s": (0.5, 0.5, 1024), "m": (0.5, 1, 512), "l": (1, 1, 512), "x": (1, 1.5, 512)}
_VX = {"n": (0.33, 0.25), "t": (0.33, 0.375), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1, 1)}

NETWORKS: dict[str, tuple[str, Callable[[int, int, int], onnx.ModelProto]]] = {
    "alexnet": ("alexnet", torchvision_net("alexnet")),
    "squeezenet1_0": ("squeezenet", torchvision_net("squeezenet1_0")),
    **{f"resnet{n}": ("resnet", torchvision_net(f"resnet{n}")) for n in (18, 50, 152)},
    "ResNet-50 v1.5": ("resnet", torchvision_net("resnet50")),
    "ResNet-18": ("resnet", torchvision_net("resnet18")),
    "ResNeXt-50": ("resnext", torchvision_net("resnext50_32x4d")),
    "SE-ResNet-50": ("se-resnet", timm_net("seresnet50")),
    **{f"densenet{n}": ("densenet", torchvision_net(f"densenet{n}")) for n in (161, 201)},
    **{f"vgg{n}": ("vgg", torchvision_net(f"vgg{n}")) for n in ("11", "16", "19", "11_bn", "13_bn", "19_bn")},
    "mobilenet_v2": ("mobilenet", torchvision_net("mobilenet_v2")),
    "MobileNetV2 (ONNX zoo mobilenetv2-1.0)": ("mobilenet", torchvision_net("mobilenet_v2")),
    "mobilenet_v3_large": ("mobilenet-v3", torchvision_net("mobilenet_v3_large")),
    "mobilenet_v3_small": ("mobilenet-v3", torchvision_net("mobilenet_v3_small")),
    "mnasnet0_5": ("mnasnet", torchvision_net("mnasnet0_5")),
    "mnasnet1_3": ("mnasnet", torchvision_net("mnasnet1_3")),
    **{f"shufflenet_v2_{n}": ("shufflenet", torchvision_net(f"shufflenet_v2_{n}")) for n in ("x0_5", "x1_5", "x2_0")},
    "ShuffleNetV2": ("shufflenet", torchvision_net("shufflenet_v2_x1_0")),
    **{f"regnetY{n}00": ("regnet", timm_net(f"regnety_00{n}")) for n in (2, 4, 6, 8)},
    **{f"EfficientViT-B{n}": ("efficientvit", timm_net(f"efficientvit_b{n}")) for n in (1, 2, 3)},
    "SSD-MobileNet-v1": ("ssd-mobilenet", _drawn(_ssd_mobilenet)),
    "FCN-ResNet18": ("fcn", _drawn(_fcn_resnet18)),
    "SSD-ResNet-34": ("ssd-resnet", _drawn(_ssd_resnet34)),
    "RetinaNet-ResNeXt50": ("retinanet", _drawn(_retinanet(32, 264))),
    "RetinaNet-R50": ("retinanet", _drawn(_retinanet(1, 80))),
    "trt_pose resnet18_baseline_att": ("pose", _drawn(_pose_resnet18)),
    "trt_pose densenet121_baseline_att": ("pose", _drawn(_pose_densenet121)),
    "YOLOv4": ("yolov4", _drawn(lambda net: _yolov4(net, "PluginAndReformats"))),
    "YOLOv4 fp32": ("yolov4", _drawn(lambda net: _yolov4(net, "Plugin"))),
    **{f"YOLOv8{n}": ("yolov8", _drawn(_yolov8(*_V8[n]))) for n in _V8},
    **{f"YOLO11{n}": ("yolo11", _drawn(_yolo11(*_V11[n], large=n in "mlx"))) for n in _V11},
    **{f"YOLO11{n}-Pose": ("yolo11", _drawn(_yolo11(*_V11[n], large=n in "mlx", pose=True))) for n in _V11},
    **{f"yolox_{n}": ("yolox", _drawn(_yolox(*_VX[n]))) for n in _VX},
    "YOLOX-Nano": ("yolox", _drawn(_yolox(*_VX["n"], separable=True))),
    "YOLOX-Tiny": ("yolox", _drawn(_yolox(*_VX["t"]))),
    "YOLOX-S": ("yolox", _drawn(_yolox(*_VX["s"]))),
    "YOLOX-M": ("yolox", _drawn(_yolox(*_VX["m"]))),
}
"""Name of a network in a row -> (its family, what builds it from batch, height, width)."""


def kernels_of(model: str, batch: int, height: int, width: int) -> tuple[Kernel, ...]:
    """Return the kernels of a network of ``NETWORKS``."""
    return fused_kernels(NETWORKS[model][1](batch, height, width), images=(IMAGE,), passes=("Plugin", "Reformat"))


SHIPPED = (
    ("edge_unet", "efficientnet_lite0"),
    ("edge_unet", "efficientnet_lite1"),
    ("edge_unet", "efficientnet_lite2"),
    ("edge_unet", "mobilenet_v2"),
)
"""What ``edgeseg estimate --fit-ms`` ranks, beside ``unet`` with MobileNetV2 of segmentation-models-pytorch."""


def network_of_ours(architecture: str, encoder: str, side: int = 512) -> Any:
    """Return the kernels of one of our networks for 11 classes, as it would stand in a bundle."""
    from dataclasses import replace

    from edgeseg import build, load
    from edgeseg.compiler.steps.float_graph import float_graph_from_module
    from edgeseg.estimate.graphs import network_from_onnx

    spec = replace(load("street").spec, size_hw=(side, side))
    graph = float_graph_from_module(build(architecture, encoder, classes=11, weights=None), spec)
    return network_from_onnx(graph, f"{architecture} + {encoder}")
