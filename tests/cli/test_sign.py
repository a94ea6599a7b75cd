"""``edgeseg sign`` and ``--require-signature`` on every command that opens a bundle."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgeseg.app.config import REQUIRE_SIGNATURE
from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import GraphEntry, read_bundle, sign_bundle, write_bundle
from edgeseg.cli.main import app, command_line
from edgeseg.cli.service import require_signed, service_config
from edgeseg.errors import SignatureError, UsageError
from edgeseg.recipes import Fp32
from tests.cli.test_device_commands import Board
from tests.engines.tensorrt.tiny import tiny_bundle

pytest.importorskip("cryptography", reason="signatures need cryptography (pip install 'edgeseg[sign]')")
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.test_signature import PASSWORD, fingerprint, key_file, private_pem, public_pem

ROOT = Path(__file__).resolve().parents[2]
DEMAND = ("--require-signature", "public.pem")
OPENING = {
    "export triton": [],
    "export deepstream": [],
    "export ncnn": [],
    "export litert": [],
    "export executorch": [],
    "run": ["--source", "demo://street?frames=1", "--sink", "jsonl://out.jsonl"],
    "eval": ["--data", "demo://street?frames=1"],
    "bench": ["--seconds", "0.1", "--warmup", "0", "--no-torch", "--source", "demo://street?frames=1"],
    "tune": ["--seconds", "0.1", "--warmup", "0", "--source", "demo://street?frames=1"],
    "calibrate export": ["-o", "out.cache"],
    "inspect": ["--html", "out.html"],
    "verify": [],
    "compile": ["-o", "out.edgeseg"],
}


@pytest.fixture
def key() -> Any:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def folder(tmp_path: Path, key: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with tiny.edgeseg, not signed, and both halves of a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
    key_file(tmp_path / "private.pem", private_pem(key))
    key_file(tmp_path / "public.pem", public_pem(key), 0o644)
    return tmp_path


def invoked(*words: str) -> Any:
    """The result of a command in this process; what it raises is in ``exception``."""
    return CliRunner().invoke(app, [*words])


def edgeseg(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeseg", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
    )


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code and len(done.stderr.splitlines()) == 1, done.stdout + done.stderr
    return done.stderr


# Signing


def test_sign_and_demand_from_end_to_end(folder: Path, key: Any) -> None:
    before = read_bundle(folder / "tiny.edgeseg")
    done = edgeseg("sign", "tiny.edgeseg", "--key", "private.pem", cwd=folder)
    assert done.returncode == 0 and f"with the key {fingerprint(key)}" in done.stdout, done.stderr
    done = edgeseg("verify", "tiny.edgeseg", *DEMAND, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"signature: by {fingerprint(key)}, verified with public.pem" in done.stdout
    words = ["run", "tiny.edgeseg", "--source", "demo://street?frames=1", "--json"]
    done = edgeseg(*words, cwd=folder, **{REQUIRE_SIGNATURE: str(folder / "public.pem")})
    assert done.returncode == 0 and json.loads(done.stdout)["signed_by"] == fingerprint(key), done.stderr
    assert json.loads(edgeseg(*words, cwd=folder).stdout)["signed_by"] is None
    assert read_bundle(folder / "tiny.edgeseg").graphs == before.graphs
    document = json.loads(edgeseg("sign", "tiny.edgeseg", "--key", "private.pem", "--json", cwd=folder).stdout)
    assert document == {"bundle": "tiny.edgeseg", "signed_by": fingerprint(key)}


def test_a_signed_copy_and_a_link(folder: Path) -> None:
    before = (folder / "tiny.edgeseg").read_bytes()
    assert invoked("sign", "tiny.edgeseg", "--key", "private.pem", "-o", "signed.edgeseg").exit_code == 0
    assert (folder / "tiny.edgeseg").read_bytes() == before and read_bundle(folder / "signed.edgeseg").signatures
    (folder / "link.edgeseg").symlink_to("tiny.edgeseg")
    assert invoked("sign", "link.edgeseg", "--key", "private.pem").exit_code == 0
    assert (folder / "link.edgeseg").is_symlink() and read_bundle(folder / "tiny.edgeseg").signatures


def test_wrong_ways_to_sign_are_one_line_and_change_nothing(folder: Path) -> None:
    (folder / "other.edgeseg").write_bytes(b"not ours")
    (folder / "open.pem").write_bytes((folder / "private.pem").read_bytes())
    (folder / "open.pem").chmod(0o644)
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for words, code, message in (
        (("tiny.edgeseg", "--key", "public.pem"), 1, "holds a public key"),
        (("tiny.edgeseg", "--key", "none.pem"), 1, "cannot be read"),
        (("tiny.edgeseg", "--key", "open.pem"), 1, "chmod 600"),
        (("tiny.edgeseg", "--key", "tiny.edgeseg"), 1, "is larger than any key|holds no PEM key"),
        (("none.edgeseg", "--key", "private.pem"), 1, "cannot be read"),
        (("private.pem", "--key", "private.pem"), 1, "not an edgeseg bundle"),
        (("tiny.edgeseg", "--key", "private.pem", "-o", "other.edgeseg"), 2, "is not replaced"),
        (("tiny.edgeseg", "--key", "private.pem", "-o", "nowhere/x.edgeseg"), 2, "--out must be"),
        (("tiny.edgeseg", "--key", "private.pem", "-o", "x.zip"), 2, "--out must be"),
    ):
        assert re.search(message, one_line(edgeseg("sign", *words, cwd=folder), code))
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def typed(folder: Path, *words: str, password: str) -> tuple[int, str]:
    """The exit code and all that a terminal shows while somebody types a password."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "edgeseg", *words])
    shown, asked = b"", False
    while True:
        try:
            read = os.read(terminal, 4096)
        except OSError:  # the child is gone
            break
        if not read:
            break
        shown += read
        if b"password of" in shown and not asked:
            os.write(terminal, password.encode() + b"\n")
            asked = True
    os.close(terminal)
    return os.WEXITSTATUS(os.waitpid(child, 0)[1]), shown.decode()


