"""From what people decided to a recipe: store and evidence, `takt export`, `takt teach`, `takt eval`."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from review_parts import RECIPE, config, manifest, row, token_of
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs the extra [teach]")

from engines import recipe as recipes
from pipeline import shelf
from pipeline.cli import app
from pipeline.config import LineConfig
from pipeline.review.desk import Desk
from pipeline.review.facts import Finding, Person, Role, Wish
from pipeline.simulation import defects, panel
from pipeline.simulation.panel import Look
from pipeline.store import Store
from pipeline.store.places import place_of

LOOK = Look(height=64, width=64, bezel_px=2)
CHANNELS = ("bright_surface", "dark_left_pixel")
GOOD, DEFECTIVE = 30, 6
EVE = Person(name="eve", role=Role.OPERATOR)
SHORT = {"schedule.image_passes": 1200, "student_width": 8, "decoder_passes": 400, "contrast_passes": 80}


def drawn(number: int) -> panel.Panel:
    """Panel `number`: the good ones first, then stains."""
    defect = defects.draw("stain", number, 2.0) if number >= GOOD else None
    return panel.render(number, LOOK, CHANNELS, defect)


def keep(line: LineConfig, store: Store, number: int) -> None:
    """Frames and the map that marked them, as the archiver keeps what an inspector sends."""
    found = drawn(number)
    spooled = line.state / "spool" / token_of(number)
    spooled.mkdir(parents=True)
    np.save(spooled / "top.npy", found.frames)
    marked = cv2.resize(found.mask.astype(np.float16).astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA)
    np.save(spooled / "map.npy", marked.astype(np.float16).view(np.uint16)[None])
    (spooled / shelf.ABOUT).write_text(json.dumps({"token": token_of(number), "reason": "reject"}))
    facts = shelf.put(spooled, line.state / "evidence", {"top": CHANNELS})
    store.put_picture(**facts, station=line.station, compressed=True)


def reviewed(folder: Path) -> Path:
    """A station's state folder: rejects that one person has decided on; the good ones were overruled."""
    line = config(folder, cameras=[{"name": "top", "kind": "simulated", "channels": CHANNELS}])
    (line.state / "evidence").mkdir(parents=True)
    store = Store(place_of(line), line.station)
    lights = [{"name": name, "light": name.partition("_")[0]} for name in CHANNELS]
    store.add_recipe(RECIPE, "toy", manifest() | {"channels": lights})
    store.add_panels([row(number, "REJECT") for number in range(GOOD + DEFECTIVE)], {})
    desk = Desk(line)
    for number in range(GOOD + DEFECTIVE):
        keep(line, store, number)
        wish = Wish(finding=Finding.GOOD) if number < GOOD else Wish(finding=Finding.DEFECTIVE, code="stain")
        desk.decide(EVE, token_of(number), wish)
    desk.close()
    store.close()
    return line.state


def takt(*arguments: object) -> None:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, (done.output, done.exception)


@pytest.mark.slow
def test_what_people_decided_teaches_a_recipe_that_finds_what_they_confirmed(tmp_path, monkeypatch):
    """Two minutes of processor time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    state, found, recipe = reviewed(tmp_path), tmp_path / "set", tmp_path / "recipe"
    takt("export", state, "--out", found, "--json", tmp_path / "export.json")
    exported = json.loads((tmp_path / "export.json").read_text())
    assert exported["panels"] == GOOD + DEFECTIVE and exported["written"]["test/stain"] == DEFECTIVE
    options = [part for name, value in SHORT.items() for part in ("--set", f"{name}={value}")]
    sizes = ["--set", "height=64", "--set", "width=64", "--hold-out-every", 2, "--false-reject", 0.3]
    takt("teach", found, "--out", recipe, *sizes, *options)
    made = recipes.load(recipe).manifest
    assert (made.product, tuple(one.name for one in made.channels)) == ("toy", CHANNELS)
    takt("eval", recipe, found, "--json", tmp_path / "eval.json")
    figures = json.loads((tmp_path / "eval.json").read_text())
    assert figures["panels"] == exported["panels"] - exported["written"]["train/good"]
    assert figures["image_auroc_by_defect"].keys() == {"stain"} and figures["pixel_ap"] is not None
