"""What the bridge starts with: the terms on disk, and the triggers that the last bridge left open."""

import time
from dataclasses import replace
from typing import Any

from engines.station import IDENTITY
from pipeline.config import LineConfig
from pipeline.engine_room import engine_hash
from pipeline.handshake import reopen
from pipeline.open_panels import Expected, Shown, State, Terms
from pipeline.plcs import SLOTS
from pipeline.recount import newest
from pipeline.signatures import load_recipe

MS = 1_000_000


def terms_of(config: LineConfig) -> Terms:
    """What every panel is held against, known from the recipes on disk and not from the inspector."""
    timing = config.timing
    expected = {}
    for number, path in config.recipe_paths().items():
        recipe = load_recipe(config, path)
        limits = recipe.manifest.limits
        bounds = (limits.low, limits.image, recipe.manifest.mm_per_px)
        expected[number] = Expected(recipe.hash, IDENTITY.hash, engine_hash(config, recipe), *bounds)
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
