from __future__ import annotations

import platform
from pathlib import Path

from edgeseg.device.detect import cpu_model, detected_device, int8_instructions, l4t_version


def test_l4t_release_lines() -> None:
    jetpack5 = (
        "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 19:57:35"
    )
    assert l4t_version(jetpack5) == "35.4.1"
    assert l4t_version("# R36 (release), REVISION: 4.3, GCID: 38968081") == "36.4.3"
    assert l4t_version("") == "" and l4t_version("garbage R35") == ""


def test_instruction_sets_are_read_not_guessed() -> None:
    assert int8_instructions("flags\t\t: fpu avx2 avx512_vnni fma\n") == ("AVX2", "AVX512-VNNI")
    assert int8_instructions("Features\t: fp asimd asimddp i8mm\n") == ("ARM dot product", "ARM I8MM")
    assert int8_instructions("") == ()


def test_a_xavier_nx_root(tmp_path: Path) -> None:
    for name, text in {
        "proc/device-tree/model": "NVIDIA Jetson Xavier NX Developer Kit\0",
        "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 1",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 0 (v8l)\nFeatures\t: fp asimd\n",
        "proc/meminfo": "MemTotal:        7129368 kB\nMemFree: 1 kB\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    device = detected_device(tmp_path)
    assert device.board == "NVIDIA Jetson Xavier NX Developer Kit"
    assert (device.l4t, device.memory_gib, device.int8_instructions) == ("35.4.1", 6.8, ())
    assert "Xavier NX" in device.describe() and "L4T 35.4.1" in device.describe()


def test_an_empty_root_guesses_nothing(tmp_path: Path) -> None:
    device = detected_device(tmp_path)
    assert (device.board, device.l4t, device.memory_gib) == ("", "", 0.0)
    assert device.cpu == platform.machine()


def test_this_machine() -> None:
    device = detected_device()
    assert device.cores >= 1 and device.memory_gib > 0.5 and device.to_json()["cpu"] == device.cpu
    assert cpu_model("model name : X\n") == "X"
