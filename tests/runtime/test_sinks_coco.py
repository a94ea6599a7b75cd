from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeseg.errors import SinkError, UsageError
from edgeseg.runtime.drawing.contours import coco_polygons, coco_rle
from edgeseg.runtime.sinks.coco import CocoSink
from edgeseg.spec import ModelSpec
from tests.runtime.results import blocks, segmentation

pycocotools_mask = pytest.importorskip("pycocotools.mask", reason="pycocotools judges our run lengths")
from pycocotools.coco import COCO  # noqa: E402


@pytest.mark.parametrize("seed", range(40))
def test_run_lengths_are_those_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 70, 2))
    ids = rng.integers(0, 4, (height, width), dtype=np.uint8) if seed % 2 else blocks(seed, (height, width), 4)
    encoded = coco_rle(ids)
    assert list(encoded) == np.unique(ids).tolist()
    for owner, rle in encoded.items():
        theirs = pycocotools_mask.encode(np.asfortranarray(ids == owner, np.uint8))
        assert rle["counts"] == theirs["counts"].decode()
        np.testing.assert_array_equal(pycocotools_mask.decode({**rle, "counts": rle["counts"].encode()}), ids == owner)


def test_run_lengths_of_large_and_plain_pictures() -> None:
    for ids in (np.full((2160, 3840), 7, np.uint8), np.zeros((1, 1), np.uint8), np.eye(2000, dtype=np.uint8)):
        for owner, rle in coco_rle(ids).items():
            theirs = pycocotools_mask.encode(np.asfortranarray(ids == owner, np.uint8))
            assert rle["counts"] == theirs["counts"].decode()


@pytest.mark.parametrize("seed", range(10))
def test_polygons_give_the_mask_again_but_for_its_edge(seed: int) -> None:
    mask = blocks(seed, (120, 160), 2) == 1
    mask[40:80, 50:90] = True
    mask[50:60, 60:80] = False  # a hole
    polygons = coco_polygons(mask)
    rle = pycocotools_mask.merge(pycocotools_mask.frPyObjects(polygons, *mask.shape))
    drawn = pycocotools_mask.decode(rle).astype(bool)
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.99
    assert not drawn[52:58, 62:78].any(), "the hole stays a hole"


@pytest.mark.parametrize("form", ["rle", "polygons"])
def test_the_document_is_a_coco_data_set(spec: ModelSpec, tmp_path: Path, form: str) -> None:
    maps = [blocks(seed) for seed in range(3)]
    maps[1][:5] = 255  # no class
    for part in (maps[:2], maps[2:]):  # the second run appends
        with CocoSink(tmp_path / "out.json", spec, form) as sink:
            for ids in part:
                sink.write(segmentation(ids, size_hw=(128, 192)))
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO(str(tmp_path / "out.json"))
    assert [category["name"] for category in data.loadCats(data.getCatIds())] == list(spec.classes)
    assert len(data.imgs) == 3
    assert len({annotation["id"] for annotation in data.dataset["annotations"]}) == len(data.dataset["annotations"])
    for number, ids in enumerate(maps, 1):
        full = segmentation(ids, size_hw=(128, 192)).classes
        annotations = data.loadAnns(data.getAnnIds(number))
        assert [annotation["category_id"] for annotation in annotations] == [0, 1, 2]
        for annotation in annotations:
            mask = full == annotation["category_id"]
            drawn = data.annToMask(annotation).astype(bool)
            assert (drawn & mask).sum() / (drawn | mask).sum() > (0.97 if form == "polygons" else 0.999999)
            assert annotation["area"] == mask.sum()
            assert (
                annotation["bbox"]
                == pycocotools_mask.toBbox(pycocotools_mask.encode(np.asfortranarray(mask, np.uint8)))
                .astype(int)
                .tolist()
            )


def test_a_kill_leaves_the_lines_and_the_next_run_makes_the_document(spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    sink = CocoSink(path, spec)
    sink.write(segmentation(blocks(1)))
    lines = (tmp_path / "out.jsonl").read_bytes()
    assert not path.exists(), "the document comes at the end"
    sink.close()
    path.unlink()
    (tmp_path / "out.jsonl").write_bytes(lines + b'{"image": {"id": 2')
    with CocoSink(path, spec):
        pass
    assert [image["id"] for image in json.loads(path.read_text())["images"]] == [1]


def test_what_cannot_be_is_refused(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no COCO format 'png'; there are rle and polygons"):
        CocoSink(tmp_path / "a.json", spec, "png")
    with pytest.raises(SinkError, match="name the document, e.g. a.json"):
        CocoSink(tmp_path / "a.jsonl", spec)
    with CocoSink(tmp_path / "a.json", spec) as sink:
        sink.write(segmentation(blocks(0)))
    with pytest.raises(SinkError, match="another header"):
        CocoSink(tmp_path / "a.json", replace(spec, classes=("a", "b", "c")))
    before = (tmp_path / "a.json").read_bytes()
    sink = CocoSink(tmp_path / "a.json", spec)
    sink.write(segmentation(blocks(0)))
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(SinkError, match="a.json cannot be written"):
        sink.close()
    assert (tmp_path / "a.json").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))
