"""The shift: figures with what they are counted of, charts, a table to take along, and a page to print."""

from asyncio import to_thread
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from nicegui import ui

from pipeline.review import figures
from pipeline.review.pages import charts, words
from pipeline.review.pages.controls import Choice, button, field
from pipeline.review.pages.frame import Visit, main
from pipeline.review.pages.markup import Html, join, pairs, table, tag
from pipeline.review.pages.words import number, percent, when

HOURS = {"8": "last 8 hours", "12": "last 12 hours", "24": "last 24 hours", "168": "last 7 days", "": "as below"}


class ShiftPage:
    """Figures of the span that is chosen; they are counted when something is chosen, and on "count again"."""

    def __init__(self, visit: Visit, request: Request) -> None:
        self._visit, self._desk = visit, visit.desk
        self._hours = request.query_params.get("hours", "8")
        self._hours = self._hours if self._hours in HOURS else "8"
        self._since, self._until = _read(request.query_params.get("since")), _read(request.query_params.get("until"))
        if self._since and self._until:
            self._hours = ""
        self._product = request.query_params.get("product", "")[:200] or None
        self._counted: figures.Shift | None = None
        visit.draw("Shift", [], lambda name: None, lambda text: None)
        with main():
            self._title = ui.html("<h1>Shift</h1>", sanitize=False)
            with ui.element("search").classes("filters"):
                self._choices()
            self._figures = ui.html("", sanitize=False).classes("figures")
            self._charts = ui.element("div").classes("charts")
        visit.every_second(self._turn)

    def _choices(self) -> None:
        Choice("Time", HOURS, self._hours, self._span, "hours")
        self._from = field("From", "datetime-local", "", lambda at: self._set(since=at), "since")
        self._to = field("until", "datetime-local", "", lambda at: self._set(until=at), "until")
        self._products = Choice("Product", {"": "all"}, "", lambda name: self._set(product=name), "product")
        button("Count again", self.first, name="again")
        self._csv = ui.html("CSV", sanitize=False, tag="a").classes("button").props("id=csv download")
        button("Print", lambda: ui.run_javascript("window.print()"), name="print")

    async def _span(self, hours: str) -> None:
        self._hours = hours
        await self.first()

    async def _set(self, since: str | None = None, until: str | None = None, product: str | None = None) -> None:
        if since is not None or until is not None:
            now = self._chosen()
            self._hours = ""
            self._since, self._until = _read(since) or now[0], _read(until) or now[1]
        if product is not None:
            self._product = product or None
        await self.first()

    def _chosen(self) -> tuple[datetime, datetime]:
        if self._hours or not (self._since and self._until):
            now = datetime.now().astimezone()
            return now - timedelta(hours=int(self._hours or 8)), now
        return self._since, self._until

    async def first(self) -> None:
        await self._visit.trying(self._load)

    async def _turn(self) -> None:
        """Only where the store was away."""
        if self._counted is None:
            await self._load()

    async def _load(self) -> None:
        since, until = self._chosen()
        counted = await to_thread(self._desk.shift, since, until, self._product)
        products = await to_thread(self._desk.products)
        self._counted = counted
        self._products.show({"": "all"} | {name: name for name in products}, self._product or "")
        for element, at in ((self._from, since), (self._to, until)):
            element.props["value"] = f"{at:%Y-%m-%dT%H:%M}"
            element.update()
        span = {"since": since.isoformat(), "until": until.isoformat()}
        self._csv.props["href"] = (
            f"/api/shift.csv?{urlencode(span | ({'product': self._product} if self._product else {}))}"
        )
        self._csv.update()
        self._show(counted)

    def _show(self, counted: figures.Shift) -> None:
        self._title.set_content(title(counted, self._product))
        self._figures.set_content(totals(counted) + shares(counted) + latency(counted.latency))
        self._charts.clear()
        with self._charts:
            self._draw(counted)

    def _draw(self, counted: figures.Shift) -> None:
        chart("Rejects by cause", charts.pareto(counted.causes), bars(counted.causes), counted.causes)
        chart(
            "Rejects by defect type",
            charts.pareto(counted.defect_types),
            bars(counted.defect_types),
            counted.defect_types,
        )
        points = charts.p_chart(counted.p_chart, counted.p_mean)
        chart("Reject rate (p-chart)", points, rates(counted.p_chart), counted.p_chart)
        for of_all in (True, False):
            spots = [spot for spot in counted.spots if spot.relative is of_all]
            if spots or of_all:
                left = f"; {counted.spots_left_out} more are left out" if counted.spots_left_out else ""
                words_ = f"Positions of {len(spots)} defects over the panel{left}"
                chart(words_, charts.spots(spots, of_all), Html(), spots)
        chart("Mean grey by channel", charts.greys(counted.greys), means(counted.greys), counted.greys)


