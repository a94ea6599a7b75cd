from __future__ import annotations

import os
import shlex
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from edgeseg.app.config import RunConfig
from edgeseg.app.config_file import read_config
from edgeseg.app.shipped import SHIPPED
from edgeseg.cli.service import MARKER, quoted, service_config, status_from
from edgeseg.errors import UsageError
from tests import HANG_S

ROOT = Path(__file__).resolve().parents[2]


def edgeseg(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeseg", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system to install into: users and groups, nothing else."""
    folder = tmp_path / "root"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/passwd").write_text("root:x:0:0::/:\nedgeseg:x:990:990::/:\n")
    (folder / "etc/group").write_text("root:x:0:\nvideo:x:44:\n")
    return folder


def stored(root: Path) -> RunConfig:
    return read_config(RunConfig, root / "etc/edgeseg/edgeseg.toml")


def exec_start(unit: Path) -> str:
    return next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))[len("ExecStart=") :]


def test_install_writes_a_unit_that_systemd_takes_and_remove_takes_it_away(root: Path) -> None:
    done = edgeseg("service", "install", "--root", str(root), "--", str(SHIPPED), "--source", "demo://street?seed=1")
    assert done.returncode == 0, done.stderr
    unit = root / "etc/systemd/system/edgeseg.service"
    assert f"wrote {unit}" in done.stdout and "no group render" in done.stdout
    text = unit.read_text()
    assert "SupplementaryGroups=video\n" in text and "EnvironmentFile" not in text and "DISPLAY" not in text
    words = shlex.split(exec_start(unit))
    assert Path(words[0]).is_absolute() and words[-2:] == ["run", "/etc/edgeseg/edgeseg.toml"]
    kept = root / "etc/edgeseg/edgeseg.toml"
    assert f"wrote {kept}" in done.stdout and stat.S_IMODE(kept.stat().st_mode) == 0o644
    assert stored(root) == RunConfig(SHIPPED, sources=["demo://street?seed=1"], sinks=["null://"])
    if shutil.which("systemd-analyze"):
        copy = unit.with_name("verified.service")
        copy.write_text(text)
        checked = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
        copy.unlink()
        assert checked.returncode == 0 and not checked.stderr, checked.stderr
    again = edgeseg("service", "remove", "--root", str(root))
    assert again.returncode == 0 and f"removed {unit}" in again.stdout and "left as they are" in again.stdout
    assert not unit.exists() and not kept.exists()
    assert edgeseg("service", "remove", "--root", str(root)).returncode == 1


def test_credentials_are_for_the_user_of_the_service_only(root: Path) -> None:
    secret = 'rtsp://me:p%40"$w`\\d@10.0.0.9/a?b=1'
    done = edgeseg("service", "install", "--root", str(root), "--", str(SHIPPED), "--source", secret)
    assert done.returncode == 0, done.stderr
    unit, kept = root / "etc/systemd/system/edgeseg.service", root / "etc/edgeseg/edgeseg.toml"
    assert "p%" not in unit.read_text() + done.stdout + done.stderr
    assert stat.S_IMODE(kept.stat().st_mode) == 0o400 and stat.S_IMODE(unit.stat().st_mode) == 0o644
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o755, "the user of the service has to get to the file"
    assert stored(root).sources == (secret,)
    if os.geteuid() == 0:
        assert kept.stat().st_uid == 990
    else:
        assert f"note: {kept} must belong to edgeseg" in done.stdout
    edgeseg("service", "install", "--root", str(root), "--", str(SHIPPED), "--source", "demo://street")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o644 and stored(root).sources == ("demo://street",)


def test_the_stored_configuration_runs(root: Path) -> None:
    words = ["--source", "demo://street?frames=2&size=160x120", "--sink", f"jsonl://{root}/out.jsonl", "--frames", "1"]
    done = edgeseg("service", "install", "--root", str(root), "--", str(SHIPPED), *words)
    assert done.returncode == 0, done.stderr
    done = edgeseg("run", str(root / "etc/edgeseg/edgeseg.toml"))
    assert done.returncode == 0 and "1 frames" in done.stdout, done.stderr
    assert len((root / "out.jsonl").read_text().splitlines()) == 1


