"""Each finding of the doctor, with what calls it up and with what keeps it silent."""

from __future__ import annotations

import inspect
import os
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeseg.device.doctor import CHECKS, findings
from edgeseg.device.facts import Facts, gathered_facts
from edgeseg.device.gstreamer import NVIDIA_ELEMENTS, GStreamer, gstreamer_install
from edgeseg.device.power_mode import PowerMode
from edgeseg.device.probe import Module, Probe
from edgeseg.device.record import probe_of_record
from edgeseg.device.telemetry import Sample
from edgeseg.errors import InputError

ROOTS = Path(__file__).parent / "roots"
PIP_CV2 = "/home/u/.local/lib/python3.10/site-packages/cv2/__init__.py"


def of_root(name: str) -> Facts:
    return gathered_facts(ROOTS / name, probe_of_record(ROOTS / name), ("/dev/video0",))


GOOD = replace(of_root("orin-nx-jp6.2"), sample=Sample())


def with_device(**changes: Any) -> Facts:
    return replace(GOOD, device=replace(GOOD.device, **changes))


def with_probe(**changes: Any) -> Facts:
    return replace(GOOD, probe=replace(GOOD.probe, **changes))


def with_modules(**changes: Module | None) -> Facts:
    modules = {**GOOD.probe.modules, **changes}
    return with_probe(modules={name: module for name, module in modules.items() if module is not None})


def in_container(**changes: Any) -> Facts:
    return replace(with_device(in_container=True), **changes)


def with_gstreamer(version: str = "", error: str = "", missing: tuple[str, ...] = ()) -> Facts:
    return with_probe(gstreamer=GStreamer("/usr/bin/python3" if version else "", version, error, missing))


def clash() -> Facts:
    return with_modules(
        numpy=Module("2.2.6"),
        torch=Module("2.1.0", detail="12.2", error="torch.from_numpy: Numpy is not available"),
        pycuda=Module(error="ImportError: numpy.core.multiarray failed to import"),
    )


