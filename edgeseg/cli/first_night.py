"""``edgeseg doctor --first-night``: all that one board can teach us, in one file that its owner can read and send.

What can crash runs in a process of its own; what fails is one line in ``failed``, and the rest goes on.
"""

import getpass
import json
import math
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from edgeseg import __version__
from edgeseg.app.shipped import SHIPPED
from edgeseg.device.anonymous import identity_of, without_identity
from edgeseg.device.probe import Probe
from edgeseg.device.record import write_record
from edgeseg.errors import EdgesegError, InputError
from edgeseg.files import scratch_folder

__all__ = ["FORMAT", "check_target", "gathered_night", "write_night"]

FORMAT = 1
_TEXT, _LINES, _WHOLE = 200_000, 4000, 8_000_000
"""Most characters of a text, lines of a list, bytes of the file."""
_MOST_RECORDED = 2000
_BUILD_S, _BENCH_S, _ASK_S = 2 * 3600, 3600, 60
_TEGRASTATS = 10
BENCH_TIMES = ("--seconds", "5", "--warmup", "2")

Say = Callable[[str], None]


class _Failed(Exception):
    """A part that cannot be had, on one line."""


def check_target(path: Path) -> None:
    """Raise InputError unless the file can be written there, before hours are spent on what goes into it."""
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} is there already; name a new file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{path.parent} is no folder that you can write to; name a file in one")
    if shutil.disk_usage(path.parent).free < _WHOLE:
        raise InputError(
            f"the disk of {path.parent} has less than {_WHOLE // 1_000_000} MB free; name a file elsewhere"
        )


def gathered_night(root: Path, probe: Probe, report: Callable[[Path], Dict[str, Any]], say: Say) -> Dict[str, Any]:
    """Gather everything, without what says whose machine it is, and bounded in size. Takes minutes to an hour.

    Args:
        root: ``/``.
        probe: what the machine's Python said.
        report: the doctor's report of a recorded tree: ``text`` and ``json``.
        say: takes a line of progress.
    """
    with scratch_folder() as folder:
        return _Night(root, probe, folder, say).gather(report)


