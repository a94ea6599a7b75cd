"""A file of ``edgeseg doctor --first-night`` becomes a fixture: ``python tests/device/take.py FILE [--name NAME]``.

It is unpacked into ``roots/NAME`` (the files of the machine), ``golden/NAME.txt`` (what the doctor said there) and
``nights/NAME.json`` (the engine as TensorRT's inspector shows it, the build's log, tegrastats, bench). The suites read
what lies there: run ``python -m pytest tests/device`` and look at what is new before you commit it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any, Mapping

HERE = Path(__file__).resolve().parent
_TOP = ("etc", "proc", "sys", "usr", "var", "dev", "run", "tmp")
_LONE = (".dockerenv", "edgeseg-probe.json")
_MOST_BYTES = 10_000_000


def main() -> int:
    """Take a file in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", help="of the fixture; else made of the board and its JetPack")
    parser.add_argument("--into", type=Path, default=HERE, help="tests/device of another clone")
    words = parser.parse_args()
    try:
        night = night_from(words.file)
        name = words.name or _free(fixture_name(night), words.into)
        written = take(night, name, words.into)
    except (OSError, ValueError) as error:
        print(f"take: {error}", file=sys.stderr)
        return 1
    print(f"took {words.file} as {name}: {len(written)} files in {words.into}")
    _compare(night, words.into / "roots" / name)
    return 0


def night_from(file: Path) -> dict[str, Any]:
    """Read a file that somebody sent; nothing in it is trusted. Raises OSError, ValueError."""
    if file.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{file} has {file.stat().st_size} bytes; what --first-night writes is smaller")
    try:
        night = json.loads(file.read_text(encoding="utf-8"))
        files, text = night["files"], night["doctor"]["text"]
        known = night["edgeseg-first-night"] == 1
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is not what 'edgeseg doctor --first-night' writes ({error!r})") from error
    if not known:
        raise ValueError(f"{file} is of another edgeseg; take it with that one's tests")
    if not isinstance(text, str) or not isinstance(files, dict):
        raise ValueError(f"{file}: files is no object or the doctor's text no text")
    for path, content in files.items():
        parts = PurePosixPath(path).parts
        if not isinstance(content, str) or ".." in parts or not (path in _LONE or parts[:1] and parts[0] in _TOP):
            raise ValueError(f"{file}: {path!r} is no file that the doctor reads")
    return dict(night)


def fixture_name(night: Mapping[str, Any]) -> str:
    """``xavier-nx-jp5.1.2``. Raises ValueError: it does not say what it is."""
    device = night["doctor"].get("json", {}).get("device", {})
    board = re.sub(
        r"nvidia|jetson|developer kit|engineering reference|super", "", str(device.get("board", "")), flags=re.I
    )
    words = re.findall(r"[a-z0-9]+", board.lower())
    release = re.findall(r"^\d[\d.]*", str(device.get("jetpack", "")))
    if not words:
        raise ValueError("the file names no board; give the fixture a --name")
    return "-".join([*words[:4], f"jp{release[0]}" if release else "unknown"])


def _free(name: str, into: Path) -> str:
    """The name, or with a number behind it where another board of its kind was before it."""
    numbered = (f"{name}-{number}" if number > 1 else name for number in range(1, 1000))
    return next(one for one in numbered if not (into / "roots" / one).exists())


def take(night: Mapping[str, Any], name: str, into: Path) -> list[Path]:
    """Unpack; nothing is replaced. Returns what was written. Raises OSError, ValueError."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
        raise ValueError(f"a fixture is named like xavier-nx-jp5.1.2, got {name!r}")
    root, golden, rest = into / "roots" / name, into / "golden" / f"{name}.txt", into / "nights" / f"{name}.json"
    for there in (root, golden, rest):
        if there.exists():
            raise ValueError(f"{there} is there already; give another --name")
    contents = {root / path: text for path, text in night["files"].items()}
    contents[golden] = night["doctor"]["text"]
    others = {key: value for key, value in night.items() if key not in ("files", "doctor")}
    contents[rest] = json.dumps(others, indent=1, ensure_ascii=False) + "\n"
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return sorted(contents)


def _compare(night: Mapping[str, Any], root: Path) -> None:
    """Say whether today's doctor says what the board's did."""
    command = [sys.executable, "-m", "edgeseg", "doctor", "--root", str(root)]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    if said != night["doctor"]["text"]:
        print("today's doctor says something else about it: read the difference that tests/device shows")
    for part, why in night.get("failed", {}).items():
        print(f"not in the file: {part}: {why}")


if __name__ == "__main__":
    sys.exit(main())
