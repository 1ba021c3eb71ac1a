"""Pictures as they come from real disks: a bad panel is a reject with its fault's name, and the next one passes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import toy_line
from harness import Line, assert_accounted, ledger_records
from numpy.typing import NDArray

from pipeline.simulation import watermark

GOOD_LEVEL, DUST_LEVEL = 44, 90
LEFT, RIGHT = toy_line.CHANNELS


def picture(level: int = GOOD_LEVEL, size: int = toy_line.FRAME_PX, dtype: str = "uint8") -> NDArray:
    """A flat picture; `level` is that of 8 bits."""
    return np.full((size, size), level * (257 if dtype == "uint16" else 1), dtype)


def dusty(dtype: str = "uint8") -> NDArray:
    found = picture(dtype=dtype)
    found[48:80, 48:80] = picture(DUST_LEVEL, 32, dtype)
    return found


@dataclass(frozen=True)
class Folder:
    """A folder of panels, in the order of their making."""

    path: Path

    def add(self, name: str, left: NDArray | bytes, right: NDArray | bytes | None, suffix: str = ".png") -> None:
        """A panel: a picture, a file's bytes or nothing in each channel."""
        folder = self.path / f"{len(list(self.path.iterdir())):02}_{name}"
        folder.mkdir()
        for channel, content in ((LEFT, left), (RIGHT, right)):
            if content is not None:
                data = content if isinstance(content, bytes) else encoded(content, suffix)
                (folder / f"{channel}{suffix}").write_bytes(data)

    def replay(self, **changes: object) -> dict:
        """The camera that shows them."""
        settings = {"folders": [str(self.path)], "exposure_ms": 2.0}
        own = {"name": "top", "kind": "folder", "channels": toy_line.CHANNELS, "slot_mb": 0.05, "settings": settings}
        return own | changes


def encoded(frame: NDArray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, frame)[1].tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    path = tmp_path / "panels"
    path.mkdir()
    return Folder(path)


def outcomes(line: Line) -> dict[str, tuple[str, str | None]]:
    """Panel -> what became of it, in the replay's order."""
    names = sorted(path.name for path in Path(line.config.cameras[0].settings["folders"][0]).iterdir())
    records = sorted(ledger_records(line.config, "outcome"), key=lambda record: record["seq"])
    found = [(record["outcome"], record["fault"]) for record in records]
    return dict(zip(names, found, strict=True))


BAD = {
    "channel_missing": "CAMERA",
    "truncated": "CAMERA",
    "empty": "CAMERA",
    "no_picture": "CAMERA",
    "float": "CAMERA",
    "colour": "CAMERA",
    "sizes_differ": "CAMERA",
    "depths_differ": "CAMERA",
    "too_deep": "GEOMETRY",
    "larger_than_a_slot": "GEOMETRY",
}


def test_a_bad_panel_is_a_named_reject_and_its_neighbours_pass(start: Callable[..., Line], folder: Folder) -> None:
    good = picture()
    bad: dict[str, tuple] = {
        "channel_missing": (good, None),
        "truncated": (good, encoded(dusty())[:60]),
        "empty": (b"", good),
        "no_picture": (good, b"not a picture"),
        "float": (picture().astype(np.float32), good, ".tiff"),
        "colour": (good, np.dstack([good] * 3)),
        "sizes_differ": (good, picture(size=64)),
        "depths_differ": (good, picture(dtype="uint16")),
        "too_deep": (picture(dtype="uint16"), picture(dtype="uint16")),
        "larger_than_a_slot": (picture(size=200), picture(size=200)),
    }
    for name, content in bad.items():
        folder.add("good", good, good)
        folder.add(name, *content)
    folder.add("another_size", picture(size=120), picture(size=120))
    folder.add("dust", dusty(), dusty())
    folder.add("good", good, good)
    line = start(cameras=[folder.replay()])
    line.until_finished()
    expected = {name: BAD.get(name[3:]) for name in outcomes(line)}
    assert {name: fault for name, (_, fault) in outcomes(line).items()} == expected
    passed = {name[3:] for name, (outcome, _) in outcomes(line).items() if outcome == "PASS"}
    assert passed == {"good", "another_size"}
    assert assert_accounted(line.config).rejected == 1


def test_sixteen_bits_work(start: Callable[..., Line], folder: Folder, tmp_path: Path) -> None:
    toy_line.write_recipe(tmp_path / "deep", dtype="uint16")
    for content in (picture(dtype="uint16"), dusty("uint16"), picture(dtype="uint16")):
        folder.add("panel", content, content, ".tiff")
    folder.add("too_flat", picture(), picture())
    line = start(recipe=tmp_path / "deep", cameras=[folder.replay()])
    line.until_finished()
    line.supervisor.stop()
    assert list(outcomes(line).values()) == [("PASS", None), ("REJECT", None), ("PASS", None), ("REJECT", "GEOMETRY")]
    token = next(record["token"] for record in line.records("outcome") if record["outcome"] == "REJECT")
    kept = cv2.imread(str(line.config.state / "evidence" / token / f"top_{LEFT}.png"), cv2.IMREAD_UNCHANGED)
    assert kept is not None
    np.testing.assert_array_equal(kept, dusty("uint16"))


def test_a_full_ring_is_a_named_reject_and_never_an_overwrite(start: Callable[..., Line]) -> None:
    """Two slots and an inspector that is held: the sets that wait keep their pixels, later ones are refused."""
    patient = {"window_ms": 5000, "stall_ms": 5000}
    cameras = [toy_line.camera("top", faults={}) | {"slots": 2}]
    conveyor = {"settings": {"takt_ms": 100, "window_ms": 5000, "panels": 12}}
    line = start(timing=patient, cameras=cameras, conveyor=conveyor, archive={"sample_passes": 1.0, "slots": 40})
    line.until_decided(2)
    with line.frozen("inspector"):
        line.until(lambda: _full(line), "a refused set")
    line.until_finished()
    line.supervisor.stop()
    faults = assert_accounted(line.config).faults
    assert set(faults) <= {"RING_FULL", "OVERRUN"} and faults.total() >= 1
    panel_of = {row["seq"]: row["panel"] for row in line.rows()}
    judged = {record["token"] for record in line.records("verdict")}
    for record in line.records("outcome"):
        if record["token"] in judged:
            path = line.config.state / "evidence" / record["token"] / f"top_{LEFT}.png"
            kept = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint8)
            assert watermark.read(kept) == watermark.Mark(panel_of[record["seq"]], 0)


def _full(line: Line) -> bool:
    return any(record["fault"] in ("RING_FULL", "OVERRUN") for record in line.records("captured"))
