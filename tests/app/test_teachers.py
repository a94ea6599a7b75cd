"""``edgeseg train --teacher``: from checkpoints on the disk to a student, and again from the folder's settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeseg.app.config_file import read_config
from edgeseg.app.fields import absolute
from edgeseg.app.train import CONFIG_NAME, TrainingProgress, train
from edgeseg.app.train_config import TrainConfig
from edgeseg.errors import EdgesegError
from tests.app.test_train import small
from tests.cli.test_cli import edgeseg, refused
from tests.cli.test_train import SMALL, data_set

pytest.importorskip("torch", reason="training needs torch, which the light suites leave out")

VIEWS = "scales=1,flip=0"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A teacher of two classes, and data for a student."""
    data_set(tmp_path, "train", 4, 1)
    data_set(tmp_path, "val", 2, 1)
    train(small(tmp_path, out=tmp_path / "large"))
    return tmp_path / "large" / "best.safetensors"


def test_a_student_learns_of_two_teachers_and_its_folder_trains_it_again(tmp_path: Path, teacher: Path) -> None:
    import torch

    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.save(smp.Unet("mobilenet_v2", encoder_weights=None, classes=2).state_dict(), tmp_path / "theirs.pt")
    made = edgeseg("compile", teacher, "--eval", "val", "-o", "large.edgeseg", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    (tmp_path / "spec.json").write_text(edgeseg("inspect", "large.edgeseg", "--json", cwd=tmp_path).stdout)
    words = ("train", "train", "--val", "val", "--classes", "ground,disc", *SMALL, "--encoder", "mobilenet_v2")
    told = ("--teacher", f"large/{teacher.name}, theirs.pt", "--teacher-spec", "spec.json", "--distill", VIEWS)
    done = edgeseg(*words, *told, "--teacher-maps", "maps", "--snapshots", 2, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "teacher: best.safetensors, edge_unet + efficientnet_lite0\nteacher: theirs.pt, unet + mobilenet_v2"
        in done.stdout
    )
    assert "teacher maps: 0 of 4 are in maps (2x16x16 float16, 0.0 MB in all)" in done.stdout
    assert len(list((tmp_path / "maps").iterdir())) == 4
    kept = read_config(TrainConfig, tmp_path / "run" / CONFIG_NAME)
    assert kept.teacher == f"{teacher},{tmp_path / 'theirs.pt'}" and kept.teacher_maps == tmp_path / "maps"
    again = edgeseg("train", "run/training.toml", "--out", "again", cwd=tmp_path)
    assert again.returncode == 0 and "teacher maps: 4 of 4 are in" in again.stdout, again.stderr
    from edgeseg.builder.checkpoint import load_checkpoint

    one, other = (load_checkpoint(tmp_path / run / "best.safetensors") for run in ("run", "again"))
    assert one.training == other.training and [name[:10] for name in one.training["teachers"]] == [
        "best.safet",
        "theirs.pt ",
    ]
    theirs = other.network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in one.network.state_dict().items())


def test_maps_are_in_the_folder_of_the_run_and_another_teacher_is_another_run(tmp_path: Path, teacher: Path) -> None:
    heard: list[str] = []
    config = small(tmp_path, teacher=str(teacher), distill=VIEWS, encoder="mobilenet_v2")
    train(config, TrainingProgress(line=heard.append))
    assert len(list((tmp_path / "run" / "teacher-maps").glob("*.map"))) == 4
    train(replace(config, resume=True, epochs=2), TrainingProgress(line=heard.append))
    assert [line.split(" are ")[0] for line in heard if "maps:" in line] == [
        "teacher maps: 0 of 4",
        "teacher maps: 4 of 4",
    ]
    for change in ({"teacher": str(tmp_path / "run" / "best.safetensors")}, {"teacher": None, "distill": ""}):
        with pytest.raises(EdgesegError, match="is of another run: .*teachers was"):
            train(replace(config, resume=True, epochs=3, **change))  # type: ignore[arg-type]


def test_what_does_not_fit_is_one_line(tmp_path: Path, teacher: Path) -> None:
    from edgeseg.builder.checkpoint import load_checkpoint, save_checkpoint

    (tmp_path / "spec.json").write_text(json.dumps([1]))
    other = load_checkpoint(teacher)
    spec = replace(other.spec, classes=("ground", "ball"))
    save_checkpoint(replace(other, spec=spec), teacher.parent / "other.safetensors")
    cases: dict[str, dict[str, Any]] = {
        "knows the classes ground, ball, and the network that learns from it ground, disc": {
            "teacher": str(teacher.parent / "other.safetensors"),
        },
        "gone.pt cannot be read as a checkpoint": {"teacher": f"{teacher},gone.pt"},
        "`distill`, `teacher_maps` say how to learn from `teacher`, which is missing": {
            "distill": "kl=1",
            "teacher_maps": tmp_path / "maps",
        },
        "`distill` has no setting 'lk'; did you mean kl": {"teacher": str(teacher), "distill": "lk=1"},
        "`teacher_spec` .*spec.json holds a list": {"teacher": str(teacher), "teacher_spec": tmp_path / "spec.json"},
    }
    for message, wrong in cases.items():
        with pytest.raises(EdgesegError, match=message) as refusal:
            train(small(tmp_path, **wrong))
        assert "\n" not in str(refusal.value)
    words = ("train", "train", "--val", "val", "--classes", "ground,disc", *SMALL, "--out", "run")
    assert "--distill say how to learn from --teacher" in refused(*words, "--distill", "kl=1", cwd=tmp_path, code=2)


def test_paths_of_teachers_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = absolute(TrainConfig(("x",), teacher="a.pt, b/c.safetensors", teacher_maps=Path("maps")))
    assert config.teacher == f"{tmp_path}/a.pt,{tmp_path}/b/c.safetensors" and config.teacher_maps == tmp_path / "maps"
