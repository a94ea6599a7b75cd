from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.errors import InputError, SinkError, UsageError
from edgeseg.runtime.alarms.roi import RoiSet

LEFT = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
WHOLE = [[0, 0], [1, 0], [1, 1], [0, 1]]


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_relative_and_pixel_coordinates_are_the_same_region(tmp_path: Path) -> None:
    relative = RoiSet(path=written(tmp_path / "a.json", {"rois": {"left": LEFT}}))
    pixels = {"size": [1920, 1080], "rois": {"left": [[0, 0], [960, 0], [960, 1080], [0, 1080]]}}
    absolute = RoiSet(path=written(tmp_path / "b.json", pixels))
    assert relative.to_json() == absolute.to_json() == {"rois": {"left": LEFT}}
    mask = relative.mask("left", (64, 96))
    assert mask.dtype == bool and mask[:, :48].all() and not mask[:, 49:].any()
    assert relative.mask("left", (64, 96)) is mask, "drawn once"
    relative.put("left", WHOLE)
    assert relative.mask("left", (64, 96)).all()
    assert relative.mask("left", (10, 20)).shape == (10, 20)


def test_changes_are_kept_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rois.json"
    rois = RoiSet(["road"], path)
    rois.put("gate", LEFT)
    rois.put("yard", WHOLE)
    rois.remove("gate")
    assert RoiSet(["road"], path).names == ["yard"]
    assert [file.name for file in tmp_path.iterdir()] == ["rois.json"]
    rois.pin(["yard"])
    with pytest.raises(UsageError, match="an alarm uses the region 'yard'; change it instead"):
        rois.remove("yard")
    with pytest.raises(UsageError, match="no region 'gate'; there are yard$"):
        rois.remove("gate")
    with pytest.raises(UsageError, match="no region 'gate'; there are none$"):
        RoiSet().remove("gate")