def test_a_password_is_asked_for_and_never_shown(folder: Path, key: Any) -> None:
    key_file(folder / "private.pem", private_pem(key, PASSWORD))
    words = ("sign", "tiny.edgeseg", "--key", "private.pem")
    code, shown = typed(folder, *words, password="wrong one")
    assert code == 1 and "is the password right?" in shown and "wrong one" not in shown, shown
    assert not read_bundle(folder / "tiny.edgeseg").signatures
    code, shown = typed(folder, *words, password=PASSWORD)
    assert code == 0 and PASSWORD not in shown and "pass" in shown, shown
    assert read_bundle(folder / "tiny.edgeseg").signatures[0].fingerprint == fingerprint(key)
    said = one_line(edgeseg(*words, cwd=folder), 1)
    assert "private.pem is encrypted, and there is no terminal" in said


# Demanding


def test_every_command_that_takes_a_bundle_can_demand_a_signature() -> None:
    found = {}

    def look(command: Any, name: str) -> None:
        if hasattr(command, "commands"):
            for one, sub in command.commands.items():
                look(sub, f"{name} {one}".strip())
        else:
            options = [option for parameter in command.params for option in parameter.opts]
            if {"model", "models"} & set(options) and name not in ("sign", "estimate"):  # which runs nothing
                found[name] = "--require-signature" in options

    look(command_line(), "")
    assert set(found) == set(OPENING) and all(found.values()), found


@pytest.mark.parametrize("command", OPENING)
@pytest.mark.parametrize("model", ["tiny.edgeseg", None], ids=["named", "newest"])
def test_what_is_not_signed_as_demanded_is_opened_by_no_command(command: str, model: str | None, folder: Path) -> None:
    if command == "compile":
        pytest.importorskip("onnxsim")
        model = "tiny.edgeseg"
    words = [*command.split(), *([model] if model else []), *OPENING[command]]
    before = sorted(folder.rglob("*"))
    for demand, environment in ((DEMAND, {}), ((), {REQUIRE_SIGNATURE: "public.pem"})):
        done = CliRunner().invoke(app, [*words, *demand], env=environment)
        assert isinstance(done.exception, SignatureError), (done.output, done.exception)
        assert "tiny.edgeseg is not signed, and a signature by a key of public.pem is required" in str(done.exception)
    assert sorted(folder.rglob("*")) == before