def test_a_configuration_is_taken_in_too(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("camera = 2\nsinks = ['out']\n[source]\nrate = 30\n")
    words = ["service", "install", "--root", str(root), "--", "mine.toml", "--rate", "15"]
    done = edgeseg(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = stored(root)
    assert (found.camera, found.source.rate, found.sinks) == (2, 15.0, (str(tmp_path / "out"),))
    (tmp_path / "mine.toml").write_text("camra = 2\n")
    done = edgeseg(*words, cwd=tmp_path)
    assert done.returncode == 2 and "mine.toml: there is no field 'camra'; did you mean 'camera'?" in done.stderr


def test_what_edgeseg_0_2_wrote_is_replaced_and_removed(root: Path) -> None:
    install = ["service", "install", "--root", str(root), "--", str(SHIPPED), "--camera", "0"]
    old = root / "etc/edgeseg/edgeseg.env"
    for words, code in ((install, 0), (["service", "remove", "--root", str(root)], 0)):
        old.parent.mkdir(exist_ok=True)
        old.write_text(f'{MARKER}\nEDGESEG_SECRET_1="x"\n')
        assert edgeseg(*words).returncode == code and not old.exists()
    old.write_text('EDGESEG_SECRET_1="x"\n')
    assert edgeseg(*install).returncode == 0 and old.exists(), "it is not ours"


def test_a_placeholder_becomes_the_argument_inside_the_process() -> None:
    words = ["service", "exec", "--", "inspect", "@EDGESEG_SECRET_1@"]
    done = edgeseg(*words, "--json", EDGESEG_SECRET_1=str(SHIPPED))
    assert done.returncode == 0 and '"pavement"' in done.stdout, done.stderr
    done = edgeseg(*words)
    assert done.returncode == 2 and "EDGESEG_SECRET_1 is not set" in done.stderr


def test_dry_run_shows_and_writes_nothing(root: Path) -> None:
    before = sorted(root.rglob("*"))
    done = edgeseg(
        "service", "install", "--dry-run", "--root", str(root), "--", str(SHIPPED), "--source", "rtsp://a:bc@h/"
    )
    assert done.returncode == 0 and "would write" in done.stdout and "[Service]" in done.stdout
    assert "bc@h" not in done.stdout and sorted(root.rglob("*")) == before


def test_sudo_is_for_one_command_only(root: Path) -> None:
    done = edgeseg("service", "install", "--root", str(root), "--argus-restart", "--", str(SHIPPED), "--camera", "0")
    assert done.returncode == 0, done.stderr
    sudoers = root / "etc/sudoers.d/edgeseg"
    lines = [line for line in sudoers.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 1 and lines[0].endswith("systemctl restart nvargus-daemon")
    assert lines[0].startswith("edgeseg ALL=(root) NOPASSWD: /")
    assert stat.S_IMODE(sudoers.stat().st_mode) == 0o440
    text = (root / "etc/systemd/system/edgeseg.service").read_text()
    assert "NoNewPrivileges" not in text and "RestrictSUIDSGID" not in text, "sudo could not work"
    edgeseg("service", "remove", "--root", str(root))
    assert not sudoers.exists()


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["--sink", "display://", "--camera", "0"], "no desktop", 2),
        (["--sink", "record://a", "--camera", "0"], "never replaces", 2),
        (["--camra", "0"], "no arguments of 'edgeseg run': No such option", 2),
        (["--camera", "x"], "no arguments of 'edgeseg run'", 2),
        (["--help"], "no arguments of 'edgeseg run'", 2),
        (["--camera", "0", "--json"], "cannot hold --json", 2),
        (["--camera", "0", "--sink", "~/out"], "--sink is '~/out', and only shells know the folder ~", 2),
        (["--camera", "0", "--stall-timeout", "inf"], "--stall-timeout", 2),
        (["--camera", "0", "--rois", ""], "--rois is empty", 2),
        (["--camera", "0", "--show-pipeline", "--save-config", "a.toml"], "hold --show-pipeline, --save-config", 2),
    ],
)
def test_wrong_arguments_are_one_line_and_write_nothing(root: Path, words: list[str], message: str, code: int) -> None:
    done = edgeseg("service", "install", "--root", str(root), "--", str(SHIPPED), *words)
    assert done.returncode == code and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (root / "etc/systemd").exists()


@pytest.mark.parametrize(
    ("option", "name"), [("--name", name) for name in ("..", "-x", "../evil", "a\nb")] + [("--user", ".")]
)
def test_names_that_lead_elsewhere_are_refused(root: Path, option: str, name: str) -> None:
    done = edgeseg("service", "install", "--root", str(root), f"{option}={name}", "--", str(SHIPPED), "--camera", "0")
    assert done.returncode == 2 and f"{option} takes letters" in done.stderr, done.stderr
    assert not (root / "etc/systemd").exists()


def test_what_is_not_ours_stays(root: Path) -> None:
    unit = root / "etc/systemd/system/edgeseg.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    words = ["service", "install", "--root", str(root), "--", str(SHIPPED), "--camera", "0"]
    for done in (edgeseg(*words), edgeseg("service", "remove", "--root", str(root))):
        assert done.returncode == 1 and "not written by" in done.stderr and len(done.stderr.splitlines()) == 1
    assert "true" in unit.read_text()
    (root / "etc/passwd").write_text("root:x:0:0::/:\n")
    done = edgeseg(*words)
    assert done.returncode == 1 and "there is no user edgeseg; make one with" in done.stderr