# name of the finding -> (what calls it up, what its fix must say)
CASES: dict[str, list[tuple[Facts, str]]] = {
    "jetpack-4": [(with_device(l4t="32.7.4", jetpack="4.6.4"), "flash JetPack 5.1")],
    "l4t-unknown": [
        (with_device(l4t="39.9.0", jetpack="unknown (L4T 39.9.0)"), "report it with this block"),
        (with_device(l4t="", jetpack=""), "pip install --upgrade edgeseg"),
    ],
    "no-int8-kernels": [
        (with_device(soc="tegra210", compute_capability="5.3"), "edgeseg compile --fp16"),
        (with_device(soc="tegra186", compute_capability="6.2"), "edgeseg compile --fp16"),
    ],
    "container-without-gpu": [(in_container(libcuda=False), "docker run --runtime nvidia")],
    "container-l4t": [
        (in_container(image_l4t="36.3", host_l4t="36.4"), "l4t-jetpack:r36.4.0"),
        (in_container(image_l4t="36.4.0", host_l4t="36.3.0"), "l4t-jetpack:r36.3.0"),
        (in_container(image_l4t="35.4.1", host_l4t="36.4.7"), "l4t-jetpack:r36.4.0"),
        (in_container(image_l4t="36.4.0", host_l4t="39.2.0"), "use an image for L4T 39.2.0"),
    ],
    "cv2-missing": [
        (with_modules(cv2=None), "sudo apt install python3-opencv"),
        (with_modules(cv2=Module(error="ImportError: libGL.so.1")), "sudo apt install python3-opencv"),
        (replace(of_root("laptop"), probe=replace(of_root("laptop").probe, modules={})), "install opencv-python"),
        (of_root("thor-jp7.0"), "--system-site-packages"),
    ],
    "cv2-shadowed": [
        (
            replace(
                with_modules(cv2=Module("4.10.0", PIP_CV2, detail="NO")),
                probe=replace(
                    with_modules(cv2=Module("4.10.0", PIP_CV2, detail="NO")).probe,
                    distributions={"opencv-python": "4.10.0.84", "opencv-python-headless": "4.9.0"},
                ),
            ),
            "-m pip uninstall -y opencv-python opencv-python-headless",
        ),
        (with_modules(cv2=Module("4.10.0", PIP_CV2, detail="NO")), f"remove {PIP_CV2}"),
    ],
    "cv2-without-gstreamer": [
        (of_root("container-without-mounts"), "apt install python3-opencv && "),
        (of_root("laptop"), "nothing, unless"),
    ],
    "cv2-wheel-beside": [(with_probe(distributions={"opencv-python": "4.10.0"}), "pip uninstall -y opencv-python")],
    "numpy-2": [(clash(), "install 'numpy<2'"), (of_root("orin-nano-jp6.0"), "install 'numpy<2'")],
    "tensorrt-nptype": [
        (with_modules(numpy=Module("1.24.4"), tensorrt=Module("8.5.2.2")), "nothing for edgeseg"),
        (with_modules(numpy=Module("1.26.0"), tensorrt=Module("8.5.0.12")), "'numpy<1.24'"),
    ],
    "onnxruntime-missing": [(with_modules(onnxruntime=None), "--force-reinstall onnxruntime")],
    "tensorrt-hidden": [
        (of_root("thor-jp7.0"), "python3 -m venv --system-site-packages"),
        (replace(with_modules(tensorrt=None), system_tensorrt=()), "sudo apt install python3-libnvinfer"),
        (with_modules(tensorrt=Module(error="ImportError: x")), "apt install --reinstall python3-libnvinfer"),
        (
            replace(with_modules(tensorrt=None), probe=replace(with_modules(tensorrt=None).probe, python="3.11.4")),
            "python3.10 -m venv --system-site-packages",
        ),
    ],
    "tensorrt-missing": [
        (replace(with_modules(tensorrt=None), device=replace(GOOD.device, tensorrt="")), "apt install nvidia-jetpack"),
        (
            replace(with_modules(tensorrt=None), device=replace(GOOD.device, tensorrt="", in_container=True)),
            "nvcr.io/nvidia/l4t-jetpack",
        ),
    ],
    "tensorrt-wheel": [
        (
            with_probe(distributions={"tensorrt": "10.7.0", "tensorrt_cu12_libs": "10.7.0"}),
            "-y tensorrt tensorrt_cu12_libs",
        ),
        (
            replace(with_probe(distributions={"tensorrt-libs": "1"}), device=of_root("thor-jp7.0").device),
            "nothing, if that is what you want",
        ),
    ],
    "tensorrt-11": [(of_root("agx-orin-jp7.2.2"), "edgeseg compile --int8")],
    "tensorrt-unsupported": [
        (with_modules(tensorrt=Module("11.4.0.106")), "the TensorRT that this JetPack brings, 10.3.0"),
        (
            replace(with_modules(tensorrt=Module("11.4.0.106")), device=of_root("agx-orin-jp7.2.2").device),
            "brings, 10.16.2",
        ),
        (replace(with_modules(tensorrt=Module("11.4.1.5")), device=of_root("thor-jp7.0").device), "brings, 10.13.3"),
    ],
    "tensorrt-too-old": [
        (with_device(l4t="35.1.0", jetpack="5.0.2", tensorrt="8.4.1"), "update to JetPack 5.1"),
        (with_device(l4t="35.1.0", jetpack="5.0.2", tensorrt=""), "update to JetPack 5.1"),
    ],
    "pycuda-missing": [
        (with_modules(pycuda=None), "PATH=/usr/local/cuda/bin:$PATH ~/edgeseg/bin/python3 -m pip install pycuda"),
        (with_modules(pycuda=Module(error="ImportError: libcurand.so.11")), "--force-reinstall --no-deps pycuda"),
        (with_modules(pycuda=Module(error="ImportError: libcurand.so.10: cannot open shared")), "sudo ldconfig"),
        (with_modules(pycuda=Module(error="ImportError: libcuda.so.1: cannot open shared")), "driver is not there"),
    ],
    "cuda-stuck": [
        (
            with_modules(pycuda=Module("2026.1", error="CUDA does not start: cuInit failed: no CUDA-capable device")),
            "no GPU is visible",
        ),
        (with_modules(pycuda=Module("2026.1", error="CUDA does not start: cuInit failed: x")), "restart the machine"),
    ],
    "torch-build": [
        (with_modules(torch=Module("2.4.1", detail="none")), "pip uninstall -y torch"),
        (with_modules(torch=Module("2.14.1", detail="13.0")), "NVIDIA's wheel for JetPack 6.2"),
    ],
    "gstreamer-bindings": [
        (of_root("orin-nano-jp6.0"), f"sudo apt {gstreamer_install()}"),
        (of_root("container-without-mounts"), f"apt {gstreamer_install()}"),
        (with_gstreamer(error="/usr/bin/python3 (3.9.5): ImportError: cannot import name '_gi'"), "python3-minimal"),
        (replace(of_root("laptop"), probe=with_gstreamer(error="no gi").probe), "python3-gi"),
    ],
    "gstreamer-parts": [
        (
            of_root("xavier-nx-jp5.1.2"),
            "sudo apt install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly gstreamer1.0-libav",
        ),
        (of_root("laptop"), "sudo apt install gstreamer1.0-plugins-ugly"),
        (
            replace(with_gstreamer("1.20.3", missing=("x264enc",)), packages={"gstreamer1.0-plugins-ugly": "1.20.1-1"}),
            "gst-inspect-1.0 x264enc",
        ),
    ],
    "gstreamer-nvidia": [
        (with_gstreamer("1.20.3", missing=("nvvidconv",)), "--reinstall nvidia-l4t-gstreamer"),
        (in_container(probe=with_gstreamer("1.20.3", missing=("nvvidconv",)).probe), "docker run --runtime nvidia"),
    ],
    "argus-plugin": [
        (replace(GOOD, argus_plugin=False), "sudo apt install nvidia-l4t-gstreamer"),
        (in_container(argus_plugin=False), "docker run --runtime nvidia"),
    ],
    "argus-socket": [
        (replace(GOOD, argus_socket=False), "sudo systemctl restart nvargus-daemon"),
        (in_container(argus_socket=False), "-v /tmp/argus_socket:/tmp/argus_socket"),
    ],
    "no-camera": [(replace(GOOD, cameras=()), "ls /dev/video*"), (in_container(cameras=()), "--device /dev/video0")],
    "groups": [
        (with_probe(groups=("none",)), 'usermod -aG video,render "$USER"'),
        (replace(with_probe(groups=("none",)), render_node=False), 'usermod -aG video "$USER"'),
    ],
    "no-display": [(with_probe(display=False), "edgeseg run --sink out.mp4")],
    "power-mode": [
        (of_root("orin-nano-jp6.0"), "sudo nvpmodel -m 0"),
        (of_root("xavier-nx-jp5.1.2"), "sudo nvpmodel -m 8"),
    ],
    "clocks": [(with_device(gpu_min_mhz=306.0), "sudo jetson_clocks")],
    "throttled": [(of_root("agx-orin-jp7.2"), "sudo jetson_clocks --fan")],
    "over-current": [(of_root("orin-nx-jp6.2"), "a stronger supply")],
    "memory": [(of_root("orin-nano-jp6.0"), "sudo mkswap /swapfile")],
    "disk": [(with_probe(disk_free_gib=0.4), "sudo apt clean")],
}


