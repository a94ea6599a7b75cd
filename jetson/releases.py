"""Write what the scripts need of edgeseg's table of JetPack releases into the files that cannot import it.

These are the facts of ``jetpack5.env`` ... and the first line of ``constraints-jp5.txt`` ...; a test compares them
with the table. Run it after a change of ``edgeseg/device/jetpack.py``.

Example: python jetson/releases.py
"""

# ruff: noqa: T201

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from edgeseg.device.jetpack import RELEASES, SERIES, SOCS, Release, Series  # noqa: E402


def main() -> int:
    """Write every file that is not as it should be, and name it."""
    for path, text in files().items():
        if path.read_text() != text:
            path.write_text(text)
            print(f"releases: wrote {path.name}")
    return 0


def files() -> dict[Path, str]:
    """The text that each file should have."""
    found = {}
    for series in SERIES.values():
        usable = [release for release in RELEASES if release.series is series and release.usable]
        if usable:
            env, constraints = HERE / f"jetpack{series.jetpack}.env", HERE / f"constraints-jp{series.jetpack}.txt"
            found[env] = with_lines(env.read_text(), env_lines(series, usable))
            heading = f"# JetPack {series.jetpack}: Python {series.python}, TensorRT {_values(usable, 'tensorrt')}."
            found[constraints] = with_lines(constraints.read_text(), {"# JetPack": heading})
    return found


def env_lines(series: Series, releases: list[Release]) -> dict[str, str]:
    """Beginning of a line in ``jetpack*.env`` -> that line."""
    heading = (
        f"# JetPack {series.jetpack}: Ubuntu {series.ubuntu}, Python {series.python}, "
        f"CUDA {_values(releases, 'cuda')}, TensorRT {_values(releases, 'tensorrt')}. {_values(releases, 'socs')}."
    )
    known = " ".join(f"{l4t}={release.jetpack.split()[0]}" for release in releases for l4t in release.l4t)
    return {
        "# JetPack": heading,
        "L4T_MAJORS=": f'L4T_MAJORS="{" ".join(map(str, series.l4t))}"',
        "L4T_RELEASES=": f'L4T_RELEASES="{known}"',
        "PYTHON_VERSION=": f"PYTHON_VERSION={series.python}",
    }


def with_lines(text: str, lines: dict[str, str]) -> str:
    """A text in which the first line with each beginning is replaced."""
    for start, line in lines.items():
        text, replaced = re.subn(rf"(?m)^{re.escape(start)}.*$", lambda _, line=line: line, text, count=1)
        if not replaced:
            raise SystemExit(f"releases: no line begins with {start!r}; write one, its value will be replaced")
    return text


def _values(releases: list[Release], field: str) -> str:
    """``12.2 or 12.6 (from 6.1)``: the values of a field, each but the first with the release that began it."""
    said: list[str] = []
    last = None
    for release in releases:
        value = getattr(release, field)
        if value != last:
            names = " and ".join(SOCS[soc].family for soc in value) if field == "socs" else value
            said.append(f"{names} (from {release.jetpack})" if said else names)
        last = value
    return (", " if field == "socs" else " or ").join(said)


if __name__ == "__main__":
    sys.exit(main())
