"""Sign bundles and verify signatures: they tell who vouches for a file, while its seal only says that it is whole.

A signature is an Ed25519 signature (RFC 8032) of ``PURPOSE`` and the seal of the bundle as it was before it was signed:
the SHA-256 of every byte of that file. It is a line of the zip comment, in front of the seal::

    edgeseg-ed25519 PUBLIC-KEY-IN-HEX SIGNATURE-IN-HEX

Without these lines a bundle is again, byte for byte, what was signed; that is what gets unpacked. Keys are PEM files as
OpenSSL makes them: ``openssl genpkey -algorithm ed25519 -out private.pem`` and
``openssl pkey -in private.pem -pubout -out public.pem``.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Sequence

from edgeseg.errors import BundleError, InputError, SignatureError, first_line, require

__all__ = [
    "PURPOSE",
    "PublicKeys",
    "Signature",
    "checked_signatures",
    "private_key_from_file",
    "public_keys_from_file",
    "signature_of",
    "signed_file",
    "unsigned_file",
]

PURPOSE = b"edgeseg bundle signature 1\n"
"""Prefix of what is signed, so that no signature made for something else fits a bundle."""

_EXTRA = "sign"
_SEAL_BYTES = 64
_LINE = re.compile(rb"edgeseg-ed25519 ([0-9a-f]{64}) ([0-9a-f]{128})\n")
_LINE_BYTES = 210
_MOST_SIGNATURES = 16
_END = struct.Struct("<4s16xH")
"""The end of a zip archive in front of its comment: magic number, ..., length of the comment."""
_END_MAGIC = b"PK\x05\x06"
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)
_MOST_KEY_BYTES = 1 << 16
_DER_OF_ED25519 = bytes.fromhex("302a300506032b6570032100")


@dataclass(frozen=True)
class Signature:
    """One signature of a bundle.

    Attributes:
        public_key: key of whom it claims to be, 32 bytes.
        value: the signature itself, 64 bytes.
        checked: it was verified with a key that the reader accepts; else anybody may have written it.
    """

    public_key: bytes
    value: bytes
    checked: bool = False

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the public key's DER form, 64 hexadecimal digits."""
        return _fingerprint(self.public_key)


@dataclass(frozen=True)
class PublicKeys:
    """Keys whose signatures are accepted.

    Attributes:
        path: the file that the keys were read from.
        keys: 32 bytes each; one of them is enough.
    """

    path: Path
    keys: tuple[bytes, ...]


def public_keys_from_file(path: Path) -> PublicKeys:
    """Read one or several public keys from a PEM file; text around them is left alone.

    Raises:
        InputError: the file cannot be read, or anything in it is no public Ed25519 key.
        MissingDependencyError: the package cryptography is not installed.
    """
    serialization, ed25519 = _cryptography()
    data, _ = _key_bytes(path)
    blocks = _pem_blocks(path, data, "openssl pkey -in PRIVATE.pem -pubout -out PUBLIC.pem")
    keys = []
    for label, block in blocks:
        if "PRIVATE KEY" in label:
            raise InputError(
                f"{path} holds a private key, which stays with whoever signs; pass the public one: openssl pkey -in "
                f"{path} -pubout -out PUBLIC.pem"
            )
        if label != "PUBLIC KEY":
            raise InputError(f"{path} holds a {label.lower()} where a PUBLIC KEY is needed, as openssl pkey writes it")
        key = _loaded(path, partial(serialization.load_pem_public_key, block, _backend()))
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise InputError(f"{path} holds {_kind(key)}, and bundles are signed with Ed25519 keys")
        keys.append(_raw(key, serialization))
    return PublicKeys(path, tuple(keys))


