"""Pages draw what they are given, whatever the numbers are, and take names for names."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from line.toy_line import LIMIT

from calibration import pages
from calibration.pages import Shown, decided
from engines.recipe import Limits, Promise, ScoreStatistics
from engines.zones import Zones

STATISTICS = ScoreStatistics(panels=20, mean=0.17, std=0.003, minimum=0.16, median=0.17, maximum=0.18)
LIMITS = Limits(
    image=LIMIT, pixel=0.3, low=0.1, min_area_px=1, promise=Promise(rate=0.02, confidence=0.9), statistics=STATISTICS
)


def heights(drawing: str, kind: str) -> list[float]:
    return [float(each) for each in re.findall(rf"class='{kind}'[^>]*height='([0-9.]+)'", drawing)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.lists(st.floats(width=32), max_size=40))
def test_any_scores_can_be_drawn(good: list[float], bad: list[float]) -> None:
    drawing = pages.histograms({"good": good, "pit": bad}, LIMITS)
    assert "nan" not in drawing and "inf" not in drawing
    assert f"limit {LIMIT:.3g}" in drawing
    assert heights(drawing, "good") and max(heights(drawing, "good")) == 34
    assert bool(heights(drawing, "bad")) == bool(np.isfinite(bad).any())


def test_bars_lie_on_their_side_of_the_limit() -> None:
    drawing = pages.histograms({"good": [0.15] * 9, "pit": [0.25] * 3 + [99.0]}, LIMITS)
    (limit,) = re.findall(r"class='limit' x1='([0-9.]+)'", drawing)
    places = {
        kind: [float(x) for x in re.findall(rf"class='{kind}' x='([0-9.]+)'", drawing)] for kind in ("good", "bad")
    }
    assert max(places["good"]) < float(limit) <= min(places["bad"]) + pages.WIDE / pages.BINS


@pytest.mark.parametrize("losses", [[0.5], [0.0] * 30, list(np.geomspace(10, 1e-12, 700))])
def test_any_learning_curve_can_be_drawn(losses: list[float]) -> None:
    drawing = pages.curve(losses)
    assert "nan" not in drawing and f"at step {len(losses)}" in drawing


def shown(name: str, level: float, limits: Limits = LIMITS) -> Shown:
    frames = np.full((2, 30, 50), 60, np.uint8)
    frames[:, 12:18, 10:18] = 90
    map = np.full((8, 12), 0.1, np.float32)
    map[3:5, 2:5] = level
    truth = np.zeros((30, 50), bool)
    truth[10:20, 10:20] = True
    return Shown(name, "pit", frames, decided(map, level, frames, limits, ("left", "right")), truth)


def test_a_panel_says_its_verdict_and_where_it_is_seen() -> None:
    passed, rejected = (pages.gallery([shown("p", level)], LIMITS, ("left", "right")) for level in (0.15, 0.5))
    assert ">pass<" in passed and "seen in" not in passed
    assert ">reject<" in rejected and "seen in left, right" in rejected


def test_zones_hold_for_the_panels_shown() -> None:
    left = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    zoned = LIMITS.model_copy(update={"zones": Zones(ignore=(left,))})
    assert shown("p", 0.5).finding.mask[:, :25].any()
    assert not shown("p", 0.5, zoned).finding.mask[:, :25].any()
    assert "50% of the panel" in pages.promised(zoned)


def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    name = "<script>x</script>"
    parts = [pages.table((name,), [(name,)]), pages.gallery([shown(name, 0.5)], LIMITS, ("left", "right"))]
    pages.write(tmp_path / "page.html", name, [*parts, pages.words(name), pages.cards({name: (name, name)})])
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text and "&lt;script&gt;" in text
    pages.amend(tmp_path / "page.html", "the limits are new")
    assert "the limits are new" in (tmp_path / "page.html").read_text()
    pages.amend(tmp_path / "none.html", "nothing happens")
