"""The documentation is true: links lead somewhere, quoted messages exist, Python runs, generated pages are current."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import pytest

from edgeseg.recipes import RECIPES, Recipe
from tests import HANG_S
from tests.pages import ROOT, simple_commands

PACKAGE = ROOT / "edgeseg"
DOCS = ROOT / "docs"
WHOLE = DOCS.is_dir() and (ROOT / "README.md").is_file() and (ROOT / "jetson").is_dir()
pytestmark = pytest.mark.skipif(not WHOLE, reason="the pages are not beside tests/: only in a whole clone")

LINKED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "jetson", "benchmarks", "calibration")
FENCE = re.compile(r"^(<!-- on a board -->\n)?```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
SHELL = {"cd", "git", "python3", ".", "export", "openssl", "make", "pip", "edgeseg", "sha256sum", "torchrun"}
"""What a block may use without a board. Each of these is checked below, or is a program of everyone's system."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, whether it needs a board, its language and its text."""

    page: str
    on_board: bool
    language: str
    text: str


def markdown(*names: str) -> list[Path]:
    """The pages under files and folders of the clone."""
    found = [
        path
        for name in names
        for path in (sorted((ROOT / name).rglob("*.md")) if (ROOT / name).is_dir() else [ROOT / name])
    ]
    assert found
    return found


def blocks(*names: str) -> Iterator[Block]:
    for path in markdown(*names):
        for found in FENCE.finditer(path.read_text(encoding="utf-8")):
            yield Block(path.relative_to(ROOT).as_posix(), bool(found[1]), found[2], found[3])


# Links


def slugs(path: Path) -> set[str]:
    """Anchors of a page's headings that are the same on code hosts and in the built pages."""
    seen: dict[str, int] = {}
    found = set()
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for heading in re.findall(r"^#{1,6} +(.+?) *$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", LINK.sub(lambda link: link[0][1 : link[0].index("]")], heading)).strip().lower()
        ours, theirs = plain.replace(" ", "-"), re.sub(r"[-\s]+", "-", plain)
        count = seen[ours] = seen.get(ours, 0) + 1
        if ours == theirs and count == 1:
            found.add(ours)
    return found


def broken_links(path: Path, text: str) -> Iterator[str]:
    """Links of a page's text that lead nowhere, each with the reason."""
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        if not linked.exists() or ROOT not in linked.parents:
            yield f"{target}: no such file"
        elif anchor and anchor not in slugs(linked):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("path", markdown(*LINKED) if WHOLE else [], ids=lambda path: getattr(path, "name", None))
def test_links_and_anchors_lead_somewhere(path: Path) -> None:
    assert list(broken_links(path, path.read_text(encoding="utf-8"))) == []


def test_a_broken_link_would_be_seen() -> None:
    text = "[a](first-hour.md) [b](#start) [c](none.md) [d](first-hour.md#none) [e](#none) [f](../../outside.md)"
    said = [one.partition(":")[0] for one in broken_links(DOCS / "index.md", text)]
    assert said == ["none.md", "first-hour.md#none", "#none", "../../outside.md"]


# Commands


def test_commands_in_blocks_exist_or_need_a_board() -> None:
    """Those of edgeseg itself parse: tests/test_pages.py."""
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11 or newer")

    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    count = 0
    for block in blocks("README.md", "docs"):
        if block.on_board or block.language not in ("", "sh"):
            continue
        for line in filter(None, block.text.splitlines()):
            for words in simple_commands(re.sub(r"\s\s+# .*|^# .*", "", line)):
                count += bool(words)
                words = words[1:] if words[:1] == ["sudo"] else words
                if not words:
                    continue
                where = f"{block.page}: {line}"
                assert words[0] in SHELL or words[0] == "/opt/edgeseg/bin/edgeseg", (
                    f"{where}: is {words[0]} of a board? mark the block"
                )
                if words[0] == "make":
                    assert set(words[1:]) <= targets, where
                if words[:2] == ["pip", "install"]:
                    named = {one for word in words[2:] for one in re.findall(r"[\w-]+", word.partition("[")[2])}
                    assert named <= extras, where
                if words[0] in ("python", "python3") and words[1].endswith(".py"):
                    assert (ROOT / words[1]).is_file(), where
    assert count > 40


