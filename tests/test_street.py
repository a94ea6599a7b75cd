"""The rendered street: pure, random access, exactly labelled, and close to CamVid in its class shares."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgeseg.demo import CLASSES, PALETTE, StreetScene
from edgeseg.demo.camera import DISTANCES, Camera, light_at
from edgeseg.demo.canvas import Canvas
from edgeseg.demo.surroundings import TILE, paint_sky

SMALL = (120, 160)
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
# Class: lowest and highest share of all pixels, per cent.
SHARES = {
    SKY: (10, 26),
    BUILDING: (14, 32),
    POLE: (0.5, 2.5),
    ROAD: (22, 40),
    PAVEMENT: (1.5, 9),
    TREE: (5, 17),
    SIGN: (0.5, 2.5),
    FENCE: (0.5, 3.5),
    CAR: (3, 11),
    PEDESTRIAN: (0.3, 2),
    BICYCLIST: (0.2, 2),
}


def test_classes_and_palette_name_eleven_distinct_classes():
    assert len(set(CLASSES)) == len(set(PALETTE)) == 11
    assert dict(zip(CLASSES, PALETTE))["road"] == (128, 64, 128)


def test_frames_do_not_depend_on_order_or_instance():
    forward, backward = StreetScene(5, SMALL), StreetScene(5, SMALL)
    indices = [0, 1, 40, 5000]
    first = [forward.render(index) for index in indices]
    second = [backward.render(index) for index in reversed(indices)][::-1]
    for (frame, labels), (other_frame, other_labels) in zip(first, second):
        np.testing.assert_array_equal(frame, other_frame)
        np.testing.assert_array_equal(labels, other_labels)


def test_another_process_renders_the_same_bits():
    script = (
        "import zlib; from edgeseg.demo import StreetScene\n"
        "print([zlib.crc32(a.tobytes()) for a in StreetScene(5, (120, 160)).render(77)])"
    )
    import zlib

    seen = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout.decode()
    assert seen.strip() == str([zlib.crc32(a.tobytes()) for a in StreetScene(5, SMALL).render(77)])


def test_rendering_leaves_the_global_random_state_alone():
    np.random.seed(1)
    expected = np.random.random(3)
    np.random.seed(1)
    StreetScene(0, SMALL).render(3)
    np.testing.assert_array_equal(np.random.random(3), expected)


def test_seeds_differ():
    scenes = [StreetScene(seed, SMALL).render(10) for seed in (0, 1, 2, -3)]
    for number, (frame, labels) in enumerate(scenes):
        for other_frame, other_labels in scenes[:number]:
            assert np.abs(frame.astype(int) - other_frame).mean() > 5
            assert (labels != other_labels).mean() > 0.05


def test_fps_only_spaces_the_frames():
    np.testing.assert_array_equal(StreetScene(4, SMALL, 15.0).render(7)[1], StreetScene(4, SMALL, 30.0).render(14)[1])


@pytest.mark.parametrize("size_hw", [(32, 32), (33, 47), (240, 320), (352, 480), (720, 1280), (400, 40), (40, 400)])
def test_shapes_types_and_ids(size_hw):
    frame, labels = StreetScene(1, size_hw).render(20)
    assert frame.shape == size_hw + (3,) and labels.shape == size_hw
    assert frame.dtype == labels.dtype == np.uint8
    assert frame.flags.c_contiguous and labels.flags.c_contiguous
    assert labels.max() <= 10 and frame.std() > 10


def test_negative_and_huge_arguments_render():
    assert StreetScene(-(2**70), SMALL).render(10**7)[1].max() <= 10


def test_consecutive_frames_move_but_resemble_each_other():
    for seed in range(4):
        scene = StreetScene(seed, SMALL)
        (frame, labels), (following, following_labels), (later, _) = (scene.render(i) for i in (30, 31, 330))
        assert 0.001 < (labels != following_labels).mean() < 0.15
        near = np.corrcoef(frame.ravel(), following.ravel())[0, 1]
        assert 0.85 < near < 0.99999 and near > np.corrcoef(frame.ravel(), later.ravel())[0, 1]


def test_most_seconds_show_every_class():
    complete = 0
    for seed in range(6):
        seen = set()
        scene = StreetScene(seed, (240, 320))
        for index in range(0, 60, 6):
            seen |= set(np.unique(scene.render(index)[1]).tolist())
        complete += seen == set(range(11))
    assert complete >= 5


@pytest.fixture(scope="module")
def many():
    """120 frames and labels of 12 seeds over a minute."""
    pairs = []
    for seed in range(12):
        scene = StreetScene(seed, SMALL)
        pairs += [scene.render(index) for index in range(0, 1800, 180)]
    return np.stack([frame for frame, _ in pairs]), np.stack([labels for _, labels in pairs])


@pytest.mark.parametrize("label", range(11), ids=CLASSES)
def test_class_shares_are_about_those_of_camvid(many, label):
    low, high = SHARES[label]
    assert low < 100 * (many[1] == label).mean() < high


def test_the_sky_is_above_and_brighter_and_the_road_below(many):
    frames, labels = many
    assert not (labels[:, -10:] == SKY).any() and not (labels[:, :30] == ROAD).any()
    brighter = [frame[mask == SKY].mean() > frame[mask == ROAD].mean() + 10 for frame, mask in zip(frames, labels)]
    assert np.mean(brighter) > 0.9


def test_trees_are_the_greenest_and_the_look_varies(many):
    frames, labels = many
    green = [
        float((frames[labels == k][:, 1].astype(int) - frames[labels == k][:, [0, 2]].mean(axis=1)).mean())
        for k in range(11)
    ]
    assert int(np.argmax(green)) == TREE
    assert frames.mean(axis=(1, 2, 3)).std() > 8


def test_label_edges_are_colour_edges(many):
    frames, labels = many
    step = np.abs(np.diff(frames.astype(int), axis=2)).mean(axis=-1)
    edge = np.diff(labels.astype(int), axis=2) != 0
    assert step[edge].mean() > 2.5 * step[~edge].mean()
    shifted = np.roll(edge, 6, axis=2)
    assert step[edge].mean() > 1.5 * step[shifted].mean()


@pytest.mark.parametrize(
    "arguments, seen",
    [
        ({"size_hw": (31, 640)}, "31"),
        ({"size_hw": (480, 0)}, "0"),
        ({"fps": 0.0}, "0.0"),
        ({"fps": -5.0}, "-5.0"),
        ({"fps": float("nan")}, "nan"),
    ],
)
def test_bad_arguments_are_named(arguments, seen):
    with pytest.raises(ValueError, match=seen) as error:
        StreetScene(**arguments)
    assert "\n" not in str(error.value)


def test_a_negative_index_is_refused():
    with pytest.raises(ValueError, match="-1"):
        StreetScene(0, SMALL).render(-1)


@pytest.mark.parametrize("size_hw", [(48, 64), (400, 40)])
def test_clouds_drift_on_after_weeks(size_hw):
    """They repeat with their picture's reflections, however long the camera has driven."""
    camera = Camera(1.05 * size_hw[0], size_hw[1] / 2, size_hw[0] / 2, 0.0, 1.4, 0.0, 0.0, np.zeros_like(DISTANCES))
    clouds = np.random.default_rng(0).integers(0, 256, (TILE, TILE), dtype=np.uint8)

    def sky(time):
        canvas = Canvas(size_hw, camera, light_at(0, 0.0), time, np.zeros((1, 8, 8), np.uint8))
        paint_sky(canvas, clouds)
        return canvas.pixels

    repeated = 10**6 * (TILE - 1)  # pixels of a reflection and back, at 2 pixels a second: 17 years
    for time in (0.0, 0.5, 100.25):
        np.testing.assert_array_equal(sky(time), sky(time + repeated))
    assert np.abs(sky(repeated).astype(int) - sky(repeated + 600.0)).mean() > 5
