"""A line takes a recipe only from whom it trusts, and says in one line what is wrong with another one."""

import builtins
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import signers
from line.toy_line import write_recipe

from engines import contents
from engines import recipe as recipes
from pipeline import signatures
from pipeline.check import check_line
from pipeline.config import LineConfig, load
from pipeline.engine_room import opened
from pipeline.errors import ConfigError, RecipeError, TaktError, UsageError
from pipeline.inspector import open_detectors
from pipeline.keys import PrivateKey, public_keys, signer_key
from pipeline.opening import terms_of
from pipeline.signatures import load_recipe, sign

LineFile = Callable[..., Path]


@pytest.fixture
def copy(recipe: Path, tmp_path: Path) -> Path:
    """A signed recipe of the test's own."""
    return Path(shutil.copytree(recipe, tmp_path / "copy"))


@pytest.fixture
def stranger(tmp_path: Path) -> PrivateKey:
    return signer_key(tmp_path / "stranger")


def refusal(act: Callable[[], object], kind: type[TaktError] = RecipeError) -> str:
    with pytest.raises(kind) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def signature(recipe: Path) -> Path:
    return recipe / "signature.json"


def edit(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


# --- signing ---


def test_signing_changes_nothing_but_the_signature(recipe: Path, copy: Path, stranger: PrivateKey) -> None:
    signature(copy).unlink()
    before = {name: (copy / name).read_bytes() for name in contents.names(copy)}
    signed = sign(recipes.load(copy), stranger, "anna")
    assert recipes.load(copy).hash == recipes.load(recipe).hash
    assert contents.names(copy) == before.keys() | {"signature.json"}
    assert all((copy / name).read_bytes() == content for name, content in before.items())
    assert json.loads(signature(copy).read_text()) == {"format": 1, "signatures": [signed.model_dump()]}
    assert signed.key == stranger.public.fingerprint
    assert signature(copy).stat().st_mode & 0o777 == 0o644


def test_several_may_sign_and_one_signs_once(line_file: LineFile, copy: Path, stranger: PrivateKey) -> None:
    for name in ("anna", "anna b."):
        sign(recipes.load(copy), stranger, name)
    names = [one["name"] for one in json.loads(signature(copy).read_text())["signatures"]]
    assert names == ["toy teacher", "anna b."]
    both = [str(signers.folder()), str(copy.parent / "stranger" / "signer.pub.pem")]
    signed_by = load_recipe(load(line_file(signing={"trusted": both})), copy).signed_by
    assert signed_by.startswith("toy teacher (") and "anna b. (" in signed_by


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[2J", "a" * 65])
def test_a_name_that_cannot_be_shown_does_not_sign(copy: Path, stranger: PrivateKey, name: str) -> None:
    before = signature(copy).read_bytes()
    assert "cannot sign" in refusal(lambda: sign(recipes.load(copy), stranger, name), UsageError)
    assert signature(copy).read_bytes() == before


def test_what_cannot_be_written_is_said(copy: Path, stranger: PrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before, loaded = signature(copy).read_bytes(), recipes.load(copy)
    monkeypatch.setattr(Path, "replace", full)
    assert "cannot be written: No space left" in refusal(lambda: sign(loaded, stranger, "anna"), UsageError)
    monkeypatch.undo()
    assert signature(copy).read_bytes() == before
    assert recipes.load(copy).hash == loaded.hash  # nothing half written is left in it


# --- what a line takes ---


def opens(config: LineConfig) -> None:
    with open_detectors(config):
        pass


STAGES: list[Callable[[LineConfig], object]] = [lambda config: list(check_line(config)), terms_of, opens]


@pytest.mark.parametrize("stage", STAGES)
def test_check_bridge_and_inspector_take_what_a_trusted_key_signed(
    line_file: LineFile, copy: Path, stage: Callable[[LineConfig], object]
) -> None:
    config = load(line_file(recipe=copy))
    stage(config)
    signature(copy).unlink()
    said = refusal(lambda: stage(config))
    assert said == (
        f"{copy}: is not signed: takt sign {copy} with a key, and name its public key under [signing] trusted,"
        " or set allow = ['unsigned_recipe']"
    )


def test_check_says_who_signed(line_file: LineFile) -> None:
    said = " ".join(check_line(load(line_file())))
    (key,) = public_keys(signers.folder())
    assert f", signed by toy teacher ({key.fingerprint[:16]}), " in said


def test_a_strangers_signature_is_refused_with_the_fingerprint_to_trust(
    line_file: LineFile, copy: Path, stranger: PrivateKey
) -> None:
    signature(copy).unlink()
    sign(recipes.load(copy), stranger, "mallory")
    said = refusal(lambda: load_recipe(load(line_file()), copy))
    assert f"mallory ({stranger.public.fingerprint[:16]}), whose key is not known here" in said
    assert "[signing] trusted" in said and "unsigned_recipe" in said
    trusting = load(line_file(signing={"trusted": ["stranger/signer.pub.pem"]}))  # from the line file's folder
    assert "mallory" in load_recipe(trusting, copy).signed_by


def test_a_stranger_cannot_pass_for_a_trusted_signer(line_file: LineFile, copy: Path, stranger: PrivateKey) -> None:
    (key,) = public_keys(signers.folder())
    forged = sign(recipes.load(copy), stranger, "toy teacher").model_dump() | {"key": key.fingerprint}
    signature(copy).write_text(json.dumps({"format": 1, "signatures": [forged]}))
    assert "is of something else" in refusal(lambda: load_recipe(load(line_file()), copy))


@pytest.mark.parametrize(
    "change",
    [
        lambda copy: edit(copy / "manifest.json", lambda manifest: manifest["limits"].update(image=1e9)),
        lambda copy: edit(copy / "manifest.json", lambda manifest: manifest["files"].update({"../x": "0" * 64})),
        lambda copy: edit(copy / "manifest.json", lambda manifest: manifest.update(surprise=1)),
        lambda copy: edit(signature(copy), lambda file: file["signatures"][0].update(name="Dr. Q")),
        lambda copy: edit(signature(copy), lambda file: file["signatures"][0].update(signature="0" * 128)),
    ],
)
def test_an_edited_manifest_or_signature_does_not_hold(
    line_file: LineFile, copy: Path, change: Callable[[Path], None]
) -> None:
    change(copy)
    said = refusal(lambda: load_recipe(load(line_file()), copy))
    assert "is of something else: the manifest was edited, or it is another recipe's signature" in said


def test_a_signature_of_another_recipe_does_not_hold(line_file: LineFile, copy: Path, tmp_path: Path) -> None:
    write_recipe(tmp_path / "other", product="other")
    shutil.copy(signature(tmp_path / "other"), signature(copy))
    assert "is another recipe's signature" in refusal(lambda: load_recipe(load(line_file()), copy))


def test_an_edited_network_is_found_though_the_signature_holds(line_file: LineFile, copy: Path) -> None:
    (copy / "network.onnx").write_bytes(b"evil")
    assert "network.onnx was changed after teaching" in refusal(lambda: load_recipe(load(line_file()), copy))


def test_a_surplus_file_is_found_though_the_signature_holds(line_file: LineFile, copy: Path) -> None:
    (copy / "notes.txt").touch()
    assert "notes.txt does not belong to the recipe; remove it" in refusal(lambda: load_recipe(load(line_file()), copy))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Invalid JSON"),
        ("[]", "should be an object"),
        ('{"format": 2, "signatures": []}', "format: Input should be 1"),
        ('{"format": 1, "signatures": []}', "at least 1 item"),
        ('{"format": 1, "signatures": [{"name": "a", "key": "00", "signature": "zz"}]}', "signatures.0.key"),
        ("[" * 5000, "cannot be used"),
    ],
)
def test_a_damaged_signature_is_one_line(line_file: LineFile, copy: Path, text: str, said: str) -> None:
    signature(copy).write_text(text)
    for allow in ([], ["unsigned_recipe"]):
        refused = refusal(lambda allow=allow: load_recipe(load(line_file(allow=allow)), copy))
        assert said in refused and f"takt sign {copy}" in refused
    sign(recipes.load(copy), signer_key(signers.folder()), "toy teacher")
    assert load_recipe(load(line_file()), copy).signed_by


def test_a_signature_that_is_a_link_or_far_too_large_is_not_read(line_file: LineFile, copy: Path) -> None:
    signature(copy).rename(copy.parent / "elsewhere.json")
    signature(copy).symlink_to(copy.parent / "elsewhere.json")
    assert "is no plain file" in refusal(lambda: load_recipe(load(line_file()), copy))
    signature(copy).unlink()
    signature(copy).write_bytes(b" " * 65_537)
    assert "MB are too many" in refusal(lambda: load_recipe(load(line_file()), copy))


# --- unsigned on purpose ---


def test_unsigned_recipes_only_by_leave_and_said_at_every_start(
    line_file: LineFile, copy: Path, stranger: PrivateKey
) -> None:
    config = load(line_file(recipe=copy, allow=["unproven_recipe", "unsigned_recipe"]))
    assert not any("not signed" in line for line in check_line(config))
    signature(copy).unlink()
    for _ in range(2):
        found = list(check_line(config))
        assert "allowed: recipe copy is not signed by anybody trusted" in found
        assert any(", not signed, engine" in line for line in found)
        sign(recipes.load(copy), stranger, "mallory")  # no better


def test_leave_for_unsigned_recipes_is_none_for_a_signature_that_does_not_hold(line_file: LineFile, copy: Path) -> None:
    edit(copy / "manifest.json", lambda manifest: manifest.update(product="other"))
    config = load(line_file(allow=["unsigned_recipe"]))
    assert "is of something else" in refusal(lambda: load_recipe(config, copy))


# --- the order of things ---


def test_no_stage_loads_a_recipe_past_its_signature() -> None:
    """Commands that run no line may; whatever runs one goes through `load_recipe`."""
    line = [path for path in Path(signatures.__file__).parent.glob("*.py") if not path.name.startswith("cli")]
    assert len(line) > 40
    assert [path.name for path in line if re.search(r"\brecipes?\.load\(", path.read_text())] == ["signatures.py"]


def test_nothing_but_manifest_and_signature_is_opened_before_the_signature_holds(
    line_file: LineFile, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(line_file(recipe=copy))
    edit(copy / "manifest.json", lambda manifest: manifest.update(product="other"))
    seen: list[str] = []
    os_open, known = os.open, public_keys(signers.folder())

    def spy(path: object, *rest: object, **more: object) -> int:
        seen.append(str(path))
        return os_open(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", spy)
    for module, name in ((builtins, "open"), (np, "load"), (cv2, "imdecode"), (onnxruntime, "InferenceSession")):
        monkeypatch.setattr(module, name, lambda *given, **_: pytest.fail(f"{given} was used"))
    monkeypatch.setattr(signatures, "public_keys", lambda path: known)
    refusal(lambda: load_recipe(config, copy))
    assert seen == [str(copy), "manifest.json", str(copy), "signature.json"]


def test_a_network_swapped_after_the_check_never_runs(line_file: LineFile, copy: Path) -> None:
    config = load(line_file(recipe=copy))
    loaded = load_recipe(config, copy)
    (copy / "network.onnx").write_bytes(b"evil")
    assert "network.onnx was changed" in refusal(lambda: opened(config, loaded).__enter__())


def test_a_manifest_swapped_after_the_check_changes_nothing(line_file: LineFile, copy: Path) -> None:
    config = load(line_file(recipe=copy))
    loaded = load_recipe(config, copy)
    edit(copy / "manifest.json", lambda manifest: manifest["limits"].update(image=1e9))
    with opened(config, loaded) as detector:
        assert (detector.recipe_hash, detector.limits) == (loaded.hash, loaded.manifest.limits)
        assert detector.limits.image < 1


# --- whom a line trusts ---


def test_keys_are_files_or_folders_from_the_line_files_folder(
    line_file: LineFile, tmp_path: Path, stranger: PrivateKey
) -> None:
    (tmp_path / "keys").mkdir()
    for name, content in (("a.pub.pem", stranger.public.pem()), ("readme.txt", b"x")):
        (tmp_path / "keys" / name).write_bytes(content)
    assert [key.fingerprint for key in public_keys(tmp_path / "keys")] == [stranger.public.fingerprint]
    config = load(line_file(signing={"trusted": ["keys"]}))
    assert "toy teacher" in refusal(lambda: load_recipe(config, Path(next(iter(config.recipe_paths().values())))))


def rsa(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = generate_private_key(65537, 1024).public_key()
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda path: None, "cannot be read: No such file"),
        (lambda path: path.mkdir(), "holds no *.pub.pem: copy the signers' public keys into it"),
        (lambda path: path.write_text("key"), "no Ed25519 key: name a public key, as takt sign prints it"),
        (rsa, "no Ed25519 key: name a public key, as takt sign prints it"),
        (lambda path: path.write_bytes(signer_key(path.parent / "k").pem()), "is a private key, which no line needs"),
    ],
)
def test_a_file_that_is_no_public_key_is_said(
    line_file: LineFile, tmp_path: Path, plant: Callable[[Path], object], said: str
) -> None:
    plant(tmp_path / "key")
    config = load(line_file(signing={"trusted": ["key"]}))
    assert f"{tmp_path / 'key'}: {said}" in refusal(lambda: list(check_line(config)), ConfigError)
