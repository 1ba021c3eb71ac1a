"""What makes a score of frames beside the network: takt's own code, and the libraries that it computes with.

A certificate speaks of it, so that an update which changes it asks for a new proof. Comments change nothing.
"""

import ast
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from engines import kernels
from engines.errors import EngineError
from engines.recipe import canonical

# From raw frames to map, score and verdict, and what is asked of an engine.
PARTS = (
    "decide",
    "detector",
    "feeding",
    "fitting",
    "gather",
    "golden",
    "parity",
    "rows",
    "scoring",
    "sentinel",
    "station",
    "tiles",
    "zones",
)
# Besides, of runtimes on cards.
CARD_PARTS = ("card_feed", "kernels", "lanes", "models", "plans", "preprocess", "tensor_runtime")
ON_CARDS = ("tensorrt", "tensorrt_rtx", "torch_cuda")
LIBRARIES = ("numpy", "opencv-python-headless", "opencv-python")  # either of the last two


@lru_cache(maxsize=8)
def revision(runtime: str) -> str:
    """SHA-256 of the code that inspects by `runtime`, and of the versions of what it calls.

    Raises:
        EngineError: the code's text is not there.
    """
    parts = PARTS + CARD_PARTS if runtime in ON_CARDS else PARTS
    names = [*(f"engines.{part}" for part in parts), f"engines.runtimes.{runtime}"]
    versions = {name: _version(name) for name in LIBRARIES}
    if runtime in ON_CARDS:
        versions["kernel"] = sha256(kernels.source().encode()).hexdigest()
    return digest({name: _source(name) for name in names}, versions)


def digest(sources: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """SHA-256 over modules' texts by name, without comments, docstrings and line breaks, and over versions. Pure."""
    code = {name: ast.dump(_bare(ast.parse(text))) for name, text in sources.items()}
    return sha256(canonical({"code": code, "versions": dict(versions)})).hexdigest()


def _bare(tree: ast.Module) -> ast.Module:
    """Without docstrings, in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:]
    return tree


def _source(name: str) -> str:
    """Empty for a runtime of another distribution: its version is in the engine's key."""
    try:
        found = find_spec(name)
    except ValueError:  # made while the program runs
        found = None
    try:
        return Path(found.origin).read_text(encoding="utf-8") if found and found.origin else ""
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{name}: its text cannot be read ({error}): install takt unpacked") from None


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
