"""Networks as people have them: what each kind of graph says about images, classes and probabilities is kept."""

from __future__ import annotations

import io
import warnings
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from edgeseg.app.compile_config import CompileConfig, ForeignNetwork
from edgeseg.app.origins import _preprocess, origin_from
from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.graph.fold import argmax_first_onnx, folded_onnx
from edgeseg.compiler.graph.run import run_onnx
from edgeseg.compiler.graph.simplify import simplified_onnx
from edgeseg.compiler.importers.canonical import network_graph
from edgeseg.compiler.importers.normalisation import check_scaled_once, own_scaling
from edgeseg.compiler.importers.onnx_network import wanted_from_facts
from edgeseg.compiler.importers.opsets import at_readable_opset
from edgeseg.compiler.importers.torch_export import onnx_from_module
from edgeseg.compiler.importers.wanted import OwnerFacts, Sigmoids
from edgeseg.compiler.lint.check import lint_findings
from edgeseg.compiler.lint.targets import TARGETS
from edgeseg.compiler.pipeline import compile_model
from edgeseg.compiler.quantize.cpu_layout import cpu_layout_onnx
from edgeseg.compiler.quantize.qdq import cpu_qdq_onnx, tensorrt_qdq_onnx
from edgeseg.compiler.steps.float_graph import float_graph_from_module
from edgeseg.compiler.steps.tensorrt import lint_errors
from edgeseg.errors import CompileError, SpecError, UsageError
from edgeseg.images import InMemory, Sample
from edgeseg.preprocess import NetworkFrames, normalized
from edgeseg.progress import Progress
from edgeseg.spec import ModelSpec, Preprocess

SIZE = (48, 64)
PLAIN = Preprocess((0, 0, 0), (1, 1, 1))
quick = settings(max_examples=12, derandomize=True)


def spec_of(classes: int, size_hw: tuple[int, int] = SIZE, preprocess: Preprocess = PLAIN) -> ModelSpec:
    return ModelSpec(tuple(f"c{i}" for i in range(classes)), ((0, 0, 0),) * classes, size_hw, preprocess)


def exported(module: nn.Module, size_hw: tuple[int, int] = SIZE, shape: Any = None, **how: Any) -> onnx.ModelProto:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.zeros(shape or (1, 3, *size_hw)),),
            buffer,
            dynamo=False,
            **{"opset_version": 17, "input_names": ["image"], "output_names": ["out"], **how},
        )
    return onnx.load_model_from_string(buffer.getvalue())


def compiled_graph(
    model: onnx.ModelProto, spec: ModelSpec, *, scores: bool = False, simplify: bool = True, **sigmoids: Any
) -> onnx.ModelProto:
    """The folded graph, without the child process: these graphs are ours."""
    order = spec.preprocess.channel_order
    owner = OwnerFacts(
        len(spec.classes), spec.size_hw, channel_order=order, scores=scores, sigmoids=Sigmoids(**sigmoids)
    )
    network, _ = network_graph(model, wanted_from_facts(model, owner))
    return folded_onnx(simplified_onnx(network).model if simplify else network, spec, scores=scores)


def frames_of(size_hw: tuple[int, int], count: int = 2) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *size_hw, 3), dtype=np.uint8)


def smooth_frames(size_hw: tuple[int, int], count: int = 16) -> InMemory:
    """Frames with structure, which INT8 is calibrated on."""
    low = torch.from_numpy(np.random.default_rng(5).uniform(0, 255, (count, 3, 6, 8)).astype(np.float32))
    large = functional.interpolate(low, size=size_hw, mode="bilinear").clamp(0, 255).byte()
    images = np.ascontiguousarray(large.permute(0, 2, 3, 1).numpy())
    return InMemory([Sample(str(index), image, None) for index, image in enumerate(images)], "smooth frames")


def run(model: onnx.ModelProto, frame: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(value) for value in run_onnx(model, {"frame": frame[None]})]


def torch_input(frame: np.ndarray, preprocess: Preprocess = PLAIN) -> torch.Tensor:
    return torch.from_numpy(normalized(frame[None], preprocess))


def body(classes: int, stride: int = 4, width: int = 8, channels: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for index in range(int(np.log2(stride))):
        layers += [nn.Conv2d(channels if index == 0 else width, width, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width if layers else channels, classes, 1))


# Mean and std


@settings(max_examples=100, derandomize=True)
@given(
    mean=st.lists(st.floats(2, 200), min_size=3, max_size=3), std=st.lists(st.floats(1, 255), min_size=3, max_size=3)
)
def test_mean_and_std_of_0_to_255_are_never_taken_as_0_to_1(mean: list[float], std: list[float]) -> None:
    with pytest.raises(SpecError, match="are not of 0-1 but of 0-255; write mean "):
        Preprocess(tuple(mean), tuple(std))  # type: ignore[arg-type]
    shown = {"mean": ",".join(map(repr, mean)), "std": ",".join(map(repr, std)), "channel_order": "BGR"}
    taken, remarks = _preprocess(ForeignNetwork(**shown))
    frame = frames_of((4, 4), 1)
    expected = (frame.astype(np.float64) - mean) / std
    np.testing.assert_allclose(normalized(frame, taken)[0].transpose(1, 2, 0), expected[0], rtol=1e-4, atol=1e-4)
    assert len(remarks) == 1 and "of pixels of 0-255" in remarks[0]


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.485, 0.456, 0.406), (58.4, 57.1, 57.4)),
        ((123.7, 116.3, 103.5), (0.0171, 0.0175, 0.0174)),
        ((300.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ((float("nan"), 0.0, 0.0), (1.0, 1.0, 1.0)),
        ((0.0, 0.0, 0.0), (1.0, float("inf"), 1.0)),
    ],
)
def test_mean_and_std_of_no_scale_are_refused(mean: Any, std: Any) -> None:
    with pytest.raises(SpecError, match="not of 0-1|must be finite"):
        Preprocess(mean, std)
    with pytest.raises(SpecError):
        Preprocess.from_byte_scale(mean, std)


