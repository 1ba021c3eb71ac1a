"""Where a list goes on: opaque to whoever asks, and refused where it is not ours."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

from pipeline.errors import UsageError

MOST = 400  # characters


def packed(*parts: str | int) -> str:
    return urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).decode().rstrip("=")


def unpacked(cursor: str, *kinds: type) -> list:
    """The parts, of these kinds.

    Raises:
        UsageError: no cursor of ours.
    """
    try:
        if len(cursor) > MOST:
            raise ValueError
        parts = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(parts, list) or [type(part) for part in parts] != list(kinds):
            raise ValueError
        if any(isinstance(part, int) and abs(part) >= 1 << 62 for part in parts):  # no database counts that far
            raise ValueError
        if any(isinstance(part, str) and "\x00" in part for part in parts):
            raise ValueError
    except (ValueError, RecursionError):
        raise UsageError("cursor: is none that a list here gave: begin without one") from None
    return parts
