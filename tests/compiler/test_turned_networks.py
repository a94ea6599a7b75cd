"""Networks that pad, turn, flatten or draw lots inside: their masks lie where the image has what they show."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from edgeseg.compiler.graph.batch import batched_onnx
from edgeseg.compiler.graph.run import run_onnx
from edgeseg.compiler.importers.onnx_network import graph_facts
from edgeseg.compiler.importers.torch_export import onnx_from_module
from edgeseg.errors import CompileError
from tests.compiler.test_field_networks import (
    SIZE,
    body,
    compiled_graph,
    exported,
    frames_of,
    quick,
    run,
    spec_of,
    torch_input,
)

CLASSES = 4


def agreement(module: nn.Module, wanted: nn.Module, size_hw: tuple[int, int], **how: Any) -> float:
    """The share of pixels where what is compiled of a module has the class that another one says, NCHW to NCHW."""
    compiled = compiled_graph(exported(module, size_hw, **how), spec_of(CLASSES, size_hw))
    shares = []
    for frame in frames_of(size_hw):
        with torch.inference_mode():
            logits = wanted(torch_input(frame))
            if logits.shape[2:] != size_hw:
                logits = functional.interpolate(logits, size=size_hw, mode="bilinear")
        shares.append(float((run(compiled, frame)[0] == logits.argmax(1).numpy()).mean()))
    return min(shares)


class PadsInside(nn.Module):
    """Pads to a multiple, and gives logits of what is padded; ``cut`` enlarges them and cuts them as its owner does."""

    def __init__(self, stride: int, multiple: int, side: str, cut: bool = False) -> None:
        super().__init__()
        self.net, self.stride, self.multiple, self.side, self.cut = body(CLASSES, stride), stride, multiple, side, cut

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        height, width = (int(size) for size in image.shape[2:])
        pads = []
        for size in (width, height):
            more = -size % self.multiple
            pads.append(
                {"behind": (0, more), "in front": (more, 0), "around": (more // 2, more - more // 2)}[self.side]
            )
        logits = self.net(functional.pad(image, (*pads[0], *pads[1])))
        if not self.cut:
            return logits
        large = functional.interpolate(logits, scale_factor=float(self.stride), mode="bilinear")
        (left, _), (top, _) = pads
        return large[:, :, top : top + height, left : left + width]


@quick
@given(
    height=st.integers(33, 100),
    width=st.integers(33, 100),
    stride=st.sampled_from([2, 4]),
    side=st.sampled_from(["behind", "in front", "around"]),
)
def test_what_is_padded_inside_is_cut_off(height: int, width: int, stride: int, side: str) -> None:
    if all(-size % 32 <= stride for size in (height, width)):
        return  # rounded up, as by any convolution
    module = PadsInside(stride, 32, side)
    assert agreement(module, PadsInside(stride, 32, side, cut=True), (height, width)) > 0.995


class Turned(nn.Module):
    """Works on an image whose axes were changed, and gives logits by ``end``."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.net, self.end = body(CLASSES, 1), end

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.end == "columns":
            return self.net(image.transpose(2, 3)).transpose(2, 3)
        logits = self.net(image)
        if self.end == "classes before the batch":
            return logits.transpose(0, 1).contiguous().transpose(0, 1)
        if self.end == "depth":
            return logits.unsqueeze(2).squeeze(2)
        if self.end == "channels last":
            return logits.permute(0, 2, 3, 1)
        if self.end == "rows":
            return logits.permute(0, 2, 3, 1).reshape(1, -1, CLASSES).softmax(-1)
        if self.end == "columns of classes":
            return logits.permute(0, 3, 2, 1).reshape(1, -1, CLASSES).softmax(-1)
        if self.end == "classes of columns":
            return logits.transpose(2, 3).reshape(1, CLASSES, -1).softmax(1)
        if self.end == "turned and columns":
            turned = self.net(image.transpose(2, 3))
            return turned.reshape(1, CLASSES, -1).softmax(1)
        return turned_twice(self.net, image)


