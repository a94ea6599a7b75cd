from __future__ import annotations

import hashlib
import io
import json
import os
import random
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.bundle import Bundle, GraphEntry, read_bundle, write_bundle
from edgeseg.errors import BundleError
from edgeseg.recipes import Fp32, StaticInt8
from edgeseg.spec import ModelSpec
from tests.bundle_files import entries_of, packed, small_bundle


@pytest.fixture
def bundle(spec: ModelSpec) -> Bundle:
    return small_bundle(spec, b"onnx" * 2000, frames=2)


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
    again, first, second = tmp_path / "again.edgeseg", {"a": 1, "b": 2}, {"b": 2, "a": 1}
    write_bundle(bundle, again)
    assert again.read_bytes() == path.read_bytes()
    for target, provenance in ((path, first), (again, second)):
        write_bundle(replace(bundle, provenance=provenance), target)
    assert again.read_bytes() == path.read_bytes()


def test_any_zip_tool_reads_it(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert "graphs/fp32.onnx" in archive.namelist()
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}, "no time of ours"


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
    with pytest.raises(BundleError, match="cannot be read: No such file or directory$"):
        read_bundle(tmp_path / "none.edgeseg")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError, match="is no file; a device or a pipe may have no end"):
        read_bundle(tmp_path / "pipe")
    (tmp_path / "text.edgeseg").write_text("hello")
    with pytest.raises(BundleError, match="not an edgeseg bundle"):
        read_bundle(tmp_path / "text.edgeseg")
    with pytest.raises(BundleError, match="cannot be read"):
        read_bundle(tmp_path)


def test_newer_schema_is_refused(path: Path) -> None:
    assert json.loads(entries_of(path)["manifest.json"])["schema"] == 1
    _rewrite(path, lambda manifest: manifest.update(schema=2))
    with pytest.raises(BundleError, match="schema 2, this edgeseg reads up to 1; upgrade edgeseg"):
        read_bundle(path)


@pytest.mark.parametrize("schema", [0, -1, True, 1.0, "1", None, "x" * 99])
def test_a_schema_is_a_number_from_one_on(path: Path, schema: Any) -> None:
    _rewrite(path, lambda manifest: manifest.update(schema=schema))
    with pytest.raises(BundleError, match=f"its schema is '{str(schema)[:40]}' and no number of edgeseg's"):
        read_bundle(path)


def test_layers_in_float_are_those_of_the_graph_for_tensorrt(bundle: Bundle) -> None:
    assert bundle.float_layers == ()
    for recipe, layers in ((StaticInt8("tensorrt", float_layers=("a",)), ("a",)), (Fp32(), ())):
        assert replace(bundle, graphs={"int8-tensorrt": GraphEntry(b"", recipe)}).float_layers == layers


def _golden(**arrays: np.ndarray) -> dict[str, bytes]:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return {"golden.npz": buffer.getvalue()}


def _of_golden(data: dict[str, bytes]) -> Any:
    """A change of the manifest that lists these golden frames."""
    digest = hashlib.sha256(data["golden.npz"]).hexdigest()
    return lambda manifest: manifest["sha256"].update({"golden.npz": digest})


def test_golden_frames_hold_classes_that_there_are(bundle: Bundle, path: Path) -> None:
    assert bundle.golden is not None
    for number in (2, 3):
        write_bundle(replace(bundle, golden=replace(bundle.golden, classes=bundle.golden.classes * number)), path)
        if number == 2:
            assert read_bundle(path).golden
            continue
        with pytest.raises(BundleError, match="golden frames hold class 3, the spec has 3"):
            read_bundle(path)


def test_golden_frames_are_bytes_in_rows_in_the_first_form_of_npy(bundle: Bundle, path: Path) -> None:
    golden = bundle.golden
    assert golden is not None
    right = {"frames": golden.frames, "labels": golden.labels, "classes": golden.classes}
    for labels, message in (
        (np.asfortranarray(golden.labels), "labels.npy holds uint8, not uint8 in C order"),
        (golden.labels.astype(np.int8), "labels.npy holds int8"),
        (golden.labels[:1], "labels.npy is .1, 64, 96. and not .2, 64, 96. as the spec says"),
    ):
        data = _golden(**{**right, "labels": labels})
        _rewrite(path, _of_golden(data), data)
        with pytest.raises(BundleError, match=message):
            read_bundle(path)
    header = io.BytesIO()
    np.lib.format.write_array(header, golden.labels, version=(2, 0))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in right.items():
            archive.writestr(f"{name}.npy", header.getvalue() if name == "labels" else _npy(array))
    data = {"golden.npz": buffer.getvalue()}
    _rewrite(path, _of_golden(data), data)
    with pytest.raises(BundleError, match="labels.npy has an unknown version"):
        read_bundle(path)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("frames", "message"),
    [(58254, "cannot reshape|buffer"), (58255, "would take 1073756160 bytes, the most is 1073741824")],
)
def test_golden_frames_have_at_most_a_gibibyte(bundle: Bundle, path: Path, frames: int, message: str) -> None:
    """By their headers, behind which nothing comes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, shape in (("frames", (frames, 64, 96, 3)), ("labels", (2, 64, 96)), ("classes", (2, 64, 96))):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
            archive.writestr(f"{name}.npy", header.getvalue())
    data = {"golden.npz": buffer.getvalue()}
    _rewrite(path, _of_golden(data), data)
    with pytest.raises(BundleError, match=message):
        read_bundle(path)


def test_wrong_entry_digest_is_refused(path: Path) -> None:
    def lie(manifest: dict[str, Any]) -> None:
        manifest["sha256"]["report.json"] = "0" * 64

    _rewrite(path, lie)
    with pytest.raises(BundleError, match=r"report\.json does not match"):
        read_bundle(path)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "c:\\evil", "c:evil", "a\\b", "graphs\\..\\x"])
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
    entries = entries_of(path)
    manifest = json.loads(entries["manifest.json"])
    change(manifest)
    entries.update({"manifest.json": json.dumps(manifest).encode(), **(extra or {})})
    path.write_bytes(packed(entries.items(), compression))
