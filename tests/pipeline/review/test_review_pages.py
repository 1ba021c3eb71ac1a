"""The pages in a real browser: what people press, and what they then see."""

import csv
import io
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browser_parts import SOON_MS, Station, arriving, browser
from review_parts import drawn, token_of

from pipeline.review.desk import Desk
from pipeline.review.facts import Filter, Role

pytest.importorskip("nicegui", reason="needs the extra [review]")
pytest.importorskip("playwright", reason="needs the extra [dev]")
pytestmark = pytest.mark.alone

PASSWORD = "correct horse"
ROLES = {"eve": Role.OPERATOR, "quinn": Role.QUALITY, "lou": Role.OPERATOR}
REJECTED = [number for number, row in enumerate(drawn(300)) if row["outcome"] == "REJECT" and not row["fault"]]
PICTURED = REJECTED[-6:]  # the newest, with pictures
SAMPLED = 298
READER = """(text) => { for (const key of [...text, "Enter"])
    document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })) }"""  # faster than people type
OPEN, DECIDED = "○ to be decided", "✖ reject confirmed"


@pytest.fixture(scope="module")
def station(tmp_path_factory) -> Iterator[Station]:
    """300 panels; who calls a reject good needs the role quality."""
    station = Station(tmp_path_factory.mktemp("station"), overrule_role="quality", lock_after=3)
    for number in PICTURED:
        station.keep(number)
    station.keep(SAMPLED, "sample")
    desk = Desk(station.line)
    for name, role in ROLES.items():
        desk.accounts.add("root", name, role, PASSWORD)
    desk.close()
    with station:
        yield station


@pytest.fixture(scope="module")
def desk(station) -> Iterator[Desk]:
    """What the store says, without the pages."""
    desk = Desk(station.line)
    yield desk
    desk.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def fresh(chromium, station) -> Iterator[Any]:
    """A page of somebody who is not logged in. It asks nobody but the station, and no script of it fails."""
    context = chromium.new_context(viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(SOON_MS)
    page, asked, failed = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    yield page
    context.close()
    own = (station.address, station.address.replace("http", "ws"), "blob:", "data:")
    assert [url for url in asked if not url.startswith(own)] == [] and failed == []


@pytest.fixture
def logged_in(fresh, station) -> Callable[[str], Any]:
    def logged_in(name: str) -> Any:
        fresh.context.add_cookies([station.cookie(name, PASSWORD)])
        return fresh

    return logged_in


@pytest.fixture
def page(logged_in) -> Any:
    """Quinn's, of the role quality."""
    return logged_in("quinn")


def opened(page: Any, station: Station, number: int) -> Any:
    """The panel's page with its pictures drawn."""
    page.goto(f"{station.address}/panel/{token_of(number)}")
    drawn_of(page, number)
    return page


def drawn_of(page: Any, number: int) -> None:
    page.wait_for_selector(f'.viewer[data-ready="{token_of(number)}"]:not([data-shown=""])')


def says(page: Any, selector: str, words: str) -> None:
    page.locator(selector).filter(has_text=words).first.wait_for()


def votes(desk: Desk, number: int) -> list[tuple[str, str, str, bool]]:
    return [(vote.by, vote.finding, vote.code, vote.undone) for vote in desk.panel(token_of(number)).votes]


def shown(page: Any, name: str) -> str:
    return page.locator(".viewer").get_attribute(f"data-{name}")


def until(page: Any, name: str, value: str) -> None:
    page.wait_for_selector(f'.viewer[data-{name}="{value}"]')


# --- deciding ---


def test_logged_in_decided_and_gone_on_by_keyboard_alone(fresh, station, desk):
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
    assert votes(desk, PICTURED[-1]) == [("quinn", "defective", "scratch", False)]
    assert desk.panel(token_of(PICTURED[-1])).votes[0].comment == "long one"
    fresh.keyboard.press("j")
    drawn_of(fresh, PICTURED[-2])
    says(fresh, "#standing", OPEN)
    fresh.keyboard.press("q")
    fresh.wait_for_selector(f'a.card[data-token="{token_of(PICTURED[-2])}"]')
    assert fresh.locator("a.card").first.get_attribute("data-token") != token_of(
        PICTURED[-1]
    )  # decided: no more on top


def test_an_overruled_panel_can_be_taken_back(page, station, desk):
    opened(page, station, PICTURED[-3])
    page.keyboard.press("o")
    says(page, "#standing", "✔ good: overruled")
    page.keyboard.press("u")
    says(page, "#standing", OPEN)
    assert votes(desk, PICTURED[-3]) == [("quinn", "good", "", True)]


def test_no_key_that_moves_decides(page, station, desk):
    opened(page, station, PICTURED[-4])
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "+", "-", "2", "n", "b", "m", "Shift+Digit2"):
        page.keyboard.press(key)
        page.wait_for_timeout(70)  # as people press them: what types faster is a bar-code reader
    says(page, ".status", "dust")
    assert votes(desk, PICTURED[-4]) == [] and page.url.endswith(token_of(PICTURED[-4]))


def test_who_may_not_is_told_so(logged_in, station, desk):
    page = opened(logged_in("eve"), station, PICTURED[-4])
    page.keyboard.press("o")
    says(page, ".alarm", "needs the role quality")
    assert votes(desk, PICTURED[-4]) == []
    page.click("#lab")
    says(page, "#standing", "at the lab")
    assert page.locator(".alarm").inner_text() == ""


def test_a_sampled_pass_can_have_escaped(page, station, desk):
    page.goto(f"{station.address}/?queue=sample")
    page.click(f'a.card[data-token="{token_of(SAMPLED)}"]')
    drawn_of(page, SAMPLED)
    page.click("#defective")
    says(page, "#standing", "defective: escaped")


