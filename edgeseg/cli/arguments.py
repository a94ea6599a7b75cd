"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer
from typing_extensions import Annotated

from edgeseg.app.config import REQUIRE_SIGNATURE

__all__ = ["RequireSignatureOption", "SaveConfigOption"]

RequireSignatureOption = Annotated[
    Optional[Path],
    typer.Option(
        "--require-signature",
        envvar=REQUIRE_SIGNATURE,
        metavar="PUBLIC_KEY",
        help="Open a bundle only if 'edgeseg sign' signed it with the key of this PEM file (or one of several).",
    ),
]
SaveConfigOption = Annotated[
    Optional[Path],
    typer.Option("--save-config", help="Also write this to a .toml or .json file, for the same command with FILE."),
]
