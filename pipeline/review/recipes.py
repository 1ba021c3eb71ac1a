"""What is known of the recipes that panels name."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from engines.manifest import Manifest
from pipeline.review.facts import RecipeFacts
from pipeline.store.tables import KnownRecipe

MOST = 64  # recipes in memory


@dataclass(frozen=True)
class Known:
    """A recipe by its manifest, as far as that can be read."""

    recipe: str
    product: str
    content: dict[str, Any]

    @property
    def mm_per_px(self) -> float | None:
        scale = self.content.get("mm_per_px")
        return scale if isinstance(scale, int | float) and scale > 0 else None

    @property
    def channels(self) -> list[str]:
        """In the recipe's order."""
        return [str(channel["name"]) for channel in self.content.get("channels", []) if "name" in channel]

    @cached_property
    def manifest(self) -> Manifest | None:
        """None for one of a newer takt."""
        try:
            return Manifest.model_validate(self.content, strict=False)
        except ValidationError:
            return None

    def facts(self) -> RecipeFacts:
        return RecipeFacts(recipe=self.recipe, product=self.product, channels=self.channels, mm_per_px=self.mm_per_px)


def known(session: Session) -> dict[str, Known]:
    """By hash."""
    return {row.recipe: Known(row.recipe, row.product, row.manifest) for row in session.scalars(select(KnownRecipe))}


def products(session: Session) -> dict[str, str]:
    """Product of each known recipe, without its manifest."""
    rows = session.execute(select(KnownRecipe.recipe, KnownRecipe.product))
    return {recipe: product for recipe, product in rows}  # noqa: C416, as types


class Recipes:
    """Recipes by name, each read once: what a name stands for never changes."""

    def __init__(self) -> None:
        self._read: OrderedDict[str, Known] = OrderedDict()

    def of(self, session: Session, recipe: str) -> Known:
        """One recipe; without a product where it is not known here, which may come."""
        found = self._read.get(recipe)
        if found is None:
            row = session.get(KnownRecipe, recipe)
            if row is None:
                return Known(recipe, "", {})
            found = self._read[recipe] = Known(recipe, row.product, row.manifest)
            while len(self._read) > MOST:
                self._read.popitem(last=False)
        return found
