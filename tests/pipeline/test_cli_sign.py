"""`takt sign` and `takt verify`, and what a line and new recipes say of signatures."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import signers
import test_cli
from line.toy_line import CHANNELS, FRAME_PX, write_recipe
from test_cli import Said, one_line

from calibration.panels import write_panel
from engines import recipe as recipes
from pipeline import cli
from pipeline.check import check_line
from pipeline.config import load, signing_folder
from pipeline.engine_room import build_all
from pipeline.keys import public_keys, signer_key

Takt = Callable[..., Said]
SHAPE = (len(CHANNELS), FRAME_PX, FRAME_PX)
takt = test_cli.takt  # its fixture


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user's data folder of the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def copy(recipe: Path, tmp_path: Path) -> Path:
    """A recipe that nobody has signed."""
    made = Path(shutil.copytree(recipe, tmp_path / "copy"))
    (made / "signature.json").unlink()
    return made


def test_the_first_signature_makes_a_key_and_prints_its_public_half(takt: Takt, copy: Path, home: Path) -> None:
    said = takt("sign", copy, "--name", "Anna [b]")
    assert (said.status, said.err) == (0, "")
    made = home / "takt" / "signing-key" / "signer.pem"
    assert f"a key of your own is made: {made}; keep it to yourself" in said.out
    assert made.stat().st_mode & 0o777 == 0o600
    public = made.with_name("signer.pub.pem")
    assert public.read_text() in said.out and str(public) in said.out and "PRIVATE" not in said.out
    assert f"signed by Anna [b], fingerprint {public_keys(public)[0].fingerprint}" in said.out
    assert "is made" not in takt("sign", copy).out
    verified = takt("verify", copy)
    assert (verified.status, verified.err) == (0, "")
    assert verified.out.startswith(f"recipe {recipes.load(copy).hash[:12]}, product toy: signed by ")


def test_a_recipe_signed_with_a_key_file_is_verified_with_its_public_half(
    takt: Takt, copy: Path, tmp_path: Path, home: Path
) -> None:
    signer_key(tmp_path / "usb")
    assert takt("sign", copy, "--key", tmp_path / "usb" / "signer.pem", "--name", "anna").status == 0
    assert not home.exists()
    for key in (tmp_path / "usb", tmp_path / "usb" / "signer.pub.pem"):
        assert "signed by anna (" in takt("verify", copy, "--key", key).out
    assert "names as signer anna (" in one_line(takt("verify", copy), 1)


def test_what_sign_prints_is_what_a_line_trusts(
    takt: Takt, copy: Path, tmp_path: Path, line_file: Callable[..., Path]
) -> None:
    said = takt("sign", copy, "--name", "anna [/b]").out
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "anna.pub.pem").write_text(said[said.index("-----BEGIN") :])
    line = line_file(recipe=copy, signing={"trusted": ["keys"]})
    assert "signed by anna [/b] (" in takt("check", line).out.replace("\n", " ")


def test_verify_is_a_gate(takt: Takt, copy: Path, tmp_path: Path) -> None:
    assert one_line(takt("verify", copy), 1) == f"takt: {copy}: is not signed: takt sign {copy}\n"
    takt("sign", copy)
    signer_key(tmp_path / "other")
    said = one_line(takt("verify", copy, "--key", tmp_path / "other"), 1)
    assert "whose key is not known here: give its file with --key" in said
    (copy / "network.onnx").write_bytes(b"evil")
    assert "network.onnx was changed after teaching" in one_line(takt("verify", copy), 1)
    (copy / "manifest.json").write_text((copy / "manifest.json").read_text().replace("toy", "joy"))
    assert "is of something else: the manifest was edited" in one_line(takt("verify", copy), 1)
    assert "no Ed25519 key" in one_line(takt("verify", copy, "--key", copy / "manifest.json"), 2)


def test_wrong_use_of_sign_is_one_line(takt: Takt, copy: Path, tmp_path: Path) -> None:
    assert "is no recipe" in one_line(takt("sign", tmp_path), 2)
    assert not signing_folder().exists()
    assert "no Ed25519 key: a private one" in one_line(takt("sign", copy, "--key", copy / "manifest.json"), 2)
    assert "cannot sign" in one_line(takt("sign", copy, "--name", "a" * 65), 2)
    signing_folder().joinpath("signer.pem").chmod(0o644)
    assert "other users can use this key: chmod 600" in one_line(takt("sign", copy), 2)
    (copy / "network.onnx").write_bytes(b"evil")
    assert "network.onnx was changed" in one_line(takt("sign", copy), 2)


def test_a_recipe_with_other_limits_asks_to_be_signed(takt: Takt, tmp_path: Path) -> None:
    write_recipe(tmp_path / "old")
    said = takt("limits", tmp_path / "old", "--pixel-limit", "0.5", "--out", tmp_path / "new")
    assert said.status == 0
    assert said.err == f"not signed yet, and no line takes it before: takt sign {tmp_path / 'new'}\n"
    assert "is not signed" in one_line(takt("verify", tmp_path / "new", "--key", signers.folder()), 1)
    assert takt("verify", tmp_path / "old", "--key", signers.folder()).status == 0


def test_a_recipe_with_other_integrity_limits_asks_to_be_signed(takt: Takt, tmp_path: Path) -> None:
    write_recipe(tmp_path / "old")
    random = np.random.default_rng(0)
    for number in range(12):
        write_panel(
            tmp_path / "set" / "train" / "good", f"p{number}", random.integers(0, 256, SHAPE, np.uint8), CHANNELS
        )
    said = takt("relearn", tmp_path / "old", tmp_path / "set", "--out", tmp_path / "new")
    assert said.status == 0, said.err
    assert said.err == f"not signed yet, and no line takes it before: takt sign {tmp_path / 'new'}\n"
    assert not (tmp_path / "new" / "signature.json").exists()


def test_the_demo_signs_its_copy_and_needs_no_leave(tmp_path: Path) -> None:
    line = cli._copy_demo(tmp_path / "demo")
    config = load(line)
    assert config.allow == () and (config.state / "keys" / "signer.pem").stat().st_mode & 0o777 == 0o600
    build_all(config)
    said = [text for text in check_line(config) if text.startswith(("recipe", "allowed"))]
    assert len(said) == 1 and "signed by takt demo (" in said[0]
    before = (tmp_path / "demo" / "recipe" / "signature.json").read_bytes()
    cli._copy_demo(tmp_path / "demo")
    assert (tmp_path / "demo" / "recipe" / "signature.json").read_bytes() == before
    shutil.rmtree(config.state)  # to begin anew
    cli._copy_demo(tmp_path / "demo")
    build_all(config)
    assert any("signed by takt demo (" in said for said in check_line(config))


def test_the_demo_does_not_sign_again_what_was_changed(tmp_path: Path, takt: Takt) -> None:
    recipe = tmp_path / "demo" / "recipe" / "manifest.json"
    line = cli._copy_demo(tmp_path / "demo")
    recipe.write_text(json.dumps(json.loads(recipe.read_text()) | {"product": "other"}))
    cli._copy_demo(tmp_path / "demo")
    assert "is of something else" in one_line(takt("check", line), 2)


WATCHED = """
import sys
from pipeline import cli

