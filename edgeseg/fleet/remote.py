"""Commands on another machine, through the ssh program of this one: names, keys and agents are its business."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Iterator, Sequence

from edgeseg.errors import DeployError, first_line

__all__ = ["Remote", "Unreachable", "said_in"]

_SCRIPT = Path(__file__).with_name("board.sh")
_CONNECTION_FAILED = 255
_OPTIONS = {
    "BatchMode": "yes",  # never ask: there may be nobody, and many boards would ask at once
    "ConnectTimeout": "10",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "3",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "LogLevel": "ERROR",  # no banners among the messages
}


class Unreachable(DeployError):
    """No command could be run there: ssh came to no session, or lost it."""


class Remote:
    """One machine.

    Args:
        address: as ssh takes it, ``user@host`` or ``ssh://user@host:port``.
        ssh_config: a file in place of ssh's own configuration.
        timeout_s: for one command.
    """

    def __init__(self, address: str, ssh_config: Path | None = None, timeout_s: float = 3600.0) -> None:
        self.address, self.timeout_s = address, timeout_s
        options = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
        configured = [] if ssh_config is None else ["-F", str(ssh_config)]
        self._ssh = ["ssh", "-T", *configured, *options, "--", address]
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def step(self, name: str, *arguments: str, send: Path | None = None, codes: Sequence[int] = (0,)) -> str:
        """Run a step of ``board.sh`` there, and return what it printed.

        Args:
            name: of the step.
            arguments: of the step; none of them is read by a shell.
            send: a file for its standard input.
            codes: exit statuses that are none of a failure.

        Raises:
            Unreachable, DeployError: as ``run``.
        """
        return self.run(["sh", "-c", _SCRIPT.read_text(), "edgeseg-deploy", name, *arguments], send=send, codes=codes)

    def run(self, words: Sequence[str], *, send: Path | None = None, codes: Sequence[int] = (0,)) -> str:
        """Run a program there, and return what it printed.

        Args:
            words: the program and its arguments; no shell reads them.
            send: a file for its standard input; else that stays open, so that a step sees when nobody waits for it.
            codes: exit statuses that are none of a failure.

        Raises:
            Unreachable: ssh came to no session, or lost it.
            DeployError: the program failed, and the message is its last line; or it took too long.
        """
        with self._input(send) as stream:
            process = self._started(shlex.join(words), stream)
            try:
                out, err = process.communicate(timeout=self.timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise DeployError(f"no end after {self.timeout_s:g} s") from None
        said = err.decode("utf-8", "replace")
        if process.returncode == _CONNECTION_FAILED:
            raise Unreachable(_why_not_reached(said))
        if process.returncode < 0:
            raise DeployError("interrupted" if self._stopped else "ssh was killed")
        if process.returncode not in codes:
            raise DeployError(said_in(said) or f"exit status {process.returncode}")
        return out.decode("utf-8", "replace")

    def stop(self) -> None:
        """End the command that runs, and let no other begin."""
        with self._lock:
            self._stopped = True
            if self._running is not None:
                self._running.kill()

    def _started(self, line: str, stream: int | IO[bytes]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise DeployError("interrupted")
            try:
                self._running = subprocess.Popen(
                    [*self._ssh, line], stdin=stream, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
            except OSError as error:
                raise DeployError(
                    f"ssh cannot be started here ({first_line(error)}); apt install openssh-client"
                ) from error
            return self._running

    @contextmanager
    def _input(self, send: Path | None) -> Iterator[int | IO[bytes]]:
        if send is None:
            ours, theirs = os.pipe()
            try:
                yield ours
            finally:
                os.close(ours)
                os.close(theirs)
            return
        with send.open("rb") as file:
            yield file


def said_in(text: str) -> str:
    """Return the last line of what a program said, without the name that edgeseg puts in front of it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[-1] if lines else ""
    return line[len("edgeseg: ") :] if line.startswith("edgeseg: ") else line


def _why_not_reached(text: str) -> str:
    """Return ssh's own line, and what to do where it is about keys."""
    said = said_in(text) or "ssh failed without a word"
    if "IDENTIFICATION HAS CHANGED" in text:
        return f"{said} Its host key has changed: if you know why, ssh-keygen -R HOST forgets the old one"
    if "Host key verification failed" in said:
        return f"{said} Connect once with ssh and look at its key"
    if "Permission denied" in said:
        return f"{said} Nothing is asked here: use a key that ssh takes without a question, ssh-copy-id brings it there"
    return said
