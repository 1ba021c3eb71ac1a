"""What a limit rejects of synthetic defects, and how much of that hangs on the good panel that scores highest.

From few good panels the limit is the highest of their scores, for nothing less keeps the promise. One panel unlike the
others then lifts it above what it must reject without being far enough out to be suspect, and no figure of false
rejects shows it. Defects drawn on good panels do.

Measured on 13 recipes of five photographed sets, limits from 10 to 21 panels: for the highest panel's sake 0 to 21 % of
the drawn defects pass; 24 and 33 % where it is suspect, and 71 % where, with the teacher that ships, it is a solar cell
of an odd make.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.limits import FEWEST, image_limit, panels_above
from calibration.scores import Scores
from calibration.specimens import highest_of
from engines.recipe import Promise
from engines.zones import Part, Zones

TOO_MUCH = 0.25  # of the drawn defects


@dataclass(frozen=True)
class Reliance:
    """Of `drawn` defects `rejected` score above the limit; set without `panel`, the highest, `rejected_without` would.

    `alone`: whether that panel's score is the limit. It is not where so many panels set it that a lower one keeps the
    promise.
    """

    drawn: int
    rejected: int
    panel: str
    score: float
    alone: bool
    limit_without: float
    rejected_without: int

    @property
    def too_much(self) -> bool:
        """Whether so many defects pass for the one panel's sake that somebody should look at it."""
        return self.alone and self.rejected_without - self.rejected > TOO_MUCH * self.drawn

    def said(self, suspects: Collection[str] = ()) -> str | None:
        """One line that says what to do; None where the limit does not rest on one panel, or that is suspect anyhow."""
        if not self.too_much or self.panel in suspects:
            return None
        return (
            f"train/good: the limit rests on {self.panel} ({self.score:.3g}) alone: {self.rejected} of {self.drawn}"
            f" synthetic defects are rejected, and {self.rejected_without} without it, at {self.limit_without:.3g};"
            " look at it: add good panels of its kind and teach again, or, if none of its kind will come, set the limit"
            f" without it: takt limits --without {self.panel}"
        )

    def figures(self) -> dict[str, Any]:
        """For the command's JSON."""
        without = {"panel": self.panel, "limit": self.limit_without, "rejected": self.rejected_without}
        return {"drawn": self.drawn, "rejected": self.rejected, "without_highest": without}


def reliance(
    good: Scores, drawn: Sequence[float], where: Zones | None, rule: tuple[Part, ...], promise: Promise
) -> Reliance | None:
    """What the limit that `promise` asks of `good` rejects of defects, inspected ones, with the scores `drawn`.

    None where without the highest panel there were too few for a limit.
    """
    scores = good.within(where, rule)
    counted = highest_of(scores, good.specimens)
    if len(counted) <= FEWEST:
        return None
    highest = good.names[int(np.argmax(scores))]
    limits = [each.limits(where, rule, promise, 1)[0].image for each in (good, good.without([highest]))]
    with_it, without = (panels_above(np.asarray(drawn), limit) for limit in limits)
    alone = bool(image_limit(counted, promise)[0] >= scores.max())
    return Reliance(len(drawn), with_it, highest, float(scores.max()), alone, limits[1], without)
