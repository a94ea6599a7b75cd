from __future__ import annotations

import inspect

import pytest

from edgeseg import errors


def test_every_error_is_in_the_tree_that_the_docstring_draws() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]
    assert len(classes) > 10
    for cls in classes:
        assert issubclass(cls, errors.EdgesegError)
        assert cls.__name__ in (errors.__doc__ or "")


def test_exit_codes() -> None:
    assert errors.BundleError("x").exit_code == 1
    assert errors.UsageError("x").exit_code == 2
    assert errors.GateRefused("x").exit_code == 3


def test_require_names_the_extra_that_brings_the_package() -> None:
    with pytest.raises(errors.MissingDependencyError, match=r"no_such_package.*pip install 'edgeseg\[compile\]'"):
        errors.require("no_such_package", "compile")
    assert errors.require("json", "compile").__name__ == "json"