def test_usual_mean_and_std_stay_as_they_are() -> None:
    for mean, std in (("0,0,0", "1,1,1"), ("0.5", "0.5"), ("[0.485, 0.456, 0.406]", "0.229 0.224 0.225")):
        taken, remarks = _preprocess(ForeignNetwork(mean=mean, std=std, channel_order="RGB"))
        assert not remarks and max(taken.std) <= 1


class Normalising(nn.Module):
    """Scales its image by itself, in one of the ways in which that is written."""

    def __init__(self, how: str, top: float, layout: str) -> None:
        super().__init__()
        self.how, self.layout, self.network = how, layout, body(3, 1)
        self.register_buffer("mean", top * torch.tensor([0.485, 0.456, 0.406]))
        self.register_buffer("std", top * torch.tensor([0.229, 0.224, 0.225]))
        self.top = top

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.layout == "NHWC":
            image = image.permute(0, 3, 1, 2)
        mean, std = self.mean.view(1, 3, 1, 1), self.std.view(1, 3, 1, 1)
        ways = {
            "sub-div": lambda: (image - mean) / std,
            "mul-add": lambda: image * (1 / std) + (-mean / std),
            "to-one": lambda: (image / self.top - mean / self.top) / (std / self.top),
            "batchnorm": lambda: functional.batch_norm(image, mean.flatten(), std.flatten() ** 2, eps=0.0),
            "scalar": lambda: image / (self.top / 2) - 1,
            "mean image": lambda: (image - mean.expand(1, 3, *SIZE).clone()) / std.expand(1, 3, *SIZE).clone(),
            "channel by channel": lambda: torch.cat(
                [(image[:, i : i + 1] - mean[0, i]) / std[0, i] for i in range(3)], 1
            ),
            "split": lambda: torch.cat([(x - m) / s for x, m, s in zip(image.split(1, 1), mean[0], std[0])], 1),
            "depthwise": lambda: functional.conv2d(image, 1 / std.view(3, 1, 1, 1), -(mean / std).flatten(), groups=3),
            "pointwise": lambda: functional.conv2d(
                image, (torch.eye(3) / std.view(3, 1)).view(3, 3, 1, 1), -(mean / std).flatten()
            ),
            "clipped": lambda: (image.clamp(0, self.top) - mean) / std,
            "limited": lambda: (torch.where(image > self.top, mean, image) - mean) / std,
            "negative": lambda: -(mean - image) / std,
            "read twice": lambda: (image - mean) / std + 0 * image,
        }
        return self.network(ways[self.how]())


@pytest.mark.parametrize(
    "how",
    [
        *("sub-div", "mul-add", "to-one", "batchnorm", "scalar", "mean image", "channel by channel", "split"),
        *("depthwise", "pointwise", "clipped", "limited", "negative", "read twice"),
    ],
)
@pytest.mark.parametrize(("top", "layout"), [(255.0, "NHWC"), (255.0, "NCHW"), (1.0, "NCHW")])
def test_a_graph_that_normalises_by_itself_is_not_normalised_again(how: str, top: float, layout: str) -> None:
    shape = (1, 3, *SIZE) if layout == "NCHW" else (1, *SIZE, 3)
    model = exported(Normalising(how, top, layout), shape=shape)
    folded = simplified_onnx(model).model
    own = own_scaling(folded.graph, "image")
    assert own is not None and own.takes == top
    usual = Preprocess() if how != "scalar" else Preprocess((0.5,) * 3, (0.5,) * 3)
    for wrong in (usual, Preprocess((0, 0, 0), (1 / 255,) * 3 if top == 1 else (1, 1, 1))):
        with pytest.raises(UsageError, match=f"takes pixels of 0-{top:.0f} and normalises by itself"):
            check_scaled_once(own, wrong)
    check_scaled_once(own, Preprocess((0, 0, 0), (1 / top,) * 3))


def test_plain_networks_and_second_scalings_that_make_sense_are_not_refused() -> None:
    assert own_scaling(exported(body(3)).graph, "image") is None

    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = body(3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:  # LPIPS's layer in front of a network of [-1, 1]
            return self.network((image + 0.088) / 0.448)

    check_scaled_once(own_scaling(exported(Centred()).graph, "image"), Preprocess((0.5,) * 3, (0.5,) * 3))


def test_first_layers_that_mix_channels_or_places_are_no_scaling() -> None:
    for first in (nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, 1, 1, groups=3), nn.AvgPool2d(3, 1, 1), nn.InstanceNorm2d(3)):
        assert own_scaling(exported(nn.Sequential(first, body(3, 1))).graph, "image") is None, first


def test_the_api_refuses_to_normalise_twice() -> None:
    """A module and a graph, of 0-255 and of uint8, with the default preprocessing of a spec."""
    spec = spec_of(3, preprocess=Preprocess())
    module = Normalising("sub-div", 255, "NCHW")
    uint8 = exported(module)
    uint8.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    for node in uint8.graph.node:
        node.input[:] = ["floats" if name == "image" else name for name in node.input]
    uint8.graph.node.insert(0, helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT))
    for network in (module, exported(module), uint8):
        with pytest.raises(UsageError, match="normalises by itself"):
            compile_model(network, spec, evaluation=smooth_frames(SIZE))
    right = replace(spec, preprocess=Preprocess((0, 0, 0), (1 / 255,) * 3))
    frame = frames_of(SIZE, 1)[0]
    graph = float_graph_from_module(module, right)
    with torch.inference_mode():
        expected = module(255 * torch_input(frame)).argmax(1).numpy()
    assert np.mean(run(graph, frame)[0] == expected) > 0.999


# Sigmoids, backgrounds, scores


class SigmoidHead(nn.Module):
    def __init__(self, classes: int, how: str) -> None:
        super().__init__()
        self.network, self.how = body(classes, 2), how

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = 4 * self.network(image)
        if self.how == "resized":
            return functional.interpolate(logits.sigmoid(), scale_factor=2.0, mode="bilinear")
        large = functional.interpolate(logits, scale_factor=2.0, mode="bilinear")
        ways = {
            "sigmoid": lambda: large.sigmoid(),
            "written": lambda: 1 / (1 + torch.exp(-large)),
            "hard": lambda: functional.hardsigmoid(large),
        }
        return ways[self.how]()


