"""What long steps found, on disk: an interrupted compile goes on where it stopped, a repeated one skips what is known.

A key is the digest of everything a result depends on, so an entry is right or absent, never stale. Entries are npz
files without objects; one that cannot be read counts as absent.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

import numpy as np

from edgeseg import __version__
from edgeseg.files import atomic_write

__all__ = ["StepCache"]

_LIMIT_BYTES = 1 << 30


@dataclass(frozen=True)
class StepCache:
    """Arrays by key in a folder, the least recently used thrown away beyond 1 GiB.

    Attributes:
        folder: where; None keeps nothing.
    """

    folder: Path | None = None

    def load(self, *key: str) -> dict[str, np.ndarray] | None:
        """Return what ``save`` stored under a key, or None."""
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                entry = {name: arrays[name] for name in arrays.files}
            path.touch()
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile):
            return None
        return entry

    def save(self, arrays: Mapping[str, np.ndarray], *key: str) -> None:
        """Store arrays under a key, whole or not at all. Raises OSError when the disk refuses."""
        path = self._path(key)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        atomic_write(path, buffer.getvalue(), durable=False)
        self._make_room()

    def _path(self, key: tuple[str, ...]) -> Path | None:
        if self.folder is None:
            return None
        digest = hashlib.sha256(repr((__version__, *key)).encode()).hexdigest()
        return self.folder / f"{key[0]}-{digest[:32]}.npz"

    def _make_room(self) -> None:
        assert self.folder is not None
        try:
            entries = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.glob("*.npz"))
        except FileNotFoundError:  # another compilation makes room at the same time
            return
        excess = sum(size for _, size, _ in entries) - _LIMIT_BYTES
        for _, size, path in entries:
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size
