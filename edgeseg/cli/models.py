"""Which bundle a command works on when none is named."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

from edgeseg.bundle import Bundle, read_bundle
from edgeseg.errors import BundleError

__all__ = ["SHIPPED", "bundle_or_default"]

SHIPPED = Path(__file__).resolve().parent.parent / "models" / "street.edgeseg"


def bundle_or_default(path: Optional[Path]) -> Tuple[Bundle, str]:
    """The named bundle; else the newest ``*.edgeseg`` in this folder; else the shipped one. Says which and why."""
    if path is not None:
        return read_bundle(path), str(path)
    here = sorted(Path.cwd().glob("*.edgeseg"), key=lambda file: file.stat().st_mtime)
    if here:
        return read_bundle(here[-1]), f"{here[-1].name} (the newest bundle in this folder)"
    if not SHIPPED.is_file():
        raise BundleError(f"no model was named, this folder has no *.edgeseg, and the shipped {SHIPPED} is missing")
    return read_bundle(SHIPPED), "street.edgeseg (the shipped model)"
