"""Build the pages with Zensical: ``python docs/build.py FOLDER``. Warnings are errors; nothing is fetched.

The pages link to each other and to scripts as they lie in the repository. So that these links hold in the built pages
too, all Markdown pages and every file that they link to are copied into one folder with the same layout first.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "docs/**/*.md",
    "jetson/**/*.md",
    "benchmarks/**/*.md",
    "calibration/*.md",
    "examples/*.md",
)
EXTRA = ("docs/style.css",)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^()\s]+)\)")


def zensical() -> str | None:
    """Return the path of the zensical program: of ``.venvs/docs``, of this environment, or of ``PATH``."""
    beside = (ROOT / ".venvs/docs/bin", Path(sys.executable).parent)
    found = (shutil.which("zensical", path=str(folder)) for folder in beside)
    return next(filter(None, found), None) or shutil.which("zensical")


def copy_pages(folder: Path) -> None:
    """Copy all pages, and all files that they link to, into a folder."""
    for pattern in PAGES:
        for page in sorted(ROOT.glob(pattern)):
            _copy_page(page, folder)
    for name in EXTRA:
        _copy_file(ROOT / name, folder)


def _copy_page(page: Path, folder: Path) -> None:
    def kept(link: re.Match[str]) -> str:
        target = link[3].partition("#")[0]
        if not target or "://" in target or target.startswith("mailto:"):
            return link[0]
        linked = (page.parent / target).resolve()
        if linked.is_dir():
            return link[2]  # a site shows no folders
        if linked.is_file() and linked.suffix != ".md":
            _copy_file(linked, folder)
        return link[0]

    target = folder / page.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(LINK.sub(kept, page.read_text(encoding="utf-8")), encoding="utf-8")


def _copy_file(path: Path, folder: Path) -> None:
    target = folder / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def build(target: Path) -> None:
    """Build the site into a folder, which is replaced. Raises CalledProcessError for a warning of Zensical."""
    program = zensical()
    if program is None:
        sys.exit("zensical is not installed; with Python 3.11 or newer 'make docs' installs it")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        copy_pages(work / "pages")
        shutil.copyfile(ROOT / "zensical.toml", work / "zensical.toml")
        (work / "edgeseg").symlink_to(ROOT / "edgeseg")
        subprocess.run([program, "build", "--strict", "--clean"], cwd=work, check=True)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(work / "site", target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/build.py FOLDER")
    build(Path(sys.argv[1]).resolve())
