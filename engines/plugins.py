"""Plug-ins: one file each, found by name, imported only when asked for."""

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from types import ModuleType

from engines.errors import UsageError

# Which extra brings a library; "" for the base install, and else it has the plug-in's name.
EXTRAS = {"onnx": "int8", "onnxruntime": "", "safetensors": "teach", "torch": "teach"}


def kinds(package: str) -> list[str]:
    """Names of the plug-ins in `package` and of those that other distributions add to it."""
    inside = [module.name for module in iter_modules(import_module(package).__path__)]
    outside = [entry.name for entry in entry_points(group=_group(package))]
    return sorted({*inside, *outside})


def load(package: str, kind: str) -> ModuleType:
    """Import the plug-in `kind` of `package`, or say what is missing.

    Raises:
        UsageError: there is no such plug-in, or a library that it needs is not installed.
    """
    for entry in entry_points(group=_group(package), name=kind):
        return entry.load()
    try:
        return import_module(f"{package}.{kind}")
    except ModuleNotFoundError as missing:
        if missing.name == f"{package}.{kind}":
            there = ", ".join(kinds(package))
            raise UsageError(f"no {kind!r} in {package}; there is {there}") from None
        raise lacking(kind, missing) from missing


def lacking(kind: str, missing: ModuleNotFoundError) -> UsageError:
    """What to say where `kind` needs a library that is not installed."""
    library = (missing.name or "").partition(".")[0]
    extra = EXTRAS.get(library, kind)
    return UsageError(f"{kind!r} needs {library}: pip install 'takt{f'[{extra}]' if extra else ''}'")


def _group(package: str) -> str:
    return f"takt.{package.rpartition('.')[2]}"
