"""Predict pictures with one network, by the options that were chosen."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Callable, Iterator

import numpy as np

from edgeseg.errors import ImageError, UsageError
from edgeseg.label_planes import class_map_of
from edgeseg.prediction.network import ScoringNetwork
from edgeseg.prediction.tiles import BAND_ROWS, blended_bands
from edgeseg.prediction.views import averaged

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PredictOptions", "Prediction", "Predictor"]


@dataclass(frozen=True)
class PredictOptions:
    """How a picture is looked at.

    Attributes:
        scales: of the views whose probabilities are averaged, in sizes of the network; ``(1.0,)`` is one view.
        flip: look at every view mirrored, too.
        tiles: cover the picture with windows of the network's size at its own resolution, instead of resizing it.
        overlap: share of a window that it has in common with the next one, 0 to 0.75.
        smooth: share of the former picture's probabilities in each one's, 0 to below 1: an exponential average, for the
            pictures of one video.

    Raises:
        UsageError: a value is out of range; the message names the option in backticks.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    tiles: bool = False
    overlap: float = 0.25
    smooth: float = 0.0

    def __post_init__(self) -> None:
        if not self.scales or not all(0.25 <= scale <= 4 for scale in self.scales):
            raise UsageError(f"`scales` are numbers from 0.25 to 4, got {self.scales}")
        if not 0 <= self.overlap <= 0.75:
            raise UsageError(f"`overlap` is a number from 0 to 0.75, got {self.overlap}")
        if not 0 <= self.smooth < 1:
            raise UsageError(f"`smooth` is a number from 0 to below 1, got {self.smooth}")


@dataclass(frozen=True)
class Prediction:
    """What was predicted of a picture.

    Attributes:
        classes: HxW uint8 class ids at the picture's size: the most probable ones, of sigmoids above the threshold.
        probabilities: CxHxW float32 at the picture's size; None where they were not asked for.
    """

    classes: np.ndarray
    probabilities: np.ndarray | None = None


class Predictor:
    """Predict one picture after the other; a context manager that closes its network.

    Args:
        network: of ``open_predictor``, or your own.
        options: how pictures are looked at.

    Attributes:
        spec: classes and size of the network.
        description: what runs, for people.
    """

    def __init__(self, network: ScoringNetwork, options: PredictOptions = PredictOptions()) -> None:
        self.spec, self.description = network.spec, network.description
        self._network, self._options = network, options
        self._former: np.ndarray | None = None

    def predict(self, picture: np.ndarray, *, probabilities: bool = False) -> Prediction:
        """Predict a picture.

        Args:
            picture: HxWx3 uint8 BGR of any size; with tiles it may be a ``numpy.memmap``.
            probabilities: keep them, 4 bytes times classes times pixels.

        Raises:
            ImageError: the picture is not HxWx3 uint8. EngineError: the network failed.
        """
        kept: list[np.ndarray] = []
        classes = self.predict_bands(picture, lambda top, band: kept.append(band) if probabilities else None)
        return Prediction(classes, np.concatenate(kept, axis=1) if probabilities else None)

    def predict_bands(self, picture: np.ndarray, take: Callable[[int, np.ndarray], object]) -> np.ndarray:
        """Predict a picture whose probabilities may be too many to be kept at once.

        Args:
            picture: as of ``predict``.
            take: is given the first row of each band and its Cxkxw float32, from top to bottom.

        Returns:
            HxW uint8 class ids.

        Raises:
            ImageError, EngineError: as ``predict``.
        """
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
            raise ImageError(f"a picture is HxWx3 uint8 (BGR), got {picture.shape} {picture.dtype}")
        classes = np.empty(picture.shape[:2], np.uint8)
        for top, found in self._bands(picture):
            band = self._smoothed(top, found, picture.shape[:2])
            classes[top : top + band.shape[1]] = class_map_of(band, self.spec)
            take(top, band)
        return classes

    def forget(self) -> None:
        """Begin another video: the next picture is not averaged with the former one."""
        self._former = None

    def close(self) -> None:
        """Free the network. May be called twice."""
        self._network.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _bands(self, picture: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        asked, network = self._options, self._network
        if not asked.tiles:
            return _enlarged_bands(averaged(network, picture, asked.scales, asked.flip), picture.shape[:2])
        return blended_bands(
            lambda window: averaged(network, window, asked.scales, asked.flip),
            picture,
            network.spec.size_hw,
            asked.overlap,
        )

    def _smoothed(self, top: int, band: np.ndarray, size_hw: tuple[int, ...]) -> np.ndarray:
        share = self._options.smooth
        if not share:
            return band
        shape = (len(band), *size_hw)
        if self._former is None or self._former.shape != shape:
            self._former = np.full(shape, np.nan, np.float32)
        former = self._former[:, top : top + band.shape[1]]
        if not np.isnan(former[0, 0, 0]):
            band = np.float32(share) * former + np.float32(1 - share) * band
        former[...] = band
        return band


def _enlarged_bands(probabilities: np.ndarray, size_hw: tuple[int, ...]) -> Iterator[tuple[int, np.ndarray]]:
    """Give CxHxW float32 at another size, bilinearly between pixel centres, a band of rows at a time."""
    import cv2

    height, width = size_hw
    planes = [cv2.resize(plane, (width, plane.shape[0]), interpolation=cv2.INTER_LINEAR) for plane in probabilities]
    wide = np.stack(planes) if probabilities.shape[2] != width else probabilities
    if wide.shape[1] == height:
        yield 0, wide
        return
    rows = np.clip((np.arange(height) + 0.5) * wide.shape[1] / height - 0.5, 0, wide.shape[1] - 1)
    above = np.minimum(rows.astype(int), wide.shape[1] - 2) if wide.shape[1] > 1 else np.zeros(height, int)
    share = (rows - above).astype(np.float32)[:, None]
    for top in range(0, height, BAND_ROWS):
        band = slice(top, min(top + BAND_ROWS, height))
        below = np.minimum(above[band] + 1, wide.shape[1] - 1)
        yield top, wide[:, above[band]] * (1 - share[band]) + wide[:, below] * share[band]
