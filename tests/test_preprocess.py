from __future__ import annotations

import cv2
import numpy as np
import pytest

import edgeseg
from edgeseg.engines.evaluate import evaluate_engine
from edgeseg.errors import ImageError, SpecError
from edgeseg.images import InMemory, Sample
from edgeseg.preprocess import NetworkFrames, normalized
from edgeseg.resizing import RULES, Stretch, class_map_at
from edgeseg.spec import ModelSpec, Preprocess
from tests.fakes import ThresholdEngine

SPEC = ModelSpec(("road", "sky"), ((0, 0, 0), (255, 255, 255)), (32, 48))


def test_normalized_is_the_written_formula() -> None:
    frame = np.zeros((1, 2, 2, 3), np.uint8)
    frame[0, 0, 1] = (10, 20, 30)
    pre = Preprocess()
    rgb = normalized(frame, pre)
    assert rgb.shape == (1, 3, 2, 2) and rgb.dtype == np.float32 and rgb.flags.c_contiguous
    for channel, value in enumerate((30, 20, 10)):
        expected = (value / 255 - pre.mean[channel]) / pre.std[channel]
        assert rgb[0, channel, 0, 1] == pytest.approx(expected, abs=1e-6)
    bgr = normalized(frame, Preprocess(mean=pre.mean[::-1], std=pre.std[::-1], channel_order="BGR"))
    np.testing.assert_allclose(bgr[:, ::-1], rgb, atol=1e-6)


def test_resize_into_a_given_buffer() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    buffer = np.zeros((1, 32, 48, 3), np.uint8)
    result = SPEC.resized(frame, out=buffer[0])
    np.testing.assert_array_equal(buffer[0], SPEC.resized(frame))
    assert np.shares_memory(result, buffer)
    same = np.zeros((50, 70, 3), np.uint8)
    Preprocess().resized(frame, (50, 70), out=same)
    np.testing.assert_array_equal(same, frame)
    assert Preprocess().resized(frame, (50, 70)) is frame, "nothing to do"


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 254
    assert set(np.unique(Preprocess().resized(stripes, (32, 32)))) == {127}


@pytest.mark.parametrize(
    ("size_hw", "averages"), [((96, 64), True), ((64, 96), True), ((64, 40), False), ((40, 64), False)]
)
def test_it_averages_where_both_sides_shrink_by_two(size_hw: tuple[int, int], averages: bool) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    way = cv2.INTER_AREA if averages else cv2.INTER_LINEAR
    expected = cv2.resize(frame, (32, 32), interpolation=way)
    np.testing.assert_array_equal(Preprocess().resized(frame, (32, 32)), expected)


def test_what_is_no_frame_is_refused() -> None:
    for bad in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ImageError, match="HxWx3 uint8"):
            SPEC.resized(bad)


def test_class_maps_keep_their_ids() -> None:
    classes = np.array([[0, 5], [9, 2]], np.uint8)
    larger = class_map_at(classes, (6, 4))
    assert larger.shape == (6, 4) and set(np.unique(larger)) == {0, 2, 5, 9}
    assert class_map_at(classes, (2, 2)) is classes


def test_labels_and_class_maps_go_the_same_way_as_the_frame() -> None:
    labels = np.zeros((100, 200), np.uint8)
    labels[:, 100:] = 1
    small = SPEC.resized_labels(labels)
    assert small.shape == SPEC.size_hw
    np.testing.assert_array_equal(SPEC.class_map_on(small, (100, 200)), labels)


def test_frames_of_a_network_are_the_resized_ones_and_have_a_digest() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (60, 80, 3), dtype=np.uint8) for _ in range(5)]
    frames = NetworkFrames(InMemory([Sample("", image, None) for image in images], "five"), SPEC)
    assert len(frames) == 5 and frames.description == "five"
    np.testing.assert_array_equal(frames[3], SPEC.resized(images[3]))
    for count, places in ((3, (0, 2, 4)), (1, (0,)), (9, range(5))):
        np.testing.assert_array_equal(frames.evenly_spread(count), [SPEC.resized(images[place]) for place in places])
    same = NetworkFrames(InMemory([Sample("other", image, None) for image in images], "again"), SPEC)
    assert frames.sha256() == same.sha256()
    less = NetworkFrames(InMemory([Sample("", image, None) for image in images[1:]], "four"), SPEC)
    assert frames.sha256() != less.sha256()


class _Mirrored(Stretch):
    """A rule that a frame, its labels and its class map must all go through, or none of them fit."""

    def frame(self, frame: np.ndarray, size_hw: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
        return super().frame(np.ascontiguousarray(frame[:, ::-1]), size_hw, out)

    def labels(self, labels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        return super().labels(np.ascontiguousarray(labels[:, ::-1]), size_hw)

    def class_map(self, classes: np.ndarray, frame_hw: tuple[int, int]) -> np.ndarray:
        return super().class_map(np.ascontiguousarray(classes[:, ::-1]), frame_hw)


def test_a_second_rule_is_one_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "mirrored", _Mirrored())  # type: ignore[arg-type]
    frame = np.zeros((128, 192, 3), np.uint8)
    frame[:, :48] = 255
    label = (frame[..., 0] // 255).astype(np.uint8)
    with ThresholdEngine() as engine:
        engine.spec = ModelSpec(SPEC.classes, SPEC.palette, (64, 96), Preprocess(resize="mirrored"))
        result = edgeseg.segment(engine, frame)
        assert result.ids[:, -24:].all() and not result.ids[:, :-24].any(), "the network saw it mirrored"
        np.testing.assert_array_equal(result.classes, label)
        np.testing.assert_array_equal(result.ids, engine.spec.resized_labels(label))
        data = InMemory([Sample("", frame, label)], "one")
        assert evaluate_engine(engine, engine.spec, data).pixel_accuracy() == 1
        with pytest.raises(SpecError, match="resize must be 'stretch' or 'mirrored', got 'none'"):
            Preprocess(resize="none")