def test_without_systemd_it_says_so(tmp_path: Path) -> None:
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here")
    for words in (["status"], ["install", "--user", "root", "--", str(SHIPPED), "--camera", "0"]):
        done = edgeseg("service", *words)
        assert done.returncode == 1 and "systemd does not run here" in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["a\nb", "a\u2028b", "a\x7fb", "a\x85b", "a\x1b[2Jb", "a\"\\'b", "10"])
def test_any_name_is_stored_as_it_is(root: Path, name: str) -> None:
    words = ["--camera", "0", "--sink", f"/{name}", "--frames", "10", "--snapshots", name]
    done = edgeseg("service", "install", "--root", str(root), "--", str(SHIPPED), *words)
    assert done.returncode == 0, done.stderr
    found = stored(root)
    assert (found.sinks, found.frames, found.page.snapshots) == ((f"/{name}",), 10, Path.cwd() / name)
    assert not set(name) & set("\n\u2028\x7f\x85\x1b") & set((root / "etc/edgeseg/edgeseg.toml").read_text()) - {"\n"}


def test_paths_become_absolute_and_the_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = service_config(["--camera", "0", "--sink", "jsonl://log.jsonl", "--sink=out"])
    assert found == RunConfig(SHIPPED, camera=0, sinks=[f"jsonl://{tmp_path}/log.jsonl", f"{tmp_path}/out"])
    (tmp_path / "mine.edgeseg").write_bytes(SHIPPED.read_bytes())
    assert service_config(["--camera", "0"]).model == tmp_path / "mine.edgeseg"
    found = service_config(["m.edgeseg", "--source", "http://h/v?token=abc", "--source", "0", "--source", "csi://0"])
    assert found.model == tmp_path / "m.edgeseg" and found.sinks == ("null://",)
    assert found.sources == ("http://h/v?token=abc", "0", "csi://0")
    alarm = ["--alarm", "area(car) > 20% for 5 frames", "--on-alarm", "snapshot:found", "--on-alarm", "log"]
    found = service_config(["m", "--camera", "0", "--token", "abc", *alarm, "--rois", "r.json", "--drift-frames", "d"])
    assert (found.page.token, found.alarm.rules) == ("abc", (alarm[1],))
    assert found.alarm.actions == (f"snapshot:{tmp_path}/found", "log")
    assert (found.alarm.rois, found.monitoring.drift_frames) == (tmp_path / "r.json", tmp_path / "d")
    for words in (["m", "--camera", "0", "--snapshots", "snapshots"], ["snapshots.toml"]):
        (tmp_path / "snapshots.toml").write_text("camera = 0\n[page]\nsnapshots = 'snapshots'\n")
        assert service_config(words).page.snapshots == tmp_path / "snapshots", "typed, though as the default"
    assert service_config(["m", "--camera", "0"]).page.snapshots == Path("snapshots")
    (tmp_path / "on.toml").write_text("camera = 0\n[sink]\nlegend = true\n")
    assert service_config(["on.toml"]).sink.legend and not service_config(["on.toml", "--no-legend"]).sink.legend
    monkeypatch.setenv("EDGESEG_TOKEN", "def")
    assert service_config(["m", "--camera", "0"]).page.token == "def", "a service does not see this environment"


def test_words_are_escaped_for_systemd() -> None:
    assert quoted("--camera") == "--camera"
    assert quoted("a b") == '"a b"'
    assert quoted("50%$x") == "50%%$$x"
    assert quoted('a"\\;') == '"a\\"\\\\;"'
    assert quoted("") == '""'
    with pytest.raises(UsageError):
        quoted("a\nb")


def test_what_systemctl_says_in_our_words() -> None:
    running = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "NRestarts": "2"}
    found = status_from({**running, "StateChangeTimestampMonotonic": "40000000", "StatusText": "30 fps"}, 100.0)
    assert (found["state"], found["seconds"], found["restarts"], found["status"]) == ("running", 60.0, 2, "30 fps")
    waiting = {"LoadState": "loaded", "ActiveState": "activating", "SubState": "auto-restart"}
    assert status_from(waiting, 1.0)["state"] == "waiting to restart"
    assert status_from({"LoadState": "not-found", "ActiveState": "inactive"}, 1.0)["state"] == "not installed"
    assert (
        status_from({"LoadState": "loaded", "ActiveState": "failed", "Result": "watchdog"}, 1.0)["result"] == "watchdog"
    )


