"""Specimens: the things that image sets show. Sets of one are no trials of their own, and stay together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def numbered(names: Sequence[str]) -> NDArray[np.int64]:
    """[n], from 0: the same for equal names, in the order in which they come first."""
    places = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([places[name] for name in names], np.int64)


def different(numbers: NDArray[np.int64]) -> int:
    """How many specimens there are of these `numbers` [n]."""
    return int(numbers.max(initial=-1)) + 1


def highest_of(scores: NDArray[np.float64], specimens: Sequence[str]) -> NDArray[np.float64]:
    """The highest score of each of the `specimens` [n], in the order in which they come first; all without any."""
    if not specimens:
        return scores
    numbers = numbered(specimens)
    found = np.full(different(numbers), -np.inf)
    np.maximum.at(found, numbers, scores)
    return found


def counted(together: bool) -> str:
    """What a promise counts; `together`: several panels are of one specimen."""
    return "specimens of good panels" if together else "good panels"
