"""The command `takt` from outside: exit status, one line on stderr, and help everywhere."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from line.toy_line import CHANNELS

from calibration.panels import write_panel
from pipeline import cli
from pipeline.config import load
from pipeline.ledger import Ledger

COMMANDS = ("teach", "eval", "inspect", "demo", "run", "check", "new", "ledger", "sign", "verify", "ledger verify")


@dataclass(frozen=True)
class Said:
    """What one command answered."""

    status: int
    out: str
    err: str


@pytest.fixture
def takt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Calls the entry point in this process."""

    def called(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["takt", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Said(int(ended.value.code or 0), captured.out, captured.err)

    return called


def one_line(said: Said, status: int) -> str:
    """The complaint: one line, with nothing else on stderr."""
    assert said.status == status
    assert said.err.startswith("takt: ")
    assert said.err.count("\n") == 1 and said.err.endswith("\n")
    return said.err


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help(takt: Callable[..., Said], command: str) -> None:
    said = takt(*command.split(), "--help")
    assert (said.status, said.err) == (0, "")
    assert "Usage: " in said.out
    assert set(COMMANDS[:-1]) <= set(said.out.split()) or command


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("rnu", "line.toml"), "No such command 'rnu'. Did you mean 'run'?; see takt --help"),
        (("run", "line.toml", "--jsno", "x"), "No such option: --jsno"),
        (("run",), "Missing argument"),
        (("demo", "--panels", "none"), "--panels"),
        (("ledger", "verify", "/nowhere"), "/nowhere: no ledger there"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(takt: Callable[..., Said], words: tuple[str, ...], complaint: str) -> None:
    assert complaint in one_line(takt(*words), 2)


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_bad_line_file_is_one_line_and_status_2(
    takt: Callable[..., Said], line_file: Callable[..., Path], command: str
) -> None:
    path = line_file(timing={"windw_ms": 5})
    assert "did you mean 'window_ms'?" in one_line(takt(command, path), 2)
    assert "takt new" in one_line(takt(command, path.with_name("none.toml")), 2)


def test_check_says_what_it_found(takt: Callable[..., Said], line_file: Callable[..., Path]) -> None:
    said = takt("check", line_file())
    assert (said.status, said.err) == (0, "")
    assert said.out.endswith("the line can start\n")


def test_new_writes_a_line_file_and_never_over_another(takt: Callable[..., Said], tmp_path: Path) -> None:
    path = tmp_path / "line.toml"
    assert takt("new", path).status == 0
    before = path.read_bytes()
    assert "is there already" in one_line(takt("new", path), 2)
    assert path.read_bytes() == before
    assert "there is modbus" in one_line(takt("new", tmp_path / "other.toml", "--plc", "registers"), 2)
    assert "cannot be written" in one_line(takt("new", tmp_path / "no" / "line.toml"), 2)


def test_ledger_verify_recounts_and_finds_what_was_changed(takt: Callable[..., Said], tmp_path: Path) -> None:
    folder, figures = tmp_path / "ledger", tmp_path / "figures.json"
    with Ledger(folder, "toy") as ledger:
        ledger.record("trigger", token="a", seq=1, panel_id="P1", recipe_no=1)
        ledger.record("outcome", token="a", seq=1, outcome="PASS", fault=None)
        ledger.record("trigger", token="b", seq=2, panel_id="P2", recipe_no=1)
        ledger.record("outcome", token="b", seq=2, outcome="REJECT", fault="LATE")
    said = takt("ledger", "verify", folder, "--json", figures)
    assert said.status == 0
    counted = json.loads(figures.read_text())
    assert {name: counted[name] for name in ("records", "triggers", "passed", "rejected", "faults", "intact")} == {
        "records": 5, "triggers": 2, "passed": 1, "rejected": 0, "faults": {"LATE": 1}, "intact": True,
    }  # fmt: skip
    file = next(folder.iterdir())
    file.write_bytes(file.read_bytes().replace(b'"REJECT","fault":"LATE"', b'"PASS","fault":null    '))
    assert takt("ledger", "verify", folder, "--json", figures).status == 0, "the last record has no successor"
    file.write_bytes(file.read_bytes().replace(b'"panel_id":"P1"', b'"panel_id":"P9"'))
    assert takt("ledger", "verify", folder, "--json", figures).status == 1
    assert json.loads(figures.read_text())["first_broken"].startswith(f"{file.name}:3:")


def test_figures_that_cannot_be_written_are_one_line(takt: Callable[..., Said], tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger", "toy") as ledger:
        ledger.record("state", event="stop")
    (tmp_path / "file").touch()
    said = takt("ledger", "verify", tmp_path / "ledger", "--json", tmp_path / "file" / "figures.json")
    assert "cannot be written" in one_line(said, 2)


def test_a_stage_that_cannot_start_is_one_line_and_status_3(line_file: Callable[..., Path], tmp_path: Path) -> None:
    """Only the camera itself finds that its panels have no such channel; nothing of the line stays."""
    write_panel(tmp_path / "set" / "test" / "good", "p1", np.zeros((2, 64, 64), np.uint8), ("a", "b"))
    replay = {"name": "top", "kind": "folder", "channels": CHANNELS, "settings": {"set": str(tmp_path / "set")}}
    path = line_file(cameras=[replay])
    command = [sys.executable, "-m", "pipeline.cli", "run", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if line.startswith("takt: ")]
    assert (done.returncode, len(complaints)) == (3, 1), done.stderr
    assert f"capture_top did not start: {tmp_path}" in complaints[0]
    assert "has no channel 'dark_left_surface'; there is a, b" in complaints[0]
    assert not load(path).run_dir.exists()
