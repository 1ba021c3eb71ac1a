"""One panel with everything that is known of it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipeline.errors import NotFoundError
from pipeline.messages import FAULTS, Fault
from pipeline.plcs import ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT
from pipeline.review import facts
from pipeline.review.queries import JUDGED, SHOWN, row_of, rows_with, time_of
from pipeline.review.recipes import Recipes
from pipeline.shelf import THUMBS
from pipeline.store.tables import Panel, Picture, Vote

ACKS = {
    None: "The PLC did not say what became of it.",
    ACK_PASSED: "The PLC passed it.",
    ACK_REJECTED: "The PLC rejected it by our result.",
    ACK_TIMED_OUT: "The PLC rejected it: its own window was over.",
}
RECORDED = ("captured", "verdict", "written", "ack")
INSPECTED = (("wait", "joined_ns", "started_ns"), ("inspect", "started_ns", "network_ns"))
MORE = ("decide", "network_ns", "decided_ns")


def whole(
    session: Session, known: Recipes, token: str, own: "Pictures", two_persons: Sequence[str]
) -> facts.PanelFacts:
    """Raises NotFoundError: there is no such panel."""
    panel, picture = one(session, token), session.get(Picture, token)
    listed = session.execute(rows_with(*SHOWN, *JUDGED).where(Panel.token == token)).one()
    recipe = known.of(session, panel.recipe)
    steps = panel.steps or {}
    code = steps.get("ack_code")
    row = row_of(listed, {panel.recipe: recipe.product})
    return facts.PanelFacts(
        row=row,
        defects=[defect_of(defect, recipe.mm_per_px) for defect in panel.defects],
        pictures=own.listed(picture) if picture else [],
        width_px=picture.width if picture else None,
        height_px=picture.height if picture else None,
        has_map=picture is not None and own.map_of(picture) is not None,
        kept_for=picture.reason if picture else "",
        lost=panel.evidence_dropped or "",
        recipe=recipe.facts(),
        calibration=panel.calibration,
        engine=panel.engine,
        acknowledged=panel.acknowledged,
        ack_code=code,
        ack_text=ACKS.get(code, ACKS[None]),
        fault_text=FAULTS[Fault(panel.fault)].text if panel.fault else "",
        steps=[*_recorded(steps), *_inspected(panel.timing or {})],
        votes=votes_of(session, token),
        two_persons=recipe.product in two_persons,
    )


def one(session: Session, token: str) -> Panel:
    """Raises NotFoundError: there is no such panel."""
    panel = session.get(Panel, token)
    if panel is None:
        raise NotFoundError(f"no panel {token[:32]!r} in the store: it may not be closed yet")
    return panel


def votes_of(session: Session, token: str) -> list[facts.Vote]:
    """In the order of speaking."""
    rows = session.scalars(select(Vote).where(Vote.token == token).order_by(Vote.n))
    plain = ("n", "by", "finding", "code", "comment", "undone")
    return [facts.Vote(at=time_of(row.at), **{name: getattr(row, name) for name in plain}) for row in rows]


def defect_of(defect: Mapping[str, Any], mm_per_px: float | None) -> facts.DefectFacts:
    """A defect as the ledger has it; what an older takt left out is 0."""
    x, y, width, height, area = (int(defect.get(name, 0)) for name in ("x", "y", "width", "height", "area_px"))
    scale = mm_per_px
    return facts.DefectFacts(
        x_px=x,
        y_px=y,
        width_px=width,
        height_px=height,
        area_px=area,
        peak=float(defect.get("peak") or 0),
        channels=list(defect.get("channels", [])),
        centre_x_mm=(x + width / 2) * scale if scale else None,
        centre_y_mm=(y + height / 2) * scale if scale else None,
        area_mm2=area * scale * scale if scale else None,
    )


def _recorded(steps: Mapping[str, Any]) -> Iterator[facts.Step]:
    """Milliseconds after the trigger, by the ledger's wall clock."""
    began = steps.get("trigger")
    for step in RECORDED:
        if began and step in steps:
            passed = datetime.fromisoformat(steps[step]) - datetime.fromisoformat(began)
            yield facts.Step(step=step, after_ms=round(passed.total_seconds() * 1000, 3), took_ms=None)


def _inspected(timing: Mapping[str, int]) -> Iterator[facts.Step]:
    """Durations in the inspector, by its own clock; 0 where the network did not run."""
    for step, begin, end in (*INSPECTED, MORE):
        if timing.get(begin) and timing.get(end):
            took = (timing[end] - timing[begin]) / 1e6
            yield facts.Step(step=step, after_ms=None, took_ms=round(took, 3))


class Pictures:
    """The files of one station's archive. What lies elsewhere, or on another station's disk, is not there."""

    def __init__(self, archive: Path, station: str, cameras: Sequence[str]) -> None:
        """`station` empty: whatever lies in `archive`."""
        self._archive, self._station = archive.resolve(), station
        self._cameras = sorted(cameras, key=len, reverse=True)

    def folder(self, picture: Picture) -> Path | None:
        folder = Path(picture.folder)
        ours = (not self._station or picture.station in ("", self._station)) and folder.resolve().is_relative_to(
            self._archive
        )
        return folder if ours and folder.is_dir() else None

    def map_of(self, picture: Picture) -> Path | None:
        folder = self.folder(picture)
        return folder / "map.npz" if folder and (folder / "map.npz").is_file() else None

    def files(self, picture: Picture) -> dict[str, tuple[Path | None, Path | None]]:
        """By name the lossless picture and the thumbnail, each where it is there; in the order of the shelf."""
        folder = self.folder(picture)
        if folder is None:
            return {}
        full = {path.stem: path for path in folder.glob("*.png")}
        small = {path.stem: path for path in (folder / THUMBS).glob("*.jpg")}
        order = {name: at for at, name in enumerate(picture.greys or {})}
        names = sorted(full.keys() | small.keys(), key=lambda name: (order.get(name, len(order)), name))
        return {name: (full.get(name), small.get(name)) for name in names}

    def listed(self, picture: Picture) -> list[facts.PictureFacts]:
        greys = picture.greys or {}
        return [
            facts.PictureFacts(
                name=name, camera=camera, channel=channel, lossless=full is not None, mean_grey=greys.get(name)
            )
            for name, (full, _) in self.files(picture).items()
            for camera, channel in [self.parts(name)]
        ]

    def parts(self, name: str) -> tuple[str, str]:
        """Camera and channel of a picture's name."""
        camera = next((one for one in self._cameras if name.startswith(f"{one}_")), "")
        return camera, name[len(camera) + 1 :] if camera else name