sys.argv = ["takt", "run", sys.argv[1]]
try:
    cli.main()
finally:
    import onnxruntime
    print("sessions", onnxruntime.InferenceSession.made)
"""
COUNTING = """
import onnxruntime

class Counting(onnxruntime.InferenceSession):
    made = 0

    def __init__(self, *given, **named):
        Counting.made += 1
        super().__init__(*given, **named)

onnxruntime.InferenceSession = Counting
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda copy: (copy / "signature.json").unlink(), "is not signed: takt sign"),
        (
            lambda copy: (copy / "manifest.json").write_text(
                (copy / "manifest.json").read_text().replace("toy", "joy")
            ),
            "is of something else: the manifest was edited",
        ),
        (lambda copy: (copy / "network.onnx").write_bytes(b"evil"), "network.onnx was changed after teaching"),
    ],
)
def test_a_line_with_an_edited_recipe_ends_before_anything_is_loaded(
    line_file: Callable[..., Path], recipe: Path, tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    copy = Path(shutil.copytree(recipe, tmp_path / "signed"))
    line = line_file(recipe=copy)
    change(copy)
    done = subprocess.run(
        [sys.executable, "-c", COUNTING + WATCHED, str(line)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == "sessions 0\n"
    assert said in done.stderr and done.stderr.startswith("takt: ") and done.stderr.count("\n") == 1
    assert not load(line).run_dir.exists() and not load(line).ledger.exists()
