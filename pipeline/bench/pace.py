"""Which takt to try next, to find the shortest that a line sustains. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

FASTER, SLOWER, CLOSE, SLOWEST_MS = 0.75, 1.5, 0.03, 60_000
SPARE = 1.05  # a takt that trials held and the long run did not


@dataclass(frozen=True)
class Trial:
    """One takt that was tried."""

    takt_ms: int
    sustained: bool


def least_takt_ms(exposure_ms: int, quiet_ms: int) -> int:
    """Below it a panel's exposures may be the next one's: the belt may bring panels at three quarters of its takt."""
    least = exposure_ms + quiet_ms + 1
    takt_ms = -(-4 * least // 3)
    return takt_ms if takt_ms * 3 // 4 >= least else takt_ms + 1


def next_takt_ms(trials: Sequence[Trial], start_ms: int, least_ms: int) -> int | None:
    """From `start_ms` outwards until one holds and one does not, then between them; None: as near as it needs to be."""
    held = min((trial.takt_ms for trial in trials if trial.sustained), default=None)
    failed = max((trial.takt_ms for trial in trials if not trial.sustained), default=None)
    if held is None and failed is None:
        return max(start_ms, least_ms)
    if held is None and failed is not None:
        slower = round(failed * SLOWER)
        return slower if slower <= SLOWEST_MS else None
    assert held is not None
    if failed is None or failed >= held:  # one that failed by chance where a shorter one held says nothing
        failed = max((trial.takt_ms for trial in trials if not trial.sustained and trial.takt_ms < held), default=None)
    if failed is None:
        faster = max(least_ms, round(held * FASTER))
        return faster if faster < held else None
    between = round((held * failed) ** 0.5)
    return between if held - failed > max(1, CLOSE * held) and failed < between < held else None


def shortest_ms(trials: Sequence[Trial]) -> int | None:
    """The shortest takt that held."""
    return min((trial.takt_ms for trial in trials if trial.sustained), default=None)


def spared_ms(takt_ms: int) -> int:
    """The takt to confirm after `takt_ms` was not: a little longer."""
    return max(takt_ms + 1, round(takt_ms * SPARE))
