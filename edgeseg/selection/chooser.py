"""The rule: keep at most N frames whose least distance, the spread, only grows.

A frame becomes a short vector (``descriptor_from_image``), and two frames are as unlike as their vectors are far apart.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from edgeseg.descriptors import descriptor_from_image, exposure_fault, reduced, sharpness_from_image
from edgeseg.errors import UsageError
from edgeseg.runtime.frame import Frame

__all__ = ["MIN_DISTANCE", "MIN_SHARPNESS", "REJECTIONS", "Candidate", "FrameChooser", "nearest_distances"]

MIN_DISTANCE = 0.02
"""Sensor noise and JPEG move a descriptor by 0.005 to 0.013, a driving camera by 0.1 in half a second."""
MIN_SHARPNESS = 0.35
"""Share of the running median. CamVid's frames have 0.48 and more of their median, the same blurred by 1 pixel (sigma)
0.17 and less; 9 pixels of sideways motion blur have 0.2 to 0.57, so that about four in ten of those are found."""
REJECTIONS = {
    "dark": "less than 2 % of the picture is brighter than 24 of 255",
    "bright": "more than 60 % of the picture is at 250 of 255 or above",
    "blurred": "flat, or min_sharpness of the running median or less",
    "duplicate": "min_distance or less from a frame that was kept",
    "redundant": "there is room for count frames only, and others differ more",
}
_MOST = 2048
_MEDIAN_OVER = 255


@dataclass(frozen=True)
class Candidate:
    """A frame that is worth keeping, without its picture: see ``Frame`` and ``edgeseg.descriptors``."""

    index: int
    name: str
    captured_ns: int
    media_ns: int | None
    descriptor: np.ndarray
    sharpness: float


class FrameChooser:
    """Choice of at most ``count`` frames that differ as much as possible, by greedy max-min replacement.

    While there is room, every frame that is no near-duplicate is kept. Then one that is further from all the kept than
    their two nearest are from each other replaces one of these two, the one with the nearer other neighbour. This is
    the farthest-point rule of Gonzalez (1985) turned into a swap, so that one pass suffices and the spread never falls.
    It guarantees no constant factor of the best spread or k-center radius, where the offline rule guarantees 2 and
    the doubling algorithm of Charikar et al. (1997) 8. But its spread was measured at 0.91 to 1.01 of the offline
    rule's (CamVid and rendered drives, 16 to 300 frames), and doubling fills only a sixteenth to three quarters of
    the places there.

    The same frames in the same order give the same choice.

    Args:
        count: most frames to keep, 1 to 2048.
        min_distance: frames this near to a kept one are duplicates.
        min_sharpness: frames with this share of the running median of sharpness or less are blurred. The median is
            over the last 255 well exposed frames, so that a softer scene is accepted after a while.

    Attributes:
        seen: frames judged.
        first_ns: ``captured_ns`` of the first of them.
        spread: least distance between two kept frames; infinite for fewer than two.

    Raises:
        UsageError: an argument is out of range.
    """

    def __init__(self, count: int, min_distance: float = MIN_DISTANCE, min_sharpness: float = MIN_SHARPNESS) -> None:
        if not 1 <= count <= _MOST:
            raise UsageError(f"the number of frames to choose must be 1 to {_MOST}, got {count}; 300 is usual")
        if not (0 <= min_distance < np.inf and 0 <= min_sharpness < 1):
            raise UsageError(
                f"min_distance must be 0 or more and min_sharpness from 0 to below 1, got {min_distance} and "
                f"{min_sharpness}"
            )
        self._count, self._min_distance, self._min_sharpness = count, min_distance, min_sharpness
        self._kept: list[Candidate] = []
        self._apart = np.full((count, count), np.inf, np.float32)
        self._sharpness: deque[float] = deque(maxlen=_MEDIAN_OVER)
        self._settled = False
        self._rejected = {"dark": 0, "bright": 0, "blurred": 0, "duplicate": 0}
        self._even = _EvenSample(8 * count)
        self.seen = self.first_ns = 0
        self.spread = float("inf")

    def judge(self, frame: Frame) -> Candidate | None:
        """Count a frame and return it as a candidate; None when it is not worth keeping."""
        self.first_ns = self.first_ns if self.seen else frame.captured_ns
        self.seen += 1
        picture = reduced(frame.image)
        fault = exposure_fault(picture)
        if fault:
            self._rejected[fault] += 1
            return None
        sharpness = sharpness_from_image(picture)
        self._sharpness.append(sharpness)
        if len(self._sharpness) == _MEDIAN_OVER:
            self.settle()
        if self._is_blurred(sharpness):
            self._rejected["blurred"] += 1
            return None
        descriptor = descriptor_from_image(picture)
        self._even.add(descriptor)
        distance = float(self._distances(descriptor).min(initial=np.inf))
        if distance <= self._min_distance:
            self._rejected["duplicate"] += 1
            return None
        if len(self._kept) == self._count and distance <= self.spread:
            return None
        return Candidate(frame.index, frame.name, frame.captured_ns, frame.media_ns, descriptor, sharpness)

    def keep(self, candidate: Candidate) -> None:
        """Keep the candidate that ``judge`` has just returned, in place of another where there is no room."""
        distances = self._distances(candidate.descriptor)
        place = len(self._kept) if len(self._kept) < self._count else self._replaceable(distances)
        self._apart[place, : len(distances)] = self._apart[: len(distances), place] = distances
        self._apart[place, place] = np.inf
        self._kept[place : place + 1] = [candidate]
        self.spread = float(self._apart.min())

    def settle(self) -> None:
        """Judge the sharpness of the first frames again, once: a camera that starts has no median yet, or no focus."""
        if self._settled:
            return
        self._settled = True
        before = self._kept
        self._kept = []
        self._apart.fill(np.inf)
        for candidate in before:
            if self._is_blurred(candidate.sharpness):
                self._rejected["blurred"] += 1
            else:
                self.keep(candidate)

    def kept(self) -> list[Candidate]:
        """Return the kept frames in the order of the stream."""
        return sorted(self._kept, key=lambda kept: kept.index)

    def rejections(self) -> dict[str, int]:
        """Count the frames that were not kept, by the reasons of ``REJECTIONS``; with the kept they are ``seen``."""
        redundant = self.seen - sum(self._rejected.values()) - len(self._kept)
        return {**self._rejected, "redundant": redundant}

    def uniform_spread(self) -> float:
        """Return the spread of as many frames as are kept, evenly spaced in all that is not dark, bright or blurred."""
        return float(nearest_distances(self._even.spaced(len(self._kept))).min(initial=np.inf))

    def relative_sharpness(self, sharpness: float) -> float:
        """Return a sharpness as a share of the running median."""
        median = float(np.median(self._sharpness))
        return sharpness / median if median else 0.0

    def _is_blurred(self, sharpness: float) -> bool:
        return self.relative_sharpness(sharpness) <= self._min_sharpness

    def _distances(self, descriptor: np.ndarray) -> np.ndarray:
        """Return the distances from a frame to every kept one: (kept,) float32."""
        if not self._kept:
            return np.zeros(0, np.float32)
        apart = np.stack([kept.descriptor for kept in self._kept]) - descriptor
        return np.asarray(np.sqrt(np.einsum("kd,kd->k", apart, apart)))

    def _replaceable(self, distances: np.ndarray) -> int:
        """Choose, of the two nearest kept frames, the one whose next neighbour, the new frame included, is nearer."""
        first, second = divmod(int(self._apart.argmin()), self._count)

        def nextnearest_distances(place: int, partner: int) -> float:
            others = np.append(self._apart[place], distances[place])
            others[partner] = np.inf
            return float(others.min())

        return first if nextnearest_distances(first, second) <= nextnearest_distances(second, first) else second


class _EvenSample:
    """Evenly spaced members of a stream of unknown length: all of them, then between half of ``most`` and ``most``."""

    def __init__(self, most: int) -> None:
        self._most, self._stride, self._passed = most, 1, 0
        self._members: list[np.ndarray] = []

    def add(self, member: np.ndarray) -> None:
        if self._passed % self._stride == 0:
            self._members.append(member)
        self._passed += 1
        if len(self._members) > self._most:
            self._members = self._members[::2]
            self._stride *= 2

    def spaced(self, count: int) -> np.ndarray:
        """Return ``count`` of the members, from the first to the last: (count, D)."""
        places = np.linspace(0, len(self._members) - 1, count).round().astype(int)
        return np.array([self._members[place] for place in places])


def nearest_distances(descriptors: np.ndarray) -> np.ndarray:
    """Return the distance of each vector to its nearest other.

    Args:
        descriptors: NxD.

    Returns:
        (N,) float64; infinite for a single one.
    """
    exact = descriptors.astype(np.float64)
    lengths = (exact * exact).sum(axis=1)
    squared = lengths[:, None] + lengths - 2 * exact @ exact.T
    np.fill_diagonal(squared, np.inf)
    return np.asarray(np.sqrt(squared.min(axis=1).clip(0)))
