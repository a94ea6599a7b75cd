"""Prove on golden frames that what another runtime makes of a model gives the model's class maps."""

from __future__ import annotations

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


def require_agreement(found: np.ndarray, expected: np.ndarray, limit: float, what: str) -> float:
    """Return the share of pixels that have the expected class.

    Args:
        found: NxHxW class ids that the other runtime gives for the golden frames.
        expected: NxHxW class ids.
        limit: least share.
        what: was exported, for messages.

    Raises:
        GateRefused: the share is below the limit, or the class maps are of another size.
    """
    if found.shape != expected.shape:
        raise GateRefused(f"{what} gives class maps of {found.shape}, not {expected.shape}; nothing was written")
    agreement = float(np.mean(found == expected))
    if agreement < limit:
        raise GateRefused(
            f"{what} gives {100 * agreement:.2f} % of the golden frames' pixels the class of the bundle's own graph, "
            f"at least {100 * limit:g} % are needed; nothing was written"
        )
    return agreement