def test_the_shipped_model_is_no_way_around(folder: Path) -> None:
    (folder / "tiny.edgeseg").unlink()
    done = invoked("verify", *DEMAND)
    assert isinstance(done.exception, SignatureError) and "street.edgeseg is not signed" in str(done.exception)


def test_each_refusal_is_one_line_with_its_exit_code(folder: Path, key: Any) -> None:
    stranger = Ed25519PrivateKey.generate()
    sign_bundle(folder / "tiny.edgeseg", stranger, folder / "strange.edgeseg")
    sign_bundle(folder / "tiny.edgeseg", key, folder / "damaged.edgeseg")
    mine = sign_bundle(folder / "tiny.edgeseg", key, folder / "mine.edgeseg")
    data = (folder / "mine.edgeseg").read_bytes()
    changed = replace(tiny_bundle(), graphs={"fp32": GraphEntry(b"evil", Fp32())})
    from edgeseg.signature import signed_file

    write_bundle(changed, folder / "changed.edgeseg")
    (folder / "changed.edgeseg").write_bytes(signed_file((folder / "changed.edgeseg").read_bytes(), [mine]))
    (folder / "damaged.edgeseg").write_bytes(data[:-100] + (b"1" if data[-100:-99] == b"0" else b"0") + data[-99:])
    (folder / "text.pem").write_text("hello\n")
    for words, code, message in (
        (("tiny.edgeseg", *DEMAND), 1, "is not signed"),
        (("strange.edgeseg", *DEMAND), 1, f"signed by {fingerprint(stranger)}, and by no key of public.pem"),
        (("damaged.edgeseg", *DEMAND), 1, "truncated or altered"),
        (("changed.edgeseg", *DEMAND), 1, f"is not what {fingerprint(key)} signed"),
        (("mine.edgeseg", "--require-signature", "text.pem"), 1, "text.pem holds no PEM key"),
        (("mine.edgeseg", "--require-signature", "private.pem"), 1, "private.pem holds a private key"),
        (("mine.edgeseg", "--require-signature", "none.pem"), 1, "none.pem cannot be read"),
        (("mine.edgeseg", "--require-signature", "."), 1, ". cannot be read (Is a directory)"),
        (("mine.edgeseg", "--require-signature", ""), 2, "--require-signature is empty"),
    ):
        assert message in one_line(edgeseg("verify", *words, cwd=folder), code)
    said = one_line(edgeseg("verify", "mine.edgeseg", cwd=folder, **{REQUIRE_SIGNATURE: ""}), 2)
    assert f"{REQUIRE_SIGNATURE} is set and empty" in said


def test_inspect_says_who_signed_and_whether_that_was_checked(folder: Path, key: Any) -> None:
    assert "signature: none\n" in invoked("inspect", "tiny.edgeseg").output
    sign_bundle(folder / "tiny.edgeseg", key, folder / "tiny.edgeseg")
    stranger = Ed25519PrivateKey.generate()
    sign_bundle(folder / "tiny.edgeseg", stranger, folder / "tiny.edgeseg")
    lines = invoked("inspect", "tiny.edgeseg").output.splitlines()
    assert [line for line in lines if line.startswith("signature")] == [
        f"signature: by {fingerprint(one)}, not checked (--require-signature checks it)" for one in (key, stranger)
    ]
    lines = invoked("inspect", "tiny.edgeseg", *DEMAND).output.splitlines()
    assert f"signature: by {fingerprint(key)}, verified with public.pem" in lines
    assert f"signature: by {fingerprint(stranger)}, not checked (--require-signature checks it)" in lines
    found = json.loads(invoked("inspect", "tiny.edgeseg", *DEMAND, "--json").output)["signatures"]
    assert found == [{"key": fingerprint(key), "checked": True}, {"key": fingerprint(stranger), "checked": False}]


def test_code_beside_the_bundle_is_not_run_where_a_signature_is_demanded(folder: Path, key: Any) -> None:
    sign_bundle(SHIPPED, key, folder / "mine.edgeseg")
    (folder / "code.pt2").write_bytes(b"")
    for command in ("run", "eval"):
        words = [command, "mine.edgeseg", *OPENING[command], "--engine", "torch-tensorrt", "--program", "code.pt2"]
        done = invoked(*words, *DEMAND)
        assert isinstance(done.exception, UsageError) and "none covers code.pt2" in str(done.exception)


