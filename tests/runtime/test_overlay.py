from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from edgeseg.errors import UsageError
from edgeseg.images import read_image
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.sinks.folder import FolderSink
from edgeseg.spec import ModelSpec
from tests.runtime.results import blocks, segmentation


@pytest.fixture
def halves() -> np.ndarray:
    ids = np.zeros((64, 96), np.uint8)
    ids[:, 48:] = 2
    return ids


def test_hidden_classes_show_the_frame(spec: ModelSpec, halves: np.ndarray) -> None:
    painter = Painter(spec, alpha=1.0, hidden=("sky",))
    painted = painter.overlay(segmentation(halves).frame.image, halves)
    assert (painted[:, :48] == (128, 64, 128)).all()
    assert (painted[:, 48:] == 100).all()
    painter.hide(frozenset())
    assert (painter.overlay(segmentation(halves).frame.image, halves)[:, 48:] == 128).all()


def test_what_a_picture_shows(spec: ModelSpec, halves: np.ndarray) -> None:
    result = segmentation(halves)
    mask = Painter(spec, visualize=("mask",)).picture(result)
    np.testing.assert_array_equal(mask, Painter(spec).mask(halves))
    np.testing.assert_array_equal(
        Painter(spec, visualize=("overlay", "mask")).picture(result), Painter(spec).overlay(result.frame.image, halves)
    )
    outlined = Painter(spec, visualize=("contours",)).picture(result)
    changed = (outlined != 100).any(axis=2)
    assert changed[:, 47:49].all() and changed.sum() == 2 * 64
    assert (outlined[:, 47] == (128, 64, 128)).all() and (outlined[:, 48] == 128).all()
    assert (result.frame.image == 100).all(), "the frame is not drawn on"
    hidden = Painter(spec, visualize=("contours",), hidden=("road", "sky")).picture(result)
    assert (hidden == 100).all()


@pytest.mark.parametrize("width", [320, 1280, 3840])
def test_a_legend_names_the_classes_that_are_there(spec: ModelSpec, width: int) -> None:
    ids = np.zeros((width * 9 // 16, width), np.uint8)
    ids[:, width // 2 :] = 2
    painter = Painter(spec, alpha=0.0, legend=True)
    plain, picture = segmentation(ids).frame.image, painter.picture(segmentation(ids))
    rows, columns = np.nonzero((picture != plain).any(axis=2))
    assert rows.max() < ids.shape[0] / 3 and columns.max() < width / 2, "it leaves most of the picture alone"
    assert rows.max() > 2 * 9, "two lines of letters that can be read"
    legend = picture[: rows.max() + 1, : columns.max() + 1].reshape(-1, 3)
    assert (legend == (128, 64, 128)).all(axis=1).any() and (legend == 128).all(axis=1).any()
    assert not (legend == (128, 0, 64)).all(axis=1).any(), "there is no car"
    painter.hide(frozenset({"sky"}))
    assert np.nonzero((painter.picture(segmentation(ids)) != plain).any(axis=2))[0].max() < rows.max()


def test_painting_takes_no_new_memory_once_it_runs(spec: ModelSpec, halves: np.ndarray) -> None:
    painter = Painter(spec, visualize=("overlay", "contours"), hidden=("car",), legend=True)
    result = segmentation(halves)
    painter.picture(result)
    blocks_before = painter._memory.blocks
    addresses = {painter.picture(result).ctypes.data for _ in range(50)}
    assert painter._memory.blocks == blocks_before and len(addresses) <= 2
    kept = painter.picture(result)
    copy = kept.copy()
    for _ in range(5):
        painter.mask(np.full_like(halves, 1))
    np.testing.assert_array_equal(kept, copy, err_msg="a picture that somebody holds stays")


def test_settings_change_while_others_paint(spec: ModelSpec) -> None:
    painter = Painter(spec, visualize=("overlay", "contours"), legend=True)
    results = [segmentation(blocks(seed)) for seed in range(4)]
    failures: list[BaseException] = []

    def paint() -> None:
        try:
            for count in range(200):
                assert painter.picture(results[count % 4]).shape == (64, 96, 3)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=paint) for _ in range(3)]
    for thread in threads:
        thread.start()
    count = 0
    while any(thread.is_alive() for thread in threads):
        painter.hide(frozenset(spec.classes[: count % 3]))
        painter.alpha, painter.visualize = count % 10 / 10, (("mask",), ("overlay",), ("contours",))[count % 3]
        count += 1
    for thread in threads:
        thread.join()
    assert not failures and count


def test_wrong_settings_are_refused(spec: ModelSpec) -> None:
    with pytest.raises(UsageError, match="is some of overlay,mask,contours, got edges"):
        Painter(spec, visualize=("overlay", "edges"))
    with pytest.raises(UsageError, match="got nothing"):
        Painter(spec, visualize=())
    with pytest.raises(UsageError, match="0 to 1, got 2"):
        Painter(spec, alpha=2)
    with pytest.raises(UsageError, match="no class bus; there are road, car, sky"):
        Painter(spec, hidden=("bus",))


def test_visualize_decides_the_folders(spec: ModelSpec, halves: np.ndarray, tmp_path: Path) -> None:
    for visualize, folders in (
        (("overlay",), ["masks", "overlays"]),
        (("mask",), ["colours", "masks"]),
        (("overlay", "mask", "contours"), ["colours", "masks", "overlays"]),
    ):
        out = tmp_path / "-".join(visualize)
        painter = Painter(spec, visualize=visualize)
        result = segmentation(halves, 3, "door/left")
        with FolderSink(out, painter, by_source=True) as sink:
            sink.write(result)
        assert sorted(path.name for path in out.iterdir()) == folders
        assert all([path.name for path in folder.rglob("*.png")] == ["000003.png"] for folder in out.iterdir())
        if "colours" in folders:
            np.testing.assert_array_equal(read_image(out / "colours/door_left/000003.png"), painter.mask(halves))
