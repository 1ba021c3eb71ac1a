"""Names in one line of advice: the first ones, and how many more there are."""

from collections.abc import Sequence


def some(names: Sequence[str], most: int) -> str:
    """`names` with commas between, at most so many; the rest are counted."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
