"""The pages in a real browser: deciding and looking at a panel."""

from typing import Any

import pytest
from browser_parts import PASSWORD, PICTURED, REJECTED, SAMPLED, drawn_of, opened, says, shown, until, votes
from line.toy_line import write_recipe
from review_parts import CHANNELS, token_of

pytest.importorskip("nicegui", reason="needs the extra [review]")
pytest.importorskip("playwright", reason="needs the extra [dev]")
pytestmark = pytest.mark.browser

OPEN, DECIDED = "○ to be decided", "✖ reject confirmed"


# --- deciding ---


def test_logged_in_decided_and_gone_on_by_keyboard_alone(fresh, station, own_desk):
    fresh.goto(f"{station.address}/")
    fresh.wait_for_url("**/login?next=%2F")
    fresh.keyboard.type("quinn")
    fresh.keyboard.press("Tab")
    fresh.keyboard.type(PASSWORD)
    fresh.keyboard.press("Enter")
    fresh.wait_for_selector("a.card")
    fresh.wait_for_function("window.socket?.connected")
    fresh.keyboard.press("j")
    fresh.wait_for_selector(f'a.card[data-token="{token_of(REJECTED[-1])}"]:focus')
    fresh.keyboard.press("Enter")
    drawn_of(fresh, PICTURED[-1])
    fresh.keyboard.press("Shift+Digit1")
    says(fresh, ".status", "scratch")
    fresh.keyboard.press("c")
    fresh.keyboard.type("long one")
    fresh.keyboard.press("Escape")
    fresh.keyboard.press("r")
    says(fresh, "#standing", f"{DECIDED} scratch")
    assert votes(own_desk, PICTURED[-1]) == [("quinn", "defective", "scratch", False)]
    assert own_desk.panel(token_of(PICTURED[-1])).votes[0].comment == "long one"
    fresh.keyboard.press("j")
    drawn_of(fresh, PICTURED[-2])
    says(fresh, "#standing", OPEN)
    fresh.keyboard.press("q")
    fresh.wait_for_selector(f'a.card[data-token="{token_of(PICTURED[-2])}"]')
    assert fresh.locator("a.card").first.get_attribute("data-token") != token_of(
        PICTURED[-1]
    )  # decided: no more on top


def test_an_overruled_panel_can_be_taken_back(page, station, own_desk):
    opened(page, station, PICTURED[-3])
    page.keyboard.press("o")
    says(page, "#standing", "✔ good: overruled")
    page.keyboard.press("u")
    says(page, "#standing", OPEN)
    assert votes(own_desk, PICTURED[-3]) == [("quinn", "good", "", True)]


def test_no_key_that_moves_decides(page, station, own_desk):
    opened(page, station, PICTURED[-4])
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "+", "-", "2", "n", "b", "m", "Shift+Digit2"):
        page.keyboard.press(key)
        page.wait_for_timeout(70)  # as people press them: what types faster is a bar-code reader
    says(page, ".status", "dust")
    assert votes(own_desk, PICTURED[-4]) == [] and page.url.endswith(token_of(PICTURED[-4]))


def test_who_may_not_is_told_so(logged_in, station, own_desk):
    page = opened(logged_in("eve"), station, PICTURED[-4])
    page.keyboard.press("o")
    says(page, ".alarm", "needs the role quality")
    assert votes(own_desk, PICTURED[-4]) == []
    page.click("#lab")
    says(page, "#standing", "at the lab")
    assert page.locator(".alarm").inner_text() == ""


def test_a_sampled_pass_can_have_escaped(page, station, own_desk):
    page.goto(f"{station.address}/?queue=sample")
    page.click(f'a.card[data-token="{token_of(SAMPLED)}"]')
    drawn_of(page, SAMPLED)
    page.click("#defective")
    says(page, "#standing", "defective: escaped")


def test_what_another_person_says_appears(page, station, own_desk):
    opened(page, station, PICTURED[-5])
    person = own_desk.session(station.cookie("eve", PASSWORD)["value"]).person
    own_desk.decide(person, token_of(PICTURED[-5]), wish("dent"))
    says(page, "#standing", f"{DECIDED} dent")


def wish(code: str) -> Any:
    from pipeline.review.facts import Finding, Wish

    return Wish(finding=Finding.DEFECTIVE, code=code)


# --- looking ---


