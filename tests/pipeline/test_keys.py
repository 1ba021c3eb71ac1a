"""Keys: made once, kept from others, and what it signs holds for exactly what was signed."""

import threading
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from pipeline.errors import ConfigError
from pipeline.keys import machine_key, private_key, public_key, public_keys, signer_key


def test_it_is_made_once_and_for_its_owner_alone(tmp_path):
    first, again = machine_key(tmp_path), machine_key(tmp_path)
    assert first.pem() == again.pem()
    folder = tmp_path / "keys"
    assert sorted(path.name for path in folder.iterdir()) == ["machine.pem", "machine.pub.pem"]
    assert (folder / "machine.pem").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o077 == 0


def test_what_it_signs_holds_for_that_text_and_that_machine_alone(tmp_path):
    signature = machine_key(tmp_path / "a").sign(b"text")
    ours, other = public_key(tmp_path / "a"), machine_key(tmp_path / "b").public
    assert ours is not None and ours.holds(b"text", signature)
    assert not ours.holds(b"Text", signature) and not other.holds(b"text", signature)
    for broken in ("", "zz", signature[:-2], "00" * 64, signature.swapcase()[:-1] + "g"):
        assert not ours.holds(b"text", broken)


def test_several_that_start_at_once_have_one_key(tmp_path):
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(machine_key(tmp_path).pem())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1


def test_whoever_looks_for_a_public_key_that_is_being_made_sees_all_of_it_or_none(tmp_path):
    """Stages start together: one makes the keys while another wants to check with them."""

    def first_seen(state):
        while (key := public_key(state)) is None:
            pass
        return key.fingerprint

    with ThreadPoolExecutor() as pool:
        for number in range(40):
            state = tmp_path / str(number)
            seen = pool.submit(first_seen, state)
            assert machine_key(state).public.fingerprint == seen.result(5)


def refusal(state) -> str:
    with pytest.raises(ConfigError) as error:
        machine_key(state)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_key_that_others_can_read_is_refused(tmp_path):
    machine_key(tmp_path)
    (tmp_path / "keys" / "machine.pem").chmod(0o640)
    assert "other users can use this key: chmod 600" in refusal(tmp_path)


def test_a_file_that_is_no_key_is_said(tmp_path):
    machine_key(tmp_path)
    for content in (b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        (tmp_path / "keys" / "machine.pem").write_bytes(content)
        assert "no Ed25519 key" in refusal(tmp_path)
    (tmp_path / "keys" / "machine.pub.pem").write_bytes(b"x")
    with pytest.raises(ConfigError, match="no Ed25519 key"):
        public_key(tmp_path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    assert "Not a directory" in refusal(tmp_path / "file")
    assert public_key(tmp_path) is None


# --- an engineer's key ---


def test_an_engineers_key_is_made_once_and_for_its_owner_alone(tmp_path):
    first, again = signer_key(tmp_path / "mine"), signer_key(tmp_path / "mine")
    assert first.pem() == again.pem() == private_key(tmp_path / "mine" / "signer.pem").pem()
    assert (tmp_path / "mine" / "signer.pem").stat().st_mode & 0o777 == 0o600
    (public,) = public_keys(tmp_path / "mine")
    assert public.holds(b"text", first.sign(b"text")) and public.fingerprint == first.public.fingerprint
    (tmp_path / "mine" / "signer.pem").chmod(0o604)
    for read in (lambda: signer_key(tmp_path / "mine"), lambda: private_key(tmp_path / "mine" / "signer.pem")):
        with pytest.raises(ConfigError, match=r"other users can use this key: chmod 600 .*signer\.pem"):
            read()


def test_a_fingerprint_is_what_openssl_gives(tmp_path):
    """SHA-256 of the key's DER, so that a person can compare by hand."""
    key = signer_key(tmp_path)
    lines = (tmp_path / "signer.pub.pem").read_text().splitlines()
    assert key.public.fingerprint == sha256(b64decode("".join(lines[1:-1]))).hexdigest()


def locked(path):
    """A private key with a password, which nobody types at a line."""
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    path.write_bytes(pem)


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda path: None, "cannot be read: No such file or directory; openssl genpkey -algorithm ed25519 -out"),
        (lambda path: path.mkdir(), "cannot be read: Is a directory"),
        (lambda path: path.write_text("key"), "no Ed25519 key: a private one without a password is needed; openssl"),
        (lambda path: path.write_bytes(signer_key(path.parent / "k").public.pem()), "no Ed25519 key: a private one"),
        (locked, "no Ed25519 key: a private one without a password is needed"),
    ],
)
def test_a_file_that_is_no_private_key_is_said(tmp_path, plant, said):
    plant(tmp_path / "key.pem")
    with pytest.raises(ConfigError) as error:
        private_key(tmp_path / "key.pem")
    assert f"key.pem: {said}" in str(error.value) and "\n" not in str(error.value)
