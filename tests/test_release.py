"""That a version says the same everywhere, and that what guards a commit exists."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

import edgeseg
from tests.release import INSIDE, ROOT, faults_of_wheel, released

pytestmark = pytest.mark.skipif(not (ROOT / "Makefile").is_file(), reason="only in a clone")


def test_the_newest_section_of_the_changelog_is_of_this_version() -> None:
    assert released(ROOT / "CHANGELOG.md") == edgeseg.__version__


def test_the_version_stands_in_one_place() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in text and edgeseg.__version__ not in text


def test_a_wheel_that_lacks_a_file_or_brings_another_folder_is_told(tmp_path: Path) -> None:
    wheel = tmp_path / "edgeseg-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in (*INSIDE[1:], "tests/fakes.py", f"edgeseg-{edgeseg.__version__}.dist-info/METADATA"):
            archive.writestr(name, "")
    assert faults_of_wheel(wheel) == [
        f"failed: {wheel.name} lacks edgeseg/__init__.py",
        f"failed: {wheel.name} has tests, which is not of the package",
    ]


def test_hooks_of_a_commit_run_what_make_check_runs_and_fetch_nothing() -> None:
    yaml = pytest.importorskip("yaml", reason="needs pyyaml, of the extra dev")

    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    entries = [hook["entry"] for hook in repos[0]["hooks"]]
    assert {hook["language"] for hook in repos[0]["hooks"]} == {"system"}
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    for line in recipe.group(1).replace("$(DEV)", ".venvs/dev").splitlines():
        words = [word for word in line.split() if word not in (".", "--check")]
        assert any(set(words) <= set(entry.split()) for entry in entries), line


def test_reports_of_bugs_ask_for_what_the_doctor_says() -> None:
    assert "edgeseg doctor --json" in (ROOT / ".github/ISSUE_TEMPLATE/bug_report.md").read_text()
