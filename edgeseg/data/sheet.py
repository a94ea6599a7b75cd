"""A contact sheet: many pictures with their masks on one page, to look at before training."""

from __future__ import annotations

from typing import Iterable, Sequence

import numpy as np

from edgeseg.label_planes import flat_label
from edgeseg.spec import ModelSpec

__all__ = ["contact_sheet", "evenly"]

_TILE_WIDTH, _CAPTION, _LEGEND_ROW, _GAP = 240, 16, 18, 4
_COLUMNS = 4
_INK, _PAPER = (40, 40, 40), (245, 245, 245)


def contact_sheet(tiles: Iterable[tuple[str, np.ndarray, np.ndarray | None]], spec: ModelSpec) -> np.ndarray:
    """Draw pictures beside their masks over them, and a legend, as HxWx3 uint8 BGR.

    Args:
        tiles: caption, picture HxWx3 uint8 BGR, and class ids HxW uint8, planes KxHxW or None. Ids that are
            no class are hatched.
        spec: names and colours of the classes.
    """
    drawn = [_tile(*tile, spec) for tile in tiles]
    height = max((one.shape[0] for one in drawn), default=1)
    width = 2 * _TILE_WIDTH + _GAP
    rows = [_legend(spec, _COLUMNS * (width + _GAP) + _GAP)]
    for start in range(0, len(drawn), _COLUMNS):
        row = np.full((height + _GAP, rows[0].shape[1], 3), _PAPER, np.uint8)
        for place, one in enumerate(drawn[start : start + _COLUMNS]):
            left = _GAP + place * (width + _GAP)
            row[: one.shape[0], left : left + width] = one
        rows.append(row)
    return np.concatenate(rows)


def evenly(count: int, most: int) -> list[int]:
    """Return at most ``most`` indices of ``count``, evenly spread."""
    return sorted({int(index) for index in np.linspace(0, count - 1, min(count, most)).round()}) if count else []


def _tile(caption: str, picture: np.ndarray, ids: np.ndarray | None, spec: ModelSpec) -> np.ndarray:
    import cv2

    height = max(1, round(picture.shape[0] * _TILE_WIDTH / picture.shape[1]))
    small = cv2.resize(picture, (_TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
    over = small
    if ids is not None:
        over = _over(
            small, cv2.resize(flat_label(ids), (_TILE_WIDTH, height), interpolation=cv2.INTER_NEAREST_EXACT), spec
        )
    tile = np.full((height + _CAPTION, 2 * _TILE_WIDTH + _GAP, 3), _PAPER, np.uint8)
    tile[_CAPTION:, :_TILE_WIDTH], tile[_CAPTION:, -_TILE_WIDTH:] = small, over
    plain = caption.encode("ascii", "replace").decode()
    cv2.putText(tile, plain[-60:], (0, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, _INK, 1, cv2.LINE_AA)
    return tile


def _over(picture: np.ndarray, ids: np.ndarray, spec: ModelSpec) -> np.ndarray:
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(spec.palette)] = np.asarray(spec.palette, np.uint8)[:, ::-1]
    mixed = (picture // 2 + colours[ids] // 2).astype(np.uint8)
    y, x = np.indices(ids.shape)
    mixed[(ids >= len(spec.classes)) & ((x + y) % 6 < 2)] = 0
    return np.asarray(mixed)


def _legend(spec: ModelSpec, width: int) -> np.ndarray:
    import cv2

    entries: Sequence[tuple[str, tuple[int, int, int]]] = list(zip(spec.classes, spec.palette))
    places, x, y = [], _GAP, 0
    for name, _ in entries:
        needed = 26 + 8 * len(name)
        if x + needed > width and x > _GAP:
            x, y = _GAP, y + _LEGEND_ROW
        places.append((x, y))
        x += needed
    page = np.full((y + _LEGEND_ROW + _GAP, width, 3), _PAPER, np.uint8)
    for (name, (red, green, blue)), (left, top) in zip(entries, places):
        cv2.rectangle(page, (left, top + 4), (left + 12, top + 14), (blue, green, red), -1)
        cv2.rectangle(page, (left, top + 4), (left + 12, top + 14), _INK, 1)
        plain = name.encode("ascii", "replace").decode()
        cv2.putText(page, plain, (left + 17, top + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, _INK, 1, cv2.LINE_AA)
    return page
