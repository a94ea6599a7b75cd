"""A real Triton server with the shipped model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest

from edgeseg.app.export import export_triton
from edgeseg.app.export_config import ExportTritonConfig
from edgeseg.app.segment import open_engine
from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import Bundle
from tests import HANG_S
from tests.triton_server import server_command


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Triton:
    """A server of one repository in a process of its own."""

    def __init__(self, repository: Path, log: Path, port: int = 0) -> None:
        command = server_command()
        if command is None:
            pytest.skip("no Triton for this Python in .venvs/triton (make setup-dev fetches it on x86-64)")
        self.grpc, self.http = f"127.0.0.1:{port or free_port()}", f"127.0.0.1:{free_port()}"
        ports = ["--grpc-port", self.grpc.split(":")[1], "--http-port", self.http.split(":")[1]]
        libraries = ":".join(
            [str(Path(command[0]).parents[3] / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
        )
        # The backend starts the first python3 of PATH, which has to be the one that runs this suite.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        packages = os.pathsep.join(sys.path)
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            [*command, "--model-repository", str(repository), "--allow-metrics", "false", *ports],
            env={**os.environ, "LD_LIBRARY_PATH": libraries, "PATH": path, "PYTHONPATH": packages},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        deadline = time.monotonic() + HANG_S
        while not self._is_ready():
            assert self.process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(HANG_S)
        with suppress(ProcessLookupError):  # the backend's process outlives a server that was killed
            os.killpg(self.process.pid, signal.SIGKILL)
        self._log.close()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton")
    export_triton(ExportTritonConfig(SHIPPED, repository=folder / "models", name="street"))
    return folder / "models"


@pytest.fixture(scope="module")
def triton(repository: Path) -> Iterator[Triton]:
    server = Triton(repository, repository.parent / "log")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def expected(shipped: Bundle) -> np.ndarray:
    assert shipped.golden is not None
    with open_engine(shipped) as engine:
        return np.concatenate([engine.infer(frame[None]).copy() for frame in shipped.golden.frames])