@pytest.mark.parametrize("how", ["sigmoid", "resized", "written", "hard"])
def test_several_sigmoids_are_asked_about(how: str) -> None:
    model = exported(SigmoidHead(3, how))
    with pytest.raises(UsageError, match="gives 3 sigmoids, each a class by itself.*`background` none"):
        compiled_graph(model, spec_of(3))
    with pytest.raises(UsageError, match="gives 3 sigmoids for 4 classes; pass `background` NAME"):
        compiled_graph(model, spec_of(4))
    graph = compiled_graph(model, spec_of(3), exclusive=True)
    frame = frames_of(SIZE, 1)[0]
    with torch.inference_mode():
        expected = SigmoidHead(3, how).eval()(torch_input(frame)).argmax(1).numpy()
    assert np.mean(run(graph, frame)[0] == expected) > 0.99


@quick
@given(
    classes=st.integers(1, 4),
    place=st.integers(0, 4),
    threshold=st.sampled_from([0.2, 0.5, 0.7]),
    how=st.sampled_from(["sigmoid", "resized", "written"]),
)
def test_the_background_stands_where_no_sigmoid_says_yes(classes: int, place: int, threshold: float, how: str) -> None:
    place = min(place, classes)
    module = SigmoidHead(classes, how).eval()
    graph = compiled_graph(exported(module), spec_of(classes + 1), scores=True, background=place, threshold=threshold)
    frame = frames_of(SIZE, 1)[0]
    with torch.inference_mode():
        each = module(torch_input(frame))[0].numpy()
    ids = np.array([number for number in range(classes + 1) if number != place])
    expected = np.where(each.max(0) > threshold, ids[each.argmax(0)], place)
    given_ids, scores = run(graph, frame)
    assert np.mean(given_ids[0] == expected) > 0.999
    np.testing.assert_allclose(scores[0][ids], each, atol=2e-3)
    np.testing.assert_allclose(scores[0][place], 1 - each.max(0), atol=2e-3)


def test_a_background_beside_exclusive_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="a background is for sigmoids"):
        compiled_graph(exported(nn.Sequential(body(3, 1), nn.Softmax(1))), spec_of(3), background=0)


