"""The pages for a board, followed line by line in one shell: each line is run, or named with the reason why it is not.

Stand-ins are there only for what needs a board or its network: apt, sudo, nvpmodel, the camera tools, Docker, TensorRT
(``tests/shims``), and a recorded root in place of ``/``. Scripts, pages and edgeseg itself are the real ones.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgeseg.bundle import write_bundle
from tests import HANG_S
from tests.engines.tensorrt.tiny import tiny_bundle
from tests.pages import ROOT, page, pages

HERE = Path(__file__).resolve().parent
PAGES = ("jetson/xavier-nx.md", "jetson/README.md", "jetson/udev/README.md")
NOT_RUN = {
    "edgeseg service status": "asks systemd, which must be the system's own; tests/cli/test_service.py has its answers",
    "edgeseg service status && journalctl -u edgeseg -f": "as above",
    "edgeseg compile runs/mine/best.safetensors --int8 --calib data/train --eval data/val -o mine.edgeseg": (
        "is for the PC, after a training; tests/compiler/test_compile.py runs train and compile"
    ),
    "edgeseg run ... --preview 127.0.0.1:8080": "the dots stand for a source; tests/runtime/preview serve the page",
    "sudo make test-arm64": "takes minutes and root: emulates a whole arm64 system",
    "pip install tensorrt": "is a symptom, not a step: the package is not for Jetson",
    "pip install torch": "is a symptom, not a step",
    "setup.sh --cuda DIR": "DIR stands for a folder; tests/jetson/test_scripts.py runs setup.sh with CUDA's folder",
    "ls -l /dev/v4l/by-id/": "lists cameras that are plugged in",
    "ls -l /dev/edgeseg-camera": "the link that udev makes for a camera",
    "readlink -f /dev/edgeseg-camera": "likewise",
}
SAYS = {
    "cat /etc/nv_tegra_release": "R35",
    "jetson/setup.sh --dry-run": "python3-gi",
    "jetson/setup.sh": "done. Next:",
    "edgeseg doctor": "NVIDIA Jetson",
    "edgeseg/jetson/power-mode.sh": "* MODE_",
    "edgeseg/jetson/power-mode.sh --max": "* MODE_20W_6CORE",
    "edgeseg compile mine.edgeseg --int8": "ready: ",
    "edgeseg verify mine.edgeseg": "self-test: ",
    "edgeseg run mine.edgeseg --camera 0 --sink out.mp4": "3 frames",
    "edgeseg doctor --first-night board.json": "wrote board.json",
    "edgeseg engines list": "int8-implicit",
    "edgeseg engines prune": "0 engines",
    "edgeseg tune mine.edgeseg": "is taken: ",
    "edgeseg bench": "in TensorRT",
    "edgeseg compile mine.edgeseg --int8 --workspace-mib 512": "workspace at most 512 MiB",
    "sudo apt install --reinstall python3-minimal": "",
}
"""What a line must print, besides ending well."""
BOARD_PATHS = ("/etc/nv_tegra_release", "/opt/edgeseg")
TOOLS = ("apt", "docker", "git", "gst-launch-1.0", "journalctl", "scp", "systemctl", "systemd-analyze", "v4l2-ctl")
OF_ROOT = ("cp", "install", "ldconfig", "tee", "udevadm", "useradd", "usermod", "apt", "systemctl")
QUICK = {
    "tune": "--seconds 0.1 --warmup 0 --flavour tensorrt",
    "bench": "--seconds 0.1 --warmup 0 --no-torch --engine tensorrt",
}


def is_command(span: str) -> bool:
    """Whether inline code is something to type: a known program and at least one word more."""
    first, _, rest = span.partition(" ")
    programs = ("edgeseg", "sudo", "pip", "ls", "readlink", "echo", "docker", "scp", "setup.sh", "power-mode.sh")
    fragment = span in (
        "sudo apt install",
        "pip install",
        "docker compose",
        "service install",
        "service remove",
    ) or re.fullmatch(r"edgeseg (run|service \w+)", span)
    return bool(rest) and bool(first in programs or shutil.which(first)) and not fragment


def commands(name: str) -> list[str]:
    """What a page tells to type, its blocks first, each once."""
    one = page(name)
    return list(dict.fromkeys([*one.lines, *filter(is_command, one.spans)]))


class Follower:
    """A user at a board: a home, a clone, a shell."""

    def __init__(self, folder: Path, fixture: str = "jetpack5") -> None:
        self.folder, self.root, self.home = folder, folder / "root", folder / "home"
        self.log = folder / "calls"
        shutil.copytree(HERE / "roots" / fixture, self.root)
        shutil.copytree(ROOT / "tests/device/roots/xavier-nx-jp5.1.2/proc", self.root / "proc")
        (self.root / "etc/passwd").write_text("root:x:0:0::/:\n")
        (self.root / "etc/group").write_text("root:x:0:\nvideo:x:44:\nrender:x:104:\n")
        self.home.mkdir()
        self._clone()
        self._programs()
        write_bundle(tiny_bundle(), self.home / "mine.edgeseg")
        write_bundle(tiny_bundle(), self.clone / "mine.edgeseg")

    def _clone(self) -> None:
        """This clone, with the scripts looking at the recorded root; who follows the page says yes where they ask."""
        self.clone = self.folder / "clone"
        shutil.copytree(ROOT / "jetson", self.clone / "jetson")
        for name in ("edgeseg", "pyproject.toml"):
            (self.clone / name).symlink_to(ROOT / name)
        for name, more in (("setup.sh", ""), ("power-mode.sh", " --yes")):
            real = self.clone / "jetson" / f"real-{name}"
            (self.clone / "jetson" / name).rename(real)
            script(self.clone / "jetson" / name, f'exec {real} --root "$STUB_ROOT" "$@"{more}')

    def _programs(self) -> None:
        self.tools, root_tools = self.folder / "tools", self.folder / "root-tools"
        for folder in (self.tools, root_tools):
            folder.mkdir()
        for name in ("apt-get", "nvpmodel", "jetson_clocks", "python3", "id"):
            shutil.copy(HERE / "stubs.sh", self.tools / name)
        for name in TOOLS:
            script(self.tools / name, f'echo "{name} $*" >> "$STUB_LOG"')
        for name in OF_ROOT:
            script(root_tools / name, f'echo "{name} $*" >> "$STUB_LOG"')
        there = 'while (($#)); do [ "$1" != -f ] || [ -e "$2" ] || exit 3; shift; done'
        script(self.tools / "docker", f'echo "docker $*" >> "$STUB_LOG"; {there}')
        script(root_tools / "cp", 'echo "cp $*" >> "$STUB_LOG"; [ -e "$1" ]')
        script(self.tools / "git", f'echo "git $*" >> "$STUB_LOG"; ln -sfn {self.clone} edgeseg')
        script(
            root_tools / "useradd",
            'echo "useradd $*" >> "$STUB_LOG"; echo "${@: -1}:x:990:990::/:" >> "$STUB_ROOT/etc/passwd"',
        )
        # As Ubuntu's sudo: with a path of its own, on which no environment of a user is.
        path = f"{root_tools}:{self.tools}:/usr/sbin:/usr/bin:/sbin:/bin"
        script(self.tools / "sudo", f'echo "sudo $*" >> "$STUB_LOG"; PATH={path} exec "$@"')
        shims = f"{ROOT / 'tests' / 'shims'}:{ROOT}"
        self.edgeseg = self.folder / "edgeseg-on-board"
        here = HERE / "on_board.py"
        script(self.edgeseg, f'echo "edgeseg $*" >> "$STUB_LOG"; PYTHONPATH={shims} exec {sys.executable} {here} "$@"')

    def edgeseg_is_installed(self) -> None:
        """As after the first page."""
        (self.home / "bin").mkdir()
        shutil.copy(self.edgeseg, self.home / "bin/edgeseg")

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "USER": "anna",
            "PATH": f"{self.home}/bin:{self.tools}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHON": str(self.tools / "python3"),
            "STUB_LOG": str(self.log),
            "STUB_ROOT": str(self.root),
            "STUB_PYTHON": "3.8",
            "STUB_EDGESEG": str(self.edgeseg),
            "EDGESEG_FAKE_TENSORRT": "8.5.2.2",
            "XDG_CACHE_HOME": str(self.home / ".cache"),
        }

    def follow(self, lines: list[str], start: Path) -> dict[str, tuple[int, str]]:
        """Type the lines into one shell. Returns, by line, how each ended and what it printed."""
        typed = []
        for number, line in enumerate(lines):
            typed += [f"printf '\\n@@begin {number}\\n'", self.typed(line), f'printf "\\n@@end {number} %d\\n" $?']
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-c", "\n".join(typed)],
            cwd=start,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=HANG_S,
        )
        found = re.findall(r"@@begin (\d+)\n(.*?)\n@@end \1 (\d+)\n", done.stdout, re.DOTALL)
        return {lines[int(number)]: (int(code), said) for number, said, code in found}

    def typed(self, line: str) -> str:
        """The line with a real address in it, and paths of the board's system in the recorded root."""
        line = re.sub(r"<this repository>", "https://example.org/edgeseg.git", line)
        for path in BOARD_PATHS:
            line = re.sub(rf"(?<![\w-]){re.escape(path)}\b", str(self.root) + path, line)
        if re.match(r"(setup|power-mode)\.sh ", line):
            line = f"{self.clone}/jetson/{line}"
        words = line.split()
        if words[:1] == ["edgeseg"] and words[1] in QUICK:  # as long as it takes on a board
            line += f" {QUICK[words[1]]}"
        return line


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def as_a_service() -> list[str]:
    """The first three commands of README's section of that name: user, folder, environment."""
    lines = page("jetson/README.md").lines
    at = next(number for number, line in enumerate(lines) if line.startswith("sudo useradd"))
    return list(lines[at : at + 3])


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="needs dpkg-query: not a Debian or Ubuntu")
@pytest.mark.parametrize("name", PAGES)
def test_every_line_of_the_page_does_what_it_says(name: str, tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    start = follower.home
    if name != "jetson/xavier-nx.md":
        follower.edgeseg_is_installed()
        start = follower.clone
    lines = [line for line in commands(name) if line not in NOT_RUN]
    if name == "jetson/xavier-nx.md":  # it sends its reader there and back
        at = lines.index("sudo cp mine.edgeseg /var/lib/edgeseg/")
        lines[at:at] = as_a_service()
        lines[lines.index("sudo install -d -o edgeseg -g edgeseg /var/lib/edgeseg")] += f" && cd {follower.clone}"
        lines[lines.index("sudo cp mine.edgeseg /var/lib/edgeseg/")] = "cd ~ && sudo cp mine.edgeseg /var/lib/edgeseg/"
    ended = follower.follow(lines, start)
    if "service install" in "".join(lines):
        unit = (follower.root / "etc/systemd/system/edgeseg.service").read_text()
        stored = (follower.root / "etc/edgeseg/edgeseg.toml").read_text()
        assert "run /etc/edgeseg/edgeseg.toml" in unit and "EnvironmentFile" not in unit
        for line in ('model = "/var/lib/edgeseg/mine.edgeseg"', "camera = 0", "jsonl:///var/lib/edgeseg/frames.jsonl"):
            assert line in stored
    for line in lines:
        assert line in ended, f"{name}: after {line!r} the shell was gone"
        code, said = ended[line]
        assert code == 0, f"{name}: {line!r} ended with {code}: {said}"
        assert "Traceback" not in said and SAYS.get(line, "") in said, f"{name}: {line!r} printed {said}"


def test_no_page_names_a_settings_file_that_nothing_reads() -> None:
    source = "".join(path.read_text() for path in (ROOT / "edgeseg").rglob("*.py"))
    for one in pages():
        for path in re.findall(r"/etc/(?:default|sysconfig|edgeseg)\b[\w./-]*", " ".join((*one.lines, *one.spans))):
            written = path.replace("edgeseg.toml", "{name}.toml")  # the name is that of the service
            assert path in source or written in source, f"{one.name} names {path}, which nothing reads"


def test_a_line_that_does_not_work_would_be_seen(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    follower.edgeseg_is_installed()
    wrong = ["no-such-tool --list", "sudo edgeseg doctor", "edgeseg engines lst", "jetson/setup.sh --dri-run"]
    ended = follower.follow([*wrong, "edgeseg engines list"], follower.clone)
    assert [ended[line][0] for line in wrong] in ([127, 127, 2, 2], [127, 126, 2, 2]), "sudo has a path of its own"
    assert ended["edgeseg engines list"][0] == 0


def test_reasons_are_for_lines_that_are_there() -> None:
    there = {line for name in PAGES for line in commands(name)}
    assert set(NOT_RUN) <= there and set(SAYS) <= there, (set(NOT_RUN) | set(SAYS)) - there
