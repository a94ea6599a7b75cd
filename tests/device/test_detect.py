from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from edgeseg.device.detect import cpu_model, detected_device, int8_instructions, is_container, l4t_version
from edgeseg.device.jetpack import jetpack_version

ROOTS = Path(__file__).parent / "roots"


def test_l4t_release_lines() -> None:
    jetpack5 = (
        "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 19:57:35"
    )
    assert l4t_version(jetpack5) == "35.4.1"
    assert l4t_version("# R36 (release), REVISION: 4.3, GCID: 38968081") == "36.4.3"
    for other in (
        "\r\n# R36 (release), REVISION: 4.3\r\n",
        "\ufeff# r36 (Release), revision:4.3,",
        "#R36(release),REVISION: 4.3.",
    ):
        assert l4t_version(other) == "36.4.3"
    assert l4t_version("") == "" and l4t_version("garbage R35") == "" and l4t_version("# R36 (release)") == ""


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


EXPECTED = {
    "xavier-nx-jp5.1.2": ("35.4.1", "5.1.2", "tegra194", "p3668-0000", "7.2", "11.4.19", "8.5.2", "MODE_15W_6CORE", 2),
    "orin-nano-jp6.0": ("36.3.0", "6.0", "tegra234", "p3767-0005", "8.7", "12.2.2", "8.6.2.3", "7W", 0),
    "orin-nx-jp6.2": ("36.4.3", "6.2", "tegra234", "p3767-0000", "8.7", "12.6.3", "10.3.0.30", "MAXN_SUPER", 2),
    "thor-jp7.0": ("38.2.0", "7.0", "tegra264", "p3834-0008", "11.0", "13.0.0", "10.13.3.9", "120W", None),
    "agx-orin-jp7.2": ("39.2.0", "7.2", "tegra234", "p3701-0005", "8.7", "13.2.1", "10.16.2.10", "30W", 2),
    "agx-orin-jp7.2.2": ("39.2.2", "7.2.2", "tegra234", "p3701-0005", "8.7", "13.2.1", "11.4.1.5", "30W", 2),
    "container-without-mounts": ("", "", "tegra234", "", "8.7", "12.2.2", "8.6.2.3", "", None),
    "laptop": ("", "", "", "", "", "", "", "", None),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_roots(name: str) -> None:
    d = detected_device(ROOTS / name)
    found = d.l4t, d.jetpack, d.soc, d.module, d.compute_capability, d.cuda, d.tensorrt, d.power_mode, d.dla_cores
    assert found == EXPECTED[name]
    assert d.in_container == (name == "container-without-mounts") and d.is_jetson == (name != "laptop")
    assert d.clocks_locked == (name == "orin-nx-jp6.2")


def test_clocks_and_memory_of_a_root() -> None:
    device = detected_device(ROOTS / "orin-nano-jp6.0")
    assert (device.gpu_mhz, device.gpu_min_mhz, device.gpu_max_mhz) == (306.0, 306.0, 408.0)
    assert (device.memory_available_gib, device.swap_gib, device.gpu_governor) == (1.1, 3.7, "nvhost_podgov")
    assert "JetPack 6.0, L4T 36.3.0, 7W" in device.describe()
    assert device.to_json()["compute_capability"] == "8.7"


def test_every_known_release_and_no_guess_for_others() -> None:
    known = {
        "35.4.1": "5.1.2",
        "36.4.7": "6.2.1",
        "36.5.2": "6.2.3",
        "38.4.0": "7.1",
        "39.2.0": "7.2",
        "39.2.1": "7.2.1",
    }
    assert {l4t: jetpack_version(l4t) for l4t in known} == known
    for l4t in ("34.1.1", "36.4.2", "36.5.1", "36.5.3", "37.1.0", "39.2.99", "39.99.0", "99.1.0"):
        assert jetpack_version(l4t) == f"unknown (L4T {l4t})"
    assert jetpack_version("39.99") == "unknown (L4T 39.99)" and jetpack_version("") == ""
    assert jetpack_version("36.4.9", "6.2.9+b1") == "6.2.9" and jetpack_version("36.4.9", "?") == "unknown (L4T 36.4.9)"


def test_an_unknown_release(tmp_path: Path) -> None:
    shutil.copytree(ROOTS / "orin-nano-jp6.0", tmp_path / "root")
    (tmp_path / "root/etc/nv_tegra_release").write_text("# R39 (release), REVISION: 9.0, GCID: 1, BOARD: generic\n")
    (tmp_path / "root/var/lib/dpkg/status").unlink()
    device = detected_device(tmp_path / "root")
    assert device.jetpack == "unknown (L4T 39.9.0)" and "JetPack" not in device.describe()
    assert (device.tensorrt, device.cuda, device.compute_capability) == ("", "12.2.2", "8.7")


def test_the_core_package_says_l4t_where_the_release_file_is_missing(tmp_path: Path) -> None:
    shutil.copytree(ROOTS / "thor-jp7.0", tmp_path / "root")
    (tmp_path / "root/etc/nv_tegra_release").unlink()
    (tmp_path / "root/usr/local/cuda/version.json").unlink()
    device = detected_device(tmp_path / "root")
    assert (device.l4t, device.jetpack, device.cuda) == ("38.2.0", "7.0", "13.0.48")


def test_packages_that_are_only_half_there_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(
        "Package: libnvinfer8\nStatus: deinstall ok config-files\nVersion: 8.5.2-1\n\n"
        "Package: libnvinfer10\nStatus: install ok installed\nVersion: 10.3.0.30-1+cuda12.5\n\n"
        "Package: libnvinfer9\nStatus: install ok installed\nVersion: 9.3.0-1\n"
    )
    assert detected_device(tmp_path).tensorrt == "10.3.0.30"


def test_containers_are_known_by_their_marks(tmp_path: Path) -> None:
    assert not is_container(tmp_path)
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/cgroup").write_text("0::/system.slice/containerd.service/kubepods/x\n")
    assert is_container(tmp_path)
