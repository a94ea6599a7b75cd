"""Say how training crops are augmented: presets by name, single values changed in text."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Mapping

from edgeseg.errors import UsageError

__all__ = ["PRESETS", "Augmentation", "augmentation_from_text"]


@dataclass(frozen=True)
class Augmentation:
    """How a training crop is made from an image and its mask, in this order. 0 leaves a step out.

    Attributes:
        least_scale, most_scale: bounds of the scale, drawn evenly.
        log_scale: 1 draws the logarithm of the scale evenly, so that 0.5 and 2 are as likely.
        rotation: largest turn in degrees; what turns in is void.
        balanced: share of crops that are placed around a pixel of a class that is rare in the image.
        elastic: share of crops that are bent.
        flip: share of crops that are mirrored left to right.
        vertical_flip: share that are mirrored upside down.
        quarter_turns: share that are turned by 90, 180 or 270 degrees (of square crops; others by 180).
        brightness, contrast: largest change, as of torchvision's ``ColorJitter``.
        least_saturation, most_saturation: bounds of the saturation; 1 and 1 leave it.
        hue: largest change.
        gamma: the exponent is e to the power of -gamma to gamma.
        gain: largest change of each channel by itself: warm and cold light.
        blur, noise, jpeg: share of crops that are blurred, noisy, or compressed as JPEG of quality 30 to 90.
        classmix: share of crops into which half of the classes of another crop are pasted.
        cutmix: share into which a rectangle of another crop is pasted.
        pipeline: a file of albumentations that takes the place of all steps but scale, crop and mixes; empty for none.
    """

    least_scale: float = 0.75
    most_scale: float = 1.75
    log_scale: float = 0.0
    rotation: float = 0.0
    balanced: float = 0.0
    elastic: float = 0.0
    flip: float = 0.5
    vertical_flip: float = 0.0
    quarter_turns: float = 0.0
    brightness: float = 0.3
    contrast: float = 0.3
    least_saturation: float = 0.7
    most_saturation: float = 1.3
    hue: float = 0.02
    gamma: float = 0.0
    gain: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    classmix: float = 0.0
    cutmix: float = 0.0
    pipeline: str = ""


_BASIC = Augmentation()
_STRONG = replace(
    _BASIC, least_saturation=0.2, most_saturation=1.6, gamma=0.6, gain=0.18, blur=0.2, noise=0.3, jpeg=0.3
)
_GREY: Mapping[str, Any] = {"least_saturation": 1.0, "most_saturation": 1.0, "hue": 0.0}

PRESETS: Mapping[str, Augmentation] = {
    "none": Augmentation(1.0, 1.0, flip=0.0, brightness=0.0, contrast=0.0, **_GREY),
    "basic": _BASIC,
    "strong": _STRONG,
    "street": replace(_STRONG, least_scale=0.5, most_scale=2.0, log_scale=1.0, balanced=0.5, classmix=0.5),
    "medical": replace(
        _BASIC, least_scale=0.8, most_scale=1.25, rotation=15.0, elastic=0.3, balanced=0.5, brightness=0.2,
        contrast=0.2, gamma=0.4, blur=0.1, noise=0.3, **_GREY,
    ),
    "industrial": replace(
        _BASIC, least_scale=0.7, most_scale=1.4, balanced=0.7, vertical_flip=0.5, quarter_turns=0.5,
        least_saturation=0.5, most_saturation=1.5, gamma=0.3, blur=0.2, noise=0.3, cutmix=0.3,
    ),
    "aerial": replace(
        _BASIC, least_scale=0.5, most_scale=2.0, log_scale=1.0, balanced=0.3, vertical_flip=0.5, quarter_turns=0.5,
        gamma=0.4, gain=0.1, blur=0.2, noise=0.2, jpeg=0.2, cutmix=0.3,
    ),
}  # fmt: skip
"""Name -> augmentation. ``basic`` is moderate, ``strong`` adds light and camera, the others fit a kind of picture."""

_SHARES = (
    *("log_scale", "elastic", "balanced", "flip", "vertical_flip", "quarter_turns", "brightness", "contrast", "gain"),
    *("blur", "noise", "jpeg", "classmix", "cutmix"),
)
_ALBUMENTATIONS = "albumentations:"


def augmentation_from_text(text: str) -> Augmentation:
    """Read a preset with changes: ``street``, ``street,classmix=0,rotation=5``, ``albumentations:FILE.yaml``.

    Raises:
        UsageError: the preset or a value is not known or out of range, or the file is missing.
    """
    first, *changes = text.split(",")
    if first.startswith(_ALBUMENTATIONS):
        path = Path(first[len(_ALBUMENTATIONS) :])
        if not path.is_file():
            raise UsageError(f"`augment` names {path}, which does not exist; albumentations' save writes such a file")
        start = replace(PRESETS["none"], pipeline=str(path))
    elif first in PRESETS:
        start = PRESETS[first]
    else:
        raise UsageError(f"`augment` is one of {', '.join(PRESETS)}, or albumentations:FILE, got {first!r}")
    known = [field.name for field in fields(Augmentation) if field.name != "pipeline"]
    values: dict[str, Any] = {}
    for change in changes:
        name, _, value = change.strip().partition("=")
        if name not in known or not re.fullmatch(r"\d+(\.\d+)?", value):
            raise UsageError(f"`augment` {first} is followed by NAME=NUMBER of {', '.join(known)}, got {change!r}")
        values[name] = float(value)
    return _in_bounds(replace(start, **values))


def _in_bounds(augmentation: Augmentation) -> Augmentation:
    """Return an augmentation whose values make sense. Raises UsageError."""
    wrong = [name for name in _SHARES if not 0 <= getattr(augmentation, name) <= 1]
    if wrong:
        raise UsageError(f"`augment`: {', '.join(wrong)} is from 0 to 1")
    if not 0.1 <= augmentation.least_scale <= augmentation.most_scale <= 10:
        raise UsageError("`augment`: least_scale to most_scale lies within 0.1 to 10")
    if augmentation.least_saturation > augmentation.most_saturation:
        raise UsageError("`augment`: least_saturation is not above most_saturation")
    if augmentation.rotation > 180 or augmentation.gamma > 3 or augmentation.hue > 0.5:
        raise UsageError("`augment`: rotation is up to 180, gamma up to 3 and hue up to 0.5")
    return augmentation
