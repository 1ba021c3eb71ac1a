"""Published weights, downloaded when asked for, once, and used only if their SHA-256 is the pinned one."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from engines.errors import UsageError

SOURCE = "https://download.pytorch.org/models"
BLOCK = 1 << 18
PATIENCE_S = 30.0  # without a byte
MIB = 1 << 20

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Published:
    """A file of weights. The first eight digits of `sha256` stand in torchvision's file names as well."""

    name: str
    sha256: str
    mib: float

    @property
    def most_bytes(self) -> int:
        """More than the file has, so that an endless answer ends."""
        return int((self.mib + 1) * MIB)


def cache() -> Path:
    """The user's folder of downloaded weights."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "takt" / "weights"


def kept(file: Published, folder: Path) -> Path | None:
    """The file in `folder` if it is there and the pinned one."""
    path = folder / file.name
    return path if path.is_file() and sha256_of(path) == file.sha256 else None


def fetch(file: Published, folder: Path, source: str = SOURCE, tell: Tell = lambda phase, done, total: None) -> Path:
    """The pinned file in `folder`, downloaded from `source` if it is not there yet.

    It takes its name only when it is complete and its SHA-256 was found right.

    Raises:
        UsageError: refused, cut off, not the pinned file, or no room for it.
    """
    there = kept(file, folder)
    if there is not None:
        return there
    url = f"{source.rstrip('/')}/{file.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=folder, prefix=f".{file.name}.", suffix=".partial")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); {_instead(file)}") from None
    place = Path(partial)
    try:
        with os.fdopen(handle, "wb") as out:
            _download(url, file, out, folder, tell)
        place.chmod(0o644)
        place.rename(folder / file.name)
    finally:
        place.unlink(missing_ok=True)
    return folder / file.name


def sha256_of(path: Path) -> str:
    """64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, file: Published, out: IO[bytes], folder: Path, tell: Tell) -> None:
    digest = hashlib.sha256()
    for block in _received(url, file, tell):
        digest.update(block)
        try:
            out.write(block)
            out.flush()
        except OSError as error:
            raise UsageError(f"{folder}: cannot take {file.name} ({error.strerror}); make room") from None
    if digest.hexdigest() != file.sha256:
        raise UsageError(
            f"{url}: is not the pinned file (SHA-256 {digest.hexdigest()[:8]}..., not {file.sha256[:8]}...); "
            f"nothing was kept; {_instead(file)}"
        )


def _received(url: str, file: Published, tell: Tell) -> Iterator[bytes]:
    """The answer's blocks, with every way to fail turned into one line."""
    try:
        with urlopen(Request(url, headers={"User-Agent": "takt"}), timeout=PATIENCE_S) as answer:
            yield from _blocks(url, file, answer, tell)
    except HTTPError as error:
        error.close()  # it holds the connection
        raise UsageError(f"{url}: the server answers {error.code} {error.reason}; {_instead(file)}") from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = " ".join(str(error.reason if isinstance(error, URLError) else error).split())
        raise UsageError(f"{url}: cannot be reached ({reason}); {_instead(file)}") from None


def _blocks(url: str, file: Published, answer: HTTPResponse, tell: Tell) -> Iterator[bytes]:
    total, received = int(answer.headers.get("Content-Length") or 0), 0
    while block := answer.read(BLOCK):
        received += len(block)
        if received > file.most_bytes:
            raise UsageError(f"{url}: sends more than {file.name} has ({file.mib:.0f} MiB); {_instead(file)}")
        tell(f"downloading {file.name}", received // BLOCK, max(total, received) // BLOCK + 1)
        yield block
    if received < total:
        raise UsageError(f"{url}: broke off after {received} of {total} bytes; try again, or {_instead(file)}")


def _instead(file: Published) -> str:
    return f"copy {file.name} here yourself and give its folder by --teacher-weights"