class Softmaxes(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.network, self.how = body(4, 2), how

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = 6 * self.network(image)
        if self.how == "resized":
            return functional.interpolate(logits.softmax(1), scale_factor=2.0, mode="bilinear")
        large = functional.interpolate(logits, scale_factor=2.0, mode="bilinear")
        ways = {
            "plain": lambda: large,
            "softmax": lambda: large.softmax(1),
            "log": lambda: large.log_softmax(1),
            "written": lambda: large.exp() / large.exp().sum(1, keepdim=True),
            "twice": lambda: large.softmax(1).softmax(1),
            "low": lambda: logits.softmax(1),
            "flat": lambda: large.permute(0, 2, 3, 1).reshape(1, -1, 4).softmax(-1),
            "flat, classes first": lambda: large.flatten(2).softmax(1),
        }
        return ways[self.how]()

    def probabilities(self, image: torch.Tensor) -> torch.Tensor:
        given = self(image)
        if self.how in ("plain", "log"):
            return given.softmax(1)
        if self.how == "flat":
            return given.reshape(1, *SIZE, 4).permute(0, 3, 1, 2)
        if self.how == "low":  # the graph's logits are enlarged, not its probabilities
            logits = 6 * self.network(image)
            return functional.interpolate(logits, size=SIZE, mode="bilinear").softmax(1)
        return given.reshape(1, 4, *SIZE)


@pytest.mark.parametrize(
    "how", ["plain", "softmax", "log", "written", "resized", "twice", "low", "flat", "flat, classes first"]
)
def test_scores_are_the_probabilities_that_the_graph_gives(how: str) -> None:
    module = Softmaxes(how).eval()
    graph = compiled_graph(exported(module), spec_of(4), scores=True)
    frame = frames_of(SIZE, 1)[0]
    with torch.inference_mode():
        expected = module.probabilities(torch_input(frame)).numpy()
    ids, scores = run(graph, frame)
    np.testing.assert_allclose(scores, expected, atol=2e-3)
    assert np.mean(ids == expected.argmax(1)) > 0.999


# Where the output lies in the image


@quick
@given(height=st.integers(33, 90), width=st.integers(33, 90), levels=st.integers(0, 4), padding=st.integers(0, 1))
def test_every_size_and_stride_is_enlarged_to_the_image(height: int, width: int, levels: int, padding: int) -> None:
    """Sizes that are no multiple of the stride, rounded up (padding 1) or down (kernel 2 without padding)."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3 if i == 0 else 4, 4, 3 if padding else 2, 2, padding) for i in range(levels)]
    module = nn.Sequential(*layers, nn.Conv2d(4 if layers else 3, 3, 1)).eval()
    graph = compiled_graph(exported(module, (height, width)), spec_of(3, (height, width)))
    frame = frames_of((height, width), 1)[0]
    with torch.inference_mode():
        low = module(torch_input(frame))
        expected = functional.interpolate(low, size=(height, width), mode="bilinear").argmax(1).numpy()
    assert np.mean(run(graph, frame)[0] == expected) > 0.995


class Unpadded(nn.Module):
    """An encoder and decoder of unpadded convolutions whose class 1 is brightness."""

    def __init__(self, depth: int, around: int, kernel: int) -> None:
        super().__init__()
        self.depth = depth
        self.down = nn.ModuleList([self.passing(3 if i == 0 else 1, kernel) for i in range(depth + 1)])
        self.up = nn.ModuleList([self.passing(1, kernel) for _ in range(depth)])
        self.ends = nn.ModuleList([self.passing(1, kernel) for _ in range(around)])
        self.head = nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
            self.head.bias.copy_(torch.tensor([0.5, 0.0]))

    @staticmethod
    def passing(channels: int, kernel: int) -> nn.Conv2d:
        layer = nn.Conv2d(channels, 1, kernel, bias=False)
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[:, :, kernel // 2, kernel // 2] = 1 / channels
        return layer

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        skips, value = [], image
        for index, layer in enumerate(self.down):
            value = layer(value)
            if index < self.depth:
                skips.append(value)
                value = functional.max_pool2d(value, 2)
        for layer, skip in zip(self.up, reversed(skips)):
            value = functional.interpolate(value, scale_factor=2.0, mode="nearest")
            top, left = (skip.shape[2] - value.shape[2]) // 2, (skip.shape[3] - value.shape[3]) // 2
            value = layer(skip[:, :, top : top + value.shape[2], left : left + value.shape[3]] + 0 * value)
        for layer in self.ends:
            value = layer(value)
        return self.head(value)


@quick
@given(
    depth=st.integers(0, 2),
    around=st.integers(1, 3),
    kernel=st.sampled_from([3, 5]),
    row=st.integers(0, 8),
    column=st.integers(0, 8),
    written=st.sampled_from(["static", "dynamic", "channels last"]),
)
def test_unpadded_convolutions_leave_the_mask_where_it_belongs(
    depth: int, around: int, kernel: int, row: int, column: int, written: str
) -> None:
    size = (84, 100)
    module: nn.Module = Unpadded(depth, around, kernel)
    how: dict[str, Any] = {}
    if written == "channels last":
        module, how = ChannelsLast(module), {"shape": (1, *size, 3)}
    if written == "dynamic":
        how = {"dynamic_axes": {"image": {2: "h", 3: "w"}}}
    graph = compiled_graph(exported(module, size, **how), spec_of(2, size))
    frame, right = np.zeros((*size, 3), np.uint8), np.zeros(size, bool)
    right[36 + row : 48 + row, 40 + column : 56 + column] = True
    frame[right] = 255
    found = run(graph, frame)[0][0] == 1
    overlap = (found & right).sum() / (found | right).sum()
    assert overlap == 1, f"IoU {overlap:.2f}"


class ChannelsLast(nn.Module):
    """A crop with the channels last in front of the network and behind it, as Keras writes them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        cropped = image[:, 2:, 4:-2]
        return self.module(cropped.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)[:, 1:-1, :-3]


def test_a_part_of_the_image_that_cannot_be_placed_is_refused() -> None:
    """Attention hides where pixels are, and 40 rows of 48 are no stride."""

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 9), nn.Conv2d(4, 2, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            value = self.a(image)
            mixed = value.flatten(2).transpose(1, 2)
            return self.b((mixed * mixed.softmax(-1)).transpose(1, 2).reshape(value.shape))

    with pytest.raises(CompileError, match="gives 56x40 for an input of 64x48, no fraction of it"):
        compiled_graph(exported(Hidden()), spec_of(2))


@pytest.mark.parametrize("scale", [2.0, 2.01, 2.02, 1.99])
def test_the_cpu_layout_and_argmax_first_keep_the_enlargements_own_factor(scale: float) -> None:
    torch.manual_seed(0)

    class Enlarging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = body(5, 2)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            low = self.network(image)
            return functional.interpolate(low, scale_factor=scale, mode="bilinear", recompute_scale_factor=False)

    size = (48, 64) if scale >= 2 else (46, 62)
    module = Enlarging().eval()
    with torch.inference_mode():
        if tuple(module(torch.zeros(1, 3, *size)).shape[2:]) != size:
            size = tuple(module(torch.zeros(1, 3, *size)).shape[2:])  # type: ignore[assignment]
    graph = compiled_graph(exported(module, size), spec_of(5, size))
    ranges = ranges_from_frames(graph, NetworkFrames(smooth_frames(size), spec_of(5, size)))
    laid = cpu_layout_onnx(graph, ranges)
    for frame in frames_of(size):
        assert np.mean(run(laid, frame)[0] == run(graph, frame)[0]) > 0.9995
    if scale == 2.0:
        assert [d.dim_value for d in argmax_first_onnx(graph).graph.output[0].type.tensor_type.shape.dim] == [1, 24, 32]
    else:
        with pytest.raises(CompileError, match="no whole factor|does not end in an enlargement"):
            argmax_first_onnx(graph)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_grey_network_sees_the_brightness_of_colours(order: str, layout: str) -> None:
    class Grey(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = body(3, 1, channels=1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.network(image if layout == "NCHW" else image.permute(0, 3, 1, 2))

    preprocess = Preprocess((0.4,) * 3, (0.2,) * 3, order)
    module = Grey().eval()
    model = exported(module, shape=(1, 1, *SIZE) if layout == "NCHW" else (1, *SIZE, 1))
    graph = compiled_graph(model, spec_of(3, preprocess=preprocess))
    frame = frames_of(SIZE, 1)[0]
    grey = (frame.astype(np.float32) @ np.float32([0.114, 0.587, 0.299]) / 255 - 0.4) / 0.2
    with torch.inference_mode():
        expected = module.network(torch.from_numpy(grey[None, None])).argmax(1).numpy()
    assert np.mean(run(graph, frame)[0] == expected) > 0.999
    if layout == "NCHW":  # the module itself: how many channels it takes is told by its first convolution
        made = float_graph_from_module(module, spec_of(3, preprocess=preprocess))
        assert np.mean(run(made, frame)[0] == expected) > 0.999


def test_other_channel_counts_and_one_class_say_what_to_do() -> None:
    with pytest.raises(CompileError, match="has 4 channels; a camera gives 3, or 1 of grey"):
        compiled_graph(exported(body(3, 1, channels=4), shape=(1, 4, *SIZE)), spec_of(3))
    with pytest.raises(CompileError, match="has 4 channels; a camera gives 3, or 1 of grey"):
        float_graph_from_module(body(3, 1, channels=4), spec_of(3))
    with pytest.raises(SpecError, match="list the class of all other pixels in front of it, e.g. background"):
        spec_of(1)
    with pytest.raises(UsageError, match="one channel decides between two classes: list both"):
        compiled_graph(exported(body(1, 1)), spec_of(3))


# Old files


def _enlarging(opset: int, mode: str, scale: float, as_input: bool) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.standard_normal((5, 3, 3, 3)).astype(np.float32), "w")]
    scales = [1.0, 1.0, scale, scale]
    operator = "Resize" if opset == 10 and as_input else "Upsample"
    if opset < 9:
        last = helper.make_node("Upsample", ["c"], ["y"], mode=mode, scales=scales)
    else:
        last = helper.make_node(operator, ["c", "s"], ["y"], mode=mode)
        weights.append(numpy_helper.from_array(np.float32(scales), "s"))
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]), last]
    if operator == "Upsample" and opset == 10:
        opset = 9
    graph = helper.make_graph(
        nodes,
        "old",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, *SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, "h", "w"])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


