"""A recipe as a line takes it up: verified, of the hash that was asked for, and with the engine that must answer."""

from engines.errors import RecipeError
from engines.recipe import Recipe
from engines.station import IDENTITY
from pipeline.config import LineConfig
from pipeline.engine_room import engine_hash
from pipeline.open_panels import Expected
from pipeline.refusals import check_channels, refuse
from pipeline.signatures import load_recipe
from pipeline.wishes import Place


def loaded(config: LineConfig, place: Place) -> Recipe:
    """The recipe that lies there, signed by somebody whom the line trusts.

    Raises:
        RecipeError: it is damaged, of nobody trusted, or another one than was asked for.
    """
    recipe = load_recipe(config, place.path)
    if place.recipe not in ("", recipe.hash):
        raise RecipeError(
            f"{place.path}: holds recipe {recipe.hash[:12]}, and {place.recipe[:12]} was asked for:"
            " bring that one back, or takt recipe use"
        )
    return recipe


def expected_of(config: LineConfig, recipe: Recipe) -> Expected:
    """What a verdict by `recipe` is held against, known without the inspector.

    Raises:
        TaktError: its engine is none that this line may use.
    """
    limits = recipe.manifest.limits
    bounds = (limits.low, limits.image, recipe.manifest.mm_per_px)
    return Expected(recipe.hash, IDENTITY.hash, engine_hash(config, recipe), *bounds)


def candidate(config: LineConfig, place: Place) -> tuple[Recipe, Expected]:
    """A recipe that may take over on this line, as far as can be told without opening its engine.

    Raises:
        TaktError: it is damaged, does not fit the line's cameras, or its engine may not be used.
    """
    recipe = loaded(config, place)
    check_channels(config, recipe)
    for _ in refuse(config, {0: recipe}, ()):  # what is allowed is said by the command that asked, and at every start
        pass
    return recipe, expected_of(config, recipe)
