"""Golden frames as pictures: class maps over the frame, and where graphs differ from FP32."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Mapping, Sequence

import numpy as np

from edgeseg.bundle import Golden
from edgeseg.compiler.report.template import Markup, joined, markup, swatch
from edgeseg.recipes import FP32
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["PICTURE_BYTES", "difference_legend", "golden_pictures"]

PICTURE_BYTES = 350_000
"""All pictures of a page together, as they stand in it."""
_PICTURE_STEPS = ((4, 480, 80), (4, 480, 60), (4, 360, 60), (4, 240, 60), (2, 240, 60), (1, 240, 50), (1, 120, 50))
"""(frames, most pixels across, JPEG quality), tried in this order until the pictures are small enough."""
_FP32_RIGHT, _INT8_RIGHT, _UNKNOWN = (0, 145, 255), (255, 190, 60), (255, 255, 255)
"""BGR on a dimmed frame; orange, blue and white are told apart by the colour-blind too."""


def golden_pictures(golden: Golden, maps: Mapping[str, Sequence[np.ndarray]], spec: ModelSpec) -> Markup:
    """Golden frames beside their class maps and the places where graphs differ from FP32, within ``PICTURE_BYTES``.

    Args:
        golden: frames, labels and FP32's class maps at network size.
        maps: HxW uint8 class maps of every frame, by the name of the graph.
        spec: class names, palette and the ids that are no label.
    """
    for frames, width, quality in _PICTURE_STEPS:
        chosen = np.unique(np.linspace(0, len(golden.frames) - 1, min(frames, len(golden.frames))).astype(int))
        drawn = joined(_frame(int(index), golden, maps, spec, width, quality) for index in chosen)
        if len(drawn) <= PICTURE_BYTES:
            break
    return drawn


def _frame(
    index: int,
    golden: Golden,
    maps: Mapping[str, Sequence[np.ndarray]],
    spec: ModelSpec,
    width: int,
    quality: int,
) -> Markup:
    import cv2

    frame, expected, label = golden.frames[index], golden.classes[index], golden.labels[index]
    height, across = expected.shape
    size = (min(width, across), max(1, round(height * min(width, across) / across)))
    name, reused = f"golden frame {index + 1}", markup('<use href="#frame{}"', index)
    image = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    photo = markup(
        '<image id="frame{}" width="{}" height="{}" href="{}"/>', index, *size, _data_uri(".jpg", image, quality)
    )

    def overlaid(classes: np.ndarray, who: str) -> Markup:
        colours = _coloured(cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST_EXACT), spec)
        over = markup(
            '{}/><image width="{}" height="{}" opacity=".6" href="{}"/>', reused, *size, _data_uri(".png", colours)
        )
        return _figure(over, size, f"{name} with the classes of {who}", who)

    pictures = [_figure(photo, size, name, "frame"), overlaid(expected, FP32)]
    for who, found in maps.items():
        spots = _difference(found[index], expected, label, spec, size)
        over = markup(
            '<rect width="{}" height="{}"/>{} opacity=".4"/><image width="{}" height="{}" href="{}"/>',
            *size, reused, *size, _data_uri(".png", spots),
        )  # fmt: skip
        said = _difference_in_words(found[index], expected, label, spec)
        pictures += [
            overlaid(found[index], who),
            _figure(over, size, f"{name}, where {who} and fp32 differ: {said}", f"{who} against fp32: {said}"),
        ]
    return markup('<h3>{}</h3><div class="pictures">{}</div>', name.capitalize(), joined(pictures))


def _figure(picture: Markup, size: tuple[int, int], spoken: str, caption: str) -> Markup:
    return markup(
        '<figure><svg role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg><figcaption>{}</figcaption></figure>',
        spoken, *size, picture, caption,
    )  # fmt: skip


def _coloured(classes: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """HxW ids -> HxWx3 uint8 BGR; ids that are no class are black."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(spec.palette)] = np.asarray(spec.palette, np.uint8)[:, ::-1]
    return np.asarray(colours[classes])


def _difference(
    found: np.ndarray, expected: np.ndarray, label: np.ndarray, spec: ModelSpec, size: tuple[int, int]
) -> np.ndarray:
    """A BGRA picture that is transparent but where the maps differ; single pixels are thickened so as to be seen."""
    import cv2

    height, width = size[1], size[0]
    picture = np.zeros((height, width, 4), np.uint8)
    for colour, where in zip((_UNKNOWN, _INT8_RIGHT, _FP32_RIGHT), _who_is_right(found, expected, label, spec)):
        shown = cv2.resize(255 * where.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
        picture[cv2.dilate(shown, np.ones((3, 3), np.uint8)) > 0] = (*colour, 255)
    return picture


def difference_legend() -> Markup:
    """Render what the colours of differing pixels mean."""
    meanings = ((_FP32_RIGHT, "FP32 is right"), (_INT8_RIGHT, "INT8 is right"), (_UNKNOWN, "neither, or not labelled"))
    return joined(markup("<li>{}</li>", swatch(colour[::-1], what)) for colour, what in meanings)


def _who_is_right(
    found: np.ndarray, expected: np.ndarray, label: np.ndarray, spec: ModelSpec
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where two maps differ: neither is known to be right, the graph is, FP32 is."""
    differ = found != expected
    labelled = (label != spec.ignore_id) & (label != IGNORE_ID)
    ours, theirs = differ & labelled & (found == label), differ & labelled & (expected == label)
    return differ & ~ours & ~theirs, ours, theirs


def _difference_in_words(found: np.ndarray, expected: np.ndarray, label: np.ndarray, spec: ModelSpec) -> str:
    neither, ours, theirs = (int(where.sum()) for where in _who_is_right(found, expected, label, spec))
    pixels = neither + ours + theirs
    if not pixels:
        return "no pixel differs"
    changes = Counter(zip(expected[found != expected].tolist(), found[found != expected].tolist()))
    (before, after), _ = max(changes.items(), key=lambda item: (item[1], item[0]))
    said = f"{100 * pixels / found.size:.2f} % of pixels differ, mostly {_name(before, spec)} → {_name(after, spec)}"
    if ((label != spec.ignore_id) & (label != IGNORE_ID)).any():
        said += f"; FP32 is right in {theirs}, INT8 in {ours}, neither in {neither}"
    return said


def _name(index: int, spec: ModelSpec) -> str:
    return spec.classes[index] if index < len(spec.classes) else f"id {index}"


def _data_uri(suffix: str, image: np.ndarray, quality: int = 0) -> Markup:
    import cv2

    how = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 9]
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    encoded = base64.b64encode(cv2.imencode(suffix, image, how)[1].tobytes()).decode()
    return Markup(f"data:image/{kind};base64,{encoded}")