def chart(name: str, options: dict[str, Any], as_table: Html, there: Any) -> None:
    """A chart, and the same figures as a table for those who do not see it."""
    with ui.element("figure"):
        ui.html(words_of(name), sanitize=False, tag="figcaption")
        if not there:
            ui.html("<p>Nothing to show.</p>", sanitize=False)
            return
        ui.echart(options, renderer="svg").props(f'role=img aria-label="{name}"').classes("chart")
        if as_table:
            ui.html(tag("details", tag("summary", "as a table"), as_table), sanitize=False)


def words_of(name: str) -> Html:
    return tag("strong", name)


def title(counted: figures.Shift, product: str | None) -> Html:
    span = f"{when(counted.since)} to {when(counted.until)} {words.zone()}"
    return join((tag("h1", "Shift"), tag("p", f"{span}; {product or 'all products'}")))


def totals(counted: figures.Shift) -> Html:
    rows = [
        ("Panels", counted.panels),
        ("Passed", counted.passed),
        ("Rejected by inspection", counted.rejected),
        ("Rejected by a fault", counted.faulted),
        ("Rejects to be decided", counted.undecided_rejects),
        ("Sampled passes to be decided", counted.undecided_sample),
        ("Sampled passes whose pictures were lost", counted.sample_lost),
    ]
    return tag("section", tag("h2", "Counts"), pairs(rows), class_="totals", id="totals")


def shares(counted: figures.Shift) -> Html:
    rows = [
        ("Reject rate", percent(counted.reject_rate), "inspected panels"),
        ("Overkill", percent(counted.overkill), "rejects by inspection that people decided"),
        ("Escapes", percent(counted.escapes), "sampled passes that people decided"),
    ]
    return table("Rates, with 95 % intervals (Clopper-Pearson)", ("rate", "value", "counted of"), rows)


def latency(taken: figures.Latency) -> Html:
    names = ("median_ms", "p90_ms", "p99_ms", "max_ms")
    rows = [(name.removesuffix("_ms"), number(getattr(taken, name), 1, "ms")) for name in names]
    return table(f"Trigger to acknowledgement, {taken.panels} panels", ("percentile", "latency"), rows)


def bars(found: list[figures.Bar]) -> Html:
    rows = ((bar.text or bar.name, bar.count, f"{bar.cumulative:.1%}") for bar in found)
    return table("Counts", ("cause", "panels", "cumulative"), rows)


def rates(found: list[figures.Point]) -> Html:
    head = ("from", "rejects", "inspected", "rate", "limits", "beyond")
    return table(
        "Subgroups",
        head,
        (
            (
                when(one.at),
                one.k,
                one.n,
                f"{one.rate:.2%}",
                f"{one.lower:.2%} to {one.upper:.2%}",
                "yes" if one.out else "no",
            )
            for one in found
        ),
    )


def means(found: list[figures.Grey]) -> Html:
    rows = ((when(one.at), one.channel, number(one.mean, 2), one.panels) for one in found)
    return table("Mean grey", ("from", "channel", "mean", "panels"), rows)


def _read(text: str | None) -> datetime | None:
    """A time of the browser's field, in the zone of this machine; None: it is none."""
    try:
        return datetime.fromisoformat(text).astimezone() if text else None
    except ValueError:
        return None
