from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from edgeseg.runtime.alarms.roi import RoiSet
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.preview import PreviewSink
from tests.runtime.preview.client import Client
from tests.runtime.preview.loop import SPEC, Alarms, Run

for package in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is not installed; pip install 'edgeseg[preview]'")


@pytest.fixture
def run() -> Iterator[Run]:
    """A run without sources yet."""
    started = Run()
    yield started
    started.stop("stopped")


@pytest.fixture
def painter() -> Painter:
    return Painter(SPEC)


@pytest.fixture
def regions() -> RoiSet:
    return RoiSet(SPEC.classes)


@pytest.fixture
def alarms() -> Alarms:
    return Alarms()


@pytest.fixture
def page(run: Run, painter: Painter, regions: RoiSet, alarms: Alarms, tmp_path: Path) -> Iterator[PreviewSink]:
    """The page of a run of one rendered street."""
    snapshots = tmp_path / "snapshots"
    with PreviewSink(run, painter, "127.0.0.1:0", rois=regions, alarms=alarms, snapshots=snapshots) as sink:
        run.attach(sink)
        run.add_source("demo://street")
        yield sink
        run.stop("stopped")


@pytest.fixture
def client(page: PreviewSink) -> Client:
    """Talks to the page, once it has a picture."""
    made = Client(page.url)
    made.until(lambda: made.get("/frame/0.jpg").status == 200)
    return made