@quick
@given(
    opset=st.integers(7, 10),
    mode=st.sampled_from(["nearest", "linear"]),
    scale=st.sampled_from([1.5, 2.0, 3.0]),
    as_input=st.booleans(),
    ir=st.integers(3, 8),
)
def test_enlargements_and_weights_of_old_files(opset: int, mode: str, scale: float, as_input: bool, ir: int) -> None:
    """Upsample and Resize before opset 11, in every IR version; up to 3 the weights are inputs too."""
    model = _enlarging(opset, mode, scale, as_input)
    model.ir_version = ir
    if ir == 3:
        for tensor in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    image = np.random.default_rng(1).standard_normal((1, 3, *SIZE), dtype=np.float32)
    expected = run_onnx(model, {"x": image})[0]
    raised, _ = at_readable_opset(without_weights_as_inputs(model))
    assert raised.opset_import[0].version == 13 and raised.ir_version == 8
    np.testing.assert_allclose(run_onnx(raised, {"x": image})[0], expected, atol=1e-5)
    if scale == 2.0:
        size = tuple(expected.shape[2:])
        assert size == SIZE
        network_graph(model, wanted_from_facts(model, OwnerFacts(5)))


def without_weights_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    kept = [value for value in model.graph.input if value.name == "x"]
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    del copied.graph.input[:]
    copied.graph.input.extend(kept)
    return copied


