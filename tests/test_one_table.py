"""Facts about JetPack releases stand in one table; what cannot read it agrees with it, and nothing else repeats it."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any, Iterator

import pytest

from edgeseg.device.jetpack import RELEASES, SERIES, SOCS, release, release_of_l4t

ROOT = Path(__file__).resolve().parents[1]
JETSON = ROOT / "jetson"
pytestmark = pytest.mark.skipif(not JETSON.is_dir(), reason="jetson/ is not beside tests/: only in a whole clone")


def releases_script() -> Any:
    spec = importlib.util.spec_from_file_location("jetson_releases", JETSON / "releases.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_of_the_scripts_are_as_the_table_says() -> None:
    for path, text in releases_script().files().items():
        assert path.read_text() == text, f"run: python jetson/releases.py  ({path.name} differs)"
    assert {path.name for path in releases_script().files()} == {
        *(path.name for path in JETSON.glob("jetpack*.env")),
        *(path.name for path in JETSON.glob("constraints-jp*.txt")),
    }


def test_a_line_that_is_missing_is_named() -> None:
    with pytest.raises(SystemExit, match="no line begins with 'L4T_MAJORS='"):
        releases_script().with_lines("PYTHON_VERSION=3.8\n", {"L4T_MAJORS=": 'L4T_MAJORS="35"'})


def test_the_words_of_setup_agree() -> None:
    text = (JETSON / "setup.sh").read_text()
    known = ", ".join(f"{name}: {' and '.join(f'{major}.x' for major in SERIES[name].l4t)}" for name in ("5", "6", "7"))
    assert f"({known}); if its Python is 3.8, 3.10 or 3.12, pass" in text
    assert [SERIES[name].python for name in ("5", "6", "7")] == ["3.8", "3.10", "3.12"]
    (pattern,) = re.findall(r"\[\[ \$l4t != (\S+) \]\]", text)
    expression = re.compile(pattern.replace(".", r"\.").replace("*", ".*"))
    for one in RELEASES:
        if one.series is SERIES["5"]:
            assert all(bool(expression.fullmatch(l4t)) == (not one.usable) for l4t in one.l4t), one.jetpack
    first = next(one for one in RELEASES if one.usable)
    assert f"update to JetPack {first.jetpack} (L4T {'.'.join(first.l4t[0].split('.')[:2])}) or newer" in text


def test_the_resolver_asks_for_the_pythons_of_the_table() -> None:
    text = (JETSON / "arm64" / "resolve.sh").read_text()
    asked = {name: (python, int(glibc)) for name, python, glibc in re.findall(r"(?m)^resolve (\d) (\S+) (\d+)$", text)}
    assert set(asked) == {"5", "6", "7"}
    for name, (python, glibc) in asked.items():
        assert python.startswith(f"{SERIES[name].python}.") and glibc == SERIES[name].glibc
        assert f'"{name}": ("JetPack {name}", "{python}")' in text


def test_the_images_are_of_releases_in_the_table() -> None:
    for name, jetpack in (("r35", "5"), ("r36", "6")):
        text = (JETSON / "docker" / f"Dockerfile.{name}").read_text()
        (default,) = re.findall(r"(?m)^ARG L4T_JETPACK=(\S+)$", text)
        images = {one.image for one in RELEASES if one.series is SERIES[jetpack] and one.usable}
        assert default in images and set(re.findall(r"r\d\d\.\d\.\d", text)) == images
        for l4t, called in re.findall(r"\b(3\d\.\d\.\d) is JetPack ([\d.]+\d)", text):
            known = release_of_l4t(l4t)
            assert known is not None and known.jetpack == called
    text = (JETSON / "docker" / "Dockerfile.jp7").read_text()
    default, later = release("7.0"), release("7.2")
    assert default is not None and later is not None
    (cuda,), (tensorrt,) = (re.findall(rf"(?m)^ARG {name}=(\S+)$", text) for name in ("CUDA", "TENSORRT"))
    assert cuda.startswith(f"{default.cuda}.") and tensorrt.endswith(f"+cuda{default.cuda}")
    assert tensorrt.startswith(f"{default.tensorrt}.")
    assert re.search(rf"For 7\.2: --build-arg CUDA={re.escape(later.cuda)}\.\d ", text)


def test_the_page_for_the_board_says_the_same() -> None:
    text = (JETSON / "README.md").read_text()
    assert "| Python | " + " | ".join(SERIES[name].python for name in ("5", "6", "7")) + " |" in text
    assert "| L4T | 35.2 and newer | 36.x | 38.x, 39.x |" in text


# Nothing else repeats the table

_FACTS = "|".join(
    (
        r"(?<![\d.])r?3[2-9]\.\d{1,2}\.\d{1,2}(?![\d.])",  # an L4T release
        r"tegra\d{3}",
        r"[Jj]et[Pp]ack[ -]\d+\.\d+",
        *(re.escape(one.tensorrt) + r"(?![\d])" for one in RELEASES),
        *(rf"(?<![\d.]){re.escape(soc.compute_capability)}(?![\d.])" for soc in SOCS.values()),
    )
)
ALLOWED = {
    "edgeseg/device/jetpack.py": "the table",
    "edgeseg/device/doctor/board.py": "what to flash, in words",
    "edgeseg/compiler/lint/targets.py": "which rows of the table are targets",
    "edgeseg/compiler/lint/rules/types.py": "what to do, in words",
    "edgeseg/cli/calibrate.py": "an example, and the default of --tensorrt",
    "edgeseg/compiler/calibration/tensorrt_cache.py": "an example in a message",
    "jetson/setup.sh": "checked above",
    "jetson/docker/Dockerfile.r35": "checked above",
    "jetson/docker/Dockerfile.r36": "checked above",
    "jetson/docker/Dockerfile.jp7": "checked above",
    "jetson/jetpack5.env": "written from the table",
    "jetson/jetpack6.env": "written from the table",
    "jetson/jetpack7.env": "written from the table",
}


def said_by_python(text: str) -> Iterator[str]:
    """The strings of a module, without its docstrings."""
    tree = ast.parse(text)
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documents and isinstance(node.value, str):
            yield node.value


def said_by_script(text: str) -> Iterator[str]:
    """The lines of a shell script, a Dockerfile or YAML, without comments."""
    for line in text.splitlines():
        yield re.sub(r"(^|\s)#.*", "", line)


def product_files() -> list[Path]:
    kinds = [path for folder in ("edgeseg", "jetson") for path in sorted((ROOT / folder).rglob("*"))]
    return [
        path
        for path in kinds
        if path.is_file() and (path.suffix in (".py", ".sh", ".env", ".yaml", ".service") or "Dockerfile." in path.name)
    ]


def repeated(path: Path) -> set[str]:
    text = path.read_text()
    said = said_by_python(text) if path.suffix == ".py" else said_by_script(text)
    return {found for line in said for found in re.findall(_FACTS, line)}


def test_no_other_file_repeats_a_fact_of_the_table() -> None:
    files = {path.relative_to(ROOT).as_posix(): repeated(path) for path in product_files()}
    assert len(files) > 150 and files["edgeseg/device/jetpack.py"] >= {"35.4.1", "tegra234", "8.7", "10.16.2"}
    assert {name: facts for name, facts in files.items() if facts and name not in ALLOWED} == {}
    assert {name for name in ALLOWED if not files[name]} == set(), "allowed for nothing"