def test_contours_first_and_the_heat_map_can_be_taken_away(page, station):
    opened(page, station, PICTURED[-6])
    assert shown(page, "mode") == "contours"
    page.wait_for_selector(".leaflet-overlay-pane path", state="attached")
    page.keyboard.press("m")
    until(page, "mode", "heat")
    page.wait_for_selector('.leaflet-overlay-pane img[style*="opacity: 0.6"]')
    page.get_by_label("Heat map 60 %").fill("0")
    until(page, "opacity", "0")
    page.wait_for_selector('.leaflet-overlay-pane img[style*="opacity: 0;"]', state="attached")
    page.keyboard.press("m")
    page.keyboard.press("m")
    until(page, "mode", "contours")
    page.keyboard.down("h")
    until(page, "mode", "hidden")
    page.wait_for_selector(".leaflet-overlay-pane svg", state="hidden")
    page.keyboard.up("h")
    until(page, "mode", "contours")


def test_pictures_by_digit_side_by_side_and_moved_together(page, station):
    opened(page, station, PICTURED[-6])
    page.keyboard.press("2")
    until(page, "shown", "top_dark")
    page.keyboard.press("v")
    page.wait_for_selector(".maps.of2")
    page.wait_for_function("document.querySelectorAll('.pane canvas').length === 2")
    page.keyboard.press("+")
    page.keyboard.press("n")
    page.wait_for_selector('.viewer[data-defect="0"]')
    places = page.evaluate(
        "[...document.querySelectorAll('.pane')].map((pane) => { const own = pane.getBoundingClientRect(),"
        " drawn = pane.querySelector('canvas').getBoundingClientRect();"
        " return [drawn.x - own.x, drawn.y - own.y, drawn.width, own.width, own.height] })"
    )
    assert places[0] == pytest.approx(places[1], abs=1.5)
    x, y, width, across, down = places[0]
    scale = width / 64
    assert (x + 12 * scale, y + 23 * scale) == pytest.approx((across / 2, down / 2), abs=3)  # the defect is centred


def test_grey_levels_are_for_looking_alone(page, station):
    opened(page, station, PICTURED[-6])
    canvas = page.locator(".pane canvas").first
    for _ in range(3):
        page.keyboard.press(".")
        page.wait_for_timeout(70)
    assert "contrast" in canvas.get_attribute("style")
    page.keyboard.press("0")
    page.wait_for_function("!document.querySelector('.pane canvas').style.filter")


def test_everything_that_is_known_of_a_panel_is_there(page, station, own_desk):
    opened(page, station, PICTURED[-6])
    aside = page.locator("aside").inner_text()
    panel = own_desk.panel(token_of(PICTURED[-6]))
    for words in (
        "0.9000",
        "0.5000",
        panel.recipe.recipe,
        panel.ack_text,
        panel.row.token,
        "0.2 mm²",
        "1.2, 2.3 mm",
        "dark, bright",
    ):
        assert words in aside
    assert "verdict at the bridge" in aside and "waited in the inspector" in aside


def test_everybody_may_choose_other_keys(page, station):
    opened(page, station, PICTURED[-6])
    page.keyboard.press("?")
    page.get_by_label("change: contours, heat map, no marks").click()
    page.keyboard.press("r")
    says(page, "dialog", "r is taken")
    page.get_by_label("change: contours, heat map, no marks").click()
    page.keyboard.press("y")
    page.keyboard.press("Escape")
    page.keyboard.press("y")
    until(page, "mode", "heat")
    page.reload()
    drawn_of(page, PICTURED[-6])
    page.keyboard.press("y")
    until(page, "mode", "heat")


def test_an_engineer_inspects_again_and_the_recorded_verdict_stands(logged_in, station, own_desk):
    pytest.importorskip("onnx", reason="needs the extra [int8]")
    write_recipe(station.file.parent / "recipe", CHANNELS)
    before = own_desk.panel(token_of(PICTURED[-1]))
    page = opened(logged_in("erin"), station, PICTURED[-1])
    page.wait_for_function("window.socket?.connected")
    page.keyboard.press("a")
    says(page, "#inspected-again caption", "Inspected again")
    again = page.locator("#inspected-again").inner_text()
    assert "0.9000" in again and "rejected by inspection" in again and "the recorded verdict stands" in again
    assert own_desk.panel(token_of(PICTURED[-1])) == before
    page.keyboard.press("j")
    page.wait_for_function("!document.querySelector('#inspected-again').innerText")


def test_nobody_else_is_offered_it(page, station):
    opened(page, station, PICTURED[-1])
    assert page.locator("#again").count() == 0
