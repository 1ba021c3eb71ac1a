"""Which good panels are kept from training, so that limits come from panels that taught nothing."""

import numpy as np
from numpy.typing import NDArray

from calibration import golden
from engines.errors import UsageError


def kept_back_of(count: int, folds: int, hold_out_every: int | None) -> list[NDArray[np.bool_]]:
    """bool [count] for every fold, True where a panel is kept from training.

    Raises:
        UsageError: nothing would be left for training.
    """
    if hold_out_every is not None:
        if hold_out_every < 2:
            raise UsageError(f"hold out every {hold_out_every}: give at least 2, or nothing is left for training")
        held_out = count // hold_out_every
        if held_out < golden.EACH:
            raise UsageError(
                f"hold out every {hold_out_every}: keeps {held_out} of {count} good panels back, {golden.EACH} are"
                " needed: give a smaller number, or leave it out"
            )
        return [np.arange(count) % hold_out_every == hold_out_every - 1]
    if not 2 <= folds <= count:
        raise UsageError(f"{folds} folds: give 2 to {count}, the good panels there are")
    return [np.arange(count) % folds == number for number in range(folds)]
