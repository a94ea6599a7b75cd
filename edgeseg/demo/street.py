"""Open ``demo://street``, the rendered camera, by its URI: as a data set and for the runtime's source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from edgeseg.demo import StreetScene
from edgeseg.demo.chance import Image
from edgeseg.errors import UsageError
from edgeseg.images import Sample
from edgeseg.uris import checked_parameters

__all__ = ["StreetDataset", "StreetUri", "Streets", "parse_street_uri"]


_PARAMETERS = {"seed": "N", "frames": "N", "fps": "N", "size": "WIDTHxHEIGHT", "step": "N", "towns": "N"}
_LARGEST = 8192
_MOST = {"seed": 2**63, "frames": 10**9, "step": 10**6, "towns": 1000}
_RATES = (1e-3, 1e6)


@dataclass(frozen=True)
class StreetUri:
    """Parameters of ``demo://street?seed=0&frames=300&fps=30&size=640x480&step=1``.

    Attributes:
        seed: seed of the street.
        frames: number of frames; 0 is endless (as a camera).
        fps: frames per second of the rendered camera.
        size_hw: height and width in pixels.
        step: render every ``step``-th frame, so that a data set holds less alike pictures.
        towns: streets that the frames are shared out to, of the seeds from ``seed`` on.
    """

    seed: int = 0
    frames: int = 0
    fps: float = 30.0
    size_hw: tuple[int, int] = (480, 640)
    step: int = 1
    towns: int = 1

    def scene(self) -> StreetScene:
        """Build the renderer of this URI.

        Raises:
            UsageError: the size or the rate cannot be rendered.
        """
        try:
            return StreetScene(self.seed, self.size_hw, self.fps)
        except ValueError as error:
            raise UsageError(f"demo://street: {error}") from error


def parse_street_uri(uri: str) -> StreetUri:
    """Parse a ``demo://street`` URI.

    Raises:
        UsageError: the URI is no demo, or a parameter is unknown or out of range; the message names it.
    """
    try:
        parts = urlsplit(uri)
    except ValueError:  # half an IPv6 address
        parts = urlsplit("")
    if parts.scheme != "demo" or parts.netloc != "street" or parts.path not in ("", "/"):
        raise UsageError(f"no demo {uri!r}; there is demo://street?seed=0&frames=300&fps=30&size=640x480&step=1")
    values = checked_parameters(parts.query, _PARAMETERS, "demo://street")
    try:
        width, _, height = values.get("size", "640x480").partition("x")
        parsed = StreetUri(
            seed=int(values.get("seed", 0)),
            frames=int(values.get("frames", 0)),
            fps=float(values.get("fps", 30)),
            size_hw=(int(height), int(width)),
            step=int(values.get("step", 1)),
            towns=int(values.get("towns", 1)),
        )
    except ValueError as error:
        raise UsageError(f"demo://street: {error} in {uri!r}") from error
    if max(parsed.size_hw) > _LARGEST:
        raise UsageError(f"demo://street: pictures are up to {_LARGEST}x{_LARGEST} pixels, got {uri!r}")
    for name, most in _MOST.items():
        if getattr(parsed, name) > most:
            raise UsageError(f"demo://street: {name} is up to {most}, got {values[name][:40]}")
    if not _RATES[0] <= parsed.fps <= _RATES[1]:
        raise UsageError(f"demo://street: fps is {_RATES[0]:g} to {_RATES[1]:g}, got {parsed.fps}")
    if parsed.frames < 0 or parsed.step < 1 or parsed.seed < 0:
        raise UsageError(f"demo://street: frames and seed must be >= 0 and step >= 1, got {uri!r}")
    if not 1 <= parsed.towns <= (parsed.frames or 1):
        raise UsageError(f"demo://street: towns is at least 1 and at most frames, got {uri!r}")
    return parsed


class Streets:
    """The streets of a URI, one after the other. Each is built when it is first asked for.

    Args:
        uri: that was parsed.

    Raises:
        UsageError: the size or the rate cannot be rendered.
    """

    def __init__(self, uri: StreetUri) -> None:
        self._uri, self._scenes = uri, {uri.seed: uri.scene()}

    def place(self, index: int) -> tuple[int, int]:
        """Return the seed of the street that a frame is of, and the frame's number in it, from 0."""
        uri = self._uri
        town = index * uri.towns // uri.frames if uri.frames else 0
        first = -(-town * uri.frames // uri.towns)
        return uri.seed + town, index - first

    def render(self, index: int) -> tuple[Image, Image]:
        """Return frame ``index``, HxWx3 uint8 BGR, and its labels, HxW uint8."""
        seed, number = self.place(index)
        if seed not in self._scenes:
            self._scenes[seed] = replace(self._uri, seed=seed).scene()
        return self._scenes[seed].render(number * self._uri.step)


class StreetDataset:
    """A finite stretch of the rendered street as labelled samples.

    Raises:
        UsageError: the URI is wrong, or it has no ``frames=``.
    """

    def __init__(self, uri: str) -> None:
        self._uri = parse_street_uri(uri)
        if not self._uri.frames:
            raise UsageError(f"{uri} is endless; say how many frames, e.g. demo://street?frames=300")
        self._streets = Streets(self._uri)
        self.description = f"{self._uri.frames} rendered frames of {uri}"

    def __len__(self) -> int:
        return self._uri.frames

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        frame, label = self._streets.render(index)
        seed, number = self._streets.place(index)
        return Sample(f"street{seed}-{number:05d}", frame, label)
