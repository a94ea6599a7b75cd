"""The list of what GStreamer must bring is what the runtime uses, and what every installer installs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any, Iterator, Sequence

import pytest

from edgeseg.device.gstreamer import (
    BINDINGS,
    NVIDIA_ELEMENTS,
    GStreamer,
    candidate_pythons,
    gstreamer_from_json,
    gstreamer_install,
    gstreamer_packages,
    probed_gstreamer,
)
from edgeseg.errors import MissingDependencyError
from edgeseg.runtime.gst import output_child, process
from edgeseg.runtime.gst.pipelines import CAPTURE_FLIPS, CAPTURE_FORMATS, CaptureOptions, pipeline_from_uri
from tests import HANG_S

ROOT = Path(__file__).resolve().parents[2]
CORE = {"capsfilter", "fakesink", "filesink", "filesrc", "identity", "queue", "tee", "valve"}
"""Part of GStreamer itself, on which every package of it depends."""
PLUGGED = {
    *("jpegdec", "multipartdemux", "qtdemux", "matroskademux", "souphttpsrc", "hlsdemux"),
    *("rtph264depay", "rtph265depay", "rtpjpegdepay", "h264parse", "h265parse", "avdec_h264", "avdec_h265", "udpsrc"),
}
"""What decodebin, uridecodebin and rtspsrc take for H.264, H.265, MJPEG, HLS and stored videos."""
NEEDED = {name for provides in gstreamer_packages().values() for name in provides}
ENCODERS = {name for name, _ in output_child.ENCODERS}
"""One that every machine can have is enough; the others are used where they are."""


def really(command: Sequence[str]) -> tuple[int, str, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    return done.returncode, done.stdout, done.stderr


def elements(text: str) -> set[str]:
    """The elements that a pipeline names: the first word between exclamation marks, where it is no caps."""
    inner = re.sub(r'"[^"]*"', "X", text).replace("(", " ( ").replace(")", " ) ")
    parts = (part.strip(" ()").split() for part in inner.split("!"))
    return {words[0] for words in parts if words and re.fullmatch(r"[a-z][a-z0-9_]*", words[0])}


def captures() -> Iterator[str]:
    uris = ("rtsp://h/a", "https://h/live.m3u8", "http://h/a.mp4", "csi://0", "v4l2:///dev/video0", "file:///a.mp4")
    for uri, flip, jetson, size in product(uris, CAPTURE_FLIPS, (False, True), (None, (64, 96))):
        yield pipeline_from_uri(uri, CaptureOptions(size_hw=size, flip=flip, jetson=jetson, network_hw=(64, 96))).text
    for form, jetson in product(CAPTURE_FORMATS, (False, True)):
        yield pipeline_from_uri("v4l2:///dev/video0", CaptureOptions(format=form, rate=30, jetson=jetson)).text


def outputs() -> set[str]:
    """Every element in the texts of the output process, whatever they are joined from."""
    source = Path(output_child.__file__).read_text()
    texts = re.findall(r'"((?:[^"\\]|\\.)*)"', source)
    encoders = {name for name, _ in output_child.ENCODERS}
    found = {name for text in texts if "!" in text or "name=" in text for name in elements(text)}
    return encoders | {name for name in found if not name.startswith("name")}


def test_everything_that_the_runtime_uses_is_in_the_list() -> None:
    used = {name for text in captures() for name in elements(text)} | outputs()
    assert {"rtspsrc", "v4l2src", "appsink", "appsrc", "mp4mux", "matroskamux", "rtph264pay", "x264enc"} <= used
    ours = {name for name in used if not name.startswith("nv")}
    assert ours - CORE - ENCODERS <= NEEDED, f"not in gstreamer.txt: {sorted(ours - CORE - ENCODERS - NEEDED)}"
    assert len(ENCODERS & NEEDED) == 1, "a machine that lacks a listed encoder is told to install it"
    assert PLUGGED <= NEEDED
    assert NEEDED - ours - PLUGGED - {"jpegparse"} == {"Gst", "GstRtsp", "GstRtspServer"}, "no longer used"
    assert set(NVIDIA_ELEMENTS) - {"nvv4l2decoder"} <= used, "decodebin takes nvv4l2decoder by itself"


def test_the_namespaces_are_those_that_the_processes_import() -> None:
    folder = Path(process.__file__).parent
    asked = {name for file in folder.glob("*_child.py") for name in re.findall(r'version\("(\w+)"', file.read_text())}
    assert asked | {"GstRtsp"} == {name for name in NEEDED if name[0].isupper()}, "GstRtspServer needs GstRtsp"
    assert "Gst" in BINDINGS


@pytest.mark.system
def test_each_package_provides_what_the_list_says_of_it() -> None:
    """On this Debian; elements that moved between packages would be seen here."""
    if process.gstreamer_python() is None or not shutil.which("dpkg-query"):
        pytest.skip("GStreamer is not installed; sudo make setup-system")
    ask = (
        "import gi, json, sys; gi.require_version('Gst', '1.0'); from gi.repository import Gst; Gst.init(None)\n"
        "found = {name: Gst.ElementFactory.find(name) for name in sys.argv[1:]}\n"
        "print(json.dumps({name: factory and factory.get_plugin().get_filename() for name, factory in found.items()}))"
    )
    names = sorted(name for name in NEEDED if name[0].islower())
    files = json.loads(really([str(process.gstreamer_python()), "-c", ask, *names])[1])
    for package, provides in gstreamer_packages().items():
        owned = subprocess.run(["dpkg-query", "-L", package], capture_output=True, text=True)
        if owned.returncode:
            pytest.skip(f"{package} is not installed; sudo make setup-system")
        basenames = {line.rpartition("/")[2] for line in owned.stdout.splitlines()}
        for name in provides:
            wanted = Path(files[name]).name if name in files else f"{name}-1.0.typelib"
            assert wanted in basenames, f"{name} is in {wanted}, which is not of {package}"


@pytest.mark.system
def test_nothing_is_missing_where_the_list_is_installed() -> None:
    if process.gstreamer_python() is None:
        pytest.skip("GStreamer is not installed; sudo make setup-system")
    found = probed_gstreamer(really)
    assert found.works and found.python == process.gstreamer_python() and not found.error
    assert set(found.missing) <= set(NVIDIA_ELEMENTS)


@pytest.mark.system
def test_a_plugin_that_is_registered_but_gone_is_missing(tmp_path: Path) -> None:
    """As after an update: the registry still knows the element, its file does not load."""
    if process.gstreamer_python() is None or not shutil.which("gst-inspect-1.0"):
        pytest.skip("GStreamer is not installed; sudo make setup-system")
    told = really(["gst-inspect-1.0", "jpegparse"])[1]
    file = Path(re.findall(r"Filename\s+(\S+)", told)[0])
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    for plugin in file.parent.glob("*.so"):
        (plugins / plugin.name).symlink_to(plugin)
    scanner = {"GST_PLUGIN_SYSTEM_PATH": str(plugins), "GST_REGISTRY": str(tmp_path / "registry")}

    def there(command: Sequence[str]) -> tuple[int, str, str]:
        words = ["env", *(f"{name}={value}" for name, value in scanner.items()), *command]
        return really(words)

    assert "jpegparse" not in probed_gstreamer(there).missing
    (plugins / file.name).unlink()
    (plugins / file.name).write_bytes(b"not a library")
    scanner["GST_REGISTRY_UPDATE"] = "no"
    assert "jpegparse" in probed_gstreamer(there).missing


def test_a_python_without_bindings_is_passed_over_and_said(tmp_path: Path) -> None:
    asked = []

    def run(command: Sequence[str]) -> tuple[int, str, str]:
        asked.append(command[0])
        if command[0] == "mine":
            return 0, json.dumps({"python": "3.9.5", "error": "ImportError: cannot import name '_gi'"}), ""
        if command[0] == "gone":
            return -1, "", "No such file or directory: 'gone'"
        return 0, "noise\n" + json.dumps({"python": "3.8.10", "version": "1.16.3", "missing": ["x264enc"]}), ""

    found = probed_gstreamer(run, ["mine", "/usr/bin/python3", "never"])
    assert found == GStreamer("/usr/bin/python3", "1.16.3", missing=("x264enc",))
    assert asked == ["mine", "/usr/bin/python3"]
    none = probed_gstreamer(run, ["mine", "gone"])
    assert not none.works and none.error == (
        "mine (3.9.5): ImportError: cannot import name '_gi'; "
        "gone: it ended with code -1 (No such file or directory: 'gone')"
    )


def test_a_real_python_without_gi_says_why(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    found = probed_gstreamer(really, [str(tmp_path / "venv/bin/python")])
    assert not found.works and "No module named 'gi'" in found.error and "(3." in found.error


def test_bindings_for_another_python_are_passed_over(tmp_path: Path) -> None:
    """python3-gi's compiled part is for one Python: another finds the package and cannot import it."""
    (tmp_path / "gi").mkdir()
    (tmp_path / "gi/__init__.py").write_text("from . import _gi\n")

    def run(command: Sequence[str]) -> tuple[int, str, str]:
        words = [command[0], *(word for word in command[1:] if word != "-I")]
        return really(["env", f"PYTHONPATH={tmp_path}", *words])

    found = probed_gstreamer(run, [sys.executable])
    assert not found.works and "cannot import name '_gi'" in found.error


