"""Which good panels are kept from training, so that limits come from panels that taught nothing."""

import numpy as np
from numpy.typing import NDArray

from calibration import golden
from calibration.limits import FEWEST
from calibration.specimens import counted, different
from engines.errors import UsageError


def kept_back_of(specimens: NDArray[np.int64], folds: int, hold_out_every: int | None) -> list[NDArray[np.bool_]]:
    """bool [n] for every fold, True where a panel is kept from training; all of one specimen or none of it.

    `specimens` [n] numbers them from 0. A network that was taught another image set of the same thing has seen it.

    Raises:
        UsageError: nothing would be left for training, or for the limits.
    """
    count = different(specimens)
    what = counted(count < len(specimens))
    if count < FEWEST:
        raise UsageError(f"{len(specimens)} good panels are of {count} {what}; limits take {FEWEST}: add others")
    if hold_out_every is not None:
        if hold_out_every < 2:
            raise UsageError(f"hold out every {hold_out_every}: give at least 2, or nothing is left for training")
        held_out = count // hold_out_every
        if held_out < golden.EACH:
            raise UsageError(
                f"hold out every {hold_out_every}: keeps {held_out} of {count} {what} back, {golden.EACH} are"
                " needed: give a smaller number, or leave it out"
            )
        return [specimens % hold_out_every == hold_out_every - 1]
    if not 2 <= folds <= count:
        raise UsageError(f"{folds} folds: give 2 to {count}, the {what} there are")
    return [specimens % folds == number for number in range(folds)]
