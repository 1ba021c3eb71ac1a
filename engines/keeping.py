"""Files of a cache: written whole or not at all, and not there when they were damaged since."""

import os
import tempfile
from hashlib import sha256
from pathlib import Path

from engines.errors import EngineError

_DIGEST = 32  # bytes of a SHA-256


def keep(path: Path, content: bytes) -> None:
    """Write `content`, whole or not at all, whoever else is writing.

    Raises:
        EngineError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=".", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(path)
    except OSError as error:
        raise EngineError(f"{path}: cannot be written: {error.strerror or error}: engines are kept there") from None


def keep_proven(path: Path, content: bytes) -> None:
    """The same with its own SHA-256 before it, for `proven`.

    Raises:
        EngineError: it cannot be written.
    """
    keep(path, sha256(content).digest() + content)


def proven(path: Path) -> bytes | None:
    """What `keep_proven` wrote; None where it is not there, was cut or changed."""
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    digest, content = whole[:_DIGEST], whole[_DIGEST:]
    return content if sha256(content).digest() == digest else None
