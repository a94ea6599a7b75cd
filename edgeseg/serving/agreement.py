"""Prove on golden frames that what another runtime makes of a model gives the model's class maps."""

from __future__ import annotations

from typing import Callable

import numpy as np

from edgeseg.bundle import Bundle, Golden
from edgeseg.errors import EngineError, GateRefused

__all__ = ["golden_of", "require_agreement"]


def golden_of(bundle: Bundle) -> Golden:
    """Return the golden frames. Raises EngineError: the bundle has none."""
    golden = bundle.golden
    if golden is None or not len(golden.frames):
        raise EngineError("the bundle has no golden frames, so an export of it cannot be checked; compile it again")
    return golden


def require_agreement(
    segmented: Callable[[np.ndarray], np.ndarray], frames: np.ndarray, expected: np.ndarray, limit: float, what: str
) -> float:
    """Return the share of pixels that have the expected class.

    Args:
        segmented: gives class maps NxHxW of the frames.
        frames: NxHxWx3 uint8 BGR.
        expected: NxHxW class ids.
        limit: least share.
        what: was exported, for messages.

    Raises:
        GateRefused: the share is below the limit, or a class map is of another size.
    """
    found = segmented(frames)
    if found.shape != expected.shape:
        raise GateRefused(f"{what} gives class maps of {found.shape}, not {expected.shape}; nothing was written")
    agreement = float(np.mean(found == expected))
    if agreement < limit:
        raise GateRefused(
            f"{what} gives {100 * agreement:.2f} % of the golden frames' pixels the class of the bundle's own graph, "
            f"at least {100 * limit:g} % are needed; nothing was written"
        )
    return agreement
