"""Graphs whose inputs and outputs are none of a segmentation network: one line from every engine on the CPU."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest

from edgeseg.engines.base import Engine, require_shapes
from edgeseg.engines.select import CPU_ENGINES, ENGINES
from edgeseg.errors import EngineError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

FRAME, CLASSES, SCORES = (1, 32, 40, 3), (1, 32, 40), (1, 2, 32, 40)


def graph(
    frame: tuple[Any, ...] = FRAME,
    classes: tuple[int, ...] = CLASSES,
    scores: tuple[int, ...] = SCORES,
    scores_dtype: str = "float32",
    dtype: str = "uint8",
    step: int = 1,
) -> bytes:
    """A graph of these shapes; its classes are the first channel of the frame, of every so many pixels one."""
    helper, kinds = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype
    constants = {
        "zero": np.array(0, np.int64),
        "start": np.array([0, 0], np.int64),
        "end": np.array([1 << 20, 1 << 20], np.int64),
        "axes": np.array([1, 2], np.int64),
        "step": np.array([step, step], np.int64),
        "shape": np.array(classes, np.int64),
        "constant": np.zeros(scores, scores_dtype),
    }
    nodes = [
        helper.make_node("Gather", ["frame", "zero"], ["channel"], axis=3),
        helper.make_node("Slice", ["channel", "start", "end", "axes", "step"], ["some"]),
        helper.make_node("Reshape", ["some", "shape"], ["reshaped"]),
        helper.make_node("Cast", ["reshaped"], ["classes"], to=kinds(np.dtype(dtype))),
        helper.make_node("Identity", ["constant"], ["scores"]),
    ]
    ports = [
        helper.make_tensor_value_info(name, kinds(np.dtype(kind)), list(shape))
        for name, kind, shape in (
            ("frame", "uint8", frame),
            ("classes", dtype, classes),
            ("scores", scores_dtype, scores),
        )
    ]
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "ports", ports[:1], ports[1:], weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture(params=CPU_ENGINES)
def engine(request: pytest.FixtureRequest) -> Callable[[bytes, str], Engine]:
    kind = ENGINES[request.param]
    pytest.importorskip(kind.module, reason=f"{kind.module} is not installed: pip install 'edgeseg[{kind.extra}]'")
    opened = kind.open
    assert opened is not None
    return lambda onnx, name: opened(onnx, name, 0)


def test_a_segmentation_network_is_taken(engine: Callable[[bytes, str], Engine]) -> None:
    with engine(graph(), "it") as opened:
        frame = np.random.default_rng(0).integers(0, 2, FRAME, np.uint8)
        np.testing.assert_array_equal(opened.infer(frame), frame[..., 0])
        assert opened.scores is not None and opened.scores.shape == SCORES


@pytest.mark.parametrize("step", [2, 4, 8])
def test_a_class_map_may_be_smaller_by_a_whole_factor(engine: Callable[[bytes, str], Engine], step: int) -> None:
    size = (32 // step, 40 // step)
    with engine(graph(classes=(1, *size), scores=(1, 2, *size), step=step), "it") as opened:
        frame = np.random.default_rng(0).integers(0, 2, FRAME, np.uint8)
        np.testing.assert_array_equal(opened.infer(frame), frame[:, ::step, ::step, 0])


@pytest.mark.parametrize(
    ("different", "said"),
    [
        ({"frame": ("n", 32, 40, 3)}, "maps .*x32x40x3 to .*sizes that are fixed"),
        ({"frame": (1, 32, 40, 4)}, "maps 1x32x40x4 to 1x32x40 .*expected NxHxWx3"),
        ({"classes": (32, 40)}, "maps 1x32x40x3 to 32x40 .*expected NxHxWx3"),
        ({"classes": (1, 1, 32, 40)}, "to 1x1x32x40 .*expected NxHxWx3"),
        ({"classes": (1, 40, 32)}, "to 1x40x32 .*expected NxHxWx3"),
        ({"classes": (1, 10, 32), "step": 2}, "to 1x10x32 .*expected NxHxWx3"),
        ({"classes": (1, 320, 4)}, "to 1x320x4 .*expected NxHxWx3"),
        ({"scores": (7,)}, "and 7; expected .*scores"),
        ({"scores": ()}, "and a scalar; expected .*scores"),
        ({"scores": (1, 2, 8, 10)}, "and 1x2x8x10; expected .*scores"),
        ({"scores": (2, 2, 32, 40)}, "and 2x2x32x40; expected .*scores"),
        ({"scores_dtype": "float64"}, "maps [^;]* and [^;]*; expected uint8 to uint8, and to float"),
        ({"scores_dtype": "float16"}, "maps [^;]* and [^;]*; expected uint8 to uint8, and to float"),
        ({"scores_dtype": "uint8"}, "maps [^;]* and [^;]*; expected uint8 to uint8, and to float"),
        ({"dtype": "int64"}, "maps [^;]* and [^;]*; expected uint8 to uint8"),
    ],
)
def test_others_are_refused_in_one_line(
    engine: Callable[[bytes, str], Engine], different: dict[str, Any], said: str
) -> None:
    with pytest.raises(EngineError, match=f"^it .*{said}") as refused:
        engine(graph(**different), "it")
    assert "\n" not in str(refused.value)


def test_sizes_that_are_not_fixed_are_named() -> None:
    with pytest.raises(EngineError, match=r"^it maps \?x32x40x3 to 1x32x40; expected sizes that are fixed"):
        require_shapes("it", (None, 32, 40, 3), CLASSES)
    with pytest.raises(EngineError, match=r"^it maps 1x0x40x3 to 1x0x40; expected sizes that are fixed"):
        require_shapes("it", (1, 0, 40, 3), (1, 0, 40))
