"""Segment an archive: plan it once, work off what is not done, say how far it is."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Iterator, Mapping

from edgeseg.app.archive_config import ArchiveConfig
from edgeseg.app.archive_worker import Job, Poison, model_of, work_on
from edgeseg.app.models import accepted_keys, bundle_or_default, chosen_path, without_reason
from edgeseg.archive.clusters import cluster_from
from edgeseg.archive.clusters.base import Cluster, Report
from edgeseg.archive.listing import absolute_sources, origins_of
from edgeseg.archive.places import Place, place_at
from edgeseg.archive.plan import PLAN, Plan, Task, Wish, make_plan, read_plan
from edgeseg.archive.results import WITH_TABLE
from edgeseg.archive.shards import Check, ShardRecord
from edgeseg.archive.state import State, done_tasks, state_of
from edgeseg.errors import EdgesegError, EngineError, UsageError, require
from edgeseg.files import file_sha256
from edgeseg.progress import Progress

__all__ = ["Archived", "archive", "archive_state"]

_SHARD_FRAMES, _FORMAT = 1000, "png"
_TELL_S = 10.0
_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class Archived:
    """What came of an archive.

    Attributes:
        output: its place.
        on: who worked it off.
        state: of the whole archive.
        lost: (number of a task, why) of those that killed every worker.
        compared: frames that were segmented again.
        different: names of those that gave another result.
    """

    output: str
    on: str
    state: State
    lost: tuple[tuple[int, str], ...] = ()
    compared: int = 0
    different: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        plan = self.state.plan
        about = {"output": self.output, "on": self.on, "model": plan.wish.model, "format": plan.wish.format}
        lost = [{"task": task, "why": why} for task, why in self.lost]
        return {
            **about, **self.state.to_json(), "lost": lost, "compared": self.compared, "different": list(self.different),
        }  # fmt: skip


def archive(config: ArchiveConfig, progress: Progress = Progress()) -> Archived:
    """Segment what is not done of an archive.

    Args:
        config: of the archive.
        progress: takes a line per step, and one every ten seconds.

    Raises:
        UsageError: it does not say what or where, or the place holds another archive or something else.
        EdgesegError: the model, a source, the place or the cluster cannot be used, or too many frames failed.
    """
    if config.output is None:
        raise UsageError("say where results go: `output` FOLDER or URL")
    every, own_share = _every(config.verify), _own_share(config.shard)
    place = place_at(config.output)
    with cluster_from(config.on, config.workers) as cluster:
        plan = _planned(config, place, progress)
        left_out = ", ".join(f"{count} {kind}" for kind, count in plan.left_out.items())
        progress.step(
            f"plan: {plan.pictures} pictures and {plan.videos} videos in {plan.tasks} tasks, model {plan.wish.model}"
            + (f"; left out: {left_out}" if left_out else "")
        )
        progress.step(f"on: {cluster.description}")
        job = Job(place.place, plan.digest, config.engine, config.threads)
        run = _Run(config, place, plan, progress)
        lost = run.segment(cluster, job, own_share)
        state = state_of(place, plan)
        checks = list(run.check(cluster, job, own_share, every, lost)) if every else []
    different = tuple(name for check in checks for name in check.different)
    compared = sum(check.frames for check in checks)
    return Archived(place.place, cluster.description, state, tuple(lost), compared, different)


def archive_state(output: str) -> State:
    """Return how far an archive is. Raises UsageError: there is none. SinkError: it cannot be read."""
    place = place_at(output)
    plan = read_plan(place)
    if plan is None:
        raise UsageError(f"{place.place} holds no archive: {PLAN} is missing")
    return state_of(place, plan)


class _Run:
    """One driver at work."""

    def __init__(self, config: ArchiveConfig, place: Place, plan: Plan, progress: Progress) -> None:
        self._config, self._place, self._plan, self._progress = config, place, plan, progress

    def segment(self, cluster: Cluster, job: Job, own_share: tuple[int, int]) -> list[tuple[int, str]]:
        """Work off what is not done; return what was lost. Raises EdgesegError."""
        state, done = state_of(self._place, self._plan), done_tasks(self._place)
        lost: dict[int, str] = {}
        if state.segmented or state.failed or state.skipped:
            self._progress.step(f"done before: {state.planned - state.pictures} frames")
        teller = _Teller(self._progress, state)
        self._refuse_failures(state)
        tasks = (task for task in self._tasks(own_share) if task.number not in done)
        for report in cluster.run(partial(work_on, job), tasks):
            self._count(report, state)
            if report.lost:
                lost[report.task] = report.lost
            teller.tell()
        return list(self._alone(cluster, job, lost, state))

    def _count(self, report: Report, state: State) -> None:
        for record in report.results:
            assert isinstance(record, ShardRecord)
            state.add(record)
            self._refuse_failures(state)

    def _alone(self, cluster: Cluster, job: Job, lost: Mapping[int, str], state: State) -> Iterator[tuple[int, str]]:
        """Find the files that kill processes, let them count as failed, and do the others; yield what is still lost.

        Raises:
            EdgesegError: processes die without any file.
        """
        if not lost:
            return
        trial = partial(work_on, replace(job, is_trial=True))
        for report in cluster.run(trial, [Task(0, 0, (), False)]):
            if report.lost:
                raise EdgesegError(f"processes die before they have a picture ({report.lost}); what is done stays")
        for task in (task for task in self._plan.all_tasks(self._place) if task.number in lost):
            why = lost[task.number]
            self._progress.step(f"task {task.number}: {why}; it is tried alone")
            if task.is_video:
                poisons: tuple[Poison, ...] = ((), ((0, why),))
            else:
                files = [Task(number, task.source, (file,), False) for number, file in enumerate(task.files)]
                poisons = (tuple((one.task, one.lost) for one in cluster.run(trial, files) if one.lost),)
            for poison in poisons:
                why = self._worked_off(cluster, replace(job, poison=poison), task, state)
                if not why:
                    break
            if why:
                yield task.number, why

    def _worked_off(self, cluster: Cluster, job: Job, task: Task, state: State) -> str:
        """Work one task off; return why it is lost."""
        why = ""
        for report in cluster.run(partial(work_on, job), [task]):
            self._count(report, state)
            why = report.lost
        return why

    def check(
        self, cluster: Cluster, job: Job, own_share: tuple[int, int], every: int, lost: list[tuple[int, str]]
    ) -> Iterator[Check]:
        """Segment one of ``every`` frames again; note what kills its process. Raises EdgesegError."""
        done = done_tasks(self._place)
        self._progress.step(f"comparing one of {every} frames")
        tasks = (task for task in self._tasks(own_share) if task.number in done)
        for report in cluster.run(partial(work_on, replace(job, every=every)), tasks):
            yield from report.results
            if report.lost:
                lost.append((report.task, report.lost))

    def _tasks(self, own_share: tuple[int, int]) -> Iterator[Task]:
        index, count = own_share
        return (task for task in self._plan.all_tasks(self._place) if task.number % count == index)

    def _refuse_failures(self, state: State) -> None:
        most = self._config.max_failures
        if most is not None and state.failed > most:
            name, source, why = state.failures[0]
            raise EdgesegError(
                f"{state.failed} frames failed, and `max_failures` allows {most}; what is done stays; the first frame "
                f"without a result is {name} of {source}: {why}"
            )


class _Teller:
    """Says every ten seconds how far it is."""

    def __init__(self, progress: Progress, state: State) -> None:
        self._progress, self._state = progress, state
        self._began = self._told = time.monotonic()
        self._frames, self._bytes = state.planned - state.pictures, state.bytes

    def tell(self) -> None:
        """Say it, if it is time."""
        now, state = time.monotonic(), self._state
        if now < self._told + _TELL_S:
            return
        self._told = now
        frames, read = state.planned - state.pictures, state.bytes - self._bytes
        line = f"{frames} frames, {(frames - self._frames) / (now - self._began):.1f} per second"
        if read:
            left_s = (state.plan.bytes - state.bytes) * (now - self._began) / read
            line += f", about {left_s / 60:.0f} min left of the whole archive at this rate"
        slow = state.stragglers()
        self._progress.step(line + (f"; slow: {', '.join(slow)}" if slow else ""))


def _planned(config: ArchiveConfig, place: Place, progress: Progress) -> Plan:
    """Return the plan that is there and fits, else a new one."""
    plan = read_plan(place)
    if plan is not None:
        _refuse_other(config, place, plan)
        return plan
    assert config.output is not None
    foreign = next((name for name in place.names() if not name.startswith(("tasks-", "model-", "."))), None)
    if foreign is not None and (plan := read_plan(place)) is not None:  # another process made it since
        _refuse_other(config, place, plan)
        return plan
    if foreign is not None:
        raise UsageError(f"{place.place} holds {foreign} and no archive; name a new or an empty folder with `output`")
    if not config.sources:
        raise UsageError("say what to segment: `sources` FILE, FOLDER, GLOB or URL")
    if config.on == "local" and config.format in WITH_TABLE:
        require("pyarrow", "parquet")
    origins = origins_of(config.sources)
    bundle, name = bundle_or_default(config.model, config.require_signature)
    from edgeseg.engines.tensorrt.build import PRECISIONS

    if config.graph not in (None, "int8", *bundle.graphs, *PRECISIONS):  # the last are what TensorRT makes of them
        raise EngineError(f"the bundle has no graph {config.graph!r}; it has {', '.join(bundle.graphs)}")
    model = chosen_path(config.model)
    digest = file_sha256(model)
    shard_frames = config.shard_frames or _SHARD_FRAMES
    wish = Wish(digest, without_reason(name), config.graph or "", config.format or _FORMAT, shard_frames)
    progress.step(f"listing {', '.join(origin.asked for origin in origins)}")
    plan = make_plan(place, origins, wish, model, progress.step)
    _refuse_other(config, place, plan)  # another process may have been first
    return plan


def _refuse_other(config: ArchiveConfig, place: Place, plan: Plan) -> None:
    """Refuse to go on with a plan that was made for something else. Raises UsageError, BundleError."""
    wish = plan.wish
    asked = [
        ("model", config.model and file_sha256(chosen_path(config.model)), wish.model_sha256),
        ("format", config.format, wish.format),
        ("shard_frames", config.shard_frames, wish.shard_frames),
        ("graph", config.graph, wish.graph),
        ("sources", ", ".join(absolute_sources(config.sources)) or None, ", ".join(plan.asked)),
    ]
    for name, wanted, planned in asked:
        if wanted is not None and wanted != planned:
            shown = wish.model if name == "model" else planned
            raise UsageError(
                f"{place.place} was planned with another `{name}` ({shown}) and goes on with that only; name another "
                "`output`"
            )
    model_of(place, plan, accepted_keys(config.require_signature))


def _every(share: str) -> int:
    """Return of how many frames one is compared; 0 for none. Raises UsageError."""
    if not share:
        return 0
    found = _SHARE.fullmatch(share.strip())
    percent = float(found[1]) if found else 0.0
    if not 0 < percent <= 100:
        raise UsageError(f"`verify` is a share above 0% and up to 100%, such as 0.1%, got {share!r}")
    return max(1, round(100 / percent))


def _own_share(shard: str) -> tuple[int, int]:
    """Return (i, n) of ``i/n``; all is (0, 1). Raises UsageError."""
    found = _SHARD.fullmatch(shard or "0/1")
    if found is None or int(found[1]) >= int(found[2]):
        raise UsageError(f"`shard` is i/n with i from 0 to n-1, such as 0/2 and 1/2, got {shard[:40]!r}")
    return int(found[1]), int(found[2])
