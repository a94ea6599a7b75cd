"""The calibration set, looked at before anything is taken from it: its size, useless images, classes."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any, Callable

import numpy as np

from edgeseg.files import text_of
from edgeseg.images import Dataset
from edgeseg.preprocess import resized_frame
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["CalibrationReport", "calibration_report"]

USUAL_FRAMES = 100
"""With fewer images than this the report warns."""
_DARK = 16
_BRIGHT = 240
_RARE = 1e-4
_EXAMPLES = 3


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration set holds.

    Attributes:
        data: description of the set.
        sha256: digest of the network inputs, in order.
        images: how many.
        duplicates: images that equal an earlier one at network size.
        near_black: images whose 99th percentile of brightness is below 16 of 255.
        near_white: images whose 1st percentile of brightness is above 240 of 255.
        labelled: images with a label.
        class_shares: share of the labelled pixels per class name; empty without labels.
        examples: names of the first images that ``duplicates``, ``near_black`` and ``near_white`` count, by these.
    """

    data: str
    sha256: str
    images: int
    duplicates: int
    near_black: int
    near_white: int
    labelled: int
    class_shares: dict[str, float]
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def usable(self) -> int:
        """Images that are neither repeated nor near-black nor near-white; an image may be counted out twice."""
        return max(0, self.images - self.duplicates - self.near_black - self.near_white)

    def warnings(self) -> list[str]:
        """What is wrong with the set, one line each; empty when nothing is."""
        lines = []
        if self.images < USUAL_FRAMES:
            lines.append(f"only {self.images} calibration images; a few hundred are usual")
        for kind, count, what in (
            ("duplicates", self.duplicates, "repeat an earlier one"),
            ("near_black", self.near_black, "are near-black or empty"),
            ("near_white", self.near_white, "are near-white or overexposed"),
        ):
            if count:
                names = self.examples.get(kind, [])
                named = f" ({', '.join(names)}{', ...' if count > len(names) else ''})" if names else ""
                lines.append(f"{count} of {self.images} calibration images {what}{named}")
        rare = [name for name, share in self.class_shares.items() if share < _RARE]
        if rare:
            lines.append(f"classes hardly seen in calibration (under 0.01 % of pixels): {', '.join(rare)}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict, warnings included."""
        return {**asdict(self), "warnings": self.warnings()}


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
        network_input = np.ascontiguousarray(resized_frame(image, spec.size_hw)).tobytes()
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
            pixels += np.bincount(label.ravel(), minlength=256)
        report(index + 1, len(frames))
    pixels[[spec.ignore_id, IGNORE_ID]] = 0
    total = int(pixels.sum())
    return CalibrationReport(
        data=frames.description,
        sha256=whole.hexdigest(),
        images=len(frames),
        duplicates=len(found["duplicates"]),
        near_black=len(found["near_black"]),
        near_white=len(found["near_white"]),
        labelled=labelled,
        class_shares={name: int(n) / total for name, n in zip(spec.classes, pixels)} if total else {},
        examples={kind: names[:_EXAMPLES] for kind, names in found.items() if names},
    )
