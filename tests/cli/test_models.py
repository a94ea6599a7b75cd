"""``edgeseg models``, and names of shipped models in the place of files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edgeseg
from edgeseg.app.config import RunConfig
from edgeseg.app.config_file import read_config, save_config
from edgeseg.app.fields import absolute
from edgeseg.app.models import bundle_or_default, chosen_path
from edgeseg.app.shipped import SHIPPED, model_path, shipped_models
from tests.cli.test_cli import edgeseg as command


def test_lists_every_model_with_what_was_measured(tmp_path: Path) -> None:
    shown = command("models", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(command("models", "--json", cwd=tmp_path).stdout)
    assert found["default"] == "street" and list(found["models"]) == list(shipped_models())
    for name, facts in found["models"].items():
        bundle = edgeseg.load(name)
        assert facts["miou"]["fp32"] == bundle.report.graphs["fp32"].accuracy.miou
        assert f"{100 * facts['miou']['fp32']:.2f}" in shown.stdout and facts["note"] in shown.stdout
        assert facts["int8"] in facts["miou"] and facts["size_bytes"] == shipped_models()[name].stat().st_size


def test_the_shipped_models_fit_in_a_small_package() -> None:
    assert sum(path.stat().st_size for path in shipped_models().values()) <= 25e6


def test_a_name_is_a_shipped_model_unless_a_file_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_path(None) == SHIPPED == model_path("street") == chosen_path(Path("street"))
    bundle, name = bundle_or_default(Path("street"), None)
    assert name == "street.edgeseg (the shipped model of that name)"
    assert bundle.provenance == edgeseg.load("street").provenance
    Path("street").write_bytes(b"somebody's")
    assert model_path("street") == Path("street")
    with pytest.raises(edgeseg.BundleError, match="street"):
        edgeseg.load("street")


def test_a_wrong_name_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    wrong = command("inspect", "streat", cwd=tmp_path)
    assert wrong.returncode != 0 and "shipped are street" in wrong.stderr and wrong.stderr.count("\n") == 1


def test_a_saved_configuration_keeps_the_name(tmp_path: Path) -> None:
    save_config(absolute(RunConfig(model=Path("street"))), tmp_path / "run.toml")
    assert read_config(RunConfig, tmp_path / "run.toml").model == Path("street")
    save_config(absolute(RunConfig(model=Path("own.edgeseg"))), tmp_path / "own.toml")
    assert read_config(RunConfig, tmp_path / "own.toml").model == Path("own.edgeseg").absolute()