@pytest.mark.parametrize("name", CASES)
def test_each_finding(name: str) -> None:
    for facts, fix in CASES[name]:
        found = {finding.name: finding for finding in findings(facts)}
        assert name in found, f"{name} is missing in {sorted(found)}"
        assert fix in found[name].fix and found[name].seen and "\n" not in found[name].what + found[name].fix


def test_no_finding_is_untested() -> None:
    sources = [inspect.getsource(check) for check in CHECKS]
    named = {name for source in sources for name in re.findall(r'Finding\(\s*"([a-z0-9-]+)"', source)}
    assert named == set(CASES)


def test_a_good_board_has_none() -> None:
    assert findings(GOOD) == []


def test_problems_come_first() -> None:
    for name in ("xavier-nx-jp5.1.2", "container-without-mounts", "agx-orin-jp7.2"):
        severities = [finding.severity for finding in findings(of_root(name))]
        assert severities == sorted(severities, key=("problem", "warning", "note").index)


def test_what_must_stay_silent() -> None:
    own_build = with_modules(cv2=Module("4.11.0", "/usr/local/lib/python3.10/site-packages/cv2.so", detail="YES"))
    same_line = in_container(image_l4t="36.4.0", host_l4t="36.5")
    fixed = with_modules(numpy=Module("1.26.4"), tensorrt=Module("8.5.3.1"))
    numpy_two = with_modules(numpy=Module("2.2.6"))
    right_torch = with_modules(torch=Module("2.5.0", detail="12.6"))
    swap = with_device(memory_available_gib=2.0, swap_gib=8.0)
    for facts in (own_build, same_line, fixed, numpy_two, right_torch, swap, with_probe(groups=("root",))):
        assert findings(facts) == []