class Operators(nn.Module):
    """What networks of every year are made of, one kind at a time."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.first, self.head = kind, body(8, 2), nn.Conv2d(8, 4, 1)
        self.up = nn.ConvTranspose2d(8, 8, 4, 2, 1)
        self.norm = nn.BatchNorm2d(8).eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = self.norm(self.first(image))
        kinds = {
            "bilinear": lambda: functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False),
            "corners": lambda: functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=True),
            "nearest": lambda: functional.interpolate(maps, size=image.shape[2:], mode="nearest"),
            "transposed": lambda: self.up(maps),
            "padded": lambda: self.up(functional.pad(maps, (1, 0, 0, 1), mode="reflect")[:, :, 1:, :-1]),
            "clipped": lambda: self.up(functional.relu6(maps).clamp(0.1, 2.0)),
            "squeezed": lambda: self.up(maps * maps.mean((2, 3), keepdim=True).sigmoid()),
            "split": lambda: self.up(torch.cat(maps.chunk(2, 1)[::-1], 1)),
            "reduced": lambda: self.up(maps - maps.sum(1, keepdim=True) + maps.max(1, keepdim=True).values),
            "softmax": lambda: self.up(maps.softmax(1)),
        }
        return self.head(kinds[self.kind]()).softmax(1)


KINDS = ["bilinear", "corners", "nearest", "transposed", "padded", "clipped", "squeezed", "split", "reduced", "softmax"]


@pytest.mark.parametrize("kind", KINDS)
def test_operators_of_every_opset(kind: str) -> None:
    """The class map is what ONNX Runtime makes of the file itself, whatever its opset; torch writes 7 to 20."""
    module = Operators(kind).eval()
    frame = frames_of(SIZE, 1)[0]
    tried = 0
    for opset in (8, 9, 10, 11, 12, 13, 16, 18, 20):
        try:
            model = exported(module, opset_version=opset)
        except Exception:  # this opset has no form of it in torch
            continue
        tried += 1
        expected = run_onnx(model, {"image": torch_input(frame).numpy()})[0].argmax(1)
        assert np.mean(run(compiled_graph(model, spec_of(4)), frame)[0] == expected) > 0.999, f"opset {opset}"
    assert tried >= 5


# Calibration


class Masked(nn.Module):
    """Windows that attend to themselves, and a pool that is padded with the neutral element."""

    def __init__(self, hidden: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.qkv, self.head = body(16, 8, 16), nn.Linear(16, 48), nn.Conv2d(16, 4, 1)
        window = torch.arange(48) // 8
        mask = torch.zeros(48, 48).masked_fill(window[:, None] != window[None], hidden)
        self.register_buffer("mask", mask)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = functional.pad(self.a(image), (0, 1, 0, 1), value=float("-inf"))
        maps = functional.max_pool2d(maps, 2, 1)
        tokens = maps.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).chunk(3, -1)
        tokens = tokens + torch.softmax(q @ k.transpose(1, 2) + self.mask, -1) @ v
        return functional.interpolate(self.head(tokens.transpose(1, 2).reshape(maps.shape)), scale_factor=8.0)


@pytest.mark.parametrize("hidden", [float("-inf"), torch.finfo(torch.float32).min])
@pytest.mark.parametrize("calibrator", ["minmax", "moving-average", "percentile"])
def test_infinity_on_purpose_gets_no_range_and_hides_what_it_hid(hidden: float, calibrator: str) -> None:
    graph = float_graph_from_module(Masked(hidden), spec_of(4))
    data = smooth_frames(SIZE)
    ranges = ranges_from_frames(graph, NetworkFrames(data, spec_of(4)), calibrator=calibrator)
    assert all(np.isfinite(ends).all() and max(map(abs, ends)) < 1e30 for ends in ranges.tensors.values())
    for emitted in (tensorrt_qdq_onnx(graph, ranges), cpu_qdq_onnx(graph, ranges)):
        agrees = [np.mean(run(emitted, s.frame)[0] == run(graph, s.frame)[0]) for s in data]
        assert np.mean(agrees) > 0.97


def test_no_number_is_refused_in_one_line() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = body(3, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            bright = (image.mean((1, 2, 3), keepdim=True) > 0.1).float()
            return self.network(image) + 0 / (1 - bright)

    graph = folded_onnx(simplified_onnx(onnx_from_module(body(3, 1), SIZE)).model, spec_of(3))
    nan = helper.make_node("Sqrt", [graph.graph.node[-4].output[0]], ["root"])
    graph.graph.node.insert(len(graph.graph.node) - 3, nan)
    graph.graph.value_info.append(helper.make_tensor_value_info("root", TensorProto.FLOAT, [1, 3, *SIZE]))
    with pytest.raises(CompileError, match="1 tensors are not numbers on the calibration images, first 'root'"):
        ranges_from_frames(graph, NetworkFrames(smooth_frames(SIZE), spec_of(3)))


class ChannelAttention(nn.Module):
    """Attention over channels by a convolution along one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mix, self.last = body(16, 2, 16), nn.Conv1d(1, 1, 3, padding=1), nn.Conv2d(16, 4, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = self.first(image)
        weight = self.mix(maps.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
        return functional.interpolate(self.last(maps * weight.sigmoid()), scale_factor=2.0)


def test_convolutions_along_one_axis_stay_float() -> None:
    graph = float_graph_from_module(ChannelAttention(), spec_of(4))
    data = smooth_frames(SIZE)
    ranges = ranges_from_frames(graph, NetworkFrames(data, spec_of(4)))
    for emitted in (tensorrt_qdq_onnx(graph, ranges), cpu_qdq_onnx(graph, ranges)):
        agrees = [np.mean(run(emitted, s.frame)[0] == run(graph, s.frame)[0]) for s in data]
        assert np.mean(agrees) > 0.97


class FarApart(nn.Module):
    """A skip connection beside maps that are ``factor`` times as large."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1)
        self.c, self.head, self.factor = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(16, 4, 1), factor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        fine = torch.relu(self.a(image))
        deep = torch.relu(self.c(torch.relu(self.b(fine)))) * self.factor
        return self.head(torch.cat([functional.interpolate(deep, scale_factor=2.0), fine], 1)) / self.factor


@pytest.mark.parametrize("factor", [1.0, 1e3, 1e7])
def test_a_skip_connection_keeps_its_scale_in_the_encoder(factor: float) -> None:
    """The scale that a Concat shares once made the encoder zero, and every picture one class."""
    graph = float_graph_from_module(FarApart(factor), spec_of(4))
    data = smooth_frames(SIZE)
    emitted = tensorrt_qdq_onnx(graph, ranges_from_frames(graph, NetworkFrames(data, spec_of(4))))
    agrees = [np.mean(run(emitted, s.frame)[0] == run(graph, s.frame)[0]) for s in data]
    assert np.mean(agrees) > 0.95
    apart = [node for node in emitted.graph.node if node.op_type == "QuantizeLinear" and "/apart" in node.output[0]]
    assert len(apart) == (factor > 1)


# Modules


class Several(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.network, self.how = body(4, 2), how

    def forward(self, image: torch.Tensor) -> Any:
        low = self.network(image)
        out, aux = functional.interpolate(low, scale_factor=2.0), low + 1
        ways = {
            "dict": lambda: OrderedDict(out=out, aux=aux),
            "logits": lambda: {"loss": torch.zeros(()), "logits": out, "hidden": aux},
            "tuple": lambda: (out, aux),
            "nested": lambda: [(out, aux), aux],
            "single": lambda: {"prediction": out},
        }
        return ways[self.how]()


@pytest.mark.parametrize("how", ["dict", "logits", "tuple", "nested", "single"])
def test_a_module_that_gives_more_than_a_tensor(how: str) -> None:
    lines: list[str] = []
    module = Several(how)
    model = onnx_from_module(module, SIZE, report=lines.append)
    assert len(lines) == 1 and "is taken" in lines[0]
    image = torch.randn(1, 3, *SIZE)
    with torch.inference_mode():
        expected = functional.interpolate(module.network(image), scale_factor=2.0).numpy()
    np.testing.assert_allclose(run_onnx(model, {"input": image.numpy()})[0], expected, atol=1e-4)


class Ordered(nn.Module):
    """Maps of several sizes and channel counts, in some order."""

    def __init__(self, order: Any, wrap: type) -> None:
        super().__init__()
        self.network, self.order, self.wrap = body(4, 2), order, wrap

    def forward(self, image: torch.Tensor) -> Any:
        low = self.network(image)
        made = {
            "logits": functional.interpolate(low, scale_factor=2.0),
            "low": -low,
            "features": low.repeat(1, 4, 1, 1),
            "large features": functional.interpolate(low, scale_factor=2.0).repeat(1, 3, 1, 1),
            "score": low.mean((1, 2, 3)),
            "ids": low.argmax(1, keepdim=True),
        }
        return self.wrap(made[name] for name in self.order)


@quick
@given(
    order=st.permutations(["logits", "low", "features", "large features", "score", "ids"]),
    wrap=st.sampled_from([tuple, list]),
    count=st.integers(1, 6),
)
def test_logits_are_found_by_their_channels_and_size(order: list[str], wrap: type, count: int) -> None:
    """Deep supervision gives coarse maps first or last, others give features, scores and class ids beside them."""
    kept = ["logits", *[name for name in order[:count] if name != "logits"]]
    module = Ordered([name for name in order if name in kept], wrap)
    model = onnx_from_module(module, SIZE, class_count=4)
    image = torch.randn(1, 3, *SIZE)
    with torch.inference_mode():
        expected = functional.interpolate(module.network(image), scale_factor=2.0).numpy()
    np.testing.assert_allclose(run_onnx(model, {"input": image.numpy()})[0], expected, atol=1e-4)


@pytest.mark.parametrize("made", [torch.jit.script, lambda module: torch.jit.trace(module, torch.zeros(1, 3, *SIZE))])
def test_scripted_and_traced_modules(made: Any) -> None:
    module = nn.Sequential(body(4, 2), nn.Upsample(scale_factor=2)).eval()
    model = onnx_from_module(made(module), SIZE, class_count=4)
    image = torch.randn(1, 3, *SIZE)
    with torch.inference_mode():
        np.testing.assert_allclose(run_onnx(model, {"input": image.numpy()})[0], module(image).numpy(), atol=1e-4)


def test_what_is_no_float_network_is_named() -> None:
    module = nn.Sequential(body(4, 2), nn.Upsample(scale_factor=2)).eval()
    for wrong in (module.state_dict(), torch.export.export(module, (torch.zeros(1, 3, *SIZE),)), lambda image: image):
        with pytest.raises(CompileError, match=f"ONNX graph, got {type(wrong).__name__}; of weights alone, build"):
            onnx_from_module(wrong, SIZE)  # type: ignore[arg-type]
    with pytest.raises(CompileError, match="no evaluation mode .*hand over the module that it was made from"):
        onnx_from_module(torch.export.export(module, (torch.zeros(1, 3, *SIZE),)).module(), SIZE)
    module.qconfig = torch.ao.quantization.get_default_qat_qconfig("x86")  # type: ignore[assignment]
    with pytest.raises(CompileError, match="quantized already .*FakeQuantize.; hand over the float network"):
        onnx_from_module(torch.ao.quantization.prepare_qat(module.train()), SIZE)


def test_a_network_that_throws_dice_is_told_so() -> None:
    class Random(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = body(4, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return functional.dropout(self.network(image), 0.1, training=True)

    with pytest.raises(CompileError, match="another answer each time it runs: switch off what is random"):
        onnx_from_module(Random(), SIZE)


def test_a_buffer_that_a_forward_counts_in_keeps_its_value() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = body(4, 1)
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            self.seen += 1
            return self.network(image) + 0 * self.seen

    module = Counting()
    onnx_from_module(module, SIZE)
    assert module.seen.item() == 0


@quick
@given(
    size=st.integers(4, 30),
    wanted=st.one_of(st.integers(3, 60), st.sampled_from([0.5, 1.5, 1.7, 2.0, 2.3])),
)
def test_nearest_exact_interpolation(size: int, wanted: Any) -> None:
    how: dict[str, Any] = {"size": (wanted, wanted + 3)} if isinstance(wanted, int) else {"scale_factor": wanted}

    class Resized(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            low = functional.interpolate(image, mode="nearest-exact", **how)
            return low.mean((2, 3), keepdim=True) + low

    image = torch.randn(1, 3, size, size + 5)
    model = onnx_from_module(Resized(), (size, size + 5))
    np.testing.assert_allclose(run_onnx(model, {"input": image.numpy()})[0], Resized()(image).numpy(), atol=1e-5)


def test_simplifying_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """onnxsim says of every operator that it cannot compute beforehand, as Swin's masks are full of."""

    class Masks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = body(4, 2)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            low = self.network(image)
            mask = low.new_zeros(low.shape[2:])
            mask[:8, :8] = 1
            mask[8:, 8:] = 2
            return functional.interpolate(low + mask, scale_factor=2.0)

    float_graph_from_module(Masks(), spec_of(4))
    said = capfd.readouterr()
    assert said.out == "" and said.err == ""


def test_a_module_without_a_tensor_to_take_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, image: torch.Tensor) -> Any:
            return {"left": image, "right": image}

    with pytest.raises(CompileError, match="gives a dict .'left', 'right'., and which is the logits cannot"):
        onnx_from_module(Two(), SIZE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.float32])