def private_key_from_file(path: Path, ask_password: Callable[[], str]) -> Any:
    """Read the private key of whoever signs: one key in a PEM file that nobody else can read.

    Args:
        path: the file, or a pipe of the shell's.
        ask_password: asked once, if the key is encrypted.

    Returns:
        An ``Ed25519PrivateKey`` of the package cryptography.

    Raises:
        InputError: the file cannot be read, others can read it, it holds no private Ed25519 key, or the password is
            wrong.
        MissingDependencyError: the package cryptography is not installed.
    """
    serialization, ed25519 = _cryptography()
    data, mode = _key_bytes(path, pipe=True)
    blocks = _pem_blocks(path, data, "openssl genpkey -algorithm ed25519 -out PRIVATE.pem")
    if len(blocks) != 1:
        raise InputError(f"{path} holds {len(blocks)} keys; pass a file with the private key alone")
    ((label, block),) = blocks
    if "PRIVATE KEY" not in label:
        raise InputError(f"{path} holds a {label.lower()}; signing needs the private key")
    if mode & 0o077:
        raise InputError(f"{path} holds a private key and is open to others (mode {mode:o}); chmod 600 {path}")
    is_encrypted = b"ENCRYPTED" in block
    password = ask_password().encode() if is_encrypted else None
    remark = "; is the password right?" if is_encrypted else ""
    key = _loaded(path, partial(serialization.load_pem_private_key, block, password, _backend()), remark)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputError(
            f"{path} holds {_kind(key)}, and bundles are signed with Ed25519 keys: openssl genpkey -algorithm ed25519"
        )
    return key


def signature_of(seal: bytes, key: Any) -> Signature:
    """Sign the seal of an unsigned bundle (64 hexadecimal digits) with a key of ``private_key_from_file``.

    Raises:
        MissingDependencyError: the package cryptography is not installed.
    """
    serialization, _ = _cryptography()
    return Signature(_raw(key.public_key(), serialization), key.sign(PURPOSE + seal), checked=True)


def checked_signatures(
    signatures: Sequence[Signature], seal: bytes, accepted: PublicKeys, path: Path
) -> tuple[Signature, ...]:
    """Verify those signatures that are said to be of an accepted key.

    Args:
        signatures: the bundle's signatures.
        seal: seal of the bundle without them, 64 hexadecimal digits.
        accepted: one valid signature of one of these keys is enough.
        path: the bundle's file, for messages.

    Returns:
        All signatures; those that were verified are marked.

    Raises:
        SignatureError: there is none, none is of an accepted key, or one that says so does not fit.
        MissingDependencyError: the package cryptography is not installed.
    """
    if not signatures:
        raise SignatureError(
            f"{path} is not signed, and a signature by a key of {accepted.path} is required; 'edgeseg sign' signs"
        )
    known = [signature.public_key in accepted.keys for signature in signatures]
    if not any(known):
        shown = ", ".join(signature.fingerprint for signature in signatures)
        raise SignatureError(
            f"{path} is signed by {shown}, and by no key of {accepted.path}; use a bundle from its owner"
        )
    for signature, is_known in zip(signatures, known):
        if is_known and not _fits(signature, seal):
            raise SignatureError(
                f"{path} is not what {signature.fingerprint} signed: the signature does not fit the file; do not use it"
            )
    return tuple(replace(signature, checked=is_known) for signature, is_known in zip(signatures, known))


def unsigned_file(data: bytes, path: Path) -> tuple[bytes, tuple[Signature, ...]]:
    """Split a bundle into the file that was signed and its signatures; one that is not signed comes back as it is.

    Args:
        data: a bundle whose seal was found right.
        path: the bundle's file, for messages.

    Raises:
        BundleError: what stands between the archive and the seal are no signatures.
    """
    end = len(data) - _SEAL_BYTES
    signatures: list[Signature] = []
    while len(signatures) <= _MOST_SIGNATURES:
        line = _LINE.fullmatch(data, max(end - _LINE_BYTES, 0), end)
        if line is None:
            break
        signatures.insert(0, Signature(bytes.fromhex(line[1].decode()), bytes.fromhex(line[2].decode())))
        end -= _LINE_BYTES
    comment = len(data) - end
    fixed = data[max(end - _END.size, 0) : end]
    if len(fixed) != _END.size or _END.unpack(fixed) != (_END_MAGIC, comment) or len(signatures) > _MOST_SIGNATURES:
        raise BundleError(f"{path} has damaged signatures or another end than edgeseg writes; copy it again")
    if len({signature.public_key for signature in signatures}) != len(signatures):
        raise BundleError(f"{path} is signed twice by the same key; it was not written by edgeseg")
    if not signatures:
        return data, ()
    body = data[: end - 2] + struct.pack("<H", _SEAL_BYTES)
    return body + hashlib.sha256(body).hexdigest().encode(), tuple(signatures)


