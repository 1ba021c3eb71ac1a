"""`takt sign` and `takt verify`: who vouches for a recipe."""

import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from engines import recipe as recipes
from engines.recipe import Recipe
from pipeline.config import signing_folder
from pipeline.errors import RecipeError, UsageError
from pipeline.keys import SIGNER, PublicKey, private_key, public_keys, public_of, signer_key
from pipeline.signatures import Signers
from pipeline.signatures import sign as signed

RecipeArgument = Annotated[Path, typer.Argument(metavar="RECIPE", help="recipe folder")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to the root command."""
    app.command("sign")(sign)
    app.command("verify")(verify)


def sign(
    recipe: RecipeArgument,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="private key, instead of your own")] = None,
    name: Annotated[str | None, typer.Option(help="what others call you, instead of your log-in name")] = None,
) -> None:
    """Vouch for a recipe with your key, which is made at first use; prints the public key to hand over."""
    loaded = recipes.load(recipe)
    own = signing_folder() / SIGNER
    if key is None and not own.exists():
        typer.echo(f"a key of your own is made: {own}; keep it to yourself")
    private = private_key(key) if key else signer_key(own.parent)
    signature = signed(loaded, private, name or _log_in_name())
    typer.echo(f"{_said(loaded)}: signed by {signature.name}, fingerprint {signature.key}")
    typer.echo(f"public key{'' if key else f' {public_of(own)}'}, for [signing] trusted of a line file:")
    typer.echo(private.public.pem().decode(), nl=False)


def verify(
    recipe: RecipeArgument,
    key: Annotated[
        Path | None, typer.Option(metavar="PUB", help="public key, or folder of *.pub.pem, instead of your own key")
    ] = None,
) -> None:
    """Say who signed a recipe. Exit status 1 where nobody did whose key this is, or where a file was changed."""
    signers = Signers(_known(key), "", "give its file with --key")
    try:
        loaded = recipes.load(recipe, signers.check)
    except RecipeError as error:
        error.exit_status = 1  # a gate refused
        raise
    typer.echo(f"{_said(loaded)}: signed by {loaded.signed_by}")


def _known(key: Path | None) -> dict[str, PublicKey]:
    """The keys in `key`, or one's own where there is one."""
    own = public_of(signing_folder() / SIGNER)
    place = key or (own if own.exists() else None)
    return {one.fingerprint: one for one in public_keys(place)} if place else {}


def _said(recipe: Recipe) -> str:
    return f"recipe {recipe.hash[:12]}, product {recipe.manifest.product}"


def _log_in_name() -> str:
    with suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_name
    raise UsageError("this user has no log-in name: give --name")