@pytest.mark.parametrize("fails", [False, True])
def test_the_callers_module_is_left_as_it_was(dtype: torch.dtype, fails: bool) -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svdvals(image) if fails else self.norm(self.conv(image))

    module = Part().train().to(dtype)
    module.norm.eval()
    module.conv.weight.grad = torch.ones_like(module.conv.weight)
    before = {
        name: (id(value), value.data_ptr(), value.clone()) for name, value in module.state_dict(keep_vars=True).items()
    }
    if fails:
        with pytest.raises(CompileError):
            onnx_from_module(module, SIZE)
    else:
        onnx_from_module(module, SIZE)
    assert module.training and module.conv.training and not module.norm.training
    for name, value in module.state_dict(keep_vars=True).items():
        assert (id(value), value.data_ptr()) == before[name][:2] and torch.equal(value, before[name][2])
    assert module.conv.weight.grad is not None and module.conv.weight.grad.dtype == dtype


class Hybrid(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a, self.kind = body(16, 4, 16), kind
        self.layer: nn.Module = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        if kind == "encoder":
            self.layer = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)
        if kind == "attention":
            self.layer = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = self.a(image)
        tokens = maps.flatten(2).transpose(1, 2)
        mixed = self.layer(tokens, tokens, tokens)[0] if self.kind == "attention" else self.layer(tokens)
        return functional.interpolate(mixed.transpose(1, 2).reshape(maps.shape), scale_factor=4.0)


