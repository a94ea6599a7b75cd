from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.bundle import Bundle, Golden, GraphEntry, read_bundle, write_bundle
from edgeseg.errors import BundleError
from edgeseg.ranges import Ranges
from edgeseg.recipes import Fp32
from edgeseg.report_data import Report
from edgeseg.spec import ModelSpec


@pytest.fixture
def bundle(spec: ModelSpec) -> Bundle:
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    maps = np.zeros((2, 64, 96), np.uint8)
    return Bundle(
        spec=spec,
        graphs={"fp32": GraphEntry(b"onnx" * 2000, Fp32())},
        ranges=Ranges({"x": (0.0, 1.0)}),
        golden=Golden(frames, maps, maps + 1),
        report=Report(evaluation_data="a test"),
        provenance={"note": "made by a test"},
        page="<!doctype html><p>0.7 ± 0.1</p>",
        drift=b"probe",
    )


@pytest.fixture
def path(bundle: Bundle, tmp_path: Path) -> Path:
    target = tmp_path / "model.edgeseg"
    write_bundle(bundle, target)
    return target


def test_round_trip(bundle: Bundle, path: Path) -> None:
    read = read_bundle(path)
    assert read.spec == bundle.spec
    assert read.graphs["fp32"] == bundle.graphs["fp32"]
    assert read.ranges == bundle.ranges
    assert read.drift == bundle.drift
    assert read.report == bundle.report and read.provenance == bundle.provenance and read.page == bundle.page
    assert read.golden is not None and bundle.golden is not None
    for name in ("frames", "labels", "classes"):
        np.testing.assert_array_equal(getattr(read.golden, name), getattr(bundle.golden, name))


def test_same_content_same_bytes(bundle: Bundle, path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.edgeseg"
    write_bundle(bundle, again)
    assert again.read_bytes() == path.read_bytes()


def test_any_zip_tool_reads_it(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert "graphs/fp32.onnx" in archive.namelist()


def test_a_bundle_without_a_page_has_none(bundle: Bundle, path: Path) -> None:
    write_bundle(replace(bundle, page=None), path)
    with zipfile.ZipFile(path) as archive:
        assert "report.html" not in archive.namelist()
    assert read_bundle(path).page is None


def test_a_page_that_is_no_text_is_refused(path: Path) -> None:
    def resign(manifest: dict[str, Any]) -> None:
        manifest["sha256"]["report.html"] = hashlib.sha256(b"\xff\xfe\xff").hexdigest()

    _rewrite(path, resign, extra={"report.html": b"\xff\xfe\xff"})
    with pytest.raises(BundleError, match="not a bundle that this edgeseg can read"):
        read_bundle(path)


def test_cut_at_1000_random_places_is_refused(path: Path) -> None:
    data = path.read_bytes()
    rng = random.Random(0)
    for length in [0, 1, len(data) - 1, *(rng.randrange(len(data)) for _ in range(1000))]:
        path.write_bytes(data[:length])
        with pytest.raises(BundleError):
            read_bundle(path)


def test_any_altered_byte_is_refused(path: Path) -> None:
    data = path.read_bytes()
    rng = random.Random(1)
    for position in [0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(300))]:
        altered = bytearray(data)
        altered[position] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(altered))
        with pytest.raises(BundleError):
            read_bundle(path)


def test_trailing_bytes_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BundleError, match="truncated or altered"):
        read_bundle(path)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        read_bundle(tmp_path / "none.edgeseg")
    (tmp_path / "text.edgeseg").write_text("hello")
    with pytest.raises(BundleError, match="not an edgeseg bundle"):
        read_bundle(tmp_path / "text.edgeseg")
    with pytest.raises(BundleError, match="cannot be read"):
        read_bundle(tmp_path)


def test_newer_schema_is_refused(path: Path) -> None:
    def newer(manifest: dict[str, Any]) -> None:
        manifest["schema"] = 99

    _rewrite(path, newer)
    with pytest.raises(BundleError, match="schema 99.*upgrade edgeseg"):
        read_bundle(path)


def test_wrong_entry_digest_is_refused(path: Path) -> None:
    def lie(manifest: dict[str, Any]) -> None:
        manifest["sha256"]["report.json"] = "0" * 64

    _rewrite(path, lie)
    with pytest.raises(BundleError, match=r"report\.json does not match"):
        read_bundle(path)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "c:\\evil", "graphs\\..\\x"])
def test_entries_that_escape_the_archive_are_refused(path: Path, name: str) -> None:
    _rewrite(path, lambda manifest: None, extra={name: b"x"})
    with pytest.raises(BundleError, match="escapes the archive"):
        read_bundle(path)


def test_unlisted_entries_are_refused(path: Path) -> None:
    _rewrite(path, lambda manifest: None, extra={"graphs/other.onnx": b"x"})
    with pytest.raises(BundleError, match=r"differs in graphs/other\.onnx"):
        read_bundle(path)


def test_compressed_entries_are_refused(path: Path) -> None:
    _rewrite(path, lambda manifest: None, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(BundleError, match="compressed"):
        read_bundle(path)


def test_pickled_arrays_are_refused(path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, frames=np.array([{"a": 1}], dtype=object), labels=np.zeros(1), classes=np.zeros(1))

    def resign(manifest: dict[str, Any]) -> None:
        manifest["sha256"]["golden.npz"] = hashlib.sha256(buffer.getvalue()).hexdigest()

    _rewrite(path, resign, extra={"golden.npz": buffer.getvalue()})
    with pytest.raises(BundleError):
        read_bundle(path)


def test_an_interrupted_write_keeps_the_old_file(bundle: Bundle, path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_bundle(Bundle(bundle.spec, bundle.graphs, provenance={"x": object()}), path)
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def _rewrite(path: Path, change: Any, extra: Any = None, compression: int = zipfile.ZIP_STORED) -> None:
    """Change a bundle and seal it again, as somebody who knows the format would."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(entries["manifest.json"])
    change(manifest)
    entries.update({"manifest.json": json.dumps(manifest).encode(), **(extra or {})})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
        archive.comment = b"0" * 64
    body = buffer.getvalue()[:-64]
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())
