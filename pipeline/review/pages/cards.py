"""Lists of panels with their thumbnails."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from nicegui.element import Element

from pipeline.messages import Outcome
from pipeline.review.facts import Row, State
from pipeline.review.pages.words import cause, number, standing, when


class Cards(Element, component="static/cards.js"):
    """Panels as links; `wanted` are the parameters that a panel's page goes on with."""

    def __init__(self, empty: str) -> None:
        super().__init__()
        self._props["rows"], self._props["empty"] = [], empty

    def show(self, rows: Iterable[Row], wanted: Mapping[str, str]) -> None:
        self._props["rows"] = [card(row, wanted) for row in rows]
        self.update()


def card(row: Row, wanted: Mapping[str, str]) -> dict[str, Any]:
    """What a card says, all in words."""
    return {
        "token": row.token,
        "href": address(row.token, wanted),
        "thumb": f"/api/panels/{row.token}/thumb" if row.thumbs else None,
        "name": row.panel_id or f"no bar code, number {row.seq}",
        "when": when(row.closed_at),
        "cause": cause(row),
        "measured": _measured(row),
        "where": " · ".join(part for part in (row.product, row.station) if part),
        "state": standing(row) if row.outcome == Outcome.REJECT or row.standing.votes else "",
        "kind": "open" if row.outcome == Outcome.REJECT and row.standing.state is not State.DONE else "done",
    }


def address(token: str, wanted: Mapping[str, str]) -> str:
    """Of a panel's page; without a token the queue's own."""
    return (f"/panel/{token}" if token else "/") + (f"?{urlencode(wanted)}" if wanted else "")


def _measured(row: Row) -> str:
    if row.score is None:
        return ""
    found = f", {row.defects} {'defect' if row.defects == 1 else 'defects'}" if row.defects else ""
    return f"score {number(row.score, 3)}, limit {number(row.limit, 3)}{found}"
