"""Signatures of recipes: who vouches for a recipe's hash, and whom a line believes.

`signature.json` in the recipe's folder: Ed25519 over the recipe's hash, which is that of its list of hashes, and the
signer's name. Signing changes no content, so the recipe keeps its name.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from engines import contents
from engines import recipe as recipes
from engines.recipe import MOST_SIGNATURE, SIGNATURE, Recipe, Trust
from pipeline.config import LineConfig
from pipeline.errors import RecipeError, UsageError
from pipeline.keys import PrivateKey, PublicKey, public_keys
from pipeline.whole import put_text

FORMAT = 1
SHOWN = 16  # digits of a fingerprint that people compare
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Hex128 = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
Name = Annotated[str, Field(pattern=r"^[^\p{C}]{1,64}$")]  # no control character: it is shown on terminals


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Signature(_Part):
    """One signer's word; `key` is the fingerprint of the public half."""

    name: Name
    key: Hex64
    signature: Hex128

    def __str__(self) -> str:
        return f"{self.name} ({self.key[:SHOWN]})"


class SignatureFile(_Part):
    """`signature.json`."""

    format: Literal[1] = FORMAT
    signatures: Annotated[tuple[Signature, ...], Strict(False), Field(min_length=1, max_length=16)]


class UntrustedError(RecipeError):
    """Nobody who is trusted has signed the recipe; a line can be told to take it all the same."""


@dataclass(frozen=True)
class Signers:
    """Who is believed, by fingerprint; what to do besides signing, and where it was somebody else."""

    keys: Mapping[str, PublicKey]
    unsigned: str
    unknown: str

    def check(self, path: Path, name: str, content: bytes | None) -> str:
        """Who of them signed the recipe `name`: a `Trust`.

        Raises:
            UntrustedError: none of them.
            RecipeError: the file is damaged, or what they signed was something else.
        """
        if content is None:
            raise UntrustedError(f"{path}: is not signed: takt sign {path}{self.unsigned}")
        found = _parsed(path, content)
        ours = [one for one in found if one.key in self.keys]
        if not ours:
            signers = ", ".join(map(str, found))
            raise UntrustedError(f"{path}: names as signer {signers}, whose key is not known here: {self.unknown}")
        holding = [one for one in ours if self.keys[one.key].holds(_text(name, one.name), one.signature)]
        if not holding:
            raise RecipeError(
                f"{path}: the signature of {ours[0]} is of something else: the manifest was edited, or it is another"
                " recipe's signature; copy the recipe again, or look at what changed and takt sign it"
            )
        return ", ".join(map(str, holding))


def signers_of(config: LineConfig) -> Signers:
    """Whom this line trusts.

    Raises:
        ConfigError: a key cannot be read.
    """
    keys = [key for path in config.signing.trusted for key in public_keys(config.under(path))]
    known = {key.fingerprint: key for key in keys}
    told = "its public key under [signing] trusted, or set allow = ['unsigned_recipe']"
    return Signers(known, f" with a key, and name {told}", f"name {told}")


def trust_of(config: LineConfig) -> Trust:
    """What this line asks of a recipe; raises as `signers_of` does."""
    signers = signers_of(config)

    def trust(path: Path, name: str, content: bytes | None) -> str:
        try:
            return signers.check(path, name, content)
        except UntrustedError:
            if "unsigned_recipe" in config.allow:
                return ""
            raise

    return trust


def load_recipe(config: LineConfig, path: Path) -> Recipe:
    """The recipe at `path`, as this line takes it: its signature is checked before any other file is opened.

    Raises:
        RecipeError: see `engines.recipe.load`; nobody trusted has signed it.
        ConfigError: a trusted key cannot be read.
    """
    return recipes.load(path, trust_of(config))


def sign(recipe: Recipe, key: PrivateKey, name: str) -> Signature:
    """Sign `recipe`; other signers' signatures stay, an older one of this key does not.

    Raises:
        UsageError: the name cannot be shown, or the folder cannot be written.
    """
    value = key.sign(_text(recipe.hash, name))
    try:
        ours = Signature(name=name, key=key.public.fingerprint, signature=value)
        others = tuple(one for one in _others(recipe.path) if one.key != ours.key)
        _write(recipe.path, SignatureFile(signatures=(*others, ours)))
    except ValidationError as error:
        raise UsageError(f"{name!r} cannot sign: {_first(error)}") from None
    except OSError as error:
        raise UsageError(f"{recipe.path}: cannot be written: {error.strerror}; sign a copy of it") from None
    return ours


def unsigned(made: Path) -> str:
    """What to say of a recipe that was just made."""
    return f"not signed yet, and no line takes it before: takt sign {made}"


def _text(recipe: str, name: str) -> bytes:
    """What is signed: for a recipe and nothing else, whose it is."""
    return f"takt recipe {FORMAT}\n{recipe}\n{name}\n".encode()


def _parsed(path: Path, content: bytes) -> tuple[Signature, ...]:
    try:
        return SignatureFile.model_validate_json(content).signatures
    except ValidationError as error:
        said = f"cannot be used ({_first(error)}): copy it again, update takt, or takt sign {path}"
        raise RecipeError(f"{path / SIGNATURE}: {said}") from None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")


def _others(path: Path) -> tuple[Signature, ...]:
    """Signatures that are there already; a damaged file holds none."""
    with suppress(FileNotFoundError, RecipeError):
        return _parsed(path, contents.read(path, SIGNATURE, MOST_SIGNATURE))
    return ()


def _write(folder: Path, file: SignatureFile) -> None:
    """Whole or not at all; a line may be reading it."""
    put_text(folder / SIGNATURE, file.model_dump_json(indent=2) + "\n")
