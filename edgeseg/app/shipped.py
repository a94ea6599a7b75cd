"""The models that come with the package, and how people name them."""

import os
from pathlib import Path
from typing import Dict, Optional, Union

__all__ = ["SHIPPED", "absolute_model", "model_path", "shipped_models"]

_FOLDER = Path(__file__).resolve().parent.parent / "models"
SHIPPED = _FOLDER / "street.edgeseg"
"""The model that commands take where there is no other."""


def shipped_models() -> Dict[str, Path]:
    """Return name -> file of the models of the package, ``SHIPPED`` first."""
    files = sorted(_FOLDER.glob("*.edgeseg"), key=lambda file: (file != SHIPPED, file.name))
    return {file.stem: file for file in files}


def model_path(model: Optional[Union[str, Path]]) -> Path:
    """Return the file of a model: ``SHIPPED`` of None, a model of the package of its name, else the path itself.

    A file or folder of that name comes first.
    """
    if model is None:
        return SHIPPED
    path = Path(model)
    named = shipped_models().get(str(model))
    return path if named is None or path.exists() else named


def absolute_model(text: str) -> str:
    """Return the absolute path of a model; the name of a model of the package as it is."""
    return text if text in shipped_models() and not os.path.exists(text) else os.path.abspath(text)