def write_night(path: Path, night: Dict[str, Any]) -> int:
    """Write it whole or not at all, never over another file. Returns the bytes; raises InputError, OSError."""
    data = (json.dumps(night, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        try:
            os.link(name, path)
        except FileExistsError:
            raise InputError(f"{path} has appeared meanwhile and is left as it is; name a new file") from None
        except OSError:  # a stick without hard links
            check_target(path)
            os.replace(name, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)
    return len(data)


class _Night:
    """One night: what was gathered and what failed."""

    def __init__(self, root: Path, probe: Probe, folder: Path, say: Say) -> None:
        self.root, self.probe, self.folder, self.say = root, probe, folder, say
        self.identity = identity_of(root, probe, _names())
        self.found: Dict[str, Any] = {}
        self.failed: Dict[str, str] = {}
        self.seconds: Dict[str, float] = {}

    def gather(self, report: Callable[[Path], Dict[str, Any]]) -> Dict[str, Any]:
        parts: Sequence[Any] = (
            ("files", "the files that the doctor reads", self.files),
            ("doctor", "the doctor", lambda: report(self.folder / "record")),
            ("power_mode", "power mode", self.power_mode),
            ("tegrastats", f"{_TEGRASTATS} lines of tegrastats", self.tegrastats),
            ("build", "the INT8 engine of the shipped model: build, log, golden frames; minutes", self.build),
            ("inspector", "what the engine is made of", self.inspector),
            ("bench", "INT8 and FP16 on the GPU; builds FP16, minutes", lambda: self.bench("tensorrt")),
            ("bench_cpu", "the same model on the CPU", lambda: self.bench("onnxruntime")),
        )
        for number, (name, what, part) in enumerate(parts, 1):
            self.say(f"[{number}/{len(parts)}] {what}")
            began = time.monotonic()
            try:
                self.found[name] = part()
            except Exception as error:  # a broken machine raises anything, and is why somebody sends this
                known = isinstance(error, (_Failed, EdgesegError, OSError))
                self.failed[name] = _one_line(str(error) if known else f"{type(error).__name__}: {error}")
                self.say(f"      not to be had: {self.failed[name]}")
            self.seconds[name] = round(time.monotonic() - began, 1)
        return self.document()

    def document(self) -> Dict[str, Any]:
        """Cleaned and bounded; a part that makes it too large is left out, the largest first."""
        night: Dict[str, Any] = {"edgeseg-first-night": FORMAT, "edgeseg": __version__, **self.found}
        night.update(failed=self.failed, seconds=self.seconds)
        night = _bounded(without_identity(night, self.identity))
        sizes = {name: len(json.dumps(night[name])) for name in self.found}
        for name in sorted(sizes, key=lambda part: -sizes[part]):
            if sum(sizes.values()) < _WHOLE:
                break
            night["failed"][name] = f"left out: {sizes.pop(name)} characters are too many for one file"
            del night[name]
        return night

    def files(self) -> Dict[str, str]:
        """Recorded, then cleaned on the disk, so that the doctor judges the very files that are sent."""
        record = self.folder / "record"
        names = write_record(self.root, record, self.probe)[:_MOST_RECORDED]
        kept = {}
        for name in names:
            text = (record / name).read_text(encoding="utf-8", errors="replace")[:_TEXT]
            kept[name] = without_identity(text, self.identity)
            (record / name).write_text(kept[name], encoding="utf-8")
        return kept

    def power_mode(self) -> List[str]:
        return self.lines(_tool("nvpmodel", "-q"))

    def tegrastats(self) -> List[str]:
        lines = self.lines(_tool("tegrastats", "--interval", "1000"), most=_TEGRASTATS)
        if len(lines) < _TEGRASTATS:
            raise _Failed(f"tegrastats printed {len(lines)} lines in {_ASK_S} s: {' '.join(lines)}")
        return lines

    def build(self) -> Dict[str, Any]:
        """Build as 'edgeseg compile --int8' does, in a cache of its own: nothing here is touched or trusted."""
        (self.folder / "log").mkdir()
        words = ("compile", str(SHIPPED), "--int8", "--flavour", "tensorrt", "--build-log", str(self.folder / "log"))
        try:
            done = self.edgeseg(*words, "--json", timeout_s=_BUILD_S)
        except _Failed as failure:
            log = self.said("tensorrt.log")
            if not log:
                raise
            self.failed["build"] = _one_line(str(failure))
            self.say(f"      it failed: {self.failed['build']}")
            return {"tensorrt": log}
        return {"said": done["said"], "engine": done["json"], "tensorrt": self.said("tensorrt.log")}

    def said(self, name: str) -> List[str]:
        path = self.folder / "log" / name
        return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []

    def inspector(self) -> Any:
        """Also of an engine that was refused: that is the one to look at."""
        text = "\n".join(self.said("inspector.json"))
        if not text:
            raise _Failed("no engine was built")
        try:
            return json.loads(text)
        except ValueError:
            return text  # in a form that is not known yet, so that it is wanted all the more

    def bench(self, engine: str) -> Any:
        words = ("bench", str(SHIPPED), "--engine", engine, "--no-torch", *BENCH_TIMES, "--json")
        done = self.edgeseg(*words, timeout_s=_BENCH_S)
        return {"said": done["said"], **done["json"]}

    def edgeseg(self, *words: str, timeout_s: float) -> Dict[str, Any]:
        """Run a command of ours; its document, and what it said beside it. Raises _Failed with its last line."""
        paths = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
        environment = {**os.environ, "PYTHONPATH": paths, "XDG_CACHE_HOME": str(self.folder / "cache")}
        out, err = self.folder / "out", self.folder / "err"
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            command = [sys.executable, "-m", "edgeseg", *words]
            with _started(command, cwd=self.folder, env=environment, stdout=stdout, stderr=stderr) as process:
                code = self.passed_on(process, err, timeout_s)
        if code is None:
            raise _Failed(f"edgeseg {words[0]} was stopped after {timeout_s:.0f} s")
        said = err.read_text(encoding="utf-8", errors="replace").splitlines()
        if code:
            last = ([line for line in said if line.strip()] or [f"it ended with code {code}"])[-1]
            raise _Failed(last[len("edgeseg: ") :] if last.startswith("edgeseg: ") else last)
        return {"json": json.loads(out.read_text(encoding="utf-8")), "said": said}

    def passed_on(self, process: "subprocess.Popen[Any]", file: Path, timeout_s: float) -> Optional[int]:
        """Say what a process writes to a file until it ends. Returns how it ended; None when it takes too long."""
        give_up_at = time.monotonic() + timeout_s
        with open(file, encoding="utf-8", errors="replace") as lines:
            while True:
                code = process.poll()
                for line in lines:
                    self.say(f"      {line.rstrip()}")
                if code is not None or time.monotonic() > give_up_at:
                    return code
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)

    def lines(self, command: Sequence[str], most: int = 100) -> List[str]:
        """Return the first lines that a tool prints, for at most a minute."""
        found: List[str] = []
        with _started(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            timer = threading.Timer(_ASK_S, _end, (process, signal.SIGKILL))
            timer.start()
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    found += [line.strip()[:4000]] if line.strip() else []
                    if len(found) == most:
                        return found
                code = process.wait()
            finally:
                timer.cancel()
        if code:
            raise _Failed(f"{Path(command[0]).name} ended with code {code}: {' '.join(found)[:200] or 'no word'}")
        return found


@contextmanager
def _started(command: Sequence[str], **how: Any) -> "Iterator[subprocess.Popen[Any]]":
    """Start a process that is gone with all that it started when the block is left. Ctrl-C reaches only us."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **how)
    try:
        yield process
    finally:
        if process.poll() is None:
            _end(process, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                _end(process, signal.SIGKILL)
        _end(process, signal.SIGKILL)  # what it left behind
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _end(process: "subprocess.Popen[Any]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _tool(name: str, *words: str) -> List[str]:
    path: Optional[str] = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        raise _Failed(f"{name} is not here: this is no Jetson, or a container without it")
    return [path, *words]


def _names() -> List[str]:
    """Of this machine and of who uses it."""
    host = socket.gethostname()
    names = [host, host.split(".")[0], *(os.environ.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER"))]
    with suppress(KeyError, OSError):
        names.append(getpass.getuser())
    with suppress(KeyError):
        entry = pwd.getpwuid(os.getuid())
        names += [entry.pw_name, entry.pw_gecos.split(",")[0]]
    return [*names, Path(os.path.expanduser("~")).name]  # a home need not be called like its user, nor be in /home


def _bounded(value: Any) -> Any:
    """Cut long texts and lists in the middle, and say so there."""
    if isinstance(value, str) and len(value) > _TEXT:
        half = _TEXT // 2
        return f"{value[:half]}\n[{len(value) - 2 * half} characters left out]\n{value[-half:]}"
    if isinstance(value, float) and not math.isfinite(value):  # JSON has neither NaN nor infinity
        return None
    if isinstance(value, dict):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, list):
        half = _LINES // 2
        if len(value) > _LINES and all(isinstance(item, str) for item in value):
            value = [*value[:half], f"[{len(value) - 2 * half} lines left out]", *value[-half:]]
        return [_bounded(item) for item in value]
    return value


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