@pytest.mark.parametrize("kind", ["layer", "encoder", "attention"])
def test_fast_paths_of_torch_are_not_exported(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    onnx_from_module(Hybrid(kind), SIZE)
    assert torch.backends.mha.get_fastpath_enabled() == before and capfd.readouterr().out == ""


def test_a_failed_export_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    class Impossible(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svdvals(image)

    with pytest.raises(CompileError, match="cannot be exported to ONNX") as refused:
        onnx_from_module(Impossible(), SIZE)
    assert "\n" not in str(refused.value) and capfd.readouterr().out == ""


@quick
@given(
    height=st.integers(4, 33),
    width=st.integers(4, 33),
    wanted=st.one_of(st.integers(1, 7), st.tuples(st.integers(1, 7), st.one_of(st.none(), st.integers(1, 7)))),
    maximum=st.booleans(),
    form=st.sampled_from(["module", "function", "area"]),
)
def test_adaptive_pooling_to_any_size(height: int, width: int, wanted: Any, maximum: bool, form: str) -> None:
    """PSPNet and UPerNet pool to 1, 2, 3 and 6, whatever the size of the map."""
    pool = functional.adaptive_max_pool2d if maximum else functional.adaptive_avg_pool2d
    layer = nn.AdaptiveMaxPool2d(wanted) if maximum else nn.AdaptiveAvgPool2d(wanted)

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if form == "area" and isinstance(wanted, int) and not maximum:  # as smp's PSPNet does in an export
                low = functional.interpolate(image, size=(wanted, wanted), mode="area")
            else:
                low = pool(image, wanted) if form == "function" else self.layer(image)
            return functional.interpolate(low, size=image.shape[2:], mode="bilinear") + image

    model = onnx_from_module(Pooled(), (height, width))
    image = torch.randn(1, 3, height, width)
    np.testing.assert_allclose(run_onnx(model, {"input": image.numpy()})[0], Pooled()(image).numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["PSPNet", "UPerNet"])
def test_smp_networks_that_pool_to_odd_sizes(name: str) -> None:
    import segmentation_models_pytorch as smp

    module = getattr(smp, name)("mobilenet_v2", encoder_weights=None, classes=4).eval()
    graph = float_graph_from_module(module, spec_of(4, (64, 96)))
    frame = frames_of((64, 96), 1)[0]
    with torch.inference_mode():
        expected = module(torch_input(frame)).argmax(1).numpy()
    assert np.mean(run(graph, frame)[0] == expected) > 0.999


@quick
@given(
    size=st.integers(8, 40),
    wanted=st.one_of(st.integers(4, 60), st.sampled_from([0.4, 0.5, 1.7])),
    mode=st.sampled_from(["bilinear", "bicubic"]),
    align_corners=st.booleans(),
)
def test_antialiased_interpolation(size: int, wanted: Any, mode: str, align_corners: bool) -> None:
    """A fixed size makes it a matrix product; torch itself exports it from opset 18 at best."""
    how: dict[str, Any] = {"size": (wanted, wanted)} if isinstance(wanted, int) else {"scale_factor": wanted}
    how.update({"recompute_scale_factor": True} if "scale_factor" in how else {})

    class Resized(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            low = functional.interpolate(image, mode=mode, antialias=True, align_corners=align_corners, **how)
            return low.mean((2, 3), keepdim=True) + low

    model = onnx_from_module(Resized(), (size, size + 5))
    image = torch.randn(1, 3, size, size + 5)
    np.testing.assert_allclose(run_onnx(model, {"input": image.numpy()})[0], Resized()(image).numpy(), atol=1e-4)


def test_a_spectral_norm_is_exported() -> None:
    layer = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3, padding=1)).eval()
    model = onnx_from_module(layer, SIZE)
    image = torch.randn(1, 3, *SIZE)
    with torch.inference_mode():
        np.testing.assert_allclose(run_onnx(model, {"input": image.numpy()})[0], layer(image).numpy(), atol=1e-4)


def test_what_cannot_be_exported_gives_no_advice_that_does_not_help() -> None:
    class Folded(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return functional.fold(functional.unfold(image, 2, stride=2), image.shape[2:], 2, stride=2)

    with pytest.raises(CompileError, match="aten::col2im.*opset version 17 is not supported; write it in other") as no:
        onnx_from_module(Folded(), SIZE)
    assert "version 18" not in str(no.value) and "GitHub" not in str(no.value)


# The command line


def origin_of(path: Path, *, scores: bool = False, **said: Any) -> Any:
    usual = {"mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225", "channel_order": "RGB"}
    return origin_from(path, CompileConfig(scores=scores, onnx=ForeignNetwork(**{**usual, **said})), Progress())


def test_a_background_from_the_command_line_becomes_class_0(tmp_path: Path) -> None:
    onnx.save(exported(SigmoidHead(2, "sigmoid")), tmp_path / "net.onnx")
    (tmp_path / "two.txt").write_text("crack\npothole\n")
    (tmp_path / "three.txt").write_text("crack\nbackground\npothole\n")
    two, three = str(tmp_path / "two.txt"), str(tmp_path / "three.txt")
    with pytest.raises(UsageError, match="pass `background` NAME for those pixels"):
        origin_of(tmp_path / "net.onnx", classes=two)
    made = origin_of(tmp_path / "net.onnx", classes=two, background="road", threshold=0.3)
    assert made.spec.classes == ("road", "crack", "pothole") and made.spec.palette[0] == (0, 0, 0)
    assert made.provenance["changes"][-1] == "2 sigmoids: class 0 where none is above 0.3, elsewhere the largest"
    named = origin_of(tmp_path / "net.onnx", classes=three)
    assert named.provenance["changes"][-1].startswith("2 sigmoids: class 1 where none is above 0.5")
    assert origin_of(tmp_path / "net.onnx", classes=two, background="none").spec.classes == ("crack", "pothole")


def test_mean_and_std_of_0_to_255_from_the_command_line_are_noted(tmp_path: Path) -> None:
    onnx.save(exported(body(3, 1)), tmp_path / "net.onnx")
    (tmp_path / "c.txt").write_text("a\nb\nc\n")
    classes = str(tmp_path / "c.txt")
    right = origin_of(tmp_path / "net.onnx", classes=classes)
    bytewise = origin_of(
        tmp_path / "net.onnx", classes=classes, mean="123.675,116.28,103.53", std="58.395,57.12,57.375"
    )
    assert len(bytewise.notes) == 1 and not right.notes
    frame = frames_of(SIZE, 1)[0]
    assert np.array_equal(run(right.graph, frame)[0], run(bytewise.graph, frame)[0])
    onnx.save(exported(Normalising("sub-div", 255, "NCHW")), tmp_path / "own.onnx")
    with pytest.raises(UsageError, match="normalises by itself.*leave `mean` and `std` out"):
        origin_of(tmp_path / "own.onnx", classes=classes)
    alone = origin_of(tmp_path / "own.onnx", classes=classes, mean=None, std=None)
    assert np.mean(run(alone.graph, frame)[0] == run(right.graph, frame)[0]) > 0.999


def test_lint_errors_are_said_once_with_the_way_out() -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p", "i"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("MaxUnpool", ["p", "i"], ["y"], "unpool", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, *SIZE]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph(nodes, "segnet", shapes[:1], shapes[1:]),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    found = {target.name: lint_findings(model, target) for target in TARGETS.values()}
    lines = lint_errors(found)
    assert lines and sum("MaxUnpool" in line for line in lines) == 1 and len(lines) <= 6
