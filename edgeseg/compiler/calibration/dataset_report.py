"""The calibration set, looked at before anything is taken from it: its size, useless images, classes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Callable

import numpy as np

from edgeseg.files import text_of
from edgeseg.images import Dataset
from edgeseg.label_planes import pixel_counts
from edgeseg.report_data import CalibrationReport
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["calibration_report"]

USUAL_FRAMES = 100
"""With fewer images than this the report warns."""
_DARK = 16
_BRIGHT = 240
_RARE = 1e-4
_EXAMPLES = 3


def calibration_report(
    frames: Dataset, spec: ModelSpec, *, report: Callable[[int, int], None] = lambda done, total: None
) -> CalibrationReport:
    """Read a calibration set once.

    Args:
        frames: images; labels, where there are some, tell the classes.
        spec: network size and classes.
        report: called with (images done, images in all).

    Raises:
        ImageError: an image or label that cannot be used.
    """
    whole, seen = hashlib.sha256(), set()
    found: dict[str, list[str]] = {"duplicates": [], "near_black": [], "near_white": []}
    labelled = 0
    pixels = np.zeros(256, np.int64)
    for index in range(len(frames)):
        name, image, label = frames[index]
        network_input = np.ascontiguousarray(spec.resized(image)).tobytes()
        whole.update(network_input)
        digest = hashlib.sha256(network_input).digest()
        low, high = np.percentile(image[::4, ::4].max(axis=2), (1, 99))
        for kind, holds in (
            ("duplicates", digest in seen),
            ("near_black", high < _DARK),
            ("near_white", low > _BRIGHT),
        ):
            if holds:
                found[kind].append(text_of(name))
        seen.add(digest)
        if label is not None:
            labelled += 1
            pixels += pixel_counts(label)
        report(index + 1, len(frames))
    pixels[[spec.ignore_id, IGNORE_ID]] = 0
    total = int(pixels.sum())
    found_in_set = CalibrationReport(
        data=frames.description,
        sha256=whole.hexdigest(),
        images=len(frames),
        duplicates=len(found["duplicates"]),
        near_black=len(found["near_black"]),
        near_white=len(found["near_white"]),
        labelled=labelled,
        class_shares={name: int(n) / total for name, n in zip(spec.classes, pixels)} if total else {},
        examples={kind: tuple(names[:_EXAMPLES]) for kind, names in found.items() if names},
    )
    return replace(found_in_set, warnings=tuple(_warnings(found_in_set)))


def _warnings(seen: CalibrationReport) -> list[str]:
    """Say what is wrong with a set, one line each."""
    lines = []
    if seen.images < USUAL_FRAMES:
        lines.append(f"only {seen.images} calibration images; a few hundred are usual")
    for kind, count, what in (
        ("duplicates", seen.duplicates, "repeat an earlier one"),
        ("near_black", seen.near_black, "are near-black or empty"),
        ("near_white", seen.near_white, "are near-white or overexposed"),
    ):
        if count:
            names = seen.examples.get(kind, ())
            named = f" ({', '.join(names)}{', ...' if count > len(names) else ''})" if names else ""
            lines.append(f"{count} of {seen.images} calibration images {what}{named}")
    rare = [name for name, share in seen.class_shares.items() if share < _RARE]
    if rare:
        lines.append(f"classes hardly seen in calibration (under 0.01 % of pixels): {', '.join(rare)}")
    return lines
