"""``edgeseg sign``: vouch for a bundle with a private key."""

import getpass
import os
import warnings
from pathlib import Path
from typing import Optional

import typer
from typing_extensions import Annotated

from edgeseg.app.targets import is_bundle, refuse_foreign
from edgeseg.bundle import sign_bundle
from edgeseg.cli.console import JsonFlag, print_json, say
from edgeseg.errors import InputError, UsageError
from edgeseg.signature import private_key_from_file


def sign(
    model: Annotated[Path, typer.Argument(help="The bundle to sign.")],
    key: Annotated[
        Path,
        typer.Option(help="Private key, a PEM file: openssl genpkey -algorithm ed25519 -out private.pem"),
    ],
    out: Annotated[
        Optional[Path], typer.Option("-o", "--out", help="Write the signed bundle here; else it is signed in place.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Sign a bundle, so that devices with --require-signature take it. Signatures by other keys stay.

    The public key for the devices: openssl pkey -in private.pem -pubout -out public.pem. A password is asked for.

    Example: edgeseg sign street.edgeseg --key private.pem
    """
    target = Path(os.path.realpath(model)) if out is None else out
    if out is not None and (out.suffix.lower() != ".edgeseg" or not out.parent.is_dir()):
        raise UsageError(f"--out must be NAME.edgeseg in an existing folder, got {out}")
    if out is not None:
        refuse_foreign(out, "bundle", is_bundle)
    opened = private_key_from_file(key, lambda: _password(key))
    signature = sign_bundle(model, opened, target)
    if as_json:
        print_json({"bundle": str(out or model), "signed_by": signature.fingerprint})
        return
    say(f"signed {out or model} with the key {signature.fingerprint}")
    say(f"next: edgeseg verify {out or model} --require-signature PUBLIC_KEY")


def _password(key: Path) -> str:
    """What a person types on the terminal, unseen. Raises InputError where it would be seen or there is no terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f"password of {key}: ")
        except (getpass.GetPassWarning, EOFError, OSError) as error:
            raise InputError(
                f"{key} is encrypted, and there is no terminal to ask for its password; run it on a terminal, or pass "
                "the decrypted key through a pipe: --key <(openssl pkey -in KEY -passin ...)"
            ) from error
