"""Plug-ins: one file each, found by name, imported only when asked for."""

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from types import ModuleType

from engines.errors import UsageError


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
        raise UsageError(f"{kind!r} needs {missing.name}: pip install 'takt[{kind}]'") from missing


def _group(package: str) -> str:
    return f"takt.{package.rpartition('.')[2]}"
