"""A GStreamer process of ours: started, spoken to, and ended, in the worst case by SIGKILL."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Mapping, Sequence

from edgeseg.device.gstreamer import BINDINGS, candidate_pythons, gstreamer_install
from edgeseg.errors import MissingDependencyError

__all__ = ["GstProcess", "gstreamer_python"]

_FIRST_BYTES, _LAST_BYTES, _MOST_READS = 1 << 14, 1 << 16, 16
_ASK_S = 0.2


def gstreamer_python() -> str | None:
    """Find the first Python with GStreamer's bindings: this one, or the system's. None where neither has them."""
    try:
        return _gstreamer_python()
    except LookupError:
        return None


@lru_cache(maxsize=1)
def _gstreamer_python() -> str:
    """Raises LookupError, so that a failure, which may be a busy machine's, is not remembered."""
    for python in candidate_pythons():
        with suppress(OSError, subprocess.TimeoutExpired):
            if subprocess.run([python, "-I", "-c", BINDINGS], capture_output=True, timeout=20).returncode == 0:
                return python
    raise LookupError


class GstProcess:
    """One of the scripts beside this file, run in a process of its own.

    Args:
        script: file name of the script.
        config: its first message; the only way for secrets, since command lines are public.
        handles: descriptors that it inherits besides its end of the socket, in the order of its arguments.

    Raises:
        MissingDependencyError: no Python here has GStreamer's bindings.
    """

    def __init__(self, script: str, config: Mapping[str, Any], handles: Sequence[int] = ()) -> None:
        python = gstreamer_python()
        if python is None:
            raise MissingDependencyError(
                f"GStreamer's Python bindings are not there (no gi in {' nor in '.join(candidate_pythons())}); "
                f"sudo apt {gstreamer_install()}; 'edgeseg doctor' says more"
            )
        self._first = self._last = b""
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors, errors = os.pipe()
        os.set_blocking(errors, False)  # what a chatty driver prints beyond the pipe's size is lost, not waited for
        os.set_blocking(self._errors, False)
        try:
            self._process = subprocess.Popen(
                [python, "-I", str(Path(__file__).with_name(script)), *map(str, (theirs.fileno(), *handles))],
                pass_fds=(theirs.fileno(), *handles),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        except OSError:
            os.close(self._errors)
            self.link.close()
            raise
        finally:
            theirs.close()
            os.close(errors)
        self.pid = self._process.pid
        self.send(config)

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send a message; whether somebody is there to take it."""
        try:
            self.link.send(json.dumps(message).encode())
            return True
        except OSError:
            return False

    def receive(self, timeout_s: float) -> tuple[dict[str, Any], list[int]] | None:
        """Receive a message and the descriptors that came with it; None when none came in time.

        Raises:
            EOFError: the process is gone.
        """
        readable = _readable([self.link.fileno(), self._errors], timeout_s)
        if self._errors in readable:
            self._listen()
        if self.link.fileno() not in readable:
            return None
        try:
            data, rights, _, _ = self.link.recvmsg(1 << 16, socket.CMSG_SPACE(4))
        except ConnectionResetError:  # it died without reading all of ours; what it said before comes after this
            data, rights, _, _ = self.link.recvmsg(1 << 16, socket.CMSG_SPACE(4))
        handles = [
            handle
            for level, kind, value in rights
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            for handle in struct.unpack(f"{len(value) // 4}i", value)
        ]
        if not data:
            raise EOFError
        message: dict[str, Any] = json.loads(data)
        return message, handles

    def printed(self) -> str:
        """Return the end of what it wrote to standard output and error, up to 64 KiB; after ``end`` all of its end."""
        self._listen()
        return self._last.decode(errors="replace")

    def printed_first(self) -> str:
        """Return the beginning of what it wrote, up to 16 KiB: why something does not open stands there."""
        self._listen()
        return self._first.decode(errors="replace")

    def _listen(self) -> bool:
        """Take what it printed; whether that was the end of it."""
        for _ in range(_MOST_READS if self._errors >= 0 else 0):  # one that prints without end must not hold us here
            try:
                data = os.read(self._errors, 1 << 16)
            except OSError:  # nothing there
                return False
            if not data:
                return True
            self._first += data[: _FIRST_BYTES - len(self._first)]
            self._last = (self._last + data)[-_LAST_BYTES:]
        return False

    def end(self, grace_s: float = 1.5) -> int:
        """Ask it to stop, wait, kill it if it does not. Returns its exit status; may be called twice."""
        if self.link.fileno() >= 0 and grace_s > 0:
            self.send({"stop": True})
            self.link.shutdown(socket.SHUT_WR) if self._process.poll() is None else None
        status = self._awaited(grace_s)
        if status is None:
            self._process.kill()
            status = self._process.wait()
        self._listen()
        self.link.close()
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1
        return status

    def kill(self) -> None:
        """End it at once, from any thread; ``end`` follows where there is somebody to call it."""
        self._process.kill()

    def _awaited(self, grace_s: float) -> int | None:
        """Its exit status, or None when it still runs; what it prints meanwhile is heard, else a full pipe loses it."""
        give_up_at = time.monotonic() + grace_s
        while True:
            status = self._process.poll()
            left_s = give_up_at - time.monotonic()
            if status is not None or left_s <= 0:
                return status
            # Its end is the end of what it prints. Asking again and again, as Popen.wait does, costs the loop its time
            # where there are hundreds of sources.
            _readable([self._errors] if self._errors >= 0 else [], min(left_s, _ASK_S))
            if self._listen():
                with suppress(subprocess.TimeoutExpired):
                    return self._process.wait(timeout=left_s)
                return None


def _readable(descriptors: Sequence[int], timeout_s: float) -> list[int]:
    """Those that can be read, after up to so many seconds; select() takes none above 1023."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(max(0, round(1000 * timeout_s)))]
