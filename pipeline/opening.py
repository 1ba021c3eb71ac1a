"""What the bridge starts with: the terms on disk, and the triggers that the last bridge left open."""

import time
from dataclasses import replace
from typing import Any

from pipeline import wishes
from pipeline.candidates import expected_of, loaded
from pipeline.config import LineConfig
from pipeline.handshake import reopen
from pipeline.open_panels import Shown, State, Terms
from pipeline.plcs import SLOTS
from pipeline.recount import newest

MS = 1_000_000


def terms_of(config: LineConfig) -> Terms:
    """What every panel is held against, known from the recipes on disk and not from the inspector."""
    timing = config.timing
    rows = wishes.in_use(config)
    expected = {number: expected_of(config, loaded(config, row.place)) for number, row in rows.items()}
    cameras = tuple(camera.name for camera in config.cameras)
    window = (timing.window_ms * MS, timing.margin_ms * MS, timing.ack_ms * MS)
    apart = (timing.early_ms * MS, timing.exposure_ms * MS, timing.takt_ms * MS)
    return Terms(config.station, cameras, expected, *window, *apart)


def terms_record(terms: Terms) -> dict[str, Any]:
    return {str(number): vars(expected) for number, expected in terms.recipes.items()}


def opening_state(config: LineConfig) -> State:
    """The state to start with: triggers that the last bridge left open are taken up again."""
    state = State(terms_of(config))
    count = newest(config.ledger)
    if not count.records:
        return state
    known = (count.shown.get(slot) for slot in range(SLOTS))
    shown = tuple(None if one is None else Shown(one[0], waited=bool(one[1])) for one in known)
    state = replace(state, last_seq=count.last_seq, shown=shown)
    return reopen(state, list(count.open.values()), time.monotonic_ns())
