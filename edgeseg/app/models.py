"""Which bundle a command works on when none is named, and who must have signed it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import List, Optional, Tuple

from edgeseg.app.config import REQUIRE_SIGNATURE
from edgeseg.app.shipped import SHIPPED, model_path, shipped_models
from edgeseg.bundle import Bundle, read_bundle
from edgeseg.errors import BundleError, UsageError
from edgeseg.images import IMAGE_SUFFIXES
from edgeseg.signature import PublicKeys, public_keys_from_file

__all__ = [
    "accepted_keys",
    "bundle_or_default",
    "chosen_path",
    "keys_file",
    "model_stem",
    "signature_lines",
    "without_reason",
]

_REASON = re.compile(r"(?<=\.edgeseg) \(the [^()]*\)$")
_URI = re.compile(r"[a-z][a-z0-9+.-]*:/")
_VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".ts", ".m4v")
_NETWORK_SUFFIXES = (".safetensors", ".onnx", ".pth", ".pt", ".ckpt")


def bundle_or_default(path: Optional[Path], require_signature: Optional[Path]) -> Tuple[Bundle, str]:
    """Read the named bundle; else the newest of the user's own in this folder, the newest there, the shipped one.

    Bundles that were compiled from the shipped model are demos: they come after the user's own.

    Args:
        path: of the bundle, or the name of a shipped one, if one was named.
        require_signature: file of the public keys one of which must have signed it; None demands nothing.

    Returns:
        The bundle, and its name with the reason why it was taken.

    Raises:
        BundleError, InputError, MissingDependencyError: as ``read_bundle`` and ``public_keys_from_file``.
    """
    accepted = accepted_keys(require_signature)
    if path is not None:
        found = model_path(path)
        return _named(found, accepted), str(path) if found == path else f"{found.name} (the shipped model of that name)"
    here = _newest_first()
    if not here:
        if not SHIPPED.is_file():
            raise BundleError(f"no model was named, this folder has no *.edgeseg, and the shipped {SHIPPED} is missing")
        return read_bundle(SHIPPED, accepted=accepted), "street.edgeseg (the shipped model)"
    chosen, bundle = _own_first(here, accepted)
    which = f"newest of {len(here)} bundles" if len(here) > 1 else "only bundle"
    if chosen != here[0]:
        which = "newest bundle that is not the shipped model"
    demo = ", the shipped model compiled again" if _is_demo(bundle) else ""
    return bundle, f"{chosen.name} (the {which} in this folder{demo}{_poor(bundle)})"


def accepted_keys(require_signature: Optional[Path]) -> Optional[PublicKeys]:
    """Return the keys of ``--require-signature``; None where no signature is demanded.

    Raises:
        UsageError, InputError, MissingDependencyError: as ``keys_file`` and ``public_keys_from_file``.
    """
    path = keys_file(require_signature)
    return None if path is None else public_keys_from_file(path)


def keys_file(require_signature: Optional[Path]) -> Optional[Path]:
    """Return the file of the keys. Raises UsageError: the environment variable is there and empty, as after a slip."""
    if require_signature is None and os.environ.get(REQUIRE_SIGNATURE) is not None:
        raise UsageError(f"{REQUIRE_SIGNATURE} is set and empty; set it to a file of public keys, or unset it")
    return require_signature


def signature_lines(bundle: Bundle, require_signature: Optional[Path]) -> Tuple[str, ...]:
    """Say what there is to say about a bundle's signatures, a line each."""
    if not bundle.signatures:
        return ("signature: none",)
    return tuple(
        f"signature: by {signature.fingerprint}, "
        + (f"verified with {require_signature}" if signature.checked else "not checked (`require_signature` checks it)")
        for signature in bundle.signatures
    )


def chosen_path(path: Optional[Path] = None) -> Path:
    """Return the file that ``bundle_or_default`` takes. Raises BundleError as that does.

    Args:
        path: as of ``bundle_or_default``.
    """
    if path is not None:
        return model_path(path)
    here = _newest_first()
    return _own_first(here, None)[0] if here else SHIPPED


def without_reason(name: str) -> str:
    """Cut the reason: ``street.edgeseg (the shipped model)`` -> ``street.edgeseg``."""
    return _REASON.sub("", name)


def model_stem(name: str) -> str:
    """Cut reason and suffix: ``street.edgeseg (the shipped model)`` -> ``street``."""
    return Path(without_reason(name)).stem


def _newest_first() -> List[Path]:
    return sorted(Path.cwd().glob("*.edgeseg"), key=lambda file: file.stat().st_mtime, reverse=True)


def _own_first(here: List[Path], accepted: Optional[PublicKeys]) -> Tuple[Path, Bundle]:
    """The newest that is no demo, else the newest."""
    for path in here:
        try:
            bundle = read_bundle(path, accepted=accepted)
        except BundleError as error:
            raise type(error)(f"{error}; no model was named, and this is the newest of this folder") from error
        if not _is_demo(bundle):
            return path, bundle
    return here[0], read_bundle(here[0], accepted=accepted)


def _is_demo(bundle: Bundle) -> bool:
    return SHIPPED.is_file() and _weights(bundle) is not None and _weights(bundle) == _weights(read_bundle(SHIPPED))


def _weights(bundle: Bundle) -> Optional[str]:
    return bundle.provenance.get("checkpoint_sha256")


def _poor(bundle: Bundle) -> str:
    poor = bundle.report.network_is_poor
    return "" if poor is None else f", a poor network: {poor}"


def _named(path: Path, accepted: Optional[PublicKeys]) -> Bundle:
    """Read what stands where a bundle is meant; of what people put there instead, the error says where it belongs."""
    try:
        return read_bundle(path, accepted=accepted)
    except BundleError as error:
        remedy = _remedy(path)
        if remedy:
            raise BundleError(f"{path} stands where a bundle (*.edgeseg) is meant; {remedy}") from error
        raise


def _remedy(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in _NETWORK_SUFFIXES and path.is_file():
        return f"a network is compiled into one first: edgeseg compile {path}"
    is_source = suffix in (*IMAGE_SUFFIXES, *_VIDEO_SUFFIXES) or _URI.match(str(path)) or path.is_dir()
    if is_source:
        return "pictures, videos, folders and streams are given with `source` (or `data`)"
    if str(path).isdigit():
        return f"cameras are given with `camera` {path}"
    is_name = len(path.parts) == 1 and not suffix and not path.exists()
    return f"shipped are {', '.join(shipped_models())}, or name a file" if is_name else ""