def test_the_runtime_starts_one_of_the_pythons_that_are_probed_and_names_the_line(monkeypatch: Any) -> None:
    assert candidate_pythons()[-1] == "/usr/bin/python3"
    assert process.gstreamer_python() in (None, *candidate_pythons())
    monkeypatch.setattr(process, "gstreamer_python", lambda: None)
    with pytest.raises(MissingDependencyError) as refused:
        process.GstProcess("capture_child.py", {})
    assert f"sudo apt {gstreamer_install()}" in str(refused.value) and "\n" not in str(refused.value)


def test_the_line_names_what_is_missing_and_nothing_else() -> None:
    assert gstreamer_install(["x264enc", "avdec_h264"]) == "install gstreamer1.0-plugins-ugly gstreamer1.0-libav"
    assert gstreamer_install().split()[1:] == list(gstreamer_packages())
    for package in (
        *("python3-gi", "gir1.2-gstreamer-1.0", "gir1.2-gst-plugins-base-1.0", "gir1.2-gst-rtsp-server-1.0"),
        *(f"gstreamer1.0-{part}" for part in ("plugins-base", "plugins-good", "plugins-bad", "plugins-ugly", "libav")),
    ):
        assert package in gstreamer_packages()


@pytest.mark.parametrize("document", ["x", 3, [], {"missing": "x264enc"}])
def test_what_is_no_answer_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="gstreamer"):
        gstreamer_from_json(document)


def test_every_installer_reads_the_list() -> None:
    if not (ROOT / "jetson").is_dir():
        pytest.skip("jetson/ is not beside tests/: only in a whole clone")
    listed = "edgeseg/device/gstreamer.txt"
    for name in ("Dockerfile.r35", "Dockerfile.r36", "Dockerfile.jp7"):
        text = (ROOT / "jetson/docker" / name).read_text()
        image = text[text.rindex("\nFROM ") :]
        copied, installed = image.index(f"COPY {listed} /gstreamer.txt"), image.index("/gstreamer.txt | xargs apt-get")
        assert copied < installed, "the image that runs installs it, not only the one that builds"
    assert listed in (ROOT / "tests/system/install.sh").read_text()
    for page in ("README.md", "xavier-nx.md"):
        text = (ROOT / "jetson" / page).read_text()
        assert "python3-gi" in text, f"{page} does not say what carries cameras"
        assert "GStreamer" not in "".join(line for line in text.splitlines() if "wheel has no GStreamer" in line)