def test_alarm_rules_in_the_pages_parse() -> None:
    from edgeseg.runtime.alarms.parser import parse

    said = "".join(block.text for block in blocks("README.md", "docs"))
    rules = re.findall(r"--alarm \"([^\"]+)\"", said)
    assert len(rules) > 1
    for rule in rules:
        assert parse(rule, ["car", "road", "sky"], ["left"])


def python_blocks() -> list[Block]:
    if not WHOLE:
        return []
    return [block for block in blocks("README.md", "docs") if block.language == "python" and not block.on_board]


@pytest.mark.parametrize("block", python_blocks(), ids=lambda block: getattr(block, "page", None))
def test_python_in_the_pages_runs(block: Block, tmp_path: Path) -> None:
    """In a folder with the shipped model and a picture, each under the names that the pages use."""
    model, picture = PACKAGE / "models/street.edgeseg", ROOT / "benchmarks/street-overlay.jpg"
    for name, source in (
        ("street.edgeseg", model),
        ("edgeseg/models/street.edgeseg", model),
        ("photo.jpg", picture),
        ("benchmarks/street-overlay.jpg", picture),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, tmp_path / name)
    (tmp_path / "page.py").write_text(block.text)
    shutil.move(str(tmp_path / "edgeseg"), tmp_path / "kept")  # a folder of that name would be imported
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import edgeseg, os; os.rename('kept', 'edgeseg'); "
    code += "exec(compile(open('page.py').read(), 'page.py', 'exec'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_readme_is_short_and_has_its_parts() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 700
    assert {"Install", "Measured", "Untested"} <= set(re.findall(r"^## (.+)$", text, re.MULTILINE))
    assert len(re.findall(r"^!\[", text, re.MULTILINE)) == 1


# Messages


def skeleton(node: ast.JoinedStr) -> str:
    return "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)


