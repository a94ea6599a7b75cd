"""Describe a network: what travels with it from training to the camera, so that nobody types it twice."""

from __future__ import annotations

import json
import math
import unicodedata
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Mapping

from edgeseg.errors import SpecError, first_line
from edgeseg.resizing import RULES, require_frame

if TYPE_CHECKING:
    import numpy as np

__all__ = ["IGNORE_ID", "MODES", "ModelSpec", "Preprocess", "of_byte_scale"]

SCHEMA = 1
_LONGEST_NAME = 256
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
_TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
IGNORE_ID = 255
"""Label value that is never trained on or counted, besides ``ModelSpec.ignore_id``."""

MODES = ("multiclass", "binary", "multilabel")
"""How a network tells classes, in the words of segmentation-models-pytorch; see ``ModelSpec.mode``."""


@dataclass(frozen=True)
class Preprocess:
    """Rule by which a uint8 BGR camera frame becomes the network's float input.

    ``x = (frame / 255 - mean) / std`` per channel, channels given in ``channel_order``, after a resize by the
    rule ``resize``, of ``resizing.RULES``. The only one so far is ``"stretch"``: both axes are scaled to
    ``ModelSpec.size_hw``.

    ``mean`` and ``std`` are of 0-1. Those of 0-255 (mmsegmentation, Detectron, Caffe) are refused here, because the
    network would see one grey for every frame; ``from_byte_scale`` takes them.

    Raises:
        SpecError: a value is not finite, out of range, or an unknown rule.
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channel_order: str = "RGB"
    resize: str = "stretch"

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3:
            raise SpecError(f"mean and std need three values each, got {self.mean} and {self.std}")
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise SpecError(f"mean and std must be finite, got {self.mean} and {self.std}")
        if min(self.std) <= 0:
            raise SpecError(f"std must be positive, got {self.std}")
        if max(map(abs, self.mean)) > 1 or max(self.std) > 1:
            raise SpecError(_not_of_one(self.mean, self.std))
        if self.channel_order not in ("RGB", "BGR"):
            raise SpecError(f"channel_order must be RGB or BGR, got {self.channel_order!r}")
        if self.resize not in RULES:
            known = " or ".join(map(repr, RULES))
            raise SpecError(f"resize must be {known}, got {self.resize!r}; a newer edgeseg may know it")

    def scale_and_offset(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how bytes become the network's input: ``x = (byte - offset) / scale``.

        Returns:
            scale and offset, (3,) float32 each, in units of 0-255, per channel in ``channel_order``.
        """
        import numpy as np

        return 255 * np.asarray(self.std, np.float32), 255 * np.asarray(self.mean, np.float32)

    def resized(self, frame: np.ndarray, size_hw: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
        """Bring a frame to a network's size, by the rule ``resize``.

        Args:
            frame: HxWx3 uint8, BGR. One of that size already is returned as it is, where there is no ``out``.
            size_hw: height and width of the network's input in pixels.
            out: optional array of the target shape that receives the result (no allocation per frame).

        Returns:
            ``size_hw``x3 uint8, BGR.

        Raises:
            ImageError: the frame is not HxWx3 uint8.
        """
        require_frame(frame)
        return RULES[self.resize].frame(frame, size_hw, out)

    @classmethod
    def from_byte_scale(
        cls, mean: tuple[float, float, float], std: tuple[float, float, float], channel_order: str = "RGB"
    ) -> Preprocess:
        """Build the preprocessing from a mean and std that are stated for pixels of 0-255.

        Raises:
            SpecError: the values are not of 0-255.
        """
        if not of_byte_scale(mean, std):
            raise SpecError(f"mean {_listed(mean)} and std {_listed(std)} are not of pixels of 0-255")
        return cls(_of_one(mean), _of_one(std), channel_order)


def of_byte_scale(mean: tuple[float, ...], std: tuple[float, ...]) -> bool:
    """Tell by their values whether a mean and std are stated for pixels of 0-255 and not of 0-1; False in doubt.

    A mean above 1 is of 0-255 if no std is below 1 (a smaller one would be a factor, or of the other scale). With a
    mean of 0, a std above 1 is.
    """
    if not all(math.isfinite(value) for value in (*mean, *std)) or max(*mean, *std) > 255 or min(mean) < 0:
        return False
    return min(std) >= 1 and (max(mean) > 1 or (max(mean) == 0 and min(std) > 1))


@dataclass(frozen=True)
class ModelSpec:
    """Classes, colours, input size and preprocessing of one network.

    Attributes:
        classes: name per class id, at most 254.
        palette: RGB colour per class, 0-255.
        size_hw: height and width of the network's input in pixels.
        preprocess: how a frame becomes the input.
        ignore_id: label value that is not a class (void); ``IGNORE_ID`` is ignored as well.
        mode: ``"multiclass"``: a logit per class and softmax; the largest wins. ``"binary"``: two classes and one
            logit, that of class 1, behind a sigmoid. ``"multilabel"``: a logit and a sigmoid per class but class 0,
            each for itself, so that a pixel may carry several; class 0 stands where none is above ``threshold``. In a
            class map, which has one class per pixel, the largest above it wins.
        threshold: probability above which a sigmoid says yes.

    Raises:
        SpecError: the fields do not fit each other or are out of range.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    size_hw: tuple[int, int]
    preprocess: Preprocess = Preprocess()
    ignore_id: int = IGNORE_ID
    mode: str = MODES[0]
    threshold: float = 0.5

    def __post_init__(self) -> None:
        self._refuse_mode()
        if len(self.classes) == 1:
            raise SpecError(
                f"a model has 2 to 254 classes, got 1 ({self.classes[0]!r}); list the class of all other pixels in "
                "front of it, e.g. background, or pass `mode` binary"
            )
        if not 2 <= len(self.classes) <= 254:
            raise SpecError(f"a model has 2 to 254 classes, got {len(self.classes)}")
        if len(set(self.classes)) != len(self.classes):
            raise SpecError(f"class names must differ, got {', '.join(self.classes)}")
        for name in self.classes:
            if (
                not name.strip()
                or len(name) > _LONGEST_NAME
                or any(unicodedata.category(c) in _UNPRINTABLE or c in _TURNS for c in name)
            ):
                raise SpecError(
                    f"class names are 1 to {_LONGEST_NAME} characters, none of them a control character; "
                    f"got {ascii(name[:40])}"
                )
        if len(self.palette) != len(self.classes):
            raise SpecError(f"{len(self.classes)} classes need as many colours, got {len(self.palette)}")
        if any(len(colour) != 3 or not all(0 <= c <= 255 for c in colour) for colour in self.palette):
            raise SpecError("palette entries are RGB triples of 0-255")
        if len(self.size_hw) != 2 or min(self.size_hw) < 32:
            raise SpecError(f"size_hw is (height, width) of at least 32 pixels each, got {self.size_hw}")
        if 0 <= self.ignore_id < len(self.classes):
            raise SpecError(f"ignore_id {self.ignore_id} is also the id of class {self.classes[self.ignore_id]!r}")

    def _refuse_mode(self) -> None:
        """Raise SpecError for a mode that does not exist or does not fit the classes."""
        if self.mode not in MODES:
            raise SpecError(f"mode is one of {', '.join(MODES)}, got {self.mode!r}; a newer edgeseg may know it")
        if self.mode == "binary" and len(self.classes) != 2:
            remedy = "several are mode multiclass, or multilabel where a pixel carries more than one"
            if len(self.classes) == 1:
                remedy = f"list it in front: background,{self.classes[0]}"
            raise SpecError(
                "mode binary has two classes, first that of all other pixels, got "
                f"{len(self.classes)} ({', '.join(self.classes[:6])}); {remedy}"
            )
        if not 0 < self.threshold < 1:
            raise SpecError(f"a threshold is a probability between 0 and 1, got {self.threshold:g}")
        if self.mode == "multiclass" and self.threshold != 0.5:
            raise SpecError(
                f"a threshold is for mode binary and multilabel, got {self.threshold:g}; leave it out: of several "
                "classes the most probable wins"
            )

    @property
    def has_sigmoids(self) -> bool:
        """Tell whether the network has a sigmoid for every class but class 0."""
        return self.mode != "multiclass"

    @property
    def outputs(self) -> int:
        """Return the number of channels that the network gives."""
        return len(self.classes) - self.has_sigmoids

    @property
    def measured(self) -> tuple[str, ...]:
        """Return the names of the classes that are measured: of several labels per pixel, class 0 is none."""
        return self.classes[1:] if self.mode == "multilabel" else self.classes

    @property
    def decision(self) -> str:
        """Describe how a pixel gets its class."""
        first, *others = self.classes
        above = f"probability is above {self.threshold:g}"
        if self.mode == "binary":
            return f"binary, {others[0]} where its {above}, else {first}"
        if self.mode == "multilabel":
            return (
                f"multilabel, {len(others)} labels, each where its {above}; a map shows the most probable, or {first}"
            )
        return f"multiclass, the most probable of {len(self.classes)} classes"

    def resized(self, frame: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Bring a camera frame to the network's size. What the compiled graph takes is made here and nowhere else.

        Args:
            frame: HxWx3 uint8, BGR. One of that size already is returned as it is, where there is no ``out``.
            out: optional array of ``size_hw``x3 uint8 that receives the result (no allocation per frame).

        Returns:
            ``size_hw``x3 uint8, BGR.

        Raises:
            ImageError: the frame is not HxWx3 uint8.
        """
        return self.preprocess.resized(frame, self.size_hw, out)

    def resized_labels(self, labels: np.ndarray) -> np.ndarray:
        """Bring the labels of a frame to the network's size: HxW uint8 -> ``size_hw`` uint8."""
        return RULES[self.preprocess.resize].labels(labels, self.size_hw)

    def class_map_on(self, classes: np.ndarray, frame_hw: tuple[int, int]) -> np.ndarray:
        """Bring the network's class map to the size of the frame that it is of: hxw uint8 -> ``frame_hw`` uint8."""
        return RULES[self.preprocess.resize].class_map(classes, frame_hw)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict that ``from_json`` turns back into an equal spec."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if not self.has_sigmoids:  # bundles and checkpoints of softmax stay what they were
            del fields["mode"], fields["threshold"]
        return {"schema": SCHEMA, **fields}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelSpec:
        """Build a spec from what ``to_json`` returned.

        Raises:
            SpecError: the content is missing, malformed, or from a newer edgeseg.
        """
        try:
            if data["schema"] > SCHEMA:
                raise SpecError(f"spec has schema {data['schema']}, this edgeseg reads up to {SCHEMA}; upgrade edgeseg")
            pre = data["preprocess"]
            return cls(
                classes=tuple(str(name) for name in data["classes"]),
                palette=tuple((int(r), int(g), int(b)) for r, g, b in data["palette"]),
                size_hw=(int(data["size_hw"][0]), int(data["size_hw"][1])),
                preprocess=Preprocess(
                    mean=_triple(pre["mean"]),
                    std=_triple(pre["std"]),
                    channel_order=str(pre["channel_order"]),
                    resize=str(pre["resize"]),
                ),
                ignore_id=int(data["ignore_id"]),
                mode=str(data.get("mode", MODES[0])),
                threshold=float(data.get("threshold", 0.5)),
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SpecError(f"spec is incomplete or malformed: {type(error).__name__}: {first_line(error)}") from error


def _of_one(values: tuple[float, float, float]) -> tuple[float, float, float]:
    first, second, third = (round(value / 255, 9) for value in values)
    return first, second, third


def _not_of_one(mean: tuple[float, float, float], std: tuple[float, float, float]) -> str:
    seen = f"mean {_listed(mean)} and std {_listed(std)} are not of 0-1"
    if of_byte_scale(mean, std):
        return f"{seen} but of 0-255; write mean {_listed(_of_one(mean))} and std {_listed(_of_one(std))}"
    if max(mean) > 1 and max(std) < 1:
        return f"{seen}: the mean is of 0-255 and the std is of 0-1 or a factor; write both divided by 255"
    return f"{seen}; write both for pixels of 0-1, as in (pixel / 255 - mean) / std"


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:.6g}" for value in values)


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
