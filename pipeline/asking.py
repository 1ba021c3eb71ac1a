"""Ask a line for another recipe, and wait for what becomes of it: the body of `takt recipe`."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

from engines.recipe import Recipe
from pipeline import wishes
from pipeline.candidates import candidate, loaded
from pipeline.config import LineConfig
from pipeline.errors import ConfigError, StageError, TaktError, UsageError
from pipeline.refusals import refuse
from pipeline.signatures import load_recipe
from pipeline.wishes import Place, Row, Wish

LOOK_S = 0.05


def checked(config: LineConfig, number: int, place: Place, *, other_product: bool = False) -> tuple[Place, list[str]]:
    """The place with its recipe's hash, and what the line file allows although it weakens the inspection.

    Raises:
        TaktError: the line could not use it for this number, and why.
    """
    rows = _rows_with(config, number)
    recipe = loaded(config, place)
    now = {other: loaded(config, row.place) for other, row in rows.items() if other != number}
    remarks = list(refuse(config, now | {number: recipe}, ()))
    _same_product(config, rows[number], recipe, other_product=other_product)
    candidate(config, place)
    return Place(path=recipe.path, recipe=recipe.hash), remarks


def _rows_with(config: LineConfig, number: int) -> dict[int, Row]:
    """How the numbers stand, this one among them."""
    rows, entries = wishes.now(config), config.recipe_paths()
    if number in rows:
        return rows
    if number in entries:
        raise UsageError(f"the line was started before its file had a recipe {number}: stop it and start it again")
    raise UsageError(
        f"the line file has no recipe {number}; it has {', '.join(map(str, sorted(entries)))}: add it there"
    )


def _same_product(config: LineConfig, row: Row, recipe: Recipe, *, other_product: bool) -> None:
    """The PLC's number stands for a product: a slip here would inspect one by the limits of another."""
    product = product_of(config, row.place)
    if not other_product and product not in ("", recipe.manifest.product):
        raise UsageError(
            f"{recipe.path} is for product {recipe.manifest.product!r}, and the number stands for {product!r}:"
            " name another recipe, or give --other-product"
        )


def product_of(config: LineConfig, place: Place) -> str:
    """The product of a recipe in use; empty where its folder is gone."""
    try:
        return load_recipe(config, place.path).manifest.product
    except TaktError:
        return ""


def ask(config: LineConfig, number: int, place: Place, wait_s: float) -> str:
    """Wish `place` for `number`; how it is in use when this returns.

    Raises:
        StageError: the line refused it, and keeps what it has; or nothing was heard within `wait_s`.
    """
    row, asked_for = wishes.now(config)[number], wishes.resolved(config)[number].place
    if row.place.recipe == place.recipe and place in (asked_for, Place(path=asked_for.path, recipe=place.recipe)):
        return "in use already"
    old = wishes.wishes(config).get(number)
    before = row.former if row.place.recipe == place.recipe else _before(config, row)
    wish = Wish(id=secrets.token_hex(8), place=place, before=before, entry=config.recipe_paths()[number])
    wishes.put(config, number, wish)
    if not wishes.runs(config):
        return "will be used from the next start"
    return _awaited(config, number, wish, old, wait_s)


def _before(config: LineConfig, row: Row) -> Place:
    """What is in use, with its hash; a line that never ran with it has not written that down."""
    return row.place if row.place.recipe else Place(path=row.place.path, recipe=loaded(config, row.place).hash)


def _awaited(config: LineConfig, number: int, wish: Wish, old: Wish | None, wait_s: float) -> str:
    end_s = time.monotonic() + wait_s
    said = ""
    while time.monotonic() < end_s:
        table = wishes.standing(config)
        if table is None:
            return "will be used from the next start: the line has ended"
        row = table.rows[str(number)]
        if table.trouble:
            raise ConfigError(table.trouble)
        if row.wish == wish.id and row.place.recipe == wish.place.recipe:
            return "in use"
        if row.wish == wish.id and row.state == "refused":
            wishes.put(config, number, old, instead_of=wish.id)
            raise StageError(f"recipe {number}: the line keeps {row.place.path}, and refused: {row.reason}")
        if wishes.wishes(config).get(number, wish).id != wish.id:
            raise StageError(f"recipe {number}: somebody asked for another one meanwhile: takt recipe show")
        said = f"{row.state}: {row.reason}" if row.wish == wish.id else "not taken up"
        time.sleep(LOOK_S)
    raise StageError(f"recipe {number}: not in use after {wait_s:g} s ({said}); it stays asked for: takt recipe show")


def back(config: LineConfig, number: int) -> Place:
    """Where `takt recipe back` goes.

    Raises:
        UsageError: there is no recipe before the one in use, or no such number.
    """
    _rows_with(config, number)
    wish = wishes.holding(config).get(number)
    if wish is None or wish.before is None:
        raise UsageError(f"recipe {number} is the line file's own: there is none before it")
    return wish.before


def shown(config: LineConfig) -> dict[str, Any]:
    """How every number stands."""
    running, table = wishes.runs(config), wishes.standing(config)
    return {
        "running": running,
        "trouble": table.trouble if table and running else "",
        "recipes": list(_rows(config, wishes.now(config), running=running)),
    }


def _rows(config: LineConfig, rows: dict[int, Row], *, running: bool) -> Iterator[dict[str, Any]]:
    for number, row in sorted(rows.items()):
        told = {
            "number": number,
            "product": product_of(config, row.place),
            "recipe": row.place.recipe,
            "engine": row.engine,
        }
        if not running:
            told |= _at_rest(config, row)
        state = row.state if running else told.pop("state")
        reason = row.reason if running else told.pop("reason")
        yield told | {"state": state, "reason": reason, "path": str(row.place.path)}


def _at_rest(config: LineConfig, row: Row) -> dict[str, str]:
    """What the next start would find."""
    try:
        recipe, expected = candidate(config, row.place)
    except TaktError as error:
        return {"state": "refused", "reason": str(error)}
    return {"recipe": recipe.hash, "engine": expected.engine, "state": "stopped", "reason": ""}