@lru_cache(maxsize=None)
def messages() -> tuple[str, ...]:
    """Every text of the package; what an f-string fills in is one NUL. Docstrings are left out."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = list(ast.walk(tree))
        left_out = {id(node.body[0].value) for node in nodes if isinstance(node, documented) and _has_text(node.body)}
        left_out |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                found.append(skeleton(node))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
                found.append(node.value)
    return tuple(found)


def _has_text(body: list[Any]) -> bool:
    return bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


def is_said(quoted: str) -> bool:
    """Whether a text of the package has all parts of a quotation in order; ``…`` is any text."""
    parts = [part.strip() for part in quoted.split("…") if len(part.strip()) > 1]
    assert max(map(len, parts)) >= 12, f"too little of {quoted!r} is quoted to find it"
    pattern = re.compile(".*?".join(map(re.escape, parts)), re.DOTALL)
    return any(pattern.search(text) or pattern.search(with_flags(text)) for text in messages())


@lru_cache(maxsize=None)
def with_flags(text: str) -> str:
    """A message as a command prints it: libraries name fields in backticks, the command line its options."""
    from edgeseg.app.compile_config import CompileConfig
    from edgeseg.app.config import RunConfig
    from edgeseg.app.fields import fields_of
    from edgeseg.app.train_config import TrainConfig

    kinds = (CompileConfig, TrainConfig, RunConfig)
    flags = {field.name: field.flag.split("/")[0] for kind in kinds for field in fields_of(kind)}
    flags["source"] = "--source"  # what other commands than run call it
    return re.sub(r"`([a-z]\w*)`", lambda found: flags.get(found[1], found[0]), text)


def quoted_messages() -> list[str]:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    sections = text.split("\n## It runs, but")[0]
    return re.findall(r"^\| `([^`]+)` \|", sections, re.MULTILINE)


def test_quoted_messages_are_those_of_the_code() -> None:
    quoted = quoted_messages()
    assert len(quoted) > 60
    assert [one for one in quoted if not is_said(one)] == []


def test_a_misquoted_message_would_be_seen() -> None:
    assert is_said("… is truncated or altered (… bytes, digest does not match); copy it again")
    assert not is_said("… is truncated or altered (… bytes, digest does not fit); copy it again")
    assert not is_said("copy it again … digest does not match")


# The bundle format


def test_a_signed_bundle_is_as_its_specification_says(tmp_path: Path) -> None:
    """A reader written from docs/concepts/bundle.md alone."""
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from edgeseg.bundle import sign_bundle

    plain, signed = PACKAGE / "models/street.edgeseg", tmp_path / "signed.edgeseg"
    sign_bundle(plain, ed25519.Ed25519PrivateKey.generate(), signed)
    data = signed.read_bytes()
    body, seal = data[:-64], data[-64:]
    assert hashlib.sha256(body).hexdigest().encode() == seal
    line = body[-210:]
    found = re.fullmatch(rb"edgeseg-ed25519 ([0-9a-f]{64}) ([0-9a-f]{128})\n", line)
    assert found is not None
    rest = body[: -210 - 2] + (64).to_bytes(2, "little")
    first_seal = hashlib.sha256(rest).hexdigest().encode()
    assert rest + first_seal == plain.read_bytes()
    key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(found[1].decode()))
    key.verify(bytes.fromhex(found[2].decode()), b"edgeseg bundle signature 1\n" + first_seal)


def test_a_bundle_is_as_its_specification_says() -> None:
    import numpy as np

    with zipfile.ZipFile(PACKAGE / "models/street.edgeseg") as archive:
        infos = archive.infolist()
        assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
        assert infos[0].filename == "manifest.json"
        entries = {info.filename: archive.read(info) for info in infos}
    text = (DOCS / "concepts/bundle.md").read_text(encoding="utf-8")

    def rows(heading: str) -> set[str]:
        section = text.split(f"# {heading}\n")[1].split("\n#")[0]
        return set(re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE))

    manifest = json.loads(entries["manifest.json"])
    assert set(manifest) == rows("manifest.json") and manifest["schema"] == 1
    assert set(manifest["spec"]) == rows("spec")
    assert set(json.loads(entries["ranges.json"])) == rows("ranges.json")
    assert {name: hashlib.sha256(data).hexdigest() for name, data in entries.items() if name != "manifest.json"} == (
        manifest["sha256"]
    )
    golden = np.load(io.BytesIO(entries["golden.npz"]))
    assert set(golden) == rows("golden.npz")
    assert {golden[name].dtype for name in golden} == {np.dtype(np.uint8)}


# What follows from the code


def test_generated_pages_are_current() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, str(DOCS / "generate.py"), "--check"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr


def test_exit_codes_name_every_error() -> None:
    from edgeseg import errors

    text = (DOCS / "reference/exit-codes.md").read_text(encoding="utf-8")
    said = {
        name: int(code)
        for code, names in re.findall(r"^\| (\d+) \|[^|]*\|([^|]*)\|$", text, re.MULTILINE)
        for name in re.findall(r"\w+", names)
    }
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EdgesegError)]
    assert said == {kind.__name__: kind.exit_code for kind in kinds}


def rows_of(command: str) -> dict[str, str]:
    """Keys that the page of JSON outputs gives for a command, with what it says of them."""
    text = (DOCS / "reference/json.md").read_text(encoding="utf-8")
    section = text.split(f"\n## edgeseg {command}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))


def require_as_on_the_page(document: dict[str, Any], command: str) -> None:
    rows = rows_of(command)
    assert sorted(document) == sorted(rows)
    for key, said in rows.items():
        if said.startswith("one per"):
            assert sorted(document[key][0]) == sorted(re.findall(r"`(\w+)`", said)), f"{command}: {key}"


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("run", ["--source", "demo://street?frames=1", "--sink", "null://"]),
        ("eval", ["--data", "demo://street?frames=1&size=160x120"]),
        ("verify", ["--graph", "fp32"]),
        ("inspect", []),
    ],
)
def test_json_has_the_keys_of_its_page(command: str, more: list[str]) -> None:
    from typer.testing import CliRunner

    from edgeseg.cli.main import app

    done = CliRunner().invoke(app, [command, str(PACKAGE / "models/street.edgeseg"), *more, "--json"])
    document = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])
    require_as_on_the_page(document, command)


@pytest.mark.parametrize("command", ["export triton", "export deepstream", "predict"])
def test_json_of_what_writes_has_the_keys_of_its_page(command: str, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from edgeseg.cli.main import app
    from edgeseg.demo.street import StreetDataset
    from edgeseg.images import write_png

    write_png(tmp_path / "a.png", StreetDataset("demo://street?frames=1&size=96x72")[0].frame)
    street, out = PACKAGE / "models/street.edgeseg", tmp_path / "out"
    more = {
        "export triton": [street, out],
        "export deepstream": [street, out],
        "predict": [tmp_path / "a.png", "-m", street, "-o", out],
    }[command]
    done = CliRunner().invoke(app, [*command.split(), *map(str, more), "--json"])
    require_as_on_the_page(json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1]), command)


def test_the_page_of_json_names_every_command_that_prints_it() -> None:
    from edgeseg.cli.main import command_line

    def printing(command: Any, name: str) -> Iterator[str]:
        for word, inner in getattr(command, "commands", {}).items():
            yield from printing(inner, f"{name} {word}")
        if any("--json" in option.opts for option in command.params):
            yield name

    text, found = (DOCS / "reference/json.md").read_text(encoding="utf-8"), list(printing(command_line(), "edgeseg"))
    assert len(found) > 20 and [name for name in found if name not in text] == []


def test_json_of_doctor_has_the_keys_of_its_page() -> None:
    from typer.testing import CliRunner

    from edgeseg.cli.main import app

    root = next(path for path in sorted((ROOT / "tests/device/roots").iterdir()) if path.is_dir())
    done = CliRunner().invoke(app, ["doctor", "--root", str(root), "--json"])
    require_as_on_the_page(json.loads(done.stdout), "doctor")


# The built pages


def test_every_graph_and_recipe_is_named_on_its_page() -> None:
    graphs = (DOCS / "concepts/qdq.md").read_text(encoding="utf-8")
    assert [name for name in RECIPES if f"| `{name}` |" not in graphs] == []
    recipes = (DOCS / "concepts/bundle.md").read_text(encoding="utf-8")
    assert [kind.__name__ for kind in get_args(Recipe) if f"`{kind.__name__}`" not in recipes] == []


def test_every_page_is_in_the_navigation() -> None:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11 or newer")

    listed = set(
        re.findall(r'"([^"]+\.md)"', json.dumps(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]))
    )
    assert {path.relative_to(ROOT).as_posix() for path in markdown("README.md", "docs", "benchmarks")} <= listed
    assert [name for name in listed if not (ROOT / name).is_file()] == []


def test_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    sys.path.insert(0, str(DOCS))
    try:
        import build  # type: ignore[import-not-found,unused-ignore]
    finally:
        sys.path.pop(0)
    if build.zensical() is None:
        pytest.skip("zensical is not installed: 'make docs' and 'make test' install it with Python 3.11 or newer")
    build.build(tmp_path / "site")
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|link)\b[^>]*?\b(?:src|href)=\"?(https?:[^\"\s>]+)", text)
        assert [url for url in fetched if "rel=canonical" not in url] == [], f"{page.name} fetches from elsewhere"
    api = (tmp_path / "site/docs/reference/api.html").read_text(encoding="utf-8")
    for name in ("read_bundle", "FrameSource", "FrameSink", "CompileOptions", "GateRefused"):
        assert name in api
