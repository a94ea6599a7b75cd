"""Which boards there are, and what is no board; without any connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeseg.app.deploy import deploy
from edgeseg.app.deploy_config import BoardConfig, DeployConfig
from edgeseg.app.inventory import boards_of
from edgeseg.app.shipped import SHIPPED
from edgeseg.errors import BundleError, InputError, UsageError

TEXT = """
root = "/srv/edgeseg"
service = "edgeseg"
command = "sudo -n -u edgeseg 'a folder/edgeseg'"

[hosts."anna@gate-1"]

[hosts.yard]
address = "ssh://anna@[::1]:2222"
root = "models/"
health = "http://127.0.0.1:8080/healthz"
graph = "int8-qdq"
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(TEXT)
    return path


def config(**values: Any) -> DeployConfig:
    return DeployConfig(bundle=SHIPPED, **values)


def test_one_board_overrides_all_and_the_command_line_both(inventory: Path) -> None:
    gate, yard = boards_of(config(inventory=inventory))
    assert (gate.name, gate.address, gate.root) == ("anna@gate-1", "anna@gate-1", "/srv/edgeseg")
    assert gate.command == ("sudo", "-n", "-u", "edgeseg", "a folder/edgeseg") and gate.health == ""
    assert (yard.address, yard.root, yard.graph) == ("ssh://anna@[::1]:2222", "models", "int8-qdq")
    assert (yard.service, yard.systemctl) == ("edgeseg", ("sudo", "-n", "systemctl"))
    (yard,) = boards_of(config(inventory=inventory, hosts=("yard",), board=BoardConfig(root="/data", graph="fp32")))
    assert (yard.root, yard.graph, yard.service) == ("/data", "fp32", "edgeseg")


def test_boards_need_no_inventory() -> None:
    boards = boards_of(config(hosts=("gate", "anna@10.0.0.1", "anna@example.org@jump.example")))
    assert [board.address for board in boards] == ["gate", "anna@10.0.0.1", "anna@example.org@jump.example"]
    assert {board.service for board in boards} == {""}


@pytest.mark.parametrize(
    "host",
    [
        *("-oProxyCommand=x", "anna@-oProxyCommand=x", "ssh://-x", "-l@host", "a b", "a;b", "$(id)", "a\nb", "`id`"),
        *(
            "ssh://anna@host:22/folder",
            "host'",
            "@",
            "anna@",
            "anna:secret@host",
            "ssh://anna:secret@host",
            "a|b",
            "~a",
        ),
    ],
)
def test_what_ssh_could_take_for_something_else_is_no_host(host: str, inventory: Path) -> None:
    with pytest.raises(UsageError, match="is no host for ssh") as said:
        boards_of(config(hosts=(host,)))
    assert "secret" not in str(said.value)
    inventory.write_text(f"[hosts.a]\naddress = {host.encode('unicode_escape').decode()!r}\n".replace("'", '"'))
    with pytest.raises(UsageError):
        boards_of(config(inventory=inventory))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no board is named"),
        ("[hosts]\n", "no board is named"),
        ("hosts = 3", "'hosts' holds a table for each board"),
        ("[hosts]\na = 1", "'hosts' holds a table for each board"),
        ("rot = '/a'\n[hosts.a]", "there is no field 'rot'; did you mean 'root'"),
        ("[hosts.a]\nsevice = 'b'", "a: there is no field 'sevice'; did you mean 'service'"),
        ("[hosts.a]\nroot = 3", "'root' is a path, got 3|'root' is a text, got 3"),
        ("[hosts.a]\nroot = '~/models'", "only shells know the folder ~"),
        ("[hosts.a]\nroot = '-r'", "begins with no dash"),
        ('[hosts.a]\nlink = "a\\nb"', "no control characters"),
        ("[hosts.a]\nservice = 'a b'", "is the name of a unit"),
        ("[hosts.a]\nservice = '-a'", "is the name of a unit"),
        ("[hosts.a]\nhealth = 'http://127.0.0.1:1/healthz'", "`health` is of a service"),
        ("service = 'a'\n[hosts.a]\nhealth = 'file:///etc/passwd'", "`health` is an address"),
        ("service = 'a'\n[hosts.a]\nhealth = 'http://a:secret@c/'", "`health` is an address"),
        ('[hosts.a]\ncommand = "a \'b"', "cannot be split into words"),
        ("[hosts.a]\ncommand = ' '", "is a program with its words"),
        ("[hosts.a]\n[hosts.b]\naddress = 'a'", "named twice, or two names are of one place"),
        ("[hosts.a]\nengine = 'x'", "'engine' is one of"),
        ("[hosts", "is no TOML"),
    ],
)
def test_what_is_wrong_in_the_inventory_is_said(text: str, message: str, inventory: Path) -> None:
    inventory.write_text(text)
    with pytest.raises(UsageError, match=message) as said:
        boards_of(config(inventory=inventory))
    assert "\n" not in str(said.value) and "secret" not in str(said.value)


def test_names_that_the_inventory_lacks_are_no_boards(inventory: Path) -> None:
    with pytest.raises(UsageError, match="'yrad' is none of .*, which has anna@gate-1, yard"):
        boards_of(config(inventory=inventory, hosts=("yrad",)))
    with pytest.raises(UsageError, match="named twice"):
        boards_of(config(hosts=("a", "a")))
    with pytest.raises(InputError, match="cannot be read"):
        boards_of(config(inventory=inventory / "none.toml"))


def test_a_model_that_cannot_be_read_touches_no_board(tmp_path: Path) -> None:
    cut = tmp_path / "cut.edgeseg"
    cut.write_bytes(SHIPPED.read_bytes()[:100_000])
    for path in (cut, tmp_path, tmp_path / "none.edgeseg"):
        with pytest.raises(BundleError):
            deploy(DeployConfig(bundle=path, hosts=("nobody@192.0.2.1",)))
    with pytest.raises(UsageError, match="`patience` is 1 s, which is less than `watch`: 60 s"):
        deploy(config(hosts=("nobody@192.0.2.1",), patience=1.0))


def test_the_inventory_of_the_page_is_one(inventory: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs/how-to/fleet.md"
    if not page.is_file():
        pytest.skip("docs/ is not beside tests/: only in a whole clone")
    text = page.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    inventory.write_text(text)
    gate, yard = boards_of(config(inventory=inventory))
    assert gate.address == "nvidia@gate-1" and yard.address == "ssh://nvidia@10.0.0.7:2222"
    assert gate.command[:4] == ("sudo", "-n", "-u", "edgeseg") and yard.health == "http://127.0.0.1:8080/healthz"


@pytest.mark.parametrize("host", ["gate:2222", "anna@gate:22", "anna@10.0.0.7:2222"])
def test_a_port_behind_a_plain_host_is_said(host: str) -> None:
    with pytest.raises(UsageError, match=f"ssh takes that as ssh://{host}"):
        boards_of(config(hosts=(host,)))
    assert boards_of(config(hosts=("fe80::1%eth0",)))[0].address == "fe80::1%eth0"