@pytest.mark.parametrize(
    "password", ["S3cr/Et99", "S3cr Et99", "S3cr#Et99", "S3cr?Et99", "S3cr]Et99", "S3cr@Et99", 'S"3cr']
)
def test_secrets_of_every_kind_are_for_one_reader(root: Path, password: str) -> None:
    words = ["--source", f"rtsp://me:{password}@10.0.0.9/a", "--sink", f"mqtt://me:{password}@h/t"]
    words += [f"--source=http://10.0.0.9/b?passphrase={password}", "--alarm", "area(road) > 1 %"]
    words += ["--on-alarm", f"https://10.0.0.9/hook/{quote(password)}", "--token", "Tok3n"]
    install = ["service", "install", "--root", str(root), "--", str(SHIPPED)]
    done = edgeseg(*install, *words)
    assert done.returncode == 0, done.stderr
    unit, kept = root / "etc/systemd/system/edgeseg.service", root / "etc/edgeseg/edgeseg.toml"
    shown = unit.read_text() + done.stdout + done.stderr
    assert not any(mark in shown for mark in (password, "S3cr", "Et99", "/hook/", "Tok3n")), shown
    assert stat.S_IMODE(kept.stat().st_mode) == 0o400
    assert stored(root).sinks == (f"mqtt://me:{password}@h/t",)
    for secret in (words[0:2], words[2:4], words[4:5], words[5:9], words[9:11]):
        with_camera = [] if "source" in secret[0] else ["--camera", "0"]
        assert edgeseg(*install, *secret, *with_camera).returncode == 0
        assert stat.S_IMODE(kept.stat().st_mode) == 0o400, secret


@pytest.mark.parametrize(
    "words",
    [
        ("service", "install", "--", str(SHIPPED), "--sorce=rtsp://me:S3cr/Et99@10.0.0.9/a"),
        ("run", str(SHIPPED), "rtsp://me:S3cr Et99@10.0.0.9/a"),
        ("run", "rtsp://me:S3cr#Et99@10.0.0.9/a", "--source", "demo://street"),
        (
            "run",
            str(SHIPPED),
            "--source",
            "demo://street",
            "--on-alarm",
            "ftp://me:S3cr/Et99@h",
            "--alarm",
            "area(road)>0",
        ),
        ("run", str(SHIPPED), "--source", "demo://street", "--sink", "rtsp://me:S3cr/Et99@h/x"),
        ("run", str(SHIPPED), "--source", "demo://street", "--preview", "rtsp://me:S3cr/Et99@h"),
        ("run", str(SHIPPED), "--source", "rtsp:/me:S3cr/Et99@h"),
        ("run", str(SHIPPED), "--policy", "rtsp://me:S3cr/Et99@h", "--source", "demo://street"),
    ],
)
def test_a_wrong_command_line_is_refused_without_its_passwords(words: tuple[str, ...]) -> None:
    done = edgeseg(*words)
    assert done.returncode in (1, 2) and done.stderr
    assert not any(mark in done.stdout + done.stderr for mark in ("S3cr", "Et99")), done.stderr


@pytest.mark.parametrize("by", ["configuration", "unit of edgeseg 0.2"])
def test_no_process_of_a_service_shows_a_password_or_a_webhook(root: Path, tmp_path: Path, by: str) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    address = f"http://me:S3cr Et99@127.0.0.1:{silent.getsockname()[1]}/a.mjpg"
    words = ["service", "exec", "--", "run", str(SHIPPED), "--source", "@EDGESEG_SECRET_1@", "--sink", "null://"]
    if by == "configuration":
        done = edgeseg("service", "install", "--root", str(root), "--", str(SHIPPED), "--source", address)
        assert done.returncode == 0, done.stderr
        words = ["run", str(root / "etc/edgeseg/edgeseg.toml")]
    running = subprocess.Popen(
        [sys.executable, "-m", "edgeseg", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "EDGESEG_SECRET_1": address},
    )
    try:
        silent.settimeout(60)
        connections = [silent.accept()[0] for _ in range(2)]  # the second is GStreamer's
        connections[-1].settimeout(60)
        asked = connections[-1].recv(4096).decode()
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _is_below(path, running.pid)]
    finally:
        running.terminate()
        out, err = running.communicate(timeout=HANG_S)
    assert lines and not any(b"S3cr" in line or b"Et99" in line for line in lines)
    assert "GET /a.mjpg" in asked
    assert "S3cr" not in out + err and "Et99" not in out + err


def _is_below(path: Path, parent: int) -> bool:
    try:
        return int((path.parent / "stat").read_text().rpartition(")")[2].split()[1]) == parent
    except (OSError, ValueError):
        return False
