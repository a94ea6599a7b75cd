"""``edgeseg service``: a run that starts with the board, under systemd."""

import os
import re
import shutil
import subprocess
import sys
import time
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import typer
from typing_extensions import Annotated

from edgeseg.app.config import RunConfig
from edgeseg.app.config_file import text_of_config
from edgeseg.app.fields import absolute, config_with, fields_of, has_secrets
from edgeseg.app.models import bundle_or_default, chosen_path, keys_file
from edgeseg.cli.console import Commands, JsonFlag, name_options_of, print_json, say
from edgeseg.cli.options import given_in, values_in
from edgeseg.errors import EdgesegError, InputError, UsageError, first_line
from edgeseg.files import atomic_write
from edgeseg.runtime.sinks.uri import sink_kind

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Run as a systemd service: install, status, remove.")

MARKER = "# Written by 'edgeseg service install'; 'edgeseg service remove' removes it."
_GROUPS = ("video", "render")
_SEALED = (
    *("RestrictSUIDSGID=yes", "LockPersonality=yes", "CapabilityBoundingSet=", "RestrictNamespaces=yes"),
    *("RestrictRealtime=yes", "ProtectKernelLogs=yes", "ProtectHostname=yes", "ProtectProc=invisible"),
    *("PrivateMounts=yes", "RemoveIPC=yes", "SystemCallArchitectures=native"),
    "# What services usually need, without what needs rights; AF_NETLINK is udev's, which finds cameras.",
    *("SystemCallFilter=@system-service", "SystemCallFilter=~@privileged", "SystemCallErrorNumber=EPERM"),
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_SHOWN = "LoadState,ActiveState,SubState,Result,NRestarts,ExecMainStatus,StatusText,StateChangeTimestampMonotonic"

NameOption = Annotated[str, typer.Option(help="Name of the service.")]
RootOption = Annotated[
    Path, typer.Option(help="Root folder of the system to install into; systemctl is used for / only.")
]


@dataclass(frozen=True)
class File:
    """A file to write."""

    path: Path
    text: str
    mode: int

    @property
    def secret(self) -> bool:
        """Return whether it is for one reader only."""
        return self.mode == 0o400


@dataclass(frozen=True)
class Unit:
    """What a unit says.

    Attributes:
        name: of the service.
        user: it runs as.
        groups: of the user besides, those that exist.
        command: program and arguments, no secret among them.
        argus_restart: whether it may use sudo.
    """

    name: str
    user: str
    groups: Tuple[str, ...]
    command: Tuple[str, ...]
    argus_restart: bool = False

    def text(self) -> str:
        """Return the unit file."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> List[str]:
        # Everything here that filters system calls implies NoNewPrivileges for a plain user, and sudo needs those.
        sealed = [] if self.argus_restart else ["NoNewPrivileges=yes", "ProtectKernelModules=yes"]
        sealed += [] if self.argus_restart else list(_SEALED)
        return [
            MARKER,
            "[Unit]",
            "Description=edgeseg: camera to masks",
            "# CSI cameras go through nvargus-daemon; a board with USB cameras only may lack it.",
            "Wants=nvargus-daemon.service network-online.target",
            "After=nvargus-daemon.service network-online.target",
            "",
            "[Service]",
            "Type=notify",
            "NotifyAccess=main",
            "# The first start may build a TensorRT engine.",
            "TimeoutStartSec=30min",
            "# Fed by the loop of the run: one that is stuck is started again.",
            "WatchdogSec=15",
            f"User={self.user}",
            *([f"SupplementaryGroups={' '.join(self.groups)}"] if self.groups else []),
            "Environment=PYTHONUNBUFFERED=1",
            f"# Engines and other caches in /var/cache/{self.name}, recordings and results in /var/lib/{self.name}.",
            f"Environment=XDG_CACHE_HOME=/var/cache/{self.name}",
            f"CacheDirectory={self.name}",
            f"StateDirectory={self.name}",
            f"WorkingDirectory=/var/lib/{self.name}",
            f"ExecStart={' '.join(quoted(word) for word in self.command)}",
            "Restart=always",
            "RestartSec=3",
            "# A command line that is wrong stays wrong.",
            "RestartPreventExitStatus=2",
            "# SIGTERM closes the files and the camera first; a camera left open wedges nvargus-daemon.",
            "TimeoutStopSec=15",
            "# The camera socket is /tmp/argus_socket: a private /tmp hides it.",
            "PrivateTmp=no",
            "# Not here, for they would cut off the GPU or the cameras: PrivateDevices, DevicePolicy, ProtectClock (it",
            "# implies a device policy), MemoryDenyWriteExecute (CUDA compiles), ProtectKernelTunables (/sys),",
            "# PrivateNetwork (udev, RTSP).",
            "ProtectSystem=full",
            "ProtectHome=read-only",
            "ProtectControlGroups=yes",
            *sealed,
            "",
            "[Install]",
            "WantedBy=multi-user.target",
        ]


@app.command("install")
def install(
    args: Annotated[List[str], typer.Argument(help="What follows 'edgeseg run', after --.", metavar="-- ARGS")],
    name: NameOption = "edgeseg",
    user: Annotated[str, typer.Option(help="The service runs as this user.")] = "edgeseg",
    root: RootOption = Path("/"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written.")] = False,
    no_start: Annotated[bool, typer.Option("--no-start", help="Write the files only.")] = False,
    argus_restart: Annotated[
        bool, typer.Option("--argus-restart", help="Let the user restart nvargus-daemon through sudo, nothing else.")
    ] = False,
) -> None:
    """Write a unit that runs 'edgeseg run ARGS', and start it.

    Example: sudo /opt/edgeseg/bin/edgeseg service install -- /var/lib/edgeseg/mine.edgeseg --camera 0 --sink null://
    """
    for what, value in (("--name", name), ("--user", user)):
        if not _NAME.fullmatch(value):
            raise UsageError(
                f"{what} takes letters, digits, dot, dash and underscore, no dot or dash first; got {value!r}"
            )
    config = service_config([*args, "--argus-restart"] if argus_restart else args)
    groups = tuple(group for group in _GROUPS if group in _ids(root / "etc/group"))
    unit = Unit(name, user, groups, (*_program(), "run", f"/etc/edgeseg/{name}.toml"), argus_restart)
    files = _files(unit, config, root)
    if user in ("root", "0"):
        say("note: the service runs as root, who may read and change everything; a user of its own is safer")
    for missing in sorted(set(_GROUPS) - set(groups)):
        say(f"note: no group {missing} on this machine; the unit does without it")
    if dry_run:
        _show(files)
        return
    if user not in _ids(root / "etc/passwd"):
        raise InputError(
            f"there is no user {user}; make one with 'sudo useradd --system --shell /usr/sbin/nologin {user}', or pass "
            "--user"
        )
    starts = root == Path("/") and not no_start
    if starts:
        _require_systemd()
        require_signed(config)
    for file in files:
        _write(file)
        say(f"wrote {file.path} (mode {file.mode:o})")
        if file.secret:
            _give_to(user, file.path, root)
    _unlink_ours(_old_secrets_path(root, name))
    if not argus_restart:
        _unlink_ours(_sudoers_path(root, name))
    say(unit.text())
    if starts:
        _systemctl("daemon-reload")
        _systemctl("enable", f"{name}.service")
        _systemctl("restart", "--no-block", f"{name}.service")
        say(f"{name} starts now and with the board; see it with 'edgeseg service status --name {name}'")


@app.command("status")
def status(name: NameOption = "edgeseg", as_json: JsonFlag = False) -> None:
    """Say how the service is: state, for how long, restarts, its latest error. Exit 1 unless it runs.

    Example: edgeseg service status
    """
    _require_systemd(root_needed=False)
    shown = _systemctl("show", f"{name}.service", f"--property={_SHOWN}")
    values = dict(line.partition("=")[::2] for line in shown.splitlines())
    found = status_from(values, time.clock_gettime(time.CLOCK_MONOTONIC))
    found["last_error"] = _last_error(name)
    if as_json:
        print_json({"name": name, **found})
    else:
        since = f" for {_duration(found['seconds'])}" if found["seconds"] is not None else ""
        say(f"{name}: {found['state']}{since}, {found['restarts']} restarts")
        if found["status"]:
            say(f"  {found['status']}")
        if found["last_error"]:
            say(f"  last error: {found['last_error']}")
    if found["state"] != "running":
        raise SystemExit(1)


@app.command("remove")
def remove(name: NameOption = "edgeseg", root: RootOption = Path("/")) -> None:
    """Stop the service and remove what install wrote; results and caches stay.

    Example: sudo /opt/edgeseg/bin/edgeseg service remove
    """
    path = _unit_path(root, name)
    if not path.is_file():
        raise InputError(f"{path} is not there, so no service {name!r} is installed")
    if not _is_ours(path):
        raise InputError(f"{path} was not written by 'edgeseg service install'; remove it by hand if you mean it")
    if root == Path("/"):
        _require_systemd()
        _systemctl("disable", "--now", f"{name}.service")
    for written in (path, _config_path(root, name), _old_secrets_path(root, name), _sudoers_path(root, name)):
        if _unlink_ours(written):
            say(f"removed {written}")
    if root == Path("/"):
        _systemctl("daemon-reload")
    say(f"left as they are: /var/lib/{name} (results), /var/cache/{name} (engines), the user of the service")


@app.command("exec", hidden=True, context_settings={"ignore_unknown_options": True, "help_option_names": []})
def execute(context: typer.Context, words: Annotated[List[str], typer.Argument()]) -> None:
    """Start what a unit of edgeseg 0.2 names: secrets stand in its words as ``@EDGESEG_SECRET_N@``."""
    context.find_root().command.main([_with_secret(word) for word in words])


def service_config(args: Sequence[str]) -> RunConfig:
    """Return the configuration of a run as a service needs it.

    Args:
        args: what follows ``edgeseg run``; a configuration may stand where the model does.

    Returns:
        The configuration with absolute paths, the model that would be taken now, and a sink.

    Raises:
        UsageError: they are no arguments of ``edgeseg run``, or need a desktop. InputError: a file cannot be read.
    """
    config = _parsed(args)
    for uri in config.sinks:
        if sink_kind(uri).not_in_service:
            raise UsageError(sink_kind(uri).not_in_service)
    keys_file(config.require_signature)
    return replace(config, model=chosen_path(config.model), sinks=config.sinks or ("null://",))


def require_signed(config: RunConfig) -> None:
    """Refuse here what would be refused at every start. Raises EdgesegError."""
    if config.require_signature is not None:
        bundle_or_default(config.model, config.require_signature)


def quoted(word: str) -> str:
    """Return a word of ``ExecStart=`` as systemd reads it. Raises UsageError for control characters and line ends."""
    if any(_commands(letter) for letter in word):
        raise UsageError(f"a unit cannot hold control characters, got {word!r}")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w@%+=:,./?&$-]+", escaped) else f'"{escaped}"'


def _commands(letter: str) -> bool:
    """Whether a letter is none to read, in whatever program shows the unit."""
    return unicodedata.category(letter) in ("Cc", "Zl", "Zp")


def sudoers_text(user: str) -> str:
    """Return the one thing that the user may do as root."""
    systemctl = shutil.which("systemctl") or "/usr/bin/systemctl"
    return f"{MARKER}\n{user} ALL=(root) NOPASSWD: {systemctl} restart nvargus-daemon\n"


def status_from(values: Dict[str, str], now_s: float) -> Dict[str, Any]:
    """Say in our words what ``systemctl show`` says.

    Args:
        values: property -> value.
        now_s: seconds of CLOCK_MONOTONIC, for how long it has been so.

    Returns:
        ``state`` (``running``, ``starting``, ``stopping``, ``waiting to restart``, ``failed``, ``stopped``,
        ``not installed``), ``seconds``, ``restarts``, ``result``, ``status`` as the run tells it.
    """
    active, sub = values.get("ActiveState", ""), values.get("SubState", "")
    words = {"active": "running", "activating": "starting", "deactivating": "stopping", "failed": "failed"}
    state = words.get(active, "stopped")
    if values.get("LoadState") == "not-found":
        state = "not installed"
    elif sub == "auto-restart":
        state = "waiting to restart"
    since = int(values.get("StateChangeTimestampMonotonic") or 0)
    return {
        "state": state,
        "seconds": round(now_s - since / 1e6, 1) if since else None,
        "restarts": int(values.get("NRestarts") or 0),
        "result": values.get("Result", ""),
        "exit_status": int(values.get("ExecMainStatus") or 0),
        "status": values.get("StatusText", ""),
    }


def _files(unit: Unit, config: RunConfig, root: Path) -> List[File]:
    """Return what is written for a service: its configuration, its unit, and what it may do through sudo."""
    text, mode = f"{MARKER}\n{text_of_config(config, '.toml')}", 0o400 if has_secrets(config) else 0o644
    files = [File(_config_path(root, unit.name), text, mode), File(_unit_path(root, unit.name), unit.text(), 0o644)]
    if unit.argus_restart:
        files.append(File(_sudoers_path(root, unit.name), sudoers_text(unit.user), 0o440))
    return files


def _show(files: Sequence[File]) -> None:
    for file in files:
        say(f"would write {file.path} (mode {file.mode:o})" + (", its content is secret" if file.secret else ":"))
        if not file.secret:
            say(file.text)


def _parsed(args: Sequence[str]) -> RunConfig:
    """Return what ``edgeseg run`` would be given, with absolute paths. Raises UsageError."""
    from edgeseg.cli.run import FILE_IN, run

    alone = typer.Typer(add_completion=False)
    alone.command("run")(run)
    command = typer.main.get_command(alone)
    name_options_of(command)  # what is wrong from here on is wrong with these
    try:
        context = command.make_context("edgeseg run", list(args))
    except EdgesegError:
        raise
    except Exception as error:  # click's own types, which newer typers carry themselves
        say_so = getattr(error, "format_message", None)
        what = say_so() if say_so else "they ask for help"
        raise UsageError(f"these are no arguments of 'edgeseg run': {what}") from error
    idle = set(given_in(context)) - {field.name for field in fields_of(RunConfig)}
    if idle:
        named = ", ".join(str(one.opts[0]) for one in context.command.params if one.name in idle)
        raise UsageError(f"a configuration cannot hold {named}, which is of a single run; leave it out")
    values = values_in(RunConfig, context, FILE_IN)
    return absolute(config_with(RunConfig, values), values)


def _with_secret(word: str) -> str:
    def value(found: "re.Match[str]") -> str:
        try:
            return os.environ[found.group(1)]
        except KeyError:
            raise UsageError(f"{found.group(1)} is not set; 'edgeseg service install' writes it again") from None

    return re.sub(r"@(EDGESEG_SECRET_\d+)@", value, word)


def _program() -> Tuple[str, ...]:
    script = Path(sys.executable).parent / "edgeseg"
    return (str(script),) if script.is_file() else (sys.executable, "-m", "edgeseg")


def _unit_path(root: Path, name: str) -> Path:
    return root / "etc/systemd/system" / f"{name}.service"


def _config_path(root: Path, name: str) -> Path:
    return root / "etc/edgeseg" / f"{name}.toml"


def _old_secrets_path(root: Path, name: str) -> Path:
    """Return where edgeseg 0.2 kept the secrets of a service."""
    return root / "etc/edgeseg" / f"{name}.env"


def _sudoers_path(root: Path, name: str) -> Path:
    return root / "etc/sudoers.d" / name.replace(".", "-")


def _ids(path: Path) -> Dict[str, int]:
    """Return the numbers of the users or groups in passwd or group."""
    try:
        rows = [line.split(":") for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[2]) for row in rows if len(row) > 2 and row[2].isdigit()}


def _give_to(user: str, path: Path, root: Path) -> None:
    """Let the user of the service, and nobody else but root, read a file."""
    try:
        os.chown(path, _ids(root / "etc/passwd")[user], -1)
    except PermissionError:
        say(f"note: {path} must belong to {user}, who alone may read it; write it as root, or use chown")


def _write(file: File) -> None:
    """Write a file that is never there half, nor readable by more than it should be. Raises InputError, OSError."""
    path = file.path
    if path.exists() and not _is_ours(path):
        raise InputError(f"{path} is there and was not written by 'edgeseg service install'; pass another --name")
    try:
        mask = os.umask(0o022)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        finally:
            os.umask(mask)
        atomic_write(path, file.text.encode(), mode=file.mode)
    except PermissionError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; run it with sudo, or --dry-run") from error
    if path.parent.name == "sudoers.d" and shutil.which("visudo"):
        done = subprocess.run(["visudo", "-cf", str(path)], capture_output=True, text=True)
        if done.returncode:
            path.unlink()
            raise InputError(f"visudo refuses {path}: {done.stderr.strip() or done.stdout.strip()}")


def _is_ours(path: Path) -> bool:
    try:
        return MARKER in path.read_text()
    except (OSError, UnicodeDecodeError):
        return False


def _unlink_ours(path: Path) -> bool:
    if not (path.is_file() and _is_ours(path)):
        return False
    path.unlink()
    return True


def _require_systemd(root_needed: bool = True) -> None:
    if not shutil.which("systemctl") or not Path("/run/systemd/system").is_dir():
        raise InputError("systemd does not run here; --no-start or --root DIR write the files only")
    if root_needed and os.geteuid() != 0:
        raise InputError("a system service is installed by root; run it with sudo")


def _systemctl(*words: str) -> str:
    try:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"systemctl {words[0]} failed: {first_line(error)}") from error
    if done.returncode:
        seen = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise InputError(f"systemctl {' '.join(words)} failed: {seen[0]}")
    return done.stdout


def _last_error(name: str) -> str:
    """The latest line of an error that edgeseg printed; systemd logs all of stderr at one level."""
    try:
        done = subprocess.run(
            ["journalctl", "--unit", f"{name}.service", "--lines", "500", "--output", "cat", "--no-pager"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line for line in done.stdout.splitlines() if line.startswith("edgeseg: ")]
    return lines[-1][len("edgeseg: ") :] if lines else ""


def _duration(seconds: float) -> str:
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {int(seconds) % 60} s"
