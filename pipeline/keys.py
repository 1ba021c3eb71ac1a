"""Ed25519 keys. The machine's own, made at the first start, signs what this machine vouches for; an engineer's signs
recipes.

`<state>/keys/machine.pem` (mode 0600) never leaves the machine; `machine.pub.pem` may be copied to wherever a
ledger is checked. An engineer's key is `signer.pem` in the user's data folder, or any file; lines are given its
`signer.pub.pem`. All are what openssl reads and writes.
"""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
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
SIGNER, SUFFIX = "signer.pem", ".pub.pem"
MOST_BYTES = 64 << 10  # of a key file


class PublicKey:
    """Checks what the owner of its private half has signed."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    def holds(self, text: bytes, signature: str) -> bool:
        """True if this key's owner signed exactly this text; `signature` is hexadecimal."""
        try:
            self._key.verify(bytes.fromhex(signature), text)
        except (InvalidSignature, ValueError):
            return False
        return True

    def pem(self) -> bytes:
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        """64 digits, those of `openssl pkey -pubin -in FILE -outform DER | sha256sum`."""
        der = self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(der).hexdigest()


class PrivateKey:
    """Signs."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    def sign(self, text: bytes) -> str:
        """64 bytes in hexadecimal."""
        return self._key.sign(text).hex()

    def pem(self) -> bytes:
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class MachineKey(PrivateKey):
    """Signs for the machine."""


def machine_key(state: Path) -> MachineKey:
    """The key in `<state>/keys`, made if there is none yet.

    Raises:
        ConfigError: it cannot be written or read, is no Ed25519 key, or other users can read it.
    """
    remedy = "put the machine's key back, or delete it and begin a new ledger"
    return MachineKey(_made_once(state / "keys" / PRIVATE, "the machine's key", remedy))


def signer_key(folder: Path) -> PrivateKey:
    """The key in `folder` that signs recipes, made if there is none yet; raises as `machine_key` does."""
    remedy = f"put your key back, or delete it and give lines the new {public_of(Path(SIGNER))}"
    return PrivateKey(_made_once(folder / SIGNER, "the key that signs recipes", remedy))


def private_key(path: Path) -> PrivateKey:
    """The key in the file `path`.

    Raises:
        ConfigError: there is none, it is no Ed25519 key, or other users can read it.
    """
    made = f"openssl genpkey -algorithm ed25519 -out {path} makes one"
    try:
        return PrivateKey(_private(path, f"a private one without a password is needed; {made}"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; {made}") from None


def public_of(private: Path) -> Path:
    """Where the public half of a key file is kept: beside it."""
    return private.with_name(f"{private.stem}{SUFFIX}")


def public_key(state: Path) -> PublicKey | None:
    """The key that checks signatures of the machine whose state folder this is; None where there is none.

    Raises:
        ConfigError: the file there is no Ed25519 key.
    """
    path = state / "keys" / PUBLIC
    return _public(path, f"copy the machine's {PUBLIC} again") if path.is_file() else None


def public_keys(path: Path) -> tuple[PublicKey, ...]:
    """The public key in the file `path`, or all in the files *.pub.pem of the folder `path`.

    Raises:
        ConfigError: there is none, or a file is no public Ed25519 key.
    """
    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"{path}: holds no *{SUFFIX}: copy the signers' public keys into it, takt sign prints them")
    return tuple(_public(file, "name a public key, as takt sign prints it") for file in files)


def _public(path: Path, remedy: str) -> PublicKey:
    content = b""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; {remedy}") from None
    if b"PRIVATE KEY" in content:
        raise ConfigError(f"{path}: is a private key, which no line needs: take it away, and name its {SUFFIX}")
    with suppress(ValueError, UnsupportedAlgorithm):
        key = load_pem_public_key(content)
        if isinstance(key, Ed25519PublicKey):
            return PublicKey(key)
    raise ConfigError(f"{path}: no Ed25519 key: {remedy}")


def _made_once(path: Path, what: str, remedy: str) -> Ed25519PrivateKey:
    public = public_of(path)
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _put_whole(path, PrivateKey(Ed25519PrivateKey.generate()).pem(), 0o600)
        key = _private(path, remedy)
        if not public.exists():
            _put_whole(public, PublicKey(key.public_key()).pem(), 0o644)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: {what} is kept there") from None
    return key


def _private(path: Path, remedy: str) -> Ed25519PrivateKey:
    """From one descriptor: the file whose mode is looked at is the one that is read."""
    with path.open("rb") as file:
        content, mode = file.read(MOST_BYTES), os.fstat(file.fileno()).st_mode
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is locked with a password
        key = load_pem_private_key(content, None)
        if isinstance(key, Ed25519PrivateKey):
            if mode & 0o077:
                raise ConfigError(f"{path}: other users can use this key: chmod 600 {path}")
            return key
    raise ConfigError(f"{path}: no Ed25519 key: {remedy}")


def _put_whole(path: Path, content: bytes, mode: int) -> None:
    """A whole file or none, whoever else is making it or looks for it; the first one stays."""
    descriptor, name = tempfile.mkstemp(prefix=".", dir=path.parent)  # mode 0600
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(mode)
        with suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink()
