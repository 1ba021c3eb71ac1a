"""Small files that others read while they are written: the old content or the new one, whoever else is writing."""

import os
import tempfile
from pathlib import Path


def put_text(path: Path, text: str) -> None:
    """Write `path`, for everybody to read.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(part).chmod(0o644)
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)
