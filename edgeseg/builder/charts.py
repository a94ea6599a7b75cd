"""Draw the curves, the classes and the confusion of a training as pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import numpy as np

from edgeseg.metrics import tallies
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

__all__ = ["SampleView", "results_picture", "samples_picture"]

_PANEL = 480, 300
_BOTTOM = 520
_MARGIN = 56, 36, 16, 28  # left, top, right, bottom
_FINER = 2
_INK, _GREY, _PALE = (32, 36, 44), (120, 126, 138), (226, 229, 235)
_LINES = ((31, 119, 180), (214, 110, 20), (44, 150, 60))
_MOST_NAMES = 40


@dataclass(frozen=True)
class SampleView:
    """A validation image with its label and what was found.

    Attributes:
        name: of the image.
        frame: HxWx3 uint8 BGR.
        label: HxW uint8.
        found: class map HxW uint8.
    """

    name: str
    frame: np.ndarray
    label: np.ndarray
    found: np.ndarray


def results_picture(
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    iou: Sequence[float],
    counts: np.ndarray,
    classes: Sequence[str],
) -> np.ndarray:
    """Draw curves over the epochs, the IoU of every class and the confusion matrix.

    Args:
        curves: title of a panel -> name of a curve -> a value per epoch; three panels.
        iou: IoU per class, 0-1; NaN for a class that does not occur.
        counts: CxC pixels; row = label, column = prediction. Of a multi-label network Kx2x2 of ``MultilabelCounts``.
        classes: name per class.

    Returns:
        HxWx3 uint8 BGR.
    """
    from PIL import Image, ImageDraw

    width, height = _PANEL[0] * 3, _PANEL[1] + _BOTTOM
    picture = Image.new("RGB", (width * _FINER, height * _FINER), "white")
    draw = _Drawing(ImageDraw.Draw(picture))
    for index, (title, lines) in enumerate(curves.items()):
        _curves(draw, (index * _PANEL[0], 0), title, lines)
    _bars(draw, (0, _PANEL[1]), "IoU per class, %", iou, classes)
    right = (int(1.5 * _PANEL[0]), _PANEL[1])
    if counts.ndim == 2:
        _matrix(draw, right, counts, classes)
    else:
        hits, labelled, _, _ = tallies(counts)
        recall = [float(hit / all_of_it) if all_of_it else math.nan for hit, all_of_it in zip(hits, labelled)]
        _bars(draw, right, "Found of each label's pixels, %", recall, classes)
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(small)[..., ::-1])


def samples_picture(samples: Sequence[SampleView], spec: ModelSpec, width: int = 360) -> np.ndarray:
    """Draw a row per sample: the image, its label over it, what was found over it.

    Args:
        samples: what is shown.
        spec: its palette is used; ids that are no class are black.
        width: of one picture in pixels.

    Returns:
        HxWx3 uint8 BGR.
    """
    import cv2

    colours = np.zeros((256, 3), np.uint8)
    colours[: len(spec.palette)] = np.asarray(spec.palette, np.uint8)[:, ::-1]
    rows = []
    for one in samples:
        size = (width, max(1, round(width * one.frame.shape[0] / one.frame.shape[1])))
        frame = cv2.resize(one.frame, size, interpolation=cv2.INTER_AREA)
        over = [frame]
        for classes in (one.label, one.found):
            mask = cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST)
            over.append(cv2.addWeighted(frame, 0.4, colours[mask], 0.6, 0))
        rows.append(cv2.copyMakeBorder(np.hstack(over), 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    return np.vstack(rows)


class _Drawing:
    """A canvas in units of the final picture."""

    def __init__(self, draw: ImageDraw) -> None:
        self._draw = draw

    def line(self, points: Sequence[tuple[float, float]], colour: tuple[int, int, int], width: float = 1) -> None:
        at = [(x * _FINER, y * _FINER) for x, y in points]
        self._draw.line(at, fill=colour, width=round(width * _FINER), joint="curve")

    def box(self, left: float, top: float, right: float, bottom: float, colour: tuple[int, int, int]) -> None:
        corners = [round(value * _FINER) for value in (left, top, right, bottom)]
        if corners[2] > corners[0] and corners[3] > corners[1]:
            self._draw.rectangle([corners[0], corners[1], corners[2] - 1, corners[3] - 1], fill=colour)

    def text(
        self, x: float, y: float, text: str, size: int = 12, anchor: str = "la", colour: tuple[int, int, int] = _INK
    ) -> None:
        from PIL import ImageFont

        font: Any = ImageFont.load_default(size * _FINER)
        self._draw.text((x * _FINER, y * _FINER), text, fill=colour, font=font, anchor=anchor)


def _curves(draw: _Drawing, at: tuple[int, int], title: str, lines: Mapping[str, Sequence[float]]) -> None:
    left, top = at[0] + _MARGIN[0], at[1] + _MARGIN[1]
    right, bottom = at[0] + _PANEL[0] - _MARGIN[2], at[1] + _PANEL[1] - _MARGIN[3]
    draw.text(left, at[1] + 10, title, 14)
    values = [value for line in lines.values() for value in line if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(values), max(values)
    low, high = (low, high) if high > low else (low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1))
    epochs = max(len(line) for line in lines.values())
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * (bottom - top)
        draw.line([(left, y), (right, y)], _PALE)
        draw.text(left - 6, y, f"{low + share * (high - low):.3g}", 11, "rm", _GREY)
    for epoch in sorted({1, (epochs + 1) // 2, epochs}):
        draw.text(_across(epoch - 1, epochs, left, right), bottom + 6, str(epoch), 11, "ma", _GREY)
    for index, (name, line) in enumerate(lines.items()):
        points = [
            (_across(epoch, epochs, left, right), bottom - (value - low) / (high - low) * (bottom - top))
            for epoch, value in enumerate(line)
            if math.isfinite(value)
        ]
        colour = _LINES[index % len(_LINES)]
        draw.line(points if len(points) > 1 else [*points, *((x + 2, y) for x, y in points)], colour, 2)
        if len(lines) > 1:
            draw.text(right - 90 * (len(lines) - 1 - index), at[1] + 12, name, 12, "ra", colour)


def _across(epoch: float, epochs: int, left: float, right: float) -> float:
    return left + (right - left) * epoch / max(1, epochs - 1)


def _bars(draw: _Drawing, at: tuple[int, int], title: str, values: Sequence[float], classes: Sequence[str]) -> None:
    left, top, right = at[0] + 150, at[1] + 44, at[0] + int(1.5 * _PANEL[0]) - 70
    draw.text(at[0] + _MARGIN[0], at[1] + 14, title, 14)
    height = min(28.0, (_BOTTOM - 60) / len(classes))
    for index, (name, value) in enumerate(zip(classes, values)):
        y, share = top + index * height, value if math.isfinite(value) else 0.0
        draw.box(left, y + 2, right, y + height - 1, _PALE)
        draw.box(left, y + 2, left + share * (right - left), y + height - 1, _LINES[0])
        if len(classes) <= _MOST_NAMES:
            size = min(12, int(height))
            draw.text(left - 8, y + height / 2, _short(name), size, "rm")
            shown = f"{100 * value:.1f}" if math.isfinite(value) else "absent"
            draw.text(right + 8, y + height / 2, shown, size, "lm", _GREY)


def _matrix(draw: _Drawing, at: tuple[int, int], counts: np.ndarray, classes: Sequence[str]) -> None:
    left, top, side = at[0] + 130, at[1] + 60, min(_BOTTOM - 80, int(1.5 * _PANEL[0]) - 150)
    draw.text(at[0] + 20, at[1] + 14, "Confusion: of each label's pixels (row), % found as (column)", 14)
    cell, shares = side / len(classes), counts / np.maximum(1, counts.sum(1, keepdims=True))
    for row in range(len(classes)):
        for column in range(len(classes)):
            x, y, share = left + column * cell, top + row * cell, float(shares[row, column])
            shade = tuple(round(255 + share * (full - 255)) for full in _LINES[0])
            draw.box(x, y, x + cell, y + cell, (shade[0], shade[1], shade[2]))
            if cell >= 24 and share >= 0.005:
                ink = (255, 255, 255) if share > 0.6 else _INK
                draw.text(x + cell / 2, y + cell / 2, f"{100 * share:.0f}", 11, "mm", ink)
        if len(classes) <= _MOST_NAMES:
            draw.text(left - 6, top + (row + 0.5) * cell, _short(classes[row]), min(12, int(cell)), "rm")
            draw.text(left + (row + 0.5) * cell, top - 6, _short(classes[row], max(2, int(cell / 6))), 11, "ms", _GREY)
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side), (left, top)]
    draw.line(corners, _PALE)


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
