"""The pictures of a panel in the browser: zoom, channels, marks and grey levels, without asking us each time."""

from pathlib import Path
from typing import Any

from nicegui.element import Element
from nicegui.elements import leaflet

from pipeline.review.facts import DefectFacts, PanelFacts

LEAFLET = Path(leaflet.__file__).parent / "dist"  # its import makes it known to the browser as nicegui-leaflet


class Viewer(Element, component="static/viewer.js"):
    """`show` gives it a panel; it fetches pixels by the API's addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.add_resource(LEAFLET)
        self._props["wanted"] = None

    def show(self, panel: PanelFacts, following: str | None) -> None:
        """`following`: the token of the panel that will probably be next."""
        self._props["wanted"] = {
            "token": panel.row.token,
            "width": panel.width_px if panel.pictures else None,
            "height": panel.height_px,
            "why": why_nothing(panel),
            "map": panel.has_map,
            "next": following,
            "pictures": [_picture(one.name, one.channel, one.lossless) for one in panel.pictures],
            "defects": [_box(defect) for defect in panel.defects],
        }
        self.update()


def why_nothing(panel: PanelFacts) -> str:
    """Why there are no pixels."""
    if panel.lost:
        return f"The pictures of this panel were lost: {panel.lost}"
    if panel.kept_for:
        return (
            "The pictures of this panel are not here: policy has deleted them, or they lie on another station's disk."
        )
    return "No pictures were kept of this panel."


def _picture(name: str, channel: str, lossless: bool) -> dict[str, Any]:
    return {"name": name, "text": channel + ("" if lossless else " (thumbnail)"), "lossless": lossless}


def _box(defect: DefectFacts) -> dict[str, int]:
    return {"x": defect.x_px, "y": defect.y_px, "width": defect.width_px, "height": defect.height_px}
