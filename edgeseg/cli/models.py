"""Which bundle a command works on when none is named, and who must have signed it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional, Tuple

from edgeseg.bundle import Bundle, read_bundle
from edgeseg.cli.arguments import REQUIRE_SIGNATURE
from edgeseg.errors import BundleError, UsageError
from edgeseg.signature import PublicKeys, public_keys_from_file

__all__ = ["SHIPPED", "accepted_keys", "bundle_or_default", "keys_file", "signature_lines"]

SHIPPED = Path(__file__).resolve().parent.parent / "models" / "street.edgeseg"


def bundle_or_default(path: Optional[Path], require_signature: Optional[Path]) -> Tuple[Bundle, str]:
    """The named bundle; else the newest ``*.edgeseg`` in this folder; else the shipped one. Says which and why.

    Args:
        path: of the bundle, if one was named.
        require_signature: file of the public keys one of which must have signed it; None demands nothing.

    Raises:
        BundleError, InputError, MissingDependencyError: as ``read_bundle`` and ``public_keys_from_file``.
    """
    accepted = accepted_keys(require_signature)
    if path is not None:
        return read_bundle(path, accepted=accepted), str(path)
    here = sorted(Path.cwd().glob("*.edgeseg"), key=lambda file: file.stat().st_mtime)
    if here:
        return read_bundle(here[-1], accepted=accepted), f"{here[-1].name} (the newest bundle in this folder)"
    if not SHIPPED.is_file():
        raise BundleError(f"no model was named, this folder has no *.edgeseg, and the shipped {SHIPPED} is missing")
    return read_bundle(SHIPPED, accepted=accepted), "street.edgeseg (the shipped model)"


def accepted_keys(require_signature: Optional[Path]) -> Optional[PublicKeys]:
    """The keys of ``--require-signature``; None where no signature is demanded.

    Raises:
        UsageError, InputError, MissingDependencyError: as ``keys_file`` and ``public_keys_from_file``.
    """
    path = keys_file(require_signature)
    return None if path is None else public_keys_from_file(path)


def keys_file(require_signature: Optional[Path]) -> Optional[Path]:
    """The file of the keys. Raises UsageError: the environment variable is there and empty, as after a slip."""
    if require_signature is None and os.environ.get(REQUIRE_SIGNATURE) is not None:
        raise UsageError(f"{REQUIRE_SIGNATURE} is set and empty; set it to a file of public keys, or unset it")
    return require_signature


def signature_lines(bundle: Bundle, require_signature: Optional[Path]) -> Tuple[str, ...]:
    """What there is to say about a bundle's signatures, for people."""
    if not bundle.signatures:
        return ("signature: none",)
    return tuple(
        f"signature: by {signature.fingerprint}, "
        + (f"verified with {require_signature}" if signature.checked else "not checked (--require-signature checks it)")
        for signature in bundle.signatures
    )
