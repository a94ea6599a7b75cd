"""Paint class ids as colours, alone or over a frame."""

from __future__ import annotations

from typing import Collection, Sequence

import numpy as np

from edgeseg.errors import UsageError
from edgeseg.runtime.drawing.contours import boundaries
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.recycle import Recycler
from edgeseg.spec import ModelSpec

__all__ = ["VISUALS", "Painter"]

VISUALS = ("overlay", "mask", "contours")
"""``overlay``: class colours over the frame. ``mask``: colours alone. ``contours``: outlines of the classes."""

_LEAST_SHARE_IN_LEGEND = 0.002


class Painter:
    """Painter of class maps in a spec's palette. One per run; the preview page changes it while others paint.

    The methods return memory that is used again once nobody refers to it.

    Args:
        spec: its palette (RGB) is used; ids that are no class are black.
        alpha: share of the class colour in an overlay, 0-1.
        visualize: some of ``VISUALS``: what ``picture`` shows, and which folders a folder sink fills.
        hidden: classes that are not painted at the start; see ``hide``.
        legend: write the names of the classes that are there into ``picture``.

    Attributes:
        alpha, legend: may be set at any time.
        visualize: may be set at any time, to some of ``VISUALS``.
        hidden: names of classes that are not painted: the picture shows through.

    Raises:
        UsageError: a visual or class is unknown, or alpha is out of range.
    """

    def __init__(
        self,
        spec: ModelSpec,
        alpha: float = 0.5,
        visualize: Sequence[str] = ("overlay",),
        hidden: Collection[str] = (),
        legend: bool = False,
    ) -> None:
        unknown = [visual for visual in visualize if visual not in VISUALS]
        if unknown or not visualize:
            raise UsageError(f"`visualize` is some of {','.join(VISUALS)}, got {','.join(unknown) or 'nothing'}")
        if not 0 <= alpha <= 1:
            raise UsageError(f"alpha is the share of the class colour, 0 to 1, got {alpha}")
        self.spec = spec
        self.alpha = alpha
        self.visualize = tuple(visualize)
        self.legend = legend
        self.hidden: frozenset[str] = frozenset()
        self._colours = np.zeros((256, 1, 3), np.uint8)
        self._colours[: len(spec.palette), 0] = np.asarray(spec.palette, np.uint8)[:, ::-1]
        self._painted = np.full(256, 255, np.uint8)
        self._memory = Recycler()
        self._legend: tuple[tuple[int, ...], int, np.ndarray] = ((), 0, self._colours)
        self.hide(frozenset(hidden))

    def hide(self, names: frozenset[str]) -> None:
        """Paint all classes but these.

        Raises:
            UsageError: a name is no class.
        """
        unknown = sorted(names - set(self.spec.classes))
        if unknown:
            raise UsageError(f"no class {', '.join(unknown)}; there are {', '.join(self.spec.classes)}")
        painted = np.full(256, 255, np.uint8)
        painted[[self.spec.classes.index(name) for name in names]] = 0
        self.hidden, self._painted = names, painted

    def mask(self, classes: np.ndarray) -> np.ndarray:
        """Colour class ids: HxW uint8 -> HxWx3 uint8 BGR."""
        import cv2

        colours = self._memory.take(*classes.shape, 3)
        cv2.applyColorMap(classes, self._colours, dst=colours)
        return colours

    def overlay(self, image: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Blend the class colours of ids (HxW uint8) over an image (HxWx3 uint8 BGR); return HxWx3 uint8 BGR."""
        import cv2

        alpha, painted = self.alpha, self._painted
        mixed = self.mask(classes)
        cv2.addWeighted(image, 1 - alpha, mixed, alpha, 0, dst=mixed)
        if not painted.all():
            hidden = self._memory.take(*classes.shape)
            cv2.LUT(classes, 255 - painted, dst=hidden)
            cv2.copyTo(image, hidden, mixed)
        return mixed

    def picture(self, result: Segmentation) -> np.ndarray:
        """Paint the picture that a video, a window or the page shows of a result: HxWx3 uint8 BGR.

        It is the overlay if ``visualize`` names it, else the mask, else the frame. Contours and legend come on top.
        """
        visualize, image, classes = self.visualize, result.frame.image, result.classes
        if "overlay" in visualize:
            picture = self.overlay(image, classes)
        elif "mask" in visualize:
            picture = self.mask(classes)
        else:
            picture = self._memory.take(*image.shape)
            np.copyto(picture, image)
        if "contours" in visualize:
            self._outline(picture, classes)
        if self.legend:
            self._label(picture, result)
        return picture

    def _outline(self, picture: np.ndarray, classes: np.ndarray) -> None:
        import cv2

        edge, painted = self._memory.take(*classes.shape), self._memory.take(*classes.shape)
        boundaries(classes, max(1, round(classes.shape[1] / 1000)), out=edge)
        cv2.threshold(edge, 0, 255, cv2.THRESH_BINARY, dst=edge)
        cv2.LUT(classes, self._painted, dst=painted)
        cv2.bitwise_and(edge, painted, dst=edge)
        cv2.copyTo(self.mask(classes), edge, picture)

    def _label(self, picture: np.ndarray, result: Segmentation) -> None:
        present = tuple(
            number
            for number, name in enumerate(self.spec.classes)
            if result.area[number] >= _LEAST_SHARE_IN_LEGEND and name not in self.hidden
        )
        if not present:
            return
        text_height = max(9, min(picture.shape[:2]) // 36)
        drawn_for, drawn_height, legend = self._legend
        if (drawn_for, drawn_height) != (present, text_height):  # drawn again only when other classes come into view
            legend = self._drawn_legend(present, text_height)
            self._legend = (present, text_height, legend)
        height, width = min(legend.shape[0], picture.shape[0]), min(legend.shape[1], picture.shape[1])
        picture[:height, :width] = legend[:height, :width]

    def _drawn_legend(self, present: Sequence[int], text_height: int) -> np.ndarray:
        """Draw a line per class: a field of its colour and its name, white on black; (h, w, 3) uint8 BGR."""
        import cv2

        font, stroke, line = cv2.FONT_HERSHEY_SIMPLEX, max(1, text_height // 12), text_height * 9 // 5
        scale = cv2.getFontScaleFromHeight(font, text_height, stroke)
        names = [self.spec.classes[number] for number in present]
        longest = max(cv2.getTextSize(name, font, scale, stroke)[0][0] for name in names)
        legend = np.zeros((line * len(present) + line // 3, longest + 3 * line, 3), np.uint8)
        for row, (number, name) in enumerate(zip(present, names)):
            bottom = line * (row + 1)
            colour = tuple(int(value) for value in self._colours[number, 0])
            cv2.rectangle(legend, (line // 2, bottom - text_height), (line * 2, bottom), colour, cv2.FILLED)
            cv2.putText(legend, name, (line * 5 // 2, bottom), font, scale, (255, 255, 255), stroke, cv2.LINE_AA)
        return legend
