"""Signatures of bundles: what is signed, which keys are taken, and that nothing else passes for signed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import edgeseg.bundle
import edgeseg.signature
from edgeseg.bundle import Bundle, GraphEntry, read_bundle, sign_bundle, write_bundle
from edgeseg.errors import BundleError, InputError, SignatureError
from edgeseg.recipes import Fp32
from edgeseg.signature import (
    PURPOSE,
    PublicKeys,
    Signature,
    private_key_from_file,
    public_keys_from_file,
    signature_of,
    signed_file,
    unsigned_file,
)
from tests.bundle_files import entries_of, packed, sealed, small_bundle

pytest.importorskip("cryptography", reason="signatures need cryptography (pip install 'edgeseg[sign]')")
from cryptography.hazmat.backends import default_backend
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "pass wörd"
SEVERAL = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def no_password() -> str:
    raise AssertionError("nobody should have been asked")


def private_pem(key: Any, password: str = "") -> bytes:
    hidden = forms.BestAvailableEncryption(password.encode()) if password else forms.NoEncryption()
    return bytes(key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, hidden))


def public_pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo))


def fingerprint(key: Any) -> str:
    der = key.public_key().public_bytes(forms.Encoding.DER, forms.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def key_file(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def accepted(tmp_path: Path, *keys: Any) -> PublicKeys:
    return public_keys_from_file(key_file(tmp_path / "public.pem", b"".join(map(public_pem, keys)), 0o644))


@pytest.fixture(scope="module")
def key() -> Any:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def other() -> Any:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return small_bundle()


@pytest.fixture
def path(bundle: Bundle, tmp_path: Path) -> Path:
    target = tmp_path / "model.edgeseg"
    write_bundle(bundle, target)
    return target


@pytest.fixture
def signed(path: Path, key: Any) -> Path:
    sign_bundle(path, key, path)
    return path


# What is signed


def test_a_signed_bundle_holds_the_same_and_says_who_signed(bundle: Bundle, path: Path, key: Any) -> None:
    before = path.read_bytes()
    made = sign_bundle(path, key, path)
    read = read_bundle(path, accepted=accepted(path.parent, key))
    assert read.signer == made.fingerprint == fingerprint(key) and made.checked
    assert (read.spec, read.graphs, read.report, read.page) == (bundle.spec, bundle.graphs, bundle.report, bundle.page)
    assert unsigned_file(path.read_bytes(), path)[0] == before
    unchecked = read_bundle(path)
    assert unchecked.signer is None and [one.fingerprint for one in unchecked.signatures] == [made.fingerprint]


def test_readers_that_know_no_signatures_read_it(signed: Path) -> None:
    data = signed.read_bytes()
    assert hashlib.sha256(data[:-64]).hexdigest().encode() == data[-64:]
    with zipfile.ZipFile(signed) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        assert {*manifest["sha256"], "manifest.json"} == set(archive.namelist())


def test_what_is_written_again_is_not_signed(signed: Path, key: Any, tmp_path: Path) -> None:
    again = tmp_path / "again.edgeseg"
    write_bundle(read_bundle(signed, accepted=accepted(tmp_path, key)), again)
    assert read_bundle(again).signatures == ()


def openssl(*words: str, cwd: Path, data: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *words], cwd=cwd, input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")


@needs_openssl
def test_keys_made_by_openssl_sign_and_openssl_verifies(path: Path, tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "ed25519", "-out", "private.pem", cwd=tmp_path)
    openssl("pkey", "-in", "private.pem", "-pubout", "-out", "public.pem", cwd=tmp_path)
    made = sign_bundle(path, private_key_from_file(tmp_path / "private.pem", no_password), path)
    keys = public_keys_from_file(tmp_path / "public.pem")
    assert read_bundle(path, accepted=keys).signer == made.fingerprint
    der = openssl("pkey", "-pubin", "-in", "public.pem", "-outform", "DER", cwd=tmp_path)
    assert hashlib.sha256(der).hexdigest() == made.fingerprint
    unsigned, _ = unsigned_file(path.read_bytes(), path)
    (tmp_path / "message").write_bytes(PURPOSE + unsigned[-64:])
    (tmp_path / "value").write_bytes(made.value)
    words = ["-rawin", "-in", "message", "-sigfile", "value"]
    if b"-rawin" not in subprocess.run(["openssl", "pkeyutl", "-help"], capture_output=True).stderr:
        pytest.skip("this openssl signs no Ed25519 on its own")
    openssl("pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", *words, cwd=tmp_path)
    by_openssl = openssl("pkeyutl", "-sign", "-inkey", "private.pem", *words[:3], cwd=tmp_path)
    path.write_bytes(signed_file(unsigned, [Signature(made.public_key, by_openssl)]))
    assert read_bundle(path, accepted=keys).signer == made.fingerprint


@needs_openssl
@pytest.mark.parametrize("cipher", ["-aes-256-cbc", "-aes-128-cbc"])
def test_a_key_that_openssl_encrypted(cipher: str, tmp_path: Path) -> None:
    words = ["genpkey", "-algorithm", "ed25519", cipher, "-pass", f"pass:{PASSWORD}", "-out", "private.pem"]
    openssl(*words, cwd=tmp_path)
    assert private_key_from_file(tmp_path / "private.pem", lambda: PASSWORD)
    with pytest.raises(InputError, match="is the password right"):
        private_key_from_file(tmp_path / "private.pem", lambda: PASSWORD + "x")


# What does not pass


@SEVERAL
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_byte_changed_anywhere_and_sealed_again_is_refused(
    signed: Path, key: Any, tmp_path: Path, at: int, change: int
) -> None:
    keys, data = accepted(tmp_path, key), bytearray(signed.read_bytes())
    data[at % (len(data) - 64)] ^= change
    forged = tmp_path / "forged.edgeseg"
    forged.write_bytes(sealed(bytes(data)))
    with pytest.raises(BundleError):
        read_bundle(forged, accepted=keys)


def test_every_byte_of_the_signature_and_of_the_archives_end_counts(signed: Path, key: Any, tmp_path: Path) -> None:
    keys, data = accepted(tmp_path, key), signed.read_bytes()
    for at in range(len(data) - 64 - 210 - 22, len(data) - 64):
        for change in (1, 32, 128):  # 32 turns lower case into upper case
            forged = bytearray(data)
            forged[at] ^= change
            signed.write_bytes(sealed(bytes(forged)))
            with pytest.raises(BundleError):
                read_bundle(signed, accepted=keys)
    signed.write_bytes(data)
    assert read_bundle(signed, accepted=keys).signer


Entries = Sequence["tuple[str, bytes]"]


def with_manifest(entries: Entries, like: bytes) -> list[tuple[str, bytes]]:
    """The entries with a manifest that lists them, else like another."""
    manifest = json.loads(like)
    others = [(name, data) for name, data in entries if name != "manifest.json"]
    manifest["sha256"] = {name: hashlib.sha256(data).hexdigest() for name, data in others}
    return [("manifest.json", json.dumps(manifest, indent=1, sort_keys=True).encode()), *others]


@st.composite
def tampered(draw: Any, entries: Entries) -> list[tuple[str, bytes]]:
    """The entries with some added, taken away, doubled, renamed, changed or moved; often with a manifest that fits."""
    made = list(entries)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(made) - 1))
        name, data = made[at]
        what = draw(st.sampled_from(["add", "remove", "double", "rename", "change", "move", "same"]))
        if what == "add":
            made.insert(at, (draw(st.sampled_from(["x", "graphs/y.onnx", "report.html"])), draw(st.binary(max_size=9))))
        elif what == "remove" and len(made) > 1:
            del made[at]
        elif what == "double":
            made.append((name, draw(st.sampled_from([data, b"other"]))))
        elif what == "rename":
            made[at] = (name + "x", data)
        elif what == "change":
            made[at] = (name, data + b" ")
        elif what == "move":
            made.append(made.pop(at))
    return with_manifest(made, dict(entries)["manifest.json"]) if draw(st.booleans()) else made


@SEVERAL
@given(st.data())
def test_other_members_under_the_old_signature_are_refused(signed: Path, key: Any, tmp_path: Path, data: Any) -> None:
    keys = accepted(tmp_path, key)
    original, signatures = unsigned_file(signed.read_bytes(), signed)
    entries = list(entries_of(original).items())
    assert packed(entries) == original, "else this would be refused for how the test packs"
    forged_bytes = packed(data.draw(tampered(entries)))
    forged = tmp_path / "forged.edgeseg"
    forged.write_bytes(signed_file(forged_bytes, signatures))
    if forged_bytes == original:
        assert read_bundle(forged, accepted=keys).signer
        return
    with pytest.raises(SignatureError, match="is not what .* signed"):
        read_bundle(forged, accepted=keys)
    forged.write_bytes(forged_bytes)
    with pytest.raises(SignatureError, match="is not signed"):
        read_bundle(forged, accepted=keys)


def test_archives_within_around_and_behind_the_signed_one_are_refused(signed: Path, key: Any, tmp_path: Path) -> None:
    keys, data = accepted(tmp_path, key), signed.read_bytes()
    evil = packed([("manifest.json", b"{}")])
    line = data[-64 - 210 : -64]
    body = data[: -64 - 210]
    tricks = {
        "an archive in front": evil + data,
        "an archive between": body + evil[:-64] + line + data[-64:],
        "an archive behind": data[:-64] + evil,
        "an end behind the end": body + evil[-64 - 22 : -64] + line + data[-64:],
        "a longer comment": body[:-2] + struct.pack("<H", 64 + 210 + 5) + b"extra" + line + data[-64:],
        "a comment behind the signature": body[:-2] + struct.pack("<H", 64 + 210 + 5) + line + b"extra" + data[-64:],
        "the signature twice": body[:-2] + struct.pack("<H", 64 + 420) + 2 * line + data[-64:],
        "a length that lies": body[:-2] + struct.pack("<H", 64) + line + data[-64:],
        "upper case": data[:-274] + line.upper() + data[-64:],
        "no end": data[:4] + line + data[-64:],
        "nothing": data[:4] + data[-64:],
    }
    for forged in tricks.values():
        signed.write_bytes(sealed(forged))
        with pytest.raises(BundleError):
            read_bundle(signed, accepted=keys)
    assert len(tricks) == len(set(tricks.values()))


def test_the_signature_is_checked_before_anything_is_unpacked(key: Any, tmp_path: Path) -> None:
    keys, path = accepted(tmp_path, key), tmp_path / "hostile.edgeseg"
    hostile = {
        "not JSON": packed([("manifest.json", b"[" * 100_000)]),
        "a path that leads out": packed([("manifest.json", b"{}"), ("../../x", b"")]),
        "no archive": sealed(b"PK\x03\x04" + b"x" * 200 + struct.pack("<4s16xH", b"PK\x05\x06", 64) + b"0" * 64),
    }
    for what, data in hostile.items():
        path.write_bytes(data)
        with pytest.raises(SignatureError, match="is not signed"):
            read_bundle(path, accepted=keys)
        with pytest.raises(BundleError) as told:
            read_bundle(path)
        assert not isinstance(told.value, SignatureError), what


def test_a_file_swapped_after_the_check_is_not_what_is_used(
    signed: Path, key: Any, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, check = accepted(tmp_path, key), edgeseg.bundle.checked_signatures
    evil = tmp_path / "evil.edgeseg"
    write_bundle(replace(bundle, graphs={"fp32": GraphEntry(b"evil", Fp32())}), evil)

    def check_and_swap(*args: Any) -> Any:
        found = check(*args)
        os.replace(evil, signed)
        return found

    monkeypatch.setattr(edgeseg.bundle, "checked_signatures", check_and_swap)
    read = read_bundle(signed, accepted=keys)
    assert read.signer and read.graphs["fp32"] == bundle.graphs["fp32"]
    assert read_bundle(signed).graphs["fp32"].onnx == b"evil"


def test_a_signature_made_for_something_else_does_not_fit(path: Path, key: Any, tmp_path: Path) -> None:
    unsigned = path.read_bytes()
    public = signature_of(b"", key).public_key
    for message in (unsigned[-64:], unsigned[:-64], unsigned, PURPOSE + unsigned[-64:] + b"\n", b""):
        path.write_bytes(signed_file(unsigned, [Signature(public, key.sign(message))]))
        with pytest.raises(SignatureError, match="is not what"):
            read_bundle(path, accepted=accepted(tmp_path, key))


# Several keys


def test_keys_are_rotated_with_both_signatures(signed: Path, key: Any, other: Any, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match=f"signed by {fingerprint(key)}, and by no key"):
        read_bundle(signed, accepted=accepted(tmp_path, other))
    sign_bundle(signed, other, signed)
    for keys, signers in (((key,), {key}), ((other,), {other}), ((key, other), {key, other})):
        read = read_bundle(signed, accepted=accepted(tmp_path, *keys))
        checked = {one.fingerprint for one in read.signatures if one.checked}
        assert checked == set(map(fingerprint, signers)) and len(read.signatures) == 2


def test_one_signature_that_does_not_fit_is_refused(signed: Path, key: Any, other: Any, tmp_path: Path) -> None:
    unsigned, (good,) = unsigned_file(signed.read_bytes(), signed)
    bad = replace(signature_of(b"0" * 64, other), checked=False)
    signed.write_bytes(signed_file(unsigned, [good, bad]))
    with pytest.raises(SignatureError, match=f"is not what {fingerprint(other)} signed"):
        read_bundle(signed, accepted=accepted(tmp_path, key, other))
    assert read_bundle(signed, accepted=accepted(tmp_path, key)).signer == fingerprint(key)
    sign_bundle(signed, other, signed)
    assert read_bundle(signed, accepted=accepted(tmp_path, other)).signer == fingerprint(other)


def test_signing_twice_with_a_key_changes_nothing(signed: Path, key: Any) -> None:
    before = signed.read_bytes()
    sign_bundle(signed, key, signed)
    assert signed.read_bytes() == before


def test_there_is_a_limit_to_signatures(path: Path) -> None:
    for _ in range(16):
        sign_bundle(path, Ed25519PrivateKey.generate(), path)
    assert len(read_bundle(path).signatures) == 16
    before = path.read_bytes()
    with pytest.raises(BundleError, match="at most 16 signatures"):
        sign_bundle(path, Ed25519PrivateKey.generate(), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("count", [17, 18, 40])
def test_more_signatures_than_that_are_refused(count: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unsigned = path.read_bytes()
    signatures = [Signature(bytes([index]) * 32, bytes(64)) for index in range(count)]
    with monkeypatch.context() as patch:
        patch.setattr(edgeseg.signature, "_MOST_SIGNATURES", count)
        path.write_bytes(signed_file(unsigned, signatures))
        assert len(read_bundle(path).signatures) == count
    with pytest.raises(BundleError, match="damaged signatures or another end"):
        read_bundle(path)


def test_what_cannot_be_read_is_not_signed(path: Path, key: Any, tmp_path: Path) -> None:
    path.write_bytes(packed([("manifest.json", b"{}")]))
    before = path.read_bytes()
    with pytest.raises(BundleError):
        sign_bundle(path, key, tmp_path / "out.edgeseg")
    assert path.read_bytes() == before and not (tmp_path / "out.edgeseg").exists()


# Key files


def rsa_key() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048, backend=default_backend())


def ec_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1(), default_backend())


def cut(pem: bytes) -> bytes:
    return pem[: len(pem) // 2]


PUBLIC_FAULTS = {
    "empty": (lambda key: b"", "holds no PEM key"),
    "text": (lambda key: b"hello\n", "holds no PEM key"),
    "bytes": (lambda key: bytes(range(256)), "holds no PEM key"),
    "DER": (
        lambda key: key.public_key().public_bytes(forms.Encoding.DER, forms.PublicFormat.SubjectPublicKeyInfo),
        "holds no PEM key",
    ),
    "OpenSSH": (
        lambda key: key.public_key().public_bytes(forms.Encoding.OpenSSH, forms.PublicFormat.OpenSSH),
        "holds no PEM key",
    ),
    "cut off": (lambda key: cut(public_pem(key)), "cut off"),
    "the second is cut off": (lambda key: public_pem(key) + cut(public_pem(key)), "cut off"),
    "private": (private_pem, "holds a private key"),
    "private, encrypted": (lambda key: private_pem(key, PASSWORD), "holds a private key"),
    "public and private": (lambda key: public_pem(key) + private_pem(key), "holds a private key"),
    "RSA": (lambda key: public_pem(rsa_key()), "another kind"),
    "EC": (lambda key: public_pem(ec_key()), "another kind"),
    "a good one and RSA": (lambda key: public_pem(key) + public_pem(rsa_key()), "another kind"),
    "certificate": (lambda key: public_pem(key).replace(b"PUBLIC KEY", b"CERTIFICATE"), "holds a certificate"),
    "damaged": (lambda key: public_pem(key).replace(b"MCow", b"MCox"), "cannot be used"),
    "too short": (lambda key: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be used"),
    "large": (lambda key: public_pem(key) + b"#" * 70_000, "larger than any key"),
}


@pytest.mark.parametrize("fault", PUBLIC_FAULTS)
def test_what_is_no_public_key(fault: str, key: Any, tmp_path: Path) -> None:
    make, message = PUBLIC_FAULTS[fault]
    path = key_file(tmp_path / "key.pem", make(key))
    with pytest.raises(InputError, match=message) as told:
        public_keys_from_file(path)
    assert str(path) in str(told.value) and "\n" not in str(told.value)


def test_what_is_no_file_is_no_public_key_and_nothing_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none.pem", tmp_path / "fifo", tmp_path / "folder", Path("/dev/zero")):
        with pytest.raises(InputError, match=f"{path} (cannot be read|is no file)"):
            public_keys_from_file(path)


def test_text_around_keys_and_line_ends_of_windows_are_fine(key: Any, other: Any, tmp_path: Path) -> None:
    text = b"# the lab\r\n" + public_pem(key).replace(b"\n", b"\r\n") + b"\n# spare\n" + public_pem(other)
    keys = public_keys_from_file(key_file(tmp_path / "key.pem", text))
    assert [Signature(one, b"").fingerprint for one in keys.keys] == [fingerprint(key), fingerprint(other)]


PRIVATE_FAULTS = {
    "empty": (lambda key: b"", "holds no PEM key"),
    "cut off": (lambda key: cut(private_pem(key)), "cut off"),
    "public": (public_pem, "holds a public key; signing needs the private key"),
    "two": (lambda key: 2 * private_pem(key), "holds 2 keys"),
    "RSA": (lambda key: private_pem(rsa_key()), "another kind"),
    "EC": (lambda key: private_pem(ec_key()), "another kind"),
    "damaged": (lambda key: private_pem(key).replace(b"MC4C", b"MC4D"), "cannot be used"),
    "another label": (lambda key: private_pem(key).replace(b"PRIVATE", b"OPENSSH PRIVATE"), "cannot be used"),
}


@pytest.mark.parametrize("fault", PRIVATE_FAULTS)
def test_what_is_no_private_key(fault: str, key: Any, tmp_path: Path) -> None:
    make, message = PRIVATE_FAULTS[fault]
    path = key_file(tmp_path / "key.pem", make(key))
    with pytest.raises(InputError, match=message) as told:
        private_key_from_file(path, no_password)
    assert str(path) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o660])
def test_a_private_key_that_others_can_reach_is_refused(mode: int, key: Any, tmp_path: Path) -> None:
    path = key_file(tmp_path / "key.pem", private_pem(key), mode)
    with pytest.raises(InputError, match=f"mode {mode:o}.*chmod 600"):
        private_key_from_file(path, no_password)
    path.chmod(0o400)
    assert private_key_from_file(path, no_password)


def test_the_largest_file_of_keys_and_one_that_is_not_there(key: Any, tmp_path: Path) -> None:
    pem = public_pem(key)
    for size in (65536, 65537):
        path = key_file(tmp_path / "public.pem", pem + b"#" * (size - len(pem)), 0o644)
        if size == 65536:
            assert len(public_keys_from_file(path).keys) == 1
            continue
        with pytest.raises(InputError, match="is larger than any key"):
            public_keys_from_file(path)
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\); pass a key"):
        public_keys_from_file(tmp_path / "none.pem")


def test_a_private_key_comes_through_a_pipe(key: Any) -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, private_pem(key))
        os.close(writing)
        assert stat.S_ISFIFO(os.fstat(reading).st_mode)
        assert fingerprint(private_key_from_file(Path(f"/dev/fd/{reading}"), no_password)) == fingerprint(key)
    finally:
        os.close(reading)


@SEVERAL
@given(st.integers(0, 200), st.binary(min_size=1, max_size=3))
@example(60, b"\n")
@example(0, b"\n")
def test_an_injured_key_file_is_refused_or_means_the_same(key: Any, tmp_path: Path, at: int, put: bytes) -> None:
    pem = public_pem(key)
    at %= len(pem)
    path = key_file(tmp_path / "injured.pem", pem[:at] + put + pem[at + len(put) :])
    try:
        found = public_keys_from_file(path)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert len(found.keys) == 1 and len(found.keys[0]) == 32


# Without the package


def without_cryptography(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = "import sys; sys.modules['cryptography'] = None; from edgeseg.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_without_cryptography_a_demand_is_an_error_and_all_else_works(signed: Path, key: Any, tmp_path: Path) -> None:
    accepted(tmp_path, key)
    key_file(tmp_path / "private.pem", private_pem(key))
    demand = ("--require-signature", "public.pem")
    for words in (("verify", signed.name, *demand), ("sign", signed.name, "--key", "private.pem")):
        done = without_cryptography(*words, cwd=tmp_path)
        assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr
        assert "cryptography" in done.stderr and "pip install 'edgeseg[sign]'" in done.stderr
    done = without_cryptography("inspect", signed.name, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["signatures"] == [{"key": fingerprint(key), "checked": False}]