def test_a_laptop_without_gstreamer_is_not_broken() -> None:
    laptop = replace(of_root("laptop"), probe=replace(of_root("laptop").probe, gstreamer=GStreamer(error="no gi")))
    assert {item.name: item.severity for item in findings(laptop)}["gstreamer-bindings"] == "note"
    nvidia = replace(laptop, probe=replace(laptop.probe, gstreamer=GStreamer("p", "1.24", missing=NVIDIA_ELEMENTS)))
    assert not [item for item in findings(nvidia) if item.name.startswith("gstreamer")]
    unasked = replace(laptop, probe=replace(laptop.probe, gstreamer=None))
    assert not [item for item in findings(unasked) if item.name.startswith("gstreamer")]


def test_numpy_two_is_named_once_for_all_that_it_breaks() -> None:
    found = findings(clash())
    assert [finding.name for finding in found] == ["numpy-2"] and "torch" in found[0].what and "pycuda" in found[0].what


def test_a_binary_for_a_newer_numpy_is_not_blamed_on_numpy_two() -> None:
    facts = with_modules(
        numpy=Module("1.21.0"), cv2=Module(error="ImportError: numpy.core.multiarray failed to import")
    )
    assert [finding.name for finding in findings(facts)] == ["cv2-missing"]


def test_a_mode_that_says_nothing_about_the_gpu_is_only_a_note() -> None:
    modes = (PowerMode(0, "MAXN"), PowerMode(1, "120W"))
    facts = replace(with_device(power_mode_id=1, power_mode="120W"), modes=modes)
    assert [(item.name, item.severity) for item in findings(facts)] == [("power-mode", "note")]


def test_unprobed_trees_are_not_accused_of_missing_packages() -> None:
    names = {finding.name for finding in findings(gathered_facts(ROOTS / "orin-nx-jp6.2", Probe()))}
    assert names == {"no-camera", "over-current"}


CASES_OF_FUZZ = int(os.environ.get("EDGESEG_FUZZ_CASES", "150"))


def test_injured_trees_never_raise(tmp_path: Path) -> None:
    dice = random.Random(7)
    names = sorted(path.name for path in ROOTS.iterdir() if path.is_dir())
    for name in names:
        shutil.copytree(ROOTS / name, tmp_path / name)
    for _ in range(CASES_OF_FUZZ):
        root = tmp_path / dice.choice(names)
        victim = dice.choice([path for path in sorted(root.rglob("*")) if path.is_file() and path.stat().st_size])
        whole = victim.read_bytes()
        victim.write_bytes(_injured(whole, dice))
        try:
            probe = probe_of_record(root)
        except InputError:
            probe = Probe()
        findings(gathered_facts(root, probe))
        victim.write_bytes(whole)


def _injured(data: bytes, dice: random.Random) -> bytes:
    kind = dice.randrange(5)
    at = dice.randrange(len(data))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return bytes(dice.randrange(256) for _ in range(dice.randrange(1, 300)))
    if kind == 2:
        return re.sub(rb"\d+", lambda match: dice.choice([b"9" * 5000, b"-1", b"", b"nan"]), data)
    if kind == 3:
        return data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
    return data * 3
