"""What a process does with the tasks of an archive: it loads the bundle once, and segments."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Iterator, Tuple

from edgeseg import __version__
from edgeseg.app.config import EngineOptions
from edgeseg.app.engines import on_jetson, opened_engine
from edgeseg.app.segment import segment
from edgeseg.archive.places import Place, place_at
from edgeseg.archive.plan import Plan, Task, read_plan
from edgeseg.archive.reading import Reader
from edgeseg.archive.shards import Archive, Check, ShardRecord, checked, tried, work_off
from edgeseg.bundle import Bundle, read_bundle
from edgeseg.errors import BundleError, EdgesegError, InputError
from edgeseg.files import file_sha256
from edgeseg.runtime.gst.pipelines import CaptureOptions

if TYPE_CHECKING:
    from edgeseg.engines.base import Engine
    from edgeseg.runtime.frame import Frame, Segmentation
    from edgeseg.signature import PublicKeys

__all__ = ["Job", "Poison", "model_of", "work_on"]

Poison = Tuple[Tuple[int, str], ...]
"""Numbers of files within a task that are not opened, and why."""


@dataclass(frozen=True)
class Job:
    """What all tasks of a run have in common.

    Attributes:
        place: of the archive.
        plan: digest of its plan.
        engine: that was asked for; ``"auto"`` is chosen by each worker.
        threads: of each engine, 0 for all.
        every: compare one frame of so many with what is stored; 0 segments what is not done.
        is_trial: only look whether the tasks kill the process.
        poison: (number within the task, why) of files that are not even opened; for a run of one task.
        version: of edgeseg.
    """

    place: str
    plan: str
    engine: str
    threads: int
    every: int = 0
    is_trial: bool = False
    poison: Poison = ()
    version: str = __version__


def work_on(job: Job, task: Task) -> Iterator[ShardRecord | Check]:
    """Work a task off; a cluster calls it in a process of its own.

    Raises:
        EdgesegError: the archive is another one, the engine cannot be opened, or results cannot be kept.
    """
    archive = _opened(job)
    if job.is_trial:
        tried(archive, task)
    elif job.every:
        yield checked(archive, task, job.every)
    else:
        yield from work_off(archive, task, dict(job.poison))


class _Open(threading.local):
    """What this thread has open: engines are for one thread, and a Dask worker may have several."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.archive: Archive | None = None
        self.engine: Engine | None = None


_open = _Open()


def _opened(job: Job) -> Archive:
    wanted = replace(job, every=0, is_trial=False, poison=())
    if _open.archive is None or _open.job != wanted:
        if _open.engine is not None:
            _open.engine.close()
        _open.job = _open.archive = _open.engine = None
        _open.archive, _open.engine = _archive_of(job)
        _open.job = wanted
    return _open.archive


def _archive_of(job: Job) -> tuple[Archive, Engine]:
    if job.version != __version__:
        raise EdgesegError(f"a worker has edgeseg {__version__} and the driver {job.version}; install the same")
    place = place_at(job.place)
    plan = read_plan(place)
    if plan is None or plan.digest != job.plan:
        raise InputError(f"a worker does not see the plan of {job.place}; is that folder the same on every machine?")
    bundle = model_of(place, plan)
    options = EngineOptions(graph=plan.wish.graph or None, engine=job.engine, threads=job.threads)
    engine = opened_engine(bundle, plan.wish.model, options)
    engine.spec = bundle.spec

    def segmented(frame: Frame) -> Segmentation:
        return replace(segment(engine, frame.image), frame=frame)

    capture = CaptureOptions(jetson=on_jetson())
    by_source = len(plan.bases) > 1
    readers = tuple(
        Reader(place_at(base), str(number) if by_source else "", capture) for number, base in enumerate(plan.bases)
    )
    return Archive(place, plan, readers, bundle.spec, segmented, engine.description), engine


def model_of(place: Place, plan: Plan, accepted: PublicKeys | None = None) -> Bundle:
    """Read an archive's copy of its model.

    Raises:
        BundleError: it is missing or another one than the plan says. SignatureError: as ``read_bundle``.
    """
    where = place.url(plan.model_name)
    with suppress(FileNotFoundError), place.file(plan.model_name) as path:
        if file_sha256(path) != plan.wish.model_sha256:
            raise BundleError(f"{where} is not the model that the plan names; name another `output`")
        return read_bundle(path, accepted=accepted)
    raise BundleError(f"{where} is missing; name another `output`")
