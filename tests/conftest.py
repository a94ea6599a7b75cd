"""Shared fixtures. Nothing here patches the package: what needs a fake takes one as an argument."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Iterator

# Where files of tests run side by side each has a core: threads of OpenMP without one wait in loops.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import Bundle, read_bundle
from edgeseg.images import write_png
from edgeseg.spec import ModelSpec

# A busy machine takes as long as it takes.
settings.register_profile("edgeseg", deadline=None)
settings.load_profile("edgeseg")

# A shell that starts this run in the background makes it ignore Ctrl-C, nohup makes it ignore the end of a connection,
# and every command under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

CAMVID = Path(os.environ.get("EDGESEG_CAMVID", Path(__file__).resolve().parents[2] / "shared" / "camvid"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where files of tests run side by side, begin with the longest: the suites on other Pythons."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.path.name != "test_pythons.py")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands under test keep what they find in a folder of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Fail the test that leaves a thread of ours behind, and only that one."""
    before = threading.enumerate()
    yield
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("edgeseg")]
    leaked = [thread.name for thread in ours if thread not in before]
    assert not leaked, f"threads left running: {leaked}"


@pytest.fixture
def camvid() -> Path:
    """The CamVid folders, where they are."""
    if not (CAMVID / "val").is_dir():
        pytest.skip(f"CamVid is not at {CAMVID}; set EDGESEG_CAMVID to its folder")
    return CAMVID


@pytest.fixture
def spec() -> ModelSpec:
    """Three classes at 64x96 (height x width); 9 is void."""
    return ModelSpec(("road", "car", "sky"), ((128, 64, 128), (64, 0, 128), (128, 128, 128)), (64, 96), ignore_id=9)


@pytest.fixture(scope="session")
def shipped() -> Bundle:
    """The model that comes with the package."""
    return read_bundle(SHIPPED)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder of four images with masks beside them, in the CamVid layout."""
    rng = np.random.default_rng(0)
    images, masks = tmp_path / "train", tmp_path / "trainannot"
    images.mkdir()
    masks.mkdir()
    for index in range(4):
        write_png(images / f"{index}.png", rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
        write_png(masks / f"{index}.png", rng.integers(0, 3, (64, 96), dtype=np.uint8))
    return images
