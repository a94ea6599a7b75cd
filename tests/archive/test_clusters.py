"""Every cluster gives the bytes that this machine gives, whoever is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator

import pytest

from edgeseg.app.archive import archive, archive_state
from edgeseg.archive.clusters.base import Report
from edgeseg.archive.clusters.local import LocalProcesses
from edgeseg.archive.places import Stored
from edgeseg.archive.plan import Task
from edgeseg.errors import EdgesegError, SinkError
from tests import HANG_S
from tests.archive.conftest import FRAMES, PICTURES, asked, require_same

TASKS = [Task(number, 0, ((Stored(f"{number}.png", 1, 1), False),), False) for number in range(5)]


# Processes of this machine, with work that needs no model


def squared(task: Task) -> Iterator[int]:
    yield task.number
    yield task.number**2


def deadly(task: Task) -> Iterator[int]:
    yield task.number
    if task.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)


def dies_once(task: Task) -> Iterator[int]:
    mark = Path(os.environ["ARCHIVE_TEST_MARK"])
    if task.number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    yield task.number


def fails(task: Task) -> Iterator[int]:
    if task.number == 3:
        raise SinkError("the disk is full")
    yield task.number


def mistaken(task: Task) -> Iterator[int]:
    yield 1 // (task.number - 1)


def results(reports: list[Report]) -> list[int]:
    return sorted(one for report in reports for one in report.results)


def test_processes_work_tasks_off_part_by_part() -> None:
    reports = list(LocalProcesses(2).run(squared, TASKS))
    assert results(reports) == sorted([0, 1, 2, 3, 4, 0, 1, 4, 9, 16])
    assert sorted(report.task for report in reports if report.finished) == [0, 1, 2, 3, 4]
    assert list(LocalProcesses(2).run(squared, [])) == []


def test_a_task_that_kills_every_process_is_left_out_and_the_rest_is_done() -> None:
    reports = list(LocalProcesses(2).run(deadly, TASKS))
    (lost,) = [report for report in reports if report.lost]
    assert lost.task == 2 and lost.lost == "3 processes died of it (signal 9)"
    assert sorted(report.task for report in reports if report.finished and not report.lost) == [0, 1, 3, 4]


def test_a_task_whose_process_dies_goes_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_TEST_MARK", str(tmp_path / "mark"))
    reports = list(LocalProcesses(1).run(dies_once, TASKS))
    assert results(reports) == [0, 1, 2, 3, 4] and not any(report.lost for report in reports)


@pytest.mark.parametrize(("work", "said"), [(fails, "the disk is full"), (mistaken, "task 1: ZeroDivisionError")])
def test_work_that_fails_ends_all(work: Any, said: str) -> None:
    with pytest.raises(EdgesegError, match=said):
        list(LocalProcesses(2).run(work, TASKS))


# Dask


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(*words: object, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is ended at the end."""
    started = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def dask(program: str, *words: object) -> tuple[object, ...]:
    return (sys.executable, "-m", "distributed.cli.dask_" + program, *words)


WORKER = ("--nthreads", 1, "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")


def test_a_dask_scheduler_with_two_workers_of_which_one_is_killed(
    stored: Path, reference: Path, form: str, tmp_path: Path
) -> None:
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'edgeseg[dask]'")
    port = free_port()
    address = f"127.0.0.1:{port}"
    output = tmp_path / "out"
    with ExitStack() as running:
        running.enter_context(process(*dask("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")))
        first = running.enter_context(process(*dask("worker", f"tcp://{address}", *WORKER)))
        running.enter_context(process(*dask("worker", f"tcp://{address}", *WORKER)))

        def kill() -> None:
            while not list(output.rglob("*.png")):
                time.sleep(0.01)
            first.kill()

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        state = archive(asked(stored, output, form, on=f"dask://{address}")).state
    killer.join(HANG_S)
    assert state.is_done and (state.segmented, state.failed) == (PICTURES + FRAMES, 2)
    require_same(output, reference)


