"""One evaluation less another on the same panels and the same draws of them (paired bootstrap).

Image figures follow from the panels' scores. Pixel figures follow from what `texts` leaves of each panel in the JSON of
`takt eval`: how many defective and good pixels, and what share of the defective regions, lie in each of some 150 steps
of the map. Within a step the order is lost, so that they are approximate, see the tests for how close; differences of
the panels as they are come from the exact figures.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.bootstrap import Floats, image_figures, interval, pixel_draws, pixel_sums, ranked, weights

LEVELS = np.concatenate([np.linspace(0, 1, 41), 1 - np.geomspace(1e-6, 1, 60)])
NAMES = ("defective", "good", "regions")


def texts(masks: NDArray[np.bool_], maps: NDArray[np.float32], areas: Floats) -> list[dict[str, str]]:
    """For each panel the sums of `calibration.bootstrap.pixel_sums` by name, numbers with blanks between.

    Masks, maps and areas are [n, h, w]. What is 0 everywhere is left out; nothing is said without good and defective
    pixels.
    """
    if not masks.any() or masks.all():
        return [{} for _ in masks]
    sums = pixel_sums(masks, maps, areas, LEVELS)
    panels = zip(*sums, strict=True)
    return [{name: _text(row) for name, row in zip(NAMES, rows, strict=True) if row.any()} for rows in panels]


def draws(one: dict[str, Any], other: dict[str, Any], seed: int = 0) -> dict[str, Floats]:
    """Figures of one evaluation less those of another, [1 + draws] each; the first is of the panels as they are.

    Both are what `takt eval --json` writes; pixel figures are there where both tell of pixels.

    Raises:
        ValueError: the evaluations are of different panels.
    """
    first, second = _rows(one), _rows(other)
    if first.keys() != second.keys():
        differing = sorted(first.keys() ^ second.keys())[0]
        raise ValueError(f"panel {'/'.join(differing)} was evaluated in one of the two only")
    keys = sorted(first)
    kinds = [kind for kind, _ in keys]
    drawn = np.concatenate([np.ones((1, len(keys))), weights(kinds, seed=seed)])
    ours, theirs = (_figures(kinds, [rows[key] for key in keys], drawn) for rows in (first, second))
    found = {name: ours[name] - theirs[name] for name in ours if name in theirs}
    for name, values in found.items():
        if one.get(name) is not None and other.get(name) is not None:
            values[0] = one[name] - other[name]
    return found


def compared(one: dict[str, Any], other: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By figure the difference, its middle 95 %, and the share of draws in which the first is better, ties half.

    Raises:
        ValueError: as `draws`.
    """
    return {name: difference(values) for name, values in draws(one, other).items()}


def difference(values: Floats) -> dict[str, Any]:
    """What `compared` says of [1 + draws], the first of the panels as they are."""
    drawn = values[1:]
    above = float((drawn > 0).mean() + (drawn == 0).mean() / 2)
    return {"difference": float(values[0]), "interval95": interval(drawn), "share_above": above}


def _rows(figures: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["defect"], row["panel"]): row for row in figures["results"]}


def _figures(kinds: Sequence[str], rows: Sequence[dict[str, Any]], drawn: Floats) -> dict[str, Floats]:
    found = image_figures(kinds, ranked([row["score"] for row in rows]), drawn)
    told = [number for number, row in enumerate(rows) if row.get("pixels")]
    return found | (pixel_draws(_sums([rows[each]["pixels"] for each in told]), drawn[:, told]) if told else {})


def _sums(told: Sequence[dict[str, str]]) -> list[Floats]:
    """[n, steps] for each of `NAMES`."""
    steps = len(next(iter(told[0].values())).split())
    nothing = " ".join("0" * steps)
    return [np.array([each.get(name, nothing).split() for each in told], float) for name in NAMES]


def _text(row: Floats) -> str:
    return " ".join(f"{value:.6g}" for value in row)
