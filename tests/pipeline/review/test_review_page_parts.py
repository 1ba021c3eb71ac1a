"""What the pages are made of, without a browser."""

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_parts import config, filled, row, token_of

pytest.importorskip("nicegui", reason="needs the extra [review]")

from pipeline.messages import Outcome
from pipeline.review.desk import Desk
from pipeline.review.facts import Filter, Finding, Standing, State
from pipeline.review.figures import Grey, Point, Share
from pipeline.review.pages import charts, words
from pipeline.review.pages.filters import read
from pipeline.review.pages.keys import CHANNELS, DECIDES, LOOKS, MOVES, classes
from pipeline.review.pages.login import inside
from pipeline.review.pages.markup import table, tag
from pipeline.review.pages.walk import Walk

AT = datetime(2026, 3, 1, tzinfo=UTC)


class Seen(HTMLParser):
    """Tags and texts of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text, self.attributes = "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_no_text_becomes_a_tag(text):
    seen = Seen(tag("p", text, title=text))
    assert seen.tags == ["p"] and seen.text == text and seen.attributes == [("title", text)]
    assert Seen(table(text, [text], [[text, text]])).text == text * 4


@pytest.mark.parametrize(
    "onward", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "x", "/a\nb"]
)
def test_a_log_in_leads_to_no_other_site(onward):
    assert inside(onward) == "/" and inside("/shift?hours=8") == "/shift?hours=8"


def test_a_rate_says_what_it_is_counted_of():
    assert words.percent(Share(k=1, n=50, rate=0.02, lower95=0.0035, upper95=0.105)) == (
        "2.00% (1 of 50; 95 % sure: 0.35% to 10.50%)"
    )
    assert words.percent(Share(k=0, n=0, rate=None, lower95=None, upper95=None)) == "– (0 of 0)"


def test_every_state_has_a_sign_and_words():
    for outcome in (Outcome.PASS, Outcome.REJECT):
        for state in State:
            for finding in (Finding.GOOD, Finding.DEFECTIVE):
                sign, _, said = words.stands(Standing(state=state, finding=finding), outcome).partition(" ")
                assert len(sign) == 1 and not sign.isalnum() and said


def test_a_filter_comes_back_from_its_address():
    wanted = Filter(queue="sample", product="toy", cause="LATE", since=AT, state=State.LAB)
    assert read(Filter, words.narrowed(wanted)) == wanted
    assert words.narrowed(Filter()) == {}


@pytest.mark.parametrize("bad", [{"since": "yesterday"}, {"queue": "nobody's"}, {"finding": "bad"}, {"unknown": "x"}])
def test_an_address_that_is_no_filter_does_not_narrow(bad):
    assert read(Filter, bad) == Filter()


def test_no_key_does_two_things(tmp_path):
    desk = Desk(config(tmp_path))
    keys = [key.key for key in (*MOVES, *DECIDES, *LOOKS, *CHANNELS, *classes(desk.codes()))]
    assert len(set(keys)) == len(keys) and not {key.key for key in MOVES} & {key.key for key in DECIDES}


def test_one_walks_through_a_queue_in_its_order_and_back(tmp_path):
    line = config(tmp_path)
    store, desk = filled(line, [row(number, "REJECT") for number in range(250)]), Desk(line)
    walk, at, seen = Walk(desk, Filter()), token_of(249), [249]
    while following := walk.beside(at, 1):
        at = following
        seen.append(int(at, 16))
    assert seen == list(range(249, -1, -1))
    assert walk.beside(token_of(0), -1) == token_of(1) and walk.beside(token_of(249), -1) is None
    store.add_panels([row(250, "REJECT")], {})
    assert walk.beside(token_of(249), -1) == token_of(250)
    assert Walk(desk, Filter()).beside("elsewhere", 1) == token_of(250)
    store.close()
    desk.close()


def test_a_point_beyond_its_limits_is_another_sign_too():
    points = [Point(at=AT, k=k, n=10, rate=k / 10, lower=0, upper=0.5, out=k > 5) for k in (1, 9)]
    data = charts.p_chart(points, 0.5)["series"][0]["data"]
    assert [one.get("symbol") for one in data] == [None, "triangle"] and data[1]["value"] == 90


def test_a_channel_without_panels_leaves_a_gap():
    later = AT + timedelta(hours=1)
    found = [Grey(at=at, channel=name, mean=9, panels=1) for at, name in ((AT, "a"), (later, "a"), (later, "b"))]
    assert [one["data"] for one in charts.greys(found)["series"]] == [[9, 9], [None, 9]]