def test_a_dask_scheduler_that_is_killed_ends_it_and_another_cluster_goes_on(
    stored: Path, reference: Path, form: str, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed: pip install 'edgeseg[dask]'")
    port = free_port()
    output = tmp_path / "out"
    with ExitStack() as running:
        words = dask("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
        scheduler = running.enter_context(process(*words))
        running.enter_context(process(*dask("worker", f"tcp://127.0.0.1:{port}", *WORKER)))

        def kill() -> None:
            while not (output / "done").is_dir() or len(list((output / "done").iterdir())) < 2:
                time.sleep(0.01)
            scheduler.kill()

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        with pytest.raises(EdgesegError, match="the Dask scheduler is gone"):
            archive(asked(stored, output, form, on=f"dask://127.0.0.1:{port}"))
    killer.join(HANG_S)
    assert not archive_state(str(output)).is_done
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address.partition("://")[2]
        assert archive(asked(stored, output, form, on=f"dask://{address}")).state.is_done
    require_same(output, reference)


def test_a_task_that_kills_every_dask_worker_is_left_out() -> None:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed: pip install 'edgeseg[dask]'")
    from edgeseg.archive.clusters.dask import DaskCluster

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with DaskCluster(cluster.scheduler_address) as dask_cluster:
            reports = list(dask_cluster.run(deadly, TASKS))
        with DaskCluster(cluster.scheduler_address) as dask_cluster, pytest.raises(SinkError, match="disk is full"):
            list(dask_cluster.run(fails, TASKS))
    (lost,) = [report for report in reports if report.lost]
    assert lost.task == 2 and lost.lost == "every Dask worker that tried it died"
    assert sorted(report.task for report in reports if not report.lost) == [0, 1, 3, 4]


def test_a_dask_cluster_whose_workers_are_gone_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody starts workers again, and a task kills each."""
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'edgeseg[dask]'")
    import edgeseg.archive.clusters.dask as module

    monkeypatch.setattr(module, "_WORKERLESS_S", 1.0)
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as running:
        running.enter_context(process(*dask("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")))
        running.enter_context(process(*dask("worker", address, *WORKER)))
        cluster = running.enter_context(module.DaskCluster(address))
        with pytest.raises(EdgesegError, match="has had no worker for 1 s; what is done stays"):
            list(cluster.run(deadly, TASKS))


def test_the_last_dask_worker_that_dies_with_its_result_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gone when its task has ended and before its result was fetched."""
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'edgeseg[dask]'")
    import edgeseg.archive.clusters.dask as module

    monkeypatch.setattr(module, "_WORKERLESS_S", 1.0)
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as running:
        running.enter_context(process(*dask("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")))
        worker = running.enter_context(process(*dask("worker", address, *WORKER)))
        cluster = running.enter_context(module.DaskCluster(address))
        monkeypatch.setattr(module, "_ANSWER_S", 5.0)
        report = module.DaskCluster._report

        def late(self: Any, number: int, future: Any) -> Any:
            if worker.poll() is None:
                assert future.status == "finished"
                worker.kill()
                worker.wait()
            return report(self, number, future)

        monkeypatch.setattr(module.DaskCluster, "_report", late)
        with pytest.raises(EdgesegError, match="has had no worker for 1 s; what is done stays"):
            list(cluster.run(squared, TASKS))


def test_no_dask_scheduler_is_one_line(stored: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'edgeseg[dask]'")
    with pytest.raises(EdgesegError, match="no Dask scheduler answers"):
        archive(asked(stored, tmp_path / "out", "png", on=f"dask://127.0.0.1:{free_port()}"))


# Ray


@pytest.mark.parametrize(
    ("kind", "is_lost"),
    [("WorkerCrashedError", True), ("OutOfMemoryError", True), ("NodeDiedError", True), ("RaySystemError", False)],
)
def test_what_ray_says_of_a_task_that_kills_ends_no_other(kind: str, is_lost: bool) -> None:
    """As docs.ray.io names its errors, all of RayError."""
    from edgeseg.archive.clusters.ray import RayCluster

    base = type("RayError", (Exception,), {})
    names = ("WorkerCrashedError", "OutOfMemoryError", "NodeDiedError", "RayTaskError", "RaySystemError")
    errors = SimpleNamespace(RayError=base, **{name: type(name, (base,), {}) for name in names})

    def get(reference: object) -> None:
        raise getattr(errors, kind)("why")

    cluster = object.__new__(RayCluster)
    cluster._ray = SimpleNamespace(exceptions=errors, get=get)
    if is_lost:
        assert cluster._report(7, None) == Report(7, lost="every Ray worker that tried it died")
        return
    with pytest.raises(EdgesegError, match=r"^Ray is gone \(why\); what is done stays: run it again$"):
        cluster._report(7, None)


def ray_workers() -> list[int]:
    """Processes of Ray that work on a task now."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (path / "cmdline").read_bytes().startswith(b"ray::_collected"):
                found.append(int(path.name))
    return found


def test_a_ray_cluster_of_two_nodes_of_which_a_worker_is_killed(
    stored: Path, reference: Path, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'edgeseg[ray]'")
    from ray.cluster_utils import Cluster

    output, killed = tmp_path / "out", []

    def kill() -> None:
        while not (list(output.rglob("*.png")) and ray_workers()):
            time.sleep(0.01)
        killed.append(ray_workers()[0])
        os.kill(killed[0], signal.SIGKILL)

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        done = archive(asked(stored, output, form, on="ray"))
    finally:
        cluster.shutdown()
    assert killed and done.on == "Ray with 2 CPUs" and done.state.is_done
    assert len(done.state.workers) >= 2
    require_same(output, reference)