def signed_file(unsigned: bytes, signatures: Sequence[Signature]) -> bytes:
    """Put signatures into the file that they are of.

    Raises:
        BundleError: the signatures are too many.
    """
    if len(signatures) > _MOST_SIGNATURES:
        raise BundleError(f"a bundle holds at most {_MOST_SIGNATURES} signatures; sign the file that compile wrote")
    lines = b"".join(
        f"edgeseg-ed25519 {signature.public_key.hex()} {signature.value.hex()}\n".encode() for signature in signatures
    )
    body = unsigned[: -_SEAL_BYTES - 2] + struct.pack("<H", len(lines) + _SEAL_BYTES) + lines
    return body + hashlib.sha256(body).hexdigest().encode()


def _fits(signature: Signature, seal: bytes) -> bool:
    _, ed25519 = _cryptography()
    invalid = require("cryptography.exceptions", _EXTRA).InvalidSignature
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(signature.public_key).verify(signature.value, PURPOSE + seal)
    except (invalid, ValueError):
        return False
    return True


def _fingerprint(public_key: bytes) -> str:
    return hashlib.sha256(_DER_OF_ED25519 + public_key).hexdigest()


def _cryptography() -> tuple[Any, Any]:
    """Import the modules for PEM files and for Ed25519. Raises MissingDependencyError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it prints its plans for the Pythons of older JetPacks
        return (
            require("cryptography.hazmat.primitives.serialization", _EXTRA),
            require("cryptography.hazmat.primitives.asymmetric.ed25519", _EXTRA),
        )


def _backend() -> Any:
    """Return the default backend; versions before 3.1, such as Ubuntu 20.04's, have to be told."""
    return require("cryptography.hazmat.backends", _EXTRA).default_backend()


def _raw(key: Any, serialization: Any) -> bytes:
    return bytes(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


def _kind(key: Any) -> str:
    return f"a key of another kind ({type(key).__name__.strip('_')})"


def _key_bytes(path: Path, *, pipe: bool = False) -> tuple[bytes, int]:
    """Read a key file and its permissions; a shell's pipe only where ``pipe`` allows it. Raises InputError."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not (stat.S_ISREG(mode) or (pipe and stat.S_ISFIFO(mode))):
                raise InputError(f"{path} is no file, so it holds no key; pass a PEM file")
            os.set_blocking(file.fileno(), True)
            data = file.read(_MOST_KEY_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); pass a key as a PEM file") from error
    if len(data) > _MOST_KEY_BYTES:
        raise InputError(f"{path} is larger than any key; pass a PEM file")
    return data, stat.S_IMODE(mode)


def _without_waiting(path: str, flags: int) -> int:
    """Open a file without waiting; opening a pipe that nobody writes to would wait for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


def _pem_blocks(path: Path, data: bytes, remedy: str) -> list[tuple[str, bytes]]:
    """Find (label, block) of every PEM block. Raises InputError: there is none, or one has no end."""
    blocks = [(found[1].decode(), found[0] + b"\n") for found in _PEM.finditer(data)]
    if not blocks or len(blocks) != data.count(b"-----BEGIN "):
        what = "a PEM key that is cut off" if blocks or b"-----BEGIN " in data else "no PEM key"
        raise InputError(f"{path} holds {what}; OpenSSL makes one: {remedy}")
    return blocks


def _loaded(path: Path, load: Callable[[], Any], remark: str = "") -> Any:
    unsupported = require("cryptography.exceptions", _EXTRA).UnsupportedAlgorithm
    try:
        return load()
    except (ValueError, TypeError, unsupported) as error:
        raise InputError(f"{path} holds a key that cannot be used ({first_line(error)}){remark}") from error
