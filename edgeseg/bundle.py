"""The bundle: one ``.edgeseg`` file that carries a compiled model from the host to the camera.

A zip archive with stored (uncompressed) entries::

    manifest.json       schema, spec, graphs (recipe, engine, SHA-256), provenance
    graphs/NAME.onnx    one graph per recipe
    ranges.json         tensor ranges that every INT8 graph was emitted from
    drift.onnx          what measures drift, to be appended to the bytes of graphs/fp32.onnx
    golden.npz          frames with labels and expected class maps
    report.json         what was measured when it was compiled
    report.html         the same as a page for people

The last 64 bytes of the file (the zip comment) are the SHA-256 of all bytes before them, so a file that is cut or
altered anywhere is refused before anything in it is parsed. Anybody can make such a seal; signatures, where there are
any, stand in front of it (``edgeseg.signature``).
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, Mapping, Union

import numpy as np

from edgeseg.errors import BundleError, CompileError, SpecError, first_line
from edgeseg.files import atomic_write
from edgeseg.json_object import JsonObject
from edgeseg.ranges import Ranges
from edgeseg.recipes import INT8_TENSORRT, Recipe, StaticInt8, recipe_from_json, recipe_json
from edgeseg.report_data import Report
from edgeseg.signature import (
    PublicKeys,
    Signature,
    checked_signatures,
    signature_of,
    signed_file,
    unsigned_file,
)
from edgeseg.spec import ModelSpec

__all__ = ["CHANNEL_MEANS", "CLIPPED", "Bundle", "Golden", "GraphEntry", "read_bundle", "sign_bundle", "write_bundle"]

SCHEMA = 1
CLIPPED, CHANNEL_MEANS = "edgeseg/clipped/", "edgeseg/mean/"
"""In front of a tensor's name: what ``drift.onnx`` gives for it."""
_DIGEST_LENGTH = 64
_MAGIC = b"PK\x03\x04"
_MOST_GOLDEN = 1 << 30
_EPOCH = (1980, 1, 1, 0, 0, 0)
_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, ValueError)
"""What zipfile raises for a damaged archive; there is no common base (NotImplementedError is a RuntimeError)."""


AnyPath = Union[str, "PathLike[str]"]


@dataclass(frozen=True)
class GraphEntry:
    """One compiled graph.

    Attributes:
        onnx: the serialised ONNX model, weights inside.
        recipe: that made it.
    """

    onnx: bytes
    recipe: Recipe

    @property
    def target(self) -> str:
        """Return whose arithmetic it is for: ``"any"``, ``"cpu"`` or ``"tensorrt"``."""
        return self.recipe.target


