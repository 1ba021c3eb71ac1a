"""The plant's tree of defect classes: a TOML file, or a small tree that ships.

[[codes]]
code = "SCR"          # becomes a folder's name in an exported panel set
text = "scratch"
key = "1"             # optional, 1 to 9
[[codes.under]]
code = "SCR-POL"
text = "scratch in the polariser"
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from engines.settings import checked, read_toml
from pipeline.errors import ConfigError
from pipeline.review.facts import Code

SHIPPED = ("scratch", "dust", "dent", "stain", "bubble", "mura", "line", "pixel", "other")


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    text: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    key: Annotated[str, StringConstraints(pattern=r"^[1-9]?$")] = ""
    under: list["_Written"] = Field(default_factory=list)


class _Tree(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    codes: Annotated[list[_Written], Field(min_length=1)]


def read(path: Path | None) -> list[Code]:
    """The tree in the file `path`; None: the one that ships.

    Raises:
        ConfigError: the file cannot be used; one line that says where.
    """
    if path is None:
        return [Code(code=name, text=name, key=str(at + 1)) for at, name in enumerate(SHIPPED)]
    where = f"review.codes: {path}"
    raw = read_toml(path, where, ConfigError)
    tree = [_code(one) for one in checked(_Tree, raw, where, ConfigError).codes]
    _check_once([one.code for one in flat(tree)], f"{path}: code")
    _check_once([one.key for one in flat(tree) if one.key], f"{path}: key")
    if "good" in {one.code for one in flat(tree)}:
        raise ConfigError(f"review.codes: {path}: 'good' is no defect class: rename it")
    return tree


def flat(tree: Sequence[Code]) -> Iterator[Code]:
    """Every class, parents first."""
    for one in tree:
        yield one
        yield from flat(one.under)


def below(tree: Sequence[Code], code: str) -> list[str]:
    """The class and those under it; itself alone where the tree has none of that name any more."""
    found = next((one for one in flat(tree) if one.code == code), None)
    return [one.code for one in flat([found])] if found else [code]


def _code(one: _Written) -> Code:
    return Code(code=one.code, text=one.text, key=one.key, under=[_code(child) for child in one.under])


def _check_once(names: list[str], what: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"review.codes: {what} {twice!r} stands there twice")
