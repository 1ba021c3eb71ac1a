"""The key of whoever taught the tests' recipes, made once a process; the tests' line files trust it."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from pipeline.keys import signer_key


@cache
def folder() -> Path:
    """Where the key lies."""
    made = Path(tempfile.mkdtemp(prefix="takt-signers-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    signer_key(made)
    return made