@dataclass(frozen=True)
class Golden:
    """Frames with which a device checks itself.

    Attributes:
        frames: NxHxWx3 uint8 BGR at network size.
        labels: NxHxW uint8 ground truth (``spec.ignore_id`` where there is none).
        classes: NxHxW uint8 class maps of the FP32 graph.
    """

    frames: np.ndarray
    labels: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Bundle:
    """A compiled model: spec, graphs by name, the ranges they came from, golden frames, report and provenance.

    ``page`` is the report as a self-contained HTML page; None in bundles that were made without one. ``drift`` is the
    probe of ``compiler.calibration.drift_probe``; None without ranges, and in bundles from before edgeseg 0.3.
    ``signatures`` are those of the file that it was read from; they are of that file's bytes, so ``write_bundle``
    leaves them out.
    """

    spec: ModelSpec
    graphs: Mapping[str, GraphEntry]
    ranges: Ranges | None = None
    golden: Golden | None = None
    report: Report = Report()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    page: str | None = None
    drift: bytes | None = None
    signatures: tuple[Signature, ...] = ()

    @property
    def signer(self) -> str | None:
        """Fingerprint of the accepted key whose signature was verified on reading; None where none was demanded."""
        return next((signature.fingerprint for signature in self.signatures if signature.checked), None)

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Layers that stay in float where TensorRT runs the bundle in INT8, by their output tensor."""
        entry = self.graphs.get(INT8_TENSORRT)
        return entry.recipe.float_layers if entry is not None and isinstance(entry.recipe, StaticInt8) else ()


def write_bundle(bundle: Bundle, path: AnyPath) -> None:
    """Write a bundle atomically; the same content gives the same bytes with the same NumPy and zlib.

    Raises:
        OSError: the disk refuses.
    """
    entries = {f"graphs/{name}.onnx": graph.onnx for name, graph in bundle.graphs.items()}
    if bundle.ranges is not None:
        entries["ranges.json"] = _json_bytes(bundle.ranges.to_json())
    if bundle.drift is not None:
        entries["drift.onnx"] = bundle.drift
    if bundle.golden is not None:
        entries["golden.npz"] = _golden_bytes(bundle.golden)
    entries["report.json"] = _json_bytes(bundle.report.to_json())
    if bundle.page is not None:
        entries["report.html"] = bundle.page.encode()
    manifest = {
        "schema": SCHEMA,
        "spec": bundle.spec.to_json(),
        "graphs": {
            name: {"recipe": recipe_json(graph.recipe), "target": graph.target} for name, graph in bundle.graphs.items()
        },
        "provenance": dict(bundle.provenance),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in entries.items()},
    }
    atomic_write(Path(path), _sealed_zip({"manifest.json": _json_bytes(manifest), **entries}))


def read_bundle(path: AnyPath, *, accepted: PublicKeys | None = None) -> Bundle:
    """Read and verify a bundle.

    Args:
        path: the file; it is read once, and what was verified is what is used.
        accepted: demand a signature by one of these keys; it is verified before anything is unpacked.

    Raises:
        BundleError: missing, truncated, altered, from a newer edgeseg, or with an entry that escapes the archive.
        SignatureError: a signature was demanded, and there is no valid one by an accepted key.
        MissingDependencyError: a signature was demanded, and the package cryptography is not installed.
    """
    path = Path(path)
    unsigned, signatures = unsigned_file(_sealed_bytes(path), path)
    if accepted is not None:
        signatures = checked_signatures(signatures, unsigned[-_DIGEST_LENGTH:], accepted, path)
    return replace(_bundle_from_zip(unsigned, path), signatures=signatures)


def sign_bundle(path: Path, key: Any, target: Path) -> Signature:
    """Add a signature to a bundle, atomically; signatures by other keys stay.

    Args:
        path: the bundle; it must be one that ``read_bundle`` reads.
        key: of ``signature.private_key_from_file``.
        target: where to write it, may be ``path``.

    Raises:
        BundleError: the bundle cannot be read or holds too many signatures. OSError: it cannot be written.
    """
    unsigned, signatures = unsigned_file(_sealed_bytes(path), path)
    _bundle_from_zip(unsigned, path)
    signature = signature_of(unsigned[-_DIGEST_LENGTH:], key)
    others = [other for other in signatures if other.public_key != signature.public_key]
    atomic_write(target, signed_file(unsigned, [*others, signature]))
    return signature


def _bundle_from_zip(data: bytes, path: Path) -> Bundle:
    entries = _unpacked_zip(data, path)
    try:
        manifest = JsonObject(json.loads(entries["manifest.json"]), "the manifest").facts
        if type(manifest["schema"]) is not int or manifest["schema"] < 1:
            raise ValueError(f"its schema is {str(manifest['schema'])[:40]!r} and no number of edgeseg's")
        if manifest["schema"] > SCHEMA:
            raise BundleError(
                f"{path} has bundle schema {manifest['schema']}, this edgeseg reads up to {SCHEMA}; upgrade edgeseg"
            )
        _verify_entries(manifest["sha256"], entries, path)
        spec = ModelSpec.from_json(manifest["spec"])
        return Bundle(
            spec=spec,
            graphs={
                name: _graph_entry(name, graph, entries[f"graphs/{name}.onnx"])
                for name, graph in manifest["graphs"].items()
            },
            ranges=_ranges(entries.get("ranges.json", b"null")),
            golden=_golden(entries["golden.npz"], spec) if "golden.npz" in entries else None,
            report=Report.from_json(json.loads(entries["report.json"])),
            provenance=JsonObject(manifest["provenance"], "the provenance").facts,
            page=entries["report.html"].decode() if "report.html" in entries else None,
            drift=entries.get("drift.onnx"),
        )
    except BundleError as error:
        raise BundleError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except RecursionError as error:
        raise BundleError(f"{path} holds JSON that is nested too deeply; it was not written by edgeseg") from error
    except (KeyError, TypeError, ValueError, AttributeError, SpecError, CompileError) as error:
        raise BundleError(f"{path} is not a bundle that this edgeseg can read: {first_line(error)}") from error


def _sealed_zip(entries: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
        archive.comment = b"0" * _DIGEST_LENGTH
    body = buffer.getvalue()[:-_DIGEST_LENGTH]
    return body + hashlib.sha256(body).hexdigest().encode()


def _sealed_bytes(path: Path) -> bytes:
    """The file, whose seal is right. Raises BundleError."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise BundleError(f"{path} is no file; a device or a pipe may have no end")
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    if not data.startswith(_MAGIC):
        raise BundleError(f"{path} is not an edgeseg bundle ({len(data)} bytes); 'edgeseg compile' writes one")
    body, seal = data[:-_DIGEST_LENGTH], data[-_DIGEST_LENGTH:]
    if hashlib.sha256(body).hexdigest().encode() != seal:
        raise BundleError(f"{path} is truncated or altered ({len(data)} bytes, digest does not match); copy it again")
    return data