def test_a_file_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    rois = RoiSet(path=folder / "rois.json")
    rois.put("gate", LEFT)
    folder.rename(tmp_path / "gone")
    with pytest.raises(SinkError, match="rois.json cannot be written.*stay as they were"):
        rois.put("yard", WHOLE)
    assert rois.names == ["gate"]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[0, 0], [1, 1]], "needs a list of 3 to 1000 points"),
        ("abc", "needs a list of 3 to 1000 points"),
        ([[0, 0], [1, 0], [1]], r"a point that is not \[x, y\]: \[1\]"),
        ([[0, 0], [1, 0], [1, True]], "a point that is not"),
        ([[0, 0], [1, 0], [1, float("nan")]], "a point that is not"),
        ([[0, 0], [1, 0], [1, 10**400]], "a point that is not"),
        ([[0, 0], [1, 0], [1, "1"]], "a point that is not"),
        ([[0, 0], [1, 0], [1, 1, 1]], "a point that is not"),
        ([[0, 0], [1, 0], "ab"], "a point that is not"),
        ([[0, 0], [1, 0], ["x" * 50, 1]], f"a point that is not .x, y.: .'{'x' * 38}$"),
        ([[0, 0], [1, 0], [1, 1.5]], r"a point outside the picture: \[1, 1.5\]"),
        ([[0, 0], [1.5, 0], [1, 1]], "a point outside the picture"),
        ([[0, 0], [-0.5, 0], [1, 1]], "a point outside the picture"),
        ([[0, 0], [1, -0.5], [1, 1]], "a point outside the picture"),
        ([[0, 0], [1, 0], [10**50, 1]], f"a point outside the picture: .1{'0' * 38}; "),
        ([[0, 0], [1, 0], [1, 1.8e-9]], "has no area"),
        ([[0, 0], [0.5, 0.5], [1, 1]], "has no area"),
        ([[0, 0]] * 1001, "needs a list of 3 to 1000 points"),
    ],
)
def test_points_that_make_no_region_are_refused(points: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RoiSet().put("gate", points)


def test_the_smallest_and_the_largest_region() -> None:
    rois = RoiSet()
    rois.put("g", [[0, 0], [1, 0], [1, 2.4e-9]])
    rois.put("x" * 64, [[0, 0], [1, 0], *([1, number / 997] for number in range(998))])
    assert [len(points) for points in rois.to_json()["rois"].values()] == [3, 1000]


def test_names_and_numbers_of_regions_are_checked() -> None:
    rois = RoiSet(["road"])
    with pytest.raises(UsageError, match="1 to 64 printable characters"):
        rois.put(7, LEFT)  # type: ignore[arg-type]
    for name in ("", " ", "a\nb", "x" * 65):
        with pytest.raises(UsageError, match="1 to 64 printable characters"):
            rois.put(name, LEFT)
    with pytest.raises(UsageError, match="named like a class"):
        rois.put("road", LEFT)
    for number in range(64):
        rois.put(str(number), LEFT)
    with pytest.raises(UsageError, match="64 regions already"):
        rois.put("64", LEFT)
    rois.put("63", WHOLE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON file"),
        ("[" * 100_000, "is no JSON file"),
        ([], "must hold"),
        ({"rois": []}, "must hold"),
        ({"rois": {}, "other": 1}, "must hold"),
        ({"rois": {}, "size": [0, 1]}, r'"size" is \[width, height\]'),
        ({"rois": {}, "size": [1, -1]}, r'"size" is \[width, height\]'),
        ({"rois": {}, "size": [1]}, r'"size" is \[width, height\]'),
        ({"rois": {}, "size": [1, 1, 1]}, r'"size" is \[width, height\]'),
        ({"rois": {}, "size": "ab"}, r'"size" is \[width, height\]'),
        ({"rois": {str(number): LEFT for number in range(65)}}, "holds 65 regions; at most 64"),
        ({"rois": {}, "size": [10**400, 1]}, r'"size" is \[width, height\]'),
        ({"rois": {"gate": [[10**400, 0], [5, 0], [5, 5]]}, "size": [10, 10]}, "a point that is not"),
        ({"rois": {"gate": [[0, 0], [5, 0], [5, 5]]}}, 'outside the picture: .*pixels if the file gives "size"'),
        ({"rois": {"gate": 5}}, "needs a list"),
        (" " * 5_000_000, "has 5000000 bytes"),
    ],
)
def test_files_that_make_no_sense_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RoiSet(path=written(tmp_path / "rois.json", content))


def test_the_largest_file_and_one_that_is_a_folder(tmp_path: Path) -> None:
    path = written(tmp_path / "rois.json", {"size": [1, 1], "rois": {str(number): WHOLE for number in range(64)}})
    text = path.read_text()
    path.write_text(text + " " * (4 * 1024 * 1024 - len(text)))
    assert len(RoiSet(path=path).names) == 64
    path.write_text(text + " " * (4 * 1024 * 1024 + 1 - len(text)))
    with pytest.raises(InputError, match="has 4194305 bytes; a file of regions has at most 4 MiB"):
        RoiSet(path=path)
    with pytest.raises(InputError, match="cannot be read: Is a directory$"):
        RoiSet(path=tmp_path)


def test_regions_change_while_others_look(tmp_path: Path) -> None:
    rois = RoiSet(path=tmp_path / "rois.json")
    rois.put("gate", LEFT)
    areas: set[int] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            areas.add(int(np.count_nonzero(rois.mask("gate", (10, 10)))))
            rois.to_json()

    thread = threading.Thread(target=look)
    thread.start()
    for count in range(100):
        rois.put("gate", (WHOLE, LEFT)[count % 2])
        rois.put(f"other {count % 9}", LEFT)
    done.set()
    thread.join()
    assert areas <= {100, 50, 60}


def test_a_file_that_somebody_edited_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "rois.json"
    rois = RoiSet(path=path)
    rois.put("gate", LEFT)
    rois.put("door", LEFT)  # our own change is no other program's
    path.write_text('{"rois": {}}\n')
    with pytest.raises(SinkError, match="changed by another program"):
        rois.put("gate", LEFT)
    assert path.read_text() == '{"rois": {}}\n'
