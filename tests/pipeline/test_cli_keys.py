"""`takt keys`, `takt ledger verify` and `takt check` on a line that is to be reached from another host."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import test_cli
from ledger_parts import lines_of, panel, rewrite
from test_cli import Said, one_line

from pipeline.config import load
from pipeline.curve import CLIENTS, folder_of
from pipeline.keys import machine_key
from pipeline.ledger import Ledger
from pipeline.store import Store

Takt = Callable[..., Said]
takt = test_cli.takt  # its fixture


def test_keys_are_listed_with_files_and_public_halves(takt: Takt, line_file: Callable[..., Path]) -> None:
    line = line_file()
    first = takt("keys", line)
    folder = folder_of(load(line))
    assert [row.split()[0] for row in first.out.splitlines()] == ["machine", "server", "stage", "stage"]
    said = takt("keys", line, "--add-client", "mes")
    row = next(row for row in said.out.splitlines() if row.startswith("client"))
    kind, path, public = row.split()
    assert (kind, path, len(public)) == ("client", str(folder / CLIENTS / "mes.key"), 40)
    assert "give mes its .key_secret and server.key; restart the line" in said.out
    assert (said.status, said.err) == (0, "")
    assert not re.search(r"secret-key|PRIVATE", first.out + said.out)
    secret = (folder / CLIENTS / "mes.key_secret").read_text().split('secret-key = "')[1][:40]
    assert secret not in said.out


def test_a_clients_name_that_cannot_be_is_one_line(takt: Takt, line_file: Callable[..., Path]) -> None:
    assert "letters, digits" in one_line(takt("keys", line_file(), "--add-client", "../x"), 2)


@pytest.mark.parametrize("name", ["outcomes", "control", "images"])
def test_beyond_this_host_only_with_keys(takt: Takt, line_file: Callable[..., Path], name: str) -> None:
    line = line_file(bus={name: "tcp://192.0.2.7:5571"})
    said = one_line(takt("check", line), 2)
    assert said == f"takt: bus.{name}: tcp://192.0.2.7:5571 is not loopback and there are no keys: takt keys {line}\n"
    takt("keys", line)
    refused = takt("check", line)
    if name == "images":  # the inspector may be on the host of that address
        assert "images: tcp://192.0.2.7:5571, CURVE: listed clients only" in refused.out
    else:
        assert "192.0.2.7:5571 cannot be used (Cannot assign requested address)" in one_line(refused, 2)


def test_outcomes_on_every_address_are_for_listed_clients(takt: Takt, line_file: Callable[..., Path]) -> None:
    line = line_file(bus={"outcomes": "tcp://*:55701"})
    takt("keys", line)
    assert "outcomes: tcp://*:55701, CURVE: listed clients only" in takt("check", line).out


def test_control_needs_an_address_that_stages_can_connect_to(takt: Takt, line_file: Callable[..., Path]) -> None:
    line = line_file(bus={"control": "tcp://*:55702"})
    takt("keys", line)
    assert "bus.control: tcp://*:55702: stages connect to it: name one address" in one_line(takt("check", line), 2)


def test_verify_prints_what_it_found_and_when_it_had_no_anchors(takt: Takt, tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger", "cell_1") as ledger:
        for seq in (1, 2):
            panel(ledger, seq)
    said = takt("ledger", "verify", tmp_path / "ledger")
    assert said.status == 0 and "no anchor was checked: an end cut off" in said.out
    with Ledger(tmp_path / "ledger", "cell_1") as ledger:
        ledger.anchor(machine_key(tmp_path).sign)
    said = takt("ledger", "verify", tmp_path / "ledger", "--json", tmp_path / "f.json")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["anchors"], figures["intact"], said.status) == (1, True, 0)
    assert figures["anchored_until"] == json.loads(lines_of(tmp_path / "ledger")[-1])["wall"]
    assert "no anchor was checked" not in said.out
    rewrite(tmp_path / "ledger", lines_of(tmp_path / "ledger")[:3])
    assert takt("ledger", "verify", tmp_path / "ledger").status == 0  # nobody kept the anchor elsewhere
    assert "no store there" in one_line(takt("ledger", "verify", tmp_path / "ledger", "--store", tmp_path), 2)
    Store(tmp_path).close()
    assert takt("ledger", "verify", tmp_path / "ledger", "--no-anchors").status == 0
