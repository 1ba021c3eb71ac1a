"""Files of a recipe folder, each opened once: the bytes that are hashed are the bytes that are used.

No symbolic link below the folder is followed, nothing but plain files is read, and nothing that is absurdly large.
"""

import hashlib
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ELOOP, ENOTDIR
from pathlib import Path
from re import fullmatch

import numpy as np
from numpy.typing import NDArray

from engines.errors import RecipeError

MOST_BYTES = 2 << 30  # of a file; what an ONNX file can hold
MOST_FILES = 1000
NOT_PLAIN = "is no plain file of the recipe's own: put the file itself there, no link"
_PART = r"[^/\\.\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,127}"  # of a name; none is "..", none is hidden
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe without a writer must not hold us up
_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


def is_name(name: str) -> bool:
    """True for what can name a file inside a folder, and nothing outside of it: "a.png", "golden/a.png"."""
    return fullmatch(f"{_PART}(/{_PART}){{0,3}}", name) is not None


def names(folder: Path) -> set[str]:
    """Everything below `folder` that is no folder, links and pipes included."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in found}


def read(folder: Path, name: str, most: int = MOST_BYTES) -> bytes:
    """The file `name` of `folder`.

    Raises:
        FileNotFoundError: there is none.
        RecipeError: it cannot be read, is no plain file of the folder's own, or larger than `most`.
    """
    with _opened(folder, name, most) as (file, size):
        return file.read(size + 1)


def digest(folder: Path, name: str) -> str:
    """The SHA-256 of the file `name`, 64 hexadecimal digits; raises as `read` does."""
    with _opened(folder, name, MOST_BYTES) as (file, _):
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpacked(content: bytes, place: str, *wanted: str) -> list[NDArray]:
    """The arrays `wanted` of an .npz; no pickle is ever loaded.

    Raises:
        RecipeError: it is damaged, lacks one of them, or would fill the memory.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(part.file_size for part in archive.infolist()) > MOST_BYTES:
                raise ValueError("it unpacks to more than 2 GiB")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return [_array(arrays[name]) for name in wanted]
    except (
        ValueError,
        KeyError,
        OSError,
        EOFError,
        RuntimeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise RecipeError(f"{place}: cannot be used ({error}); teach again") from None


def holds(content: bytes, name: str) -> bool:
    """Whether an .npz that `unpacked` takes has an array of that name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return f"{name}.npy" in archive.namelist()


def _array(found: object) -> NDArray:
    if not isinstance(found, np.ndarray):  # what an archive holds besides arrays comes as bytes
        raise ValueError("it holds other things than arrays")
    return found


@contextmanager
def _opened(folder: Path, name: str, most: int) -> Iterator[tuple[io.BufferedReader, int]]:
    """The plain file `name` below `folder`, and its size."""
    path = folder / name
    try:
        with os.fdopen(_descriptor(folder, name), "rb") as file:
            yield file, _size(file, path, most)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (ELOOP, ENOTDIR):
            raise RecipeError(f"{path}: {NOT_PLAIN}") from None
        raise RecipeError(f"{path}: cannot be read: {error.strerror or error}") from None


def _descriptor(folder: Path, name: str) -> int:
    """Opened part by part, so that no part can lead elsewhere."""
    *parents, last = name.split("/")
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parent in parents:
            left, at = at, os.open(parent, _FOLDER, dir_fd=at)
            os.close(left)
        return os.open(last, _FILE, dir_fd=at)
    finally:
        os.close(at)


def _size(file: io.BufferedReader, path: Path, most: int) -> int:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise RecipeError(f"{path}: {NOT_PLAIN}")
    if status.st_size > most:
        raise RecipeError(f"{path}: {status.st_size / 1e6:.0f} MB are too many for it; copy the recipe again")
    return status.st_size
