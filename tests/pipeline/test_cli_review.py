"""The commands of the review station: serve it alone, accounts, the audit."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from review_parts import config, filled, row
from typer.testing import CliRunner

from pipeline.bench.storm import free_port
from pipeline.cli import app
from pipeline.errors import ConfigError, NotFoundError, UsageError

LINE = """
format = 1
station = "front"
state_dir = "state"
recipes = {{ 1 = "recipe" }}
cameras = [{{ name = "top", kind = "simulated", channels = ["bright", "dark"] }}]
review = {{ port = {port} }}
"""


@pytest.fixture
def line(tmp_path) -> Path:
    """A line file beside a store with a reject."""
    path = tmp_path / "line.toml"
    path.write_text(LINE.format(port=free_port()))
    filled(config(tmp_path), [row(1, "REJECT")]).close()
    return path


def takt(*arguments: object, **more):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **more)


def test_it_serves_until_it_is_asked_to_stop(line):
    pytest.importorskip("fastapi", reason="needs the extra [review]")
    command = [sys.executable, "-u", "-m", "pipeline.cli", "review", str(line)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"}) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = re.search(r"http://[0-9.:]+", said)
        assert address, said
        pulse = httpx.get(f"{address.group()}/api/pulse", trust_env=False, timeout=20)
        assert pulse.json()["open_rejects"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_accounts_are_made_changed_and_listed(line, tmp_path):
    pytest.importorskip("argon2", reason="needs the extra [review]")
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    assert takt("users", "add", line, "eve", "--role", "quality", "--password-file", secret).exit_code == 0
    assert takt("users", "role", line, "eve", "engineer").exit_code == 0
    assert takt("users", "password", line, "eve", "--password-file", "-", input="another horse\n").exit_code == 0
    assert takt("users", "disable", line, "eve").exit_code == 0
    listed = takt("users", "list", line, "--json", tmp_path / "users.json")
    assert listed.output.split() == ["eve", "engineer", "disabled"]
    assert json.loads((tmp_path / "users.json").read_text())[0]["role"] == "engineer"
    assert takt("users", "enable", line, "eve").exit_code == 0
    shown = takt("audit", "show", line)
    assert json.loads(shown.output.splitlines()[0])["what"] == "account added"
    assert takt("audit", "verify", line).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("add", "eve", "--role", "king"), UsageError, "'king' is no role"),
        (("add", "eve"), UsageError, "give --password-file"),
        (("add", "eve", "--password-file", "/none"), UsageError, "cannot be read"),
        (("role", "tom", "admin"), NotFoundError, "has no account"),
    ],
)
def test_what_is_wrong_with_an_account_is_one_line(line, arguments, error, said):
    command, *rest = arguments
    done = takt("users", command, line, *rest)
    assert isinstance(done.exception, error) and said in str(done.exception)


def test_a_changed_audit_ends_with_1_and_names_the_record(line, tmp_path):
    pytest.importorskip("argon2", reason="needs the extra [review]")
    secret = tmp_path / "secret"
    secret.write_text("correct horse")
    takt("users", "add", line, "eve", "--password-file", secret)
    (tmp_path / "state/audit.heads").write_text("0 " + "0" * 64 + "\n")
    done = takt("audit", "verify", tmp_path / "state", "--json", tmp_path / "f.json")
    assert done.exit_code == 1
    assert "record 0: is another one" in json.loads((tmp_path / "f.json").read_text())["first_broken"]


def test_where_there_is_neither_line_nor_state_is_one_line(tmp_path):
    done = takt("audit", "verify", tmp_path / "none")
    assert isinstance(done.exception, ConfigError) and "no line file and no state folder" in str(done.exception)
