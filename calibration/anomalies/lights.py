"""What channel names say about light and focus, and what is supposed where they say nothing."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache

import numpy as np

TOWARDS = {  # azimuth of the light seen from the panel: 0 right, a quarter turn down, as pixels count
    "right": 0.0,
    "east": 0.0,
    "bottom": math.pi / 2,
    "down": math.pi / 2,
    "south": math.pi / 2,
    "left": math.pi,
    "west": math.pi,
    "top": -math.pi / 2,
    "up": -math.pi / 2,
    "north": -math.pi / 2,
}
ONE_LIGHT = re.compile(r"(exp|exposure|hdr|gain)\d+|grey|gray|red|green|blue")
ALIKE_SHARE = 0.5


class Aspect(Enum):
    """What a light shows: colour (bright field), steepness (coaxial), or what scatters it (dark field)."""

    BRIGHT = "bright"
    COAXIAL = "coaxial"
    DARK = "dark"


WORDS = {
    **dict.fromkeys(("bright", "brightfield", "diffuse", "dome", "white"), Aspect.BRIGHT),
    **dict.fromkeys(("coaxial", "coax"), Aspect.COAXIAL),
    **dict.fromkeys(("dark", "darkfield", "side", "grazing", "oblique"), Aspect.DARK),
    **dict.fromkeys(TOWARDS, Aspect.DARK),
}


@dataclass(frozen=True)
class View:
    """One channel: its light's name and aspect (None: unknown), the azimuth of a side light, its focus plane."""

    light: str
    aspect: Aspect | None
    azimuth: float | None
    plane: int


@lru_cache
def views(channels: tuple[str, ...]) -> tuple[View, ...]:
    """A view a channel. Exposures and colours (exp1, red) are one light; focus planes count in order of appearance."""
    parts = [_parts(name.lower()) for name in channels]
    planes = list(dict.fromkeys(focus for _, focus in parts))
    return tuple(_view(light, planes.index(focus)) for light, focus in parts)


def supposed(known: Sequence[View], rng: np.random.Generator) -> list[View]:
    """The same views, every unknown light given an aspect and a side; half of the time all of them the same.

    A light keeps what it was given in all its channels.
    """
    unknown = list(dict.fromkeys(view.light for view in known if view.aspect is None))
    draws = _drawn(rng, alike=rng.uniform() < ALIKE_SHARE)
    given = dict(zip(unknown, draws, strict=False))
    return [_as(view, given[view.light]) if view.light in given else view for view in known]


def _parts(name: str) -> tuple[str, str]:
    """Light and focus of a channel."""
    words = re.split(r"[_\-. ]+", name)
    known = [word for word in words if word in WORDS]
    if known:
        return "_".join(known), "_".join(word for word in words if word not in WORDS)
    if ONE_LIGHT.fullmatch(name):
        return "", ""
    light, mark, focus = name.rpartition("_")
    return (light, focus) if mark else (name, "")


def _view(light: str, plane: int) -> View:
    words = light.split("_")
    aspect = next((WORDS[word] for word in words if word in WORDS), None)
    return View(light, aspect, next((TOWARDS[word] for word in words if word in TOWARDS), None), plane)


def _drawn(rng: np.random.Generator, alike: bool) -> Iterator[tuple[Aspect, float]]:
    kinds, one = list(Aspect), None
    while True:
        if one is None or not alike:
            one = kinds[rng.integers(len(kinds))], rng.uniform(-math.pi, math.pi)
        yield one


def _as(view: View, given: tuple[Aspect, float]) -> View:
    aspect, azimuth = given
    return replace(view, aspect=aspect, azimuth=azimuth if aspect is Aspect.DARK else None)