def test_what_carries_no_signature_is_not_compiled_under_a_demand(folder: Path) -> None:
    for name in ("best.safetensors", "net.onnx"):
        (folder / name).write_bytes(b"")
        done = invoked("compile", name, "-o", "out.edgeseg", *DEMAND)
        assert isinstance(done.exception, UsageError) and f"{name} is no bundle" in str(done.exception)


def test_a_bundle_compiled_again_is_said_not_to_be_signed(folder: Path, key: Any) -> None:
    pytest.importorskip("onnxsim")
    words = ["compile", "mine.edgeseg", "--no-gate", "-o", "again.edgeseg"]
    sign_bundle(SHIPPED, key, folder / "mine.edgeseg")
    for demand in ((), DEMAND):
        done = invoked(*words, *demand)
        assert done.exit_code == 0, done.exception
        assert "again.edgeseg is not signed" in done.output
        assert read_bundle(folder / "again.edgeseg").signatures == ()


# Devices


@pytest.fixture
def orin(folder: Path) -> Board:
    return Board(folder, "10.3.0.30")


def test_a_board_builds_and_runs_engines_of_signed_bundles_only(orin: Board, key: Any) -> None:
    environment = {REQUIRE_SIGNATURE: str(orin.folder / "public.pem")}
    for words in (
        ("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt", *DEMAND),
        ("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt"),
        ("run", "tiny.edgeseg", "--engine", "tensorrt", "--source", "demo://street?frames=1"),
        ("tune", "tiny.edgeseg"),
    ):
        assert "is not signed" in orin.run(*words, code=1, **environment)
    assert not (orin.folder / "cache").exists()
    sign_bundle(orin.folder / "tiny.edgeseg", key, orin.folder / "tiny.edgeseg")
    assert "ready: " in orin.run("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt", **environment)
    words = ("run", "tiny.edgeseg", "--engine", "tensorrt", "--source", "demo://street?frames=1")
    said = orin.run(*words, **environment)
    assert "building" not in said and f"signed: by {fingerprint(key)}" in said


def test_an_engine_from_elsewhere_does_not_stand_in_for_a_signed_bundle(orin: Board, key: Any) -> None:
    environment = {REQUIRE_SIGNATURE: str(orin.folder / "public.pem")}
    sign_bundle(orin.folder / "tiny.edgeseg", key, orin.folder / "tiny.edgeseg")
    words = ("run", "tiny.edgeseg", "--engine", "tensorrt", "--source", "demo://street?frames=1")
    orin.run(*words)
    (engine,) = orin.engines()
    for name in (engine.name, f"{engine.name}.json"):
        shutil.copy(engine.with_name(name), orin.folder / name)
    orin.run("engines", "prune", "--all")
    said = orin.run("engines", "add", engine.name, code=2, **environment)
    assert "no signature covers an engine from elsewhere" in said and not orin.engines()
    orin.run("engines", "add", engine.name)
    said = orin.run(*words)
    assert "building" not in said and "self-test: " in said, "an engine from elsewhere is tested here"
    assert f"{engine.name} was built elsewhere, and no signature covers it" in orin.run(*words, **environment)
    assert "building" not in orin.run(*words, **environment)


def test_a_service_demands_what_its_installation_did(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, words = str(folder / "public.pem"), ["tiny.edgeseg", "--camera", "0", "--sink", "null://"]
    for more in (DEMAND, ["--require-signature=public.pem"]):
        assert service_config([*words, *more]).require_signature == Path(key)
    monkeypatch.setenv(REQUIRE_SIGNATURE, "public.pem")
    assert service_config(words).require_signature == Path(key)
    other = service_config([*words, "--require-signature", "other.pem"])
    assert other.require_signature == folder / "other.pem"
    with pytest.raises(SignatureError, match="is not signed"):
        require_signed(service_config(words))
    monkeypatch.delenv(REQUIRE_SIGNATURE)
    require_signed(service_config(words))
    monkeypatch.setenv(REQUIRE_SIGNATURE, "")
    with pytest.raises(UsageError, match="is set and empty"):
        service_config(words)
