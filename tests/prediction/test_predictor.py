"""Predictions: equal to a plain run where nothing is asked for, and to their formulas where something is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgeseg.app.config import EngineOptions
from edgeseg.app.predict import open_predictor
from edgeseg.app.segment import segment
from edgeseg.bundle import Bundle
from edgeseg.demo.street import StreetDataset
from edgeseg.engines.ort import OrtEngine
from edgeseg.errors import CompileError, EngineError, ImageError, UsageError
from edgeseg.prediction.network import EngineNetwork
from edgeseg.prediction.predictor import PredictOptions, Predictor
from edgeseg.prediction.views import averaged
from edgeseg.spec import ModelSpec

RNG = np.random.default_rng(0)


class Gradient:
    """A network whose first class is as probable as the pixel is bright, and more so to the right."""

    description = "a gradient"

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.asked: list[tuple[int, ...]] = []

    def probabilities(self, frame: np.ndarray) -> np.ndarray:
        self.asked.append(frame.shape)
        first = frame[..., 0].astype(np.float32) / 510 + np.linspace(0, 0.5, frame.shape[1], dtype=np.float32)
        return np.stack([first, 1 - first, np.zeros_like(first)])

    def close(self) -> None:
        self.asked.append(())


def picture(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_one_view_of_the_networks_size_is_what_a_plain_run_gives(shipped: Bundle) -> None:
    frame = StreetDataset("demo://street?frames=1&size=480x360")[0].frame
    with open_predictor(shipped) as predictor:
        found = predictor.predict(frame, probabilities=True)
    with OrtEngine(shipped.graphs["fp32"].onnx) as engine:
        plain = segment(engine, frame)
    assert (found.classes == plain.ids).mean() > 0.9999
    assert found.probabilities is not None and found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("size_hw", [(64, 96), (128, 192), (50, 333), (37, 41), (700, 96), (1, 1)])
def test_probabilities_are_enlarged_as_opencv_does_and_decide_the_class(
    spec: ModelSpec, size_hw: tuple[int, int]
) -> None:
    image = picture(*size_hw)
    found = Predictor(Gradient(spec)).predict(image, probabilities=True)
    assert found.probabilities is not None and found.probabilities.shape == (3, *size_hw)
    assert found.classes.dtype == np.uint8 and (found.classes == found.probabilities.argmax(axis=0)).all()
    small = averaged(Gradient(spec), image, (1.0,), False)
    expected = [cv2.resize(plane, size_hw[::-1], interpolation=cv2.INTER_LINEAR) for plane in small]
    np.testing.assert_allclose(found.probabilities, np.stack(expected), atol=1e-4)


def test_mirrored_views_see_no_side(spec: ModelSpec) -> None:
    grey = np.full((64, 96, 3), 80, np.uint8)
    found = averaged(Gradient(spec), grey, (1.0,), True)[0]
    np.testing.assert_allclose(found, found[:, ::-1], atol=1e-6)
    assert not np.allclose(averaged(Gradient(spec), grey, (1.0,), False)[0], found)


@pytest.mark.parametrize(("scale", "windows"), [(1.0, 1), (0.5, 1), (2.0, 9), (1.5, 4)])
def test_a_view_is_as_large_as_asked_and_the_network_sees_windows_of_its_size(
    spec: ModelSpec, scale: float, windows: int
) -> None:
    network = Gradient(spec)
    found = averaged(network, picture(300, 400), (scale,), False)
    assert network.asked == [(64, 96, 3)] * windows and found.shape == (3, 64, 96)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def test_scales_count_alike(spec: ModelSpec) -> None:
    image = picture(100, 100)
    both = averaged(Gradient(spec), image, (1.0, 2.0), False)
    one, two = (averaged(Gradient(spec), image, (scale,), False) for scale in (1.0, 2.0))
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-6)


def test_tiles_look_at_the_pictures_own_pixels(spec: ModelSpec) -> None:
    network, image = Gradient(spec), np.full((128, 192, 3), 200, np.uint8)
    image[10, 17] = 0
    found = Predictor(network, PredictOptions(tiles=True, overlap=0.0)).predict(image, probabilities=True)
    assert network.asked == [(64, 96, 3)] * 4
    assert found.probabilities is not None
    assert np.argwhere(np.diff(found.probabilities[0, :60, :60], axis=0) < -0.1).tolist() == [[9, 17]]


def test_former_pictures_count_less_and_less(spec: ModelSpec) -> None:
    first, second = picture(64, 96), picture(64, 96)
    plain = Predictor(Gradient(spec))
    a, b = (plain.predict(image, probabilities=True).probabilities for image in (first, second))
    assert a is not None and b is not None
    for tiles in (False, True):
        steady = Predictor(Gradient(spec), PredictOptions(smooth=0.25, tiles=tiles))
        np.testing.assert_allclose(steady.predict(first, probabilities=True).probabilities, a, atol=1e-6)
        found = steady.predict(second, probabilities=True).probabilities
        np.testing.assert_allclose(found, 0.25 * a + 0.75 * b, atol=1e-6)
        steady.forget()
        np.testing.assert_allclose(steady.predict(second, probabilities=True).probabilities, b, atol=1e-6)
    assert steady.predict(picture(30, 40)).classes.shape == (30, 40), "another size begins anew"


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
    ids=["grey", "RGBA", "float", "empty"],
)
def test_what_is_no_picture_is_refused(spec: ModelSpec, image: np.ndarray) -> None:
    with pytest.raises(ImageError, match="HxWx3 uint8"):
        Predictor(Gradient(spec)).predict(image)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scales": ()}, "`scales`"),
        ({"scales": (1.0, 9.0)}, "`scales`"),
        ({"overlap": 0.8}, "`overlap`"),
        ({"smooth": 1.0}, "`smooth`"),
        ({"smooth": float("nan")}, "`smooth`"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        PredictOptions(**options)  # type: ignore[arg-type]


def test_graphs_without_probabilities_are_refused_with_the_way_out(shipped: Bundle) -> None:
    with pytest.raises(CompileError, match="predict with the graph fp32"):
        open_predictor(shipped, engine=EngineOptions(graph="int8-cpu"))
    with OrtEngine(shipped.graphs["int8-cpu"].onnx) as engine, pytest.raises(EngineError, match="gives classes only"):
        EngineNetwork(engine, shipped.spec)


def test_closing_closes_the_network(spec: ModelSpec) -> None:
    network = Gradient(spec)
    with Predictor(network):
        pass
    assert network.asked == [()]
