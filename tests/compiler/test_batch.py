"""Graph variants: several frames at once, class scores, the class before the last enlargement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeseg.builder.networks import PaddedNetwork
from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.graph.batch import batched_onnx
from edgeseg.compiler.graph.fold import argmax_first_onnx
from edgeseg.compiler.options import NetworkOptions
from edgeseg.compiler.quantize.emit import emitted_onnx
from edgeseg.compiler.quantize.qdq import cpu_qdq_onnx, tensorrt_qdq_onnx
from edgeseg.compiler.steps.float_graph import float_graph_from_module
from edgeseg.demo.street import StreetDataset
from edgeseg.engines.ort import OrtEngine
from edgeseg.errors import CompileError
from edgeseg.preprocess import NetworkFrames
from edgeseg.ranges import Ranges
from edgeseg.recipes import RECIPES
from edgeseg.resizing import class_map_at
from tests.compiler.conftest import SPEC

FRAMES = np.stack([StreetDataset("demo://street?frames=3&step=50&size=104x72&seed=2")[i].frame for i in range(3)])


def test_three_frames_at_once_give_three_single_answers(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, ranges = graph_and_ranges
    for emitted in (graph, tensorrt_qdq_onnx(graph, ranges), cpu_qdq_onnx(graph, ranges)):
        with OrtEngine(emitted.SerializeToString()) as one:
            expected = np.concatenate([one.infer(frame[None]).copy() for frame in FRAMES])
        three = batched_onnx(emitted, 3)
        with OrtEngine(three.SerializeToString()) as engine:
            assert engine.input.shape == (3, 72, 104, 3)
            assert np.mean(engine.infer(FRAMES) == expected) > 0.999
        assert batched_onnx(three, 3) is three
        back = batched_onnx(three, 1)
        with OrtEngine(back.SerializeToString()) as one:
            assert np.mean(one.infer(FRAMES[:1]) == expected[:1]) > 0.999


def test_frames_that_would_share_a_scale_are_refused(graph_and_ranges: tuple[Any, Ranges]) -> None:
    """Dynamic INT8 takes its scales over the whole batch: one camera would change the other's classes."""
    with pytest.raises(CompileError, match="differs from that for 1"):
        batched_onnx(emitted_onnx(graph_and_ranges[0], None, RECIPES["int8-dynamic"]), 3)


def test_ranges_do_not_depend_on_the_batch(graph_and_ranges: tuple[Any, Ranges]) -> None:
    """A graph that went through batch 4 and back is calibrated to the same ranges, bit for bit."""
    graph, ranges = graph_and_ranges
    again = batched_onnx(batched_onnx(graph, 4), 1)
    data = StreetDataset("demo://street?frames=16&step=30&size=104x72")
    taken = ranges_from_frames(again, NetworkFrames(data, SPEC))
    assert taken.tensors == ranges.tensors and taken.means == ranges.means


def test_scores_are_the_softmax_whose_argmax_is_the_class(network: PaddedNetwork) -> None:
    graph = float_graph_from_module(network, SPEC, NetworkOptions(scores=True))
    with OrtEngine(graph.SerializeToString()) as engine:
        classes = engine.infer(FRAMES[:1])
        scores = engine.scores
        assert scores is not None and scores.shape == (1, 11, 72, 104) and scores.dtype == np.float32
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
        assert np.array_equal(scores.argmax(axis=1), classes)
    with pytest.raises(CompileError, match="scores are wanted at full resolution"):
        argmax_first_onnx(graph)


def test_a_graph_without_scores_has_none(graph_and_ranges: tuple[Any, Ranges]) -> None:
    with OrtEngine(graph_and_ranges[0].SerializeToString()) as engine:
        assert engine.scores is None


def test_argmax_before_the_last_enlargement(graph_and_ranges: tuple[Any, Ranges]) -> None:
    graph, _ = graph_and_ranges
    if "Resize" not in [node.op_type for node in graph.graph.node][-6:]:
        with pytest.raises(CompileError, match="does not end in an enlargement"):
            argmax_first_onnx(graph)
        return
    early = argmax_first_onnx(graph)
    with OrtEngine(graph.SerializeToString()) as late, OrtEngine(early.SerializeToString()) as engine:
        full, small = late.infer(FRAMES[:1])[0], engine.infer(FRAMES[:1])[0]
        assert small.shape == (18, 26)
        assert np.mean(class_map_at(small, (72, 104)) == full) > 0.7
    assert len(early.graph.node) < len(graph.graph.node)
