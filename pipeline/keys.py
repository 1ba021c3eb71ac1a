"""The machine's own key: Ed25519, made at the first start; it signs what this machine vouches for.

`<state>/keys/machine.pem` (mode 0600) never leaves the machine; `machine.pub.pem` may be copied to wherever a
ledger is checked. Both are what openssl reads and writes.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from pipeline.errors import ConfigError

PRIVATE, PUBLIC = "machine.pem", "machine.pub.pem"


class PublicKey:
    """Checks what a machine has signed."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    def holds(self, text: bytes, signature: str) -> bool:
        """True if this key's machine signed exactly this text; `signature` is hexadecimal."""
        try:
            self._key.verify(bytes.fromhex(signature), text)
        except (InvalidSignature, ValueError):
            return False
        return True

    def pem(self) -> bytes:
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class MachineKey:
    """Signs."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    def sign(self, text: bytes) -> str:
        """64 bytes in hexadecimal."""
        return self._key.sign(text).hex()

    def pem(self) -> bytes:
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def machine_key(state: Path) -> MachineKey:
    """The key in `<state>/keys`, made if there is none yet.

    Raises:
        ConfigError: it cannot be written or read, is no Ed25519 key, or other users can read it.
    """
    folder = state / "keys"
    path = folder / PRIVATE
    try:
        if not path.exists():
            _make(folder)
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path}: other users can use this key: chmod 600 {path}")
        key = MachineKey(_private(path))
        if not (folder / PUBLIC).exists():
            (folder / PUBLIC).write_bytes(key.public.pem())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: the machine's key is kept there") from None
    return key


def public_key(state: Path) -> PublicKey | None:
    """The key that checks signatures of the machine whose state folder this is; None where there is none.

    Raises:
        ConfigError: the file there is no Ed25519 key.
    """
    path = state / "keys" / PUBLIC
    if not path.is_file():
        return None
    with suppress(ValueError):
        key = load_pem_public_key(path.read_bytes())
        if isinstance(key, Ed25519PublicKey):
            return PublicKey(key)
    raise ConfigError(f"{path}: no Ed25519 key: copy the machine's {PUBLIC} again")


def _private(path: Path) -> Ed25519PrivateKey:
    with suppress(ValueError, TypeError):  # TypeError: it is locked with a password
        key = load_pem_private_key(path.read_bytes(), None)
        if isinstance(key, Ed25519PrivateKey):
            return key
    raise ConfigError(f"{path}: no Ed25519 key: put the machine's key back, or delete it and begin a new ledger")


def _make(folder: Path) -> None:
    """A whole key or none, whoever else is making one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", dir=folder)  # mode 0600
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(MachineKey(Ed25519PrivateKey.generate()).pem())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(part, folder / PRIVATE)
    finally:
        part.unlink()
