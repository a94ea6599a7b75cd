"""What says whose machine it is goes, what says what machine it is stays."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from edgeseg.device.anonymous import Identity, identity_of, without_identity
from edgeseg.device.probe import Module, Probe
from edgeseg.device.record import probe_of_record, write_record

ROOTS = Path(__file__).parent / "roots"
NAMES = sorted(path.name for path in ROOTS.iterdir() if path.is_dir())
WHO = Identity(("Anna Lovelace", "schreibtisch", "anna"), ("1420123456789",), frozenset({"10.3.0.30", "4.10.0.84"}))


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("/home/anna/env/lib/x.py", "anna"),
        ("/home/bertha-2/env", "bertha"),
        ("/media/anna/STICK/a", "anna"),
        ("/run/media/bertha/a", "bertha"),
        ("anna@schreibtisch:~$", "schreibtisch"),
        ("anna-laptop is away", "anna"),
        ("Anna's camera", "Anna"),
        ("/opt/anna_env/bin/python", "anna"),
        ("in build_of_anna_2", "anna"),
        ("by Anna Lovelace", "Lovelace"),
        ("host schreibtisch.local", "schreibtisch"),
        ("inet 192.168.1.23/24", "192.168.1.23"),
        ("rtsp://me:pw@10.1.2.3:554/a", "10.1.2.3"),
        ("rtsp://me:pw@10.1.2.3:554/a", "pw"),
        ("rtsp://me:blank and/slash@10.1.2.3:554/a", "slash"),
        ("rtspsrc user-pw='two words' latency=100", "words"),
        ("https://camera/a?sig=abcdefgh1234", "abcdefgh"),
        ("from 172.16.0.9.", "172.16.0.9"),
        ("8.8.8.8", "8.8.8.8"),
        ("fe80::1ff:fe23:4567:890a%eth0", "fe80"),
        ("[2001:db8::8a2e:370:7334]:80", "2001:db8"),
        ("2001:0db8:85a3:0000:0000:8a2e:0370:7334", "85a3"),
        ("ether 48:b0:2d:aa:bb:cc txq", "48:b0:2d"),
        ("48-B0-2D-AA-BB-CC", "48-B0"),
        ("GPU-3b9c7a34-1111-2222-3333-44445555aaaa", "44445555aaaa"),
        ("Serial Number: ABC-123", "ABC-123"),
        ('"serial": "0424519"', "0424519"),
        ("serial=99Z", "99Z"),
        ("module 1421119999999 is here", "1421119999999"),
        ("x1420123456789y", "1420123456789"),
        ("EDGESEG_TOKEN=abcdefgh12345678", "abcdefgh"),
        ("Authorization: Bearer abc.def", "abc.def"),
        ("password: hunter2, next", "hunter2"),
        ('{"api_key": "k-123"}', "k-123"),
        ("mail a.b@example.org now", "a.b@"),
    ],
)
def test_it_goes(text: str, gone: str) -> None:
    cleaned = without_identity({"a": [text], text: 1}, WHO)
    assert gone not in json.dumps(cleaned), cleaned


@pytest.mark.parametrize(
    "text",
    [
        "TensorRT 10.3.0.30 on Orin (8.7, 8 SMs)",
        "opencv-python 4.10.0.84",
        "TensorRT version: 8.6.2.3 and cuDNN 8.9.4.25",
        "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, DATE: Tue Aug 1 19:57:35 UTC 2023",
        "11-20-2026 10:00:01 RAM 3010/6963MB (lfb 4x4MB) CPU [4%@1190,off] EMC_FREQ 3%@1600",
        "nvinfer1::Error: std::bad_alloc, a::b::c, de::ad()",
        "proc/device-tree/bus@0/host1x@13e00000/nvdla0@15880000/status",
        "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_label",
        "serialized 3 layers; Serialization: 12 ms",
        "UVC Camera (046d:0825), imx219 9-0010, vi-output",
        "NVIDIA Jetson Xavier NX Developer Kit, nvidia,p3668-0001 nvidia,tegra194",
        "sha256 e0d76ffab03a15e86dbe41d1804c8718c1e8cf75d3da90b9460bc6f1a956c2d2",
        "cloud annals, /usr/lib/python3.10, Linux 5.15.148-tegra, 999.999.999.999",
        "L4T 36.4.3, CUDA 12.6.68, 540.4.0",
        "tokenizer 3, keyboard: us, monkey",
    ],
)
def test_it_stays(text: str) -> None:
    assert without_identity(text, WHO) == text


def test_what_a_machine_says_of_itself_is_taken_out_everywhere(tmp_path: Path) -> None:
    root = tmp_path / "board"
    shutil.copytree(ROOTS / "xavier-nx-jp5.1.2", root)
    (root / "etc/hostname").write_text("workbench-7\n")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (root / "proc/device-tree/serial-number").write_bytes(b"0424519071234\0")
    (root / "sys/class/net/eth0").mkdir(parents=True)
    (root / "sys/class/net/eth0/address").write_text("48:b0:2d:00:11:22\n")
    probe = Probe(modules={"tensorrt": Module("8.5.2.2"), "cv2": Module("4.5", detail="YES (1.2.3.4)")})
    identity = identity_of(root, probe, ["nvidia", "x", "maria", ""])
    assert set(identity.names) == {"workbench-7", "maria"}, "names that say nothing stay, as in 'nvidia,tegra194'"
    assert {"8.5.2.2", "1.2.3.4"} <= identity.versions
    said = "workbench-7 0424519071234 0123456789abcdef0123456789abcdef 48:b0:2d:00:11:22 maria 8.5.2.2 nvidia"
    assert without_identity(said, identity) == "NAME SERIAL SERIAL SERIAL NAME 8.5.2.2 nvidia"


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_machine_loses_nothing(name: str, tmp_path: Path) -> None:
    """The doctor's food is what it was: only what is planted goes."""
    probe = probe_of_record(ROOTS / name)
    identity = identity_of(ROOTS / name, probe, ["maria", "workbench-7"])
    for written in write_record(ROOTS / name, tmp_path / "record", probe):
        text = (tmp_path / "record" / written).read_text()
        assert without_identity(text, identity) == text, written


