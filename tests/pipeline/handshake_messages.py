"""What cameras and inspectors say in `handshake_world`: made once, so that a state can be told by them."""

from functools import cache
from typing import Any

from handshake_parts import BAD, NEW, OTHER, captured, verdict

from pipeline.frames import combined_digest
from pipeline.messages import Captured, Fault, Verdict


def token_of(number: int) -> str:
    """The token of the panel with this number."""
    return f"0{number:031x}"


@cache
def report(number: int, camera: str, kind: str) -> Captured:
    """What a camera says of a panel: good, other (pixels), fault."""
    changes = {"good": {}, "other": {"digest": "e" * 32}, "fault": {"fault": Fault.CAMERA, "digest": ""}}
    return captured(token_of(number), camera, **changes[kind])


@cache
def said(number: int, kind: str, cameras: tuple[str, ...]) -> Verdict:
    """What the inspector says of a panel: good, the same by the recipe that took over (new), or one of `WRONG`."""

    def digest(of: int) -> dict[str, Any]:
        return {"digest": combined_digest([report(of, camera, "good").digest for camera in cameras])}

    changes = digest(number) | (
        digest(number + 1) if kind == "neighbour" else NEW if kind == "new" else WRONG.get(kind, {})
    )
    return verdict(token_of(number), **changes)


WRONG: dict[str, dict[str, Any]] = {
    "bad": BAD,
    "neighbour": {},
    "recipe": {"recipe": OTHER.recipe},
    "calibration": {"calibration": OTHER.calibration},
    "engine": {"engine": OTHER.engine},
    "inspector": {"inspector": "inspector_2"},
    "station": {"station": "cell_2"},
    "infinite": {"score": float("-inf")},
    "above": {"score": 0.7},
    "fault": {"fault": Fault.ENGINE},
}