def _unpacked_zip(data: bytes, path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            for info in infos:
                _check_entry(info, path)
            if len({info.filename for info in infos}) != len(infos):
                raise BundleError(f"{path} names an entry twice; it was not written by edgeseg")
            if sum(info.file_size for info in infos) > len(data):  # before any is read: they may share bytes
                raise BundleError(f"{path} has entries that overlap; it was not written by edgeseg")
            return {info.filename: archive.read(info) for info in infos}
    except _ARCHIVE_ERRORS as error:
        raise BundleError(f"{path} is not a readable bundle: {first_line(error)}; copy it again") from error


def _check_entry(info: zipfile.ZipInfo, path: Path) -> None:
    name = PurePosixPath(info.filename)
    if name.is_absolute() or ".." in name.parts or "\\" in info.filename or ":" in info.filename:
        raise BundleError(f"{path} has an entry that escapes the archive: {info.filename!r}; do not use this file")
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
        raise BundleError(
            f"{path} has a compressed or encrypted entry {info.filename!r}; it was not written by edgeseg"
        )


def _verify_entries(digests: Mapping[str, str], entries: Mapping[str, bytes], path: Path) -> None:
    if set(digests) | {"manifest.json"} != set(entries):
        odd = sorted(set(digests).symmetric_difference(entries) - {"manifest.json"})
        raise BundleError(f"{path} does not hold what its manifest lists (differs in {', '.join(odd)}); copy it again")
    for name, digest in digests.items():
        if hashlib.sha256(entries[name]).hexdigest() != digest:
            raise BundleError(f"{path}: entry {name} does not match its SHA-256; copy it again")


def _graph_entry(name: str, graph: Mapping[str, Any], onnx: bytes) -> GraphEntry:
    entry = GraphEntry(onnx, recipe_from_json(graph["recipe"], f"the recipe of {name}"))
    if graph["target"] != entry.target:
        raise ValueError(f"{name} is for {graph['target']!r}, but its recipe is for {entry.target}")
    return entry


def _ranges(data: bytes) -> Ranges | None:
    value = json.loads(data)
    return None if value is None else Ranges.from_json(value)


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _golden_bytes(golden: Golden) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, frames=golden.frames, labels=golden.labels, classes=golden.classes)
    return buffer.getvalue()


def _golden(data: bytes, spec: ModelSpec) -> Golden:
    """Frames of the spec's size. What an entry claims to be is checked before it is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            frames, labels, classes = (_Array(archive, f"{name}.npy") for name in ("frames", "labels", "classes"))
            golden = Golden(
                frames.of((*frames.shape[:1], *spec.size_hw, 3)),
                labels.of((*frames.shape[:1], *spec.size_hw)),
                classes.of((*frames.shape[:1], *spec.size_hw)),
            )
    except (*_ARCHIVE_ERRORS, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise BundleError(f"the golden frames cannot be read: {first_line(error)}") from error
    most = int(golden.classes.max(initial=0))
    if most >= len(spec.classes):
        raise BundleError(f"the golden frames hold class {most}, the spec has {len(spec.classes)}; compile it again")
    return golden


class _Array:
    """One array of an .npz: its header, and, when the shape is the right one, its content."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._stream, self._name = archive.open(name), name
        if np.lib.format.read_magic(self._stream) != (1, 0):
            raise ValueError(f"{name} has an unknown version")
        self.shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(self._stream)
        if is_fortran or dtype != np.uint8:
            raise ValueError(f"{name} holds {dtype}, not uint8 in C order")

    def of(self, shape: tuple[int, ...]) -> np.ndarray:
        if self.shape != shape:
            raise ValueError(f"{self._name} is {self.shape} and not {shape} as the spec says")
        size = int(np.prod(shape, dtype=object))
        if size > _MOST_GOLDEN:
            raise ValueError(f"{self._name} would take {size} bytes, the most is {_MOST_GOLDEN}")
        return np.frombuffer(bytearray(self._stream.read(size)), np.uint8).reshape(shape)
