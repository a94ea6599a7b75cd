"""The unit, as systemd itself reads it."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeseg.app.config_file import text_of_config
from edgeseg.cli.service import MARKER, Unit, service_config

JETSON = Path(__file__).resolve().parents[2] / "jetson"
UNIT = JETSON / "systemd" / "edgeseg.service"


def section(name: str) -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return dict(parser[name])


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    # The program is not on this machine; everything else is verified as it stands.
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/edgeseg/bin/edgeseg", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_what_cameras_and_gpu_need() -> None:
    service = section("Service")
    assert service["PrivateTmp"] == "no", "CSI cameras go through /tmp/argus_socket"
    assert service["SupplementaryGroups"] == "video render"
    for breaks in ("PrivateDevices", "DevicePolicy", "ProtectClock", "MemoryDenyWriteExecute", "DeviceAllow"):
        assert breaks not in service
    assert service["ProtectSystem"] != "strict", "it makes /tmp read-only"
    unit = section("Unit")
    assert unit["After"] == unit["Wants"] == "nvargus-daemon.service network-online.target"


def test_it_comes_back_but_not_from_a_wrong_command_line() -> None:
    service = section("Service")
    assert (service["Type"], service["Restart"], service["RestartSec"]) == ("notify", "always", "3")
    assert service["RestartPreventExitStatus"] == "2"


def test_the_example_is_what_the_command_generates() -> None:
    """``edgeseg service install -- /var/lib/edgeseg/mine.edgeseg --camera 0 --sink jsonl:///var/lib/...``."""
    config = service_config(
        ["/var/lib/edgeseg/mine.edgeseg", "--camera", "0", "--sink", "jsonl:///var/lib/edgeseg/frames.jsonl"]
    )
    command = ("/opt/edgeseg/bin/edgeseg", "run", "/etc/edgeseg/edgeseg.toml")
    assert UNIT.read_text() == Unit("edgeseg", "edgeseg", ("video", "render"), command).text()
    assert UNIT.with_suffix(".toml").read_text() == f"{MARKER}\n{text_of_config(config, '.toml')}"


def test_udev_rules_have_only_known_keys() -> None:
    rules = (JETSON / "udev/99-edgeseg-camera.rules").read_text()
    lines = [line for line in rules.splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        for item in line.split(", "):
            assert re.fullmatch(
                r'(SUBSYSTEM|ATTR\{index\}|ENV\{ID_SERIAL_SHORT\})=="[^"]+"|SYMLINK\+="[\w-]+"|(GROUP|MODE)="\w+"', item
            )
