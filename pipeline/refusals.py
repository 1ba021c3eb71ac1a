"""Settings that would let every panel pass are refused before a start, unless the line file allows them by name."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from pydantic import BaseModel

from engines.recipe import Golden, Recipe
from engines.scoring import own_map
from pipeline.config import LineConfig
from pipeline.errors import ConfigError

INSPECTED = 0.95  # of the panel


def refuse(config: LineConfig, recipes: Mapping[int, Recipe], cameras: Iterable[BaseModel]) -> Iterator[str]:
    """What the line file allows although it weakens the inspection, a line each; to be said at every start.

    Raises:
        ConfigError: the first setting that would make passes meaningless.
    """
    for recipe in recipes.values():
        if "unsigned_recipe" in config.allow and not recipe.signed_by:  # else it would not have been loaded
            yield f"allowed: recipe {recipe.path.name} is not signed by anybody trusted"
        _check_smallest_defect(recipe)
        yield from _proofs(config, recipe)
        yield from _zones(config, recipe)
    yield from _one_number_a_product(config, recipes)
    for settings in cameras:
        if getattr(settings, "loop", False):
            raise ConfigError("cameras.settings.loop: a replay without end shows no panel of this line: take it out")


def check_channels(config: LineConfig, recipe: Recipe) -> None:
    """The cameras deliver what the recipe was taught on, in its order."""
    ours = [channel for camera in config.cameras for channel in camera.channels]
    theirs = [channel.name for channel in recipe.manifest.channels]
    if ours != theirs:
        raise ConfigError(
            f"cameras deliver {', '.join(ours)}; recipe {recipe.path.name} was taught on {', '.join(theirs)}:"
            " put the channels into that order, or teach again"
        )


def _check_smallest_defect(recipe: Recipe) -> None:
    """A minimum area above the smallest golden defect would hide that defect, and all like it."""
    limits = recipe.manifest.limits
    areas = [_area_px(recipe, golden) for golden in recipe.golden if golden.defective]
    if areas and limits.min_area_px > min(areas):
        raise ConfigError(
            f"recipe {recipe.path.name}: min_area_px {limits.min_area_px} is larger than its smallest golden defect"
            f" ({min(areas)} px): takt limits with a smaller one"
        )


def _area_px(recipe: Recipe, golden: Golden) -> int:
    """Of the panel; of the network's input where the recipe does not know how large its panels are.

    Of a recipe in tiles the golden map is a tile's, and the defect is mirrored over it: the piece's own part counts.
    """
    geometry, limits = recipe.manifest.geometry, recipe.manifest.limits
    cell = limits.cell_px or geometry.height * geometry.width / golden.map.size
    return round(cell * max(int((own_map(golden, recipe.manifest) > limits.pixel).sum()), 1))


def _zones(config: LineConfig, recipe: Recipe) -> Iterator[str]:
    """A defect where nobody looks is never found."""
    zones = recipe.manifest.limits.zones
    if zones is None or zones.share >= INSPECTED:
        return
    said = f"recipe {recipe.path.name} inspects {zones.share:.1%} of the panel"
    if "small_zones" not in config.allow:
        raise ConfigError(f"{said}, {INSPECTED:.0%} are the least: takt limits --zones, or allow = ['small_zones']")
    yield f"allowed: {said}"


def _proofs(config: LineConfig, recipe: Recipe) -> Iterator[str]:
    """A sick engine or a dead lamp must be seen."""
    lacking = [] if any(golden.defective for golden in recipe.golden) else ["golden defects"]
    lacking += [] if recipe.manifest.integrity else ["integrity limits"]
    if not lacking:
        return
    said = f"recipe {recipe.path.name} has no {' and no '.join(lacking)}"
    if "unproven_recipe" not in config.allow:
        raise ConfigError(f"{said}: teach again, or takt relearn; or set allow = ['unproven_recipe']")
    yield f"allowed: {said}"


def _one_number_a_product(config: LineConfig, recipes: Mapping[int, Recipe]) -> Iterator[str]:
    """Two numbers for one product: a slip of the PLC's program would switch limits unseen."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, recipe in recipes.items():
        numbers[recipe.manifest.product].append(number)
    for product, several in numbers.items():
        if len(several) > 1:
            said = f"recipe numbers {', '.join(map(str, several))} are all product {product!r}"
            if "same_product" not in config.allow:
                raise ConfigError(f"{said}: keep one, or set allow = ['same_product']")
            yield f"allowed: {said}"