def turned_twice(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
    return net(image.transpose(2, 3)).transpose(2, 3).reshape(1, CLASSES, -1).softmax(1)


@pytest.mark.parametrize("size_hw", [(48, 64), (48, 48), (64, 48)])
@pytest.mark.parametrize(
    "end",
    [
        "columns",
        "classes before the batch",
        "depth",
        "channels last",
        "rows",
        "columns of classes",
        "classes of columns",
        "turned and columns",
        "turned twice",
    ],
)
def test_rows_stay_rows(end: str, size_hw: tuple[int, int]) -> None:
    module = Turned(end)
    assert agreement(module, module.net, size_hw) > 0.999


class Around(nn.Module):
    """A network, and what is done before and behind it."""

    def __init__(self, how: Callable[[nn.Module, torch.Tensor], torch.Tensor], stride: int = 4) -> None:
        super().__init__()
        self.net, self.how = body(CLASSES, stride), how

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.how(self.net, image)


def test_an_input_of_columns_before_rows_is_refused() -> None:
    module = Around(lambda net, image: net(image.permute(0, 3, 2, 1)))
    with pytest.raises(CompileError, match="has its columns before its rows"):
        graph_facts(exported(module, shape=(1, 64, 48, 3)))


@pytest.mark.parametrize("draw", [torch.rand_like, torch.randn_like, lambda logits: torch.bernoulli(logits.sigmoid())])
def test_a_graph_that_draws_random_numbers_is_refused(draw: Callable[[torch.Tensor], torch.Tensor]) -> None:
    def noisy(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
        logits = net(image)
        return torch.as_tensor(logits + draw(logits))

    with pytest.raises(CompileError, match="draws random numbers .*evaluation mode"):
        compiled_graph(exported(Around(noisy)), spec_of(CLASSES))


def _masked(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(net(image) + torch.tensor([0, 0, float("-inf"), 0]).reshape(1, CLASSES, 1, 1))


def _logarithms(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor((1e4 * net(image)).softmax(1).log() + 0 * image[:, :1, ::4, ::4])


@pytest.mark.parametrize("how", [_masked, _logarithms])
def test_logits_of_minus_infinity_are_no_damage(how: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(CompileError, match="minus infinity, .*mask with -1e4"):
        compiled_graph(exported(Around(how)), spec_of(CLASSES))


def _by_the_first(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
    logits = net(image)
    return torch.as_tensor(logits + 5 * logits[:1].mean((2, 3), keepdim=True))


def _of_one(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
    logits = net(image)
    return torch.as_tensor(logits + logits.reshape(CLASSES, -1).mean(1).view(1, CLASSES, 1, 1))


@pytest.mark.parametrize("how", [_by_the_first, _of_one])
def test_a_graph_that_mixes_or_fixes_frames_takes_no_batch(
    how: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    compiled = compiled_graph(exported(Around(how, 1)), spec_of(CLASSES))
    with pytest.raises(CompileError, match="differs from that for 1|is fixed to 1 frames"):
        batched_onnx(compiled, 3)
    healthy = compiled_graph(exported(body(CLASSES, 1)), spec_of(CLASSES))
    frames = frames_of(SIZE, 3)
    together = run_onnx(batched_onnx(healthy, 3), {"frame": frames})[0]
    np.testing.assert_array_equal(together, np.concatenate([run(healthy, frame)[0] for frame in frames]))


@pytest.mark.parametrize("other", ["an equal one", "one channel of the whole image", "a smaller one"])
@pytest.mark.parametrize("place", [0, 1])
def test_of_maps_that_may_all_be_the_logits_none_is_taken(other: str, place: int) -> None:
    def several(net: nn.Module, image: torch.Tensor) -> Any:
        logits = net(image)
        others = {
            "an equal one": -logits,
            "one channel of the whole image": image[:, :1],
            "a smaller one": functional.avg_pool2d(-logits, 2),
        }
        return (logits, others[other]) if place else [others[other], logits]

    module = Around(several)  # type: ignore[arg-type]
    if other == "an equal one":
        with pytest.raises(CompileError, match="item 0, item 1.*cannot be told"):
            onnx_from_module(module, SIZE, class_count=CLASSES)
        return
    model = onnx_from_module(module, SIZE, class_count=CLASSES)
    image = torch.randn(1, 3, *SIZE)
    with torch.inference_mode():
        np.testing.assert_allclose(run_onnx(model, {"input": image.numpy()})[0], module.net(image).numpy(), atol=1e-4)


class OneChannel(nn.Module):
    """Says yes by a channel whose logits lie within 0-1 on an image that is nearly black."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second, self.how = nn.Conv2d(3, 1, 3, padding=1), nn.Conv2d(3, 1, 1), how
        for layer in (self.first, self.second):
            nn.init.uniform_(layer.weight, -2e-3, 2e-3)
            nn.init.constant_(layer.bias, 0.02)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first, second = self.first(image), self.second(image)
        ways = {
            "divided": lambda: first / 1.7,
            "multiplied": lambda: first * 0.3,
            "shifted": lambda: first - 0.001,
            "mean of two": lambda: (first + second) / 2,
            "clipped": lambda: first.clamp(0, 1),
            "clipped and enlarged": lambda: functional.interpolate(first, scale_factor=2.0).clamp(0, 1)[:, :, ::2, ::2],
        }
        return torch.as_tensor(ways[self.how]())


@pytest.mark.parametrize("how", ["divided", "multiplied", "shifted", "mean of two", "clipped", "clipped and enlarged"])
def test_where_one_channel_says_yes(how: str) -> None:
    """Logits say it above 0, whatever a random image gives; what is cut to 0-1, as mattes are, above 0.5."""
    module = OneChannel(how)
    compiled = compiled_graph(exported(module), spec_of(2))
    for frame in frames_of(SIZE):
        with torch.inference_mode():
            wanted = module(torch_input(frame)).numpy()[:, 0] > (0.5 if "clipped" in how else 0)
        assert (run(compiled, frame)[0] == wanted).mean() > 0.999