def test_planted_identities_go_wherever_they_stand() -> None:
    """Around them anything but letters, digits and underscores, as paths, messages and JSON have."""
    dice = random.Random(3)
    planted = ["maria", "workbench-7", "192.168.7.41", "48:b0:2d:00:11:22", "0424519071234"]
    identity = Identity(("workbench-7", "maria"), ("0424519071234",))
    around = " /\"'()[]{}<>,;=|\n\t@-"
    for _ in range(500):
        word = dice.choice(planted)
        text = f"left{dice.choice(around)}{word}{dice.choice(around)}right"
        assert word not in without_identity(text, identity), text


@pytest.mark.parametrize("user", ["max", "files", "inspector", "seconds", "failed", "sys", "etc", "gpu", "video0"])
def test_who_is_called_like_a_word_of_ours_breaks_nothing(user: str) -> None:
    """Paths, and the keys that a reader looks for, are ours."""
    ours = {
        "files": {"etc/nv_tegra_release": "", "sys/class/devfreq/17000000.gpu/max_freq": "", "dev/video0": ""},
        "inspector": {"max": 3},
        "failed": {"bench": f"for {user}"},
        "seconds": {},
        f"of {user}": 1,
    }
    cleaned = without_identity(ours, Identity((user,)))
    assert cleaned == {
        **{key: value for key, value in ours.items() if " " not in key},
        "failed": {"bench": "for NAME"},
        "of NAME": 1,
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("user", ["max", "gpu", "core", "build", "kit", "power", "mode"])
def test_a_machine_of_somebody_with_such_a_name_is_still_told(name: str, user: str, tmp_path: Path) -> None:
    probe = probe_of_record(ROOTS / name)
    identity = identity_of(ROOTS / name, probe, [user])
    for written in write_record(ROOTS / name, tmp_path / "record", probe):
        text = (tmp_path / "record" / written).read_text()
        assert without_identity({written: text}, identity) == {written: text}


def test_the_longer_of_two_names_goes_first(tmp_path: Path) -> None:
    """Else a piece of it would be left."""
    identity = identity_of(tmp_path, Probe(), ["anna", "anna-schreibtisch", "an"])
    assert without_identity("anna-schreibtisch an anna", identity) == "NAME NAME NAME"
