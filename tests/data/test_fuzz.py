"""Annotation files that something has damaged: read, or refused in one line of our own."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.data.opening import opened
from edgeseg.errors import EdgesegError
from tests.data.conftest import SPEC, sample, write
from tests.data.test_layouts import coco_of, yolo_of

NONSENSE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 5, 1e308, float("nan"), 1 << 70, "", "x", "../..", "\0", [], [[]], [1], {}, {"a": 1},
)  # fmt: skip


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a document."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))] if path or inner else []


def damaged(tree: Any, rng: random.Random) -> Any:
    """A copy with one value replaced or removed."""
    copy = json.loads(json.dumps(tree))
    *way, last = rng.choice([place for place in places(copy) if place])
    at = copy
    for key in way:
        at = at[key]
    if rng.random() < 0.2:
        del at[last]
    else:
        at[last] = rng.choice(NONSENSE)
    return copy


def read_or_refused(where: str) -> bool:
    """Whether all samples could be read; anything but an error of ours fails the test."""
    try:
        data = opened(where, spec=SPEC, need_labels=True)
        samples = [data[index] for index in range(len(data))]
    except EdgesegError as error:
        assert "\n" not in str(error) and str(error).strip()
        return False
    assert all(one.label is not None and one.label.dtype == np.uint8 for one in samples)
    return True


@pytest.mark.parametrize("form", ["polygons", "rle", "counts"])
def test_damaged_coco(tmp_path: Path, form: str) -> None:
    path, _ = coco_of(tmp_path, count=2, form=form)
    tree, rng = json.loads(path.read_text()), random.Random(form)
    outcomes = set()
    for _ in range(150):
        path.write_text(json.dumps(damaged(tree, rng)))
        outcomes.add(read_or_refused(f"coco://{path}"))
    assert outcomes == {True, False}, "some damage matters, some does not"


def test_damaged_panoptic(tmp_path: Path) -> None:
    image, ids = sample(0)
    write(tmp_path / "images" / "0.png", image)
    segments = np.stack([np.zeros_like(ids), np.zeros_like(ids), ids + 1], -1)
    write(tmp_path / "panoptic" / "0.png", segments)
    info = [{"id": own + 1, "category_id": own} for own in range(3)]
    tree = {
        "images": [{"id": 7, "file_name": "0.png"}],
        "categories": [{"id": own, "name": name} for own, name in enumerate(SPEC.classes)],
        "annotations": [{"image_id": 7, "file_name": "0.png", "segments_info": info}],
    }
    path, rng = tmp_path / "panoptic.json", random.Random(1)
    path.write_text(json.dumps(tree))
    assert read_or_refused(f"coco-panoptic://{path}")
    for _ in range(150):
        path.write_text(json.dumps(damaged(tree, rng)))
        read_or_refused(f"coco-panoptic://{path}")


def test_damaged_text_of_yolo_and_tables(tmp_path: Path) -> None:
    yolo_of(tmp_path / "y")
    for index in range(2):
        picture, ids = sample(index)
        write(tmp_path / "a" / f"{index}.png", picture)
        write(tmp_path / "m" / f"{index}.png", ids)
    table = tmp_path / "pairs.csv"
    table.write_text("image,mask,group\na/0.png,m/0.png,x\na/1.png,m/1.png,y\n")
    label, names = tmp_path / "y" / "labels" / "train" / "0.txt", tmp_path / "y" / "data.yaml"
    rng = random.Random(2)
    for path, where in ((table, str(table)), (label, f"yolo://{tmp_path}/y"), (names, f"yolo://{tmp_path}/y")):
        good = path.read_bytes()
        assert read_or_refused(where)
        for _ in range(80):
            at, length = rng.randrange(len(good)), rng.randrange(4)
            junk = bytes(rng.randrange(256) for _ in range(rng.randrange(4)))
            path.write_bytes(good[:at] + junk + good[at + length :])
            read_or_refused(where)
        path.write_bytes(good)
