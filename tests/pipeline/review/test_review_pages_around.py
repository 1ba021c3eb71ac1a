"""The pages in a real browser: finding panels, the shift, doors, a store that goes away, everybody's use."""

import csv
import io
import sqlite3

import pytest
from browser_parts import PASSWORD, PICTURED, REJECTED, arriving, drawn_of, opened, says, votes
from review_parts import token_of

from pipeline.review.facts import Filter, Finding, Person, Role, Wish

pytest.importorskip("nicegui", reason="needs the extra [review]")
pytest.importorskip("playwright", reason="needs the extra [dev]")
pytestmark = pytest.mark.browser

READER = """(text) => { for (const key of [...text, "Enter"])
    document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })) }"""  # faster than people type


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


def test_a_bar_code_reader_opens_a_panel_and_decides_nothing(page, station, own_desk):
    station.add(arriving(900, panel_id="OUROLL1"))
    opened(page, station, PICTURED[-6])
    page.evaluate(READER, "OUROLL1")
    says(page, "h1", "OUROLL1")
    assert votes(own_desk, PICTURED[-6]) == [] and votes(own_desk, 900) == []


def test_panels_arrive_by_themselves_and_the_focus_stays(page, station):
    page.goto(station.address)
    page.wait_for_selector("a.card")
    page.wait_for_function("window.socket?.connected")
    page.keyboard.press("j")
    held = page.evaluate("document.activeElement.dataset.token")
    station.add(arriving(901, panel_id="<b>bold</b>"))
    says(page, "a.card", "<b>bold</b>")  # a bar code is never a tag
    assert page.evaluate("document.activeElement.dataset.token") == held


def test_filters_narrow_and_stand_in_the_address(page, station, own_desk):
    page.goto(station.address)
    page.wait_for_selector("a.card")
    page.wait_for_function("window.socket?.connected")
    page.select_option("#cause", "LATE")
    page.wait_for_url("**cause=LATE**")
    late = len(own_desk.queue(Filter(cause="LATE"), None, 50).rows)
    page.wait_for_function(f"document.querySelectorAll('a.card').length === {late}")
    page.reload()
    page.wait_for_function(f"document.querySelectorAll('a.card').length === {late}")
    page.select_option("#cause", "")
    page.select_option("#decision", "finding good")
    page.wait_for_url("**finding=good**")


# --- the shift and the line ---


def test_the_shift_counts_with_denominators(page, station, own_desk):
    page.goto(f"{station.address}/shift")
    page.wait_for_selector("#totals")
    page.wait_for_selector(".chart svg")
    panels = len(own_desk.queue(Filter(queue="all"), None, 1000).rows)
    assert panels >= 300 and f"Panels\n{panels}" in page.locator("#totals").inner_text()
    rates = page.locator(".content").inner_text()
    assert "95 % sure" in rates and "sampled passes that people decided" in rates
    answer = page.request.get(station.address + page.locator("#csv").get_attribute("href"))
    assert len(list(csv.DictReader(io.StringIO(answer.text())))) == panels


def test_the_live_page_names_every_process(page, station):
    page.goto(f"{station.address}/live")
    says(page, ".content", "plc_bridge")
    says(page, ".content", "not running")


# --- the audit ---


def test_the_audit_says_who_did_what_and_that_its_chain_is_whole(page, station, own_desk):
    number = REJECTED[0]
    ann = Person(name="ann", role=Role.QUALITY)
    dust, dent = (Wish(finding=Finding.DEFECTIVE, code=code) for code in ("dust", "dent"))
    for wish in [dust, dent] * 26:
        own_desk.decide(ann, token_of(number), wish)
    own_desk.decide(ann, token_of(REJECTED[1]), dust)
    page.goto(f"{station.address}/shift")
    page.click("nav >> text=Audit")
    says(page, "#chain", "The chain is intact")
    page.wait_for_function("window.socket?.connected")
    page.keyboard.press("/")
    page.keyboard.type(f"P{number:06d}")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/audit?panel=P{number:06d}")
    shown(page, 50, f"P{number:06d}")
    newest = page.locator("#records tbody tr").first.inner_text()
    assert all(words in newest for words in ("ann", "finding", f"P{number:06d}", "defective dust", "defective dent"))
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    shown(page, 2, "finding")
    says(page, "#records tr", "open")
    page.keyboard.press("k")
    shown(page, 50, "finding")
    page.select_option("#who", "root")
    page.wait_for_url("**who=root**")
    says(page, "#records", "No such records.")
    page.fill("#find", "eve")
    page.keyboard.press("Enter")
    says(page, "#records", "account added")


def shown(page, count: int, words: str) -> None:
    """So many records, each with these words."""
    page.wait_for_function(
        """([count, words]) => {
            const rows = [...document.querySelectorAll("#records tbody tr")];
            return rows.length === count && rows.every((row) => row.innerText.includes(words));
        }""",
        arg=[count, words],
    )


def test_the_audit_is_not_shown_to_operators(logged_in, station):
    page = logged_in("eve")
    page.goto(station.address)
    page.wait_for_selector("a.card")
    assert page.locator("nav >> text=Audit").count() == 0
    assert page.goto(f"{station.address}/audit").status == 403
    says(page, "[role=alert]", "quality, engineer and admin")


def test_a_broken_chain_is_said_where(page, station):
    with sqlite3.connect(station.store.place.file, timeout=20) as store:
        store.execute("UPDATE audit SET reason = 'forged' WHERE n = 1")
    page.goto(f"{station.address}/audit")
    page.wait_for_function("window.socket?.connected")
    page.click("#check")
    says(page, "#chain", "The chain is broken: record 1: was changed")
    with sqlite3.connect(station.store.place.file, timeout=20) as store:
        store.execute("UPDATE audit SET reason = '' WHERE n = 1")
    page.click("#check")
    says(page, "#chain", "The chain is intact")
    store.close()


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


@pytest.mark.parametrize(
    ("path", "ready"),
    [("/", "a.card"), ("/shift", ".chart svg"), ("/audit", "#records tr"), ("/login", "form"), (None, "")],
)
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