def test_what_another_person_says_appears(page, station, desk):
    opened(page, station, PICTURED[-5])
    person = desk.session(station.cookie("eve", PASSWORD)["value"]).person
    desk.decide(person, token_of(PICTURED[-5]), wish("dent"))
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


def test_everything_that_is_known_of_a_panel_is_there(page, station, desk):
    opened(page, station, PICTURED[-6])
    aside = page.locator("aside").inner_text()
    panel = desk.panel(token_of(PICTURED[-6]))
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


# --- finding ---


def test_a_panel_is_found_by_its_bar_code(page, station):
    page.goto(station.address)
    page.wait_for_selector("a.card")
    page.fill("#find", "nobody")
    page.keyboard.press("Enter")
    says(page, ".status", "no panel is named nobody")
    page.fill("#find", f"P{PICTURED[-1]:06d}")
    page.keyboard.press("Enter")
    drawn_of(page, PICTURED[-1])


def test_a_bar_code_reader_opens_a_panel_and_decides_nothing(page, station, desk):
    station.add(arriving(900, panel_id="OUROLL1"))
    opened(page, station, PICTURED[-6])
    page.evaluate(READER, "OUROLL1")
    says(page, "h1", "OUROLL1")
    assert votes(desk, PICTURED[-6]) == [] and votes(desk, 900) == []


def test_panels_arrive_by_themselves_and_the_focus_stays(page, station):
    page.goto(station.address)
    page.wait_for_selector("a.card")
    page.wait_for_function("window.socket?.connected")
    page.keyboard.press("j")
    held = page.evaluate("document.activeElement.dataset.token")
    station.add(arriving(901, panel_id="<b>bold</b>"))
    says(page, "a.card", "<b>bold</b>")  # a bar code is never a tag
    assert page.evaluate("document.activeElement.dataset.token") == held


def test_filters_narrow_and_stand_in_the_address(page, station, desk):
    page.goto(station.address)
    page.wait_for_selector("a.card")
    page.wait_for_function("window.socket?.connected")
    page.select_option("#cause", "LATE")
    page.wait_for_url("**cause=LATE**")
    late = len(desk.queue(Filter(cause="LATE"), None, 50).rows)
    page.wait_for_function(f"document.querySelectorAll('a.card').length === {late}")
    page.reload()
    page.wait_for_function(f"document.querySelectorAll('a.card').length === {late}")
    page.select_option("#cause", "")
    page.select_option("#decision", "finding good")
    page.wait_for_url("**finding=good**")


# --- the shift and the line ---


def test_the_shift_counts_with_denominators(page, station, desk):
    page.goto(f"{station.address}/shift")
    page.wait_for_selector("#totals")
    page.wait_for_selector(".chart svg")
    panels = len(desk.queue(Filter(queue="all"), None, 1000).rows)
    assert panels >= 300 and f"Panels\n{panels}" in page.locator("#totals").inner_text()
    rates = page.locator(".content").inner_text()
    assert "95 % sure" in rates and "sampled passes that people decided" in rates
    answer = page.request.get(station.address + page.locator("#csv").get_attribute("href"))
    assert len(list(csv.DictReader(io.StringIO(answer.text())))) == panels


def test_the_live_page_names_every_process(page, station):
    page.goto(f"{station.address}/live")
    says(page, ".content", "plc_bridge")
    says(page, ".content", "not running")


# --- doors ---


def test_who_guesses_is_locked_out(fresh, station):
    fresh.goto(f"{station.address}/login")
    for password in ("wrong one", "wrong two", "wrong three", PASSWORD):
        fresh.fill("input[name=name]", "lou")
        fresh.fill("input[name=password]", password)
        with fresh.expect_response("**/api/session") as answer:
            fresh.keyboard.press("Enter")
        assert answer.value.status == 403
        says(fresh, "#log-in-said", "locked for now")
    assert fresh.url.endswith("/login")


def test_after_logging_out_nothing_is_shown(page, station):
    page.goto(station.address)
    page.wait_for_selector("a.card")
    page.click("text=Log out")
    page.wait_for_url("**/login")
    page.goto(f"{station.address}/panel/{token_of(PICTURED[-1])}")
    page.wait_for_url("**/login?next=**")
    assert page.locator("a.card, .viewer").count() == 0


def test_a_store_that_goes_away_comes_back_by_itself(page, station):
    page.goto(station.address)
    page.wait_for_selector("a.card")
    with sqlite3.connect(station.store.place.file, timeout=20) as store:
        store.execute("ALTER TABLE reviews RENAME TO away")
    says(page, ".away", "The store is away")
    with sqlite3.connect(station.store.place.file, timeout=20) as store:
        store.execute("ALTER TABLE away RENAME TO reviews")
    page.wait_for_selector(".away", state="hidden")
    station.add(arriving(902, panel_id="BACK"))
    says(page, "a.card", "BACK")
    store.close()


# --- for everybody ---


@pytest.mark.parametrize(("path", "ready"), [("/", "a.card"), ("/shift", ".chart svg"), ("/login", "form"), (None, "")])
def test_nothing_serious_stands_in_anybodys_way(page, station, path, ready):
    from axe_playwright_python.sync_playwright import Axe

    if path == "/login":
        page.context.clear_cookies()
    if path is None:
        opened(page, station, PICTURED[-1])
    else:
        page.goto(station.address + path)
        page.wait_for_selector(ready)
    found = Axe().run(page).response["violations"]
    serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []
